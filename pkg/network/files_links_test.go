package network

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// The address of a link's own line is replaced, in the file that is mounted; what the user wrote is as it was.
func TestLinksAreUpdatedInPlace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, HostsFile)
	const mine = "# base dbhost\n10.9.9.9\tbase\n10.9.9.8\tbase.example dbhost\nfe80::7\tbase dbhost\n\n10.9.9.7"
	line := func(addr string) string { return "127.0.0.1\tlocalhost\n" + addr + "\tbase dbhost old-name\n" + mine }
	if err := os.WriteFile(path, []byte(line("172.31.0.19")), 0o600); err != nil {
		t.Fatal(err)
	}
	mounted, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer mounted.Close()
	links := []Host{{Address: netip.MustParseAddr("172.31.0.19"), Names: []string{"other", "dbhost", "name"}}, {Names: []string{"base", "dbhost", "name"}}}
	for _, addr := range []string{"172.31.0.19", "10.0.0.2", "10.0.0.2", "172.31.200.200"} {
		links[1].Address = netip.MustParseAddr(addr)
		if err := offline().UpdateLinks(dir, links); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4096)
		n, _ := mounted.ReadAt(got, 0)
		if diff := cmp.Diff(line(addr), string(got[:n])); diff != "" {
			t.Errorf("with %s (-want +got):\n%s", addr, diff)
		}
	}
}

// A change that got no further than its first step, as with a kill, leaves empty lines at the end and no pieces of what was
// there. A file that may not shrink stands for the kill.
func TestAnUnfinishedChangeLeavesNoPieces(t *testing.T) {
	fd, err := unix.MemfdCreate("hosts", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "hosts")
	defer f.Close()
	const old, text = "172.31.200.200\tbase dbhost\n10.9.9.9\tmine\n", "10.0.0.2\tbase dbhost\n10.9.9.9\tmine\n"
	if _, err := f.WriteString(old); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK); err != nil {
		t.Fatal(err)
	}
	if err := overwrite(f, old, text); !errors.Is(err, unix.EPERM) {
		t.Fatalf("got %v, want that it may not shrink", err)
	}
	got := make([]byte, 4096)
	n, _ := f.ReadAt(got, 0)
	if diff := cmp.Diff(text+strings.Repeat("\n", len(old)-len(text)), string(got[:n])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzRelinked(f *testing.F) {
	f.Add("10.0.0.1\tbase dbhost db\n")
	f.Add(" 10.0.0.1 base dbhost # base\r\n")
	f.Add("# base dbhost")
	links := []Host{{Address: netip.MustParseAddr("172.30.0.7"), Names: []string{"base", "dbhost", "db"}}, {Address: netip.MustParseAddr("172.30.0.8"), Names: []string{"x"}}}
	f.Fuzz(func(t *testing.T, line string) {
		got := relinked(line, links)
		if got != relinked(got, links) {
			t.Errorf("%q becomes %q, and then something else", line, got)
		}
		if was, is := strings.Fields(line), strings.Fields(got); got != line && !slices.Equal(was[1:], is[1:]) {
			t.Errorf("more than the address changes: %q becomes %q", line, got)
		}
	})
}
