package network

import (
	"os/exec"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

const netDev = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 99 9 9 9 0 0 0 0 99 9 9 9 0 0 0 0
  eth0: 1000 10 1 2 0 0 0 0 2000 20 0 3 0 0 0 0
  eth1:    1    1    0    1    0     0          0         0        2       2    0    1    0     0       0          0
`

func TestCountersAddInterfacesUpWithoutLoopback(t *testing.T) {
	want := triton.NetworkUsage{RxBytes: 1001, RxPackets: 11, RxDropped: 3, TxBytes: 2002, TxPackets: 22, TxDropped: 4}
	if got := parseCounters([]byte(netDev)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestInterfacesLeavesOutLoopback(t *testing.T) {
	text := "Inter-|   Receive\n face |bytes\n    lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n  eth0:100 2 3 4 0 0 0 0 50 6 7 8 0 0 0 0\n bad: 1\n"
	want := map[string]triton.InterfaceStats{"eth0": {
		RxBytes: 100, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 50, TxPackets: 6, TxErrors: 7, TxDropped: 8,
	}}
	if d := cmp.Diff(want, parseInterfaces([]byte(text))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestCountersOfADeadProcessAreNotFound(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := Counters(cmd.Process.Pid); !errdefs.IsNotFound(err) {
		t.Errorf("error = %v, want not found", err)
	}
}

func FuzzCounters(f *testing.F) {
	f.Add([]byte(netDev))
	f.Add([]byte("a: 18446744073709551615 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\nb: 1 -1 x 99999999999999999999999 1 1 1 1 1 1 1 1 1 1 1 1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		once := parseCounters(b)
		twice := parseCounters(append(append(b[:len(b):len(b)], '\n'), b...))
		if twice.RxBytes < once.RxBytes || twice.TxDropped < once.TxDropped {
			t.Errorf("more interfaces count less: %+v, %+v", once, twice)
		}
	})
}
