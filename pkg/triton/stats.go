package triton

// Stats is one reading of all that docker stats shows of a running container. Counters only grow during a run.
type Stats struct {
	Usage Usage
	// HostCPU is the time that all processors of the machine have spent since boot, idle or not, in nanoseconds: what a
	// share of processor time is a share of.
	HostCPU    uint64
	OnlineCPUs int
	HostMemory uint64   // bytes of the machine: what stands for a limit where there is none
	PerCPU     []uint64 // nanoseconds by processor; nil where the kernel does not say
	// MemoryStat are the fields of the cgroup's memory.stat. Their names tell cgroup v1 (total_inactive_file) from v2.
	MemoryStat  map[string]uint64
	MemoryFails uint64 // how often the limit was hit
	BlockBytes  []BlockIO
	BlockOps    []BlockIO
	// Networks are the interfaces of the container's network namespace, without lo; nil where it uses the host's.
	Networks map[string]InterfaceStats
}

// BlockIO is what a container read from or wrote to one block device.
type BlockIO struct {
	Major, Minor uint64
	Op           string // read, write, sync, async, discard or total
	Value        uint64 // bytes or operations
}

// InterfaceStats are the counters of one network interface, as the container sees the directions.
type InterfaceStats struct {
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// ProcessTable is what ps printed of a container's processes.
type ProcessTable struct {
	Titles    []string
	Processes [][]string
}
