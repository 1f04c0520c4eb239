package cgroup

import (
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// FavorDynMods turns on cgroup2's favordynmods: moving a process into a group no longer waits for an RCU grace period
// (9 ms at the median), while forks and exits cost a little more (Documentation/admin-guide/cgroup-v2.rst). It holds
// for the whole machine until reboot, so it is for an operator to ask for. Only the super block is reconfigured: the
// mount's own flags stay. ErrNotImplemented where the kernel or the machine has no such thing.
func (f *FS) FavorDynMods() error {
	if f.v2 == "" {
		return fmt.Errorf("favordynmods: no cgroup2 is mounted: %w", errdefs.ErrNotImplemented)
	}
	fd, err := unix.Fspick(unix.AT_FDCWD, f.v2, unix.FSPICK_CLOEXEC)
	if err != nil {
		return fmt.Errorf("favordynmods: pick %s: %w", f.v2, err)
	}
	defer unix.Close(fd)
	if err := unix.FsconfigSetFlag(fd, "favordynmods"); err != nil {
		return fmt.Errorf("favordynmods: %w: %w", err, errdefs.ErrNotImplemented)
	}
	if err := unix.FsconfigReconfigure(fd); err != nil {
		return fmt.Errorf("favordynmods: reconfigure %s: %w", f.v2, err)
	}
	return nil
}
