package sched

import (
	"math"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// Node is what is fixed of a machine, or changes by an operator's word.
type Node struct {
	Name     string            `json:"name"`
	CPU      float64           `json:"cpu"`    // cores
	Memory   int64             `json:"memory"` // bytes
	Disk     int64             `json:"disk,omitempty"`
	Network  float64           `json:"network,omitempty"` // bytes per second of its link
	Labels   map[string]string `json:"labels,omitempty"`
	Taints   []string          `json:"taints,omitempty"` // only requests that tolerate all of them are placed
	Draining bool              `json:"draining,omitempty"`
	Images   []string          `json:"images,omitempty"`  // present, so that no pull is needed
	Volumes  []string          `json:"volumes,omitempty"` // local volumes
}

// Frame is one report of a node: means over the time Over that ended at Time.
type Frame struct {
	Node   string        `json:"node"`
	Time   time.Time     `json:"time"`
	Over   time.Duration `json:"over"`
	CPU    float64       `json:"cpu"`              // cores used, by containers and all else
	Memory int64         `json:"memory"`           // bytes of working sets
	Disk   int64         `json:"disk,omitempty"`   // bytes used
	Net    float64       `json:"net,omitempty"`    // bytes per second, the busier direction
	RunQ   time.Duration `json:"runq,omitempty"`   // p99 of the time a runnable thread waited for a CPU
	CPUPSI float64       `json:"cpuPSI,omitempty"` // share of time in which some task waited, 0 to 1
	MemPSI float64       `json:"memPSI,omitempty"`
	IOPSI  float64       `json:"ioPSI,omitempty"`
	// Acked is the highest sequence number (see Assign) of a container whose use is in this frame.
	Acked uint64 `json:"acked"`
	// Containers may hold only those that changed.
	Containers []ContainerUse `json:"containers,omitempty"`
}

// ContainerUse is what one container used in the time of its node's frame.
type ContainerUse struct {
	Key    triton.ContainerKey `json:"key"`
	CPU    float64             `json:"cpu"`    // cores
	Memory int64               `json:"memory"` // bytes
}

// Snapshot is what is known of a fleet. The zero Snapshot is not usable; see New.
type Snapshot struct {
	cfg     Config
	given   Config // as New got it
	now     time.Time
	hour    int64
	seed    uint64
	nodes   nodes
	history *History
	prior   population
	hasPop  bool
	margin  Margin

	byName      map[string]int32
	holes       []int32 // places of dropped nodes
	containers  map[triton.ContainerKey]*container
	images      map[string]int32 // interned
	imageNames  []string
	posting     map[string][]int32        // name, label or volume (see labelKey) -> nodes, ascending
	byContainer map[string][]*container   // tenant and name -> containers
	replicas    map[int32]map[int32]int32 // image -> node -> containers
	culprits    map[int32][]delay         // image -> whom it waits for
	victims     map[int32][]delay         // image -> who waits for it
	sensitive   map[int32]int32           // image -> latency-sensitive containers
	weights     [scorers]float32
	memZ        float32 // the normal quantile of MemoryRisk
	quotas      map[triton.Tenant]Quota
	used        map[triton.Tenant]*Quota
	seq         uint64
	crashed     bool // some image did somewhere of late
	index       index
}

// nodes is the struct of arrays. Position n of each slice, and n*Slots to (n+1)*Slots of the profiles, belong to node n.
// A node that is dropped leaves a hole, which the next new node takes.
type nodes struct {
	fixed []Node
	alive []bool
	cap   []float32 // cores
	mem   []float32 // MiB

	promised    []float64 // cores requested by what runs
	promisedMem []float64 // MiB
	mean        []float32 // predicted, per slot, cores
	vr          []float32 // predicted variance, per slot
	memMean     []float32 // predicted working sets, MiB
	memVar      []float32
	level       []float32 // predicted peak / capacity; what the index is ordered by

	fresh   []bool    // telemetry is not stale
	now     []float32 // measured CPU, smoothed, cores
	nowVar  []float32
	nowMem  []float32 // measured, MiB
	waiting []float32 // predicted CPU of containers no frame has confirmed yet
	waitMem []float32
	frame   []Frame  // the last one, without containers
	placed  []uint64 // sequence number of the last assignment

	run    [][]*container
	groups []map[int32]int32 // image -> containers
	ports  []map[Port]int32
	images []map[string]bool
	crash  []map[string]float64 // image -> crashes of the last days
	disk   []int64              // promised
	hash   []uint64             // decides between equals
}

// container is a placed request and what it is expected to use.
type container struct {
	req     Request
	node    int32
	at      int32 // place in the node's list
	image   int32
	seq     uint64
	waiting bool
	idle    bool // parked: it does not run
	own     ownUse
	load    load
}

// delay is one cell of the matrix of who delays whom.
type delay struct {
	image int32
	share float32
}

// New returns a snapshot of an empty fleet. history may be shared with its owner, who changes it only between decisions and
// calls Refresh after that; nil stands for none. seed decides ties.
func New(cfg Config, history *History, seed uint64) *Snapshot {
	if history == nil {
		history = NewHistory()
	}
	s := &Snapshot{cfg: cfg.withDefaults(), given: cfg, history: history, seed: seed,
		byName: map[string]int32{}, containers: map[triton.ContainerKey]*container{}, images: map[string]int32{},
		posting: map[string][]int32{}, byContainer: map[string][]*container{}, replicas: map[int32]map[int32]int32{},
		culprits: map[int32][]delay{}, victims: map[int32][]delay{}, sensitive: map[int32]int32{},
		quotas: map[triton.Tenant]Quota{}, used: map[triton.Tenant]*Quota{}}
	s.margin = Margin{N: s.cfg.Margin, Ease: 1}
	s.index = newIndex()
	s.weights = s.cfg.Scores.array()
	s.memZ = float32(math.Sqrt2 * math.Erfcinv(2*s.cfg.MemoryRisk))
	s.prior, s.hasPop = history.population()
	return s
}

// Len is the number of nodes.
func (s *Snapshot) Len() int { return len(s.byName) }

// Margin returns the state of the closed loop, so that an owner can persist it.
func (s *Snapshot) Margin() Margin { return s.margin }

// SetMargin restores a persisted state of the closed loop.
func (s *Snapshot) SetMargin(m Margin) { s.margin = m.bounded(s.cfg) }

// Where returns the node a container was assigned to.
func (s *Snapshot) Where(key triton.ContainerKey) (node string, ok bool) {
	c := s.containers[key]
	if c == nil {
		return "", false
	}
	return s.nodes.fixed[c.node].Name, true
}

// Seen returns what a container's own samples say. False: there are none.
func (s *Snapshot) Seen(key triton.ContainerKey) (Own, bool) {
	c := s.containers[key]
	if c == nil || c.own.samples == 0 {
		return Own{}, false
	}
	return c.own.record(), true
}

// intern returns the number of an image, giving it one if add is set; -1 where it has none.
func (s *Snapshot) intern(image string, add bool) int32 {
	id, ok := s.images[image]
	switch {
	case ok:
		return id
	case !add:
		return -1
	}
	id = int32(len(s.imageNames))
	s.images[image] = id
	s.imageNames = append(s.imageNames, image)
	return id
}
