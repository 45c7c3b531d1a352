/* scrub.c - SCRUB: the brick's part of checking that a set's bricks agree. It reads rows from the disk, not from the
 * page cache, compares them with their checksums and sends one block that stands for all of them.
 *
 * The block is a weighted sum over GF(2^8): rows in each other's place are seen too, which a plain XOR would not show. */
#include <isa-l/erasure_code.h>

#include "brick/brick_priv.h"
#include "core/base/crc32c.h"

#define WEIGHT 2u /* generates the field's multiplicative group: 255 rows have weights of their own */

static void add_weighted(uint8_t *fold, const uint8_t *row, uint8_t weight)
{
	unsigned char tbl[32] __attribute__((aligned(32)));
	unsigned char w = weight;

	ec_init_tables(1, 1, &w, tbl);
	gf_vect_mad((int)MYFS_BLOCK, 1, 0, tbl, (unsigned char *)(uintptr_t)row, fold);
}

static void uncache(struct brick *b, struct domain *d, const struct bp_read_args *a) YIELDS
{
	struct frag *f = NULL;

	if (frag_get(b->tree, &d->gfid, a->shard, false, &f) == 0)
		frag_uncache(f, a->row, a->nrows);
	frag_put(f);
}

static void fold_rows(const uint8_t *rows, const uint32_t *crc, uint32_t nrows, uint8_t *fold, struct bp_scrub_res *ret)
{
	uint8_t weight = 1;

	memset(fold, 0, MYFS_BLOCK);
	for (uint32_t i = 0; i < nrows; i++, weight = gf_mul(weight, WEIGHT)) {
		const uint8_t *row = rows + (size_t)i * MYFS_BLOCK;

		if (crc32c(row, MYFS_BLOCK) != crc[i])
			ret->bad.bad_val[ret->bad.bad_len++] = i;
		else if (crc[i] != CRC32C_ZERO_BLOCK || !mem_is_zero(row, MYFS_BLOCK))
			add_weighted(fold, row, weight);
	}
}

int scrub_request(struct brick *b, struct session *s, const struct bp_read_args *a, struct bp_scrub_res *ret,
		  struct slice *ret_fold) YIELDS
{
	uint32_t crc[BP_MAX_ROWS_PAYLOAD];
	struct domain *d;
	int rc = rows_readable(s, a->domain, &d);

	if (rc == 0 && !rows_valid(b, a->shard, a->row, a->nrows, BP_MAX_ROWS_PAYLOAD))
		rc = -EINVAL;
	if (rc < 0)
		return rc;
	struct buf *rows = buf_alloc((size_t)a->nrows * MYFS_BLOCK), *fold = buf_alloc(MYFS_BLOCK);
	bool zero = false;

	rc = rows && fold ? 0 : -ENOMEM;
	domain_ref(d);
	if (rc == 0)
		uncache(b, d, a);
	if (rc == 0)
		rc = rows_read(b, d, a->shard, a->row, a->nrows, rows->data, crc, false, &zero);
	domain_unref(d);
	if (rc == 0 && !zero)
		fold_rows(rows->data, crc, a->nrows, fold->data, ret);
	buf_unref(rows);
	ret->zero = rc == 0 && (zero || (ret->bad.bad_len == 0 && mem_is_zero(fold->data, MYFS_BLOCK)));
	if (rc == 0 && !ret->zero) {
		*ret_fold = (struct slice){.owner = fold, .ptr = fold->data, .len = MYFS_BLOCK};
		return 0;
	}
	buf_unref(fold);
	return rc;
}
