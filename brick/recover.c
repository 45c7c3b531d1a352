/* recover.c - from state file and journal back to what the brick knew: at start, and for one domain after a rollback.
 *
 * Pass 1 walks the records: state changes not yet in the snapshot, transactions and their decisions, and what
 * checkpoints wrote. Pass 2 settles checkpoints that were cut off, puts committed rows that are not in the base into
 * the overlay, in commit order, and loads the payload of undecided ones. Decisions are complete before anything is
 * applied, so an ABORT that took back a COMMIT is honoured. */
#include <fcntl.h>
#include <stdlib.h>

#include "brick/brick_priv.h"
#include "core/base/crc32c.h"

struct pending_fold { /* a row some round announced and, as far as we know, did not finish */
	struct domain *d;
	uint32_t shard;
	uint64_t round;
	struct rec_fold_row f;
};

struct replay {
	struct brick *b;
	const struct domain *only; /* NULL: everything */
	uint64_t state_lsn;        /* state changes before it are known already */
	uint64_t commits;
	struct pending_fold *fold;
	size_t n_fold, cap_fold;
	struct tx **committed;
	size_t n_committed;
};

/* ---- what is in the base ---- */

static int base_set(struct brick *b, struct domain *d, uint32_t shard, uint32_t row, uint32_t nrows, uint64_t lsn)
{
	if (shard >= BRICK_MAX_SHARDS || !range_inside(row, nrows, b->id.shard_rows))
		return 0; /* not ours: another geometry cannot be, identity is checked */
	struct oshard *s = oshard_find(&d->shards, shard, true);
	if (s && !s->base_lsn)
		s->base_lsn = calloc(OVERLAY_REGIONS, sizeof(*s->base_lsn));
	if (!s || !s->base_lsn)
		return -ENOMEM;
	for (uint32_t r = row; r < row + nrows; r++) {
		uint64_t **page = &s->base_lsn[r / b->id.region_rows];
		if (!*page)
			*page = calloc(b->id.region_rows, sizeof(**page));
		if (!*page)
			return -ENOMEM;
		uint64_t *at = &(*page)[r % b->id.region_rows];
		*at = max_u64(*at, lsn);
	}
	return 0;
}

static uint64_t base_get(const struct brick *b, struct domain *d, uint32_t shard, uint32_t row)
{
	const struct oshard *s = oshard_find(&d->shards, shard, false);
	const uint64_t *page = s && s->base_lsn ? s->base_lsn[row / b->id.region_rows] : NULL;
	return page ? page[row % b->id.region_rows] : 0;
}

static void base_forget(struct brick *b, struct domain *d)
{
	list_for_each_safe(s, &d->shards.list, struct oshard, node) {
		for (unsigned i = 0; i < OVERLAY_REGIONS && s->base_lsn; i++)
			free(s->base_lsn[i]);
		free(s->base_lsn);
		s->base_lsn = NULL;
		if (!s->rows)
			oshard_free(&b->overlay, &d->shards, s);
	}
}

/* ---- pass 1 ---- */

static int on_missed(struct replay *p, struct domain *d, struct record *r)
{
	int rc = 0;
	for (uint32_t i = 0; i < r->n_items && rc >= 0; i++) {
		struct rec_missed m = record_next_missed(r);
		if (r->lsn >= p->state_lsn)
			rc = missed_add(&d->missed, m.shard, m.brick, m.regions);
	}
	return rc < 0 ? rc : 0;
}

