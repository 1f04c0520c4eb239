package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPartsSayWhatBenchmarksPrint(t *testing.T) {
	v := values{}
	out := "goos: linux\nBenchmarkKernelSyscall-2 \t 5\t 380.0 none-least-ns\t 400 none-median-ns\t 500 empty-least-ns\t 530 empty-median-ns\t" +
		" 620 detail-least-ns\t 660 detail-median-ns\t 1100 bpftrace-least-ns\t 1180 bpftrace-median-ns\nPASS\nok  \tpkg 1.2s\n"
	if err := v.add([]byte(out)); err != nil {
		t.Fatal(err)
	}
	got := map[string]row{}
	for _, r := range callRows(v) {
		got[r.what] = r
	}
	for _, want := range []row{
		{"no hooks", "380 ns", "400 ns", ""},
		{"an empty pair of hooks", "+120 ns, 1.00 of an empty pair", "+130 ns, 1.00 of an empty pair", ""},
		{"detail", "+240 ns, 2.00 of an empty pair", "+260 ns, 2.00 of an empty pair", "at most 2.5 of an empty pair"},
		{"detail's part of bpftrace's", "0.33", "0.33", "at most 0.33"},
	} {
		if diff := cmp.Diff(want, got[want.what], cmp.AllowUnexported(row{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", want.what, diff)
		}
	}
	for _, out := range []string{"", "PASS\n", "BenchmarkX-2\t1\tnone ns\n"} {
		if err := v.add([]byte(out)); err == nil {
			t.Errorf("%q is taken", out)
		}
	}
}

// Where bpftrace cannot be run there is nothing to compare with, not a zero.
func TestPartsHaveRowsWithoutBpftrace(t *testing.T) {
	for _, r := range callRows(values{"none-least-ns": 1, "none-median-ns": 1}) {
		if strings.Contains(r.what, "bpftrace") {
			t.Errorf("%+v, where there is no bpftrace", r)
		}
	}
}
