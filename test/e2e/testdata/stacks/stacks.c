// Crashes in the way that its argument names.
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static pthread_barrier_t ready;
static volatile int *volatile nowhere = (volatile int *)16;
static volatile int zero;
static void (*volatile no_function)(void);

__attribute__((noinline)) static int nap(int depth)
{
	volatile int here = depth;
	if (depth)
		return nap(depth - 1) + here;
	pthread_barrier_wait(&ready);
	for (;;)
		pause();
}

static void *sleeper(void *arg)
{
	return (void *)(long)nap((int)(long)arg);
}

static inline __attribute__((always_inline)) int deref(volatile int *p) { return *p + 1; }

__attribute__((noinline)) static int compare(const void *a, const void *b)
{
	if (*(const int *)a == 3)
		return deref(nowhere);
	return *(const int *)a - *(const int *)b;
}

__attribute__((noinline)) static int sort(void)
{
	int n[] = {5, 2, 3, 1, 4};
	qsort(n, 5, sizeof *n, compare);
	return n[0];
}

__attribute__((noinline)) static int deeper(int n)
{
	volatile char page[256];
	page[n & 255] = (char)n;
	return deeper(n + 1) + page[3];
}

__attribute__((noinline)) static int truncated(void)
{
	int fd = open("/tmp/short", O_RDWR | O_CREAT, 0600);
	char *p = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
	return p[4096];
}

__attribute__((noinline)) static int divide(int a) { return a / zero; }

__attribute__((noinline)) static int give_up(void) { abort(); }

__attribute__((noinline)) static int call_null(void)
{
	no_function();
	return zero;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	int threads = strcmp(how, "many") == 0 ? 199 : 2;
	pthread_t t;
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 << 10);
	pthread_barrier_init(&ready, NULL, (unsigned)threads + 1);
	for (long i = 0; i < threads; i++)
		pthread_create(&t, &small, sleeper, (void *)(i % 7));
	pthread_barrier_wait(&ready);
	if (strcmp(how, "overflow") == 0)
		return deeper(0);
	if (strcmp(how, "bus") == 0)
		return truncated();
	if (strcmp(how, "divide") == 0)
		return divide(argc) + 1;
	if (strcmp(how, "abort") == 0)
		return give_up() + 1;
	if (strcmp(how, "null") == 0)
		return call_null() + 1;
	return sort() + 1;
}
