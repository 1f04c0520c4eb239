package node

import (
	"context"

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
	stats, err := jsonlog.Read(ctx, c.logPath(), opt, ended, emit)
	if stats != (jsonlog.ReadStats{}) {
		n.log.Warn("log has gaps", "container", c.key, "corrupt", stats.Corrupt, "torn", stats.Torn, "missed", stats.Missed)
	}
	return err
}

// closed is a channel of something that has ended already.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()
