//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The pinned program: it records the exit status of containers' and execs' first processes while nothing of Triton
// may be running. See exits.h.
//
// Hooks: tp_btf sched_process_fork, sched_process_exec, sched_process_exit, signal_generate; pinned in the instance's bpffs with
// the maps. Cost: two hash lookups per process, none per thread; one per signal that is sent to end a process. Not seen:
// processes born before their parent was registered.
#include "exits.h"

char __license[] SEC("license") = "GPL";

SEC("tp_btf/sched_process_fork")
int BPF_PROG(exits_fork, struct task_struct *forker, struct task_struct *child)
{
	if (child->pid == child->tgid)
		child_born(forker->tgid, child->real_parent->tgid, child->pid);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(exits_exec, struct task_struct *task)
{
	child_execed(task->tgid);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(exits_exit, struct task_struct *task, bool group_dead)
{
	if (group_dead)
		child_ended(task->tgid, exit_status(task));
	return 0;
}

// For kernels whose hook has no group_dead (before 6.16).
SEC("tp_btf/sched_process_exit")
int BPF_PROG(exits_exit_old, struct task_struct *task)
{
	if (task->signal->live.counter == 0)
		child_ended(task->tgid, exit_status(task));
	return 0;
}

SEC("tp_btf/signal_generate")
int BPF_PROG(exits_signal, int sig, struct kernel_siginfo *info, struct task_struct *target, int group, int result)
{
	signal_sent(target, sig, info, result);
	return 0;
}
