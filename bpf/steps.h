// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Steps: a table in which short durations find their bucket with hardly a branch. A duration that jumps from bucket to bucket makes the
// processor guess wrong in schema2_index, more than once, and that costs more than all else of a system call's hook.
//
// Durations up to 262 us are in one of 512 steps of 8 ns or of as many of 512 ns, none of which is wider than a bucket. An entry has the
// last ns of the bucket that the step begins in, << 8, and its position; 0: nobody needed it yet.
#ifndef TRITON_STEPS_H
#define TRITON_STEPS_H

#include "histogram.h"

#define STEPS 512
#define FINE 3
#define COARSE 9

static u32 steps[2 * STEPS];

// last_of returns the last ns that schema2_index gives i, which is one that it gives.
static __always_inline u64 last_of(int i)
{
	u32 t = 30 + ((i - 1) >> 2);
	u64 bound;

	switch ((i - 1) & 3) {
	case 0:
		bound = 10215211334214395865ULL;
		break;
	case 1:
		bound = 12148001999904198769ULL;
		break;
	case 2:
		bound = 14446490411353358019ULL;
		break;
	default:
		bound = 17179869184000000000ULL;
	}
	return bound >> ((63 - t) & 63);
}

// make_step makes the entry that ns needs.
static __noinline u32 make_step(u64 ns)
{
	u32 fine = ns >> FINE < STEPS, shift = fine ? FINE : COARSE;
	int i = schema2_index(ns >> shift << shift);
	u32 step = (u32)last_of(i) << 8 | bucket2(i);

	steps[((ns >> shift) & (STEPS - 1)) + (fine ? 0 : STEPS)] = step;
	return step;
}

// bucket2_of is bucket2(schema2_index(ns)).
static __always_inline u64 bucket2_of(u64 ns)
{
	u64 step;

	if (ns < STEPS << FINE)
		step = steps[ns >> FINE];
	else if (ns < STEPS << COARSE)
		step = steps[STEPS + (ns >> COARSE)];
	else
		return bucket2(schema2_index(ns));
	if (!step)
		step = make_step(ns);
	return (step & 0xff) + (in_register((step >> 8) - ns) >> 63); // the next one, where that many ns are beyond the bound
}

#endif
