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
	u64 self_delay_ns; // waited while a task of the same container had the CPU; other culprits are in delays
	u64 off_cpu_ns[OFF_CPU_REASONS]; // waits for anything but a CPU, when they have ended
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
	u64 muted;         // MUTE_…: set by user space, with the next epoch
	u32 cells[SYSCALLS]; // 0: none yet
};

// task_state is kept per thread: see states.h.
struct task_state { // with 8 bytes before it, the first 56 are one line of the cache, which has all that a switch needs
	u64 cgroup_id; // what owner was looked up for
	u64 owner;     // 0: not watched
	u64 run_delay_ns;
	u64 cpu_ns;
	u64 left_ns;   // the CPU, last time; by the run queue's clock
	u32 epoch;     // when owner was looked up
	u32 first;     // the owner's slot of the first shard
	u32 asked_at;  // when asked was asked, in units of 1024 ns
	u8 muted;      // of the owner's slot
	u8 partial;    // cpu_ns is from the midst of a stint
	u8 waits;      // 1 + an off_cpu_reason: why it left the CPU; or TO_ASK; 0: it could have gone on, or nothing is known
	u8 asked;      // waits, as it was of the last short one that was asked about; 0: none was
	u64 start_ns;  // 0: in no call
	u32 nr;
	u32 ring;      // of the flight recorder; 0: none yet
	u32 pairing;   // that start_ns is of
	u32 arming;    // that run_delay_ns and cpu_ns are of
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
#define ADD(counter, n) ADD_AS(exclusive, counter, n)

// ADD_AS is ADD where exclusive was read before. What runs most often is there twice, for each value of it, and the verifier removes one.
#define ADD_AS(alone, counter, n)                          \
	do {                                               \
		if (alone)                                 \
			(counter) += (n);                  \
		else                                       \
			__sync_fetch_and_add(&(counter), n); \
	} while (0)

static __always_inline u64 cgroup_id_of(struct task_struct *task)
{
	return task->cgroups->dfl_cgrp->kn->id;
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

// slot_at is slot_of for a task that knows its owner's first.
static __always_inline struct slot *slot_at(bool alone, u32 first)
{
	u32 cpu = bpf_get_smp_processor_id(), i = first + (alone ? cpu : cpu & (shards - 1));

	return bpf_map_lookup_elem(&slots, &i);
}

// muted_of tells what is not counted of an owner.
static __always_inline u32 muted_of(u64 owner)
{
	struct slot *slot = owner ? slot_of(owner) : 0;

	return slot ? slot->muted : 0;
}

#endif
