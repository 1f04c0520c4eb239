package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// bindDir makes a host folder that other users may enter.
func bindDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "tebind")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestBindMountsKeepTheHostsOwners(t *testing.T) {
	u := shared(t)
	dir := bindDir(t)
	for name, id := range map[string]int{"roots": 0, "workers": 1000} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("from host\n"), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, id, id); err != nil {
			t.Fatal(err)
		}
	}
	script := "stat -c '%u:%g %a %n' roots workers; cat roots; echo inside >made; chown 7:8 made; echo more >>workers"
	out := u.ok(t, "run", "--rm", "-v", dir+":/data", "-w", "/data", images.Busybox, "sh", "-c", script)
	equal(t, "inside", out, "0:0 640 roots\n1000:1000 640 workers\nfrom host")
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(dir, "made"), &st); err != nil {
		t.Fatal(err)
	}
	equal(t, "owner on the host", fmt.Sprintf("%d:%d", st.Uid, st.Gid), "7:8")

	user := u.ok(t, "run", "--rm", "-v", dir+":/data", "--user", "1000", images.Busybox, "cat", "/data/workers")
	equal(t, "as the owner", user, "from host\nmore")
	u.fails(t, 1, "Permission denied", "run", "--rm", "-v", dir+":/data", "--user", "1000", images.Busybox, "cat", "/data/roots")
}

func TestBindMountForms(t *testing.T) {
	u := shared(t)
	dir := bindDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	u.fails(t, 1, "Read-only file system", "run", "--rm", "-v", dir+":/data:ro", images.Busybox, "touch", "/data/x")
	u.fails(t, 1, "Read-only file system", "run", "--rm", "--mount", "type=bind,src="+dir+",dst=/data,readonly", images.Busybox, "touch", "/data/x")
	equal(t, "a file", u.ok(t, "run", "--rm", "-v", file+":/etc/one", images.Busybox, "cat", "/etc/one"), "one")
	made := filepath.Join(dir, "not", "there")
	u.ok(t, "run", "--rm", "-v", made+":/data", images.Busybox, "touch", "/data/x")
	if _, err := os.Stat(filepath.Join(made, "x")); err != nil {
		t.Errorf("-v of a missing folder: %v", err)
	}
	u.fails(t, 125, "(?i)bind source path does not exist", "run", "--rm", "--mount", "type=bind,src="+dir+"/no,dst=/data", images.True)
	u.fails(t, 125, "(?i)must be absolute|invalid mount path", "run", "--rm", "-v", dir+":data", images.True)

	name := u.detached(t, "-v", dir+":/data:ro", images.Busybox, "sleep", "1000")
	equal(t, "Mounts", u.inspect(t, name, "{{range .Mounts}}{{.Type}} {{.Source}} {{.Destination}} {{.RW}}{{end}}"), "bind "+dir+" /data false")
}

func TestTmpfsAndShm(t *testing.T) {
	u := shared(t)
	out := u.ok(t, "run", "--rm", "--tmpfs", "/scratch:size=2m,mode=1777", "--shm-size", "8m", images.Busybox, "df", "-k", "/scratch", "/dev/shm")
	matches(t, "/scratch", out, `(?m)^tmpfs\s+2048\s.*/scratch$`)
	matches(t, "/dev/shm", out, `(?m)^shm\s+8192\s.*/dev/shm$`)
	equal(t, "usable by all", u.ok(t, "run", "--rm", "--user", "worker", "--tmpfs", "/scratch", images.Busybox, "sh", "-c", "echo hi >/scratch/x; cat /scratch/x"), "hi")
	equal(t, "mount form", u.ok(t, "run", "--rm", "--mount", "type=tmpfs,dst=/s,tmpfs-size=1m", images.Busybox, "sh", "-c", "df -k /s | tail -1 | awk '{print $2}'"), "1024")
}

func TestReadOnlyRoot(t *testing.T) {
	u := shared(t)
	u.fails(t, 1, "Read-only file system", "run", "--rm", "--read-only", images.Busybox, "touch", "/x")
	u.ok(t, "run", "--rm", "--read-only", "--tmpfs", "/tmp", images.Busybox, "touch", "/tmp/x")
}

