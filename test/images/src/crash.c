// Crashes in the way that its argument names, with two threads beside the main one; "big" fills 64 MiB first, or as many
// as the next argument says, of which the one after it leaves all but every n-th page untouched, "sockets" opens some;
// "stay" fills as many MiB as the next argument says, and waits; "huge"
// fills as many as a service would, writes the time in nanoseconds, and crashes.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <arpa/inet.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static pthread_barrier_t ready;
static volatile int *volatile nowhere = (volatile int *)16;

static void *sleeper(void *arg)
{
	pthread_barrier_wait(&ready);
	for (;;)
		pause();
	return arg;
}

__attribute__((noinline)) static int deref(volatile int *p) { return *p + 1; }

__attribute__((noinline)) static int walk(int depth, volatile int *p)
{
	volatile int here = depth;
	return (depth ? walk(depth - 1, p) : deref(p)) + here;
}

// A listener, a connection to it, and a pair.
static void sockets(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(7070), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), pair[2];
	if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1) || connect(client, (struct sockaddr *)&at, sizeof at) ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		exit(3);
}

// Every every-th page is filled.
static void fill(size_t mib, size_t every)
{
	size_t n = mib << 20;
	unsigned long x = 88172645463325252ul;
	void *p;
	if (posix_memalign(&p, 2 << 20, n))
		exit(3);
	if (every == 1)
		madvise(p, n, MADV_HUGEPAGE); // quicker, if there are any
	volatile unsigned long *m = p; // written in any case
	for (size_t page = 0; page < n / 4096; page += every)
		for (size_t i = 0; i < 512; i++)
			m[page * 512 + i] = x ^= x << 13, x ^= x >> 7, x ^= x << 17;
}

// An eighth is random, half is like a heap, an eighth is text, a quarter is never touched.
static void huge(size_t mib)
{
	size_t n = (mib << 20) / 8;
	unsigned long *m = malloc(8 * n), x = 88172645463325252ul;
	if (!m)
		exit(3);
	for (size_t i = 0; i < n / 8; i++)
		m[i] = x ^= x << 13, x ^= x >> 7, x ^= x << 17;
	for (size_t i = n / 8; i < n / 8 * 5; i++)
		m[i] = i % 4 ? i % 4 == 1 ? (x = x * 6364136223846793005ul + 1442695040888963407ul) >> 52 : 0 : (unsigned long)(m + i * 7 % n);
	for (size_t i = n / 8 * 5; i < n / 8 * 6; i++)
		memcpy(m + i, (x = x * 6364136223846793005ul + 1) >> 62 ? "the word" : " and so ", 8);
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	printf("%lld\n", now.tv_sec * 1000000000ll + now.tv_nsec);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	pthread_t t;
	pthread_barrier_init(&ready, NULL, 3);
	for (int i = 0; i < 2; i++)
		pthread_create(&t, NULL, sleeper, NULL);
	pthread_barrier_wait(&ready);
	if (argc > 1 && strcmp(argv[1], "abort") == 0)
		abort();
	if (argc > 1 && strcmp(argv[1], "big") == 0)
		fill(argc > 2 ? (size_t)atoi(argv[2]) : 64, argc > 3 ? (size_t)atoi(argv[3]) : 1);
	if (argc > 2 && strcmp(argv[1], "stay") == 0) {
		fill((size_t)atoi(argv[2]), 1);
		puts("ready");
		fflush(stdout);
		for (;;)
			pause();
	}
	if (argc > 2 && strcmp(argv[1], "huge") == 0)
		huge((size_t)atoi(argv[2]));
	if (argc > 1 && strcmp(argv[1], "sockets") == 0)
		sockets();
	return walk(5, nowhere);
}
