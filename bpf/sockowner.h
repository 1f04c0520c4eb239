// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// How a socket finds the container that it belongs to: by its own cgroup, never by the task that happens to run, since
// most of what befalls a socket happens in an interrupt.
#ifndef TRITON_SOCKOWNER_H
#define TRITON_SOCKOWNER_H

#include "owner.h"
#include "owners.h"
#include "sockets.h"

// owner_of_socket returns the owner; 0: nobody that is watched. sk may be null, and one of the small kinds of sockets,
// which have no cgroup.
static __noinline u64 owner_of_socket(struct sock *sk)
{
	struct cgroup *cgroup;
	u8 state;

	if (!sk)
		return 0;
	state = BPF_CORE_READ(sk, __sk_common.skc_state);
	if (state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV)
		return 0;
	cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup);
	return OWNER_IN(owners_v2, cgroup);
}

#endif
