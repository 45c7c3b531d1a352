/* rows.c - present values of rows: base blocks with the overlay on top; and the requests that only look, or heal.
 *
 * Reading the base may suspend, and a checkpoint may meanwhile move a version from the overlay into the base. Versions
 * leave the overlay only together with a step of domain->base_seq, so a reader that saw it change starts over; the
 * overlay is looked at after the base was read, and nothing suspends from there to the finished value. */
#include "brick/brick_priv.h"
#include "core/base/bitmap.h"
#include "core/base/crc32c.h"

bool rows_valid(const struct brick *b, uint32_t shard, uint32_t row, uint32_t nrows, uint32_t max_rows)
{
	return shard < BRICK_MAX_SHARDS && nrows > 0 && nrows <= max_rows && range_inside(row, nrows, b->id.shard_rows);
}

/* A row whose base is not what was written; counted once. */
static void row_is_rotten(struct brick *b, struct frag *f, uint32_t row)
{
	if (f && frag_is_bad(f, row))
		return;
	b->count.checksum_errors++;
	if (f)
		frag_mark_bad(f, row);
}

void rows_rewritten(struct brick *b, struct frag *f, uint32_t row, uint32_t nrows)
{
	for (uint32_t i = 0; i < nrows; i++)
		b->count.repaired += frag_is_bad(f, row + i);
}

/* ---- base ---- */

static bool row_needs_base(const struct brick *b, const struct oshard *s, uint32_t row)
{
	const struct row_ver *top = overlay_top(&b->overlay, s, row);
	return overlay_needs_base(top);
}

/* Rows one by one, when a larger read failed: only the unreadable ones are lost. */
static int base_read_singly(struct brick *b, struct frag *f, uint32_t row, uint32_t nrows, uint8_t *dst,
			    uint32_t *crc) YIELDS
{
	for (uint32_t i = 0; i < nrows; i++) {
		int rc = frag_read(f, row + i, 1, dst + (size_t)i * MYFS_BLOCK, crc + i);
		if (rc == -EIO) {
			memset(dst + (size_t)i * MYFS_BLOCK, 0, MYFS_BLOCK);
			crc[i] =
			    ~CRC32C_ZERO_BLOCK; /* matches nothing: rebuilt from peers, rewriting cures the sector */
			row_is_rotten(b, f, row + i);
		} else if (rc < 0) {
			return rc;
		}
	}
	return 0;
}

static int base_read(struct brick *b, struct frag *f, uint32_t row, uint32_t nrows, uint8_t *dst, uint32_t *crc) YIELDS
{
	if (frag_rows_are_holes(f, row, nrows)) {
		memset(dst, 0, (size_t)nrows * MYFS_BLOCK);
		for (uint32_t i = 0; i < nrows; i++)
			crc[i] = CRC32C_ZERO_BLOCK;
		return 0;
	}
	int rc = frag_read(f, row, nrows, dst, crc);
	if (rc == -EIO)
		rc = base_read_singly(b, f, row, nrows, dst, crc);
	for (uint32_t i = 0; i < nrows && rc == 0; i++)
		if (frag_is_bad(f, row + i))
			crc[i] = ~crc32c(dst + (size_t)i * MYFS_BLOCK, MYFS_BLOCK);
	return rc;
}

/* Base bytes of every row that needs them, runs at a time. *ret_zero: there was nothing but zeros, and no version
 * either. */
static int base_gather(struct brick *b, struct domain *d, struct frag *f, uint32_t shard, uint32_t row, uint32_t nrows,
		       uint8_t *dst, uint32_t *crc, bool *ret_zero) YIELDS
{
	struct oshard *s = oshard_find(&d->shards, shard, false);
	bool versions = false;
	for (uint32_t i = 0; i < nrows && !versions; i++)
		versions = overlay_top(&b->overlay, s, row + i) != NULL;
	*ret_zero = !versions && (!f || frag_rows_are_holes(f, row, nrows));
	if (*ret_zero)
		return 0;
	for (uint32_t i = 0; i < nrows;) {
		uint32_t run = 0;
		while (i + run < nrows && row_needs_base(b, s, row + i + run))
			run++;
		if (run && f) {
			int rc = base_read(b, f, row + i, run, dst + (size_t)i * MYFS_BLOCK, crc + i);
			if (rc < 0)
				return rc;
			s = oshard_find(&d->shards, shard, false); /* may have come or gone */
		} else if (run) {
			memset(dst + (size_t)i * MYFS_BLOCK, 0, (size_t)run * MYFS_BLOCK);
			for (uint32_t k = 0; k < run; k++)
				crc[i + k] = CRC32C_ZERO_BLOCK;
		}
		i += run ? run : 1;
	}
	return 0;
}

