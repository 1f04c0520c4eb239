//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Peers: whom a watched container talks to by TCP, how often, and how much.
//
// Hook: inet_sock_set_state, attached only when asked for. Nothing runs per packet: bytes are the kernel's own counters of
// a connection, added to its peer when it closes, and read from those that are open by a program that user space runs
// when it wants to know (an iterator over socket storage would do, but not every kernel has one). Cost: one lookup per
// change of state of any TCP socket of the machine, up to the depth of its cgroup where a connection begins. Not seen:
// UDP, and connections that were there before the watch.
//
// The owner is that of the socket's cgroup, never of the task that happens to run: a handshake ends in an interrupt. A
// peer is an address and the service's port: the remote one of what the container opened, its own of what it accepted.
#include "peers.h"

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
		return 0;
	}
	if (new == TCP_ESTABLISHED) {
		c = old == TCP_SYN_RECV ? mark(sk, 1) : connection_of(sk);
		if (c && (t = totals_of(&c->key)))
			__sync_fetch_and_add(&t->opened, 1);
		return 0;
	}
	if (new == TCP_CLOSE && (c = connection_of(sk))) {
		closed(sk, &c->key, old == TCP_SYN_SENT);
		bpf_map_delete_elem(&connections, &address);
	}
	return 0;
}

struct bpf_map;

static long measure(struct bpf_map *map, u64 *address, struct connection *c, void *unused)
{
	struct sock *sk = (struct sock *)*address;
	u64 sent = sent_bytes(sk), received = received_bytes(sk);
	u32 retransmits = BPF_CORE_READ((struct tcp_sock *)sk, total_retrans);

	// After the reading: a socket that went meanwhile has lost its cookie, or has another.
	if (BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) != c->cookie)
		return 0;
	c->sent_bytes = sent;
	c->received_bytes = received;
	c->retransmits = retransmits;
	return 0;
}

// measure_connections brings the numbers of the open connections up to date. Never attached: user space runs it.
SEC("raw_tp/sys_enter")
int measure_connections(void *ctx)
{
	bpf_for_each_map_elem(&connections, measure, 0, 0);
	return 0;
}
