package node

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/shim/jsonlog"
	"github.com/tritond/triton/pkg/triton"
)

// ContainerLogs reads a container's log from its file, which the shim writes whether a daemon lives or not.
func (n *Node) ContainerLogs(ctx context.Context, key triton.ContainerKey, opt triton.LogOptions, emit func(triton.LogRecord) error) error {
	c, err := n.get(key)
	if err != nil {
		return err
	}
	c.mu.Lock()
	driver, running, over := c.rec.Spec.Log.Driver, c.running() || c.restarting(), c.over
	c.mu.Unlock()
	if driver == triton.LogNone {
		return kindf(errdefs.ErrNotImplemented, "configured logging driver does not support reading")
	}
	ended := over.done // a restart by its policy ends no reader
	if !running {
		ended = closed
	}
	r := c.log.NewReader(opt)
	forget, err := c.logReader(r)
	if err != nil {
		return err
	}
	defer forget()
	if opt.Opened != nil {
		if err := opt.Opened(); err != nil {
			return err
		}
	}
	stats, err := r.Read(ctx, ended, emit)
	if stats != (jsonlog.ReadStats{}) {
		n.log.Warn("log has gaps", "container", c.key, "corrupt", stats.Corrupt, "torn", stats.Torn, "missed", stats.Missed)
	}
	return err
}

// logReader notes who reads the container's log. The function it returns forgets them. NotFound: the log is being removed.
func (c *container) logReader(r *jsonlog.Reader) (forget func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.logGone {
		return nil, kindf(errdefs.ErrNotFound, "No such container: %s", c.key.ID)
	}
	if c.readers == nil {
		c.readers = map[*jsonlog.Reader]bool{}
	}
	c.readers[r] = true
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.readers, r)
	}, nil
}

// holdLog lets those who read the container's log read it to its end, though its files are about to be removed.
func (c *container) holdLog() error {
	c.mu.Lock()
	readers := slices.Collect(maps.Keys(c.readers))
	c.logGone = true
	c.mu.Unlock()
	var errs []error
	for _, r := range readers {
		errs = append(errs, r.Hold())
	}
	return errors.Join(errs...)
}

// closed is a channel of something that has ended already.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()
