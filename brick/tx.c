/* tx.c - transaction table, PREP, COMMIT, ABORT. See tx.h for the life of a transaction. */
#include "brick/tx.h"

#include <stdlib.h>

#include "brick/brick_priv.h"
#include "core/base/crc32c.h"

/* ---- table ---- */

static uint32_t tx_bucket(const struct domain *d, struct txid id)
{
	uint64_t h = ((uint64_t)(uintptr_t)d >> 6) * UINT64_C(0x9E3779B97F4A7C15) + id.n + id.epoch * 31;
	return (uint32_t)(h % TX_BUCKETS);
}

struct tx *tx_find(const struct brick *b, const struct domain *d, struct txid id)
{
	struct tx *t = b->tx_hash[tx_bucket(d, id)];
	while (t && (t->d != d || txid_cmp(t->id, id) != 0))
		t = t->hash_next;
	return t;
}

static void tx_link(struct brick *b, struct domain *d, struct tx *t)
{
	struct list *at = d->txs.prev; /* ids mostly grow */
	while (at != &d->txs && txid_cmp(list_entry(at, struct tx, node)->id, t->id) > 0)
		at = at->prev;
	list_insert_between(&t->node, at, at->next);
	struct tx **slot = &b->tx_hash[tx_bucket(d, t->id)];
	t->hash_next = *slot;
	*slot = t;
}

struct tx *tx_new(struct brick *b, struct domain *d, struct txid id, uint32_t ncrc)
{
	struct tx *t = b->tx_pool;
	if (t)
		b->tx_pool = t->hash_next;
	else
		t = malloc(sizeof(*t));
	if (!t)
		return NULL;
	*t = (struct tx){.d = d, .id = id, .state = TX_PREPARING};
	t->crc = t->crc_inline;
	if (ncrc > TX_INLINE_CRCS) { /* large requests only */
		t->crc = malloc(sizeof(uint32_t) * ncrc);
		if (!t->crc) {
			t->hash_next = b->tx_pool;
			b->tx_pool = t;
			return NULL;
		}
	}
	tx_link(b, d, t);
	d->n_txs++;
	d->n_undecided++;
	return t;
}

void tx_describe(struct tx *t, const struct rec_prep *p)
{
	t->shard = p->shard;
	t->kind = p->kind;
	t->tx_kind = p->tx_kind;
	t->row = p->row;
	t->nrows = p->nrows;
	t->coef = p->coef;
	t->lba = p->lba;
	t->nblocks = p->nblocks;
	t->participants = p->participants;
}

static void tx_drop_payload(struct brick *b, struct tx *t)
{
	b->prep_bytes -= t->payload.len;
	buf_unref(t->payload.owner);
	t->payload = (struct slice){0};
}

void tx_set_state(struct brick *b, struct tx *t, enum tx_state state)
{
	bool was_open = t->state == TX_PREPARING || t->state == TX_PREP;
	bool is_open = state == TX_PREPARING || state == TX_PREP;
	t->state = state;
	if (!was_open || is_open)
		return;
	t->d->n_undecided--;
	tx_drop_payload(b, t);
}

void tx_free(struct brick *b, struct tx *t)
{
	tx_set_state(b, t, TX_ABORTED);
	struct tx **slot = &b->tx_hash[tx_bucket(t->d, t->id)];
	while (*slot != t)
		slot = &(*slot)->hash_next;
	*slot = t->hash_next;
	list_del(&t->node);
	t->d->n_txs--;
	if (t->crc != t->crc_inline)
		free(t->crc);
	t->hash_next = b->tx_pool;
	b->tx_pool = t;
}

uint64_t tx_min_lsn(const struct domain *d, uint64_t from)
{
	uint64_t min = UINT64_MAX;
	list_for_each(t, &d->txs, struct tx, node)
		if (t->state != TX_PREPARING && !t->busy && t->prep_lsn >= from)
			min = min_u64(min, t->prep_lsn);
	return min;
}

int tx_drop_stable(struct brick *b, struct domain *d)
{
	list_for_each_safe(t, &d->txs, struct tx, node) {
		if (txid_cmp(t->id, d->floor) >= 0)
			break;
		if (t->state == TX_PREP || t->state == TX_PREPARING)
			return -EPROTO;
		if (!t->busy)
			tx_free(b, t);
	}
	return 0;
}

/* ---- applying ---- */

