package relay

import (
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Whoever reads the file sees what the Relay counts; a Relay that comes after one that was killed goes on from there, with
// nothing open.
func TestCountersAreReadFromOutsideAndGoOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "counters")
	if got, err := ReadStats(path); err != nil || got != (Stats{}) {
		t.Errorf("before there is a file: got %+v (%v)", got, err)
	}
	log := slog.New(slog.DiscardHandler)
	first := New(log, path)
	defer first.Close(0)
	p := listen(t, "[::1]:0", program(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) }))
	serve(t, first, p)
	c := dial(t, p)
	must(io.WriteString(c, "hello"))
	must(io.ReadFull(c, make([]byte, 5)))
	want := Stats{Connections: 1, Accepted: 1, TCPIn: 5, TCPOut: 5}
	eventually(t, "it is counted", func() bool { got, err := ReadStats(path); return err == nil && got == want })

	second := New(log, path)
	defer second.Close(0)
	want.Connections = 0
	if got := second.Stats(); got != want {
		t.Errorf("the next relay: got %+v, want %+v", got, want)
	}
}

func TestCountersOfOtherBuildsAreRead(t *testing.T) {
	for name, size := range map[string]int{"none": 0, "fewer": 3 * 8, "more": int(cells)*8 + 64} {
		path := filepath.Join(t.TempDir(), name)
		raw := make([]byte, size)
		if size > 8 {
			raw[8] = 7 // little-endian: the second cell
		}
		must(0, os.WriteFile(path, raw, 0o600))
		got, err := ReadStats(path)
		if want := uint64(min(size, 7)); err != nil || got.Accepted != want {
			t.Errorf("%s: got %+v (%v), want %d accepted", name, got, err, want)
		}
	}
}

func TestARelayWithoutAFileCounts(t *testing.T) {
	r := New(slog.New(slog.DiscardHandler), filepath.Join(t.TempDir(), "no", "such", "folder"))
	defer r.Close(time.Second)
	serve(t, r, listen(t, "[::1]:0", ""))
	r.count.add(accepted, 2)
	if got := r.Stats(); got != (Stats{Accepted: 2}) {
		t.Errorf("got %+v", got)
	}
}
