package wire

import (
	"encoding/json"
	"net/url"
	"time"
)

// Prefix begins every path of this package.
const Prefix = "/triton/v1/"

// LoginLinkPath makes a login link when it is posted to.
const LoginLinkPath = Prefix + "login-link"

// LoginLink answers POST LoginLinkPath.
type LoginLink struct {
	// Link opens the page; whoever opens it first is logged in.
	Link string `json:"link"`
}

// ObservedPath is where a container's observation record is.
func ObservedPath(ref string) string {
	return Prefix + "containers/" + url.PathEscape(ref) + "/observed"
}

// PlacementPath is where a container's placement is explained.
func PlacementPath(ref string) string {
	return Prefix + "containers/" + url.PathEscape(ref) + "/placement"
}

// Placement answers GET /triton/v1/containers/{id or name}/placement: why a container is where it is.
type Placement struct {
	// Decision is the last one, made at create, at a start after the reservation had lapsed, or at an update that promised more.
	Decision json.RawMessage `json:"decision"`
	Seen     *Seen           `json:"seen,omitempty"` // nil: nothing yet
	// Text is all of this for people.
	Text string `json:"text,omitempty"`
}

// Seen is what a container was seen to use since the daemon started.
type Seen struct {
	Seconds    float64 `json:"seconds"` // of running
	CPU        float64 `json:"cpu"`     // cores, mean
	MemoryPeak int64   `json:"memoryPeak"`
}

// Version answers GET /triton/v1/version.
type Version struct {
	Version  string    `json:"version"`
	Commit   string    `json:"commit"`
	Instance string    `json:"instance"`
	Node     string    `json:"node"`
	Started  time.Time `json:"started"`
}

// Probes answers GET /triton/v1/probes.
type Probes struct {
	// Missing are the programs that do not run.
	Missing []Missing `json:"missing"`
	// Drops counts what was not recorded, by reason, since the daemon started.
	Drops map[string]uint64 `json:"drops"`
	// Level is how much is measured of containers of which nothing else is wanted.
	Level string `json:"level"`
	// Share is the part of the time in which system calls are counted at that level: 1 all, 0 none; between, their numbers are
	// estimates.
	Share float64 `json:"share"`
	// Hooked is for how many seconds the hooks of system calls were attached since the daemon started.
	Hooked float64 `json:"hooked"`
	// Stepping tells of a level that changes by itself; absent where it is fixed.
	Stepping *Stepping `json:"stepping,omitempty"`
	// Price is what the programs cost as a share of the machine, Tax included, in the last window; 0 before the first.
	Price float64 `json:"price"`
	// Burden is the same as a share of the time in which CPUs were busy, of one CPU at least: what a budget bounds.
	Burden float64 `json:"burden"`
	// Tax is what the hooks of system calls cost every process beside that, of one CPU: an estimate.
	Tax float64 `json:"tax"`
	// Programs are those that run, in order of name.
	Programs []Program `json:"programs"`
	// Containers are those that are watched, the dearest first.
	Containers []Watching `json:"containers"`
	At         time.Time  `json:"at"`
}

// Watching is what observation of a container costs.
type Watching struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Tenant string `json:"tenant"`
	// Events is how often its system calls, and its tasks' being given a CPU, ran programs, a second; CPU what that costs, of one
	// CPU: an estimate, by what a run costs on average.
	Events float64 `json:"events"`
	CPU    float64 `json:"cpu"`
	// Dropped is what was lost of it since its start.
	Dropped uint64 `json:"dropped"`
}

// Stepping is what the machine's level does by itself. Prices are shares as in Probes.Burden.
type Stepping struct {
	Budget float64 `json:"budget"`
	// Steps counts changes since the daemon started; Last is the last one, absent before the first.
	Steps uint64 `json:"steps"`
	Last  *Step  `json:"last,omitempty"`
	// Estimates are what each level would cost now, by level; empty while nothing tells.
	Estimates map[string]float64 `json:"estimates"`
	// Hold is for how many seconds a better level must be affordable until it is taken.
	Hold float64 `json:"hold"`
}

