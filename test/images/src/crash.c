/* Dies by the named signal (default SEGV, by a real null store two calls deep): crash [segv|abrt|term|kill] */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static volatile int *nowhere;

static __attribute__((noinline)) void inner(int n)
{
	*nowhere = n;
}

static __attribute__((noinline)) void outer(int n)
{
	inner(n + 1);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "segv";

	/* The first process of a pid namespace does not get signals it sends itself by default action: only real
	 * faults, so that all but segv need a parent inside. */
	if (!strcmp(how, "abrt"))
		abort();
	if (!strcmp(how, "term"))
		raise(SIGTERM);
	if (!strcmp(how, "kill"))
		raise(SIGKILL);
	outer(41);
	return 0;
}
