package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/cgroup"
	"github.com/tritond/triton/pkg/coredump"
	"github.com/tritond/triton/pkg/network"
)

// purge takes everything of the instance out of the kernel, also after a kill -9: containers and shims end, cgroups,
// links, rules, pins and mounts go, changed sysctls get their old values, and the run root is removed.
// The data root stays: it is the user's.
func purge(ctx context.Context, cfg config, log *slog.Logger) error {
	r, err := openRoots(cfg) // the lock: never under a living daemon
	if err != nil {
		return err
	}
	defer r.Close()
	return errors.Join(
		coredump.RestorePattern(coreSocket(cfg)), // first: a crash must not meet a socket that nobody serves
		purgeProcesses(cfg, log),
		purgeNetwork(ctx, cfg, log),
		purgeMounts(cfg, log),
		removeRunRoot(cfg, log),
	)
}

// purgeProcesses ends containers, shims and the keeper, all of which live in our cgroups.
func purgeProcesses(cfg config, log *slog.Logger) error {
	fs, err := cgroup.Detect()
	if err != nil {
		return err
	}
	own := "/triton-" + cfg.Instance
	if err := fs.Kill(own); err != nil {
		return fmt.Errorf("end containers: %w", err)
	}
	if err := fs.Remove(own); err != nil {
		return fmt.Errorf("remove cgroups: %w", err)
	}
	log.Info("containers and shims ended, cgroups removed", "cgroup", own)
	return nil
}

func purgeNetwork(ctx context.Context, cfg config, log *slog.Logger) error {
	err := network.Purge(ctx, network.Config{
		Instance: cfg.Instance, Subnet: netip.MustParsePrefix(cfg.BridgeSubnet), RunRoot: cfg.RunRoot, Log: log,
	})
	if err != nil {
		return fmt.Errorf("purge network: %w", err)
	}
	log.Info("bridge, links, rules and namespaces removed, sysctls restored")
	return nil
}

// purgeMounts unmounts what is below the run root, last mounted first: root file systems, shm, namespaces, and the bpffs
// whose pins go with it.
func purgeMounts(cfg config, log *slog.Logger) error {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(m.Mountpoint, cfg.RunRoot+"/"), false
	})
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	var errs []error
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m.Mountpoint, err))
		}
	}
	log.Info("mounts removed", "below", cfg.RunRoot, "count", len(mounts))
	return errors.Join(errs...)
}

// removeRunRoot deletes the run root, unless something below it is still mounted: then files of others could go.
func removeRunRoot(cfg config, log *slog.Logger) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(cfg.RunRoot))
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	for _, m := range mounts {
		if m.Mountpoint != cfg.RunRoot {
			return fmt.Errorf("%s is still mounted, the run root stays", m.Mountpoint)
		}
	}
	entries, err := os.ReadDir(cfg.RunRoot)
	if err != nil {
		return fmt.Errorf("read run root: %w", err)
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(cfg.RunRoot+"/"+e.Name()))
	}
	errs = append(errs, ignoreBusy(os.Remove(cfg.RunRoot)))
	log.Info("run root removed", "path", cfg.RunRoot)
	return errors.Join(errs...)
}

// ignoreBusy accepts a run root that is a mount point itself, as on a machine that gives it a tmpfs of its own.
func ignoreBusy(err error) error {
	if errors.Is(err, unix.EBUSY) {
		return nil
	}
	return err
}
