package probes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/containerd/errdefs"
	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/probes/exitmap"
)

// ExitStatus is what the exit program knows of a container's or an exec's first process.
type ExitStatus = exitmap.ExitStatus

// Indexes of the map exit_counts: enum exit_count of bpf/exits.h.
const (
	exitsFull    = uint32(0)
	exitsRefused = uint32(1)
)

// exitProgram is the pinned part: maps and links, each pinned under its own name.
type exitProgram struct {
	dir                            string
	parents, exits, stats, senders *ebpf.Map

	mu    sync.Mutex
	links []link.Link
}

// ExitMapPath is where the map is that exitmap.Lookup reads, for a pin directory.
func ExitMapPath(pinDir string) string { return filepath.Join(pinDir, bpf.ExitsMapExits) }

// openExitProgram takes over the pinned maps and links in dir, and makes those that are missing: the first time, or
// because an earlier daemon died between two pins.
func openExitProgram(dir string, maxExits int) (_ *exitProgram, err error) {
	spec, err := bpf.LoadExits()
	if err != nil {
		return nil, err
	}
	spec.Maps[bpf.ExitsMapExits].MaxEntries = uint32(maxExits)
	spec.Maps[bpf.ExitsMapParents].MaxEntries = uint32(maxExits) // a shim has at least one process to wait for
	for name, m := range spec.Maps {
		m.Pinning = ebpf.PinByName
		if err := keepSize(filepath.Join(dir, name), m); err != nil {
			return nil, err
		}
	}
	x := &exitProgram{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.close())
		}
	}()
	fork, err := x.attach(spec, bpf.ExitsProgExitsFork, []string{bpf.ExitsProgExitsFork})
	if err != nil {
		return nil, err
	}
	exec, err := x.attach(spec, bpf.ExitsProgExitsExec, []string{bpf.ExitsProgExitsExec})
	if err != nil {
		return nil, errors.Join(err, fork.Close())
	}
	exit, err := x.attach(spec, bpf.ExitsProgExitsExit, []string{bpf.ExitsProgExitsExit, bpf.ExitsProgExitsExitOld})
	if err != nil {
		return nil, errors.Join(err, fork.Close(), exec.Close())
	}
	x.links = []link.Link{fork, exec, exit}
	sent, err := x.attach(spec, bpf.ExitsProgExitsSignal, []string{bpf.ExitsProgExitsSignal})
	if err != nil {
		return nil, err
	}
	x.links = append(x.links, sent)
	return x, nil
}

// keepSize lets a map keep the size it was pinned with: what it holds matters more than a new bound.
func keepSize(path string, spec *ebpf.MapSpec) error {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pinned map %s: %w", path, err)
	}
	defer m.Close()
	spec.MaxEntries = m.MaxEntries()
	return nil
}

// attach returns the link pinned as name in x.dir, or attaches the first of programs that the kernel takes and pins
// that. It opens x's maps on the way.
func (x *exitProgram) attach(all *ebpf.CollectionSpec, name string, programs []string) (link.Link, error) {
	var errs []error
	for _, prog := range programs {
		spec := all.Copy()
		for n := range spec.Programs {
			if n != prog {
				delete(spec.Programs, n)
			}
		}
		coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: x.dir}})
		if errors.Is(err, ebpf.ErrMapIncompatible) {
			return nil, fmt.Errorf("pins in %s have another layout: %w: %w", x.dir, errdefs.ErrFailedPrecondition, err)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("load %s: %w", prog, err))
			continue
		}
		defer coll.Close()
		if x.exits == nil {
			x.parents = coll.DetachMap(bpf.ExitsMapParents)
			x.exits = coll.DetachMap(bpf.ExitsMapExits)
			x.stats = coll.DetachMap(bpf.ExitsMapExitCounts)
			x.senders = coll.DetachMap(bpf.ExitsMapSenders)
		}
		return x.attachPinned(filepath.Join(x.dir, name), coll.Programs[prog])
	}
	return nil, errors.Join(errs...)
}

func (x *exitProgram) attachPinned(path string, prog *ebpf.Program) (link.Link, error) {
	old, err := link.LoadPinnedLink(path, nil)
	if err == nil {
		if x.uses(old) {
			return old, nil
		}
		// Its maps are not the pinned ones: somebody removed those. It records where nobody looks.
		if err := errors.Join(old.Unpin(), old.Close()); err != nil {
			return nil, fmt.Errorf("remove stale link %s: %w", path, err)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open pinned link %s: %w", path, err)
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: prog})
	if err != nil {
		return nil, fmt.Errorf("attach %s: %w", filepath.Base(path), err)
	}
	if err := l.Pin(path); err != nil {
		return nil, errors.Join(fmt.Errorf("pin link %s: %w", path, err), l.Close())
	}
	return l, nil
}

