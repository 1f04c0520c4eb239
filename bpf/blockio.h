// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Block I/O: requests and bytes that reached a device, by the cgroup that the block layer charges.
//
// Hook: tp_btf block_rq_complete; always attached. Cost: a few loads and a hash lookup per request. The owner is that of
// the request's bio, never the current task. On hybrid hosts that is a directory of the v1 blkio hierarchy, whose ids
// are others than cgroup2's and may equal one of them, so it has a map of its own.
// Not seen: write-back on v1, which the kernel charges to the root; flushes, which have no bio.
#ifndef TRITON_BLOCKIO_H
#define TRITON_BLOCKIO_H

#include "slots.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct blkcg {
	struct cgroup_subsys_state css;
};

struct blkcg_gq {
	struct blkcg *blkcg;
};

struct bio {
	struct blkcg_gq *bi_blkg;
};

struct request {
	u32 cmd_flags;
	struct bio *bio;
};

#pragma clang attribute pop

#define REQ_OP_MASK 0xff // include/linux/blk_types.h
#define REQ_OP_READ 0
#define REQ_OP_WRITE 1

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); // set by the loader: containers
	__type(key, u64);
	__type(value, u64);
} owners_blkio SEC(".maps");

static __noinline u64 owner_of_blkio(struct cgroup *cgroup)
{
	return OWNER_IN(owners_blkio, cgroup);
}

static __always_inline void block_complete(struct request *rq, u32 bytes)
{
	u32 op = rq->cmd_flags & REQ_OP_MASK;
	struct bio *bio = rq->bio;
	struct slot *slot;
	u64 owner;

	if (!bio || op > REQ_OP_WRITE)
		return; // flushes and discards
	owner = owner_of_blkio(BPF_CORE_READ(bio, bi_blkg, blkcg, css.cgroup));
	slot = owner ? slot_of(owner) : 0;
	if (!slot)
		return;
	// This runs in interrupts: no ADD.
	__sync_fetch_and_add(op == REQ_OP_READ ? &slot->block_reads : &slot->block_writes, 1);
	__sync_fetch_and_add(op == REQ_OP_READ ? &slot->block_read_bytes : &slot->block_write_bytes, bytes);
}

#endif
