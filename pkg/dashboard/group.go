package dashboard

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/tritond/triton/pkg/triton"
)

// Bounds of a group.
const (
	// ringFrames and ringBytes bound what is kept for clients that come back: a minute of ticks, or 2 MiB.
	ringFrames = 60
	ringBytes  = 2 << 20
	// linger is how long a source runs on without a subscriber: a reload takes less.
	linger = 5 * time.Second
)

// groupKey is what subscriptions must have in common to share frames. The tenant comes first.
type groupKey struct {
	tenant triton.Tenant
	topic  string
	object string // a container's id; "" for lists
	query  string // in its canonical form
	res    int    // seconds
}

// source is where a group's frames come from. Its methods but run are called with the group's lock held.
type source interface {
	// run keeps the state up to date until ctx ends. It changes the state only within publish's function, which returns the
	// frame that tells of the change, or nil. The first call must leave a complete state.
	run(ctx context.Context, publish func(func() body)) error
	// whole gives the state as a frame, with its history or without.
	whole(history bool) body
}

// frame is an encoded data frame, shared by all clients that get it.
type frame struct {
	seq  uint64
	size int
	msg  *websocket.PreparedMessage
	at   time.Time
}

// group is the fan-out of one source.
type group struct {
	id   uint32
	key  groupKey
	src  source
	boot string
	now  func() time.Time

	mu       sync.Mutex
	subs     map[*subscription]struct{}
	ring     []frame // oldest first, without holes in its numbers
	ringSize int
	seq      uint64
	ready    bool  // the source has a state
	ended    error // why no frame follows
	done     bool

	// Guarded by Hub.mu.
	members int
	idle    *time.Timer
	cancel  context.CancelFunc
}

// publish lets the source change its state and sends the frame that tells of it.
func (g *group) publish(change func() body) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := change()
	if !g.ready {
		g.ready = true
		if len(g.subs) > 0 {
			g.sendAll(g.encode(g.src.whole(true), KindSnapshot))
		}
		return
	}
	if b == nil {
		return
	}
	g.seq++
	f := g.encode(b, KindTick)
	g.keep(f)
	g.sendAll(f)
}

func (g *group) sendAll(f frame) {
	for s := range g.subs {
		s.offer(f)
	}
}

// keep adds a tick to the ring.
func (g *group) keep(f frame) {
	g.ring = append(g.ring, f)
	g.ringSize += f.size
	drop := 0
	for len(g.ring)-drop > ringFrames || g.ringSize > ringBytes && drop < len(g.ring) {
		g.ringSize -= g.ring[drop].size
		drop++
	}
	if drop > 0 {
		g.ring = append(g.ring[:0:0], g.ring[drop:]...)
	}
}

// encode fills in the head. A frame that cannot be encoded is a bug of this package: its types are fixed.
func (g *group) encode(b body, kind uint8) frame {
	now := g.now()
	*b.head() = Head{Group: g.id, Seq: g.seq, TimeMs: now.UnixMilli(), Kind: kind}
	var buf bytes.Buffer
	enc := msgpack.NewEncoder(&buf)
	enc.UseCompactInts(true)
	enc.SetSortMapKeys(true)
	if err := enc.Encode(b); err != nil {
		panic(fmt.Sprintf("encode %T: %v", b, err))
	}
	msg, err := websocket.NewPreparedMessage(websocket.BinaryMessage, buf.Bytes())
	if err != nil {
		panic(fmt.Sprintf("prepare %T: %v", b, err))
	}
	return frame{seq: g.seq, size: buf.Len(), msg: msg, at: now}
}

// join adds a subscription and answers it: the frames after from follow if all are kept, otherwise a snapshot does.
func (g *group) join(s *subscription, from uint64, boot string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.done {
		return g.ended
	}
	g.subs[s] = struct{}{}
	missing := g.seq - from
	resumed := g.ready && boot == g.boot && from != 0 && from <= g.seq && missing <= uint64(len(g.ring))
	// Before the first frame: it names the group, which only this answer explains.
	s.client.reply(Reply{Op: "ok", ID: s.id, Group: g.id, Resumed: resumed})
	switch {
	case resumed:
		for _, f := range g.ring[uint64(len(g.ring))-missing:] {
			s.replay(f)
		}
	case g.ready: // else the first frame will be a snapshot
		s.replay(g.encode(g.src.whole(true), KindSnapshot))
	}
	return nil
}

func (g *group) leave(s *subscription) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.subs, s)
}

// end tells the subscribers that no frame follows. nil: the source had no more to say.
func (g *group) end(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done, g.ended = true, err
	for s := range g.subs {
		s.ended(err)
	}
}
