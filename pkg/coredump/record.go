package coredump

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// Record is what is known of one crash beside its memory. It holds no value of an environment variable.
type Record struct {
	ID        string              `json:"id"` // 12 hex digits
	Container triton.ContainerKey `json:"container"`
	Name      string              `json:"name"`
	Image     string              `json:"image"`
	ImageID   string              `json:"imageID"`
	Run       int                 `json:"run"`
	Kind      string              `json:"kind,omitempty"` // KindSnapshot, or empty: a crash
	At        time.Time           `json:"at"`
	// OperatorOnly dumps are of setuid programs and the like.
	OperatorOnly bool `json:"operatorOnly,omitempty"`

	Pid     int      `json:"pid"`   // in the daemon's namespace
	NSPid   int      `json:"nsPid"` // in the container's
	UID     int      `json:"uid"`   // real, in the daemon's namespace
	Comm    string   `json:"comm"`
	Exe     string   `json:"exe"`
	Cmdline []string `json:"cmdline"`
	Cwd     string   `json:"cwd"`

	Signal string `json:"signal"` // "SIGSEGV"
	Code   int    `json:"code"`   // si_code
	Fault  uint64 `json:"fault,omitempty"`
	// Place is where the first thread was: a module's build id or path, and the offset in it. Crashes of one place are one
	// for what is kept.
	Place string `json:"place,omitempty"`
	// Note explains a signal that is not what it seems.
	Note string `json:"note,omitempty"`

	Threads  []Thread   `json:"threads"`
	Modules  []Module   `json:"modules,omitempty"` // by address
	Files    []OpenFile `json:"files,omitempty"`
	Sockets  []Socket   `json:"sockets,omitempty"`
	Limits   string     `json:"limits,omitempty"`   // /proc/PID/limits
	Status   string     `json:"status,omitempty"`   // /proc/PID/status
	Maps     string     `json:"maps,omitempty"`     // /proc/PID/maps
	EnvNames []string   `json:"envNames,omitempty"` // sorted
	Log      []string   `json:"log,omitempty"`      // last lines, oldest first, with their stream
	// Telemetry is the container's of the last minute, oldest first.
	Telemetry []triton.Sample `json:"telemetry,omitempty"`

	// Body is how much of the memory there is: full, truncated, mini or none.
	Body string `json:"body"`
	// Cut is why a body is truncated, or why there is only a mini core.
	Cut         string `json:"cut,omitempty"`
	MemoryBytes uint64 `json:"memoryBytes"` // what a full core has of memory
	StoredBytes uint64 `json:"storedBytes"` // of the body, on disk
	// Packed says that the body was compressed anew, to take less.
	Packed bool `json:"packed,omitempty"`

	MiniAfter time.Duration `json:"miniAfterNs"` // from accept until the mini core was on disk
	HeldFor   time.Duration `json:"heldForNs"`   // from accept until the process was let go
	// Pause is how long the process of a snapshot stood.
	Pause time.Duration `json:"pauseNs,omitempty"`
	// Repeats are crashes of the container at the same place, in an hour, that were only counted until LastRepeat, when the
	// last of them was: it had used up the processor time of its crashes. The newest dump of the place has them all.
	Repeats    uint64    `json:"repeats,omitempty"`
	LastRepeat time.Time `json:"lastRepeat,omitzero"`
	// Kept are the files that the process ran code of.
	Kept []KeptFile `json:"kept,omitempty"`
	// Analysis is nil until the stacks were read.
	Analysis *Analysis `json:"analysis,omitempty"`
	// Missing says what could not be read, and why.
	Missing []string `json:"missing,omitempty"`
}

// What there is of a process's memory.
const (
	BodyFull      = "full"
	BodyTruncated = "truncated"
	BodyMini      = "mini"
	BodyNone      = "none"
)

// Thread is one thread at the moment of the crash. The first of a record is the one that crashed.
type Thread struct {
	TID     int      `json:"tid"` // in the container's namespace
	Comm    string   `json:"comm,omitempty"`
	PC      uint64   `json:"pc"`
	SP      uint64   `json:"sp"`
	Syscall string   `json:"syscall,omitempty"` // /proc/PID/task/TID/syscall: number, arguments, sp, pc; or "running"
	Call    string   `json:"call,omitempty"`    // the name of that system call: "read"
	Regs    []uint64 `json:"regs"`              // struct user_regs_struct
	// Calls are the flight recorder's of the thread, oldest first; of the first recordedThreads threads.
	Calls []triton.Call `json:"calls,omitempty"`
}

// OpenFile is a descriptor.
type OpenFile struct {
	FD     string `json:"fd"`
	Target string `json:"target"`
}

// Socket is an open socket and what it is connected to.
type Socket struct {
	FD    string `json:"fd"`
	Proto string `json:"proto"` // tcp, tcp6, udp, udp6, unix, unix-dgram, unix-seqpacket
	Local string `json:"local"` // an address, or a path; "@name" is an abstract one
	Peer  string `json:"peer"`  // of unix sockets what the other end is bound to, or which inode it is
	State string `json:"state"` // "established"
}

// Module is a program, a library or another ELF file in the process's memory.
type Module struct {
	Path    string `json:"path"` // as the kernel knew it
	Start   uint64 `json:"start"`
	End     uint64 `json:"end"`               // of its last mapping
	BuildID string `json:"buildID,omitempty"` // hex digits, as the linker noted it
	// Soname is what other modules call it by.
	Soname string `json:"soname,omitempty"`
	// Deleted: the file had no name any more.
	Deleted bool `json:"deleted,omitempty"`
}

// signalName is "SIGSEGV" for 11.
func signalName(n int) string {
	if s := unix.SignalName(unix.Signal(n)); s != "" {
		return s
	}
	return "unknown"
}

// siKernel is SI_KERNEL: the kernel raised the signal for a reason that has no address.
const siKernel = 128

// explain labels what PID 1 of a container is made to die of: it ignores signals that it sends itself, so abort() ends by
// the trap behind it (a general protection fault, si_code 128).
func (r *Record) explain() {
	if r.NSPid == 1 && r.Signal == "SIGSEGV" && r.Code == siKernel && r.Fault == 0 {
		r.Signal, r.Note = "SIGABRT", "abort() in PID 1 of a container: its own SIGABRT is ignored, the trap behind it raised SIGSEGV"
	}
}
