package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// minMajor and minMinor are the oldest supported kernel, Debian 12's: task storage for every tracing program and
// cgroup.kill on every hierarchy are in it.
const minMajor, minMinor = 6, 1

func kernel(context.Context, Config) []Finding {
	const group = "kernel"
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return []Finding{{group, "version", Missing, err.Error()}}
	}
	release := unix.ByteSliceToString(uts.Release[:])
	version := Finding{group, "version", OK, fmt.Sprintf("%s, at least %d.%d is wanted", release, minMajor, minMinor)}
	if !atLeast(release, minMajor, minMinor) {
		version.Level = Missing
	}
	machine := unix.ByteSliceToString(uts.Machine[:])
	arch := Finding{group, "architecture", OK, machine}
	if machine != "x86_64" {
		arch.Level, arch.Got = Missing, machine+": only x86_64 is supported so far"
	}
	_, err := btf.LoadKernelSpec()
	types := grade(group, "type information", err, "/sys/kernel/btf/vmlinux", Missing, "probes cannot be loaded without BTF")
	return []Finding{version, arch, types, pressure(), overlay(release)}
}

// atLeast compares the first two numbers of a kernel release such as 6.1.0-28-amd64.
func atLeast(release string, major, minor int) bool {
	var a, b int
	if n, err := fmt.Sscanf(release, "%d.%d", &a, &b); n < 2 || err != nil {
		return false
	}
	return a > major || a == major && b >= minor
}

func pressure() Finding {
	_, err := os.ReadFile("/proc/pressure/cpu")
	return grade("kernel", "pressure stall information", err, "/proc/pressure", Fallback, "no stall times per container")
}

// overlay looks the file system up by name: a test mount needs folders to mount.
func overlay(release string) Finding {
	b, err := os.ReadFile("/proc/filesystems")
	if err == nil && !strings.Contains(string(b), "\toverlay\n") {
		if err = unix.Access("/lib/modules/"+release+"/kernel/fs/overlayfs", unix.F_OK); err != nil {
			err = errors.New("not in /proc/filesystems, and no module of it")
		}
	}
	return grade("kernel", "overlayfs", err, "for root file systems", Missing, "containers cannot have a root file system")
}

// bpf tries what the probes are built from, each by a program or map that is closed at once.
func bpf(context.Context, Config) []Finding {
	const group = "probes"
	fs := []Finding{
		grade(group, "BTF tracepoints", tracepoint(), "system calls, scheduling, exits", Missing, "nothing can be observed"),
		grade(group, "task storage", features.HaveMapType(ebpf.TaskStorage), "times of calls under way", Missing, "no latencies"),
		grade(group, "ring buffer", features.HaveMapType(ebpf.RingBuf), "events", Missing, "no events"),
		grade(group, "cgroup ancestors", features.HaveProgramHelper(ebpf.CGroupSKB, asm.FnSkbAncestorCgroupId),
			"packets are charged to the socket's container", Fallback, "no traffic per container"),
	}
	// What follows is used where a kernel has it and never needed.
	optional := []struct {
		name string
		err  error
		use  string
	}{
		{"kprobes", exists("/sys/bus/event_source/devices/kprobe"), "optional hooks inside the kernel"},
		{"fentry", fentry(), "optional hooks inside the kernel"},
		{"BPF LSM", lsm(), "optional hooks of security decisions"},
	}
	for _, o := range optional {
		fs = append(fs, grade(group, o.name, o.err, o.use, Fallback, "tracepoints are used instead"))
	}
	return fs
}

// tracepoint loads a program for a BTF tracepoint. features.HaveProgramType tries another kind of tracing program, which
// kernels without the function tracer refuse.
func tracepoint() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "sys_enter", License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return err
	}
	return p.Close()
}

// exists is nil where path exists.
func exists(path string) error {
	if _, err := os.Stat(path); err != nil {
		return errors.New("no " + path)
	}
	return nil
}

// fentry needs the function tracer: its list of functions exists exactly when it is built in.
func fentry() error {
	for _, dir := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		if exists(dir+"/available_filter_functions") == nil {
			return nil
		}
	}
	return errors.New("no function tracer")
}

func lsm() error {
	b, err := os.ReadFile("/sys/kernel/security/lsm")
	if err != nil {
		return errors.New("no securityfs")
	}
	if !strings.Contains(","+strings.TrimSpace(string(b))+",", ",bpf,") {
		return errors.New("bpf is not among the active modules")
	}
	return nil
}
