// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Questions: an event of a container is compared with a predicate, and counted under what the decomposition tells apart.
//
// Each question is a collection of its own, loaded and attached while somebody looks. A key is the words of the
// decomposition, others zero; the loader cuts its size, and that of what is counted, to what is used.
// Everything counted is on one of two sides: see profile.h. What finds no room is counted in rest.
#ifndef TRITON_ASK_H
#define TRITON_ASK_H

#include "first.h"
#include "histogram.h"
#include "owner.h"
#include "predicate.h"

struct answer {
	u64 count;
	u64 timed; // those with a latency
	u64 ns;
	u64 bytes;
	u64 latency[BUCKETS2]; // if it is asked for
};

const struct answer *unused_answer __attribute__((unused)); // keeps the type in BTF for the Go side

struct answers_side {
	__uint(type, BPF_MAP_TYPE_HASH); // preallocated: it is added to in interrupts, and with a run queue's lock held
	__uint(max_entries, 1); // set by the loader, as are the sizes
	__uint(key_size, 8 * KEY_WORDS);
	__uint(value_size, sizeof(struct answer));
} answers_a SEC(".maps"), answers_b SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, u32);
	__array(values, struct answers_side);
} answers SEC(".maps") = {.values = {&answers_a, &answers_b}};

// rest has what found no room, a side each, and then an answer that stays empty, which new ones begin as.
#define EMPTY 2
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(struct answer));
} rest SEC(".maps");

// events is where a program puts its event together; every program has one of its own, since one may interrupt another.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, u32);
	__type(value, struct event);
} events SEC(".maps");

// asked maps cgroup2 ids of the containers that can pass to their leaves << 32 | subject; a subject is never 0.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); // set by the loader
	__type(key, u64);
	__type(value, u64);
} asked SEC(".maps");

const volatile u64 told_apart = 0; // a bit for each word of the key
const volatile bool with_latency = 0;

u32 side = 0;      // where to count; user space changes it
u64 lost_room = 0; // events to which the kernel gave no memory

static __noinline struct event *event_of(u32 program)
{
	struct event *e = bpf_map_lookup_elem(&events, &program);

	if (e)
		__builtin_memset(e->word, 0, sizeof(e->word));
	return e;
}

static __always_inline struct answer *answer_of(const struct event *e, u32 on)
{
	void *counted = bpf_map_lookup_elem(&answers, &on), *empty;
	struct answer *a;
	u32 i = EMPTY;

	if (!counted)
		return 0;
	a = bpf_map_lookup_elem(counted, e->key);
	empty = bpf_map_lookup_elem(&rest, &i);
	if (!a && empty) {
		bpf_map_update_elem(counted, e->key, empty, BPF_NOEXIST); // another CPU may have been first
		a = bpf_map_lookup_elem(counted, e->key);
	}
	return a ? a : bpf_map_lookup_elem(&rest, &on);
}

// consider counts an event of a container if the predicate holds.
static __noinline int consider(struct event *e, u64 entry, u64 bits)
{
	u64 ns = e->word[W_LATENCY];
	struct answer *a;
	u32 on = side & 1;

	if (!holds(e, bits | entry >> 32))
		return 0;
	e->word[W_SUBJECT] = (u32)entry;
	for (u32 i = 0; i < KEY_WORDS; i++)
		e->key[i] = told_apart >> i & 1 ? e->word[i] : 0;
	a = answer_of(e, on);
	if (!a)
		return 0;
	__sync_fetch_and_add(&a->count, 1);
	__sync_fetch_and_add(&a->bytes, e->word[W_BYTES]);
	if (ns >= NS_UNKNOWN)
		return 0;
	__sync_fetch_and_add(&a->timed, 1);
	__sync_fetch_and_add(&a->ns, ns);
	if (with_latency) {
		u64 b = in_register(bucket2(schema2_index(ns)));

		if (b < BUCKETS2) // always; the verifier cannot know
			__sync_fetch_and_add(counter_at(a->latency, b), 1);
	}
	return 0;
}

#endif
