/* record.c - journal record codec. See record.h for the layout.
 *
 * Everything read from disk passes through record_parse: counts and lengths that come out of it have been checked
 * against each other, so later code only asserts. */
#include "brick/record.h"

#include "core/base/crc32c.h"

static void put_gfid(struct wcur *c, const struct gfid *g)
{
	wcur_copy(c, g->b, sizeof(g->b));
}

static struct gfid get_gfid(struct rcur *c)
{
	struct gfid g = {{0}};
	rcur_copy(c, g.b, sizeof(g.b));
	return g;
}

static struct txid get_tx(struct rcur *c)
{
	struct txid t;
	t.epoch = rcur_le64(c);
	t.n = rcur_le64(c);
	return t;
}

uint32_t record_seal(uint8_t *head, enum record_type type, uint32_t body_len, uint32_t payload_len, uint64_t lsn,
		     uint32_t prev, uint64_t salt)
{
	struct wcur c = wcur_of(head, RECORD_HEADER_BYTES);
	wcur_le32(&c, RECORD_MAGIC);
	wcur_le32(&c, (uint32_t)type); /* type and a zero flag word */
	wcur_le32(&c, body_len);
	wcur_le32(&c, payload_len);
	wcur_le64(&c, lsn);
	wcur_le32(&c, prev);
	wcur_le32(&c, 0);
	wcur_le64(&c, salt);
	wcur_zeros(&c, RECORD_HEADER_BYTES - c.used);
	assert(!c.bad);
	uint32_t crc = crc32c(head, RECORD_HEADER_BYTES + body_len);
	struct wcur at = wcur_of(head + 28, 4);
	wcur_le32(&at, crc);
	return crc;
}

void record_put_tx(struct wcur *c, struct txid tx)
{
	wcur_le64(c, tx.epoch);
	wcur_le64(c, tx.n);
}

void record_put_prep(struct wcur *c, const struct rec_prep *p, const uint32_t *crc)
{
	put_gfid(c, &p->domain);
	record_put_tx(c, p->tx);
	wcur_le64(c, p->view_ver);
	wcur_le32(c, p->shard);
	wcur_le32(c, p->kind);
	wcur_le32(c, p->tx_kind);
	wcur_le32(c, p->row);
	wcur_le32(c, p->nrows);
	wcur_le32(c, p->coef);
	wcur_le32(c, p->lba);
	wcur_le32(c, p->nblocks);
	wcur_le32(c, p->participants);
	wcur_le32(c, p->missed);
	wcur_le32(c, p->ncrc);
	wcur_le32(c, 0);
	for (uint32_t i = 0; i < p->ncrc; i++)
		wcur_le32(c, crc[i]);
}

void record_put_list_head(struct wcur *c, const struct gfid *domain, uint32_t n)
{
	put_gfid(c, domain);
	wcur_le32(c, n);
}

void record_put_promise(struct wcur *c, const struct gfid *domain, uint64_t epoch, const struct gfid *owner)
{
	put_gfid(c, domain);
	wcur_le64(c, epoch);
	put_gfid(c, owner);
}

void record_put_view(struct wcur *c, const struct gfid *domain, const struct rec_view_head *v, uint32_t n_missed)
{
	put_gfid(c, domain);
	wcur_le64(c, v->epoch);
	wcur_le64(c, v->ver);
	wcur_le32(c, v->state);
	wcur_le32(c, v->insync);
	wcur_le32(c, v->layout_gen);
	wcur_le32(c, v->nboot);
	wcur_le32(c, n_missed);
	wcur_le64(c, v->loss_gen);
	wcur_le32(c, v->clean);
	record_put_tx(c, v->floor);
	for (uint32_t i = 0; i < v->nboot; i++)
		put_gfid(c, &v->boot[i]);
}

void record_put_missed(struct wcur *c, const struct rec_missed *m)
{
	wcur_le32(c, m->shard);
	wcur_le32(c, m->brick);
	wcur_le64(c, m->regions);
}

void record_put_clear(struct wcur *c, const struct gfid *domain, uint32_t brick)
{
	put_gfid(c, domain);
	wcur_le32(c, brick);
}

void record_put_discard(struct wcur *c, const struct gfid *domain, struct txid floor)
{
	put_gfid(c, domain);
	record_put_tx(c, floor);
}

void record_put_drop(struct wcur *c, const struct gfid *domain)
{
	put_gfid(c, domain);
}

void record_put_fold(struct wcur *c, const struct gfid *domain, uint32_t shard, struct txid floor, uint64_t round,
		     uint32_t n)
{
	put_gfid(c, domain);
	wcur_le32(c, shard);
	record_put_tx(c, floor);
	wcur_le64(c, round);
	wcur_le32(c, n);
	wcur_le32(c, 0);
}

void record_put_fold_row(struct wcur *c, const struct rec_fold_row *r)
{
	wcur_le32(c, r->row);
	wcur_le32(c, r->flags);
	wcur_le64(c, r->last_lsn);
	wcur_le32(c, r->crc_old);
	wcur_le32(c, r->crc_new);
}

