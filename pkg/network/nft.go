package network

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The named counters of packets that were dropped.
const (
	dropRoutedIn  = "routed-in"
	dropCross     = "cross-bridge"
	dropForwardIn = "forward-in"
	dropLoopback  = "loopback"
	dropInternal  = "internal"
	dropMAC       = "spoofed-mac"
	dropIP        = "spoofed-ip"
	dropARP       = "spoofed-arp"
	dropND        = "spoofed-nd"
	dropProtocol  = "other-protocol"
)

// Drops counts the packets that the instance's rules have dropped since its tables were first made.
type Drops struct {
	SpoofedMAC    uint64 // a container sent from a MAC that is not its own
	SpoofedIP     uint64 // its own MAC, but another address; or IPv6 where it has none
	SpoofedARP    uint64 // an ARP message that claims another address
	SpoofedND     uint64 // a message of neighbour discovery that claims another address, or to come from a router
	OtherProtocol uint64 // neither IP nor ARP
	RoutedIn      uint64 // to a container's address, routed from elsewhere
	CrossBridge   uint64 // to a container of another network or instance
	ForwardIn     uint64 // forwarded to a container, but no answer to anything it sent
	Internal      uint64 // between a network that is internal and anything else
	Loopback      uint64 // a container sent to the host's 127.0.0.0/8
}

// firewall is the instance's nftables: `table inet triton-INSTANCE` (masquerading, isolation) and `table bridge
// triton-INSTANCE` (who may send what). It keeps a copy of the sets' elements, so that it can make both anew.
type firewall struct {
	inet, bridge *nftables.Table

	mu       sync.Mutex
	conn     *nftables.Conn // nil: none open
	zones    []zone         // the first is the default network's
	members  map[string]member
	forwards map[forwardKey]forward
}

func newFirewall(instance string, def zone) *firewall {
	name := "triton-" + instance
	return &firewall{
		inet:     &nftables.Table{Name: name, Family: nftables.TableFamilyINet},
		bridge:   &nftables.Table{Name: name, Family: nftables.TableFamilyBridge},
		zones:    []zone{def},
		members:  map[string]member{},
		forwards: map[forwardKey]forward{},
	}
}

// adopt makes the tables. Those that a killed daemon left stay as they are until replace, which knows all networks.
func (f *firewall) adopt() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if there, err := f.readState(); err != nil || there {
		return err
	}
	return f.install()
}

// replace makes the tables anew with just these members and forwards.
func (f *firewall) replace(members []member, forwards []forward) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members = make(map[string]member, len(members))
	for _, m := range members {
		f.members[m.link] = m
	}
	f.forwards = make(map[forwardKey]forward, len(forwards))
	for _, fw := range forwards {
		f.forwards[fw.id()] = fw
	}
	return f.install()
}

// addZone adds a network, or changes it, which makes the tables anew; before replace it is only noted.
func (f *firewall) addZone(z zone, now bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.zones = slices.DeleteFunc(f.zones, func(o zone) bool { return o.bridge == z.bridge })
	f.zones = append(f.zones, z)
	if !now {
		return nil
	}
	return f.install()
}

// dropZone forgets a network.
func (f *firewall) dropZone(bridge string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.zones = slices.DeleteFunc(f.zones, func(o zone) bool { return o.bridge == bridge })
	return f.install()
}

// renew makes the tables anew as they should be.
func (f *firewall) renew() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.install()
}

// add lets a member send.
func (f *firewall) add(m member) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old, ok := f.members[m.link]; ok && old == m {
		return nil
	}
	f.members[m.link] = m
	sets := f.sets()
	return f.change(func(c *nftables.Conn) error { return sets.add(c, m) })
}

// drop forgets a member. Its link must not be used any more: a port that is no member's is not watched.
func (f *firewall) drop(link string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, ok := f.members[link]
	if !ok {
		return nil
	}
	delete(f.members, link)
	sets := f.sets()
	return f.change(func(c *nftables.Conn) error { return sets.remove(c, m) })
}