func TestContainersAreConfined(t *testing.T) {
	u := shared(t)
	status := u.ok(t, "run", "--rm", images.Busybox, "cat", "/proc/self/status")
	field := func(name string) string {
		for line := range strings.Lines(status) {
			if v, ok := strings.CutPrefix(line, name+":"); ok {
				return strings.TrimSpace(v)
			}
		}
		return ""
	}
	equal(t, "Seccomp", field("Seccomp"), "2")
	equal(t, "CapBnd", field("CapBnd"), "00000000a80425fb")
	equal(t, "CapEff", field("CapEff"), "00000000a80425fb")
	equal(t, "CapAmb", field("CapAmb"), "0000000000000000")
	equal(t, "NoNewPrivs", field("NoNewPrivs"), "0")
	capsOf := func(flags ...string) string {
		t.Helper()
		return u.ok(t, append(append([]string{"run", "--rm"}, flags...), images.Busybox, "sh", "-c", "grep -E '^(CapEff|NoNewPrivs|Seccomp)\\W' /proc/self/status | tr -s '\\t\\n' ' '")...)
	}
	equal(t, "cap-drop all", capsOf("--cap-drop", "ALL"), "CapEff: 0000000000000000 NoNewPrivs: 0 Seccomp: 2")
	equal(t, "cap-drop all, add one", capsOf("--cap-drop", "ALL", "--cap-add", "NET_ADMIN"), "CapEff: 0000000000001000 NoNewPrivs: 0 Seccomp: 2")
	equal(t, "user", capsOf("--user", "worker"), "CapEff: 0000000000000000 NoNewPrivs: 0 Seccomp: 2")
	equal(t, "no-new-privileges", capsOf("--security-opt", "no-new-privileges"), "CapEff: 00000000a80425fb NoNewPrivs: 1 Seccomp: 2")
	equal(t, "seccomp unconfined", capsOf("--security-opt", "seccomp=unconfined"), "CapEff: 00000000a80425fb NoNewPrivs: 0 Seccomp: 0")
	u.fails(t, 125, "(?i)invalid.*capab|unknown capab", "run", "--rm", "--cap-add", "NOSUCH", images.True)
}

func TestContainersCannotTouchTheHost(t *testing.T) {
	u := shared(t)
	for what, script := range map[string]string{
		"mount":       "mount -t tmpfs none /mnt",
		"host name":   "hostname changed",
		"sysctl":      "echo 1 >/proc/sys/kernel/panic",
		"sysrq":       "echo h >/proc/sysrq-trigger",
		"device node": "mknod /tmp/disk b 8 0 && cat /tmp/disk",
		"unshare":     "unshare -m true",
		"cgroup":      "mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x",
	} {
		if res := u.docker(t, "run", "--rm", images.Busybox, "sh", "-c", script); res.Code == 0 {
			t.Errorf("%s: allowed: %s%s", what, res.Stdout, res.Stderr)
		}
	}
	for _, path := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"} {
		out := u.docker(t, "run", "--rm", images.Busybox, "sh", "-c", "head -c 100 "+path+" 2>/dev/null; ls "+path+"/ 2>/dev/null").Stdout
		equal(t, path, out, "")
	}
	pids := strings.Fields(u.ok(t, "run", "--rm", images.Busybox, "sh", "-c", "ls /proc | grep -c '^[0-9]'"))
	matches(t, "processes seen", pids[0], "^[1-5]$")
}

func TestDevicesAreUsable(t *testing.T) {
	u := shared(t)
	for name, script := range map[string]string{
		"null":      "echo x >/dev/null && cat /dev/null",
		"zero":      "[ $(head -c 10 /dev/zero | wc -c) = 10 ]",
		"full":      "! echo x 2>/dev/null >/dev/full",
		"urandom":   "[ $(head -c 10 /dev/urandom | wc -c) = 10 ]",
		"as a user": "su worker -c 'echo x >/dev/null && head -c 1 /dev/urandom >/dev/null'",
		"stdout":    "echo x >/dev/stdout",
		"stderr":    "echo x >/dev/stderr",
		"fd":        "[ -d /dev/fd/ ]",
		"shm":       "touch /dev/shm/x",
		"ptmx":      "[ -e /dev/ptmx ]",
	} {
		if res := u.docker(t, "run", "--rm", images.Busybox, "sh", "-c", script); res.Code != 0 {
			t.Errorf("%s: %s: exit code %d %s", name, script, res.Code, res.Stderr)
		}
	}
	out := u.ok(t, "run", "--rm", "--device", "/dev/null:/dev/mine", images.Busybox, "sh", "-c", "echo x >/dev/mine; ls -l /dev/mine")
	matches(t, "--device", out, "^c")
	u.fails(t, anyFailure, "(?i)no such file|not a device|gathering device", "run", "--rm", "--device", "/dev/nosuch", images.True)
}

func TestUserNamespaceShiftsIDs(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	a := u.detached(t, images.Busybox, "sleep", "1000")
	b := u.detached(t, images.Busybox, "sleep", "1000")
	bases := map[string]bool{}
	for _, name := range []string{a, b} {
		m := strings.Fields(u.ok(t, "exec", name, "cat", "/proc/self/uid_map"))
		if len(m) != 3 || m[0] != "0" || m[1] == "0" || m[2] != "65536" {
			t.Fatalf("uid_map of %s is %q", name, m)
		}
		uid, err := engine.StatusField(u.pid(t, name), "Uid")
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "uid on the host", strings.Fields(uid)[0], m[1])
		bases[m[1]] = true
	}
	if len(bases) != 2 {
		t.Errorf("two containers share an id range: %v", bases)
	}
	equal(t, "owner of files", u.ok(t, "exec", a, "stat", "-c", "%u:%g", "/", "/etc/passwd", "/tmp", "/proc/1"), "0:0\n0:0\n0:0\n0:0")
	equal(t, "chown inside", u.ok(t, "exec", a, "sh", "-c", "cp /etc/passwd /tmp/p; chown worker /tmp/p /etc/group; stat -c %u /tmp/p /etc/group"), "1000\n1000")
	equal(t, "setuid", u.ok(t, "exec", a, "su", "worker", "-c", "id -u"), "1000")
}

