package shim

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// update changes the limits that req sets and leaves the others. Device rules are not touched.
func (c *container) update(req UpdateRequest) error {
	var r specs.LinuxResources
	if err := json.Unmarshal(req.Resources, &r); err != nil {
		return invalid("update: resources: %v", err)
	}
	c.steps.Lock()
	defer c.steps.Unlock()
	if c.init.ended() != nil {
		return conflict("container is not running")
	}
	cfg := c.lc.Config()
	group := *cfg.Cgroups
	limits := *group.Resources
	applyCPU(&limits, r.CPU)
	applyMemory(&limits, r.Memory)
	if r.Pids != nil && r.Pids.Limit != nil {
		limits.PidsLimit = r.Pids.Limit
	}
	if r.BlockIO != nil && r.BlockIO.Weight != nil {
		limits.BlkioWeight = *r.BlockIO.Weight
	}
	if len(r.Unified) > 0 {
		limits.Unified = r.Unified
	}
	limits.SkipDevices = true
	group.Resources = &limits
	cfg.Cgroups = &group
	err := c.lc.Set(cfg)
	limits.SkipDevices = false // libcontainer keeps the value by reference, and starts no exec while it says this
	if err != nil {
		return fmt.Errorf("update limits: %w", err)
	}
	return nil
}

func applyCPU(to *cgroups.Resources, r *specs.LinuxCPU) {
	if r == nil {
		return
	}
	set(&to.CpuQuota, r.Quota)
	set(&to.CpuPeriod, r.Period)
	set(&to.CpuRtPeriod, r.RealtimePeriod)
	set(&to.CpuRtRuntime, r.RealtimeRuntime)
	if r.Burst != nil {
		to.CpuBurst = r.Burst
	}
	if r.Shares != nil {
		to.CpuShares = *r.Shares
		to.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(*r.Shares)
	}
	if r.Cpus != "" {
		to.CpusetCpus = r.Cpus
	}
	if r.Mems != "" {
		to.CpusetMems = r.Mems
	}
}

func applyMemory(to *cgroups.Resources, r *specs.LinuxMemory) {
	if r == nil {
		return
	}
	set(&to.Memory, r.Limit)
	set(&to.MemoryReservation, r.Reservation)
	set(&to.MemorySwap, r.Swap)
	if r.Limit != nil && *r.Limit == -1 && r.Swap == nil {
		to.MemorySwap = 0 // a swap limit cannot stand without a memory limit
	}
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}
