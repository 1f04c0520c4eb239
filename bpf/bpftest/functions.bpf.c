//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The functions of the measurement and exit programs, callable by a test: tp_btf programs have no test run. And empty hooks, the floor that benchmarks compare with.
#include "syscalls.h"
#include "runqueue.h"
#include "exits.h"
#include "tested.h"

char __license[] SEC("license") = "GPL";

struct bucket_args {
	u64 ns;
	u32 b2;
	u32 b0;
	u64 stepped; // b2, as the table of steps has it
};

TESTED(test_bucket, bucket_args)
{
	int i = schema2_index(args->ns);

	args->b2 = bucket2(i);
	args->b0 = bucket0(i);
	args->stepped = bucket2_of(args->ns);
}

struct call_args {
	u64 owner;
	u64 ns; // 0: without duration
	s64 ret;
	u64 nr;
};

TESTED(test_add, call_args)
{
	if (args->ns)
		add_timed(args->owner, args->nr, args->ns, args->ret);
	else
		add_untimed(args->owner, args->nr, args->ret);
}

// test_enter and test_leave run the hooks' functions for the calling task.
TESTED(test_enter, call_args)
{
	enter(bpf_get_current_task_btf(), 0, args->nr);
}

TESTED(test_leave_unpaired, call_args)
{
	struct task_struct *task = bpf_get_current_task_btf();

	leave_unpaired(task, state_of(task), 0, args->nr, args->ret);
}

struct exit_args {
	u32 forker;
	u32 parent;
	u32 pid;
	u32 status;
};

TESTED(test_child_born, exit_args)
{
	child_born(args->forker, args->parent, args->pid);
}

TESTED(test_child_ended, exit_args)
{
	child_ended(args->pid, args->status);
}

struct reason_args {
	u64 fd; // of the calling task; its mode is used
	u32 table;
	u32 device;
	u32 mode;
	u32 why;
};

TESTED(test_reason, reason_args)
{
	args->mode = mode_of(bpf_get_current_task_btf(), args->fd);
	args->why = reason_of_call(args->table, args->mode, args->device);
}

struct off_cpu_args {
	u64 left_ns; // and waits: what a task keeps
	u64 arrival_ns;
	u64 ran_ns;
	u64 wait_ns;
	u64 waits;
};

TESTED(test_off_cpu, off_cpu_args)
{
	struct task_state st = {.left_ns = args->left_ns, .waits = args->waits};
	struct slot *slot = slot_of(1ULL << 32);

	if (slot)
		add_off_cpu(exclusive, slot, &st, args->arrival_ns, args->ran_ns, args->wait_ns);
	args->left_ns = st.left_ns;
}

struct end_args {
	u64 left_ns; // and all but woken_ns: what the calling task, which is in bpf(2), keeps
	u64 woken_ns;
	u32 asked_at;
	u32 asked;
	u32 waits;
	u32 zero;
};

TESTED(test_end_wait, end_args)
{
	struct task_state st = {.left_ns = args->left_ns, .asked_at = args->asked_at, .asked = args->asked, .waits = args->waits};

	end_wait(bpf_get_current_task_btf(), &st, args->woken_ns);
	args->asked_at = st.asked_at;
	args->asked = st.asked;
	args->waits = st.waits;
}

struct accept_args {
	u64 owner;
	u64 fd;
	u64 age_ns;
};

// test_queue notes the connection that a descriptor of the calling task is of as one that has waited for so long.
TESTED(test_queue, accept_args)
{
	struct file *file = file_of(bpf_get_current_task_btf(), args->fd);
	struct socket *socket = BPF_CORE_READ(file, private_data);
	u64 sk = (u64)BPF_CORE_READ(socket, sk);
	struct queued q = {.owner = args->owner, .at_ns = bpf_ktime_get_ns() - args->age_ns};

	bpf_map_update_elem(&accept_queue, &sk, &q, BPF_ANY);
}

TESTED(test_taken, accept_args)
{
	taken(bpf_get_current_task_btf(), args->owner, args->fd);
}

SEC("tp_btf/sched_switch")
int empty_switch(void *ctx)
{
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
