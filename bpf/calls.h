// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// What the numbers and results of system calls mean, for all programs on their hooks.
#ifndef TRITON_CALLS_H
#define TRITON_CALLS_H

#include "core.h"

#define SYSCALLS 512      // x86-64 and arm64 number below 500; the last entry takes what is outside
#define SYSCALL_OTHER 511

#define NS_IN_CALL (~0ULL)      // it has not returned
#define NS_UNKNOWN (~0ULL - 1)  // its entry was not seen

static __always_inline bool is_error(u32 nr, s64 ret)
{
	// rt_sigreturn leaves the interrupted program's register in the place of a result.
	return ret < 0 && ret >= -MAX_ERRNO && nr != NR_RT_SIGRETURN;
}

static __always_inline u32 number_of(struct task_struct *task, s64 nr)
{
	return (u64)nr < SYSCALL_OTHER && !IS_COMPAT(task) ? nr : SYSCALL_OTHER;
}

static __always_inline bool never_returns(u32 nr)
{
	return nr == NR_EXIT || nr == NR_EXIT_GROUP;
}

// is_birth tells a new task's way out of the kernel, which looks like a return from the parent's call.
static __always_inline bool is_birth(u32 nr, s64 ret)
{
	return ret == 0 && (nr == NR_CLONE || nr == NR_CLONE3 || nr == NR_FORK || nr == NR_VFORK);
}

static __always_inline void copy_args(u64 *args, struct pt_regs *regs)
{
	args[0] = SYSCALL_ARG0(regs);
	args[1] = SYSCALL_ARG1(regs);
	args[2] = SYSCALL_ARG2(regs);
	args[3] = SYSCALL_ARG3(regs);
	args[4] = SYSCALL_ARG4(regs);
	args[5] = SYSCALL_ARG5(regs);
}

#endif