static bool row_in_base(const struct brick *b, const struct oshard *s, uint32_t row, uint64_t commit_lsn)
{
	uint32_t region = row / b->id.region_rows;
	if (!s->base_lsn || !s->base_lsn[region])
		return false;
	return commit_lsn <= s->base_lsn[region][row % b->id.region_rows];
}

int tx_apply(struct brick *b, struct tx *t)
{
	struct domain *d = t->d;
	struct oshard *s = oshard_find(&d->shards, t->shard, true);
	if (!s)
		return -ENOMEM;
	struct row_change c = {.kind = t->kind == BP_DELTA ? VER_DELTA
				       : t->kind == BP_ABS ? VER_ABS
							   : VER_ZERO,
			       .coef = (uint8_t)t->coef,
			       .tx = t->id,
			       .prep_lsn = t->prep_lsn,
			       .commit_lsn = t->commit_lsn};
	int rc = 0;
	for (uint32_t i = 0; i < t->nrows && rc == 0; i++) {
		if (row_in_base(b, s, t->row + i, t->commit_lsn))
			continue;
		if (c.kind != VER_ZERO) {
			c.data = t->payload.ptr + (size_t)i * MYFS_BLOCK;
			c.owner = t->payload.owner;
			c.crc = t->crc[i];
		}
		rc = overlay_apply(&b->overlay, s, t->row + i, &c, d->seal_lsn, d->floor);
	}
	return rc;
}

/* ---- PREP ---- */

/* Everything that can be said about a PREP without state. */
static int prep_validate(const struct brick *b, const struct bp_prep_args *a, const struct slice *payload)
{
	bool zero = a->kind == BP_ZERO;
	uint32_t max_rows = zero ? b->id.shard_rows : BP_MAX_ROWS_PAYLOAD;
	if (!zero && a->kind != BP_ABS && a->kind != BP_DELTA)
		return -EINVAL;
	if (!rows_valid(b, a->shard, a->row, a->nrows, max_rows))
		return -EINVAL;
	if (a->flags & ~(unsigned)(BP_PREP_WANT_DELTA | BP_PREP_DURABLE | BP_PREP_OLD_CRC))
		return -EINVAL;
	if ((a->flags & (BP_PREP_WANT_DELTA | BP_PREP_OLD_CRC)) && a->kind != BP_ABS)
		return -EINVAL;
	if (a->coef > 255 || (a->kind == BP_DELTA && a->coef == 0) || !a->tx.n)
		return -EINVAL;
	if (a->tx_kind < BP_TX_DELTA || a->tx_kind > BP_TX_FULL)
		return -EINVAL;
	if (a->crc.crc_len != (zero ? 0 : a->nrows) || payload->len != (zero ? 0 : (size_t)a->nrows * MYFS_BLOCK))
		return -EINVAL;
	if (a->old_crc.old_crc_len != (a->flags & BP_PREP_OLD_CRC ? a->nrows : 0))
		return -EINVAL;
	for (uint32_t i = 0; i < a->crc.crc_len; i++)
		if (crc32c(payload->ptr + (size_t)i * MYFS_BLOCK, MYFS_BLOCK) != a->crc.crc_val[i])
			return -EBADMSG; /* damaged on the way: never stored */
	return 0;
}

static int prep_authorised(struct session *s, const struct bp_prep_args *a, struct domain **ret)
{
	struct domain *d;
	int rc = session_domain(s, a->domain, &d);
	if (rc < 0)
		return rc;
	if (!d->has_view)
		return -MYFS_E_UNSEEDED;
	if (d->view.epoch != d->promise_epoch || d->view.ver != a->view_version)
		return -MYFS_E_VIEW;
	if (a->tx.epoch != d->promise_epoch)
		return -EINVAL;
	*ret = d;
	return 0;
}

/* Small slices of a large receive buffer are copied so that they do not pin it. */
static int prep_keep_payload(struct brick *b, struct tx *t, const struct slice *payload)
{
	if (!payload->len)
		return 0;
	if (payload->owner && payload->len * 5 >= payload->owner->size) {
		t->payload = *payload;
		buf_ref(payload->owner);
	} else {
		struct buf *own = buf_alloc(payload->len);
		if (!own)
			return -ENOMEM;
		memcpy(own->data, payload->ptr, payload->len);
		t->payload = (struct slice){.owner = own, .ptr = own->data, .len = payload->len};
	}
	b->prep_bytes += payload->len;
	return 0;
}

