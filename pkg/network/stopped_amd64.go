package network

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// syscallInstruction is the machine's own.
var syscallInstruction = []byte{0x0f, 0x05}

// callStopped makes the process pid, which the calling thread traces and which has not run an instruction of its program,
// do a system call, and stand still again. The program's text at that place is overwritten: it must never go on.
func callStopped(pid int, nr, arg0, arg1 uint64) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return fmt.Errorf("read registers: %w", err)
	}
	if _, err := unix.PtracePokeText(pid, uintptr(regs.Rip), syscallInstruction); err != nil {
		return fmt.Errorf("write text: %w", err)
	}
	regs.Rax, regs.Rdi, regs.Rsi = nr, arg0, arg1
	if err := unix.PtraceSetRegs(pid, &regs); err != nil {
		return fmt.Errorf("write registers: %w", err)
	}
	if err := unix.PtraceSingleStep(pid); err != nil {
		return fmt.Errorf("step: %w", err)
	}
	if err := awaitStop(pid); err != nil {
		return err
	}
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return fmt.Errorf("read result: %w", err)
	}
	if ret := int64(regs.Rax); ret != 0 {
		return unix.Errno(-ret)
	}
	return nil
}
