/* scrub.c - looking for damage nobody has met yet: one region of a shard at a time. PROTOCOL.md, Scrub.
 *
 *   C lock on the region: nothing changes, every COMMIT before is on its way
 *     SCRUB to every member: rows that miss their checksum, and one block that is a weighted sum of all rows
 *     the code is linear, so the sums of a stripe's chunks obey it exactly when (but for 2^-32768) every row does
 *   rows without their checksum -> rebuilt from the others (repair.c); looked at again
 *   sums that disagree          -> every row of every member is read and compared; those that differ again under an X lock
 *       a smallest set of chunks without which the rest agrees -> these are stale (a write was lost or went astray): rewritten
 *       no such set             -> it cannot be known which: parity follows data, and it is said where
 *
 * Why parity follows data when nobody can tell: clients read the data blocks as they are. Left as it is, the loss of a
 * brick would turn *other* blocks of the row, which are right, into garbage when they are rebuilt. So the row is made
 * consistent, which loses nothing a client can see, and the place is reported.
 *
 * A chunk can be named only while more than K members hold the row; with exactly K there is nothing to compare. */
#include "core/base/crc32c.h"
#include "ec/ec_priv.h"

#define PASSES 3u /* rot found, repaired, looked at again */

struct scrub {
	struct ec_domain *d;
	uint32_t shard, region, row, nrows, start;
	uint64_t deadline_ns;
	struct ec_scrub_count *count;
	uint32_t members; /* chunks whose brick answered */
};

static uint32_t chunk_of(const struct scrub *s, uint32_t b)
{
	return ec_chunk_of(geo_of(s->d), s->start, s->region, b);
}

/* ---- the bricks' own look ---- */

struct look {
	struct rpc_call calls[EC_MAX_BRICKS];
	struct bp_scrub_res res[EC_MAX_BRICKS];
	uint32_t bad[EC_MAX_BRICKS][BP_MAX_ROWS_PAYLOAD];
	bool differs[BP_MAX_ROWS_PAYLOAD];
	uint32_t asked;
	bool rotten;
};

/* 0, -EAGAIN (somebody went away), -EOPNOTSUPP (a brick of an older version), -MYFS_E_FENCED. */
static int judge_answer(struct scrub *s, uint32_t b, const struct look *l)
{
	int rc = l->calls[b].rc;
	size_t want = l->res[b].zero ? 0 : MYFS_BLOCK;

	if (!rc && l->calls[b].payload_in.len != want)
		rc = -MYFS_E_PROTO;
	for (uint32_t i = 0; !rc && i < l->res[b].bad.bad_len; i++)
		if (l->bad[b][i] >= s->nrows)
			rc = -MYFS_E_PROTO;
	if (!rc)
		return 0;
	if (l->calls[b].rc == -MYFS_E_PROTO)
		return -EOPNOTSUPP;
	if (rc == -MYFS_E_FENCED)
		ec_domain_depose(s->d);
	else if (rc != -MYFS_E_GONE)
		ec_domain_suspect(s->d, b, rc);
	return rc == -MYFS_E_FENCED ? rc : -EAGAIN;
}

static int ask(struct scrub *s, struct look *l) YIELDS
{
	struct ec_domain *d = s->d;
	struct bp_read_args args = {.shard = s->shard, .row = s->row, .nrows = s->nrows};
	struct rpc_group g;
	int rc = 0;

	gfid_to_wire(&d->gfid, args.domain);
	rpc_group_init(&g);
	l->asked = ec_insync_live(d);
	for (uint32_t m = l->asked; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);

		l->res[b] = (struct bp_scrub_res){.bad = {.bad_val = l->bad[b]}}; /* decoded in place */
		ec_call_init(&l->calls[b], BP_SCRUB, (xdrproc_t)xdr_bp_read_args, &args, (xdrproc_t)xdr_bp_scrub_res,
			     &l->res[b]);
		ec_call_start(d, b, &l->calls[b], &g);
	}
	rpc_group_wait_all(&g);
	s->members = 0;
	l->rotten = false;
	for (uint32_t m = l->asked; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		int one = judge_answer(s, b, l);

		rc = one && rc != -MYFS_E_FENCED ? one : rc;
		s->members |= MASK(chunk_of(s, b));
		l->rotten |= l->res[b].bad.bad_len > 0;
	}
	return rc;
}

