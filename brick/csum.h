/* csum.h - the checksums of one fragment: 8 bytes per row, the whole array in memory, written back by pages.
 *
 *   | crc32c of the row, LE32 | flags, LE32: bit 0 present, bit 1 known bad |      an entry of zeros = the row is a
 * hole
 *
 * Pure memory plus load and save on a file. Invariant: S1 an entry that differs from the file belongs to a page marked
 * dirty, except entries that csum_assume_zeros set (they say what an absent entry means anyway). */
#ifndef MYFS_BRICK_CSUM_H
#define MYFS_BRICK_CSUM_H

#include "core/loop/store.h"

#define CSUM_ENTRY_BYTES 8u
#define CSUM_PAGE_ROWS   (MYFS_BLOCK / CSUM_ENTRY_BYTES)
#define CSUM_PAGES_MAX   64u

struct csum {
	uint32_t rows, pages;
	uint64_t dirty; /* bit per page */
	uint8_t *v;     /* owned, pages * 4096 bytes, exactly as in the file */
};

/* 0 or -ENOMEM. rows at most CSUM_PAGES_MAX * CSUM_PAGE_ROWS. To be loaded before it is used. */
int csum_init(struct csum *c, uint32_t rows);
void csum_release(struct csum *c);
/* No row holds anything, whatever the file said. */
void csum_clear(struct csum *c);
int csum_load(struct csum *c, struct file *f) YIELDS;
/* Writes the dirty pages; they are clean when this succeeds (unless changed meanwhile). Not synced. */
int csum_save(struct csum *c, struct file *f) YIELDS;

uint32_t csum_get(const struct csum *c, uint32_t row, bool *ret_hole, bool *ret_bad);
void csum_set(struct csum *c, uint32_t row, uint32_t crc);
void csum_set_hole(struct csum *c, uint32_t row);
void csum_set_bad(struct csum *c, uint32_t row);
/* Rows without a checksum whose file holds data: they have to read as zeros or be wrong, but they are no holes. */
void csum_assume_zeros(struct csum *c, uint32_t row, uint32_t nrows);
/* First row >= from, < end, that is not a hole; end when none. */
uint32_t csum_next_data(const struct csum *c, uint32_t from, uint32_t end);

#endif
