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

// mapped is a file of so many KiB that this process has mapped, and all of it in its resident memory.
func mapped(t *testing.T, kib, protection, flags int) (path string, mem []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, bytes.Repeat([]byte("0123456789abcdef"), kib<<6), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if mem, err = unix.Mmap(int(f.Fd()), 0, kib<<10, protection, flags|unix.MAP_POPULATE); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	if n := resident(t, path); n != kib {
		t.Fatalf("%d KiB of %d are resident", n, kib)
	}
	return path, mem
}

// A file that was let go is resident no more, and reads as before.
func TestLetGo(t *testing.T) {
	path, mem := mapped(t, 1<<10, unix.PROT_READ, unix.MAP_SHARED)
	before := bytes.Clone(mem)
	if err := LetGo(path); err != nil {
		t.Fatal(err)
	}
	if after := resident(t, path); after != 0 {
		t.Errorf("%d KiB resident", after)
	}
	if !bytes.Equal(mem, before) {
		t.Error("it reads otherwise now")
	}
}

// Of a file that is mapped by page, those pages alone are resident that were read.
func TestKernelMapByPage(t *testing.T) {
	path, mem := mapped(t, 16<<10, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	if err := MapByPage(path); err != nil {
		t.Fatal(err)
	}
	dropped := resident(t, path)
	const step = 64 << 10
	for i := 0; i < len(mem); i += step {
		if mem[i] != '0' {
			t.Fatalf("it reads %q at %d", mem[i], i)
		}
	}
	if after := resident(t, path); dropped != 0 || after != len(mem)/step*4 {
		t.Errorf("%d KiB are resident, and %d after a read of %d pages", dropped, after, len(mem)/step)
	}
}

// What was written into a mapping before it was made read-only is nowhere else, as what the dynamic loader writes.
func TestKernelMapByPageKeepsWhatWasWritten(t *testing.T) {
	path, mem := mapped(t, 64, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	relocated := mem[:unix.Getpagesize()]
	relocated[0] = 'x'
	if err := unix.Mprotect(relocated, unix.PROT_READ); err != nil {
		t.Fatal(err)
	}
	if err := MapByPage(path); err != nil {
		t.Fatal(err)
	}
	if relocated[0] != 'x' {
		t.Errorf("it reads %q where x was written", relocated[0])
	}
}
