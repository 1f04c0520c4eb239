// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Delays: whose tasks had the CPU while a task of a container waited for it.
//
// Hook: that of the run queue. Every CPU remembers its last runs; a wait is charged to those that overlap it. Cost: a
// clock reading and a ring entry per switch of any task, and per wait of a watched one a map update for each run that
// overlaps it. All times are the run queue's clock, as the kernel notes them in sched_info: the wait that ended when a
// task came on the CPU began so long before (see runqueue.h). What overlaps no run that is remembered, because the CPU was
// idle, the task waited on another CPU first, or the run is too long ago, is charged to UNATTRIBUTED. A container that its
// own quota holds back waits too: whoever runs meanwhile is charged, and the quota's own counters tell.
#ifndef TRITON_DELAYS_H
#define TRITON_DELAYS_H

#include "slots.h"

#define RUNS 64 // of a CPU; with slices of 3 ms some 0.2 s when it is crowded

// Culprits that are no owners: an owner has a generation, so it is above 2^32.
#define HOST 0         // a task of no watched container
#define UNATTRIBUTED 1 // nobody that is known

struct run {
	u64 start_ns;
	u64 end_ns;
	u64 owner; // or HOST
};

struct cpu_runs {
	u64 switched_ns; // CLOCK_MONOTONIC of the last switch
	u64 next;
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

// delays has nanoseconds. Preallocated: the run queue's lock is held where it is added to.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); // set by the loader
	__type(key, struct delay_key);
	__type(value, u64);
} delays SEC(".maps");

const volatile bool count_delays = 0;

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

// blame charges the wait of a task that came on the CPU at until.
static __noinline void blame(struct cpu_runs *cpu, u64 victim, u64 until, u64 wait_ns)
{
	u64 from = until - wait_ns, rest = wait_ns, begin, end;

	for (u64 i = 1; i <= RUNS; i++) {
		struct run *run = &cpu->ring[(cpu->next - i) & (RUNS - 1)];

		begin = run->start_ns > from ? run->start_ns : from;
		end = run->end_ns < until ? run->end_ns : until;
		if (end <= from)
			break; // and so did those before it
		if (end > begin) {
			add_delay(victim, run->owner, end - begin);
			rest -= end - begin;
		}
		until = run->start_ns;
	}
	if (rest)
		add_delay(victim, UNATTRIBUTED, rest);
}

// run_ended is called when a task leaves the CPU: its wait before is charged, and its run remembered.
static __always_inline void run_ended(struct task_struct *task, u64 owner, u64 wait_ns)
{
	u32 zero = 0;
	struct cpu_runs *cpu = bpf_map_lookup_elem(&recent_runs, &zero);
	u64 now = bpf_ktime_get_ns(), ran_ns, start = task->sched_info.last_arrival;
	struct run *run;

	if (!cpu)
		return;
	ran_ns = now - cpu->switched_ns;
	cpu->switched_ns = now;
	if (!task->pid)
		return; // the idle task
	if (wait_ns)
		blame(cpu, owner, start, wait_ns);
	run = &cpu->ring[cpu->next++ & (RUNS - 1)];
	run->start_ns = start;
	run->end_ns = start + ran_ns; // too late when the hook has only now been attached; blame stops at the next one's start
	run->owner = owner;
}

#endif
