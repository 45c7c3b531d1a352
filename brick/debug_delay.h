/* debug_delay.h - answers held back on purpose, to see what a slow disk does to everybody else. Off unless asked for
 * (--debug-delay). Only the answer waits: what was asked is done at once, so nothing about order or durability changes. */
#ifndef MYFS_BRICK_DEBUG_DELAY_H
#define MYFS_BRICK_DEBUG_DELAY_H

#include "core/base/err.h"
#include "core/base/prng.h"
#include "core/loop/loop.h"

#define DEBUG_DELAY_MAX_MS 10000u

struct debug_delay {
	unsigned percent; /* of answers; 0 = off */
	uint64_t ns;
	struct prng prng;
};

/* "10%:100ms": one answer in ten comes 100 ms late. 0 or -EINVAL with text. */
int debug_delay_parse(const char *text, struct debug_delay *ret, struct err *e);
/* Holds the calling fiber back when the dice say so. */
void debug_delay_answer(struct debug_delay *d) YIELDS;

#endif
