package shim

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// reapStrays ends and reaps the children that are no process of the container. libcontainer's stages are children of this
// process (CLONE_PARENT), and when a start fails it may know nothing of some. One that was in the container's pid namespace
// already would keep the first process from ending for ever: the kernel waits until every process of the namespace was
// reaped (zap_pid_ns_processes). The caller sees to it that nothing is being started.
func (c *container) reapStrays() error {
	for {
		strays, err := c.strays()
		if err != nil || len(strays) == 0 {
			return err
		}
		for _, pid := range strays {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill stray %d: %w", pid, err)
			}
			if err := reapChild(pid); err != nil {
				return fmt.Errorf("reap stray %d: %w", pid, err)
			}
		}
	}
}

// reapChild waits for the end of a child; one that another has reaped is no error.
func reapChild(pid int) error {
	_, err := waitChild(pid)
	if errors.Is(err, unix.ECHILD) {
		return nil
	}
	return err
}

// waitChild reaps a child, and returns its wait status.
func waitChild(pid int) (uint32, error) {
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(pid, &ws, 0, nil)
		switch {
		case err == nil:
			return uint32(ws), nil
		case !errors.Is(err, unix.EINTR):
			return 0, fmt.Errorf("reap %d: %w", pid, err)
		}
	}
}

// strays lists the children that are neither the first process nor an exec.
func (c *container) strays() ([]int, error) {
	known := map[ProcessReply]bool{}
	c.mu.Lock()
	for _, p := range c.execs {
		known[p.who()] = true
	}
	c.mu.Unlock()
	if c.init != nil {
		known[c.init.who()] = true
	}
	children, err := childrenOf("self")
	if err != nil {
		return nil, err
	}
	var strays []int
	for _, pid := range children {
		start, err := startTime(pid)
		if err != nil {
			continue // reaped since
		}
		if !known[ProcessReply{Pid: pid, StartTime: start}] {
			strays = append(strays, pid)
		}
	}
	return strays, nil
}

// childrenOf lists the children of a process, zombies included: those of each of its threads.
func childrenOf(pid string) ([]int, error) {
	lists, err := filepath.Glob("/proc/" + pid + "/task/*/children")
	if err != nil {
		return nil, err
	}
	var children []int
	for _, path := range lists {
		list, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended: its children are another's by now
		}
		for _, word := range bytes.Fields(list) {
			child, err := strconv.Atoi(string(word))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			children = append(children, child)
		}
	}
	return children, nil
}
