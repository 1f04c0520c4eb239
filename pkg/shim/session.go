package shim

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// session is one greeted connection.
type session struct {
	server     *server
	cn         *conn
	greeted    bool
	generation uint64
}

// readOnly are the verbs that a fenced daemon may still use: they change nothing.
var readOnly = map[Verb]bool{VerbHello: true, VerbState: true, VerbWait: true}

// answer does one request; files are the caller's to close, so what stays is duplicated.
func (c *session) answer(ctx context.Context, req Request, files []*os.File) (any, error) {
	if req.Verb == VerbHello {
		return c.hello(req)
	}
	if err := c.admit(req.Verb); err != nil {
		return nil, err
	}
	switch req.Verb {
	case VerbCreate:
		return c.create(ctx, req)
	case VerbAdopt:
		return c.adopt(ctx, req)
	case VerbShutdown:
		return nil, c.server.mayStop()
	}
	held, err := c.server.held()
	if err != nil {
		return nil, err
	}
	switch req.Verb {
	case VerbWait:
		return c.wait(ctx, held, req)
	case VerbForward:
		return nil, with(req, func(r ForwardRequest) error { return held.forward(r, files) })
	}
	return held.answer(ctx, req)
}

// wait blocks until a process has ended, or its client is gone: daemons come and go while a container lives.
func (c *session) wait(ctx context.Context, held *container, req Request) (rec triton.ExitRecord, err error) {
	ref, err := decode[ExecRef](req)
	if err != nil {
		return rec, err
	}
	p, err := held.find(ref.ID)
	if err != nil {
		return rec, err
	}
	raw, err := c.cn.SyscallConn()
	if err != nil {
		return rec, err
	}
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		// The error is the deadline below.
		_ = raw.Read(func(fd uintptr) bool { return hungUp(int(fd), unix.POLLRDHUP) })
		cancel()
	}()
	rec, err = p.wait(ctx)
	// A closed connection takes no deadline: nothing waits on it, and the next read says so.
	_ = c.cn.SetReadDeadline(time.Unix(1, 0))
	<-watched
	_ = c.cn.SetReadDeadline(time.Time{})
	return rec, err
}

func (c *session) hello(req Request) (any, error) {
	h, err := decode[Hello](req)
	if err != nil {
		return nil, err
	}
	reply, err := c.server.greet(h, !c.greeted)
	if err != nil {
		return nil, err
	}
	c.greeted, c.generation = true, h.Generation
	return reply, nil
}

func (c *session) admit(verb Verb) error {
	if !c.greeted {
		return &Error{Kind: KindInvalid, Message: errNoHello.Error()}
	}
	if readOnly[verb] {
		return nil
	}
	return c.server.fenced(c.generation)
}

func (c *session) create(ctx context.Context, req Request) (any, error) {
	r, err := decode[CreateRequest](req)
	if err != nil {
		return nil, err
	}
	held, err := c.server.claim(func() (*container, error) {
		return create(ctx, r, &c.server.cfg, c.server.enter)
	})
	if err != nil {
		return nil, err
	}
	return held.init.who(), nil
}

func (c *session) adopt(ctx context.Context, req Request) (any, error) {
	r, err := decode[AdoptRequest](req)
	if err != nil {
		return nil, err
	}
	var reply AdoptReply
	_, err = c.server.claim(func() (*container, error) {
		held, found, err := adopt(ctx, r, &c.server.cfg, c.server.enter)
		reply = found
		return held, err
	})
	return reply, err
}

// attach makes a stream of the connection; false: it was refused, and requests go on.
func (c *session) attach(req Request) bool {
	r, err := decode[AttachRequest](req)
	if err == nil {
		err = c.admit(VerbAttach)
	}
	var p *process
	if err == nil {
		var held *container
		if held, err = c.server.held(); err == nil {
			p, err = held.find(r.ID)
		}
	}
	if err != nil {
		return !respond(c.cn, nil, err, nil)
	}
	attach(c.cn, p, r)
	return true
}

// answer does the verbs of a shim that holds a container.
func (c *container) answer(ctx context.Context, req Request) (any, error) {
	switch req.Verb {
	case VerbStart:
		return nil, c.startProgram()
	case VerbState:
		return c.state(), nil
	case VerbPause:
		return nil, c.pause(true)
	case VerbResume:
		return nil, c.pause(false)
	case VerbLogRotate:
		return nil, c.rotateLog()
	case VerbExec:
		return nil, with(req, c.register)
	case VerbSignal:
		return nil, with(req, c.signal)
	case VerbDeadline:
		return nil, with(req, c.setDeadline)
	case VerbUpdate:
		return nil, with(req, c.update)
	case VerbResize:
		return nil, with(req, c.resize)
	case VerbCloseStdin:
		return nil, with(req, c.closeStdin)
	case VerbDelete:
		return nil, with(req, func(r DeleteRequest) error { return c.delete(ctx, r.Force) })
	case VerbExecStart:
		ref, err := decode[ExecRef](req)
		if err != nil {
			return nil, err
		}
		return c.startExec(ctx, ref.ID)
	}
	return nil, &Error{Kind: KindUnsupported, Message: "unknown verb " + string(req.Verb)}
}

// with decodes a request's body and passes it to do.
func with[T any](req Request, do func(T) error) error {
	body, err := decode[T](req)
	if err != nil {
		return err
	}
	return do(body)
}

func (c *container) resize(req ResizeRequest) error {
	p, err := c.find(req.ID)
	if err != nil {
		return err
	}
	return p.io.resize(req.Height, req.Width)
}

func (c *container) closeStdin(req ExecRef) error {
	p, err := c.find(req.ID)
	if err != nil {
		return err
	}
	p.io.closeStdin()
	return nil
}

func (c *container) rotateLog() error {
	if c.log == nil {
		return conflict("container has no log")
	}
	return c.log.Rotate()
}
