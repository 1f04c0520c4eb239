package e2e

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// identity is whose a dump's record says that it is.
type identity struct {
	ID, Name, Comm string
	NSPid          int
	Threads        []struct{ TID int }
	Container      struct{ Tenant, ID string }
	OperatorOnly   bool
	Kept           []keptFile
	Missing        []string
}

// keptFile is what a record says of a file that is kept.
type keptFile struct{ Path, DebugOf, Object, Skipped string }

// identities reads the records on the disk, of all tenants, by their ids.
func (u *under) identities(t *testing.T) map[string]identity {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(u.tritond.DataRoot, "cores", "*", "*", "record.json"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]identity{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		var i identity
		if err := json.Unmarshal(b, &i); err != nil {
			t.Fatal(err)
		}
		all[i.ID] = i
	}
	return all
}

const lastPid = "/proc/sys/kernel/ns_last_pid"

// reusePids has the kernel number all new processes from the same few numbers until the function that it returns is called.
func reusePids(t *testing.T) (stop func()) {
	t.Helper()
	max, err := strconv.Atoi(read(t, "/proc/sys/kernel/pid_max"))
	if err != nil {
		t.Fatal(err)
	}
	at, err := strconv.Atoi(read(t, lastPid))
	if err != nil {
		t.Fatal(err)
	}
	base := []byte(strconv.Itoa(300 + (at+max/2)%(max-1000)))
	f, err := os.OpenFile(lastPid, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	ended, done := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(200 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				done <- f.Close()
				return
			case <-tick.C:
				if _, err := f.WriteAt(base, 0); err != nil {
					done <- err
					return
				}
			}
		}
	}()
	return func() {
		close(ended)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

var savedLine = regexp.MustCompile(`msg="core dump saved" .*container=(\S+) dump=(\S+) .*program=(\S+)`)

// TestCoresOfReusedPids: while the kernel gives the same few numbers to all processes, two containers crash and kill
// processes without end, each with a name of its own: no dump is ascribed to another container or process than that which
// crashed, none that was not killed is lost, and both ends are recorded with their own dumps. TRITON_E2E_LONG: 1,000 each.
func TestCoresOfReusedPids(t *testing.T) { captures(t, coresOfReusedPids) }

func coresOfReusedPids(t *testing.T, form string) {
	u := taking(t, form, "--core-cpu", "0") // each is to be saved
	exe := build(t, "pids", "cc", "-O2", "-static", "testdata/pids/pids.c")
	n := 60
	if all.long {
		n = 1000
	}
	tags := []string{"a", "b"}
	names, ids := map[string]string{}, map[string]string{}
	stop := reusePids(t)
	for _, tag := range tags {
		names[tag] = u.detached(t, "--label", "triton.core=mini", "-v", exe+":/pids:ro", images.Programs, "/pids", tag, strconv.Itoa(n))
		ids[tag] = u.inspect(t, names[tag], "{{.Id}}")
	}
	for _, tag := range tags {
		eventually(t, 5*time.Minute, names[tag]+" ends", func() bool { return u.inspect(t, names[tag], "{{.State.Status}}") == "exited" })
		equal(t, "exit code", u.inspect(t, names[tag], "{{.State.ExitCode}}"), "139")
	}
	stop()
	log := read(t, u.tritond.LogPath())
	records := u.identities(t)
	pids := map[string]int{} // by name
	reused := 0
	for _, tag := range tags {
		lines := strings.Split(u.ok(t, "logs", names[tag]), "\n")
		if len(lines) != n {
			t.Fatalf("%d lines of %s, want %d", len(lines), tag, n)
		}
		for i, line := range lines {
			f := strings.Fields(line)
			pid, err := strconv.Atoi(f[1])
			if err != nil || i%2 == 0 && f[2] != "11" || i%2 == 1 && f[2] != "11" && f[2] != "9" {
				t.Errorf("%s ended so: %q", tag, line)
			}
			pids[f[0]] = pid
		}
		last := fmt.Sprintf("%s%05d", tag, n)
		pids[last] = 1
		saved := map[string]int{}
		for _, m := range savedLine.FindAllStringSubmatch(log, -1) {
			if strings.HasSuffix(m[1], "/"+ids[tag][:12]) {
				saved[m[3]]++
				if !strings.HasPrefix(m[3], tag) {
					t.Errorf("dump %s of %s is of %s", m[2], tag, m[3])
				}
			}
		}
		for i := range n + 1 {
			comm := fmt.Sprintf("%s%05d", tag, i)
			if got := saved[comm]; got > 1 || got == 0 && (i%2 == 0 || i == n) {
				t.Errorf("%d dumps of %s, which ended by itself: %t", got, comm, i%2 == 0)
			}
		}
		var d struct{ Core struct{ ID, Comm string } }
		if err := json.Unmarshal([]byte(u.triton(t, "deaths", "show", "-json", names[tag])), &d); err != nil {
			t.Fatal(err)
		}
		if r := records[d.Core.ID]; r.Comm != last || r.NSPid != 1 || r.Container.ID != ids[tag] {
			t.Errorf("the end of %s has the dump %+v: %+v", tag, d.Core, r)
		}
	}
	if form == "socket" {
		reused = u.reusedNumbers(t)
		if reused < len(records)/4 { // of those that are kept
			t.Errorf("only %d numbers of %d dumps were used again", reused, len(records))
		}
	}
	for id, r := range records {
		if r.Comm == "" {
			t.Errorf("dump %s is of nobody", id)
			continue
		}
		tag := r.Comm[:1]
		if r.Name != names[tag] || r.Container.ID != ids[tag] || r.NSPid != pids[r.Comm] || len(r.Threads) != 1 || r.Threads[0].TID != r.NSPid {
			t.Errorf("dump %s: %+v; %s had the number %d", id, r, r.Comm, pids[r.Comm])
		}
	}
	t.Logf("%d dumps, %d of numbers that were used again", len(records), reused)
}

// reusedNumbers counts the dumps of processes that had the number of one that crashed before.
func (u *under) reusedNumbers(t *testing.T) (n int) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(u.tritond.DataRoot, "cores", "*", "*", "record.json"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range paths {
		var r struct{ Pid int }
		if err := json.Unmarshal([]byte(read(t, p)), &r); err != nil {
			t.Fatal(err)
		}
		if seen[r.Pid] {
			n++
		}
		seen[r.Pid] = true
	}
	return n
}

// watch tells what is opened of some files, by whatever name.
type watch struct {
	fd    int
	paths map[int32]string // by descriptor
}

func watchOpens(t *testing.T, paths ...string) *watch {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	w := &watch{fd, map[int32]string{}}
	for _, p := range paths {
		wd, err := unix.InotifyAddWatch(fd, p, unix.IN_OPEN|unix.IN_ACCESS|unix.IN_DONT_FOLLOW)
		if err != nil {
			t.Fatal(err)
		}
		w.paths[int32(wd)] = p
	}
	return w
}

// opened returns the files since the last call.
func (w *watch) opened(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(w.fd, buf)
		if errors.Is(err, unix.EAGAIN) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			names[w.paths[int32(binary.NativeEndian.Uint32(b))]] = true
			b = b[unix.SizeofInotifyEvent+binary.NativeEndian.Uint32(b[12:]):]
		}
	}
}

