package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/tritond/triton/pkg/triton"
)

const (
	// strangerBound is how long the status of a process that is not our child may take to become known: the kernel tells
	// it only after the process was reaped, and not every pid 1 is quick at that.
	strangerBound = 10 * time.Second
	strangerPause = 20 * time.Millisecond
	// adoptBound is how long the dead shim may take to be gone altogether.
	adoptBound = 3 * time.Second
)

// adopt takes over a container whose shim died: its descriptors come from the keeper, its configuration from
// libcontainer's state, the rest from what the dead shim remembered.
func adopt(ctx context.Context, req AdoptRequest, cfg *ServerConfig, enter *enterer) (_ *container, reply AdoptReply, err error) {
	if _, err := checkCreate(&req.Create); err != nil {
		return nil, reply, err
	}
	c := newContainer(req.Create, cfg, enter)
	c.adopted = true
	if err := c.lockRunDir(adoptBound); err != nil {
		return nil, reply, err
	}
	defer func() {
		if err != nil {
			c.lock.Close()
		}
	}()
	if c.lc, err = libcontainer.Load(c.req.RunDir, c.req.Key.ID); err != nil {
		return nil, reply, notFound("adopt: %v", err)
	}
	lcfg := c.lc.Config()
	if c.root.uid, c.root.gid, err = hostRoot(&lcfg); err != nil {
		return nil, reply, err
	}
	m, err := c.recall(req)
	if err != nil {
		return nil, reply, err
	}
	held := c.fetch(ctx)
	defer held.closeRest()

	c.init = newProcess("", c.req.Stdio)
	c.init.oom = m.OOMBase
	reply.LostStdio = !c.takeOver(c.init, held, m.Pid, m.StartTime)
	// The streams are settled: from here on the log may be written.
	if err := c.openLog(); err != nil {
		c.logs.Warn("log of adopted container", "err", err)
	}
	c.resumeState(m)
	c.adoptExecs(m, held)
	for _, p := range c.all() {
		c.follow(ctx, p)
	}
	for _, d := range m.Deadlines {
		if err := c.setDeadline(d); err != nil {
			c.logs.Warn("deadline of adopted container", "exec", d.ID, "err", err)
		}
	}
	if err := c.remember(); err != nil {
		c.logs.Warn("run directory", "err", err)
	}
	reply.Exit = c.endedAlready(ctx)
	return c, reply, nil
}

// recall reads what the dead shim remembered; what the daemon says of the process comes first.
func (c *container) recall(req AdoptRequest) (memory, error) {
	var m memory
	err := readJSON(filepath.Join(c.req.RunDir, memoryFile), &m)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		c.logs.Warn("what the last shim remembered", "err", err)
	}
	if req.Pid != 0 {
		m.Pid, m.StartTime = req.Pid, req.StartTime
	}
	state, err := c.lc.State()
	if err != nil {
		return m, fmt.Errorf("adopt: %w", err)
	}
	if m.Pid == 0 { // the last shim was killed within create
		m.Pid, m.StartTime = state.InitProcessPid, state.InitProcessStartTime
	}
	if m.Pid != state.InitProcessPid || m.StartTime != state.InitProcessStartTime {
		return m, conflict("adopt: process %d started at %d is not the container's, which is %d started at %d",
			m.Pid, m.StartTime, state.InitProcessPid, state.InitProcessStartTime)
	}
	return m, nil
}

