//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Questions about block I/O.
//
// Hook: tp_btf block_rq_complete, while somebody looks: a walk up the cgroups of each request of the machine. The owner is that
// of the request's bio, and asked has ids of the hierarchy that the block layer charges (see blockio.h). An event is a part of
// a request that a device has done, mostly all of it; the last part has the latency, from the making of the request on.
// Not seen: write-back on v1, which the kernel charges to the root; flushes, which have no bio.
#include "ask.h"
#include "request.h"

char __license[] SEC("license") = "GPL";

#define MINOR_BITS 20 // include/linux/kdev_t.h

static __noinline u64 entry_of_blkio(struct cgroup *cgroup)
{
	return OWNER_IN(asked, cgroup);
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(ask_request, struct request *rq, u32 error, unsigned int bytes)
{
	struct bio *bio = rq->bio;
	u64 now, entry, start = rq->start_time_ns;
	struct gendisk *disk;
	struct event *e;

	if (!bio)
		return 0;
	entry = entry_of_blkio(BPF_CORE_READ(bio, bi_blkg, blkcg, css.cgroup));
	e = entry ? event_of(0) : 0;
	if (!e)
		return 0;
	now = bpf_ktime_get_ns();
	disk = rq->q->disk;
	if (disk)
		e->word[W_DEVICE] = (u64)disk->major << MINOR_BITS | disk->first_minor;
	e->word[W_OP] = rq->cmd_flags & REQ_OP_MASK;
	e->word[W_BYTES] = bytes;
	e->word[W_LATENCY] = bytes < rq->__data_len || !start || now < start ? NS_UNKNOWN : now - start;
	return consider(e, entry, 0);
}
