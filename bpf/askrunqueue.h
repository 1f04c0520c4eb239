// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Questions about waits for a CPU: how long one was. See askrunqueue.bpf.c.
#ifndef TRITON_ASKRUNQUEUE_H
#define TRITON_ASKRUNQUEUE_H

#include "ask.h"

// on_cpu is who has a CPU, and what it had waited in all when it came.
struct on_cpu {
	u64 pid;
	u64 run_delay_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct on_cpu);
} on_cpus SEC(".maps");

// left has what tasks had waited in all when they left a CPU. Preallocated: the run queue's lock is held.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u32); // tid
	__type(value, u64);
} left SEC(".maps");

// waited gives what a task that leaves the CPU waited before it had it; total is its waiting since birth, runs how often it
// has had one.
static __always_inline u64 waited(u32 tid, u64 total, u64 runs, const struct on_cpu *on)
{
	u64 *before = bpf_map_lookup_elem(&left, &tid);

	if (runs <= 1)
		return total;
	if (before && *before <= total)
		return total - *before;
	return on->pid == tid && on->run_delay_ns <= total ? total - on->run_delay_ns : 0;
}

#endif
