// SPDX-License-Identifier: Apache-2.0
// A user's home folder from the text of a passwd file, which is the container's and may hold anything. The rules are those
// of github.com/moby/sys/user, which docker uses: fields that are missing or are no numbers count as empty or 0. The fuzz
// test of pkg/shim compares the two.
#ifndef TRITON_ENTER_PASSWD_H
#define TRITON_ENTER_PASSWD_H

#include <stddef.h>
#include <stdint.h>

static int blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// number is what Go's strconv.Atoi returns, errors ignored: 0 for what is no number, the nearest int64 for one too large.
static int64_t number(const char *s, size_t n)
{
	int negative = n > 0 && s[0] == '-';
	uint64_t limit = (uint64_t)INT64_MAX + negative, v = 0;
	size_t i = n > 0 && (s[0] == '-' || s[0] == '+');

	for (; i < n; i++) {
		unsigned digit = (unsigned char)s[i] - '0';

		if (digit > 9)
			return 0;
		if (v > (UINT64_MAX - digit) / 10) {
			v = limit; // whatever follows
			break;
		}
		v = v * 10 + digit;
	}
	if (v > limit)
		v = limit;
	return negative ? (int64_t)(0 - v) : (int64_t)v;
}

// home_of finds the home folder of the first line whose third field is uid: its length, and where it starts; -1: there is
// none.
static long home_of(const char *text, size_t n, int64_t uid, const char **home)
{
	const char *end = text + n;

	for (const char *next, *line = text; line < end; line = next) {
		const char *stop = line, *field[7];
		size_t len[7] = { 0 };
		int i = 0;

		while (stop < end && *stop != '\n')
			stop++;
		next = stop + 1;
		while (line < stop && blank(*line))
			line++;
		while (stop > line && blank(stop[-1]))
			stop--;
		if (line == stop)
			continue;
		for (const char *at = line; i < 7; at++, i++) {
			field[i] = at;
			while (at < stop && *at != ':')
				at++;
			len[i] = at - field[i];
			if (at == stop) {
				i++;
				break;
			}
		}
		if ((i > 2 ? number(field[2], len[2]) : 0) != uid)
			continue;
		*home = i > 5 ? field[5] : line;
		return i > 5 ? (long)len[5] : 0;
	}
	return -1;
}

#endif
