package runtime

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tritond/triton/pkg/triton"
)

// Input is all that the OCI configuration of a container depends on.
type Input struct {
	Key  triton.ContainerKey
	Spec *triton.Spec
	// Hostname is the container's own; empty: Spec.Hostname, else the short id. With UTSMode host it is the machine's,
	// and only the environment shows it.
	Hostname string
	// IDs are the host ids of the user namespace; zero: the host's own.
	IDs triton.IDRange
	// UserNS and NetNS are paths of pinned namespaces to join. Without UserNS a namespace of its own maps IDs.
	UserNS, NetNS string
	// Rootfs holds the image's files as directories, topmost first, or one mounted directory. It is read for users.
	Rootfs     Layers
	CgroupPath string
	Files      Files
	// Peers are the running containers whose namespaces are joined, by id.
	Peers map[string]Peer
	// Shm is a host directory to show as /dev/shm, of a container that shares it; empty: a tmpfs of its own.
	Shm string
	// Init is the host's program that is the first process of a container with Spec.Init.
	Init   string
	Limits Limits
}

// Files are host paths of the files that make a container's network known to it; an empty one is not shown.
type Files struct {
	Hosts, Hostname, ResolvConf string
}

// Peer is a running container whose namespaces another one joins.
type Peer struct {
	Pid    int
	IDs    triton.IDRange
	UserNS string // pinned path, empty: /proc/PID/ns/user
	Shm    string // its shareable /dev/shm on the host; empty: not shared
}

// rootPath stands in the configuration for what only the shim knows: where it mounts the root file system.
const rootPath = "rootfs"

// Spec builds the configuration of a container's first process, equal to what dockerd would make of the same wishes.
// It reads the image's user files, device nodes of the host and what Limits looks at, and changes nothing. What this
// machine forbids is left out or clamped, with a warning that does not name the container: the same words mean the same
// fact. Errors are ErrInvalidArgument for wishes that make no sense, ErrFailedPrecondition for peers that do not run.
func Spec(in Input) (*specs.Spec, []string, error) {
	b := &builder{in: in, c: in.Spec}
	for _, step := range []func() error{
		b.validate,
		b.namespaces,
		b.process,
		b.capabilities,
		b.devices,
		b.resources,
		b.sysctls,
		b.mounts,
		b.paths,
		b.seccomp, // last: the profile depends on the capabilities
	} {
		if err := step(); err != nil {
			return nil, nil, err
		}
	}
	return &b.s, b.warnings, nil
}

// builder collects the configuration, step by step.
type builder struct {
	in       Input
	c        *triton.Spec
	s        specs.Spec
	warnings []string
	// userNSFile is the joined user namespace; empty: none, or a new one.
	userNSFile string
	// deviceBinds show device nodes under other names than the host's.
	deviceBinds []specs.Mount
}

// warn notes a wish that this machine could not grant.
func (b *builder) warn(format string, args ...any) {
	b.warnings = append(b.warnings, fmt.Sprintf(format, args...))
}

// validate starts the configuration and refuses what no later step looks at.
func (b *builder) validate() error {
	if len(b.c.Argv()) == 0 || b.c.Argv()[0] == "" {
		return invalid("no command specified")
	}
	if w := b.c.WorkingDir; w != "" && !filepath.IsAbs(w) {
		return invalid("the working directory '%s' is invalid, it needs to be an absolute path", w)
	}
	if !filepath.IsAbs(b.in.CgroupPath) {
		return invalid("control group path %q must be absolute", b.in.CgroupPath)
	}
	if b.userNS() && !b.c.UserNamespace() {
		return invalid("privileged containers and those in a namespace of the host cannot have host ids %d+%d", b.in.IDs.Base, b.in.IDs.Size)
	}
	b.s = specs.Spec{
		Version:     specs.Version,
		Process:     &specs.Process{},
		Root:        &specs.Root{Path: rootPath, Readonly: b.c.ReadonlyRootfs},
		Annotations: b.c.Annotations,
		Linux:       &specs.Linux{CgroupsPath: b.in.CgroupPath, Resources: &specs.LinuxResources{}},
	}
	return nil
}

// userNS reports whether the container has a user namespace.
func (b *builder) userNS() bool { return !b.in.IDs.IsZero() }

// paths hides and protects parts of /proc and /sys.
func (b *builder) paths() error {
	if b.c.Privileged {
		return nil
	}
	b.s.Linux.MaskedPaths, b.s.Linux.ReadonlyPaths = MaskedPaths(), ReadonlyPaths()
	if b.c.MaskedPaths != nil {
		b.s.Linux.MaskedPaths = *b.c.MaskedPaths
	}
	if b.c.ReadonlyPaths != nil {
		b.s.Linux.ReadonlyPaths = *b.c.ReadonlyPaths
	}
	return nil
}

// MaskedPaths is docker's list of what a container does not see (moby oci/defaults.go). It is a new slice on each call.
func MaskedPaths() []string {
	paths := []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
		"/sys/devices/virtual/powercap",
	}
	// Interrupt and throttling counts tell neighbours' work apart (moby GHSA-6fw5-f8r9-fgfm).
	throttle, err := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle")
	if err != nil {
		return paths // only a malformed pattern fails
	}
	return append(paths, throttle...)
}

// ReadonlyPaths is docker's list of what a container sees but may not write. It is a new slice on each call.
func ReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// invalid is an error about a wish that makes no sense, complete as it stands: clients show it.
func invalid(format string, args ...any) error {
	return kind{errdefs.ErrInvalidArgument, fmt.Sprintf(format, args...)}
}

// precondition is an error about a wish that the present state of the machine does not allow.
func precondition(format string, args ...any) error {
	return kind{errdefs.ErrFailedPrecondition, fmt.Sprintf(format, args...)}
}

// kind is a message with an errdefs kind that adds no words of its own.
type kind struct {
	of  error
	msg string
}

func (k kind) Error() string { return k.msg }
func (k kind) Unwrap() error { return k.of }

// joined returns the peer of a container:ID mode.
func (b *builder) joined(what, mode string) (*Peer, error) {
	id, ok := strings.CutPrefix(mode, triton.ContainerModePrefix)
	if !ok {
		return nil, nil
	}
	p, ok := b.in.Peers[id]
	if !ok || p.Pid <= 0 {
		return nil, precondition("cannot join %s of container %s: it is not running", what, triton.ShortID(id))
	}
	if b.userNS() && p.IDs != b.in.IDs { // the host's root may join any
		return nil, precondition("cannot join %s of container %s: it runs in another user namespace", what, triton.ShortID(id))
	}
	return &p, nil
}
