// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// System calls: count, errors and durations per container and call.
//
// Hooks: tp_btf sys_enter, sys_exit; attached only while the calls of a container are counted, or in windows. Cost per call: see the benchmark of
// package probes. A call is counted when it returns, exit and exit_group when they are made, since they never do.
// Not seen: what io_uring does without a call, and vDSO functions.
#ifndef TRITON_SYSCALLS_H
#define TRITON_SYSCALLS_H

#include "accepts.h"
#include "cells.h"
#include "files.h"
#include "recorder.h"
#include "steps.h"

const volatile bool count_accepts = 0; // where the network's programs run

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct socket {
	struct sock *sk;
};

#pragma clang attribute pop

// taken counts the connection that accept returned to a task of the container that listens.
static __noinline void taken(struct task_struct *task, u64 taker, u64 fd)
{
	struct file *file = file_of(task, fd);
	struct socket *socket = BPF_CORE_READ(file, private_data);
	u64 sk = (u64)BPF_CORE_READ(socket, sk), now = bpf_ktime_get_ns(), owner, at;
	struct queued *q = bpf_map_lookup_elem(&accept_queue, &sk);

	if (!q)
		return;
	owner = q->owner;
	at = q->at_ns;
	if (!bpf_map_delete_elem(&accept_queue, &sk) && owner == taker)
		add_accept(owner, now - at);
}

static __always_inline bool takes(u32 nr, s64 ret)
{
	return count_accepts && ret >= 0 && (nr == NR_ACCEPT || nr == NR_ACCEPT4);
}

static __always_inline void add_timed(u64 owner, u32 nr, u64 ns, s64 ret)
{
	u32 i = slot_index(owner);
	struct slot *slot = bpf_map_lookup_elem(&slots, &i);
	struct cell *cell;
	u64 *all, *bucket;
	u64 b0, b2;

	if (!slot)
		return;
	cell = cell_of(slot, i, nr);
	if (!cell)
		return;
	b2 = in_register(bucket2_of(ns));
	b0 = in_register((b2 + 3) >> 2);
	if (b2 >= BUCKETS2 || b0 >= BUCKETS0) // never: schema2_index clamps; the verifier cannot know
		return;
	all = counter_at(slot->all, b2);
	bucket = counter_at(cell->buckets, b0);
	ADD(*all, 1);
	ADD(*bucket, 1);
	ADD(cell->sum_ns, ns);
	if (is_error(nr, ret))
		ADD(cell->errors, 1);
}

static __noinline void add_untimed(u64 owner, u32 nr, s64 ret)
{
	u32 i = slot_index(owner);
	struct slot *slot = bpf_map_lookup_elem(&slots, &i);
	struct cell *cell;

	if (!slot)
		return;
	cell = cell_of(slot, i, nr);
	if (!cell)
		return;
	ADD(cell->untimed, 1);
	if (is_error(nr, ret))
		ADD(cell->errors, 1);
}

// untracked handles a task to which the kernel gave no storage (no memory): counted all the same, without duration.
static __noinline void untracked(struct task_struct *task, u32 nr, s64 ret)
{
	u64 owner = owner_of(task);
	struct slot *slot;

	if (!owner || (muted_of(owner) & MUTE_CALLS))
		return;
	slot = slot_of(owner);
	if (slot)
		ADD(slot->drop_storage, 1);
	add_untimed(owner, nr, ret);
}

static __always_inline bool counts_calls(struct task_state *st)
{
	return st->owner && !(st->muted & MUTE_CALLS);
}

static __always_inline void enter(struct task_struct *task, struct pt_regs *regs, s64 call)
{
	struct task_state *st = state_of(task);
	u64 id = cgroup_id_of(task);
	u32 nr;

	if (!st) {
		st = new_state(task);
		if (!st) {
			nr = number_of(task, call);
			if (never_returns(nr))
				untracked(task, nr, 0);
			return;
		}
	}
	if (st->cgroup_id != id || st->epoch != (u32)epoch)
		refresh(task, st, id);
	if (!counts_calls(st))
		return;
	nr = number_of(task, call);
	if (never_returns(nr)) {
		add_untimed(st->owner, nr, 0);
		record(task, st, regs, nr, bpf_ktime_get_ns(), NS_IN_CALL, 0);
		return;
	}
	st->nr = nr;
	st->start_ns = bpf_ktime_get_ns();
	record(task, st, regs, nr, st->start_ns, NS_IN_CALL, 0);
}

// leave_unpaired counts a return whose entry was not seen: seccomp refused the call before the entry hook, or it began
// before the watch.
static __noinline void leave_unpaired(struct task_struct *task, struct task_state *st, struct pt_regs *regs, s64 call, s64 ret)
{
	u32 nr = number_of(task, call);

	if (!st) {
		st = new_state(task);
		if (!st && !is_birth(nr, ret))
			untracked(task, nr, ret);
		if (!st)
			return;
	}
	if (st->cgroup_id != cgroup_id_of(task) || st->epoch != (u32)epoch)
		refresh(task, st, cgroup_id_of(task));
	if (!counts_calls(st) || is_birth(nr, ret))
		return;
	add_untimed(st->owner, nr, ret);
	if (takes(nr, ret))
		taken(task, st->owner, ret);
	record(task, st, regs, nr, bpf_ktime_get_ns(), NS_UNKNOWN, ret);
}

static __always_inline void leave(struct task_struct *task, struct pt_regs *regs, s64 ret)
{
	struct task_state *st = state_of(task);
	u64 ns;

	if (st && st->epoch != (u32)epoch)
		refresh(task, st, cgroup_id_of(task)); // keeps start_ns when the owner is the same and the hooks have been on since
	if (!st || !st->start_ns) {
		leave_unpaired(task, st, regs, SYSCALL_NR(regs), ret);
		return;
	}
	ns = bpf_ktime_get_ns() - st->start_ns;
	st->start_ns = 0;
	record_return(st, ns, ret);
	add_timed(st->owner, st->nr, ns, ret);
	if (takes(st->nr, ret))
		taken(task, st->owner, ret);
}

#endif
