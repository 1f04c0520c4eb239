// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Exit statuses that outlive the daemon: how containers' and execs' first processes are recognised and what is kept.
//
// A container's first process is not forked by the shim directly: runc's nsexec clones three times with CLONE_PARENT,
// so stages 0, 1 and 2 are all children of the shim, each forked by the one before. Only stage 2 runs the program. A
// child of a registered parent is entered at its birth, before it runs, with the stage of its forker plus one; stages
// 0 and 1 leave when they end, and nothing beyond stage 2 is entered, so that a hostile program that clones with
// CLONE_PARENT cannot fill the map. User space deletes entries once it has stored them.
#ifndef TRITON_EXITS_H
#define TRITON_EXITS_H

#include "first.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024); // set by the loader: one per shim
	__type(key, u32);          // pid of a shim
	__type(value, u64);        // cgroup id of its container, 0 while it waits in the pool
} parents SEC(".maps");

enum exit_count {
	EXITS_FULL = 0,    // children not entered because the map was full: their status is lost
	EXITS_REFUSED = 1, // children beyond the last stage
	EXITS_COUNTS = 2,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, EXITS_COUNTS);
	__type(key, u32);
	__type(value, u64);
} exit_counts SEC(".maps");

// sender is who last sent a first process a signal that is to end it.
struct sender {
	u64 at_ns;     // CLOCK_BOOTTIME
	u64 cgroup_id; // of the sender, in cgroup2
	u32 signal;
	s32 code; // si_code: 0 from kill(2), SI_KERNEL from the kernel
	u32 pid;
	u32 uid; // in the first user namespace
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH); // who signals many processes pushes out the oldest senders only
	__uint(max_entries, 4096);
	__type(key, u32); // pid of the first process
	__type(value, struct sender);
} senders SEC(".maps");

#define BIT_OF(n) (1ULL << (n))
// HUP INT QUIT ABRT KILL TERM: what people and supervisors send to end a process.
#define ENDING_SIGNALS (BIT_OF(1) | BIT_OF(2) | BIT_OF(3) | BIT_OF(6) | BIT_OF(9) | BIT_OF(15))
#define SIGKILL 9
#define SI_KERNEL 0x80
#define SIGNAL_QUEUED 0 // TRACE_SIGNAL_DELIVERED of include/trace/events/signal.h

// signal_sent keeps who sends a first process its end. SIGKILL is the last word: the kernel repeats it for siblings.
static __always_inline void signal_sent(struct task_struct *target, int sig, struct kernel_siginfo *info, int result)
{
	struct exit_record *rec;
	struct sender *last, by = {};
	u32 pid;

	if (result != SIGNAL_QUEUED || sig < 1 || sig > 63 || !(ENDING_SIGNALS & BIT_OF(sig)))
		return;
	pid = BPF_CORE_READ(target, tgid);
	rec = bpf_map_lookup_elem(&exits, &pid);
	if (!rec || rec->ended || rec->stage < LAST_STAGE)
		return;
	last = bpf_map_lookup_elem(&senders, &pid);
	if (last && last->signal == SIGKILL)
		return;
	by.at_ns = bpf_ktime_get_boot_ns();
	by.cgroup_id = bpf_get_current_cgroup_id();
	by.signal = sig;
	by.pid = bpf_get_current_pid_tgid() >> 32;
	by.uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(by.comm, sizeof(by.comm));
	if ((u64)info == 1) // SEND_SIG_PRIV
		by.code = SI_KERNEL;
	else if (info) // not SEND_SIG_NOINFO
		by.code = BPF_CORE_READ(info, si_code);
	bpf_map_update_elem(&senders, &pid, &by, BPF_ANY);
}

static __always_inline void count_exit(u32 which)
{
	u64 *n = bpf_map_lookup_elem(&exit_counts, &which);

	if (n)
		__sync_fetch_and_add(n, 1);
}

// child_born enters a new process that registered parent pid `parent` will be asked to reap; forker made it.
static __always_inline void child_born(u32 forker, u32 parent, u32 child)
{
	u64 *cgroup_id = bpf_map_lookup_elem(&parents, &parent);
	struct exit_record rec = {};

	if (!cgroup_id)
		return;
	if (forker != parent) {
		struct exit_record *by = bpf_map_lookup_elem(&exits, &forker);

		if (!by || by->stage >= LAST_STAGE) {
			count_exit(EXITS_REFUSED);
			return;
		}
		rec.stage = by->stage + 1;
	}
	rec.cgroup_id = *cgroup_id;
	rec.parent = parent;
	bpf_map_delete_elem(&senders, &child); // of an earlier process of that number
	if (bpf_map_update_elem(&exits, &child, &rec, BPF_ANY))
		count_exit(EXITS_FULL);
}

// child_execed notes that a last stage executes the program: what it does from now on is the container's.
static __always_inline void child_execed(u32 pid)
{
	struct exit_record *rec = bpf_map_lookup_elem(&exits, &pid);

	if (rec && !rec->ended && rec->stage == LAST_STAGE)
		rec->stage = PROGRAM_STAGE;
}

// child_ended stores the status of an entered process, or forgets one that never was a container's program.
static __always_inline void child_ended(u32 pid, u32 status)
{
	struct exit_record *rec = bpf_map_lookup_elem(&exits, &pid);

	if (!rec || rec->ended)
		return;
	if (rec->stage < LAST_STAGE) {
		bpf_map_delete_elem(&exits, &pid);
		return;
	}
	rec->status = status;
	rec->at_ns = bpf_ktime_get_boot_ns();
	__sync_fetch_and_add(&rec->ended, 1); // last, so that a reader who sees it sees the rest
}

#endif
