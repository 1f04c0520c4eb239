package dockerapi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/gorilla/websocket"
)

const (
	// wsHandshake bounds how long a client may take to read the answer to its handshake.
	wsHandshake = 10 * time.Second
	// wsDefaults is the first API version in which the streams of a websocket are those asked for: before, they were all.
	wsDefaults = 42
)

// attachWebsocket is attachContainer over a websocket: each message to the server is input, each binary message from it
// output. Streams are not framed: without a terminal stdout and stderr come as one, as in docker.
func (s *Server) attachWebsocket(ctx context.Context, c *call) error {
	all := c.version < wsDefaults
	return s.attach(ctx, c, all, func(tty, stdin bool) (clientStream, error) {
		st, err := c.upgrade()
		if err != nil {
			return nil, err
		}
		if st.unread = !stdin; !tty {
			st.out = &unframed{out: st.out}
		}
		return st, nil
	})
}

// wsStream is a websocket that carries a process's bytes. One goroutine writes.
type wsStream struct {
	conn   *websocket.Conn
	unread bool // nobody else reads what the client sends
	out    io.Writer

	mu      sync.Mutex // of reading: close may find a reader that waits for input still
	message io.Reader  // what is left of the message that is being read; nil: none
}

// upgrade answers 101. A page of another origin is refused here once more, whatever let the request in: a browser sends
// along what identifies its user. After it the handler must not return an error.
func (c *call) upgrade() (*wsStream, error) {
	var refused error
	up := websocket.Upgrader{
		HandshakeTimeout: wsHandshake,
		Error: func(_ http.ResponseWriter, _ *http.Request, status int, reason error) {
			if refused = invalid("%v", reason); status == http.StatusForbidden {
				refused = &apiError{errdefs.ErrPermissionDenied, reason.Error()}
			}
		},
	}
	if offered := websocket.Subprotocols(c.r); len(offered) == 1 {
		up.Subprotocols = offered // as in docker: browsers give up where the one they offer is not taken
	}
	conn, err := up.Upgrade(c.w, c.r, nil)
	if err != nil {
		return nil, errors.Join(refused, err)
	}
	if w, ok := c.w.(*onceWriter); ok {
		w.begun = true
	}
	tuneTCP(conn.NetConn())
	// The client's close is the end of its input. It is answered by close, after the rest of the output.
	conn.SetCloseHandler(func(int, string) error { return nil })
	return &wsStream{conn: conn, out: messages{conn}}, nil
}

// Read gives what the client's messages contain, one after the other; its close is the end.
func (st *wsStream) Read(p []byte) (int, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for {
		if st.message == nil {
			_, r, err := st.conn.NextReader()
			if websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived) {
				return 0, io.EOF
			}
			if err != nil {
				return 0, fmt.Errorf("websocket: %w", err) // io.EOF included: a connection that is cut is no end of input
			}
			st.message = r
		}
		n, err := st.message.Read(p)
		if errors.Is(err, io.EOF) {
			st.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write sends output as a message, what of it is payload.
func (st *wsStream) Write(p []byte) (int, error) { return st.out.Write(p) }

// serve is stream.serve. Where input is not wanted it is read all the same: pings and the client's close are in it, and
// with the latter the client is gone.
func (st *wsStream) serve(ctx context.Context, f func(context.Context) error) error {
	defer st.close()
	return serveConn(ctx, st.conn.NetConn(), func(ctx context.Context) error {
		if !st.unread {
			return f(ctx)
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			io.Copy(io.Discard, st) //nolint:errcheck // any end will do
			cancel()
		}()
		return f(ctx)
	})
}

// close says that the output has ended and waits for the client's close, as stream.close does.
func (st *wsStream) close() {
	defer st.conn.Close()
	text := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	if st.conn.WriteControl(websocket.CloseMessage, text, time.Now().Add(time.Second)) != nil {
		return
	}
	st.conn.SetReadDeadline(time.Now().Add(lingerLimit)) //nolint:errcheck // then it closes at once
	io.Copy(io.Discard, st)                              //nolint:errcheck // any end will do
}

// messages is a writer that makes each write a binary message.
type messages struct{ conn *websocket.Conn }

func (w messages) Write(p []byte) (int, error) {
	if err := w.conn.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// unframed is a writer of framed output that passes on what the frames contain.
type unframed struct {
	out  io.Writer
	head []byte // of a frame, as far as it came
	left uint32 // of the frame's content
}

func (u *unframed) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if u.left == 0 {
			n := min(frameHeader-len(u.head), len(rest))
			u.head, rest = append(u.head, rest[:n]...), rest[n:]
			if len(u.head) == frameHeader {
				u.left, u.head = binary.BigEndian.Uint32(u.head[4:]), u.head[:0]
			}
			continue
		}
		n := min(int(u.left), len(rest))
		if _, err := u.out.Write(rest[:n]); err != nil {
			return 0, err
		}
		u.left, rest = u.left-uint32(n), rest[n:]
	}
	return len(p), nil
}
