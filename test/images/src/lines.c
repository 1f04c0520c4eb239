/*
 * Writes numbered lines to both streams, one write(2) each:
 *
 *   lines COUNT PER_SECOND CODE
 *
 * "o 1" goes to stdout, "e 1" to stderr, and so on up to COUNT (0: for ever); then it exits with CODE. SIGTERM ends it
 * with code 77. A line that cannot be written whole ends it with code 99, so that no loss goes unnoticed.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void on_term(int sig)
{
	(void)sig;
	_exit(77);
}

static void put(int fd, char stream, long n)
{
	char line[32];
	int len = snprintf(line, sizeof(line), "%c %ld\n", stream, n);

	if (write(fd, line, len) != len)
		_exit(99);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	long count = atol(argv[1]), rate = atol(argv[2]);
	struct timespec next;

	signal(SIGTERM, on_term);
	signal(SIGPIPE, SIG_IGN);
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (long n = 1; !count || n <= count; n++) {
		put(1, 'o', n);
		put(2, 'e', n);
		if (!rate)
			continue;
		next.tv_nsec += 1000000000L / rate;
		while (next.tv_nsec >= 1000000000L) {
			next.tv_nsec -= 1000000000L;
			next.tv_sec++;
		}
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL))
			;
	}
	return atoi(argv[3]);
}
