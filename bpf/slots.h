// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Slots: what is counted for one watched container, and how a task finds the slot of its container.
//
// A container has one slot per shard (a shard is a group of CPUs), each with a table that gives every system call its
// histogram cell from one bounded pool. User space fills owners_v2, reads slots and cells by mmap, and frees; the
// programs only add. An owner is generation << 32 | slot, never 0; generations are not reused, so a number kept too
// long by a task never means another container.
#ifndef TRITON_SLOTS_H
#define TRITON_SLOTS_H

#include "calls.h"
#include "core.h"
#include "first.h"
#include "histogram.h"
#include "owner.h"
#include "reasons.h"

// What is not counted of a container although its hook is attached, for others.
#define MUTE_CALLS 1
#define MUTE_WAITS 2

struct cell {
	u64 sum_ns;
	u64 errors;
	u64 untimed; // calls counted without a duration: exit, refused by seccomp, begun before the watch
	u64 buckets[BUCKETS0];
};

struct slot {
	u64 all[BUCKETS2]; // every timed call
	u64 run_queue[BUCKETS2];
	u64 run_queue_sum_ns;
	u64 cpu_ns;
	u64 execs;
	u64 exits;
	u64 fatal_signals;
	u64 oom_kills;
	u64 forks;
	u64 threads;
	u64 drop_ring;    // event records lost because the ring was full
	u64 drop_cells;   // calls counted in the shared cell because the pool was empty
	u64 drop_storage; // calls counted without duration because the kernel gave no task storage
	u64 drop_threads; // not in the flight recorder: the container has its share of it, or others have the rest
	u64 block_reads;
	u64 block_writes;
	u64 block_read_bytes;
	u64 block_write_bytes;
	u64 self_delay_ns; // waited while a task of the same container had the CPU; other culprits are in delays
	u64 muted;         // MUTE_…: set by user space, with the next epoch
	u64 off_cpu_ns[OFF_CPU_REASONS]; // waits for anything but a CPU, when they have ended
	u32 cells[SYSCALLS]; // 0: none yet
};

// task_state is kept per thread: see states.h.
struct task_state {
	u64 cgroup_id; // what owner was looked up for
	u64 epoch;     // and when
	u64 owner;     // 0: not watched
	u64 start_ns;  // 0: in no call
	u64 run_delay_ns;
	u64 cpu_ns;
	u64 left_ns; // the CPU, last time; by the run queue's clock
	u32 nr;
	u32 ring; // of the flight recorder; 0: none yet
	u32 muted;   // of the owner's slot
	u32 pairing; // that start_ns is of
	u32 arming;  // that run_delay_ns and cpu_ns are of
	u32 waits;   // 1 + an off_cpu_reason: why it left the CPU; 0: it could have gone on, or nothing is known
	u32 partial; // cpu_ns is from the midst of a stint
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); // set by the loader: containers * shards
	__type(key, u32);
	__type(value, struct slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); // set by the loader; the first containers * shards are each slot's shared cell
	__type(key, u32);
	__type(value, struct cell);
} cells SEC(".maps");

// free_cells holds cells given back. Cells never used before come from fresh_cells.
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 1); // set by the loader: as many as cells
	__type(value, u32);
} free_cells SEC(".maps");

// owners_v2 maps ids of cgroup2 directories to owners. Ids repeat across hierarchies, so other hierarchies have maps
// of their own.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); // set by the loader: containers
	__type(key, u64);
	__type(value, u64);
} owners_v2 SEC(".maps");

const volatile u32 shards = 1;      // a power of two
const volatile bool exclusive = 0;  // every CPU has its own shard: plain additions are enough
const volatile u64 cell_limit = 1;

u64 epoch = 1;       // grows with every watch and unwatch, and with what is muted: what tasks keep is then looked up again
u64 pairing = 1;     // grows each time that the hooks of system calls are attached, before the epoch: no call outlives a gap
u64 arming = 1;      // the same of the hook of the run queue
u64 fresh_cells = 1; // index of the next cell never used

// ADD adds to a counter of this CPU's shard. The programs run with preemption off and never in an interrupt (that one
// has counters of its own), so nothing comes in between.
#define ADD(counter, n)                                    \
	do {                                               \
		if (exclusive)                             \
			(counter) += (n);                  \
		else                                       \
			__sync_fetch_and_add(&(counter), n); \
	} while (0)

static __always_inline u64 cgroup_id_of(struct task_struct *task)
{
	return task->cgroups->dfl_cgrp->kn->id;
}

// owner_of returns whom to charge for what a task does; 0: nobody. The runtime's work before a program's execve is
// nobody's, although it is done in the container's cgroup.
static __noinline u64 owner_of(struct task_struct *task)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	u64 owner = OWNER_IN(owners_v2, cgroup);

	return owner && in_setup(BPF_CORE_READ(task, tgid)) ? 0 : owner;
}

static __always_inline u32 slot_index(u64 owner)
{
	return (u32)owner * shards + (bpf_get_smp_processor_id() & (shards - 1));
}

static __always_inline struct slot *slot_of(u64 owner)
{
	u32 i = slot_index(owner);

	return bpf_map_lookup_elem(&slots, &i);
}

// muted_of tells what is not counted of an owner.
static __always_inline u32 muted_of(u64 owner)
{
	struct slot *slot = owner ? slot_of(owner) : 0;

	return slot ? slot->muted : 0;
}

// refresh looks the owner up again. A task that came from elsewhere starts afresh: a call begun there and the time
// spent there are not this container's. So does one whose calls or waits were not counted meanwhile.
static __always_inline void refresh(struct task_struct *task, struct task_state *st, u64 id)
{
	u64 now = epoch; // before the lookup: a change in between is seen next time
	u64 owner = owner_of(task);
	u32 muted = muted_of(owner);

	if (st->pairing != (u32)pairing || st->owner != owner || (muted & MUTE_CALLS))
		st->start_ns = 0;
	if (st->owner != owner || st->arming != (u32)arming || (st->muted & MUTE_WAITS)) {
		bool young = st->owner != owner && task->sched_info.pcount <= 1; // on a CPU for the first time: all its waiting was here

		st->run_delay_ns = young ? 0 : task->sched_info.run_delay;
		st->cpu_ns = young ? 0 : task->se.sum_exec_runtime;
		st->partial = !young;
		st->waits = 0;
	}
	st->owner = owner;
	st->muted = muted;
	st->pairing = pairing;
	st->arming = arming;
	st->cgroup_id = id;
	st->epoch = now;
}

#endif
