package network

import (
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

// leases knows which slots and addresses of the default network are handed out. It does no I/O; it is safe for concurrent use.
type leases struct {
	*pool // its take and put are for containers that join the default network besides others: their slot holds no address

	mu    sync.Mutex // taken before the pool's
	slots ring
	held  map[int]claim
}

// claim is what one slot holds. link and addr are empty where the slot is not on the bridge.
type claim struct {
	link string
	addr netip.Addr
}

func newLeases(subnet netip.Prefix) *leases {
	return &leases{pool: newPool(subnet, netip.Prefix{}, addressAt(subnet, 1)), slots: newRing(slots), held: map[int]claim{}}
}

// takeSlot hands out a slot, and an address where link is not empty. Errors are of kind ResourceExhausted.
func (l *leases) takeSlot(link string) (int, netip.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var addr netip.Addr
	if link != "" {
		var err error
		if addr, err = l.take(netip.Addr{}); err != nil {
			return 0, addr, err
		}
	}
	slot, ok := l.slots.take()
	if !ok {
		l.put(addr)
		return 0, netip.Addr{}, fmt.Errorf("all %d namespace pairs are in use: %w", slots, errdefs.ErrResourceExhausted)
	}
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
	inSubnet := l.has(want.addr)
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
	if inSubnet {
		if _, err := l.take(want.addr); err != nil {
			return fmt.Errorf("address %s is in use: %w", want.addr, errdefs.ErrAlreadyExists)
		}
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
	l.put(c.addr)
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
	l.put(c.addr)
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
