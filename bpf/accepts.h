// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Accept delay: how long connections that are open wait until their server takes them.
//
// Hooks: a connection is noted where the network's program sees it open, and taken where that of system calls sees accept
// return its descriptor. So it is known only while both are attached, of calls that are counted. The container is that
// of the socket. Not seen: accepts by io_uring, and TCP Fast Open, whose connections are taken before they are open.
#ifndef TRITON_ACCEPTS_H
#define TRITON_ACCEPTS_H

#include "histogram.h"

struct accept_delay {
	u64 buckets[BUCKETS2];
	u64 sum_ns;
};

struct queued {
	u64 owner;
	u64 at_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); // set by the loader: containers
	__type(key, u32);
	__type(value, struct accept_delay);
} accept_delays SEC(".maps");

// accept_queue has connections by the address of their socket; they leave it when they are taken, and when they are closed.
// Preallocated: entries come and go in interrupts.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); // set by the loader
	__type(key, u64);
	__type(value, struct queued);
} accept_queue SEC(".maps");

static __noinline void add_accept(u64 owner, u64 ns)
{
	u32 slot = owner;
	struct accept_delay *d = bpf_map_lookup_elem(&accept_delays, &slot);
	u64 b = in_register(bucket2(schema2_index(ns)));

	if (!d || b >= BUCKETS2)
		return;
	__sync_fetch_and_add(counter_at(d->buckets, b), 1);
	__sync_fetch_and_add(&d->sum_ns, ns);
}

#endif
