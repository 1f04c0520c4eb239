package procfs

import (
	"debug/elf"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// LetGo takes the pages of a file that this process has mapped to read them out of its resident memory. They stay in the
// page cache, from where those that are read come back. It is for who maps a file as a whole and ahead, and reads little of it.
func LetGo(path string) error {
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for _, m := range ParseMaps(string(text), nil) {
		if m.Path != path || m.Private || m.Flags&elf.PF_W != 0 {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(m.Start), uintptr(m.End-m.Start), unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("let pages of %s go: %w", path, errno)
		}
	}
	return nil
}
