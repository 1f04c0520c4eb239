//go:build cgo && seccomp

package filter

import (
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runc/libcontainer/configs"
	runc "github.com/opencontainers/runc/libcontainer/seccomp"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// loaderEnv makes the test program load a filter by libcontainer's own way and wait.
const loaderEnv = "TRITON_FILTER_LOAD"

func TestMain(m *testing.M) {
	if name := os.Getenv(loaderEnv); name != "" {
		os.Exit(load(name))
	}
	os.Exit(m.Run())
}

func load(name string) int {
	runtime.LockOSThread()
	config, err := profiles[name]()
	if err == nil {
		_, err = runc.InitSeccomp(config)
	}
	if err != nil {
		os.Stderr.WriteString(err.Error())
		return 1
	}
	os.Stdout.WriteString(".")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// profiles are what filters are made from here.
var profiles = map[string]func() (*configs.Seccomp, error){
	"docker's default":  func() (*configs.Seccomp, error) { return defaultProfile(specs.ArchX86_64) },
	"two architectures": func() (*configs.Seccomp, error) { return defaultProfile(specs.ArchX86_64, specs.ArchX32) },
	"deny list": func() (*configs.Seccomp, error) {
		return specconv.SetupSeccomp(&specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog},
			Syscalls: []specs.LinuxSyscall{{Names: []string{"kexec_load", "nosuchcall"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{
				{Index: 0, Value: 1, Op: specs.OpEqualTo}, {Index: 0, Value: 2, Op: specs.OpEqualTo},
			}}},
		})
	},
}

// defaultProfile is docker's. Where architectures are of different kinds, libcontainer's order of them is random.
func defaultProfile(archs ...specs.Arch) (*configs.Seccomp, error) {
	profile, err := seccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		return nil, err
	}
	profile.Architectures = archs
	return specconv.SetupSeccomp(profile)
}

func TestKernelProgramIsThatOfLibcontainer(t *testing.T) {
	for name, profile := range profiles {
		t.Run(name, func(t *testing.T) {
			config, err := profile()
			if err != nil {
				t.Fatal(err)
			}
			got, err := Compile(config)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(loaded(t, name), got.Instructions); diff != "" {
				t.Errorf("program (-libcontainer +got):\n%s", diff)
			}
		})
	}
}

// loaded has another process load a profile as libcontainer does, and asks the kernel for its filter.
func loaded(t *testing.T, name string) []unix.SockFilter {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), loaderEnv+"="+name)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := io.ReadFull(stdout, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return filterOf(t, cmd.Process.Pid)
}

// filterOf reads the first filter of a stopped process: PTRACE_SECCOMP_GET_FILTER of ptrace(2).
func filterOf(t *testing.T, pid int) []unix.SockFilter {
	t.Helper()
	const seccompGetFilter = 0x420c
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := syscall.PtraceAttach(pid); err != nil {
		t.Fatal(err)
	}
	defer syscall.PtraceDetach(pid)
	if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != nil {
		t.Fatal(err)
	}
	program := make([]unix.SockFilter, unix.BPF_MAXINSNS)
	n, _, errno := unix.Syscall6(unix.SYS_PTRACE, seccompGetFilter, uintptr(pid), 0, uintptr(unsafe.Pointer(&program[0])), 0, 0)
	if errno != 0 {
		t.Fatalf("read the filter of %d: %v", pid, errno)
	}
	return program[:n]
}

func TestCompileRefusesAListener(t *testing.T) {
	_, err := Compile(&configs.Seccomp{DefaultAction: configs.Allow, Syscalls: []*configs.Syscall{{Name: "mount", Action: configs.Notify}}})
	if err == nil {
		t.Error("a filter that needs a listener was compiled")
	}
	if p, err := Compile(nil); err != nil || len(p.Instructions) != 0 {
		t.Errorf("no configuration: %d instructions, %v", len(p.Instructions), err)
	}
}
