package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// Pids lists the processes in path and below, in any hierarchy, sorted. A missing path has none. Zombies are not listed.
func (f *FS) Pids(path string) ([]int, error) {
	path, err := validate(path)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, mount := range f.mounts() {
		if pids, err = appendPids(pids, mount+path); err != nil {
			return nil, fmt.Errorf("list processes: %w", err)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// Join moves a process into path: in every hierarchy, or only in that of one v1 controller. The first write of a
// process costs an RCU grace period of the kernel (about 9 ms), so keep it off the path of a request.
func (f *FS) Join(path string, pid int, controller string) error {
	path, err := validate(path)
	if err != nil {
		return err
	}
	mounts := f.mounts()
	if controller != "" {
		dir := f.Dir(controller, "/")
		if dir == "" {
			return fmt.Errorf("controller %s: %w", controller, errdefs.ErrNotFound)
		}
		mounts = []string{strings.TrimSuffix(dir, "/")}
	}
	for _, mount := range mounts {
		if err := os.WriteFile(filepath.Join(mount+path, "cgroup.procs"), strconv.AppendInt(nil, int64(pid), 10), 0); err != nil {
			return fmt.Errorf("join control group: %w", err)
		}
	}
	return nil
}

// Timing of the kill loop where the kernel has no cgroup.kill: processes may fork while their group is walked.
const (
	killDeadline = 5 * time.Second
	killPause    = 5 * time.Millisecond
)

// Kill ends every process in path and below with SIGKILL and thaws what is frozen by v1's freezer, which a signal does
// not. It returns when every process was sent the signal, not when all are gone: see Remove. A missing path is no error.
func (f *FS) Kill(path string) error {
	path, err := validate(path)
	if err != nil {
		return err
	}
	atOnce := false
	if f.v2 != "" {
		if atOnce, err = killFile(f.v2 + path); err != nil {
			return err
		}
	}
	// A process that died while it joined its groups, or was moved by hand, is in some v1 hierarchies only.
	if err := f.killLoop(path, atOnce); err != nil {
		return err
	}
	return f.thaw(path)
}

// killFile uses cgroup.kill (Linux 5.14), which no fork escapes. It reports whether the kernel has it.
func killFile(dir string) (bool, error) {
	err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENODEV):
		return false, nil
	}
	return false, fmt.Errorf("kill control group: %w", err)
}

// killLoop signals processes until a walk finds no new one. After a kill at once by the kernel one walk is enough.
func (f *FS) killLoop(path string, atOnce bool) error {
	sent := map[int]bool{}
	for deadline := time.Now().Add(killDeadline); ; time.Sleep(killPause) {
		pids, err := f.Pids(path)
		if err != nil {
			return err
		}
		fresh := 0
		for _, pid := range pids {
			if sent[pid] {
				continue
			}
			sent[pid] = true
			fresh++
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		if fresh == 0 || atOnce {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("kill control group %s: new processes keep appearing: %w", path, errdefs.ErrUnavailable)
		}
	}
}

// thaw lets every group of v1's freezer below path run.
func (f *FS) thaw(path string) error {
	mount := f.v1Mount("freezer")
	if mount == "" {
		return nil
	}
	return walk(mount+path, func(dir string) error {
		err := os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0)
		if gone(err) {
			return nil
		}
		return err
	})
}

// appendPids adds the processes of dir and below. Directories that vanish meanwhile are passed over.
func appendPids(pids []int, dir string) ([]int, error) {
	err := walk(dir, func(dir string) error {
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if gone(err) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, field := range strings.Fields(string(b)) {
			// 0 stands for a process outside our pid namespace: it has no name we could use.
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids, err
}

// walk calls fn for dir and every directory below it.
func walk(dir string, fn func(dir string) error) error {
	if err := fn(dir); err != nil {
		return err
	}
	sub, err := subdirs(dir)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range sub {
		if err := walk(filepath.Join(dir, name), fn); err != nil {
			return err
		}
	}
	return nil
}

// gone reports whether a control group vanished: its files answer ENODEV when they were open, ENOENT else.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV)
}
