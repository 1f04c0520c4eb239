// Does one thing as fast as it can, until it is killed, in four processes:
//
//   flood forks    processes that end at once
//   flood execs    processes that execute a program, which ends by a signal
//   flood cores    processes of 8 MiB that end with a core
//   flood log      lines to its output
//   flood disk     writes that reach the disk, to flood.N in the working directory, which is / in a container
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void child(const char *mode)
{
	static char memory[8 << 20];

	if (!strcmp(mode, "forks"))
		_exit(0);
	if (!strcmp(mode, "execs"))
		execl("/proc/self/exe", "flood", "end", NULL);
	memset(memory, 7, sizeof memory);
	abort();
}

static void births(const char *mode)
{
	for (;;) {
		pid_t pid = fork();

		if (pid == 0)
			child(mode);
		if (pid < 0)
			usleep(1000); // the limit is reached
		wait(NULL);
	}
}

static void lines(void)
{
	static char text[64 << 10];

	for (size_t i = 0; i < sizeof text; i++)
		text[i] = i % 80 == 79 ? '\n' : 'a' + i % 26;
	while (write(1, text, sizeof text) > 0)
		;
}

static void writes(int n)
{
	static char block[1 << 20];
	char name[32];
	int fd;

	snprintf(name, sizeof name, "flood.%d", n);
	fd = open(name, O_CREAT | O_WRONLY | O_TRUNC, 0600);
	for (long i = 0; fd >= 0; i++)
		if (pwrite(fd, block, sizeof block, (i % 64) * sizeof block) < 0 || fsync(fd))
			exit(2);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (!strcmp(mode, "end"))
		raise(SIGKILL);
	for (int n = 0; n < 4; n++) {
		if (fork())
			continue;
		if (!strcmp(mode, "log"))
			lines();
		else if (!strcmp(mode, "disk"))
			writes(n);
		else
			births(mode);
		return 1;
	}
	while (wait(NULL) > 0)
		;
	return 1;
}
