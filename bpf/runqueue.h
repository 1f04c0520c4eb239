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
#include "steps.h"

static __always_inline void add_wait(bool alone, struct slot *slot, u64 ns)
{
	u64 b = in_register(bucket2_of(ns));
	u64 *waits;

	if (b >= BUCKETS2)
		return;
	waits = counter_at(slot->run_queue, b);
	ADD_AS(alone, *waits, 1);
	ADD_AS(alone, slot->run_queue_sum_ns, ns);
}

// current_state is what is known of a task, by what it belongs to now; 0: nothing.
//
// It never makes a new state: the run queue's lock is held here, and allocating could need it. A task gets its own
// at its birth, or with an exec or a system call, and loses no time by that, since the kernel's sums start at its birth.
static __always_inline struct task_state *current_state(struct task_struct *task)
{
	struct task_state *st = state_of(task);
	u64 id;

	if (!st)
		return 0;
	id = cgroup_id_of(task);
	if (st->cgroup_id != id || st->epoch != (u32)epoch)
		refresh(task, st, id);
	return st;
}

// charge_run adds the run that ends, and the waits before it, to the slot; it returns how long the task waited for the CPU.
static __always_inline u64 charge_run(bool alone, struct task_struct *task, struct task_state *st, struct slot *slot)
{
	u64 delay = task->sched_info.run_delay, cpu, ran = 0, wait = 0;

	if (delay > st->run_delay_ns) {
		wait = delay - st->run_delay_ns;
		st->run_delay_ns = delay;
		add_wait(alone, slot, wait);
	}
	cpu = task->se.sum_exec_runtime;
	if (cpu > st->cpu_ns) {
		ran = cpu - st->cpu_ns;
		ADD_AS(alone, slot->cpu_ns, ran);
	}
	st->cpu_ns = cpu;
	if (st->partial) {
		ran = cpu - task->se.prev_sum_exec_runtime;
		st->partial = 0;
	}
	add_off_cpu(alone, slot, st, task->sched_info.last_arrival, ran, wait);
	return wait;
}

// switch_in is called with the task that gets the CPU.
static __always_inline void switch_in(struct task_struct *next)
{
	struct task_state *st = next->pid ? state_of(next) : 0;

	if (st)
		end_wait(next, st, next->sched_info.last_queued);
}

static __always_inline void switch_as(bool alone, struct switching *now)
{
	struct task_struct *task = now->prev;
	struct task_state *st = task->pid ? current_state(task) : 0; // the idle task has none
	struct slot *slot;
	u64 wait_ns;

	if (!st || !st->owner || (st->muted & MUTE_WAITS) || !(slot = slot_at(alone, st->first))) {
		note_switch(now, st ? st->owner : HOST); // no victim, but it may be a culprit
		return;
	}
	wait_ns = charge_run(alone, task, st, slot);
	note_wait(alone, now, slot, st->owner, wait_ns);
	st->waits = now->preempt ? 0 : begin_wait(now->prev_state);
}

static __always_inline void switch_out(struct switching *now)
{
	if (exclusive)
		switch_as(1, now);
	else
		switch_as(0, now);
	switch_in(now->next);
}

#endif
