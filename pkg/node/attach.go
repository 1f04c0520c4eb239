package node

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/tritond/triton/pkg/runtime"
	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/shim/jsonlog"
	"github.com/tritond/triton/pkg/triton"
)

// attachment is a client's place at the streams of a process. It may be taken before the process exists: the start
// connects it before the first instruction runs, so no byte is missed.
type attachment struct {
	opt triton.AttachOptions

	once   sync.Once
	ready  chan struct{} // closed once stream or err is set
	stream *shim.Stream
	err    error
	logEnd *triton.LogPlace // set before anybody else has the attachment

	begin   func(context.Context) error // starts the process of an exec once the stream stands; nil for containers
	ended   <-chan struct{}             // what the end of the stream waits for, so that an exit code is known by then; nil: nothing
	abandon func(error)
	leave   func()
	left    func() // tells that the client typed the detach keys
}

func newAttachment(opt triton.AttachOptions) *attachment {
	a := &attachment{opt: opt, ready: make(chan struct{}), leave: func() {}, left: func() {}}
	a.abandon = func(err error) { a.resolve(nil, err) }
	return a
}

// resolve settles what the client waits for; only the first call counts. A stream that comes too late is closed.
func (a *attachment) resolve(s *shim.Stream, err error) {
	used := false
	a.once.Do(func() {
		a.stream, a.err, used = s, err, true
		close(a.ready)
	})
	if !used && s != nil {
		s.Close()
	}
}

// connect attaches to a process of task.
func (a *attachment) connect(ctx context.Context, task *runtime.Task, execID string) {
	s, err := task.Attach(ctx, execID, a.opt)
	a.resolve(s, err)
}

// LogEnd is where the container's log ended when the stream began, which goes on from there; nil: not asked for, or not known.
func (a *attachment) LogEnd() *triton.LogPlace { return a.logEnd }

// Left tells that the client typed the detach keys.
func (a *attachment) Left() { a.left() }

// errGone ends an attachment that was given up.
var errGone = errors.New("attachment closed")

// Close gives up the attachment.
func (a *attachment) Close() error {
	a.leave()
	a.resolve(nil, errGone)
	if a.stream != nil {
		return a.stream.Close()
	}
	return nil
}

// Serve copies until the output ended, ctx is done, or reading stdin failed (a detach, or a client that vanished).
func (a *attachment) Serve(ctx context.Context, stdin io.Reader, out io.Writer) error {
	defer a.Close()
	select {
	case <-a.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	if a.err != nil {
		return a.err
	}
	if a.begin != nil {
		if err := a.begin(ctx); err != nil {
			return err
		}
	}
	output := make(chan error, 1)
	go func() {
		_, err := io.Copy(out, a.stream.Output)
		output <- err
	}()
	input := make(chan error, 1)
	if stdin != nil && a.opt.Stdin {
		go func() { input <- a.copyStdin(stdin) }()
	}
	for {
		select {
		case err := <-output:
			return errors.Join(err, a.settle(ctx))
		case err := <-input:
			if err != nil {
				return err
			}
			input = nil // half-closed: the output goes on
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settle waits for the end of the process whose output ended.
func (a *attachment) settle(ctx context.Context) error {
	if a.ended == nil {
		return nil
	}
	select {
	case <-a.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// copyStdin forwards input; its end is told to the process, any other error is not.
func (a *attachment) copyStdin(stdin io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		k, err := stdin.Read(buf)
		if k > 0 && !a.feed(buf[:k]) {
			return nil // the output decides when to end
		}
		if errors.Is(err, io.EOF) {
			_ = a.stream.CloseStdin() // fails only where the process is gone
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// feed writes input; false: the process is gone or has closed its stdin.
func (a *attachment) feed(input []byte) bool {
	_, err := a.stream.WriteStdin(input)
	return err == nil
}

// AttachContainer takes a place at a container's streams, before or while it runs.
func (n *Node) AttachContainer(ctx context.Context, key triton.ContainerKey, opt triton.AttachOptions) (*attachment, error) {
	c, err := n.get(key)
	if err != nil {
		return nil, err
	}
	if err := c.needThawed("attach"); err != nil {
		return nil, err
	}
	a := newAttachment(opt)
	a.left = func() { n.publish(c.event("detach", n.cfg.Now().UTC(), nil)) }
	c.mu.Lock()
	opt.Stdin = opt.Stdin && c.rec.Spec.OpenStdin
	a.opt = opt
	task := c.task
	if task == nil {
		task = c.begun
	}
	if task == nil {
		if opt.AfterLog { // nothing is written to it before the attachment is connected
			end, err := jsonlog.End(c.logPath())
			if err != nil {
				c.mu.Unlock()
				return nil, err
			}
			a.logEnd = &end
		}
		c.waiting = append(c.waiting, a)
		a.leave = func() { c.stopWaiting(a) }
	}
	c.mu.Unlock()
	if task != nil {
		a.connect(ctx, task, "")
		if a.err != nil {
			return nil, a.err
		}
		a.logEnd = a.stream.LogEnd
	}
	n.publish(c.event("attach", n.cfg.Now().UTC(), nil))
	return a, nil
}

// stopWaiting takes a client that hung up before the start out of the queue.
func (c *container) stopWaiting(a *attachment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, w := range c.waiting {
		if w == a {
			c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
			return
		}
	}
}

// connectWaiting connects everyone who attached before the start; who attaches from now on is connected at once.
func (n *Node) connectWaiting(ctx context.Context, c *container, task *runtime.Task) {
	c.mu.Lock()
	waiting := c.waiting
	c.waiting, c.begun = nil, task
	c.mu.Unlock()
	for _, a := range waiting {
		a.connect(ctx, task, "")
	}
}
