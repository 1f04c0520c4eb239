// What the kernel tests run: a program that makes known numbers of known system calls, or ends in a known way.
// Usage: actor gate PROG ARG... | calls | refused | churn N | moody HOW | forks N | direct FILE KIB | untouched PROG | clocked N | bursts N | pingpong N | connects N |
// shim MODE | MODE
// where MODE is exit37 | segv | thread-exit | leader-first | term | hog | hostile.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

// pause_here tells the test that we got here and waits for it.
static void pause_here(void)
{
	char c = 'r';

	if (write(1, &c, 1) != 1 || read(0, &c, 1) != 1)
		_exit(99);
}

static void times(long n, long nr, long a, long b, long c)
{
	while (n--)
		syscall(nr, a, b, c);
}

static void *thread_calls(void *unused)
{
	times(1000, SYS_getppid, 0, 0, 0);
	return unused;
}

static void on_signal(int sig)
{
	(void)sig;
}

static int calls(void)
{
	struct timespec ms = {0, 1000000};
	pthread_t t[4];
	int i;

	times(1000, SYS_getppid, 0, 0, 0);
	times(500, SYS_close, -1, 0, 0);
	times(250, SYS_openat, AT_FDCWD, (long)"/no/such/file", O_RDONLY);
	for (i = 0; i < 3; i++)
		nanosleep(&ms, NULL);
	signal(SIGUSR1, on_signal);
	for (i = 0; i < 20; i++)
		syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1);
	for (i = 0; i < 10; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			times(7, SYS_getsid, 0, 0, 0);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
	}
	for (i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, thread_calls, NULL);
	for (i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	return 0;
}

// refused makes 100 calls that seccomp answers with EPERM, and one that is allowed.
static int refused(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof(code) / sizeof(code[0]), code};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		return 1;
	times(100, SYS_getpgid, 0, 0, 0);
	times(1, SYS_getsid, 0, 0, 0);
	return 0;
}

static void *exit_soon(void *unused)
{
	usleep(20000);
	exit(9);
	return unused;
}

static void *outlive_leader(void *unused)
{
	usleep(50000);
	syscall(SYS_exit, 6); // not by returning: glibc lets the last thread end the process with 0
	return unused;
}

static int hostile(void);

// hog takes memory until the kernel ends it.
static int hog(void)
{
	long n;

	pause_here();
	for (n = 0; n < 512; n++) {
		volatile char *p = malloc(1 << 20);
		long i;

		for (i = 0; p && i < 1 << 20; i += 4096)
			p[i] = 1;
	}
	return 96;
}

// direct writes n KiB to a file past the page cache.
static int direct(const char *path, long n)
{
	void *buf;
	int fd;

	pause_here();
	fd = open(path, O_WRONLY | O_CREAT | O_DIRECT, 0600);
	if (fd < 0 || posix_memalign(&buf, 4096, 4096))
		return 95;
	memset(buf, 7, 4096);
	for (; n > 0; n -= 4)
		if (write(fd, buf, 4096) != 4096)
			return 94;
	return 0;
}

// forks makes n children that end at once.
static int forks(long n)
{
	while (n--) {
		if (fork() == 0)
			_exit(0);
		wait(NULL);
	}
	return 0;
}

static int end_as(const char *mode)
{
	pthread_t t;

	if (!strcmp(mode, "hostile"))
		return hostile();
	if (!strcmp(mode, "exit37"))
		return 37;
	if (!strcmp(mode, "hog"))
		return hog();
	if (!strcmp(mode, "segv"))
		*(volatile int *)0x1234 = 0;
	if (!strcmp(mode, "term"))
		kill(getpid(), SIGTERM);
	if (!strcmp(mode, "thread-exit")) {
		pthread_create(&t, NULL, exit_soon, NULL);
		for (;;)
			pause();
	}
	if (!strcmp(mode, "leader-first")) {
		pthread_create(&t, NULL, outlive_leader, NULL);
		syscall(SYS_exit, 5);
	}
	return 98;
}

// untouched executes a program whose path is in memory that nobody has read yet: it has no page before the kernel needs it.
static int untouched(const char *path)
{
	char *argv[] = {(char *)path, "exit37", NULL}, *p;
	int fd = memfd_create("path", 0);

	if (write(fd, path, strlen(path) + 1) < 0)
		return 91;
	p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	execve(p, argv, environ);
	return 97;
}

static long used(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000 + t.tv_nsec;
}

// clocked makes n calls for each byte it reads, and prints the CPU time they took in nanoseconds.
static int clocked(long n)
{
	long from;

	for (;;) {
		pause_here();
		from = used(CLOCK_THREAD_CPUTIME_ID);
		times(n, SYS_getppid, 0, 0, 0);
		printf("%ld\n", used(CLOCK_THREAD_CPUTIME_ID) - from);
		fflush(stdout);
	}
}

// bursts takes a CPU for 1 ms, n times, and sleeps for 9 ms after each.
static int bursts(long n)
{
	struct timespec pause = {0, 9000000};

	while (n--) {
		long from = used(CLOCK_THREAD_CPUTIME_ID);

		while (used(CLOCK_THREAD_CPUTIME_ID) - from < 1000000)
			;
		nanosleep(&pause, NULL);
	}
	return 0;
}