static int on_prep(struct replay *p, struct domain *d, const struct record *r)
{
	struct brick *b = p->b;
	const struct rec_prep *a = &r->prep;
	if (a->shard >= BRICK_MAX_SHARDS || !range_inside(a->row, a->nrows, b->id.shard_rows))
		return -EUCLEAN;
	if (tx_find(b, d, a->tx))
		return 0;
	struct tx *t = tx_new(b, d, a->tx, a->ncrc);
	if (!t)
		return -ENOMEM;
	tx_describe(t, a);
	t->prep_lsn = r->lsn;
	t->payload_off = r->payload_off;
	t->carried = r->carried;
	t->carry_off = r->carry_off;
	for (uint32_t i = 0; i < a->ncrc; i++)
		t->crc[i] = rec_prep_crc(a, i);
	tx_set_state(b, t, TX_PREP);
	int rc = 0;
	for (uint32_t i = 0; i < BP_MAX_BRICKS && rc >= 0 && r->lsn >= p->state_lsn; i++)
		if (a->missed >> i & 1u)
			rc = missed_add(&d->missed, a->shard, i, regions_of_rows(b, a->row, a->nrows));
	return rc < 0 ? rc : 0;
}

static void on_decision(struct replay *p, struct domain *d, struct record *r)
{
	for (uint32_t i = 0; i < r->n_items; i++) {
		struct tx *t = tx_find(p->b, d, record_next_tx(r));
		if (!t || t->busy)
			continue;
		if (r->type == REC_ABORT || r->type == REC_UNDO) {
			tx_set_state(p->b, t, TX_ABORTED);
			t->undone = r->type == REC_UNDO;
		} else if (t->state == TX_PREP) {
			t->commit_lsn = r->lsn;
			t->commit_seq = ++p->commits;
			tx_set_state(p->b, t, TX_COMMITTED);
		}
	}
}

static void fold_drop_domain(struct replay *p, const struct domain *d)
{
	size_t keep = 0;
	for (size_t i = 0; i < p->n_fold; i++)
		if (p->fold[i].d != d)
			p->fold[keep++] = p->fold[i];
	p->n_fold = keep;
}

static int on_fold(struct replay *p, struct domain *d, struct record *r)
{
	domain_raise_floor(d, r->fold.floor);
	p->b->round = max_u64(p->b->round, r->fold.round);
	if (p->n_fold + r->n_items > p->cap_fold) {
		size_t cap = (p->n_fold + r->n_items) * 2;
		struct pending_fold *v = realloc(p->fold, cap * sizeof(*v));
		if (!v)
			return -ENOMEM;
		p->fold = v;
		p->cap_fold = cap;
	}
	for (uint32_t i = 0; i < r->n_items; i++)
		p->fold[p->n_fold++] = (struct pending_fold){
		    .d = d, .shard = r->fold.shard, .round = r->fold.round, .f = record_next_fold_row(r)};
	return 0;
}

static int on_done(struct replay *p, uint64_t round)
{
	size_t keep = 0;
	int rc = 0;
	for (size_t i = 0; i < p->n_fold && rc == 0; i++) {
		struct pending_fold *f = &p->fold[i];
		if (f->round == round)
			rc = base_set(p->b, f->d, f->shard, f->f.row, 1, f->f.last_lsn);
		else
			p->fold[keep++] = *f;
	}
	p->n_fold = keep;
	return rc;
}

static int on_promise(struct replay *p, const struct record *r)
{
	struct domain *d;
	int rc = r->lsn >= p->state_lsn ? domain_get(p->b, &r->domain, &d) : 1;
	if (rc == 0 && r->promise.epoch >= d->promise_epoch)
		domain_apply_promise(d, r->promise.epoch, &r->promise.owner);
	return rc < 0 ? rc : 0;
}

static int on_view(struct replay *p, struct domain *d, struct record *r)
{
	domain_raise_floor(d, r->view.floor);
	if (r->lsn >= p->state_lsn)
		domain_apply_view(p->b, d, &r->view);
	else if (r->view.state == BP_VIEW_READY)
		domain_purge_undecided(p->b, d, r->view.epoch);
	return on_missed(p, d, r);
}

