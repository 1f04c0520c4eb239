package death

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

func TestReasonNamesWhatEndedTheRun(t *testing.T) {
	host := &Sender{Signal: "SIGKILL", Comm: "bash", Pid: 12, UID: 0}
	client := &Sender{Signal: "SIGTERM", Comm: "triton-shim", Ordered: true}
	own := &triton.Core{ID: "d0c5", Signal: "SIGABRT", Number: 6, Comm: "web", First: true}
	child := &triton.Core{ID: "d0c5", Signal: "SIGSEGV", Number: 11, Comm: "web"}
	memory := Memory{Limit: 16 << 20, Peak: 16 << 20, Victims: []Victim{{Pid: 7, Comm: "hog"}}}
	for want, r := range map[string]*Record{
		`oom: out of memory: limit 16.0 MiB, peak 16.0 MiB, the kernel killed "hog" (pid 7)`: {Code: 137, Signal: "SIGKILL", OOMKilled: true, Memory: memory},
		`signal: SIGKILL from "bash" (pid 12, uid 0 on the host)`:                            {Code: 137, Signal: "SIGKILL", Sender: host},
		`exit: exited with 143 after SIGTERM from a client of the daemon (docker stop, kill, restart, rm)`: {
			Code: 143, Sender: client},
		`signal: SIGSEGV: "web" died of SIGABRT, core dump d0c5`:       {Code: 139, Signal: "SIGSEGV", Core: own},
		`exit: exited with 139: "web" died of SIGSEGV, core dump d0c5`: {Code: 139, Core: child},
		`exit: exited with 1`:              {Code: 1, Core: child},
		`exit: exited with 2: panic: boom`: {Code: 2, Panic: &Panic{Message: "panic: boom\n[signal]"}},
		`exit: exited with 3`:              {Code: 3, OOMKilled: true},
		`lost: nobody saw the end`:         {Code: 255, Source: triton.ExitLost},
		`signal: SIGKILL`:                  {Code: 137, Signal: "SIGKILL"},
		`signal: SIGTERM from "init" in the container (pid 3, uid 5 on the host)`: {
			Code: 143, Signal: "SIGTERM", Sender: &Sender{Signal: "SIGTERM", Comm: "init", Inside: true, Pid: 3, UID: 5}},
	} {
		r.Explain()
		if got := string(r.Kind) + ": " + r.Reason; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// record is an end of run n of the container whose id is repeated c.
func record(c string, run int, at time.Time) *Record {
	k := triton.ContainerKey{Tenant: "acme", ID: strings.Repeat(c, 64)}
	return &Record{ID: ID(k, run), Container: k, Name: "web-" + c, Run: run, At: at, Code: 1}
}

func open(t *testing.T, dir string, keep Keep, now *time.Time) *Store {
	t.Helper()
	s, err := OpenStore(dir, keep, func() time.Time { return *now })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *Store, rs ...*Record) {
	t.Helper()
	for _, r := range rs {
		if err := s.Put(r); err != nil {
			t.Fatal(err)
		}
	}
}

// kept lists container and run, newest first.
func kept(t *testing.T, s *Store) string {
	t.Helper()
	all, damaged, err := s.List("acme")
	if err != nil || damaged > 0 {
		t.Fatalf("%d damaged, %v", damaged, err)
	}
	var b strings.Builder
	for _, r := range all {
		b.WriteString(r.Container.ID[:1] + string(rune('0'+r.Run)) + " ")
	}
	return strings.TrimSpace(b.String())
}

func TestOldestRecordsGoFirst(t *testing.T) {
	now := time.Unix(1e9, 0)
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	plenty := Keep{PerContainer: 9, PerTenant: 9, Bytes: 1 << 20, Age: time.Hour}
	for name, c := range map[string]struct {
		keep Keep
		want string
	}{
		"all":                 {plenty, "a3 b1 a2 a1"},
		"two of a container":  {Keep{2, 9, 1 << 20, time.Hour}, "a3 b1 a2"},
		"two of a tenant":     {Keep{9, 2, 1 << 20, time.Hour}, "a3 b1"},
		"bytes for none":      {Keep{9, 9, 1, time.Hour}, "a3"},
		"nothing but the new": {Keep{9, 9, 1 << 20, time.Millisecond}, "a3"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir(), c.keep, &now)
			put(t, s, record("a", 1, at(-9)), record("a", 2, at(-5)), record("b", 1, at(-3)), record("a", 3, at(-1)))
			if got := kept(t, s); got != c.want {
				t.Errorf("kept %s, want %s", got, c.want)
			}
		})
	}
}