void record_put_done(struct wcur *c, uint64_t round)
{
	wcur_le64(c, round);
}

void record_put_heal(struct wcur *c, const struct gfid *domain, uint32_t shard, uint32_t row, uint32_t nrows)
{
	put_gfid(c, domain);
	wcur_le32(c, shard);
	wcur_le32(c, row);
	wcur_le32(c, nrows);
}

struct txid record_next_tx(struct record *r)
{
	struct txid t = get_tx(&r->items);
	assert(!r->items.bad);
	return t;
}

struct rec_missed record_next_missed(struct record *r)
{
	struct rec_missed m;
	m.shard = rcur_le32(&r->items);
	m.brick = rcur_le32(&r->items);
	m.regions = rcur_le64(&r->items);
	assert(!r->items.bad);
	return m;
}

struct rec_fold_row record_next_fold_row(struct record *r)
{
	struct rec_fold_row f;
	f.row = rcur_le32(&r->items);
	f.flags = rcur_le32(&r->items);
	f.last_lsn = rcur_le64(&r->items);
	f.crc_old = rcur_le32(&r->items);
	f.crc_new = rcur_le32(&r->items);
	assert(!r->items.bad);
	return f;
}

uint32_t rec_prep_crc(const struct rec_prep *p, uint32_t i)
{
	assert(i < p->ncrc);
	struct rcur c = rcur_of(p->crcs + 4u * i, 4);
	return rcur_le32(&c);
}

/* ---- parsing ---- */

static bool rows_sane(uint32_t row, uint32_t nrows)
{
	return nrows > 0 && range_inside(row, nrows, RECORD_MAX_ROWS);
}

static bool parse_prep(struct rcur *c, struct record *r)
{
	struct rec_prep *p = &r->prep;
	p->domain = r->domain;
	p->tx = get_tx(c);
	p->view_ver = rcur_le64(c);
	p->shard = rcur_le32(c);
	p->kind = rcur_le32(c);
	p->tx_kind = rcur_le32(c);
	p->row = rcur_le32(c);
	p->nrows = rcur_le32(c);
	p->coef = rcur_le32(c);
	p->lba = rcur_le32(c);
	p->nblocks = rcur_le32(c);
	p->participants = rcur_le32(c);
	p->missed = rcur_le32(c);
	p->ncrc = rcur_le32(c);
	rcur_le32(c);
	if (c->bad || !rows_sane(p->row, p->nrows) || p->coef > 255)
		return false;
	bool zero = p->kind == BP_ZERO;
	if (!zero && p->kind != BP_ABS && p->kind != BP_DELTA)
		return false;
	if (zero ? p->ncrc != 0 : p->ncrc != p->nrows || p->nrows > BP_MAX_ROWS_PAYLOAD)
		return false;
	if (r->payload_len != p->ncrc * MYFS_BLOCK)
		return false;
	p->crcs = rcur_bytes(c, 4u * (size_t)p->ncrc);
	return !c->bad;
}

static bool parse_items(struct rcur *c, struct record *r, uint32_t n, uint32_t item_bytes)
{
	r->n_items = n;
	r->items = *c;
	return !c->bad && n <= c->left / item_bytes && rcur_bytes(c, (size_t)n * item_bytes) != NULL;
}

static bool parse_list(struct rcur *c, struct record *r, uint32_t item_bytes)
{
	uint32_t n = rcur_le32(c);
	return n > 0 && parse_items(c, r, n, item_bytes);
}

static bool missed_sane(struct record r)
{
	for (uint32_t i = 0; i < r.n_items; i++)
		if (record_next_missed(&r).brick >= BP_MAX_BRICKS)
			return false;
	return true;
}

static bool parse_view(struct rcur *c, struct record *r)
{
	struct rec_view_head *v = &r->view;
	v->epoch = rcur_le64(c);
	v->ver = rcur_le64(c);
	v->state = rcur_le32(c);
	v->insync = rcur_le32(c);
	v->layout_gen = rcur_le32(c);
	v->nboot = rcur_le32(c);
	uint32_t n = rcur_le32(c);
	v->loss_gen = r->type == REC_VIEW ? rcur_le64(c) : 0;
	v->clean = r->type == REC_VIEW && rcur_le32(c) != 0;
	v->floor = get_tx(c);
	r->type = REC_VIEW;
	if (c->bad || v->nboot > BP_MAX_BRICKS || (v->state != BP_VIEW_RESOLVING && v->state != BP_VIEW_READY))
		return false;
	for (uint32_t i = 0; i < v->nboot; i++)
		v->boot[i] = get_gfid(c);
	return parse_items(c, r, n, 16) && missed_sane(*r);
}

static bool parse_fold(struct rcur *c, struct record *r)
{
	r->fold.shard = rcur_le32(c);
	r->fold.floor = get_tx(c);
	r->fold.round = rcur_le64(c);
	uint32_t n = rcur_le32(c);
	rcur_le32(c);
	if (!parse_items(c, r, n, 24))
		return false;
	struct record walk = *r;
	for (uint32_t i = 0; i < n; i++)
		if (!rows_sane(record_next_fold_row(&walk).row, 1))
			return false;
	return true;
}

