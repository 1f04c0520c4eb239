//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The functions of questions, callable by a test.
#include "ask.h"

char __license[] SEC("license") = "GPL";

struct ask_args {
	u64 word[WORDS];
	u64 entry;
	u64 bits;
};

SEC("syscall")
int test_consider(struct ask_args *args)
{
	struct event *e = event_of(1);

	if (!e)
		return 1;
	__builtin_memcpy(e->word, args->word, sizeof(e->word));
	return consider(e, args->entry, args->bits);
}
