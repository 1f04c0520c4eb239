package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// IDs are the inode numbers of one control group's directories: what BPF programs see as its id. The same number may
// name different groups in different hierarchies.
type IDs struct {
	V2 uint64            // 0 on a V1 machine
	V1 map[string]uint64 // by controller; nil on a V2 machine
}

// dirMode is that of every control group the kernel or a runtime makes: anyone may look, root may change.
const dirMode = 0o755

// Make creates path in every hierarchy and returns its ids. What exists is kept, with its inode. On a V2 machine the
// controllers are enabled in its parents; on v1 cpuset directories get the cpus and memory nodes of their parents, since
// no task can join before.
func (f *FS) Make(path string) (IDs, error) {
	path, err := validate(path)
	if err != nil {
		return IDs{}, err
	}
	for _, mount := range f.mounts() {
		if err := os.MkdirAll(mount+path, dirMode); err != nil {
			return IDs{}, fmt.Errorf("make control group: %w", err)
		}
	}
	if f.mode == V2 {
		if err := f.enableControllers(path); err != nil {
			return IDs{}, err
		}
	}
	if mount := f.v1Mount("cpuset"); mount != "" {
		if err := inheritCpuset(mount, path); err != nil {
			return IDs{}, err
		}
	}
	return f.IDs(path)
}

// IDs reads the inode numbers of path. The error is ErrNotFound when it lacks in a hierarchy.
func (f *FS) IDs(path string) (IDs, error) {
	path, err := validate(path)
	if err != nil {
		return IDs{}, err
	}
	var ids IDs
	if f.v2 != "" {
		if ids.V2, err = inode(f.v2 + path); err != nil {
			return IDs{}, err
		}
	}
	if len(f.v1) > 0 {
		ids.V1 = make(map[string]uint64, len(f.v1))
	}
	for _, h := range f.v1 {
		ino, err := inode(h.mount + path)
		if err != nil {
			return IDs{}, err
		}
		for _, c := range h.controllers {
			ids.V1[c] = ino
		}
	}
	return ids, nil
}

// Children lists the names of the groups directly below path in any hierarchy, sorted: after a crash the hierarchies
// may differ. A missing path has no children.
func (f *FS) Children(path string) ([]string, error) {
	path, err := validate(path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, mount := range f.mounts() {
		sub, err := subdirs(mount + path)
		if err != nil {
			return nil, fmt.Errorf("list control groups: %w", err)
		}
		names = append(names, sub...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Timing of Remove: a killed process leaves its groups when it has exited, which may take it a while (a core dump, a
// large address space), and the kernel answers EBUSY until then.
const (
	removeDeadline = 5 * time.Second
	removeFirst    = time.Millisecond
	removePause    = 50 * time.Millisecond
)

// Remove deletes path and everything below it from all hierarchies. What is gone already is no error. It does not kill:
// while processes end it retries for 5 s, then the error wraps EBUSY.
func (f *FS) Remove(path string) error {
	path, err := validate(path)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(removeDeadline)
	for pause := removeFirst; ; pause = min(2*pause, removePause) {
		err := f.removeOnce(path)
		if err == nil || !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}

func (f *FS) removeOnce(path string) error {
	var errs []error
	for _, mount := range f.mounts() {
		if err := removeTree(mount + path); err != nil {
			errs = append(errs, fmt.Errorf("remove control group: %w", err))
		}
	}
	return errors.Join(errs...)
}

// removeTree removes dir, children first. Only directories are removed: the kernel's files go with them.
func removeTree(dir string) error {
	err := syscall.Rmdir(dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	sub, lerr := subdirs(dir)
	if lerr != nil {
		return lerr
	}
	if len(sub) == 0 {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	for _, name := range sub {
		if err := removeTree(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// wanted are the v2 controllers that containers' limits and readings need.
var wanted = []string{"cpu", "cpuset", "io", "memory", "pids"}

// enableControllers makes the wanted controllers available in path: every ancestor must pass them on.
func (f *FS) enableControllers(path string) error {
	dir := f.v2
	for _, name := range strings.Split(strings.Trim(path, "/"), "/") {
		if err := enableIn(dir); err != nil {
			return err
		}
		dir = filepath.Join(dir, name)
	}
	return nil
}

func enableIn(dir string) error {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("enable controllers: %w", err)
	}
	control := filepath.Join(dir, "cgroup.subtree_control")
	on, err := os.ReadFile(control)
	if err != nil {
		return fmt.Errorf("enable controllers: %w", err)
	}
	for _, c := range missing(string(have), string(on)) {
		// One at a time, so that the error names the controller that could not be enabled.
		if err := os.WriteFile(control, []byte("+"+c), 0); err != nil {
			return fmt.Errorf("enable controller %s: %w", c, err)
		}
	}
	return nil
}

// missing are the wanted controllers that are available but not enabled.
func missing(available, enabled string) []string {
	var out []string
	have, on := strings.Fields(available), strings.Fields(enabled)
	for _, c := range wanted {
		if slices.Contains(have, c) && !slices.Contains(on, c) {
			out = append(out, c)
		}
	}
	return out
}

// inheritCpuset fills cpuset.cpus and cpuset.mems of path and its ancestors where they are empty.
func inheritCpuset(mount, path string) error {
	parent := mount
	for _, name := range strings.Split(strings.Trim(path, "/"), "/") {
		dir := filepath.Join(parent, name)
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if err := inheritFile(parent, dir, file); err != nil {
				return fmt.Errorf("initialise cpuset: %w", err)
			}
		}
		parent = dir
	}
	return nil
}

func inheritFile(parent, dir, file string) error {
	own, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil || strings.TrimSpace(string(own)) != "" {
		return err
	}
	from, err := os.ReadFile(filepath.Join(parent, file))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, file), from, 0)
}

// validate cleans path and refuses a root: no caller may act on the whole machine.
func validate(path string) (string, error) {
	if path = clean(path); path == "/" {
		return "", fmt.Errorf("control group path is the root: %w", errdefs.ErrInvalidArgument)
	}
	return path, nil
}

// clean makes path absolute below a hierarchy's root; ".." cannot climb out of it.
func clean(path string) string {
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return filepath.Clean(path)
}

func inode(dir string) (uint64, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("control group %s: %w", dir, errdefs.ErrNotFound)
		}
		return 0, fmt.Errorf("control group %s: %w", dir, err)
	}
	return st.Ino, nil
}

// subdirs lists the directories in dir; a missing dir has none.
func subdirs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
