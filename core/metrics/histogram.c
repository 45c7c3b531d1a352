#include "core/metrics/histogram.h"

#include <string.h>

uint64_t histogram_below_octave(const struct histogram *h, unsigned octave)
{
	uint64_t n = 0;

	assert(octave >= HISTOGRAM_FIRST_OCTAVE && octave <= HISTOGRAM_LAST_OCTAVE + 1);
	for (unsigned i = 0; i < 1 + (octave - HISTOGRAM_FIRST_OCTAVE) * 4; i++)
		n += h->bucket[i];
	return n;
}

/* Where bucket i begins; i may be one past the last. */
static double bucket_start(unsigned i)
{
	if (i == 0)
		return 0;
	unsigned octave = HISTOGRAM_FIRST_OCTAVE + (i - 1) / 4;
	return (double)(UINT64_C(1) << octave) * (1 + (i - 1) % 4 / 4.0);
}

uint64_t histogram_quantile_ns(const struct histogram *h, double share)
{
	double want = share * (double)h->count, below = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		double n = (double)h->bucket[i];
		if (n > 0 && below + n >= want) {
			double from = bucket_start(i), to = bucket_start(i + 1);
			if (i == HISTOGRAM_BUCKETS - 1)
				return (uint64_t)from; /* no upper end: the least it can be */
			return (uint64_t)(from + (to - from) * (want > below ? want - below : 0) / n);
		}
		below += n;
	}
	return 0;
}

void histogram_since(const struct histogram *later, const struct histogram *earlier, struct histogram *ret)
{
	struct histogram d = *later;

	if (earlier->count <= later->count) {
		d.count -= earlier->count;
		d.sum_ns -= earlier->sum_ns;
		for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
			d.bucket[i] -= earlier->bucket[i];
	}
	*ret = d;
}

void histogram_merge(struct histogram *into, const struct histogram *h)
{
	into->count += h->count;
	into->sum_ns += h->sum_ns;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		into->bucket[i] += h->bucket[i];
}
