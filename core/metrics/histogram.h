/* histogram.h - how long things took: counts in buckets of at most a quarter of an octave, cheap enough to be always on.
 *
 *   below 1 us | 1.024 us: 4 buckets | 2.048 us: 4 buckets | ... | 34 s: 4 buckets | 69 s and more
 *
 * Every octave [2^k, 2^(k+1)) ns is cut into four equal parts, so a percentile read from it is off by less than an eighth
 * of its value. Adding is a bit scan and two additions; nothing is allocated. */
#ifndef MYFS_METRICS_HISTOGRAM_H
#define MYFS_METRICS_HISTOGRAM_H

#include "core/base/base.h"

#define HISTOGRAM_FIRST_OCTAVE 10u /* 1.024 us */
#define HISTOGRAM_LAST_OCTAVE  35u /* 34 .. 69 s */
#define HISTOGRAM_BUCKETS      ((HISTOGRAM_LAST_OCTAVE - HISTOGRAM_FIRST_OCTAVE + 1) * 4 + 2)

struct histogram {
	uint64_t count, sum_ns;
	uint64_t bucket[HISTOGRAM_BUCKETS];
};

static inline unsigned histogram_bucket_of(uint64_t ns)
{
	if (ns < (UINT64_C(1) << HISTOGRAM_FIRST_OCTAVE))
		return 0;
	unsigned octave = 63u - (unsigned)__builtin_clzll(ns);
	if (octave > HISTOGRAM_LAST_OCTAVE)
		return HISTOGRAM_BUCKETS - 1;
	return 1 + (octave - HISTOGRAM_FIRST_OCTAVE) * 4 + (unsigned)(ns >> (octave - 2) & 3);
}

static inline void histogram_add(struct histogram *h, uint64_t ns)
{
	h->count++;
	h->sum_ns += ns;
	h->bucket[histogram_bucket_of(ns)]++;
}

/* What was counted below 2^octave ns: exact. octave: HISTOGRAM_FIRST_OCTAVE .. HISTOGRAM_LAST_OCTAVE + 1. */
uint64_t histogram_below_octave(const struct histogram *h, unsigned octave);
/* The value below which `share` (0..1) of all lie, interpolated inside its bucket; 0 when nothing was counted. */
uint64_t histogram_quantile_ns(const struct histogram *h, double share);
/* later - earlier of the same histogram: what happened between two looks. A histogram that began anew counts as whole. */
void histogram_since(const struct histogram *later, const struct histogram *earlier, struct histogram *ret);
void histogram_merge(struct histogram *into, const struct histogram *h);

#endif
