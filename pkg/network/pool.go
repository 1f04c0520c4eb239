package network

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/containerd/errdefs"
)

// pool hands out the addresses of a subnet in turn, so that one given back is not handed out again at once. It does no I/O;
// it is safe for concurrent use.
type pool struct {
	subnet netip.Prefix
	part   netip.Prefix // what take chooses from

	mu   sync.Mutex
	next uint32
	used map[netip.Addr]bool
}

// newPool never hands out the subnet's first and last address, nor those in reserved.
func newPool(subnet, part netip.Prefix, reserved ...netip.Addr) *pool {
	if !part.IsValid() {
		part = subnet
	}
	p := &pool{subnet: subnet.Masked(), part: part.Masked(), used: map[netip.Addr]bool{}}
	if subnet.Bits() < 31 {
		p.used[p.subnet.Addr()], p.used[lastAddress(p.subnet)] = true, true
	}
	for _, a := range reserved {
		if a.IsValid() {
			p.used[a] = true
		}
	}
	return p
}

func lastAddress(p netip.Prefix) netip.Addr { return addressAt(p, 1<<(32-p.Bits())-1) }

// take hands out want, or any address where want is the zero Addr. Errors, in docker's words: AlreadyExists for an address in use,
// InvalidArgument for one of another subnet, ResourceExhausted where none is left.
func (p *pool) take(want netip.Addr) (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if want.IsValid() {
		switch {
		case !p.subnet.Contains(want):
			return want, fmt.Errorf("invalid address %s: It does not belong to any of this network's subnets%w", want, silent{errdefs.ErrInvalidArgument})
		case p.used[want]:
			return want, fmt.Errorf("Address already in use%w", silent{errdefs.ErrAlreadyExists}) //nolint:staticcheck // docker's words
		}
		p.used[want] = true
		return want, nil
	}
	size := uint32(1) << (32 - p.part.Bits())
	for range size {
		a := addressAt(p.part, p.next%size)
		p.next = (p.next + 1) % size
		if !p.used[a] {
			p.used[a] = true
			return a, nil
		}
	}
	return want, fmt.Errorf("no available IPv4 addresses on this network's address pools: %s%w", p.subnet, silent{errdefs.ErrResourceExhausted})
}

func (p *pool) put(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, a)
}
