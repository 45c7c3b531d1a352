/* spin.h - when is it worth looking for an answer for a moment before sleeping? Pure, but for spin_init(). */
#ifndef MYFS_SPIN_H
#define MYFS_SPIN_H

#include "core/base/base.h"

#define SPIN_NS      (50 * NS_PER_US) /* how long; about what going to sleep and being woken costs */
#define SPIN_ANSWERS 4u               /* more of them come by themselves while the loop works */
#define SPIN_CROWDED (2 * NS_PER_MS)  /* after there were more */
#define SPIN_REST    64u              /* waits that go by without spinning after many in vain */

struct spin {
	uint64_t limit_ns; /* 0: never */
	unsigned awaited;  /* answers that somebody waits for, loop_await() */
	uint64_t crowded_ns; /* when more than SPIN_ANSWERS were awaited last; 0: never */
	unsigned misses;   /* in a row */
	unsigned rest;     /* waits that will not be spun */
};

/* MYFS_SPIN_US overrides SPIN_NS; never on one processor. */
void spin_init(struct spin *s);
/* More (1) or fewer (-1) answers are awaited. */
void spin_await(struct spin *s, int change, uint64_t now_ns);
/* Nanoseconds to spin in this wait, at most until left_ns from now; 0: sleep at once. Counts down the rest. */
uint64_t spin_begin(struct spin *s, uint64_t now_ns, uint64_t left_ns);
/* An answer came while spinning, or none did: each time in vain doubles the rest. */
void spin_end(struct spin *s, bool hit);

#endif
