/* update.c - the four ways to write some rows of one region, one transaction each. PROTOCOL.md, A write.
 *
 *   FULL   whole stripes             ABS to all N                                         X lock    1 round trip
 *   RCW    > K/2 chunks of a stripe  cut-read the rest; ABS to touched data and parity    X         2
 *   DELTA  <= K/2 chunks             old unknown: ABS+WANT_DELTA to data, DELTA to parity D         2
 *                                    old in cache: ABS+OLD_CRC and DELTA at once          D         1
 *                                    data brick out: old from a cut, DELTA to parity      X         2
 *   ZERO   whole stripes             ZERO to all N, no payload                            X         1
 *   K = 1 (replica): every write is FULL, row by row.
 *
 * Each attempt: admit, lock, look at the old bytes when needed, begin, send, settle, commit. An attempt that met a view
 * change, a takeover, a stale cache entry or a rotten block leaves nothing behind and the part starts over. U1 the tx
 * number is taken while the lock is held, so numbers of conflicting tx grow in lock order. U2 the row lock is released
 * after COMMIT was queued on every connection. U3 at exactly K members every leg is durable before COMMIT (H12), also
 * when the view shrank meanwhile. U4 a FUA write that leans on earlier ones is acknowledged after a SYNC of them. */
#include "core/base/crc32c.h"
#include "ec/ec_priv.h"

#define RETRY_NS (20 * NS_PER_MS)
#define ROTTEN_MAX 64u        /* repairs that one part will wait for */
#define CACHE_BLOCKS_MAX 8u   /* larger writes are not likely to be rewritten soon */
#define RUN_MAX 65536u        /* bytes of a chunk, at most */

static const uint8_t zeros[RUN_MAX] __attribute__((aligned(MYFS_BLOCK)));

struct run {                  /* consecutive blocks inside one chunk of one stripe */
	uint32_t chunk, brick, row, nrows, lba;
	const uint8_t *data;      /* new content */
	const uint8_t *delta;     /* old ^ new, when known */
};

struct update {
	const struct ec_part *p;
	struct ec_domain *d;
	const struct ec_geometry *g;
	uint32_t start, region;
	struct run runs[EC_MAX_BRICKS];
	unsigned n;
	uint32_t row, nrows;      /* hull of all rows */
	uint32_t data_bricks;     /* that hold touched chunks */
	uint32_t parity_bricks;
	struct rowlock lock;
	struct ec_tx *tx;
	bool durable;             /* every leg sent so far is durable when answered */
	bool leans;               /* FUA, committed on top of what is not durable yet: U4 */
	struct ec_part_done done;
};

/* ---- shapes ---- */

static uint32_t brick_of(const struct update *u, uint32_t chunk)
{
	return ec_brick_of(u->g, u->start, u->region, chunk);
}

static void update_init(struct update *u, const struct ec_part *p)
{
	u->p = p;
	u->d = p->d;
	u->g = geo_of(p->d);
	u->n = 0;
	u->tx = NULL;
	u->durable = false;
	u->leans = false;
	u->start = ec_rotation_start(u->g, &u->d->gfid, p->shard);
	u->region = ec_block_locate(u->g, p->lba).region;
	u->parity_bricks = u->data_bricks = 0;
	for (uint32_t j = u->g->k; j < u->g->n; j++)
		u->parity_bricks |= MASK(brick_of(u, j));
}

/* Splits blocks inside one stripe at chunk boundaries. */
static void cut_runs(struct update *u)
{
	const struct ec_part *p = u->p;
	uint32_t lba = p->lba, left = p->nblocks, rpc = u->g->rows_per_chunk, end = 0;

	u->row = UINT32_MAX;
	while (left) {
		struct ec_block_addr at = ec_block_locate(u->g, lba);
		uint32_t n = rpc - lba % rpc;
		struct run *r = &u->runs[u->n++];
		n = n < left ? n : left;
		*r = (struct run){
		    .chunk = at.chunk, .brick = brick_of(u, at.chunk), .row = at.row, .nrows = n, .lba = lba};
		r->data = p->data ? p->data + (size_t)(lba - p->lba) * MYFS_BLOCK : zeros;
		u->data_bricks |= MASK(r->brick);
		u->row = at.row < u->row ? at.row : u->row;
		end = at.row + n > end ? at.row + n : end;
		lba += n;
		left -= n;
	}
	u->nrows = end - u->row;
}

