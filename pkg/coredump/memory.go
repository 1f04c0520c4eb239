package coredump

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/procfs"
)

// errGone says that the process ended while its memory was read.
var errGone = errors.New("the process is gone")

// memory reads a held process. Its descriptors come from one directory of the process that was verified by the pidfd, so
// that they never mean another process, whatever becomes of the pid.
type memory struct {
	peer    *peer
	mem     *os.File
	pagemap *os.File
	// hidden is the text of the environment, which is never stored: it reads as zeroes.
	hidden Run
	// What the kernel writes into while it looks through the page map: on the heap, where it stays.
	scan   scanArgs
	region struct{ start, end, categories uint64 }
}

func openMemory(p *peer, proc *procDir) (*memory, error) {
	mem, err := proc.Open("mem")
	if err != nil {
		return nil, err
	}
	pagemap, err := proc.Open("pagemap")
	if err != nil {
		mem.Close()
		return nil, err
	}
	m := &memory{peer: p, mem: mem, pagemap: pagemap}
	if m.hidden, err = proc.environment(); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *memory) close() {
	m.mem.Close()
	m.pagemap.Close()
}

// read fills b from addr; pages that cannot be read are zero. errGone: the process ended, and b is worth nothing.
func (m *memory) read(b []byte, addr uint64) error {
	for done := 0; done < len(b); {
		n, err := m.mem.ReadAt(b[done:], int64(addr)+int64(done))
		done += n
		if err == nil && n > 0 || done == len(b) {
			continue
		}
		// The kernel reads nothing, and calls that no error, of one whose memory is being taken apart: that begins before
		// the pidfd tells of the end, and takes long where there is much.
		if err == io.EOF || m.peer.gone() {
			return errGone
		}
		next := min(len(b), done+int(pageSize-(addr+uint64(done))%pageSize))
		clear(b[done:next])
		done = next
	}
	return m.whole(b, addr)
}

// whole is what follows the reading of b from addr: errGone if the process ended meanwhile; nobody sees what is hidden.
func (m *memory) whole(b []byte, addr uint64) error {
	if m.peer.gone() {
		return errGone
	}
	if from, to := max(addr, m.hidden.Start), min(addr+uint64(len(b)), m.hidden.End); from < to {
		clear(b[from-addr : to-addr])
	}
	return nil
}

// pages says which pages of a window have contents of their own.
type pages struct {
	have []bool
	raw  []byte // of pagemap
	to   []unix.Iovec
	from []unix.RemoteIovec
}

// all makes it n pages that all have.
func (p *pages) all(n int) {
	p.have = append(p.have[:0], make([]bool, n)...)
	for i := range p.have {
		p.have[i] = true
	}
}

// runs lists the stretches of pages that all have contents, or that all have none, in order.
func (p *pages) runs(yield func(from, to int) bool) {
	for i := 0; i < len(p.have); {
		j := i
		for j < len(p.have) && p.have[j] == p.have[i] {
			j++
		}
		if !yield(i, j) {
			return
		}
		i = j
	}
}

// present marks which pages from addr are in memory or swapped out, or not told.
func (m *memory) present(addr uint64, p *pages) error {
	n := 8 * len(p.have)
	p.raw = slices.Grow(p.raw[:0], n)[:n]
	if _, err := m.pagemap.ReadAt(p.raw, int64(addr/pageSize*8)); err != nil {
		if m.peer.gone() {
			return errGone
		}
		return nil // the page of vsyscall is in no page map: what cannot be told is read
	}
	for i := range p.have {
		p.have[i] = binary.NativeEndian.Uint64(p.raw[8*i:])>>62 != 0 // bit 63: present, 62: swapped
	}
	return nil
}

// readPages is read of those pages from addr that p has; the others are zero. It may be called by several goroutines.
func (m *memory) readPages(b []byte, addr uint64, p *pages) error {
	p.to, p.from = p.to[:0], p.from[:0]
	want := 0
	for i, j := range p.runs {
		part := b[i*pageSize : j*pageSize]
		if !p.have[i] {
			clear(part)
			continue
		}
		p.to = append(p.to, unix.Iovec{Base: &part[0], Len: uint64(len(part))})
		p.from = append(p.from, unix.RemoteIovec{Base: uintptr(addr) + uintptr(i*pageSize), Len: len(part)})
		want += len(part)
	}
	// It copies once where /proc/PID/mem copies twice. That the number is still the process's is what whole tells after it.
	if n, err := unix.ProcessVMReadv(m.peer.pid, p.to, p.from, 0); err == nil && n == want {
		return m.whole(b, addr)
	}
	for i, j := range p.runs { // some page cannot be read so
		if !p.have[i] {
			continue
		}
		if err := m.read(b[i*pageSize:j*pageSize], addr+uint64(i*pageSize)); err != nil {
			return err
		}
	}
	return nil
}

// What PAGEMAP_SCAN takes (include/uapi/linux/fs.h, Linux 6.7).
const (
	pagemapScan   = 3<<30 | uint(unsafe.Sizeof(scanArgs{}))<<16 | 'f'<<8 | 16
	pageIsPresent = 1 << 3
	pageIsSwapped = 1 << 4
)

// scanArgs is struct pm_scan_arg.
type scanArgs struct {
	size, flags, start, end, walkEnd, vec, vecLen, maxPages         uint64
	categoryInverted, categoryMask, categoryAnyofMask, categoryBack uint64
}

// absent returns up to where from an address to another nothing is in memory or swapped out; from, where it cannot be
// told. It is quick where present takes an hour: it walks over the page tables that there are.
func (m *memory) absent(from, to uint64) uint64 {
	m.scan = scanArgs{
		start: from, end: to, vec: uint64(uintptr(unsafe.Pointer(&m.region))), vecLen: 1, maxPages: 1,
		categoryAnyofMask: pageIsPresent | pageIsSwapped, categoryBack: pageIsPresent,
	}
	m.scan.size = uint64(unsafe.Sizeof(m.scan))
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, m.pagemap.Fd(), uintptr(pagemapScan), uintptr(unsafe.Pointer(&m.scan)))
	runtime.KeepAlive(m)
	switch {
	case errno != 0:
		return from
	case n == 0:
		return to
	}
	return min(max(m.region.start, from), to)
}

// procDir is /proc/PID of a process that is known to live.
type procDir struct{ *procfs.Dir }

// openProc opens the directory of p and makes sure that it is p's.
func openProc(p *peer) (*procDir, error) {
	d, err := procfs.Open(p.pid)
	if err != nil {
		return nil, err
	}
	if p.gone() {
		d.Close()
		return nil, errGone
	}
	return &procDir{d}, nil
}

func (d *procDir) close() { d.Close() }
