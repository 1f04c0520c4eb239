// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Datagrams that containers send and receive, by peer.
#ifndef TRITON_PEERDATAGRAMS_H
#define TRITON_PEERDATAGRAMS_H

#include "packets.h"
#include "peercount.h"

#define UDP_HEADER 8

// chose_port tells whether the program of a socket chose its port: then it is one that is asked. The verifier lets nobody add to a
// pointer to a socket in a program at a cgroup; read from the stack it is a number.
static __always_inline bool chose_port(struct bpf_sock *of)
{
	struct sock *sk = 0;

	bpf_probe_read_kernel(&sk, sizeof(sk), &of);
	return port_is_chosen(sk);
}

// count_datagram counts one, or those of one send that the kernel or the device will part (GSO), whose peer is another for each remote
// address.
static __always_inline void count_datagram(struct __sk_buff *skb, bool out, u64 owner)
{
	struct peer_key key = {.owner = owner, .protocol = IPPROTO_UDP};
	struct bpf_sock *sk = skb->sk;
	struct peer_totals *t;
	u32 at = datagram_at(skb, out, key.address), n = skb->gso_segs ? skb->gso_segs : 1;
	u16 ports[2]; // from, to

	if (!sk || bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
		return;
	key.accepted = chose_port(sk);
	key.port = bpf_ntohs(out ^ key.accepted ? ports[1] : ports[0]);
	remember_owner(&key);
	t = totals_of(&key);
	if (!t)
		return;
	ADD_TO(*(out ? &t->sent_datagrams : &t->received_datagrams), n);
	ADD_TO(*(out ? &t->sent_bytes : &t->received_bytes), skb->len - at - UDP_HEADER);
}

// of_container counts a packet if it is a container's datagram.
static __always_inline void of_container(struct __sk_buff *skb, bool out)
{
	u8 address[16];
	u64 owner;

	if (!datagram_at(skb, out, address))
		return;
	owner = owner_of_packet(skb);
	if (owner)
		count_datagram(skb, out, owner);
}

#endif
