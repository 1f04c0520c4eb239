//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The functions that read what containers ask name servers, callable by a test: packets are those of owner 1 << 32, whose slot
// is 0, since the packets of a test run have no container's socket. The programs are of types that see what those of cgroups see,
// from the network's header on: those of cgroups do not get the packet's bounds in a test run of Linux 6.1.
#include "dnsstream.h"

char __license[] SEC("license") = "GPL";

// There is one connection of TCP.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct streams);
} connection SEC(".maps");

static __always_inline void test_packet(struct __sk_buff *skb, bool out)
{
	struct waiting_key key = {};
	struct streams *both;
	u32 zero = 0;
	u16 ports[2]; // the programs of package bpf look at the socket's instead
	u8 protocol;
	u32 at = transport_at(skb, out, 1, key.server, &protocol);

	if (!at)
		return;
	if (protocol == IPPROTO_UDP) {
		at = message_in(skb, at, out);
		if (at)
			take(skb, at, &key, out, 1ULL << 32);
		return;
	}
	if (bpf_skb_load_bytes(skb, at, ports, sizeof(ports)) || ports[out] != NAME_SERVICE)
		return;
	both = bpf_map_lookup_elem(&connection, &zero);
	if (both)
		follow(skb, at, both, &key, out, 1ULL << 32);
}

SEC("lwt_out")
int test_out(struct __sk_buff *skb)
{
	test_packet(skb, 1);
	return BPF_OK;
}

SEC("lwt_in")
int test_in(struct __sk_buff *skb)
{
	test_packet(skb, 0);
	return BPF_OK;
}
