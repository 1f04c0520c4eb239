package triton

import "time"

// Container is everything known of one container at a moment: intent and state side by side.
// Docker's JSON is computed from it, never stored.
type Container struct {
	Key     ContainerKey
	Name    string // without docker's leading slash
	Created time.Time
	Spec    Spec
	State   State
	// Health is nil for a container without probes, or before its first start. It is never changed, but replaced.
	Health  *Health
	Network Endpoint
	// Networks are those besides the default one, as intended; Attached as they are while the container runs.
	Networks []Membership
	Attached []Attachment
	// Published are the ports of the host that lead to the container; none while it does not run.
	Published []PublishedPort
	IDs       IDRange // zero: host ids
	// VolumeSources are where the volumes that it mounts are on this machine, by name.
	VolumeSources map[string]string
	LogPath       string
	DataDir       string
	// Cgroup is the path below each hierarchy's root.
	Cgroup string
	// Usage is the last reading; nil when none is known or none was asked for.
	Usage *Usage
	// ExecIDs are the execs that still run.
	ExecIDs []string
}

// Endpoint is a container's place in its network. The zero Endpoint means none of its own (host, none, container:X).
type Endpoint struct {
	Network string `json:"network,omitempty"` // bridge
	Address string `json:"address,omitempty"` // 172.30.0.2/16
	Gateway string `json:"gateway,omitempty"`
	MAC     string `json:"mac,omitempty"`
	// HostLink is the name of the host's end of the veth pair.
	HostLink string `json:"hostLink,omitempty"`
	// UserNS and NetNS are the paths of the pinned namespaces; empty where the container has none of its own.
	UserNS string `json:"userNS,omitempty"`
	NetNS  string `json:"netNS,omitempty"`
	// Slot is the pool index of the namespace pair; it determines the id range. -1: no pair.
	Slot int     `json:"slot"`
	IDs  IDRange `json:"ids,omitzero"`
}

// WaitCondition says which end of a container a caller waits for.
type WaitCondition string

// Docker's wait conditions.
const (
	WaitNotRunning WaitCondition = "not-running"
	WaitNextExit   WaitCondition = "next-exit"
	WaitRemoved    WaitCondition = "removed"
)

// AttachOptions say which streams of a process a client wants.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	// AfterLog: the output begins with the first byte that is not in the log yet, and where that is, is known.
	AfterLog bool
}

// LogPlace is the end of a log at a moment: in which file, by the inode that it has or had before it was compressed, and at which
// byte. The zero LogPlace is the end of an empty log.
type LogPlace struct {
	Ino uint64 `json:"ino"`
	// Generation tells files apart that had the inode number after one another; 0: not known.
	Generation uint64 `json:"generation,omitzero"`
	Offset     int64  `json:"offset"`
}

// ExecKey identifies an exec of a container.
type ExecKey struct {
	Container ContainerKey
	ID        string
}

// ExecSpec is a further process to run in a container.
type ExecSpec struct {
	Argv       []string
	Env        []string
	WorkingDir string
	User       string
	TTY        bool
	Stdin      bool // attach stdin
	Stdout     bool
	Stderr     bool
	Privileged bool
	// ConsoleSize is height, width in characters; zero: the terminal's default.
	ConsoleSize [2]uint
	DetachKeys  string
}

// Exec is what is known of an exec.
type Exec struct {
	Key      ExecKey
	Spec     ExecSpec
	Running  bool
	Pid      int
	ExitCode *int // nil: not ended
}

// LogOptions select records of a container's log.
type LogOptions struct {
	Stdout, Stderr bool
	Since, Until   time.Time // zero: no bound
	Tail           int       // last n lines; -1: all
	UpTo           *LogPlace // nothing that came later; nil: no bound. Not with Tail or Follow
	Follow         bool      // until the container ends
	// Opened is called once, before the first record: from then on the log is read to its end, though the container is removed meanwhile.
	// Its error ends the reading; nil: nobody asks.
	Opened func() error
}

// LogRecord is one record of a container's log: a line with its newline, or a part of a long line.
type LogRecord struct {
	Stream string // stdout or stderr
	Time   time.Time
	Line   []byte // valid until the callback returns
}

// Image is one image of a tenant.
type Image struct {
	ID           string   // config digest, "sha256:…": docker's image id
	Target       string   // manifest digest
	RepoTags     []string // familiar names with tag
	RepoDigests  []string
	Created      time.Time
	Size         int64 // bytes, unpacked layers and content as docker reports them
	Architecture string
	OS           string
	Variant      string
	Author       string
	Comment      string
	Parent       string
	Labels       map[string]string
	Config       ImageConfig
	DiffIDs      []string
}

// NodeInfo describes this machine and daemon, for docker info and version.
type NodeInfo struct {
	Name, ID, Instance         string
	Version, Commit, BuildTime string
	KernelVersion              string
	OperatingSystem, OSVersion string
	Architecture               string
	NCPU                       int
	MemTotal                   int64 // bytes
	CgroupVersion              string
	CgroupDriver               string
	DataRoot                   string
	StorageDriver              string
	Running, Paused, Stopped   int
	Images                     int
	Warnings                   []string
	SecurityOptions            []string
	SystemTime                 time.Time
	Started                    time.Time
	RuncVersion                string
	ContainerdVersion          string

	// What containers can be limited in here.
	MemoryLimit, SwapLimit, CPULimit, CPUSet, PidsLimit bool
	IPv4Forwarding                                      bool
	// InsecureRegistries are hosts and networks whose registries need no certificate.
	InsecureRegistries []string
	// Labels are the operator's, KEY=VALUE.
	Labels []string
}
