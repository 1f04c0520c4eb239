/*
 * Sleeps a known time over and over, with ten getpriority calls each round:
 *
 *   pace MICROSECONDS
 *
 * Every 25 rounds it prints how many it has made, so that the rate can be read from its output.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long us = argc > 1 ? atol(argv[1]) : 20000;
	struct timespec t = { us / 1000000, us % 1000000 * 1000 };

	for (long round = 1;; round++) {
		syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &t, 0);
		for (int i = 0; i < 10; i++)
			syscall(SYS_getpriority, 0, 0);
		if (round % 25 == 0) {
			printf("%ld <b>rounds</b>\n", round);
			fflush(stdout);
		}
	}
}
