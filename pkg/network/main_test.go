package network

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// inSandbox is set in the process that runs the tests.
const inSandbox = "TRITON_NETWORK_TEST_SANDBOX"

// TestMain runs the tests in a network and a mount namespace of their own: this is the machine that they see. So they
// may compare all of its links, rules and sysctls, whatever else runs, and nothing of theirs can stay behind.
func TestMain(m *testing.M) {
	if os.Getenv(inSandbox) != "" {
		if err := leaveOthersMounts(); err != nil {
			fmt.Fprintln(os.Stderr, "set up a mount namespace:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inSandbox+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "run the tests in namespaces of their own:", err)
		os.Exit(1)
	}
}

// leaveOthersMounts keeps what others mount meanwhile out of this mount namespace, and lets go of the namespaces that
// they have pinned: copies of their pins would keep these alive.
func leaveOthersMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	pins, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("nsfs"))
	if err != nil {
		return err
	}
	for _, m := range pins {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%s: %w", m.Mountpoint, err)
		}
	}
	return nil
}
