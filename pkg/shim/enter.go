package shim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// enterable reports whether cmd/triton-enter can start p in a container with cfg.
func enterable(cfg *configs.Config, p *libcontainer.Process) bool {
	return cfg.Umask == nil && cfg.AppArmorProfile == "" && p.AppArmorProfile == "" && cfg.ProcessLabel == "" && p.Label == "" &&
		cfg.IntelRdt == nil && cfg.MemoryPolicy == nil && cfg.Personality == nil && cfg.Scheduler == nil && p.Scheduler == nil &&
		cfg.IOPriority == nil && p.IOPriority == nil && cfg.ExecCPUAffinity == nil && p.CPUAffinity == nil && !cfg.RootlessEUID
}

// spawnExec starts an exec. As after spawn its pumps do not run yet, and after an error it has ended and its files are
// closed.
func (c *container) spawnExec(p *process, oci *specs.Process) error {
	lp, err := containerProcess(oci)
	if err != nil {
		return err
	}
	cfg := c.lc.Config()
	program, err := c.enter.program()
	if err != nil {
		c.logs.Warn("libcontainer starts the exec", "err", err)
	}
	if program == nil || !enterable(&cfg, lp) {
		return c.spawn(p, oci, false)
	}
	filter, err := c.filter()
	if err != nil {
		return c.spawn(p, oci, false) // it says what is wrong, or can what we cannot
	}
	p.oom = c.oomKills()
	if err := p.io.open(lp, c.root, false); err != nil {
		p.close()
		return err
	}
	pid, err := c.enterBy(program, lp, func(tasks int) ([]byte, error) {
		return encodeOrder(&cfg, c.req.Key.ID, lp, filter, tasks)
	})
	if err == nil {
		p.io.closeChildSide()
		err = p.identify(pid)
	}
	if err == nil {
		err = p.io.receiveConsole(false)
	}
	if err != nil {
		p.close()
		if c.oomKills() != p.oom {
			err = fmt.Errorf("%w (possibly OOM-killed)", err)
		}
		return errors.Join(startError(err), c.reapStrays())
	}
	p.ours = true
	p.io.setReady()
	return nil
}

// enterBy has the small program start a process of the container, and returns its number once it was executed. After an
// error there may be strays.
func (c *container) enterBy(program *os.File, lp *libcontainer.Process, encode func(tasks int) ([]byte, error)) (int, error) {
	groups, err := c.openGroups()
	if err != nil {
		return 0, err
	}
	defer groups.close()
	text, err := encode(len(groups.tasks))
	if err != nil {
		return 0, fmt.Errorf("unable to start container process: %w", err)
	}
	order, err := sealedFile("order", text, unix.MFD_NOEXEC_SEAL)
	if err != nil {
		return 0, err
	}
	defer order.Close()
	ours, theirs, err := reportSocket()
	if err != nil {
		return 0, err
	}
	defer ours.Close()
	defer theirs.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	files := append([]*os.File{null, null, null, theirs, order, c.init.pidfd}, groups.tasks...)
	if lp.ConsoleSocket != nil {
		files = append(files, lp.ConsoleSocket)
	}
	for i, f := range []any{lp.Stdin, lp.Stdout, lp.Stderr} {
		if f, ok := f.(*os.File); ok {
			files[i] = f
		}
	}
	stage, err := c.fork(program, files, groups.unified)
	if err != nil {
		return 0, fmt.Errorf("unable to start container process: %w", err)
	}
	theirs.Close() // so that the socket ends with theirs
	return awaitEntry(ours, stage, lp)
}

// reportSocket makes the pair that reports come through. Our end costs no thread to wait on.
func reportSocket() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket for reports: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, fmt.Errorf("socket for reports: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "reports"), os.NewFile(uintptr(fds[1]), "reports"), nil
}

// fork executes the program with files as its descriptors from 0 on, in the container's cgroup2 from its first instruction.
func (c *container) fork(program *os.File, files []*os.File, unified *os.File) (pid int, err error) {
	attr := &syscall.ProcAttr{Sys: &syscall.SysProcAttr{}}
	for _, f := range files {
		attr.Files = append(attr.Files, uintptr(rawFD(f)))
	}
	if unified != nil {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, rawFD(unified)
	}
	path := "/proc/self/fd/" + strconv.Itoa(rawFD(program))
	pid, err = syscall.ForkExec(path, []string{EnterName}, attr)
	if err != nil && cgroups.IsCgroup2UnifiedMode() {
		// One who manages groups in the container may have moved its first process, and no process fits beside (EBUSY).
		if group := c.initGroup(); group != nil {
			defer group.Close()
			attr.Sys.CgroupFD = rawFD(group)
			pid, err = syscall.ForkExec(path, []string{EnterName}, attr)
		}
	}
	runtime.KeepAlive(files)
	return pid, err
}

// initGroup opens the cgroup2 directory where the first process is now; nil: it cannot be told.
func (c *container) initGroup() *os.File {
	groups, err := cgroups.ParseCgroupFile("/proc/" + strconv.Itoa(c.init.who().Pid) + "/cgroup")
	if err != nil {
		return nil
	}
	group, err := openGroup(filepath.Join(fs2.UnifiedMountpoint, groups[""]))
	if err != nil {
		return nil
	}
	return group
}

