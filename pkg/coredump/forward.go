package coredump

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// forward does with a crash that is not ours what the previous pattern says. Patterns that start a program are not
// honoured, as it would have to be started by the kernel: the crash ends without a core, and the error says so.
func forward(conn *net.UnixConn, p *peer, proc *procDir, pattern string) error {
	limit, err := coreLimit(proc)
	if err != nil {
		return errors.Join(err, hello(conn, askReject))
	}
	switch {
	case strings.HasPrefix(pattern, "|") || strings.HasPrefix(pattern, "@"):
		return errors.Join(fmt.Errorf("a crash outside containers (pid %d): the previous pattern %q is not one of a file", p.pid, pattern),
			hello(conn, askReject))
	case limit == 0 || pattern == "" || p.rootOnly || strings.HasPrefix(pattern, "/"):
		return hello(conn, askReject)
	}
	name := expand(pattern, p, proc)
	f, err := createAs(p, proc, name)
	if err != nil {
		return errors.Join(fmt.Errorf("core of pid %d: %w", p.pid, err), hello(conn, askReject))
	}
	defer f.Close()
	if err := hello(conn, askKernel|askWait); err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(conn, limit))
	return err
}

// coreLimit is the process's soft limit of a core's size in bytes.
func coreLimit(proc *procDir) (int64, error) {
	b, err := proc.read("limits")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(line, "Max core file size")
		if f := strings.Fields(rest); ok && len(f) > 0 {
			if f[0] == "unlimited" {
				return 1<<63 - 1, nil
			}
			return strconv.ParseInt(f[0], 10, 64)
		}
	}
	return 0, errors.New("no core limit in the process's limits")
}

// expand replaces core(5)'s specifiers in a file name. A process's name cannot lead out of the directory.
func expand(pattern string, p *peer, proc *procDir) string {
	comm, err := proc.read("comm")
	if err != nil {
		comm = []byte("unknown\n")
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	status, err := proc.read("status")
	if err != nil {
		status = nil
	}
	values := map[byte]string{
		'%': "%", 'P': strconv.Itoa(p.pid), 'p': strconv.Itoa(lastNumber(string(status), "NSpid:")), 'u': strconv.Itoa(p.uid),
		'g': strconv.Itoa(p.gid), 'e': strings.TrimSuffix(string(comm), "\n"), 'h': host,
	}
	var out strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' || i+1 == len(pattern) {
			out.WriteByte(pattern[i])
			continue
		}
		i++
		out.WriteString(values[pattern[i]])
	}
	name := strings.NewReplacer("/", "!", "\x00", "").Replace(out.String())
	if name == "core" && usesPid() {
		name += "." + strconv.Itoa(p.pid)
	}
	return name
}

// usesPid is kernel.core_uses_pid.
func usesPid() bool {
	b, err := os.ReadFile("/proc/sys/kernel/core_uses_pid")
	return err == nil && strings.TrimSpace(string(b)) != "0"
}

// createAs makes a file in the process's working directory with the process's rights, never through a link.
func createAs(p *peer, proc *procDir, name string) (*os.File, error) {
	dir, err := unix.Openat(int(proc.dir.Fd()), "cwd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("working directory: %w", err)
	}
	defer unix.Close(dir)
	type result struct {
		fd  int
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and its ids with it
		if err := errors.Join(unix.Setfsgid(p.gid), unix.Setfsuid(p.uid)); err != nil {
			done <- result{-1, err}
			return
		}
		how := &unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC, Mode: 0o600, Resolve: unix.RESOLVE_BENEATH}
		fd, err := unix.Openat2(dir, name, how)
		done <- result{fd, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, fmt.Errorf("create %s: %w", name, r.err)
	}
	return os.NewFile(uintptr(r.fd), name), nil
}
