// Makes small requests at a steady rate and writes how long each took, in nanoseconds from the moment at which it was due:
//
//   requests FILE HZ
//
// A request is a message over loopback to a process that reads a file and answers. Each second is a line of FILE: the time since
// 1970 in nanoseconds, and then the requests'.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

static long now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void serve(int listener)
{
	int one = 1, s = accept(listener, NULL, NULL);
	char message[64], page[4096];

	setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	while (read(s, message, sizeof message) == sizeof message) {
		int fd = open("/bin/busybox", O_RDONLY);

		if (fd < 0 || read(fd, page, sizeof page) < 0 || close(fd) || write(s, message, sizeof message) < 0)
			exit(3);
	}
	exit(0);
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof at;
	int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), s = socket(AF_INET, SOCK_STREAM, 0);
	long hz = argc > 2 ? atol(argv[2]) : 500, period = 1000000000L / hz;
	FILE *out = fopen(argv[1], "a");
	char message[64] = "";

	if (!out || bind(listener, (struct sockaddr *)&at, size) || listen(listener, 1) || getsockname(listener, (struct sockaddr *)&at, &size))
		return 2;
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(listener);
	}
	if (connect(s, (struct sockaddr *)&at, size) || setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one))
		return 2;
	for (long due = now(CLOCK_MONOTONIC);;) {
		fprintf(out, "%ld", now(CLOCK_REALTIME));
		for (long n = 0; n < hz; n++) {
			struct timespec t = {due / 1000000000L, due % 1000000000L};

			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
			if (write(s, message, sizeof message) < 0 || read(s, message, sizeof message) < 0)
				return 3;
			fprintf(out, " %ld", now(CLOCK_MONOTONIC) - due);
			due += period;
		}
		fprintf(out, "\n");
		fflush(out);
	}
}