// TestCoreOfAHostileContainer: files that a process runs code of are kept as they were mapped, whatever was put in their
// places: nothing is opened by its name, nothing outside, nothing that never ends, and hostile headers end no analysis.
func TestCoreOfAHostileContainer(t *testing.T) { captures(t, coreOfAHostileContainer) }

func coreOfAHostileContainer(t *testing.T, form string) {
	u := taking(t, form)
	exe := build(t, "hostile", "cc", "-O2", "-static", "testdata/hostile/hostile.c")
	outside, inside := t.TempDir(), t.TempDir()
	canary := filepath.Join(outside, "canary")
	if err := errors.Join(os.WriteFile(canary, []byte("of the host"), 0o644), os.Chmod(inside, 0o777)); err != nil {
		t.Fatal(err)
	}
	name := u.detached(t, "-v", exe+":/hostile:ro", "-v", inside+":/w", images.Programs, "sh", "-c", "cp /hostile /h && exec /h "+canary)
	eventually(t, 30*time.Second, "it is ready", func() bool {
		res := u.docker(t, "logs", name)
		if res.Stderr != "" {
			t.Fatal(res.Stderr)
		}
		return strings.Contains(res.Stdout, "ready")
	})
	// /dev/zero, which never ends: containers may not make such nodes.
	if err := unix.Mknod(filepath.Join(inside, "device"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(inside, name) }
	w := watchOpens(t, outside, canary, in("link"), in("fifo"), in("device"), in("folder"), in("headers"))
	if err := os.WriteFile(filepath.Join(inside, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	equal(t, "exit code", u.ok(t, "wait", name), "139")
	r, _, _ := u.stacksOf(t, name)
	opened := w.opened(t)
	if !opened[in("headers")] {
		t.Errorf("opened are %v: the watch does not see what is read as it was mapped", opened)
	}
	if delete(opened, in("headers")); len(opened) > 0 {
		t.Errorf("opened are %v", opened)
	}
	equal(t, "body", r.Body, "full")
	page := make([]byte, 4096)
	copy(page, "the original\n")
	sum := sha256.Sum256(page)
	kept := map[string]string{}
	i := u.identities(t)[r.ID]
	for _, k := range i.Kept {
		kept[k.Path] = k.Object + k.Skipped
	}
	for _, name := range []string{"link", "fifo", "device", "folder", "gone"} {
		equal(t, "what is kept of "+name, kept["/w/"+name], hex.EncodeToString(sum[:]))
	}
	matches(t, "what is kept of a terabyte", kept["/w/sparse"], "too many to keep")
	matches(t, "what is kept of a device", kept["/dev/zero"], "not a regular file")
	matches(t, "what is kept of the program", kept["/h"], "^[0-9a-f]{64}$")

	bundle := filepath.Join(t.TempDir(), "b.tar")
	u.triton(t, "cores", "pull", "-bundle", "-o", bundle, r.ID)
	list, err := exec.CommandContext(t.Context(), "tar", "-tf", bundle).Output()
	if err != nil {
		t.Fatalf("tar: %v", err)
	}
	for _, member := range strings.Split(strings.TrimSpace(string(list)), "\n") {
		if !strings.HasPrefix(member, r.ID+"/") || strings.Contains(member, "..") {
			t.Errorf("member %q", member)
		}
	}
	if b := read(t, bundle); strings.Contains(b, "of the host") {
		t.Error("the bundle has what was outside the container")
	}
	u.triton(t, "cores", "show", r.ID)
}

// TestCoreOfASetuidProgramIsForOperators: its tenant learns that there is one, and gets nothing of it. Only root reads
// the files, and the values of its environment are in none of them.
func TestCoreOfASetuidProgramIsForOperators(t *testing.T) {
	tritonOnly(t)
	const setting, secret = "/proc/sys/fs/suid_dumpable", "hunter2hunter2"
	before := read(t, setting)
	if err := os.WriteFile(setting, []byte("2"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(setting, []byte(before), 0); err != nil {
			t.Error(err)
		}
	})
	port, err := engine.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	u := taking(t, "socket", "-H", "tcp://"+address)
	acme := u.tenant(t, address, "acme")
	acme.ok(t, "load", "-q", "-i", all.images.Programs)
	acme.ok(t, "run", "-d", "--name", "suid", "-e", "SECRET="+secret, images.Programs, "sleep", "1000")
	acme.ok(t, "exec", "suid", "sh", "-c", "cp /bin/crash /s && chmod 4755 /s && cp /bin/crash /p")
	acme.fails(t, 139, "", "exec", "-u", "1000", "suid", "/s")
	acme.fails(t, 139, "", "exec", "-u", "1000", "suid", "/p")

	records := u.identities(t)
	if len(records) != 2 {
		t.Fatalf("%d dumps, want 2", len(records))
	}
	tenant := func(args ...string) engine.Result { return u.client(t, acme.dockerEnv(), args...) }
	operator := func(args ...string) string { return u.triton(t, append([]string{"-t", "acme"}, args...)...) }
	events := ""
	eventually(t, time.Minute, "both events", func() bool {
		events = acme.ok(t, "events", "--since", "5m", "--until", "0s", "--filter", "event=coredump")
		return strings.Count(events, "triton.core=") == 2
	})
	for id, r := range records {
		if r.OperatorOnly != (r.Comm == "s") {
			t.Errorf("the dump of %s is for operators only: %t", r.Comm, r.OperatorOnly)
		}
		line := regexp.MustCompile(`.*triton\.core=` + id + `.*`).FindString(events)
		if strings.Contains(line, "triton.frame") == r.OperatorOnly {
			t.Errorf("the event of %s: %q", r.Comm, line)
		}
		if listed := strings.Contains(tenant("cores", "ls").Stdout, id); listed == r.OperatorOnly {
			t.Errorf("the tenant sees the dump of %s: %t", r.Comm, listed)
		}
		if !strings.Contains(operator("cores", "ls"), id) {
			t.Errorf("the operator does not see the dump of %s", r.Comm)
		}
		for _, args := range [][]string{
			{"show", id}, {"bt", id}, {"pull", "-o", filepath.Join(t.TempDir(), "c"), id}, {"pull", "-mini", "-o", filepath.Join(t.TempDir(), "m"), id},
			{"pull", "-bundle", "-o", filepath.Join(t.TempDir(), "b"), id},
		} {
			if res := tenant(append([]string{"cores"}, args...)...); (res.Code != 0) != r.OperatorOnly {
				t.Errorf("the tenant's cores %q of %s: %d %s", args, r.Comm, res.Code, res.Stderr)
			}
			operator(append([]string{"cores"}, fresh(t, args)...)...)
		}
		core := filepath.Join(t.TempDir(), "core")
		operator("cores", "pull", "-o", core, id)
		if text := read(t, core) + operator("cores", "show", "-json", id) + operator("cores", "bt", "-json", "-all", id); strings.Contains(text, secret) {
			t.Errorf("the value of an environment variable of %s is kept", r.Comm)
		}
		if r.OperatorOnly {
			if res := tenant("cores", "rm", id); res.Code == 0 {
				t.Error("the tenant removed what it does not see")
			}
		}
	}
	u.onlyForRoot(t, secret)
	acme.ok(t, "rm", "-f", "suid")
}

// fresh are arguments with another file to write to.
func fresh(t *testing.T, args []string) []string {
	out := append([]string{}, args...)
	for i, a := range out {
		if a == "-o" {
			out[i+1] = filepath.Join(t.TempDir(), "again")
		}
	}
	return out
}

// onlyForRoot checks all files of the store: nobody else may read them, and none has the secret.
func (u *under) onlyForRoot(t *testing.T, secret string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(filepath.Join(u.tritond.DataRoot, "cores"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %s", path, info.Mode())
		}
		if !d.Type().IsRegular() {
			return nil
		}
		files++
		if strings.Contains(read(t, path), secret) {
			t.Errorf("%s has the value of an environment variable", path)
		}
		return nil
	})
	if err != nil || files < 6 {
		t.Errorf("%d files, %v", files, err)
	}
}
