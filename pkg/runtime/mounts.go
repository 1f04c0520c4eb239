package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tritond/triton/pkg/triton"
)

// defaultShmSize is docker's size of /dev/shm in bytes.
const defaultShmSize = 64 << 20

// mounts lists the kernel's file systems, then what the user asked for and the files that the daemon writes, parents before
// children: those files are there in a volume at /etc, too. A mount of the user's replaces a default at the same place, and one
// at /dev everything below it.
func (b *builder) mounts() error {
	wanted, err := b.userMounts()
	if err != nil {
		return err
	}
	taken := map[string]bool{}
	for _, m := range wanted {
		taken[m.Destination] = true
	}
	hidden := func(m specs.Mount) bool {
		return taken[m.Destination] || taken["/dev"] && strings.HasPrefix(m.Destination, "/dev/")
	}
	b.s.Mounts = append(b.s.Mounts, slices.DeleteFunc(slices.Concat(b.kernelMounts(), b.deviceBinds), hidden)...)
	others := append(slices.DeleteFunc(b.fileMounts(), hidden), wanted...)
	slices.SortStableFunc(others, func(x, y specs.Mount) int {
		return strings.Count(x.Destination, "/") - strings.Count(y.Destination, "/")
	})
	b.s.Mounts = append(b.s.Mounts, others...)
	return nil
}

// kernelMounts is docker's list (moby oci/defaults.go), with a writable /sys and control groups for the privileged.
func (b *builder) kernelMounts() []specs.Mount {
	access := []string{"ro"}
	if b.c.Privileged {
		access = []string{"rw"}
	}
	ms := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
			Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: append([]string{"nosuid", "noexec", "nodev"}, access...)},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: append([]string{"nosuid", "noexec", "nodev"}, access...)},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	if shm, ok := b.shmMount(); ok {
		ms = append(ms, shm)
	}
	return ms
}

// shmMount is a tmpfs of the container's own, the host's /dev/shm, or a directory that several containers share.
func (b *builder) shmMount() (specs.Mount, bool) {
	bind := specs.Mount{Destination: "/dev/shm", Type: "bind", Source: b.in.Shm, Options: []string{"rbind", "rprivate"}}
	switch {
	case b.c.IpcMode == triton.ModeNone:
		return specs.Mount{}, false
	case b.c.IpcMode == triton.ModeHost:
		bind.Source = "/dev/shm"
		return bind, true
	case b.in.Shm != "":
		return bind, true
	}
	return specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
		Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(ShmSize(b.c), 10)}}, true
}

// ShmSize is the size of a container's /dev/shm in bytes.
func ShmSize(c *triton.Spec) int64 {
	if c.ShmSize > 0 {
		return c.ShmSize
	}
	return defaultShmSize
}

// fileMounts shows the files that the daemon writes for the container, and its init. They belong to the host id of its root on disk.
func (b *builder) fileMounts() []specs.Mount {
	var ms []specs.Mount
	for _, f := range []struct{ source, target string }{
		{b.in.Files.ResolvConf, "/etc/resolv.conf"},
		{b.in.Files.Hostname, "/etc/hostname"},
		{b.in.Files.Hosts, "/etc/hosts"},
	} {
		if f.source == "" {
			continue
		}
		opts := []string{"rbind", "rprivate"}
		if b.c.ReadonlyRootfs {
			opts = append(opts, "ro")
		}
		ms = append(ms, specs.Mount{Destination: f.target, Type: "bind", Source: f.source, Options: opts})
	}
	if b.c.Init {
		ms = append(ms, specs.Mount{Destination: initPath, Type: "bind", Source: b.in.Init, Options: []string{"bind", "ro", "rprivate"}})
	}
	return ms
}

// userMounts checks and translates what the user asked for.
func (b *builder) userMounts() ([]specs.Mount, error) {
	var out []specs.Mount
	seen := map[string]bool{}
	for _, m := range b.c.Mounts {
		target := filepath.Clean(m.Target)
		if !filepath.IsAbs(m.Target) {
			return nil, invalid("invalid mount config for type %q: invalid mount path: '%s' mount path must be absolute", m.Type, m.Target)
		}
		if target == "/" {
			return nil, invalid("invalid mount config for type %q: invalid specification: destination can't be '/'", m.Type)
		}
		if seen[target] {
			return nil, invalid("Duplicate mount point: %s", target)
		}
		seen[target] = true
		var sm specs.Mount
		var err error
		switch m.Type {
		case triton.MountTmpfs:
			sm, err = tmpfsMount(m)
		case triton.MountBind:
			sm, err = b.bindMount(m)
		case triton.MountImage: // Source is where it is mounted by now, with the owners that the container is to see
			sm = specs.Mount{Type: "bind", Source: m.Source, Options: []string{"rbind", "rro", "rprivate"}}
		default:
			err = invalid("invalid mount config: unknown type %q", m.Type)
		}
		if err != nil {
			return nil, err
		}
		sm.Destination = target
		out = append(out, sm)
	}
	return out, nil
}

