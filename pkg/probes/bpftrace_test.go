package probes

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// bpftraceProgram counts what level detail counts of one container: a histogram of durations for each system call.
const bpftraceProgram = `BEGIN { printf("attached\n"); }
tracepoint:raw_syscalls:sys_enter /cgroup == %d/ { @begun[tid] = nsecs; }
tracepoint:raw_syscalls:sys_exit /@begun[tid]/ { @durations[args->id] = hist(nsecs - @begun[tid]); delete(@begun[tid]); }`

func hasBpftrace() bool {
	_, err := exec.LookPath("bpftrace")
	return err == nil
}

// bpftrace runs that program until end is called. It looks for the tracepoints in a tracefs that is mounted for it alone.
func bpftrace(b *testing.B, cg cgroup) (end func()) {
	b.Helper()
	script := `mount -t tracefs tracefs /sys/kernel/tracing; mount -t debugfs debugfs /sys/kernel/debug; exec bpftrace -e "$1"`
	cmd := exec.Command("sh", "-c", script, "sh", fmt.Sprintf(bpftraceProgram, cg.id))
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	check(b, err)
	check(b, cmd.Start())
	lines, counted := bufio.NewScanner(out), false
	for {
		if !lines.Scan() {
			b.Fatalf("bpftrace ended: %v: %s", cmd.Wait(), stderr.String())
		}
		if lines.Text() == "attached" {
			break
		}
	}
	return func() {
		check(b, cmd.Process.Signal(os.Interrupt))
		for lines.Scan() {
			counted = counted || strings.HasPrefix(lines.Text(), "@durations[")
		}
		check(b, cmd.Wait())
		if !counted {
			b.Fatalf("bpftrace counted nothing: %s", stderr.String())
		}
	}
}
