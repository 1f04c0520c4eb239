// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The kernel's types of requests to block devices, cut down to the fields that the programs read; see core.h.
#ifndef TRITON_REQUEST_H
#define TRITON_REQUEST_H

#include "core.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct blkcg {
	struct cgroup_subsys_state css;
};

struct blkcg_gq {
	struct blkcg *blkcg;
};

struct bio {
	struct blkcg_gq *bi_blkg;
};

struct gendisk {
	int major;
	int first_minor;
};

struct request_queue {
	struct gendisk *disk;
};

struct request {
	struct request_queue *q;
	u32 cmd_flags;
	u32 __data_len;    // bytes that are not done yet
	u64 start_time_ns; // CLOCK_MONOTONIC; 0: the device's statistics are off
	struct bio *bio;
};

#pragma clang attribute pop

#define REQ_OP_MASK 0xff // include/linux/blk_types.h
#define REQ_OP_READ 0
#define REQ_OP_WRITE 1

#endif
