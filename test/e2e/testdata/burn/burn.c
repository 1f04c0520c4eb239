// Burns 70, 20 and 10 of 100 parts of its processor time in three functions: the one that is furthest behind its part, by
// the clock of the thread, is next.
#include <time.h>

static volatile unsigned long sink;

#define BURN(name)                                             \
	__attribute__((noinline)) static void name(void)       \
	{                                                      \
		for (int i = 0; i < 200000; i++)               \
			sink += i;                             \
		__asm__ volatile("" ::: "memory");             \
	}

BURN(seventy)
BURN(twenty)
BURN(ten)

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(void)
{
	double parts[] = {70, 20, 10}, used[] = {0, 0, 0};

	for (;;) {
		int next = 0;
		double before;

		for (int i = 1; i < 3; i++)
			if (used[i] / parts[i] < used[next] / parts[next])
				next = i;
		before = now();
		switch (next) {
		case 0:
			seventy();
			break;
		case 1:
			twenty();
			break;
		default:
			ten();
		}
		used[next] += now() - before;
	}
}
