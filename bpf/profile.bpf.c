//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Profiles: what a container's tasks are busy with.
//
// Hooks: tp_btf sched_switch for what they wait for, attached only while somebody asks that: some 2 us a wait of a profiled
// container, two lookups otherwise; the wait for a CPU after the wake is part of a wait. And a clock event of each CPU, 99 times a second, attached only while somebody profiles. Cost: some 2 us a tick that
// hits a profiled container, a walk up the cgroups otherwise. Stacks are followed by frame pointers, the kernel's by its own tables:
// of code without frame pointers the innermost function is right and its callers may be missing. Not seen: who runs
// while interrupts are off, until they are on again; more than 127 frames.
#include "profile.h"

char __license[] SEC("license") = "GPL";

SEC("perf_event")
int on_cpu_tick(void *ctx)
{
	runs_now(ctx, bpf_get_current_task_btf());
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(off_cpu_switch, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	if (!preempt && prev_state)
		goes_to_sleep(ctx, prev, prev_state);
	wakes_up(next);
	return 0;
}