// tmpfsMount puts the user's options over docker's defaults: an option that contradicts a default replaces it.
func tmpfsMount(m triton.Mount) (specs.Mount, error) {
	opts := []string{"noexec", "nosuid", "nodev", "rprivate"}
	given := m.Options
	if m.ReadOnly {
		given = append(slices.Clone(given), "ro")
	}
	for _, o := range given {
		if !validTmpfsOption(o) {
			return specs.Mount{}, invalid("invalid tmpfs option %q", o)
		}
		opts = slices.DeleteFunc(opts, func(d string) bool { return d == o || contradicts(d, o) })
		opts = append(opts, o)
	}
	return specs.Mount{Type: "tmpfs", Source: "tmpfs", Options: opts}, nil
}

// tmpfsFlags and tmpfsData are what docker allows (moby/sys/mount flags).
var (
	tmpfsFlags = []string{"ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync",
		"atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
		"bind", "rbind", "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"}
	tmpfsData = []string{"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"}
)

func validTmpfsOption(o string) bool {
	name, value, hasValue := strings.Cut(o, "=")
	if hasValue {
		return slices.Contains(tmpfsData, name) && value != "" && !strings.Contains(value, ",")
	}
	return slices.Contains(tmpfsFlags, name)
}

// contradicts reports whether two mount options are the opposites of each other ("exec", "noexec").
func contradicts(a, b string) bool {
	return a == "no"+b || b == "no"+a || a == "ro" && b == "rw" || a == "rw" && b == "ro"
}

// propagations are docker's; the empty one means rprivate.
var propagations = []string{"", "private", "rprivate", "shared", "rshared", "slave", "rslave"}

// bindMount shows a host path. In a user namespace it is mapped one to one: file owners look as they do on the host.
func (b *builder) bindMount(m triton.Mount) (specs.Mount, error) {
	if !filepath.IsAbs(m.Source) {
		return specs.Mount{}, invalid("invalid mount config for type \"bind\": invalid mount path: '%s' mount path must be absolute", m.Source)
	}
	if !slices.Contains(propagations, m.Propagation) {
		return specs.Mount{}, invalid("invalid mount config for type \"bind\": invalid propagation %q", m.Propagation)
	}
	// With CreateSource the daemon has made it by now; else docker's --mount refuses.
	if _, err := os.Stat(m.Source); err != nil {
		if os.IsNotExist(err) {
			return specs.Mount{}, invalid("invalid mount config for type \"bind\": bind source path does not exist: %s", m.Source)
		}
		return specs.Mount{}, fmt.Errorf("bind source path %s: %w", m.Source, err)
	}
	opts := []string{"rbind"}
	if m.NonRecursive {
		opts = []string{"bind"}
	}
	switch {
	case m.ReadOnly && m.ReadOnlyTop:
		opts = append(opts, "ro")
	case m.ReadOnly:
		opts = append(opts, "rro") // also protects the mounts below (Linux 5.12)
	}
	prop := m.Propagation
	if prop == "" {
		prop = "rprivate"
	}
	opts = append(opts, prop)
	if err := b.rootPropagation(m); err != nil {
		return specs.Mount{}, err
	}
	if b.userNS() {
		o, err := b.idmapOption(m)
		if err != nil {
			return specs.Mount{}, err
		}
		opts = append(opts, o)
	}
	return specs.Mount{Type: "bind", Source: m.Source, Options: opts}, nil
}

// rootPropagation opens the container's root for shared and slave binds, whose source must be shared itself.
func (b *builder) rootPropagation(m triton.Mount) error {
	switch m.Propagation {
	case "shared", "rshared":
		if err := b.in.Limits.checkShared(m.Source, false); err != nil {
			return err
		}
		b.s.Linux.RootfsPropagation = "shared"
	case "slave", "rslave":
		if err := b.in.Limits.checkShared(m.Source, true); err != nil {
			return err
		}
		if b.s.Linux.RootfsPropagation == "" {
			b.s.Linux.RootfsPropagation = "rslave"
		}
	}
	return nil
}

// idmapOption maps the mount and all below it; where only mounts below cannot be mapped they are left as they are, and
// their files appear to belong to nobody. The mapping itself is that of the container's user namespace.
func (b *builder) idmapOption(m triton.Mount) (string, error) {
	check := b.in.Limits.Idmap
	if check == nil || b.userNSFile == "" {
		check = func(string, string, bool) error { return nil } // the runtime library will find out
	}
	if check(b.userNSFile, m.Source, !m.NonRecursive) == nil {
		if m.NonRecursive {
			return "idmap", nil
		}
		return "ridmap", nil
	}
	if err := check(b.userNSFile, m.Source, false); err != nil {
		return "", invalid("bind source path %s: %v; run the container with --userns=host", m.Source, err)
	}
	b.warn("bind source path %s: mounts below it cannot be mapped to the container's ids and show owner nobody", m.Source)
	return "idmap", nil
}
