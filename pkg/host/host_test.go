package host

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func find(t *testing.T, all []Finding, name string) Finding {
	t.Helper()
	for _, f := range all {
		if f.Name == name {
			return f
		}
	}
	t.Fatalf("no finding %q among %d", name, len(all))
	return Finding{}
}

func TestWriteSumsUp(t *testing.T) {
	var b bytes.Buffer
	ready, err := Write(&b, []Finding{
		{"kernel", "version", OK, "6.18"},
		{"kernel", "kprobes", Fallback, "tracepoints are used instead"},
		{"rights", "root", Missing, "run it as root"},
	})
	if err != nil || ready {
		t.Errorf("ready = %v (%v), want not ready", ready, err)
	}
	want := `kernel
  ok        version  6.18
  fallback  kprobes  tracepoints are used instead
rights
  missing  root  run it as root
result: not ready: 1 missing, 1 with a fallback, 1 ok
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("table (-want +got):\n%s", d)
	}
}

func TestAtLeast(t *testing.T) {
	for release, want := range map[string]bool{
		"6.1.0-28-amd64": true, "6.18.44-x": true, "7.0": true, "6.0.19": false, "5.15.0": false, "six": false, "": false,
	} {
		if got := atLeast(release, 6, 1); got != want {
			t.Errorf("atLeast(%q) = %v, want %v", release, got, want)
		}
	}
}

func TestKernelCheckPassesWhereTheDaemonRuns(t *testing.T) {
	all := Check(context.Background(), Config{DataRoot: filepath.Join(t.TempDir(), "not", "yet")})
	for _, f := range all {
		if f.Level == Missing {
			t.Errorf("%s: %s: %s, though all other tests of this machine's kernel pass", f.Group, f.Name, f.Got)
		}
	}
}

func TestKernelCheckLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	Check(context.Background(), Config{DataRoot: dir, Listen: []string{"127.0.0.1:0"}})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files left: %v (%v)", left, err)
	}
	after, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("mounts differ (%v)", err)
	}
	now, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range now {
		if strings.HasPrefix(l.Name, "check") {
			t.Errorf("link %s left; there were %d links before", l.Name, len(links))
		}
	}
}

func TestKernelTakenAddressIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	got := find(t, Check(context.Background(), Config{DataRoot: t.TempDir(), Listen: []string{addr}}), addr)
	if want := (Finding{"network", addr, Missing, "in use: give another address"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestKernelFullVolumeIsAFallback(t *testing.T) {
	got := find(t, Check(context.Background(), Config{DataRoot: t.TempDir(), MinFree: 1 << 62}), "free space")
	if got.Level != Fallback || !strings.HasSuffix(got.Got, "images and new containers are refused") {
		t.Errorf("got %+v", got)
	}
}

func TestKernelDataRootThatCannotBeWritten(t *testing.T) {
	got := find(t, Check(context.Background(), Config{DataRoot: "/proc/self/nothing/here"}), "data root")
	if got.Level != Missing {
		t.Errorf("got %+v, want it missing", got)
	}
}
