package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tritond/triton/test/images"
)

func TestDiffShowsWhatAContainerChanged(t *testing.T) {
	u := shared(t)
	name := u.name(t)
	u.ok(t, "run", "--name", name, "-v", u.volume(t)+":/vol", images.Busybox, "sh", "-c",
		"mkdir /new && echo x >/new/file && rm /etc/group && echo y >>/etc/passwd && touch /vol/x")
	lines := strings.Split(u.ok(t, "diff", name), "\n")
	has := func(line string) bool {
		for _, l := range lines {
			if l == line {
				return true
			}
		}
		return false
	}
	for line, want := range map[string]bool{
		"A /new": true, "A /new/file": true, "D /etc/group": true, "C /etc/passwd": true, "C /etc": true,
		"A /vol/x": false, "A /etc/hosts": false, "A /etc/resolv.conf": false, "A /dev": false, "A /proc": false,
	} {
		if has(line) != want {
			t.Errorf("%q: %t, want %t, in %q", line, has(line), want, lines)
		}
	}
	u.fails(t, 1, "No such container: nosuch", "diff", "nosuch")
}

func TestSizesOfContainers(t *testing.T) {
	u := shared(t)
	name := u.name(t)
	u.ok(t, "run", "--name", name, images.Busybox, "sh", "-c", "head -c 3000 /dev/zero >/file")
	matches(t, "ps -s", u.ok(t, "ps", "-as", "--filter", "name="+name, "--format", "{{.Size}}"), `^3kB \(virtual [0-9.]+MB\)$`)
	equal(t, "inspect -s", u.ok(t, "inspect", "-s", "-f", "{{.SizeRw}}", name), "3000")
}

func TestDiskUsage(t *testing.T) {
	t.Parallel()
	u := own(t)
	v := u.volume(t)
	name := u.detached(t, "-v", v+":/vol", images.Busybox, "sh", "-c", "head -c 2000 /dev/zero >/vol/f; head -c 1000 /dev/zero >/f; echo done; sleep 1000")
	u.ok(t, "run", "--name", u.name(t), images.Busybox, "sh", "-c", "head -c 500 /dev/zero >/f")
	eventually(t, commandTime, "the files", func() bool { return strings.Contains(u.ok(t, "logs", name), "done") })
	var rows []map[string]string
	for line := range strings.Lines(u.ok(t, "system", "df", "--format", "json")) {
		var row map[string]string
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	want := map[string][4]string{"Images": {"3", "1"}, "Containers": {"2", "1", "1.5kB"}, "Local Volumes": {"1", "1", "2kB"}, "Build Cache": {"0", "0", "0B"}}
	for _, row := range rows {
		w := want[row["Type"]]
		if row["TotalCount"] != w[0] || row["Active"] != w[1] || w[2] != "" && row["Size"] != w[2] {
			t.Errorf("got %v, want %v", row, w)
		}
	}
	if len(rows) != len(want) {
		t.Errorf("got %d rows, want %d", len(rows), len(want))
	}
	matches(t, "df -v", u.ok(t, "system", "df", "-v"), "(?m)^"+v+` +1 +2kB`)
}

func TestPruneContainers(t *testing.T) {
	t.Parallel()
	u := own(t)
	running := u.detached(t, images.Busybox, "sleep", "1000")
	kept, created, ended := u.name(t), u.name(t), u.name(t)
	u.ok(t, "create", "--name", kept, "--label", "keep=1", images.True)
	u.ok(t, "create", "--name", created, images.True)
	u.ok(t, "run", "--name", ended, images.Busybox, "sh", "-c", "head -c 4000 /dev/zero >/f")
	matches(t, "nothing is that old", u.ok(t, "container", "prune", "-f", "--filter", "until=1h"), "(?m)^Total reclaimed space: 0B$")
	matches(t, "until=0", u.ok(t, "container", "prune", "-f", "--filter", "until=0"), "(?m)^Total reclaimed space: 0B$")
	matches(t, "left", u.ok(t, "ps", "-aq", "--filter", "name="+ended), "^[0-9a-f]{12}$")
	out := u.ok(t, "container", "prune", "-f", "--filter", "label!=keep")
	matches(t, "prune", out, "(?s)^Deleted Containers:\n[0-9a-f]{64}\n[0-9a-f]{64}\n\nTotal reclaimed space: 4kB$")
	left := strings.Fields(u.ok(t, "ps", "-a", "--format", "{{.Names}}"))
	if len(left) != 2 || !strings.Contains(strings.Join(left, " "), running) || !strings.Contains(strings.Join(left, " "), kept) {
		t.Errorf("left: %v, want %s and %s", left, running, kept)
	}
}
