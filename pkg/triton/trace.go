package triton

import "time"

// TraceFilter says which system calls of a container a live trace shows; the zero value is all of them.
type TraceFilter struct {
	Numbers []int         // nil: every call
	Errors  bool          // only those that end with an error
	Slower  time.Duration // only those that take as long, or longer
	Comm    string        // only those of threads of that name; at most 15 bytes
	Memory  bool          // read what pointers point to: paths, addresses, the beginning of buffers
}

// TracedCall is a system call as it returned; exit and exit_group as they are made.
type TracedCall struct {
	Pid  int    `json:"pid"` // in the daemon's namespace
	Tid  int    `json:"tid"`
	Comm string `json:"comm"`
	Call
}

// TraceEvent is one of its fields: a call, how many were lost since the last time it was told, or the end.
type TraceEvent struct {
	*TracedCall
	Lost uint64 `json:"lost,omitempty"`
	// Ended is why the trace is over; nothing comes after it.
	Ended string `json:"ended,omitempty"`
	// Failed says that Ended is an error.
	Failed bool `json:"failed,omitempty"`
}