// resumeState fills in how far the container's life had come.
func (c *container) resumeState(m memory) {
	status, err := c.lc.Status()
	if err != nil {
		c.logs.Warn("status of adopted container", "err", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = status == libcontainer.Paused
	c.started = m.Started
	if c.started.IsZero() && (status == libcontainer.Running || status == libcontainer.Paused) {
		c.started = time.Now() // killed between start and its note
	}
}

// heldFiles are the keeper's copies, by exec id and name; what is taken from it is the taker's to close.
type heldFiles map[HeldFD]*os.File

func (h heldFiles) take(exec, name string) *os.File {
	f := h[HeldFD{Exec: exec, Name: name}]
	delete(h, HeldFD{Exec: exec, Name: name})
	return f
}

func (h heldFiles) closeRest() {
	for _, f := range h {
		f.Close()
	}
}

// fetch gets what the keeper holds; nothing, where there is no keeper.
func (c *container) fetch(ctx context.Context) heldFiles {
	held := heldFiles{}
	if c.req.Keeper == "" {
		return held
	}
	k, _, err := DialKeeper(ctx, c.req.Keeper, Hello{Protocol: ProtocolVersion})
	if err != nil {
		c.logs.Error("keeper of adopted container", "err", err)
		return held
	}
	defer k.Close()
	files, err := k.Fetch(ctx, FetchRequest{Key: c.req.Key, Run: c.req.Run})
	if err != nil {
		c.logs.Error("keeper of adopted container", "err", err)
	}
	for _, f := range files {
		held[f.HeldFD] = f.File
	}
	return held
}

// takeOver rebuilds p around the descriptors the keeper held; false: its output is lost.
func (c *container) takeOver(p *process, held heldFiles, pid int, start uint64) bool {
	p.pid, p.start = pid, start
	p.pidfd = held.take(p.id, heldPidfd)
	if p.pidfd == nil {
		p.pidfd = c.pidfdOf(pid, start)
	}
	defer p.io.setReady()
	labels := []string{streamStdout, streamStderr}
	if p.io.cfg.TTY {
		labels = []string{heldPTY}
	}
	found := true
	for _, label := range labels {
		s, err := c.reviveHeld(p.id, label, held)
		if err != nil {
			c.logs.Error("output of adopted process", "exec", p.id, "stream", label, "err", err)
		}
		if s == nil {
			found = false
			continue
		}
		p.io.streams = append(p.io.streams, s)
		if p.io.cfg.TTY {
			p.io.pty = s.src
			if p.io.cfg.Stdin {
				p.io.stdin = s.src
			}
		}
	}
	return found
}

// reviveHeld rebuilds one stream; nil: the keeper has none.
func (c *container) reviveHeld(exec, name string, held heldFiles) (*stream, error) {
	label := name
	if name == heldPTY {
		label = streamStdout
	}
	src := held.take(exec, name)
	if src == nil {
		return nil, nil
	}
	inflight, memfd := held.take(exec, label+heldInflight), held.take(exec, label+heldMemory)
	if inflight == nil || memfd == nil {
		return newStream(src, label, false)
	}
	s, err := reviveStream(src, inflight, memfd, label, c.req.LogPath)
	if err == nil {
		return s, nil
	}
	inflight.Close()
	memfd.Close()
	s, again := newStream(src, label, true) // what was under way is lost, what comes is not
	return s, errors.Join(err, again)
}

// pidfdOf opens the process if it is still the one meant; nil: it has ended.
func (c *container) pidfdOf(pid int, start uint64) *os.File {
	pidfd, err := openPidfd(pid)
	if err != nil {
		return nil
	}
	// Checked after the open: the descriptor cannot come to mean another process.
	if now, err := startTime(pid); err != nil || now != start {
		pidfd.Close()
		return nil
	}
	return pidfd
}

// adoptExecs rebuilds the execs that had no exit record yet.
func (c *container) adoptExecs(m memory, held heldFiles) {
	for _, e := range m.Execs {
		p := newProcess(e.ID, e.Stdio)
		p.oom = e.OOMBase
		c.takeOver(p, held, e.Pid, e.StartTime)
		c.mu.Lock()
		c.execs[e.ID] = p
		c.order = append(c.order, e.ID)
		c.mu.Unlock()
	}
}

func (c *container) all() []*process {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := []*process{c.init}
	for _, id := range c.order {
		list = append(list, c.execs[id])
	}
	return list
}

// follow goes on with an adopted process, or finds that its record was written before its shim died, after which
// nothing of it was left to do.
func (c *container) follow(ctx context.Context, p *process) {
	rec, err := readRecord(c.req.ExitDir, p.id)
	if err != nil || rec.Run != c.req.Run {
		rec, err = readRecord(c.req.RunDir, p.id) // where it goes when the data disk is full
	}
	if err == nil && rec.Run == c.req.Run && rec.Pid == p.pid {
		p.setEnd()
		p.setExit(rec)
		p.fan.close()
		return
	}
	w := c.log
	if p.id != "" {
		w = nil
	}
	p.pump(w)
	if err := c.handOver(ctx, p); err != nil {
		c.logs.Warn("adopted process is not held by the keeper", "exec", p.id, "err", err)
	}
	go c.watch(p)
}

// endedAlready returns the record of a container that had ended before it was adopted, waiting until it is complete.
func (c *container) endedAlready(ctx context.Context) *triton.ExitRecord {
	p := c.init
	if p.pidfd != nil && pollPidfd(rawFD(p.pidfd)) == 0 && p.ended() == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, strangerBound+2*drainBound+time.Second)
	defer cancel()
	rec, err := p.wait(ctx)
	if err != nil {
		return nil // its record comes later, to whoever waits
	}
	return &rec
}

// strangerStatus fills in how a process ended that is not our child: by the daemon's pinned exit program, or by the
// kernel once it was reaped, or not at all.
func (c *container) strangerStatus(p *process, rec *triton.ExitRecord) {
	deadline := time.NewTimer(strangerBound)
	defer deadline.Stop()
	tick := time.NewTicker(strangerPause)
	defer tick.Stop()
	for {
		if c.knownStatus(p, rec) {
			return
		}
		if p.pidfd == nil {
			break // nothing more will be told
		}
		select {
		case <-tick.C:
			continue
		case <-deadline.C:
		}
		break
	}
	rec.Code, rec.Source = triton.ExitLostCode, triton.ExitLost
}

func (c *container) knownStatus(p *process, rec *triton.ExitRecord) bool {
	if c.lookup != nil && c.req.ExitMap != "" {
		status, ok, err := c.lookup(c.req.ExitMap, p.pid)
		if err != nil {
			c.logs.Warn("exit map", "err", err)
		}
		if ok && status.Ended {
			rec.Code, rec.Signal = triton.ExitCodeOf(status.WaitStatus)
			rec.Source = triton.ExitByBPF
			if !status.At.IsZero() {
				rec.At = status.At
			}
			return true
		}
	}
	if p.pidfd == nil {
		return false
	}
	ws, ok := exitStatus(p.pidfd)
	if ok {
		rec.Code, rec.Signal = triton.ExitCodeOf(ws)
		rec.Source = triton.ExitByPidfd
	}
	return ok
}
