/* repair.c - a block whose bytes and checksum disagree is rebuilt from the others and written again, as a transaction.
 *
 * Noted by readers (they have answered from a cut already), done by one background fiber per domain; or done at once by
 * a writer whose data brick refused to compute a delta from it. Parity that a loss of power tore has no reader: its
 * brick names the regions at the next takeover, and they are looked through.
 *
 * R1 under the X lock the block is read once more: only what is still wrong is rewritten. R2 everything is flushed
 * first, so the value is derived from stable state and no rollback can undo what it was computed from (H10, H19). R3
 * bytes in hand are the decode of K verified blocks, never the rotten one. R4 the transaction is admitted before the row is
 * locked, as writers do (tx.c): who waits for a place holds no lock that those who have one wait for. */
#include "core/base/crc32c.h"
#include "ec/ec_priv.h"

/* Is the block bad as its brick presents it now? */
static int block_check(struct ec_domain *d, uint32_t b, uint32_t shard, uint32_t row) YIELDS
{
	struct ec_reads *r = ec_reads_get(d->set, true);

	if (!r)
		return -ENOMEM;
	ec_read_start(d, r, b, shard, row, 1);
	rpc_group_wait_all(&r->group);
	int rc = ec_read_verify(&r->legs[b]);
	ec_reads_put(d->set, r);
	return rc;
}

static int rewrite(struct ec_domain *d, struct ec_tx *tx, uint32_t b, uint32_t shard, uint32_t row, uint32_t chunk,
		   uint32_t avoid, uint64_t deadline_ns) YIELDS
{
	const struct ec_geometry *g = geo_of(d);
	uint8_t *dst[EC_MAX_BRICKS] = {0};
	bool parity = chunk >= g->k;

	dst[chunk] = ec_tx_memory(tx, MYFS_BLOCK);
	if (!dst[chunk])
		return -ENOMEM;
	int rc = ec_cut_read(d, shard, row, 1, MASK(chunk), avoid, dst); /* R3 */
	if (!rc && !mask_has(ec_insync_live(d), b))
		rc = -EAGAIN; /* it went meanwhile: healing will bring the block */
	if (!rc) /* it depends on every other chunk of the row; a parity block covers no block of the address space */
		rc = ec_tx_begin(tx, shard, ec_lba_of(g, row, parity ? 0 : chunk), parity ? 0 : 1, BP_TX_RCW, MASK(b),
				 UINT64_C(1) << row / g->region_rows);
	if (rc)
		return rc;
	struct ec_leg *leg = ec_tx_leg(tx, b, BP_ABS, row, 1);
	leg->flags = BP_PREP_DURABLE;
	leg->crc[0] = crc32c(dst[chunk], MYFS_BLOCK);
	ec_leg_add(leg, dst[chunk], MYFS_BLOCK);
	ec_tx_send(tx, leg, NULL);
	rc = ec_tx_settle(tx, UINT32_MAX, deadline_ns);
	if (rc)
		return rc;
	if (!mask_has(tx->acked, b))
		return -EAGAIN; /* it was dropped: healing brings the block */
	ec_tx_commit(tx, !ec_tx_leans(tx));
	return 0;
}

int ec_repair_admit(struct ec_domain *d, uint64_t deadline_ns, struct ec_tx **ret) YIELDS
{
	return ec_tx_admit(d, &(struct ec_tx_need){.bytes_per_brick = MYFS_BLOCK, .internal = true}, deadline_ns, ret);
}

int ec_repair_rewrite(struct ec_tx *tx, uint32_t shard, uint32_t row, uint32_t chunk, uint32_t avoid,
		      uint64_t deadline_ns) YIELDS
{
	struct ec_domain *d = tx->d;
	const struct ec_geometry *g = geo_of(d);
	uint32_t b = ec_brick_of(g, ec_rotation_start(g, &d->gfid, shard), row / g->region_rows, chunk);
	int rc = ec_domain_sync(d, deadline_ns); /* R2 */

	if (!rc)
		rc = rewrite(d, tx, b, shard, row, chunk, avoid, deadline_ns);
	if (!rc) {
		d->count.repaired_blocks++;
		d->set->bricks[b].repaired_blocks++;
	}
	return rc;
}

static int repair_locked(struct ec_tx *tx, uint32_t b, uint32_t shard, uint32_t row, uint32_t chunk,
			 uint64_t deadline_ns) YIELDS
{
	struct ec_domain *d = tx->d;
	int rc = mask_has(ec_insync_live(d), b) ? block_check(d, b, shard, row) : 0; /* R1 */

	if (rc != -MYFS_E_BADSUM && rc != -EIO)
		return rc == -MYFS_E_GONE ? 0 : rc;
	return ec_repair_rewrite(tx, shard, row, chunk, MASK(chunk), deadline_ns);
}

