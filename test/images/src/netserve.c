/*
 * Serves one port (the argument, or 90) by both transports: each datagram comes back as it is, each TCP connection gets
 * zeroes for as long as it stays.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static char zeroes[1 << 17];

static void on_term(int sig)
{
	(void)sig;
	_exit(0);
}

static int bound(int type, int port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(port) };
	int on = 1, fd = socket(AF_INET, type, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		perror("bind");
		exit(1);
	}
	return fd;
}

static void pour(int c)
{
	while (write(c, zeroes, sizeof(zeroes)) > 0)
		;
	_exit(0);
}

int main(int argc, char **argv)
{
	int port = argc > 1 ? atoi(argv[1]) : 90;
	struct pollfd fds[] = { { .fd = bound(SOCK_STREAM, port), .events = POLLIN }, { .fd = bound(SOCK_DGRAM, port), .events = POLLIN } };

	signal(SIGTERM, on_term);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	if (listen(fds[0].fd, 64)) {
		perror("listen");
		return 1;
	}
	for (;;) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents) {
			int c = accept(fds[0].fd, NULL, NULL);

			if (c >= 0 && fork() == 0)
				pour(c);
			close(c);
		}
		if (fds[1].revents) {
			char data[2048];
			struct sockaddr_in from;
			socklen_t len = sizeof(from);
			int n = recvfrom(fds[1].fd, data, sizeof(data), 0, (struct sockaddr *)&from, &len);

			if (n >= 0)
				sendto(fds[1].fd, data, n, 0, (struct sockaddr *)&from, len);
		}
	}
}
