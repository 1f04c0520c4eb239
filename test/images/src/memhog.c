/*
 * Takes memory and touches every page of it: memhog MIB [hold]
 *
 * It prints "touched", then waits for a signal with hold, and otherwise exits 0.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long mib = argc > 1 ? atol(argv[1]) : 64;

	for (long i = 0; i < mib; i++) {
		char *p = malloc(1 << 20);

		if (!p)
			return 3;
		memset(p, 'x', 1 << 20);
		__asm__ volatile("" ::"r"(p) : "memory");
	}
	puts("touched");
	fflush(stdout);
	if (argc > 2)
		pause();
	return 0;
}