static size_t run_bytes(const struct run *r)
{
	return (size_t)r->nrows * MYFS_BLOCK;
}

static void crc_rows(const uint8_t *p, uint32_t nrows, uint32_t *ret)
{
	for (uint32_t i = 0; i < nrows; i++)
		ret[i] = p == zeros ? CRC32C_ZERO_BLOCK : crc32c(p + (size_t)i * MYFS_BLOCK, MYFS_BLOCK);
}

/* ---- life of an attempt ---- */

static int lock_rows(struct update *u, enum rowlock_mode mode, uint32_t row, uint32_t nrows, uint32_t chunks) YIELDS
{
	if (MUTATED(H6) && chunks == 0)
		mode = ROWLOCK_D; /* of no chunk: conflicts with nobody */
	if (MUTATED(H22) && mode == ROWLOCK_D)
		chunks = 0;
	u->lock = (struct rowlock){.mode = mode, .shard = u->p->shard, .row = row, .nrows = nrows, .chunks = chunks};
	if (rowlock_acquire_until(&u->d->locks, &u->lock, u->p->deadline_ns))
		return -MYFS_E_QUORUM;
	return ec_domain_may_write(u->d) ? 0 : -EAGAIN;
}

static int begin(struct update *u, uint32_t kind, uint32_t roles, uint64_t regions)
{
	return ec_tx_begin(u->tx, u->p->shard, u->p->lba, u->p->nblocks, kind, roles, regions);
}

static struct ec_leg *abs_leg(struct update *u, uint32_t brick, uint32_t row, uint32_t nrows)
{
	struct ec_leg *leg = ec_tx_leg(u->tx, brick, BP_ABS, row, nrows);

	if (u->durable)
		leg->flags |= BP_PREP_DURABLE;
	return leg;
}

/* All legs are out: waits for them, makes them durable when that is owed, commits. */
static int finish(struct update *u) YIELDS
{
	struct ec_tx *tx = u->tx;
	int rc = ec_tx_settle(tx, UINT32_MAX, u->p->deadline_ns);

	if (!rc && !u->durable && ec_durable(u->d, u->p->fua)) { /* U3 */
		for (uint32_t m = tx->mask & tx->acked & u->d->live; m; m &= m - 1)
			ec_tx_send_sync(tx, (uint32_t)__builtin_ctz(m));
		u->durable = true;
		rc = ec_tx_settle(tx, UINT32_MAX, u->p->deadline_ns);
	}
	if (!rc) {
		bool leans = u->durable && ec_tx_leans(tx); /* of no interest otherwise */
		u->leans = leans && u->p->fua;
		u->done = (struct ec_part_done){tx->id, u->d->rollbacks};
		ec_tx_commit(tx, u->durable && !leans);
		if (!u->p->internal)
			ec_tx_promise(tx, u->p);
	}
	return rc;
}

/* U4. A rollback meanwhile may have taken it back: once more then. Never without need: what others saw and overwrote would come back. */
static int make_firm(const struct ec_part *p, const struct ec_part_done *done) YIELDS
{
	int rc = ec_domain_flush(p->d, p->deadline_ns);

	return !rc && ec_lost(p->d, done) ? -EAGAIN : rc;
}

