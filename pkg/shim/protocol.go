package shim

import (
	"encoding/json"
	"net/netip"
	"time"

	"github.com/tritond/triton/pkg/shim/relay"
	"github.com/tritond/triton/pkg/triton"
)

// Running shims are never upgraded, so a daemon meets shims older than itself: a verb may gain optional fields, it
// never loses or reinterprets one. A change that an old shim cannot serve raises ProtocolVersion, and the daemon keeps
// talking the older one to it.
const (
	ProtocolVersion    = 1
	MinProtocolVersion = 1
)

// MaxFrame bounds the JSON of a frame, in bytes. A connection to a shim or to the keeper carries frames: a 4-byte
// big-endian length, then that many bytes of JSON. The client sends a Request and reads one Response; requests on one connection are answered in
// order. Blocking verbs (wait, attach) get a connection of their own. The first request of each connection is hello.
const MaxFrame = 4 << 20

// Verb names a request.
type Verb string

// The verbs of protocol 1. The body and the answer of each are the types named beside it.
const (
	VerbHello      Verb = "hello"      // Hello -> HelloReply
	VerbCreate     Verb = "create"     // CreateRequest -> ProcessReply: namespaces, rootfs and init exist; nothing of the image has run
	VerbStart      Verb = "start"      // nil -> nil: init executes the container's program
	VerbExec       Verb = "exec"       // ExecRequest -> nil: registers an exec and its stdio, so that attach may come before its start
	VerbExecStart  Verb = "execStart"  // ExecRef -> ProcessReply
	VerbWait       Verb = "wait"       // ExecRef -> triton.ExitRecord; blocks until the process ended and its output is in the log
	VerbState      Verb = "state"      // nil -> StateReply
	VerbSignal     Verb = "signal"     // SignalRequest -> nil
	VerbDeadline   Verb = "deadline"   // DeadlineRequest -> nil: a signal the shim sends later, though the daemon be dead by then
	VerbPause      Verb = "pause"      // nil -> nil
	VerbResume     Verb = "resume"     // nil -> nil
	VerbUpdate     Verb = "update"     // UpdateRequest -> nil: changed resource limits
	VerbResize     Verb = "resize"     // ResizeRequest -> nil
	VerbCloseStdin Verb = "closeStdin" // ExecRef -> nil
	VerbAttach     Verb = "attach"     // AttachRequest -> AttachReply or nil; then the connection is a stream (see AttachRequest)
	VerbLogRotate  Verb = "logRotate"  // nil -> nil: rotates the log now
	VerbForward    Verb = "forward"    // ForwardRequest -> nil; descriptors travel beside it: ports of the host that this shim serves
	VerbAdopt      Verb = "adopt"      // AdoptRequest -> AdoptReply: takes over the container of a shim that died
	VerbHandoff    Verb = "handoff"    // HandoffRequest -> nil; descriptors travel beside it (keeper only)
	VerbRelease    Verb = "release"    // ReleaseRequest -> nil: the keeper closes its copies (keeper only)
	VerbFetch      Verb = "fetch"      // FetchRequest -> FetchReply; descriptors travel beside it (keeper only)
	VerbCores      Verb = "cores"      // CoresRequest -> nil; a listening descriptor travels beside the answer (keeper only)
	VerbDelete     Verb = "delete"     // DeleteRequest -> nil: kills what is left, unmounts, removes cgroups and run-time state
	VerbShutdown   Verb = "shutdown"   // nil -> nil: the shim exits; refused while its container lives
)

// Request is one frame to a shim.
type Request struct {
	Verb Verb            `json:"verb"`
	Body json.RawMessage `json:"body,omitempty"`
}

// Response is one frame back. Error is nil on success.
type Response struct {
	Body  json.RawMessage `json:"body,omitempty"`
	Error *Error          `json:"error,omitempty"`
}

// ErrorKind lets the daemon map a shim's error to an errdefs kind and docker's exit codes.
type ErrorKind string

// The kinds of Error.
const (
	KindInvalid       ErrorKind = "invalid"       // the request makes no sense
	KindNotFound      ErrorKind = "notFound"      // no such exec, process gone
	KindConflict      ErrorKind = "conflict"      // wrong state (start twice, shutdown while running)
	KindFenced        ErrorKind = "fenced"        // the caller's generation is older than the last one seen
	KindUnsupported   ErrorKind = "unsupported"   // unknown verb, or this kernel cannot
	KindExecNotFound  ErrorKind = "execNotFound"  // the program does not exist: docker's 127
	KindNotExecutable ErrorKind = "notExecutable" // the program cannot be executed: docker's 126
	KindInternal      ErrorKind = "internal"
)

