// SPDX-License-Identifier: Apache-2.0
// A worker that parses orders from a list and dereferences a null pointer when it meets one without a customer.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct customer {
	char name[32];
};

struct order {
	int id;
	struct customer *customer;
};

static void *heartbeat(void *unused)
{
	(void)unused;
	for (;;) {
		usleep(100 * 1000);
	}
	return NULL;
}

__attribute__((noinline)) static size_t bill(const struct order *o)
{
	printf("order %d: billing\n", o->id);
	fflush(stdout);
	return strlen(o->customer->name);
}

__attribute__((noinline)) static size_t process(const struct order *orders, int n)
{
	size_t sum = 0;
	for (int i = 0; i < n; i++) {
		sum += bill(&orders[i]);
		usleep(200 * 1000);
	}
	return sum;
}

int main(void)
{
	struct customer alice = { "alice" };
	struct order orders[] = { { 1, &alice }, { 2, &alice }, { 3, NULL } };
	pthread_t t;
	if (pthread_create(&t, NULL, heartbeat, NULL) != 0) {
		return 1;
	}
	printf("billed %zu\n", process(orders, 3));
	return 0;
}
