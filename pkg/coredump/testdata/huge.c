// Crashes with memory of the kind that its first argument names and the size in MiB that the second says: "words" are
// all touched, each with what its address makes of it; "reserve" has one page touched in the middle. Two threads wait.
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static pthread_barrier_t ready;
static int *volatile nowhere = (int *)16;

static void *sleeper(void *arg)
{
	pthread_barrier_wait(&ready);
	for (;;)
		pause();
	return arg;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 3;
	size_t n = (size_t)atol(argv[2]) << 20;
	pthread_t t;
	pthread_barrier_init(&ready, NULL, 3);
	for (int i = 0; i < 2; i++)
		pthread_create(&t, NULL, sleeper, NULL);
	pthread_barrier_wait(&ready);
	uint64_t *m = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m == MAP_FAILED)
		return 4;
	if (strcmp(argv[1], "words") == 0)
		for (size_t i = 0; i < n / 8; i++)
			m[i] = (uint64_t)(m + i) * 0x9e3779b97f4a7c15;
	else
		m[n / 16] = (uint64_t)(m + n / 16) * 0x9e3779b97f4a7c15;
	return *nowhere;
}
