// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// How a test calls a function: a program of type raw_tp, which a test runs, has its arguments in a variable beside it, which
// the test sets and reads. Programs of type syscall would take them by themselves, but may not use all maps on Linux 6.1.
#ifndef TRITON_TESTED_H
#define TRITON_TESTED_H

#include "core.h"

// TESTED begins the program name, which finds args, of a struct type, in name_args.
#define TESTED(name, type)                                          \
	struct type name##_args;                                    \
	static __always_inline void name##_of(struct type *args);   \
	SEC("raw_tp")                                               \
	int name(void *ctx)                                         \
	{                                                           \
		name##_of(&name##_args);                            \
		return 0;                                           \
	}                                                           \
	static __always_inline void name##_of(struct type *args)

#endif
