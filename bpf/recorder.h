// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The flight recorder: the last RING_CALLS system calls of every watched thread, with arguments, result and duration.
//
// A thread's storage holds the number of its ring; the rings are one array that user space maps, so that reading them
// costs the kernel nothing and needs nobody's help: what a dead thread did last can still be read. Rings of threads that
// ended are used again oldest first. Hooks: those of system calls, at their entry (so that a call from which a thread
// never returns is seen) and return; no clock reading of its own. Cost per call: see the benchmark of package probes.
#ifndef TRITON_RECORDER_H
#define TRITON_RECORDER_H

#include "slots.h"

#define RING_CALLS 64 // a power of two
#define NO_RING 0xffffffffU

struct call {
	u64 at_ns; // CLOCK_MONOTONIC
	u64 ns;
	s64 ret;
	u64 args[6];
	u32 nr;
	u32 seq; // its number plus one; another: it is being written
};

struct ring {
	u64 owner;
	u64 first; // number of the first call of this thread and owner
	u64 head;  // number of the next call; never set back, so that a reader sees a new use
	u64 ended_ns; // 0: the thread lives
	u32 pid;
	u32 tid;
	char comm[16]; // at its first call, or at its last execve
	struct call calls[RING_CALLS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); // set by the loader: threads recorded at a time, plus one; 0 is no ring
	__type(key, u32);
	__type(value, struct ring);
} rings SEC(".maps");

// free_rings holds rings given back, oldest first. Rings never used before come from fresh_rings.
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1); // set by the loader: as many as rings
	__type(value, u32);
} free_rings SEC(".maps");

const volatile u32 ring_limit = 0; // 0: nothing is recorded

u64 fresh_rings = 1;
u64 unrecorded_threads; // found no ring free

#define ordered() asm volatile("" ::: "memory")

static __always_inline void name_ring(struct ring *ring, struct task_struct *task)
{
	ring->pid = task->tgid;
	ring->tid = task->pid;
	bpf_probe_read_kernel(ring->comm, sizeof(ring->comm), &task->comm);
}

// own_ring makes a ring a thread's, or another owner's; what is in it is forgotten.
static __noinline void own_ring(struct ring *ring, struct task_struct *task, u64 owner)
{
	if (!ring)
		return;
	ring->owner = 0;
	ordered();
	ring->first = ring->head;
	ring->ended_ns = 0;
	name_ring(ring, task);
	ordered();
	ring->owner = owner;
}

static __noinline u32 take_ring(struct task_state *st)
{
	u32 i = NO_RING;

	if (!st)
		return NO_RING;
	if (fresh_rings < ring_limit)
		i = __sync_fetch_and_add(&fresh_rings, 1);
	if (i >= ring_limit && bpf_map_pop_elem(&free_rings, &i)) {
		i = NO_RING;
		__sync_fetch_and_add(&unrecorded_threads, 1);
	}
	st->ring = i;
	return i;
}

static __always_inline struct ring *ring_of(struct task_struct *task, struct task_state *st)
{
	struct ring *ring;
	u32 i = st->ring;

	if (!i)
		i = take_ring(st);
	ring = bpf_map_lookup_elem(&rings, &i);
	if (ring && ring->owner != st->owner)
		own_ring(ring, task, st->owner);
	return ring;
}

// record adds a call; regs are the thread's, nil for none.
static __always_inline void record(struct task_struct *task, struct task_state *st, struct pt_regs *regs, u32 nr, u64 at_ns, u64 ns,
				   s64 ret)
{
	struct ring *ring;
	struct call *call;
	u64 head;

	if (!ring_limit)
		return;
	ring = ring_of(task, st);
	if (!ring)
		return;
	head = ring->head;
	call = &ring->calls[head & (RING_CALLS - 1)];
	call->seq = head; // of no call that a reader looks for here
	ordered();
	call->at_ns = at_ns;
	call->ns = ns;
	call->ret = ret;
	call->nr = nr;
	if (regs)
		copy_args(call->args, regs);
	ordered();
	call->seq = head + 1;
	ring->head = head + 1;
}

// record_return completes the call that the thread is in.
static __always_inline void record_return(struct task_state *st, u64 ns, s64 ret)
{
	struct ring *ring;
	struct call *call;
	u32 i = st->ring;

	if (!ring_limit)
		return;
	ring = bpf_map_lookup_elem(&rings, &i);
	if (!ring || ring->owner != st->owner || ring->head == ring->first)
		return;
	call = &ring->calls[(ring->head - 1) & (RING_CALLS - 1)];
	call->ret = ret;
	ordered();
	call->ns = ns;
}

// record_exec renames the ring: the thread that executes a program takes the process's number over.
static __always_inline void record_exec(struct task_struct *task, struct task_state *st)
{
	u32 i = st->ring;
	struct ring *ring = bpf_map_lookup_elem(&rings, &i);

	if (i && ring)
		name_ring(ring, task);
}

// record_end gives the ring of a thread that ends back; what is in it stays until it is needed.
static __always_inline void record_end(struct task_struct *task)
{
	struct task_state *st = bpf_task_storage_get(&tasks, task, 0, 0);
	struct ring *ring;
	u32 i;

	if (!st)
		return;
	i = st->ring;
	st->ring = NO_RING;
	ring = i ? bpf_map_lookup_elem(&rings, &i) : 0;
	if (!ring)
		return;
	ring->ended_ns = bpf_ktime_get_ns();
	bpf_map_push_elem(&free_rings, &i, BPF_ANY); // cannot fail: the queue has room for every ring
}

#endif
