package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Quicken makes the next moves of processes into groups quick, for some 20 ms. The kernel takes a lock for such a move whose
// first writer waits for an RCU grace period (10 ms and more; cgroup_threadgroup_rwsem, a percpu_rw_semaphore), and which
// stays open to writers for another period after the last one (kernel/rcu/sync.c, GP_EXIT). Quicken moves this process to
// where it is, so that the wait is over when a container's first process is to be moved: call it beside what comes before
// that. It blocks for the wait, in which no group can be made; with FavorDynMods there is none.
func (f *FS) Quicken() error {
	lines, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("quicken: %w", err)
	}
	for line := range strings.Lines(string(lines)) {
		// N:CONTROLLERS:PATH; cgroup2's is 0::PATH (cgroups(7)).
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) < 3 {
			continue
		}
		controller, _, _ := strings.Cut(parts[1], ",")
		dir := f.Dir(controller, parts[2])
		if dir == "" || controller != "" && f.v2 != "" {
			continue
		}
		procs := filepath.Join(dir, "cgroup.procs")
		if err := os.WriteFile(procs, strconv.AppendInt(nil, int64(os.Getpid()), 10), 0); err != nil {
			return fmt.Errorf("quicken: %w", err)
		}
		return nil // the lock is one for all hierarchies
	}
	return nil
}
