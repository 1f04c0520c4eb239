package runtime

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/shim/relay"
	"github.com/tritond/triton/pkg/triton"
)

// forwarding are ports of the host that a shim serves, and their sockets, in the same order.
type forwarding struct {
	ports   []shim.ForwardedPort
	sockets []*os.File
}

// Forward has the shim serve ports of the host in user space until the container ends, and leads those that it serves
// already to their new targets. sockets, one for each port, stay the caller's, who keeps them open for as long: another
// shim that adopts the container gets them too.
func (t *Task) Forward(ctx context.Context, ports []shim.ForwardedPort, sockets []*os.File) error {
	f := forwarding{slices.Clone(ports), slices.Clone(sockets)}
	t.mu.Lock()
	t.forward = f
	t.mu.Unlock()
	return t.again(ctx, "forward ports of", func(c Shim) error { return f.send(ctx, c) })
}

// Forwarded tells what became of clients of the ports that a container's shim serves; zero where it serves none. It asks
// nobody.
func (r *Runtime) Forwarded(key triton.ContainerKey) (relay.Stats, error) {
	return shim.ReadForwarded(r.runDir(key.ID))
}

func (f forwarding) send(ctx context.Context, c Shim) error {
	if len(f.ports) != len(f.sockets) {
		return fmt.Errorf("%d ports with %d sockets", len(f.ports), len(f.sockets))
	}
	for at := 0; at < len(f.ports); at += shim.MaxForward {
		end := min(at+shim.MaxForward, len(f.ports))
		if err := c.Forward(ctx, shim.ForwardRequest{Ports: f.ports[at:end]}, f.sockets[at:end]); err != nil {
			return err
		}
	}
	return nil
}
