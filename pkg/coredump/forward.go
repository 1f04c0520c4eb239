package coredump

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forward does with a crash that is not ours what the previous pattern says: it writes a file as the process, or starts
// the program, as the kernel would, but for the daemon's control group. Only a core for another socket ends here: Honours.
func forward(ctx context.Context, src stream, p *peer, proc *procDir, pattern string) error {
	limit, err := coreLimit(proc)
	if err != nil {
		return errors.Join(err, src.reject())
	}
	program, piped := strings.CutPrefix(pattern, pipeMark)
	switch {
	case !Honours(pattern):
		return errors.Join(fmt.Errorf("a crash outside containers (pid %d): the previous pattern %q names a socket", p.pid, pattern), src.reject())
	case piped && limit == 1: // the kernel's rule: a handler does not handle itself
		return src.reject()
	case piped:
		return pipeTo(ctx, src, p, proc, program, limit)
	case limit == 0 || pattern == "" || p.rootOnly: // the last would be root's file: the kernel makes it with suid_dumpable 2 only
		return src.reject()
	}
	name := expand(pattern, specifiers(p, proc, limit))
	if name == "core" && usesPid() {
		name += "." + strconv.Itoa(p.pid)
	}
	f, err := createAs(p, proc, name)
	if err != nil {
		return errors.Join(fmt.Errorf("core of pid %d: %w", p.pid, err), src.reject())
	}
	defer f.Close()
	r, err := src.begin()
	if err != nil {
		return err
	}
	if err := src.unbound(); err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(r, limit))
	return err
}

// handlerBound is how long a program of the previous pattern may work on a crash.
const handlerBound = 5 * time.Minute

// pipeTo gives a core to the program of the previous pattern.
func pipeTo(ctx context.Context, src stream, p *peer, proc *procDir, pattern string, limit int64) error {
	values := specifiers(p, proc, limit) // before the core is asked for: the process is there for certain
	r, err := src.begin()
	if err != nil {
		return err
	}
	if err := src.unbound(); err != nil {
		return err
	}
	var head bytes.Buffer // the signal is in it
	h, err := ReadHead(io.TeeReader(r, &head))
	if h == nil || err != nil {
		return err
	}
	values['s'] = strconv.Itoa(h.Signal)
	var argv []string
	for _, f := range strings.Fields(pattern) {
		argv = append(argv, expand(f, values))
	}
	if len(argv) == 0 || !strings.HasPrefix(argv[0], "/") {
		return fmt.Errorf("a crash outside containers (pid %d): the previous pattern %q names no program", p.pid, pattern)
	}
	ctx, cancel := context.WithTimeout(ctx, handlerBound)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = "/", []string{"HOME=/", "PATH=/sbin:/bin:/usr/sbin:/usr/bin"} // as the kernel starts it
	cmd.Stdin = io.MultiReader(&head, r)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Run(); err != nil && !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("the previous core pattern's %s for pid %d: %w", argv[0], p.pid, err)
	}
	return nil
}

// coreLimit is the process's soft limit of a core's size in bytes.
func coreLimit(proc *procDir) (int64, error) {
	b, err := proc.Read("limits")
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

// specifiers are the values of core(5)'s, but the signal's.
func specifiers(p *peer, proc *procDir, limit int64) map[byte]string {
	text := func(name string) string {
		b, err := proc.Read(name)
		if err != nil {
			return ""
		}
		return strings.TrimSuffix(string(b), "\n")
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	dumpable, exe := "1", proc.Link("exe")
	if p.rootOnly {
		dumpable = "2"
	}
	comm := cmp.Or(text("comm"), "unknown")
	inner := strconv.Itoa(lastNumber(text("status"), "NSpid:"))
	return map[byte]string{
		'%': "%", 'P': strconv.Itoa(p.pid), 'p': inner, 'I': strconv.Itoa(p.pid), 'i': inner, 'u': strconv.Itoa(p.uid),
		'g': strconv.Itoa(p.gid), 'e': comm, 'h': host, 'c': strconv.FormatInt(limit, 10), 'd': dumpable,
		't': strconv.FormatInt(time.Now().Unix(), 10), 'E': exe, 'f': filepath.Base(exe),
	}
}

// expand replaces specifiers in a file name or an argument. What a process chose cannot lead out of a directory.
func expand(pattern string, values map[byte]string) string {
	var out strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' || i+1 == len(pattern) {
			out.WriteByte(pattern[i])
			continue
		}
		i++
		out.WriteString(strings.NewReplacer("/", "!", "\x00", "").Replace(values[pattern[i]]))
	}
	return out.String()
}

// usesPid is kernel.core_uses_pid.
func usesPid() bool {
	b, err := os.ReadFile("/proc/sys/kernel/core_uses_pid")
	return err == nil && strings.TrimSpace(string(b)) != "0"
}

// createAs makes a file with the process's rights, never through a link: in its working directory, or, by a name that
// begins with a slash, below its own root.
func createAs(p *peer, proc *procDir, name string) (*os.File, error) {
	from, resolve, rest := "cwd", uint64(unix.RESOLVE_BENEATH), name
	if strings.HasPrefix(name, "/") {
		from, resolve, rest = "root", unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS, strings.TrimLeft(name, "/")
	}
	dir, err := unix.Openat(proc.FD(), from, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s of the process: %w", from, err)
	}
	defer unix.Close(dir)
	groups, err := proc.groups()
	if err != nil {
		return nil, err
	}
	type result struct {
		fd  int
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and its ids with it
		if err := errors.Join(setThreadGroups(groups), unix.Setfsgid(p.gid), unix.Setfsuid(p.uid)); err != nil {
			done <- result{-1, err}
			return
		}
		how := &unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC, Mode: 0o600, Resolve: resolve}
		fd, err := unix.Openat2(dir, rest, how)
		done <- result{fd, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, fmt.Errorf("create %s: %w", name, r.err)
	}
	return os.NewFile(uintptr(r.fd), name), nil
}

// groups are the process's supplementary groups.
func (d *procDir) groups() ([]uint32, error) {
	status, err := d.Read("status")
	if err != nil {
		return nil, err
	}
	var groups []uint32
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "Groups:"); ok {
			for _, f := range strings.Fields(rest) {
				g, err := strconv.ParseUint(f, 10, 32)
				if err != nil {
					return nil, fmt.Errorf("groups of the crashed process: %w", err)
				}
				groups = append(groups, uint32(g))
			}
		}
	}
	return groups, nil
}

// setThreadGroups sets the supplementary groups of this thread alone; the library's function sets those of all.
func setThreadGroups(groups []uint32) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0); errno != 0 {
		return fmt.Errorf("groups of the crashed process: %w", errno)
	}
	return nil
}
