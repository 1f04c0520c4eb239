package shim

import (
	"path/filepath"
	"time"
)

// memory is what a shim writes to its run directory, beside the CreateRequest, for the one that may have to adopt its
// container.
type memory struct {
	Pid       int               `json:"pid"`
	StartTime uint64            `json:"startTime"`
	Started   time.Time         `json:"started,omitzero"`
	OOMBase   uint64            `json:"oomBase"`
	Execs     []execMemory      `json:"execs,omitempty"`
	Deadlines []DeadlineRequest `json:"deadlines,omitempty"`
}

type execMemory struct {
	ID        string `json:"id"`
	Stdio     Stdio  `json:"stdio"`
	Pid       int    `json:"pid"`
	StartTime uint64 `json:"startTime"`
	OOMBase   uint64 `json:"oomBase"`
}

// remember writes down what changed. It follows each step that an adopting shim must know of.
func (c *container) remember() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	init := c.init.who()
	m := memory{Pid: init.Pid, StartTime: init.StartTime, Started: c.started, OOMBase: c.init.oom}
	for _, id := range c.order {
		p := c.execs[id]
		if who := p.who(); who.Pid != 0 && p.ended() == nil {
			m.Execs = append(m.Execs, execMemory{
				ID: id, Stdio: p.io.cfg, Pid: who.Pid, StartTime: who.StartTime, OOMBase: p.oom,
			})
		}
	}
	for _, d := range c.timers {
		m.Deadlines = append(m.Deadlines, d.req)
	}
	return writeJSON(filepath.Join(c.req.RunDir, memoryFile), m)
}