static int on_domain_record(struct replay *p, struct domain *d, struct record *r)
{
	switch (r->type) {
	case REC_PREP:
		return on_prep(p, d, r);
	case REC_COMMIT:
	case REC_ABORT:
	case REC_UNDO:
		on_decision(p, d, r);
		return 0;
	case REC_VIEW_1: /* record_parse makes it REC_VIEW */
	case REC_VIEW:
		return on_view(p, d, r);
	case REC_MISS:
		return on_missed(p, d, r);
	case REC_CLEAR:
		if (r->lsn >= p->state_lsn)
			missed_clear_brick(&d->missed, r->clear.brick);
		return 0;
	case REC_DISCARD:
		domain_raise_floor(d, r->discard.floor);
		fold_drop_domain(p, d);
		domain_forget_writes(p->b, d);
		return 0;
	case REC_DROP:
		fold_drop_domain(p, d);
		domain_drop(p->b, d);
		return 0;
	case REC_FOLD:
		return on_fold(p, d, r);
	case REC_HEAL:
		return base_set(p->b, d, r->heal.shard, r->heal.row, r->heal.nrows, r->lsn);
	case REC_PAD:
	case REC_PROMISE:
	case REC_DONE:
	case REC_LAST:
		break;
	}
	return 0;
}

static int on_record(void *arg, struct record *r)
{
	struct replay *p = arg;
	if (r->type == REC_DONE) {
		p->b->round = max_u64(p->b->round, r->done.round);
		return on_done(p, r->done.round);
	}
	if (p->only && !gfid_eq(&p->only->gfid, &r->domain))
		return 0;
	if (r->type == REC_PROMISE)
		return on_promise(p, r);
	struct domain *d = domain_find(p->b, &r->domain);
	return d ? on_domain_record(p, d, r) : 0; /* unknown: dropped since, nothing of it matters */
}

/* ---- pass 2: checkpoints that were cut off ---- */

static int fold_order(const void *x, const void *y)
{
	const struct pending_fold *a = x, *b = y;
	int by_domain = memcmp(a->d->gfid.b, b->d->gfid.b, sizeof(a->d->gfid.b)); /* not by address: runs repeat */
	if (by_domain)
		return by_domain;
	if (a->shard != b->shard)
		return a->shard < b->shard ? -1 : 1;
	if (a->f.row != b->f.row)
		return a->f.row < b->f.row ? -1 : 1;
	return a->round == b->round ? 0 : a->round < b->round ? -1 : 1;
}

/* The base block and its checksum are made to agree again. */
static int fold_restore(struct frag *f, uint32_t row, uint8_t *block, uint32_t crc) YIELDS
{
	if (!f)
		return 0;
	if (crc == CRC32C_ZERO_BLOCK && mem_is_zero(block, MYFS_BLOCK))
		return frag_rows_are_holes(f, row, 1) ? 0 : frag_punch(f, row, 1);
	struct iovec v = {.iov_base = block, .iov_len = MYFS_BLOCK};
	return frag_write(f, row, 1, &v, 1, &crc);
}

/* All unfinished rounds' words about one row, oldest first. The first that depends on the base says what was there
 * before. */
static int fold_settle(struct replay *p, const struct pending_fold *v, size_t n, struct frag *f, uint8_t *block) YIELDS
{
	struct brick *b = p->b;
	const struct pending_fold *first_rel = NULL, *hit = NULL;
	uint64_t known = base_get(b, v->d, v->shard, v->f.row);
	for (size_t i = 0; i < n; i++)
		if ((v[i].f.flags & FOLD_REL) && v[i].f.last_lsn > known && !first_rel)
			first_rel = &v[i];
	if (!first_rel || MUTATED(H5))
		return 0; /* absolute: simply redone */
	int rc = 0;
	memset(block, 0, MYFS_BLOCK);
	if (f)
		rc = frag_read(f, v->f.row, 1, block, NULL);
	if (rc < 0 && rc != -EIO)
		return rc;
	uint32_t crc = rc == -EIO ? 0 : crc32c(block, MYFS_BLOCK);
	for (size_t i = 0; i < n && rc == 0; i++)
		if (v[i].f.last_lsn > known && crc == v[i].f.crc_new)
			hit = &v[i];
	if (hit)
		rc = base_set(b, v->d, v->shard, v->f.row, 1, hit->f.last_lsn);
	if (rc == 0 && (hit || crc == first_rel->f.crc_old))
		return fold_restore(f, v->f.row, block, crc);
	if (f) {
		frag_mark_bad(f, v->f.row); /* torn: peers have the value */
		b->count.checksum_errors++;
		/* Parity is rarely read: whoever owns the domain next is told where to look. */
		rc = missed_add(&v->d->missed, v->shard, b->id.brick_index, regions_of_rows(b, v->f.row, 1));
		if (rc < 0)
			return rc;
	}
	return base_set(b, v->d, v->shard, v->f.row, 1, v[n - 1].f.last_lsn);
}

