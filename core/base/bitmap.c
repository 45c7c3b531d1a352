/* bitmap.c - ranges, counts and searches in bitmaps, a word at a time.
 *
 * Invariant: bits at and above the stated size are neither looked at nor reported. */
#include "core/base/bitmap.h"

/* Bits [first, last) of one word; 0 <= first < last <= 64. */
static uint64_t word_mask(size_t first, size_t last)
{
	return (~UINT64_C(0) << first) & (~UINT64_C(0) >> (64 - last));
}

static void bitmap_assign_range(uint64_t *w, size_t first, size_t count, bool value)
{
	while (count > 0) {
		size_t bit = first % 64;
		size_t n = min_u64(64 - bit, count);
		uint64_t mask = word_mask(bit, bit + n);
		if (value)
			w[first / 64] |= mask;
		else
			w[first / 64] &= ~mask;
		first += n;
		count -= n;
	}
}

void bitmap_widen(uint64_t *w, size_t *had, size_t bits)
{
	size_t from = BITMAP_WORDS(*had), to = BITMAP_WORDS(bits);

	if (to > from)
		memset(w + from, 0, (to - from) * sizeof(*w));
	if (bits > *had)
		*had = bits;
}

void bitmap_set_range(uint64_t *w, size_t first, size_t count) { bitmap_assign_range(w, first, count, true); }
void bitmap_clear_range(uint64_t *w, size_t first, size_t count) { bitmap_assign_range(w, first, count, false); }

size_t bitmap_count(const uint64_t *w, size_t bits)
{
	size_t sum = 0;

	for (size_t i = 0; i < bits / 64; i++)
		sum += (size_t)__builtin_popcountll(w[i]);
	if (bits % 64 != 0)
		sum += (size_t)__builtin_popcountll(w[bits / 64] & word_mask(0, bits % 64));
	return sum;
}

/* First bit >= from whose value differs from `flip`'s bits: flip 0 looks for ones, all ones looks for zeros. */
static size_t bitmap_search(const uint64_t *w, size_t bits, size_t from, uint64_t flip)
{
	if (from >= bits)
		return bits;

	size_t i = from / 64;
	uint64_t word = (w[i] ^ flip) & (~UINT64_C(0) << (from % 64));
	while (word == 0) {
		if (++i >= BITMAP_WORDS(bits))
			return bits;
		word = w[i] ^ flip;
	}
	return min_u64(i * 64 + (size_t)__builtin_ctzll(word), bits);
}

size_t bitmap_next(const uint64_t *w, size_t bits, size_t from) { return bitmap_search(w, bits, from, 0); }
size_t bitmap_next_clear(const uint64_t *w, size_t bits, size_t from)
{
	return bitmap_search(w, bits, from, ~UINT64_C(0));
}
