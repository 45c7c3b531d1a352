/* prng.h - xoshiro256** (Blackman, Vigna 2018): repeatable randomness for tests, jitter and the simulator. Not for
 * secrets. */
#ifndef MYFS_PRNG_H
#define MYFS_PRNG_H

#include "core/base/base.h"

struct prng {
	uint64_t s[4];
};

void prng_seed(struct prng *p, uint64_t seed); /* splitmix64 expansion of the seed */
uint64_t prng_u64(struct prng *p);
uint64_t prng_below(struct prng *p, uint64_t n); /* uniform in [0, n), n > 0 */
bool prng_chance(struct prng *p, double probability);
void prng_bytes(struct prng *p, void *dst, size_t len);

#endif
