// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Latency buckets that are Prometheus native histogram buckets exactly: bucket i of schema s holds values in
// (2^((i-1)/2^s), 2^(i/2^s)] seconds. Pure functions; integers only, so no value is ever one bucket off.
#ifndef TRITON_HISTOGRAM_H
#define TRITON_HISTOGRAM_H

#include "core.h"

// Powers of two seconds that the buckets span: 2^-24 s = 60 ns to 2^12 s = 68 min. What is shorter goes to the first
// bucket, what is longer to the last.
#define EXP_MIN (-24)
#define EXP_MAX 12
#define BUCKETS2 ((EXP_MAX - EXP_MIN) * 4 + 1) // schema 2: four per power of two
#define BUCKETS0 (EXP_MAX - EXP_MIN + 1)       // schema 0: one per power of two

static __always_inline u32 floor_log2(u64 v)
{
	u32 r, s;

	r = (v > 0xffffffff) << 5;
	v >>= r;
	s = (v > 0xffff) << 4;
	v >>= s;
	r |= s;
	s = (v > 0xff) << 3;
	v >>= s;
	r |= s;
	s = (v > 0xf) << 2;
	v >>= s;
	r |= s;
	s = (v > 0x3) << 1;
	v >>= s;
	r |= s;
	return r | (v >> 1);
}

// schema2_index returns the native index i of ns: the smallest with ns <= 2^(i/4) * 1e9, clamped to the span.
//
// With t = floor(log2 ns), the bounds inside [2^t, 2^(t+1)) are those of i = 4(t-30) + 1..4, because 1e9 lies between
// 2^29 and 2^30. Shifted left by 63-t they are the same four numbers for every t: floor(2^(f/4) * 1e9 * 2^33).
// ns * 2^k <= floor(x) exactly when ns * 2^k <= x, so nothing is lost by rounding.
static __always_inline int schema2_index(u64 ns)
{
	u32 t = floor_log2(ns);
	u64 n = ns << (63 - t);
	int i;

	if (ns == 0)
		return EXP_MIN * 4;
	i = 4 * ((int)t - 30) + 1;
	i += n > 10215211334214395865ULL; // 2^(1/4) * 1e9 * 2^33
	i += n > 12148001999904198769ULL; // 2^(2/4)
	i += n > 14446490411353358019ULL; // 2^(3/4)
	i += n > 17179869184000000000ULL; // 2^(4/4)
	if (i < EXP_MIN * 4)
		return EXP_MIN * 4;
	if (i > EXP_MAX * 4)
		return EXP_MAX * 4;
	return i;
}

// Positions in the bucket arrays of a native index of schema 2. A schema-0 bucket is the union of four.
static __always_inline u32 bucket2(int index2)
{
	return index2 - EXP_MIN * 4;
}

static __always_inline u32 bucket0(int index2)
{
	return (u32)(index2 - EXP_MIN * 4 + 3) >> 2;
}

// Left to itself, the compiler keeps an index on the stack until it is needed, and older verifiers (6.1) do not know that
// what is read back is what was checked: in_register gives a value to check, counter_at uses it at once.
static __always_inline u64 in_register(u64 i)
{
	asm volatile("" : "+r"(i));
	return i;
}

static __always_inline u64 *counter_at(u64 *counters, u64 i)
{
	u64 *p = counters + i;

	asm volatile("" : "+r"(p));
	return p;
}

#endif
