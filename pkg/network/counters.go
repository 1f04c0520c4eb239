package network

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// countersMax bounds what is read of a namespace's table: a container with the capability may make as many interfaces as
// it likes. Those beyond, some 300, are not counted; the one that Triton makes is the first.
const countersMax = 64 << 10

// Counters reads what passed the interfaces of the network namespace that the process pid is in, the loopback excepted.
// The error is ErrNotFound when the process is gone.
func Counters(pid int) (triton.NetworkUsage, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/net/dev")
	if err != nil {
		return triton.NetworkUsage{}, countersError(pid, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, countersMax))
	if err != nil {
		return triton.NetworkUsage{}, countersError(pid, err)
	}
	if i := bytes.LastIndexByte(b, '\n'); len(b) == countersMax && i >= 0 {
		b = b[:i+1] // the last line is torn
	}
	return parseCounters(b), nil
}

// countersError tells the end of the process from real failures. A dead process's namespace reads as EINVAL.
func countersError(pid int, err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.EINVAL) {
		err = errdefs.ErrNotFound
	}
	return fmt.Errorf("read network counters of process %d: %w", pid, err)
}

// parseCounters adds up /proc/PID/net/dev (net/core/net-procfs.c): per interface a name, a colon, and eight counters
// received and eight sent, of which bytes, packets and drops are the first, second and fourth. Other lines are passed over.
func parseCounters(b []byte) (u triton.NetworkUsage) {
	for line := range bytes.Lines(b) {
		name, rest, ok := bytes.Cut(line, []byte(":"))
		if !ok || string(bytes.TrimSpace(name)) == "lo" {
			continue
		}
		fields := bytes.Fields(rest)
		if len(fields) < 12 {
			continue
		}
		for i, to := range map[int]*uint64{0: &u.RxBytes, 1: &u.RxPackets, 3: &u.RxDropped, 8: &u.TxBytes, 9: &u.TxPackets, 11: &u.TxDropped} {
			n, err := strconv.ParseUint(string(fields[i]), 10, 64)
			if err != nil || n > math.MaxUint64-*to {
				continue
			}
			*to += n
		}
	}
	return u
}
