// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// First processes: the map of containers' and execs' first processes from their birth to their end, which the exit
// program fills (see exits.h) and the measuring programs read: until such a process executes the container's program
// it is the runtime's, busy with namespaces and mounts, and what it does is not charged to the container.
#ifndef TRITON_FIRST_H
#define TRITON_FIRST_H

#include "core.h"

#define LAST_STAGE 2    // runc's nsexec clones stages 0, 1 and 2; only the last one executes the program
#define PROGRAM_STAGE 3 // and then it is this

struct exit_record {
	u64 at_ns;     // CLOCK_BOOTTIME; 0: still runs
	u64 cgroup_id; // as registered for the parent
	u32 parent;    // the registered parent's pid
	u32 status;    // as wait4 gives it
	u32 stage;
	u32 ended;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH); // no eviction: an entry stays until user space took it
	__uint(max_entries, 8192);       // set by the loader
	__type(key, u32);                // pid
	__type(value, struct exit_record);
} exits SEC(".maps");

// in_setup reports whether process pid is still the runtime's.
static __always_inline bool in_setup(u32 pid)
{
	struct exit_record *rec = bpf_map_lookup_elem(&exits, &pid);

	return rec && !rec->ended && rec->stage <= LAST_STAGE;
}

#endif
