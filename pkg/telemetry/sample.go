package telemetry

import (
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// Sample is one reading of a container. Counters and histograms hold everything since the watch began and only grow.
type Sample struct {
	Time  time.Time
	Usage triton.Usage
	Counters
	Network triton.NetworkUsage
	Block   triton.BlockUsage

	// Started, Limits and Detail are as of now; windows do not keep them.
	Started time.Time
	Limits  Limits
	Detail  triton.UsageDetail

	// Level is how much is measured of the container now, in the words of the probes; windows do not keep it.
	Level string
	// NoCalls and NoWaits: system calls or waits for a CPU are not counted now, though they may have been. Windows do not keep
	// the latter.
	NoCalls, NoWaits bool
	// CallsEstimated: what the system calls are now is an estimate, made of windows in which they are counted.
	CallsEstimated bool
	// CallsGuessed is the share of the time that the numbers of system calls are of in which they were not counted: that time
	// is taken to have been like the rest.
	CallsGuessed float64
	// CallsVariance is the variance of the number of system calls, of estimates that a window has followed: the standard error
	// of what came between two samples is the root of the difference.
	CallsVariance float64
	// CallsOff is the share by which the number of system calls may be off, in all but 5 of 100 cases; 0: it is exact, or that is
	// not known. Windows keep neither.
	CallsOff float64

	Durations triton.Histogram // of system calls
	RunQueue  triton.Histogram // waits for a CPU

	Waits triton.Waits // by reason; windows do not keep it

	// PerSyscall is by call, in order of numbers; windows do not keep it.
	PerSyscall []SyscallSample
}

// Limits are processor limits as the kernel takes them.
type Limits struct {
	CPUQuota  int64 // microseconds per period; 0: none
	CPUPeriod int64 // microseconds
}

// Counters are the single numbers that the probes count.
type Counters struct {
	Syscalls      uint64
	SyscallErrors uint64
	Execs         uint64
	Exits         uint64 // of processes
	Forks         uint64 // new processes
	FatalSignals  uint64 // processes that a signal ended
	OOMKills      uint64
	RunQueueNs    uint64 // waited for a CPU
	Dropped       Dropped
}

// Dropped is what observation lost of a container, by reason.
type Dropped struct {
	Ring    uint64 // event records
	Cells   uint64 // calls counted without their number
	Storage uint64 // calls counted without their duration
	Threads uint64 // not in the flight recorder
}

// Total is the sum of all reasons.
func (d Dropped) Total() uint64 { return d.Ring + d.Cells + d.Storage + d.Threads }

// SyscallSample is the part of one system call.
type SyscallSample struct {
	Nr        int // the machine's number; see SyscallName
	Count     uint64
	Errors    uint64
	Durations triton.Histogram
}
