// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The kernel's types of sockets, cut down to the fields that the programs read; see core.h.
#ifndef TRITON_SOCKETS_H
#define TRITON_SOCKETS_H

#include "core.h"

#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define AF_INET 2
#define AF_INET6 10
#define ENETUNREACH 101
#define ECONNRESET 104
#define ETIMEDOUT 110
#define ECONNREFUSED 111
#define EHOSTUNREACH 113

#define SOCK_DONE 1 // include/net/sock.h, bit of skc_flags: a FIN came

#define SOCK_BINDPORT_LOCK 8 // include/net/sock.h, bit of sk_userlocks: the program asked for the local port

// include/net/tcp_states.h
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_TIME_WAIT 6
#define TCP_CLOSE 7
#define TCP_LISTEN 10
#define TCP_NEW_SYN_RECV 12

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	u8 bytes[16];
};

typedef struct {
	s64 counter;
} atomic64_t;

struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport; // network byte order
	u16 skc_num;   // the local port, host byte order
	unsigned short skc_family;
	u8 skc_state;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	unsigned long skc_flags;
	atomic64_t skc_cookie;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

struct sock {
	struct sock_common __sk_common;
	u16 sk_protocol;
	u8 sk_userlocks : 4;
	int sk_err;
	struct sock_cgroup_data sk_cgrp_data;
};

struct tcp_sock {
	u64 bytes_received; // with one for a FIN
	u64 bytes_sent;     // data, again for each time
	u64 bytes_retrans;
	u32 total_retrans;
	u32 segs_out; // SYNs too
	u32 srtt_us; // smoothed round trip time, times eight
};

struct sk_buff {
	struct sock *sk;
	unsigned char *head;
	u16 network_header; // from head
};

#pragma clang attribute pop

#endif
