package shim

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// keptExecs bounds the ended execs a shim remembers: a health check each few seconds must not fill its memory, nor the
// exit directory. The oldest is forgotten first, with its record.
const keptExecs = 128

// maxExecs bounds the execs that run or wait for their start at once.
const maxExecs = 4096

// register notes an exec, so that clients can attach before it runs.
func (c *container) register(req ExecRequest) error {
	if req.ID == "" || len(req.ID) > 128 || strings.ContainsAny(req.ID, "/\x00") {
		return invalid("exec id %q", req.ID)
	}
	oci := new(specs.Process)
	if err := json.Unmarshal(req.Process, oci); err != nil {
		return invalid("exec %s: process: %v", req.ID, err)
	}
	if _, err := containerProcess(oci); err != nil {
		return err
	}
	if err := c.running(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.execs[req.ID] != nil {
		return conflict("exec %s exists", req.ID)
	}
	c.forgetExecs()
	if len(c.order) >= maxExecs {
		return conflict("%d execs are running or waiting", len(c.order))
	}
	c.execs[req.ID] = newProcess(req.ID, req.Stdio)
	c.pending[req.ID] = oci
	c.order = append(c.order, req.ID)
	return nil
}

// forgetExecs drops the oldest ended execs above keptExecs. c.mu is held.
func (c *container) forgetExecs() {
	var ended int
	for _, id := range c.order {
		if c.execs[id].ended() != nil {
			ended++
		}
	}
	kept := c.order[:0]
	for _, id := range c.order {
		if ended > keptExecs && c.execs[id].ended() != nil {
			ended--
			delete(c.execs, id)
			os.Remove(filepath.Join(c.req.ExitDir, recordName(id)))
			continue
		}
		kept = append(kept, id)
	}
	c.order = kept
}

// startExec runs a registered exec. When its program cannot be run it is forgotten, and its clients see the end.
func (c *container) startExec(ctx context.Context, id string) (ProcessReply, error) {
	c.steps.Lock()
	defer c.steps.Unlock()
	p, err := c.find(id)
	if err != nil || id == "" {
		return ProcessReply{}, notFound("no such exec: %s", id)
	}
	c.mu.Lock()
	oci := c.pending[id]
	delete(c.pending, id)
	c.mu.Unlock()
	if oci == nil {
		return ProcessReply{}, conflict("exec %s was started already", id)
	}
	if err := c.launchExec(ctx, p, oci); err != nil {
		c.dropExec(id)
		p.io.setReady()
		p.fan.close()
		return ProcessReply{}, err
	}
	return p.who(), nil
}

func (c *container) launchExec(ctx context.Context, p *process, oci *specs.Process) error {
	if err := c.running(); err != nil {
		return err
	}
	if c.isPaused() {
		return conflict("container is paused")
	}
	if err := c.spawnExec(p, oci); err != nil {
		return err
	}
	p.pump(nil)
	go c.watch(p)
	if err := c.handOver(ctx, p); err != nil {
		// The exec runs; without the keeper it would not survive this shim, which is no reason to end it.
		c.logs.Warn("exec is not held by the keeper", "exec", p.id, "err", err)
	}
	return c.remember()
}

func (c *container) dropExec(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.execs, id)
	for i, have := range c.order {
		if have == id {
			c.order = append(c.order[:i], c.order[i+1:]...)
			return
		}
	}
}

// dropPending forgets the execs that can never start, because the container has ended; their clients see the end.
func (c *container) dropPending() {
	c.steps.Lock()
	defer c.steps.Unlock()
	c.mu.Lock()
	var waiting []*process
	for id := range c.pending {
		waiting = append(waiting, c.execs[id])
	}
	clear(c.pending)
	c.mu.Unlock()
	for _, p := range waiting {
		c.dropExec(p.id)
		p.io.setReady()
		p.fan.close()
	}
}
