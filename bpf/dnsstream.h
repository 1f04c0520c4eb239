// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// From the packets of a connection to a name server to questions and answers. Each has its length before it (RFC 7766, 8). Where the
// next one begins is known from the first packet of the connection on, by sequence numbers, so that what is sent again is not
// counted again. A message is read if its beginning, to the end of the question, is in one packet; a length may have come before.
#ifndef TRITON_DNSSTREAM_H
#define TRITON_DNSSTREAM_H

#include "datagram.h"

#define MESSAGES 4 // that are read of one packet
#define TCP_SYN 2

// stream is one direction of a connection.
struct stream {
	u32 next;     // sequence number of what is looked at next: a message, or its length
	u16 length;   // of the message at next; 0: its length is next
	u16 followed; // 0: it is not known where the next message begins
};

struct streams {
	struct stream ways[2]; // in, out
};

struct segment {
	struct __sk_buff *skb;
	struct stream *of;
	struct waiting_key *key;
	u64 owner;
	u32 seq; // of the first byte of data
	u32 at;  // where that is in the packet
	u32 len;
	u32 out;
};

// COUNT_OF counts something of an owner.
#define COUNT_OF(owner, counter)                                                              \
	({                                                                                    \
		u32 slot = owner;                                                             \
		struct dns_totals *totals = owner ? bpf_map_lookup_elem(&dns, &slot) : 0;     \
		if (totals)                                                                   \
			COUNT(totals->counter, 1);                                            \
	})

// read_message handles what a segment has at next, if anything; false: the stream is lost.
static __always_inline bool read_message(struct segment *g)
{
	struct __sk_buff *skb = g->skb;
	struct stream *s = g->of;
	u32 off = s->next - g->seq, need;
	u16 length;

	if ((s32)off < 0)
		return 0; // what was before has not come
	if (off >= g->len)
		return 1;
	if (!s->length) {
		if (off + 2 > g->len || bpf_skb_load_bytes(skb, g->at + off, &length, sizeof(length)))
			return 0;
		s->length = bpf_ntohs(length);
		s->next += 2;
		off += 2;
		if (s->length < sizeof(struct message))
			return 0;
		if (off >= g->len)
			return 1;
	}
	need = sizeof(struct message) + 8 * NAME_WORDS + 4;
	if (off + (s->length < need ? s->length : need) > g->len)
		return 0;
	if (take(skb, g->at + off, g->key, g->out, g->owner))
		COUNT_OF(g->owner, asked_by_tcp);
	s->next += s->length;
	s->length = 0;
	return 1;
}

// follow reads the messages that begin in a packet whose header of TCP is at an offset.
static __always_inline void follow(struct __sk_buff *skb, u32 at, struct streams *both, struct waiting_key *key, bool out, u64 owner)
{
	struct stream *s = &both->ways[out];
	struct segment g = {.skb = skb, .of = s, .key = key, .owner = owner, .out = out};
	struct {
		u16 ports[2];
		u32 seq, ack;
		u8 words; // of the header, times 16
		u8 flags;
	} tcp;

	if (bpf_skb_load_bytes(skb, at, &tcp, 14))
		return;
	g.seq = bpf_ntohl(tcp.seq);
	if (tcp.flags & TCP_SYN) {
		g.seq++;
		s->next = g.seq;
		s->length = 0;
		s->followed = 1;
	}
	g.at = at + (tcp.words >> 4) * 4;
	if (!s->followed || g.at >= skb->len)
		return;
	g.len = skb->len - g.at;
	// No bpf_loop: with its frame the stack on the way to a name would be more than Linux 6.1 allows (512 bytes).
	for (int i = 0; i < MESSAGES; i++) {
		if (!read_message(&g)) {
			s->followed = 0;
			break;
		}
	}
	if (s->followed && s->next - g.seq < g.len)
		s->followed = 0;
	if (!s->followed)
		COUNT_OF(owner, unfollowed); // its messages can be told apart no more
}

#endif
