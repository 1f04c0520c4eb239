// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Delays: whose tasks had the CPU while a task of a container waited for it.
//
// Hook: that of the run queue. A wait is charged to the CPU's runs that overlap it. Cost: per wait of a watched task an addition for
// each of them.
//
// What is charged to IDLE: the CPU had nobody to run, although a task waited for it, because a quota held the task back or
// because a CPU takes time to wake up. Whoever runs while a quota holds a task back is charged, too; the quota's own
// counters tell. To UNATTRIBUTED: waiting on another CPU before the task was moved to this one, runs too long ago to be
// remembered, the first wait after the hook was attached, and where a switch was not seen (runs.h).
#ifndef TRITON_DELAYS_H
#define TRITON_DELAYS_H

#include "runs.h"

struct delay_key {
	u64 victim;
	u64 culprit;
};

// delays has nanoseconds, but for those of victims by themselves, which are frequent and in their slots. Preallocated: the run queue's lock is held where it is added to. User space deletes the entries
// of containers that are watched no more.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); // set by the loader
	__type(key, struct delay_key);
	__type(value, u64);
} delays SEC(".maps");

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

// charge_wait charges a wait that ended at arrival, and had begun on this CPU at queued, or on another. Frequent is that a task of the
// same container had the CPU all the time: that takes no call.
static __always_inline void charge_wait(bool alone, struct cpu_runs *cpu, struct slot *slot, u64 victim, u64 queued, u64 arrival, u64 wait_ns)
{
	u64 here = queued && queued < arrival ? arrival - queued : 0;

	if (here >= wait_ns) { // all of it; if more, it had begun before the watch
		if (cpu->last.owner == victim && cpu->last.start_ns <= arrival - wait_ns) {
			ADD_AS(alone, slot->self_delay_ns, wait_ns);
			return;
		}
		here = wait_ns;
	}
	blame(cpu, victim, arrival - here, arrival, wait_ns - here);
}

// note_switch is called when a task leaves the CPU whose wait before is nobody's: its run is remembered.
static __always_inline void note_switch(struct switching *now, u64 owner)
{
	struct cpu_runs *cpu = runs_here();

	if (!cpu)
		return;
	watch_switch(cpu, now->prev->pid, now->next->pid);
	cpu->queued_ns = now->next->sched_info.last_queued; // until the switch is done
	if (!now->prev->pid)
		return; // the idle task: noted when it began
	begin_run(cpu, owner, now->prev->sched_info.last_arrival);
	if (!now->next->pid)
		begin_idling(cpu, now->next);
}

// note_wait is note_switch, and charges the wait, of the slot's container.
static __always_inline void note_wait(bool alone, struct switching *now, struct slot *slot, u64 owner, u64 wait_ns)
{
	struct cpu_runs *cpu = runs_here();
	u64 arrival = now->prev->sched_info.last_arrival, queued;

	if (!cpu)
		return;
	watch_switch(cpu, now->prev->pid, now->next->pid);
	queued = cpu->queued_ns;
	cpu->queued_ns = now->next->sched_info.last_queued;
	if (wait_ns)
		charge_wait(alone, cpu, slot, owner, queued, arrival, wait_ns);
	begin_run(cpu, owner, arrival);
	if (!now->next->pid)
		begin_idling(cpu, now->next);
}

#endif
