// SPDX-License-Identifier: Apache-2.0
// The first process of a container that was made with --init: it runs the container's program as its child, passes on each
// signal that it gets, reaps every process that loses its parent, and ends as the child does, 128 + signal included. It is
// static, has one thread and allocates nothing.
//
// docker-init -- PROGRAM [ARG...]
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail(const char *what, const char *of, int code)
{
	fprintf(stderr, "docker-init: %s %s: %s\n", what, of, strerror(errno));
	return code;
}

// run becomes the program: in a process group of its own, which has the terminal where there is one, so that Ctrl-C reaches
// the program once.
static int run(char **argv, const sigset_t *mask)
{
	setpgid(0, 0); // fails for a session leader only, which a new child is not
	if (isatty(STDIN_FILENO) && tcsetpgrp(STDIN_FILENO, getpgrp()) && errno != ENOTTY && errno != ENXIO)
		return fail("give the terminal to", argv[0], 1);
	signal(SIGTTIN, SIG_DFL);
	signal(SIGTTOU, SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(argv[0], argv);
	return fail("exec", argv[0], errno == ENOENT ? 127 : 126);
}

// reap takes in whoever has ended; the result is how the child did, or -1 while it runs.
static int reap(pid_t child)
{
	int status, result = -1;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0 || (pid < 0 && errno == EINTR))
		if (pid == child)
			result = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	return result;
}

int main(int argc, char **argv)
{
	// A fault of this program itself must end it, not wait in the queue.
	const int own[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGTRAP, SIGSYS, SIGTTIN, SIGTTOU };
	sigset_t waited, before;
	if (argc < 3 || strcmp(argv[1], "--")) {
		fprintf(stderr, "usage: docker-init -- PROGRAM [ARG...]\n");
		return 1;
	}
	sigfillset(&waited);
	for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		sigdelset(&waited, own[i]);
	sigprocmask(SIG_SETMASK, &waited, &before);
	signal(SIGTTIN, SIG_IGN); // the terminal is the child's
	signal(SIGTTOU, SIG_IGN);
	pid_t child = fork();
	if (child < 0)
		return fail("fork for", argv[2], 1);
	if (child == 0)
		return run(argv + 2, &before);
	for (;;) {
		int sig = sigwaitinfo(&waited, NULL);
		if (sig > 0 && sig != SIGCHLD)
			kill(child, sig);
		int code = reap(child);
		if (code >= 0)
			return code;
	}
}
