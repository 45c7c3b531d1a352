/* cut.c - a consistent cut: the committed content of some rows, from any K members, whatever is missing rebuilt. H7.
 *
 * The caller's row lock (C or X) says that every commit on these rows was queued on every connection before; FIFO does
 * the rest: all sources answer for the same state. Sources are live members of the view only (I9), each block checked
 * against its checksum.
 *
 * Wanted and readable chunks are read as they are; if any wanted one is not readable, enough others are read for a
 * decode. A source that vanishes is no live member any more, a rotten one is avoided; rounds end because each one has
 * fewer to ask. */
#include "ec/ec_priv.h"

struct cut {
	struct ec_domain *d;
	uint32_t shard, row, nrows;
	uint32_t start, region;
	uint32_t turn;              /* whose parity is asked first */
	uint32_t want;
	uint32_t avoid;             /* chunk numbers that are no source */
	uint32_t have;              /* chunk numbers read well; legs[brick] holds them */
	struct ec_reads *reads;
	uint8_t *const *dst;
};

static uint32_t brick_of(const struct cut *c, uint32_t chunk)
{
	return ec_brick_of(geo_of(c->d), c->start, c->region, chunk);
}

static uint32_t sources_now(const struct cut *c)
{
	uint32_t m = 0, ok = ec_insync_live(c->d);

	for (uint32_t j = 0; j < geo_of(c->d)->n; j++)
		if (mask_has(ok, brick_of(c, j)))
			m |= MASK(j);
	return m & ~c->avoid;
}

/* Fills `need` up to K: data chunks first (less to compute), then parity chunks in turn, so that rot in any of them is
 * met sooner or later. */
static uint32_t add_sources(const struct cut *c, uint32_t need, uint32_t can)
{
	const struct ec_geometry *g = geo_of(c->d);

	for (uint32_t j = 0; j < g->k && mask_count(need) < g->k; j++)
		need |= can & MASK(j);
	for (uint32_t i = 0; i < g->r && mask_count(need) < g->k; i++)
		need |= can & MASK(g->k + (c->turn + i) % g->r);
	return need;
}

/* Which chunks to read more. 0 = have enough. *ret_rc when it cannot be done. */
static uint32_t plan(const struct cut *c, int *ret_rc)
{
	uint32_t k = geo_of(c->d)->k, can = sources_now(c) | c->have;

	*ret_rc = 0;
	if (!(c->want & ~can))
		return c->want & ~c->have;
	if (mask_count(can) < k) { /* for want of members, or because what they hold is rotten? */
		*ret_rc = mask_count(ec_insync_live(c->d)) < k ? -EAGAIN : -MYFS_E_UNREADABLE;
		return 0;
	}
	return add_sources(c, (c->want & can) | c->have, can) & ~c->have;
}

static void read_round(struct cut *c, uint32_t chunks) YIELDS
{
	struct ec_domain *d = c->d;

	for (uint32_t m = chunks; m; m &= m - 1) {
		uint32_t b = brick_of(c, (uint32_t)__builtin_ctz(m));
		if (c->reads->legs[b].started) { /* failed before: another try replaces it */
			rpc_call_release(&c->reads->legs[b].call);
			c->reads->legs[b].started = false;
		}
		ec_read_start(d, c->reads, b, c->shard, c->row, c->nrows);
	}
	rpc_group_wait_all(&c->reads->group);
	for (uint32_t m = chunks; m; m &= m - 1) {
		uint32_t j = (uint32_t)__builtin_ctz(m), b = brick_of(c, j);
		int rc = ec_read_verify(&c->reads->legs[b]);
		if (!rc) {
			c->have |= MASK(j);
			continue;
		}
		ec_read_blame(d, b, rc); /* all but rot takes it out of the live ones */
		if (rc != -MYFS_E_BADSUM && rc != -EIO)
			continue;
		c->avoid |= MASK(j);
		ec_repair_note(d, c->shard, c->row, c->nrows, j);
	}
}

static const uint8_t *bytes_of(const struct cut *c, uint32_t chunk)
{
	const struct ec_read_leg *leg = &c->reads->legs[brick_of(c, chunk)];

	return leg->res.zero ? NULL : leg->call.payload_in.ptr;
}

static void deliver(struct cut *c)
{
	const uint8_t *src[EC_MAX_BRICKS] = {0};
	size_t len = (size_t)c->nrows * MYFS_BLOCK;
	uint32_t missing = c->want & ~c->have;

	for (uint32_t m = c->have; m; m &= m - 1)
		src[__builtin_ctz(m)] = bytes_of(c, (uint32_t)__builtin_ctz(m));
	for (uint32_t m = c->want & c->have; m; m &= m - 1) {
		uint32_t j = (uint32_t)__builtin_ctz(m);
		if (src[j])
			memcpy(c->dst[j], src[j], len);
		else
			memset(c->dst[j], 0, len);
	}
	if (missing)
		ec_codec_rebuild(c->d->set->codec, c->have, missing, src, c->dst, len);
}

static int cut_run(struct cut *c) YIELDS
{
	uint64_t epoch = c->d->epoch;
	int rc;

	for (;;) {
		if (c->d->state == EC_DEPOSED || c->d->state == EC_CLOSING)
			return -MYFS_E_FENCED;
		if (c->d->epoch != epoch || c->d->state != EC_SERVING)
			return -EAGAIN; /* a takeover may have decided otherwise between two sources */
		uint32_t more = plan(c, &rc);
		if (rc)
			return rc;
		if (!more)
			break;
		read_round(c, more);
	}
	deliver(c);
	return 0;
}

/* Different rows may be rotten on different bricks: each row alone can still be readable. */
static int row_by_row(const struct cut *whole, uint32_t avoid) YIELDS
{
	int rc = 0;

	for (uint32_t i = 0; i < whole->nrows && !rc; i++) {
		uint8_t *dst[EC_MAX_BRICKS] = {0};
		for (uint32_t m = whole->want; m; m &= m - 1) {
			uint32_t j = (uint32_t)__builtin_ctz(m);
			dst[j] = whole->dst[j] + (size_t)i * MYFS_BLOCK;
		}
		rc = ec_cut_read(whole->d, whole->shard, whole->row + i, 1, whole->want, avoid, dst);
	}
	return rc;
}

int ec_cut_read(struct ec_domain *d, uint32_t shard, uint32_t row, uint32_t nrows, uint32_t want, uint32_t avoid,
		uint8_t *const *dst) YIELDS
{
	const struct ec_geometry *g = geo_of(d);
	struct cut c = {.d = d, .shard = shard, .row = row, .nrows = nrows, .want = want, .avoid = avoid, .dst = dst};

	assert(nrows >= 1 && nrows <= BP_MAX_ROWS_PAYLOAD);
	assert(row / g->region_rows == (row + nrows - 1) / g->region_rows); /* one rotation */
	c.region = row / g->region_rows;
	c.start = ec_rotation_start(g, &d->gfid, shard);
	c.turn = (d->cut_turn++ * 0x9E3779B1u) >> 16; /* Fibonacci hashing: no pattern a reader's pattern could fit */
	c.reads = ec_reads_get(d->set, true);
	if (!c.reads)
		return -ENOMEM;
	int rc = cut_run(&c);
	ec_reads_put(d->set, c.reads);
	if (rc == -MYFS_E_UNREADABLE && nrows > 1)
		return row_by_row(&c, 0);
	return rc;
}
