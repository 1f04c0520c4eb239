// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Questions about system calls: what of a call is compared and told apart. See asksyscalls.bpf.c.
#ifndef TRITON_ASKSYSCALLS_H
#define TRITON_ASKSYSCALLS_H

#include "ask.h"
#include "wanted.h"

#define BY_ENTRY 0 // the programs' places in events
#define BY_RETURN 1

struct asked_call {
	u64 start_ns; // 0: in no call that is asked for
	u64 entry;    // of asked
	u64 path_at;
	u32 nr;
	u32 have_path; // path was read at the entry
	u64 path[PATH_BYTES / 8];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct asked_call);
} asked_calls SEC(".maps");

const volatile u32 call_leaves[SYSCALLS] = {}; // that hold by the number
const volatile u8 path_args[SYSCALLS] = {};    // the argument that is a path, from 1; 0: none, or nobody asks

// entry_of looks a task's container up; 0: nothing of it can count.
static __noinline u64 entry_of(struct task_struct *task)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	u64 entry = OWNER_IN(asked, cgroup);

	return entry && in_setup(BPF_CORE_READ(task, tgid)) ? 0 : entry;
}

static __always_inline u64 argument(struct pt_regs *regs, u32 from_one)
{
	switch (from_one) {
	case 1:
		return SYSCALL_ARG0(regs);
	case 2:
		return SYSCALL_ARG1(regs);
	case 3:
		return SYSCALL_ARG2(regs);
	}
	return 0;
}

static __noinline int count_call(u32 program, const struct asked_call *call, u64 ns, s64 ret)
{
	struct event *e = event_of(program);
	u32 nr;

	if (!e || !call)
		return 0;
	nr = call->nr & (SYSCALLS - 1);
	e->word[W_CALL] = nr;
	e->word[W_ERRNO] = is_error(nr, ret) ? -ret : 0;
	e->word[W_LATENCY] = ns;
	bpf_get_current_comm(&e->word[W_COMM], 16);
	if (call->have_path)
		__builtin_memcpy(&e->word[W_PATH], call->path, PATH_BYTES);
	else if (call->path_at && (!executes(nr) || ret < 0)) // after an execve the memory is the new program's
		bpf_probe_read_user_str(&e->word[W_PATH], PATH_BYTES, (void *)call->path_at);
	return consider(e, call->entry, call_leaves[nr]);
}

// begin notes what is known of a call at its entry.
static __always_inline struct asked_call *begin(struct task_struct *task, struct pt_regs *regs, u32 nr, u64 entry)
{
	struct asked_call *call = bpf_task_storage_get(&asked_calls, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!call) {
		__sync_fetch_and_add(&lost_room, 1);
		return 0;
	}
	call->entry = entry;
	call->nr = nr;
	call->path_at = argument(regs, path_args[nr & (SYSCALLS - 1)]);
	call->have_path = 0;
	return call;
}

#endif
