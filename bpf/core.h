// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The kernel types that the programs read, cut down to the fields they read. preserve_access_index makes the loader
// patch every offset to those of the running kernel (CO-RE), so order and gaps here mean nothing.
#ifndef TRITON_CORE_H
#define TRITON_CORE_H

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __s32 s32;
typedef __u64 u64;
typedef __s64 s64;
typedef _Bool bool;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
	u64 id; // the inode of the cgroup's directory
};

struct cgroup {
	struct kernfs_node *kn;
	int level;
	struct cgroup *ancestors[]; // since 6.1; [level] is the cgroup itself
};

struct css_set {
	struct cgroup *dfl_cgrp; // the task's place in cgroup2
};

struct thread_info {
	u32 status;
};

struct sched_info {
	unsigned long pcount;
	unsigned long long run_delay;    // ns waited on a run queue, since birth
	unsigned long long last_arrival; // when it came on the CPU, by the run queue's clock
	unsigned long long last_queued;  // since when it waits; 0: it does not
};

struct sched_entity {
	u64 sum_exec_runtime; // ns on a CPU, since birth
	u64 prev_sum_exec_runtime; // the same when it got the CPU last; not of real-time tasks
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live;
	int group_exit_code;
	unsigned int flags;
};

struct task_struct {
	struct thread_info thread_info;
	struct sched_info sched_info;
	struct sched_entity se;
	int exit_code;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct signal_struct *signal;
	struct css_set *cgroups;
	char comm[16];
};

union __sifields {
	struct {
		void *_addr;
	} _sigfault;
};

struct kernel_siginfo {
	int si_signo;
	int si_errno;
	int si_code;
	union __sifields _sifields;
};

struct sigaction {
	void *sa_handler;
};

struct k_sigaction {
	struct sigaction sa;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long orig_ax;
	unsigned long di, si, dx, r10, r8, r9;
};
#define SYSCALL_NR(regs) ((s64)(regs)->orig_ax)
#define SYSCALL_ARG0(regs) ((regs)->di)
#define SYSCALL_ARG1(regs) ((regs)->si)
#define SYSCALL_ARG2(regs) ((regs)->dx)
#define SYSCALL_ARG3(regs) ((regs)->r10)
#define SYSCALL_ARG4(regs) ((regs)->r8)
#define SYSCALL_ARG5(regs) ((regs)->r9)
#define NR_RT_SIGRETURN 15
#define NR_CLONE 56
#define NR_FORK 57
#define NR_VFORK 58
#define NR_EXECVE 59
#define NR_EXECVEAT 322
#define NR_EXIT 60
#define NR_ACCEPT 43
#define NR_ACCEPT4 288
#define NR_EXIT_GROUP 231
#define TS_COMPAT 2 // arch/x86/include/asm/thread_info.h: a 32-bit call, which has other numbers
#define IS_COMPAT(task) ((task)->thread_info.status & TS_COMPAT)
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	u64 regs[31];
	int syscallno;
};
#define SYSCALL_NR(regs) ((s64)(regs)->syscallno)
#define SYSCALL_ARG0(regs) ((regs)->regs[0]) // the result, once there is one
#define SYSCALL_ARG1(regs) ((regs)->regs[1])
#define SYSCALL_ARG2(regs) ((regs)->regs[2])
#define SYSCALL_ARG3(regs) ((regs)->regs[3])
#define SYSCALL_ARG4(regs) ((regs)->regs[4])
#define SYSCALL_ARG5(regs) ((regs)->regs[5])
#define NR_RT_SIGRETURN 139
#define NR_CLONE 220
#define NR_FORK (-1)
#define NR_VFORK (-1)
#define NR_EXECVE 221
#define NR_EXECVEAT 281
#define NR_EXIT 93
#define NR_ACCEPT 202
#define NR_ACCEPT4 242
#define NR_EXIT_GROUP 94
#define IS_COMPAT(task) 0 // 32-bit tasks are refused by the default seccomp profile
#else
#error "unknown architecture"
#endif
#define NR_CLONE3 435

#pragma clang attribute pop

#define SIGNAL_GROUP_EXIT 0x4  // include/linux/sched/signal.h
#define SIGNAL_UNKILLABLE 0x40 // include/linux/sched/signal.h: the first process of a pid namespace
#define MAX_ERRNO 4095

// exit_status is what wait4 gives for the process. Call it when the last thread ended.
static __always_inline u32 exit_status(struct task_struct *task)
{
	if (BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT)
		return BPF_CORE_READ(task, signal, group_exit_code);
	return BPF_CORE_READ(task, group_leader, exit_code);
}

#endif
