//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The functions that read what containers ask name servers, callable by a test: packets are those of owner 1 << 32, whose slot
// is 0, since the packets of a test run have no container's socket. The programs are of types that see what those of cgroups see,
// from the network's header on: those of cgroups do not get the packet's bounds in a test run of Linux 6.1.
#include "datagram.h"

char __license[] SEC("license") = "GPL";

static __always_inline void test_datagram(struct __sk_buff *skb, bool out)
{
	struct waiting_key key = {};
	u32 at = message_at(skb, out, &key);

	if (at)
		take(skb, at, &key, out, 1ULL << 32);
}

SEC("lwt_out")
int test_out(struct __sk_buff *skb)
{
	test_datagram(skb, 1);
	return BPF_OK;
}

SEC("lwt_in")
int test_in(struct __sk_buff *skb)
{
	test_datagram(skb, 0);
	return BPF_OK;
}
