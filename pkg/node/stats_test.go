package node

import "testing"

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
