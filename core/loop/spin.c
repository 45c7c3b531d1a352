/* spin.c - a loop that waits for few answers looks for them for a moment before it sleeps.
 *
 * At queue depth 1 a request is a chain of wake-ups: client, gateway, brick, gateway, client. A processor that went idle in
 * between takes longer to wake (tens of microseconds in a virtual machine) than the brick takes to answer. With many
 * requests under way, now or a moment ago, there is always something to do and nothing to gain: the bricks need the processor. Slow media, or a machine without a spare
 * processor, make it miss: then it rests. */
#include "core/loop/spin.h"

#include <sched.h>
#include <stdlib.h>

void spin_init(struct spin *s)
{
	const char *us = getenv("MYFS_SPIN_US");
	cpu_set_t mine;

	*s = (struct spin){0};
	if (sched_getaffinity(0, sizeof(mine), &mine) == 0 && CPU_COUNT(&mine) < 2)
		return;
	s->limit_ns = us && *us ? min_u64(strtoull(us, NULL, 10), 1000) * NS_PER_US : SPIN_NS;
}

void spin_await(struct spin *s, int change, uint64_t now_ns)
{
	s->awaited += (unsigned)change;
	if (s->awaited > SPIN_ANSWERS)
		s->crowded_ns = now_ns;
}

uint64_t spin_begin(struct spin *s, uint64_t now_ns, uint64_t left_ns)
{
	if (!s->limit_ns || s->awaited > SPIN_ANSWERS || (s->crowded_ns && now_ns - s->crowded_ns < SPIN_CROWDED))
		return 0;
	if (s->rest) {
		s->rest--;
		return 0;
	}
	return min_u64(s->limit_ns, left_ns);
}

void spin_end(struct spin *s, bool hit)
{
	if (hit) {
		s->misses = 0;
		return;
	}
	s->misses += s->misses < 6;
	s->rest = (1u << s->misses) - 1;
	static_assert((1u << 6) == SPIN_REST, "the longest rest");
}
