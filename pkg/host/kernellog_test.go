package host

import (
	"testing"
	"time"
)

func TestRecordsOfTheKernelLog(t *testing.T) {
	for record, want := range map[string]string{
		"6,339,5140900,-;NET: Registered protocol family 10\n":   "NET: Registered protocol family 10",
		"30,340,5690716,-,caller=T1;usb: x; y\n SUBSYSTEM=usb\n": "usb: x; y",
		"6,339,5140900;too few":                                  "",
		"6,x,5140900,-;no number":                                "",
		"6,1,99999999999999999999,-;clock":                       "",
		"":                                                       "",
	} {
		_, at, line, ok := parseKernelRecord([]byte(record))
		if ok != (want != "") || ok && (line != want || at < 5*time.Second || at > 6*time.Second) {
			t.Errorf("%q: %q at %s, %v", record, line, at, ok)
		}
	}
}

// The log is read to its end, and the reading ends there.
func TestKernelLogIsRead(t *testing.T) {
	lines, last := 0, uint64(0)
	err := KernelLog(func(seq uint64, _ time.Duration, _ string) {
		if lines++; lines > 1 && seq <= last {
			t.Errorf("record %d comes after %d", seq, last)
		}
		last = seq
	})
	if err != nil || lines == 0 {
		t.Errorf("%d lines, %v", lines, err)
	}
}
