package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// withoutEnter is a rig whose shim finds no cmd/triton-enter, so that libcontainer starts its execs.
func withoutEnter(t *testing.T, argv ...string) *rig {
	t.Helper()
	alone := filepath.Join(t.TempDir(), "triton-shim")
	must(t, os.Link(testShim, alone))
	r := newRig(t, argv...)
	r.program = alone
	return r
}

// pair are two containers that differ in who starts their execs.
type pair struct {
	name string
	*rig
}

func pairs(t *testing.T, change func(*rig)) []pair {
	t.Helper()
	both := []pair{{"enter", newRig(t, "sleep", "1000")}, {"libcontainer", withoutEnter(t, "sleep", "1000")}}
	for _, r := range both {
		change(r.rig)
		r.startKeeper()
		r.create()
		must(t, r.client.Start(r.ctx()))
	}
	return both
}

// looks prints all that a process may know of how it was started.
const looks = `cat /proc/self/status | grep -E '^(Uid|Gid|Groups|Cap|NoNew|Seccomp|Sig|Cpus_allowed:|NSpid|NSsid)'
cat /proc/self/cgroup /proc/self/limits /proc/self/oom_score_adj
for n in user pid net ipc uts mnt cgroup; do [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n 2>/dev/null) ] && echo same $n; done
env; pwd; umask; ls -l /proc/self/fd; stat -L -c '%u %g %a' /proc/self/fd/0 /proc/self/fd/1; tty; stty size; cat /proc/keys; echo > /dev/stderr; exit 7`

// sameWords takes out what differs between any two processes.
var sameWords = regexp.MustCompile(`pipe:\[\d+\]|\d\d:\d\d|NS[sp]id:.*|/proc/\d+/fd|\b[0-9a-f]{8} I--Q---.*`)

func TestKernelExecIsWhatLibcontainerMakes(t *testing.T) {
	caps := []string{"CAP_CHOWN", "CAP_KILL", "CAP_NO_SUCH_THING"}
	both := pairs(t, func(r *rig) {
		r.spec.Linux.Seccomp = oneArch(t, &r.spec)
		score := 500
		r.spec.Process.OOMScoreAdj = &score
	})
	for name, tc := range map[string]struct {
		stdio  Stdio
		change func(*specs.Process)
	}{
		"root":                    {change: func(*specs.Process) {}},
		"terminal":                {stdio: Stdio{TTY: true, Stdin: true, Size: [2]uint{33, 99}}, change: func(p *specs.Process) { p.User.UID, p.User.GID = 1000, 5 }},
		"terminal without a size": {stdio: Stdio{TTY: true}, change: func(*specs.Process) {}},
		"user": {change: func(p *specs.Process) {
			p.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{7, 5}}
			p.Cwd, p.Env = "/tmp", []string{"PATH=/bin", "X=1", "Y=2", "X=3", "HOME="}
		}},
		"unknown user":      {change: func(p *specs.Process) { p.User.UID, p.Env = 4242, []string{"PATH=/nosuch:/bin"} }},
		"no new privileges": {change: func(p *specs.Process) { p.NoNewPrivileges = true; p.User.UID = 1000 }},
		"input":             {stdio: Stdio{Stdin: true}, change: func(*specs.Process) {}},
		"capabilities": {change: func(p *specs.Process) {
			p.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps[:1], Permitted: caps, Inheritable: caps, Ambient: caps[1:2]}
			p.User.UID = 1000
		}},
		"no capabilities": {change: func(p *specs.Process) { p.Capabilities = &specs.LinuxCapabilities{} }},
		"limits": {change: func(p *specs.Process) {
			p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_NPROC", Soft: 50, Hard: 60}, {Type: "RLIMIT_CORE"}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var got [2]string
			for i, r := range both {
				id := strings.ReplaceAll(name, " ", "-")
				_, out, err := r.exec(id, tc.stdio, tc.change, "sh", "-c", looks)
				must(t, err)
				if rec := r.wait(id); rec.Code != 7 {
					t.Errorf("%s: exit: %+v", r.name, rec)
				}
				got[i] = out.end(t)
				if !tc.stdio.TTY {
					stdout, stderr := unframe(t, got[i])
					got[i] = stdout + stderr
				}
				got[i] = sameWords.ReplaceAllString(got[i], "…")
			}
			if diff := cmp.Diff(strings.Split(got[1], "\n"), strings.Split(got[0], "\n")); diff != "" || name == "root" && strings.Count(got[0], "\nsame ") != 7 {
				t.Errorf("process (-libcontainer +enter):\n%s", diff)
			}
		})
	}
}

