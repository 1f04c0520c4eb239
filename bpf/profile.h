// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Stacks: where a container's tasks are when somebody looks, counted by process and stack.
//
// Everything counted is on one of two sides: user space switches to the other one, waits for the programs that still run,
// and then empties the first at leisure. What finds no room is counted per container.
#ifndef TRITON_PROFILE_H
#define TRITON_PROFILE_H

#include "first.h"
#include "owner.h"
#include "stacks.h"

#define ON_CPU 0
#define OFF_CPU 1

struct mm_struct___profile {
	unsigned long start_stack;
} __attribute__((preserve_access_index));

struct task_struct___profile {
	struct mm_struct___profile *mm;
} __attribute__((preserve_access_index));

struct count_key {
	u64 owner;
	u64 image;  // where the process's stack began: another one after an exec
	u64 user;   // hashes; 0: none
	u64 kernel;
	u32 pid;
	u32 kind; // ON_CPU, OFF_CPU
};

struct count {
	u64 n;
	u64 ns; // off-CPU: how long
};

struct counts_side {
	__uint(type, BPF_MAP_TYPE_HASH); // preallocated: it is added to in interrupts, and with a run queue's lock held
	__uint(max_entries, 16384);
	__type(key, struct count_key);
	__type(value, struct count);
} counts_a SEC(".maps"), counts_b SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, u32);
	__array(values, struct counts_side);
} counts SEC(".maps") = {.values = {&counts_a, &counts_b}};

// on_cpu and off_cpu map the cgroup2 ids of the containers that are being profiled to their owners.
struct owners {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); // set by the loader: containers
	__type(key, u64);
	__type(value, u64);
} on_cpu SEC(".maps"), off_cpu SEC(".maps");

// sleeper is a task that waits, and what its wait will be counted as.
struct sleeper {
	struct count_key key;
	u64 at_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u32); // tid
	__type(value, struct sleeper);
} sleepers SEC(".maps");

// sleeping has how many of sleepers are a container's. User space makes the entries and deletes them.
struct owners sleeping SEC(".maps");

u32 side = 0; // where to count; user space changes it

static __always_inline u64 image_of(struct task_struct *task)
{
	return BPF_CORE_READ((struct task_struct___profile *)task, mm, start_stack);
}

static __noinline void add_count(struct count_key *key, u32 on, u64 ns)
{
	void *counted = bpf_map_lookup_elem(&counts, &on);
	struct count first = {.n = 1, .ns = ns}, *c;
	struct use *u;

	if (!counted || !key)
		return;
	c = bpf_map_lookup_elem(counted, key);
	if (!c) {
		u = used_of(key->owner, on);
		if (!u)
			return; // looked at no more
		if (!take_share(&u->counts, count_share)) {
			LOSE(key->owner, counts);
			return;
		}
		if (!bpf_map_update_elem(counted, key, &first, BPF_NOEXIST))
			return;
		__sync_fetch_and_add(&u->counts, -1);
		c = bpf_map_lookup_elem(counted, key); // another CPU was first
	}
	if (!c) {
		LOSE(key->owner, counts);
		return;
	}
	__sync_fetch_and_add(&c->n, 1);
	__sync_fetch_and_add(&c->ns, ns);
}

// runs_now charges a tick of the clock to the task that it interrupted.
static __always_inline void runs_now(void *ctx, struct task_struct *task)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	struct count_key key = {.owner = OWNER_IN(on_cpu, cgroup), .kind = ON_CPU};
	u32 on = side & 1;

	if (!key.owner)
		return;
	key.pid = BPF_CORE_READ(task, tgid);
	if (in_setup(key.pid))
		return;
	key.image = image_of(task);
	key.kernel = stack_at(ctx, key.owner, on, 0);
	key.user = key.image ? stack_at(ctx, key.owner, on, BPF_F_USER_STACK) : 0;
	add_count(&key, on, 0);
}

#define TASK_DEAD 0x80 // include/linux/sched.h: its last time

// keep_sleeper notes that a task waits. Not every wait's end is seen: the kernels of some virtual machines keep their agent's threads
// from tracepoints, and so the switch from one of those to a task that waited. Such a wait is lost when the next begins.
static __always_inline void keep_sleeper(u32 tid, struct sleeper *s)
{
	u64 *n = bpf_map_lookup_elem(&sleeping, &s->key.owner);

	if (!n)
		return; // looked at no more
	if (bpf_map_update_elem(&sleepers, &tid, s, BPF_EXIST)) {
		if (take_share(n, sleeper_share)) {
			if (!bpf_map_update_elem(&sleepers, &tid, s, BPF_NOEXIST))
				return;
			__sync_fetch_and_add(n, -1);
		}
	}
	LOSE(s->key.owner, counts);
}

// goes_to_sleep notes since when, and with which stack, a task waits.
static __always_inline void goes_to_sleep(void *ctx, struct task_struct *task, u32 state)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	struct sleeper s = {.key = {.owner = OWNER_IN(off_cpu, cgroup), .kind = OFF_CPU}};
	u32 on = side & 1;

	if (!s.key.owner || state & TASK_DEAD)
		return;
	s.key.pid = BPF_CORE_READ(task, tgid);
	if (in_setup(s.key.pid))
		return;
	s.key.image = image_of(task);
	s.key.kernel = stack_at(ctx, s.key.owner, on, 0);
	s.key.user = s.key.image ? stack_at(ctx, s.key.owner, on, BPF_F_USER_STACK) : 0;
	s.at_ns = bpf_ktime_get_ns();
	keep_sleeper(BPF_CORE_READ(task, pid), &s);
}

// wakes_up counts the wait of a task that gets a CPU.
static __always_inline void wakes_up(struct task_struct *task)
{
	u32 on = side & 1, tid = BPF_CORE_READ(task, pid);
	struct sleeper *s = bpf_map_lookup_elem(&sleepers, &tid);
	struct count_key key;
	u64 now, at, *n;

	if (!s)
		return;
	key = s->key;
	at = s->at_ns;
	now = bpf_ktime_get_ns();
	n = bpf_map_lookup_elem(&sleeping, &key.owner);
	if (!bpf_map_delete_elem(&sleepers, &tid) && n)
		__sync_fetch_and_add(n, -1);
	add_count(&key, on, now > at ? now - at : 0);
}

#endif
