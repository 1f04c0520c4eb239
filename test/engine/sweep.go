package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// owner is the file in a root that says which process answers for the instance: a test that panics or times out
// leaves its daemons behind, and the next one removes them.
type owner struct {
	Pid       int
	StartTime uint64 // with Pid it names a process for good
	Instance  string
	Bin       string
	DataRoot  string
	RunRoot   string
}

const ownerFile = "owner.json"

func (d *Tritond) writeOwner() error {
	started, err := StartTime(os.Getpid())
	if err != nil {
		return err
	}
	b, err := json.Marshal(owner{
		Pid: os.Getpid(), StartTime: started, Instance: d.Instance, Bin: d.Bin, DataRoot: d.DataRoot, RunRoot: d.RunRoot,
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.Root, ownerFile), b, 0o600)
}

// Sweep purges instances whose owner has ended without closing them, failed ones that were kept included. bin is where
// SweepRoot finds programs.
func Sweep(ctx context.Context, bin string) error {
	files, _ := filepath.Glob(filepath.Join("/tmp", "te*", ownerFile)) // the pattern is well formed
	var errs []error
	for _, file := range files {
		o, err := readOwner(file)
		if err != nil {
			continue // being written, or being removed by another sweep
		}
		if started, err := StartTime(o.Pid); err == nil && started == o.StartTime {
			continue
		}
		errs = append(errs, SweepRoot(ctx, filepath.Dir(file), bin))
	}
	return errors.Join(errs...)
}

func readOwner(file string) (o owner, err error) {
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &o)
	}
	return o, err
}

// SweepRoot ends and purges the instance with this root, whoever owns it, by the tritond that it ran, or by that in bin where
// that one is gone.
func SweepRoot(ctx context.Context, root, bin string) error {
	o, err := readOwner(filepath.Join(root, ownerFile))
	if err != nil {
		return fmt.Errorf("sweep %s: %w", root, err)
	}
	d := &Tritond{Bin: o.Bin, Root: root, Instance: o.Instance, DataRoot: o.DataRoot, RunRoot: o.RunRoot, links: map[string]bool{}}
	daemons := Pids(func(pid int) bool {
		args := Cmdline(pid)
		return strings.HasPrefix(args, filepath.Join(o.Bin, "tritond")+" ") && containsPath(args, o.DataRoot)
	})
	for _, pid := range daemons {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by now
	}
	deadline := time.Now().Add(leaveTime)
	for _, pid := range daemons {
		for time.Now().Before(deadline) && Cmdline(pid) != "" {
			time.Sleep(10 * time.Millisecond)
		}
	}
	if _, err := os.Stat(filepath.Join(d.Bin, "tritond")); errors.Is(err, os.ErrNotExist) {
		d.Bin = bin
	}
	err = d.Purge(ctx)
	for _, m := range Mounts(root) { // a test's own volume
		err = errors.Join(err, syscall.Unmount(m, syscall.MNT_DETACH))
	}
	if err != nil {
		return fmt.Errorf("sweep %s: %w", root, err)
	}
	return os.RemoveAll(root)
}
