//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The programs that measure watched containers. One subject per header; here are only the hooks. The loader leaves out
// what the running kernel lacks and reports it.
#include "syscalls.h"
#include "runqueue.h"
#include "lifecycle.h"
#include "blockio.h"

char __license[] SEC("license") = "GPL";

const struct event *unused_event __attribute__((unused)); // keeps the type in BTF for the Go side

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs *regs, long nr)
{
	enter(bpf_get_current_task_btf(), regs, nr);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long ret)
{
	leave(bpf_get_current_task_btf(), regs, ret);
	return 0;
}

SEC("tp_btf/sched_switch")
int sched_switch(struct switching *now)
{
	switch_out(now);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_execs, struct task_struct *task)
{
	process_exec(task);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_forks, struct task_struct *parent, struct task_struct *child)
{
	process_fork(child);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exits, struct task_struct *task, bool group_dead)
{
	record_end(task);
	if (group_dead)
		process_exit(task);
	return 0;
}

// For kernels whose hook has no group_dead (before 6.16). Two threads that end at once may both see zero.
SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exits_old, struct task_struct *task)
{
	record_end(task);
	if (task->signal->live.counter == 0)
		process_exit(task);
	return 0;
}

// After the thread left the CPU for the last time, and nobody can find it any more.
SEC("tp_btf/sched_process_free")
int BPF_PROG(threads_freed, struct task_struct *task)
{
	give_back(task);
	return 0;
}

SEC("tp_btf/signal_deliver")
int BPF_PROG(signals, int sig, struct kernel_siginfo *info, struct k_sigaction *action)
{
	signal_delivered(bpf_get_current_task_btf(), sig, info, action);
	return 0;
}

SEC("tp_btf/mark_victim")
int BPF_PROG(oom_kills, struct task_struct *victim)
{
	oom_victim(victim);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(block_ios, struct request *rq, u32 error, unsigned int bytes)
{
	block_complete(rq, bytes);
	return 0;
}
