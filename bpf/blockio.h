// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Block I/O: requests and bytes that reached a device, and how long requests took, by the cgroup that the block layer
// charges.
//
// Hook: tp_btf block_rq_complete; always attached. Cost: a few loads, two hash lookups and a reading of the clock per
// request. The owner is that of the request's bio, never the current task. A request lasts from its making, before any
// I/O scheduler, until the device has done the last part of it; the kernel notes the beginning itself. On hybrid hosts that is a directory of the v1 blkio hierarchy, whose ids
// are others than cgroup2's and may equal one of them, so it has a map of its own.
// Not seen: write-back on v1, which the kernel charges to the root; flushes, which have no bio.
#ifndef TRITON_BLOCKIO_H
#define TRITON_BLOCKIO_H

#include "histogram.h"
#include "request.h"
#include "slots.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); // set by the loader: containers
	__type(key, u64);
	__type(value, u64);
} owners_blkio SEC(".maps");

// disk_key is one device and direction of a container.
struct disk_key {
	u64 owner;
	u32 major;
	u32 minor;
	u32 write;
	u32 zero;
};

struct disk_totals {
	u64 durations[BUCKETS2];
	u64 sum_ns;
	u64 untimed; // requests whose beginning the kernel did not note
	u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); // set by the loader
	__type(key, struct disk_key);
	__type(value, struct disk_totals);
} disks SEC(".maps");

u64 disks_dropped = 0; // requests that found no room in disks: only their number and bytes are known

const volatile struct disk_totals no_totals = {}; // too large for a stack

static __noinline struct disk_totals *totals_of_disk(u64 owner, u32 major, u32 minor, u32 write)
{
	struct disk_key key = {.owner = owner, .major = major, .minor = minor, .write = write};
	struct disk_totals *t = bpf_map_lookup_elem(&disks, &key);

	if (t)
		return t;
	bpf_map_update_elem(&disks, &key, (void *)&no_totals, BPF_NOEXIST); // another CPU may have been first
	t = bpf_map_lookup_elem(&disks, &key);
	if (!t)
		__sync_fetch_and_add(&disks_dropped, 1);
	return t;
}

// add_request counts a part of a request, of which left bytes were not done yet, that was begun at start_ns and is done
// at now_ns. This runs in interrupts: no ADD.
static __always_inline void add_request(struct disk_totals *t, u32 bytes, u32 left, u64 start_ns, u64 now_ns)
{
	u64 b;

	__sync_fetch_and_add(&t->bytes, bytes);
	if (bytes < left)
		return;
	if (!start_ns || now_ns < start_ns) {
		__sync_fetch_and_add(&t->untimed, 1);
		return;
	}
	b = in_register(bucket2(schema2_index(now_ns - start_ns)));
	if (b >= BUCKETS2)
		return;
	__sync_fetch_and_add(counter_at(t->durations, b), 1);
	__sync_fetch_and_add(&t->sum_ns, now_ns - start_ns);
}

static __noinline u64 owner_of_blkio(struct cgroup *cgroup)
{
	return OWNER_IN(owners_blkio, cgroup);
}

static __always_inline void block_complete(struct request *rq, u32 bytes)
{
	u32 op = rq->cmd_flags & REQ_OP_MASK;
	struct bio *bio = rq->bio;
	struct disk_totals *totals;
	struct gendisk *disk;
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
	disk = rq->q->disk;
	if (!disk)
		return; // a queue whose device is gone
	totals = totals_of_disk(owner, disk->major, disk->first_minor, op == REQ_OP_WRITE);
	if (totals)
		add_request(totals, bytes, rq->__data_len, rq->start_time_ns, bpf_ktime_get_ns());
}

#endif