// A daemon that is killed after a record records the same end again at its next start.
func TestTheSameEndIsKeptOnce(t *testing.T) {
	now, dir := time.Unix(1e9, 0), t.TempDir()
	s := open(t, dir, DefaultKeep, &now)
	first := record("a", 1, now)
	put(t, s, first)
	if err := os.WriteFile(filepath.Join(dir, "acme", "x.json.tmp"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, DefaultKeep, &now)
	put(t, s, record("a", 1, now.Add(time.Second)))
	got, err := s.Get("acme", "web-a")
	if err != nil {
		t.Fatal(err)
	}
	got.At = got.At.Local()
	if d := cmp.Diff(first, got); d != "" {
		t.Errorf("record (-first +kept):\n%s", d)
	}
	if half, _ := filepath.Glob(filepath.Join(dir, "acme", "*.tmp")); len(half) > 0 {
		t.Errorf("left: %q", half)
	}
}

func TestRecordIsFoundByItsNamesInItsTenantOnly(t *testing.T) {
	now := time.Unix(1e9, 0)
	s := open(t, t.TempDir(), DefaultKeep, &now)
	old, young := record("a", 1, now.Add(-time.Second)), record("a", 2, now)
	put(t, s, old, young)
	for ref, want := range map[string]*Record{old.ID: old, old.ID[:8]: old, "web-a": young, "aaaaaaaaaaaa": young, young.Container.ID: young} {
		if got, err := s.Get("acme", ref); err != nil || got.Run != want.Run {
			t.Errorf("%s: %+v, %v, want run %d", ref, got, err, want.Run)
		}
		if _, err := s.Get("globex", ref); !errdefs.IsNotFound(err) {
			t.Errorf("another tenant asks for %s: %v", ref, err)
		}
	}
	for _, ref := range []string{"", "web-b", "../acme"} {
		if _, err := s.Get("acme", ref); !errdefs.IsNotFound(err) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	if _, _, err := s.List("../acme"); err == nil {
		t.Error("a tenant that is a path was listed")
	}
}

const output = `listening
panic: assignment to entry in nil map [recovered]
	panic: again

goroutine 1 gp=0xc000002380 m=0 mp=0x5 [running]:
main.(*server).serve(0xc00001, {0x1, 0x2})
	/src/main.go:12 +0x1d
main.main()
	/src/main.go:30
...additional frames elided...
created by main.start in goroutine 7
	/src/start.go:9 +0x45

goroutine 18 [chan receive, 5 minutes]:
main.wait(...)
	/src/wait.go:3 +0x2
exit status 2
`

func TestPanicIsReadFromOutput(t *testing.T) {
	want := &Panic{
		Message: "panic: assignment to entry in nil map [recovered]\n\tpanic: again", Cut: true,
		Goroutines: []Goroutine{
			{1, "running", []Frame{
				{"main.(*server).serve", "/src/main.go", 12, false}, {"main.main", "/src/main.go", 30, false}, {"main.start", "/src/start.go", 9, true},
			}},
			{18, "chan receive, 5 minutes", []Frame{{"main.wait", "/src/wait.go", 3, false}}},
		},
	}
	for _, end := range []string{"\n", "\r\n"} {
		if d := cmp.Diff(want, ParsePanic(strings.Split(strings.ReplaceAll(output, "\n", end), "\n"))); d != "" {
			t.Errorf("panic (-want +got):\n%s", d)
		}
	}
	for _, none := range []string{"", "panic: said by a program\n", "goroutine 1 [running]:\nmain.main()\n"} {
		if p := ParsePanic(strings.Split(none, "\n")); p != nil {
			t.Errorf("%q gave %+v", none, p)
		}
	}
	fatal := "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [select (no cases)]:\nmain.main()\n\t/a.go:1 +0x0\n"
	if p := ParsePanic(strings.Split(output+fatal, "\n")); p == nil || p.Message != "fatal error: all goroutines are asleep - deadlock!" {
		t.Errorf("the last one is not the one: %+v", p)
	}
}

func FuzzParsePanic(f *testing.F) {
	f.Add([]byte(output))
	f.Add([]byte("panic: x\n\ngoroutine 1 [r]:\n\t:\n(\n)\ncreated by \n...\n"))
	f.Add(bytes.Repeat([]byte("panic: \xff\ngoroutine 1 []:\nf()\n"), 100))
	f.Fuzz(func(t *testing.T, text []byte) {
		p := ParsePanic(strings.Split(string(text), "\n"))
		if p == nil {
			return
		}
		if len(p.Goroutines) == 0 || len(p.Goroutines) > maxGoroutines || len(p.Message) > maxMessageLines*(3*maxText+1) {
			t.Errorf("%d goroutines, message of %d bytes", len(p.Goroutines), len(p.Message))
		}
		for _, g := range p.Goroutines {
			if len(g.Frames) > maxFrames {
				t.Errorf("%d frames", len(g.Frames))
			}
		}
	})
}