static void cache_update(struct update *u)
{
	struct ec_stripe_cache *c = u->d->set->cache;
	const struct ec_part *p = u->p;

	if (p->kind != EC_PART_PARTIAL || p->nblocks > CACHE_BLOCKS_MAX || u->n == 0) {
		struct ec_stripe_cache_stats st;
		ec_stripe_cache_stats(c, &st);
		if (st.used)
			ec_stripe_cache_drop(c, u->d->key, p->shard, p->lba, p->nblocks);
		return;
	}
	for (unsigned i = 0; i < u->n; i++) {
		const struct run *r = &u->runs[i];
		for (uint32_t k = 0; k < r->nrows; k++) {
			const uint8_t *block = r->data + (size_t)k * MYFS_BLOCK;
			uint32_t crc =
			    mask_has(u->tx->mask, r->brick) ? u->tx->legs[r->brick].crc[k] : crc32c(block, MYFS_BLOCK);
			ec_stripe_cache_put(c, u->d->key, p->shard, r->lba + k, block, crc);
		}
	}
}

/* ---- FULL ---- */

/* Where chunk j's rows of stripe s of this part lie in the caller's memory. */
static const uint8_t *full_data(const struct update *u, uint32_t s, uint32_t j)
{
	return u->p->data + ((size_t)s * u->g->k + j) * u->g->chunk_bytes;
}

static int full_data_leg(struct update *u, uint32_t j, uint32_t stripes) YIELDS
{
	uint32_t b = brick_of(u, j), rpc = u->g->rows_per_chunk, c = u->g->chunk_bytes;

	if (!mask_has(u->tx->mask, b))
		return 0;
	struct ec_leg *leg = abs_leg(u, b, u->row, u->nrows);
	uint8_t *gather = NULL;
	if (stripes > RPC_PAYLOAD_IOVS) { /* small chunks: more pieces than a frame takes */
		gather = ec_tx_memory(u->tx, (size_t)stripes * c);
		if (!gather)
			return -ENOMEM;
	}
	for (uint32_t s = 0; s < stripes; s++) {
		const uint8_t *from = full_data(u, s, j);
		crc_rows(from, rpc, leg->crc + s * rpc);
		if (gather)
			memcpy(gather + (size_t)s * c, from, c);
		else
			ec_leg_add(leg, from, c);
	}
	if (gather)
		ec_leg_add(leg, gather, (size_t)stripes * c);
	ec_tx_send(u->tx, leg, NULL);
	return 0;
}

/* Parity of all stripes, one buffer per participating parity brick. */
static int full_parity_legs(struct update *u, uint32_t stripes) YIELDS
{
	const uint8_t *data[EC_MAX_BRICKS];
	uint8_t *parity[EC_MAX_BRICKS] = {0}, *at[EC_MAX_BRICKS];
	uint32_t k = u->g->k, r = u->g->r, c = u->g->chunk_bytes;

	for (uint32_t i = 0; i < r; i++) {
		if (!mask_has(u->tx->mask, brick_of(u, k + i)))
			continue;
		parity[i] = ec_tx_memory(u->tx, (size_t)stripes * c);
		if (!parity[i])
			return -ENOMEM;
	}
	for (uint32_t s = 0; s < stripes; s++) {
		for (uint32_t j = 0; j < k; j++)
			data[j] = full_data(u, s, j);
		for (uint32_t i = 0; i < r; i++)
			at[i] = parity[i] ? parity[i] + (size_t)s * c : NULL;
		ec_codec_encode(u->d->set->codec, data, at, c);
	}
	for (uint32_t i = 0; i < r; i++) {
		if (!parity[i])
			continue;
		struct ec_leg *leg = abs_leg(u, brick_of(u, k + i), u->row, u->nrows);
		crc_rows(parity[i], u->nrows, leg->crc);
		ec_leg_add(leg, parity[i], (size_t)u->nrows * MYFS_BLOCK);
		ec_tx_send(u->tx, leg, NULL);
	}
	return 0;
}

static int write_full(struct update *u) YIELDS
{
	const struct ec_part *p = u->p;
	uint32_t stripes = p->nblocks / (u->g->k * u->g->rows_per_chunk);
	int rc;

	u->row = ec_block_locate(u->g, p->lba).row;
	u->nrows = stripes * u->g->rows_per_chunk;
	rc = lock_rows(u, ROWLOCK_X, u->row, u->nrows, 0);
	if (!rc)
		rc = begin(u, BP_TX_FULL, mask_all(u->g->n), UINT64_C(1) << u->region);
	if (rc)
		return rc;
	u->durable = ec_durable(u->d, p->fua);
	for (uint32_t j = 0; j < u->g->k && !rc; j++)
		rc = full_data_leg(u, j, stripes);
	if (!rc)
		rc = full_parity_legs(u, stripes);
	return rc ? rc : finish(u);
}

