package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/tritond/triton/pkg/triton"
)

// ErrShimGone says that the peer died or closed while an answer was due: the outcome of the request is unknown, and for
// Wait it means that the shim died, not the container.
var ErrShimGone = errors.New("shim gone")

// maxIdleConns bounds the connections a Client keeps for its next requests. The first one stays open as long as the
// Client: an idle shim ends when its daemon's connection does.
const maxIdleConns = 4

// Client speaks to one shim. It may be used by several goroutines at once: requests that overlap get connections of
// their own, so a signal never waits behind a slow exec. A refusal by the shim is an *Error (errors.As).
type Client struct {
	path  string
	hello Hello

	mu     sync.Mutex
	idle   []*conn
	closed bool
}

// Dial connects to the shim that listens at path and greets it.
func Dial(ctx context.Context, path string, hello Hello) (*Client, HelloReply, error) {
	c := &Client{path: path, hello: hello}
	cn, reply, err := dial(ctx, path, hello)
	if err != nil {
		return nil, HelloReply{}, fmt.Errorf("shim %s: %w", path, err)
	}
	c.idle = append(c.idle, cn)
	return c, reply, nil
}

// dial opens one greeted connection.
func dial(ctx context.Context, path string, hello Hello) (*conn, HelloReply, error) {
	if hello.Protocol == 0 {
		hello.Protocol = ProtocolVersion
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, HelloReply{}, err
	}
	cn := &conn{UnixConn: nc.(*net.UnixConn)}
	var reply HelloReply
	if err := cn.call(ctx, VerbHello, hello, &reply, nil); err != nil {
		cn.Close()
		return nil, HelloReply{}, gone(err)
	}
	return cn, reply, nil
}

// Close closes the connections at rest. A shim that waits in the pool ends then; one that holds a container does not
// mind.
func (c *Client) Close() error {
	c.mu.Lock()
	idle := c.idle
	c.idle, c.closed = nil, true
	c.mu.Unlock()
	for _, cn := range idle {
		cn.Close()
	}
	return nil
}

// Hello greets the shim again and returns what it holds now.
func (c *Client) Hello(ctx context.Context) (HelloReply, error) {
	var reply HelloReply
	hello := c.hello
	if hello.Protocol == 0 {
		hello.Protocol = ProtocolVersion
	}
	err := c.call(ctx, VerbHello, hello, &reply)
	return reply, err
}

// Create makes the container; its program has not run when this returns.
func (c *Client) Create(ctx context.Context, req CreateRequest) (ProcessReply, error) {
	var reply ProcessReply
	err := c.call(ctx, VerbCreate, req, &reply)
	return reply, err
}

// Start lets the container's init execute its program.
func (c *Client) Start(ctx context.Context) error { return c.call(ctx, VerbStart, nil, nil) }

// Exec registers a further process, so that clients can attach before ExecStart.
func (c *Client) Exec(ctx context.Context, req ExecRequest) error {
	return c.call(ctx, VerbExec, req, nil)
}

// ExecStart starts a registered exec.
func (c *Client) ExecStart(ctx context.Context, id string) (ProcessReply, error) {
	var reply ProcessReply
	err := c.call(ctx, VerbExecStart, ExecRef{ID: id}, &reply)
	return reply, err
}

// Wait blocks until the container's first process (id empty) or the exec id ended and its output is in the log. It uses
// a connection of its own. An error that wraps ErrShimGone means that the shim died: the process may well live.
func (c *Client) Wait(ctx context.Context, id string) (triton.ExitRecord, error) {
	var rec triton.ExitRecord
	cn, _, err := dial(ctx, c.path, c.hello)
	if err != nil {
		return rec, fmt.Errorf("shim %s: wait: %w", c.path, gone(err))
	}
	defer cn.Close()
	if err := cn.call(ctx, VerbWait, ExecRef{ID: id}, &rec, nil); err != nil {
		return rec, fmt.Errorf("shim %s: %w", c.path, gone(err))
	}
	return rec, nil
}

// State returns what the shim knows of its container.
func (c *Client) State(ctx context.Context) (StateReply, error) {
	var reply StateReply
	err := c.call(ctx, VerbState, nil, &reply)
	return reply, err
}

