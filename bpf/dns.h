// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// What is counted of a container's questions to name servers, and what is remembered of one until its answer comes.
#ifndef TRITON_DNS_H
#define TRITON_DNS_H

#include "histogram.h"

#define NAME_WORDS 32   // of a name on the wire: 255 bytes at most (RFC 1035, 2.3.4), padded with zeroes
#define LABELS 128      // more do not fit
#define MAX_WAITING 256 // of one container
#define MAX_NAMES 256   // of one container, between two readings
#define RCODES 16

struct question {
	u64 owner;
	u64 name[NAME_WORDS]; // as on the wire, in lower case
	u32 type;
	u32 zero;
};

struct waiting_key {
	u64 cookie; // of the socket
	u8 server[16]; // IPv4 as ::ffff:a.b.c.d
	u32 id;
	u32 zero;
};

struct waiting {
	struct question question;
	u64 at_ns; // CLOCK_MONOTONIC
};

// dns_totals is what was counted of one container; all of it by atomic additions, since nothing keeps a program from being
// interrupted by another. User space adds to unanswered, and takes from names and waiting, too.
struct dns_totals {
	u64 latency[BUCKETS2]; // from a question to its answer
	u64 latency_sum_ns;
	u64 asked;
	u64 rcodes[RCODES]; // of answers
	u64 truncated;      // answers, in rcodes too
	u64 unanswered;     // asked again before an answer came, or not answered in time
	u64 untimed;        // asked while too many waited; if an answer came, it is unasked
	u64 unasked;        // answers to nothing that waits
	u64 malformed;      // messages of the service's port that are no question and no answer
	u64 unnamed;        // questions and answers that found no room among the names
	u64 asked_by_tcp;   // in asked too
	u64 unfollowed;     // directions of connections whose messages could be told apart no more
	u64 waiting;        // questions now
	u64 names;          // entries now
};

struct name_counts {
	u64 asked;
	u64 answered;
	u64 missing; // there is no such name
	u64 failed;  // otherwise
	u64 unanswered;
	u64 sum_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); // set by the loader: containers
	__type(key, u32);
	__type(value, struct dns_totals);
} dns SEC(".maps");

// questions (those that wait) and names are emptied by user space, and by answers. Not preallocated: they are mostly empty.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384); // 5.5 MiB
	__type(key, struct waiting_key);
	__type(value, struct waiting);
} questions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384); // 5.5 MiB
	__type(key, struct question);
	__type(value, struct name_counts);
} names SEC(".maps");

const struct name_counts no_counts = {};

#define COUNT(counter, n) __sync_fetch_and_add(&(counter), n)

// lower makes letters of eight bytes small. The lengths of labels are below 64, and no letters.
static __always_inline u64 lower(u64 w)
{
	u64 low = w & 0x7f7f7f7f7f7f7f7fULL;
	u64 from_a = low + 0x3f3f3f3f3f3f3f3fULL;  // 0x80 - 'A': the top bit of bytes from 'A' on
	u64 beyond_z = low + 0x2525252525252525ULL; // 0x7f - 'Z'

	return w | (from_a & ~beyond_z & ~w & 0x8080808080808080ULL) >> 2;
}

// counts_of returns where to count a question's name; 0: there is no room.
static __noinline struct name_counts *counts_of(struct dns_totals *t, struct question *q)
{
	struct name_counts *c = bpf_map_lookup_elem(&names, q);

	if (c)
		return c;
	if (t->names < MAX_NAMES) {
		if (!bpf_map_update_elem(&names, q, &no_counts, BPF_NOEXIST))
			COUNT(t->names, 1);
		c = bpf_map_lookup_elem(&names, q); // another program may have been first
	}
	if (!c)
		COUNT(t->unnamed, 1);
	return c;
}

// asked counts a question that is being sent.
static __always_inline void asked(struct dns_totals *t, struct waiting_key *key, struct waiting *w)
{
	struct name_counts *c = counts_of(t, &w->question);
	struct waiting *before = bpf_map_lookup_elem(&questions, key);

	COUNT(t->asked, 1);
	if (c)
		COUNT(c->asked, 1);
	w->at_ns = bpf_ktime_get_ns();
	if (before) { // asked again
		COUNT(t->unanswered, 1);
		if (c)
			COUNT(c->unanswered, 1);
		bpf_map_update_elem(&questions, key, w, BPF_EXIST);
		return;
	}
	if (t->waiting < MAX_WAITING && !bpf_map_update_elem(&questions, key, w, BPF_NOEXIST))
		COUNT(t->waiting, 1);
	else
		COUNT(t->untimed, 1);
}

static __always_inline bool same_question(struct question *a, struct question *b)
{
	u64 differ = (a->owner ^ b->owner) | (a->type ^ b->type);

	for (int i = 0; i < NAME_WORDS; i++)
		differ |= a->name[i] ^ b->name[i];
	return !differ;
}

// answered counts an answer. q is the question that it repeats; 0: it repeats none, as servers may that did not understand.
static __always_inline void answered(struct dns_totals *t, struct waiting_key *key, struct question *q, u32 rcode, bool truncated)
{
	struct waiting *w = bpf_map_lookup_elem(&questions, key);
	struct name_counts *c;
	u64 ns, b;

	if (!w || (q && !same_question(q, &w->question))) {
		COUNT(t->unasked, 1);
		return;
	}
	c = counts_of(t, &w->question);
	ns = bpf_ktime_get_ns() - w->at_ns;
	if (bpf_map_delete_elem(&questions, key))
		return; // user space was first, or the same answer on another CPU
	COUNT(t->waiting, -1);
	b = in_register(bucket2(schema2_index(ns)));
	if (b < BUCKETS2)
		COUNT(*counter_at(t->latency, b), 1);
	COUNT(t->latency_sum_ns, ns);
	COUNT(*counter_at(t->rcodes, in_register(rcode & (RCODES - 1))), 1);
	if (truncated)
		COUNT(t->truncated, 1);
	if (!c)
		return;
	COUNT(c->answered, 1);
	COUNT(c->sum_ns, ns);
	if (rcode)
		COUNT(*(rcode == 3 ? &c->missing : &c->failed), 1);
}

#endif
