package runtime

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tritond/triton/pkg/triton"
)

const (
	// minMemory is docker's smallest memory limit in bytes: less does not start a process.
	minMemory = 6 << 20
	// cfsPeriod is the period in microseconds that --cpus is expressed in; the kernel's default.
	cfsPeriod = 100_000
)

// resources sets the limits beside the device rules.
func (b *builder) resources() error {
	r, warnings, err := Resources(b.c.Resources, b.in.Limits)
	if err != nil {
		return err
	}
	r.Devices = b.s.Linux.Resources.Devices
	b.s.Linux.Resources = r
	if err := b.blockLimits(); err != nil {
		return err
	}
	b.warnings = append(b.warnings, warnings...)
	return nil
}

// Resources turns limits into those of the OCI configuration, for create and for update; the same rules and words as
// dockerd's, except that a weight for block I/O which the kernel cannot apply is refused. On cgroup2 the runtime library
// converts shares to weights. Warnings say what this machine cannot give.
func Resources(r triton.Resources, lim Limits) (*specs.LinuxResources, []string, error) {
	if err := checkMemory(r); err != nil {
		return nil, nil, err
	}
	if err := checkCPU(r, lim); err != nil {
		return nil, nil, err
	}
	if r.BlkioWeight != 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000) {
		return nil, nil, invalid("range of blkio weight is from 10 to 1000")
	}
	if r.BlkioWeight != 0 && !lim.BlkioWeight {
		return nil, nil, invalid("block I/O weight: the kernel of this machine has no I/O scheduler with weights")
	}
	if r.PidsLimit < -1 {
		return nil, nil, invalid("invalid pids limit %d", r.PidsLimit)
	}
	out := &specs.LinuxResources{CPU: cpuResources(r)}
	var warnings []string
	out.Memory, warnings = memoryResources(r, lim)
	if r.PidsLimit != 0 {
		out.Pids = &specs.LinuxPids{Limit: &r.PidsLimit}
	}
	if r.BlkioWeight != 0 {
		out.BlockIO = &specs.LinuxBlockIO{Weight: &r.BlkioWeight}
	}
	return out, warnings, nil
}