// change sends one batch. Where somebody has flushed the tables meanwhile, all is made anew.
func (f *firewall) change(fill func(*nftables.Conn) error) error {
	err := f.send(fill)
	if errors.Is(err, unix.ENOENT) {
		return f.install()
	}
	return err
}

// install replaces both tables as a whole, in one transaction.
func (f *firewall) install() error {
	counts, err := f.readCounts()
	if err != nil {
		return err
	}
	return f.send(func(c *nftables.Conn) error {
		for _, t := range []*nftables.Table{f.inet, f.bridge} {
			c.AddTable(t) // so that there is one to delete
			c.DelTable(t)
			c.AddTable(t)
		}
		return errors.Join(f.addInet(c, counts), f.addBridge(c, counts))
	})
}

// remove deletes both tables.
func (f *firewall) remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.send(func(c *nftables.Conn) error {
		for _, t := range []*nftables.Table{f.inet, f.bridge} {
			c.AddTable(t)
			c.DelTable(t)
		}
		return nil
	})
	f.close()
	return err
}

// send runs one transaction on the lasting connection (a new one each time costs 0.2 ms). After an error the connection
// may hold answers nobody reads, so it is given up.
func (f *firewall) send(fill func(*nftables.Conn) error) error {
	if f.conn == nil {
		conn, err := nftables.New(nftables.AsLasting())
		if err != nil {
			return fmt.Errorf("open nftables: %w", err)
		}
		f.conn = conn
	}
	err := fill(f.conn)
	if err == nil {
		err = f.conn.Flush()
	}
	if err != nil {
		f.close()
		return fmt.Errorf("change nftables of %s: %w", f.inet.Name, err)
	}
	return nil
}

// stop gives up the connection; the tables stay.
func (f *firewall) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.close()
}

func (f *firewall) close() {
	if f.conn != nil {
		_ = f.conn.CloseLasting() // a socket that is not used again
		f.conn = nil
	}
}

// drops reads the counters.
func (f *firewall) drops() (Drops, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.readCounts()
	if err != nil {
		return Drops{}, err
	}
	return Drops{
		SpoofedMAC:    n[dropMAC].Packets,
		SpoofedIP:     n[dropIP].Packets,
		SpoofedARP:    n[dropARP].Packets,
		SpoofedND:     n[dropND].Packets,
		OtherProtocol: n[dropProtocol].Packets,
		RoutedIn:      n[dropRoutedIn].Packets,
		CrossBridge:   n[dropCross].Packets,
		ForwardIn:     n[dropForwardIn].Packets,
		Internal:      n[dropInternal].Packets,
		Loopback:      n[dropLoopback].Packets,
	}, nil
}

// readCounts reads the named counters of both tables; none where there are no tables.
func (f *firewall) readCounts() (map[string]expr.Counter, error) {
	counts := map[string]expr.Counter{}
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	for _, t := range []*nftables.Table{f.inet, f.bridge} {
		there, err := hasTable(c, t)
		if err != nil {
			return nil, err
		}
		if !there {
			continue
		}
		objs, err := c.GetNamedObjects(t)
		if err != nil {
			return nil, fmt.Errorf("read counters of %s: %w", t.Name, err)
		}
		for _, o := range objs {
			if named, ok := o.(*nftables.NamedObj); ok {
				if counter, ok := named.Obj.(*expr.Counter); ok {
					counts[named.Name] = *counter
				}
			}
		}
	}
	return counts, nil
}

// hasTable is asked before reading: the library loses the error number of a read that fails.
func hasTable(c *nftables.Conn, t *nftables.Table) (bool, error) {
	all, err := c.ListTablesOfFamily(t.Family)
	if err != nil {
		return false, fmt.Errorf("list nftables: %w", err)
	}
	return slices.ContainsFunc(all, func(have *nftables.Table) bool { return have.Name == t.Name }), nil
}