func TestHostModesRunWithoutAUserNamespace(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	for _, flag := range []string{"--privileged", "--userns=host", "--network=host", "--pid=host", "--ipc=host"} {
		m := strings.Fields(u.ok(t, "run", "--rm", flag, images.Busybox, "cat", "/proc/self/uid_map"))
		if len(m) != 3 || m[1] != "0" {
			t.Errorf("%s: uid_map is %q, want the host's", flag, m)
		}
	}
	name := u.detached(t, "--privileged", images.Busybox, "sleep", "1000")
	equal(t, "inspect says so", u.inspect(t, name, "{{.HostConfig.Privileged}} {{.HostConfig.UsernsMode}}"), "true host")
	equal(t, "Seccomp", strings.TrimSpace(u.ok(t, "exec", name, "sh", "-c", "grep Seccomp: /proc/1/status | cut -f2")), "0")
	u.ok(t, "exec", name, "mount", "-t", "tmpfs", "none", "/mnt")
}

// namespaceOf is the kernel's name of a namespace of a container's first process.
func (u *under) namespaceOf(t *testing.T, name, kind string) string {
	t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", u.pid(t, name), kind))
	if err != nil {
		t.Fatal(err)
	}
	return link
}

func TestSharedPidAndIpcNamespaces(t *testing.T) {
	u := shared(t)
	first := u.detached(t, "--ipc", "shareable", images.Busybox, "sleep", "1234")
	u.ok(t, "exec", first, "sh", "-c", "echo shared >/dev/shm/x")
	for _, flags := range [][]string{{}, {"--network", "container:" + first}, {"--network", "none"}, {"--privileged"}, {"--network", "host"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			joining := append(slices.Clone(flags), "--pid", "container:"+first, "--ipc", "container:"+first)
			name := u.detached(t, append(joining, images.Busybox, "sleep", "4321")...)
			matches(t, "ps", u.ok(t, "exec", name, "ps", "-o", "args"), "(?m)^sleep 1234$")
			matches(t, "ps of the first", u.ok(t, "exec", first, "ps", "-o", "args"), "(?m)^sleep 4321$")
			equal(t, "/dev/shm", u.ok(t, "exec", name, "cat", "/dev/shm/x"), "shared")
			equal(t, "pid namespace", u.namespaceOf(t, name, "pid"), u.namespaceOf(t, first, "pid"))
			equal(t, "ipc namespace", u.namespaceOf(t, name, "ipc"), u.namespaceOf(t, first, "ipc"))
			equal(t, "inspect", u.inspect(t, name, "{{.HostConfig.PidMode}}"), "container:"+u.inspect(t, first, "{{.Id}}"))
			u.ok(t, "exec", name, "ls", "/sys/class/net/lo") // the network namespace's own sysfs
		})
	}
}

// A container that shares another's processes has a network of its own, and keeps it over its own restart.
func TestSharedPidNamespaceWithANetworkOfItsOwn(t *testing.T) {
	u := shared(t)
	first := u.detached(t, images.Busybox, "sleep", "1000")
	name := u.detached(t, "--pid", "container:"+first, "-p", "127.0.0.1::80", images.Busybox, "httpd", "-f", "-h", "/bin")
	if u.namespaceOf(t, name, "net") == u.namespaceOf(t, first, "net") {
		t.Error("one network namespace, want two")
	}
	matches(t, "ping", u.ok(t, "exec", name, "ping", "-c", "1", "-w", "5", u.address(t, first)), "1 packets received")
	address := u.address(t, name)
	u.ok(t, "restart", "-t", "0", name)
	equal(t, "address", u.address(t, name), address)
	u.ok(t, "stop", "-t", "0", first)
	u.fails(t, 1, "(?i)not running", "start", name)
}

func TestNamespacesOfTwoUserNamespacesAreNotJoined(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	one, two := u.detached(t, images.Busybox, "sleep", "1000"), u.detached(t, "--ipc", "shareable", images.Busybox, "sleep", "1000")
	u.fails(t, 1, "joining both needs --userns host", "create", "--pid", "container:"+one, "--ipc", "container:"+two, images.True)
	name := u.detached(t, "--userns", "host", "--pid", "container:"+one, "--ipc", "container:"+two, images.Busybox, "sleep", "1000")
	equal(t, "pid namespace", u.namespaceOf(t, name, "pid"), u.namespaceOf(t, one, "pid"))
	equal(t, "ipc namespace", u.namespaceOf(t, name, "ipc"), u.namespaceOf(t, two, "ipc"))
}