func checkMemory(r triton.Resources) error {
	switch {
	case r.Memory < 0 || r.MemoryReservation < 0:
		return invalid("memory limits must not be negative")
	case r.Memory != 0 && r.Memory < minMemory:
		return invalid("Minimum memory limit allowed is 6MB")
	case r.MemorySwap < -1:
		return invalid("invalid memory swap limit %d", r.MemorySwap)
	case r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
	case r.Memory == 0 && r.MemorySwap > 0:
		return invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
	case r.MemoryReservation > 0 && r.MemoryReservation < minMemory:
		return invalid("Minimum memory reservation allowed is 6MB")
	case r.MemorySwappiness != nil && (*r.MemorySwappiness < 0 || *r.MemorySwappiness > 100):
		return invalid("Invalid value: %d, valid memory swappiness range is 0-100", *r.MemorySwappiness)
	case r.Memory > 0 && r.Memory < r.MemoryReservation:
		return invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	return nil
}

func checkCPU(r triton.Resources, lim Limits) error {
	switch {
	case r.NanoCPUs > 0 && r.CPUPeriod > 0:
		return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	case r.NanoCPUs > 0 && r.CPUQuota > 0:
		return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	case r.NanoCPUs < 0 || lim.CPUs > 0 && r.NanoCPUs > int64(lim.CPUs)*1e9:
		return invalid("range of CPUs is from 0.01 to %[1]d.00, as there are only %[1]d CPUs available", lim.CPUs)
	case r.NanoCPUs > 0 && r.NanoCPUs < 1e7:
		return invalid("range of CPUs is from 0.01 to %[1]d.00, as there are only %[1]d CPUs available", lim.CPUs)
	case r.CPUShares < 0:
		return invalid("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1000000):
		return invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case r.CPUQuota > 0 && r.CPUQuota < 1000:
		return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	}
	if err := checkList("cpuset cpus", "CPUs", r.CpusetCPUs, lim.CpusetCPUs); err != nil {
		return err
	}
	return checkList("cpuset mems", "memory nodes", r.CpusetMems, lim.CpusetMems)
}

// checkList refuses a list ("0-2,7") that is malformed or not part of what is available (empty: unknown).
func checkList(what, things, wanted, available string) error {
	if wanted == "" {
		return nil
	}
	want, err := parseList(wanted)
	if err != nil {
		return invalid("Invalid value %s for %s: invalid format: %s", wanted, what, wanted)
	}
	have, err := parseList(available)
	known := err == nil && available != ""
	for n := range want {
		if known && !have[n] {
			return invalid("Requested %s are not available - requested %s, available: %s", things, wanted, available)
		}
	}
	return nil
}

func cpuResources(r triton.Resources) *specs.LinuxCPU {
	cpu := specs.LinuxCPU{Cpus: r.CpusetCPUs, Mems: r.CpusetMems}
	if r.CPUShares != 0 {
		v := uint64(r.CPUShares)
		cpu.Shares = &v
	}
	if r.NanoCPUs > 0 {
		period, quota := uint64(cfsPeriod), r.NanoCPUs*cfsPeriod/1e9
		cpu.Period, cpu.Quota = &period, &quota
	}
	if r.CPUPeriod != 0 {
		v := uint64(r.CPUPeriod)
		cpu.Period = &v
	}
	if r.CPUQuota != 0 {
		cpu.Quota = &r.CPUQuota
	}
	if cpu == (specs.LinuxCPU{}) {
		return nil
	}
	return &cpu
}

// memoryResources: as in docker a container with a memory limit may use as much swap again unless it says otherwise.
func memoryResources(r triton.Resources, lim Limits) (*specs.LinuxMemory, []string) {
	var m specs.LinuxMemory
	var warnings []string
	if r.Memory > 0 {
		m.Limit = &r.Memory
	}
	if r.MemoryReservation > 0 {
		m.Reservation = &r.MemoryReservation
	}
	swap := r.MemorySwap
	if r.Memory > 0 && swap == 0 {
		swap = 2 * r.Memory
	}
	switch {
	case swap == 0:
	case lim.SwapLimit:
		m.Swap = &swap
	case r.MemorySwap > 0:
		warnings = append(warnings, "memory swap: the kernel of this machine cannot limit swap; memory is limited without it")
	}
	if r.MemorySwappiness != nil {
		if lim.Swappiness {
			swappiness := uint64(*r.MemorySwappiness)
			m.Swappiness = &swappiness
		} else {
			warnings = append(warnings, "memory swappiness: cgroup2 has no such setting; it is left out")
		}
	}
	if r.OomKillDisable {
		if lim.OomKillDisable {
			m.DisableOOMKiller = &r.OomKillDisable
		} else {
			warnings = append(warnings, "oom kill disable: cgroup2 has no such switch; it is left out")
		}
	}
	if m == (specs.LinuxMemory{}) {
		return nil, warnings
	}
	return &m, warnings
}

// maxListed bounds the numbers of a cpu or node list, so that a range of billions is refused and not expanded.
const maxListed = 1 << 16

// parseList reads the kernel's list format (cpuset(7)); the empty list is an empty set.
func parseList(s string) (map[int]bool, error) {
	set := map[int]bool{}
	if s == "" {
		return set, nil
	}
	for _, part := range strings.Split(strings.TrimSpace(s), ",") {
		first, last, isRange := strings.Cut(part, "-")
		lo, err := strconv.Atoi(first)
		if err != nil {
			return nil, err
		}
		hi := lo
		if isRange {
			if hi, err = strconv.Atoi(last); err != nil {
				return nil, err
			}
		}
		if lo < 0 || hi < lo || hi >= maxListed {
			return nil, fmt.Errorf("bad range %s", part)
		}
		for n := lo; n <= hi; n++ {
			set[n] = true
		}
	}
	return set, nil
}
