// Package probes owns the BPF programs while they run: it loads and attaches them, watches and unwatches containers,
// reads what was counted and decodes records, and counts what was dropped. It must not know Docker, cgroup paths or
// what a sample is used for.
//
// # What counts as a system call of a container
//
// Every call made by a task in the container's cgroup or below, from the execve of the container's program on. What the
// runtime's init does before, in the same cgroup (some hundreds of calls, by a Go program), is the runtime's and is
// charged to nobody; the same holds for an exec's. This needs RegisterParent: without it, every call in the cgroup
// counts. A call is counted when it returns; exit and exit_group, which never return, when they are made. A call that
// seccomp refuses, or that began before it was the container's (the first execve), is counted without duration
// (Untimed). 32-bit calls and numbers of 511 and above are counted
// as number 511. What io_uring does without a call, and vDSO functions, are not seen.
package probes
