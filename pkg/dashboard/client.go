package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/gorilla/websocket"
)

// Bounds of a client.
const (
	maxRequest = 4 << 10 // bytes of a message from a client
	maxSubs    = 64
	// queueFrames may wait per subscription; at a tick per second the oldest is then under five seconds old.
	queueFrames = 4
	// queueReplies may wait; a client that asks faster than it reads is cut off.
	queueReplies = 256
	// creditFrames and creditBytes may be under way without an acknowledgement; one frame always may. What the kernel buffers
	// for a client that does not read would otherwise be minutes of frames that nobody counts as dropped.
	creditFrames = 8
	creditBytes  = 128 << 10

	pingEvery    = 20 * time.Second
	pongWait     = 45 * time.Second
	writeTimeout = 5 * time.Second
	// closeSignedOut is the websocket's close code for a login that has ended.
	closeSignedOut = 4401
)

// client is one open websocket. Two goroutines serve it: the handler's reads, another writes.
type client struct {
	hub  *Hub
	conn *websocket.Conn
	who  Caller
	req  *http.Request // for asking again who it is
	wake chan struct{} // of one: there is something to write

	mu       sync.Mutex
	subs     map[uint32]*subscription
	order    []*subscription // turns of the writer
	replies  []Reply
	flooded  bool
	paused   bool
	sent     uint64 // data frames
	acked    uint64
	inFlight []int // sizes of the frames sent and not acknowledged
}

// subscription is a client's place in a group.
type subscription struct {
	id      uint32
	client  *client
	group   *group
	request Request // to subscribe again after a pause
	last    uint64  // number of the newest frame handed to the writer

	// Guarded by client.mu.
	queue   []frame
	lost    uint64 // since the client was last told
	resync  bool   // the queue was given up: the next frame is a new state
	entered bool   // counted in the group
	finish  *Reply // said once the queue is empty: no frame follows
}

// offer queues a tick; the group's lock is held. When the queue is full it is given up as a whole: each frame builds on the
// one before, so the newest alone would be of no use.
func (s *subscription) offer(f frame) {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	switch {
	case s.resync:
		s.lost++
		s.client.hub.dropped.Add(1)
		return
	case len(s.queue) >= queueFrames:
		n := uint64(len(s.queue)) + 1
		s.lost += n
		s.client.hub.dropped.Add(n)
		s.queue, s.resync = nil, true
	default:
		s.queue = append(s.queue, f)
	}
	s.client.signal()
}

// replay queues a frame of the past, which the bound does not concern.
func (s *subscription) replay(f frame) {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	s.queue = append(s.queue, f)
	s.client.signal()
}

// ended tells the client that no frame follows; the group's lock is held.
func (s *subscription) ended(err error) {
	r := Reply{Op: "end", ID: s.id}
	if err != nil {
		r = Reply{Op: "err", ID: s.id, Code: codeOf(err), Message: err.Error()}
	}
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	s.finish = &r
	s.client.signal()
}

func (c *client) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// reply queues a control message.
func (c *client) reply(r Reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.replies) >= queueReplies {
		c.flooded = true
	} else {
		c.replies = append(c.replies, r)
	}
	c.signal()
}

// oldest is when the oldest frame that waits was made.
func (c *client) oldest() (at time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.subs {
		if len(s.queue) > 0 && (!ok || s.queue[0].at.Before(at)) {
			at, ok = s.queue[0].at, true
		}
	}
	return at, ok
}

// read serves the client's requests until the connection ends.
func (c *client) read(ctx context.Context) {
	c.conn.SetReadLimit(maxRequest)
	c.conn.SetReadDeadline(time.Now().Add(pongWait)) //nolint:errcheck // shows at the next read
	c.conn.SetPongHandler(func(string) error { return c.conn.SetReadDeadline(time.Now().Add(pongWait)) })
	for {
		kind, data, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		var r Request
		if kind != websocket.TextMessage {
			c.fail(0, fmt.Errorf("binary message: requests are JSON text: %w", errdefs.ErrInvalidArgument))
			continue
		}
		if err := json.Unmarshal(data, &r); err != nil {
			c.fail(0, fmt.Errorf("decode request: %w: %w", err, errdefs.ErrInvalidArgument))
			continue
		}
		if err := c.handle(ctx, r); err != nil {
			c.fail(r.ID, err)
		}
	}
}

func (c *client) fail(id uint32, err error) {
	c.reply(Reply{Op: "err", ID: id, Code: codeOf(err), Message: err.Error()})
}

