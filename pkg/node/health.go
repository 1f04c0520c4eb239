package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/runtime"
	"github.com/tritond/triton/pkg/triton"
)

// healthFile is the node's note of what a container's probes found, so that the next daemon goes on from there.
const healthFile = "health.json"

const (
	// maxProbeOutput is how much of a probe's output is kept, as in docker.
	maxProbeOutput = 4096
	// probePatience is how long a probe may take to be started, or a killed one to be gone.
	probePatience = 30 * time.Second
	// probeEase is how many times as long as the node took to start a probe the next one waits at least: that work is outside of the
	// container's limits, and an interval may be a millisecond. So a container's probes take a fifth of a processor at most.
	probeEase = 4
	// mostEase is how long that may be: on a machine where a start takes seconds, an interval of a second or more is kept.
	mostEase = time.Second
	// probeRest is how long output may come after the end of a probe, from processes that it left.
	probeRest = 2 * time.Second
)

// watchHealth begins a run's probes. fresh: the run is new; otherwise what an earlier daemon found counts.
func (n *Node) watchHealth(c *container, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	check := c.rec.Spec.Healthcheck
	if !c.running() || check.Command(c.rec.Spec.Shell) == nil {
		return
	}
	last := c.state.StartedAt
	if fresh || c.health == nil {
		h := &triton.Health{Status: triton.HealthStarting}
		if c.health != nil {
			h.Log = c.health.Log
		}
		c.health = h
	} else if log := c.health.Log; len(log) > 0 && log[len(log)-1].End.After(last) {
		last = log[len(log)-1].End
	}
	n.agenda.cancel(c.probe)
	c.probe = n.agenda.at(last.Add(check.Wait(c.health.Status, last.Sub(c.state.StartedAt))), func(p *appointment) { n.probeDue(c, p) })
}

// endHealth ends a run's probes. A container that is not probed counts as unhealthy, as in docker. The caller holds c.mu.
func (n *Node) endHealth(c *container) {
	n.agenda.cancel(c.probe)
	c.probe = nil
	if c.health != nil {
		h := *c.health
		h.Status = triton.HealthUnhealthy
		c.health = &h
	}
}

// readHealth takes up what an earlier daemon knew.
func (n *Node) readHealth(c *container) {
	var h *triton.Health
	if err := readNote(filepath.Join(c.dataDir, healthFile), &h); err != nil {
		n.log.Error("health of a container unreadable", "container", c.key, "err", err)
		return
	}
	c.mu.Lock()
	c.health = h
	c.mu.Unlock()
}

