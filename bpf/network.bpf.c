//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Network: how long a watched container's TCP connections take to open, their round trip times, why attempts failed,
// resets, and packets that the kernel dropped, with its reasons.
//
// Hooks: tp_btf inet_sock_set_state, tcp_probe, tcp_send_reset, tcp_receive_reset, kfree_skb; attached only when asked
// for. Cost: tcp_probe runs for every segment that any established connection of the machine receives and is one look
// into the socket's storage; the others are rare, and find the owner by lookups up to the depth of the cgroup.
// Not seen: attempts that end before a packet is made for them (no route: the errors of connect tell), the times of
// connections that were there before the watch, and drops of packets that have no socket: those of which it is not
// known yet whose they are, and those that left the container's network namespace.
#include "network.h"

char __license[] SEC("license") = "GPL";

// opening starts the clock of what a watched container opens.
static __always_inline void opening(struct sock *sk)
{
	struct stopwatch *w;

	if (!owner_of_socket(sk))
		return;
	w = bpf_sk_storage_get(&stopwatches, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (w)
		w->start_ns = bpf_ktime_get_ns();
	else
		COUNT(stopwatches_dropped, 1);
}

static __always_inline void established(struct sock *sk, int old)
{
	u64 now = bpf_ktime_get_ns();
	struct stopwatch *w = bpf_sk_storage_get(&stopwatches, sk, 0, 0);
	struct network_totals *t;

	if (!w && old == TCP_SYN_RECV && owner_of_socket(sk)) {
		w = bpf_sk_storage_get(&stopwatches, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!w)
			COUNT(stopwatches_dropped, 1);
	}
	if (!w)
		return;
	if (w->start_ns && (t = totals_of_socket(sk)))
		add_duration(t->connect, &t->connect_sum_ns, now - w->start_ns);
	w->start_ns = 0;
	w->rtt_ns = now;
}

// opened notes a connection that its server has still to take. The queue was joined a moment before: a server on another CPU may
// have been as quick.
static __always_inline void opened(struct sock *sk)
{
	struct queued q = {.owner = owner_of_socket(sk), .at_ns = bpf_ktime_get_ns()};
	u64 address = (u64)sk;

	if (!q.owner)
		return;
	if (BPF_CORE_READ((struct sock___taken *)sk, sk_socket))
		add_accept(q.owner, 0);
	else if (bpf_map_update_elem(&accept_queue, &address, &q, BPF_ANY))
		COUNT(accepts_dropped, 1);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(network_states, struct sock *sk, int old, int new)
{
	struct network_totals *t;
	u64 address = (u64)sk;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (new == TCP_ESTABLISHED && old == TCP_SYN_RECV)
		opened(sk);
	if (new == TCP_CLOSE)
		bpf_map_delete_elem(&accept_queue, &address);
	if (new == TCP_SYN_SENT)
		opening(sk);
	else if (new == TCP_ESTABLISHED)
		established(sk, old);
	else if (old == TCP_ESTABLISHED && bpf_sk_storage_get(&stopwatches, sk, 0, 0))
		sample_rtt(sk); // every connection has one sample at least
	else if (old == TCP_SYN_SENT && new == TCP_CLOSE && (t = totals_of_socket(sk)))
		COUNT(t->failures[why_failed(sk)], 1);
	return 0;
}

SEC("tp_btf/tcp_probe")
int BPF_PROG(network_rtt, struct sock *sk)
{
	struct stopwatch *w = bpf_sk_storage_get(&stopwatches, sk, 0, 0);
	u64 now;

	if (!w)
		return 0;
	now = bpf_ktime_get_ns();
	if (now - w->rtt_ns < RTT_INTERVAL_NS)
		return 0;
	w->rtt_ns = now;
	sample_rtt(sk);
	return 0;
}

// sk is null when what is answered belongs to no socket.
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(network_resets_sent, struct sock *sk)
{
	struct network_totals *t = totals_of_socket(sk);

	if (t)
		COUNT(t->resets_sent, 1);
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(network_resets_received, struct sock *sk)
{
	struct network_totals *t = totals_of_socket(sk);

	if (t)
		COUNT(t->resets_received, 1);
	return 0;
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(network_drops, struct sk_buff *skb, void *location, u32 reason, struct sock *receiver)
{
	if (reason > NOT_SPECIFIED)
		count_drop(receiver ? receiver : BPF_CORE_READ(skb, sk), reason);
	return 0;
}

// For kernels whose hook does not tell the receiver (before 6.11).
SEC("tp_btf/kfree_skb")
int BPF_PROG(network_drops_old, struct sk_buff *skb, void *location, u32 reason)
{
	if (reason > NOT_SPECIFIED)
		count_drop(BPF_CORE_READ(skb, sk), reason);
	return 0;
}
