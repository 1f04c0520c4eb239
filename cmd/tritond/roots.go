package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// roots are the two directories, prepared and locked.
type roots struct {
	lock       *os.File
	generation uint64
	bootID     string
	nodeID     string
	pinDir     string // on a bpffs of our own
}

// lockFile is in the data root and locked while a daemon or a purge uses it.
const lockFile = "lock"

// pinLayout names the layout of what is pinned: a daemon with another one does not touch these pins.
const pinLayout = "v1"

// openRoots makes the directories, takes the lock that keeps a second daemon out and counts this start.
// The lock ends with the process, so a kill -9 leaves none behind.
func openRoots(c config) (*roots, error) {
	for _, d := range []string{c.DataRoot, c.RunRoot, filepath.Join(c.DataRoot, "tenants")} {
		// Mapped roots of user namespaces must be able to traverse, and nobody else may list.
		if err := os.MkdirAll(d, 0o711); err != nil {
			return nil, fmt.Errorf("make root: %w", err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(c.DataRoot, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("another tritond uses --data-root %s: %w", c.DataRoot, err)
	}
	r := &roots{lock: lock}
	if r.generation, err = countStart(filepath.Join(c.DataRoot, "generation")); err == nil {
		r.nodeID, err = nodeID(filepath.Join(c.DataRoot, "node-id"))
	}
	var boot []byte
	if err == nil {
		boot, err = os.ReadFile("/proc/sys/kernel/random/boot_id")
	}
	if err == nil {
		r.bootID = strings.TrimSpace(string(boot))
		r.pinDir, err = mountBPF(filepath.Join(c.RunRoot, "bpf"))
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return r, nil
}

// Close releases the lock.
func (r *roots) Close() error { return r.lock.Close() }

// countStart adds one to the counter in path and syncs it: shims refuse a daemon with a lower generation than one seen.
func countStart(path string) (uint64, error) {
	var n uint64
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("read generation: %w", err)
	}
	if err == nil {
		if n, err = strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64); err != nil {
			return 0, fmt.Errorf("generation file %s is damaged: write a number into it that is higher than any before: %w", path, err)
		}
	}
	n++
	tmp, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, fmt.Errorf("count start: %w", err)
	}
	_, err = fmt.Fprintln(tmp, n)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		return 0, fmt.Errorf("count start: %w", err)
	}
	return n, nil
}

// nodeID returns the random id of this data root, made at its first use.
func nodeID(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		b, err = os.ReadFile("/proc/sys/kernel/random/uuid")
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
	}
	if err != nil {
		return "", fmt.Errorf("node id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// mountBPF mounts a bpffs of our own, unless a daemon before us did, and returns the directory for pins.
func mountBPF(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make bpffs mount point: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", fmt.Errorf("statfs %s: %w", dir, err)
	}
	if st.Type != unix.BPF_FS_MAGIC {
		if err := unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
			return "", fmt.Errorf("mount bpffs on %s: %w", dir, err)
		}
	}
	pins := filepath.Join(dir, pinLayout)
	if err := os.MkdirAll(pins, 0o700); err != nil {
		return "", fmt.Errorf("make pin directory: %w", err)
	}
	return pins, nil
}
