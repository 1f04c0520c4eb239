//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The functions of the profiling programs, callable by a test.
#include "profile.h"

char __license[] SEC("license") = "GPL";

struct profile_args {
	struct count_key key;
	s64 bytes; // of the stack in scratch
	u64 hash;
	u32 on;
};

SEC("syscall")
int test_keep_stack(struct profile_args *args)
{
	args->hash = keep_stack(args->key.owner, args->on, args->bytes);
	return 0;
}

SEC("syscall")
int test_count(struct profile_args *args)
{
	struct count_key key = args->key;

	add_count(&key, args->on, 5);
	return 0;
}

// test_wake_up ends the wait of the calling task.
SEC("syscall")
int test_wake_up(struct profile_args *args)
{
	wakes_up(bpf_get_current_task_btf());
	return 0;
}
