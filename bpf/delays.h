// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Delays: whose tasks had the CPU while a task of a container waited for it.
//
// Hook: that of the run queue. Every CPU remembers its last runs, those in a row of one owner's tasks as one; a wait is
// charged to those that overlap it. Cost: a ring entry per switch between owners, and per wait of a watched task an
// addition for each run that overlaps it. All times
// are the run queue's clock, as the kernel notes them in sched_info; no clock is read: while a task waits on a CPU that
// CPU is not idle, so a run lasts until the next one begins.
//
// What is charged to UNATTRIBUTED: waiting on another CPU before the task was moved to this one, runs too long ago to be
// remembered, and the first wait after the hook was attached. A container that its own quota holds back waits too:
// whoever runs meanwhile is charged, and the quota's own counters tell.
#ifndef TRITON_DELAYS_H
#define TRITON_DELAYS_H

#include "slots.h"

#define RUNS 128 // of a CPU, each of another owner than the one before; with slices of 3 ms 0.4 s at least

// Culprits that are no owners: an owner has a generation, so it is above 2^32.
#define HOST 0         // a task of no watched container
#define UNATTRIBUTED 1 // nobody that is known

struct run {
	u64 start_ns;
	u64 owner; // or HOST
};

struct cpu_runs {
	u64 arming;    // for which the rest holds: what was remembered before has a gap
	u64 runs;      // remembered since then
	u64 queued_ns; // since when the task that has the CPU had waited on it
	u64 pid;       // of that task
	struct run ring[RUNS];
};

struct delay_key {
	u64 victim;
	u64 culprit;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct cpu_runs);
} recent_runs SEC(".maps");

// delays has nanoseconds, but for those of victims by themselves, which are frequent and in their slots. Preallocated: the run queue's lock is held where it is added to. User space deletes the entries
// of containers that are watched no more.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); // set by the loader
	__type(key, struct delay_key);
	__type(value, u64);
} delays SEC(".maps");

const volatile bool no_delays = 0; // for the benchmark that tells what they cost

u64 delays_dropped_ns = 0; // waits that found no room in delays

static __noinline void add_delay(u64 victim, u64 culprit, u64 ns)
{
	struct delay_key key = {.victim = victim, .culprit = culprit};
	u64 none = 0, *sum = bpf_map_lookup_elem(&delays, &key);

	if (!sum) {
		bpf_map_update_elem(&delays, &key, &none, BPF_NOEXIST); // another CPU may have been first
		sum = bpf_map_lookup_elem(&delays, &key);
	}
	__sync_fetch_and_add(sum ? sum : &delays_dropped_ns, ns);
}

// blame charges a wait that lasted from..until on this CPU, and other_ns that was waited elsewhere before.
static __noinline void blame(struct cpu_runs *cpu, u64 victim, u64 from, u64 until, u64 other_ns)
{
	u64 runs = cpu->runs, self_ns = 0;
	struct slot *slot;

	for (u64 i = 1; i <= RUNS && i <= runs && until > from; i++) {
		struct run *run = &cpu->ring[(runs - i) & (RUNS - 1)];
		u64 begin = run->start_ns > from ? run->start_ns : from;

		if (begin >= until)
			continue;
		if (run->owner == victim)
			self_ns += until - begin;
		else
			add_delay(victim, run->owner, until - begin);
		until = begin;
	}
	if (until > from)
		other_ns += until - from;
	if (other_ns)
		add_delay(victim, UNATTRIBUTED, other_ns);
	if (self_ns && (slot = slot_of(victim)))
		ADD(slot->self_delay_ns, self_ns);
}

// note_switch is called when a task leaves the CPU: its wait before is charged if it has an owner, and its run remembered.
static __always_inline void note_switch(struct task_struct *task, struct task_struct *next, u64 owner, u64 wait_ns)
{
	u32 zero = 0;
	struct cpu_runs *cpu = bpf_map_lookup_elem(&recent_runs, &zero);
	u64 arrival = task->sched_info.last_arrival, queued, pid;
	struct run *run;

	if (!cpu || no_delays)
		return;
	if (cpu->arming != arming) {
		cpu->arming = arming;
		cpu->runs = 0;
		cpu->pid = -1;
	}
	queued = cpu->queued_ns;
	pid = cpu->pid;
	cpu->queued_ns = next->sched_info.last_queued; // until the switch is done
	cpu->pid = next->pid;
	if (!task->pid)
		return; // the idle task
	if (wait_ns) {
		u64 here = pid == task->pid && queued && queued < arrival ? arrival - queued : 0;

		if (here > wait_ns)
			here = wait_ns; // begun before the watch
		blame(cpu, owner, arrival - here, arrival, wait_ns - here);
	}
	run = &cpu->ring[(cpu->runs - 1) & (RUNS - 1)];
	if (cpu->runs && run->owner == owner)
		return; // goes on
	run = &cpu->ring[cpu->runs & (RUNS - 1)];
	run->start_ns = arrival;
	run->owner = owner;
	cpu->runs++;
}

#endif
