package shim

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

func openFDs(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(t, err)
	return len(entries)
}

func TestKernelSignalsReachTheProgram(t *testing.T) {
	r := newRig(t, "sh", "-c", "trap 'echo term; exit 7' TERM; echo ready; while :; do sleep 0.05; done")
	r.create()
	must(t, r.client.Start(r.ctx()))
	await(t, "program is ready", func() error {
		if r.logText() != "ready\n" {
			return errors.New("not yet")
		}
		return nil
	})
	var e *Error
	if err := r.client.Signal(r.ctx(), SignalRequest{Signal: 99}); !errors.As(err, &e) || e.Kind != KindInvalid {
		t.Errorf("signal 99: %v", err)
	}
	if err := r.client.Delete(r.ctx(), false); !errors.As(err, &e) || e.Kind != KindConflict {
		t.Errorf("delete of a running container: %v", err)
	}
	if err := r.client.Shutdown(r.ctx()); !errors.As(err, &e) || e.Kind != KindConflict {
		t.Errorf("shutdown under a running container: %v", err)
	}
	must(t, r.client.Signal(r.ctx(), SignalRequest{Signal: int(unix.SIGTERM)}))
	if rec := r.wait(""); rec.Code != 7 {
		t.Errorf("exit: %+v", rec)
	}
	if err := r.client.Signal(r.ctx(), SignalRequest{Signal: 15}); !errors.As(err, &e) || e.Kind != KindNotFound {
		t.Errorf("signal to an ended program: %v", err)
	}
}

func TestKernelOutOfMemoryIsToldApart(t *testing.T) {
	limit := int64(32 << 20)
	eat := "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo unreachable"
	r := newRig(t, "sh", "-c", "echo start; exec sh -c \""+eat+"\"")
	r.spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &limit}
	rec := r.run()
	if rec.Code != 137 || !rec.OOMKilled {
		t.Errorf("exit: %+v", rec)
	}
	st, err := r.client.State(r.ctx())
	must(t, err)
	if st.OOMKills == 0 {
		t.Errorf("state: %+v", st)
	}
}

func TestKernelOutOfMemoryOfAnExecLeavesTheContainer(t *testing.T) {
	limit := int64(32 << 20)
	r := newRig(t, "sleep", "1000")
	r.spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &limit}
	r.create()
	must(t, r.client.Start(r.ctx()))
	_, _, err := r.exec("eater", Stdio{}, nil, "sh", "-c", "x=$(head -c 100000000 /dev/zero | tr '\\0' x)")
	must(t, err)
	if rec := r.wait("eater"); rec.Code != 137 || !rec.OOMKilled {
		t.Errorf("exec: %+v", rec)
	}
	must(t, r.client.Signal(r.ctx(), SignalRequest{Signal: int(unix.SIGKILL)}))
	if rec := r.wait(""); rec.Code != 137 || !rec.OOMKilled {
		t.Errorf("container: %+v, want the flag of docker, which is the container's", rec)
	}
}

func TestKernelPauseResumeUpdate(t *testing.T) {
	limit, more := int64(64<<20), int64(128<<20)
	r := newRig(t, "sh", "-c", "while :; do echo tick; usleep 1000; done")
	r.spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &limit}
	r.create()
	var e *Error
	if err := r.client.Pause(r.ctx()); !errors.As(err, &e) || e.Kind != KindConflict {
		t.Errorf("pause before start: %v", err)
	}
	must(t, r.client.Start(r.ctx()))
	if err := r.client.Start(r.ctx()); !errors.As(err, &e) || e.Kind != KindConflict {
		t.Errorf("start twice: %v", err)
	}
	must(t, r.client.Pause(r.ctx()))
	if st, err := r.client.State(r.ctx()); err != nil || st.Status != triton.StatusPaused {
		t.Errorf("state: %+v, %v", st, err)
	}
	if err := r.client.Pause(r.ctx()); !errors.As(err, &e) || e.Kind != KindConflict {
		t.Errorf("pause twice: %v", err)
	}
	must(t, r.client.Resume(r.ctx()))
	raw, err := json.Marshal(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &more, Swap: &more}})
	must(t, err)
	must(t, r.client.Update(r.ctx(), raw))
	if got := memoryLimit(t, r.cgroup); got != strconv.FormatInt(more, 10) {
		t.Errorf("memory limit is %s, want %d", got, more)
	}
	// An update must not keep later execs from starting.
	_, _, err = r.exec("after", Stdio{}, nil, "true")
	must(t, err)
	must(t, r.client.Pause(r.ctx()))
	must(t, r.client.Signal(r.ctx(), SignalRequest{Signal: int(unix.SIGKILL)}))
	if rec := r.wait(""); rec.Code != 137 {
		t.Errorf("a paused container, killed: %+v", rec)
	}
}

func memoryLimit(t *testing.T, cgroup string) string {
	t.Helper()
	for _, path := range []string{"/sys/fs/cgroup/memory" + cgroup + "/memory.limit_in_bytes", "/sys/fs/cgroup" + cgroup + "/memory.max"} {
		if data, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(data))
		}
	}
	t.Fatal("no memory limit")
	return ""
}

func TestKernelDeadlineNeedsNoClient(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	r.startKeeper()
	r.create()
	must(t, r.client.Start(r.ctx()))
	state, err := r.client.State(r.ctx())
	must(t, err)
	cancelled := DeadlineRequest{Signal: int(unix.SIGTERM), At: time.Now().Add(time.Hour)}
	must(t, r.client.Deadline(r.ctx(), cancelled))
	must(t, r.client.Deadline(r.ctx(), DeadlineRequest{Signal: int(unix.SIGKILL), At: time.Now().Add(2 * time.Second)}))
	// Neither the daemon nor, later, the shim that was asked is there when it is due.
	must(t, r.client.Close())
	kill(t, r.shim)
	r.adoptBy(ProcessReply{Pid: state.Pid, StartTime: state.StartTime})
	must(t, r.client.Close())
	await(t, "exit record", func() error { _, err := readRecord(r.req.ExitDir, ""); return err })
	if rec, _ := readRecord(r.req.ExitDir, ""); rec.Code != 137 {
		t.Errorf("exit: %+v", rec)
	}
	r.client = r.dial(r.shim.Args[3], 3)
}

