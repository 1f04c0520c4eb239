package procfs

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A file that was let go is resident no more, and reads as before.
func TestLetGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mem, err := unix.Mmap(int(f.Fd()), 0, len(content), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	}()
	resident := func() (kib int) {
		smaps, err := os.ReadFile("/proc/self/smaps")
		if err != nil {
			t.Fatal(err)
		}
		ParseMaps(string(smaps), func(m *Mapping, key, value string) {
			if m.Path == path && key == "Rss" {
				n, err := strconv.Atoi(strings.TrimSuffix(value, " kB"))
				if err != nil {
					t.Fatal(err)
				}
				kib += n
			}
		})
		return kib
	}
	before := resident()
	if err := LetGo(path); err != nil {
		t.Fatal(err)
	}
	if after := resident(); before != len(content)>>10 || after != 0 {
		t.Errorf("%d KiB resident, %d before", after, before)
	}
	if !bytes.Equal(mem, content) {
		t.Error("it reads otherwise now")
	}
}
