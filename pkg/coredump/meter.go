package coredump

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/backtrace"
)

// meter adds up processor time; a nil one does not. Safe for use by several goroutines.
type meter struct{ ns atomic.Int64 }

// during calls f, which has a thread to itself meanwhile: few may wait in it at a time.
func (m *meter) during(f func()) {
	if m == nil {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadTime()
	defer func() { m.ns.Add(threadTime() - before) }()
	f()
}

func (m *meter) add(took time.Duration) { m.ns.Add(int64(took)) }

func (m *meter) read() time.Duration { return time.Duration(m.ns.Load()) }

// threadTime is the processor time of the calling thread, in nanoseconds.
func threadTime() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0 // the kernel has that clock
	}
	return t.Nano()
}

// metered is a memory whose reading is measured.
type metered struct {
	backtrace.Memory
	meter *meter
}

// Load implements backtrace.Memory.
func (m metered) Load(b []byte, addr uint64) (ok bool) {
	m.meter.during(func() { ok = m.Memory.Load(b, addr) })
	return ok
}