// Error is a refused or failed request.
type Error struct {
	Kind    ErrorKind `json:"kind"`
	Message string    `json:"message"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Hello opens a connection. Generation is the daemon's start counter, kept in its data root: a shim remembers the
// highest one seen and refuses mutating verbs on connections with a lower one (fencing of a stale daemon).
type Hello struct {
	Protocol   int    `json:"protocol"`
	Generation uint64 `json:"generation"`
	BootID     string `json:"bootID"`
	Instance   string `json:"instance"`
}

// HelloReply tells the daemon whom it talks to.
type HelloReply struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"` // build version of the shim binary
	Pid      int    `json:"pid"`
	// Container is the container this shim holds; nil while it waits in the pool.
	Container *triton.ContainerKey `json:"container,omitempty"`
	Run       int                  `json:"run,omitempty"`
}

// CreateRequest makes a container up to the point where its program can be executed.
type CreateRequest struct {
	Key triton.ContainerKey `json:"key"`
	Run int                 `json:"run"`
	// OCI is a runtime-spec config.json, complete but for the root path, which is RootfsPath.
	OCI json.RawMessage `json:"oci"`
	// CgroupPath is relative to every hierarchy's root. Its cgroup2 directory exists already, and keeps its inode.
	CgroupPath string `json:"cgroupPath"`
	// UserNS and NetNS are paths of pinned namespaces to join; empty: none of its own (host), or as OCI says.
	UserNS string         `json:"userNS,omitempty"`
	NetNS  string         `json:"netNS,omitempty"`
	IDs    triton.IDRange `json:"ids,omitzero"`
	Rootfs Rootfs         `json:"rootfs"`
	// RunDir is the shim's own folder for this container on tmpfs: libcontainer's state, the rootfs mount point.
	RunDir string `json:"runDir"`
	// ExitDir is where exit records are written, atomically, before anyone is told: exit.json, exec-ID.json.
	ExitDir string           `json:"exitDir"`
	LogPath string           `json:"logPath"` // empty: no log
	Log     triton.LogConfig `json:"log"`
	Stdio   Stdio            `json:"stdio"`
	// Keeper is the keeper's socket; copies of the descriptors go there before create answers.
	Keeper string `json:"keeper,omitempty"`
	// ExitMap is the bpffs path of the pinned exit map, for the exit status of an adopted process.
	ExitMap string `json:"exitMap,omitempty"`
}

// Rootfs describes the overlay that the shim mounts in the host's mount namespace.
type Rootfs struct {
	Lower []string `json:"lower"` // directories, topmost first; idmapped by CreateRequest.UserNS when IDs is set
	Upper string   `json:"upper"` // owned by shifted ids on disk
	Work  string   `json:"work"`
}

// Stdio says which descriptors a process gets.
type Stdio struct {
	TTY       bool    `json:"tty,omitempty"`
	Stdin     bool    `json:"stdin,omitempty"`     // false: /dev/null
	StdinOnce bool    `json:"stdinOnce,omitempty"` // the first attached stdin that ends closes it
	Size      [2]uint `json:"size,omitzero"`       // height, width of the terminal
}

// ProcessReply names the process that was made.
type ProcessReply struct {
	Pid int `json:"pid"` // in the host's pid namespace
	// StartTime is field 22 of /proc/PID/stat in clock ticks since boot: with Pid it names a process for good.
	StartTime uint64 `json:"startTime"`
}

// ExecRef names an exec of the container; an empty ID is the container's first process.
type ExecRef struct {
	ID string `json:"id,omitempty"`
}

// ExecRequest registers a further process. Process is the runtime-spec process object.
type ExecRequest struct {
	ID      string          `json:"id"`
	Process json.RawMessage `json:"process"`
	Stdio   Stdio           `json:"stdio"`
}

// StateReply is what the shim knows of its container.
type StateReply struct {
	Status    triton.Status       `json:"status"` // created (not started), running, paused, exited
	Pid       int                 `json:"pid"`
	StartTime uint64              `json:"startTime"`
	StartedAt time.Time           `json:"startedAt,omitzero"`
	Exit      *triton.ExitRecord  `json:"exit,omitempty"`
	Execs     []ExecState         `json:"execs,omitempty"`
	Adopted   bool                `json:"adopted,omitempty"`
	OOMKills  uint64              `json:"oomKills"`
	Log       LogState            `json:"log"`
	Forwarded relay.Stats         `json:"forwarded,omitzero"`
	Key       triton.ContainerKey `json:"key"`
	Run       int                 `json:"run"`
}

// ExecState is one exec that the shim holds.
type ExecState struct {
	ID   string             `json:"id"`
	Pid  int                `json:"pid,omitempty"` // 0: not started
	Exit *triton.ExitRecord `json:"exit,omitempty"`
}

// LogState counts what went to the log, and what could not (a full disk): nothing is dropped silently.
type LogState struct {
	Bytes        uint64 `json:"bytes"`
	Records      uint64 `json:"records"`
	DroppedBytes uint64 `json:"droppedBytes"`
	LastError    string `json:"lastError,omitempty"`
}

// SignalRequest sends a signal to a process, or to every process of the container.
type SignalRequest struct {
	ExecRef
	Signal int  `json:"signal"`
	All    bool `json:"all,omitempty"`
}

