// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Which cgroups are watched containers', for programs that go by the cgroups of sockets.
#ifndef TRITON_OWNERS_H
#define TRITON_OWNERS_H

#include "core.h"

// owners_v2 is shared with the measuring programs: ids of cgroup2 directories to owners.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); // that of the other
	__type(key, u64);
	__type(value, u64);
} owners_v2 SEC(".maps");

#endif
