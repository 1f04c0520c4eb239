package probes

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// However a task came to be in the container, what it does is the container's: exact numbers, with another container
// beside it that does the same.
func TestKernelEveryKindOfTaskBelongsToItsContainer(t *testing.T) {
	actor := actorBinary(t)
	for _, c := range []struct {
		name string
		argv []string
		want map[int]uint64
		// processes that were born and that ended
		processes uint64
	}{
		{"in a user namespace", []string{"/usr/bin/unshare", "--user", "--map-root-user", actor, "churn", "321"}, map[int]uint64{unix.SYS_GETPPID: 321}, 1},
		{"executed again", []string{"/usr/bin/env", actor, "churn", "123"}, map[int]uint64{unix.SYS_GETPPID: 123}, 1},
		{
			"thread that outlives its leader",
			[]string{actor, "leader-first"},
			map[int]uint64{unix.SYS_EXIT: 2, unix.SYS_EXIT_GROUP: 0, unix.SYS_CLOCK_NANOSLEEP: 1},
			1,
		},
		{"2,000 forks", []string{actor, "forks", "2000"}, map[int]uint64{unix.SYS_EXIT_GROUP: 2001, unix.SYS_WAIT4: 2000}, 2001},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := open(t, Config{Linger: -1})
			key, cg := watch(t, p)
			otherKey, other := watch(t, p)
			beside := start(t, other, actor, "churn", "1000")
			start(t, cg, c.argv...).wait(t)
			beside.wait(t)
			s := snapshot(t, p, key)
			for nr, want := range c.want {
				if got := s.Syscalls[nr].Count; got != want {
					t.Errorf("call %d: counted %d, want %d", nr, got, want)
				}
			}
			if s.Forks != c.processes || s.Exits != c.processes {
				t.Errorf("%d processes born, %d ended, want %d", s.Forks, s.Exits, c.processes)
			}
			if n := snapshot(t, p, otherKey).Syscalls[unix.SYS_GETPPID].Count; n != 1000 {
				t.Errorf("the container beside it: counted %d calls, want 1000", n)
			}
		})
	}
}

// 200 containers that start and end at random, eight at a time, all with the same program and a number of calls of their
// own, on few slots: each has exactly its own.
func TestKernelContainersAtRandomHaveExactlyTheirOwn(t *testing.T) {
	const containers, atOnce, processes = 200, 8, 3
	actor := actorBinary(t)
	p := open(t, Config{MaxContainers: atOnce + 2})
	run(t, p)
	groups := make([]cgroup, atOnce)
	for i := range groups {
		groups[i] = newCgroup(t)
	}
	numbers := make(chan int)
	go func() {
		for n := range containers {
			numbers <- n
		}
		close(numbers)
	}()
	var all sync.WaitGroup
	for _, cg := range groups {
		all.Go(func() {
			for n := range numbers {
				if err := oneAtRandom(t, p, cg, actor, n, processes); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for reason, n := range p.Drops() {
		if n != 0 && reason != "unowned" { // records, not counts, of containers whose slot was freed before they were read
			t.Errorf("dropped %d: %s", n, reason)
		}
	}
}

// oneAtRandom is container n: some processes, one or another of them at a time, that make 10n+1 to 10n+9 calls together.
func oneAtRandom(t *testing.T, p *Probes, cg cgroup, actor string, n, processes int) error {
	key := newKey()
	if _, err := p.Watch(key, CgroupIDs{V2: cg.id}); err != nil {
		return err
	}
	var want uint64
	var running []*process
	for range processes {
		calls := 10*n + 1 + rand.IntN(3)
		want += uint64(calls)
		proc := start(t, cg, actor, "churn", fmt.Sprint(calls))
		if rand.IntN(2) == 0 {
			proc.wait(t)
			continue
		}
		running = append(running, proc)
	}
	for _, proc := range running {
		proc.wait(t)
	}
	s, err := p.Unwatch(key)
	if err != nil {
		return err
	}
	if got := s.Syscalls[unix.SYS_GETPPID].Count; got != want || s.Exits != uint64(processes) || s.Syscalls[unix.SYS_EXIT_GROUP].Count != uint64(processes) {
		return fmt.Errorf("container %d: %d calls, %d ends, want %d and %d", n, got, s.Exits, want, processes)
	}
	return nil
}
