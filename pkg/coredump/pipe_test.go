package coredump

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tritond/triton/pkg/coredump/handover"
	"github.com/tritond/triton/pkg/procfs"
)

// handOver sends a core of the given process to a socket, and returns what becomes of it there.
func handOver(t *testing.T, args ...string) (stream, *peer, error) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := handover.Send(socket, int(r.Fd()), args); err != nil {
		return nil, nil, err
	}
	conn, err := ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return open(conn)
}

// TestHandedOverMustDumpCore: whoever is named, no process that only runs is taken for a crashed one.
func TestHandedOverMustDumpCore(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{strconv.Itoa(os.Getpid()) + "||1", "does not dump core"},
		{"0||1", "crashed process 0"},
		{"x||1", `process "x"`},
		{"1|", "2 arguments"},
		{"1||many", `dumpable "many"`},
	} {
		if _, _, err := handOver(t, strings.Split(c.args, "|")...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want one with %q", c.args, err, c.want)
		}
	}
}

// TestProbeOfSocketIsNoCore: another daemon asks in this way whether we live.
func TestProbeOfSocketIsNoCore(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if !alive(socket) {
		t.Fatal("a socket with a listener is taken for dead")
	}
	conn, err := ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, _, err := open(conn); !errors.Is(err, errProbe) {
		t.Errorf("error %v, want %v", err, errProbe)
	}
}

// TestCoreOfAnotherProcessIsRefused: a number that came to another process is found out by its auxiliary vector.
func TestCoreOfAnotherProcessIsRefused(t *testing.T) {
	p := &peer{pid: os.Getpid(), byNumber: true}
	dir, err := procfs.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	proc := &procDir{dir}
	defer proc.close()
	auxv, err := proc.Read("auxv")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.verify(proc, &Head{Auxv: auxv}); err != nil {
		t.Errorf("its own vector: %v", err)
	}
	other := append([]byte(nil), auxv...)
	other[8]++
	for _, h := range []*Head{{Auxv: other}, {}} {
		if err := p.verify(proc, h); !errors.Is(err, errGone) {
			t.Errorf("a vector of %d bytes that is not its own: error %v, want %v", len(h.Auxv), err, errGone)
		}
	}
}

// TestSavedPatternSurvivesAnything: what a killed daemon left is read back in both forms, and nonsense is never written to
// the kernel.
func TestSavedPatternSurvivesAnything(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "core.sock")
	for _, c := range []struct{ file, pattern, limit string }{
		{"|/usr/lib/handler %P\n0\n", "|/usr/lib/handler %P", "0"},
		{"core.%p\n\n", "core.%p", ""},
		{"core.%p\n", "core.%p", ""}, // as daemons before the pipe form wrote it
		{"", kernelDefault, ""},
		{"@@/run/x/core.sock\nmany\n", kernelDefault, ""},
		{"|" + socket + linkSuffix + pipeArgs + "\n4\n", kernelDefault, "4"},
		{strings.Repeat("x", 200) + "\n", kernelDefault, ""},
	} {
		if err := os.WriteFile(previousPath(socket), []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		if pattern, limit := previousOf(socket); pattern != c.pattern || limit != c.limit {
			t.Errorf("%q: %q, %q; want %q, %q", c.file, pattern, limit, c.pattern, c.limit)
		}
	}
}
