package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/test/images"
)

// deletedCrash is a program that is gone when it crashes; qsort's callback has frames of libc between its own.
const deletedCrash = `#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
static int *volatile nowhere = (int *)16;
__attribute__((noinline)) int parse_word(const void *a, const void *b) { return *nowhere + *(const int *)a - *(const int *)b; }
static void *waits(void *p) { for (;;) pause(); return p; }
int main(int argc, char **argv) {
	int v[] = {3, 2, 1};
	pthread_t t;
	pthread_create(&t, NULL, waits, NULL);
	sleep(1);
	if (unlink(argv[0])) return 3;
	qsort(v, 3, sizeof *v, parse_word);
	return argc;
}
`

var frameLine = regexp.MustCompile(` +at /[^\n]*| from /[^\n]*|0x[0-9a-f]+|LWP \d+|Thread [^\n]*`)

// stacks are gdb's words of all threads, without addresses and the folders of files.
func stacks(gdb string) []string {
	var out []string
	for _, l := range strings.Split(gdb, "\n") {
		if strings.HasPrefix(l, "#") {
			out = append(out, strings.Join(strings.Fields(frameLine.ReplaceAllString(l, "")), " "))
		}
	}
	return out
}

// TestBundleOfADeletedProgramOpensElsewhere: neither the program nor its image is there any more, and gdb reads the same
// stacks in a container that never had them as it did with the original files. The host's tools are mounted, as the
// container of the crash had its libraries.
func TestBundleOfADeletedProgramOpensElsewhere(t *testing.T) {
	u := taking(t, "socket")
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "words")
	cc := exec.CommandContext(t.Context(), "cc", "-O2", "-g", "-fomit-frame-pointer", "-o", program, "-xc", "-", "-lpthread")
	cc.Stdin = strings.NewReader(deletedCrash)
	if out, err := cc.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	tools := []string{"-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro"}
	name := u.name(t)
	u.fails(t, 139, "", append(append([]string{"run", "--name", name}, tools...), "-v", dir+":/w:ro", images.Programs,
		"sh", "-c", "cp /w/words /gone && /gone; exit $?")...)
	r := u.onlyCore(t, name)
	u.ok(t, "rm", name)
	core := filepath.Join(dir, "core")
	u.triton(t, "cores", "pull", "-o", core, r.ID)
	witness, err := exec.CommandContext(t.Context(), "gdb", "-batch", "-nx", "-ex", "thread apply all bt", program, core).CombinedOutput()
	if err != nil {
		t.Fatalf("gdb: %v\n%s", err, witness)
	}
	want := stacks(string(witness))
	if text := strings.Join(want, "\n"); !strings.Contains(text, "parse_word") || !strings.Contains(text, "qsort") || !strings.Contains(text, "waits") {
		t.Fatalf("the witness reads\n%s", witness)
	}
	// Beside tar's own: the client unpacks it for `cores gdb`.
	bundle := filepath.Join(dir, "b.tar")
	u.triton(t, "cores", "pull", "-bundle", "-o", bundle, r.ID)
	if out, err := exec.CommandContext(t.Context(), "tar", "-C", dir, "-xf", bundle).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	out := u.ok(t, append(append([]string{"run", "--rm", "--name", u.name(t)}, tools...), "-v", filepath.Join(dir, r.ID)+":/b:ro", images.Programs,
		"sh", "/b/open.sh", "-batch", "-ex", "thread apply all bt")...)
	if diff := cmp.Diff(want, stacks(out)); diff != "" {
		t.Errorf("stacks differ (-original +bundle):\n%s\n%s", diff, out)
	}
	out = u.triton(t, "cores", "gdb", r.ID, "-batch", "-ex", "thread apply all bt")
	if diff := cmp.Diff(want, stacks(out)); diff != "" {
		t.Errorf("stacks differ (-original +cores gdb):\n%s\n%s", diff, out)
	}
	packed := filepath.Join(dir, "b.tar.zst")
	u.triton(t, "cores", "pull", "-bundle", "-o", packed, r.ID)
	if b, err := os.ReadFile(packed); err != nil || !bytes.HasPrefix(b, []byte("\x28\xb5\x2f\xfd")) {
		t.Errorf("%d bytes that are no zstd, %v", len(b), err)
	}
	eventually(t, 30*time.Second, "the stacks are read", func() bool {
		return strings.Contains(u.triton(t, "cores", "ls", "signal=SIGSEGV image="+images.Programs+" mtime<2d frame~parse_"), r.ID)
	})
	if out := u.triton(t, "cores", "ls", "frame~render_"); strings.Contains(out, r.ID) {
		t.Errorf("found by a function that it has not:\n%s", out)
	}
}

// TestDockerTritonCores: docker finds the client as its plugin.
func TestDockerTritonCores(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	name, _ := u.stays(t, "1")
	id, _, _ := strings.Cut(u.triton(t, "snapshot", "-mini", name), " ")
	config := t.TempDir()
	plugins := filepath.Join(config, "cli-plugins")
	if err := os.Mkdir(plugins, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(all.bin, "triton"), filepath.Join(plugins, "docker-triton")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "docker", "triton", "cores", "ls", "kind=snapshot")
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+u.tritond.Host, "DOCKER_CONFIG="+config)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), id) {
		t.Errorf("docker triton cores ls: %v\n%s", err, out)
	}
	u.triton(t, "cores", "rm", id)
}
