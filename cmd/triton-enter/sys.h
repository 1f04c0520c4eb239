// SPDX-License-Identifier: Apache-2.0
// System calls without a C library: the program is copied into memory at each exec, so its size is its cost.
#ifndef TRITON_ENTER_SYS_H
#define TRITON_ENTER_SYS_H

#include <asm/ioctls.h>
#include <asm/stat.h>
#include <asm/statfs.h>
#include <asm/unistd.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/signal.h>
#include <linux/stat.h>
#include <stddef.h>
#include <stdint.h>

#ifndef __x86_64__
#error "triton-enter is written for x86-64, as Triton's BPF programs are"
#endif

// call makes a system call: its result, or -errno.
static long call6(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return ret;
}

#define CALL_(nr, a, b, c, d, e, f, ...) call6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define call(nr, ...) CALL_(nr, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)

// The compiler may ask for these, C library or not.
void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	void *start = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	return start;
}

void *memset(void *to, int c, size_t n)
{
	void *start = to;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(c) : "memory");
	return start;
}

static size_t length(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

// struct msghdr and what it needs: the kernel's headers for programs lack it.
struct part {
	const void *at;
	size_t n;
};

struct message {
	void *name;
	uint32_t name_len, pad0;
	struct part *parts;
	size_t nparts;
	void *control;
	size_t control_len;
	uint32_t flags, pad1;
};

struct rights { // a control message with one descriptor
	size_t len; // CMSG_LEN(4)
	int32_t level, type;
	int32_t fd, pad;
};

#define SOL_SOCKET 1
#define SCM_RIGHTS 1
#define MSG_NOSIGNAL 0x4000

#endif
