package profile

import (
	"cmp"
	"context"
	"debug/elf"
	"os"
	"path"
	"slices"

	"github.com/tritond/triton/pkg/backtrace"
	"github.com/tritond/triton/pkg/procfs"
)

// maxRuns bounds how often names are read in files for one profile: once per process that has code nobody had before.
const maxRuns = 64

// naming finds the names of a profile's addresses.
type naming struct {
	c       *Collector
	kernel  map[uint64]string
	failed  []string // why names are missing
	skipped int      // processes
}

func (n *naming) nameKernel() error {
	var pcs []uint64
	for _, t := range n.c.order {
		for _, pc := range t.stack.Kernel {
			if _, ok := n.kernel[pc]; !ok {
				n.kernel[pc] = ""
				pcs = append(pcs, pc)
			}
		}
	}
	if len(pcs) == 0 {
		return nil
	}
	names, err := n.c.cfg.Kernel.Names(pcs, n.c.cfg.Now())
	if err != nil {
		return err
	}
	for i, pc := range pcs {
		n.kernel[pc] = names[i]
	}
	return nil
}

// wanted are the addresses of a process that nobody knows the names of yet.
type wanted struct {
	proc   *proc
	pid    int
	pcs    []uint64
	places []place
	seen   map[uint64]bool
}

// nameProcesses asks for the names of each process's code, those with most first: the others mostly share it.
func (n *naming) nameProcesses(ctx context.Context) error {
	byProc := map[*proc]*wanted{}
	for _, t := range n.c.order {
		if t.proc.gone {
			continue
		}
		w := byProc[t.proc]
		if w == nil {
			w = &wanted{proc: t.proc, pid: t.stack.PID, seen: map[uint64]bool{}}
			byProc[t.proc] = w
		}
		n.want(w, t)
	}
	all := make([]*wanted, 0, len(byProc))
	for _, w := range byProc {
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b *wanted) int { return cmp.Or(cmp.Compare(len(b.pcs), len(a.pcs)), cmp.Compare(a.pid, b.pid)) })
	runs := 0
	for _, w := range all {
		n.forgetKnown(w)
		if len(w.pcs) == 0 {
			continue
		}
		if runs == maxRuns {
			n.skipped++
			continue
		}
		runs++
		if err := n.ask(ctx, w); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			n.failed = append(n.failed, err.Error())
		}
	}
	return nil
}

// want adds a stack's addresses.
func (n *naming) want(w *wanted, t *tally) {
	for i, pc := range t.stack.User {
		at := lookup(pc, i)
		if w.seen[at] {
			continue
		}
		w.seen[at] = true
		if p, ok := n.place(w.proc, at); ok {
			w.pcs, w.places = append(w.pcs, at), append(w.places, p)
		}
	}
}

// place returns where an address is in its file; false: in none that can be read.
func (n *naming) place(p *proc, at uint64) (place, bool) {
	m, ok := p.at(at)
	if !ok || m.Flags&elf.PF_X == 0 {
		return place{}, false
	}
	if m.Path == vdso {
		return place{n.c.cfg.Subject.Key.Tenant, fileID{kernelsOwn: true}, at - m.Start}, true
	}
	f := n.c.files[m.Device+" "+m.Inode]
	if m.Inode == "0" || f == nil || f.f == nil {
		return place{}, false
	}
	return place{n.c.cfg.Subject.Key.Tenant, f.id, at - m.Start + m.Offset}, true
}

const vdso = "[vdso]"

// forgetKnown leaves out what was found meanwhile.
func (n *naming) forgetKnown(w *wanted) {
	pcs, places := w.pcs[:0], w.places[:0]
	for i, p := range w.places {
		if _, ok := n.c.cfg.Names.get(p); !ok {
			pcs, places = append(pcs, w.pcs[i]), append(places, p)
		}
	}
	w.pcs, w.places = pcs, places
}

// ask lets a process's addresses be named, and remembers the answer.
func (n *naming) ask(ctx context.Context, w *wanted) error {
	p := &backtrace.Process{PCs: w.pcs}
	var files []*os.File
	added := map[string]bool{}
	for _, m := range w.proc.maps {
		if m.Path == vdso {
			p.VDSO = m.Start
		}
		key := m.Device + " " + m.Inode
		f := n.c.files[key]
		if m.Inode == "0" || added[key] || f == nil || f.f == nil {
			continue
		}
		added[key] = true
		p.Files = append(p.Files, backtrace.File{Path: m.Path, Ranges: w.proc.ranges(m)})
		files = append(files, f.f)
	}
	mem := w.proc.memory()
	defer mem.close()
	r, err := n.c.cfg.Name(ctx, p, mem, files)
	if err != nil {
		return err
	}
	n.failed = append(n.failed, r.Missing...)
	for i, frames := range r.Names[:min(len(r.Names), len(w.places))] {
		v := named{}
		for _, f := range frames {
			if f.Func != "" {
				v.frames = append(v.frames, f)
			}
			if f.Module >= 0 && f.Module < len(r.Modules) {
				v.buildID = r.Modules[f.Module].BuildID
			}
		}
		n.c.cfg.Names.put(w.places[i], v)
	}
	return nil
}

// user names an address of a process: the frames, what stands for it if there are none, and its place.
func (n *naming) user(p *proc, at uint64) (v named, m procfs.Mapping, where place, stands string) {
	m, ok := p.at(at)
	if !ok || m.Flags&elf.PF_X == 0 {
		return v, m, where, "[unknown]"
	}
	if where, ok = n.place(p, at); ok {
		if v, ok = n.c.cfg.Names.get(where); ok && len(v.frames) > 0 {
			return v, m, where, ""
		}
	}
	switch {
	case m.Path == vdso:
		return v, m, where, vdso
	case m.Inode == "0":
		return v, m, where, "[jit]"
	}
	return v, m, where, "[" + path.Base(m.Path) + "]"
}