func openGroup(dir string) (*os.File, error) {
	return os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// groupFiles are how a process gets into the container's control groups.
type groupFiles struct {
	unified *os.File   // cgroup2's directory; nil: there is none
	tasks   []*os.File // cgroup v1's
}

func (g *groupFiles) close() {
	for _, f := range g.tasks {
		f.Close()
	}
	if g.unified != nil {
		g.unified.Close()
	}
}

// openGroups opens the control groups that libcontainer made.
func (c *container) openGroups() (g groupFiles, err error) {
	if c.groups == nil { // execs are started one after the other
		state, err := c.lc.State()
		if err != nil {
			return g, err
		}
		c.groups = state.CgroupPaths
	}
	defer func() {
		if err != nil {
			g.close()
			err = fmt.Errorf("control groups: %w", err)
		}
	}()
	var dirs []string
	for name, dir := range c.groups {
		if name != "" && !cgroups.IsCgroup2UnifiedMode() {
			dirs = append(dirs, dir)
			continue
		}
		if g.unified, err = openGroup(dir); err != nil {
			return g, err
		}
	}
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) { // some are mounted together
		f, err := os.OpenFile(filepath.Join(dir, "tasks"), os.O_WRONLY, 0)
		if err != nil {
			return g, err
		}
		g.tasks = append(g.tasks, f)
	}
	return g, nil
}

// entryReport is struct report of cmd/triton-enter.
type entryReport struct {
	Kind, Step uint32
	Value      int32
}

// Kinds of reports: enum report_kind.
const (
	reportStage = iota + 1
	reportProcess
	reportFailed
)

// awaitEntry reads reports until the process was executed, and reaps the stages before it.
func awaitEntry(reports *os.File, stage int, lp *libcontainer.Process) (pid int, err error) {
	stages := []int{stage}
	for {
		var r entryReport
		buf := make([]byte, binary.Size(r))
		n, rerr := reports.Read(buf)
		if errors.Is(rerr, io.EOF) {
			break
		}
		if rerr == nil {
			_, rerr = binary.Decode(buf[:n], binary.NativeEndian, &r)
		}
		if rerr != nil {
			return 0, fmt.Errorf("unable to start container process: report: %w", rerr)
		}
		switch r.Kind {
		case reportStage:
			stages = append(stages, int(r.Value))
		case reportProcess:
			pid = int(r.Value)
		case reportFailed:
			err = fmt.Errorf("unable to start container process: %w", entryError(r.Step, syscall.Errno(r.Value), lp))
		}
	}
	if err == nil && pid == 0 {
		err = errors.New("unable to start container process: it was killed")
	}
	for _, s := range stages {
		err = errors.Join(err, reapChild(s))
	}
	return pid, err
}

// The steps that libcontainer has words of its own for: enum step. Docker's clients and scripts know them.
const (
	stepCwd = iota + 12
	stepCwdOutside
	stepBounding
	stepStdio
	stepGroups
	stepGID
	stepUID
	stepCapabilities
	stepStat
	stepAccess
	stepSearch
	stepDot
)

// entrySteps name the others.
var entrySteps = []string{
	1: "read the order", 2: "clone", 3: "join the control groups", 4: "set the OOM score", 5: "set resource limits",
	6: "join the namespaces", 7: "start a session", 8: "join session keyring", 9: "make a terminal",
	10: "unable to init seccomp", 11: "close descriptors", stepBounding: "unable to apply bounding set",
	stepStdio: "unable to setup user: chown of the standard files", stepGroups: "unable to setup user: setgroups",
	stepGID: "unable to setup user: setgid", stepUID: "unable to setup user: setuid", stepCapabilities: "can't apply capabilities",
}

// entryError words the failure of a step.
func entryError(step uint32, errno syscall.Errno, lp *libcontainer.Process) error {
	program := lp.Args[0]
	switch {
	case step == stepCwd:
		return fmt.Errorf("chdir to cwd (%q) set in config.json failed: %w", lp.Cwd, errno)
	case step == stepCwdOutside:
		return errors.New("current working directory is outside of container mount namespace root -- possible container breakout detected")
	case step == stepGID && errno == unix.EINVAL:
		return fmt.Errorf("unable to setup user: cannot setgid to unmapped gid %d in user namespace", lp.GID)
	case step == stepUID && errno == unix.EINVAL:
		return fmt.Errorf("unable to setup user: cannot setuid to unmapped uid %d in user namespace", lp.UID)
	case step == stepStat:
		return fmt.Errorf("exec: %q: stat %s: %w", program, program, errno)
	case step == stepAccess:
		return fmt.Errorf("exec: %q: %w", program, errno)
	case step == stepSearch:
		return fmt.Errorf("exec: %q: executable file not found in $PATH", program)
	case step == stepDot:
		return fmt.Errorf("exec: %q: cannot run executable found relative to current directory", program)
	case int(step) < len(entrySteps) && entrySteps[step] != "":
		return fmt.Errorf("%s: %w", entrySteps[step], errno)
	}
	return fmt.Errorf("step %d: %w", step, errno)
}
