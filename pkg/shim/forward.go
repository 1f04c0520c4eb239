package shim

import (
	"os"
	"time"

	"github.com/tritond/triton/pkg/shim/relay"
)

// forwardPatience is how long clients may take, after the container's end, to be told what it had sent: what is on its way
// in this machine's own memory.
const forwardPatience = time.Second

// forward serves ports of the host.
func (c *container) forward(req ForwardRequest, files []*os.File) error {
	if len(files) != len(req.Ports) || len(files) > MaxForward {
		return invalid("forward: %d descriptors, %d ports", len(files), len(req.Ports))
	}
	ports := make([]relay.Port, len(files))
	for i, p := range req.Ports {
		ports[i] = relay.Port{Proto: p.Proto, Host: p.Host, Target: p.Target, Socket: files[i]}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.forwardOver {
		return conflict("forward: the container has ended")
	}
	if c.relay == nil {
		c.relay = relay.New(c.logs)
	}
	return c.relay.Serve(ports)
}

// endForward ends what forward began.
func (c *container) endForward() {
	c.mu.Lock()
	c.forwardOver = true
	r := c.relay
	c.mu.Unlock()
	if r != nil {
		r.Close(forwardPatience)
	}
}
