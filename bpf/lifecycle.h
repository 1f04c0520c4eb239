// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Life of processes: execs, exits, forks, fatal signals, OOM kills; a counter each, and a record in the ring for all
// but forks, of the kinds that somebody reads: a container that forks without end wakes nobody who does not want to know.
//
// Hooks: tp_btf sched_process_exec, sched_process_exit, sched_process_fork, signal_deliver, mark_victim; always
// attached. Cost: one or a few hash lookups per event. A process counts once, when its last thread ended.
// Not seen: who sent a signal; on kernels before 6.8 mark_victim names no task and the program is left out.
#ifndef TRITON_LIFECYCLE_H
#define TRITON_LIFECYCLE_H

#include "recorder.h"

enum event_kind {
	EVENT_EXEC = 1,
	EVENT_EXIT = 2,
	EVENT_SIGNAL = 3,
	EVENT_OOM = 4,
};

struct event {
	u64 at_ns; // CLOCK_BOOTTIME
	u64 owner;
	u64 cgroup_id;
	u64 address; // signal: the faulting address
	u32 kind;
	u32 pid;
	u32 tid;
	u32 parent;
	u32 status; // exit: wait status; signal: number
	s32 code;   // signal: si_code
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024); // 3,200 records: a second of a busy machine
} events SEC(".maps");

u64 wanted_events = 0; // kinds that have readers, a bit each; user space changes it

#define BIT(n) (1ULL << (n))

static __always_inline struct event *reserve(struct slot *slot, struct task_struct *task, u64 owner, u32 kind)
{
	struct event *e;

	if (!(wanted_events & BIT(kind)))
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		__sync_fetch_and_add(&slot->drop_ring, 1);
		return 0;
	}
	e->at_ns = bpf_ktime_get_boot_ns();
	e->owner = owner;
	e->cgroup_id = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	e->address = 0;
	e->kind = kind;
	e->pid = BPF_CORE_READ(task, tgid);
	e->tid = BPF_CORE_READ(task, pid);
	e->parent = BPF_CORE_READ(task, real_parent, tgid);
	e->status = 0;
	e->code = 0;
	bpf_probe_read_kernel(e->comm, sizeof(e->comm), &task->comm);
	return e;
}

static __always_inline void process_exec(struct task_struct *task)
{
	struct task_state *st = state_of(task);
	u64 owner = owner_of(task); // the exit program, attached first, has ended the setup of a first process by now
	struct slot *slot = owner ? slot_of(owner) : 0;
	struct event *e;

	if (st)
		st->epoch = 0; // what was looked up for the runtime's setup does not hold for the program
	if (st)
		record_exec(task, st);
	if (!slot)
		return;
	if (!st)
		new_state(task); // as in process_fork
	ADD(slot->execs, 1);
	e = reserve(slot, task, owner, EVENT_EXEC);
	if (e)
		bpf_ringbuf_submit(e, 0);
}

// last_owner is whom the task's last system call was charged to. At its end the exit program may have forgotten
// already that a process was the runtime's; a task that made no call since the watch began is looked up.
static __always_inline u64 last_owner(struct task_struct *task)
{
	struct task_state *st = state_of(task);

	return st && st->cgroup_id == BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id) ? st->owner : owner_of(task);
}

static __always_inline void process_exit(struct task_struct *task)
{
	u64 owner = last_owner(task);
	struct slot *slot = owner ? slot_of(owner) : 0;
	struct event *e;
	u32 status;

	if (!slot)
		return;
	status = exit_status(task);
	ADD(slot->exits, 1);
	if (status & 0x7f)
		ADD(slot->fatal_signals, 1);
	e = reserve(slot, task, owner, EVENT_EXIT);
	if (!e)
		return;
	e->status = status;
	bpf_ringbuf_submit(e, 0);
}

static __always_inline void process_fork(struct task_struct *child)
{
	u64 owner = owner_of(child);
	struct slot *slot = owner ? slot_of(owner) : 0;

	if (!slot)
		return;
	// For the run queue, which must not make it, where no system call does.
	new_state(child);
	if (BPF_CORE_READ(child, pid) == BPF_CORE_READ(child, tgid))
		ADD(slot->forks, 1);
	else
		ADD(slot->threads, 1);
}

// Signals that end a process with a core by default: QUIT ILL TRAP ABRT BUS FPE SEGV XCPU XFSZ SYS.
#define CORE_SIGNALS (BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(11) | BIT(24) | BIT(25) | BIT(31))

// signal_delivered records a signal that is about to dump core, with what only this moment knows: the faulting thread,
// address and si_code. Other deaths by signal are visible in the exit record alone. The siblings of a dying thread are
// delivered SIGKILL, which is none of these.
static __always_inline void signal_delivered(struct task_struct *task, int sig, struct kernel_siginfo *info,
					     struct k_sigaction *action)
{
	struct slot *slot;
	struct event *e;
	u64 owner;

	if (sig < 1 || sig > 63 || !(CORE_SIGNALS & BIT(sig)) || BPF_CORE_READ(action, sa.sa_handler))
		return;
	if (BPF_CORE_READ(task, signal, flags) & SIGNAL_UNKILLABLE)
		return; // the kernel drops it; a fault of a first process clears the flag beforehand
	owner = owner_of(task);
	slot = owner ? slot_of(owner) : 0;
	if (!slot)
		return;
	e = reserve(slot, task, owner, EVENT_SIGNAL);
	if (!e)
		return;
	e->status = sig;
	if ((u64)info > 2) { // SEND_SIG_NOINFO and SEND_SIG_PRIV are no pointers
		e->code = BPF_CORE_READ(info, si_code);
		e->address = (u64)BPF_CORE_READ(info, _sifields._sigfault._addr);
	}
	bpf_ringbuf_submit(e, 0);
}

static __always_inline void oom_victim(struct task_struct *victim)
{
	u64 owner = owner_of(victim);
	struct slot *slot = owner ? slot_of(owner) : 0;
	struct event *e;

	if (!slot)
		return;
	ADD(slot->oom_kills, 1);
	e = reserve(slot, victim, owner, EVENT_OOM);
	if (e)
		bpf_ringbuf_submit(e, 0);
}

#endif
