package coredump

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

// Bounds of what is listed of a process.
const (
	maxThreads = 4096
	maxFDs     = 4096
	// recordedThreads bounds the threads whose last system calls a record has: some 20 KB each, as JSON.
	recordedThreads = 32
)

// lastCalls are those of a record's process by thread, by the threads' ids in the daemon's namespace. Why there are none is noted
// in r.Missing.
func (s *Service) lastCalls(r *Record) map[int][]triton.Call {
	calls := map[int][]triton.Call{}
	recorded, err := s.cfg.LastCalls(r.Container, r.Pid)
	if err != nil {
		r.Missing = append(r.Missing, err.Error())
	}
	for _, thread := range recorded {
		if thread.Ended.IsZero() || calls[thread.Tid] == nil { // not those of an earlier thread with that id
			calls[thread.Tid] = thread.Calls
		}
	}
	return calls
}

// describe reads what procfs says of a held process. What fails is named in r.Missing. calls are lastCalls'.
func (r *Record) describe(d *procDir, h *Head, calls map[int][]triton.Call) {
	text := func(name string) string {
		b, err := d.Read(name)
		if err != nil {
			r.Missing = append(r.Missing, err.Error())
		}
		return strings.ToValidUTF8(string(b), "�")
	}
	r.Comm = cmp.Or(strings.TrimSuffix(text("comm"), "\n"), h.Comm) // of one that was killed meanwhile, procfs knows nothing
	r.Cmdline = strings.Split(strings.TrimSuffix(text("cmdline"), "\x00"), "\x00")
	r.Status, r.Limits, r.Maps = text("status"), text("limits"), text("maps")
	r.Exe, r.Cwd = d.Link("exe"), d.Link("cwd")
	r.NSPid = cmp.Or(lastNumber(r.Status, "NSpid:"), h.Pid)
	r.EnvNames = envNames(text("environ"))
	r.readThreads(d, h, calls)
	r.readFiles(d, text)
}

// PidInside is a process's id in the innermost of its namespaces; 0: it is gone. It may mean another process by the time
// that it is used.
func PidInside(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	return lastNumber(string(b), "NSpid:")
}

// lastNumber returns the last number on the line of status that key begins. A program's name cannot forge one: the kernel
// escapes line ends in it.
func lastNumber(status, key string) int {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				n, _ := strconv.Atoi(f[len(f)-1]) // the kernel wrote it
				return n
			}
		}
	}
	return 0
}

// envNames drops the values.
func envNames(environ string) []string {
	var names []string
	for _, kv := range strings.Split(environ, "\x00") {
		if name, _, ok := strings.Cut(kv, "="); ok && name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// readThreads joins the notes' threads, which carry the ids of the container's namespace, with procfs's.
func (r *Record) readThreads(d *procDir, h *Head, calls map[int][]triton.Call) {
	type live struct {
		comm, syscall string
		calls         []triton.Call
	}
	byTID := map[int]live{}
	for _, host := range d.List("task", maxThreads) {
		tid, err := strconv.Atoi(host)
		if err != nil {
			continue
		}
		dir := "task/" + host + "/"
		status, err := d.Read(dir + "status")
		if err != nil {
			continue // listed and gone: a thread that was not part of the dump
		}
		comm, _ := d.Read(dir + "comm")
		call, _ := d.Read(dir + "syscall")
		byTID[lastNumber(string(status), "NSpid:")] = live{
			strings.ToValidUTF8(strings.TrimSpace(string(comm)), "�"), strings.TrimSpace(string(call)), calls[tid],
		}
	}
	for i, t := range h.Threads {
		l := byTID[t.TID]
		if i >= recordedThreads {
			l.calls = nil
		}
		r.Threads = append(r.Threads, Thread{
			TID: t.TID, Comm: l.comm, Syscall: l.syscall, Call: callName(l.syscall), PC: t.Regs.PC, SP: t.Regs.SP, Regs: slices.Clone(t.Regs.All[:]),
			Calls: l.calls,
		})
	}
}

// callName is the name of the system call that a line of /proc/PID/task/TID/syscall begins with; "" where there is none.
func callName(line string) string {
	number, _, _ := strings.Cut(line, " ")
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 {
		return ""
	}
	return telemetry.SyscallName(n)
}
