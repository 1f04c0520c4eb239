// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// What is counted of a peer, and how a socket finds its entry.
#ifndef TRITON_PEERS_H
#define TRITON_PEERS_H

#include "sockowner.h"
#include <bpf/bpf_endian.h>

struct peer_key {
	u64 owner;
	u8 address[16]; // IPv4 as ::ffff:a.b.c.d
	u16 port;       // host byte order
	u8 accepted;    // 1: port is the container's
	u8 zero[5];
};

struct peer_totals {
	u64 opened; // connections established, by either side
	u64 refused;
	u64 timed_out;
	u64 failed; // otherwise
	u64 closed;
	u64 sent_bytes; // data, once, of closed connections
	u64 received_bytes;
	u64 retransmits;
};

// connection is one that is open, or being opened.
struct connection {
	struct peer_key key;
	u64 cookie; // of the socket: its memory may be another's by the time that it is looked at
	u64 sent_bytes;
	u64 received_bytes;
	u64 retransmits;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); // set by the loader
	__type(key, struct peer_key);
	__type(value, struct peer_totals);
} peers SEC(".maps");

// connections has those of watched containers, by the address of the socket. Preallocated: entries come and go in
// interrupts.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); // set by the loader
	__type(key, u64);
	__type(value, struct connection);
} connections SEC(".maps");

u64 peers_dropped = 0; // changes that found no room in peers or in connections

// describe fills key from a socket; false: not an internet socket.
static __always_inline bool describe(struct sock *sk, struct peer_key *key, bool accepted)
{
	u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	if (family == AF_INET) {
		u32 address = BPF_CORE_READ(sk, __sk_common.skc_daddr);

		key->address[10] = key->address[11] = 0xff;
		__builtin_memcpy(&key->address[12], &address, sizeof(address));
	} else if (family == AF_INET6) {
		struct in6_addr address = BPF_CORE_READ(sk, __sk_common.skc_v6_daddr);

		__builtin_memcpy(key->address, &address, sizeof(key->address));
	} else {
		return 0;
	}
	key->accepted = accepted;
	if (accepted) {
		key->port = BPF_CORE_READ(sk, __sk_common.skc_num);
	} else {
		u16 port = BPF_CORE_READ(sk, __sk_common.skc_dport);

		key->port = bpf_ntohs(port);
	}
	return 1;
}

static __always_inline struct peer_totals *totals_of(struct peer_key *key)
{
	struct peer_totals none = {}, *t = bpf_map_lookup_elem(&peers, key);

	if (t)
		return t;
	bpf_map_update_elem(&peers, key, &none, BPF_NOEXIST); // another CPU may have been first
	t = bpf_map_lookup_elem(&peers, key);
	if (!t)
		__sync_fetch_and_add(&peers_dropped, 1);
	return t;
}

static __always_inline struct connection *connection_of(struct sock *sk)
{
	u64 address = (u64)sk;

	return bpf_map_lookup_elem(&connections, &address);
}

// mark remembers whom a connection belongs to; 0: to nobody that is watched, or there is no room.
static __always_inline struct connection *mark(struct sock *sk, bool accepted)
{
	struct connection c = {};
	u64 address = (u64)sk;

	c.key.owner = owner_of_socket(sk);
	if (!c.key.owner || !describe(sk, &c.key, accepted))
		return 0;
	c.cookie = bpf_get_socket_cookie(sk);
	if (bpf_map_update_elem(&connections, &address, &c, BPF_ANY)) {
		__sync_fetch_and_add(&peers_dropped, 1);
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

static __always_inline void closed(struct sock *sk, struct peer_key *key, bool connecting)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	struct peer_totals *t = totals_of(key);

	if (!t)
		return;
	if (connecting) {
		int err = BPF_CORE_READ(sk, sk_err);

		__sync_fetch_and_add(err == ECONNREFUSED ? &t->refused : err == ETIMEDOUT ? &t->timed_out : &t->failed, 1);
	} else {
		__sync_fetch_and_add(&t->closed, 1);
		__sync_fetch_and_add(&t->sent_bytes, sent_bytes(sk));
		__sync_fetch_and_add(&t->received_bytes, received_bytes(sk));
	}
	__sync_fetch_and_add(&t->retransmits, BPF_CORE_READ(tp, total_retrans));
}

#endif
