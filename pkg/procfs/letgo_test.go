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

// resident is how much of a file this process has in its resident memory, in KiB.
func resident(t *testing.T, path string) (kib int) {
	t.Helper()
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
	before := resident(t, path)
	if err := LetGo(path); err != nil {
		t.Fatal(err)
	}
	if after := resident(t, path); before != len(content)>>10 || after != 0 {
		t.Errorf("%d KiB resident, %d before", after, before)
	}
	if !bytes.Equal(mem, content) {
		t.Error("it reads otherwise now")
	}
}

// Of a file that is mapped by page, those pages alone are resident that were read.
func TestKernelMapByPage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	const size, step = 16 << 20, 64 << 10
	if err := os.WriteFile(path, bytes.Repeat([]byte("0123456789abcdef"), size/16), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	}()
	before := resident(t, path)
	if err := MapByPage(path); err != nil {
		t.Fatal(err)
	}
	dropped := resident(t, path)
	for i := 0; i < size; i += step {
		if mem[i] != '0' {
			t.Fatalf("it reads %q at %d", mem[i], i)
		}
	}
	if after := resident(t, path); before != size>>10 || dropped != 0 || after != size/step*4 {
		t.Errorf("%d KiB are resident, then %d, and %d after a read of %d pages", before, dropped, after, size/step)
	}
}