/* ---- ZERO ---- */

static int write_zero(struct update *u) YIELDS
{
	const struct ec_part *p = u->p;
	uint64_t regions = ec_regions_of(u->g, p->lba, p->nblocks);
	int rc;

	u->row = ec_block_locate(u->g, p->lba).row;
	u->nrows = p->nblocks / u->g->k;
	rc = lock_rows(u, ROWLOCK_X, u->row, u->nrows, 0);
	if (!rc && u->d->healing && (regions & (regions - 1)))
		rc = -EAGAIN; /* healing began while we waited: region by region then */
	if (!rc)
		rc = begin(u, BP_TX_FULL, mask_all(u->g->n), regions);
	if (rc)
		return rc;
	u->durable = ec_durable(u->d, p->fua);
	for (uint32_t m = u->tx->mask; m; m &= m - 1) {
		struct ec_leg *leg = ec_tx_leg(u->tx, (uint32_t)__builtin_ctz(m), BP_ZERO, u->row, u->nrows);
		if (u->durable)
			leg->flags |= BP_PREP_DURABLE;
		ec_tx_send(u->tx, leg, NULL);
	}
	return finish(u);
}

/* ---- what was there before ---- */

/* Old content of every run into memory of the tx, consistent under our lock. Runs on lost bricks are rebuilt: needs X.
 */
static int old_by_cut(struct update *u, uint8_t **ret_old) YIELDS
{
	uint8_t *dst[EC_MAX_BRICKS] = {0};

	for (unsigned i = 0; i < u->n; i++) {
		struct run *r = &u->runs[i];
		uint8_t *mem = ec_tx_memory(u->tx, run_bytes(r));
		if (!mem)
			return -ENOMEM;
		dst[r->chunk] = ret_old[i] = mem;
		int rc = ec_cut_read(u->d, u->p->shard, r->row, r->nrows, MASK(r->chunk), 0, dst);
		if (rc)
			return rc;
	}
	return 0;
}

/* All blocks of all runs are in the cache: copies and their sums. */
static bool old_from_cache(struct update *u, uint8_t **ret_old, uint32_t (*ret_crc)[16])
{
	struct ec_stripe_cache *c = u->d->set->cache;

	if (u->p->nblocks > CACHE_BLOCKS_MAX)
		return false;
	for (unsigned i = 0; i < u->n; i++) {
		struct run *r = &u->runs[i];
		uint8_t *mem = NULL;
		for (uint32_t k = 0; k < r->nrows; k++) {
			uint32_t crc;
			const uint8_t *block = ec_stripe_cache_get(c, u->d->key, u->p->shard, r->lba + k, &crc);
			if (!block)
				return false;
			if (!mem)
				mem = ec_tx_memory(u->tx, run_bytes(r));
			if (!mem)
				return false;
			memcpy(mem + (size_t)k * MYFS_BLOCK, block, MYFS_BLOCK);
			ret_crc[i][k] = crc;
		}
		ret_old[i] = mem;
	}
	return true;
}

static bool cached(const struct update *u)
{
	uint32_t crc;

	return ec_stripe_cache_get(u->d->set->cache, u->d->key, u->p->shard, u->p->lba, &crc) != NULL;
}

/* A write of less than a block: the whole new block, from the old one and the caller's bytes. */
static int merge_block(struct update *u, const uint8_t *old)
{
	const struct ec_part *p = u->p;
	uint8_t *block = ec_tx_memory(u->tx, MYFS_BLOCK);

	if (!block)
		return -ENOMEM;
	memcpy(block, old, MYFS_BLOCK);
	memcpy(block + p->skip, p->data ? p->data : zeros, p->bytes);
	u->runs[0].data = block;
	return 0;
}

