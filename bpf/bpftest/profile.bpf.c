//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The functions of the profiling programs, callable by a test.
#include "profile.h"
#include "tested.h"

char __license[] SEC("license") = "GPL";

struct profile_args {
	struct count_key key;
	s64 bytes; // of the stack in scratch
	u64 hash;
	u32 on;
};

TESTED(test_keep_stack, profile_args)
{
	args->hash = keep_stack(args->key.owner, args->on, args->bytes);
}

TESTED(test_count, profile_args)
{
	struct count_key key = args->key;

	add_count(&key, args->on, 5);
}

// test_keep_sleeper begins a wait of the calling task, at a time that hash is.
TESTED(test_keep_sleeper, profile_args)
{
	struct sleeper s = {.key = args->key, .at_ns = args->hash};

	keep_sleeper(BPF_CORE_READ((struct task_struct *)bpf_get_current_task_btf(), pid), &s);
}

// test_wake_up ends the wait of the calling task.
TESTED(test_wake_up, profile_args)
{
	wakes_up(bpf_get_current_task_btf());
}
