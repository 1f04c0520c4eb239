package probes

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// usualTax is what is taken for PairTax where it could not be measured: the least that make bench-probes showed for it on one
// machine.
const usualTax = 130 * time.Nanosecond

const (
	taxRounds = 20
	taxCalls  = 2000 // of a round: half a millisecond
	taxMost   = 5 * time.Microsecond
)

// PairTax measures what an empty pair of system call hooks adds to a call of any process, by the slow path into the kernel that
// they force: the kernel's time of programs does not have it. It makes the cheapest call there is without and with such a
// pair, for 30 ms of CPU time, and compares the least of twenty rounds of each, so that what else runs is not in it. Where others have
// hooks there already it is what another pair adds, which is less. An error: it could not be measured, or is out of all reason.
func PairTax() (tax time.Duration, err error) {
	pair := [2]*ebpf.Program{}
	for i, hook := range []string{"sys_enter", "sys_exit"} {
		pair[i], err = ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: "empty_" + hook, Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: hook, License: "GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		})
		if err != nil {
			return 0, fmt.Errorf("load empty program of %s: %w", hook, err)
		}
		defer pair[i].Close()
	}
	runtime.LockOSThread() // the clock is the thread's
	defer runtime.UnlockOSThread()
	before, err := leastCall()
	if err != nil {
		return 0, err
	}
	with, err := leastCallBeside(pair)
	if err != nil {
		return 0, err
	}
	after, err := leastCall()
	if err != nil {
		return 0, err
	}
	if tax = with - min(before, after); tax <= 0 || tax > taxMost {
		return 0, fmt.Errorf("a call takes %v without and %v with an empty pair of hooks: no price of them", min(before, after), with)
	}
	return tax, nil
}

// leastCallBeside is leastCall while the pair is attached.
func leastCallBeside(pair [2]*ebpf.Program) (least time.Duration, err error) {
	var links []link.Link
	defer func() { err = errors.Join(err, closeLinks(links)) }()
	for _, prog := range pair {
		l, err := link.AttachTracing(link.TracingOptions{Program: prog})
		if err != nil {
			return 0, fmt.Errorf("attach an empty program: %w", err)
		}
		links = append(links, l)
	}
	return leastCall()
}

// leastCall is the least CPU time of a call of getppid in any round. The caller keeps its thread.
func leastCall() (least time.Duration, err error) {
	for range taxRounds {
		var from, until unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &from); err != nil {
			return 0, fmt.Errorf("read the thread's clock: %w", err)
		}
		for range taxCalls {
			if _, _, e := unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0); e != 0 {
				return 0, fmt.Errorf("getppid: %w", e)
			}
		}
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &until); err != nil {
			return 0, fmt.Errorf("read the thread's clock: %w", err)
		}
		took := time.Duration(until.Nano() - from.Nano())
		least = min(cmp.Or(least, took), took)
	}
	return least / taxCalls, nil
}
