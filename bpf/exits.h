// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Exit statuses that outlive the daemon: how containers' and execs' first processes are recognised and what is kept.
//
// A container's first process is not forked by the shim directly: runc's nsexec clones three times with CLONE_PARENT,
// so stages 0, 1 and 2 are all children of the shim, each forked by the one before. Only stage 2 runs the program. A
// child of a registered parent is entered at its birth, before it runs, with the stage of its forker plus one; stages
// 0 and 1 leave when they end, and nothing beyond stage 2 is entered, so that a hostile program that clones with
// CLONE_PARENT cannot fill the map. User space deletes entries once it has stored them.
#ifndef TRITON_EXITS_H
#define TRITON_EXITS_H

#include "first.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024); // set by the loader: one per shim
	__type(key, u32);          // pid of a shim
	__type(value, u64);        // cgroup id of its container, 0 while it waits in the pool
} parents SEC(".maps");

enum exit_count {
	EXITS_FULL = 0,    // children not entered because the map was full: their status is lost
	EXITS_REFUSED = 1, // children beyond the last stage
	EXITS_COUNTS = 2,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, EXITS_COUNTS);
	__type(key, u32);
	__type(value, u64);
} exit_counts SEC(".maps");

static __always_inline void count_exit(u32 which)
{
	u64 *n = bpf_map_lookup_elem(&exit_counts, &which);

	if (n)
		__sync_fetch_and_add(n, 1);
}

// child_born enters a new process that registered parent pid `parent` will be asked to reap; forker made it.
static __always_inline void child_born(u32 forker, u32 parent, u32 child)
{
	u64 *cgroup_id = bpf_map_lookup_elem(&parents, &parent);
	struct exit_record rec = {};

	if (!cgroup_id)
		return;
	if (forker != parent) {
		struct exit_record *by = bpf_map_lookup_elem(&exits, &forker);

		if (!by || by->stage >= LAST_STAGE) {
			count_exit(EXITS_REFUSED);
			return;
		}
		rec.stage = by->stage + 1;
	}
	rec.cgroup_id = *cgroup_id;
	rec.parent = parent;
	if (bpf_map_update_elem(&exits, &child, &rec, BPF_ANY))
		count_exit(EXITS_FULL);
}

// child_execed notes that a last stage executes the program: what it does from now on is the container's.
static __always_inline void child_execed(u32 pid)
{
	struct exit_record *rec = bpf_map_lookup_elem(&exits, &pid);

	if (rec && !rec->ended && rec->stage == LAST_STAGE)
		rec->stage = PROGRAM_STAGE;
}

// child_ended stores the status of an entered process, or forgets one that never was a container's program.
static __always_inline void child_ended(u32 pid, u32 status)
{
	struct exit_record *rec = bpf_map_lookup_elem(&exits, &pid);

	if (!rec || rec->ended)
		return;
	if (rec->stage < LAST_STAGE) {
		bpf_map_delete_elem(&exits, &pid);
		return;
	}
	rec->status = status;
	rec->at_ns = bpf_ktime_get_boot_ns();
	__sync_fetch_and_add(&rec->ended, 1); // last, so that a reader who sees it sees the rest
}

#endif
