package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"
)

func rights(_ context.Context, cfg Config) []Finding {
	const group = "rights"
	var notRoot error
	if os.Geteuid() != 0 {
		notRoot = fmt.Errorf("uid %d", os.Geteuid())
	}
	fs := []Finding{grade(group, "root", notRoot, "uid 0", Missing, "run it as root")}
	fs = append(fs, capabilities()...)
	_, err := os.Stat("/proc/sys/kernel/seccomp/actions_avail")
	fs = append(fs, grade(group, "seccomp", err, "containers get a filter of system calls", Fallback, "containers run without a filter"))
	return append(fs, lsmOfHost(), corePattern(cfg.Running))
}

// wanted capabilities, by what is done without one.
var wanted = []struct {
	cap     capability.Cap
	without string
	level   Level
}{
	{capability.CAP_SYS_ADMIN, "no mounts, no namespaces", Missing},
	{capability.CAP_NET_ADMIN, "no bridge, no rules", Missing},
	{capability.CAP_BPF, "no probes", Missing},
	{capability.CAP_PERFMON, "no probes", Missing},
	{capability.CAP_SYS_PTRACE, "no namespaces made for others, no post-mortem", Missing},
	{capability.CAP_SYS_RESOURCE, "ulimits above the daemon's own and a lower --oom-score-adj are clamped", Fallback},
}

func capabilities() []Finding {
	have, err := capability.NewPid2(0)
	if err == nil {
		err = have.Load()
	}
	if err != nil {
		return []Finding{{"rights", "capabilities", Missing, err.Error()}}
	}
	var fs []Finding
	for _, w := range wanted {
		f := Finding{"rights", "CAP_" + strings.ToUpper(w.cap.String()), OK, "effective"}
		if !have.Get(capability.EFFECTIVE, w.cap) {
			f.Level, f.Got = w.level, w.without
		}
		fs = append(fs, f)
	}
	return fs
}

// lsmOfHost tells of AppArmor and SELinux: containers get no profile of either yet.
func lsmOfHost() Finding {
	f := Finding{"rights", "AppArmor, SELinux", OK, "not active: nothing to fall out with"}
	b, err := os.ReadFile("/sys/kernel/security/lsm")
	if err != nil {
		return f
	}
	for name := range strings.SplitSeq(strings.TrimSpace(string(b)), ",") {
		if name == "apparmor" || name == "selinux" {
			f.Level, f.Got = Fallback, name+" is active: containers run without a profile of it"
		}
	}
	return f
}

// corePattern tells who gets core dumps today. While a daemon runs it is the daemon's.
func corePattern(running bool) Finding {
	const group, name = "rights", "core dumps"
	b, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err == nil {
		err = unix.Access("/proc/sys/kernel/core_pattern", unix.W_OK)
	}
	if err != nil {
		return Finding{group, name, Fallback, fmt.Sprintf("kernel.core_pattern cannot be set (%v): deaths without a dump", errors.Unwrap(err))}
	}
	pattern := strings.TrimSpace(string(b))
	if strings.HasPrefix(pattern, "@") && !running {
		return Finding{group, name, Fallback, fmt.Sprintf("kernel.core_pattern is %q: that socket gets no crashes of no container while a daemon "+
			"takes core dumps; they end without a core", pattern)}
	}
	return Finding{group, name, OK, fmt.Sprintf("kernel.core_pattern may be set, it is %q", pattern)}
}
