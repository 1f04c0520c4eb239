package network

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

const (
	// slots is how many namespace pairs an instance can have: the size of its group of blocks of id ranges.
	slots = blocksPerGroup * blockSlots
	// rangeSize is how many user and group ids a container has: all that 16-bit ids can name, as in docker.
	rangeSize = 65536
	// rangeBase lies above the ids that distributions hand out in /etc/subuid.
	rangeBase = 0x10000000
	// rangeBlocks is how many instances can be told apart by their ids; the last block still ends below 1<<32.
	rangeBlocks = 48
	// blockSlots is how many ranges a block has.
	blockSlots = 1024
	// blocksPerGroup is how many neighbouring blocks an instance uses, each instance from its own on.
	blocksPerGroup = 4
)

// Range returns the host ids of the user namespace in a slot (0 to 4095) of an instance. Two instances seldom share a
// block of ranges, unless one has more than 1,024 containers; where they do, containers of both may run under the same
// ids, which the namespaces still keep apart.
func Range(instance string, slot int) triton.IDRange {
	h := fnv.New32a()
	h.Write([]byte(instance))
	own := h.Sum32() % rangeBlocks
	block := own - own%blocksPerGroup + (own+uint32(slot)/blockSlots)%blocksPerGroup
	return triton.IDRange{Base: rangeBase + (block*blockSlots+uint32(slot)%blockSlots)*rangeSize, Size: rangeSize}
}

// leases knows which slots and addresses are handed out. It does no I/O; it is safe for concurrent use.
type leases struct {
	subnet netip.Prefix

	mu    sync.Mutex
	slots ring
	hosts ring // index 0 is the first address after the gateway's
	held  map[int]claim
}

// claim is what one slot holds. link and addr are empty where the slot is not on the bridge.
type claim struct {
	link string
	addr netip.Addr
}

// reservedAddresses of a subnet: the network's, the gateway's, and the broadcast address.
const reservedAddresses = 3

func newLeases(subnet netip.Prefix) *leases {
	return &leases{
		subnet: subnet,
		slots:  newRing(slots),
		hosts:  newRing(1<<(32-subnet.Bits()) - reservedAddresses),
		held:   map[int]claim{},
	}
}

// takeSlot hands out a slot, and an address where link is not empty. Errors are of kind ResourceExhausted.
func (l *leases) takeSlot(link string) (int, netip.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if link == "" {
		slot, ok := l.slots.take()
		if !ok {
			return 0, netip.Addr{}, fmt.Errorf("all %d namespace pairs are in use: %w", slots, errdefs.ErrResourceExhausted)
		}
		l.held[slot] = claim{}
		return slot, netip.Addr{}, nil
	}
	host, ok := l.hosts.take()
	if !ok {
		return 0, netip.Addr{}, fmt.Errorf("no free address in %s, all %d are in use: %w",
			l.subnet, l.hosts.size, errdefs.ErrResourceExhausted)
	}
	slot, ok := l.slots.take()
	if !ok {
		l.hosts.put(host)
		return 0, netip.Addr{}, fmt.Errorf("all %d namespace pairs are in use: %w", slots, errdefs.ErrResourceExhausted)
	}
	addr := addressAt(l.subnet, uint32(host)+2)
	l.held[slot] = claim{link: link, addr: addr}
	return slot, addr, nil
}

// reserve marks a stored endpoint's slot and address as handed out. Reserving the same endpoint again does nothing. The
// slot of an endpoint whose address is none of the subnet's is held all the same: a container may run in it.
func (l *leases) reserve(slot int, want claim) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slot < 0 || slot >= slots {
		return fmt.Errorf("slot %d: must be 0 to %d: %w", slot, slots-1, errdefs.ErrInvalidArgument)
	}
	host, inSubnet := l.hostIndex(want.addr)
	var foreign error
	if want.addr.IsValid() && !inSubnet {
		foreign = fmt.Errorf("address %s is not one of subnet %s: %w", want.addr, l.subnet, errdefs.ErrInvalidArgument)
	}
	if got, ok := l.held[slot]; ok {
		if got == want {
			return foreign
		}
		return fmt.Errorf("slot %d is in use by %s: %w", slot, got, errdefs.ErrAlreadyExists)
	}
	if inSubnet && !l.hosts.reserve(host) {
		return fmt.Errorf("address %s is in use: %w", want.addr, errdefs.ErrAlreadyExists)
	}
	l.slots.reserve(slot)
	l.held[slot] = want
	return foreign
}