static int folds_of_shard(struct replay *p, const struct pending_fold *v, size_t n) YIELDS
{
	struct frag *f = NULL;
	int rc = frag_get(p->b->tree, &v->d->gfid, v->shard, false, &f);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	struct buf *block = buf_alloc(MYFS_BLOCK);
	rc = block ? 0 : -ENOMEM;
	for (size_t i = 0, run; i < n && rc == 0; i += run) {
		for (run = 1; i + run < n && v[i + run].f.row == v[i].f.row; run++)
			;
		rc = fold_settle(p, v + i, run, f, block->data);
	}
	if (rc == 0 && f)
		rc = frag_sync(f);
	buf_unref(block);
	frag_put(f);
	return rc;
}

static int folds_settle(struct replay *p) YIELDS
{
	if (p->n_fold)
		qsort(p->fold, p->n_fold, sizeof(*p->fold), fold_order);
	int rc = 0;
	for (size_t i = 0, run; i < p->n_fold && rc == 0; i += run) {
		for (run = 1; i + run < p->n_fold && p->fold[i + run].d == p->fold[i].d &&
			      p->fold[i + run].shard == p->fold[i].shard;
		     run++)
			;
		rc = folds_of_shard(p, p->fold + i, run);
	}
	return rc;
}

/* ---- pass 2: transactions ---- */

static int load_payload(struct brick *b, struct tx *t) YIELDS
{
	if (t->kind == BP_ZERO)
		return 0;
	size_t len = (size_t)t->nrows * MYFS_BLOCK;
	struct buf *buf = buf_alloc(len);
	if (!buf)
		return -ENOMEM;
	int rc;
	if (t->carried) {
		ssize_t n = file_pread(b->carry.file, buf->data, len, t->carry_off + t->payload_off);
		rc = n < 0 ? (int)n : (size_t)n == len ? 0 : -EIO;
	} else {
		rc = journal_read_payload(b->journal, t->prep_lsn, t->payload_off, buf->data, len);
	}
	if (rc < 0) {
		buf_unref(buf);
		return rc;
	}
	t->payload = (struct slice){.owner = buf, .ptr = buf->data, .len = len};
	return 0;
}

static bool all_in_base(const struct brick *b, const struct tx *t)
{
	for (uint32_t i = 0; i < t->nrows; i++)
		if (base_get(b, t->d, t->shard, t->row + i) < t->commit_lsn)
			return false;
	return true;
}

static int redo(struct brick *b, struct tx *t) YIELDS
{
	if (all_in_base(b, t))
		return 0;
	int rc = load_payload(b, t);
	if (rc == 0)
		rc = tx_apply(b, t);
	buf_unref(t->payload.owner);
	t->payload = (struct slice){0};
	return rc;
}

static int commit_order(const void *x, const void *y)
{
	const struct tx *a = *(struct tx *const *)x, *b = *(struct tx *const *)y;
	return a->commit_seq < b->commit_seq ? -1 : a->commit_seq > b->commit_seq;
}

