// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Run queue: how long tasks of a container waited for a CPU, how long they had one, and how long they waited for other things.
//
// Hook: tp_btf sched_switch, at switch-out; attached only while a container is watched. The kernel adds up each task's
// waiting itself (sched_info.run_delay), so the growth since the last switch-out is one wait. A wait shows when the
// task next leaves the CPU; CPU quota throttling counts as waiting; waits of zero are not counted.
#ifndef TRITON_RUNQUEUE_H
#define TRITON_RUNQUEUE_H

#include "delays.h"
#include "offcpu.h"
#include "states.h"

static __always_inline void add_wait(struct slot *slot, u64 ns)
{
	u64 b = in_register(bucket2(schema2_index(ns)));
	u64 *waits;

	if (b >= BUCKETS2)
		return;
	waits = counter_at(slot->run_queue, b);
	ADD(*waits, 1);
	ADD(slot->run_queue_sum_ns, ns);
}

// charge_run adds the run that ends, and the wait before it, to the task's container; it returns whom it belongs to, 0:
// nobody, and the wait with the slot that it was added to.
//
// It never makes a new state: the run queue's lock is held here, and allocating could need it. A task gets its own
// at its birth, or with an exec or a system call, and loses no time by that, since the kernel's sums start at its birth.
static __always_inline u64 charge_run(struct task_struct *task, bool preempt, u32 state, u64 *wait_ns, struct slot **charged)
{
	struct task_state *st = state_of(task);
	u64 delay, cpu, id, ran = 0, wait = 0;
	struct slot *slot;

	if (!st)
		return 0;
	id = cgroup_id_of(task);
	if (st->cgroup_id != id || st->epoch != epoch)
		refresh(task, st, id);
	if (!st->owner || (st->muted & MUTE_WAITS))
		return st->owner; // the container is no victim, but may be a culprit
	slot = slot_of(st->owner);
	if (!slot)
		return 0;
	delay = task->sched_info.run_delay;
	cpu = task->se.sum_exec_runtime;
	if (delay > st->run_delay_ns) {
		wait = delay - st->run_delay_ns;
		add_wait(slot, wait);
	}
	if (cpu > st->cpu_ns) {
		ran = cpu - st->cpu_ns;
		ADD(slot->cpu_ns, ran);
	}
	if (st->partial)
		ran = cpu - task->se.prev_sum_exec_runtime;
	add_off_cpu(slot, st, task->sched_info.last_arrival, ran, wait, preempt || !state ? 0 : 1 + why_waits(task, state));
	st->run_delay_ns = delay;
	st->cpu_ns = cpu;
	st->partial = 0;
	*wait_ns = wait;
	*charged = slot;
	return st->owner;
}

static __always_inline void switch_out(struct task_struct *task, struct task_struct *next, bool preempt, u32 state)
{
	struct slot *slot = 0;
	u64 wait_ns = 0, owner = charge_run(task, preempt, state, &wait_ns, &slot);

	note_switch(task, next, slot, owner, wait_ns);
}

#endif
