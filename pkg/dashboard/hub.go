package dashboard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// Hub joins clients and groups. All methods may be called from any goroutine.
type Hub struct {
	cfg    Config
	ctx    context.Context // ends sources and sockets with Close
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	groups  map[groupKey]*group
	clients map[*client]struct{}
	lastID  uint32

	dropped atomic.Uint64 // frames, of all clients there ever were
}

// New returns a hub without clients.
func New(cfg Config) *Hub {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Recheck == 0 {
		cfg.Recheck = time.Minute
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Hub{cfg: cfg, ctx: ctx, cancel: cancel, groups: map[groupKey]*group{}, clients: map[*client]struct{}{}}
}

// Close cuts all sockets, stops all sources and waits for them. Idempotent.
func (h *Hub) Close() error {
	h.mu.Lock()
	h.closed = true
	clients := make([]*client, 0, len(h.clients))
	for c := range h.clients {
		clients = append(clients, c)
	}
	h.mu.Unlock()
	h.cancel()
	for _, c := range clients {
		c.conn.Close()
	}
	h.wait.Wait()
	return nil
}

// Stats are the hub's own numbers.
type Stats struct {
	Clients, Groups int
	Dropped         uint64        // frames that slow clients lost, ever
	OldestUnsent    time.Duration // the age of the oldest frame that waits for a client
}

// Stats reads them.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := Stats{Clients: len(h.clients), Groups: len(h.groups), Dropped: h.dropped.Load()}
	now := h.cfg.Now()
	for c := range h.clients {
		if at, ok := c.oldest(); ok {
			st.OldestUnsent = max(st.OldestUnsent, now.Sub(at))
		}
	}
	return st
}

var errClosing = fmt.Errorf("the daemon is stopping: %w", errdefs.ErrUnavailable)

// spawn runs f until it returns; Close waits for it. False: the hub is closed.
func (h *Hub) spawn(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.wait.Go(f)
	return true
}

// enter finds the group of a key, or makes it and starts its source. Each enter needs an exit.
func (h *Hub) enter(key groupKey, make func() source) (*group, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errClosing
	}
	if g := h.groups[key]; g != nil {
		g.members++
		if g.idle != nil {
			g.idle.Stop()
			g.idle = nil
		}
		return g, nil
	}
	ctx, cancel := context.WithCancel(h.ctx)
	h.lastID++
	g := &group{
		id: h.lastID, key: key, src: make(), boot: h.cfg.Boot, now: h.cfg.Now, subs: map[*subscription]struct{}{},
		members: 1, cancel: cancel,
	}
	h.groups[key] = g
	h.wait.Go(func() {
		err := g.src.run(ctx, g.publish)
		stopped := ctx.Err() != nil
		h.remove(g)
		if stopped {
			err = errClosing
		} else if err != nil {
			h.cfg.Log.Warn("topic ended", "topic", key.topic, "tenant", key.tenant, "object", triton.ShortID(key.object), "err", err)
		}
		g.end(err)
	})
	return g, nil
}

// exit undoes one enter; the source stops a while after the last.
func (h *Hub) exit(g *group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g.members--; g.members > 0 {
		return
	}
	if h.closed {
		g.cancel()
		return
	}
	g.idle = time.AfterFunc(linger, func() { h.expire(g) })
}

// expire stops a group that nobody came back to.
func (h *Hub) expire(g *group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g.members > 0 {
		return
	}
	g.cancel()
	if h.groups[g.key] == g {
		delete(h.groups, g.key)
	}
}

// remove forgets a group whose source has ended.
func (h *Hub) remove(g *group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g.cancel()
	if h.groups[g.key] == g {
		delete(h.groups, g.key)
	}
}

// open finds out what a request wants for a caller: the key and how to make its source.
func (h *Hub) open(ctx context.Context, who Caller, r Request) (groupKey, func() source, error) {
	key := groupKey{tenant: who.Tenant, topic: r.Topic, res: r.Res}
	if key.res == 0 {
		key.res = 1
	}
	switch key.res {
	case 1, 2, 5, 10:
	default:
		return key, nil, fmt.Errorf("resolution of %d s: only 1, 2, 5 and 10: %w", r.Res, errdefs.ErrInvalidArgument)
	}
	if r.Topic == topicContainers {
		f, err := ParseFilter(r.Query)
		if err != nil {
			return key, nil, err
		}
		if r.Key != "" {
			return key, nil, fmt.Errorf("topic %s has no key: %w", r.Topic, errdefs.ErrInvalidArgument)
		}
		key.query = f.String()
		return key, func() source { return newTable(h.cfg, key, f) }, nil
	}
	if r.Query != "" {
		return key, nil, fmt.Errorf("topic %q has no filter: %w", r.Topic, errdefs.ErrInvalidArgument)
	}
	return h.openObject(ctx, key, r)
}

// openObject is open for the topics about one container.
func (h *Hub) openObject(ctx context.Context, key groupKey, r Request) (groupKey, func() source, error) {
	var make func(triton.ContainerKey) source
	switch r.Topic {
	case topicContainer:
		make = func(k triton.ContainerKey) source { return newDetail(h.cfg, k, key.res) }
	case topicEvents:
		make = func(k triton.ContainerKey) source { return &eventSource{cfg: h.cfg, key: k} }
	case topicLogs:
		make = func(k triton.ContainerKey) source { return &logSource{cfg: h.cfg, key: k} }
	default:
		return key, nil, fmt.Errorf("topic %q: there is containers, container, events and logs: %w", r.Topic, errdefs.ErrInvalidArgument)
	}
	if r.Res != 0 && r.Topic != topicContainer {
		return key, nil, fmt.Errorf("topic %s has no resolution: %w", r.Topic, errdefs.ErrInvalidArgument)
	}
	c, err := h.cfg.Containers.ResolveContainer(ctx, key.tenant, r.Key)
	if err != nil {
		return key, nil, err
	}
	key.object = c.ID
	return key, func() source { return make(c) }, nil
}

// Names of the topics.
const (
	topicContainers = "containers"
	topicContainer  = "container"
	topicEvents     = "events"
	topicLogs       = "logs"
)

// codeOf is an error's kind in the protocol's words.
func codeOf(err error) string {
	switch {
	case errdefs.IsInvalidArgument(err):
		return "invalid"
	case errdefs.IsNotFound(err):
		return "not_found"
	case errdefs.IsNotImplemented(err):
		return "unsupported"
	case errdefs.IsResourceExhausted(err):
		return "limit"
	case errdefs.IsPermissionDenied(err):
		return "forbidden"
	case errdefs.IsUnavailable(err), errors.Is(err, context.Canceled):
		return "unavailable"
	}
	return "internal"
}