/* ---- K = 1: all bricks hold the same ---- */

static int write_replica(struct update *u) YIELDS
{
	const struct ec_part *p = u->p;
	uint8_t *old[1];
	uint32_t crc[1][16];
	int rc;

	/* One chunk per stripe: rows are blocks, a part of a region is one run. */
	u->runs[0] =
	    (struct run){.chunk = 0, .brick = brick_of(u, 0), .row = p->lba, .nrows = p->nblocks, .lba = p->lba};
	u->runs[0].data = p->data;
	u->n = 1;
	u->row = p->lba;
	u->nrows = p->nblocks;
	rc = lock_rows(u, ROWLOCK_X, u->row, u->nrows, 0);
	if (!rc && p->bytes) {
		if (!old_from_cache(u, old, crc))
			rc = old_by_cut(u, old);
		if (!rc)
			rc = merge_block(u, old[0]);
	}
	if (!rc)
		rc = begin(u, BP_TX_FULL, mask_all(u->g->n), UINT64_C(1) << u->region);
	if (rc)
		return rc;
	u->durable = ec_durable(u->d, p->fua);
	const struct ec_leg *first = NULL;
	for (uint32_t m = u->tx->mask; m; m &= m - 1) {
		struct ec_leg *leg = abs_leg(u, (uint32_t)__builtin_ctz(m), u->row, u->nrows);
		if (first)
			memcpy(leg->crc, first->crc, u->nrows * sizeof(leg->crc[0]));
		else
			crc_rows(u->runs[0].data, u->nrows, leg->crc);
		ec_leg_add(leg, u->runs[0].data, run_bytes(&u->runs[0]));
		ec_tx_send(u->tx, leg, NULL);
		first = leg;
	}
	return finish(u);
}

/* ---- RCW ---- */

/* Content of all K chunks over the hull rows after this write. */
static int rcw_image(struct update *u, const uint8_t **image) YIELDS
{
	uint8_t *dst[EC_MAX_BRICKS] = {0};
	size_t len = (size_t)u->nrows * MYFS_BLOCK;
	uint32_t want = mask_all(u->g->k);

	for (unsigned i = 0; i < u->n; i++) {
		const struct run *r = &u->runs[i];
		if (r->nrows != u->nrows)
			continue;
		image[r->chunk] = r->data;
		want &= ~MASK(r->chunk);
	}
	for (uint32_t m = want; m; m &= m - 1) {
		uint32_t j = (uint32_t)__builtin_ctz(m);
		dst[j] = ec_tx_memory(u->tx, len);
		if (!dst[j])
			return -ENOMEM;
		image[j] = dst[j];
	}
	int rc = want ? ec_cut_read(u->d, u->p->shard, u->row, u->nrows, want, 0, dst) : 0;
	for (unsigned i = 0; i < u->n && !rc; i++) {
		const struct run *r = &u->runs[i];
		if (dst[r->chunk])
			memcpy(dst[r->chunk] + (size_t)(r->row - u->row) * MYFS_BLOCK, r->data, run_bytes(r));
	}
	return rc;
}

static int rcw_send(struct update *u, const uint8_t *const *image) YIELDS
{
	uint8_t *parity[EC_MAX_BRICKS] = {0};
	size_t len = (size_t)u->nrows * MYFS_BLOCK;

	for (uint32_t i = 0; i < u->g->r; i++) {
		if (!mask_has(u->tx->mask, brick_of(u, u->g->k + i)))
			continue;
		parity[i] = ec_tx_memory(u->tx, len);
		if (!parity[i])
			return -ENOMEM;
	}
	ec_codec_encode(u->d->set->codec, image, parity, len);
	for (unsigned i = 0; i < u->n; i++) {
		const struct run *r = &u->runs[i];
		if (!mask_has(u->tx->mask, r->brick))
			continue;
		struct ec_leg *leg = abs_leg(u, r->brick, r->row, r->nrows);
		crc_rows(r->data, r->nrows, leg->crc);
		ec_leg_add(leg, r->data, run_bytes(r));
		ec_tx_send(u->tx, leg, NULL);
	}
	for (uint32_t i = 0; i < u->g->r; i++) {
		if (!parity[i])
			continue;
		struct ec_leg *leg = abs_leg(u, brick_of(u, u->g->k + i), u->row, u->nrows);
		crc_rows(parity[i], u->nrows, leg->crc);
		ec_leg_add(leg, parity[i], len);
		ec_tx_send(u->tx, leg, NULL);
	}
	return 0;
}

