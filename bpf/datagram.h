// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// From a packet to a question or an answer. The bytes are foreign: every length is checked, and every loop has a bound.
#ifndef TRITON_DATAGRAM_H
#define TRITON_DATAGRAM_H

#include <bpf/bpf_endian.h>
#include "dns.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define IPPROTO_UDP 17
#define NAME_SERVICE bpf_htons(53)
#define OWNER_LEVELS 12 // as MAX_LEVEL of owner.h

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); // that of the measuring programs, which share it
	__type(key, u64);
	__type(value, u64);
} owners_v2 SEC(".maps");

// message is the beginning of one (RFC 1035, 4.1.1).
struct message {
	u16 id;
	u8 flags; // QR, opcode, AA, TC, RD
	u8 rcode; // RA, Z, rcode
	u16 questions;
	u16 counts[3];
};

// owner_of_packet goes by the cgroup of the packet's socket: outermost first, as OWNER_IN.
static __always_inline u64 owner_of_packet(struct __sk_buff *skb)
{
	for (int level = 1; level <= OWNER_LEVELS; level++) {
		u64 id = bpf_skb_ancestor_cgroup_id(skb, level), *owner;

		if (!id)
			return 0;
		owner = bpf_map_lookup_elem(&owners_v2, &id);
		if (owner)
			return *owner;
	}
	return 0;
}

// read_question reads the name and the type at an offset; false: they are none.
static __noinline bool read_question(struct __sk_buff *skb, u32 at, struct question *q)
{
	u32 end = 0;
	u16 type;
	u8 label;

	for (int i = 0; i < LABELS; i++) {
		if (bpf_skb_load_bytes(skb, at + end, &label, 1) || label > 63)
			return 0;
		end += label + 1;
		if (!label || end > 254)
			break;
	}
	if (label || end > 255 || end < 1)
		return 0;
	if (bpf_skb_load_bytes(skb, at, q->name, end) || bpf_skb_load_bytes(skb, at + end, &type, sizeof(type)))
		return 0;
	for (int i = 0; i < NAME_WORDS; i++)
		q->name[i] = lower(q->name[i]);
	q->type = bpf_ntohs(type);
	return 1;
}

// take handles what was sent to or came from a name server; at is where the message begins, and key has all but its id.
static __noinline int take(struct __sk_buff *skb, u32 at, struct waiting_key *key, bool out, u64 owner)
{
	struct waiting w = {};
	struct dns_totals *t;
	struct message m;
	u32 slot;

	w.question.owner = owner;
	slot = owner;
	t = owner ? bpf_map_lookup_elem(&dns, &slot) : 0;
	if (!t)
		return 0;
	if (bpf_skb_load_bytes(skb, at, &m, sizeof(m)) || out == (m.flags >> 7)) {
		COUNT(t->malformed, 1);
		return 0;
	}
	if (m.flags >> 3 & 15)
		return 0; // no query but an update or the like
	if ((m.questions != bpf_htons(1) && (out || m.questions)) ||
	    (m.questions && !read_question(skb, at + sizeof(m), &w.question))) {
		COUNT(t->malformed, 1);
		return 0;
	}
	key->id = m.id;
	if (out)
		asked(t, key, &w);
	else
		answered(t, key, m.questions ? &w.question : 0, m.rcode & 15, m.flags & 2);
	return 0;
}

// message_at returns where the message of one of the service's packets begins, and fills in the server; 0: it is none of these. out:
// it is being sent.
static __always_inline u32 message_at(struct __sk_buff *skb, bool out, struct waiting_key *key)
{
	u8 *p = (u8 *)(long)skb->data, *end = (u8 *)(long)skb->data_end;
	u16 ports[2]; // from, to
	u32 at;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (p + 20 > end || p[9] != IPPROTO_UDP || (p[6] & 0x1f) | p[7]) // a later fragment has no ports
			return 0;
		at = (p[0] & 15) * 4;
		key->server[10] = key->server[11] = 0xff;
		__builtin_memcpy(key->server + 12, p + (out ? 16 : 12), 4);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (p + 40 > end || p[6] != IPPROTO_UDP)
			return 0;
		at = 40;
		__builtin_memcpy(key->server, p + (out ? 24 : 8), 16);
	} else {
		return 0;
	}
	return !bpf_skb_load_bytes(skb, at, ports, sizeof(ports)) && ports[out] == NAME_SERVICE ? at + 8 : 0;
}

#endif