// Signal sends a signal.
func (c *Client) Signal(ctx context.Context, req SignalRequest) error {
	return c.call(ctx, VerbSignal, req, nil)
}

// Deadline has the shim send a signal later.
func (c *Client) Deadline(ctx context.Context, req DeadlineRequest) error {
	return c.call(ctx, VerbDeadline, req, nil)
}

// Pause freezes the container.
func (c *Client) Pause(ctx context.Context) error { return c.call(ctx, VerbPause, nil, nil) }

// Resume thaws the container.
func (c *Client) Resume(ctx context.Context) error { return c.call(ctx, VerbResume, nil, nil) }

// Update changes resource limits; resources is a runtime-spec LinuxResources, of which only what is set is changed.
func (c *Client) Update(ctx context.Context, resources json.RawMessage) error {
	return c.call(ctx, VerbUpdate, UpdateRequest{Resources: resources}, nil)
}

// Resize sets a terminal's size.
func (c *Client) Resize(ctx context.Context, req ResizeRequest) error {
	return c.call(ctx, VerbResize, req, nil)
}

// CloseStdin closes a process's standard input; a terminal has none to close.
func (c *Client) CloseStdin(ctx context.Context, id string) error {
	return c.call(ctx, VerbCloseStdin, ExecRef{ID: id}, nil)
}

// LogRotate rotates the log now.
func (c *Client) LogRotate(ctx context.Context) error { return c.call(ctx, VerbLogRotate, nil, nil) }

// Forward has the shim serve ports of the host; sockets, one for each port, stay the caller's. At most MaxForward.
func (c *Client) Forward(ctx context.Context, req ForwardRequest, sockets []*os.File) error {
	return c.send(ctx, VerbForward, req, nil, sockets)
}

// Adopt has an idle shim take over the container of one that died.
func (c *Client) Adopt(ctx context.Context, req AdoptRequest) (AdoptReply, error) {
	var reply AdoptReply
	err := c.call(ctx, VerbAdopt, req, &reply)
	return reply, err
}

// Delete removes the container's run-time state; the shim ends after it answered.
func (c *Client) Delete(ctx context.Context, force bool) error {
	return c.call(ctx, VerbDelete, DeleteRequest{Force: force}, nil)
}

// Shutdown ends an idle shim.
func (c *Client) Shutdown(ctx context.Context) error { return c.call(ctx, VerbShutdown, nil, nil) }

// call does one request on a connection at rest, or on a new one.
func (c *Client) call(ctx context.Context, verb Verb, body, reply any) error {
	return c.send(ctx, verb, body, reply, nil)
}

// send is call, with descriptors beside the request.
func (c *Client) send(ctx context.Context, verb Verb, body, reply any, files []*os.File) error {
	cn, err := c.take(ctx)
	if err != nil {
		return fmt.Errorf("shim %s: %s: %w", c.path, verb, err)
	}
	err = cn.call(ctx, verb, body, reply, files)
	var refused *Error
	if err == nil || errors.As(err, &refused) {
		c.putBack(cn)
	} else {
		cn.Close()
		err = gone(err)
	}
	if err != nil {
		return fmt.Errorf("shim %s: %w", c.path, err)
	}
	return nil
}

func (c *Client) take(ctx context.Context) (*conn, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, net.ErrClosed
	}
	if n := len(c.idle); n > 0 {
		cn := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		return cn, nil
	}
	c.mu.Unlock()
	cn, _, err := dial(ctx, c.path, c.hello)
	return cn, gone(err)
}

func (c *Client) putBack(cn *conn) {
	c.mu.Lock()
	if !c.closed && len(c.idle) < maxIdleConns {
		c.idle = append(c.idle, cn)
		cn = nil
	}
	c.mu.Unlock()
	if cn != nil {
		cn.Close()
	}
}

// gone marks the errors that a dead peer causes: the end of the stream, a reset, a socket without a listener.
func gone(err error) error {
	switch {
	case err == nil || errors.Is(err, ErrShimGone):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("%w: %w", ErrShimGone, err)
	}
	return err
}
