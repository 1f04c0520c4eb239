// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Why a TCP connection that was being opened did not come to be.
#ifndef TRITON_CONNECTS_H
#define TRITON_CONNECTS_H

#include "sockets.h"

// The order is that of probes.connectFailures.
enum connect_failure {
	REFUSED,
	TIMED_OUT,
	UNREACHABLE,
	RESET,
	ABANDONED, // closed by the program that wanted it, mostly because it waited no longer
	NO_PORT,   // every local port was taken
	OTHER,
	CONNECT_FAILURES,
};

static __always_inline enum connect_failure why_failed(struct sock *sk)
{
	switch (BPF_CORE_READ(sk, sk_err)) {
	case 0:
		return BPF_CORE_READ((struct tcp_sock *)sk, segs_out) ? ABANDONED : NO_PORT;
	case ECONNREFUSED:
		return REFUSED;
	case ETIMEDOUT:
		return TIMED_OUT;
	case EHOSTUNREACH:
	case ENETUNREACH:
		return UNREACHABLE;
	case ECONNRESET:
		return RESET;
	}
	return OTHER;
}

#endif
