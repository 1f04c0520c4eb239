package shim

import (
	"os"
	"path/filepath"
	"time"

	"github.com/tritond/triton/pkg/shim/relay"
)

// forwardPatience is how long clients may take, after the container's end, to be told what it had sent: what is on its way
// in this machine's own memory.
const forwardPatience = time.Second

// ReadForwarded reads what became of clients of the ports that the shim of a run directory serves; zero where it serves none.
// It does not ask the shim.
func ReadForwarded(runDir string) (relay.Stats, error) {
	return relay.ReadStats(filepath.Join(runDir, forwardFile))
}

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
		c.relay = relay.New(c.logs, filepath.Join(c.req.RunDir, forwardFile))
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
