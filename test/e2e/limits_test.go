package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

// limit reads a value of a container's cgroup: the v1 file where the hierarchy exists, otherwise the v2 one.
func (u *under) limit(t *testing.T, name, controller, v1, v2 string) string {
	t.Helper()
	return readCgroup(t, u.limitFile(t, name, controller, v1, v2))
}

// limitFile is the file that limit reads.
func (u *under) limitFile(t *testing.T, name, controller, v1, v2 string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", u.pid(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	unified := ""
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if f[1] == controller {
			return filepath.Join("/sys/fs/cgroup", controller, f[2], v1)
		}
		if f[1] == "" {
			unified = f[2]
		}
	}
	return filepath.Join("/sys/fs/cgroup", unified, v2)
}

func readCgroup(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestLimitsReachTheCgroup(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "--memory", "64m", "--cpus", "0.5", "--cpu-shares", "512", "--pids-limit", "33", images.Busybox, "sleep", "1000")
	equal(t, "memory", u.limit(t, name, "memory", "memory.limit_in_bytes", "memory.max"), "67108864")
	equal(t, "pids", u.limit(t, name, "pids", "pids.max", "pids.max"), "33")
	matches(t, "cpu quota", u.limit(t, name, "cpu", "cpu.cfs_quota_us", "cpu.max"), `^50000( 100000)?$`)
	matches(t, "cpu shares", u.limit(t, name, "cpu", "cpu.shares", "cpu.weight"), `^(512|20|59)$`)
}

func TestOutOfMemoryIsToldApart(t *testing.T) {
	u := shared(t)
	name := u.name(t)
	since := fmt.Sprint(time.Now().Unix() - 1)
	res := u.docker(t, "run", "--name", name, "--memory", "32m", "--memory-swap", "32m", images.Programs, "memhog", "200")
	if res.Code != 137 {
		t.Errorf("got exit code %d, want 137; %s%s", res.Code, res.Stdout, res.Stderr)
	}
	equal(t, "inspect", u.inspect(t, name, "{{.State.OOMKilled}} {{.State.ExitCode}}"), "true 137")
	eventually(t, 5*time.Second, "an oom event", func() bool { // the client's 0s is the second under way at its begin
		out := u.ok(t, "events", "--since", since, "--until", "0s", "--filter", "container="+name, "--filter", "event=oom", "--format", "{{.Action}}")
		return strings.HasPrefix(out, "oom")
	})

	within := u.name(t)
	u.ok(t, "run", "--name", within, "--memory", "64m", images.Programs, "memhog", "20")
	equal(t, "within the limit", u.inspect(t, within, "{{.State.OOMKilled}} {{.State.ExitCode}}"), "false 0")
}

func TestPidsLimitStopsForks(t *testing.T) {
	u := shared(t)
	out := u.docker(t, "run", "--rm", "--pids-limit", "10", images.Busybox, "sh", "-c", "for i in $(seq 1 30); do sleep 5 & done; echo unreachable")
	matches(t, "sh", out.Stderr, "can't fork")
	if strings.Contains(out.Stdout, "unreachable") {
		t.Error("30 forks succeeded under a limit of 10 processes")
	}
}

func TestCPULimitThrottles(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "--cpus", "0.2", images.Busybox, "sh", "-c", "while :; do :; done")
	eventually(t, 20*time.Second, "throttled periods", func() bool {
		for line := range strings.Lines(u.limit(t, name, "cpu", "cpu.stat", "cpu.stat")) {
			if v, ok := strings.CutPrefix(line, "nr_throttled "); ok {
				n, err := strconv.Atoi(strings.TrimSpace(v))
				return err == nil && n > 3
			}
		}
		return false
	})
}

func TestUlimitsAndSysctls(t *testing.T) {
	u := shared(t)
	equal(t, "ulimit", u.ok(t, "run", "--rm", "--ulimit", "nofile=123:456", images.Busybox, "sh", "-c", "ulimit -Sn; ulimit -Hn"), "123\n456")
	equal(t, "sysctl", u.ok(t, "run", "--rm", "--sysctl", "net.ipv4.ip_unprivileged_port_start=77", images.Busybox, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"), "77")
	u.fails(t, 125, "(?i)sysctl", "run", "--rm", "--sysctl", "kernel.panic=1", images.True)
	equal(t, "oom score", u.ok(t, "run", "--rm", "--oom-score-adj", "500", images.Busybox, "cat", "/proc/self/oom_score_adj"), "500")
}
