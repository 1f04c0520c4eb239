// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Stacks by the hash of their addresses, each kept once, so that no two ever share an entry, as they do in the kernel's own
// map of stacks.
#ifndef TRITON_STACKS_H
#define TRITON_STACKS_H

#include "core.h"

#define STACK_DEPTH 127 // what kernel.perf_event_max_stack allows unless it was changed; one less than a power of two

// stack_key has the owner, so that a container that makes hashes collide spoils its own profile only.
struct stack_key {
	u64 owner;
	u64 hash;
};

struct stack {
	u64 pcs[STACK_DEPTH + 1]; // innermost first; ends with 0
};

// lost is what is not in a container's profile.
struct lost {
	u64 counts; // found no room among the counts
	u64 stacks; // counted, but their stack found no room
	u64 broken; // counted, but the memory of their stack could not be read
};

struct stacks_side {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192); // 8.5 MiB
	__type(key, struct stack_key);
	__type(value, struct stack);
} stacks_a SEC(".maps"), stacks_b SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, u32);
	__array(values, struct stacks_side);
} stacks SEC(".maps") = {.values = {&stacks_a, &stacks_b}};

// use is what a container has of a side's maps. User space makes the entries and deletes them, and sets them to zero when it
// has emptied the side.
struct use {
	u64 counts;
	u64 stacks;
};

struct used_side {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); // set by the loader: containers
	__type(key, u64);
	__type(value, struct use);
} used_a SEC(".maps"), used_b SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, u32);
	__array(values, struct used_side);
} used SEC(".maps") = {.values = {&used_a, &used_b}};

// Shares of one container; user space sets them by how many there are.
u64 count_share = 1;
u64 stack_share = 1;
u64 sleeper_share = 1;

static __always_inline struct use *used_of(u64 owner, u32 on)
{
	void *side = bpf_map_lookup_elem(&used, &on);

	return side ? bpf_map_lookup_elem(side, &owner) : 0;
}

// take_share counts one more; false: the share is used up.
static __always_inline bool take_share(u64 *n, u64 share)
{
	if ((s64)__sync_fetch_and_add(n, 1) < (s64)share) // what began before the entry was made may take it below 0
		return 1;
	__sync_fetch_and_add(n, -1);
	return 0;
}

// losses has an entry for each container that is being profiled.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); // set by the loader: containers
	__type(key, u64);
	__type(value, struct lost);
} losses SEC(".maps");

// scratch is where a stack is put together; nothing comes in between on a CPU, since interrupts are off in all programs.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct stack);
} scratch SEC(".maps");

// hash_of never gives 0. n is the number of addresses.
static __always_inline u64 hash_of(struct stack *s, u64 n)
{
	u64 h = n;

	for (u64 i = 0; i < STACK_DEPTH && i < n; i++) {
		h = (h ^ s->pcs[i]) * 0x9e3779b97f4a7c15ULL; // 2^64 divided by the golden ratio
		h ^= h >> 29;
	}
	return h ? h : 1;
}

#define LOSE(owner, what)                                                \
	do {                                                             \
		u64 loser = owner;                                       \
		struct lost *lost = bpf_map_lookup_elem(&losses, &loser); \
		if (lost)                                                \
			__sync_fetch_and_add(&lost->what, 1);            \
	} while (0)

// keep_stack stores the first bytes of the scratch stack under its hash, which it returns; 0: there is none.
static __noinline u64 keep_stack(u64 owner, u32 on, s64 bytes)
{
	struct stack_key key = {.owner = owner};
	struct stack *s;
	struct use *u;
	void *kept;
	u32 zero = 0;
	u64 n;

	s = bpf_map_lookup_elem(&scratch, &zero);
	kept = bpf_map_lookup_elem(&stacks, &on);
	if (!s || !kept || bytes <= 0)
		return 0;
	n = (u64)bytes / sizeof(u64);
	s->pcs[n & STACK_DEPTH] = 0; // a mask, too
	key.hash = hash_of(s, n);
	if (bpf_map_lookup_elem(kept, &key))
		return key.hash;
	u = used_of(owner, on);
	if (!u)
		return key.hash; // looked at no more
	if (!take_share(&u->stacks, stack_share)) {
		LOSE(owner, stacks);
		return key.hash;
	}
	switch (bpf_map_update_elem(kept, &key, s, BPF_NOEXIST)) {
	case 0:
		return key.hash;
	case -7: // E2BIG
		LOSE(owner, stacks);
	}
	__sync_fetch_and_add(&u->stacks, -1);
	return key.hash;
}

// stack_at takes the user's or the kernel's stack of the task that runs.
static __always_inline u64 stack_at(void *ctx, u64 owner, u32 on, u64 flags)
{
	struct stack *s;
	u32 zero = 0;
	s64 bytes;

	s = bpf_map_lookup_elem(&scratch, &zero);
	if (!s)
		return 0;
	bytes = bpf_get_stack(ctx, s, STACK_DEPTH * sizeof(u64), flags);
	if (bytes < 0 && flags & BPF_F_USER_STACK)
		LOSE(owner, broken);
	return keep_stack(owner, on, bytes);
}

#endif