/* ---- values ---- */

/* One row: dst and *crc hold the base on entry, the present value on return. Never suspends. */
static int row_finish(struct brick *b, struct frag *f, const struct row_ver *top, uint32_t row, uint8_t *dst,
		      uint32_t *crc, bool verify)
{
	bool based = overlay_needs_base(top);
	bool check = based && (top || verify); /* a reader that gets the plain base verifies it itself */
	if (check && crc32c(dst, MYFS_BLOCK) != *crc) {
		row_is_rotten(b, f, row);
		if (verify)
			return -MYFS_E_BADSUM;
		*crc = ~crc32c(dst, MYFS_BLOCK); /* a DELTA on rot must not look right (H19) */
		return 0;
	}
	if (top && !overlay_fold(top, dst, crc))
		*crc = crc32c(dst, MYFS_BLOCK);
	return 0;
}

/* One attempt; -EAGAIN when versions moved to the base meanwhile. */
static int rows_try(struct brick *b, struct domain *d, struct frag *f, uint32_t shard, uint32_t row, uint32_t nrows,
		    uint8_t *dst, uint32_t *crc, bool verify, bool *ret_zero) YIELDS
{
	uint64_t seq = d->base_seq;
	bool zero;
	int rc = base_gather(b, d, f, shard, row, nrows, dst, crc, &zero);
	if (rc < 0)
		return rc;
	if (d->base_seq != seq)
		return -EAGAIN;
	*ret_zero = zero;
	if (zero)
		return 0;
	struct oshard *s = oshard_find(&d->shards, shard, false);
	for (uint32_t i = 0; i < nrows && rc == 0; i++)
		rc = row_finish(b, f, overlay_top(&b->overlay, s, row + i), row + i, dst + (size_t)i * MYFS_BLOCK,
				crc + i, verify);
	return rc;
}

int rows_read(struct brick *b, struct domain *d, uint32_t shard, uint32_t row, uint32_t nrows, uint8_t *dst,
	      uint32_t *crc, bool verify, bool *ret_zero) YIELDS
{
	for (;;) {
		struct frag *f = NULL;
		uint64_t seq = d->base_seq;
		int rc = frag_get(b->tree, &d->gfid, shard, false, &f);
		if (rc < 0 && rc != -ENOENT)
			return rc;
		/* the file may have come into being while we looked */
		rc = d->base_seq == seq ? rows_try(b, d, f, shard, row, nrows, dst, crc, verify, ret_zero) : -EAGAIN;
		frag_put(f);
		if (rc != -EAGAIN)
			return rc;
		if (d->dropped)
			return -MYFS_E_UNSEEDED;
	}
}

int rows_crc(struct brick *b, struct domain *d, uint32_t shard, uint32_t row, uint32_t nrows, uint32_t *crc) YIELDS
{
	struct frag *f = NULL;
	uint64_t seq = d->base_seq;
	int rc = frag_get(b->tree, &d->gfid, shard, false, &f);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	struct oshard *s = oshard_find(&d->shards, shard, false);
	bool known = d->base_seq == seq;
	for (uint32_t i = 0; i < nrows && known; i++) {
		const struct row_ver *top = overlay_top(&b->overlay, s, row + i);
		if (top) {
			known = top->kind != VER_DELTA && top->crc_known;
			crc[i] = top->crc;
		} else {
			known = !f || !frag_is_bad(f, row + i);
			crc[i] = f ? frag_crc(f, row + i, NULL) : CRC32C_ZERO_BLOCK;
		}
	}
	frag_put(f);
	if (known)
		return 0;
	struct buf *tmp = buf_alloc((size_t)nrows * MYFS_BLOCK);
	if (!tmp)
		return -ENOMEM;
	bool zero;
	rc = rows_read(b, d, shard, row, nrows, tmp->data, crc, true, &zero);
	for (uint32_t i = 0; i < nrows && rc == 0 && zero; i++)
		crc[i] = CRC32C_ZERO_BLOCK;
	buf_unref(tmp);
	return rc;
}

/* ---- READ ---- */

/* A view of this epoch or older, and in it (I9). */
int rows_readable(struct session *s, const char domain[16], struct domain **ret)
{
	struct domain *d;
	int rc = session_domain(s, domain, &d);
	if (rc < 0)
		return rc;
	if (!d->has_view)
		return -MYFS_E_UNSEEDED;
	if (!domain_is_insync(s->b, d))
		return -MYFS_E_OUT;
	*ret = d;
	return 0;
}