// Step is one change of level.
type Step struct {
	At   time.Time `json:"at"`
	From string    `json:"from"`
	To   string    `json:"to"`
	// Price is what From cost, Estimate what To was expected to.
	Price    float64 `json:"price"`
	Estimate float64 `json:"estimate"`
	Why      string  `json:"why"`
}

// Program is what one cost in the last window.
type Program struct {
	Program string  `json:"program"`
	Runs    float64 `json:"runs"` // a second
	CPU     float64 `json:"cpu"`  // of one CPU
}

// Missing is one program that does not run, and why: this kernel refused it, or the level leaves it out.
type Missing struct {
	Program string `json:"program"`
	Reason  string `json:"reason"`
}

// Observed answers GET /triton/v1/containers/{id or name}/observed: what the kernel reported of the latest run of a
// container, while it runs and for ten minutes after its end or removal.
type Observed struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Image    string    `json:"image"`
	Run      int       `json:"run"`
	Running  bool      `json:"running"`
	CgroupID uint64    `json:"cgroupID"`
	First    time.Time `json:"first,omitzero"`
	Last     time.Time `json:"last,omitzero"`

	// Syscalls is by name, "syscall_N" for a number without one.
	Syscalls map[string]Syscall `json:"syscalls"`
	RunQueue Latency            `json:"runQueue"`
	// Waits is for how long tasks waited for anything but a CPU, in seconds, of waits that have ended: disk, network, lock,
	// sleep, poll, pipe, fault, child, other. Reasons for which none did are absent.
	Waits        map[string]float64 `json:"waits"`
	Execs        uint64             `json:"execs"`
	Exits        uint64             `json:"exits"`
	FatalSignals uint64             `json:"fatalSignals"`
	OOMKills     uint64             `json:"oomKills"`
	CPUSeconds   float64            `json:"cpuSeconds"`
	Dropped      uint64             `json:"dropped"`
	// Level is how much of it is or was measured.
	Level string `json:"level"`
	// Counted is the share of the time in which system calls were counted: below 1 Syscalls are estimates for all of it.
	Counted float64 `json:"counted"`
	// Off is the share by which the number of all system calls may be off where they are estimates, in all but 5 of 100 cases; absent: it is
	// exact, or that is not known yet.
	Off float64 `json:"off,omitempty"`
	// Missing are the programs that do not run here: what they would count is zero above.
	Missing []Missing `json:"missing,omitempty"`
}

// Syscall is one system call's totals. Times are in seconds, -1 where no call returned.
type Syscall struct {
	Number int `json:"number"`
	Latency
	Errors uint64 `json:"errors"`
	// Untimed calls are counted but have no latency: those that never return, or began before the watch.
	Untimed uint64 `json:"untimed"`
}

// Latency summarizes a histogram: P50 and P99 are upper bounds of the bucket they fall in, in seconds, -1 if empty.
type Latency struct {
	Count uint64  `json:"count"`
	Sum   float64 `json:"sum"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
}

// Mean is in seconds; -1 if nothing was counted.
func (l Latency) Mean() float64 {
	if l.Count == 0 {
		return -1
	}
	return l.Sum / float64(l.Count)
}

// Vars answers GET /triton/v1/debug/vars: the daemon's own size, to see that nothing grows.
type Vars struct {
	At         time.Time `json:"at"`
	CPUSeconds float64   `json:"cpuSeconds"` // used since it started
	RSSBytes   uint64    `json:"rssBytes"`
	// MapBytes is what the probes' maps take of the kernel's memory, those that come and go left out.
	MapBytes   uint64 `json:"mapBytes"`
	Goroutines int    `json:"goroutines"`
	FDs        int    `json:"fds"`
	HeapBytes  uint64 `json:"heapBytes"`
	Containers int    `json:"containers"`
	Slots      int    `json:"slots"`
}
