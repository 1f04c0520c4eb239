package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/network/resolver"
	"github.com/tritond/triton/pkg/triton"
)

// Kind says what network a container gets.
type Kind int

// The kinds of endpoints.
const (
	// Bridged: a user namespace, a network namespace that it owns, and an interface on the bridge.
	Bridged Kind = iota
	// BridgedHostUser: as Bridged, but owned by the host's user namespace, for privileged containers.
	BridgedHostUser
	// Isolated: both namespaces, with only a loopback interface.
	Isolated
	// IsolatedHostUser: as Isolated, but owned by the host's user namespace.
	IsolatedHostUser
)

func (k Kind) bridged() bool  { return k == Bridged || k == BridgedHostUser }
func (k Kind) withUser() bool { return k == Bridged || k == Isolated }

// Names of networks in an Endpoint, as docker has them.
const (
	BridgeNetwork = triton.ModeBridge
	NoneNetwork   = triton.ModeNone
)

// Network is one instance's network on this machine.
type Network struct {
	cfg    Config
	pins   pins
	bridge *bridge
	rules  *firewall
	host   *netlink.Handle
	leases *leases

	idle   chan triton.Endpoint // the pool: Bridged endpoints nobody has yet
	refill chan struct{}
	ready  chan struct{} // closed by the first Reconcile: what is in use is known
	quit   chan struct{}
	missed atomic.Uint64
	once   sync.Once // closes ready

	segs     sync.Mutex // held while networks come and go
	segments map[string]*segment
	attached map[string]triton.Attachment // by host link

	names    *names
	redirect *redirect        // nil: there is no embedded resolver
	resolver *resolver.Server // nil where redirect is

	ports     sync.Mutex // held while ports are taken or given back
	published map[triton.ContainerKey][]published

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

// Open makes the instance's bridge, rules and folder of namespaces, or adopts those of a killed daemon: traffic of running
// containers is not interrupted. Call Reconcile before the first Take. Errors: InvalidArgument for a bad Config,
// FailedPrecondition for a subnet that another interface has, AlreadyExists for a bridge of another instance.
func Open(ctx context.Context, cfg Config) (*Network, error) {
	n, err := prepare(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := n.setUp(); err != nil {
		if n.bridge.made {
			err = errors.Join(err, n.rules.remove(), n.bridge.purge(n.host, n.cfg.Instance))
		}
		n.rules.close()
		n.host.Close()
		return nil, err
	}
	return n, nil
}

// Purge does what the method Purge does, for an instance that does not run: it needs nothing of the machine's network but what
// is to go, so that a subnet which somebody else has taken meanwhile is no hindrance. AlreadyExists for a bridge of another's.
func Purge(ctx context.Context, cfg Config) error {
	n, err := prepare(ctx, cfg)
	if err != nil {
		return err
	}
	n.pins = pins{dir: n.pinsDir()}
	if err := n.bridge.find(n.host); err != nil {
		n.host.Close()
		return err
	}
	return n.Purge(ctx)
}

// prepare is a Network of which nothing is in the kernel yet.
func prepare(ctx context.Context, cfg Config) (*Network, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	n := &Network{
		cfg:    cfg,
		host:   host,
		leases: newLeases(cfg.Subnet),
		idle:   make(chan triton.Endpoint, cfg.PoolSize),
		refill: make(chan struct{}, 1),
		ready:  make(chan struct{}),
		quit:   make(chan struct{}),

		published: map[triton.ContainerKey][]published{},
		segments:  map[string]*segment{},
		attached:  map[string]triton.Attachment{},
	}
	n.names = newNames(n.hostServers)
	n.bridge = newBridge(cfg, host)
	n.rules = newFirewall(cfg.Instance, zone{bridge: n.bridge.name, subnets: []netip.Prefix{cfg.Subnet}})
	n.segments[BridgeNetwork] = &segment{
		id: BridgeNetwork, bridge: n.bridge, addrs: n.leases,
		spec: triton.NetworkSpec{Name: BridgeNetwork, Pool: triton.Pool{Subnet: cfg.Subnet, Gateway: n.bridge.gateway.Addr()}},
	}
	return n, nil
}

func (n *Network) pinsDir() string { return filepath.Join(n.cfg.RunRoot, namespacesDir) }

func (n *Network) setUp() error {
	if err := n.bridge.setUp(n.host, n.cfg); err != nil {
		return err
	}
	if err := n.rules.adopt(); err != nil {
		return err
	}
	var err error
	n.pins, err = openPins(n.pinsDir())
	return err
}

// Run keeps the pool full until ctx ends or Close is called. It waits for the first Reconcile.
func (n *Network) Run(ctx context.Context) error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.running.Add(1)
	n.mu.Unlock()
	defer n.running.Done()

	select {
	case <-n.ready:
	case <-n.quit:
		return nil
	case <-ctx.Done():
		return nil
	}
	for {
		retry := n.fill(ctx)
		select {
		case <-n.refill:
		case <-retry:
		case <-n.quit:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// retryAfter is how long the pool waits after a failure that no Release will mend.
const retryAfter = time.Second

// fill makes endpoints until the pool is full. The channel it returns says when to try again after a failure.
func (n *Network) fill(ctx context.Context) <-chan time.Time {
	for len(n.idle) < cap(n.idle) && ctx.Err() == nil {
		select {
		case <-n.quit:
			return nil
		default:
		}
		ep, err := n.build(Bridged, User{}, "")
		if errors.Is(err, errdefs.ErrResourceExhausted) {
			return nil // Release asks again
		}
		if err != nil {
			n.cfg.Log.Warn("cannot make a network namespace in advance", "err", err)
			return time.After(retryAfter)
		}
		n.idle <- ep // only fill sends, so there is room
	}
	return nil
}

// Take gives a container its endpoint: one from the pool, or one made now where the pool is empty or holds none of the
// kind. With an owner its network namespace belongs to that user namespace, for a container that shares it; mac is the
// interface's address, "" for one made of the IP address. The caller stores the endpoint and gives it back by Release.
// Errors are of kind ResourceExhausted when slots or addresses have run out, FailedPrecondition before the first
// Reconcile, after Close, and where the owner is gone.
func (n *Network) Take(ctx context.Context, key triton.ContainerKey, kind Kind, owner User, mac string) (triton.Endpoint, error) {
	if err := ctx.Err(); err != nil {
		return triton.Endpoint{}, err
	}
	select {
	case <-n.quit:
		return triton.Endpoint{}, fmt.Errorf("take an endpoint for %s from a closed network: %w", key, errdefs.ErrFailedPrecondition)
	default:
	}
	select {
	case <-n.ready:
	default:
		return triton.Endpoint{}, fmt.Errorf("take an endpoint for %s before what is in use is known: %w", key, errdefs.ErrFailedPrecondition)
	}
	if kind == Bridged && owner.NS == "" && mac == "" {
		if ep, ok := n.takeIdle(); ok {
			n.askRefill()
			return ep, nil
		}
		n.missed.Add(1)
	}
	ep, err := n.build(kind, owner, mac)
	if err != nil {
		return triton.Endpoint{}, fmt.Errorf("network for %s: %w", key, err)
	}
	return ep, nil
}

// User is a user namespace that is there already: another endpoint's. The zero User means one of the endpoint's own.
type User struct {
	NS  string // path of its pin
	IDs triton.IDRange
}

func (n *Network) takeIdle() (triton.Endpoint, bool) {
	select {
	case ep := <-n.idle:
		return ep, true
	default:
		return triton.Endpoint{}, false
	}
}

func (n *Network) askRefill() {
	select {
	case n.refill <- struct{}{}:
	default: // asked already
	}
}

// build makes an endpoint from nothing. Most of its 5 ms are the fork for a user namespace; without one it is 2 to 3 ms.
func (n *Network) build(kind Kind, owner User, mac string) (triton.Endpoint, error) {
	ep := triton.Endpoint{Network: NoneNetwork}
	if kind.bridged() {
		ep.Network, ep.HostLink = BridgeNetwork, newLinkName()
	}
	slot, addr, err := n.leases.takeSlot(ep.HostLink)
	if err != nil {
		return triton.Endpoint{}, err
	}
	ep.Slot = slot
	ep.NetNS = n.pins.path(slot, pinNet)
	switch {
	case !kind.withUser():
	case owner.NS != "":
		ep.UserNS, ep.IDs = owner.NS, owner.IDs
	default:
		ep.UserNS, ep.IDs = n.pins.path(slot, pinUser), Range(n.cfg.Instance, slot)
	}
	if kind.bridged() {
		ep.Address = netip.PrefixFrom(addr, n.cfg.Subnet.Bits()).String()
		ep.Gateway = n.bridge.gateway.Addr().String()
		if ep.MAC = mac; mac == "" {
			ep.MAC = hardwareAddr(addr).String()
		}
	}
	if err := n.make(ep); err != nil {
		err = errors.Join(err, n.unmake(ep))
		n.leases.free(slot)
		return triton.Endpoint{}, err
	}
	return ep, nil
}

// make makes the namespaces of ep and connects them.
func (n *Network) make(ep triton.Endpoint) error {
	// What a crash left in this slot is nobody's: whoever has it holds the lease.
	if err := n.pins.remove(ep.Slot); err != nil {
		return err
	}
	var err error
	switch {
	case ep.UserNS == "":
		err = n.pins.makeNetNS(ep.Slot)
	case ep.UserNS == n.pins.path(ep.Slot, pinUser):
		err = n.pins.makePair(ep.Slot, ep.IDs)
	default:
		err = n.pins.makeNetNSIn(ep.Slot, ep.UserNS)
	}
	if err != nil {
		return err
	}
	ns, err := os.Open(ep.NetNS)
	if err != nil {
		return fmt.Errorf("open the namespace of slot %d: %w", ep.Slot, err)
	}
	defer ns.Close()
	if err := prepareNetNS(ns); err != nil {
		return err
	}
	if ep.HostLink == "" {
		return nil
	}
	if err := n.allow(ep); err != nil {
		return err
	}
	return n.bridge.reconnect(n.host, ns, ep)
}

// allow lets ep send from its own addresses, and only from these.
func (n *Network) allow(ep triton.Endpoint) error {
	m, err := memberOf(ep)
	if err != nil {
		return err
	}
	return n.rules.add(m)
}

// unmake removes what make made. It does not wait for the kernel to remove the link.
func (n *Network) unmake(ep triton.Endpoint) error {
	return errors.Join(n.pins.remove(ep.Slot), n.rules.drop(ep.HostLink))
}

// Release gives an endpoint back: slot and address are free afterwards, and come up again after all others. No process
// may be left in the namespaces. Releasing an endpoint that is not held does nothing; after an error it is still held,
// and Release may be tried again.
func (n *Network) Release(ctx context.Context, ep triton.Endpoint) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := n.claimOf(ep)
	if err != nil {
		return err
	}
	if !n.leases.holds(ep.Slot, c) {
		return nil
	}
	if err := n.unmake(ep); err != nil {
		return fmt.Errorf("release slot %d: %w", ep.Slot, err)
	}
	n.leases.free(ep.Slot)
	n.askRefill()
	return nil
}

// claimOf reads what an endpoint holds besides its slot. Errors are of kind InvalidArgument.
func (n *Network) claimOf(ep triton.Endpoint) (claim, error) {
	if ep.Address == "" {
		return claim{}, nil
	}
	p, err := netip.ParsePrefix(ep.Address)
	if err != nil {
		return claim{}, fmt.Errorf("endpoint of slot %d: %w: %w", ep.Slot, err, errdefs.ErrInvalidArgument)
	}
	return claim{link: ep.HostLink, addr: p.Addr()}, nil
}

// Close stops the pool and removes its idle endpoints. Bridge, rules and the namespaces of containers stay.
func (n *Network) Close() error {
	n.mu.Lock()
	already := n.closed
	n.closed = true
	if !already {
		close(n.quit)
	}
	n.mu.Unlock()
	n.running.Wait()
	if already {
		return nil
	}
	errs := n.closeResolver()
	for ep, ok := n.takeIdle(); ok; ep, ok = n.takeIdle() {
		if err := n.unmake(ep); err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		n.leases.free(ep.Slot)
	}
	n.ports.Lock()
	for _, all := range n.published {
		closeSockets(all) // copies elsewhere keep the ports; the rules stay
	}
	clear(n.published)
	n.ports.Unlock()
	n.rules.stop()
	n.host.Close() // Purge, which may follow, gets a socket for each request then
	return errs
}

// Drops reads how many packets the rules have dropped.
func (n *Network) Drops() (Drops, error) { return n.rules.drops() }

// PoolMisses counts the Bridged endpoints that had to be made while a container waited.
func (n *Network) PoolMisses() uint64 { return n.missed.Load() }

// Info describes the network as docker's network inspect and a container's NetworkSettings show it.
type Info struct {
	Name    string // bridge
	ID      string // 64 hexadecimal digits, stable for the instance
	Driver  string
	Subnet  netip.Prefix
	Gateway netip.Addr
	Bridge  string // the interface on the host
	MTU     int
}

// Describe describes the bridge network.
func (n *Network) Describe() Info {
	sum := sha256.Sum256([]byte("triton network\x00" + n.cfg.Instance + "\x00" + BridgeNetwork))
	return Info{
		Name:    BridgeNetwork,
		ID:      hex.EncodeToString(sum[:]),
		Driver:  "bridge",
		Subnet:  n.cfg.Subnet,
		Gateway: n.bridge.gateway.Addr(),
		Bridge:  n.bridge.name,
		MTU:     n.bridge.mtu,
	}
}