func TestKernelExecFailsWithLibcontainersWords(t *testing.T) {
	both := pairs(t, func(r *rig) {
		upper := r.req.Rootfs.Upper
		for path, content := range map[string]string{"badformat": "\x7fELFno", "script": "#!/bin/sh\necho ran\n", "noshebang": "#!/nosuch\n"} {
			must(t, os.WriteFile(filepath.Join(upper, path), []byte(content), 0o755))
		}
		must(t, os.Mkdir(filepath.Join(upper, "shut"), 0o700))
		must(t, os.WriteFile(filepath.Join(upper, "shut", "x"), nil, 0o755))
		must(t, os.Chown(filepath.Join(upper, "shut"), int(testIDs.Base), int(testIDs.Base)))
	})
	user := func(p *specs.Process) { p.User.UID = 1000 }
	for i, tc := range []struct {
		argv   string
		change func(*specs.Process)
		want   ErrorKind // empty: the program is executed, or the kernel refuses it
	}{
		{"nosuch", nil, KindExecNotFound},
		{"/bin/nosuch", nil, KindExecNotFound},
		{"/bin/notexec", nil, KindNotExecutable},
		{"notexec", nil, KindExecNotFound},
		{"/bin", nil, KindNotExecutable},
		{"/bin/sh/x", nil, KindNotExecutable},
		{"/shut/x", user, ""}, // capabilities are not gone yet
		{"/shut/x", func(p *specs.Process) { user(p); p.Capabilities = &specs.LinuxCapabilities{} }, KindNotExecutable},
		{"./script", nil, ""},
		{"script", func(p *specs.Process) { p.Env = []string{"PATH="} }, KindExecNotFound},
		{"script", func(p *specs.Process) { p.Env = []string{"PATH=:/bin"} }, KindInternal},
		{"script", func(p *specs.Process) { p.Env = []string{"PATH=.:/bin"} }, KindInternal},
		{"true", func(p *specs.Process) { p.Env = nil }, KindExecNotFound},
		{"..", nil, KindExecNotFound},
		{"true", func(p *specs.Process) { p.Cwd = "/nosuch" }, KindExecNotFound},
		{"true", func(p *specs.Process) { p.Cwd = "/bin/sh" }, KindNotExecutable},
		{"true", func(p *specs.Process) { user(p); p.Cwd = "/shut" }, ""},       // entered as root
		{"true", func(p *specs.Process) { p.User.UID = 1 << 30 }, KindInternal}, // who owns its standard output
		{"true", func(p *specs.Process) { p.User.GID = 1 << 30 }, KindInternal},
		{"true", func(p *specs.Process) { p.Env = []string{"novalue"} }, KindInternal},
		{"/badformat", nil, ""},
		{"/noshebang", nil, ""},
	} {
		t.Run(tc.argv, func(t *testing.T) {
			var got [2]string
			for j, r := range both {
				id := fmt.Sprint("e", i)
				_, out, err := r.exec(id, Stdio{}, tc.change, tc.argv)
				var e *Error
				switch {
				case errors.As(err, &e) != (tc.want != "") || tc.want != "" && e.Kind != tc.want:
					t.Errorf("%s: got %v, want %q", r.name, err, tc.want)
				case err == nil:
					got[j] = fmt.Sprintf("%d %q", r.wait(id).Code, out.end(t))
				default:
					got[j] = e.Message
				}
			}
			if got[0] != got[1] && !contains(got[1], "chown /dev/stdout") {
				t.Errorf("enter says\n%s\nlibcontainer\n%s", got[0], got[1])
			}
		})
	}
}

// The stages of an exec are reaped, whatever it was.
func TestKernelExecLeavesNoStages(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	r.create()
	must(t, r.client.Start(r.ctx()))
	for i := range 20 {
		id := fmt.Sprint("e", i)
		_, _, err := r.exec(id, Stdio{TTY: i%2 == 0}, nil, "true")
		must(t, err)
		if rec := r.wait(id); rec.Code != 0 {
			t.Fatalf("exit: %+v", rec)
		}
	}
	children, err := childrenOf(itoa(r.shim.Process.Pid))
	must(t, err)
	if len(children) != 1 {
		t.Errorf("the shim has children %v, want the first process only", children)
	}
}

// What the container sees of a program that is just joining it cannot be written to.
func TestKernelEnterIsSealed(t *testing.T) {
	e := openEnterer(filepath.Join(filepath.Dir(testShim), EnterName))
	f, err := e.program()
	must(t, err)
	defer f.Close()
	if _, err := f.WriteAt([]byte{0}, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("write to the program: %v, want EPERM", err)
	}
	if err := f.Truncate(0); !errors.Is(err, unix.EPERM) {
		t.Errorf("truncate the program: %v, want EPERM", err)
	}
	if again, err := e.program(); again != f || err != nil {
		t.Errorf("a second copy: %v, %v", again, err)
	}
}

// What a shim has open by mistake must not lead out of the container: neither as its program nor as its directory.
func TestKernelExecCannotReachTheShimsFiles(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	host, err := os.Open("/")
	must(t, err)
	defer host.Close()
	r.extra = []*os.File{host} // descriptor 3 of the shim, and of nobody else
	r.create()
	must(t, r.client.Start(r.ctx()))
	for fd := range 12 {
		for _, change := range []func(*specs.Process){
			func(p *specs.Process) { p.Cwd = fmt.Sprint("/proc/self/fd/", fd) },
			func(p *specs.Process) { p.Args = []string{fmt.Sprintf("/proc/self/fd/%d/bin/sh", fd)} },
			func(p *specs.Process) { p.Args = []string{fmt.Sprint("/proc/self/fd/", fd), "-c", "true"} },
		} {
			id := "e" + triton.NewID()[:8]
			if _, _, err := r.exec(id, Stdio{}, change, "true"); err != nil {
				continue
			}
			// A socket looks as if it could be executed, until it is tried.
			if rec := r.wait(id); rec.Code != 255 {
				t.Errorf("descriptor %d was of use: exit %+v", fd, rec)
			}
		}
	}
}