// uses reports whether the link's program works on x's exit map.
func (x *exitProgram) uses(l link.Link) bool {
	info, err := l.Info()
	if err != nil {
		return false
	}
	prog, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return false
	}
	defer prog.Close()
	pi, err := prog.Info()
	if err != nil {
		return false
	}
	mi, err := x.exits.Info()
	if err != nil {
		return false
	}
	want, ok := mi.ID()
	ids, _ := pi.MapIDs()
	return ok && slices.Contains(ids, want)
}

// close leaves the pins.
func (x *exitProgram) close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	var errs []error
	for _, l := range x.links {
		errs = append(errs, l.Close())
	}
	x.links = nil
	for _, m := range []*ebpf.Map{x.parents, x.exits, x.stats, x.senders} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

// unpin removes the pins; links first, so that no program is left without its maps.
func (x *exitProgram) unpin() error {
	var errs []error
	for _, name := range []string{
		bpf.ExitsProgExitsFork, bpf.ExitsProgExitsExec, bpf.ExitsProgExitsExit, bpf.ExitsProgExitsSignal,
		bpf.ExitsMapExits, bpf.ExitsMapParents, bpf.ExitsMapExitCounts, bpf.ExitsMapSenders,
	} {
		if err := os.Remove(filepath.Join(x.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("unpin: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (x *exitProgram) count(which uint32) uint64 {
	var n uint64
	if err := x.stats.Lookup(which, &n); err != nil {
		return 0 // closed
	}
	return n
}

// RegisterParent makes the exit program follow the children of a shim. Call it before the shim forks: children born
// earlier are not followed. cgroupID is stored with their status; a shim that waits in the pool may be registered with
// 0 and again when it gets its container.
func (p *Probes) RegisterParent(pid int, cgroupID uint64) error {
	if pid < 1 {
		return fmt.Errorf("register parent %d: %w", pid, errdefs.ErrInvalidArgument)
	}
	if err := p.exits.parents.Put(uint32(pid), cgroupID); err != nil {
		return fmt.Errorf("register parent %d: %w", pid, err)
	}
	return nil
}

// Exit returns what is known of pid. False: nothing; it was not the first process of a container or exec, was
// forgotten, or the map was full at its birth (see Drops).
func (p *Probes) Exit(pid int) (ExitStatus, bool, error) { return exitmap.Get(p.exits.exits, pid) }

// Sender is who last sent the first process of a container or an exec a signal that is to end it: SIGHUP, SIGINT, SIGQUIT,
// SIGABRT, SIGKILL or SIGTERM. No signal comes after SIGKILL.
type Sender struct {
	At       time.Time
	Signal   int
	Kernel   bool   // the kernel itself sent it, while Pid ran
	Pid      int    // in the host's pid namespace
	UID      int    // in the host's user namespace
	CgroupID uint64 // cgroup2
	Comm     string // at most 15 bytes
}

// Sender returns who sent pid its last such signal. False: nobody, or the entry was pushed out by younger ones.
func (p *Probes) Sender(pid int) (Sender, bool, error) {
	var s bpf.ExitsSender
	if err := p.exits.senders.Lookup(uint32(pid), &s); err != nil {
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return Sender{}, false, nil
		}
		return Sender{}, false, fmt.Errorf("look up who signalled %d: %w", pid, err)
	}
	const siKernel = 0x80
	return Sender{
		At: bootTime().Add(time.Duration(s.AtNs)), Signal: int(s.Signal), Kernel: s.Code == siKernel, Pid: int(s.Pid), UID: int(s.Uid),
		CgroupID: s.CgroupId, Comm: text(s.Comm),
	}, true, nil
}

// ForgetExit deletes the entry of pid, once its status is stored elsewhere. No entry is no error.
func (p *Probes) ForgetExit(pid int) error {
	if err := p.exits.exits.Delete(uint32(pid)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget exit of %d: %w", pid, err)
	}
	return nil
}

// ForgetParent stops following the children of pid and deletes all their entries. Not registered is no error.
func (p *Probes) ForgetParent(pid int) error {
	if err := p.exits.parents.Delete(uint32(pid)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget parent %d: %w", pid, err)
	}
	var child uint32
	var rec bpf.ExitsExitRecord
	var children []uint32
	entries := p.exits.exits.Iterate()
	for entries.Next(&child, &rec) {
		if rec.Parent == uint32(pid) {
			children = append(children, child)
		}
	}
	errs := []error{}
	if err := entries.Err(); err != nil {
		errs = append(errs, fmt.Errorf("list children of %d: %w", pid, err))
	}
	for _, c := range children {
		errs = append(errs, p.ForgetExit(int(c)))
	}
	return errors.Join(errs...)
}

// text is a name as the kernel keeps it: ended by a zero byte, of any bytes.
func text(b [16]int8) string {
	var out []byte
	for _, c := range b {
		if c == 0 {
			break
		}
		out = append(out, byte(c))
	}
	return strings.ToValidUTF8(string(out), "�")
}