static bool prep_same(const struct tx *t, const struct bp_prep_args *a)
{
	if (t->shard != a->shard || t->kind != a->kind || t->row != a->row || t->nrows != a->nrows ||
	    t->coef != a->coef)
		return false;
	for (uint32_t i = 0; i < a->crc.crc_len; i++)
		if (t->crc[i] != a->crc.crc_val[i])
			return false;
	return true;
}

static int prep_admit(struct brick *b, struct domain *d, const struct bp_prep_args *a, const struct slice *payload,
		      struct tx **ret)
{
	struct txid id = {.epoch = a->tx.epoch, .n = a->tx.n};
	if (txid_cmp(id, d->floor) < 0)
		return -EINVAL; /* everything below the floor is decided */
	if (d->n_txs >= BP_MAX_TX)
		return -EBUSY;
	struct tx *t = tx_new(b, d, id, a->crc.crc_len);
	if (!t)
		return -ENOMEM;
	struct rec_prep what = {.shard = a->shard, .kind = a->kind, .tx_kind = a->tx_kind, .row = a->row, .nrows = a->nrows,
				.coef = a->coef, .lba = a->lba, .nblocks = a->nblocks, .participants = a->participants};
	tx_describe(t, &what);
	if (a->crc.crc_len)
		memcpy(t->crc, a->crc.crc_val, sizeof(uint32_t) * a->crc.crc_len);
	int rc = prep_keep_payload(b, t, payload);
	if (rc < 0) {
		tx_free(b, t);
		return rc;
	}
	t->busy = true; /* X3 */
	*ret = t;
	return 0;
}

static int prep_old_crc(struct brick *b, struct domain *d, const struct bp_prep_args *a) YIELDS
{
	uint32_t have[BP_MAX_ROWS_PAYLOAD];
	int rc = rows_crc(b, d, a->shard, a->row, a->nrows, have);
	if (rc < 0)
		return rc;
	return memcmp(have, a->old_crc.old_crc_val, sizeof(uint32_t) * a->nrows) == 0 ? 0 : -EILSEQ;
}

static void xor_into(uint8_t *dst, const uint8_t *src, size_t len)
{
	for (size_t i = 0; i < len; i += 8) {
		uint64_t x, y;
		memcpy(&x, dst + i, 8);
		memcpy(&y, src + i, 8);
		x ^= y;
		memcpy(dst + i, &x, 8);
	}
}

/* old ^ new, old checked against its stored checksum (H19). */
static int prep_delta(struct brick *b, struct domain *d, const struct bp_prep_args *a, const struct slice *payload,
		      struct slice *ret) YIELDS
{
	uint32_t crc[BP_MAX_ROWS_PAYLOAD];
	struct buf *old = buf_alloc(payload->len);
	if (!old)
		return -ENOMEM;
	bool zero;
	int rc = rows_read(b, d, a->shard, a->row, a->nrows, old->data, crc, !MUTATED(H19), &zero);
	if (rc < 0) {
		buf_unref(old);
		return rc;
	}
	if (zero)
		memcpy(old->data, payload->ptr, payload->len);
	else
		xor_into(old->data, payload->ptr, payload->len);
	*ret = (struct slice){.owner = old, .ptr = old->data, .len = payload->len};
	return 0;
}

/* What may suspend: disk room, journal room, looking at the old value. */
static int prep_conditions(struct brick *b, struct domain *d, const struct bp_prep_args *a, const struct slice *payload,
			   struct slice *ret_delta) YIELDS
{
	int rc = a->kind == BP_ZERO ? 0 : space_check(b, d, a->shard, a->nrows);
	if (rc == 0)
		rc = room_wait(b, RECORD_PREP_BODY(a->crc.crc_len), (uint32_t)payload->len);
	if (rc == 0 && (a->flags & BP_PREP_OLD_CRC))
		rc = prep_old_crc(b, d, a);
	if (rc == 0 && (a->flags & BP_PREP_WANT_DELTA))
		rc = prep_delta(b, d, a, payload, ret_delta);
	return rc;
}

