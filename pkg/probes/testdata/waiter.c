// What the tests of waits run: a program that waits for known things, and tells how long: a line "REASON NANOSECONDS" each.
//
// The times are the kernel's own of each thread, taken around each wait: the clock less the thread's CPU time less what it
// waited for a CPU (schedstat). The gate is a pipe too: it prints r and waits for a byte first.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { DISK, NETWORK, LOCK, SLEEP, POLL, PIPE, FAULT, CHILD, REASONS };

static const char *names[REASONS] = {"disk", "network", "lock", "sleep", "poll", "pipe", "fault", "child"};
static long sums[REASONS];

static long clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * 1000000000 + t.tv_nsec;
}

// delay_ns is how long the calling thread waited for a CPU, ever.
static long delay_ns(void)
{
	char line[128] = {}, *end;
	int fd = open("/proc/thread-self/schedstat", O_RDONLY);

	if (fd < 0 || read(fd, line, sizeof(line) - 1) <= 0)
		exit(90);
	close(fd);
	strtol(line, &end, 10);
	return strtol(end, NULL, 10);
}

#define WAIT(reason, what)                                                                              \
	do {                                                                                            \
		long delay = delay_ns(), cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID), at = clock_ns(CLOCK_MONOTONIC); \
		what;                                                                                   \
		at = clock_ns(CLOCK_MONOTONIC) - at;                                                    \
		cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;                                          \
		__sync_fetch_and_add(&sums[reason], at - cpu - (delay_ns() - delay));                   \
	} while (0)

static void nap(long ms)
{
	struct timespec t = {0, ms * 1000000};

	WAIT(SLEEP, nanosleep(&t, NULL));
}

static int later_fd; // gets a word
static char later_byte[8] = "1234567";
static long late_ms;

static void *write_later(void *unused)
{
	nap(late_ms);
	if (write(later_fd, later_byte, 8) != 8)
		exit(91);
	return unused;
}

static char *page;

// copy_later ends the fault that the page's reader stands in.
static void *copy_later(void *fd)
{
	static char from[4096] __attribute__((aligned(4096)));
	struct uffdio_copy copy = {.dst = (unsigned long)page, .src = (unsigned long)from, .len = 4096};

	nap(170);
	if (ioctl((long)fd, UFFDIO_COPY, &copy))
		exit(89);
	return NULL;
}

static void *unlock_later(void *fd)
{
	nap(110);
	flock((long)fd, LOCK_UN);
	return NULL;
}

// with runs what while another thread is on its way to end the wait.
#define WITH(thread, arg, reason, what)                       \
	do {                                                  \
		pthread_t t;                                  \
		if (pthread_create(&t, NULL, thread, arg))    \
			exit(88);                             \
		WAIT(reason, what);                           \
		WAIT(LOCK, pthread_join(t, NULL));            \
	} while (0)

static void fault(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	long fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.range.start = (unsigned long)page;
	reg.range.len = 4096;
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		exit(87);
	WITH(copy_later, (void *)fd, FAULT, *(volatile char *)page);
}

static void disk(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_DIRECT, 0600), i;
	void *block;

	if (fd < 0 || posix_memalign(&block, 4096, 1 << 20))
		exit(86);
	memset(block, 7, 1 << 20);
	for (i = 0; i < 16; i++)
		WAIT(DISK, if (write(fd, block, 1 << 20) != 1 << 20 || fsync(fd)) exit(85));
}

int main(int argc, char **argv)
{
	struct timespec ms = {0, 130000000};
	struct pollfd none = {-1, 0, 0};
	char word[8], c = 'r';
	int pipes[2], sockets[2], word32 = 0, i;
	long lock, again;
	pid_t pid;

	if (argc < 2 || write(1, &c, 1) != 1)
		return 1;
	WAIT(PIPE, if (read(0, &c, 1) != 1) return 2);
	for (i = 0; i < 3; i++)
		nap(100);
	WAIT(LOCK, syscall(SYS_futex, &word32, FUTEX_WAIT_PRIVATE, 0, &ms, NULL, 0));
	WAIT(POLL, poll(&none, 1, 210));
	if (pipe(pipes) || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets))
		return 3;
	late_ms = 160, later_fd = pipes[1];
	WITH(write_later, NULL, PIPE, if (read(pipes[0], word, 8) != 8) return 4);
	late_ms = 190, later_fd = sockets[1];
	WITH(write_later, NULL, NETWORK, if (read(sockets[0], word, 8) != 8) return 5);
	late_ms = 120;
	WITH(write_later, NULL, NETWORK, if (recv(sockets[0], word, 8, 0) != 8) return 6);
	late_ms = 140, later_fd = eventfd(0, 0);
	WITH(write_later, NULL, POLL, if (read(later_fd, word, 8) != 8) return 7);
	lock = open(argv[0], O_RDONLY), again = open(argv[0], O_RDONLY);
	if (flock(lock, LOCK_EX))
		return 8;
	WITH(unlock_later, (void *)lock, LOCK, if (flock(again, LOCK_EX)) return 9);
	fault();
	disk(argv[1]);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		memset(sums, 0, sizeof(sums));
		nap(180);
		printf("sleep %ld\n", sums[SLEEP]);
		return 0;
	}
	WAIT(CHILD, waitpid(pid, NULL, 0));
	for (i = 0; i < REASONS; i++)
		printf("%s %ld\n", names[i], sums[i]);
	return 0;
}
