package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

func TestDNSPrintsNamesAndTotals(t *testing.T) {
	at := time.Unix(1000, 0)
	d := wire.DNS{
		At: at, RoundTrip: triton.Histogram{Schema: 2, First: -39, Counts: []uint64{0, 3}, SumNs: 3e6}, Asked: 12, AskedTCP: 3, Unfollowed: 1,
		Answers: map[string]uint64{"NXDOMAIN": 1, "NOERROR": 2}, Unanswered: 1, Other: 4,
		Names: []wire.DNSName{
			{Name: "db.example.", Type: "A", Asked: 7, Answered: 3, Missing: 1, Unanswered: 1, Seconds: 0.003, Last: at.Add(-2 * time.Second)},
			{Name: "x\x1b[2Jé.", Type: "TXT", Asked: 1, Last: at},
		},
	}
	var out strings.Builder
	if err := printDNS(&out, &d); err != nil {
		t.Fatal(err)
	}
	want := `12 questions (3 by TCP), 2 NOERROR, 1 NXDOMAIN, 1 unanswered, 1 connections not followed to their end; answers in 1ms, p50 1.38ms, p99 1.38ms

NAME         TYPE  ASKED  NXDOMAIN  FAILED  UNANSWERED  MEAN  LAST
db.example.  A     7      1         0       1           1ms   2s ago
x?[2J?.      TXT   1      0         0       0           -     0s ago
(others)           4
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
