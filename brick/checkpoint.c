/* checkpoint.c - moves stable versions from the overlay into the fragment files, and frees the journal behind them.
 *
 *   1 pick      stable versions, rows ascending, at most ROUND_ROWS of them; they are busy from here on
 *   2 fold      DELTA: read the base, check its crc (H19), XOR; now every picked version has an absolute value
 *   3 FOLD      records {row, crc_old, crc_new} into the journal; fdatasync when a row is relative
 *   4 write     base blocks and checksums; zeros are punched
 *   5 sync      every touched fragment
 *   6 DONE      record; the versions leave the overlay
 *
 * A crash between 3 and 6 is settled at replay: a DELTA row's base has crc_new (written), crc_old (not yet) or neither
 * (torn: the row is bad until a peer's copy arrives); ABS and ZERO rows are simply redone. A round that fails for space
 * leaves its versions where they were and is repeated later. Only one round runs at a time (ckpt_lock).
 *
 * Background rounds form sweeps: a sweep takes the versions whose oldest record was there when it began, and no later
 * ones, so that rows written again and again cannot keep it from those that hold the tail of the journal. Rounds are
 * large because each costs a few syncs whatever its size, and because rows next to each other then leave in one write;
 * between some rows a round lets the requests of the loop pass. They begin late, at 3/8 of the journal or 64 MiB of changes, because rows
 * written twice are then written back once, and more of them are neighbours. With 5/8 in use a sweep takes only the oldest eighth, so
 * that room comes in small steps; PREPs are slowed down from 3/4 on (space.c). */
#include <stdlib.h>

#include "brick/brick_priv.h"
#include "core/base/crc32c.h"

#define ROUND_ROWS  4096u /* 16 MiB */
#define BREATH_ROWS 16u   /* rows read or written before others run */
#define WRITE_ROWS  64u   /* one write */
#define SYNC_FIBERS 8u    /* fragments synced at the same time */
#define AGE_NS      (5 * NS_PER_S)
#define RETRY_NS    NS_PER_S
#define HELD_SWEEPS 2u

struct item {
	struct oshard *s;
	uint32_t row;
	struct row_ver *v;
	uint32_t crc_old;
	bool rel, bad;
};

struct group { /* the items of one shard */
	struct domain *d;
	struct oshard *s;
	uint32_t first, n;
	struct frag *f; /* NULL: no file and nothing but zeros to write */
	bool wrote;
};

struct round {
	struct brick *b;
	struct item *items;
	struct group *groups;
	uint32_t n_items, n_groups;
	uint64_t number;
	uint64_t before_lsn; /* only versions whose oldest record lies before */
	uint32_t breath;     /* rows since others ran */
	bool scarce;         /* no disk space: only what needs none */
	/* step 5 */
	uint32_t next_sync, syncing;
	int sync_rc;
	struct waitq synced;
};

/* ---- 1 pick ---- */

static void pick_shard(struct round *r, struct domain *d, struct oshard *s)
{
	struct overlay *o = &r->b->overlay;
	uint32_t first = r->n_items;
	for (uint32_t row = overlay_next_row(o, s, 0); row != UINT32_MAX && r->n_items < ROUND_ROWS;
	     row = overlay_next_row(o, s, row + 1)) {
		struct row_ver *v = overlay_stable(o, s, row, d->floor);
		if (!v || v->min_lsn >= r->before_lsn || (r->scarce && v->kind != VER_ZERO))
			continue;
		v->busy = true;
		r->items[r->n_items++] = (struct item){.s = s, .row = row, .v = v};
	}
	if (r->n_items == first)
		return;
	domain_ref(d);
	r->groups[r->n_groups++] = (struct group){.d = d, .s = s, .first = first, .n = r->n_items - first};
}

static void pick_domain(struct round *r, struct domain *d)
{
	list_for_each(s, &d->shards.list, struct oshard, node)
		if (r->n_items < ROUND_ROWS)
			pick_shard(r, d, s);
}

