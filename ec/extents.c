/* extents.c - which blocks hold data, and how much space a domain takes up.
 *
 *   EXTENTS(rows of the range) --> every member at once; per brick a bitmap of rows that are not holes
 *   data brick answered        its bit counts
 *   data brick did not         the block may only be called a hole when at least K others have a hole in that row: the
 *                              code is linear, so a row with K zero chunks is zero
 *
 * A hole is promised to read as zeros; data may turn out to be zeros too. */
#include "core/base/bitmap.h"
#include "ec/ec_priv.h"

struct extents {
	struct ec_domain *d;
	uint32_t shard;
	uint32_t lba, nblocks;
	uint32_t row, nrows;                /* that the blocks lie in */
	uint32_t start;                     /* rotation */
	uint32_t have;                      /* bricks that answered */
	const uint8_t *rows[EC_MAX_BRICKS]; /* their bitmaps, bit 0 = row */
};

static void rows_of_range(struct extents *x)
{
	const struct ec_geometry *g = geo_of(x->d);
	uint32_t stripe = g->k * g->rows_per_chunk;
	uint32_t first = x->lba / stripe, last = (x->lba + x->nblocks - 1) / stripe;

	x->row = first * g->rows_per_chunk;
	x->nrows = (last - first + 1) * g->rows_per_chunk;
}

static bool row_has_data(const struct extents *x, uint32_t b, uint32_t row)
{
	uint32_t i = row - x->row;

	return (x->rows[b][i / 8] >> (i % 8)) & 1;
}

static bool block_has_data(const struct extents *x, uint32_t lba)
{
	const struct ec_geometry *g = geo_of(x->d);
	struct ec_block_addr a = ec_block_locate(g, lba);
	uint32_t b = ec_brick_of(g, x->start, a.region, a.chunk);

	if (mask_has(x->have, b))
		return row_has_data(x, b, a.row);
	for (uint32_t m = x->have; m; m &= m - 1)
		if (row_has_data(x, (uint32_t)__builtin_ctz(m), a.row))
			return true;
	return false;
}

static void extents_fill(const struct extents *x, uint64_t *bits)
{
	memset(bits, 0, BITMAP_WORDS(x->nblocks) * sizeof(*bits));
	for (uint32_t i = 0; i < x->nblocks; i++)
		if (block_has_data(x, x->lba + i))
			bitmap_set(bits, i);
}

/* Asks all members. 0; -EAGAIN: fewer than K answered; -MYFS_E_FENCED. The answers are released by the caller. */
static int extents_ask(struct extents *x, struct rpc_call *calls, uint32_t *ret_started) YIELDS
{
	struct ec_domain *d = x->d;
	struct bp_extents_args args = {.shard = x->shard, .row = x->row, .nrows = x->nrows};
	struct rpc_group g;
	uint32_t targets = ec_insync_live(d);

	gfid_to_wire(&d->gfid, args.domain);
	rpc_group_init(&g);
	for (uint32_t m = targets; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		ec_call_init(&calls[b], BP_EXTENTS, (xdrproc_t)xdr_bp_extents_args, &args, NULL, NULL);
		ec_call_start(d, b, &calls[b], &g);
	}
	*ret_started = targets;
	rpc_group_wait_all(&g);
	x->have = 0;
	for (uint32_t m = targets; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		int rc = calls[b].rc;
		if (!rc && calls[b].payload_in.len < div_up_u64(x->nrows, 8))
			rc = -MYFS_E_PROTO;
		if (rc == -MYFS_E_FENCED) {
			ec_domain_depose(d);
			return rc;
		}
		if (rc) {
			if (rc != -MYFS_E_GONE)
				ec_domain_suspect(d, b, rc);
			continue;
		}
		x->have |= MASK(b);
		x->rows[b] = calls[b].payload_in.ptr;
	}
	return mask_count(x->have) >= geo_of(d)->k ? 0 : -EAGAIN;
}

static int extents_run(struct extents *x, uint64_t *bits) YIELDS
{
	struct rpc_call calls[EC_MAX_BRICKS];
	uint64_t deadline = ec_deadline(x->d);

	for (;;) {
		struct ec_ticket ticket;
		uint32_t started = 0;
		int rc = ec_domain_ready(x->d, false, deadline);
		if (rc)
			return rc;
		ec_confirm_begin(x->d, &ticket);
		if (ec_shard_absent(x->d, x->shard)) {
			memset(bits, 0, BITMAP_WORDS(x->nblocks) * sizeof(*bits));
		} else {
			rc = extents_ask(x, calls, &started);
			if (!rc)
				extents_fill(x, bits);
		}
		if (!rc)
			rc = ec_confirm_wait(x->d, &ticket, deadline);
		ec_confirm_end(x->d, &ticket);
		for (; started; started &= started - 1)
			rpc_call_release(&calls[__builtin_ctz(started)]);
		if (rc != -EAGAIN)
			return rc;
		if (loop_now_ns() >= deadline)
			return -MYFS_E_QUORUM;
		waitq_wait_until(&x->d->wq, min_u64(deadline, loop_now_ns() + 100 * NS_PER_MS));
	}
}

int ec_extents(struct ec_domain *d, uint32_t shard, uint64_t off, uint64_t len, uint64_t *bits) YIELDS
{
	const struct ec_geometry *g = geo_of(d);

	if (len == 0 || off % MYFS_BLOCK || len % MYFS_BLOCK || !range_inside(off, len, g->shard_bytes))
		return -EINVAL;
	int rc = ec_domain_enter(d);
	if (rc)
		return rc;
	struct extents x = {.d = d,
			    .shard = shard,
			    .lba = (uint32_t)(off / MYFS_BLOCK),
			    .nblocks = (uint32_t)(len / MYFS_BLOCK),
			    .start = ec_rotation_start(g, &d->gfid, shard)};
	rows_of_range(&x);
	rc = extents_run(&x, bits);
	ec_domain_leave(d);
	return rc;
}

int ec_usage(struct ec_domain *d, uint64_t *ret_bytes) YIELDS
{
	unsigned bricks;

	return ec_set_usage(d->set, &d->gfid, ret_bytes, &bricks);
}
