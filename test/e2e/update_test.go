package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

func TestUpdateChangesARunningContainer(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "--memory", "64m", "--memory-swap", "64m", images.Busybox, "sleep", "1000")
	pid := u.pid(t, name)
	equal(t, "update prints", u.ok(t, "update", "--memory", "32m", "--memory-swap", "32m", "--pids-limit", "40", "--cpu-period", "100000",
		"--cpu-quota", "50000", "--cpuset-cpus", "0", name), name)
	equal(t, "memory", u.limit(t, name, "memory", "memory.limit_in_bytes", "memory.max"), "33554432")
	equal(t, "pids", u.limit(t, name, "pids", "pids.max", "pids.max"), "40")
	equal(t, "cpus", u.limit(t, name, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0")
	equal(t, "inspect", u.inspect(t, name, "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.CpuQuota}} {{.HostConfig.CpusetCpus}}"),
		"33554432 40 50000 0")
	u.ok(t, "update", "--pids-limit", "-1", name)
	equal(t, "no pids limit", u.limit(t, name, "pids", "pids.max", "pids.max"), "max")
	if now := u.pid(t, name); now != pid {
		t.Errorf("pid was %d, is %d", pid, now)
	}
	equal(t, "events", u.past(t, 2, "--filter", "container="+name, "--filter", "event=update", "--format", "{{.Action}}"), "update\nupdate")
}

func TestUpdateOfAStoppedContainerHoldsAtItsStart(t *testing.T) {
	u := shared(t)
	name := u.name(t)
	u.ok(t, "create", "--name", name, images.Busybox, "sh", "-c", "[ -e /tmp/second ] && sleep 1000; touch /tmp/second; exit 3")
	u.ok(t, "update", "--memory", "48m", "--memory-swap", "96m", "--restart", "on-failure:1", name)
	u.ok(t, "start", name)
	eventually(t, 20*time.Second, "the policy restarts it", func() bool { return u.inspect(t, name, "{{.RestartCount}} {{.State.Status}}") == "1 running" })
	equal(t, "memory", u.limit(t, name, "memory", "memory.limit_in_bytes", "memory.max"), "50331648")
	u.ok(t, "update", "--restart", "no", name)
	equal(t, "policy", u.inspect(t, name, "{{.HostConfig.RestartPolicy.Name}}"), "no")
}

func TestUpdateRefusesWhatDoesNotGoTogether(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "--cpus", "0.5", "--rm", "--memory", "64m", "--memory-swap", "64m", images.Busybox, "sleep", "1000")
	for _, c := range []struct {
		pattern string
		flags   []string
	}{
		{"(?i)CPU Quota cannot be updated as NanoCPUs has already been set", []string{"--cpu-quota", "5000"}},
		{"(?i)update the memoryswap at the same time", []string{"--memory", "128m"}},
		{"(?i)Minimum memory limit", []string{"--memory", "1m"}},
		{"(?i)AutoRemove is enabled", []string{"--restart", "always"}},
		{"(?i)cpu", []string{"--cpuset-cpus", "4000"}},
	} {
		u.fails(t, 1, c.pattern, append(append([]string{"update"}, c.flags...), name)...)
	}
	u.fails(t, 1, "(?i)no such container", "update", "--memory", "64m", "nosuch")
	equal(t, "unchanged", u.inspect(t, name, "{{.HostConfig.Memory}} {{.HostConfig.CpuQuota}} {{.HostConfig.RestartPolicy.Name}}"), "67108864 0 no")
	equal(t, "memory", u.limit(t, name, "memory", "memory.limit_in_bytes", "memory.max"), "67108864")
}

// TestUpdateThatWasCutOffIsFinished: the note says that the control groups may be behind the record.
func TestUpdateThatWasCutOffIsFinished(t *testing.T) {
	t.Parallel()
	u := own(t)
	name := u.detached(t, "--pids-limit", "77", images.Busybox, "sleep", "1000")
	dir := filepath.Dir(u.inspect(t, name, "{{.LogPath}}"))
	group := u.limitFile(t, name, "pids", "pids.max", "pids.max")
	u.kill(t)
	if err := os.WriteFile(group, []byte("5"), 0o644); err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(dir, "updating.json")
	if err := os.WriteFile(note, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	u.restart(t)
	equal(t, "pids", u.limit(t, name, "pids", "pids.max", "pids.max"), "77")
	if _, err := os.Stat(note); err == nil {
		t.Error("the note is still there")
	}
}
