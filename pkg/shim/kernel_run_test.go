package shim

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

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
