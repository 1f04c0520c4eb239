package telemetry

import (
	"cmp"
	"slices"

	"github.com/tritond/triton/pkg/triton"
)

// rateSamples is how many of the newest samples a rate is taken over: five intervals.
const rateSamples = 6

// Rate is how often a container lately did what the hooks of every container are run by, a second.
type Rate struct {
	Key         triton.ContainerKey
	Name, Image string
	Calls       float64 // system calls, estimates too; 0 where they are not counted
	Switches    float64 // a task of it was given a CPU
	Dropped     uint64  // lost of it since the watch began
}

// Rates lists all containers of which there are two samples, in order of id.
func (s *Store) Rates() []Rate {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]Rate, 0, len(s.containers))
	for _, c := range s.containers {
		if r, ok := rateOf(c.window.newest(rateSamples)); ok {
			r.Key, r.Name, r.Image = c.key, c.name, c.image
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Rate) int {
		return cmp.Or(cmp.Compare(a.Key.ID, b.Key.ID), cmp.Compare(a.Key.Tenant, b.Key.Tenant))
	})
	return out
}

func rateOf(all []Sample) (Rate, bool) {
	if len(all) < 2 {
		return Rate{}, false
	}
	first, last := &all[0], &all[len(all)-1]
	seconds := last.Time.Sub(first.Time).Seconds()
	if seconds <= 0 {
		return Rate{}, false
	}
	r := Rate{Dropped: last.Dropped.Total()}
	if !last.NoCalls && last.Syscalls >= first.Syscalls {
		r.Calls = float64(last.Syscalls-first.Syscalls) / seconds
	}
	var given uint64
	for i := range all[1:] { // the first is of the time before
		given += all[i+1].RunQueue.Count()
	}
	r.Switches = float64(given) / seconds
	return r, true
}
