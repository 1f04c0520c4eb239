package probes

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // the three stages that these tests are about
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// libcontainerInit is what the test binary does when runc's libcontainer runs it as a container's init.
func libcontainerInit() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		libcontainer.Init()
	}
}

// libcontainerConfig is a container whose root holds nothing but the actor.
func libcontainerConfig(t *testing.T, userns bool) *configs.Config {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { // for the ids of the user namespace
			t.Fatal(err)
		}
	}
	rootfs := filepath.Join(dir, "rootfs")
	for _, d := range []string{"proc", "dev"} {
		if err := os.MkdirAll(filepath.Join(rootfs, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(rootfs, "dev/null"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(rootfs, "actor"), []byte(readFile(t, actorBinary(t))), 0o755); err != nil {
		t.Fatal(err)
	}
	c := &configs.Config{
		Rootfs: rootfs, Hostname: "probes",
		Cgroups:    &cgroups.Cgroup{Path: "/t" + randomHex(), Resources: &cgroups.Resources{}},
		Namespaces: configs.Namespaces{{Type: configs.NEWNS}, {Type: configs.NEWPID}, {Type: configs.NEWIPC}, {Type: configs.NEWUTS}},
		Mounts: []*configs.Mount{
			{Source: "proc", Destination: "/proc", Device: "proc"},
			{Source: "/dev/null", Destination: "/dev/null", Device: "bind", Flags: unix.MS_BIND},
		},
	}
	if userns {
		c.Namespaces = append(c.Namespaces, configs.Namespace{Type: configs.NEWUSER})
		c.UIDMappings = []configs.IDMap{{ContainerID: 0, HostID: 0x1f000000, Size: 65536}}
		c.GIDMappings = c.UIDMappings
		for _, d := range []string{rootfs, filepath.Join(rootfs, "dev")} {
			if err := os.Chown(d, 0x1f000000, 0x1f000000); err != nil {
				t.Fatal(err)
			}
		}
	}
	return c
}

// runIn starts a process of a libcontainer container that stands in a gate.
func runIn(t *testing.T, c *libcontainer.Container, init bool, mode string) (*libcontainer.Process, *os.File, *bufio.Reader) {
	t.Helper()
	childIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	proc := &libcontainer.Process{
		Args: []string{"/actor", "gate", "/actor", mode}, Env: []string{}, Cwd: "/", UID: 0, GID: 0,
		Stdin: childIn, Stdout: childOut, Stderr: os.Stderr, Init: init,
	}
	err = c.Run(proc)
	childIn.Close()
	childOut.Close()
	t.Cleanup(func() { in.Close(); out.Close() })
	if err != nil {
		t.Fatalf("run %s: %v", mode, err)
	}
	return proc, in, bufio.NewReader(out)
}

// The exit program follows runc's real nsexec, for a container's first process and for an exec's, and keeps nothing of
// the stages before.
func TestKernelExitsOfLibcontainerProcesses(t *testing.T) {
	for name, userns := range map[string]bool{"host ids": false, "user namespace": true} {
		t.Run(name, func(t *testing.T) {
			p := open(t, Config{})
			if err := p.RegisterParent(os.Getpid(), 4711); err != nil {
				t.Fatal(err)
			}
			c, err := libcontainer.Create(t.TempDir(), "t"+randomHex(), libcontainerConfig(t, userns))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := c.Destroy(); err != nil {
					t.Errorf("destroy container: %v", err)
				}
			})
			first, in, out := runIn(t, c, true, "exit37")
			gateReached(t, out)
			exec, execIn, execOut := runIn(t, c, false, "segv")
			gateReached(t, execOut)

			expectExit(t, p, exec, execIn)
			expectExit(t, p, first, in)
			if n := entries(t, p.exits.exits); n != 2 {
				t.Errorf("map holds %d entries, want the two processes'", n)
			}
		})
	}
}

// What the runtime does in a container's cgroup before the program's execve is charged to nobody, for a first process
// and for an exec's; what the program does is, from its execve on.
func TestKernelSetupIsNotCharged(t *testing.T) {
	p := open(t, Config{})
	if err := p.RegisterParent(os.Getpid(), 4711); err != nil {
		t.Fatal(err)
	}
	config := libcontainerConfig(t, true)
	cg := childCgroup(t, cgroup{dir: cgroup2Root()}) // one level: libcontainer removes no parents
	config.Cgroups.Path = "/" + filepath.Base(cg.dir)
	key := newKey()
	if _, err := p.Watch(key, CgroupIDs{V2: cg.id}); err != nil {
		t.Fatal(err)
	}
	c, err := libcontainer.Create(t.TempDir(), "t"+randomHex(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Destroy(); err != nil {
			t.Errorf("destroy container: %v", err)
		}
	})
	first, in, out := runIn(t, c, true, "exit37")
	gateReached(t, out)
	expectProgramOnly(t, p, key, 1)
	exec, execIn, execOut := runIn(t, c, false, "segv")
	gateReached(t, execOut)
	expectProgramOnly(t, p, key, 2)
	expectExit(t, p, exec, execIn)
	expectExit(t, p, first, in)
}

// expectProgramOnly checks that n programs were executed, and that nothing that only a runtime calls was counted.
func expectProgramOnly(t *testing.T, p *Probes, key triton.ContainerKey, n uint64) {
	t.Helper()
	got, err := p.Snapshot(key)
	if err != nil {
		t.Fatal(err)
	}
	if got.Execs != n || got.Syscalls[unix.SYS_EXECVE].Count != n || got.Syscalls[unix.SYS_WRITE].Count < n {
		t.Errorf("%d execs, %d execve, %d write, want %d, %d and at least %d: the programs' own",
			got.Execs, got.Syscalls[unix.SYS_EXECVE].Count, got.Syscalls[unix.SYS_WRITE].Count, n, n, n)
	}
	for nr, name := range map[int]string{
		unix.SYS_MOUNT: "mount", unix.SYS_PIVOT_ROOT: "pivot_root", unix.SYS_PRCTL: "prctl", unix.SYS_CLONE: "clone",
		unix.SYS_FUTEX: "futex", unix.SYS_SETNS: "setns", unix.SYS_CAPSET: "capset", unix.SYS_EPOLL_CTL: "epoll_ctl",
	} {
		if c := got.Syscalls[nr].Count; c != 0 {
			t.Errorf("%d calls of %s, which only the runtime makes", c, name)
		}
	}
}

func gateReached(t *testing.T, out *bufio.Reader) {
	t.Helper()
	if c, err := out.ReadByte(); err != nil || c != 'r' {
		t.Fatalf("gate said %q, %v", c, err)
	}
}

// expectExit lets a process end and compares what wait4 and the exit program say.
func expectExit(t *testing.T, p *Probes, proc *libcontainer.Process, in *os.File) {
	t.Helper()
	pid, err := proc.Pid()
	if err != nil {
		t.Fatal(err)
	}
	if st, ok, err := p.Exit(pid); err != nil || !ok || st.Ended || st.Stage != 3 {
		t.Errorf("pid %s while it runs: %+v, %t, %v", strconv.Itoa(pid), st, ok, err)
	}
	if _, err := in.Write([]byte{'g'}); err != nil {
		t.Fatal(err)
	}
	state, _ := proc.Wait() // a status other than 0 is an error here
	st, ok, err := p.Exit(pid)
	if want := uint32(state.Sys().(syscall.WaitStatus)); err != nil || !ok || st.WaitStatus != want || want == 0 {
		t.Errorf("pid %d: %+v, %t, %v, want status %#x", pid, st, ok, err, want)
	}
}
