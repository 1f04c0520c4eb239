package runtime

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tritond/triton/pkg/triton"
)

// namespaces decides what the container has of its own, what it joins and what it shares with the host.
func (b *builder) namespaces() error {
	b.add(specs.MountNamespace, "")
	for _, step := range []func() error{b.netNS, b.ipcNS, b.pidNS, b.utsNS, b.cgroupNS, b.userNSPath} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// add gives the container a namespace: of its own, or the one at path.
func (b *builder) add(t specs.LinuxNamespaceType, path string) {
	b.s.Linux.Namespaces = append(b.s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
}

// has reports whether the container does not share the host's namespace of this type.
func (b *builder) has(t specs.LinuxNamespaceType) bool {
	for _, n := range b.s.Linux.Namespaces {
		if n.Type == t {
			return true
		}
	}
	return false
}

func nsPath(pid int, name string) string { return fmt.Sprintf("/proc/%d/ns/%s", pid, name) }

func (b *builder) netNS() error {
	mode := b.c.NetworkMode
	p, err := b.joined("network", mode)
	switch {
	case err != nil:
		return err
	case p != nil:
		b.add(specs.NetworkNamespace, nsPath(p.Pid, "net"))
	case mode != triton.ModeHost:
		b.add(specs.NetworkNamespace, b.in.NetNS)
	}
	return nil
}

func (b *builder) ipcNS() error {
	mode := b.c.IpcMode
	p, err := b.joined("ipc", mode)
	switch {
	case err != nil:
		return err
	case p != nil && p.Shm == "":
		id := strings.TrimPrefix(mode, triton.ContainerModePrefix)
		return precondition("cannot join IPC of container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", triton.ShortID(id))
	case p != nil:
		b.in.Shm = p.Shm
		b.add(specs.IPCNamespace, nsPath(p.Pid, "ipc"))
	case mode == triton.ModeHost:
	case mode == "", mode == triton.ModeNone, mode == triton.ModePrivate, mode == triton.ModeShareable:
		b.add(specs.IPCNamespace, "")
	default:
		return invalid("invalid IPC mode: %s", mode)
	}
	return nil
}

func (b *builder) pidNS() error {
	mode := b.c.PidMode
	p, err := b.joined("pid namespace", mode)
	switch {
	case err != nil:
		return err
	case p != nil:
		b.add(specs.PIDNamespace, nsPath(p.Pid, "pid"))
	case mode == triton.ModeHost:
	case mode == "", mode == triton.ModePrivate:
		b.add(specs.PIDNamespace, "")
	default:
		return invalid("invalid PID mode: %s", mode)
	}
	return nil
}

// hostname is what the environment and, outside the host's UTS namespace, the kernel show.
func (b *builder) hostname() string {
	switch {
	case b.in.Hostname != "":
		return b.in.Hostname
	case b.c.Hostname != "":
		return b.c.Hostname
	}
	return triton.ShortID(b.in.Key.ID)
}

func (b *builder) utsNS() error {
	switch b.c.UTSMode {
	case triton.ModeHost:
		if b.c.Hostname != "" || b.c.Domainname != "" {
			return invalid("conflicting options: hostname and the UTS mode")
		}
		return nil
	case "", triton.ModePrivate:
		b.add(specs.UTSNamespace, "")
		b.s.Hostname, b.s.Domainname = b.hostname(), b.c.Domainname
		return nil
	}
	return invalid("invalid UTS mode: %s", b.c.UTSMode)
}

// cgroupNS: docker shares the host's by default on v1; here the default is private everywhere, as docker has it on v2,
// since a container has no business with the names of its neighbours.
func (b *builder) cgroupNS() error {
	switch b.c.CgroupnsMode {
	case triton.ModeHost:
		return nil
	case "", triton.ModePrivate:
		b.add(specs.CgroupNamespace, "")
		return nil
	}
	return invalid("invalid cgroup namespace mode: %s", b.c.CgroupnsMode)
}

// userNSPath joins the pinned user namespace, or maps ids in one of its own. The map is given in both cases: with a path
// it says which ids the namespace has.
func (b *builder) userNSPath() error {
	if !b.userNS() {
		return nil
	}
	path := b.in.UserNS
	for _, mode := range []string{b.c.NetworkMode, b.c.IpcMode, b.c.PidMode} {
		// Namespaces are owned by a user namespace: who joins one joins the owner as well.
		if p, err := b.joined("namespaces", mode); err == nil && p != nil {
			path = p.UserNS
			if path == "" {
				path = nsPath(p.Pid, "user")
			}
		}
	}
	b.userNSFile = path
	b.add(specs.UserNamespace, path)
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: b.in.IDs.Base, Size: b.in.IDs.Size}}
	b.s.Linux.UIDMappings, b.s.Linux.GIDMappings = ids, ids
	return nil
}

// ipcSysctls are the kernel.* settings that belong to an IPC namespace.
var ipcSysctls = map[string]bool{
	"kernel.msgmax": true, "kernel.msgmnb": true, "kernel.msgmni": true, "kernel.sem": true, "kernel.shmall": true,
	"kernel.shmmax": true, "kernel.shmmni": true, "kernel.shm_rmid_forced": true,
}

// sysctls are refused unless they belong to a namespace the container has of its own: others would change the host.
func (b *builder) sysctls() error {
	set := map[string]string{}
	if b.privateNet() {
		// As docker: ports below 1024 and ping without capabilities.
		set["net.ipv4.ip_unprivileged_port_start"] = "0"
		set["net.ipv4.ping_group_range"] = fmt.Sprintf("0 %d", b.lastGroup())
	}
	for name, value := range b.c.Sysctls {
		key := dotted(name)
		if err := b.checkSysctl(name, key); err != nil {
			return err
		}
		set[key] = value
	}
	if len(set) > 0 {
		b.s.Linux.Sysctl = set
	}
	return nil
}

// privateNet reports whether the network namespace is neither the host's nor another container's.
func (b *builder) privateNet() bool {
	return b.c.NetworkMode != triton.ModeHost && !strings.HasPrefix(b.c.NetworkMode, triton.ContainerModePrefix)
}

// lastGroup is the largest group id that the kernel takes in net.ipv4.ping_group_range: one that is mapped, and below
// 2^31 (net/ipv4/sysctl_net_ipv4.c).
func (b *builder) lastGroup() uint32 {
	if b.userNS() {
		return b.in.IDs.Size - 1
	}
	return 1<<31 - 1
}

// dotted gives a sysctl's name the form with dots between its parts (sysctl.d(5)): "net/ipv4/conf/eth0.1/mtu" has them
// exchanged.
func dotted(name string) string {
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '/' {
		return strings.NewReplacer("/", ".", ".", "/").Replace(name)
	}
	return name
}

func (b *builder) checkSysctl(name, key string) error {
	switch {
	case ipcSysctls[key], strings.HasPrefix(key, "fs.mqueue."):
		if !b.has(specs.IPCNamespace) {
			return invalid("sysctl '%s' is not allowed with the host's IPC namespace", name)
		}
	case strings.HasPrefix(key, "net."):
		if !b.has(specs.NetworkNamespace) {
			return invalid("sysctl '%s' is not allowed with the host's network namespace", name)
		}
	case key == "kernel.domainname":
		if !b.has(specs.UTSNamespace) {
			return invalid("sysctl '%s' is not allowed with the host's UTS namespace", name)
		}
	default:
		return invalid("sysctl '%s' is not allowed: it is not separate for each container", name)
	}
	return nil
}