int rows_request_read(struct brick *b, struct session *s, const struct bp_read_args *a, struct bp_read_res *ret,
		      uint32_t *crc, struct slice *ret_payload) YIELDS
{
	struct domain *d;
	int rc = rows_readable(s, a->domain, &d);
	if (rc == 0 && !rows_valid(b, a->shard, a->row, a->nrows, BP_MAX_ROWS_PAYLOAD))
		rc = -EINVAL;
	if (rc < 0)
		return rc;
	size_t len = (size_t)a->nrows * MYFS_BLOCK;
	struct buf *out = buf_alloc(len);
	if (!out)
		return -ENOMEM;
	domain_ref(d);
	bool zero = false;
	rc = rows_read(b, d, a->shard, a->row, a->nrows, out->data, crc, false, &zero);
	domain_unref(d);
	b->count.reads++;
	b->count.bytes_read += len;
	if (rc < 0 || zero) {
		buf_unref(out);
		ret->zero = zero;
		return rc;
	}
	ret->crc.crc_len = a->nrows;
	ret->crc.crc_val = crc;
	*ret_payload = (struct slice){.owner = out, .ptr = out->data, .len = len};
	return 0;
}

/* ---- EXTENTS, SHARDS ---- */

static void bit_set(uint8_t *bits, uint32_t i)
{
	bits[i / 8] = (uint8_t)(bits[i / 8] | 1u << (i % 8));
}

static bool row_holds_data(const struct brick *b, struct frag *f, const struct oshard *s, uint32_t row)
{
	const struct row_ver *top = overlay_top(&b->overlay, s, row);
	bool hole = true;
	if (top)
		return top->kind != VER_ZERO;
	if (f)
		frag_crc(f, row, &hole);
	return !hole;
}

int rows_request_extents(struct brick *b, struct session *s, const struct bp_extents_args *a,
			 struct slice *ret_bits) YIELDS
{
	struct domain *d;
	int rc = rows_readable(s, a->domain, &d);
	if (rc == 0 && !rows_valid(b, a->shard, a->row, a->nrows, 65536))
		rc = -EINVAL;
	if (rc < 0)
		return rc;
	domain_ref(d);
	struct frag *f = NULL;
	rc = frag_get(b->tree, &d->gfid, a->shard, false, &f);
	size_t len = (a->nrows + 7u) / 8u;
	struct buf *bits = rc == 0 || rc == -ENOENT ? buf_alloc(len) : NULL;
	if (bits) {
		memset(bits->data, 0, len);
		const struct oshard *os = oshard_find(&d->shards, a->shard, false);
		for (uint32_t i = 0; i < a->nrows; i++)
			if (row_holds_data(b, f, os, a->row + i))
				bit_set(bits->data, i);
		*ret_bits = (struct slice){.owner = bits, .ptr = bits->data, .len = len};
		rc = 0;
	} else if (rc == 0 || rc == -ENOENT) {
		rc = -ENOMEM;
	}
	frag_put(f);
	domain_unref(d);
	return rc;
}

int rows_request_shards(struct brick *b, const char domain[16], struct bp_shards_res *ret,
			struct slice *ret_bits) YIELDS
{
	struct gfid g;
	memcpy(g.b, domain, sizeof(g.b));
	if (b->failed[0])
		return -EIO;
	struct buf *bits = buf_alloc(BRICK_MAX_SHARDS / 8);
	if (!bits)
		return -ENOMEM;
	uint64_t *words = (uint64_t *)(void *)bits->data; /* little-endian words are the little-endian bitmap */
	uint32_t found = 0;
	int rc = frag_list(b->tree, &g, words, BRICK_MAX_SHARDS, &found);
	if (rc < 0 && rc != -ENOENT) {
		buf_unref(bits);
		return rc;
	}
	size_t top = min_u64(found, BRICK_MAX_SHARDS);
	const struct domain *d = domain_find(b, &g);
	if (d)
		list_for_each(s, &d->shards.list, struct oshard, node)
			if (s->rows && s->shard < BRICK_MAX_SHARDS) {
				bitmap_widen(words, &top, s->shard + 1);
				bitmap_set(words, s->shard);
			}
	ret->count = (uint32_t)bitmap_count(words, top);
	ret->max_plus_1 = (uint32_t)top;
	*ret_bits = (struct slice){.owner = bits, .ptr = bits->data, .len = (size_t)round_up_u64(top, 64) / 8};
	return 0;
}

