package runtime

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// defaultPath is docker's PATH for images that set none.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// initPath is where a container with an init of its own finds it: docker's path, which docker top shows.
const initPath = "/sbin/docker-init"

// process describes the first process, save its capabilities. HOME is not set here: the runtime library takes it from
// the container's own /etc/passwd, mounts included, where the environment has none.
func (b *builder) process() error {
	user, err := lookupUser(b.in.Rootfs, b.c.User, b.c.GroupAdd, b.in.IDs)
	if err != nil {
		return err
	}
	limits, err := b.rlimits()
	if err != nil {
		return err
	}
	p := b.s.Process
	if p.Args = b.c.Argv(); b.c.Init {
		p.Args = append([]string{initPath, "--"}, p.Args...)
	}
	p.Cwd = workingDir(b.c.WorkingDir)
	p.Terminal = b.c.TTY
	p.ConsoleSize = consoleSize(b.c.TTY, b.c.ConsoleSize)
	p.Env = mergeEnv(b.defaultEnv(), b.c.Env)
	p.User = user
	p.NoNewPrivileges = b.c.NoNewPrivileges
	p.Rlimits = limits
	p.OOMScoreAdj = b.oomScoreAdj()
	return nil
}

func (b *builder) defaultEnv() []string {
	env := []string{defaultPath, "HOSTNAME=" + b.hostname()}
	if b.c.TTY {
		env = append(env, "TERM=xterm")
	}
	return env
}

func workingDir(dir string) string {
	if dir == "" {
		return "/"
	}
	return filepath.Clean(dir)
}

func consoleSize(tty bool, size [2]uint) *specs.Box {
	if !tty || size == [2]uint{} {
		return nil
	}
	return &specs.Box{Height: size[0], Width: size[1]}
}

// mergeEnv puts overrides over defaults. As in docker a name without "=" removes the default of that name.
func mergeEnv(defaults, overrides []string) []string {
	at := make(map[string]int, len(defaults))
	out := append([]string(nil), defaults...)
	for i, e := range defaults {
		name, _, _ := strings.Cut(e, "=")
		at[name] = i
	}
	for _, e := range overrides {
		name, _, isSet := strings.Cut(e, "=")
		i, known := at[name]
		switch {
		case known && isSet:
			out[i] = e
		case known:
			out[i] = ""
		case isSet:
			out = append(out, e)
		}
	}
	kept := out[:0]
	for _, e := range out {
		if e != "" {
			kept = append(kept, e)
		}
	}
	return kept
}

// rlimitNumbers are docker's names of resource limits (go-units) and the kernel's numbers.
var rlimitNumbers = map[string]int{
	"core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE,
	"locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE,
	"nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS,
	"rtprio": unix.RLIMIT_RTPRIO, "rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING,
	"stack": unix.RLIMIT_STACK,
}

// rlimits clamps what lies above the daemon's own hard limits, which it may not raise without CAP_SYS_RESOURCE.
func (b *builder) rlimits() ([]specs.POSIXRlimit, error) {
	var out []specs.POSIXRlimit
	for _, u := range b.c.Ulimits {
		if _, ok := rlimitNumbers[u.Name]; !ok {
			return nil, invalid("invalid ulimit type: %s", u.Name)
		}
		if u.Soft < -1 || u.Hard < -1 {
			return nil, invalid("ulimit %s: limits must be -1 (unlimited) or not negative", u.Name)
		}
		soft, hard := uint64(u.Soft), uint64(u.Hard) // -1 becomes RLIM_INFINITY, which is what it means
		if soft > hard {
			return nil, invalid("ulimit soft limit must be less than or equal to hard limit: %s", ulimitText(u))
		}
		if limit, ok := b.in.Limits.Rlimits[u.Name]; ok && hard > limit {
			b.warn("ulimit %s: this machine allows at most %d", u.Name, limit)
			soft, hard = min(soft, limit), limit
		}
		out = append(out, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: soft, Hard: hard})
	}
	return out, nil
}

func ulimitText(u triton.Ulimit) string { return fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard) }

// oomScoreAdj is nil where nothing needs to be written: the process inherits the shim's.
func (b *builder) oomScoreAdj() *int {
	v, lowest := b.c.OomScoreAdj, b.in.Limits.MinOomScoreAdj
	if v < lowest {
		if v != 0 {
			b.warn("oom_score_adj: this machine allows at least %d", lowest)
		}
		v = lowest
	}
	return &v
}

// ExecProcess describes a further process in the container that in describes. As in docker it has the container's
// environment, user, limits and capabilities unless the exec says otherwise; Privileged gives all of this machine's.
func ExecProcess(in Input, e triton.ExecSpec) (*specs.Process, error) {
	if len(e.Argv) == 0 || e.Argv[0] == "" {
		return nil, invalid("no exec command specified")
	}
	if e.WorkingDir != "" && !filepath.IsAbs(e.WorkingDir) {
		return nil, invalid("the working directory '%s' is invalid, it needs to be an absolute path", e.WorkingDir)
	}
	b := &builder{in: in, c: in.Spec, s: specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}}
	if err := b.process(); err != nil {
		return nil, err
	}
	if err := b.capabilities(); err != nil {
		return nil, err
	}
	p := b.s.Process
	p.Args = e.Argv
	p.Terminal = e.TTY
	p.ConsoleSize = consoleSize(e.TTY, e.ConsoleSize)
	p.Env = mergeEnv(mergeEnv(execEnv(b, e.TTY), in.Spec.Env), e.Env)
	if e.WorkingDir != "" {
		p.Cwd = filepath.Clean(e.WorkingDir)
	}
	if e.User != "" {
		user, err := lookupUser(in.Rootfs, e.User, in.Spec.GroupAdd, in.IDs)
		if err != nil {
			return nil, err
		}
		p.User = user
	}
	if e.Privileged {
		p.Capabilities = capabilitySets(in.Limits.Capabilities)
	}
	return p, nil
}

// execEnv is the default environment of an exec: TERM follows the exec's terminal, not the container's.
func execEnv(b *builder, tty bool) []string {
	c := *b.c
	c.TTY = tty
	return (&builder{in: b.in, c: &c}).defaultEnv()
}
