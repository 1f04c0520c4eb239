/*
 * Sends datagrams of 100 bytes to somebody who sends each back, one after the other:
 *
 *   datagrams ADDRESS PORT COUNT
 *
 * One that does not come back within half a second is sent again. Prints "done", and then waits.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct sockaddr_in6 to6 = { .sin6_family = AF_INET6 };
	struct timeval patience = { .tv_usec = 500000 };
	char data[100] = "", answer[200];
	int fd, bad;

	if (argc != 4)
		return 2;
	to.sin_port = to6.sin6_port = htons(atoi(argv[2]));
	if (inet_pton(AF_INET, argv[1], &to.sin_addr) == 1) {
		fd = socket(AF_INET, SOCK_DGRAM, 0);
		bad = connect(fd, (struct sockaddr *)&to, sizeof(to));
	} else if (inet_pton(AF_INET6, argv[1], &to6.sin6_addr) == 1) {
		fd = socket(AF_INET6, SOCK_DGRAM, 0);
		bad = connect(fd, (struct sockaddr *)&to6, sizeof(to6));
	} else {
		return 2;
	}
	if (bad || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience))) {
		perror("connect");
		return 1;
	}
	for (int left = atoi(argv[3]); left > 0;) {
		if (send(fd, data, sizeof(data), 0) == sizeof(data) && recv(fd, answer, sizeof(answer), 0) == sizeof(data))
			left--;
		else
			usleep(20000); /* nobody was there: refused at once */
	}
	puts("done");
	fflush(stdout);
	for (;;)
		pause();
}
