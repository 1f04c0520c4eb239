package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// bareLimits are limits in the files of control groups, by controller: what docker's flags give a container.
var bareLimits = map[string][2][2]string{ // of version 1 and 2
	"cpu":    {{"cpu.cfs_quota_us", "100000"}, {"cpu.max", "100000 100000"}},
	"memory": {{"memory.limit_in_bytes", "268435456"}, {"memory.max", "268435456"}},
	"pids":   {{"pids.max", "64"}, {"pids.max", "64"}},
}

// group is a control group with the limits of a flood, and nothing of tritond: what a flood does to a neighbour from there is the
// floor below which no container engine comes.
type group struct{ dirs []string }

// newGroup makes it; the machine has controllers in version 1 or in version 2.
func newGroup(name string) (*group, error) {
	const root = "/sys/fs/cgroup"
	g := &group{}
	_, v1 := os.Stat(filepath.Join(root, "cgroup.controllers"))
	for controller, files := range bareLimits {
		dir, file := filepath.Join(root, controller, name), files[0]
		if v1 == nil {
			dir, file = filepath.Join(root, name), files[1]
			enable := filepath.Join(root, "cgroup.subtree_control")
			if err := os.WriteFile(enable, []byte("+"+controller), 0); err != nil {
				return g, err
			}
		}
		if err := os.Mkdir(dir, 0o755); err == nil {
			g.dirs = append(g.dirs, dir)
		} else if !errors.Is(err, os.ErrExist) {
			return g, err
		}
		if err := os.WriteFile(filepath.Join(dir, file[0]), []byte(file[1]), 0); err != nil {
			return g, err
		}
	}
	return g, nil
}

// command is a process that enters the group before it becomes argv.
func (g *group) command(ctx context.Context, argv ...string) *exec.Cmd {
	const script = `for g in $GROUPS; do echo $$ >"$g/cgroup.procs" || exit 125; done; exec "$@"`
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", script, "sh"}, argv...)...)
	cmd.Env = append(os.Environ(), "GROUPS="+strings.Join(g.dirs, " "))
	cmd.Stderr = os.Stderr
	return cmd
}

// kill ends all processes of the group, of which there must be some.
func (g *group) kill() error {
	ended := errors.New("the flood ended by itself")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(g.dirs[0], "cgroup.procs"))
		if err != nil {
			return err
		}
		pids := strings.Fields(string(text))
		if len(pids) == 0 {
			return ended
		}
		ended = nil
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes of %s do not end", len(pids), g.dirs[0])
		}
		for _, text := range pids {
			pid, err := strconv.Atoi(text)
			if err != nil {
				return err
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
	}
}

func (g *group) remove() error {
	var errs []error
	for _, dir := range g.dirs {
		errs = append(errs, os.Remove(dir))
	}
	return errors.Join(errs...)
}

// coreSink is a kernel.core_pattern: cores are handed to a program that reads and forgets them. Somebody has to read what the
// daemon saves, so that this is the floor, and not to have no cores.
const coreSink = "|/bin/dd of=/dev/null bs=64k status=none"

// bare runs a flood without the daemon while the neighbour is looked at.
func (b *bench) bare(ctx context.Context, name string) (s span, err error) {
	switch name {
	case "events":
		return b.bareEvents(ctx)
	case "cores":
		daemons, err := os.ReadFile(corePattern)
		if err != nil {
			return s, err
		}
		if err := os.WriteFile(corePattern, []byte(coreSink), 0); err != nil {
			return s, err
		}
		defer func() { err = errors.Join(err, os.WriteFile(corePattern, daemons, 0)) }()
	}
	return b.processes(ctx, name)
}

// processes runs a flood in the group while the neighbour is looked at. Whatever it writes is read and thrown away.
func (b *bench) processes(ctx context.Context, name string) (s span, err error) {
	dir, err := os.MkdirTemp(b.daemon.Root, "bare")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cmd := b.group.command(ctx, filepath.Join(b.programs, "flood"), name)
	cmd.Dir = dir
	out, err := cmd.StdoutPipe()
	if err != nil {
		return s, err
	}
	sink := exec.CommandContext(ctx, "cat")
	sink.Stdin = out
	if err := cmd.Start(); err != nil {
		return s, err
	}
	if err := sink.Start(); err != nil {
		return s, errors.Join(err, b.group.kill())
	}
	s, err = b.watch(ctx, nil)
	err = errors.Join(err, b.group.kill())
	_, _ = cmd.Process.Wait() // it was killed
	out.Close()
	return s, errors.Join(err, sink.Wait())
}