static int write_rcw(struct update *u) YIELDS
{
	const uint8_t *image[EC_MAX_BRICKS] = {0};
	int rc = lock_rows(u, ROWLOCK_X, u->row, u->nrows, 0);

	if (!rc)
		rc = rcw_image(u, image);
	if (!rc)
		rc = begin(u, BP_TX_RCW, u->data_bricks | u->parity_bricks, UINT64_C(1) << u->region);
	if (rc)
		return rc;
	u->durable = ec_durable(u->d, u->p->fua);
	rc = rcw_send(u, image);
	return rc ? rc : finish(u);
}

/* ---- DELTA ---- */

static void data_leg(struct update *u, const struct run *r, uint32_t flags, const uint32_t *old_crc)
{
	if (!mask_has(u->tx->mask, r->brick))
		return;
	struct ec_leg *leg = abs_leg(u, r->brick, r->row, r->nrows);
	leg->flags |= flags;
	crc_rows(r->data, r->nrows, leg->crc);
	if (old_crc)
		memcpy(leg->old_crc, old_crc, r->nrows * sizeof(*old_crc));
	ec_leg_add(leg, r->data, run_bytes(r));
	ec_tx_send(u->tx, leg, NULL);
}

/* One touched chunk: the delta itself, the brick multiplies. Several: combined here, one frame per parity brick. */
static int parity_legs(struct update *u) YIELDS
{
	struct ec_codec *codec = u->d->set->codec;
	size_t len = (size_t)u->nrows * MYFS_BLOCK;
	const struct ec_leg *first = NULL;

	for (uint32_t i = 0; i < u->g->r; i++) {
		uint32_t b = brick_of(u, u->g->k + i);
		if (!mask_has(u->tx->mask, b) || !mask_has(u->d->view.insync | u->d->healing, b))
			continue;
		struct ec_leg *leg = ec_tx_leg(u->tx, b, BP_DELTA, u->row, u->nrows);
		const uint8_t *payload = u->runs[0].delta;
		if (u->durable)
			leg->flags |= BP_PREP_DURABLE;
		if (u->n == 1) {
			leg->coef = ec_codec_coef(codec, i, u->runs[0].chunk);
		} else {
			uint8_t *sum = ec_tx_memory(u->tx, len);
			if (!sum)
				return -ENOMEM;
			memset(sum, 0, len);
			for (unsigned k = 0; k < u->n; k++) {
				const struct run *r = &u->runs[k];
				ec_codec_delta(ec_codec_coef(codec, i, r->chunk), r->delta,
					       sum + (size_t)(r->row - u->row) * MYFS_BLOCK, run_bytes(r));
			}
			payload = sum;
		}
		if (u->n == 1 && first)
			memcpy(leg->crc, first->crc, u->nrows * sizeof(leg->crc[0]));
		else
			crc_rows(payload, u->nrows, leg->crc);
		ec_leg_add(leg, payload, len);
		ec_tx_send(u->tx, leg, NULL);
		first = leg;
	}
	return 0;
}

