// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// What programs at a cgroup see of packets: whose they are, and where a datagram begins. The bytes are foreign.
#ifndef TRITON_PACKETS_H
#define TRITON_PACKETS_H

#include "owner.h"
#include "owners.h"
#include "sockets.h"
#include <bpf/bpf_endian.h>

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd

// owner_of_packet goes by the cgroup of the packet's socket: outermost first, as OWNER_IN.
static __always_inline u64 owner_of_packet(struct __sk_buff *skb)
{
	for (int level = 1; level <= MAX_LEVEL; level++) {
		u64 id = bpf_skb_ancestor_cgroup_id(skb, level), *owner;

		if (!id)
			return 0;
		owner = bpf_map_lookup_elem(&owners_v2, &id);
		if (owner)
			return *owner;
	}
	return 0;
}

// transport_at returns where the header of UDP is, or where wanted of TCP, and fills in which and the address of the other end; 0: it
// is neither. out: it is being sent. A test run of an older kernel shows no bytes but those that are asked for.
static __always_inline u32 transport_at(struct __sk_buff *skb, bool out, bool tcp, u8 *other, u8 *protocol)
{
	u8 *p = (u8 *)(long)skb->data, *end = (u8 *)(long)skb->data_end;
	u8 header[40] = {};

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (p + 20 > end) {
			if (bpf_skb_load_bytes(skb, 0, header, 20))
				return 0;
			p = header;
		}
		*protocol = p[9];
		if ((*protocol != IPPROTO_UDP && (!tcp || *protocol != IPPROTO_TCP)) || (p[6] & 0x1f) | p[7]) // a later fragment has no ports
			return 0;
		other[10] = other[11] = 0xff;
		__builtin_memcpy(other + 12, p + (out ? 16 : 12), 4);
		return (p[0] & 15) * 4;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (p + 40 > end) {
			if (bpf_skb_load_bytes(skb, 0, header, 40))
				return 0;
			p = header;
		}
		*protocol = p[6];
		if (*protocol != IPPROTO_UDP && (!tcp || *protocol != IPPROTO_TCP))
			return 0;
		__builtin_memcpy(other, p + (out ? 24 : 8), 16);
		return 40;
	}
	return 0;
}

// datagram_at is transport_at of UDP.
static __always_inline u32 datagram_at(struct __sk_buff *skb, bool out, u8 *other)
{
	u8 protocol;

	return transport_at(skb, out, 0, other, &protocol);
}

#endif
