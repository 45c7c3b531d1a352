/* clock.c - the kernel's clocks and randomness, as the production backends hand them out. */
#include <sys/random.h>
#include <time.h>

#include "core/loop/backend.h"

static uint64_t clock_read(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t kernel_now_ns(struct backend *b)
{
	(void)b;
	return clock_read(CLOCK_BOOTTIME);
}

uint64_t kernel_wall_ns(struct backend *b)
{
	(void)b;
	return clock_read(CLOCK_REALTIME);
}

void kernel_random(struct backend *b, void *dst, size_t len)
{
	uint8_t *p = dst;

	(void)b;
	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			abort(); /* a kernel without getrandom(2) cannot run us */
		p += n;
		len -= (size_t)n;
	}
}
