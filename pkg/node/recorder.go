package node

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/death"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

// MaxRecordings bounds what one reading of a flight recorder returns.
const MaxRecordings = 256

// Recorded is what the threads of a container asked of the kernel last.
type Recorded struct {
	Key     triton.ContainerKey
	Name    string
	Threads []triton.Recording // that with the youngest call first, at most MaxRecordings
	More    int                // threads left out, whose last calls are older
}

// Recorder reads the flight recorder of a running container. One that does not run, and a machine that records nothing, are
// errdefs.ErrFailedPrecondition.
func (n *Node) Recorder(ctx context.Context, tenant triton.Tenant, ref string) (Recorded, error) {
	key, name, err := n.runningContainer(ctx, tenant, ref)
	if errdefs.IsFailedPrecondition(err) {
		return Recorded{}, fmt.Errorf("%w; its death record, if it has one, has its last system calls", err)
	}
	if err != nil {
		return Recorded{}, err
	}
	all, err := n.cfg.Probes.Recordings(key)
	if err != nil {
		return Recorded{}, err
	}
	threads, more := youngest(all, MaxRecordings)
	return Recorded{Key: key, Name: name, Threads: threads, More: more}, nil
}

// youngest returns the n recordings with the youngest calls, youngest first, and how many there are beyond.
func youngest(all []triton.Recording, n int) ([]triton.Recording, int) {
	slices.SortStableFunc(all, func(a, b triton.Recording) int { return b.Last().Compare(a.Last()) })
	if len(all) <= n {
		return all, 0
	}
	return all[:n], len(all) - n
}

// lastMinute is what was measured before a run's end.
type lastMinute struct {
	samples []telemetry.Sample
	threads []triton.Recording
	none    error // why there are no threads
}

// lastMinute reads it; call it while the container is still watched. Without a flight recorder there are no threads.
func (n *Node) lastMinute(c *container) lastMinute {
	last := lastMinute{samples: n.cfg.Telemetry.Newest(c.key, deathSeconds)}
	all, err := n.cfg.Probes.Recordings(c.key)
	last.threads, _ = youngest(all, death.MaxThreads)
	last.none = noCalls(err)
	return last
}

// noCalls is why a record has no last system calls, for people.
func noCalls(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("last system calls: %w", err)
}

// LastCalls returns what the threads of a container's process asked of the kernel last; pid is its id in the daemon's
// namespace. The error says why nothing is recorded.
func (n *Node) LastCalls(key triton.ContainerKey, pid int) ([]triton.Recording, error) {
	all, err := n.cfg.Probes.RecordingsOf(key, pid)
	return all, noCalls(err)
}
