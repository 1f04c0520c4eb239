package death

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// Record is the abnormal end of one run of a container.
type Record struct {
	ID        string              `json:"id"` // 12 hex digits, the same whenever the same end is recorded: see ID
	Container triton.ContainerKey `json:"container"`
	Name      string              `json:"name"`
	Image     string              `json:"image"`
	ImageID   string              `json:"imageID"`
	Run       int                 `json:"run"`
	Restarts  int                 `json:"restarts"` // by the policy, before this end
	Started   time.Time           `json:"started"`
	At        time.Time           `json:"at"`

	Kind      Kind              `json:"kind"`
	Reason    string            `json:"reason"` // one line
	Code      int               `json:"code"`
	Signal    string            `json:"signal,omitempty"` // "SIGKILL": the first process died of it
	OOMKilled bool              `json:"oomKilled,omitempty"`
	Sender    *Sender           `json:"sender,omitempty"`
	Core      *triton.Core      `json:"core,omitempty"` // the last dump of this run
	Panic     *Panic            `json:"panic,omitempty"`
	Memory    Memory            `json:"memory"`
	Source    triton.ExitSource `json:"source"` // of the exit code

	Limits    triton.Resources `json:"limits,omitzero"`
	Log       []string         `json:"log,omitempty"`       // last lines, oldest first, with their stream
	Telemetry []triton.Sample  `json:"telemetry,omitempty"` // of the last minute, oldest first
	// Threads are the last system calls of the threads that made some last, that one first: at most MaxThreads.
	Threads []triton.Recording `json:"threads,omitempty"`
	// Missing says what could not be read, and why.
	Missing []string `json:"missing,omitempty"`
}

// Kind is what an end is counted as.
type Kind string

// The kinds of ends.
const (
	KindOOM    Kind = "oom"    // the kernel killed the first process, or another brought it down, for want of memory
	KindSignal Kind = "signal" // a signal ended the first process
	KindExit   Kind = "exit"   // the first process ended itself, with a code that is not 0
	KindLost   Kind = "lost"   // nobody knows
)

// Cause is what an end is counted as: as Kind has it, but for what is more telling.
func (r *Record) Cause() Kind {
	switch {
	case r.Kind == KindOOM || r.Kind == KindLost:
		return r.Kind
	case r.Panic != nil:
		return CausePanic
	case r.Core != nil && (r.Core.First || r.Code == 128+r.Core.Number):
		return CauseCore
	case r.Sender != nil && r.Sender.Ordered:
		return CauseStopped
	}
	return r.Kind
}

// What Cause says beyond the kinds.
const (
	CauseCore    Kind = "core"    // the process whose end it was left a core dump
	CausePanic   Kind = "panic"   // a Go program panicked
	CauseStopped Kind = "stopped" // a client of the daemon asked for it
)

// Sender is who sent the first process a signal that is to end it.
type Sender struct {
	Signal string    `json:"signal"`
	At     time.Time `json:"at"`
	// Ordered: a client of the daemon asked for it.
	Ordered bool `json:"ordered,omitempty"`
	Kernel  bool `json:"kernel,omitempty"`
	// Inside: the sender is in the container's control group.
	Inside bool   `json:"inside,omitempty"`
	Pid    int    `json:"pid"` // in the daemon's namespace
	UID    int    `json:"uid"` // in the daemon's namespace
	Comm   string `json:"comm"`
}

// String is the sender in a sentence.
func (s *Sender) String() string {
	switch {
	case s.Ordered:
		return "a client of the daemon (docker stop, kill, restart, rm)"
	case s.Kernel:
		return "the kernel"
	}
	where := ""
	if s.Inside {
		where = " in the container"
	}
	return fmt.Sprintf("%q%s (pid %d, uid %d on the host)", s.Comm, where, s.Pid, s.UID)
}

// Memory is the memory of a run that ended, in bytes.
type Memory struct {
	Limit uint64 `json:"limit,omitempty"` // 0: none
	Peak  uint64 `json:"peak,omitempty"`
	Kills uint64 `json:"kills,omitempty"` // by the kernel for want of memory, in this run
	// OOM is the picture of the last of Kills.
	OOM     *OOM     `json:"oom,omitempty"`
	Victims []Victim `json:"victims,omitempty"` // those of Kills that were seen as they happened, at most MaxVictims
}

// MaxThreads bounds Record.Threads.
const MaxThreads = 16

// MaxVictims bounds Memory.Victims.
const MaxVictims = 16

// Victim is a process that the kernel killed for want of memory.
type Victim struct {
	At   time.Time `json:"at"`
	Pid  int       `json:"pid"` // in the daemon's namespace
	Comm string    `json:"comm"`
}

// ID names the end of one run of a container: recording it again, after a kill of the daemon, makes no second record.
func ID(key triton.ContainerKey, run int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d", key.Tenant, key.ID, run))
	return hex.EncodeToString(sum[:idLength/2])
}

// Explain sets Kind and Reason from the rest of r.
func (r *Record) Explain() {
	died := r.Signal != ""
	// A shell tells of its child's death in its own code.
	ofKill := r.Signal == "SIGKILL" || r.Code == 128+9
	switch {
	case r.Source == triton.ExitLost:
		r.Kind, r.Reason = KindLost, "nobody saw the end"
	case r.OOMKilled && ofKill:
		r.Kind, r.Reason = KindOOM, "out of memory: "+r.Memory.String()
	case died:
		r.Kind, r.Reason = KindSignal, r.Signal
		if s := r.Sender; s != nil && s.Signal == r.Signal && r.Core == nil {
			r.Reason += " from " + s.String()
		}
	default:
		r.Kind, r.Reason = KindExit, fmt.Sprintf("exited with %d", r.Code)
		if r.Sender != nil {
			r.Reason += fmt.Sprintf(" after %s from %s", r.Sender.Signal, r.Sender)
		}
	}
	if r.Panic != nil {
		first, _, _ := strings.Cut(r.Panic.Message, "\n")
		r.Reason += ": " + first
	}
	if c := r.Core; c != nil && (c.First || r.Code == 128+c.Number) {
		if !died || c.Signal != r.Signal {
			r.Reason += fmt.Sprintf(": %q died of %s", c.Comm, c.Signal)
		}
		r.Reason += ", core dump " + c.ID
	}
}

// String is the memory in a sentence.
func (m Memory) String() string {
	limit := "no limit of its own"
	if m.Limit > 0 {
		limit = "limit " + mebibytes(m.Limit)
	}
	s := limit + ", peak " + mebibytes(m.Peak)
	if n := len(m.Victims); n > 0 {
		v := m.Victims[n-1]
		s += fmt.Sprintf(", the kernel killed %q (pid %d)", v.Comm, v.Pid)
	}
	return s
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
