//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The functions that find where a peer is counted, callable by a test.
#include "peerdrops.h"
#include "tested.h"

char __license[] SEC("license") = "GPL";

struct peer_args {
	struct peer_key key;
	u64 reason;
	u32 rest;  // 1: it was counted in the container's rest
	u32 found; // 0: nowhere
};

TESTED(test_opened, peer_args)
{
	struct connection c = {.key = args->key, .rest = args->rest};
	struct peer_totals *t = totals_of_connection(&c);

	args->found = !!t;
	args->rest = c.rest;
	if (t)
		ADD_TO(t->opened, 1);
}

TESTED(test_whose, peer_args)
{
	struct peer_key key = args->key;

	remember_owner(&key);
	args->key.other = key.other;
}

TESTED(test_reason, peer_args)
{
	struct peer_key key = args->key;

	count_reason(&key, args->reason);
}
