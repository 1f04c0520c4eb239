//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Profiles: what a container's tasks are busy with.
//
// Hook: a clock event of each CPU, 99 times a second, attached only while somebody profiles. Cost: some 2 us a tick that
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
