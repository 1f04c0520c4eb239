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
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SEATS);
	__type(key, u32);
	__type(value, struct seat);
} seats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_state);
} tasks SEC(".maps");

bool seated = 0; // the hook that gives seats back is attached: set by the loader

static __always_inline struct seat *seat_of(struct task_struct *task)
{
	u32 i = (u32)task->pid & (SEATS - 1);

	return bpf_map_lookup_elem(&seats, &i);
}

// state_of returns what is known of a thread; 0: nothing yet.
static __always_inline struct task_state *state_of(struct task_struct *task)
{
	struct seat *seat = seat_of(task);

	if (seat && seat->task == (u64)task)
		return &seat->state;
	return bpf_task_storage_get(&tasks, task, 0, 0);
}

// new_state is for a thread of which nothing is known; 0: the kernel has no memory.
static __always_inline struct task_state *new_state(struct task_struct *task)
{
	struct seat *seat = seat_of(task);

	if (seated && task->pid && seat && !__sync_val_compare_and_swap(&seat->task, 0, (u64)task))
		return &seat->state;
	return bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
}

// give_back is for a thread that is no more.
static __always_inline void give_back(struct task_struct *task)
{
	struct task_state none = {};
	struct seat *seat = seat_of(task);

	if (!seat || seat->task != (u64)task)
		return;
	seat->state = none;
	__sync_val_compare_and_swap(&seat->task, (u64)task, 0);
}

#endif
