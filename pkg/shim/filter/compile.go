//go:build cgo && seccomp

package filter

import (
	"errors"
	"fmt"
	_ "unsafe" // for linkname

	"github.com/opencontainers/runc/libcontainer/configs"
	_ "github.com/opencontainers/runc/libcontainer/seccomp"          // for linkname
	_ "github.com/opencontainers/runc/libcontainer/seccomp/patchbpf" // for linkname
	"github.com/opencontainers/runtime-spec/specs-go"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// The parts of libcontainer's seccomp.InitSeccomp and patchbpf.PatchAndLoad, which compile and load in one go. Their
// translation of rules and their stub for system calls that the profile does not know are wanted as they are, so that an
// exec's filter is the first process's; TestProgramIsThatOfLibcontainer compares the two, and go.mod pins the version.

//go:linkname getAction github.com/opencontainers/runc/libcontainer/seccomp.getAction
func getAction(act configs.Action, errnoRet *uint) (libseccomp.ScmpAction, error)

//go:linkname setFlag github.com/opencontainers/runc/libcontainer/seccomp.setFlag
func setFlag(filter *libseccomp.ScmpFilter, flag specs.LinuxSeccompFlag) error

//go:linkname matchCall github.com/opencontainers/runc/libcontainer/seccomp.matchCall
func matchCall(filter *libseccomp.ScmpFilter, call *configs.Syscall, defAct libseccomp.ScmpAction) error

//go:linkname enosysPatchFilter github.com/opencontainers/runc/libcontainer/seccomp/patchbpf.enosysPatchFilter
func enosysPatchFilter(config *configs.Seccomp, filter *libseccomp.ScmpFilter) ([]unix.SockFilter, error)

//go:linkname filterFlags github.com/opencontainers/runc/libcontainer/seccomp/patchbpf.filterFlags
func filterFlags(config *configs.Seccomp, filter *libseccomp.ScmpFilter) (flags uint, noNewPrivs bool, err error)

// optimizeAbove is from how many rules on libcontainer asks for a binary tree.
const optimizeAbove = 32

// Compile compiles a configuration, nil for none. One that asks a listener (SCMP_ACT_NOTIFY) is refused: who loads the
// filter would have to hand its descriptor on.
func Compile(config *configs.Seccomp) (Program, error) {
	if config == nil {
		return Program{}, nil
	}
	for _, call := range config.Syscalls {
		if call == nil || call.Action == configs.Notify {
			return Program{}, errors.New("seccomp: a listener, or an empty rule")
		}
	}
	action, err := getAction(config.DefaultAction, config.DefaultErrnoRet)
	if err != nil || action == libseccomp.ActNotify {
		return Program{}, errors.New("seccomp: invalid default action")
	}
	f, err := libseccomp.NewFilter(action)
	if err != nil {
		return Program{}, fmt.Errorf("seccomp: %w", err)
	}
	defer f.Release()
	if err := fill(f, config, action); err != nil {
		return Program{}, fmt.Errorf("seccomp: %w", err)
	}
	flags, _, err := filterFlags(config, f)
	if err != nil {
		return Program{}, fmt.Errorf("seccomp: %w", err)
	}
	program, err := enosysPatchFilter(config, f)
	if err != nil {
		return Program{}, fmt.Errorf("seccomp: %w", err)
	}
	return Program{Flags: uint32(flags), Instructions: program}, nil
}

// fill does to a filter what InitSeccomp does.
func fill(f *libseccomp.ScmpFilter, config *configs.Seccomp, action libseccomp.ScmpAction) error {
	for _, name := range config.Architectures {
		arch, err := libseccomp.GetArchFromString(name)
		if err == nil {
			err = f.AddArch(arch)
		}
		if err != nil {
			return err
		}
	}
	for _, flag := range config.Flags {
		if err := setFlag(f, flag); err != nil {
			return err
		}
	}
	if len(config.Syscalls) > optimizeAbove {
		_ = f.SetOptimize(2) // libseccomp before 2.5 has none, and is none the worse
	}
	if err := f.SetNoNewPrivsBit(false); err != nil {
		return err
	}
	for _, call := range config.Syscalls {
		if err := matchCall(f, call, action); err != nil {
			return err
		}
	}
	return nil
}
