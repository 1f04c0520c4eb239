// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Runs: who had a CPU lately.
//
// Hook: that of the run queue. Every CPU remembers its last runs, those in a row of one owner's tasks as one. All times are the run
// queue's clock, as the kernel notes them in sched_info, and where a CPU goes idle as the run queue has it; no clock is read. A run
// lasts until the next one begins. Cost: a ring entry per switch between owners.
#ifndef TRITON_RUNS_H
#define TRITON_RUNS_H

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

// switching is what the hook is called with. It is read where it is needed: registers are few, and what does not fit into them costs as much.
struct switching {
	u64 preempt;
	struct task_struct *prev;
	struct task_struct *next;
	u64 prev_state; // 32 bits
};

struct run {
	u64 start_ns;
	u64 owner; // or HOST, or IDLE
};

struct cpu_runs {
	u64 arming;    // for which the rest holds: what was remembered before has a gap
	u64 runs;      // remembered since then
	u64 queued_ns; // since when the task that has the CPU, and is the next to leave it, had waited on it; 0: unknown
	u64 stint_ns;  // where the last run's last task began
	u32 has_it;    // the task that has the CPU
	struct run last; // the last in the ring
	struct run ring[RUNS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct cpu_runs);
} recent_runs SEC(".maps");

u64 unseen_switches = 0; // those by which it shows that there were others before

// runs_here are those of this CPU.
static __always_inline struct cpu_runs *runs_here(void)
{
	u32 zero = 0;
	struct cpu_runs *cpu = bpf_map_lookup_elem(&recent_runs, &zero);

	if (cpu && cpu->arming != arming) {
		cpu->arming = arming;
		cpu->runs = 0;
		cpu->queued_ns = 0;
		cpu->last.owner = HOST; // nobody's wait is charged to it without a look into the ring
	}
	return cpu;
}

// begin_run remembers who has the CPU from now on, unless it goes on.
static __always_inline void begin_run(struct cpu_runs *cpu, u64 owner, u64 start_ns)
{
	cpu->stint_ns = start_ns;
	if (cpu->last.owner == owner && cpu->runs)
		return;
	cpu->last.start_ns = start_ns;
	cpu->last.owner = owner;
	cpu->ring[cpu->runs & (RUNS - 1)] = cpu->last;
	cpu->runs++;
}

// lose_sight is called when somebody has had the CPU who is not known, since some moment of the last task's stint.
static __noinline void lose_sight(struct cpu_runs *cpu)
{
	if (!cpu->runs)
		return;
	__sync_fetch_and_add(&unseen_switches, 1);
	cpu->queued_ns = 0;
	begin_run(cpu, UNATTRIBUTED, cpu->stint_ns);
}

// watch_switch compares the task that leaves the CPU with the one that got it. Another one: there were switches that the hook was not
// called for, as the kernels of some virtual machines keep their agent's threads from tracepoints.
static __always_inline void watch_switch(struct cpu_runs *cpu, u32 leaves, u32 gets)
{
	if (cpu->has_it != leaves)
		lose_sight(cpu);
	cpu->has_it = gets;
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

#endif
