package shim

import (
	"maps"
	"slices"
	"time"
)

// deadline is a signal to be sent later.
type deadline struct {
	req   DeadlineRequest
	timer *time.Timer
}

// setDeadline arms, replaces or (with a zero time) cancels the signal that a process gets at a given time. It is
// remembered, so that an adopting shim keeps it.
func (c *container) setDeadline(req DeadlineRequest) error {
	p, err := c.find(req.ID)
	if err != nil {
		return err
	}
	if !req.At.IsZero() && (req.Signal <= 0 || req.Signal > 64) {
		return invalid("no signal %d", req.Signal)
	}
	c.cancelDeadline(req.ID)
	if req.At.IsZero() || p.ended() != nil {
		return c.remember()
	}
	c.mu.Lock()
	c.timers[req.ID] = &deadline{req: req, timer: time.AfterFunc(time.Until(req.At), func() {
		err := c.signal(SignalRequest{ExecRef: req.ExecRef, Signal: req.Signal})
		c.logs.Info("deadline reached", "exec", req.ID, "signal", req.Signal, "err", err)
	})}
	c.mu.Unlock()
	return c.remember()
}

func (c *container) cancelDeadline(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.timers[id]; d != nil {
		d.timer.Stop()
		delete(c.timers, id)
	}
}

func (c *container) stopDeadlines() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range slices.Collect(maps.Keys(c.timers)) {
		c.timers[id].timer.Stop()
		delete(c.timers, id)
	}
}