/* The old bytes are known: everything at once. crc: from the cache, to be confirmed by the data brick. */
static int delta_known(struct update *u, uint8_t *const *old, uint32_t (*crc)[16]) YIELDS
{
	int rc;

	if (u->p->bytes && (rc = merge_block(u, old[0])) != 0)
		return rc;
	rc = begin(u, BP_TX_DELTA, u->data_bricks | u->parity_bricks, UINT64_C(1) << u->region);
	if (rc)
		return rc;
	u->durable = ec_durable(u->d, u->p->fua);
	for (unsigned i = 0; i < u->n; i++) {
		struct run *r = &u->runs[i];
		bool confirm = crc && mask_has(u->d->view.insync, r->brick);
		data_leg(u, r, confirm ? BP_PREP_OLD_CRC : 0, confirm ? crc[i] : NULL);
		ec_xor(old[i], old[i], r->data, run_bytes(r));
		r->delta = old[i];
	}
	rc = parity_legs(u);
	return rc ? rc : finish(u);
}

/* Data bricks first: they answer with old ^ new. */
static int delta_unknown(struct update *u) YIELDS
{
	struct ec_tx *tx = u->tx;
	int rc = begin(u, BP_TX_DELTA, u->data_bricks | u->parity_bricks, UINT64_C(1) << u->region);

	if (rc)
		return rc;
	for (unsigned i = 0; i < u->n; i++)
		data_leg(u, &u->runs[i], BP_PREP_WANT_DELTA, NULL);
	rc = ec_tx_settle(tx, u->data_bricks, u->p->deadline_ns);
	if (rc)
		return rc;
	for (unsigned i = 0; i < u->n; i++) {
		struct run *r = &u->runs[i];
		const struct ec_leg *leg = &tx->legs[r->brick];
		if (!mask_has(tx->acked, r->brick))
			return -EAGAIN; /* lost before it told us: next time from a cut */
		if (leg->call.payload_in.len != run_bytes(r)) {
			ec_domain_suspect(u->d, r->brick, -MYFS_E_PROTO);
			return -EAGAIN;
		}
		r->delta = leg->call.payload_in.ptr;
	}
	u->durable = ec_durable(u->d, u->p->fua);
	if (u->durable) /* its sync overlaps with the parity bricks' */
		for (uint32_t m = u->data_bricks & tx->mask & u->d->live; m; m &= m - 1)
			ec_tx_send_sync(tx, (uint32_t)__builtin_ctz(m));
	rc = parity_legs(u);
	return rc ? rc : finish(u);
}

static int write_delta(struct update *u) YIELDS
{
	uint8_t *old[EC_MAX_BRICKS];
	uint32_t crc[EC_MAX_BRICKS][16];
	uint32_t chunks = 0;
	bool cut = (u->data_bricks & ~ec_insync_live(u->d)) || (u->p->bytes && !cached(u));
	int rc;

	for (unsigned i = 0; i < u->n; i++)
		chunks |= MASK(u->runs[i].chunk);
	rc = lock_rows(u, cut ? ROWLOCK_X : ROWLOCK_D, u->row, u->nrows, chunks);
	if (!rc && !cut && (u->data_bricks & ~ec_insync_live(u->d)))
		rc = -EAGAIN; /* it went while we waited, and our lock is too weak for a cut */
	if (rc)
		return rc;
	if (!(u->data_bricks & ~ec_insync_live(u->d)) && old_from_cache(u, old, crc))
		return delta_known(u, old, crc);
	if (!cut)
		return u->p->bytes ? -EAGAIN : delta_unknown(u);
	rc = old_by_cut(u, old);
	return rc ? rc : delta_known(u, old, NULL);
}

/* ---- attempts ---- */

/* Rows of the leg that brick b called rotten: each is looked at and made good. */
static int repair_leg(struct update *u, uint32_t b, uint32_t row, uint32_t nrows) YIELDS
{
	uint32_t chunk = ec_chunk_of(u->g, u->start, u->region, b);
	int rc = 0;

	u->d->count.checksum_errors++;
	u->d->set->bricks[b].checksum_errors++;
	for (uint32_t i = 0; i < nrows && !rc; i++)
		rc = ec_repair_block(u->d, u->p->shard, row + i, chunk);
	return rc ? rc : -EAGAIN;
}