/* ---- does it all agree? ---- */

/* Chunks `have` of one or more rows, NULL = zeros. True when all beyond the first K are what these K say. spare: memory
 * for one chunk. */
static bool agree(struct ec_domain *d, uint32_t have, const uint8_t *const *src, uint8_t *spare, size_t len)
{
	uint32_t from = ec_codec_sources(d->set->codec, have);

	for (uint32_t m = have & ~from; m; m &= m - 1) {
		uint32_t j = (uint32_t)__builtin_ctz(m);
		uint8_t *dst[EC_MAX_BRICKS] = {0};

		dst[j] = spare;
		ec_codec_rebuild(d->set->codec, from, MASK(j), src, dst, len);
		if (src[j] ? memcmp(spare, src[j], len) != 0 : !mem_is_zero(spare, len))
			return false;
	}
	return true;
}

static int folds_agree(struct scrub *s, const struct look *l, bool *ret)
{
	const uint8_t *src[EC_MAX_BRICKS] = {0};
	uint8_t *spare = malloc(MYFS_BLOCK);

	if (!spare)
		return -ENOMEM;
	for (uint32_t m = l->asked; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);

		src[chunk_of(s, b)] = l->res[b].zero ? NULL : l->calls[b].payload_in.ptr;
	}
	*ret = agree(s->d, s->members, src, spare, MYFS_BLOCK);
	free(spare);
	return 0;
}

/* ---- row by row ---- */

/* The next mask with as many bits, in numerical order (Gosper). */
static uint32_t next_subset(uint32_t v)
{
	uint32_t c = v & -v, r = v + c;

	return (((r ^ v) >> 2) / c) | r;
}

/* The smallest set of chunks without which the others agree; 0 when there is none, or more than one of that size. */
static uint32_t odd_ones(struct ec_domain *d, uint32_t have, const uint8_t *const *src, uint8_t *spare)
{
	uint32_t spares = mask_count(have) - geo_of(d)->k, all = mask_all(geo_of(d)->n);

	for (uint32_t n = 1; n < spares; n++) {
		uint32_t found = 0, ways = 0;

		for (uint32_t v = mask_all(n); v <= all && v >= mask_all(n); v = next_subset(v)) {
			if ((v & ~have) || !agree(d, have & ~v, src, spare, MYFS_BLOCK))
				continue;
			found = v;
			ways++;
		}
		if (ways)
			return ways == 1 ? found : 0;
	}
	return 0;
}

static void note_undecided(struct scrub *s, uint32_t row)
{
	uint64_t at = (uint64_t)ec_lba_of(geo_of(s->d), row, 0) * MYFS_BLOCK;

	if (s->count->undecided++ == 0) {
		s->count->undecided_shard = s->shard;
		s->count->undecided_off = at;
	}
}

/* What every member has of some rows. 0 and s->members, or -EAGAIN: somebody went away, or rot came meanwhile. */
static int read_members(struct scrub *s, struct ec_reads *r, uint32_t row, uint32_t nrows) YIELDS
{
	struct ec_domain *d = s->d;
	uint64_t epoch = d->epoch;
	uint32_t bricks = ec_insync_live(d);
	int rc = 0;

	for (uint32_t m = bricks; m; m &= m - 1)
		ec_read_start(d, r, (uint32_t)__builtin_ctz(m), s->shard, row, nrows);
	rpc_group_wait_all(&r->group);
	s->members = 0;
	for (uint32_t m = bricks; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		int one = ec_read_verify(&r->legs[b]);

		s->members |= MASK(chunk_of(s, b));
		if (one && one != -MYFS_E_BADSUM && one != -EIO)
			ec_read_blame(d, b, one);
		rc = one ? -EAGAIN : rc;
	}
	return d->epoch != epoch || d->state != EC_SERVING ? -EAGAIN : rc;
}

/* Row i of what was read, by chunk. */
static void row_sources(const struct scrub *s, const struct ec_reads *r, uint32_t i, const uint8_t *src[EC_MAX_BRICKS])
{
	for (uint32_t m = s->members; m; m &= m - 1) {
		uint32_t j = (uint32_t)__builtin_ctz(m);
		const struct ec_read_leg *leg = &r->legs[ec_brick_of(geo_of(s->d), s->start, s->region, j)];

		src[j] = leg->res.zero ? NULL : leg->call.payload_in.ptr + (size_t)i * MYFS_BLOCK;
	}
}