func TestKernelStaleDaemonIsFenced(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	r.create()
	must(t, r.client.Start(r.ctx()))
	old := r.client
	r.client = r.dial(r.shim.Args[3], 2)
	var e *Error
	for verb, err := range map[string]error{
		"signal": old.Signal(r.ctx(), SignalRequest{Signal: 9}),
		"delete": old.Delete(r.ctx(), true),
		"pause":  old.Pause(r.ctx()),
		"exec":   old.Exec(r.ctx(), ExecRequest{ID: "x"}),
	} {
		if !errors.As(err, &e) || e.Kind != KindFenced {
			t.Errorf("%s by the old daemon: %v", verb, err)
		}
	}
	if _, err := old.State(r.ctx()); err != nil {
		t.Errorf("state by the old daemon: %v", err)
	}
	if _, err := old.Attach(r.ctx(), outputs); !errors.As(err, &e) || e.Kind != KindFenced {
		t.Errorf("attach by the old daemon: %v", err)
	}
	must(t, r.client.Signal(r.ctx(), SignalRequest{Signal: 9}))
	if rec := r.wait(""); rec.Code != 137 {
		t.Errorf("exit: %+v", rec)
	}
}

func TestKernelIdleShimEndsWithItsDaemon(t *testing.T) {
	r := newRig(t, "true")
	shim, client := r.startShim(1)
	if reply, err := client.Hello(r.ctx()); err != nil || reply.Container != nil || reply.Pid != shim.Process.Pid {
		t.Errorf("hello: %+v, %v", reply, err)
	}
	must(t, client.Close())
	must(t, shim.Wait())
	if _, err := os.Stat(shim.Args[3]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket is left: %v", err)
	}
}

func TestKernelShimEndsAfterDelete(t *testing.T) {
	r := newRig(t, "true")
	if rec := r.run(); rec.Code != 0 {
		t.Errorf("exit: %+v", rec)
	}
	must(t, r.client.Close()) // a shim with a container stays
	r.client = r.dial(r.shim.Args[3], 1)
	r.remove()
	must(t, r.shim.Wait())
}

func TestKernelCreatedContainerMayBeDeleted(t *testing.T) {
	r := newRig(t, "true")
	r.create()
	must(t, r.client.Delete(r.ctx(), false))
	r.created = false
	r.nothingLeft()
}

func TestKernelOlderKernelsWayOfMounting(t *testing.T) {
	r := newRig(t, "true")
	target := filepath.Join(r.dir, "run", "rootfs")
	must(t, os.Mkdir(target, 0o755))
	layers, err := openLayers(r.req.Rootfs.Lower, r.req.UserNS)
	must(t, err)
	defer closeFDs(layers)
	must(t, shiftOwner(r.req.Rootfs.Upper, testIDs))
	must(t, mountByPath(target, r.req.Rootfs, layers, true))
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(target, "bin/busybox"), &st))
	if st.Uid != testIDs.Base {
		t.Errorf("a file of the layer is owned by %d, want %d", st.Uid, testIDs.Base)
	}
	must(t, os.WriteFile(filepath.Join(target, "new"), []byte("x"), 0o600))
	must(t, unmountRootfs(target))
	if left, _ := filepath.Glob(filepath.Join(r.dir, "run", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := os.Stat(filepath.Join(testLayer, "bin/busybox")); err != nil {
		t.Errorf("the layer was touched: %v", err)
	}
}

func TestKernelRunsWithoutUserNamespace(t *testing.T) {
	r := newRig(t, "sh", "-c", "cat /proc/self/uid_map; echo > /dev/null; ls -ln /dev/null")
	r.req.UserNS, r.req.NetNS, r.req.IDs = "", "", triton.IDRange{}
	var kept []specs.LinuxNamespace
	for _, ns := range r.spec.Linux.Namespaces {
		if ns.Type != specs.UserNamespace {
			kept = append(kept, ns)
		}
	}
	r.spec.Linux.Namespaces = kept
	if rec := r.run(); rec.Code != 0 {
		t.Errorf("exit: %+v", rec)
	}
	if got := strings.Fields(r.logText()); len(got) < 3 || got[1] != "0" || got[2] != "4294967295" {
		t.Errorf("uid_map and null: %q", got)
	}
}

// The budget of an idle container is 4 MiB for the shim and the daemon's share together.
func TestKernelIdleShimIsSmall(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	r.startKeeper()
	r.create()
	must(t, r.client.Start(r.ctx()))
	rollup, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", r.shim.Process.Pid))
	must(t, err)
	defer rollup.Close()
	var private, pss int
	for in := bufio.NewScanner(rollup); in.Scan(); {
		f := strings.Fields(in.Text())
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.Atoi(f[1])
		switch f[0] {
		case "Pss:":
			pss = n
		case "Private_Dirty:":
			private = n
		}
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", r.shim.Process.Pid))
	must(t, err)
	t.Logf("idle shim: PSS %d KiB (alone on this machine it pays for all of its text), private %d KiB, %d threads, %d descriptors",
		pss, private, len(tasks), openFDs(t, r.shim.Process.Pid))
	if private > 3500 || len(tasks) > 10 {
		t.Errorf("private memory %d KiB, %d threads", private, len(tasks))
	}
}