static int gather_domain(struct replay *p, struct domain *d) YIELDS
{
	size_t n = p->n_committed;
	struct tx **v = realloc(p->committed, (n + d->n_txs + 1) * sizeof(struct tx *));
	if (!v)
		return -ENOMEM;
	p->committed = v;
	int rc = 0;
	list_for_each(t, &d->txs, struct tx, node) {
		if (t->busy)
			continue;
		if (t->state == TX_COMMITTED)
			p->committed[p->n_committed++] = t;
		if (t->state == TX_PREP && rc == 0) {
			rc = load_payload(p->b, t);
			p->b->prep_bytes += t->payload.len;
		}
	}
	return rc;
}

static int redo_all(struct replay *p) YIELDS
{
	struct brick *b = p->b;
	int rc = 0;
	list_for_each(d, &b->domains, struct domain, node)
		if (rc == 0 && (!p->only || d == p->only))
			rc = gather_domain(p, d);
	if (p->n_committed)
		qsort(p->committed, p->n_committed, sizeof(*p->committed), commit_order);
	for (size_t i = 0; i < p->n_committed && rc == 0; i++)
		rc = redo(b, p->committed[i]);
	list_for_each(d, &b->domains, struct domain, node) {
		if (p->only && d != p->only)
			continue;
		base_forget(b, d);
		(void)tx_drop_stable(b, d); /* an undecided one below the floor waits for REJOIN */
		d->seal_lsn = journal_end(b->journal);
		d->base_seq++;
	}
	return rc;
}

static void replay_release(struct replay *p)
{
	free(p->fold);
	free(p->committed);
}

int recover_domain(struct brick *b, struct domain *d) YIELDS
{
	struct replay p = {.b = b, .only = d, .state_lsn = UINT64_MAX};
	int rc = journal_wait_written(b->journal, journal_end(b->journal));
	if (rc == 0) {
		domain_forget_writes(b, d);
		rc = carry_scan(b, on_record, &p);
	}
	if (rc == 0)
		rc = journal_scan(b->journal, journal_trim_pos(b->journal), journal_end(b->journal), on_record, &p);
	if (rc == 0)
		rc = folds_settle(&p);
	if (rc == 0)
		rc = redo_all(&p);
	replay_release(&p);
	if (rc < 0)
		brick_fail(b, "the journal could not be replayed for a rollback");
	return rc < 0 ? -EIO : 0;
}

/* ---- start ---- */

/* A brick without a state file must never have been used: the file is written before the first record. */
static int check_unused(struct file *f, struct err *e) YIELDS
{
	uint8_t *p = malloc(MYFS_BLOCK);
	ssize_t n = p ? file_pread(f, p, MYFS_BLOCK, 0) : -ENOMEM;
	bool unused = n == (ssize_t)MYFS_BLOCK && mem_is_zero(p, MYFS_BLOCK);
	free(p);
	if (n < 0)
		return err_set(e, (int)n, "journal: %s", err_name((int)n));
	return unused ? 0
		      : err_set(e, -EUCLEAN,
				"the state file is gone but the journal was used: promises are lost, the brick must be "
				"rebuilt");
}

static int open_file(struct brick *b, struct file **ret, struct err *e) YIELDS
{
	struct file_info info;
	int rc = store_open(b->store, TREE_JOURNAL_PATH, O_RDWR, 0, ret);
	if (rc < 0)
		return err_set(e, rc, "journal %s: %s", TREE_JOURNAL_PATH, err_name(rc));
	rc = file_stat(*ret, &info);
	if (rc == 0 && info.size_bytes != b->id.journal_bytes)
		rc = -EUCLEAN;
	if (rc < 0) {
		file_close(*ret);
		return err_set(e, rc, "journal %s: size is not what the identity says", TREE_JOURNAL_PATH);
	}
	return 0;
}

static void journal_broke(void *arg, int rc, const char *what)
{
	struct brick *b = arg;
	char why[160];
	snprintf(why, sizeof(why), "%s: %s", what, err_name(rc));
	brick_fail(b, why);
}

