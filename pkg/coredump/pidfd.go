package coredump

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pidfdGetInfo is PIDFD_GET_INFO = _IOWR(0xFF, 11, struct pidfd_info); the kernel takes the size from the number.
const pidfdGetInfo = 3<<30 | unix.SizeofPidfdInfo<<16 | 0xff<<8 | 11

// pidfdInfo fills info with what info.Mask asks for.
func pidfdInfo(fd int, info *unix.PidfdInfo) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), pidfdGetInfo, uintptr(unsafe.Pointer(info))); errno != 0 {
		return fmt.Errorf("ask about the crashed process: %w", errno)
	}
	return nil
}
