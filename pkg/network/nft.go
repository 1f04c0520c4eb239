package network

import (
	"errors"
	"fmt"
	"net/netip"
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
	dropMAC       = "spoofed-mac"
	dropIP        = "spoofed-ip"
	dropARP       = "spoofed-arp"
	dropProtocol  = "other-protocol"
)

// Drops counts the packets that the instance's rules have dropped since its tables were first made.
type Drops struct {
	SpoofedMAC    uint64 // a container sent from a MAC that is not its own
	SpoofedIP     uint64 // its own MAC, but another IPv4 address
	SpoofedARP    uint64 // an ARP message that claims another address
	OtherProtocol uint64 // neither IPv4 nor ARP
	RoutedIn      uint64 // to a container's address, routed from elsewhere
	CrossBridge   uint64 // to a container of another instance
	ForwardIn     uint64 // forwarded to a container, but no answer to anything it sent
	Loopback      uint64 // a container sent to the host's 127.0.0.0/8
}

// firewall is the instance's nftables: `table inet triton-INSTANCE` (masquerading, isolation) and `table bridge
// triton-INSTANCE` (who may send what). It keeps a copy of the sets' elements, so that it can make both anew.
type firewall struct {
	inet, bridge *nftables.Table
	bridgeName   string
	subnet       netip.Prefix

	mu       sync.Mutex
	conn     *nftables.Conn // nil: none open
	members  map[string]member
	forwards map[forwardKey]forward
}

func newFirewall(instance, bridgeName string, subnet netip.Prefix) *firewall {
	name := "triton-" + instance
	return &firewall{
		inet:       &nftables.Table{Name: name, Family: nftables.TableFamilyINet},
		bridge:     &nftables.Table{Name: name, Family: nftables.TableFamilyBridge},
		bridgeName: bridgeName,
		subnet:     subnet.Masked(),
		members:    map[string]member{},
		forwards:   map[forwardKey]forward{},
	}
}

// adopt makes the tables, or makes them anew where a killed daemon left them: at once, with their members and counts.
func (f *firewall) adopt() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.readState(); err != nil {
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
		OtherProtocol: n[dropProtocol].Packets,
		RoutedIn:      n[dropRoutedIn].Packets,
		CrossBridge:   n[dropCross].Packets,
		ForwardIn:     n[dropForwardIn].Packets,
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

// loopback is what route_localnet on the bridge lets in.
var loopback = netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)

// addInet adds what concerns routed packets. Each base chain accepts what it does not know: no rule here touches a
// packet that neither comes from nor goes to the instance's bridge, nor to a port that it has published.
func (f *firewall) addInet(c *nftables.Conn, counts map[string]expr.Counter) error {
	for _, name := range []string{dropRoutedIn, dropCross, dropForwardIn, dropLoopback} {
		addCounter(c, f.inet, name, counts)
	}
	rule := func(chain *nftables.Chain, parts ...[]expr.Any) { addRule(c, f.inet, chain, parts...) }
	if _, err := f.addPublished(c); err != nil {
		return err
	}

	raw := addChain(c, f.inet, "raw", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw)
	rule(raw, daddrIn(loopback), iifname(f.bridgeName, whole), countedDrop(dropLoopback))
	// Answers to masqueraded packets still carry the host's address here. Packets of the host itself come from lo.
	rule(raw, daddrIn(f.subnet), iifnameNot(f.bridgeName), iifname(bridgePrefix, prefix), countedDrop(dropCross))
	rule(raw, daddrIn(f.subnet), iifnameNot(f.bridgeName), iifnameNot("lo"), countedDrop(dropRoutedIn))

	forward := addChain(c, f.inet, "forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter)
	// Bridged packets come by where net.bridge.bridge-nf-call-iptables is on, which is the kernel's default.
	rule(forward, iifname(f.bridgeName, whole), oifname(f.bridgeName, whole), verdict(expr.VerdictAccept))
	rule(forward, oifname(f.bridgeName, whole), established(), verdict(expr.VerdictAccept))
	// Others' translations lead to containers as well: only what was published is let through.
	rule(forward, oifname(f.bridgeName, whole), translated(), isIPv4(), f.toTarget(), verdict(expr.VerdictAccept))
	rule(forward, oifname(f.bridgeName, whole), countedDrop(dropForwardIn))

	post := addChain(c, f.inet, "postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource)
	masquerade := []expr.Any{&expr.Masq{}}
	rule(post, saddrIn(f.subnet), iifname(f.bridgeName, whole), oifnameNot(f.bridgeName), masquerade)
	// The host itself through a published port: from 127.0.0.1 no answer would come back. And a container through a port
	// that leads to its own network, or to itself: the answer has to come back this way. No input interface is asked for:
	// br_netfilter, where it is on, bridges such a packet, and gives none here.
	rule(post, oifname(f.bridgeName, whole), translated(), sourceIsLocal(), masquerade)
	rule(post, saddrIn(f.subnet), oifname(f.bridgeName, whole), translated(), masquerade)
	return nil
}
