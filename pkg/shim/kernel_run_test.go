package shim

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

func TestKernelContainerRunsAndReportsItsEnd(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script string
		code   int
		signal int
	}{
		{"zero", "true", 0, 0},
		{"code", "exit 42", 42, 0},
		{"signal", "sh -c 'kill -SEGV $$'; exit $?", 139, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, "sh", "-c", "echo out; echo err >&2; cat /proc/self/uid_map; "+tc.script)
			rec := r.run()
			want := triton.ExitRecord{Run: 1, Pid: rec.Pid, Code: tc.code, Signal: tc.signal, At: rec.At, Source: triton.ExitByWait}
			if diff := cmp.Diff(want, rec); diff != "" {
				t.Errorf("exit record (-want +got):\n%s", diff)
			}
			onDisk, err := readRecord(r.req.ExitDir, "")
			must(t, err)
			if diff := cmp.Diff(rec, onDisk, cmp.Comparer(sameTime)); diff != "" {
				t.Errorf("record on disk (-told +written):\n%s", diff)
			}
		})
	}
}

func TestKernelMissingProgramIsToldApart(t *testing.T) {
	for _, tc := range []struct {
		argv string
		kind ErrorKind
		text string
	}{
		{"nosuch", KindExecNotFound, `exec: "nosuch": executable file not found in $PATH`},
		{"/bin/nosuch", KindExecNotFound, `exec: "/bin/nosuch": stat /bin/nosuch: no such file or directory`},
		{"/bin/notexec", KindNotExecutable, `exec: "/bin/notexec": permission denied`},
		{"/bin", KindNotExecutable, `exec: "/bin": is a directory`},
	} {
		t.Run(tc.argv, func(t *testing.T) {
			r := newRig(t, tc.argv)
			_, err := r.tryCreate()
			var e *Error
			if !errors.As(err, &e) || e.Kind != tc.kind || !contains(e.Message, tc.text) {
				t.Errorf("create %q: got %v (%+v), want %s with %s", tc.argv, err, e, tc.kind, tc.text)
			}
			r.nothingLeft()
			if _, err := r.client.State(r.ctx()); err == nil {
				t.Error("the shim holds a container that failed")
			}
			must(t, r.client.Shutdown(r.ctx()))
		})
	}
}

// What the shim is started with must not leak into the container.
func TestKernelProgramStartsClean(t *testing.T) {
	r := newRig(t, "sh", "-c", "grep -E 'Sig(Ign|Blk)|Seccomp:|NoNewPrivs|CapBnd' /proc/self/status; umask; ls /proc/self/fd; echo > /dev/stdout")
	r.spec.Linux.Seccomp = oneArch(t, &r.spec)
	if rec := r.run(); rec.Code != 0 {
		t.Errorf("exit: %+v", rec)
	}
	const want = `SigBlk:	0000000000000000
SigIgn:	0000000000000000
CapBnd:	00000000000004eb
NoNewPrivs:	0
Seccomp:	2
0022
0
1
2
3

`
	if diff := cmp.Diff(want, r.logText()); diff != "" { // 3 is ls's own
		t.Errorf("container (-want +got):\n%s", diff)
	}
}

func TestKernelExecStartsClean(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	r.spec.Linux.Seccomp = oneArch(t, &r.spec)
	r.create()
	must(t, r.client.Start(r.ctx()))
	_, out, err := r.exec("e", Stdio{}, nil, "sh", "-c",
		"grep -E 'Sig(Ign|Blk)|Seccomp:' /proc/self/status; umask; ls /proc/self/fd; unshare -U true 2>&1; echo > /dev/stderr")
	must(t, err)
	stdout, stderr := unframe(t, out.end(t))
	const want = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSeccomp:\t2\n0022\n0\n1\n2\n3\n" +
		"unshare: unshare(0x10000000): Operation not permitted\n"
	if diff := cmp.Diff(want, stdout); diff != "" || stderr != "\n" {
		t.Errorf("exec (-want +got):\n%s stderr %q", diff, stderr)
	}
}

// oneArch is docker's default seccomp profile for this architecture alone: three cost ten times as long to compile.
func oneArch(t *testing.T, spec *specs.Spec) *specs.LinuxSeccomp {
	t.Helper()
	profile, err := seccomp.GetDefaultProfile(spec)
	must(t, err)
	profile.Architectures = profile.Architectures[:1]
	return profile
}

func TestKernelFullDataDiskCostsNoExitCode(t *testing.T) {
	r := newRig(t, "sh", "-c", "exit 44")
	must(t, unix.Mount("tmpfs", r.req.ExitDir, "tmpfs", 0, "size=4k,nr_inodes=1"))
	defer unix.Unmount(r.req.ExitDir, unix.MNT_DETACH)
	r.startKeeper()
	r.create()
	must(t, r.client.Start(r.ctx()))
	state, err := r.client.State(r.ctx())
	must(t, err)
	if rec := r.wait(""); rec.Code != 44 {
		t.Errorf("exit: %+v", rec)
	}
	kill(t, r.shim)
	if reply := r.adoptBy(ProcessReply{Pid: state.Pid, StartTime: state.StartTime}); reply.Exit == nil || reply.Exit.Code != 44 {
		t.Errorf("adopt: %+v", reply.Exit)
	}
}
