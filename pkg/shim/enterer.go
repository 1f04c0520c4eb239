package shim

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// An exec is started by a small program of ours (cmd/triton-enter) and not by libcontainer, whose init is this program
// again: three forks of a large process, a start of the Go runtime inside the container, a compilation of the seccomp
// filter and, on cgroup v1, a wait for a grace period of RCU. What the small program cannot do is left to libcontainer.

// EnterName is the file name of cmd/triton-enter, beside triton-shim.
const EnterName = "triton-enter"

// enterer holds the program until it is needed, and then its sealed copy in memory, which nobody can write to: the
// container's processes see it as /proc/PID/exe for a moment (CVE-2019-5736).
type enterer struct {
	file   *os.File // nil: copied, or not installed
	sealed *os.File
}

// openEnterer takes hold of the program, so that an upgrade which replaces the file does not change what a running shim
// executes: the two speak a private language. A missing file is no error.
func openEnterer(path string) *enterer {
	f, err := os.Open(path)
	if err != nil {
		return &enterer{}
	}
	return &enterer{file: f}
}

// maxEnter bounds the program's size, which is some 17 KiB.
const maxEnter = 1 << 20

// lowestSealed is where the descriptor of the sealed copy starts: above those that the new process is given, since it is
// executed by its number.
const lowestSealed = 64

// program returns the sealed copy; nil: there is none. Only one goroutine calls it at a time.
func (e *enterer) program() (*os.File, error) {
	if e.file == nil {
		return e.sealed, nil
	}
	image, err := io.ReadAll(io.NewSectionReader(e.file, 0, maxEnter))
	e.file.Close()
	e.file = nil
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", EnterName, err)
	}
	sealed, err := sealedFile(EnterName, image, unix.MFD_EXEC)
	if err != nil {
		return nil, err
	}
	defer sealed.Close()
	fd, err := unix.FcntlInt(uintptr(rawFD(sealed)), unix.F_DUPFD_CLOEXEC, lowestSealed)
	if err != nil {
		return nil, fmt.Errorf("copy of %s: %w", EnterName, err)
	}
	e.sealed = os.NewFile(uintptr(fd), EnterName)
	return e.sealed, nil
}

// sealedFile makes a file in memory that cannot be changed any more. executable: MFD_EXEC or MFD_NOEXEC_SEAL, which kernels
// before 6.3 do not know and do not need.
func sealedFile(name string, content []byte, executable int) (*os.File, error) {
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|executable)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err = f.Write(content); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("file in memory: %w", err)
	}
	return f, nil
}