// DeadlineRequest makes the shim send Signal at the given time unless the process ended before. A second request
// replaces the first; a zero At cancels.
type DeadlineRequest struct {
	ExecRef
	Signal int       `json:"signal"`
	At     time.Time `json:"at"`
}

// UpdateRequest replaces the resource limits (runtime-spec LinuxResources).
type UpdateRequest struct {
	Resources json.RawMessage `json:"resources"`
}

// ResizeRequest sets a terminal's size in characters.
type ResizeRequest struct {
	ExecRef
	Height uint `json:"height"`
	Width  uint `json:"width"`
}

// AttachRequest turns the connection into a stream once its Response was sent.
//
// Shim to client: docker's stream frames (1 byte 1 stdout or 2 stderr, 3 zero bytes, 4 bytes big-endian length, payload),
// so that the daemon can copy them to a docker client as they are; with a TTY the raw bytes without frames. The shim
// closes the connection when the output ended. Delivery is lossless: a client that does not read stops the container's
// output once 1 MiB waits for it.
//
// Client to shim: a 4-byte big-endian length and that many bytes of stdin; length 0 means stdin ended. A connection
// that closes without it is a detach and leaves stdin open.
type AttachRequest struct {
	ExecRef
	Stdin  bool `json:"stdin,omitempty"`
	Stdout bool `json:"stdout,omitempty"`
	Stderr bool `json:"stderr,omitempty"`
	// AfterLog: the stream begins with what is not in the log yet, and an AttachReply says where that one ends.
	AfterLog bool `json:"afterLog,omitempty"`
}

// AttachReply answers an AttachRequest with AfterLog. A shim that knows no such thing, or keeps no log, answers nil.
type AttachReply struct {
	LogEnd triton.LogPlace `json:"logEnd"`
}

// ForwardRequest has the shim serve ports of the host in user space until its container ends: see package relay. A copy of
// each port's socket travels beside it, in order. A port that is served already is led to its new target. A shim that
// adopts the container must be asked anew: the sockets are not its predecessor's alone.
type ForwardRequest struct {
	Ports []ForwardedPort `json:"ports"`
}

// MaxForward bounds the ports of one ForwardRequest, so that their descriptors fit into a message.
const MaxForward = 200

// ForwardedPort is a port of the host and where it leads.
type ForwardedPort struct {
	Proto  string         `json:"proto"` // triton.ProtoTCP or ProtoUDP
	Host   netip.AddrPort `json:"host"`
	Target netip.AddrPort `json:"target,omitzero"` // zero: nowhere
}

// AdoptRequest tells an idle shim to take over a container whose shim died. Create is the request that made the
// container, from the copy its shim left in RunDir.
type AdoptRequest struct {
	Create CreateRequest `json:"create"`
	Pid    int           `json:"pid"`
	// StartTime guards against a reused pid.
	StartTime uint64 `json:"startTime"`
}

// AdoptReply says what was found.
type AdoptReply struct {
	// Exit is set when the process had ended: its record was written as if the first shim had done it.
	Exit *triton.ExitRecord `json:"exit,omitempty"`
	// LostStdio is true when the keeper had no descriptors: output since the shim's death is lost.
	LostStdio bool `json:"lostStdio,omitempty"`
}

// HandoffRequest gives the keeper copies of descriptors. FDs names the ones that follow as SCM_RIGHTS, in order.
type HandoffRequest struct {
	Key  triton.ContainerKey `json:"key"`
	Run  int                 `json:"run"`
	Exec string              `json:"exec,omitempty"`
	FDs  []string            `json:"fds"` // of stdout, stderr, pty, pidfd
}

// ReleaseRequest makes the keeper close what it holds for a run of a container, or for one exec of it.
type ReleaseRequest struct {
	Key  triton.ContainerKey `json:"key"`
	Run  int                 `json:"run"`
	Exec string              `json:"exec,omitempty"`
}

// FetchRequest asks the keeper for copies of everything it holds for a run of a container.
type FetchRequest struct {
	Key triton.ContainerKey `json:"key"`
	Run int                 `json:"run"`
}

// FetchReply names the descriptors that follow as SCM_RIGHTS, in order.
type FetchReply struct {
	FDs []HeldFD `json:"fds"`
}

// HeldFD is one descriptor the keeper holds.
type HeldFD struct {
	Exec string `json:"exec,omitempty"`
	Name string `json:"name"`
}

// DeleteRequest removes a container's run-time state. Force kills what still runs.
type DeleteRequest struct {
	Force bool `json:"force,omitempty"`
}

// CoresRequest asks the keeper for the socket that the kernel sends core dumps to. The keeper makes it at Path when it
// has none there, and keeps it: crashes wait in its backlog while no daemon lives. The connection that asked is the
// lease: when it has been gone for a minute, the keeper lets waiting crashes go without a dump. Drop closes the socket.
type CoresRequest struct {
	Path string `json:"path"`
	Drop bool   `json:"drop,omitempty"`
}
