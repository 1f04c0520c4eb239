package main

import (
	"context"
	"os"
	goruntime "runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/cgroup"
	"github.com/tritond/triton/pkg/host"
	"github.com/tritond/triton/pkg/triton"
)

// nodeInfo describes the machine; what cannot change is read once.
func (d *daemon) nodeInfo(ctx context.Context, tenant triton.Tenant) (triton.NodeInfo, error) {
	info := d.static
	info.SystemTime, info.IPv4Forwarding = time.Now(), forwards()
	info.Warnings = d.warnings(&info)
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

// limitsInfo notes what containers can be limited in; own is the instance's control group.
func limitsInfo(info *triton.NodeInfo, fs *cgroup.FS, own string) {
	have := host.Controllers(fs)
	info.MemoryLimit, info.CPULimit, info.CPUSet, info.PidsLimit = have["memory"], have["cpu"], have["cpuset"], have["pids"]
	info.SwapLimit = have["memory"] && host.SwapLimits(fs, own)
}

// forwards reports whether the machine passes on packets, which published ports and the way out need.
func forwards() bool {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

// warnings are what a user should know of this machine, in docker's words where it has some.
func (d *daemon) warnings(info *triton.NodeInfo) []string {
	var out []string
	for _, w := range []struct {
		bad  bool
		text string
	}{
		{!info.MemoryLimit, "WARNING: No memory limit support"},
		{info.MemoryLimit && !info.SwapLimit, "WARNING: No swap limit support"},
		{!info.CPULimit, "WARNING: No cpu cfs quota support"},
		{!info.CPUSet, "WARNING: No cpuset support"},
		{!info.PidsLimit, "WARNING: No pids limit support"},
		{!info.IPv4Forwarding, "WARNING: IPv4 forwarding is disabled"},
	} {
		if w.bad {
			out = append(out, w.text)
		}
	}
	if d.cfg.InsecureTCP {
		for _, h := range d.cfg.Hosts {
			if network, address := splitHost(h); network == "tcp" {
				out = append(out, "WARNING: API is accessible on http://"+address+" without encryption and client certificates: everyone who can connect is root")
			}
		}
	}
	for _, m := range d.probes.Missing() {
		out = append(out, "WARNING: Not measured: "+m.Program+": "+firstOf(m.Reason))
	}
	return out
}

// firstOf is the first line of an error: what a verifier says has hundreds.
func firstOf(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
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
	machine, err := cgroup.ReadMachine()
	if err != nil {
		return triton.NodeInfo{}, err
	}
	name, osVersion := osRelease()
	return triton.NodeInfo{
		Name: host, ID: nodeID, Instance: c.Instance, Version: version, Commit: commit, Started: time.Now(),
		KernelVersion: unix.ByteSliceToString(uts.Release[:]), Architecture: unix.ByteSliceToString(uts.Machine[:]),
		OperatingSystem: name, OSVersion: osVersion, NCPU: goruntime.NumCPU(), MemTotal: int64(machine.MemoryTotal),
		CgroupVersion: cgroupVersion, CgroupDriver: "cgroupfs", DataRoot: c.DataRoot, StorageDriver: "overlayfs", Labels: c.Labels,
		SecurityOptions:    []string{"name=seccomp,profile=builtin", "name=userns"},
		InsecureRegistries: append([]string{"127.0.0.0/8", "::1/128"}, c.InsecureRegistries...),
		RuncVersion:        moduleVersion("github.com/opencontainers/runc"), ContainerdVersion: moduleVersion("github.com/containerd/containerd/v2"),
	}, nil
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
