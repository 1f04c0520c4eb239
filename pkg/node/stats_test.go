package node

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

func TestHostCPUSumsUserToSoftirq(t *testing.T) {
	ns, online, err := hostCPU("cpu  1 2 3 4 5 6 7 100 100 100\ncpu0 1 1 1 1 1 1 1\ncpu1 0 0 0 0 0 0 0\nintr 5\n")
	if err != nil || ns != 28*1e7 || online != 2 {
		t.Errorf("%d ns on %d, %v; want 280 ms on 2", ns, online, err)
	}
	for _, bad := range []string{"", "cpu 1 2 3\n", "cpu a 2 3 4 5 6 7\n"} {
		if _, _, err := hostCPU(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestInterfacesLeavesOutLoopback(t *testing.T) {
	got := interfaces("Inter-|   Receive\n face |bytes\n    lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n  eth0:100 2 3 4 0 0 0 0 50 6 7 8 0 0 0 0\n bad: 1\n")
	want := map[string]triton.InterfaceStats{"eth0": {
		RxBytes: 100, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 50, TxPackets: 6, TxErrors: 7, TxDropped: 8,
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
