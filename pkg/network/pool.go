package network

import (
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/containerd/errdefs"
)

// pool hands out the addresses of a subnet in turn, so that one given back is not handed out again at once. It does no I/O;
// it is safe for concurrent use.
type pool struct {
	subnet netip.Prefix
	part   netip.Prefix // what take chooses from
	size   uint64       // how many addresses it chooses from

	mu    sync.Mutex
	next  uint64 // the number in part of the address that is tried next
	used  map[netip.Addr]bool
	never map[netip.Addr]bool // the subnet's own addresses, and those that the user keeps
}

// maxChoices bounds what take chooses from: of a larger IPv6 range, the first 2^32 addresses.
const maxChoices = 32

// newPool never hands out the subnet's first address, nor those in reserved, nor the last one of IPv4: the first stands for
// the network, or for all of its routers (RFC 4291), the last for a broadcast.
func newPool(subnet, part netip.Prefix, reserved ...netip.Addr) *pool {
	if !part.IsValid() {
		part = subnet
	}
	p := &pool{
		subnet: subnet.Masked(), part: part.Masked(), size: 1 << min(part.Addr().BitLen()-part.Bits(), maxChoices),
		used: map[netip.Addr]bool{}, never: map[netip.Addr]bool{},
	}
	if is4 := subnet.Addr().Is4(); !is4 || subnet.Bits() < 31 {
		p.never[p.subnet.Addr()] = true
		if is4 {
			p.never[lastAddress(p.subnet)] = true
		}
	}
	for _, a := range reserved {
		p.never[a] = true
	}
	return p
}

// addressAt is the n-th address of subnet, 0 being the network's own.
func addressAt(subnet netip.Prefix, n uint64) netip.Addr {
	b := subnet.Masked().Addr().AsSlice()
	for i := len(b) - 1; i >= 0 && n > 0; i-- {
		n += uint64(b[i])
		b[i] = byte(n)
		n >>= 8
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// lastAddress has all bits set that are not the subnet's.
func lastAddress(subnet netip.Prefix) netip.Addr {
	b := subnet.Addr().AsSlice()
	mask := net.CIDRMask(subnet.Bits(), len(b)*8)
	for i := range b {
		b[i] |= ^mask[i]
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// take hands out want, or any address where want is the zero Addr. Errors, in docker's words: AlreadyExists for an address in use,
// InvalidArgument for one of another subnet, ResourceExhausted where none is left.
func (p *pool) take(want netip.Addr) (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if want.IsValid() {
		switch {
		case !p.subnet.Contains(want):
			return want, fmt.Errorf("invalid address %s: It does not belong to any of this network's subnets%w", want, silent{errdefs.ErrInvalidArgument})
		case p.used[want] || p.never[want]:
			return want, fmt.Errorf("Address already in use%w", silent{errdefs.ErrAlreadyExists}) //nolint:staticcheck // docker's words
		}
		p.used[want] = true
		return want, nil
	}
	// More addresses than those in use need not be tried, and at most so many are passed over.
	for range min(p.size, uint64(len(p.used)+len(p.never)+1)) {
		a := addressAt(p.part, p.next%p.size)
		p.next = (p.next + 1) % p.size
		if !p.used[a] && !p.never[a] {
			p.used[a] = true
			return a, nil
		}
	}
	family := "IPv4"
	if p.subnet.Addr().Is6() {
		family = "IPv6"
	}
	return want, fmt.Errorf("no available %s addresses on this network's address pools: %s%w", family, p.subnet, silent{errdefs.ErrResourceExhausted})
}

// has reports whether a is an address that take could give.
func (p *pool) has(a netip.Addr) bool { return p.subnet.Contains(a) && !p.never[a] }

func (p *pool) put(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, a)
}
