package triton

import "time"

// Recording is what a thread of a container asked of the kernel last.
type Recording struct {
	Pid   int       `json:"pid"` // in the daemon's namespace
	Tid   int       `json:"tid"`
	Comm  string    `json:"comm"`           // at its first call, or its last execve; at most 15 bytes
	Ended time.Time `json:"ended,omitzero"` // zero: it lives
	Calls []Call    `json:"calls"`          // oldest first
}

// Call is one system call.
type Call struct {
	At     time.Time `json:"at"` // of its entry; of its return where the entry was not seen
	Number int       `json:"number"`
	Name   string    `json:"name"`
	Args   [6]uint64 `json:"args"` // registers; what a call does not take is there too
	// Text is the call as C has it: what memory it points to is not read.
	Text     string        `json:"text"`
	Result   int64         `json:"result"`
	Error    string        `json:"error,omitempty"` // "ENOENT"
	Duration time.Duration `json:"duration"`        // nanoseconds; 0: it has not returned, or its entry was not seen
	InCall   bool          `json:"inCall,omitempty"`
}

// Last is when the thread made its last call.
func (r *Recording) Last() time.Time {
	if len(r.Calls) == 0 {
		return time.Time{}
	}
	return r.Calls[len(r.Calls)-1].At
}
