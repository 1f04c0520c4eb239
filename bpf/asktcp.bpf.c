//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Questions about TCP connections.
//
// Hooks: tp_btf inet_sock_set_state, tcp_retransmit_skb, while somebody looks: a walk up the cgroups of the socket for each
// change of state that is an event, and for each segment that is sent again. The owner is that of the socket's cgroup, never of
// the task that happens to run. What is opened has the latency of its opening, and bytes are those of both directions, told
// when a connection closes. Not seen: attempts that end before a packet is made for them, the latency of those that were
// under way when the question began, and the own port of what was accepted before: theirs is the remote one.
#include "ask.h"
#include "sockets.h"
#include <bpf/bpf_endian.h>

char __license[] SEC("license") = "GPL";

enum tcp_event { CONNECT = 1, ACCEPT, FAIL, CLOSE, RETRANSMIT };

// opened goes with its socket.
struct opened {
	u64 start_ns;
	u64 port; // its own, of what was accepted: a closed socket has none any more; 0: the remote one tells
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct opened);
} opened SEC(".maps");

static __noinline u64 entry_of_socket(struct sock *sk)
{
	struct cgroup *cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup);

	return OWNER_IN(asked, cgroup);
}

static __always_inline void describe(struct event *e, struct sock *sk, const struct opened *o)
{
	u8 *remote = (u8 *)&e->word[W_REMOTE];
	u16 port;

	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET) {
		u32 address = BPF_CORE_READ(sk, __sk_common.skc_daddr);

		remote[10] = remote[11] = 0xff;
		__builtin_memcpy(remote + 12, &address, sizeof(address));
	} else {
		struct in6_addr address = BPF_CORE_READ(sk, __sk_common.skc_v6_daddr);

		__builtin_memcpy(remote, &address, sizeof(address));
	}
	port = BPF_CORE_READ(sk, __sk_common.skc_dport);
	e->word[W_PORT] = o && o->port ? o->port : bpf_ntohs(port);
}

static __noinline int happened(struct sock *sk, u64 entry, u32 program, const struct opened *o, enum tcp_event what)
{
	struct event *e = event_of(program);
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	int err = BPF_CORE_READ(sk, sk_err);

	if (!e)
		return 0;
	describe(e, sk, o);
	e->word[W_OP] = what;
	e->word[W_LATENCY] = NS_UNKNOWN;
	if ((what == CONNECT || what == FAIL) && o && o->start_ns)
		e->word[W_LATENCY] = bpf_ktime_get_ns() - o->start_ns;
	if (what == FAIL || what == CLOSE)
		e->word[W_ERRNO] = err > 0 && err <= MAX_ERRNO ? err : 0;
	if (what == CLOSE) // a FIN counts as one received
		e->word[W_BYTES] = BPF_CORE_READ(tp, bytes_sent) - BPF_CORE_READ(tp, bytes_retrans) + BPF_CORE_READ(tp, bytes_received) -
				   (BPF_CORE_READ(sk, __sk_common.skc_flags) >> SOCK_DONE & 1);
	return consider(e, entry, 0);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(ask_states, struct sock *sk, int old, int new)
{
	struct opened *o;
	u64 entry;

	if (sk->sk_protocol != IPPROTO_TCP || (new != TCP_SYN_SENT && new != TCP_ESTABLISHED && new != TCP_CLOSE))
		return 0;
	if (new == TCP_CLOSE && (old == TCP_CLOSE || old == TCP_LISTEN || old == TCP_SYN_RECV))
		return 0; // it was no connection
	entry = entry_of_socket(sk);
	if (!entry)
		return 0;
	o = bpf_sk_storage_get(&opened, sk, 0, new == TCP_CLOSE ? 0 : BPF_SK_STORAGE_GET_F_CREATE);
	if (!o && new != TCP_CLOSE)
		__sync_fetch_and_add(&lost_room, 1);
	if (new == TCP_SYN_SENT) {
		if (o)
			o->start_ns = bpf_ktime_get_ns();
		return 0;
	}
	if (new == TCP_ESTABLISHED) {
		if (o && old == TCP_SYN_RECV)
			o->port = BPF_CORE_READ(sk, __sk_common.skc_num);
		return happened(sk, entry, 0, o, old == TCP_SYN_RECV ? ACCEPT : CONNECT);
	}
	return happened(sk, entry, 0, o, old == TCP_SYN_SENT ? FAIL : CLOSE);
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(ask_retransmits, struct sock *sk)
{
	u64 entry = entry_of_socket(sk);

	return entry ? happened(sk, entry, 1, bpf_sk_storage_get(&opened, sk, 0, 0), RETRANSMIT) : 0;
}
