//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The functions that read what containers ask name servers, callable by a test: packets are those of owner 1 << 32, whose slot
// is 0, since the packets of a test run have no container's socket.
#include "datagram.h"

char __license[] SEC("license") = "GPL";

static __always_inline void test_datagram(struct __sk_buff *skb, bool out)
{
	struct waiting_key key = {};
	u32 at = message_at(skb, out, &key);

	if (at)
		take(skb, at, &key, out, 1ULL << 32);
}

SEC("cgroup_skb/egress")
int test_out(struct __sk_buff *skb)
{
	test_datagram(skb, 1);
	return 1;
}

SEC("cgroup_skb/ingress")
int test_in(struct __sk_buff *skb)
{
	test_datagram(skb, 0);
	return 1;
}