// pingpong passes a byte to a child and back n times for each byte it reads, and prints the CPU time that took both in nanoseconds.
static int pingpong(long n)
{
	int there[2], back[2];
	clockid_t childs;
	char c = 'b';
	long i, from;
	pid_t child;

	if (pipe(there) || pipe(back))
		return 93;
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (read(there[0], &c, 1) == 1 && write(back[1], &c, 1) == 1)
			;
		_exit(0);
	}
	if (clock_getcpuclockid(child, &childs))
		return 93;
	for (;;) {
		pause_here();
		from = used(CLOCK_PROCESS_CPUTIME_ID) + used(childs);
		for (i = 0; i < n; i++)
			if (write(there[1], &c, 1) != 1 || read(back[0], &c, 1) != 1)
				return 92;
		printf("%ld\n", used(CLOCK_PROCESS_CPUTIME_ID) + used(childs) - from);
		fflush(stdout);
	}
}

// child_of_parent is what runc's nsexec does: the new process becomes a sibling.
static pid_t child_of_parent(void)
{
	return syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
}

// shim forks a process that ends as mode says through three stages, prints its pid, and reaps until it is killed.
static int shim(const char *mode)
{
	pause_here();
	if (fork() == 0) {                                      // stage 0
		if (child_of_parent() == 0) {                   // stage 1
			if (child_of_parent() == 0) {           // stage 2
				char c;

				printf("%d\n", getpid());
				fflush(stdout);
				if (read(0, &c, 1) != 1)
					_exit(99);
				exit(end_as(mode));
			}
			_exit(0);
		}
		_exit(0);
	}
	for (;;) { // say what wait4 says
		int status;
		pid_t pid = wait(&status);

		if (pid > 0) {
			printf("%d %d\n", pid, status);
			fflush(stdout);
		} else {
			pause_here();
		}
	}
}

// hostile is the program of a container that tries to fill the exit map: children and grandchildren by CLONE_PARENT.
static int hostile(void)
{
	int i;

	for (i = 0; i < 50; i++) {
		if (child_of_parent() == 0) {
			if (child_of_parent() == 0)
				_exit(1);
			_exit(2);
		}
	}
	usleep(50000);
	return 3;
}

// connects opens n connections to itself, each accepted and closed, and prints the CPU time that it took, again and again.
// Rounds go to addresses of their own, since a closed connection keeps its ports for a while.
static int connects(long n)
{
	struct sockaddr_in to = {.sin_family = AF_INET}, any = {.sin_family = AF_INET};
	int listener = socket(AF_INET, SOCK_STREAM, 0), client, server, round = 0;
	socklen_t size = sizeof(to);
	long i, from;

	if (bind(listener, (struct sockaddr *)&any, sizeof(any)) || listen(listener, 16) ||
	    getsockname(listener, (struct sockaddr *)&to, &size))
		return 94;
	for (;; round++) {
		pause_here();
		to.sin_addr.s_addr = htonl(INADDR_LOOPBACK + round % 200);
		from = used(CLOCK_PROCESS_CPUTIME_ID);
		for (i = 0; i < n; i++) {
			client = socket(AF_INET, SOCK_STREAM, 0);
			if (connect(client, (struct sockaddr *)&to, sizeof(to)))
				return 95;
			server = accept(listener, NULL, NULL);
			if (server < 0 || close(client) || close(server))
				return 96;
		}
		printf("%ld\n", used(CLOCK_PROCESS_CPUTIME_ID) - from);
		fflush(stdout);
	}
}

// moody calls the kernel without end: always alike, now much and now little, or whenever it likes.
static void moody(const char *how)
{
	int much = 0;

	srandom(getpid());
	for (;;) {
		struct timespec pause = {0, 10000000};
		long n = 20;

		if (!strcmp(how, "bursts")) {
			if (random() % 40 == 0)
				much = !much;
			n = much ? 100 : 5;
		} else if (!strcmp(how, "rests")) {
			n = random() % 40;
			pause.tv_nsec = random() % 40 * 1000000;
		}
		times(n, SYS_getppid, 0, 0, 0);
		nanosleep(&pause, NULL);
	}
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (!strcmp(mode, "gate") && argc > 2) {
		pause_here();
		execve(argv[2], argv + 2, environ);
		return 97;
	}
	if (!strcmp(mode, "calls"))
		return calls();
	if (!strcmp(mode, "refused"))
		return refused();
	if (!strcmp(mode, "churn") && argc > 2) {
		times(atol(argv[2]), SYS_getppid, 0, 0, 0);
		return 0;
	}
	if (!strcmp(mode, "moody") && argc > 2)
		moody(argv[2]);
	if (!strcmp(mode, "direct") && argc > 3)
		return direct(argv[2], atol(argv[3]));
	if (!strcmp(mode, "forks") && argc > 2)
		return forks(atol(argv[2]));
	if (!strcmp(mode, "untouched") && argc > 2)
		return untouched(argv[2]);
	if (!strcmp(mode, "clocked") && argc > 2)
		return clocked(atol(argv[2]));
	if (!strcmp(mode, "bursts") && argc > 2)
		return bursts(atol(argv[2]));
	if (!strcmp(mode, "pingpong") && argc > 2)
		return pingpong(atol(argv[2]));
	if (!strcmp(mode, "connects") && argc > 2)
		return connects(atol(argv[2]));
	if (!strcmp(mode, "shim") && argc > 2)
		return shim(argv[2]);
	return end_as(mode);
}
