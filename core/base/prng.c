/* prng.c - xoshiro256** by David Blackman and Sebastiano Vigna ("Scrambled linear pseudorandom number generators",
 * 2018), seeded through splitmix64. Same seed, same sequence, on every machine. */
#include "core/base/prng.h"

static uint64_t rotl(uint64_t x, unsigned k) { return x << k | x >> (64 - k); }

void prng_seed(struct prng *p, uint64_t seed)
{
	for (size_t i = 0; i < ARRAY_LEN(p->s); i++) {
		seed += UINT64_C(0x9e3779b97f4a7c15);
		uint64_t z = seed;
		z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
		p->s[i] = z ^ z >> 31;
	}
}

uint64_t prng_u64(struct prng *p)
{
	uint64_t *s = p->s;
	uint64_t result = rotl(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

uint64_t prng_below(struct prng *p, uint64_t n)
{
	assert(n > 0);

	uint64_t reject_below = -n % n; /* 2^64 mod n: what would favour small results */
	uint64_t v;
	do
		v = prng_u64(p);
	while (v < reject_below);
	return v % n;
}

bool prng_chance(struct prng *p, double probability)
{
	return (double)(prng_u64(p) >> 11) * 0x1p-53 < probability;
}

void prng_bytes(struct prng *p, void *dst, size_t len)
{
	uint8_t *out = dst;

	while (len > 0) {
		uint64_t v = prng_u64(p);
		size_t piece = min_u64(len, sizeof(v));
		memcpy(out, &v, piece);
		out += piece;
		len -= piece;
	}
}