static bool parse_body(const uint8_t *body, uint32_t body_len, struct record *r)
{
	struct rcur c = rcur_of(body, body_len);
	bool ok = false;
	if (r->type != REC_DONE && r->type != REC_PAD)
		r->domain = get_gfid(&c);
	if (c.bad)
		return false;
	if (r->type != REC_PREP && r->type != REC_PAD && r->payload_len)
		return false;
	switch (r->type) {
	case REC_PAD:
		ok = true;
		break;
	case REC_PREP:
		ok = parse_prep(&c, r);
		break;
	case REC_COMMIT:
	case REC_ABORT:
	case REC_UNDO:
		ok = parse_list(&c, r, 16);
		break;
	case REC_PROMISE:
		r->promise.epoch = rcur_le64(&c);
		r->promise.owner = get_gfid(&c);
		ok = true;
		break;
	case REC_VIEW_1:
	case REC_VIEW:
		ok = parse_view(&c, r);
		break;
	case REC_MISS:
		ok = parse_list(&c, r, 16) && missed_sane(*r);
		break;
	case REC_CLEAR:
		r->clear.brick = rcur_le32(&c);
		ok = r->clear.brick < BP_MAX_BRICKS;
		break;
	case REC_DISCARD:
		r->discard.floor = get_tx(&c);
		ok = true;
		break;
	case REC_DROP:
		ok = true;
		break;
	case REC_FOLD:
		ok = parse_fold(&c, r);
		break;
	case REC_DONE:
		r->done.round = rcur_le64(&c);
		ok = true;
		break;
	case REC_HEAL:
		r->heal.shard = rcur_le32(&c);
		r->heal.row = rcur_le32(&c);
		r->heal.nrows = rcur_le32(&c);
		ok = rows_sane(r->heal.row, r->heal.nrows);
		break;
	case REC_LAST:
		break;
	}
	return ok && !c.bad && c.left == 0;
}

static bool payload_good(const uint8_t *payload, const struct rec_prep *p)
{
	for (uint32_t i = 0; i < p->ncrc; i++)
		if (crc32c(payload + (size_t)i * MYFS_BLOCK, MYFS_BLOCK) != rec_prep_crc(p, i))
			return false;
	return true;
}

static bool parse_header(const uint8_t *p, uint64_t lsn, const uint32_t *prev, struct record *ret,
			 uint32_t *ret_body_len)
{
	struct rcur c = rcur_of(p, RECORD_HEADER_BYTES);
	uint32_t magic = rcur_le32(&c), type = rcur_le32(&c);
	*ret_body_len = rcur_le32(&c);
	ret->payload_len = rcur_le32(&c);
	ret->lsn = rcur_le64(&c);
	uint32_t was = rcur_le32(&c);
	ret->crc = rcur_le32(&c);
	if (magic != RECORD_MAGIC || type == 0 || type >= REC_LAST || ret->lsn != lsn || (prev && *prev != was))
		return false;
	ret->type = (enum record_type)type;
	if (ret->type == REC_PAD) /* payload_len: bytes left out up to the end of the ring; at most what did not fit */
		return *ret_body_len == 0 && ret->payload_len <= RECORD_BYTES_MAX &&
		       ret->payload_len % RECORD_ALIGN == 0;
	return *ret_body_len <= RECORD_BODY_MAX && ret->payload_len <= RECORD_PAYLOAD_MAX;
}

int record_parse(const uint8_t *p, size_t avail, uint64_t lsn, const uint32_t *prev, struct record *ret,
		 size_t *ret_need)
{
	if (avail < RECORD_HEADER_BYTES) {
		*ret_need = RECORD_HEADER_BYTES;
		return -EAGAIN;
	}
	struct record r = {.type = REC_LAST, .raw = p};
	uint32_t body_len;
	if (!parse_header(p, lsn, prev, &r, &body_len))
		return -EBADMSG;
	r.total = record_total(body_len, r.payload_len);
	r.payload_off = record_total(body_len, 0);
	size_t need = r.type == REC_PAD ? RECORD_HEADER_BYTES : r.total;
	if (avail < need) {
		*ret_need = need;
		return -EAGAIN;
	}
	uint8_t head[RECORD_HEADER_BYTES];
	memcpy(head, p, sizeof(head));
	memset(head + 28, 0, 4);
	uint32_t crc = crc32c(head, sizeof(head));
	if (body_len)
		crc = crc32c_more(crc, p + RECORD_HEADER_BYTES, body_len);
	if (crc != r.crc || !parse_body(p + RECORD_HEADER_BYTES, body_len, &r))
		return -EBADMSG;
	if (r.type == REC_PREP && !payload_good(p + r.payload_off, &r.prep))
		return -EBADMSG;
	*ret = r;
	return 0;
}
