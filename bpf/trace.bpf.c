//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The live trace of one container: a record in a ring of its own for each system call that its filter lets pass.
//
// Hooks: tp_btf sys_enter, sys_exit, sched_process_exec. Each trace is a collection of its own, loaded and attached when somebody looks and
// gone when they leave: nobody pays while nobody looks, and traces share neither ring nor limit. While it is attached every
// process of the machine pays for the question of its cgroup at each call that the filter names.
// Arguments in memory are read when the call returns, since the kernel has read them by then and their pages are there;
// what execve runs is read at its entry, or, if its page was not there, from the kernel's copy, for afterwards its memory is
// gone. Memory may have changed meanwhile.
// Not seen: what io_uring does without a call, and vDSO functions.
#include "trace.h"

char __license[] SEC("license") = "GPL";

const struct traced_call *unused_call __attribute__((unused)); // keeps the type in BTF for the Go side

// state_of gives the storage of a thread that is traced.
static __noinline struct call_state *state_of(struct task_struct *task, struct pt_regs *regs, u32 nr)
{
	struct call_state *st = bpf_task_storage_get(&in_call, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!st) {
		__sync_fetch_and_add(&lost_ring, 1);
		return 0;
	}
	copy_args(st->args, regs);
	st->nr = nr;
	st->program_length = NOT_READ;
	return st;
}

static __always_inline void trace_entry(struct task_struct *task, struct pt_regs *regs, s64 call)
{
	u32 nr = number_of(task, call);
	struct call_state *st;
	s64 got;

	if (!wanted(nr) || !passes(task))
		return;
	st = state_of(task, regs, nr);
	if (!st)
		return;
	if (never_returns(nr)) {
		if (!only_errors && !least_ns)
			emit(task, st, bpf_ktime_get_ns(), NS_IN_CALL, 0);
		return;
	}
	if (executes(nr) && captures[nr]) {
		got = bpf_probe_read_user_str(st->program, MEMORY, (void *)st->args[nr == NR_EXECVEAT]);
		if (got >= 0)
			st->program_length = got;
	}
	st->start_ns = bpf_ktime_get_ns();
}

static __always_inline void trace_return(struct task_struct *task, struct pt_regs *regs, s64 ret)
{
	struct call_state *st = bpf_task_storage_get(&in_call, task, 0, 0);
	u64 now = bpf_ktime_get_ns(), at = now, ns = NS_UNKNOWN;
	u32 nr;

	if (st && st->start_ns) {
		at = st->start_ns;
		ns = now - at;
		st->start_ns = 0;
		if (ns < least_ns || (only_errors && !is_error(st->nr, ret)))
			return;
	} else { // it began before the trace, or seccomp refused it before the entry hook
		nr = number_of(task, SYSCALL_NR(regs));
		if (least_ns || !wanted(nr) || is_birth(nr, ret) || (only_errors && !is_error(nr, ret)) || !passes(task))
			return;
		st = state_of(task, regs, nr);
	}
	emit(task, st, at, ns, ret);
}

// trace_program notes what is executed, unless it could be read at the entry.
static __always_inline void trace_program(struct task_struct *task, struct linux_binprm *bprm)
{
	struct call_state *st = bpf_task_storage_get(&in_call, task, 0, 0);
	s64 got;

	if (!st || !st->start_ns || !executes(st->nr) || st->program_length != NOT_READ || !captures[st->nr & (SYSCALLS - 1)])
		return;
	got = bpf_probe_read_kernel_str(st->program, MEMORY, BPF_CORE_READ(bprm, filename));
	if (got >= 0)
		st->program_length = got;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(trace_enter, struct pt_regs *regs, long nr)
{
	trace_entry(bpf_get_current_task_btf(), regs, nr);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(trace_exec, struct task_struct *task, s32 old_pid, struct linux_binprm *bprm)
{
	trace_program(task, bprm);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(trace_exit, struct pt_regs *regs, long ret)
{
	trace_return(bpf_get_current_task_btf(), regs, ret);
	return 0;
}
