package triton

import "time"

// Usage is what a container has used since its start, read from its cgroups at Time. Counters only grow.
type Usage struct {
	Time time.Time `json:"time"`

	CPUTotal         time.Duration `json:"cpuTotal"`
	CPUUser          time.Duration `json:"cpuUser"`
	CPUSystem        time.Duration `json:"cpuSystem"`
	CPUPeriods       uint64        `json:"cpuPeriods"`
	CPUThrottled     uint64        `json:"cpuThrottled"` // periods
	CPUThrottledTime time.Duration `json:"cpuThrottledTime"`

	MemoryUsage      uint64 `json:"memoryUsage"`      // bytes, caches included
	MemoryWorkingSet uint64 `json:"memoryWorkingSet"` // usage less inactive file pages, as cAdvisor defines it
	MemoryRSS        uint64 `json:"memoryRSS"`
	MemoryCache      uint64 `json:"memoryCache"`
	MemoryPeak       uint64 `json:"memoryPeak"`
	MemoryLimit      uint64 `json:"memoryLimit"` // 0: none
	OOMKills         uint64 `json:"oomKills"`

	Pids      uint64 `json:"pids"`
	PidsLimit uint64 `json:"pidsLimit"` // 0: none

	Pressure Pressure `json:"pressure"`
}

// Pressure is the kernel's pressure stall information of one cgroup: how long tasks waited for a resource.
// Some: at least one task waited; Full: all did. CPU Full is 0 outside the root's children on old kernels.
type Pressure struct {
	CPUSome, CPUFull       time.Duration
	MemorySome, MemoryFull time.Duration
	IOSome, IOFull         time.Duration
}

// UsageDetail is what windows do not keep of a reading, and exporters want.
type UsageDetail struct {
	Processes       uint64 // with an own address space; Usage.Pids counts threads
	MemorySwap      uint64 // bytes
	PageFaults      uint64
	MajorPageFaults uint64 // those that waited for a disk
}

// NetworkUsage is what passed the interfaces of a container's own network namespace, the loopback excepted. It is zero
// for a container that has none of its own.
type NetworkUsage struct {
	RxBytes, RxPackets, RxDropped uint64
	TxBytes, TxPackets, TxDropped uint64
}

// BlockUsage is what devices completed of a container's requests.
type BlockUsage struct {
	Reads, Writes         uint64 // requests
	ReadBytes, WriteBytes uint64
}

// Sample is one reading of a container while it ran, as records of its end keep it. Counters are since its start.
type Sample struct {
	At         time.Time     `json:"at"`
	CPU        time.Duration `json:"cpuNs"`
	RunQueue   time.Duration `json:"runQueueNs"` // waited for a CPU
	Memory     uint64        `json:"memory"`     // bytes, the working set
	Pids       uint64        `json:"pids"`
	Syscalls   uint64        `json:"syscalls"`
	Errors     uint64        `json:"errors"` // of system calls
	RxBytes    uint64        `json:"rxBytes"`
	TxBytes    uint64        `json:"txBytes"`
	ReadBytes  uint64        `json:"readBytes"`
	WriteBytes uint64        `json:"writeBytes"`
}