static bool row_agrees(const struct scrub *s, const struct ec_reads *r, uint32_t i, uint8_t *spare)
{
	const uint8_t *src[EC_MAX_BRICKS] = {0};

	row_sources(s, r, i, src);
	return mask_count(s->members) <= geo_of(s->d)->k || agree(s->d, s->members, src, spare, MYFS_BLOCK);
}

/* What is to be rewritten of one row. One chunk at a time, each under a lock and in a transaction of its own: places for transactions are
 * taken before locks (repair.c, R4), one at a time. */
struct mend {
	bool looked;   /* under the first lock */
	bool known;    /* these chunks are wrong; else parity follows data */
	uint32_t left; /* chunks */
};

/* The X lock on the row is held. */
static int mend_look(struct scrub *s, uint32_t row, struct mend *m, uint8_t *spare) YIELDS
{
	struct ec_domain *d = s->d;
	uint32_t all = mask_all(geo_of(d)->n), parity = all & ~mask_all(geo_of(d)->k);
	const uint8_t *src[EC_MAX_BRICKS] = {0};
	struct ec_reads *r = d->state == EC_SERVING ? ec_reads_get(d->set, true) : NULL;
	int rc = r ? read_members(s, r, row, 1) : -EAGAIN;

	if (!rc && !row_agrees(s, r, 0, spare)) {
		row_sources(s, r, 0, src);
		m->left = odd_ones(d, s->members, src, spare);
		m->known = m->left != 0;
		if (!m->known) {
			note_undecided(s, row);
			m->left = s->members == all ? parity : 0; /* the bricks that are away may tell */
		}
	}
	m->looked = !rc;
	ec_reads_put(d->set, r);
	return rc;
}

static int mend_locked(struct scrub *s, uint32_t row, struct mend *m, struct ec_tx *tx, uint8_t *spare) YIELDS
{
	int rc = m->looked ? 0 : mend_look(s, row, m, spare);

	if (rc || !m->left)
		return rc;
	rc = ec_repair_rewrite(tx, s->shard, row, (uint32_t)__builtin_ctz(m->left), m->left, s->deadline_ns);
	if (rc)
		return rc;
	m->left &= m->left - 1;
	s->count->stale += m->known;
	s->count->repaired++;
	return 0;
}

static int mend_once(struct scrub *s, uint32_t row, struct mend *m, uint8_t *spare) YIELDS
{
	struct rowlock lock = {.mode = ROWLOCK_X, .shard = s->shard, .row = row, .nrows = 1};
	struct ec_domain *d = s->d;
	struct ec_tx *tx;
	int rc = ec_domain_ready(d, true, s->deadline_ns);

	if (!rc)
		rc = ec_repair_admit(d, s->deadline_ns, &tx);
	if (rc)
		return rc;
	rc = rowlock_acquire_until(&d->locks, &lock, s->deadline_ns);
	rc = rc ? -MYFS_E_QUORUM : mend_locked(s, row, m, tx, spare);
	ec_tx_end(tx);
	rowlock_release(&d->locks, &lock);
	return rc;
}

static int compare_row(struct scrub *s, uint32_t row, uint8_t *spare) YIELDS
{
	struct mend m = {0};
	int rc;

	do
		rc = mend_once(s, row, &m, spare);
	while (!rc && m.left);
	return rc;
}

/* The rows that disagree; the C lock on the region is held. */
static int find_rows(struct scrub *s, struct look *l) YIELDS
{
	struct ec_reads *r = ec_reads_get(s->d->set, true);
	uint8_t *spare = malloc(MYFS_BLOCK);
	int rc = r && spare ? read_members(s, r, s->row, s->nrows) : -ENOMEM;

	for (uint32_t i = 0; i < s->nrows && !rc; i++)
		l->differs[i] = !row_agrees(s, r, i, spare);
	free(spare);
	ec_reads_put(s->d->set, r);
	return rc;
}

