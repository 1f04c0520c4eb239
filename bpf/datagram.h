// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// From a packet to a question or an answer. The bytes are foreign: every length is checked, and every loop has a bound.
#ifndef TRITON_DATAGRAM_H
#define TRITON_DATAGRAM_H

#include "dns.h"
#include "packets.h"

#define NAME_SERVICE bpf_htons(53)

// message is the beginning of one (RFC 1035, 4.1.1).
struct message {
	u16 id;
	u8 flags; // QR, opcode, AA, TC, RD
	u8 rcode; // RA, Z, rcode
	u16 questions;
	u16 counts[3];
};

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

// take handles what was sent to or came from a name server; at is where the message begins, and key has all but its id. It returns
// whether it was a question.
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
	return out;
}

// message_in returns where the message of a datagram begins that is at an offset; 0: it is none of the service's.
static __always_inline u32 message_in(struct __sk_buff *skb, u32 at, bool out)
{
	u16 ports[2]; // from, to

	return !bpf_skb_load_bytes(skb, at, ports, sizeof(ports)) && ports[out] == NAME_SERVICE ? at + 8 : 0;
}

#endif