// probeDue runs a probe and takes in its result.
func (n *Node) probeDue(c *container, p *appointment) {
	c.mu.Lock()
	mine, paused, run, spec := c.probe == p, c.state.Status == triton.StatusPaused, c.state.Run, c.rec.Spec
	c.mu.Unlock()
	if !mine {
		return // the run has ended
	}
	check := spec.Healthcheck
	var prepared time.Duration
	if !paused {
		probe := triton.Probe{Start: n.cfg.Now().UTC(), ExitCode: -1}
		code, output, begun, err := n.probeOnce(c, check.Command(spec.Shell), check.ProbeTimeout())
		if begun.IsZero() { // it could not be started
			begun = n.cfg.Now()
		}
		prepared = begun.Sub(probe.Start)
		if n.ctx.Err() != nil {
			return
		}
		if probe.ExitCode, probe.Output = code, output; err != nil {
			probe.ExitCode, probe.Output = -1, err.Error()
		}
		probe.End = n.cfg.Now().UTC()
		n.probed(c, p, run, probe)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.probe != p {
		return
	}
	now := n.cfg.Now()
	c.probe = n.agenda.at(now.Add(probePause(check.Wait(c.health.Status, now.Sub(c.state.StartedAt)), prepared)), p.do)
}

// probePause is how long to wait for the next probe, of which docker would have it after wait, when so long was taken to start the last.
func probePause(wait, prepared time.Duration) time.Duration {
	return max(wait, min(probeEase*prepared, mostEase))
}

// probed takes a probe into the health of the run that it was for.
func (n *Node) probed(c *container, p *appointment, run int, probe triton.Probe) {
	c.mu.Lock()
	if c.probe != p || c.state.Run != run {
		c.mu.Unlock()
		return
	}
	before := c.health.Status
	c.health = c.health.After(c.rec.Spec.Healthcheck, probe, probe.Start.Sub(c.state.StartedAt))
	h := c.health
	c.mu.Unlock()
	if err := writeNote(filepath.Join(c.dataDir, healthFile), h); err != nil {
		n.log.Error("health not written", "container", c.key, "err", err)
	}
	if h.Status != before {
		n.changed()
		n.publish(c.event("health_status: "+h.Status, probe.End, nil))
	}
}

// probeOnce runs a command in the container as docker exec does, with the container's user, directory and environment. The
// shim ends it after the timeout, be this daemon alive or not. begun is when it was started; zero: it was not.
func (n *Node) probeOnce(c *container, argv []string, timeout time.Duration) (code int, output string, begun time.Time, err error) {
	ctx, cancel := context.WithTimeout(n.ctx, timeout+2*probePatience)
	defer cancel()
	id, err := n.CreateExec(ctx, c.key, triton.ExecSpec{Argv: argv, Stdout: true, Stderr: true})
	if err != nil {
		return -1, "", begun, err
	}
	defer c.forgetExec(id) // 256 places are for those that a user asks for
	_, e, task, err := n.claimExec(ctx, triton.ExecKey{Container: c.key, ID: id}, [2]uint{})
	if err != nil {
		return -1, "", begun, reasonOf(err)
	}
	var out probeOutput
	finish, err := copyProbe(ctx, task, id, &out)
	if err != nil {
		return -1, "", begun, err
	}
	defer finish()
	if err := n.runExec(ctx, c, e, task); err != nil {
		return -1, "", begun, err
	}
	begun = n.cfg.Now()
	if err := task.Deadline(ctx, id, int(unix.SIGKILL), begun.Add(timeout)); err != nil {
		select {
		case <-e.ended: // faster than the deadline was set
		default:
			return -1, "", begun, errors.Join(err, task.Signal(ctx, id, int(unix.SIGKILL), false))
		}
	}
	select {
	case <-e.ended:
	case <-ctx.Done():
		return -1, "", begun, fmt.Errorf("health check did not end: %w", ctx.Err())
	}
	took := n.cfg.Now().Sub(begun)
	finish()
	e.mu.Lock()
	code = *e.code
	e.mu.Unlock()
	if took < timeout || code != 128+int(unix.SIGKILL) {
		return code, out.String(), begun, nil
	}
	msg := fmt.Sprintf("Health check exceeded timeout (%v)", timeout)
	if text := out.String(); text != "" {
		msg += ": " + text
	}
	return -1, msg, begun, nil
}

// copyProbe collects the output of an exec that is not started yet. The function it returns waits for what comes shortly
// after the end, and ends the copying; it may be called again.
func copyProbe(ctx context.Context, task *runtime.Task, id string, out io.Writer) (finish func(), err error) {
	stream, err := task.Attach(ctx, id, triton.AttachOptions{Stdout: true, Stderr: true})
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = stdcopy.StdCopy(out, out, stream.Output) // what was copied counts, however it ended
	}()
	return sync.OnceFunc(func() {
		select {
		case <-done:
		case <-time.After(probeRest):
		}
		stream.Close()
		<-done
	}), nil
}

// forgetExec forgets an exec that nobody will ask for.
func (c *container) forgetExec(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.execs, id)
}

// probeOutput keeps the first maxProbeOutput bytes written to it.
type probeOutput struct {
	mu        sync.Mutex
	kept      []byte
	truncated bool
}

// Write takes all and keeps what fits.
func (o *probeOutput) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	fit := min(len(b), maxProbeOutput-len(o.kept))
	o.kept = append(o.kept, b[:fit]...)
	o.truncated = o.truncated || fit < len(b)
	return len(b), nil
}

// String is what was kept, with docker's mark where something was not.
func (o *probeOutput) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.truncated {
		return string(o.kept) + "..."
	}
	return string(o.kept)
}
