package profile

import (
	"cmp"
	"debug/elf"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tritond/triton/pkg/backtrace"
	"github.com/tritond/triton/pkg/procfs"
)

// procID is a process from one exec to the next.
type procID struct {
	pid   int
	image uint64
}

// proc is what is known of a process.
type proc struct {
	dir  *procfs.Dir // nil: it was gone, or too many are open
	comm string
	maps []procfs.Mapping // of code and of the files that have code, by address
	read time.Time        // when maps was
	gone bool             // it ended, or became another, before its mappings were read
}

// rereadAfter is how old mappings must be to be read again for an address that is in none of them.
const rereadAfter = time.Second

// openProc looks at a process for the first time. within is its container's cgroup.
func openProc(id procID, within string) *proc {
	p := &proc{gone: true}
	dir, err := procfs.Open(id.pid)
	if err != nil {
		return p
	}
	stat, err := dir.Read("stat")
	if err != nil || procfs.StackStart(string(stat)) != id.image || !inCgroup(dir, within) {
		dir.Close()
		return p
	}
	comm, err := dir.Read("comm")
	if err != nil {
		dir.Close()
		return p
	}
	p.dir, p.gone, p.comm = dir, false, strings.TrimSuffix(string(comm), "\n")
	return p
}

// inCgroup reports whether a process is in a cgroup or below: a number that came to another process since the stack was
// taken must show nothing of that one.
func inCgroup(dir *procfs.Dir, path string) bool {
	own := dir.Cgroup()
	return path != "" && (own == path || strings.HasPrefix(own, strings.TrimSuffix(path, "/")+"/"))
}

// readMaps reads the mappings anew, at most most of them.
func (p *proc) readMaps(id procID, now time.Time, most int) {
	p.read = now
	if p.dir == nil {
		return
	}
	text, err := p.dir.Read("maps")
	stat, err2 := p.dir.Read("stat")
	if err != nil || err2 != nil || procfs.StackStart(string(stat)) != id.image {
		return // it ended, or executed another program: what was read before stays
	}
	if maps := codeMaps(string(text), most); len(maps) > 0 {
		p.maps = maps
	}
	p.gone = len(p.maps) == 0
}

// codeMaps picks the mappings of code, and of the files that have code.
func codeMaps(text string, most int) []procfs.Mapping {
	all := procfs.ParseMaps(text, nil)
	code := map[string]bool{}
	for _, m := range all {
		if m.Flags&elf.PF_X != 0 {
			code[m.Device+" "+m.Inode] = true
		}
	}
	all = slices.DeleteFunc(all, func(m procfs.Mapping) bool {
		return m.Flags&elf.PF_X == 0 && (m.Inode == "0" || !code[m.Device+" "+m.Inode])
	})
	all = slices.Clone(all[:min(len(all), most)])
	for i := range all { // not to keep the whole text
		all[i].Device, all[i].Inode, all[i].Path = strings.Clone(all[i].Device), strings.Clone(all[i].Inode), strings.Clone(all[i].Path)
	}
	return all
}

// at returns the mapping of an address.
func (p *proc) at(addr uint64) (procfs.Mapping, bool) {
	i, found := slices.BinarySearchFunc(p.maps, addr, func(m procfs.Mapping, v uint64) int { return cmp.Compare(m.Start, v) })
	if !found {
		i--
	}
	if i < 0 || addr >= p.maps[i].End {
		return procfs.Mapping{}, false
	}
	return p.maps[i], true
}

// ranges are those of a file.
func (p *proc) ranges(file procfs.Mapping) []backtrace.Range {
	var out []backtrace.Range
	for _, m := range p.maps {
		if m.Device == file.Device && m.Inode == file.Inode {
			out = append(out, backtrace.Range{Start: m.Start, End: m.End, Offset: m.Offset, Exec: m.Flags&elf.PF_X != 0})
		}
	}
	return out
}

// memory is that of a process that may live; it is for one goroutine at a time.
type memory struct{ f *os.File }

func (p *proc) memory() memory {
	if p.dir == nil {
		return memory{}
	}
	f, err := p.dir.Open("mem")
	if err != nil {
		return memory{} // it ended
	}
	return memory{f}
}

// Load implements backtrace.Memory.
func (m memory) Load(b []byte, addr uint64) bool {
	if m.f == nil || addr > 1<<62 {
		return false
	}
	n, _ := m.f.ReadAt(b, int64(addr))
	return n == len(b)
}

func (m memory) close() {
	if m.f != nil {
		m.f.Close()
	}
}
