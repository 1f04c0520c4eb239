package images

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBuildGivesTheSameBytesTwice(t *testing.T) {
	first, err := Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	second, err := Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range first.Archives() {
		a, errA := os.ReadFile(name)
		b, errB := os.ReadFile(second.Archives()[i])
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs between two builds", filepath.Base(name))
		}
	}
}

func TestBuildFindsWhatAnEarlierBuildMade(t *testing.T) {
	cache := t.TempDir()
	first, err := Build(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(first.Busybox)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), cache); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(first.Busybox)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("the second build made the archive again")
	}
}

func TestArchiveNamesConfigAndLayers(t *testing.T) {
	set, err := Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(set.Programs)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var kinds []string
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, filepath.Ext(h.Name))
	}
	if diff := cmp.Diff([]string{".tar", ".tar", ".json", ".json"}, kinds); diff != "" {
		t.Errorf("files of the archive (-want +got):\n%s", diff)
	}
}

func TestSyscallsMakesWhatItPromises(t *testing.T) {
	set, err := Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(set.Bin, "syscalls")
	expect, err := exec.Command(program, "expect", "3").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(string(expect), "\n")[0]; got != "sched_getscheduler 21 0" {
		t.Errorf("first line of the table is %q, want %q", got, "sched_getscheduler 21 0")
	}
	if out, err := exec.Command(program, "3").CombinedOutput(); err != nil {
		t.Errorf("syscalls 3: %v\n%s", err, out)
	}
	if out, err := exec.Command(filepath.Join(set.Bin, "true")).CombinedOutput(); err != nil {
		t.Errorf("true: %v\n%s", err, out)
	}
}

func TestDebianImageIsCompleteAndStable(t *testing.T) {
	d := Debian{
		Tag: "redis:test", Packages: []string{"redis-server"}, Cmd: []string{"redis-server"}, Ports: []string{"6379/tcp"},
		Files: map[string][]byte{"etc/hello": []byte("hi\n")},
	}
	cache := t.TempDir()
	first, err := d.Build(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	a, err := os.ReadFile(first.Archive)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(first.Archive); err != nil {
		t.Fatal(err)
	}
	second, err := d.Build(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(second.Archive)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("two builds of the same packages differ")
	}
	names := layerNames(t, a)
	for _, want := range []string{"usr/bin/redis-server", "lib", "etc/hello", "etc/passwd", "usr/lib64/ld-linux-x86-64.so.2"} {
		if names[want] != 1 {
			t.Errorf("%s is %d times in the layer, want once", want, names[want])
		}
	}
	for name := range names {
		if strings.HasPrefix(name, "lib/") || strings.HasPrefix(name, "usr/share/doc/") {
			t.Errorf("%s is in the layer", name)
		}
	}
}

// layerNames counts the paths in the only layer of a docker-archive.
func layerNames(t *testing.T, archive []byte) map[string]int {
	t.Helper()
	names := map[string]int{}
	for outer := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := outer.Next()
		if err != nil {
			return names
		}
		if !strings.HasSuffix(h.Name, ".tar") {
			continue
		}
		for inner := tar.NewReader(outer); ; {
			h, err := inner.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			names[strings.TrimSuffix(h.Name, "/")]++
		}
	}
}
