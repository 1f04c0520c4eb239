package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/cgroup"
	"github.com/tritond/triton/pkg/cluster"
	"github.com/tritond/triton/pkg/death"
	"github.com/tritond/triton/pkg/image"
	"github.com/tritond/triton/pkg/network"
	"github.com/tritond/triton/pkg/placement"
	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/runtime"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/volume"
)

// Cluster is where intent is agreed on.
type Cluster interface {
	List(ctx context.Context, prefix string) ([]cluster.KV, int64, error)
	Update(ctx context.Context, key string, value []byte, ifRevision int64) (int64, error)
	Txn(ctx context.Context, ops ...cluster.Op) (int64, error)
}

// Journal keeps events in order before anyone hears of them.
type Journal interface {
	Append(e triton.Event) (triton.Event, error)
}

// Events reads the journal back.
type Events interface {
	Read(ctx context.Context, tenant triton.Tenant, since, until time.Time, emit func(triton.Event) error) error
}

// Config is what a Node is made of. All parts are open already; Node owns none of them.
type Config struct {
	Name     string // this machine's name, in records and events
	Instance string
	DataRoot string
	RunRoot  string
	InitPath string         // triton-init, for containers that ask for an init
	Limits   runtime.Limits // what this machine allows a container
	Memory   int64          // bytes of this machine
	Log      *slog.Logger
	Now      func() time.Time

	Cluster   Cluster
	Journal   Journal
	Events    Events
	Images    *image.Store
	Network   *network.Network
	Runtime   *runtime.Runtime
	Probes    *probes.Probes
	Telemetry *telemetry.Store
	Placement *placement.Placement
	Volumes   *volume.Store
	Deaths    *death.Store
	Cgroups   *cgroup.FS
}

// Node runs the containers of this machine.
type Node struct {
	cfg    Config
	log    *slog.Logger
	intent intent

	mu    sync.Mutex
	byID  map[triton.ContainerKey]*container
	names map[nameKey]triton.ContainerKey
	// linking has, for a container, those that were made with a link to it on the default network.
	linking map[triton.ContainerKey][]*container

	nets *netIndex
	vols *volumeIndex
	// joining is read-held while a container joins a network, held while one is removed.
	joining sync.RWMutex

	agenda   *agenda
	restarts chan struct{} // a place for each restart under way
	observed observedRing
	tolls    tolls
	// quickening is held while the kernel is made ready for the move of a process between cgroups.
	quickening sync.Mutex
	changes    atomic.Uint64

	// background counts supervisors and clean-ups; ctx ends them without touching a container.
	background sync.WaitGroup
	ctx        context.Context
	cancel     context.CancelFunc
}

type nameKey struct {
	tenant triton.Tenant
	name   string
}

// New returns a Node that knows no containers yet: call Reconcile before serving.
func New(cfg Config) *Node {
	ctx, cancel := context.WithCancel(context.Background())
	return &Node{
		cfg: cfg, log: cfg.Log, intent: intent{cfg.Cluster},
		byID: map[triton.ContainerKey]*container{}, names: map[nameKey]triton.ContainerKey{}, linking: map[triton.ContainerKey][]*container{},
		nets: newNetIndex(), vols: newVolumeIndex(),
		agenda: newAgenda(cfg.Now), restarts: make(chan struct{}, parallelRestarts),
		ctx: ctx, cancel: cancel,
	}
}

// Close stops watching the containers and waits for clean-ups under way. Containers go on.
func (n *Node) Close() error {
	n.cancel()
	n.background.Wait()
	return nil
}

// cgroupPath is a container's directory below each hierarchy's root.
func (n *Node) cgroupPath(k triton.ContainerKey) string {
	return "/triton-" + n.cfg.Instance + "/" + k.ID
}

// Changes returns a number that differs from an earlier one if what ListContainers gives may differ.
func (n *Node) Changes() uint64 { return n.changes.Load() }

// changed must follow every change of what view shows, before anyone is told of it.
func (n *Node) changed() { n.changes.Add(1) }

// insert adds a container to the index.
func (n *Node) insert(c *container) {
	defer n.changed()
	c.sources = n.volumeSources(c)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.byID[c.key] = c
	n.names[nameKey{c.key.Tenant, c.rec.Name}] = c.key
	for _, k := range c.linkedTo() {
		n.linking[k] = append(n.linking[k], c)
	}
}

// forget takes a container out of the index.
func (n *Node) forget(c *container) {
	defer n.changed()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.byID, c.key)
	n.cfg.Placement.Drop(c.key)
	if k := (nameKey{c.key.Tenant, c.rec.Name}); n.names[k] == c.key {
		delete(n.names, k)
	}
	for _, k := range c.linkedTo() {
		n.linking[k] = slices.DeleteFunc(n.linking[k], func(l *container) bool { return l == c })
		if len(n.linking[k]) == 0 {
			delete(n.linking, k)
		}
	}
}

// get finds a container by key: errdefs.ErrNotFound with docker's words.
func (n *Node) get(key triton.ContainerKey) (*container, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.byID[key]; c != nil {
		return c, nil
	}
	return nil, noSuchContainer(key.ID)
}

