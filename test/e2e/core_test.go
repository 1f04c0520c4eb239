package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/test/images"
)

const corePattern = "/proc/sys/kernel/core_pattern"

// coreRecord is what these tests read of a dump's record.
type coreRecord struct {
	ID, Signal, Note, Body, Cut string
	StoredBytes, MemoryBytes    uint64
	Packed                      bool
	NSPid                       int
	Fault                       uint64
	MiniAfterNs                 time.Duration
	EnvNames                    []string
	Log                         []string
	Missing                     []string
	Threads                     []struct {
		TID   int
		PC    uint64
		Call  string
		Calls []triton.Call
	}
	Modules []struct{ Path, BuildID string }
	Sockets []struct{ Proto, Local, Peer, State string }
	Limits  string
	Death   struct{ Reason string }
}

// captures runs a test in each form in which a kernel may hand cores over.
func captures(t *testing.T, test func(t *testing.T, form string)) {
	for _, form := range []string{"socket", "pipe"} {
		t.Run(form, func(t *testing.T) { test(t, form) })
	}
}

// taking starts a daemon that takes core dumps in the given form. The machine's settings are put back whatever becomes
// of the daemon.
func taking(t *testing.T, form string, flags ...string) *under {
	t.Helper()
	tritonOnly(t)
	for _, setting := range []string{corePattern, "/proc/sys/kernel/core_pipe_limit"} {
		before := read(t, setting)
		t.Cleanup(func() {
			if now := read(t, setting); now != before {
				t.Errorf("%s is %q after the test, was %q", setting, now, before)
				if err := os.WriteFile(setting, []byte(before), 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	u := own(t, append([]string{"--core-pattern", "take", "--core-capture", form}, flags...)...)
	u.awaitTaken(t, form)
	return u
}

func (u *under) awaitTaken(t *testing.T, form string) {
	t.Helper()
	mark := map[string]string{"socket": "@@", "pipe": "|"}[form]
	eventually(t, 10*time.Second, "core_pattern names the daemon's socket", func() bool {
		return strings.HasPrefix(read(t, corePattern), mark+u.tritond.RunRoot)
	})
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// triton runs the client and returns its output.
func (u *under) triton(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(all.bin, "triton"), append([]string{"-H", u.tritond.Host}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("triton %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// onlyCore returns the record of the one dump of a container.
func (u *under) onlyCore(t *testing.T, name string) coreRecord {
	t.Helper()
	var ids []string
	for _, line := range strings.Split(u.triton(t, "cores", "ls"), "\n") {
		if f := strings.Fields(line); len(f) > 3 && f[3] == name {
			ids = append(ids, f[0])
		}
	}
	if len(ids) != 1 {
		t.Fatalf("%d dumps of %s\n%s\n%s", len(ids), name, u.triton(t, "cores", "ls"), u.tritond.Log())
	}
	var r coreRecord
	if err := json.Unmarshal([]byte(u.triton(t, "cores", "show", "-json", ids[0])), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

var gdbPC = regexp.MustCompile(`(?m)^PC (\d+) (\d+)$`)

// gdbPCs returns each thread's program counter by its id, as gdb reads a core.
func gdbPCs(t *testing.T, core string) map[int]uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "gdb", "-batch", "-nx", "-ex", "python\nfor t in gdb.selected_inferior().threads():\n"+
		" t.switch()\n print('PC %d %d' % (t.ptid[1] or t.ptid[0], int(gdb.parse_and_eval('(unsigned long)$pc'))))\n",
		filepath.Join(all.images.Bin, "crash"), core).CombinedOutput()
	if err != nil {
		t.Fatalf("gdb: %v\n%s", err, out)
	}
	pcs := map[int]uint64{}
	for _, m := range gdbPC.FindAllStringSubmatch(string(out), -1) {
		var tid int
		var pc uint64
		if _, err := fmt.Sscan(m[1], &tid); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(m[2], &pc); err != nil {
			t.Fatal(err)
		}
		pcs[tid] = pc
	}
	return pcs
}

func (r coreRecord) pcs() map[int]uint64 {
	pcs := map[int]uint64{}
	for _, th := range r.Threads {
		pcs[th.TID] = th.PC
	}
	return pcs
}

// TestCoreOfAContainerOpensInGDB: the core, the mini core and the record agree on every thread, though the container may
// not write cores, and the values of its environment are in none of them.
func TestCoreOfAContainerOpensInGDB(t *testing.T) { captures(t, coreOfAContainerOpensInGDB) }

func coreOfAContainerOpensInGDB(t *testing.T, form string) {
	u := taking(t, form)
	name := u.name(t)
	u.fails(t, 139, "", "run", "--name", name, "--ulimit", "core=0", "-e", "SECRET=hunter2hunter2", images.Programs,
		"sh", "-c", "echo last words; crash; exit $?")
	r := u.onlyCore(t, name)
	equal(t, "signal", r.Signal, "SIGSEGV")
	equal(t, "body", r.Body, "full")
	if r.Fault != 16 || len(r.Threads) != 3 || len(r.Missing) > 0 || r.MiniAfterNs <= 0 {
		t.Errorf("fault %d, %d threads, missing %q, mini after %s", r.Fault, len(r.Threads), r.Missing, r.MiniAfterNs)
	}
	if !strings.Contains(strings.Join(r.Log, "\n"), "last words") || !strings.Contains(strings.Join(r.EnvNames, " "), "SECRET") {
		t.Errorf("log %q, environment %q", r.Log, r.EnvNames)
	}
	eventually(t, time.Minute, "the memory is compressed anew", func() bool { return u.onlyCore(t, name).Packed })
	for _, kind := range []string{"-mini=false", "-mini"} {
		core := filepath.Join(t.TempDir(), "core")
		u.triton(t, "cores", "pull", kind, "-o", core, r.ID)
		if diff := cmp.Diff(gdbPCs(t, core), r.pcs()); diff != "" {
			t.Errorf("pull %s: gdb and the record differ (-gdb +record):\n%s", kind, diff)
		}
		if strings.Contains(read(t, core), "hunter2hunter2") {
			t.Errorf("pull %s has the value of an environment variable", kind)
		}
	}
	matches(t, "events", u.past(t, 1, "--filter", "container="+name, "--filter", "event=coredump"), `container coredump .*signal=SIGSEGV`)
	u.triton(t, "cores", "rm", r.ID)
	if out := u.triton(t, "cores", "ls"); strings.Contains(out, r.ID) {
		t.Errorf("removed and still listed:\n%s", out)
	}
}

// TestCoreRecordTellsOfTheProcess: what it had open and was connected to, what each thread waited for, what it was made
// of, its limits, and how its container ended.
func TestCoreRecordTellsOfTheProcess(t *testing.T) {
	u := taking(t, "socket")
	name := u.name(t)
	u.fails(t, 139, "", "run", "--name", name, "--ulimit", "nofile=777:777", images.Programs, "crash", "sockets")
	r := u.onlyCore(t, name)
	sockets, calls, modules := fmt.Sprint(r.Sockets), "", fmt.Sprint(r.Modules)
	for _, thread := range r.Threads {
		calls += thread.Call + " "
	}
	matches(t, "sockets", sockets, `\{tcp 127\.0\.0\.1:7070 0\.0\.0\.0:0 listening\}`)
	matches(t, "sockets", sockets, `\{tcp 127\.0\.0\.1:\d+ 127\.0\.0\.1:7070 established\}`)
	matches(t, "sockets", sockets, `\{unix  inode \d+ established\}`)
	matches(t, "threads", calls, `(pause|futex).*(pause|futex)`)
	var last []string
	for _, c := range r.Threads[0].Calls {
		last = append(last, c.Text)
	}
	matches(t, "last calls of the thread that crashed", strings.Join(last, "\n"), `(?s)socket\(AF_INET, .*\nbind\(.*\nlisten\(\d+, 1\)\nconnect\(.*\nsocketpair\(AF_UNIX, `)
	matches(t, "modules", modules, `/crash [0-9a-f]{40}\}`)
	matches(t, "limits", r.Limits, `Max open files +777 +777`)
	if len(r.Missing) > 0 {
		t.Errorf("missing %q", r.Missing)
	}
	eventually(t, 10*time.Second, "the end is joined", func() bool {
		return strings.Contains(u.onlyCore(t, name).Death.Reason, r.ID)
	})
	out := u.triton(t, "cores", "show", r.ID)
	for _, want := range []string{"Max open files", "established", "THREAD", "SIGSEGV, code 1, address 0x10", "last system calls:", "socketpair(AF_UNIX, ", r.Death.Reason} {
		if !strings.Contains(out, want) {
			t.Errorf("triton cores show has no %q:\n%s", want, out)
		}
	}
}

// TestCoreAbortOfPidOneIsNamedSo: PID 1 ignores its own SIGABRT and dies of another signal.
func TestCoreAbortOfPidOneIsNamedSo(t *testing.T) {
	u := taking(t, "socket")
	name := u.name(t)
	u.fails(t, 139, "", "run", "--name", name, images.Programs, "crash", "abort")
	r := u.onlyCore(t, name)
	equal(t, "signal", r.Signal, "SIGABRT")
	if r.NSPid != 1 || r.Note == "" {
		t.Errorf("pid %d, note %q", r.NSPid, r.Note)
	}
}

// TestCoreCutByQuotaIsValid: of a process with 2 GiB, of which it has filled every eighth page, what does not fit into
// 100 MiB is left out from the end of the order, never the stacks.
func TestCoreCutByQuotaIsValid(t *testing.T) {
	const quota = 100 << 20
	u := taking(t, "socket", "--core-quota", fmt.Sprint(quota))
	name := u.name(t)
	u.fails(t, 139, "", "run", "--name", name, images.Programs, "crash", "big", "2048", "8")
	r := u.truncated(t, name, "quota")
	if r.StoredBytes > quota || r.StoredBytes < quota*9/10 || r.MemoryBytes < 2<<30 {
		t.Errorf("%d bytes stored of %d, quota %d", r.StoredBytes, r.MemoryBytes, quota)
	}
	u.triton(t, "cores", "rm", r.ID)
}

// truncated checks the container's only dump: it says that it is cut and why, gdb opens the core, and finds every stack
// that the daemon finds in it.
func (u *under) truncated(t *testing.T, name, why string) coreRecord {
	t.Helper()
	r, b, printed := u.stacksOf(t, name)
	equal(t, "body", r.Body, "truncated")
	equal(t, "cut", r.Cut, why)
	matches(t, "triton cores show", u.triton(t, "cores", "show", r.ID), "truncated")
	for _, kind := range []string{"-mini=false", "-mini"} {
		core := filepath.Join(t.TempDir(), "core")
		u.triton(t, "cores", "pull", kind, "-o", core, r.ID)
		witness := gdbStacks(t, filepath.Join(all.images.Bin, "crash"), core)
		if diff := cmp.Diff(witness, counters(b)); diff != "" || len(witness) != 3 {
			t.Errorf("pull %s: %d stacks; gdb and the daemon differ (-gdb +daemon):\n%s\n%s", kind, len(witness), diff, printed)
		}
	}
	return r
}

// midBody starts a container that crashes, and returns while the daemon, stopped by SIGSTOP, has saved some of its memory
// and by far not all. A machine that is quicker than we look gets a larger process.
func (u *under) midBody(t *testing.T) (name string, pid int) {
	t.Helper()
	for mib := 384; mib <= 3072; mib *= 2 {
		name = u.held(t, nil, fmt.Sprintf("crash big %d", mib))
		pid = u.pid(t, name)
		release(t, pid)
		deadline := time.Now().Add(time.Minute)
		for ; u.bodyBytes(t) <= 4<<20; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no memory is saved\n%s", u.tritond.Log())
			}
		}
		u.stop(t)
		if u.bodyBytes(t) < int64(mib)<<19 { // random: none of it becomes less
			return name, pid
		}
		u.resume(t)
		u.ok(t, "wait", name)
		u.triton(t, "cores", "rm", u.onlyCore(t, name).ID)
	}
	t.Fatal("memory is saved before it can be seen")
	return "", 0
}

// bodyBytes is the size of all bodies on the disk.
func (u *under) bodyBytes(t *testing.T) (sum int64) {
	t.Helper()
	bodies, err := filepath.Glob(filepath.Join(u.tritond.DataRoot, "cores", "*", "*", "body"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bodies {
		if st, err := os.Stat(b); err == nil {
			sum += st.Size()
		}
	}
	return sum
}

// stop halts the daemon, and waits until each of its threads has stopped.
func (u *under) stop(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(u.tritond.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(u.tritond.Pid(), syscall.SIGCONT) }) // so that a test that failed ends, too
	stopped := regexp.MustCompile(`(?m)^State:\s+T`)
	eventually(t, time.Minute, "the daemon has stopped", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", u.tritond.Pid()))
		if err != nil || len(threads) == 0 {
			t.Fatalf("%d threads of the daemon, %v", len(threads), err)
		}
		for _, path := range threads {
			if status, err := os.ReadFile(path); err == nil && !stopped.Match(status) {
				return false
			}
		}
		return true
	})
}

// resume ends stop.
func (u *under) resume(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(u.tritond.Pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// TestCoreOfAProcessThatIsKilledMeanwhile: SIGKILL ends a process that dumps core, and what was saved is a core.
func TestCoreOfAProcessThatIsKilledMeanwhile(t *testing.T) {
	u := taking(t, "socket")
	name, pid := u.midBody(t)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
	u.resume(t)
	matches(t, "exit code", u.ok(t, "wait", name), "^(137|139)$")
	r := u.truncated(t, name, "process ended")
	u.triton(t, "cores", "rm", r.ID)
}

// TestCoreOfADaemonThatIsKilledMeanwhile: the process that crashed is let go within a second, and what was saved is a core.
func TestCoreOfADaemonThatIsKilledMeanwhile(t *testing.T) {
	u := taking(t, "socket")
	promptly(t, "the process is let go", time.Second, func() time.Duration {
		name, pid := u.midBody(t)
		began := time.Now()
		u.kill(t)
		gone(t, pid)
		freed := time.Since(began)
		u.restart(t)
		equal(t, "exit code", u.ok(t, "wait", name), "139")
		r := u.truncated(t, name, "the daemon ended")
		u.triton(t, "cores", "rm", r.ID)
		return freed
	})
}

// TestCoreWaitsForAKilledDaemon: a crash while no daemon lives is held until one does, and nothing of it is lost.
func TestCoreWaitsForAKilledDaemon(t *testing.T) { captures(t, coreWaitsForAKilledDaemon) }

func coreWaitsForAKilledDaemon(t *testing.T, form string) {
	u := taking(t, form)
	name := u.held(t, nil, "crash")
	pid := u.pid(t, name)
	u.kill(t)
	release(t, pid)
	eventually(t, 10*time.Second, "the process dumps core", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		return err == nil && strings.Contains(string(b), "CoreDumping:\t1")
	})
	u.restart(t)
	equal(t, "exit code", strings.TrimSpace(u.ok(t, "wait", name)), "139")
	r := u.onlyCore(t, u.inspect(t, name, "{{slice .Name 1}}"))
	equal(t, "body", r.Body, "full")
}

// TestCoreSurvivesAKilledKeeper: the process that keeps the socket is replaced, and no crash falls in between.
func TestCoreSurvivesAKilledKeeper(t *testing.T) {
	u := taking(t, "socket")
	for range 4 {
		name := u.held(t, nil, "crash")
		pid, keeper := u.pid(t, name), u.keeper(t)
		if err := syscall.Kill(keeper, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		release(t, pid)
		gone(t, keeper)
		equal(t, "exit code", u.ok(t, "wait", name), "139")
		equal(t, "body", u.onlyCore(t, name).Body, "full")
	}
}

// TestCoreOfNoContainerGoesWhereItWent: a crash outside containers is handled by the program that the pattern named
// before, with the arguments and the core that the kernel would have given it.
func TestCoreOfNoContainerGoesWhereItWent(t *testing.T) {
	captures(t, coreOfNoContainerGoesWhereItWent)
}

func coreOfNoContainerGoesWhereItWent(t *testing.T, form string) {
	tritonOnly(t)
	dir, err := os.MkdirTemp("/tmp", "h") // the kernel takes 127 characters, and t.TempDir is long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	handler, core := filepath.Join(dir, "handler"), filepath.Join(dir, "core")
	script := fmt.Sprintf("#!/bin/sh\necho \"$@\" >%[1]s/args\ncat >%[2]s\n", dir, core)
	if err := os.WriteFile(handler, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	before := read(t, corePattern)
	t.Cleanup(func() {
		if err := os.WriteFile(corePattern, []byte(before), 0); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(corePattern, []byte("|"+handler+" %P %s %e %d"), 0); err != nil {
		t.Fatal(err)
	}
	taking(t, form)
	crash := exec.Command(filepath.Join(all.images.Bin, "crash"))
	if err := crash.Run(); err == nil || crash.ProcessState == nil {
		t.Fatalf("the program does not crash: %v", err)
	}
	equal(t, "arguments", read(t, filepath.Join(dir, "args")), fmt.Sprintf("%d 11 crash 1", crash.ProcessState.Pid()))
	if pcs := gdbPCs(t, core); len(pcs) != 3 {
		t.Errorf("gdb finds threads %v in the core, 3 are meant", pcs)
	}
}
