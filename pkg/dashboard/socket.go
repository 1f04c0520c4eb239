package dashboard

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/websocket"
)

// sendBuffer bounds what the kernel keeps for a client that does not read: two table frames. By itself it grows to minutes.
const sendBuffer = 64 << 10

// upgrader's origin check is sameOrigin's, which has been made before.
func upgrader(protocol string) *websocket.Upgrader {
	return &websocket.Upgrader{
		HandshakeTimeout: 10 * time.Second, ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10, WriteBufferPool: nil,
		Subprotocols: []string{protocol}, CheckOrigin: func(*http.Request) bool { return true },
	}
}

// sameOrigin refuses sockets that a page of another origin opens: the browser sends the login's cookie along. A client
// without an Origin is no browser, and has to bring a login that does not come by itself.
func sameOrigin(r *http.Request, ambient bool) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return !ambient
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && u.Host == r.Host
}

// admit answers who calls; false: the request was refused.
func (h *Hub) admit(w http.ResponseWriter, r *http.Request) (Caller, bool) {
	who, err := h.cfg.Caller(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return Caller{}, false
	}
	if !sameOrigin(r, who.Ambient) {
		http.Error(w, "origin not allowed", http.StatusForbidden)
		return Caller{}, false
	}
	return who, true
}

func (h *Hub) serveSocket(w http.ResponseWriter, r *http.Request) {
	who, ok := h.admit(w, r)
	if !ok {
		return
	}
	conn, err := upgrader(Subprotocol).Upgrade(w, r, nil)
	if err != nil {
		return // answered by the upgrader
	}
	defer conn.Close()
	if tcp, ok := conn.NetConn().(*net.TCPConn); ok {
		tcp.SetWriteBuffer(sendBuffer) //nolint:errcheck // the credit bounds it too
	}
	c := &client{hub: h, conn: conn, who: who, req: r.Clone(context.WithoutCancel(r.Context())), wake: make(chan struct{}, 1), subs: map[uint32]*subscription{}}
	if !h.addClient(c) {
		return
	}
	defer h.removeClient(c)
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	c.reply(Reply{Op: "hello", Hello: h.hello(who)})
	written := make(chan struct{})
	go func() {
		defer close(written)
		defer conn.Close()
		c.write(ctx)
	}()
	c.read(ctx)
	cancel()
	<-written
	c.leaveAll()
}

func (h *Hub) hello(who Caller) *Hello {
	hello := &Hello{
		Protocol: Protocol, Version: h.cfg.Version, Boot: h.cfg.Boot, Node: h.cfg.Node, Now: h.cfg.Now().UnixMilli(),
		Tenant: who.Tenant, Caller: who.Name, Exec: who.Exec, Operator: who.Operator,
	}
	if h.cfg.Missing != nil {
		hello.Missing = h.cfg.Missing()
	}
	hello.Level = h.level()
	return hello
}

// level is nil where nobody tells.
func (h *Hub) level() *Level {
	if h.cfg.Level == nil {
		return nil
	}
	l := h.cfg.Level()
	if h.cfg.Missing != nil {
		l.Missing = h.cfg.Missing()
	}
	return &l
}

// LevelChanged tells every page how much is measured now.
func (h *Hub) LevelChanged() {
	l := h.level()
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.clients {
		c.reply(Reply{Op: "level", Level: l})
	}
}

func (h *Hub) addClient(c *client) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.clients[c] = struct{}{}
	h.wait.Add(1)
	return true
}

func (h *Hub) removeClient(c *client) {
	h.mu.Lock()
	delete(h.clients, c)
	h.mu.Unlock()
	h.wait.Done()
}

// write sends what waits until ctx ends or the client is gone.
func (c *client) write(ctx context.Context) {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	recheck := time.NewTicker(c.hub.cfg.Recheck)
	defer recheck.Stop()
	for {
		select {
		case <-ctx.Done():
			c.close(websocket.CloseGoingAway, "")
			return
		case <-ping.C:
			if c.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout)) != nil {
				return
			}
		case <-recheck.C:
			if who, err := c.hub.cfg.Caller(c.req); err != nil || who != c.who {
				c.close(closeSignedOut, "the login has ended or changed")
				return
			}
		case <-c.wake:
			if !c.drain() {
				return
			}
		}
	}
}

func (c *client) close(code int, reason string) {
	message := websocket.FormatCloseMessage(code, reason)
	c.conn.WriteControl(websocket.CloseMessage, message, time.Now().Add(time.Second)) //nolint:errcheck // it closes anyway
}

// drain sends all that may be sent now; false: the connection is of no more use.
func (c *client) drain() bool {
	for {
		reply, f, ok := c.next()
		switch {
		case !ok:
			return true
		case reply != nil && reply.Op == opFlooded:
			c.close(websocket.ClosePolicyViolation, "too many requests unread")
			return false
		}
		c.conn.SetWriteDeadline(time.Now().Add(writeTimeout)) //nolint:errcheck // shows at the write
		var err error
		if reply != nil {
			err = c.writeReply(*reply)
		} else {
			err = c.conn.WritePreparedMessage(f.msg)
		}
		if err != nil {
			return false
		}
	}
}

func (c *client) writeReply(r Reply) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return c.conn.WriteMessage(websocket.TextMessage, data)
}

// opFlooded is next's way of saying that the client must be cut off.
const opFlooded = "flooded"

// next takes what is to be sent next: replies first, then a frame of whose turn it is, as far as the credit goes. A
// subscription that lost frames is told so, and then gets a new state.
func (c *client) next() (*Reply, frame, bool) {
	for {
		reply, f, resync, ok := c.take()
		if resync == nil {
			return reply, f, ok
		}
		// The group's lock comes before the client's, so the state is made without the latter. Until it is queued further
		// ticks count as lost, and it has all of them in it; those after it are queued behind it.
		resync.restart()
	}
}

// restart queues the group's state as it is now, between two ticks.
func (s *subscription) restart() {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	if _, there := s.group.subs[s]; !there {
		s.client.mu.Lock()
		defer s.client.mu.Unlock()
		s.resync = false
		return
	}
	f := s.group.encode(s.group.src.whole(false), KindResync)
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	s.queue, s.resync = []frame{f}, false
	s.client.replies = append(s.client.replies, Reply{Op: "dropped", ID: s.id, Dropped: s.lost})
	s.lost = 0
}

// take is one step of next under the client's lock.
func (c *client) take() (reply *Reply, f frame, resync *subscription, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flooded {
		return &Reply{Op: opFlooded}, f, nil, true
	}
	if len(c.replies) > 0 {
		r := c.replies[0]
		c.replies = c.replies[1:]
		return &r, f, nil, true
	}
	if !c.credit() {
		return nil, f, nil, false
	}
	for i, s := range c.order {
		if s.resync {
			return nil, f, s, true
		}
		if len(s.queue) == 0 && s.finish != nil {
			reply, s.finish = s.finish, nil
			return reply, f, nil, true
		}
		if len(s.queue) == 0 {
			continue
		}
		f, s.queue = s.queue[0], s.queue[1:]
		s.last = f.seq
		c.sent++
		c.inFlight = append(c.inFlight, f.size)
		c.order = append(append(c.order[:i:i], c.order[i+1:]...), s)
		return nil, f, nil, true
	}
	return nil, f, nil, false
}

// credit reports whether another frame may be sent; the caller holds mu.
func (c *client) credit() bool {
	total := 0
	for _, n := range c.inFlight {
		total += n
	}
	return len(c.inFlight) < creditFrames && total < creditBytes
}
