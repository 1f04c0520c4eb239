package procfs

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What userfaultfd(2) takes (include/uapi/linux/userfaultfd.h).
const (
	uffdUserModeOnly = 1
	uffdAPI          = 0xaa
	uffdWriteAsync   = 1 << 15 // UFFD_FEATURE_WP_ASYNC: any mapping may be registered (Linux 6.7)
	uffdModeWrite    = 1 << 1  // UFFDIO_REGISTER_MODE_WP
	uffdioAPI        = 3<<30 | uint(unsafe.Sizeof(uffdHello{}))<<16 | uffdAPI<<8 | 0x3f
	uffdioRegister   = 3<<30 | uint(unsafe.Sizeof(uffdRange{}))<<16 | uffdAPI<<8
)

type (
	uffdHello struct{ api, features, ioctls uint64 }
	uffdRange struct{ start, length, mode, ioctls uint64 }
)

// MapByPage has the kernel map the pages of a file that this process has mapped privately, such as its program, one by one as
// they are used. Otherwise it maps those that lie around each, up to 2 MiB of a large program, and they count as the process's resident
// memory though it never needs them. It says that by the only mark that stops it: a mapping whose first writes a userfaultfd
// notes (mm/memory.c, should_fault_around); nothing is written, and nobody reads it. Those that are mapped already are let go.
// A mapping that was written to stays as it is, though it is read-only now: what the dynamic loader wrote into the table of the C
// library's functions is in no file, and without it the next call of one that was not called before ends the process.
//
// It is for the life of the process: the descriptor stays open. An error says that the kernel cannot (Linux before 6.7), and
// nothing has changed but the sizes of pages.
func MapByPage(path string) error {
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return err
	}
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK|uffdUserModeOnly, 0, 0)
	if errno != 0 {
		return fmt.Errorf("userfaultfd: %w", errno)
	}
	hello := uffdHello{api: uffdAPI, features: uffdWriteAsync}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(uffdioAPI), uintptr(unsafe.Pointer(&hello))); errno != 0 {
		return errors.Join(fmt.Errorf("userfaultfd of any mapping: %w", errno), unix.Close(int(fd)))
	}
	written := map[uint64]bool{} // mappings, by their start
	maps := ParseMaps(string(text), func(m *Mapping, key, value string) {
		if key == "Anonymous" && value != "0 kB" {
			written[m.Start] = true
		}
	})
	for _, m := range maps {
		if m.Path != path || !m.Private || m.Flags&elf.PF_W != 0 || written[m.Start] {
			continue
		}
		advise := func(how uintptr) error {
			if _, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(m.Start), uintptr(m.End-m.Start), how); errno != 0 {
				return fmt.Errorf("map %s by page: %w", path, errno)
			}
			return nil
		}
		if err := advise(unix.MADV_NOHUGEPAGE); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: a kernel without huge pages
			return errors.Join(err, unix.Close(int(fd)))
		}
		r := uffdRange{start: m.Start, length: m.End - m.Start, mode: uffdModeWrite}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(uffdioRegister), uintptr(unsafe.Pointer(&r))); errno != 0 {
			return errors.Join(fmt.Errorf("map %s by page: %w", path, errno), unix.Close(int(fd)))
		}
		if err := advise(unix.MADV_DONTNEED); err != nil {
			return err
		}
	}
	return nil
}
