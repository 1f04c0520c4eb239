package runtime

import (
	"runtime"
	"slices"
	"strings"

	"github.com/moby/profiles/seccomp"
	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tritond/triton/pkg/triton"
)

// defaultCapabilities are docker's fourteen (moby oci/caps/defaults.go).
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
	"CAP_AUDIT_WRITE",
}

// allCapabilities is the word that stands for every capability in cap-add and cap-drop.
const allCapabilities = "ALL"

// capabilities applies cap-add and cap-drop as docker does, then leaves out what this machine cannot give.
func (b *builder) capabilities() error {
	add, err := normalize(b.c.CapAdd)
	if err != nil {
		return err
	}
	drop, err := normalize(b.c.CapDrop)
	if err != nil {
		return err
	}
	var caps []string
	have := b.in.Limits.Capabilities
	switch {
	case b.c.Privileged:
		caps = have
	case slices.Contains(add, allCapabilities):
		caps = without(have, drop)
	case slices.Contains(drop, allCapabilities):
		caps = add
	default:
		caps = append(without(defaultCapabilities, drop), add...)
	}
	var granted []string
	for _, c := range caps {
		switch {
		case slices.Contains(granted, c):
		case slices.Contains(have, c):
			granted = append(granted, c)
		default:
			b.warn("capability %s: not available on this machine", c)
		}
	}
	b.s.Process.Capabilities = capabilitySets(granted)
	return nil
}

// capabilitySets: as in docker nothing is inheritable or ambient, so a process that is not root has none.
func capabilitySets(caps []string) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
}

// normalize gives capability names their CAP_ form and refuses those that no kernel knows.
func normalize(names []string) ([]string, error) {
	var out []string
	for _, n := range names {
		n = strings.ToUpper(n)
		if n != allCapabilities {
			if !strings.HasPrefix(n, "CAP_") {
				n = "CAP_" + n
			}
			if !slices.Contains(knownCapabilities(), n) {
				return nil, invalid("unknown capability: %q", n)
			}
		}
		out = append(out, n)
	}
	return out, nil
}

func without(caps, drop []string) []string {
	var out []string
	for _, c := range caps {
		if !slices.Contains(drop, c) {
			out = append(out, c)
		}
	}
	return out
}

func knownCapabilities() []string { return capNames(capability.ListKnown()) }

func capNames(caps []capability.Cap) []string {
	out := make([]string, 0, len(caps))
	for _, c := range caps {
		out = append(out, "CAP_"+strings.ToUpper(c.String()))
	}
	return out
}

// seccomp sets docker's default filter or the user's profile.
func (b *builder) seccomp() error {
	if b.c.Seccomp == triton.SeccompUnconfined || b.c.Privileged && b.c.Seccomp == "" {
		return nil
	}
	if b.c.Seccomp != "" {
		profile, err := seccomp.LoadProfile(b.c.Seccomp, &b.s)
		if err != nil {
			return invalid("invalid seccomp profile: %v", err)
		}
		b.s.Linux.Seccomp = profile
		return nil
	}
	profile, err := seccomp.GetDefaultProfile(&b.s)
	if err != nil {
		return err
	}
	// Each architecture in the filter is compiled at every start and exec: three cost 20 ms more than one. Programs for
	// another one (32-bit x86) get the filter's refusal; a profile of the user's own can list more.
	if arch, ok := nativeArch[runtime.GOARCH]; ok {
		profile.Architectures = []specs.Arch{arch}
	}
	b.s.Linux.Seccomp = profile
	return nil
}

var nativeArch = map[string]specs.Arch{
	"amd64": specs.ArchX86_64, "arm64": specs.ArchAARCH64, "ppc64le": specs.ArchPPC64LE, "riscv64": specs.ArchRISCV64,
	"s390x": specs.ArchS390X,
}
