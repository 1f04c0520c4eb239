package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

func TestRecordingsAreShownAsStraceShowsThem(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 600, time.Local)
	var out strings.Builder
	printRecordings(&out, []triton.Recording{{Pid: 7, Tid: 8, Comm: "a\x1b[2J", Ended: at, Calls: []triton.Call{
		{At: at, Text: "close(3)", Duration: 1234},
		{At: at, Text: "close(-1)", Result: -9, Error: "EBADF", Duration: 456},
		{At: at, Text: "brk(NULL)", Result: 0x7f0000000000},
		{At: at, Text: "exit_group(1)", InCall: true},
	}}})
	want := []string{
		"  03:04:05.000000  close(3) = 0 <1.23µs>", "  03:04:05.000000  close(-1) = -1 EBADF <460ns>",
		"  03:04:05.000000  brk(NULL) = 0x7f0000000000", "  03:04:05.000000  exit_group(1) has not returned", "",
	}
	head, rest, _ := strings.Cut(out.String(), "\n")
	if strings.Contains(head, "\x1b") || !strings.HasSuffix(head, ", pid 7, thread 8, ended 03:04:05.000000") {
		t.Errorf("heading %q", head)
	}
	if diff := cmp.Diff(want, strings.Split(rest, "\n")); diff != "" {
		t.Error(diff)
	}
}