static int repair_once(struct ec_domain *d, uint32_t shard, uint32_t row, uint32_t chunk, uint64_t deadline_ns) YIELDS
{
	const struct ec_geometry *g = geo_of(d);
	struct rowlock lock = {.mode = ROWLOCK_X, .shard = shard, .row = row, .nrows = 1};
	uint32_t b = ec_brick_of(g, ec_rotation_start(g, &d->gfid, shard), row / g->region_rows, chunk);
	struct ec_tx *tx;
	int rc = ec_repair_admit(d, deadline_ns, &tx); /* R4. The replay may be waiting for us: internal */

	if (rc)
		return rc;
	rc = rowlock_acquire_until(&d->locks, &lock, deadline_ns);
	rc = rc ? -MYFS_E_QUORUM : repair_locked(tx, b, shard, row, chunk, deadline_ns);
	ec_tx_end(tx); /* an abort is queued before the row is free */
	rowlock_release(&d->locks, &lock);
	return rc;
}

int ec_repair_block(struct ec_domain *d, uint32_t shard, uint32_t row, uint32_t chunk) YIELDS
{
	uint64_t deadline_ns = ec_deadline(d);

	for (;;) {
		int rc = repair_once(d, shard, row, chunk, deadline_ns);
		if (rc != -EAGAIN)
			return rc;
		if (loop_now_ns() >= deadline_ns)
			return -MYFS_E_QUORUM;
		fiber_yield();
	}
}

static void repair_run(void *arg)
{
	struct ec_domain *d = arg;

	while (d->repairs_n && d->state != EC_CLOSING && d->state != EC_DEPOSED) {
		struct ec_repair_item it = d->repairs[0];
		for (uint32_t i = 0; i < it.nrows; i++)
			if (ec_repair_block(d, it.shard, it.row + i, it.chunk))
				break; /* it will be found again by the next reader */
		d->repairs_n--;
		memmove(d->repairs, d->repairs + 1, d->repairs_n * sizeof(it));
	}
	d->repair_runs = false;
	ec_domain_leave(d);
}

void ec_repair_note(struct ec_domain *d, uint32_t shard, uint32_t row, uint32_t nrows, uint32_t chunk)
{
	struct ec_repair_item it = {.shard = shard, .row = row, .nrows = nrows, .chunk = chunk};

	for (unsigned i = 0; i < d->repairs_n; i++)
		if (memcmp(&d->repairs[i], &it, sizeof(it)) == 0)
			return;
	if (d->repairs_n == EC_REPAIR_QUEUE)
		return;
	d->repairs[d->repairs_n++] = it;
	if (d->repair_runs || ec_domain_enter(d))
		return;
	d->repair_runs = true;
	if (fiber_spawn(loop_self(), "ec repair", repair_run, d)) {
		d->repair_runs = false;
		ec_domain_leave(d);
	}
}

/* ---- torn by a loss of power ---- */

/* Rows of one region on brick b. The read takes no locks: what is bad is looked at again before it is rewritten (R1). */
static void look_region(struct ec_domain *d, uint32_t b, uint32_t shard, uint32_t region) YIELDS
{
	const struct ec_geometry *g = geo_of(d);
	uint32_t row = region * g->region_rows;
	uint32_t chunk = ec_chunk_of(g, ec_rotation_start(g, &d->gfid, shard), region, b);
	struct ec_reads *r = ec_reads_get(d->set, true);
	uint64_t bad[BP_MAX_ROWS_PAYLOAD / 64] = {0};

	if (!r)
		return;
	ec_read_start(d, r, b, shard, row, g->region_rows);
	rpc_group_wait_all(&r->group);
	const struct ec_read_leg *leg = &r->legs[b];
	if (ec_read_verify(leg) == -MYFS_E_BADSUM)
		for (uint32_t i = 0; i < g->region_rows; i++)
			if (crc32c(leg->call.payload_in.ptr + (size_t)i * MYFS_BLOCK, MYFS_BLOCK) != leg->crc[i])
				bad[i / 64] |= UINT64_C(1) << (i % 64);
	ec_reads_put(d->set, r);
	for (uint32_t i = 0; i < g->region_rows; i++)
		if ((bad[i / 64] >> (i % 64)) & 1)
			ec_repair_block(d, shard, row + i, chunk);
}

/* One pair after the other; a takeover brings a list of its own. */
static void doubtful_run(void *arg)
{
	struct ec_domain *d = arg;
	uint64_t epoch = d->epoch;

	while (d->state == EC_SERVING && d->epoch == epoch) {
		uint32_t cursor = 0;
		const struct ec_missed_slot *s = ec_missed_next(&d->doubtful, &cursor);
		if (!s)
			break;
		uint32_t b = s->brick, shard = s->shard, region = (uint32_t)__builtin_ctzll(s->regions);
		ec_missed_clear(&d->doubtful, shard, b, UINT64_C(1) << region);
		if (mask_has(ec_insync_live(d), b)) /* else healing brings the region */
			look_region(d, b, shard, region);
	}
	ec_domain_leave(d);
}

void ec_repair_doubtful(struct ec_domain *d)
{
	if (d->opt.namespace_domain || !ec_missed_pairs(&d->doubtful) || ec_domain_enter(d))
		return;
	if (fiber_spawn(loop_self(), "ec doubtful", doubtful_run, d))
		ec_domain_leave(d);
}
