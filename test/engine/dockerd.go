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

// Dockerd is a Docker engine run by hand beside whatever else is on the machine. Everything of it is below one folder,
// but for a cgroup, and for a network and a mount namespace that vanish with its processes.
type Dockerd struct {
	Root   string
	Host   string // unix://…
	cgroup string
	proc   *process
}

// DockerdCgroup is the name of the top-level cgroup that an engine below root puts its containers in.
func DockerdCgroup(root string) string { return filepath.Base(root) }

// Edition is a build of dockerd.
type Edition struct {
	Name string // as PEER and TRITON_E2E_HOST spell it
	bin  string // folder of dockerd, and of its helpers where PATH has others
	// storage is the driver. vfs, the fallback, would copy each image per container.
	storage string
}

// FindEdition returns the edition with that name, ok is false when there is none. Debian's docker.io (engine 20.10,
// API 1.41) is installed where it is missing; moby (see test/peer) must be built below repo, the folder of the repository.
func FindEdition(ctx context.Context, name, repo string) (e Edition, ok bool, err error) {
	switch name {
	case "docker.io":
		return Edition{Name: name, bin: "/usr/sbin", storage: "overlay2"}, true, installDockerd(ctx)
	case "moby":
		bin, err := filepath.Abs(filepath.Join(repo, ".cache", "bin", "peer"))
		if err != nil {
			return Edition{}, true, err
		}
		if _, err := os.Stat(filepath.Join(bin, "dockerd")); err != nil {
			return Edition{}, true, fmt.Errorf("the peer is not built, `make peer` does: %w", err)
		}
		return Edition{Name: name, bin: bin, storage: "overlayfs"}, true, nil
	}
	return Edition{}, false, nil
}

// installDockerd installs docker.io where dockerd is missing. The package starts no service where the policy forbids
// it or nothing manages services; /usr/local/bin/docker, where there is one, stays the client.
func installDockerd(ctx context.Context) error {
	if _, err := os.Stat("/usr/sbin/dockerd"); err == nil {
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

// dockerdScript prepares the namespaces that the engine starts in. A new network namespace has its loopback down. /run is
// the engine's own: containerd's shims put sockets below /run/containerd whatever its flags say, and dockerd would use a
// containerd of the machine if it found its socket there.
const dockerdScript = `set -e
mount --make-rslave /
mount -t tmpfs -o mode=755 run /run
ip link set lo up
exec "$@"`

// StartDockerd starts the engine below root, a short path that must not exist, and waits until it answers.
// account may be nil.
func StartDockerd(ctx context.Context, e Edition, root string, account *Account) (*Dockerd, error) {
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
	p, err := start(account.Wrap([]string{"/bin/sh", "-c", dockerdScript, "sh", filepath.Join(e.bin, "dockerd"),
		"--config-file", config, "--host", d.Host,
		"--data-root", filepath.Join(root, "data"), "--exec-root", filepath.Join(root, "run"),
		"--pidfile", filepath.Join(root, "pid"), "--storage-driver", e.storage,
		// Without systemd the cgroup driver must be this one; on hybrid hierarchies it uses the v1 controllers.
		"--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", "/" + d.cgroup,
		"--bip", "172.29.0.1/16",
	}), d.LogPath(), func(cmd *exec.Cmd) {
		// Not by `ip netns exec`, which mounts a new /sys and hides the cgroups.
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWNS
		cmd.Env = []string{"PATH=" + e.bin + ":/usr/sbin:/usr/bin:/sbin:/bin"}
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

// Stop ends the engine with its containers, and removes what it leaves behind when it stops: the cgroup parent and the
// root. Its mounts go with the last process of its mount namespace.
func (d *Dockerd) Stop() error {
	err := d.proc.signal(syscall.SIGTERM, 30*time.Second)
	for _, pid := range Pids(func(pid int) bool {
		return InCgroup(pid, d.cgroup) || strings.Contains(Cmdline(pid), d.Root+"/")
	}) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by now
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
