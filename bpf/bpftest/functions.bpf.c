//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The functions of the measurement and exit programs, callable by a test: tp_btf programs have no test run, syscall
// programs have one. And an empty pair of hooks, the floor that a benchmark compares with.
#include "syscalls.h"
#include "runqueue.h"
#include "exits.h"

char __license[] SEC("license") = "GPL";

struct bucket_args {
	u64 ns;
	u32 b2;
	u32 b0;
};

SEC("syscall")
int test_bucket(struct bucket_args *args)
{
	int i = schema2_index(args->ns);

	args->b2 = bucket2(i);
	args->b0 = bucket0(i);
	return 0;
}

struct call_args {
	u64 owner;
	u64 ns; // 0: without duration
	s64 ret;
	u64 nr;
};

SEC("syscall")
int test_add(struct call_args *args)
{
	if (args->ns)
		add_timed(args->owner, args->nr, args->ns, args->ret);
	else
		add_untimed(args->owner, args->nr, args->ret);
	return 0;
}

// test_enter and test_leave run the hooks' functions for the calling task.
SEC("syscall")
int test_enter(struct call_args *args)
{
	enter(bpf_get_current_task_btf(), 0, args->nr);
	return 0;
}

SEC("syscall")
int test_leave_unpaired(struct call_args *args)
{
	struct task_struct *task = bpf_get_current_task_btf();

	leave_unpaired(task, bpf_task_storage_get(&tasks, task, 0, 0), 0, args->nr, args->ret);
	return 0;
}

struct exit_args {
	u32 forker;
	u32 parent;
	u32 pid;
	u32 status;
};

SEC("syscall")
int test_child_born(struct exit_args *args)
{
	child_born(args->forker, args->parent, args->pid);
	return 0;
}

SEC("syscall")
int test_child_ended(struct exit_args *args)
{
	child_ended(args->pid, args->status);
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(empty_enter, struct pt_regs *regs, long nr)
{
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(empty_exit, struct pt_regs *regs, long ret)
{
	return 0;
}