static int compare_rows(struct scrub *s, const struct look *l) YIELDS
{
	uint8_t *spare = malloc(MYFS_BLOCK);
	int rc = spare ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < s->nrows && !rc; i++)
		if (l->differs[i])
			rc = compare_row(s, s->row + i, spare);
	free(spare);
	return rc;
}

/* ---- one region ---- */

enum verdict { CLEAN, ROTTEN, DISAGREE };

static int look(struct scrub *s, struct look *l, enum verdict *ret) YIELDS
{
	bool agreed = true;
	int rc = ask(s, l);

	if (!rc && !l->rotten && mask_count(s->members) > geo_of(s->d)->k)
		rc = folds_agree(s, l, &agreed);
	for (uint32_t m = l->asked; m; m &= m - 1)
		rpc_call_release(&l->calls[__builtin_ctz(m)]);
	*ret = l->rotten ? ROTTEN : agreed ? CLEAN : DISAGREE;
	return !rc && *ret == DISAGREE ? find_rows(s, l) : rc;
}

static int look_locked(struct scrub *s, struct look *l, enum verdict *ret) YIELDS
{
	struct rowlock lock = {.mode = ROWLOCK_C, .shard = s->shard, .row = s->row, .nrows = s->nrows};
	int rc = ec_domain_ready(s->d, false, s->deadline_ns);

	if (rc)
		return rc;
	if (rowlock_acquire_until(&s->d->locks, &lock, s->deadline_ns))
		return -MYFS_E_QUORUM;
	rc = s->d->state == EC_SERVING ? look(s, l, ret) : -EAGAIN;
	rowlock_release(&s->d->locks, &lock);
	return rc;
}

/* Blocks that do not match their checksums; each under a lock of its own, looked at once more first. */
static int mend_rot(struct scrub *s, const struct look *l, bool count) YIELDS
{
	int rc = 0;

	for (uint32_t m = l->asked; m && !rc; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);

		for (uint32_t i = 0; i < l->res[b].bad.bad_len && !rc; i++) {
			uint64_t before = s->d->set->bricks[b].repaired_blocks;

			if (count) {
				ec_read_blame(s->d, b, -MYFS_E_BADSUM);
				s->count->rotten++;
			}
			rc = ec_repair_block(s->d, s->shard, s->row + l->bad[b][i], chunk_of(s, b));
			s->count->repaired += s->d->set->bricks[b].repaired_blocks - before;
		}
	}
	return rc;
}

static int scrub_region(struct scrub *s, struct look *l) YIELDS
{
	enum verdict v = CLEAN;
	int rc = 0;

	for (unsigned pass = 0; pass < PASSES && !rc; pass++) {
		uint64_t repaired = s->count->repaired;

		rc = look_locked(s, l, &v);
		if (rc || v == CLEAN)
			return rc;
		rc = v == ROTTEN ? mend_rot(s, l, pass == 0) : compare_rows(s, l);
		if (!rc && s->count->repaired == repaired)
			return 0; /* it is gone, or cannot be mended now */
		if (rc == -MYFS_E_UNREADABLE) {
			s->count->unreadable++;
			return 0;
		}
	}
	return rc;
}

int ec_scrub_region(struct ec_domain *d, uint32_t shard, uint32_t region, struct ec_scrub_count *count) YIELDS
{
	const struct ec_geometry *g = geo_of(d);
	struct scrub s = {.d = d,
			  .shard = shard,
			  .region = region,
			  .row = region * g->region_rows,
			  .nrows = g->region_rows,
			  .start = ec_rotation_start(g, &d->gfid, shard),
			  .deadline_ns = ec_deadline(d),
			  .count = count};
	struct look *l;
	int rc = 0;

	if (region >= EC_REGIONS)
		return -EINVAL;
	if (ec_shard_absent(d, shard))
		return -ENOENT;
	rc = ec_domain_enter(d);
	if (rc)
		return rc;
	l = calloc(1, sizeof(*l));
	do
		rc = l ? scrub_region(&s, l) : -ENOMEM;
	while (rc == -EAGAIN && loop_now_ns() < s.deadline_ns);
	free(l);
	if (!rc) {
		count->bytes += (uint64_t)s.nrows * MYFS_BLOCK * mask_count(s.members);
		count->partial += mask_count(s.members) < g->n;
	}
	ec_domain_leave(d);
	return rc == -EAGAIN ? -MYFS_E_QUORUM : rc;
}
