package coredump

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// haltBound is how long the threads of a process may take to stand: one in the kernel that nothing interrupts never does.
	haltBound = 2 * time.Second
	// haltPoll spaces the looks at a thread that does not stand yet.
	haltPoll = 50 * time.Microsecond
	// ptraceEventStop is PTRACE_EVENT_STOP: the stop that was asked for, or a group's.
	ptraceEventStop = 128
)

// halted is a process whose threads all stand. They stand as long as the thread that traces them lives: it is one of the
// daemon's, so a kill of the daemon lets them go.
type halted struct {
	threads []haltedThread // the first is the leader, if it lives
}

type haltedThread struct {
	tid    int         // in the daemon's namespace
	signal unix.Signal // that it was about to take, 0: none
	regs   [27]uint64  // struct user_regs_struct
	fp     []byte      // struct user_i387_struct; nil: not told
}

// whileHalted stops every thread of a process, calls f, and lets them go on. f must not block for long. The pause begins
// before the first thread is stopped.
func whileHalted(d *procDir, pid int, now func() time.Time, f func(h *halted) error) (pause time.Duration, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the kernel lets the traced threads go when this one ends, whatever went wrong.
		runtime.LockOSThread()
		begun := now()
		h := &halted{}
		if err = h.halt(d, pid, now); err == nil {
			err = f(h)
		}
		err = errors.Join(err, h.release())
		pause = now().Sub(begun)
	}()
	<-done
	return pause, err
}

// halt attaches to all threads, also to those that others make meanwhile: it looks until there is no new one.
func (h *halted) halt(d *procDir, pid int, now func() time.Time) error {
	until := now().Add(haltBound)
	seen := map[int]bool{}
	for fresh := true; fresh; {
		fresh = false
		var started []int
		for _, name := range d.List("task", maxThreads) {
			tid, err := strconv.Atoi(name)
			if err != nil || seen[tid] {
				continue
			}
			seen[tid], fresh = true, true
			switch err := ptrace(unix.PTRACE_SEIZE, tid, 0, 0); {
			case errors.Is(err, unix.ESRCH): // ended meanwhile
			case errors.Is(err, unix.EPERM) && zombie(d, tid):
			case errors.Is(err, unix.EPERM):
				return fmt.Errorf("thread %d: another program traces it, or it may not be traced: %w", tid, err)
			case err != nil:
				return fmt.Errorf("trace thread %d: %w", tid, err)
			case !d.Has("task/" + name): // it ended, and its id may be another's
				if err := ptrace(unix.PTRACE_DETACH, tid, 0, 0); err != nil && !errors.Is(err, unix.ESRCH) {
					return fmt.Errorf("let thread %d go: %w", tid, err)
				}
			default:
				h.threads = append(h.threads, haltedThread{tid: tid})
				if err := ptrace(unix.PTRACE_INTERRUPT, tid, 0, 0); err != nil && !errors.Is(err, unix.ESRCH) {
					return fmt.Errorf("stop thread %d: %w", tid, err)
				}
				started = append(started, tid)
			}
		}
		for _, tid := range started {
			if err := h.await(tid, until, now); err != nil {
				return err
			}
		}
	}
	if len(h.threads) == 0 {
		return errGone
	}
	slices.SortStableFunc(h.threads, func(a, b haltedThread) int {
		return map[bool]int{true: -1}[a.tid == pid] - map[bool]int{true: -1}[b.tid == pid]
	})
	return nil
}

func zombie(d *procDir, tid int) bool {
	b, err := d.Read(fmt.Sprintf("task/%d/stat", tid))
	if err != nil {
		return true
	}
	_, state, ok := cutLast(string(b), ") ")
	return ok && state != "" && (state[0] == 'Z' || state[0] == 'X')
}

// await waits until a thread stands, and reads its registers; one that ended is forgotten.
func (h *halted) await(tid int, until time.Time, now func() time.Time) error {
	i := slices.IndexFunc(h.threads, func(t haltedThread) bool { return t.tid == tid })
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(tid, &status, unix.WNOHANG|unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD), err == nil && got == tid && (status.Exited() || status.Signaled()):
			h.threads = slices.Delete(h.threads, i, i+1)
			return nil
		case err != nil:
			return fmt.Errorf("wait for thread %d: %w", tid, err)
		case got == tid && status.Stopped():
			if int(status)>>16 != ptraceEventStop {
				h.threads[i].signal = status.StopSignal()
			}
			return h.threads[i].readRegs()
		case now().After(until):
			return fmt.Errorf("thread %d does not stop within %s: it waits in the kernel for what nothing interrupts", tid, haltBound)
		}
		time.Sleep(haltPoll)
	}
}

// readRegs reads what a core has of a thread.
func (t *haltedThread) readRegs() error {
	raw := make([]byte, 8*len(t.regs))
	if _, err := regset(t.tid, ntPrstatus, raw); err != nil {
		return fmt.Errorf("registers of thread %d: %w", t.tid, err)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&t.regs)), len(raw)), raw)
	fp := make([]byte, 512)
	if n, err := regset(t.tid, ntFpregset, fp); err == nil {
		t.fp = fp[:n]
	}
	return nil
}

// release lets all threads go, each with the signal that it was about to take.
func (h *halted) release() error {
	var errs []error
	for _, t := range h.threads {
		if err := ptrace(unix.PTRACE_DETACH, t.tid, 0, uintptr(t.signal)); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("let thread %d go: %w", t.tid, err))
		}
	}
	return errors.Join(errs...)
}

func ptrace(request, tid int, addr, data uintptr) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// regset fills b with a thread's registers of one kind.
func regset(tid, kind int, b []byte) (int, error) {
	iov := unix.Iovec{Base: &b[0]}
	iov.SetLen(len(b))
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GETREGSET, uintptr(tid), uintptr(kind), uintptr(unsafe.Pointer(&iov)), 0, 0); errno != 0 {
		return 0, errno
	}
	return int(iov.Len), nil
}
