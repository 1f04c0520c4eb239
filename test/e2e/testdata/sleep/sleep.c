// Sleeps 60 ms in one function and 20 ms in another, in turn, until it is killed. The calls are in the functions
// themselves: the C library's have no frames.
#include <sys/syscall.h>
#include <time.h>

static inline __attribute__((always_inline)) void sleep_ms(long ms)
{
	struct timespec t = {0, ms * 1000000};
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(SYS_nanosleep), "D"(&t), "S"(0) : "rcx", "r11", "memory");
}

__attribute__((noinline)) static void sixty(void)
{
	sleep_ms(60);
}

__attribute__((noinline)) static void twenty(void)
{
	sleep_ms(20);
}

int main(void)
{
	for (;;) {
		sixty();
		twenty();
	}
}
