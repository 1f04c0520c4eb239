/* Listens on port 80 (or the given one), by IPv6 too where there is that, and answers every HTTP request with its host name
 * and a newline. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_term(int sig)
{
	(void)sig;
	_exit(0);
}

int main(int argc, char **argv)
{
	in_port_t port = htons(argc > 1 ? atoi(argv[1]) : 80);
	struct sockaddr_in6 addr = { .sin6_family = AF_INET6, .sin6_port = port };
	struct sockaddr_in addr4 = { .sin_family = AF_INET, .sin_port = port };
	int on = 1, fd = socket(AF_INET6, SOCK_STREAM, 0), six = fd >= 0;
	char host[256] = "", request[4096], answer[512];

	signal(SIGTERM, on_term);
	signal(SIGPIPE, SIG_IGN);
	if (!six)
		fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if ((six ? bind(fd, (struct sockaddr *)&addr, sizeof(addr)) : bind(fd, (struct sockaddr *)&addr4, sizeof(addr4))) || listen(fd, 64)) {
		perror("listen");
		return 1;
	}
	gethostname(host, sizeof(host) - 1);
	for (;;) {
		int c = accept(fd, NULL, NULL);

		if (c < 0)
			continue;
		if (read(c, request, sizeof(request)) > 0) {
			int n = snprintf(answer, sizeof(answer),
					 "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%s\n",
					 strlen(host) + 1, host);
			if (write(c, answer, n) != n)
				perror("write");
		}
		close(c);
	}
}
