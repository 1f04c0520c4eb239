// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Predicates of questions. An event is words; a leaf is a range of one word or a comparison of several under a mask, and
// gives a bit; the predicate is clauses of bits that must be set and bits that must not. What is known before an event is
// a bit already: those of the container come with its entry in asked, those of a system call from a table.
#ifndef TRITON_PREDICATE_H
#define TRITON_PREDICATE_H

#include "calls.h"

// The words of an event. Those up to KEY_WORDS can be told apart.
enum word {
	W_SUBJECT,
	W_CALL,
	W_ERRNO,
	W_DEVICE,
	W_OP,
	W_PORT,
	W_COMM,
	W_REMOTE = W_COMM + 2,
	W_PATH = W_REMOTE + 2,
	KEY_WORDS = W_PATH + 16,
	W_LATENCY = KEY_WORDS, // ns, or NS_UNKNOWN
	W_BYTES,
	WORDS = 32,
};
#define PATH_BYTES (8 * (KEY_WORDS - W_PATH))

struct event {
	u64 word[WORDS];
	u64 key[KEY_WORDS];
};

#define LEAVES 16
#define LEAF_WORDS 8
#define CLAUSES 16

// leaf holds if first <= word <= last (words is 0), or if that many words are those of first where last has ones.
struct leaf {
	u64 first[LEAF_WORDS];
	u64 last[LEAF_WORDS];
	u32 word;
	u32 words;
};

struct clause {
	u32 must;
	u32 not;
};

const volatile struct leaf leaves[LEAVES] = {};
const volatile u32 leaf_count = 0;
const volatile struct clause clauses[CLAUSES] = {};
const volatile u32 clause_count = 0; // 0: everything passes

// is_zero gives 1 or 0 without a branch: the verifier would follow both, for each leaf, and their combinations.
static __always_inline u64 is_zero(u64 v)
{
	v |= -v;
	asm volatile("" : "+r"(v));
	return (v >> 63) ^ 1;
}

// at_most is 1 if a <= b: the borrow of b - a, without a branch.
static __always_inline u64 at_most(u64 a, u64 b)
{
	u64 borrow = (~b & a) | ((~b | a) & (b - a));

	asm volatile("" : "+r"(borrow));
	return (borrow >> 63) ^ 1;
}

// holds compares an event with the predicate; bits are the leaves that are known to hold.
static __always_inline bool holds(const struct event *e, u64 bits)
{
	u64 any = 0;

	for (u32 i = 0; i < LEAVES && i < leaf_count; i++) {
		u32 at = leaves[i].word;
		u64 differ = 0;

		if (at >= WORDS) // never, but for leaves that are known before
			continue;
		if (leaves[i].words) {
			for (u32 k = 0; k < LEAF_WORDS && k < leaves[i].words && at + k < WORDS; k++)
				differ |= (e->word[at + k] ^ leaves[i].first[k]) & leaves[i].last[k];
			bits |= is_zero(differ) << i;
		} else {
			bits |= (at_most(leaves[i].first[0], e->word[at]) & at_most(e->word[at], leaves[i].last[0])) << i;
		}
	}
	for (u32 i = 0; i < CLAUSES && i < clause_count; i++)
		any |= is_zero((~bits & clauses[i].must) | (bits & clauses[i].not));
	return !clause_count || any;
}

#endif
