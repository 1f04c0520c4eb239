// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The flight recorder: the last RING_CALLS system calls of every watched thread, with arguments, result and duration.
//
// A thread's storage holds the number of its ring; the rings are one array that user space maps, so that reading them
// costs the kernel nothing and needs nobody's help: what a dead thread did last can still be read. Rings of threads that
// ended are used again oldest first, but not at once by another container. Hooks: those of system calls, at their entry (so that a call from which a thread
// never returns is seen) and return; no clock reading of its own. Cost per call: see the benchmark of package probes.
#ifndef TRITON_RECORDER_H
#define TRITON_RECORDER_H

#include "rings.h"

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

#endif
