package e2e

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/test/images"
)

// A trace shows the calls that pass its filter while the container makes them, ends when the client leaves, and by itself when
// the container does.
func TestTraceShowsCallsAsTheyHappen(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	name := u.detached(t, images.Busybox, "sh", "-c", "while :; do cat /no/such/file 2>/dev/null; sleep 0.1; done")
	cmd := exec.Command(filepath.Join(all.bin, "triton"), "-H", u.tritond.Host, "trace", name, "-syscall", "open*", "-errors", "-args", "-json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	t.Cleanup(kill)
	lines := bufio.NewReader(out)
	var e triton.TraceEvent
	for e.TracedCall == nil || !strings.Contains(e.Text, `"/no/such/file"`) {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		e = triton.TraceEvent{}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.TracedCall != nil && (e.Call.Error == "" || !strings.HasPrefix(e.Name, "open")) {
			t.Errorf("%s passed", line)
		}
	}
	equal(t, "call", e.Comm+" "+e.Call.Error, "cat ENOENT")
	kill()
	ended := exec.Command(filepath.Join(all.bin, "triton"), "-H", u.tritond.Host, "trace", name, "-syscall", "kill")
	notes, err := ended.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ended.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(notes)
	if line, err := said.ReadString('\n'); err != nil || line != "tracing "+name+"\n" {
		t.Fatalf("%q, %v", line, err)
	}
	u.ok(t, "rm", "-f", name)
	if line, err := said.ReadString('\n'); err != nil || line != "the container's run ended\n" {
		t.Errorf("%q, %v", line, err)
	}
	if err := ended.Wait(); err != nil {
		t.Error(err)
	}
}
