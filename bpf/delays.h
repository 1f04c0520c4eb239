// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Delays: whose tasks had the CPU while a task of a container waited for it.
//
// Hook: that of the run queue. Every CPU remembers its last runs, those in a row of one owner's tasks as one; a wait is
// charged to those that overlap it. Cost: a ring entry per switch between owners, and per wait of a watched task an
// addition for each run that overlaps it. All times are the run queue's clock, as the kernel notes them in sched_info, and
// where a CPU goes idle as the run queue has it; no clock is read. A run lasts until the next one begins.
//
// What is charged to IDLE: the CPU had nobody to run, although a task waited for it, because a quota held the task back or
// because a CPU takes time to wake up. Whoever runs while a quota holds a task back is charged, too; the quota's own
// counters tell. To UNATTRIBUTED: waiting on another CPU before the task was moved to this one, runs too long ago to be
// remembered, and the first wait after the hook was attached.
#ifndef TRITON_DELAYS_H
#define TRITON_DELAYS_H

#include "slots.h"

#define RUNS 128 // of a CPU, each of another owner than the one before; with slices of 3 ms 0.4 s at least

// Culprits that are no owners: an owner has a generation, so it is above 2^32.
#define HOST 0         // a task of no watched container
#define UNATTRIBUTED 1 // nobody that is known
#define IDLE 3         // nobody; 2 is user space's

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct rq {
	u64 clock;
};

struct cfs_rq {
	struct rq *rq;
};

struct sched_entity___queued {
	struct cfs_rq *cfs_rq;
};

struct task_struct___queued {
	struct sched_entity___queued se;
};

#pragma clang attribute pop

struct run {
	u64 start_ns;
	u64 owner; // or HOST, or IDLE
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

// begin_run remembers who has the CPU from now on, unless it goes on.
static __always_inline void begin_run(struct cpu_runs *cpu, u64 owner, u64 start_ns)
{
	struct run *run = &cpu->ring[(cpu->runs - 1) & (RUNS - 1)];

	if (cpu->runs && run->owner == owner)
		return;
	run = &cpu->ring[cpu->runs & (RUNS - 1)];
	run->start_ns = start_ns;
	run->owner = owner;
	cpu->runs++;
}

// begin_idling is called with the idle task of a CPU that gets nothing else to run. A kernel without groups of tasks
// (CONFIG_FAIR_GROUP_SCHED) does not lead from there to the run queue; it has no quotas either.
static __always_inline void begin_idling(struct cpu_runs *cpu, struct task_struct *idle)
{
	struct task_struct___queued *task = (struct task_struct___queued *)idle;
	u64 now;

	if (!bpf_core_field_exists(task->se.cfs_rq))
		return;
	now = task->se.cfs_rq->rq->clock;
	if (now)
		begin_run(cpu, IDLE, now);
}

// charge_wait is blame, but for the frequent case in which a task of the same container had the CPU all the time: that takes no call.
static __always_inline void charge_wait(struct cpu_runs *cpu, struct slot *slot, u64 victim, u64 from, u64 until, u64 other_ns)
{
	struct run *last = &cpu->ring[(cpu->runs - 1) & (RUNS - 1)];

	if (slot && !other_ns && cpu->runs && last->owner == victim && last->start_ns <= from)
		ADD(slot->self_delay_ns, until - from);
	else
		blame(cpu, victim, from, until, other_ns);
}

// note_switch is called when a task leaves the CPU: its wait before, of the slot's container, is charged, and its run remembered.
static __always_inline void note_switch(struct task_struct *task, struct task_struct *next, struct slot *slot, u64 owner, u64 wait_ns)
{
	u32 zero = 0;
	struct cpu_runs *cpu = bpf_map_lookup_elem(&recent_runs, &zero);
	u64 arrival = task->sched_info.last_arrival, queued, pid;

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
		return; // the idle task: noted when it began
	if (wait_ns) {
		u64 here = pid == task->pid && queued && queued < arrival ? arrival - queued : 0;

		if (here > wait_ns)
			here = wait_ns; // begun before the watch
		charge_wait(cpu, slot, owner, arrival - here, arrival, wait_ns - here);
	}
	begin_run(cpu, owner, arrival);
	if (!next->pid)
		begin_idling(cpu, next);
}

#endif