static int dispatch(struct update *u) YIELDS
{
	if (u->p->kind == EC_PART_ZERO)
		return write_zero(u);
	if (u->g->k == 1)
		return write_replica(u);
	if (u->p->kind == EC_PART_FULL)
		return write_full(u);
	cut_runs(u);
	return u->n > u->g->k / 2 ? write_rcw(u) : write_delta(u);
}

static uint64_t part_bytes_per_brick(const struct ec_part *p)
{
	const struct ec_geometry *g = geo_of(p->d);

	if (p->kind == EC_PART_ZERO)
		return 0;
	return p->kind == EC_PART_FULL ? (uint64_t)p->nblocks / g->k * MYFS_BLOCK
				       : min_u64(p->nblocks, g->rows_per_chunk) * MYFS_BLOCK;
}

static int attempt(const struct ec_part *p) YIELDS
{
	struct update u;
	uint32_t rotten_row = 0, rotten_n = 0, rotten_brick = 0;

	update_init(&u, p);
	u.lock = (struct rowlock){0};
	if (ec_shards_grow(p->d, p->shard + 1))
		return -ENOMEM;
	struct ec_tx_need need = {.bytes_per_brick = part_bytes_per_brick(p), .keep = p->internal ? 0 : ec_keep_bytes(p), .internal = p->internal};
	int rc = ec_tx_admit(p->d, &need, p->deadline_ns, &u.tx);
	if (rc)
		return rc;
	rc = dispatch(&u);
	if (!rc)
		cache_update(&u);
	if (rc == -EILSEQ)
		ec_stripe_cache_drop(p->d->set->cache, p->d->key, p->shard, p->lba, p->nblocks);
	if (rc == -MYFS_E_BADSUM) {
		rotten_brick = u.tx->nak_brick;
		rotten_row = u.tx->legs[rotten_brick].row;
		rotten_n = u.tx->legs[rotten_brick].nrows;
	}
	if (rc) /* U2: an abort must be queued before the rows are free; legs still out are waited for */
		rpc_group_wait_all(&u.tx->group);
	if (rc)
		ec_tx_abort(u.tx);
	rowlock_release(&p->d->locks, &u.lock);
	ec_tx_end(u.tx);
	if (!rc && u.leans)
		rc = make_firm(p, &u.done);
	if (!rc && p->done)
		*p->done = u.done;
	return rc == -MYFS_E_BADSUM ? repair_leg(&u, rotten_brick, rotten_row, rotten_n) : rc;
}

/* While a brick is healing, regions differ in who takes part: one tx each. */
static int zero_by_region(const struct ec_part *p) YIELDS
{
	uint32_t region_blocks = geo_of(p->d)->region_rows * geo_of(p->d)->k;
	int rc = 0;

	if (p->done)
		*p->done = (struct ec_part_done){.rollbacks = p->d->rollbacks};
	for (uint32_t at = p->lba; at < p->lba + p->nblocks && !rc;) {
		struct ec_part one = *p;
		one.done = NULL;
		uint32_t left = region_blocks - at % region_blocks, all = p->lba + p->nblocks - at;
		one.lba = at;
		one.nblocks = left < all ? left : all;
		rc = ec_part_write(&one);
		at += one.nblocks;
	}
	return rc;
}

int ec_part_write(const struct ec_part *p) YIELDS
{
	uint64_t regions = ec_regions_of(geo_of(p->d), p->lba, p->nblocks);
	unsigned rotten = 0;

	for (;;) {
		if (p->kind == EC_PART_ZERO && p->d->healing && (regions & (regions - 1)))
			return zero_by_region(p);
		int rc = attempt(p);
		if (rc == -EILSEQ)
			continue;
		if (rc != -EAGAIN)
			return rc;
		if (loop_now_ns() >= p->deadline_ns)
			return -MYFS_E_QUORUM;
		if (++rotten > ROTTEN_MAX &&
		    ec_domain_may_write(p->d)) /* not for lack of bricks: something is wrong with the data */
			waitq_wait_until(&p->d->wq, loop_now_ns() + RETRY_NS);
		else
			fiber_yield();
	}
}
