//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The functions of questions, callable by a test.
#include "askrunqueue.h"
#include "tested.h"

char __license[] SEC("license") = "GPL";

struct ask_args {
	u64 word[WORDS];
	u64 entry;
	u64 bits;
};

TESTED(test_consider, ask_args)
{
	struct event *e = event_of(1);

	if (!e)
		return;
	__builtin_memcpy(e->word, args->word, sizeof(e->word));
	consider(e, args->entry, args->bits);
}

struct wait_of_args {
	u64 total;
	u64 runs;
	struct on_cpu on;
	u64 ns;
	u32 tid;
	u32 zero;
};

TESTED(test_waited, wait_of_args)
{
	struct on_cpu on = {.pid = args->on.pid, .run_delay_ns = args->on.run_delay_ns};

	args->ns = waited(args->tid, args->total, args->runs, &on);
}