/* Domains take turns at the front so that a busy one does not keep others waiting. */
static void pick(struct round *r, struct domain *only)
{
	struct brick *b = r->b;
	if (only) {
		pick_domain(r, only);
		return;
	}
	list_for_each(d, &b->domains, struct domain, node)
		if (r->n_items < ROUND_ROWS && !list_empty(&d->shards.list))
			pick_domain(r, d);
	if (r->n_items == ROUND_ROWS && b->domains.next != b->domains.prev) {
		struct list *head = b->domains.next;
		list_del(head);
		list_push_back(&b->domains, head);
	}
}

static void breathe(struct round *r, uint32_t rows) YIELDS
{
	r->breath += rows;
	if (r->breath < BREATH_ROWS)
		return;
	r->breath = 0;
	fiber_yield();
}

/* ---- 2 fold ---- */

/* Parity is rarely read: the region goes into this brick's own missed map, for the domain's next owner to rebuild. */
static int fold_report(struct brick *b, struct group *g, uint32_t row)
{
	struct rec_missed m = {.shard = g->s->shard, .brick = b->id.brick_index, .regions = regions_of_rows(b, row, 1)};
	int rc = missed_add(&g->d->missed, m.shard, m.brick, m.regions);
	return rc == 1 ? log_missed(b, &g->d->gfid, &m, 1, NULL) : rc;
}

static int fold_delta(struct round *r, struct group *g, struct item *it, uint8_t *block) YIELDS
{
	uint32_t crc = 0;
	int rc = frag_read(g->f, it->row, 1, block, &crc);
	if (rc < 0 && rc != -EIO)
		return rc;
	it->crc_old = crc;
	if (!MUTATED(H19) && (rc == -EIO || frag_is_bad(g->f, it->row) || crc32c(block, MYFS_BLOCK) != crc)) {
		r->b->count.checksum_errors += !frag_is_bad(g->f, it->row);
		/* the delta is worth nothing without its base: a peer's copy replaces both */
		frag_mark_bad(g->f, it->row);
		it->bad = true;
		return fold_report(r->b, g, it->row);
	}
	uint32_t known;
	overlay_fold(it->v, block, &known);
	uint32_t now = crc32c(block, MYFS_BLOCK);
	bool zero = now == CRC32C_ZERO_BLOCK && mem_is_zero(block, MYFS_BLOCK);
	return overlay_make_abs(&r->b->overlay, it->v, block, now, zero);
}

static int fold_item(struct round *r, struct group *g, struct item *it, uint8_t *block) YIELDS
{
	it->rel = it->v->rel;
	if (it->v->kind == VER_DELTA)
		return fold_delta(r, g, it, block);
	it->crc_old = g->f ? frag_crc(g->f, it->row, NULL) : CRC32C_ZERO_BLOCK;
	if (it->v->kind == VER_ABS && !it->v->crc_known) {
		it->v->crc = crc32c(it->v->data, MYFS_BLOCK);
		it->v->crc_known = true;
	}
	return 0;
}

static int fold_group(struct round *r, struct group *g, uint8_t *block) YIELDS
{
	bool create = false;
	for (uint32_t i = 0; i < g->n; i++)
		create = create || r->items[g->first + i].v->kind != VER_ZERO;
	int rc = frag_get(r->b->tree, &g->d->gfid, g->s->shard, create, &g->f);
	if (rc == -ENOENT && !create)
		rc = 0;
	for (uint32_t i = 0; i < g->n && rc == 0; i++) {
		rc = fold_item(r, g, &r->items[g->first + i], block);
		breathe(r, r->items[g->first + i].rel ? 1 : 0);
	}
	return rc;
}

static int fold(struct round *r) YIELDS
{
	struct buf *block = buf_alloc(MYFS_BLOCK);
	if (!block)
		return -ENOMEM;
	int rc = 0;
	for (uint32_t i = 0; i < r->n_groups && rc == 0; i++)
		rc = fold_group(r, &r->groups[i], block->data);
	buf_unref(block);
	return rc;
}