// holds reports whether slot is handed out with just this claim.
func (l *leases) holds(slot int, c claim) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	got, ok := l.held[slot]
	return ok && got == c
}

// free gives a slot and its address back. Both come up again only after all others.
func (l *leases) free(slot int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.held[slot]
	if !ok {
		return
	}
	delete(l.held, slot)
	l.slots.put(slot)
	if host, ok := l.hostIndex(c.addr); ok {
		l.hosts.put(host)
	}
}

// strip gives back the address that a slot holds, and keeps the slot.
func (l *leases) strip(slot int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.held[slot]
	if !ok {
		return
	}
	l.held[slot] = claim{}
	if host, ok := l.hostIndex(c.addr); ok {
		l.hosts.put(host)
	}
}

// take and put are for containers that join the default network besides others: their slot holds no address.
func (l *leases) take(want netip.Addr) (netip.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if want.IsValid() {
		host, ok := l.hostIndex(want)
		if !ok || !l.hosts.reserve(host) {
			return want, fmt.Errorf("Address already in use%w", silent{errdefs.ErrAlreadyExists}) //nolint:staticcheck // docker's words
		}
		return want, nil
	}
	host, ok := l.hosts.take()
	if !ok {
		return want, fmt.Errorf("no free address in %s, all %d are in use: %w", l.subnet, l.hosts.size, errdefs.ErrResourceExhausted)
	}
	return addressAt(l.subnet, uint32(host)+2), nil
}

func (l *leases) put(a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if host, ok := l.hostIndex(a); ok {
		l.hosts.put(host)
	}
}

// claims returns a copy of all that is handed out, by slot.
func (l *leases) claims() map[int]claim {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(map[int]claim, len(l.held))
	for slot, c := range l.held {
		all[slot] = c
	}
	return all
}

// hostIndex is the place of addr in the hosts ring; false where addr is none that take could give.
func (l *leases) hostIndex(addr netip.Addr) (int, bool) {
	if !addr.Is4() || !l.subnet.Contains(addr) {
		return 0, false
	}
	n := int(toUint32(addr)-toUint32(l.subnet.Addr())) - 2
	return n, n >= 0 && n < l.hosts.size
}

func (c claim) String() string {
	if c.link == "" {
		return "an isolated container"
	}
	return c.link + " " + c.addr.String()
}

// ring hands out the numbers 0 to size-1 in turn, so that one given back is not handed out again at once.
type ring struct {
	size, next int
	used       map[int]struct{}
}

func newRing(size int) ring { return ring{size: size, used: map[int]struct{}{}} }

func (r *ring) take() (int, bool) {
	if len(r.used) >= r.size {
		return 0, false
	}
	for !r.reserve(r.next) {
		r.next = (r.next + 1) % r.size
	}
	n := r.next
	r.next = (r.next + 1) % r.size
	return n, true
}

// reserve takes the number n; false where it is taken already.
func (r *ring) reserve(n int) bool {
	if _, taken := r.used[n]; taken {
		return false
	}
	r.used[n] = struct{}{}
	return true
}

func (r *ring) put(n int) { delete(r.used, n) }

// addressAt is the n-th address of subnet, 0 being the network's own.
func addressAt(subnet netip.Prefix, n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], toUint32(subnet.Masked().Addr())+n)
	return netip.AddrFrom4(b)
}

func toUint32(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}