func noSuchContainer(ref string) error {
	return fmt.Errorf("No such container: %s%w", ref, silent{errdefs.ErrNotFound}) //nolint:staticcheck // docker's words, which clients compare
}

// silent gives an error a kind without adding words to it.
type silent struct{ kind error }

func (silent) Error() string   { return "" }
func (s silent) Unwrap() error { return s.kind }

// kindf is fmt.Errorf for a message that is complete as it stands, with an errdefs kind.
func kindf(kind error, format string, args ...any) error {
	return fmt.Errorf("%s%w", fmt.Sprintf(format, args...), silent{kind})
}

// ResolveContainer finds a tenant's container by name, id or unique id prefix.
func (n *Node) ResolveContainer(_ context.Context, tenant triton.Tenant, ref string) (triton.ContainerKey, error) {
	name := strings.TrimPrefix(ref, "/")
	n.mu.Lock()
	defer n.mu.Unlock()
	if k := (triton.ContainerKey{Tenant: tenant, ID: ref}); n.byID[k] != nil {
		return k, nil
	}
	if k, ok := n.names[nameKey{tenant, name}]; ok {
		return k, nil
	}
	var found triton.ContainerKey
	if name == "" {
		return found, noSuchContainer(ref)
	}
	for k := range n.byID {
		if k.Tenant != tenant || !strings.HasPrefix(k.ID, name) {
			continue
		}
		if found.ID != "" {
			return triton.ContainerKey{}, kindf(errdefs.ErrInvalidArgument, "multiple IDs found with provided prefix: %s", name)
		}
		found = k
	}
	if found.ID == "" {
		return found, noSuchContainer(ref)
	}
	return found, nil
}

// InspectContainer returns a container with a fresh reading of its use where it runs.
func (n *Node) InspectContainer(_ context.Context, key triton.ContainerKey) (triton.Container, error) {
	c, err := n.get(key)
	if err != nil {
		return triton.Container{}, err
	}
	return c.view(n.cgroupPath(key)), nil
}

// ListContainers returns all containers of a tenant, in no order. It does no I/O.
func (n *Node) ListContainers(_ context.Context, tenant triton.Tenant) ([]triton.Container, error) {
	cs := n.ofTenant(tenant)
	out := make([]triton.Container, len(cs))
	for i, c := range cs {
		out[i] = c.view(n.cgroupPath(c.key))
	}
	return out, nil
}

// ofTenant returns a tenant's containers, in no order.
func (n *Node) ofTenant(tenant triton.Tenant) []*container {
	n.mu.Lock()
	defer n.mu.Unlock()
	cs := make([]*container, 0, len(n.byID))
	for k, c := range n.byID {
		if k.Tenant == tenant {
			cs = append(cs, c)
		}
	}
	return cs
}

// Names gives the names of containers of all tenants: for operators only.
func (n *Node) Names() map[triton.ContainerKey]string { return n.namesByKey() }

// namesBy gives each address of a running container the name that the container is told by.
func (n *Node) namesBy(name func(triton.Container) string) map[netip.Addr]string {
	names := map[netip.Addr]string{}
	for _, c := range n.all() {
		v := c.view(n.cgroupPath(c.key))
		if !v.State.Status.Runs() {
			continue
		}
		if p, err := netip.ParsePrefix(v.Network.Address); err == nil { // none without an address of its own
			names[p.Addr()] = name(v)
		}
		for _, a := range v.Attached {
			names[a.Address.Addr()] = name(v)
		}
	}
	return names
}

// UsesImage returns the containers of a tenant that were made from an image, or mount it, for rmi's refusals.
func (n *Node) UsesImage(_ context.Context, tenant triton.Tenant, imageID string) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var ids []string
	for k, c := range n.byID {
		if k.Tenant == tenant && usesImage(&c.rec.Spec, imageID) { // ImageID never changes after create
			ids = append(ids, k.ID)
		}
	}
	return ids, nil
}

// RunsImage is UsesImage for containers that run.
func (n *Node) RunsImage(_ context.Context, tenant triton.Tenant, imageID string) ([]string, error) {
	var ids []string
	for _, c := range n.all() {
		c.mu.Lock()
		if c.key.Tenant == tenant && usesImage(&c.rec.Spec, imageID) && c.running() {
			ids = append(ids, c.key.ID)
		}
		c.mu.Unlock()
	}
	return ids, nil
}

// publish puts an event in the journal, which wakes those who follow it. An event that cannot be written is an
// operator's business: the container's life goes on.
func (n *Node) publish(e triton.Event) {
	e.Node = n.cfg.Name
	if _, err := n.cfg.Journal.Append(e); err != nil {
		n.log.Error("event not journalled", "action", e.Action, "id", e.ID, "err", err)
	}
}

// spawn runs f in the background until it returns; Close waits for it.
func (n *Node) spawn(f func()) {
	n.background.Add(1)
	go func() {
		defer n.background.Done()
		f()
	}()
}

// errNotModified says that a container already is as asked.
var errNotModified = errors.New("not modified")

// IsNotModified reports whether err says that there was nothing to do.
func IsNotModified(err error) bool { return errors.Is(err, errNotModified) }

// Count is how many containers the node has, of all tenants.
func (n *Node) Count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.byID)
}
