//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The functions that split waits among culprits and requests among disks, callable by a test.
#include "blockio.h"
#include "delays.h"
#include "tested.h"

char __license[] SEC("license") = "GPL";

struct request_args {
	u64 owner;
	u32 major;
	u32 minor;
	u32 write;
	u32 bytes;
	u32 left;
	u32 zero;
	u64 start_ns;
	u64 now_ns;
};

TESTED(test_request, request_args)
{
	struct disk_totals *t = totals_of_disk(args->owner, args->major, args->minor, args->write);

	if (t)
		add_request(t, args->bytes, args->left, args->start_ns, args->now_ns);
}

struct wait_args {
	u64 victim;
	u64 from;
	u64 until;
	u64 elsewhere;
};

// test_wait charges a wait to the runs that the test has put into recent_runs, the same for each CPU.
TESTED(test_wait, wait_args)
{
	u32 zero = 0;
	struct cpu_runs *cpu = bpf_map_lookup_elem(&recent_runs, &zero);

	if (cpu)
		blame(cpu, args->victim, args->from, args->until, args->elsewhere);
}

struct switch_args {
	u32 leaves;
	u32 gets;
	u64 owner; // of the run that ends
	u64 start_ns;
	u64 queued_ns; // in: of the task that gets the CPU; out: as it was of the one that leaves
};

// test_switch is a switch as the hook notes it, on a CPU of the test's own.
TESTED(test_switch, switch_args)
{
	u32 zero = 0;
	struct cpu_runs *cpu = bpf_map_lookup_elem(&recent_runs, &zero);
	u64 queued;

	if (!cpu)
		return;
	watch_switch(cpu, args->leaves, args->gets);
	queued = cpu->queued_ns;
	cpu->queued_ns = args->queued_ns;
	args->queued_ns = queued;
	begin_run(cpu, args->owner, args->start_ns);
}
