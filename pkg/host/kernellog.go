package host

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// maxKernelRecord is more than a record of the kernel's log takes (CONSOLE_EXT_LOG_MAX in kernel/printk).
const maxKernelRecord = 8 << 10

// KernelLog gives each line that the kernel's log holds, oldest first, with its number and its time on the kernel's clock. It
// waits for no new ones. The form is that of Documentation/ABI/testing/dev-kmsg.
func KernelLog(each func(seq uint64, at time.Duration, line string)) error {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) // an os.File's Fd would make it wait
	if err != nil {
		return fmt.Errorf("kernel log: %w", err)
	}
	defer unix.Close(fd)
	buf := make([]byte, maxKernelRecord)
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EPIPE): // EPIPE: records went while they were read
			continue
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil:
			return fmt.Errorf("kernel log: %w", err)
		case n == 0:
			return nil
		}
		if seq, at, line, ok := parseKernelRecord(buf[:n]); ok {
			each(seq, at, line)
		}
	}
}

// parseKernelRecord reads "PRIORITY,NUMBER,MICROSECONDS,FLAGS…;LINE", and leaves out the device that may follow.
func parseKernelRecord(b []byte) (seq uint64, at time.Duration, line string, ok bool) {
	head, rest, ok := bytes.Cut(b, []byte(";"))
	f := bytes.SplitN(head, []byte(","), 4)
	if !ok || len(f) < 4 {
		return 0, 0, "", false
	}
	text, _, _ := bytes.Cut(rest, []byte("\n"))
	seq, err := strconv.ParseUint(string(f[1]), 10, 64)
	us, err2 := strconv.ParseInt(string(f[2]), 10, 53)
	return seq, time.Duration(us) * time.Microsecond, string(text), err == nil && err2 == nil
}
