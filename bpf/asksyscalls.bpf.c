//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Questions about system calls.
//
// Hooks: tp_btf sys_enter, sys_exit, sched_process_exec, while somebody looks. Every process of the machine pays for the pair, and for the lookup of
// its container at each call that can count; what counts costs an update of a hash more. A call counts when it returns,
// exit and exit_group when they are made. Paths are read when the call returns, since the kernel has read them by then and
// their pages are there; that of execve at its entry or from the kernel's copy, for afterwards the memory is gone. Memory may have changed meanwhile.
// Not seen: what io_uring does without a call, and vDSO functions.
#include "asksyscalls.h"

char __license[] SEC("license") = "GPL";

SEC("tp_btf/sys_enter")
int BPF_PROG(ask_enter, struct pt_regs *regs, long number)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 nr = number_of(task, number);
	struct asked_call *call;
	u64 entry;

	if (!wanted(nr))
		return 0;
	entry = entry_of(task);
	call = entry ? begin(task, regs, nr, entry) : 0;
	if (!call)
		return 0;
	if (never_returns(nr))
		return count_call(BY_ENTRY, call, NS_UNKNOWN, 0);
	if (executes(nr) && call->path_at) {
		__builtin_memset(call->path, 0, sizeof(call->path));
		call->have_path = bpf_probe_read_user_str(call->path, PATH_BYTES, (void *)call->path_at) >= 0;
	}
	call->start_ns = bpf_ktime_get_ns();
	return 0;
}

// What is executed has no page at the entry, if nothing has touched it yet: then the kernel's copy tells.
SEC("tp_btf/sched_process_exec")
int BPF_PROG(ask_exec, struct task_struct *task, s32 old_pid, struct linux_binprm *bprm)
{
	struct asked_call *call = bpf_task_storage_get(&asked_calls, task, 0, 0);

	if (call && call->start_ns && call->path_at && !call->have_path)
		call->have_path = bpf_probe_read_kernel_str(call->path, PATH_BYTES, BPF_CORE_READ(bprm, filename)) >= 0;
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(ask_exit, struct pt_regs *regs, long ret)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct asked_call *call = bpf_task_storage_get(&asked_calls, task, 0, 0);
	u64 now, entry;
	u32 nr;

	if (call && call->start_ns) {
		now = bpf_ktime_get_ns();
		now -= call->start_ns;
		call->start_ns = 0;
		return count_call(BY_RETURN, call, now, ret);
	}
	// It began before the question, or seccomp refused it before the entry hook.
	nr = number_of(task, SYSCALL_NR(regs));
	if (!wanted(nr) || is_birth(nr, ret))
		return 0;
	entry = entry_of(task);
	call = entry ? begin(task, regs, nr, entry) : 0;
	return call ? count_call(BY_RETURN, call, NS_UNKNOWN, ret) : 0;
}
