/* Answers the Redis command INCR, whatever the key: each five lines are one request.
   A thread per connection. */
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static atomic_ulong counter;

static void *serve(void *argument)
{
	int fd = (intptr_t)argument;
	char in[512], out[32];
	unsigned lines = 0;
	ssize_t length;

	while ((length = read(fd, in, sizeof(in))) > 0) {
		for (ssize_t i = 0; i < length; i++) {
			if (in[i] != '\n' || ++lines % 5)
				continue;
			int size = snprintf(out, sizeof(out), ":%lu\r\n", ++counter);
			if (write(fd, out, size) != size)
				goto end;
		}
	}
end:
	close(fd);
	return NULL;
}

int main(void)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons(6379) };
	int one = 1, listener = socket(AF_INET6, SOCK_STREAM, 0);

	signal(SIGPIPE, SIG_IGN);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 16)) {
		perror("listen");
		return 1;
	}
	for (;;) {
		pthread_t thread;
		intptr_t fd = accept(listener, NULL, NULL);

		if (fd < 0 || pthread_create(&thread, NULL, serve, (void *)fd))
			return 1;
		pthread_detach(thread);
	}
}
