// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Off the CPU: how long tasks of a container waited for anything but a CPU, and for what.
//
// Hook: that of the run queue. When a task that waited gets a CPU, the reason is noted, by the system call that it is
// in (no hook of system calls is needed: its registers are where the task entered the kernel), by what the call's
// descriptor is of, and by the kernel's mark of those who wait for a device. The wait is added when the task leaves the CPU the
// next time: it lasted from when it left it until it was back, less what it waited for a CPU, which the kernel adds up
// (sched_info). No clock is read. Cost: some loads per switch; of a wait of SHORT_NS or more, a call of the kernel and five loads.
//
// Shorter waits of a thread have the reason of one of them, asked anew when it is KEPT old: asking would cost more than all else.
//
// Not known: waits that have not ended; why a task waited whose switch the kernel keeps from tracepoints, as those from the agents of
// some virtual machines (they are OTHER); interrupts that took the CPU while the task ran are in the wait after; a lock of the
// kernel is the call that wants it; what io_uring does for a task has its workers' waits only.
#ifndef TRITON_OFFCPU_H
#define TRITON_OFFCPU_H

#include "files.h"
#include "slots.h"

#define TASK_STOPPED_OR_TRACED 0xc // include/linux/sched.h
#define TASK_FROZEN 0x8000
#define PF_IO_WORKER 0x10
#define PF_USER_WORKER 0x4000
#define PF_KTHREAD 0x200000

#define TO_ASK 255      // of task_state.waits: why the task waits is asked when it gets a CPU
#define SHORT_NS 50000  // of a longer wait the question takes a thousandth part at most: some 50 ns
#define KEPT 1000       // units of 1024 ns: of a thread's time questions about short waits take as much at most

#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_IFREG 0100000
#define S_IFBLK 0060000
#define S_IFDIR 0040000
#define S_IFCHR 0020000
#define S_IFIFO 0010000

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct task_struct___waits {
	unsigned int flags;
	unsigned in_iowait : 1;
};

#pragma clang attribute pop

const volatile u8 wait_reasons[SYSCALLS] = {}; // off_cpu_reason by system call; set by the loader

static __always_inline u32 reason_of_file(u32 mode)
{
	switch (mode & S_IFMT) {
	case S_IFSOCK:
		return WAIT_NETWORK;
	case S_IFIFO:
		return WAIT_PIPE;
	case S_IFREG:
	case S_IFBLK:
	case S_IFDIR:
		return WAIT_DISK;
	case S_IFCHR:
		return WAIT_OTHER; // a terminal, mostly
	}
	return WAIT_POLL; // eventfd, timerfd, inotify and the like
}

// reason_of_call tells what a call waits for. A call that awaits other calls' ends (POLL: io_uring, too) may be marked as
// waiting for a device.
static __always_inline u32 reason_of_call(u32 table, u32 mode, bool device)
{
	u32 why = table == WAIT_BY_FILE ? reason_of_file(mode) : table;

	return device && why != WAIT_POLL ? WAIT_DISK : why;
}

// why_waits tells what a task waits for, or waited for until now, that was not stopped.
static __always_inline u32 why_waits(struct task_struct *task)
{
	struct task_struct___waits *t = (struct task_struct___waits *)task;
	bool device = BPF_CORE_READ_BITFIELD(t, in_iowait);
	struct pt_regs *regs;
	u32 table;
	s64 nr;

	if (t->flags & (PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER)) // its registers mean nothing
		return device ? WAIT_DISK : WAIT_OTHER;
	regs = (struct pt_regs *)bpf_task_pt_regs(task);
	nr = SYSCALL_NR(regs);
	if (nr < 0)
		return WAIT_FAULT; // in no call: the processor could not go on
	table = wait_reasons[number_of(task, nr) & (SYSCALLS - 1)];
	return reason_of_call(table, table == WAIT_BY_FILE ? mode_of(task, (u32)SYSCALL_ARG0(regs)) : 0, device);
}

// begin_wait gives what is noted of a task that leaves the CPU in this state; 0: it could go on.
static __always_inline u32 begin_wait(u32 state)
{
	if (!state)
		return 0;
	return state & (TASK_STOPPED_OR_TRACED | TASK_FROZEN) ? 1 + WAIT_OTHER : TO_ASK;
}

// ask asks why the task waited until woken_ns.
static __noinline void ask(struct task_struct *task, struct task_state *st, u64 woken_ns)
{
	st->waits = 1 + why_waits(task);
	if (woken_ns - st->left_ns >= SHORT_NS)
		return;
	st->asked = st->waits;
	st->asked_at = woken_ns >> 10;
}

// end_wait is called with a task that gets a CPU, and since when it could have one. It is still where it waited.
static __always_inline void end_wait(struct task_struct *task, struct task_state *st, u64 woken_ns)
{
	if (st->waits != TO_ASK)
		return;
	if (st->asked && woken_ns - st->left_ns < SHORT_NS && (u32)(woken_ns >> 10) - st->asked_at < KEPT)
		st->waits = st->asked;
	else
		ask(task, st, woken_ns);
}

// add_off_cpu adds the wait that ended before the stint that ends now, and notes where the next begins. ran_ns is how long the
// stint was, wait_ns for how long the task waited for the CPU before it.
static __always_inline void add_off_cpu(bool alone, struct slot *slot, struct task_state *st, u64 arrival_ns, u64 ran_ns, u64 wait_ns)
{
	u64 reason = in_register((u64)st->waits - 1), off;
	u64 *sum;

	if (reason == TO_ASK - 1) // the switch to the task was not seen
		reason = WAIT_OTHER;
	if (reason < OFF_CPU_REASONS && arrival_ns > st->left_ns + wait_ns) {
		off = arrival_ns - st->left_ns - wait_ns;
		sum = counter_at(slot->off_cpu_ns, reason);
		ADD_AS(alone, *sum, off);
	}
	st->left_ns = arrival_ns + ran_ns;
}

#endif
