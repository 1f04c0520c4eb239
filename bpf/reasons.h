// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// What a task may wait for.
#ifndef TRITON_REASONS_H
#define TRITON_REASONS_H

// The order is that of triton.WaitReason.
enum off_cpu_reason {
	WAIT_DISK,
	WAIT_NETWORK,
	WAIT_LOCK,
	WAIT_SLEEP,
	WAIT_POLL,
	WAIT_PIPE,
	WAIT_FAULT,
	WAIT_CHILD,
	WAIT_OTHER,
	OFF_CPU_REASONS,
	WAIT_BY_FILE = 255, // in wait_reasons: what the first argument, a descriptor, is of tells
};

#endif
