// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// How a socket finds its peer and its connection, and how both are counted.
#ifndef TRITON_PEERCOUNT_H
#define TRITON_PEERCOUNT_H

#include "peers.h"
#include <bpf/bpf_endian.h>

#define ADD_TO(counter, n) __sync_fetch_and_add(&(counter), n)

static __always_inline void put_ipv4(u8 *to, u32 address)
{
	to[10] = to[11] = 0xff;
	__builtin_memcpy(to + 12, &address, sizeof(address));
}

// remember_owner notes whose address it is now: by the time that somebody reads, it may be another's.
static __always_inline void remember_owner(struct peer_key *key)
{
	u64 *other = bpf_map_lookup_elem(&addresses, key->address);

	key->other = other ? *other : 0;
}

// port_is_chosen tells whether the program of a socket asked for its port.
static __always_inline bool port_is_chosen(struct sock *sk)
{
	return BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_BINDPORT_LOCK;
}

// describe_local fills the near end, whose port is not chosen yet when a connection begins.
static __always_inline void describe_local(struct sock *sk, struct connection *c)
{
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET)
		put_ipv4(c->local_address, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
	else
		BPF_CORE_READ_INTO(&c->local_address, sk, __sk_common.skc_v6_rcv_saddr);
	c->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
}

// describe fills a connection from its socket; false: not an internet socket.
static __always_inline bool describe(struct sock *sk, struct connection *c, bool accepted)
{
	u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	u16 port = BPF_CORE_READ(sk, __sk_common.skc_dport);

	if (family == AF_INET) {
		put_ipv4(c->key.address, BPF_CORE_READ(sk, __sk_common.skc_daddr));
	} else if (family == AF_INET6) {
		BPF_CORE_READ_INTO(&c->key.address, sk, __sk_common.skc_v6_daddr);
	} else {
		return 0;
	}
	describe_local(sk, c);
	c->remote_port = bpf_ntohs(port);
	c->key.protocol = IPPROTO_TCP;
	c->key.accepted = accepted;
	c->key.port = accepted ? c->local_port : c->remote_port;
	remember_owner(&c->key);
	return 1;
}

static __always_inline struct container_peers *container_of_owner(u64 owner)
{
	u32 slot = owner;
	struct container_peers *p = owner ? bpf_map_lookup_elem(&peer_slots, &slot) : 0;

	return p && p->owner == owner ? p : 0;
}

// totals_of returns where a peer is counted: in the container's rest if there is no room for it, nowhere (0) if the
// container is watched no more.
static __noinline struct peer_totals *totals_of(struct peer_key *key)
{
	struct peer_totals none = {}, *t;
	struct container_peers *p;

	if (!key)
		return 0;
	p = container_of_owner(key->owner);
	if (!p)
		return 0;
	t = bpf_map_lookup_elem(&peers, key);
	if (t)
		return t;
	if (ADD_TO(p->used, 1) < peers_per_container) {
		if (!bpf_map_update_elem(&peers, key, &none, BPF_NOEXIST))
			return bpf_map_lookup_elem(&peers, key);
		t = bpf_map_lookup_elem(&peers, key); // another CPU may have been first
	}
	ADD_TO(p->used, -1);
	if (t)
		return t;
	ADD_TO(peers_dropped, 1);
	return &p->rest;
}

static __always_inline struct connection *connection_of(struct sock *sk)
{
	u64 address = (u64)sk;

	return bpf_map_lookup_elem(&connections, &address);
}

// totals_of_connection stays where the connection was counted first.
static __always_inline struct peer_totals *totals_of_connection(struct connection *c)
{
	struct container_peers *p = container_of_owner(c->key.owner);
	struct peer_totals *t;

	if (!p)
		return 0;
	if (c->rest)
		return &p->rest;
	t = totals_of(&c->key);
	c->rest = t == &p->rest;
	return t;
}

// mark remembers whom a connection belongs to; 0: to nobody that is watched, or there is no room.
static __always_inline struct connection *mark(struct sock *sk, bool accepted)
{
	struct container_peers *p;
	struct connection c = {};
	u64 address = (u64)sk;

	c.key.owner = owner_of_socket(sk);
	p = container_of_owner(c.key.owner);
	if (!p || !describe(sk, &c, accepted))
		return 0;
	c.cookie = bpf_get_socket_cookie(sk);
	c.begun_ns = bpf_ktime_get_ns();
	c.state = accepted ? TCP_ESTABLISHED : TCP_SYN_SENT;
	if (bpf_map_update_elem(&connections, &address, &c, BPF_ANY)) {
		ADD_TO(p->untracked, 1);
		ADD_TO(untracked, 1);
		return 0;
	}
	return connection_of(sk);
}

static __always_inline u64 sent_bytes(struct sock *sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;

	return BPF_CORE_READ(tp, bytes_sent) - BPF_CORE_READ(tp, bytes_retrans);
}

static __always_inline u64 received_bytes(struct sock *sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	u64 fin = BPF_CORE_READ(sk, __sk_common.skc_flags) >> SOCK_DONE & 1;

	return BPF_CORE_READ(tp, bytes_received) - fin;
}

// closed counts what a connection, or an attempt to open one, came to.
static __noinline int closed(struct sock *sk, struct peer_totals *t, bool connecting)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	u32 rtt_us = BPF_CORE_READ(tp, srtt_us) >> 3;

	if (!t)
		return 0;
	ADD_TO(t->retransmits, BPF_CORE_READ(tp, total_retrans));
	if (connecting) {
		u32 why = why_failed(sk);

		if (why < CONNECT_FAILURES)
			ADD_TO(t->failures[why], 1);
		return 0;
	}
	ADD_TO(t->closed, 1);
	ADD_TO(t->sent_bytes, sent_bytes(sk));
	ADD_TO(t->received_bytes, received_bytes(sk));
	if (rtt_us) {
		ADD_TO(t->rtt_sum_us, rtt_us);
		ADD_TO(t->rtt_count, 1);
	}
	return 0;
}

// closed_untracked counts a connection that found no room when it began.
static __always_inline void closed_untracked(struct sock *sk, int old)
{
	struct container_peers *p;

	if (!untracked || old == TCP_CLOSE || old == TCP_LISTEN)
		return;
	p = container_of_owner(owner_of_socket(sk));
	if (!p || !p->untracked)
		return;
	ADD_TO(p->untracked, -1);
	if (old != TCP_SYN_SENT)
		ADD_TO(p->rest.opened, 1);
	closed(sk, &p->rest, old == TCP_SYN_SENT);
}

#endif