func (c *client) handle(ctx context.Context, r Request) error {
	switch r.Op {
	case "sub":
		return c.subscribe(ctx, r)
	case "unsub":
		c.unsubscribe(r.ID)
		return nil
	case "ack":
		return c.acknowledge(r.N)
	case "pause":
		c.pause()
		return nil
	case "resume":
		return c.resume(ctx)
	}
	return fmt.Errorf("request %q: there is sub, unsub, ack, pause and resume: %w", r.Op, errdefs.ErrInvalidArgument)
}

// subscribe joins the group of a request, making it where nobody looks yet.
func (c *client) subscribe(ctx context.Context, r Request) error {
	c.mu.Lock()
	_, taken := c.subs[r.ID]
	full := len(c.subs) >= maxSubs
	paused := c.paused
	c.mu.Unlock()
	switch {
	case taken || r.ID == 0:
		return fmt.Errorf("subscription %d: numbers start at 1 and are used once: %w", r.ID, errdefs.ErrInvalidArgument)
	case full:
		return fmt.Errorf("more than %d subscriptions: %w", maxSubs, errdefs.ErrResourceExhausted)
	}
	key, make, err := c.hub.open(ctx, c.who, r)
	if err != nil {
		return err
	}
	r.Key = key.object
	s := &subscription{id: r.ID, client: c, request: r}
	c.mu.Lock()
	c.subs[r.ID] = s
	c.order = append(c.order, s)
	c.mu.Unlock()
	if paused {
		return nil // resume joins
	}
	if err := c.join(s, key, make, r.From, r.Boot); err != nil {
		c.drop(r.ID)
		return err
	}
	return nil
}

// join enters the group and asks for its frames.
func (c *client) join(s *subscription, key groupKey, make func() source, from uint64, boot string) error {
	g, err := c.hub.enter(key, make)
	if err != nil {
		return err
	}
	c.mu.Lock()
	s.group, s.entered = g, true
	c.mu.Unlock()
	if err := g.join(s, from, boot); err != nil {
		c.part(s)
		return err
	}
	return nil
}

// part leaves the group; the subscription stays known.
func (c *client) part(s *subscription) {
	c.mu.Lock()
	g, entered := s.group, s.entered
	s.entered, s.queue, s.resync, s.lost = false, nil, false, 0
	c.mu.Unlock()
	if entered {
		g.leave(s)
		c.mu.Lock()
		s.queue = nil // a frame that came between
		c.mu.Unlock()
		c.hub.exit(g)
	}
}

// drop forgets a subscription.
func (c *client) drop(id uint32) *subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.subs[id]
	delete(c.subs, id)
	for i, o := range c.order {
		if o == s {
			c.order = append(c.order[:i:i], c.order[i+1:]...)
			break
		}
	}
	return s
}

func (c *client) unsubscribe(id uint32) {
	if s := c.drop(id); s != nil {
		c.part(s)
	}
}

// acknowledge frees credit. A count that was never sent is refused: it would free what is still under way.
func (c *client) acknowledge(n uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n < c.acked || n > c.sent {
		return fmt.Errorf("ack of %d: %d to %d were sent: %w", n, c.acked, c.sent, errdefs.ErrInvalidArgument)
	}
	c.inFlight = append(c.inFlight[:0:0], c.inFlight[n-c.acked:]...)
	c.acked = n
	c.signal()
	return nil
}

// pause drops the client's demand: nobody looks at a hidden tab.
func (c *client) pause() {
	c.mu.Lock()
	c.paused = true
	subs := append([]*subscription(nil), c.order...)
	c.mu.Unlock()
	for _, s := range subs {
		c.part(s)
	}
}

// resume joins every group again, from the last frame the client was sent.
func (c *client) resume(ctx context.Context) error {
	c.mu.Lock()
	was := c.paused
	c.paused = false
	subs := append([]*subscription(nil), c.order...)
	c.mu.Unlock()
	if !was {
		return nil
	}
	var errs []error
	for _, s := range subs {
		key, make, err := c.hub.open(ctx, c.who, s.request)
		if err == nil {
			c.mu.Lock()
			from := s.last
			if s.group == nil {
				from = s.request.From
			}
			c.mu.Unlock()
			err = c.join(s, key, make, from, c.hub.cfg.Boot)
		}
		if err != nil {
			c.drop(s.id)
			c.fail(s.id, err)
		}
	}
	return errors.Join(errs...)
}

// leaveAll ends every subscription.
func (c *client) leaveAll() {
	c.mu.Lock()
	subs := append([]*subscription(nil), c.order...)
	c.mu.Unlock()
	for _, s := range subs {
		c.unsubscribe(s.id)
	}
}