/* ---- 3 FOLD ---- */

static int log_fold(struct round *r, const struct group *g)
{
	uint32_t len = RECORD_FOLD_BODY(g->n);
	uint8_t *body = journal_body(r->b->journal, len);
	if (!body)
		return -EIO;
	struct wcur c = wcur_of(body, len);
	record_put_fold(&c, &g->d->gfid, g->s->shard, g->d->floor, r->number, g->n);
	for (uint32_t i = 0; i < g->n; i++) {
		const struct item *it = &r->items[g->first + i];
		bool zero = it->v->kind == VER_ZERO;
		struct rec_fold_row f = {.row = it->row,
					 .last_lsn = it->v->last_lsn,
					 .crc_old = it->crc_old,
					 .crc_new = zero ? CRC32C_ZERO_BLOCK : it->v->crc,
					 .flags = (it->rel ? FOLD_REL : 0u) | (zero ? FOLD_ZERO : 0u)};
		record_put_fold_row(&c, &f);
	}
	assert(!c.bad && c.left == 0);
	uint64_t lsn;
	return journal_append(r->b->journal, REC_FOLD, len, NULL, &lsn);
}

/* Rows that do not depend on the base are redone from their durable PREPs and COMMITs whether or not this record
 * survives. */
static int announce(struct round *r) YIELDS
{
	uint64_t durable = journal_durable_pos(r->b->journal);
	bool needed = false;
	for (uint32_t i = 0; i < r->n_groups; i++) {
		int rc = log_fold(r, &r->groups[i]);
		if (rc < 0)
			return rc;
	}
	for (uint32_t i = 0; i < r->n_items && !needed; i++)
		needed = r->items[i].rel || r->items[i].v->last_lsn >= durable;
	return needed ? journal_sync(r->b->journal, journal_end(r->b->journal)) : 0;
}

/* ---- 4 write ---- */

static int write_run(struct round *r, struct group *g, uint32_t at, uint32_t n) YIELDS
{
	struct iovec v[WRITE_ROWS];
	uint32_t crc[WRITE_ROWS];
	const struct item *it = &r->items[at];
	for (uint32_t i = 0; i < n; i++) {
		v[i] = (struct iovec){.iov_base = it[i].v->data, .iov_len = MYFS_BLOCK};
		crc[i] = it[i].v->crc;
	}
	rows_rewritten(r->b, g->f, it->row, n);
	space_used(r->b, (uint64_t)n * MYFS_BLOCK);
	r->b->count.bytes_written += (uint64_t)n * MYFS_BLOCK;
	return frag_write(g->f, it->row, n, v, n, crc);
}

static int punch_run(struct group *g, uint32_t row, uint32_t n) YIELDS
{
	return frag_rows_are_holes(g->f, row, n) ? 0 : frag_punch(g->f, row, n);
}

static int write_group(struct round *r, struct group *g) YIELDS
{
	if (!g->f)
		return 0;
	g->wrote = true;
	for (uint32_t i = 0; i < g->n;) {
		struct item *it = &r->items[g->first + i];
		bool zero = it->v->kind == VER_ZERO;
		uint32_t n = 1;
		while (!it->bad && i + n < g->n && (zero || n < WRITE_ROWS) && it[n].row == it->row + n && !it[n].bad &&
		       (it[n].v->kind == VER_ZERO) == zero)
			n++;
		int rc = it->bad ? 0 : zero ? punch_run(g, it->row, n) : write_run(r, g, g->first + i, n);
		if (rc < 0)
			return rc;
		breathe(r, n);
		i += n;
	}
	return 0;
}

/* ---- 5 sync ---- */

