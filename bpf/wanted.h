// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Which system calls a program looks at, by number.
#ifndef TRITON_WANTED_H
#define TRITON_WANTED_H

#include "calls.h"

const volatile u64 wanted_calls[SYSCALLS / 64] = {};

static __always_inline bool wanted(u32 nr)
{
	return wanted_calls[(nr / 64) & (SYSCALLS / 64 - 1)] >> (nr & 63) & 1;
}

#endif