static int open_journal(struct brick *b, const struct state_head *h, bool fresh, struct replay *p, struct err *e) YIELDS
{
	struct file *f;
	int rc = open_file(b, &f, e);
	if (rc < 0)
		return rc;
	rc = fresh ? check_unused(f, e) : 0;
	struct journal_config cfg = {.loop = b->opt.loop,
				     .file = f,
				     .size_bytes = b->id.journal_bytes,
				     .trim = h->trim,
				     .witness = b->opt.witness ? &b->opt.witness->written : NULL,
				     .on_error = journal_broke,
				     .arg = b};
	loop_random(&cfg.salt, sizeof(cfg.salt));
	if (rc == 0)
		rc = journal_open(&cfg, on_record, p, &b->journal, e);
	if (rc < 0) {
		file_close(f);
		return rc;
	}
	if (journal_end(b->journal) < h->state_lsn)
		return err_set(
		    e, -EUCLEAN,
		    "the journal ends at %llu, before %llu that was on stable storage: the brick must be rebuilt",
		    (unsigned long long)journal_end(b->journal), (unsigned long long)h->state_lsn);
	return 0;
}

/* H30: is everything there that was ever told to anybody? After an orderly stop, the journal's end says so. After any other, the kernel's
 * memory does: it knows how far the journal was written. The same boot alone proves nothing: a sync that failed, seen by the dead
 * process or not, leaves pages that the kernel takes for clean and may have dropped since, and a file system may have been
 * mounted anew. */
static bool remembers_all(const struct brick *b, const struct state_head *h)
{
	const struct brick_witness *w = b->opt.witness;
	uint64_t end = journal_end(b->journal);

	if (h->clean && h->clean_end == end)
		return true;
	if (!gfid_eq(&h->boot, &b->opt.boot))
		return false;
	return MUTATED(H30) || (w && gfid_eq(&w->incarnation, &h->incarnation) && w->written <= end);
}

/* Before the state file takes the mark of the orderly stop away. A kill in between leaves no incarnation with a wrong position. */
static void witness_begin(struct brick *b)
{
	struct brick_witness *w = b->opt.witness;

	if (!w)
		return;
	__atomic_store_n(&w->written, UINT64_MAX, __ATOMIC_RELEASE);
	w->incarnation = b->incarnation;
	__atomic_store_n(&w->written, journal_end(b->journal), __ATOMIC_RELEASE);
}

int recover(struct brick *b, struct err *e) YIELDS
{
	struct state_head h = {.trim = 0};
	struct replay p = {.b = b};
	int rc = state_load(b, &h, e);
	bool fresh = rc == -ENOENT;
	if (rc < 0 && !fresh)
		return rc;
	p.state_lsn = h.state_lsn;
	b->round = h.round;
	rc = carry_open(b, h.carry_id, h.carry_bytes, e);
	if (rc == 0) {
		rc = carry_scan(b, on_record, &p);
		if (rc < 0)
			err_set(e, rc, "carried journal records: %s", err_name(rc));
	}
	if (rc == 0)
		rc = open_journal(b, &h, fresh, &p, e);
	if (rc == 0) {
		rc = folds_settle(&p);
		if (rc == 0)
			rc = redo_all(&p);
		if (rc < 0)
			err_set(e, rc, "journal replay: %s", err_name(rc));
	}
	replay_release(&p);
	if (rc < 0)
		return rc;
	b->incarnation = h.incarnation;
	if (fresh || !remembers_all(b, &h)) {
		uint8_t random[16];
		loop_random(random, sizeof(random));
		b->incarnation = gfid_from_random(random);
	}
	witness_begin(b);
	rc = state_save(b, journal_trim_pos(b->journal), false, &b->carry);
	return rc < 0 ? err_set(e, rc, "state file %s: %s", TREE_STATE_PATH, err_name(rc)) : 0;
}