/* The record, and with it the missed regions; from here on the transaction is held. */
static int prep_log(struct brick *b, struct tx *t, const struct bp_prep_args *a)
{
	int rc = log_prep(b, t, a->view_version, a->missed, &t->prep_lsn);
	if (rc < 0)
		return rc;
	uint64_t regions = a->missed ? regions_of_rows(b, a->row, a->nrows) : 0;
	for (uint32_t i = 0; i < b->id.n && rc >= 0; i++)
		if (a->missed >> i & 1u)
			rc = missed_add(&t->d->missed, a->shard, i, regions);
	if (rc < 0) {
		brick_fail(b, "no memory for missed regions");
		return -EIO;
	}
	t->busy = false;
	tx_set_state(b, t, TX_PREP);
	b->count.preps++;
	return 0;
}

static int prep_wait(struct brick *b, uint64_t end, uint32_t flags) YIELDS
{
	return flags & BP_PREP_DURABLE ? journal_sync(b->journal, end) : journal_wait_written(b->journal, end);
}

/* The same PREP again (a gateway that repeats after a doubt): answer as the first time. */
static int prep_again(struct brick *b, struct tx *t, const struct bp_prep_args *a, const struct slice *payload,
		      struct slice *ret_delta) YIELDS
{
	if (!prep_same(t, a))
		return -EINVAL;
	if (t->state == TX_ABORTED)
		return -ECANCELED;
	if (t->busy)
		return -EALREADY;
	if (t->state == TX_PREP && (a->flags & BP_PREP_WANT_DELTA)) {
		int rc = prep_delta(b, t->d, a, payload, ret_delta);
		if (rc < 0)
			return rc;
	}
	return prep_wait(b, journal_end(b->journal), a->flags);
}

static int prep_new(struct brick *b, struct session *s, struct tx *t, const struct bp_prep_args *a,
		    const struct slice *payload, struct slice *ret_delta) YIELDS
{
	struct domain *d = t->d, *again;
	int rc = prep_conditions(b, d, a, payload, ret_delta);
	if (rc == 0)
		rc = d->dropped ? -MYFS_E_UNSEEDED : prep_authorised(s, a, &again);
	if (rc == 0 && t->state == TX_ABORTED)
		rc = -ECANCELED;
	if (rc == 0)
		rc = prep_log(b, t, a);
	if (rc < 0) {
		t->busy = false;
		tx_free(b, t);
		return rc;
	}
	return prep_wait(b, journal_end(b->journal), a->flags);
}

int tx_prepare(struct brick *b, struct session *s, const struct bp_prep_args *a, const struct slice *payload,
	       struct slice *ret_delta) YIELDS
{
	struct domain *d;
	struct slice delta = {0};
	int rc = prep_validate(b, a, payload);
	if (rc == 0)
		rc = prep_authorised(s, a, &d);
	if (rc < 0)
		return rc;
	domain_ref(d);
	struct tx *t = tx_find(b, d, (struct txid){.epoch = a->tx.epoch, .n = a->tx.n});
	if (t) {
		rc = prep_again(b, t, a, payload, &delta);
	} else {
		rc = prep_admit(b, d, a, payload, &t);
		if (rc == 0)
			rc = prep_new(b, s, t, a, payload, &delta);
	}
	domain_unref(d);
	if (rc < 0)
		buf_unref(delta.owner);
	else
		*ret_delta = delta;
	return rc;
}

/* ---- COMMIT, ABORT ---- */

#define DECIDE_BATCH 512u

/* One record for up to DECIDE_BATCH transactions, then their effect. */
static int decide_batch(struct brick *b, struct domain *d, struct tx **txs, uint32_t n, enum record_type what)
{
	uint64_t lsn;
	int rc = log_decision(b, &d->gfid, what, txs, n, &lsn);
	for (uint32_t i = 0; i < n && rc == 0; i++) {
		struct tx *t = txs[i];
		if (what == REC_COMMIT) {
			t->commit_lsn = lsn;
			rc = tx_apply(b, t);
			b->count.commits++;
		}
		tx_set_state(b, t, what == REC_COMMIT ? TX_COMMITTED : TX_ABORTED);
		t->undone = what == REC_UNDO;
	}
	if (rc < 0 && !b->failed[0])
		brick_fail(b, "a decision could not be recorded"); /* nothing may fail after PREP (H17) */
	return rc;
}