static void sync_some(void *arg) YIELDS /* fiber */
{
	struct round *r = arg;
	while (r->next_sync < r->n_groups && r->sync_rc == 0) {
		struct group *g = &r->groups[r->next_sync++];
		int rc = g->wrote ? frag_sync(g->f) : 0;
		if (rc < 0 && r->sync_rc == 0)
			r->sync_rc = rc;
	}
	r->syncing--;
	waitq_wake_all(&r->synced);
}

static int sync_all(struct round *r) YIELDS
{
	waitq_init(&r->synced);
	uint32_t helpers = r->n_groups < SYNC_FIBERS ? r->n_groups : SYNC_FIBERS;
	r->syncing = 1;
	for (uint32_t i = 1; i < helpers; i++) {
		r->syncing++;
		if (fiber_spawn(r->b->opt.loop, "brick-sync", sync_some, r) < 0)
			r->syncing--; /* this fiber does it all */
	}
	sync_some(r);
	while (r->syncing)
		waitq_wait(&r->synced);
	return r->sync_rc;
}

/* ---- 6 DONE ---- */

static int retire(struct round *r)
{
	struct brick *b = r->b;
	int rc = log_done(b, r->number, NULL);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < r->n_items; i++) {
		r->items[i].v->busy = false;
		overlay_drop_oldest(&b->overlay, r->items[i].s, r->items[i].row, r->items[i].v);
		r->items[i].v = NULL;
	}
	for (uint32_t i = 0; i < r->n_groups; i++)
		r->groups[i].d->base_seq++;
	b->count.checkpoints++;
	b->full = false;
	return 0;
}

/* A shard that came to rest: what people see in its xattrs is brought up to date; its overlay object goes. */
static void settle(struct round *r) YIELDS
{
	for (uint32_t i = 0; i < r->n_groups; i++) {
		struct group *g = &r->groups[i];
		uint32_t shard = g->s->shard;
		if (g->s->rows)
			continue;
		oshard_free(&r->b->overlay, &g->d->shards, g->s);
		if (g->f)
			(void)frag_publish(r->b->tree, &g->d->gfid, shard, g->d->floor.n,
					   missed_of_shard(&g->d->missed, shard));
	}
}

/* ---- a round ---- */

static int run(struct round *r) YIELDS
{
	int rc = fold(r);
	if (rc == 0)
		rc = announce(r);
	for (uint32_t i = 0; i < r->n_groups && rc == 0; i++)
		rc = write_group(r, &r->groups[i]);
	if (rc == 0)
		rc = sync_all(r);
	return rc == 0 ? retire(r) : rc;
}

static void release(struct round *r)
{
	for (uint32_t i = 0; i < r->n_items; i++)
		if (r->items[i].v)
			r->items[i].v->busy = false;
	for (uint32_t i = 0; i < r->n_groups; i++) {
		frag_put(r->groups[i].f);
		domain_unref(r->groups[i].d);
	}
	free(r->items);
	free(r->groups);
}

static int round_before(struct brick *b, struct domain *only, uint64_t before_lsn) YIELDS
{
	struct round r = {.b = b, .number = ++b->round, .before_lsn = before_lsn};
	if (b->failed[0])
		return -EIO;
	if (b->full)
		space_refresh(b);
	r.scarce = b->full && b->free_bytes < (uint64_t)ROUND_ROWS * MYFS_BLOCK;
	r.items = malloc(ROUND_ROWS * sizeof(*r.items));
	r.groups = malloc(ROUND_ROWS * sizeof(*r.groups));
	int rc = r.items && r.groups ? 0 : -ENOMEM;
	if (rc == 0)
		pick(&r, only);
	int rows = (int)r.n_items;
	if (rc == 0 && rows)
		rc = run(&r);
	if (rc == 0 && rows)
		settle(&r);
	release(&r);
	if (rc == -ENOSPC || rc == -EDQUOT) {
		b->full = true;
		return -ENOSPC;
	}
	if (rc < 0 && rc != -ENOMEM)
		brick_fail(b, "checkpoint could not write the base files"); /* H18: fail-stop, no second fsync */
	return rc < 0 ? rc : rows;
}