/* ---- HEALW ---- */

static int heal_validate(struct session *s, const struct bp_healw_args *a, const struct slice *payload,
			 struct domain **ret)
{
	struct domain *d;
	struct brick *b = s->b;
	int rc = session_domain(s, a->domain, &d);
	if (rc < 0)
		return rc;
	if (domain_is_insync(b, d))
		return -EINVAL; /* members change by transactions only */
	if (!rows_valid(b, a->shard, a->row, a->nrows, a->zero ? b->id.shard_rows : BP_MAX_ROWS_PAYLOAD))
		return -EINVAL;
	uint32_t rows = a->zero ? 0 : a->nrows;
	if (a->crc.crc_len != rows || payload->len != (size_t)rows * MYFS_BLOCK)
		return -EINVAL;
	for (uint32_t i = 0; i < rows; i++)
		if (crc32c(payload->ptr + (size_t)i * MYFS_BLOCK, MYFS_BLOCK) != a->crc.crc_val[i])
			return -EBADMSG;
	*ret = d;
	return 0;
}

static bool heal_has_versions(const struct brick *b, struct domain *d, const struct bp_healw_args *a)
{
	const struct oshard *s = oshard_find(&d->shards, a->shard, false);
	return s && overlay_next_row(&b->overlay, s, a->row) < a->row + a->nrows;
}

/* Versions on the rows are older than what heals them: they go, and replay must not bring them back. */
static int heal_supersede(struct brick *b, struct domain *d, const struct bp_healw_args *a)
{
	if (!heal_has_versions(b, d, a))
		return 0;
	struct oshard *s = oshard_find(&d->shards, a->shard, false);
	int rc = log_heal(b, &d->gfid, a->shard, a->row, a->nrows, NULL);
	for (uint32_t i = 0; i < a->nrows && rc == 0; i++)
		overlay_drop_row(&b->overlay, s, a->row + i);
	return rc;
}

/* Blocks of zeros inside a payload stay holes. */
static int heal_write(struct brick *b, struct frag *f, const struct bp_healw_args *a,
		      const struct slice *payload) YIELDS
{
	rows_rewritten(b, f, a->row, a->nrows);
	for (uint32_t i = 0; i < a->nrows;) {
		uint32_t run = 0;
		const uint8_t *p = payload->ptr + (size_t)i * MYFS_BLOCK;
		bool zero = mem_is_zero(p, MYFS_BLOCK);
		while (i + run < a->nrows && mem_is_zero(p + (size_t)run * MYFS_BLOCK, MYFS_BLOCK) == zero)
			run++;
		struct iovec v = {.iov_base = (void *)(uintptr_t)p, .iov_len = (size_t)run * MYFS_BLOCK};
		int rc =
		    zero ? frag_punch(f, a->row + i, run) : frag_write(f, a->row + i, run, &v, 1, a->crc.crc_val + i);
		if (rc < 0)
			return rc;
		i += run;
	}
	return 0;
}

static int heal_base(struct brick *b, struct domain *d, const struct bp_healw_args *a,
		     const struct slice *payload) YIELDS
{
	struct frag *f = NULL;
	int rc = frag_get(b->tree, &d->gfid, a->shard, !a->zero, &f);
	if (rc == -ENOENT && a->zero)
		return 0; /* no file: zeros already */
	if (rc < 0)
		return rc;
	rc = a->zero ? frag_punch(f, a->row, a->nrows) : heal_write(b, f, a, payload);
	if (rc == 0 && a->durable)
		rc = frag_sync(f);
	frag_put(f);
	return rc;
}

int rows_request_heal(struct brick *b, struct session *s, const struct bp_healw_args *a,
		      const struct slice *payload) YIELDS
{
	struct domain *d, *again;
	int rc = heal_validate(s, a, payload, &d);
	if (rc < 0)
		return rc;
	domain_ref(d);
	bool locked = heal_has_versions(b, d, a); /* a checkpoint may be writing these rows */
	if (locked) {
		fmutex_lock(&b->ckpt_lock);
		rc = session_domain(s, a->domain, &again);
	}
	if (rc == 0)
		rc = heal_supersede(b, d, a);
	if (rc == 0)
		rc = heal_base(b, d, a, payload);
	d->base_seq++;
	if (locked)
		fmutex_unlock(&b->ckpt_lock);
	domain_unref(d);
	if (rc == -EIO)
		brick_fail(b, "writing healed rows failed");
	if (rc == 0) {
		space_used(b, payload->len);
		b->count.bytes_written += payload->len;
	}
	return rc;
}