/* Walks ids through get(arg, i) and decides the prepared ones. */
static int decide_list(struct brick *b, struct domain *d, const bp_tx *ids, uint32_t count, bool commit)
{
	struct tx *txs[DECIDE_BATCH];
	uint32_t n = 0;
	int rc = 0;
	for (uint32_t i = 0; i < count && rc == 0; i++) {
		struct tx *t = tx_find(b, d, (struct txid){.epoch = ids[i].epoch, .n = ids[i].n});
		if (t && t->state == TX_PREPARING && commit)
			return -EPROTO; /* committed before we acknowledged */
		if (t && t->state == TX_PREPARING)
			tx_set_state(b, t, TX_ABORTED); /* its handler answers and frees it */
		else if (t && t->state == TX_PREP)
			txs[n++] = t;
		if (n == DECIDE_BATCH) {
			rc = decide_batch(b, d, txs, n, commit ? REC_COMMIT : REC_ABORT);
			n = 0;
		}
	}
	return rc == 0 && n ? decide_batch(b, d, txs, n, commit ? REC_COMMIT : REC_ABORT) : rc;
}

int tx_decide(struct brick *b, struct session *s, const struct bp_decide_args *a, bool commit)
{
	struct domain *d;
	int rc = session_domain(s, a->domain, &d);
	if (rc == 0)
		rc = decide_list(b, d, a->txs.txs_val, a->txs.txs_len, commit);
	if (rc == 0 && b->ckpt_idle && b->overlay.versions)
		checkpoint_kick(b); /* starts its clock */
	return rc;
}

/* ---- RESOLVE ---- */

static bool resolve_takes_back(const struct brick *b, const struct domain *d, const struct bp_resolve_args *a)
{
	for (uint32_t i = 0; i < a->items.items_len; i++) {
		const struct bp_decision *dec = &a->items.items_val[i];
		const struct tx *t = tx_find(b, d, (struct txid){.epoch = dec->tx.epoch, .n = dec->tx.n});
		if (t && !dec->commit && t->state == TX_COMMITTED)
			return true;
	}
	return false;
}

/* Decisions in the order given; equal ones in a row share a record. */
static int resolve_apply(struct brick *b, struct domain *d, const struct bp_resolve_args *a, bool take_back)
{
	struct tx *txs[DECIDE_BATCH];
	uint32_t n = 0;
	bool kind = false;
	int rc = 0;
	for (uint32_t i = 0; i < a->items.items_len && rc == 0; i++) {
		const struct bp_decision *dec = &a->items.items_val[i];
		struct tx *t = tx_find(b, d, (struct txid){.epoch = dec->tx.epoch, .n = dec->tx.n});
		bool undo = t && take_back && !dec->commit && t->state == TX_COMMITTED;
		if (!t || t->busy || (t->state != TX_PREP && !undo))
			continue;
		if (n && (n == DECIDE_BATCH || kind != (bool)dec->commit)) {
			rc = decide_batch(b, d, txs, n, kind ? REC_COMMIT : REC_UNDO);
			n = 0;
		}
		kind = dec->commit;
		txs[n++] = t;
	}
	return rc == 0 && n ? decide_batch(b, d, txs, n, kind ? REC_COMMIT : REC_UNDO) : rc;
}

int tx_resolve(struct brick *b, struct session *s, const struct bp_resolve_args *a) YIELDS
{
	struct domain *d, *again;
	int rc = session_domain(s, a->domain, &d);
	if (rc < 0)
		return rc;
	domain_ref(d);
	bool take_back = resolve_takes_back(b, d, a);
	if (take_back) {
		fmutex_lock(&b->ckpt_lock);
		rc = session_domain(s, a->domain, &again);
	}
	if (rc == 0)
		rc = resolve_apply(b, d, a, take_back);
	if (rc == 0 && take_back)
		rc = recover_domain(b, d); /* rollback resolution: the overlay without what was taken back */
	if (take_back)
		fmutex_unlock(&b->ckpt_lock);
	domain_unref(d);
	return rc < 0 ? rc : journal_sync(b->journal, journal_end(b->journal));
}

/* ---- SYNC, STABLE ---- */

int tx_sync(struct brick *b, struct session *s, const struct bp_floor_args *a) YIELDS
{
	int rc = 0;
	for (uint32_t i = 0; i < a->items.items_len && rc == 0; i++) {
		struct domain *d;
		rc = session_domain(s, a->items.items_val[i].domain, &d);
		if (rc == 0)
			d->seal_lsn = journal_end(b->journal);
	}
	if (rc < 0)
		return rc;
	b->count.syncs++;
	return journal_sync(b->journal, journal_end(b->journal));
}

/* FOLDs name the floor too, but a checkpoint may be far away: after a restart no more than BP_MAX_DIGESTS may be above it. */
#define FLOOR_STEP (BP_MAX_DIGESTS / 8)

