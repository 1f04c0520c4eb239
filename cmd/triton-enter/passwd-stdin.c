// SPDX-License-Identifier: Apache-2.0
// The fuzz test's side of passwd.h: reads a uid and a length, 8 bytes each, and that much text; answers with a length, 8 bytes,
// and the home folder. Repeats until its input ends.
#include "passwd.h"
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
	int64_t head[2], len;

	while (fread(head, sizeof(head), 1, stdin) == 1) {
		char *text = malloc(head[1] ? head[1] : 1); // exactly as long: the sanitizer sees what reads beyond
		const char *home = 0;

		if (!text || fread(text, 1, head[1], stdin) != (size_t)head[1])
			return 1;
		len = home_of(text, head[1], head[0], &home);
		fwrite(&len, sizeof(len), 1, stdout);
		if (len > 0)
			fwrite(home, 1, len, stdout);
		fflush(stdout);
		free(text);
	}
	return 0;
}
