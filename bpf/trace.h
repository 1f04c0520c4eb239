// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The live trace: its filter, what of a call's memory is read, and the record. See trace.bpf.c.
#ifndef TRITON_TRACE_H
#define TRITON_TRACE_H

#include "first.h"
#include "owner.h"
#include "wanted.h"

#define MEMORY 256            // bytes of an argument in memory
#define SHOWN 32              // of buffers that are read or written
#define NOT_READ 0xffff
#define WINDOW_NS 100000000ULL // of the limit

// What of an argument is read: bits 0 to 2 of a byte of captures are its index, the others how.
enum how { NOTHING, STRING, ADDRESS_IN, ADDRESS_OUT, BYTES_IN, BYTES_OUT };

struct traced_call {
	u64 at_ns; // CLOCK_MONOTONIC
	u64 ns;
	s64 ret;
	u64 args[6];
	u32 nr;
	u32 pid;
	u32 tid;
	u16 lengths[2]; // of memory; NOT_READ
	char comm[16];
	u8 memory[2][MEMORY]; // not there if neither length is
};
#define HEAD __builtin_offsetof(struct traced_call, memory)

struct call_state {
	u64 start_ns; // 0: in no call that passes
	u64 args[6];
	u32 nr;
	u32 program_length; // NOT_READ: not an execve, or not read yet
	u8 program[MEMORY];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct call_state);
} in_call SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
} trace_ring SEC(".maps");

const volatile u64 traced_cgroup = 0; // in cgroup2
const volatile u64 least_ns = 0;
const volatile bool only_errors = 0;
const volatile char wanted_comm[16] = {}; // empty: every
const volatile u16 captures[SYSCALLS] = {};
const volatile u64 window_limit = 0; // records in WINDOW_NS

u64 window_ns;
u64 window_calls;
u64 lost_limit; // beyond the limit
u64 lost_ring;  // the ring was full, or the kernel gave no storage

// is_traced reports whether the task that runs is in the container's cgroup or below. Every process of the machine pays for it.
static __always_inline bool is_traced(void)
{
	for (int i = 1; i <= MAX_LEVEL; i++) {
		u64 id = bpf_get_current_ancestor_cgroup_id(i);

		if (!id || id == traced_cgroup) // 0: the task's cgroup is less deep
			return id;
	}
	return 0;
}

static __noinline bool passes(struct task_struct *task)
{
	char comm[16];

	if (!is_traced() || in_setup(BPF_CORE_READ(task, tgid)))
		return 0;
	if (!wanted_comm[0])
		return 1;
	bpf_get_current_comm(comm, sizeof(comm));
	for (int i = 0; i < 16; i++) {
		if (comm[i] != wanted_comm[i])
			return 0;
		if (!comm[i])
			return 1;
	}
	return 1;
}

static __always_inline bool within_limit(u64 now)
{
	if (now - window_ns > WINDOW_NS) { // two CPUs may both begin a window: it is a limit, not a measure
		window_ns = now;
		window_calls = 0;
	}
	if (__sync_fetch_and_add(&window_calls, 1) < window_limit)
		return 1;
	__sync_fetch_and_add(&lost_limit, 1);
	return 0;
}

// capture reads an argument in memory; it returns how much of it there is.
static __always_inline u16 capture(u8 *to, const u64 *args, u32 what, s64 ret)
{
	u32 i = what & 7, how = what >> 3, most = MEMORY;
	u64 from, n = 0;
	s64 got;

	if (how == NOTHING || i > 5 || (i > 4 && how != STRING))
		return NOT_READ;
	from = args[i];
	if (!from || ((how == ADDRESS_OUT || how == BYTES_OUT) && ret < 0))
		return NOT_READ;
	if (how == STRING) {
		got = bpf_probe_read_user_str(to, MEMORY, (void *)from);
		return got < 0 ? NOT_READ : got;
	}
	if (how == ADDRESS_OUT)
		bpf_probe_read_user(&n, 4, (void *)args[i + 1]);
	else
		n = how == BYTES_OUT ? (u64)ret : args[i + 1];
	if (how == BYTES_IN || how == BYTES_OUT)
		most = SHOWN;
	if (n > most)
		n = most;
	asm volatile("" : "+r"(n));
	if (n > MEMORY)
		return NOT_READ;
	return bpf_probe_read_user(to, n, (void *)from) ? NOT_READ : n;
}

static __always_inline void fill(struct traced_call *c, struct task_struct *task, const struct call_state *st, u64 at_ns, u64 ns, s64 ret)
{
	c->at_ns = at_ns;
	c->ns = ns;
	c->ret = ret;
	__builtin_memcpy(c->args, st->args, sizeof(c->args));
	c->nr = st->nr;
	c->pid = task->tgid;
	c->tid = task->pid;
	c->lengths[0] = NOT_READ;
	c->lengths[1] = NOT_READ;
	bpf_get_current_comm(c->comm, sizeof(c->comm));
}

static __noinline int emit(struct task_struct *task, struct call_state *st, u64 at_ns, u64 ns, s64 ret)
{
	struct traced_call *c;
	u32 what;

	if (!st || !within_limit(bpf_ktime_get_ns()))
		return 0;
	what = captures[st->nr & (SYSCALLS - 1)];
	if (!what) {
		c = bpf_ringbuf_reserve(&trace_ring, HEAD, 0);
		if (!c)
			goto full;
		fill(c, task, st, at_ns, ns, ret);
		bpf_ringbuf_submit(c, 0);
		return 0;
	}
	c = bpf_ringbuf_reserve(&trace_ring, sizeof(*c), 0);
	if (!c)
		goto full;
	fill(c, task, st, at_ns, ns, ret);
	if (st->program_length != NOT_READ) {
		bpf_probe_read_kernel(c->memory[0], MEMORY, st->program);
		c->lengths[0] = st->program_length;
	} else if (!executes(st->nr) || ret < 0) { // after an execve the memory is the new program's
		c->lengths[0] = capture(c->memory[0], st->args, what & 0xff, ret);
		c->lengths[1] = capture(c->memory[1], st->args, what >> 8, ret);
	}
	bpf_ringbuf_submit(c, 0);
	return 0;
full:
	__sync_fetch_and_add(&lost_ring, 1);
	return 0;
}

#endif
