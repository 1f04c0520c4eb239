package probes

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

// A container of more waiting tasks than its share of the profile's maps loses the rest, counted; the profile of another one, taken
// at the same time, has all of its tasks. The share is there again when tasks have waked.
func TestKernelAContainerHasItsShareOfAProfile(t *testing.T) {
	const share, crowd, few = 8, 20, 3
	p := open(t, Config{Level: Off})
	keys, cgs := [4]triton.ContainerKey{}, [4]cgroup{}
	var profiles [4]*Profile
	for i := range keys { // four, so that a quarter is what each has
		keys[i], cgs[i] = watch(t, p)
		s, err := p.StartProfile(keys[i], triton.OffCPU)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		profiles[i] = s
	}
	sleepers := p.profiles.kernel.maps[bpf.ProfileMapSleepers]
	var got uint64
	if err := p.profiles.kernel.variables[bpf.ProfileVarSleeperShare].Get(&got); err != nil || got != uint64(sleepers.MaxEntries()/4) {
		t.Fatalf("a share of %d of %d, %v", got, sleepers.MaxEntries(), err)
	}
	if err := p.profiles.kernel.variables[bpf.ProfileVarSleeperShare].Set(uint64(share)); err != nil {
		t.Fatal(err)
	}
	sleep := func(cg cgroup, n int) (procs []*process) {
		for range n {
			proc := start(t, cg, actorBinary(t), "clocked", strconv.Itoa(1))
			proc.paused(t)
			procs = append(procs, proc)
		}
		return procs
	}
	many, others := sleep(cgs[0], crowd), sleep(cgs[1], few)
	read := func(s *Profile) (waiting map[int]bool, loss triton.StackLoss) {
		_, loss, err := s.Read()
		if err != nil {
			t.Fatal(err)
		}
		now, err := p.profiles.kernel.waiting()
		if err != nil {
			t.Fatal(err)
		}
		waiting = map[int]bool{}
		for _, st := range p.profiles.kernel.stacks(now, s.of) {
			waiting[st.PID] = true
		}
		return waiting, loss
	}
	var waiting map[int]bool
	var lost uint64
	eventually(t, "all sleep", func() bool { // the last thing that a process does is to wait
		now, loss := read(profiles[0])
		waiting, lost = now, lost+loss.Counts
		return lost >= crowd-share
	})
	if len(waiting) > share || len(waiting) == 0 {
		t.Errorf("%d tasks of a share of %d", len(waiting), share)
	}
	eventually(t, "the other container's tasks are there", func() bool {
		waiting, loss := read(profiles[1])
		return loss == (triton.StackLoss{}) && !slices.ContainsFunc(others, func(proc *process) bool { return !waiting[proc.cmd.Process.Pid] })
	})
	for _, proc := range many {
		if err := proc.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the share is free again", func() bool {
		var n uint64
		err := p.profiles.kernel.maps[bpf.ProfileMapSleeping].Lookup(ownerOf(p, keys[0]), &n)
		return err == nil && n == 0
	})
}

func ownerOf(p *Probes, key triton.ContainerKey) uint64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.table.byKey[key].owner()
}

// While the kernel's maps are emptied nobody else waits: not who measures the price, nor who begins to watch a container.
func TestKernelNobodyWaitsForAReaderOfProfiles(t *testing.T) {
	p := open(t, Config{})
	key, _ := watch(t, p)
	s, err := p.StartProfile(key, triton.OnCPU)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p.profiles.turn.Lock() // as a drain holds it
	done := make(chan error)
	go func() {
		err := p.measureCost(t.Context())
		if err == nil {
			_, err = p.Watch(newKey(), CgroupIDs{V2: newCgroup(t).id})
		}
		done <- err
	}()
	select {
	case err = <-done:
	case <-time.After(deadline):
		t.Error("somebody waits for a reader of profiles")
	}
	p.profiles.turn.Unlock()
	if err != nil {
		t.Error(err)
	}
	for _, name := range []string{bpf.ProfileProgOnCpuTick} {
		if !slices.ContainsFunc(p.Cost().Programs, func(c ProgramCost) bool { return c.Program == name }) {
			t.Errorf("the price has no %s", name)
		}
	}
}
