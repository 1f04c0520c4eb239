// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Where the programs keep what they know of a thread: in a seat, an entry of one array by the thread's number, which is found without
// a call. Who finds the seat taken by another thread (their numbers differ by a multiple of SEATS) has the thread's own storage
// instead, which the kernel takes three times as long to find. A seat is taken at the thread's birth or at its first system call and given back
// when the kernel forgets the thread, after it left the CPU for the last time; where that hook is missing nobody has a seat.
#ifndef TRITON_STATES_H
#define TRITON_STATES_H

#include "slots.h"

#define SEATS 16384 // a power of two: 2 MiB

struct seat {
	u64 task; // its address in the kernel; 0: free, and zero
	struct task_state state;
} __attribute__((aligned(64))); // what a switch needs most is in the first 64 bytes

static struct seat seats[SEATS]; // a variable, since the address of an element takes less than half of a look into a map

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_state);
} tasks SEC(".maps");

bool seated = 0; // the hook that gives seats back is attached: set by the loader
bool stored = 0; // a thread has its own storage

static __always_inline struct seat *seat_of(struct task_struct *task)
{
	return &seats[(u32)task->pid & (SEATS - 1)];
}

// state_of returns what is known of a thread; 0: nothing yet.
static __always_inline struct task_state *state_of(struct task_struct *task)
{
	struct seat *seat = seat_of(task);

	if (seat->task == (u64)task)
		return &seat->state;
	return stored ? bpf_task_storage_get(&tasks, task, 0, 0) : 0;
}

// new_state is for a thread of which nothing is known; 0: the kernel has no memory.
static __always_inline struct task_state *new_state(struct task_struct *task)
{
	struct seat *seat = seat_of(task);

	if (seated && task->pid && !__sync_val_compare_and_swap(&seat->task, 0, (u64)task))
		return &seat->state;
	stored = 1;
	return bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
}

// owner_of returns whom to charge for what a task does; 0: nobody. The runtime's work before a program's execve is
// nobody's, although it is done in the container's cgroup.
static __noinline u64 owner_of(struct task_struct *task)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	u64 owner = OWNER_IN(owners_v2, cgroup);

	return owner && in_setup(BPF_CORE_READ(task, tgid)) ? 0 : owner;
}

// refresh looks the owner up again. A task that came from elsewhere starts afresh: a call begun there and the time
// spent there are not this container's. So does one whose calls or waits were not counted meanwhile.
static __noinline void refresh(struct task_struct *task, struct task_state *st, u64 id)
{
	u64 now = epoch; // before the lookup: a change in between is seen next time
	u64 owner = owner_of(task);
	u32 muted = muted_of(owner);

	if (st->pairing != (u32)pairing || st->owner != owner || (muted & MUTE_CALLS))
		st->start_ns = 0;
	if (st->owner != owner || st->arming != (u32)arming || (st->muted & MUTE_WAITS)) {
		bool young = st->owner != owner && task->sched_info.pcount <= 1; // on a CPU for the first time: all its waiting was here

		st->run_delay_ns = young ? 0 : task->sched_info.run_delay;
		st->cpu_ns = young ? 0 : task->se.sum_exec_runtime;
		st->partial = !young;
		st->waits = 0;
		st->asked = 0;
	}
	st->owner = owner;
	st->first = (u32)owner * shards;
	st->muted = muted;
	st->pairing = pairing;
	st->arming = arming;
	st->cgroup_id = id;
	st->epoch = now;
}

// give_back is for a thread that is no more.
static __always_inline void give_back(struct task_struct *task)
{
	struct task_state none = {};
	struct seat *seat = seat_of(task);

	if (seat->task != (u64)task)
		return;
	seat->state = none;
	__sync_val_compare_and_swap(&seat->task, (u64)task, 0);
}

#endif
