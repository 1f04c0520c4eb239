package exitmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// RecordSize is the size in bytes of a value of the exit map: struct exit_record of bpf/exits.h.
const RecordSize = 32

// ExitStatus is what the exit program knows of a container's or an exec's first process.
type ExitStatus struct {
	// Ended is false while the process runs; then only CgroupID, Parent and Stage are set.
	Ended      bool
	WaitStatus uint32    // as wait4 gives it; see triton.ExitCodeOf
	At         time.Time // when the last thread ended
	CgroupID   uint64    // as registered for the parent
	Parent     int       // pid of the shim that was to reap it
	Stage      int       // 0 and 1: a helper of runc; 2: the program itself
}

// Lookup reads the entry of pid (in the host's pid namespace) from the map pinned at path. False: the map has no such
// entry. A path that does not exist is an error that matches os.ErrNotExist.
func Lookup(path string, pid int) (ExitStatus, bool, error) {
	m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return ExitStatus{}, false, fmt.Errorf("open exit map %s: %w", path, err)
	}
	defer m.Close()
	if m.Type() != ebpf.Hash || m.KeySize() != 4 || m.ValueSize() != RecordSize {
		return ExitStatus{}, false, fmt.Errorf("open exit map %s: not an exit map: %s", path, m)
	}
	return Get(m, pid)
}

// Get is Lookup on an open map.
func Get(m *ebpf.Map, pid int) (ExitStatus, bool, error) {
	rec, err := m.LookupBytes(uint32(pid))
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return ExitStatus{}, false, fmt.Errorf("look up exit of %d: %w", pid, err)
	}
	if rec == nil {
		return ExitStatus{}, false, nil
	}
	st, err := Decode(rec, bootOffset())
	if err != nil {
		return ExitStatus{}, false, fmt.Errorf("look up exit of %d: %w", pid, err)
	}
	return st, true, nil
}

// Decode reads a value of the map. boot is the wall clock's reading at boot (CLOCK_REALTIME less CLOCK_BOOTTIME).
func Decode(rec []byte, boot time.Time) (ExitStatus, error) {
	if len(rec) != RecordSize {
		return ExitStatus{}, fmt.Errorf("exit record of %d bytes, want %d", len(rec), RecordSize)
	}
	e := binary.NativeEndian
	st := ExitStatus{
		CgroupID: e.Uint64(rec[8:]),
		Parent:   int(e.Uint32(rec[16:])),
		Stage:    int(e.Uint32(rec[24:])),
	}
	if e.Uint32(rec[28:]) != 0 {
		st.Ended = true
		st.WaitStatus = e.Uint32(rec[20:])
		st.At = boot.Add(time.Duration(e.Uint64(rec[0:])))
	}
	return st, nil
}

// bootOffset returns the wall clock's reading at boot.
func bootOffset() time.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Time{} // impossible since Linux 2.6.39
	}
	return time.Now().Add(-time.Duration(ts.Nano()))
}
