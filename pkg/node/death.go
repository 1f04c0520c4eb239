package node

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/death"
	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

const (
	// deathLogLines is how much of a container's output a death record has.
	deathLogLines = 200
	// panicLogLines is how much of it is searched for a Go panic: a thousand goroutines of ten lines.
	panicLogLines = 10_000
	// panicLogBytes bounds what is held of that.
	panicLogBytes = 4 << 20
	// deathSeconds is how much telemetry it has, a sample a second.
	deathSeconds = 60
	// goPanicCode is what the Go runtime exits with after a panic.
	goPanicCode = 2
)

// recordDeath keeps the record of an end that is abnormal: with a code that is not 0, and not of a container that is being
// removed by force. nil: it is not. It is written before the state is, so that a daemon that dies in between finds the end
// again at its start and records it again, under the same id. last is the telemetry before the end. Call it before the
// state tells of the end, and before the control group is removed.
func (n *Node) recordDeath(ctx context.Context, c *container, exit triton.ExitRecord, last lastMinute) *death.Record {
	c.mu.Lock()
	s, spec := c.state, c.rec.Spec
	r := &death.Record{
		ID: death.ID(c.key, exit.Run), Container: c.key, Name: c.rec.Name, Image: spec.Image, ImageID: spec.ImageID, Run: exit.Run,
		Restarts: s.Restarts, Started: s.StartedAt, At: exit.At, Code: exit.Code, OOMKilled: exit.OOMKilled, Source: exit.Source,
		Limits: spec.Resources, Core: s.Core, Memory: death.Memory{Victims: slices.Clone(c.victims)},
	}
	ordered, forced := s.ByHand || c.lastRun, c.forced
	c.mu.Unlock()
	if exit.Code == 0 || forced {
		return nil
	}
	if exit.Signal != 0 {
		r.Signal = signalName(exit.Signal)
	}
	missing := func(err error) {
		if err != nil {
			r.Missing = append(r.Missing, err.Error())
		}
	}
	usage, _, err := n.cfg.Cgroups.DetailedUsage(n.cgroupPath(c.key))
	missing(err)
	r.Memory.Limit = cmp.Or(uint64(max(0, spec.Resources.Memory)), usage.MemoryLimit)
	r.Memory.Peak, r.Memory.Kills = usage.MemoryPeak, usage.OOMKills
	if exit.OOMKilled || usage.OOMKills > 0 {
		r.Memory.OOM, err = n.oomPicture(c, r.Started)
		missing(err)
	}
	r.Threads = last.threads
	missing(last.none)
	for _, sample := range last.samples {
		r.Telemetry = append(r.Telemetry, sampleInShort(sample))
	}
	r.Sender, err = n.sender(exit, &s, ordered)
	missing(err)
	missing(n.readLastWords(ctx, r))
	r.Explain()
	if err := n.cfg.Deaths.Put(r); err != nil {
		n.log.Error("death record not kept", "container", c.key, "reason", r.Reason, "err", err)
	}
	n.nameCore(c, r)
	n.countDeath(c, r)
	return r
}

// nameCore adds to a record what became known of its core dump while the record was made.
func (n *Node) nameCore(c *container, r *death.Record) {
	c.mu.Lock()
	now := c.state.Core
	c.mu.Unlock()
	if r.Core == nil || now == nil || now.ID != r.Core.ID || now.Group == r.Core.Group {
		return
	}
	r.Core = now
	if err := n.cfg.Deaths.Complete(r); err != nil {
		n.log.Error("death record not completed", "container", c.key, "err", err)
	}
}

// sender returns who sent the first process of a run its last signal, if that ended it or may have made it end itself.
func (n *Node) sender(exit triton.ExitRecord, s *triton.State, ordered bool) (*death.Sender, error) {
	by, ok, err := n.cfg.Probes.Sender(exit.Pid)
	if err != nil || !ok || exit.Pid == 0 || by.At.Before(s.StartedAt) || exit.Signal != 0 && by.Signal != exit.Signal {
		return nil, err
	}
	return senderOf(by, s.CgroupID, ordered), nil
}

// shimComm is the name of the processes that send signals for clients.
const shimComm = "triton-shim"

func senderOf(by probes.Sender, container uint64, ordered bool) *death.Sender {
	return &death.Sender{
		Signal: signalName(by.Signal), At: by.At.UTC(), Kernel: by.Kernel, Inside: container != 0 && by.CgroupID == container,
		Ordered: ordered && by.Comm == shimComm, Pid: by.Pid, UID: by.UID, Comm: by.Comm,
	}
}

func signalName(number int) string { return unix.SignalName(unix.Signal(number)) }

// readLastWords reads the end of the log, and in it what a Go program says as it panics.
func (n *Node) readLastWords(ctx context.Context, r *death.Record) error {
	type line struct{ stream, text string }
	var lines []line
	var bytes int
	err := n.ContainerLogs(ctx, r.Container, triton.LogOptions{Stdout: true, Stderr: true, Tail: panicLogLines}, func(l triton.LogRecord) error {
		text := strings.ToValidUTF8(strings.TrimSuffix(string(l.Line), "\n"), "�")
		lines = append(lines, line{l.Stream, text})
		for bytes += len(text); bytes > panicLogBytes && len(lines) > 1; lines = lines[1:] {
			bytes -= len(lines[0].text)
		}
		return nil
	})
	if r.Code == goPanicCode || r.Signal != "" {
		var words []string
		for _, l := range lines {
			words = append(words, l.text)
		}
		r.Panic = death.ParsePanic(words)
	}
	for _, l := range lines[max(0, len(lines)-deathLogLines):] {
		r.Log = append(r.Log, l.stream+": "+l.text)
	}
	return err
}

func sampleInShort(s telemetry.Sample) triton.Sample {
	return triton.Sample{
		At: s.Time.UTC(), CPU: s.Usage.CPUTotal, RunQueue: time.Duration(s.RunQueueNs), Memory: s.Usage.MemoryWorkingSet, Pids: s.Usage.Pids,
		Syscalls: s.Syscalls, Errors: s.SyscallErrors, RxBytes: s.Network.RxBytes, TxBytes: s.Network.TxBytes,
		ReadBytes: s.Block.ReadBytes, WriteBytes: s.Block.WriteBytes,
	}
}

// Attributes that a die event has beyond docker's, of an end that is abnormal.
const (
	attrDeath  = "triton.death"
	attrReason = "triton.reason"
)

// dieEvent is the event of an end; d is its record, nil where there is none.
func (c *container) dieEvent(exit triton.ExitRecord, started time.Time, d *death.Record) triton.Event {
	a := dieAttributes(exit, started)
	if d != nil {
		a[attrDeath], a[attrReason] = d.ID, d.Reason
		if d.Signal != "" {
			a["signal"] = d.Signal
		}
	}
	return c.event("die", exit.At, a)
}

// stateError is what State.Error says of a death: what docker has no word for. Of an end that a client asked for, and of a
// program that ended itself, docker says nothing there and clients take a text for a failure of the engine.
func stateError(d *death.Record) string {
	if d == nil || d.Kind != death.KindOOM && d.Kind != death.KindSignal && d.Core == nil || d.Sender != nil && d.Sender.Ordered {
		return ""
	}
	return d.Reason
}
