// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Which system calls a program looks at, by number, and what those that execute run.
#ifndef TRITON_WANTED_H
#define TRITON_WANTED_H

#include "calls.h"

struct linux_binprm {
	const char *filename; // as execve was given it; of execveat below a descriptor "/dev/fd/3/name"
} __attribute__((preserve_access_index));

static __always_inline bool executes(u32 nr)
{
	return nr == NR_EXECVE || nr == NR_EXECVEAT;
}

const volatile u64 wanted_calls[SYSCALLS / 64] = {};

static __always_inline bool wanted(u32 nr)
{
	return wanted_calls[(nr / 64) & (SYSCALLS / 64 - 1)] >> (nr & 63) & 1;
}

#endif
