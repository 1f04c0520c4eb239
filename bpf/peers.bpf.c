//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Peers: whom a watched container talks to by TCP and UDP, how often, how much, and what goes wrong.
//
// Hooks: inet_sock_set_state, tcp_send_reset, tcp_receive_reset, kfree_skb; for datagrams cgroup_skb egress and ingress of the
// instance's cgroup, which see each whole, before it is parted or after it was put together, and look at the protocol of
// containers' other packets. Of TCP nothing else runs per packet that is not dropped: bytes and segments sent again are the kernel's own counters of a connection, added to its peer when it closes, and read
// from those that are open by a program that user space runs when it wants to know (an iterator over socket storage would
// do, but not every kernel has one). Cost: one lookup per change of state of any TCP socket of the machine, up to the
// depth of its cgroup where a connection begins. Not seen: datagrams with extension headers of IPv6, connections that were there before the
// watch, attempts for which the kernel made no packet, and drops of packets that have no socket (yet, or any more).
//
// The owner is that of the socket's cgroup, never of the task that happens to run: a handshake ends in an interrupt. A
// peer is an address and the service's port: the remote one of what the container opened, its own of what it accepted.
#include "peerdatagrams.h"
#include "peerdrops.h"

char __license[] SEC("license") = "GPL";

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(peer_states, struct sock *sk, int old, int new)
{
	struct connection *c;
	struct peer_totals *t;
	u64 address = (u64)sk;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (new == TCP_SYN_SENT) {
		mark(sk, 0);
	} else if (new == TCP_ESTABLISHED) {
		c = old == TCP_SYN_RECV ? mark(sk, 1) : connection_of(sk);
		if (c && (t = totals_of_connection(c)))
			ADD_TO(t->opened, 1);
	} else if (new == TCP_CLOSE) {
		c = connection_of(sk);
		if (c) {
			closed(sk, totals_of_connection(c), old == TCP_SYN_SENT);
			bpf_map_delete_elem(&connections, &address);
		} else {
			closed_untracked(sk, old);
		}
	}
	return 0;
}

// sk is null when what is answered belongs to no socket.
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(peer_resets_sent, struct sock *sk)
{
	struct connection *c = connection_of(sk);
	struct peer_totals *t = c ? totals_of_connection(c) : 0;

	if (t)
		ADD_TO(t->resets_sent, 1);
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(peer_resets_received, struct sock *sk)
{
	struct connection *c = connection_of(sk);
	struct peer_totals *t = c ? totals_of_connection(c) : 0;

	if (t)
		ADD_TO(t->resets_received, 1);
	return 0;
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(peer_packet_drops, struct sk_buff *skb, void *location, u32 reason, struct sock *receiver)
{
	drop(receiver ? receiver : BPF_CORE_READ(skb, sk), skb, reason, !!receiver);
	return 0;
}

// For kernels whose hook does not tell the receiver (before 6.11).
SEC("tp_btf/kfree_skb")
int BPF_PROG(peer_packet_drops_old, struct sk_buff *skb, void *location, u32 reason)
{
	drop(BPF_CORE_READ(skb, sk), skb, reason, 0);
	return 0;
}

SEC("cgroup_skb/egress")
int peer_datagrams_out(struct __sk_buff *skb)
{
	of_container(skb, 1);
	return 1;
}

SEC("cgroup_skb/ingress")
int peer_datagrams_in(struct __sk_buff *skb)
{
	of_container(skb, 0);
	return 1;
}

struct bpf_map;

static long measure(struct bpf_map *map, u64 *address, struct connection *c, void *unused)
{
	struct sock *sk = (struct sock *)*address;
	u64 sent = sent_bytes(sk), received = received_bytes(sk);
	u32 retransmits = BPF_CORE_READ((struct tcp_sock *)sk, total_retrans);
	u32 rtt_us = BPF_CORE_READ((struct tcp_sock *)sk, srtt_us) >> 3;
	u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);

	// After the reading: a socket that went meanwhile has lost its cookie, or has another.
	if (BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) != c->cookie)
		return 0;
	describe_local(sk, c);
	c->sent_bytes = sent;
	c->received_bytes = received;
	c->retransmits = retransmits;
	c->rtt_us = rtt_us;
	c->state = state;
	return 0;
}

// measure_connections brings the numbers of the open connections up to date. Never attached: user space runs it.
SEC("raw_tp/sys_enter")
int measure_connections(void *ctx)
{
	bpf_for_each_map_elem(&connections, measure, 0, 0);
	return 0;
}
