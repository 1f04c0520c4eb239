//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The functions that find where a peer is counted, callable by a test.
#include "peerdrops.h"

char __license[] SEC("license") = "GPL";

struct peer_args {
	struct peer_key key;
	u64 reason;
	u32 rest;  // 1: it was counted in the container's rest
	u32 found; // 0: nowhere
};

SEC("syscall")
int test_opened(struct peer_args *args)
{
	struct connection c = {.key = args->key, .rest = args->rest};
	struct peer_totals *t = totals_of_connection(&c);

	args->found = !!t;
	args->rest = c.rest;
	if (t)
		ADD_TO(t->opened, 1);
	return 0;
}

SEC("syscall")
int test_whose(struct peer_args *args)
{
	struct peer_key key = args->key;

	remember_owner(&key);
	args->key.other = key.other;
	return 0;
}

SEC("syscall")
int test_reason(struct peer_args *args)
{
	struct peer_key key = args->key;

	count_reason(&key, args->reason);
	return 0;
}
