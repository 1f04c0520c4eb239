//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The functions that find where a peer is counted, callable by a test.
#include "peerdatagrams.h"
#include "peerdrops.h"
#include "tested.h"

char __license[] SEC("license") = "GPL";

struct peer_args {
	struct peer_key key;
	u64 reason;
	u32 rest;  // 1: it was counted in the container's rest
	u32 found; // 0: nowhere
};

TESTED(test_opened, peer_args)
{
	struct connection c = {.key = args->key, .rest = args->rest};
	struct peer_totals *t = totals_of_connection(&c);

	args->found = !!t;
	args->rest = c.rest;
	if (t)
		ADD_TO(t->opened, 1);
}

TESTED(test_whose, peer_args)
{
	struct peer_key key = args->key;

	remember_owner(&key);
	args->key.other = key.other;
}

TESTED(test_reason, peer_args)
{
	struct peer_key key = args->key;

	count_reason(&key, args->reason);
}

// Datagrams are those of the owner that is in slot 0, since the packets of a test run have no container's socket.
static __always_inline void test_datagram(struct __sk_buff *skb, bool out)
{
	u8 address[16];

	if (datagram_at(skb, out, address))
		count_datagram(skb, out, 7ULL << 32);
}

SEC("cgroup_skb/egress")
int test_sent(struct __sk_buff *skb)
{
	test_datagram(skb, 1);
	return 0; // as pass wants it
}

SEC("cgroup_skb/ingress")
int test_received(struct __sk_buff *skb)
{
	test_datagram(skb, 0);
	return 0; // as pass wants it
}