int checkpoint_round(struct brick *b, struct domain *only) YIELDS
{
	return round_before(b, only, UINT64_MAX);
}

/* ---- trim ---- */

/* Lowest position at or after the present trim that this domain needs. */
static uint64_t domain_needs(const struct brick *b, const struct domain *d)
{
	uint64_t trim = journal_trim_pos(b->journal), min = tx_min_lsn(d, trim);
	list_for_each(s, &d->shards.list, struct oshard, node)
		for (uint32_t row = overlay_next_row(&b->overlay, s, 0); row != UINT32_MAX;
		     row = overlay_next_row(&b->overlay, s, row + 1))
			for (const struct row_ver *v = overlay_top(&b->overlay, s, row); v; v = v->older)
				if (v->min_lsn >= trim) /* below: carried */
					min = min_u64(min, v->min_lsn);
	return min;
}

/* Where the ring may be trimmed to, when domains that need something below carry_below are carried. */
static uint64_t trim_target(const struct brick *b, uint64_t carry_below)
{
	uint64_t min = journal_end(b->journal);
	list_for_each(d, &b->domains, struct domain, node) {
		uint64_t need = domain_needs(b, d);
		if (need >= carry_below)
			min = min_u64(min, need);
	}
	return min;
}

static bool room_is_short(const struct brick *b)
{
	return journal_used(b->journal) >= journal_size(b->journal) / 8 * 5;
}

/* One domain without an owner, or one whose gateway is stuck, must not stop the brick for all others: when the ring
 * gets short of room, the domains that hold on to its older part are carried. Not after one sweep that left the tail where it
 * was: a gateway under load declares its oldest records stable a moment later, and copying them would cost more than it frees. */
static uint64_t pick_trim(struct brick *b, bool force, bool swept, bool *ret_worth)
{
	uint64_t size = journal_size(b->journal), end = journal_end(b->journal), trim = journal_trim_pos(b->journal);
	uint64_t to = trim_target(b, 0);
	bool pressed = room_is_short(b) || b->room_waiters;
	if (swept)
		b->held = pressed && to - trim < size / 32 ? b->held + 1 : 0;
	if (pressed && (force || b->held >= HELD_SWEEPS) && to - trim < size / 8 && end - trim > size / 4)
		to = trim_target(b, end - size / 4);
	*ret_worth = to - trim >= size / (pressed ? 16 : 8) || (b->room_waiters && to - trim >= size / 64);
	return to;
}

static int trim_to(struct brick *b, uint64_t to) YIELDS
{
	struct carry c = {0};
	bool same;
	int rc = carry_build(b, to, &c, &same);
	if (rc < 0)
		return rc;
	rc = state_save(b, to, false, same ? &b->carry : &c);
	if (rc < 0) {
		if (!same)
			carry_discard(b, &c);
		return rc;
	}
	journal_set_trim(b->journal, to);
	if (!same)
		carry_replace(b, &c);
	return 0;
}

int checkpoint_trim(struct brick *b, bool force, bool swept) YIELDS
{
	if (b->failed[0])
		return -EIO;
	fmutex_lock(&b->ckpt_lock);
	bool worth;
	uint64_t to = pick_trim(b, force, swept, &worth);
	int rc = 0;
	if (to > journal_trim_pos(b->journal) && (force || worth)) {
		rc = trim_to(b, to);
		if (rc < 0 && rc != -ENOSPC && rc != -EDQUOT && rc != -ENOMEM) {
			brick_fail(b, "the state file could not be written");
			rc = -EIO;
		}
	}
	fmutex_unlock(&b->ckpt_lock);
	room_wake(b);
	return rc;
}

int brick_checkpoint(struct brick *b, bool trim) YIELDS
{
	int n;
	do {
		fmutex_lock(&b->ckpt_lock);
		n = checkpoint_round(b, NULL);
		fmutex_unlock(&b->ckpt_lock);
	} while (n > 0);
	if (n < 0)
		return n;
	return trim ? checkpoint_trim(b, true, false) : 0;
}

