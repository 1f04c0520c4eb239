package cgroup

import (
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
)

func TestProcessorTimeIsSummedFromUserToSoftirq(t *testing.T) {
	var m Machine
	if err := m.processors([]byte("cpu  1 2 3 4 5 6 7 100 100 100\ncpu0 1 1 1 1 1 1 1\ncpu1 0 0 0 0 0 0 0\nintr 5\n")); err != nil {
		t.Fatal(err)
	}
	if m.CPU != 280*time.Millisecond || m.Busy != 190*time.Millisecond || m.Online != 2 {
		t.Errorf("%v, %v of it busy, on %d processors; want 280 ms, 190 ms on 2", m.CPU, m.Busy, m.Online)
	}
	for _, bad := range []string{"", "cpu 1 2 3\n", "cpu a 2 3 4 5 6 7\n", "cpu 1 2 3 4 5 6 7\n", "intr 5\n"} {
		if err := new(Machine).processors([]byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestMemoryOfTheMachineIsInBytes(t *testing.T) {
	var m Machine
	if err := m.memory([]byte("MemTotal:       16 kB\nMemFree: 1 kB\nMemAvailable:  8 kB\nnonsense\n")); err != nil {
		t.Fatal(err)
	}
	if m.MemoryTotal != 16<<10 || m.MemoryAvailable != 8<<10 {
		t.Errorf("%d of %d bytes available, want 8192 of 16384", m.MemoryAvailable, m.MemoryTotal)
	}
	if err := new(Machine).memory([]byte("MemFree: 1 kB\n")); err == nil {
		t.Error("a machine without memory is accepted")
	}
}

func TestKernelWithoutPressureSaysSo(t *testing.T) {
	if p, err := machinePressure(t.TempDir() + "/"); p != nil || err != nil {
		t.Errorf("%v, %v; want none", p, err)
	}
}

// A thread that works for a while is in the machine's processor time, memory that is touched is not available any more.
func TestKernelMachineSeesWorkAndMemory(t *testing.T) {
	before, err := ReadMachine()
	if err != nil {
		t.Fatal(err)
	}
	if before.Online != runtime.NumCPU() && before.Online < 1 || before.Busy >= before.CPU {
		t.Errorf("%d processors, %v of %v busy", before.Online, before.Busy, before.CPU)
	}
	const size = 64 << 20
	b := make([]byte, size)
	for i := 0; i < size; i += os.Getpagesize() {
		b[i] = 1
	}
	const work = 200 * time.Millisecond
	for began := ownTime(t); ownTime(t)-began < work; {
		b[0]++
	}
	after, err := ReadMachine()
	if err != nil {
		t.Fatal(err)
	}
	runtime.KeepAlive(b)
	if got := after.Busy - before.Busy; got < work*3/4 { // ticks of 10 ms, on several processors
		t.Errorf("%v busy after %v of work", got, work)
	}
	if after.CPU < before.CPU || !after.Time.After(before.Time) {
		t.Errorf("time goes back: %v after %v", after.CPU, before.CPU)
	}
	if a := after.MemoryAvailable; a == 0 || a > after.MemoryTotal {
		t.Errorf("%d of %d bytes are available", a, after.MemoryTotal)
	}
	if _, err := os.Stat("/proc/pressure/cpu"); (err == nil) != (after.Pressure != nil) {
		t.Errorf("pressure %v, and its file: %v", after.Pressure, err)
	}
	if p := after.Pressure; p != nil && (p.CPUSome < before.Pressure.CPUSome || p.CPUSome == 0) {
		t.Errorf("some waited for a processor for %v, before %v", p.CPUSome, before.Pressure.CPUSome)
	}
}

// ownTime is the processor time of this process.
func ownTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
