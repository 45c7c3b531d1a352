/* bitmap.h - fixed bitmaps over uint64_t words. */
#ifndef MYFS_BITMAP_H
#define MYFS_BITMAP_H

#include "core/base/base.h"

#define BITMAP_WORDS(bits) (((bits) + 63) / 64)
static inline bool bitmap_test(const uint64_t *w, size_t bit) { return (w[bit / 64] >> (bit % 64)) & 1; }
static inline void bitmap_set(uint64_t *w, size_t bit) { w[bit / 64] |= UINT64_C(1) << (bit % 64); }
static inline void bitmap_clear(uint64_t *w, size_t bit) { w[bit / 64] &= ~(UINT64_C(1) << (bit % 64)); }
/* A bitmap that is cleared as far as it is used: the first *had bits are, from now on at least the first bits are. */
void bitmap_widen(uint64_t *w, size_t *had, size_t bits);
void bitmap_set_range(uint64_t *w, size_t first, size_t count);
void bitmap_clear_range(uint64_t *w, size_t first, size_t count);
size_t bitmap_count(const uint64_t *w, size_t bits);
/* First set bit >= from, or bits when none. */
size_t bitmap_next(const uint64_t *w, size_t bits, size_t from);
/* First clear bit >= from, or bits when none. */
size_t bitmap_next_clear(const uint64_t *w, size_t bits, size_t from);

#endif
