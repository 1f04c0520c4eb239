package probes

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// mapped is the memory of an array map, shared with the kernel. What is mapped of it counts as resident memory of the
// daemon, touched or not, so that only those parts are that somebody asked for. Safe for use by several goroutines.
type mapped[T any] struct {
	m    *ebpf.Map
	mem  []byte // addresses for all of it
	vals []T

	mu    sync.Mutex
	parts []atomic.Bool // of partSize bytes each: mapped
}

const (
	// partSize is how much is mapped at a time.
	partSize = 256 << 10
	// addresses maps nothing.
	addresses = unix.MAP_PRIVATE | unix.MAP_ANON | unix.MAP_NORESERVE
)

// mapMemory takes addresses for the values of an mmapable array whose value is a T.
func mapMemory[T any](m *ebpf.Map) (*mapped[T], error) {
	var t T
	if m.Flags()&unix.BPF_F_MMAPABLE == 0 || uintptr(m.ValueSize()) != unsafe.Sizeof(t) || m.ValueSize()%8 != 0 {
		return nil, fmt.Errorf("map %s: not an mmapable array of %T", m, t)
	}
	page := unix.Getpagesize()
	size := (int(m.ValueSize()*m.MaxEntries()) + page - 1) / page * page
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_NONE, addresses)
	if err != nil {
		return nil, fmt.Errorf("addresses for the memory of %s: %w", m, err)
	}
	return &mapped[T]{
		m: m, mem: mem, vals: unsafe.Slice((*T)(unsafe.Pointer(&mem[0])), m.MaxEntries()), parts: make([]atomic.Bool, (size+partSize-1)/partSize),
	}, nil
}

// need maps n values from the i-th on.
func (m *mapped[T]) need(i, n int) error {
	size := int(unsafe.Sizeof(m.vals[0]))
	for part := i * size / partSize; part <= ((i+n)*size-1)/partSize; part++ {
		if m.parts[part].Load() {
			continue
		}
		if err := m.mapPart(part); err != nil {
			return fmt.Errorf("map memory of %s: %w", m.m, err)
		}
	}
	return nil
}

// has reports whether the i-th value is mapped.
func (m *mapped[T]) has(i int) bool {
	size := int(unsafe.Sizeof(m.vals[0]))
	return m.parts[i*size/partSize].Load() && m.parts[((i+1)*size-1)/partSize].Load()
}

func (m *mapped[T]) mapPart(part int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.parts[part].Load() {
		return nil
	}
	mem := m.part(part)
	at, size := unsafe.Pointer(&mem[0]), uintptr(len(mem))
	_, err := unix.MmapPtr(m.m.FD(), int64(part)*partSize, at, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED)
	if err != nil {
		return err
	}
	m.parts[part].Store(true)
	return nil
}

// part is the addresses of a part.
func (m *mapped[T]) part(i int) []byte { return m.mem[i*partSize : min((i+1)*partSize, len(m.mem))] }

// at is the i-th value, which the kernel may be changing; a copy of it where it cannot be mapped.
func (m *mapped[T]) at(i int) *T {
	if m.need(i, 1) == nil {
		return &m.vals[i]
	}
	v := new(T)
	if err := m.m.Lookup(uint32(i), unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))); err != nil {
		return new(T) // impossible: an array has all its values
	}
	return v
}

// each calls do with the first n values, one after the other, and maps no more than two parts for it. One caller at a time,
// and nobody calls at meanwhile.
func (m *mapped[T]) each(n int, do func(*T)) error {
	size := int(unsafe.Sizeof(m.vals[0]))
	for i, done := 0, 0; i < min(n, len(m.vals)); i++ {
		do(m.at(i))
		for ; done < (i+1)*size/partSize; done++ {
			if err := m.unmapPart(done); err != nil {
				return fmt.Errorf("unmap memory of %s: %w", m.m, err)
			}
		}
	}
	return nil
}

func (m *mapped[T]) unmapPart(part int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	mem := m.part(part)
	m.parts[part].Store(false)
	_, err := unix.MmapPtr(-1, 0, unsafe.Pointer(&mem[0]), uintptr(len(mem)), unix.PROT_NONE, addresses|unix.MAP_FIXED)
	return err
}

// clear makes the i-th value zero.
func (m *mapped[T]) clear(i int) error {
	if err := m.need(i, 1); err != nil {
		return err
	}
	var zero T
	m.vals[i] = zero
	return nil
}

func (m *mapped[T]) unmap() error {
	if m == nil || m.mem == nil {
		return nil
	}
	mem := m.mem
	m.mem, m.vals = nil, nil
	return unix.Munmap(mem)
}
