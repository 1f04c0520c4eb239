package profile

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"time"

	"github.com/tritond/triton/pkg/procfs"
	"github.com/tritond/triton/pkg/triton"
)

// Bounds of a profile.
const (
	maxStacks    = 16 << 10 // different ones
	maxProcesses = 4096
	maxDirs      = 256 // open at a time
	maxFiles     = 256
	maxMappings  = 64 << 10 // of all processes
	maxRereads   = 64       // of mappings, each time that stacks are added
)

// Subject is the container that a profile is of.
type Subject struct {
	Key        triton.ContainerKey
	Name       string
	Image      string
	CgroupPath string // in cgroup2
}

// Config is what a profile needs.
type Config struct {
	Subject Subject
	Kind    triton.StackKind
	Name    Namer
	Names   *Names
	Kernel  *Kernel
	Now     func() time.Time
}

// Collector makes one profile: add stacks soon after they were taken, then finish. It is for one goroutine.
type Collector struct {
	cfg      Config
	start    time.Time
	end      time.Time // zero: goes on
	tallies  map[string]*tally
	order    []*tally
	procs    map[procID]*proc
	dirs     int
	mappings int
	files    map[string]*file // by device and inode as mappings have them
	loss     triton.StackLoss
}

// tally is a stack of a process.
type tally struct {
	stack triton.Stack
	proc  *proc
}

// file is one that code lies in; f is nil if it could not be opened.
type file struct {
	f    *os.File
	id   fileID
	path string
}

// NewCollector begins a profile.
func NewCollector(cfg Config) *Collector {
	return &Collector{
		cfg: cfg, start: cfg.Now(), tallies: map[string]*tally{}, procs: map[procID]*proc{}, files: map[string]*file{},
	}
}

// Add adds stacks, looks at processes that are new, and opens the files that they have code of.
func (c *Collector) Add(stacks []triton.Stack, loss triton.StackLoss) {
	c.loss.Add(loss)
	rereads := 0
	var key []byte
	for _, s := range stacks {
		key = stackKey(key[:0], s)
		t := c.tallies[string(key)]
		if t == nil {
			if len(c.order) == maxStacks {
				c.loss.Counts += s.Count
				continue
			}
			t = &tally{stack: s, proc: c.process(procID{s.PID, s.Image})}
			c.tallies[string(key)] = t
			c.order = append(c.order, t)
			c.open(t, &rereads)
			continue
		}
		t.stack.Count += s.Count
		t.stack.Time += s.Time
	}
}

// stackKey is the same for the same stacks of the same process.
func stackKey(b []byte, s triton.Stack) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(le.AppendUint64(b, uint64(s.PID)), s.Image)
	b = le.AppendUint64(b, uint64(len(s.User)))
	for _, pcs := range [][]uint64{s.User, s.Kernel} {
		for _, pc := range pcs {
			b = le.AppendUint64(b, pc)
		}
	}
	return b
}

// process returns what is known of a process, and looks at it when it is new.
func (c *Collector) process(id procID) *proc {
	if p := c.procs[id]; p != nil {
		return p
	}
	if len(c.procs) == maxProcesses {
		return &proc{gone: true}
	}
	p := openProc(id, c.cfg.Subject.CgroupPath)
	c.procs[id] = p
	if p.dir == nil {
		return p
	}
	c.readMaps(p, id)
	if c.dirs++; c.dirs > maxDirs {
		c.closeDir(p)
	}
	return p
}

func (c *Collector) closeDir(p *proc) {
	if p.dir != nil {
		p.dir.Close()
		p.dir = nil
		c.dirs--
	}
}

func (c *Collector) readMaps(p *proc, id procID) {
	c.mappings -= len(p.maps)
	p.readMaps(id, c.cfg.Now(), maxMappings-c.mappings)
	c.mappings += len(p.maps)
}

// open opens the files of a stack's code. Addresses in no mapping may be of code that was mapped since.
func (c *Collector) open(t *tally, rereads *int) {
	for i, pc := range t.stack.User {
		at := lookup(pc, i)
		m, ok := t.proc.at(at)
		if !ok && t.proc.dir != nil && *rereads < maxRereads && c.cfg.Now().Sub(t.proc.read) >= rereadAfter {
			*rereads++
			c.readMaps(t.proc, procID{t.stack.PID, t.stack.Image})
			m, ok = t.proc.at(at)
		}
		if ok && m.Inode != "0" && m.Flags&elf.PF_X != 0 {
			c.file(t.proc, m)
		}
	}
}

// file opens the file of a mapping, once.
func (c *Collector) file(p *proc, m procfs.Mapping) *file {
	key := m.Device + " " + m.Inode
	if f := c.files[key]; f != nil {
		return f
	}
	f := &file{path: m.Path, id: fileID{unavailable: true}}
	if len(c.files) < maxFiles && p.dir != nil {
		if opened, err := p.dir.Mapped(m.Start, m.End); err == nil {
			f.f = opened
			if f.id, err = idOf(opened); err != nil {
				f.id = fileID{unavailable: true}
			}
		}
		c.files[key] = f
	}
	return f
}

// lookup is the address to look for: of the innermost frame its own, of others one in the call.
func lookup(pc uint64, depth int) uint64 {
	if depth == 0 {
		return pc
	}
	return pc - 1
}

// Close gives up what is open. Idempotent; Finish needs what it closes.
func (c *Collector) Close() error {
	var errs []error
	for _, p := range c.procs {
		c.closeDir(p)
	}
	for _, f := range c.files {
		if f.f != nil {
			errs = append(errs, f.f.Close())
			f.f = nil
		}
	}
	return errors.Join(errs...)
}

// Finish names the stacks and returns the profile. cpu is the time on CPUs that the kernel counted for the container
// meanwhile, 0: not known.
func (c *Collector) Finish(ctx context.Context, cpu time.Duration) (*Profile, error) {
	n := &naming{c: c, kernel: map[uint64]string{}}
	if err := n.nameKernel(); err != nil {
		return nil, err
	}
	if err := n.nameProcesses(ctx); err != nil {
		return nil, err
	}
	return c.build(n, cpu)
}
