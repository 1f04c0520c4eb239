package triton

import "time"

// Status is docker's word for where a container is in its life.
type Status string

// The states of a container. Removing and removed containers are not listed.
const (
	StatusCreated Status = "created"
	StatusRunning Status = "running"
	StatusPaused  Status = "paused"
	// StatusRestarting is between a run that ended and the next one that the restart policy asks for.
	StatusRestarting Status = "restarting"
	StatusExited     Status = "exited"
	StatusDead       Status = "dead"
)

// Runs reports whether a first process is there, frozen or not.
func (s Status) Runs() bool { return s == StatusRunning || s == StatusPaused }

// State is what is: it belongs to the node, never to the intent.
type State struct {
	Status     Status    `json:"status"`
	Run        int       `json:"run"` // counts starts; 0: never started
	Pid        int       `json:"pid,omitempty"`
	CgroupID   uint64    `json:"cgroupID,omitempty"` // inode of the cgroup2 directory
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	ExitCode   int       `json:"exitCode"`
	OOMKilled  bool      `json:"oomKilled,omitempty"`
	Error      string    `json:"error,omitempty"` // why a start failed, what a run died of, or how its exit status was lost
	// Restarts counts the policy's restarts since somebody started the container; Pause is the last wait before one.
	Restarts int           `json:"restarts,omitempty"`
	Pause    time.Duration `json:"pause,omitempty"`
	// ByHand: somebody stopped or killed the container since it was started.
	ByHand bool `json:"byHand,omitempty"`
	// Core is the last dump of this run.
	Core *Core `json:"core,omitempty"`
}

// Core names a core dump of a process of a container.
type Core struct {
	ID     string `json:"id"`
	Signal string `json:"signal"` // "SIGSEGV"
	Number int    `json:"number"` // of the signal
	Comm   string `json:"comm"`
	First  bool   `json:"first,omitempty"` // it was the container's first process
	// Group and Top are known when the stacks were read: the group of like crashes, and where it happened.
	Group string `json:"group,omitempty"`
	Top   string `json:"top,omitempty"`
}

// ExitSource says where an exit status was learnt, best first.
type ExitSource string

// The sources of an exit status, in the order in which they are believed.
const (
	ExitByWait  ExitSource = "wait"  // the parent reaped it
	ExitByBPF   ExitSource = "bpf"   // the pinned exit program saw it
	ExitByPidfd ExitSource = "pidfd" // PIDFD_GET_INFO after the reap
	ExitLost    ExitSource = "lost"  // nobody knows: code 255
)

// ExitLostCode is reported when no source knows the exit status.
const ExitLostCode = 255

// ExitRecord is the end of one process that Triton started: a container's first process, or an exec's.
type ExitRecord struct {
	Run       int        `json:"run"`              // which start of the container
	ExecID    string     `json:"execID,omitempty"` // "": the container itself
	Pid       int        `json:"pid"`
	Code      int        `json:"code"`             // 0 to 255; 128+signal for a death by signal
	Signal    int        `json:"signal,omitempty"` // the fatal signal, 0: exited
	OOMKilled bool       `json:"oomKilled,omitempty"`
	At        time.Time  `json:"at"`
	Source    ExitSource `json:"source"`
}

// ExitCodeOf turns a wait status (as wait4 and task->exit_code give it: exit code << 8 | signal, bit 7: core dumped)
// into docker's exit code and the fatal signal.
func ExitCodeOf(waitStatus uint32) (code, signal int) {
	if s := int(waitStatus & 0x7f); s != 0 {
		return 128 + s, s
	}
	return int(waitStatus >> 8 & 0xff), 0
}
