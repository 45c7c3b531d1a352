/* log.c - one function per journal record kind: encode, append. Callers have changed or are about to change RAM to
 * match. */
#include "brick/brick_priv.h"

static int log_append(struct brick *b, enum record_type type, const struct wcur *c, const struct slice *payload,
		      uint64_t *ret_lsn, uint64_t *ret_end)
{
	assert(!c->bad && c->left == 0);
	uint64_t lsn;
	int rc = journal_append(b->journal, type, (uint32_t)c->used, payload, &lsn);
	if (rc < 0)
		return rc;
	if (ret_lsn)
		*ret_lsn = lsn;
	if (ret_end)
		*ret_end = journal_end(b->journal);
	return 0;
}

/* A cursor over a body buffer of exactly len bytes; bad when the journal cannot take one. */
static int log_begin(struct brick *b, uint32_t len, struct wcur *ret)
{
	if (len > RECORD_BODY_MAX)
		return -E2BIG;
	uint8_t *body = journal_body(b->journal, len);
	if (!body)
		return -EIO;
	*ret = wcur_of(body, len);
	return 0;
}

int log_promise(struct brick *b, const struct gfid *domain, uint64_t epoch, const struct gfid *owner, uint64_t *ret_end)
{
	struct wcur c;
	int rc = log_begin(b, 40, &c);
	if (rc < 0)
		return rc;
	record_put_promise(&c, domain, epoch, owner);
	return log_append(b, REC_PROMISE, &c, NULL, NULL, ret_end);
}

int log_view(struct brick *b, const struct gfid *domain, const struct rec_view_head *v, const struct bp_missed *m,
	     uint32_t n, uint64_t *ret_end)
{
	struct wcur c;
	int rc = log_begin(b, RECORD_VIEW_BODY(v->nboot, n), &c);
	if (rc < 0)
		return rc;
	record_put_view(&c, domain, v, n);
	for (uint32_t i = 0; i < n; i++) {
		struct rec_missed e = {.shard = m[i].shard, .brick = m[i].brick, .regions = m[i].regions};
		record_put_missed(&c, &e);
	}
	return log_append(b, REC_VIEW, &c, NULL, NULL, ret_end);
}

/* A FOLD of no rows. */
int log_floor(struct brick *b, const struct domain *d)
{
	struct wcur c;
	int rc = log_begin(b, RECORD_FOLD_BODY(0), &c);
	if (rc < 0)
		return rc;
	record_put_fold(&c, &d->gfid, 0, d->floor, b->round, 0);
	return log_append(b, REC_FOLD, &c, NULL, NULL, NULL);
}

int log_missed(struct brick *b, const struct gfid *domain, const struct rec_missed *m, uint32_t n, uint64_t *ret_end)
{
	const uint32_t per_record = 32768;
	for (uint32_t done = 0; done < n;) {
		uint32_t part = n - done < per_record ? n - done : per_record;
		struct wcur c;
		int rc = log_begin(b, RECORD_LIST_BODY(part), &c);
		if (rc < 0)
			return rc;
		record_put_list_head(&c, domain, part);
		for (uint32_t i = 0; i < part; i++)
			record_put_missed(&c, &m[done + i]);
		rc = log_append(b, REC_MISS, &c, NULL, NULL, ret_end);
		if (rc < 0)
			return rc;
		done += part;
	}
	return 0;
}

int log_clear(struct brick *b, const struct gfid *domain, uint32_t brick_index, uint64_t *ret_end)
{
	struct wcur c;
	int rc = log_begin(b, 20, &c);
	if (rc < 0)
		return rc;
	record_put_clear(&c, domain, brick_index);
	return log_append(b, REC_CLEAR, &c, NULL, NULL, ret_end);
}

int log_discard(struct brick *b, const struct gfid *domain, struct txid floor, uint64_t *ret_end)
{
	struct wcur c;
	int rc = log_begin(b, 32, &c);
	if (rc < 0)
		return rc;
	record_put_discard(&c, domain, floor);
	return log_append(b, REC_DISCARD, &c, NULL, NULL, ret_end);
}

int log_drop(struct brick *b, const struct gfid *domain, uint64_t *ret_end)
{
	struct wcur c;
	int rc = log_begin(b, 16, &c);
	if (rc < 0)
		return rc;
	record_put_drop(&c, domain);
	return log_append(b, REC_DROP, &c, NULL, NULL, ret_end);
}

int log_heal(struct brick *b, const struct gfid *domain, uint32_t shard, uint32_t row, uint32_t nrows,
	     uint64_t *ret_end)
{
	struct wcur c;
	int rc = log_begin(b, 28, &c);
	if (rc < 0)
		return rc;
	record_put_heal(&c, domain, shard, row, nrows);
	return log_append(b, REC_HEAL, &c, NULL, NULL, ret_end);
}

int log_done(struct brick *b, uint64_t round, uint64_t *ret_end)
{
	struct wcur c;
	int rc = log_begin(b, 8, &c);
	if (rc < 0)
		return rc;
	record_put_done(&c, round);
	return log_append(b, REC_DONE, &c, NULL, NULL, ret_end);
}

int log_decision(struct brick *b, const struct gfid *domain, enum record_type what, struct tx *const *txs, uint32_t n,
		 uint64_t *ret_lsn)
{
	struct wcur c;
	int rc = log_begin(b, RECORD_LIST_BODY(n), &c);
	if (rc < 0)
		return rc;
	record_put_list_head(&c, domain, n);
	for (uint32_t i = 0; i < n; i++)
		record_put_tx(&c, txs[i]->id);
	return log_append(b, what, &c, NULL, ret_lsn, NULL);
}

int log_prep(struct brick *b, const struct tx *t, uint64_t view_ver, uint32_t missed, uint64_t *ret_lsn)
{
	if (b->opt.unjournaled) {
		*ret_lsn = journal_end(b->journal);
		return 0;
	}
	struct rec_prep p = {.domain = t->d->gfid,
			     .tx = t->id,
			     .view_ver = view_ver,
			     .shard = t->shard,
			     .kind = t->kind,
			     .tx_kind = t->tx_kind,
			     .row = t->row,
			     .nrows = t->nrows,
			     .coef = t->coef,
			     .lba = t->lba,
			     .nblocks = t->nblocks,
			     .participants = t->participants,
			     .missed = missed,
			     .ncrc = t->kind == BP_ZERO ? 0 : t->nrows};
	struct wcur c;
	int rc = log_begin(b, RECORD_PREP_BODY(p.ncrc), &c);
	if (rc < 0)
		return rc;
	record_put_prep(&c, &p, t->crc);
	return log_append(b, REC_PREP, &c, p.ncrc ? &t->payload : NULL, ret_lsn, NULL);
}
