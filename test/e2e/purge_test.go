package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// TestPurgeTakesBackEveryChange compares a network namespace and what is the machine's before a daemon's first start and
// after the purge that follows its kill -9, with containers running and ports published.
func TestPurgeTakesBackEveryChange(t *testing.T) {
	t.Parallel()
	tritonOnly(t)
	name := fmt.Sprintf("purge%d", os.Getpid())
	output(t, "ip", "netns", "add", name)
	t.Cleanup(func() { output(t, "ip", "netns", "del", name) })
	// nsenter, not ip netns exec: that one hides the control groups.
	inside := []string{"nsenter", "--net=/run/netns/" + name}
	output(t, append(inside, "ip", "link", "set", "lo", "up")...)

	d, err := engine.NewTritond(all.bin, "--core-pattern", "take", "--core-capture", "pipe")
	if err != nil {
		t.Fatal(err)
	}
	d.Within = inside
	t.Cleanup(func() {
		if err := d.CloseWithin(time.Minute); err != nil {
			t.Error(err)
		}
	})
	before := hostState(t, d)
	u := startOwn(t, d)
	u.ok(t, "run", "-d", "--name", "one", "-p", "8080:80", images.Programs, "lines", "0", "20", "0")
	u.ok(t, "run", "-d", "--network", "host", images.Busybox, "sleep", "1000")
	u.ok(t, "network", "create", "--subnet", "10.222.0.0/24", "purged")
	u.ok(t, "run", "-d", "--network", "purged", images.Busybox, "sleep", "1000")
	changed := hostState(t, d)
	for _, kind := range []string{"sysctl", "nft", "link", "mount", "cgroup", "run root"} {
		if changed[kind] == before[kind] {
			t.Errorf("%s: a running daemon changed nothing, so this test proves nothing:\n%s", kind, changed[kind])
		}
	}
	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := d.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	// The kernel frees control groups and devices a moment after their last user.
	var diff string
	if !within(20*time.Second, func() bool { diff = cmp.Diff(before, hostState(t, d)); return diff == "" }) {
		t.Errorf("the purge left something (-before +after):\n%s", diff)
	}
}

// hostState is what a daemon may change, by kind, as text.
func hostState(t *testing.T, d *engine.Tritond) map[string]string {
	t.Helper()
	in := func(args ...string) string { return output(t, append(d.Within, args...)...) }
	_, err := os.Stat(d.RunRoot)
	return map[string]string{
		// Counters and what follows from the machine's use are left out.
		"sysctl": lines(in("sysctl", "-a", "--pattern", `^(net|user)\.|^kernel\.(core_|pid_max|modprobe)|^fs\.(suid|inotify|nr_open|pipe)`),
			func(l string) bool {
				return !strings.Contains(l, "nf_conntrack_count") && !strings.Contains(l, "random")
			}),
		"nft":     in("nft", "list", "ruleset"),
		"link":    in("ip", "-br", "link"),
		"address": in("ip", "-br", "address"),
		"route":   in("ip", "route", "show", "table", "all"),
		"mount":   lines(output(t, "cat", "/proc/self/mountinfo"), func(l string) bool { return strings.Contains(l, d.Root) }),
		"cgroup": lines(output(t, "find", "/sys/fs/cgroup", "-type", "d", "-name", "*"+d.Instance+"*"),
			func(l string) bool { return l != "" }),
		"run root": fmt.Sprint("there: ", err == nil),
	}
}

// lines keeps the lines that keep says.
func lines(text string, keep func(string) bool) string {
	var b strings.Builder
	for l := range strings.Lines(text) {
		if keep(strings.TrimRight(l, "\n")) {
			b.WriteString(l)
		}
	}
	return b.String()
}

// output runs a command of this machine and returns what it printed.
func output(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).Output()
	if err != nil && args[0] != "find" { // find complains of groups that go while it looks
		t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}
