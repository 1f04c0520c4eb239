package triton

import "errors"

// Update is what docker update changes of a container. Of Resources what is zero stays as it is.
type Update struct {
	Resources Resources
	// PidsLimit is there besides Resources because 0 and -1 take the limit away; nil: it stays.
	PidsLimit     *int64
	RestartPolicy *RestartPolicy // nil: it stays
}

// Apply returns a specification's limits and policy with the changes made, or docker's reason why they do not go together
// with what the container has. It does not look at the values themselves.
func (u *Update) Apply(s *Spec) (Resources, RestartPolicy, error) {
	r, n := s.Resources, &u.Resources
	conflict := ""
	switch {
	case n.NanoCPUs > 0 && r.CPUPeriod > 0:
		conflict = "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"
	case n.NanoCPUs > 0 && r.CPUQuota > 0:
		conflict = "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set"
	case n.CPUPeriod > 0 && r.NanoCPUs > 0:
		conflict = "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"
	case n.CPUQuota > 0 && r.NanoCPUs > 0:
		conflict = "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"
	case n.Memory != 0 && n.Memory > r.MemorySwap && n.MemorySwap == 0:
		conflict = "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
	case u.RestartPolicy != nil && u.RestartPolicy.Restarts() && s.AutoRemove:
		conflict = "Restart policy cannot be updated because AutoRemove is enabled for the container"
	}
	if conflict != "" {
		return Resources{}, RestartPolicy{}, errors.New(conflict)
	}
	change(&r.BlkioWeight, n.BlkioWeight)
	change(&r.CPUShares, n.CPUShares)
	change(&r.NanoCPUs, n.NanoCPUs)
	change(&r.CPUPeriod, n.CPUPeriod)
	change(&r.CPUQuota, n.CPUQuota)
	change(&r.CpusetCPUs, n.CpusetCPUs)
	change(&r.CpusetMems, n.CpusetMems)
	change(&r.Memory, n.Memory)
	change(&r.MemorySwap, n.MemorySwap)
	change(&r.MemoryReservation, n.MemoryReservation)
	if u.PidsLimit != nil {
		if r.PidsLimit = *u.PidsLimit; r.PidsLimit <= 0 {
			r.PidsLimit = -1
		}
	}
	policy := s.RestartPolicy
	if u.RestartPolicy != nil {
		policy = *u.RestartPolicy
	}
	return r, policy, nil
}

func change[T comparable](to *T, by T) {
	if by != *new(T) {
		*to = by
	}
}
