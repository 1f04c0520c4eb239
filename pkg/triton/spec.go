package triton

import "time"

// Spec is what a user wants to run, after the image's defaults were merged in. It is intent: nothing in it changes
// because the container runs or dies. Zero values mean docker's default.
type Spec struct {
	Image   string `json:"image"`   // the reference as the user gave it
	ImageID string `json:"imageID"` // what it resolved to at create, "sha256:…"

	Entrypoint  []string          `json:"entrypoint,omitempty"`
	Cmd         []string          `json:"cmd,omitempty"`
	Env         []string          `json:"env,omitempty"` // KEY=VALUE
	WorkingDir  string            `json:"workingDir,omitempty"`
	User        string            `json:"user,omitempty"` // name|uid[:group|gid]
	GroupAdd    []string          `json:"groupAdd,omitempty"`
	Hostname    string            `json:"hostname,omitempty"`
	Domainname  string            `json:"domainname,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	StopSignal  string            `json:"stopSignal,omitempty"`
	StopTimeout *int              `json:"stopTimeout,omitempty"` // seconds; nil: 10
	// ExposedPorts ("80/tcp") is shown by inspect; with PublishAll each is published on a free port.
	ExposedPorts []string      `json:"exposedPorts,omitempty"`
	Ports        []PortRequest `json:"ports,omitempty"`
	PublishAll   bool          `json:"publishAll,omitempty"`
	// Networks are the users' networks to join at first; the one that NetworkMode names comes first.
	Networks []Membership `json:"networks,omitempty"`
	// BridgePriority is the default network's priority for the default route.
	BridgePriority int `json:"bridgePriority,omitempty"`
	// BridgeMAC is the address of the interface in the default network; "": derived from the address.
	BridgeMAC string `json:"bridgeMAC,omitempty"`
	// NetworkDisabled is shown only: NetworkMode is none then.
	NetworkDisabled bool `json:"networkDisabled,omitempty"`
	// Links are those of the default network: container:alias, by id.
	Links []string `json:"links,omitempty"`
	// Volumes are the VOLUME paths of the image, and those that the user named without a volume. Each that no mount covers
	// gets an anonymous volume.
	Volumes []string `json:"volumes,omitempty"`
	// VolumesFrom are the containers whose mounts are taken over at create, as the user named them: NAME[:MODE].
	VolumesFrom []string     `json:"volumesFrom,omitempty"`
	Healthcheck *Healthcheck `json:"healthcheck,omitempty"` // nil: none
	Shell       []string     `json:"shell,omitempty"`       // of health checks; nil: /bin/sh -c

	TTY          bool    `json:"tty,omitempty"`
	ConsoleSize  [2]uint `json:"consoleSize,omitzero"` // height, width
	OpenStdin    bool    `json:"openStdin,omitempty"`
	StdinOnce    bool    `json:"stdinOnce,omitempty"`
	AttachStdin  bool    `json:"attachStdin,omitempty"`
	AttachStdout bool    `json:"attachStdout,omitempty"`
	AttachStderr bool    `json:"attachStderr,omitempty"`

	Init          bool          `json:"init,omitempty"` // an init of triton's is the first process, the program its child
	AutoRemove    bool          `json:"autoRemove,omitempty"`
	RestartPolicy RestartPolicy `json:"restartPolicy,omitzero"`
	// ContainerIDFile is where the client wrote the id; inspect shows it.
	ContainerIDFile string    `json:"containerIDFile,omitempty"`
	Log             LogConfig `json:"log"`

	NetworkMode  string   `json:"networkMode,omitempty"` // bridge (also "" and default), none, host, container:ID, a user's network
	PidMode      string   `json:"pidMode,omitempty"`     // "", host, container:ID
	IpcMode      string   `json:"ipcMode,omitempty"`     // "", none, private, shareable, host, container:ID
	UTSMode      string   `json:"utsMode,omitempty"`     // "", host
	UsernsMode   string   `json:"usernsMode,omitempty"`  // "" or private, host
	CgroupnsMode string   `json:"cgroupnsMode,omitempty"`
	DNS          []string `json:"dns,omitempty"`
	DNSSearch    []string `json:"dnsSearch,omitempty"`
	DNSOptions   []string `json:"dnsOptions,omitempty"`
	ExtraHosts   []string `json:"extraHosts,omitempty"` // name:address

	Privileged      bool              `json:"privileged,omitempty"`
	CapAdd          []string          `json:"capAdd,omitempty"`
	CapDrop         []string          `json:"capDrop,omitempty"`
	NoNewPrivileges bool              `json:"noNewPrivileges,omitempty"`
	Seccomp         string            `json:"seccomp,omitempty"` // "": default profile, unconfined, or a profile's JSON
	SecurityOpt     []string          `json:"securityOpt,omitempty"`
	ReadonlyRootfs  bool              `json:"readonlyRootfs,omitempty"`
	MaskedPaths     *[]string         `json:"maskedPaths,omitempty"`   // nil: docker's list
	ReadonlyPaths   *[]string         `json:"readonlyPaths,omitempty"` // nil: docker's list
	Mounts          []Mount           `json:"mounts,omitempty"`
	Devices         []Device          `json:"devices,omitempty"`
	DeviceRules     []DeviceRule      `json:"deviceRules,omitempty"`
	BlockLimits     []BlockLimit      `json:"blockLimits,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"` // of the OCI configuration; shown only
	Sysctls         map[string]string `json:"sysctls,omitempty"`
	ShmSize         int64             `json:"shmSize,omitempty"` // bytes; 0: 64 MiB
	Resources       Resources         `json:"resources,omitzero"`
	Ulimits         []Ulimit          `json:"ulimits,omitempty"`
	OomScoreAdj     int               `json:"oomScoreAdj,omitempty"`
}

// Argv is what the container executes: entrypoint, then command.
func (s *Spec) Argv() []string {
	argv := make([]string, 0, len(s.Entrypoint)+len(s.Cmd))
	return append(append(argv, s.Entrypoint...), s.Cmd...)
}

// UserNamespace reports whether the container gets a user namespace of its own (or joins another container's).
// Privileged containers and those in a namespace of the host cannot: what such a namespace guards is owned by the host's root.
func (s *Spec) UserNamespace() bool {
	return !s.Privileged && s.UsernsMode != ModeHost && s.NetworkMode != ModeHost &&
		s.PidMode != ModeHost && s.IpcMode != ModeHost
}

// Names of namespace and network modes, as docker spells them.
const (
	ModeHost      = "host"
	ModeNone      = "none"
	ModeBridge    = "bridge"
	ModeDefault   = "default"
	ModePrivate   = "private"
	ModeShareable = "shareable"
	// ContainerModePrefix comes before the id of the container whose namespace is joined.
	ContainerModePrefix = "container:"
)

// SeccompUnconfined is the value of Spec.Seccomp that asks for no filter.
const SeccompUnconfined = "unconfined"

// LogConfig says where a container's output is kept.
type LogConfig struct {
	Driver  string `json:"driver"`            // json-file, local or none
	MaxSize int64  `json:"maxSize,omitempty"` // bytes before rotation; 0: never
	MaxFile int    `json:"maxFile,omitempty"` // files kept, the current one included; 0: 1
	// Compress says that files are compressed when they are rotated.
	Compress bool `json:"compress,omitempty"`
	// Options are the driver's options as the user gave them, for inspect.
	Options map[string]string `json:"options,omitempty"`
}

// Names of log drivers.
const (
	LogJSONFile = "json-file"
	LogLocal    = "local" // json-file with other defaults: LocalMaxSize, LocalMaxFile, compressed
	LogNone     = "none"
)

// What docker's driver local keeps unless told otherwise.
const (
	LocalMaxSize = 20 << 20 // bytes
	LocalMaxFile = 5
)

// MountType says what a Mount shows.
type MountType string

// The kinds of Mount.
const (
	MountBind   MountType = "bind"
	MountTmpfs  MountType = "tmpfs"
	MountVolume MountType = "volume"
	MountImage  MountType = "image"
)

// Mount is one file system the user asked for inside the container.
type Mount struct {
	Type        MountType `json:"type"`
	Source      string    `json:"source,omitempty"` // host path of a bind mount, name of a volume or of an image
	Target      string    `json:"target"`           // absolute path in the container
	ReadOnly    bool      `json:"readOnly,omitempty"`
	Propagation string    `json:"propagation,omitempty"` // "": rprivate
	// NonRecursive leaves out the mounts below Source.
	NonRecursive bool `json:"nonRecursive,omitempty"`
	// ReadOnlyTop leaves mounts below a ReadOnly Source as they are; else they are read-only as well.
	ReadOnlyTop bool `json:"readOnlyTop,omitempty"`
	// ReadOnlyAll asks for the default of a ReadOnly Source by name; for inspect.
	ReadOnlyAll bool `json:"readOnlyAll,omitempty"`
	// CreateSource makes a missing Source as a directory, as docker's -v does and --mount does not.
	CreateSource bool `json:"createSource,omitempty"`
	// Options are extra mount options of a tmpfs, such as noexec or size=64m.
	Options []string `json:"options,omitempty"`
	// Bind is the -v string the mount came from, for inspect; empty for --mount and --tmpfs.
	Bind string `json:"bind,omitempty"`
	// Asked is the --mount request of a tmpfs or volume as JSON, for inspect; empty for --tmpfs.
	Asked string `json:"asked,omitempty"`
	// Anonymous says that a volume's name was made up for this mount: it goes with the container, where that is asked.
	Anonymous bool `json:"anonymous,omitempty"`
	// NoCopy leaves an empty volume empty; else it gets what the image has at Target.
	NoCopy bool `json:"noCopy,omitempty"`
	// ImageID is the image that Source meant when the container was made. Nothing is ever written to an image's mount.
	ImageID string `json:"imageID,omitempty"`
	// Subpath is the part of a volume or image that is shown: relative, below its top, where no link leads out of it.
	Subpath string `json:"subpath,omitempty"`
	// Volume is what to make a volume of that is not there yet.
	Volume *VolumeSpec `json:"volume,omitempty"`
	// Inherited mounts are those of another container, by VolumesFrom.
	Inherited bool `json:"inherited,omitempty"`
	// Declared mounts are for a VOLUME of the image, or for a path that the user named without a volume.
	Declared bool `json:"declared,omitempty"`
}

// Device is a host device node shown in the container.
type Device struct {
	HostPath      string `json:"hostPath"`
	ContainerPath string `json:"containerPath"`
	Permissions   string `json:"permissions"` // of r, w, m
}

// DeviceRule allows the use of devices that are not Devices. It does not show them.
type DeviceRule struct {
	Type        string `json:"type"`            // c, b, or a for both
	Major       *int64 `json:"major,omitempty"` // nil: any
	Minor       *int64 `json:"minor,omitempty"` // nil: any
	Permissions string `json:"permissions"`     // of r, w, m
}

// BlockLimit bounds the I/O on one block device.
type BlockLimit struct {
	Kind  BlockLimitKind `json:"kind"`
	Path  string         `json:"path"` // of the device on the host
	Value uint64         `json:"value"`
}

// BlockLimitKind says what a BlockLimit's value is.
type BlockLimitKind string

// The kinds of BlockLimit: a weight of 10 to 1000, bytes a second, operations a second.
const (
	BlockWeight    BlockLimitKind = "weight"
	BlockReadBps   BlockLimitKind = "readBps"
	BlockWriteBps  BlockLimitKind = "writeBps"
	BlockReadIOps  BlockLimitKind = "readIOps"
	BlockWriteIOps BlockLimitKind = "writeIOps"
)

// Resources are limits. Zero means none, except where noted.
type Resources struct {
	Memory            int64  `json:"memory,omitempty"`            // bytes
	MemoryReservation int64  `json:"memoryReservation,omitempty"` // bytes
	MemorySwap        int64  `json:"memorySwap,omitempty"`        // bytes of memory and swap together; -1: unlimited swap
	MemorySwappiness  *int64 `json:"memorySwappiness,omitempty"`  // 0 to 100; nil: the machine's
	OomKillDisable    bool   `json:"oomKillDisable,omitempty"`
	NanoCPUs          int64  `json:"nanoCPUs,omitempty"`  // 1e9 is one core
	CPUShares         int64  `json:"cpuShares,omitempty"` // relative, 0: 1024
	CPUPeriod         int64  `json:"cpuPeriod,omitempty"` // microseconds
	CPUQuota          int64  `json:"cpuQuota,omitempty"`  // microseconds per period
	CpusetCPUs        string `json:"cpusetCpus,omitempty"`
	CpusetMems        string `json:"cpusetMems,omitempty"`
	PidsLimit         int64  `json:"pidsLimit,omitempty"` // 0 and -1: none
	BlkioWeight       uint16 `json:"blkioWeight,omitempty"`
}

// Ulimit is a resource limit of the first process, by the name docker uses ("nofile").
type Ulimit struct {
	Name string `json:"name"`
	Soft int64  `json:"soft"` // -1: unlimited
	Hard int64  `json:"hard"`
}

// IDRange is the block of host user and group ids that ids 0 to Size-1 of a user namespace map to.
// The zero IDRange means no user namespace: ids are the host's.
type IDRange struct {
	Base uint32 `json:"base"`
	Size uint32 `json:"size"`
}

// IsZero reports whether r stands for the host's own ids.
func (r IDRange) IsZero() bool { return r == IDRange{} }

// DefaultStopTimeout is how long a container may take to end after its stop signal, as in docker.
const DefaultStopTimeout = 10 * time.Second
