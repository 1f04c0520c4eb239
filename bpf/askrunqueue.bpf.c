//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Questions about waits for a CPU.
//
// Hook: tp_btf sched_switch, while somebody looks: a walk up the cgroups for each switch of any task, and a hash update for one
// that counts. The kernel adds up each task's waiting itself (sched_info.run_delay); what that grew by since the task last
// left a CPU is one wait. Where that was is remembered of tasks that count; of the others, and of those for which there is no
// room, only what they waited on this CPU is known, by what the sum was when they came on it. A wait shows when the task next
// leaves the CPU. Not seen: waits of zero, and the first of a task that waited already when the question began.
#include "askrunqueue.h"

char __license[] SEC("license") = "GPL";

#define TASK_DEAD 0x80 // include/linux/sched.h: its last time

static __noinline u64 entry_of_waiter(struct task_struct *task)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);

	return OWNER_IN(asked, cgroup);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(ask_switch, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	u64 total = prev->sched_info.run_delay, entry = prev->pid ? entry_of_waiter(prev) : 0, ns;
	u32 zero = 0, tid = prev->pid;
	struct on_cpu *on = bpf_map_lookup_elem(&on_cpus, &zero);
	struct event *e;

	if (!on)
		return 0;
	if (entry && !in_setup(prev->tgid)) {
		ns = waited(tid, total, prev->sched_info.pcount, on);
		e = ns ? event_of(0) : 0;
		if (e) {
			e->word[W_LATENCY] = ns;
			bpf_probe_read_kernel_str(&e->word[W_COMM], sizeof(prev->comm), __builtin_preserve_access_index(&prev->comm));
			consider(e, entry, 0);
		}
		if (!preempt && prev_state & TASK_DEAD)
			bpf_map_delete_elem(&left, &tid);
		else
			bpf_map_update_elem(&left, &tid, &total, BPF_ANY);
	}
	on->pid = next->pid;
	on->run_delay_ns = next->sched_info.run_delay;
	return 0;
}
