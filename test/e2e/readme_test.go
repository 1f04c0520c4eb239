package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// transcript returns what README.md shows after the line "$ command", up to the end of its block.
func transcript(t *testing.T, command string) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n    $ "+command+"\n")
	if !ok {
		t.Fatalf("README.md shows nothing of %q", command)
	}
	var lines []string
	for line := range strings.Lines(rest) {
		line = strings.TrimRight(line, "\n")
		indented, ok := strings.CutPrefix(line, "    ")
		if !ok || strings.HasPrefix(indented, "$ ") {
			break
		}
		lines = append(lines, indented)
	}
	return strings.Join(lines, "\n")
}

// What differs from one machine or moment to the next, and what the test puts in its place. Rows of system calls come in
// the order of their counts.
var unstable = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`(?m)^  [a-z][a-z0-9_]+ +[0-9]+ +[0-9]+ +[0-9].*$`), "  SYSCALL ROW"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "ID"},
	{regexp.MustCompile(`[0-9]+(\.[0-9]+){3}(/[0-9]+)?`), "ADDRESS"},
	{regexp.MustCompile(`(?m)(tritond|version) [0-9a-z][^ ,]*`), "$1 VERSION"},
	{regexp.MustCompile(`code=\S+`), "CODE"},
	{regexp.MustCompile(`\btn[0-9a-f]{8}\b`), "BRIDGE"},
	{regexp.MustCompile(`About an? (second|minute)( ago)?|Less than a second( ago)?|[0-9]+ (second|minute)s?( ago)?`), "A WHILE"},
	{regexp.MustCompile(`[0-9]+(\.[0-9]+)? ?(ns|µs|ms|s|B|kB|KiB|MB|MiB|GB|GiB|%)?`), "N"},
	{regexp.MustCompile(` +`), " "},
	{regexp.MustCompile(`(?m) +$`), ""},
}

func stable(text string) string {
	for _, u := range unstable {
		text = u.pattern.ReplaceAllString(text, u.with)
	}
	return strings.TrimSpace(text)
}

func TestReadmeShowsWhatDemoPrints(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	redis, nginx := u.freePorts(t, 1), u.freePorts(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	run := func(args ...string) string {
		t.Helper()
		args = append([]string{"run", "./test/demo", "-H", u.cli.Host, "-redis", fmt.Sprintf("127.0.0.1:%d", redis), "-nginx", fmt.Sprintf("127.0.0.1:%d", nginx)}, args...)
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+u.cli.ConfigDir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("demo: %v\n%s", err, out)
		}
		return string(out)
	}
	t.Cleanup(func() { // also after a failure: the load must not run on
		ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		run("-stop")
	})
	got := strings.ReplaceAll(run(), u.cli.Host, "unix:///run/tritond/docker.sock")
	if diff := cmp.Diff(stable(transcript(t, "make demo")), stable(got)); diff != "" {
		t.Errorf("README.md and the demo differ (-README +demo):\n%s\nwhole output:\n%s", diff, got)
	}
}

func TestReadmeShowsWhatTheDaemonPrints(t *testing.T) {
	t.Parallel()
	u := own(t)
	_, text, ok := strings.Cut(u.tritond.Log(), "\ntritond ")
	if !ok {
		t.Fatalf("no welcome in the log:\n%s", u.tritond.Log())
	}
	var lines []string
	for line := range strings.Lines("tritond " + text) {
		if strings.HasPrefix(line, "time=") {
			continue
		}
		lines = append(lines, line)
	}
	d := u.tritond
	got := strings.NewReplacer(d.DataRoot, "/var/lib/tritond", d.RunRoot, "/run/tritond", d.Instance, "main", d.HTTP, "127.0.0.1:8080",
		"/sys/fs/cgroup/unified/", "/sys/fs/cgroup/").Replace(strings.Join(lines, ""))
	// Forwarding is on already where another instance runs: then this one changed nothing. Core dumps are for one daemon
	// of a machine, which is not the tests'.
	drop := func(s string) string {
		return regexp.MustCompile(`(?m)^  sysctl .*(ip_forward|core_pattern).*\n?`).ReplaceAllString(s, "")
	}
	want := strings.ReplaceAll(transcript(t, "make run"), "/sys/fs/cgroup/unified/", "/sys/fs/cgroup/")
	if diff := cmp.Diff(stable(drop(want)), stable(drop(got))); diff != "" {
		t.Errorf("README.md and the daemon differ (-README +daemon):\n%s", diff)
	}
}
