// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Packets that the kernel dropped, by peer and reason.
#ifndef TRITON_PEERDROPS_H
#define TRITON_PEERDROPS_H

#include "peercount.h"

#define NOT_SPECIFIED 2 // include/net/dropreason-core.h: up to here, a packet was used or nothing is known

// read_packet tells whom a packet is from, or whom it is to, with that one's port. Headers of options that IPv6 puts between
// are not followed: such packets are not counted.
static __always_inline bool read_packet(struct sk_buff *skb, struct peer_key *key, bool incoming)
{
	unsigned char *ip = BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, network_header);
	u8 first = 0, protocol = 0;
	u32 size = 40, v4 = 0;
	u16 port = 0;

	if (bpf_probe_read_kernel(&first, sizeof(first), ip))
		return 0;
	if (first >> 4 == 4) {
		size = (first & 0xf) * 4;
		bpf_probe_read_kernel(&protocol, sizeof(protocol), ip + 9);
		bpf_probe_read_kernel(&v4, sizeof(v4), ip + (incoming ? 12 : 16));
		put_ipv4(key->address, v4);
	} else if (first >> 4 == 6) {
		bpf_probe_read_kernel(&protocol, sizeof(protocol), ip + 6);
		bpf_probe_read_kernel(key->address, sizeof(key->address), ip + (incoming ? 8 : 24));
	} else {
		return 0;
	}
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return 0;
	bpf_probe_read_kernel(&port, sizeof(port), ip + size + (incoming ? 0 : 2));
	key->protocol = protocol;
	key->port = bpf_ntohs(port);
	return 1;
}

// peer_of_packet finds the peer of a packet whose socket has no connection: that of a listener, or one of UDP. A socket
// whose program chose its port is one that is asked.
static __always_inline bool peer_of_packet(struct sock *sk, struct sk_buff *skb, struct peer_key *key, bool incoming)
{
	if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP && BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_LISTEN)
		return 0; // before it is anybody's, or after it was closed
	key->owner = owner_of_socket(sk);
	if (!key->owner || !read_packet(skb, key, incoming))
		return 0;
	key->accepted = port_is_chosen(sk);
	if (key->accepted)
		key->port = BPF_CORE_READ(sk, __sk_common.skc_num);
	remember_owner(key);
	return 1;
}

static __always_inline void count_reason(struct peer_key *key, u64 reason)
{
	struct drop_key drop = {.peer = *key, .reason = reason};
	u64 none = 0, *n = bpf_map_lookup_elem(&peer_drops, &drop);

	if (!n) {
		bpf_map_update_elem(&peer_drops, &drop, &none, BPF_NOEXIST);
		n = bpf_map_lookup_elem(&peer_drops, &drop);
	}
	if (n)
		ADD_TO(*n, 1);
	else
		ADD_TO(reasons_dropped, 1);
}

// drop counts a packet; sk may be null. What is thrown away with its socket is none.
static __always_inline void drop(struct sock *sk, struct sk_buff *skb, u32 reason, bool incoming)
{
	struct peer_key key = {};
	struct peer_key rest = {};
	struct container_peers *p;
	struct peer_totals *t;
	struct connection *c;

	if (!sk || reason <= NOT_SPECIFIED || reason == queue_purge)
		return;
	c = connection_of(sk);
	if (c)
		key = c->key;
	else if (!peer_of_packet(sk, skb, &key, incoming))
		return;
	t = c ? totals_of_connection(c) : totals_of(&key);
	p = container_of_owner(key.owner);
	if (!t || !p)
		return;
	ADD_TO(t->drops, 1);
	rest.owner = key.owner;
	count_reason(t == &p->rest ? &rest : &key, reason);
}

#endif
