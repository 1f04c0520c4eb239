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

// Counters adds up what passed the interfaces of the network namespace that the process pid is in, the loopback excepted.
// The error is ErrNotFound when the process is gone.
func Counters(pid int) (triton.NetworkUsage, error) {
	b, err := readCounters(pid)
	return parseCounters(b), err
}

// Interfaces is Counters by interface.
func Interfaces(pid int) (map[string]triton.InterfaceStats, error) {
	b, err := readCounters(pid)
	if err != nil {
		return nil, err
	}
	return parseInterfaces(b), nil
}

// readCounters reads the table of the namespace that the process is in, as far as it is counted.
func readCounters(pid int) ([]byte, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/net/dev")
	if err != nil {
		return nil, countersError(pid, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, countersMax))
	if err != nil {
		return nil, countersError(pid, err)
	}
	if i := bytes.LastIndexByte(b, '\n'); len(b) == countersMax && i >= 0 {
		b = b[:i+1] // the last line is torn
	}
	return b, nil
}

// countersError tells the end of the process from real failures. A dead process's namespace reads as EINVAL.
func countersError(pid int, err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.EINVAL) {
		err = errdefs.ErrNotFound
	}
	return fmt.Errorf("read network counters of process %d: %w", pid, err)
}

// parseCounters adds up the interfaces of a table. A sum that would pass the end of its type stays.
func parseCounters(b []byte) (u triton.NetworkUsage) {
	eachInterface(b, func(_ string, c triton.InterfaceStats) {
		addTo(&u.RxBytes, c.RxBytes)
		addTo(&u.RxPackets, c.RxPackets)
		addTo(&u.RxDropped, c.RxDropped)
		addTo(&u.TxBytes, c.TxBytes)
		addTo(&u.TxPackets, c.TxPackets)
		addTo(&u.TxDropped, c.TxDropped)
	})
	return u
}

func addTo(sum *uint64, n uint64) {
	if n <= math.MaxUint64-*sum {
		*sum += n
	}
}

func parseInterfaces(b []byte) map[string]triton.InterfaceStats {
	out := map[string]triton.InterfaceStats{}
	eachInterface(b, func(name string, c triton.InterfaceStats) { out[name] = c })
	return out
}

// eachInterface reads /proc/PID/net/dev (net/core/net-procfs.c): per interface a name, a colon, and eight counters received
// and eight sent, of which bytes, packets, errors and drops are the first four. Other lines and lo are passed over; what is
// no number counts nothing.
func eachInterface(b []byte, fn func(name string, c triton.InterfaceStats)) {
	const columns = 16
	for line := range bytes.Lines(b) {
		name, rest, ok := bytes.Cut(line, []byte(":"))
		fields := bytes.Fields(rest)
		if name = bytes.TrimSpace(name); !ok || string(name) == "lo" || len(fields) < columns {
			continue
		}
		count := func(i int) uint64 {
			n, err := strconv.ParseUint(string(fields[i]), 10, 64)
			if err != nil {
				return 0
			}
			return n
		}
		fn(string(name), triton.InterfaceStats{
			RxBytes: count(0), RxPackets: count(1), RxErrors: count(2), RxDropped: count(3),
			TxBytes: count(8), TxPackets: count(9), TxErrors: count(10), TxDropped: count(11),
		})
	}
}