static int note_floor(struct brick *b, struct domain *d)
{
	if (d->floor.epoch == d->logged_floor.epoch && d->floor.n - d->logged_floor.n < FLOOR_STEP)
		return 0;
	int rc = log_floor(b, d);
	if (rc == 0)
		d->logged_floor = d->floor;
	return rc;
}

int tx_stable(struct brick *b, struct session *s, const struct bp_floor_args *a)
{
	int rc = 0;
	for (uint32_t i = 0; i < a->items.items_len && rc == 0; i++) {
		const struct bp_floor *f = &a->items.items_val[i];
		struct domain *d;
		rc = session_domain(s, f->domain, &d);
		if (rc < 0)
			break;
		if (f->floor.epoch > d->promise_epoch)
			return -EPROTO;
		domain_raise_floor(d, (struct txid){.epoch = f->floor.epoch, .n = f->floor.n});
		rc = note_floor(b, d);
		if (rc == 0)
			rc = tx_drop_stable(b, d);
	}
	checkpoint_kick(b);
	return rc;
}

/* ---- REJOIN ---- */

/* Regions of everything that is about to be forgotten. */
static int rejoin_regions(struct brick *b, struct domain *d)
{
	int rc = 0;
	list_for_each(t, &d->txs, struct tx, node)
		if (rc >= 0 && (t->state == TX_PREP || (t->state == TX_COMMITTED && txid_cmp(t->id, d->floor) >= 0)))
			rc = missed_add(&d->missed, t->shard, b->id.brick_index, regions_of_rows(b, t->row, t->nrows));
	list_for_each(s, &d->shards.list, struct oshard, node)
		for (uint32_t r = overlay_next_row(&b->overlay, s, 0); r != UINT32_MAX && rc >= 0;
		     r = overlay_next_row(&b->overlay, s, r + 1))
			rc = missed_add(&d->missed, s->shard, b->id.brick_index, regions_of_rows(b, r, 1));
	return rc < 0 ? rc : 0;
}

#define REJOIN_BATCH 1024u

/* Own missed regions are remembered here too, so that a second REJOIN after a crash of the gateway reports them again.
 */
static int rejoin_log(struct brick *b, struct domain *d)
{
	struct rec_missed *own = malloc(REJOIN_BATCH * sizeof(*own));
	int rc = own ? 0 : -ENOMEM;
	uint32_t n = 0;

	for (size_t i = 0; i < d->missed.n && rc == 0; i++) {
		if (d->missed.v[i].brick != b->id.brick_index)
			continue;
		own[n++] = d->missed.v[i];
		if (n < REJOIN_BATCH)
			continue;
		rc = log_missed(b, &d->gfid, own, n, NULL);
		n = 0;
	}
	if (rc == 0)
		rc = log_missed(b, &d->gfid, own, n, NULL);
	free(own);
	return rc < 0 ? rc : log_discard(b, &d->gfid, d->floor, NULL);
}

static int rejoin_checkpoint(struct brick *b, struct domain *d) YIELDS
{
	int n;
	do
		n = checkpoint_round(b, d);
	while (n > 0 && !d->dropped);
	return n;
}

int tx_rejoin(struct brick *b, struct session *s, const struct bp_rejoin_args *a, struct bp_missed_res *ret) YIELDS
{
	struct domain *d, *again;
	int rc = session_domain(s, a->domain, &d);
	if (rc < 0)
		return rc;
	if (domain_is_insync(b, d))
		return -EINVAL; /* never throws away what others count on */
	domain_ref(d);
	domain_raise_floor(d, (struct txid){.epoch = a->floor.epoch, .n = a->floor.n});
	fmutex_lock(&b->ckpt_lock);
	rc = rejoin_checkpoint(b, d);
	if (rc == -ENOSPC)
		rc = 0; /* what cannot be written is reported as missed */
	if (rc == 0)
		rc = session_domain(s, a->domain, &again);
	if (rc == 0)
		rc = rejoin_regions(b, d);
	if (rc == 0)
		rc = rejoin_log(b, d);
	if (rc == 0)
		domain_forget_writes(b, d);
	fmutex_unlock(&b->ckpt_lock);
	if (rc == 0)
		rc = journal_sync(b->journal, journal_end(b->journal));
	if (rc == 0)
		rc = missed_page(d, &(struct missed_from){.only = b->id.brick_index}, ret);
	domain_unref(d);
	return rc;
}