/* ---- background ---- */

static bool urgent(const struct brick *b)
{
	uint64_t limit = b->opt.checkpoint_bytes;
	return b->overlay.bytes >= limit || journal_used(b->journal) >= journal_size(b->journal) / 8 * 3 || b->room_waiters;
}

void checkpoint_kick(struct brick *b)
{
	if (!b->ckpt_fiber || b->ckpt_running)
		return;
	if (b->ckpt_idle || urgent(b))
		fiber_wake(b->ckpt_fiber);
}

/* Sleeps until there is something to write and it is old enough, or much. */
static void wait_for_work(struct brick *b) YIELDS
{
	while (!b->stopping && !b->failed[0] && !b->overlay.versions && !urgent(b)) {
		b->ckpt_idle = true;
		fiber_park();
		b->ckpt_idle = false;
	}
	uint64_t due = loop_now_ns() + AGE_NS;
	while (!b->stopping && !b->failed[0] && !urgent(b) && loop_now_ns() < due)
		(void)fiber_park_until(due);
}

static uint64_t sweep_until(const struct brick *b)
{
	return room_is_short(b) ? journal_trim_pos(b->journal) + journal_size(b->journal) / 8 : journal_end(b->journal);
}

static int sweep(struct brick *b, uint64_t before_lsn) YIELDS
{
	int n, total = 0;
	do {
		fmutex_lock(&b->ckpt_lock);
		n = round_before(b, NULL, before_lsn);
		fmutex_unlock(&b->ckpt_lock);
		total += n > 0 ? n : 0;
		bool ends = n < (int)ROUND_ROWS;
		if (n >= 0 && (ends || b->room_waiters) && checkpoint_trim(b, false, ends) < 0)
			return -EAGAIN; /* no room for the state: later */
	} while (n == (int)ROUND_ROWS && !b->stopping);
	return n < 0 ? n : total;
}

/* The journal's tail mostly moves when a sweep ends, so that is when the trim is worth a look. */
static int work(struct brick *b) YIELDS
{
	uint64_t began = loop_now_ns(), trim = journal_trim_pos(b->journal), end = journal_end(b->journal), until = sweep_until(b);
	int n = sweep(b, until);
	if (n == 0 && until < end && journal_trim_pos(b->journal) == trim)
		n = sweep(b, end); /* what holds the tail cannot be written yet: make room behind it, to be carried over it */
	uint64_t took = loop_now_ns() - began, freed = journal_trim_pos(b->journal) - trim;
	if (freed && took)
		b->freed_per_s = (b->freed_per_s + freed * NS_PER_S / took) / 2;
	return n;
}

static void ckpt_main(void *arg) YIELDS /* fiber */
{
	struct brick *b = arg;
	b->ckpt_fiber = fiber_self();
	while (!b->stopping && !b->failed[0]) {
		wait_for_work(b);
		if (b->stopping || b->failed[0])
			break;
		b->ckpt_running = true;
		int n = work(b);
		b->ckpt_running = false;
		if (n <= 0 && !b->stopping &&
		    !b->failed[0]) /* nothing stable yet, or no space: STABLE kicks, else look again soon */
			(void)fiber_park_until(loop_now_ns() + (n < 0 ? RETRY_NS : RETRY_NS / 4));
	}
	b->ckpt_fiber = NULL;
	waitq_wake_all(&b->ckpt_gone);
}

int checkpoint_start(struct brick *b)
{
	return fiber_run(b->opt.loop, "brick-checkpoint", ckpt_main, b);
}

void checkpoint_stop(struct brick *b) YIELDS
{
	while (b->ckpt_fiber) {
		fiber_wake(b->ckpt_fiber);
		waitq_wait(&b->ckpt_gone);
	}
}
