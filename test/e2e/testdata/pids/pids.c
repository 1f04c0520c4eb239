// Makes as many processes as its second argument says, one after the other, each with a name of its own that begins with
// the first argument, and each crashes at a place of its own. Every second one is killed while it dumps core. Of each it
// writes name, process id and how it ended; at the end it crashes itself.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char places[];
__asm__(".globl places\nplaces:\n.rept 4096\nhlt\n.endr\n");

static void crash(const char *tag, int i)
{
	char name[16];
	snprintf(name, sizeof name, "%s%05d", tag, i);
	prctl(PR_SET_NAME, name);
	((void (*)(void))(places + i % 4096))();
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 3;
	unsigned x = (unsigned)*argv[1];
	int n = atoi(argv[2]);
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();
		if (pid < 0)
			return 4;
		if (pid == 0)
			crash(argv[1], i);
		if (i % 2) {
			x = x * 1103515245 + 12345;
			struct timespec delay = {.tv_nsec = x / 65536 % 16 * 1000000};
			nanosleep(&delay, NULL);
			kill(pid, SIGKILL);
		}
		int status;
		if (waitpid(pid, &status, 0) != pid)
			return 5;
		printf("%s%05d %d %d\n", argv[1], i, pid, WIFSIGNALED(status) ? WTERMSIG(status) : -1);
	}
	fflush(stdout);
	crash(argv[1], n);
}
