package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Dockerd is Debian's docker.io (engine 20.10, API 1.41, with Debian's containerd and runc) run by hand beside
// whatever else is on the machine. Everything of it is below one folder, but for a network namespace and a cgroup.
type Dockerd struct {
	Root   string
	Host   string // unix://…
	cgroup string
	proc   *process
}

// DockerdCgroup is the name of the top-level cgroup that an engine below root puts its containers in.
func DockerdCgroup(root string) string { return filepath.Base(root) }

// InstallDockerd installs docker.io where dockerd is missing. The package starts no service where the policy forbids
// it or nothing manages services; /usr/local/bin/docker, where there is one, stays the client.
func InstallDockerd(ctx context.Context) error {
	if _, err := os.Stat(dockerdPath); err == nil {
		return nil
	}
	for _, args := range [][]string{
		{"apt-get", "-qq", "update"},
		{"apt-get", "-qq", "install", "-y", "--no-install-recommends", "docker.io"},
	} {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

const dockerdPath = "/usr/sbin/dockerd"

// StartDockerd starts the engine below root, a short path that must not exist, and waits until it answers.
// account may be nil.
func StartDockerd(ctx context.Context, root string, account *Account) (*Dockerd, error) {
	if err := os.MkdirAll(root, 0o711); err != nil {
		return nil, err
	}
	// An empty configuration of its own: /etc/docker/daemon.json is the machine's.
	config := filepath.Join(root, "daemon.json")
	if err := os.WriteFile(config, []byte("{}"), 0o644); err != nil {
		return nil, err
	}
	socket := filepath.Join(root, "docker.sock")
	d := &Dockerd{Root: root, Host: "unix://" + socket, cgroup: DockerdCgroup(root)}
	p, err := start(account.wrap([]string{"/bin/sh", "-c",
		// Its own network namespace comes with a loopback that is down.
		`ip link set lo up && exec "$@"`, "sh", dockerdPath,
		"--config-file", config, "--host", d.Host,
		"--data-root", filepath.Join(root, "data"), "--exec-root", filepath.Join(root, "run"),
		"--pidfile", filepath.Join(root, "pid"),
		// overlay2 on the ext4 or tmpfs of the root; vfs, the fallback, would copy each image per container.
		"--storage-driver", "overlay2",
		// Without systemd the cgroup driver must be this one; on hybrid hierarchies it uses the v1 controllers.
		"--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", "/" + d.cgroup,
		"--bip", "172.29.0.1/16",
	}), d.LogPath(), func(cmd *exec.Cmd) {
		// The engine's bridge and iptables rules live in a network namespace that vanishes with it. Not by
		// `ip netns exec`, which mounts a new /sys and hides the cgroups.
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	})
	if err != nil {
		return nil, fmt.Errorf("start dockerd: %w", err)
	}
	d.proc = p
	if err := p.ready(ctx, socket); err != nil {
		return nil, errors.Join(fmt.Errorf("start dockerd: %w\n%s", err, tail(d.LogPath(), 4096)), d.Stop())
	}
	return d, nil
}

// LogPath is where the engine's output goes.
func (d *Dockerd) LogPath() string { return d.Root + ".log" }

// Pid is the daemon's.
func (d *Dockerd) Pid() int { return d.proc.pid() }

// NetNS is a path of the network namespace of the bridge.
func (d *Dockerd) NetNS() string { return fmt.Sprintf("/proc/%d/ns/net", d.Pid()) }

// Processes returns the daemon, its containerd and their shims: all that serve containers, not what runs in them.
func (d *Dockerd) Processes() []int {
	return Pids(func(pid int) bool {
		return pid == d.Pid() || !InCgroup(pid, d.cgroup) && strings.Contains(Cmdline(pid), d.Root+"/")
	})
}

// Stop ends the engine with its containers, and removes what it leaves behind when it stops: the mount of the host
// network namespace, the cgroup parent, and the root.
func (d *Dockerd) Stop() error {
	err := d.proc.signal(syscall.SIGTERM, 30*time.Second)
	for _, pid := range Pids(func(pid int) bool {
		return InCgroup(pid, d.cgroup) || strings.Contains(Cmdline(pid), d.Root+"/")
	}) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by now
	}
	mounts := Mounts(d.Root)
	slices.Reverse(mounts)
	for _, m := range mounts {
		if e := syscall.Unmount(m, syscall.MNT_DETACH); e != nil {
			err = errors.Join(err, fmt.Errorf("unmount %s: %w", m, e))
		}
	}
	return errors.Join(err, removeCgroups(d.cgroup), os.RemoveAll(d.Root), os.Remove(d.LogPath()))
}

// removeCgroups removes the folders with that name below each hierarchy's root, children first.
func removeCgroups(name string) error {
	var err error
	for _, top := range Cgroups(name) {
		var dirs []string
		_ = filepath.WalkDir(top, func(path string, e os.DirEntry, walk error) error { // what cannot be listed is gone
			if walk == nil && e.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		slices.Reverse(dirs)
		for _, d := range dirs {
			err = errors.Join(err, removeCgroup(d))
		}
	}
	return err
}

// removeCgroup retries while processes that were just killed still leave.
func removeCgroup(dir string) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := syscall.Rmdir(dir)
		if err != syscall.EBUSY || time.Now().After(deadline) {
			if err != nil {
				return fmt.Errorf("remove %s: %w", dir, err)
			}
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}
