// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// What is counted of a peer, where what finds no room is counted, and what is remembered of a connection.
#ifndef TRITON_PEERS_H
#define TRITON_PEERS_H

#include "connects.h"
#include "sockowner.h"

// peer_key names a peer of a container: an address, and the port of the service, so that the ports that the kernel hands
// out to clients make no peers of their own.
struct peer_key {
	u64 owner;
	u64 other;      // whose address it was when the connection began; 0: no watched container's
	u8 address[16]; // IPv4 as ::ffff:a.b.c.d
	u16 port;       // host byte order: the peer's, or the container's own where it was asked
	u8 accepted;    // 1: the container was asked
	u8 protocol;    // IPPROTO_…
	u8 zero[4];
};

struct peer_totals {
	u64 opened; // connections established, by either side
	u64 failures[CONNECT_FAILURES];
	u64 closed;
	u64 sent_bytes; // data, once, of closed connections and of datagrams
	u64 received_bytes;
	u64 retransmits;
	u64 resets_sent;
	u64 resets_received;
	u64 drops; // packets, by reason in peer_drops
	u64 rtt_sum_us; // the kernel's estimate at the end, of closed connections that had one
	u64 rtt_count;
	u64 sent_datagrams; // of UDP; their bytes are in those above, without headers
	u64 received_datagrams;
};

// container_peers is what there is for each container, by slot.
struct container_peers {
	u64 owner;     // set by user space; nothing is counted of connections that outlive their container
	u64 used;      // peers of its own
	u64 untracked; // connections that found no room: they are in rest once they are closed
	struct peer_totals rest; // of peers and connections that found no room
};

// connection is one that is open, or being opened.
struct connection {
	struct peer_key key;
	u64 cookie;    // of the socket: its memory may be another's by the time that it is looked at
	u64 begun_ns;  // when the first SYN was sent or the connection was accepted, by the monotonic clock
	u64 sent_bytes; // from here on, as they were when user space asked last
	u64 received_bytes;
	u64 retransmits;
	u32 rtt_us;
	u16 local_port; // host byte order
	u16 remote_port;
	u8 local_address[16];
	u32 state; // TCP_…
	u32 rest;  // 1: it is counted in the container's rest
};

struct drop_key {
	struct peer_key peer; // of the rest: the owner alone
	u64 reason;           // enum skb_drop_reason
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); // set by the loader
	__type(key, struct peer_key);
	__type(value, struct peer_totals);
} peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); // set by the loader
	__type(key, struct drop_key);
	__type(value, u64);
} peer_drops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); // set by the loader: containers
	__type(key, u32);
	__type(value, struct container_peers);
} peer_slots SEC(".maps");

// connections has those of watched containers, by the address of the socket. Preallocated: entries come and go in
// interrupts.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); // set by the loader
	__type(key, u64);
	__type(value, struct connection);
} connections SEC(".maps");

// addresses tells whose an address is, of watched containers. Filled by user space.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); // set by the loader
	__uint(key_size, 16);
	__type(value, u64);
} addresses SEC(".maps");

const volatile u64 peers_per_container = 1;
const volatile u32 queue_purge = 0; // the kernel's number of that reason; 0: it has none

u64 peers_dropped = 0; // what was counted in a container's rest because its peer found no room
u64 untracked = 0;     // connections that found no room in connections
u64 reasons_dropped = 0; // packets whose reason found no room in peer_drops

#endif
