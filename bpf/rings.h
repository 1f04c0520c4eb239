// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Rings of the flight recorder: whose they are. A thread takes one at its first call and gives it back at its end; what is in
// it stays until a younger thread needs it, and for a time nobody but its own container gets it: a container that forks without
// end forgets its own dead. Of each container so many threads have rings at a time: its share.
#ifndef TRITON_RINGS_H
#define TRITON_RINGS_H

#include "states.h"

#define RING_CALLS 64 // a power of two
#define NO_RING 0xffffffffU
#define RING_TRIES 4 // of a thread that finds the oldest rings kept for others

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
	u64 charged; // whose share it is of
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

// ring_uses counts the rings that threads of an owner have. User space makes the entry and deletes it.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); // set by the loader: containers
	__type(key, u64);
	__type(value, u64);
} ring_uses SEC(".maps");

const volatile u32 ring_limit = 0; // 0: nothing is recorded
const volatile u64 ring_share = 1; // of one owner
const volatile u64 ring_kept_ns = 0; // for how long nobody else gets the ring of a thread that ended

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

// old_ring takes the ring that was given back longest ago and is not kept for another owner, who is watched still. It is not
// static, so that the verifier goes through its loop once and not for each call.
__noinline u32 old_ring(u64 owner)
{
	u64 now = bpf_ktime_get_ns(), charged;
	struct ring *ring;
	u32 i;

	for (int n = 0; n < RING_TRIES; n++) {
		if (bpf_map_pop_elem(&free_rings, &i))
			break;
		ring = bpf_map_lookup_elem(&rings, &i);
		if (!ring)
			break; // never
		charged = ring->charged;
		if (charged == owner || now - ring->ended_ns >= ring_kept_ns || !bpf_map_lookup_elem(&ring_uses, &charged))
			return i;
		bpf_map_push_elem(&free_rings, &i, BPF_ANY);
	}
	return NO_RING;
}

static __noinline u32 take_ring(struct task_state *st)
{
	u32 i = NO_RING;
	struct slot *slot;
	struct ring *ring;
	u64 *used, owner;

	if (!st)
		return NO_RING;
	owner = st->owner;
	used = bpf_map_lookup_elem(&ring_uses, &owner);
	if (!used || __sync_fetch_and_add(used, 1) < ring_share) {
		if (fresh_rings < ring_limit)
			i = __sync_fetch_and_add(&fresh_rings, 1);
		if (i >= ring_limit)
			i = old_ring(owner);
	}
	ring = bpf_map_lookup_elem(&rings, &i);
	if (ring) {
		ring->charged = owner;
	} else {
		if (used)
			__sync_fetch_and_add(used, -1);
		__sync_fetch_and_add(&unrecorded_threads, 1);
		slot = slot_of(owner);
		if (slot)
			ADD(slot->drop_threads, 1);
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

// record_end gives the ring of a thread that ends back; what is in it stays until it is needed.
static __always_inline void record_end(struct task_struct *task)
{
	struct task_state *st = state_of(task);
	struct ring *ring;
	u64 *used, owner;
	u32 i;

	if (!st)
		return;
	i = st->ring;
	st->ring = NO_RING;
	ring = i ? bpf_map_lookup_elem(&rings, &i) : 0;
	if (!ring)
		return;
	owner = ring->charged;
	used = bpf_map_lookup_elem(&ring_uses, &owner);
	if (used)
		__sync_fetch_and_add(used, -1);
	ring->ended_ns = bpf_ktime_get_ns();
	bpf_map_push_elem(&free_rings, &i, BPF_ANY); // cannot fail: the queue has room for every ring
}

#endif
