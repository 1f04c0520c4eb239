package main

import (
	"bufio"
	"context"
	"os"
	goruntime "runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// nodeInfo describes the machine; what cannot change is read once.
func (d *daemon) nodeInfo(ctx context.Context, tenant triton.Tenant) (triton.NodeInfo, error) {
	info := d.static
	info.SystemTime = time.Now()
	cs, err := d.node.ListContainers(ctx, tenant)
	if err != nil {
		return info, err
	}
	for _, c := range cs {
		switch c.State.Status {
		case triton.StatusRunning:
			info.Running++
		case triton.StatusPaused:
			info.Paused++
		default:
			info.Stopped++
		}
	}
	images, err := d.images.List(ctx, tenant)
	info.Images = len(images)
	return info, err
}

// staticInfo reads what stays the same while the daemon runs.
func staticInfo(c config, nodeID, cgroupVersion string) (triton.NodeInfo, error) {
	host, err := os.Hostname()
	if err != nil {
		return triton.NodeInfo{}, err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return triton.NodeInfo{}, err
	}
	total, err := memTotal()
	if err != nil {
		return triton.NodeInfo{}, err
	}
	name, osVersion := osRelease()
	return triton.NodeInfo{
		Name: host, ID: nodeID, Instance: c.Instance, Version: version, Commit: commit, Started: time.Now(),
		KernelVersion: unix.ByteSliceToString(uts.Release[:]), Architecture: unix.ByteSliceToString(uts.Machine[:]),
		OperatingSystem: name, OSVersion: osVersion, NCPU: goruntime.NumCPU(), MemTotal: total,
		CgroupVersion: cgroupVersion, CgroupDriver: "cgroupfs", DataRoot: c.DataRoot, StorageDriver: "overlayfs",
		SecurityOptions: []string{"name=seccomp,profile=builtin", "name=userns"},
		RuncVersion:     moduleVersion("github.com/opencontainers/runc"), ContainerdVersion: moduleVersion("github.com/containerd/containerd/v2"),
	}, nil
}

// memTotal is the machine's memory in bytes (MemTotal of /proc/meminfo, which is in KiB).
func memTotal() (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if fields := strings.Fields(sc.Text()); len(fields) >= 2 && fields[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, os.ErrNotExist
}

// osRelease reads os-release(5); a machine without one is shown as Linux.
func osRelease() (name, version string) {
	name = "Linux"
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return name, ""
	}
	for _, line := range strings.Split(string(b), "\n") {
		k, v, _ := strings.Cut(line, "=")
		v = strings.Trim(v, `"'`)
		switch k {
		case "PRETTY_NAME":
			name = v
		case "VERSION_ID":
			version = v
		}
	}
	return name, version
}

// moduleVersion is the version of a module this binary was built with.
func moduleVersion(path string) string {
	if bi, ok := debug.ReadBuildInfo(); ok {
		for _, m := range bi.Deps {
			if m.Path == path {
				return m.Version
			}
		}
	}
	return "unknown"
}

// openFDs counts this process's descriptors.
func openFDs() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries) - 1 // the one that reads the directory
}
