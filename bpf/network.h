// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// What is counted of a container's network, and what is remembered of a connection for it.
#ifndef TRITON_NETWORK_H
#define TRITON_NETWORK_H

#include "connects.h"
#include "accepts.h"
#include "histogram.h"
#include "sockowner.h"

#define RTT_INTERVAL_NS 1000000000ULL // between two samples of a connection's round trip time

#define DROP_REASONS 160 // enum skb_drop_reason had 128 in 6.18; the last entry takes what is outside
#define NOT_SPECIFIED 2  // include/net/dropreason-core.h: up to here, a packet was used or nothing is known

// network_totals is what was counted of one container; all of it by atomic additions, since it happens in interrupts.
struct network_totals {
	u64 connect[BUCKETS2];
	u64 rtt[BUCKETS2];
	u64 connect_sum_ns;
	u64 rtt_sum_ns;
	u64 resets_sent;
	u64 resets_received;
	u64 failures[CONNECT_FAILURES];
	u64 drops[DROP_REASONS];
};

// stopwatch goes with its socket.
struct stopwatch {
	u64 start_ns; // when the first SYN was sent; 0: the connection was accepted, or is established
	u64 rtt_ns;   // when the round trip time was sampled last
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); // set by the loader: containers
	__type(key, u32);
	__type(value, struct network_totals);
} network SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct stopwatch);
} stopwatches SEC(".maps");

struct sock___taken {
	struct socket *sk_socket; // of the process; 0: nobody has taken it
} __attribute__((preserve_access_index));

u64 accepts_dropped = 0;     // connections that found no room in accept_queue: it is not known when they are taken
u64 stopwatches_dropped = 0; // connections to which the kernel gave no storage: their times are not counted

#define COUNT(counter, n) __sync_fetch_and_add(&(counter), n)

static __always_inline struct network_totals *totals_of_socket(struct sock *sk)
{
	u64 owner = owner_of_socket(sk);
	u32 slot = owner;

	return owner ? bpf_map_lookup_elem(&network, &slot) : 0;
}

static __always_inline void add_duration(u64 *buckets, u64 *sum_ns, u64 ns)
{
	u32 b = bucket2(schema2_index(ns));

	if (b >= BUCKETS2) // never: schema2_index clamps; the verifier cannot know
		return;
	COUNT(buckets[b], 1);
	COUNT(*sum_ns, ns);
}

// sample_rtt counts the kernel's own smoothed estimate for the connection.
static __always_inline void sample_rtt(struct sock *sk)
{
	u64 us = BPF_CORE_READ((struct tcp_sock *)sk, srtt_us) >> 3;
	struct network_totals *t;

	if (us && (t = totals_of_socket(sk)))
		add_duration(t->rtt, &t->rtt_sum_ns, us * 1000);
}

static __always_inline void count_drop(struct sock *sk, u32 reason)
{
	struct network_totals *t = totals_of_socket(sk);

	if (reason >= DROP_REASONS)
		reason = DROP_REASONS - 1;
	asm volatile("" : "+r"(reason)); // the compiler would compare another register than the one that it indexes by
	if (t && reason < DROP_REASONS)
		COUNT(t->drops[reason], 1);
}

#endif
