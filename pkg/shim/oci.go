package shim

import (
	"fmt"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// containerConfig turns the request's OCI document into libcontainer's, with the rootfs at root and the pinned
// namespaces joined by path. The document must not have both a path and a map for the user namespace: given the path
// alone, libcontainer forks this process twice to read the maps from inside. A range that is known spares that: the
// document has the map, and the path is put into what it was turned into, which then is the same.
func containerConfig(req *CreateRequest, spec *specs.Spec, root string) (*configs.Config, error) {
	if spec.Linux == nil || spec.Process == nil {
		return nil, invalid("oci document lacks linux or process")
	}
	if spec.Root == nil {
		spec.Root = &specs.Root{}
	}
	spec.Root.Path = root
	spec.Linux.CgroupsPath = req.CgroupPath
	known := req.UserNS != "" && !req.IDs.IsZero()
	switch {
	case known:
		setNamespace(spec.Linux, specs.UserNamespace, "")
		ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: req.IDs.Base, Size: req.IDs.Size}}
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = ids, ids
	case req.UserNS != "":
		setNamespace(spec.Linux, specs.UserNamespace, req.UserNS)
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = nil, nil
	}
	if req.NetNS != "" {
		setNamespace(spec.Linux, specs.NetworkNamespace, req.NetNS)
	}
	cfg, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: req.Key.ID, Spec: spec})
	if err != nil {
		return nil, invalid("oci document: %v", err)
	}
	if known {
		cfg.Namespaces.Add(configs.NEWUSER, req.UserNS)
	}
	return cfg, nil
}

func setNamespace(l *specs.Linux, kind specs.LinuxNamespaceType, path string) {
	for i := range l.Namespaces {
		if l.Namespaces[i].Type == kind {
			l.Namespaces[i].Path = path
			return
		}
	}
	l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
}

// containerProcess turns an OCI process into libcontainer's, as runc does (utils_linux.go, newProcess).
func containerProcess(p *specs.Process) (*libcontainer.Process, error) {
	if len(p.Args) == 0 || p.Cwd == "" {
		return nil, invalid("process lacks args or cwd")
	}
	lp := &libcontainer.Process{
		Args: p.Args, Env: p.Env, Cwd: p.Cwd,
		UID: int(p.User.UID), GID: int(p.User.GID),
		Label: p.SelinuxLabel, AppArmorProfile: p.ApparmorProfile, NoNewPrivileges: &p.NoNewPrivileges,
		Scheduler: p.Scheduler, IOPriority: p.IOPriority,
	}
	if c := p.Capabilities; c != nil {
		lp.Capabilities = &configs.Capabilities{
			Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable, Permitted: c.Permitted, Ambient: c.Ambient,
		}
	}
	for _, gid := range p.User.AdditionalGids {
		lp.AdditionalGroups = append(lp.AdditionalGroups, int(gid))
	}
	for _, r := range p.Rlimits {
		kind, ok := rlimitOf(r.Type)
		if !ok {
			return nil, invalid("unknown rlimit %q", r.Type)
		}
		lp.Rlimits = append(lp.Rlimits, configs.Rlimit{Type: kind, Hard: r.Hard, Soft: r.Soft})
	}
	return lp, nil
}

// rlimitOf translates the runtime specification's name of a resource limit.
func rlimitOf(name string) (int, bool) {
	kind, ok := map[string]int{
		"RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_DATA": unix.RLIMIT_DATA,
		"RLIMIT_STACK": unix.RLIMIT_STACK, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_RSS": unix.RLIMIT_RSS,
		"RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK,
		"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING,
		"RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO,
		"RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	}[name]
	return kind, ok
}

// hostRoot returns the host's ids of the container's root.
func hostRoot(cfg *configs.Config) (uid, gid int, err error) {
	if uid, err = cfg.HostRootUID(); err != nil {
		return 0, 0, fmt.Errorf("container's root: %w", err)
	}
	if gid, err = cfg.HostRootGID(); err != nil {
		return 0, 0, fmt.Errorf("container's root: %w", err)
	}
	return uid, gid, nil
}
