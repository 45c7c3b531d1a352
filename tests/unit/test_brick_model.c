/* test_brick_model.c - the engine against a model, under kills, power cuts and writes that stop at any point.
 *
 * The model is the cluster's truth: which transactions were decided how. An episode prepares, decides, syncs and
 * checkpoints at random, then the brick dies; the next owner fences, compares the digests with what the brick owed,
 * resolves, and every row must have the model's value. Seeds are printed; MYFS_SEED=n runs one, MYFS_SEEDS=n that many.
 *
 * every_state_...: a short episode is cut at each change of the disk in turn, and for each cut every combination of what unsynced blocks may
 * hold is tried (beyond 256: some of them, drawn). MYFS_CUT_SEEDS=n episodes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "brick_engine_fixture.h"

#define SHARDS  3u
#define ROWS    160u
#define MAX_TXS 1024u

struct mtx {
	struct txid id;
	uint32_t shard, row, nrows, kind, coef;
	bool maybe; /* the PREP failed: the brick may or may not hold it */
	bool prep_synced, decided_synced;
	bool decided, commit;
	uint64_t seq; /* of the decision */
};

struct model {
	struct engine g;
	struct neighbour other; /* its writes push this domain's records out of the ring */
	struct mtx tx[MAX_TXS];
	size_t n;
	uint64_t seq;
	struct txid settled; /* everything below is folded into base; the brick may still hold it */
	uint8_t *base;       /* SHARDS * ROWS blocks: everything folded away */
	uint8_t *now;
	bool torn;
	uint64_t seed;
};

#define MCHECK(m, cond)                                                                                                \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "%s:%d: seed %llu epoch %llu: %s\n", __FILE__, __LINE__,                       \
				(unsigned long long)(m)->seed, (unsigned long long)(m)->g.epoch, #cond);               \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static uint8_t gf_mul(uint8_t a, uint8_t b)
{
	unsigned r = 0, x = a;
	for (unsigned y = b; y; y >>= 1, x = x << 1 ^ (x & 0x80 ? 0x11du : 0))
		if (y & 1)
			r ^= x;
	return (uint8_t)r;
}

static uint8_t *row_at(uint8_t *rows, uint32_t shard, uint32_t row)
{
	return rows + ((size_t)shard * ROWS + row) * MYFS_BLOCK;
}

static uint64_t data_seed(const struct mtx *t, uint32_t i)
{
	uint64_t s = t->id.epoch * 1000003 + t->id.n * 257 + i + 1;
	return t->kind == BP_ABS && s % 9 == 0 ? 0 : s; /* now and then a block of zeros */
}

static void apply(uint8_t *rows, const struct mtx *t)
{
	uint8_t block[MYFS_BLOCK];
	for (uint32_t i = 0; i < t->nrows; i++) {
		uint8_t *dst = row_at(rows, t->shard, t->row + i);
		block_fill(block, t->kind == BP_ZERO ? 0 : data_seed(t, i));
		for (size_t k = 0; k < MYFS_BLOCK; k++)
			dst[k] = t->kind == BP_DELTA ? dst[k] ^ gf_mul((uint8_t)t->coef, block[k]) : block[k];
	}
}

static int by_seq(const void *x, const void *y)
{
	const struct mtx *a = x, *b = y;
	return a->seq < b->seq ? -1 : a->seq > b->seq;
}

/* Present values by the model. */
static void compute(struct model *m)
{
	static struct mtx sorted[MAX_TXS];
	memcpy(m->now, m->base, (size_t)SHARDS * ROWS * MYFS_BLOCK);
	memcpy(sorted, m->tx, m->n * sizeof(*sorted));
	qsort(sorted, m->n, sizeof(*sorted), by_seq);
	for (size_t i = 0; i < m->n; i++)
		if (sorted[i].decided && sorted[i].commit)
			apply(m->now, &sorted[i]);
}

static bool overlaps(const struct mtx *a, const struct mtx *b)
{
	return a->shard == b->shard && a->row < b->row + b->nrows && b->row < a->row + a->nrows;
}

/* ---- checking ---- */

static void explain(const struct model *m, uint32_t shard, uint32_t row)
{
	fprintf(stderr, "shard %u row %u differs; the model's transactions on it:\n", shard, row);
	for (size_t i = 0; i < m->n; i++) {
		const struct mtx *t = &m->tx[i];
		if (t->shard == shard && row >= t->row && row < t->row + t->nrows)
			fprintf(stderr, "  %llu.%llu kind %u rows %u+%u %s%s%s%s seq %llu\n",
				(unsigned long long)t->id.epoch, (unsigned long long)t->id.n, t->kind, t->row, t->nrows,
				t->maybe ? "maybe " : "", t->prep_synced ? "synced " : "",
				t->decided ? t->commit ? "commit" : "abort" : "open",
				t->decided_synced ? " synced" : "", (unsigned long long)t->seq);
	}
}

static void verify(struct model *m) YIELDS
{
	static uint8_t have[16 * MYFS_BLOCK];
	compute(m);
	for (uint32_t s = 0; s < SHARDS; s++)
		for (uint32_t r = 0; r < ROWS; r += 16) {
			bool good;
			MCHECK(m, engine_read(&m->g, s, r, 16, have, &good) == 0);
			for (uint32_t i = 0; i < 16; i++) {
				bool same =
				    memcmp(have + (size_t)i * MYFS_BLOCK, row_at(m->now, s, r + i), MYFS_BLOCK) == 0;
				bool one_good = true;
				if (!same) {
					MCHECK(m, engine_read(&m->g, s, r + i, 1, have + (size_t)i * MYFS_BLOCK,
							      &one_good) == 0);
					if (one_good)
						explain(m, s, r + i);
				}
				MCHECK(m, same || (m->torn && !one_good));
			}
		}
}

/* Rows a torn base made bad are rewritten, as a gateway would. */
static void repair(struct model *m) YIELDS
{
	uint8_t have[MYFS_BLOCK];
	for (uint32_t s = 0; s < SHARDS; s++)
		for (uint32_t r = 0; r < ROWS; r++) {
			bool good;
			MCHECK(m, engine_read(&m->g, s, r, 1, have, &good) == 0);
			if (good)
				continue;
			struct prep p = {
			    .shard = s, .row = r, .nrows = 1, .kind = BP_ABS, .data = row_at(m->now, s, r)};
			MCHECK(m, engine_prep(&m->g, ++m->g.n, &p, NULL) == 0);
			MCHECK(m, engine_decide(&m->g, m->g.n, true) == 0);
		}
}

/* ---- steps of an episode ---- */

static struct mtx *pick_tx(struct model *m, bool undecided)
{
	size_t start = m->n ? prng_below(&m->g.rng, m->n) : 0;
	for (size_t i = 0; i < m->n; i++) {
		struct mtx *t = &m->tx[(start + i) % m->n];
		if (t->id.epoch == m->g.epoch && t->decided != undecided && !t->maybe)
			return t;
	}
	return NULL;
}

static void step_prep(struct model *m) YIELDS
{
	static uint8_t data[24 * MYFS_BLOCK];
	struct engine *g = &m->g;
	struct prng *r = &g->rng;
	if (m->n == MAX_TXS)
		return;
	struct mtx t = {.id = {g->epoch, g->n + 1}, .shard = (uint32_t)prng_below(r, SHARDS)};
	t.nrows = 1 + (uint32_t)prng_below(r, prng_chance(r, 0.2) ? 24 : 3);
	t.row = (uint32_t)prng_below(r, ROWS - t.nrows);
	if (prng_chance(r, 0.6))
		t.row %= 8; /* hot rows */
	t.kind = prng_chance(r, 0.5) ? BP_DELTA : prng_chance(r, 0.8) ? BP_ABS : BP_ZERO;
	t.coef = t.kind == BP_DELTA ? 1 + (uint32_t)prng_below(r, 255) : 0;
	for (size_t i = 0; i < m->n; i++) /* the owner's row locks: only deltas overlap */
		if (!m->tx[i].decided && overlaps(&m->tx[i], &t) && (t.kind != BP_DELTA || m->tx[i].kind != BP_DELTA))
			return;
	for (uint32_t i = 0; i < t.nrows; i++)
		block_fill(data + (size_t)i * MYFS_BLOCK, data_seed(&t, i));
	struct prep p = {
	    .shard = t.shard, .row = t.row, .nrows = t.nrows, .kind = t.kind, .coef = t.coef, .data = data};
	p.flags = prng_chance(r, 0.1) ? BP_PREP_DURABLE : 0;
	g->n++;
	int rc = engine_prep(g, t.id.n, &p, NULL);
	MCHECK(m, rc == 0 || brick_failure(g->b));
	t.maybe = rc != 0;
	t.prep_synced = rc == 0 && p.flags;
	m->tx[m->n++] = t;
}

static void step_decide(struct model *m) YIELDS
{
	struct mtx *t = pick_tx(m, true);
	if (!t)
		return;
	t->decided = true;
	t->commit = prng_chance(&m->g.rng, 0.85);
	t->seq = ++m->seq;
	(void)engine_decide(&m->g, t->id.n, t->commit);
	if (prng_chance(&m->g.rng, 0.5))
		fiber_yield();
}

/* SYNC with the lowest undecided as floor, then perhaps STABLE. */
static void step_sync(struct model *m) YIELDS
{
	static bool prepared[MAX_TXS], decided[MAX_TXS];
	struct engine *g = &m->g;
	uint64_t floor = g->n + 1;
	for (size_t i = 0; i < m->n; i++) {
		prepared[i] = !m->tx[i].maybe;
		decided[i] = m->tx[i].decided;
		if (m->tx[i].id.epoch == g->epoch && !m->tx[i].decided && m->tx[i].id.n < floor)
			floor = m->tx[i].id.n;
	}
	if (engine_sync(g, floor) < 0) {
		MCHECK(m, brick_failure(g->b));
		return;
	}
	for (size_t i = 0; i < m->n; i++) {
		m->tx[i].prep_synced = m->tx[i].prep_synced || prepared[i];
		m->tx[i].decided_synced = m->tx[i].decided_synced || decided[i];
	}
	if (prng_chance(&g->rng, 0.7))
		MCHECK(m, engine_stable(g, floor) == 0 || brick_failure(g->b)); /* a checkpoint may have met the end */
}

static void step_checkpoint(struct model *m) YIELDS
{
	int rc = brick_checkpoint(m->g.b, prng_chance(&m->g.rng, 0.3));
	MCHECK(m, rc == 0 || brick_failure(m->g.b));
}

static void step_neighbour(struct model *m) YIELDS
{
	int rc = neighbour_write(&m->g, &m->other, 1 + (unsigned)prng_below(&m->g.rng, 9));
	MCHECK(m, rc == 0 || brick_failure(m->g.b));
}

static void episode(struct model *m) YIELDS
{
	struct prng *r = &m->g.rng;
	uint64_t steps = 10 + prng_below(r, 120);
	uint64_t stop_at = prng_chance(r, 0.6) ? prng_below(r, steps) : UINT64_MAX;
	for (uint64_t i = 0; i < steps && !brick_failure(m->g.b); i++) {
		if (i == stop_at)
			m->g.cs.writes_left = (int64_t)prng_below(r, prng_chance(r, 0.3) ? 400 : 40);
		uint64_t what = prng_below(r, 100);
		if (what < 45)
			step_prep(m);
		else if (what < 80)
			step_decide(m);
		else if (what < 90)
			step_sync(m);
		else if (what < 96)
			step_checkpoint(m);
		else if (what < 98)
			step_neighbour(m);
		else
			fiber_yield();
	}
}

/* ---- after a death ---- */

static const struct bp_digest *digest_of(const struct bp_fence_reply *f, struct txid id)
{
	for (uint32_t i = 0; i < f->txs.txs_len; i++)
		if (f->txs.txs_val[i].tx.epoch == id.epoch && f->txs.txs_val[i].tx.n == id.n)
			return &f->txs.txs_val[i];
	return NULL;
}

static void forget_tx(struct model *m, size_t i)
{
	memmove(&m->tx[i], &m->tx[i + 1], (m->n - i - 1) * sizeof(*m->tx));
	m->n--;
}

/* What the brick holds of t must fit what it owed. Returns false when it holds nothing of it. */
static bool reconcile(struct model *m, struct mtx *t, const struct bp_fence_reply *f, bool power) YIELDS
{
	struct txid floor = {f->floor.epoch, f->floor.n};
	if (txid_cmp(t->id, floor) < 0) {
		MCHECK(m, t->decided && t->decided_synced);
		return true;
	}
	const struct bp_digest *d = digest_of(f, t->id);
	if (!d) {
		MCHECK(m, t->maybe || (power && !t->prep_synced));
		return false;
	}
	t->maybe = false;
	if (d->state == BP_ST_PREP) {
		MCHECK(m, !t->decided_synced);
		if (!t->decided) {
			t->decided = true;
			t->commit = prng_chance(&m->g.rng, 0.5);
			t->seq = ++m->seq;
		}
		MCHECK(m, engine_resolve(&m->g, t->id.epoch, t->id.n, t->commit) == 0);
		return true;
	}
	MCHECK(m, t->decided && t->commit == (d->state == BP_ST_COMMITTED));
	return true;
}

/* Rollback resolution: a committed, not yet stable transaction nothing later stands on is taken back. */
static void take_back(struct model *m, const struct bp_fence_reply *f) YIELDS
{
	for (size_t i = m->n; i-- > 0;) {
		struct mtx *t = &m->tx[i];
		const struct bp_digest *d = digest_of(f, t->id);
		bool last = true;
		for (size_t k = 0; k < m->n; k++)
			last = last && (k == i || !overlaps(&m->tx[k], t) || m->tx[k].seq < t->seq ||
					(t->kind == BP_DELTA && m->tx[k].kind == BP_DELTA));
		if (!d || !last || d->state != BP_ST_COMMITTED || !prng_chance(&m->g.rng, 0.3))
			continue;
		MCHECK(m, engine_resolve(&m->g, t->id.epoch, t->id.n, false) == 0);
		t->commit = false;
		return;
	}
}

static void heal_region(struct model *m, uint32_t shard, uint32_t region) YIELDS
{
	for (uint32_t r = region * 64; r < (region + 1) * 64 && r < ROWS; r++) {
		uint8_t *p = row_at(m->now, shard, r);
		uint32_t crc = crc32c(p, MYFS_BLOCK);
		bool zero = mem_is_zero(p, MYFS_BLOCK) && prng_chance(&m->g.rng, 0.5);
		struct bp_healw_args a = {.shard = shard,
					  .row = r,
					  .nrows = 1,
					  .zero = zero,
					  .durable = r % 64 == 63 || r == ROWS - 1,
					  .crc = {zero ? 0 : 1, &crc}};
		struct slice payload = {NULL, p, zero ? 0 : MYFS_BLOCK};
		memcpy(a.domain, m->g.domain.b, 16);
		MCHECK(m, rows_request_heal(m->g.b, m->g.s, &a, &payload) == 0);
	}
}

/* Out of the view, what is not stable thrown away, the regions that lacks rebuilt from the model, in again. */
static void rejoin(struct model *m, struct txid floor) YIELDS
{
	struct engine *g = &m->g;
	uint64_t regions[SHARDS] = {0};
	struct bp_rejoin_args a = {.floor = {floor.epoch, floor.n}};
	struct bp_missed_res res = {0};
	memcpy(a.domain, g->domain.b, 16);
	g->ver++;
	MCHECK(m, engine_view(g, BP_VIEW_RESOLVING, ALL_INSYNC & ~(1u << OWN_INDEX)) == 0);
	MCHECK(m, tx_rejoin(g->b, g->s, &a, &res) == 0);
	for (uint32_t i = 0; i < res.items.items_len; i++)
		if (res.items.items_val[i].shard < SHARDS)
			regions[res.items.items_val[i].shard] |= res.items.items_val[i].regions;
	xdr_free((xdrproc_t)xdr_bp_missed_res, &res);
	for (size_t i = 0; i < m->n; i++) /* the members' missed maps */
		if (txid_cmp(m->tx[i].id, floor) >= 0)
			regions[m->tx[i].shard] |= regions_of_rows(g->b, m->tx[i].row, m->tx[i].nrows);
	for (size_t i = 0; i < m->n; i++)
		if (!m->tx[i].decided) {
			m->tx[i].decided = true;
			m->tx[i].commit = prng_chance(&g->rng, 0.5);
			m->tx[i].seq = ++m->seq;
		}
	compute(m);
	for (uint32_t s = 0; s < SHARDS; s++)
		for (uint32_t r = 0; r < 64; r++)
			if (regions[s] >> r & 1)
				heal_region(m, s, r);
	g->ver++;
	MCHECK(m, engine_view(g, BP_VIEW_READY, ALL_INSYNC) == 0);
	struct bp_clear_args c = {.brick = OWN_INDEX};
	memcpy(c.domain, g->domain.b, 16);
	MCHECK(m, clear_request(g->b, g->s, &c) == 0);
}

/* Highest floor anybody could have seen: everything below is decided and durable. */
static struct txid stable_floor(const struct model *m)
{
	struct txid floor = {m->g.epoch, 0};
	for (size_t i = 0; i < m->n; i++)
		if (!m->tx[i].decided_synced && txid_cmp(m->tx[i].id, floor) < 0)
			floor = m->tx[i].id;
	return floor;
}

/* True when the brick came back through rejoin and heal: before it joins, the owner flushes, so everything is below the
 * floor then. */
static bool takeover(struct model *m, bool power) YIELDS
{
	struct engine *g = &m->g;
	struct bp_fence_res res;
	g->epoch++;
	g->n = 0;
	MCHECK(m, engine_fence(g, g->epoch, &res) == 0);
	struct bp_fence_reply *f = res.items.items_val;
	for (uint32_t i = 0; i < f->txs.txs_len; i++) {
		bool known =
		    txid_cmp((struct txid){f->txs.txs_val[i].tx.epoch, f->txs.txs_val[i].tx.n}, m->settled) < 0 &&
		    f->txs.txs_val[i].state != BP_ST_PREP;
		for (size_t k = 0; k < m->n; k++)
			known = known || (m->tx[k].id.epoch == f->txs.txs_val[i].tx.epoch &&
					  m->tx[k].id.n == f->txs.txs_val[i].tx.n);
		MCHECK(m, known);
	}
	bool back = prng_chance(&g->rng, 0.25);
	if (back) {
		rejoin(m, stable_floor(m));
	} else {
		for (size_t i = 0; i < m->n;) {
			if (reconcile(m, &m->tx[i], f, power))
				i++;
			else
				forget_tx(m, i);
		}
		if (prng_chance(&g->rng, 0.3))
			take_back(m, f);
		g->ver++;
		MCHECK(m, engine_view(g, BP_VIEW_READY, ALL_INSYNC) == 0);
	}
	fence_free(&res);
	return back;
}

/* Everything decided becomes stable, and the model forgets the history. */
static void settle(struct model *m) YIELDS
{
	MCHECK(m, engine_sync(&m->g, m->g.n + 1) == 0);
	MCHECK(m, engine_stable(&m->g, m->g.n + 1) == 0);
	compute(m);
	memcpy(m->base, m->now, (size_t)SHARDS * ROWS * MYFS_BLOCK);
	m->n = 0;
	m->settled = (struct txid){m->g.epoch, m->g.n + 1};
}

static void one_seed(struct model *m, void *loop, uint64_t seed, bool torn) YIELDS
{
	memset(m->base, 0, (size_t)SHARDS * ROWS * MYFS_BLOCK);
	m->n = 0;
	m->seq = 0;
	m->settled = (struct txid){0, 0};
	m->other = (struct neighbour){.domain = test_gfid(0xd7)};
	m->seed = seed;
	m->torn = torn;
	engine_make(&m->g, loop, seed);
	m->g.cs.torn = torn;
	engine_own(&m->g, ALL_INSYNC);
	for (int round = 0; round < 8; round++) {
		episode(m);
		bool failed = brick_failure(m->g.b) != NULL;
		bool orderly = !failed && prng_chance(&m->g.rng, 0.15);
		bool power = !orderly && prng_chance(&m->g.rng, 0.6);
		m->g.cs.writes_left = orderly ? -1 : m->g.cs.writes_left;
		if (orderly)
			engine_stop(&m->g);
		else
			engine_crash(&m->g, power);
		if (prng_chance(&m->g.rng, 0.3)) { /* dies again while it comes up */
			struct err e = ERR_INIT;
			m->g.cs.writes_left = (int64_t)prng_below(&m->g.rng, 12);
			bool again = prng_chance(&m->g.rng, 0.5);
			if (engine_try_start(&m->g, &e) < 0)
				m->g.b = NULL;
			engine_crash(&m->g, again);
			power = power || again;
		}
		m->g.background = prng_chance(&m->g.rng, 0.5);
		m->g.checkpoint_bytes = prng_chance(&m->g.rng, 0.5) ? 64 * 1024 : 0;
		m->other.owned = false;
		engine_start(&m->g);
		if (getenv("MYFS_TRACE"))
			fprintf(stderr, "round %d: %s%s%s, epoch %llu next\n", round, failed ? "failed, " : "",
				orderly ? "orderly" : "crash", power ? " power" : "",
				(unsigned long long)m->g.epoch + 1);
		bool rejoined = takeover(m, power);
		verify(m);
		if (torn)
			repair(m);
		if (torn || rejoined || prng_chance(&m->g.rng, 0.5))
			settle(m);
	}
	engine_remove(&m->g);
}

static struct model *model_new(void)
{
	struct model *m = calloc(1, sizeof(*m));
	size_t bytes = (size_t)SHARDS * ROWS * MYFS_BLOCK;
	assert(m);
	m->base = malloc(bytes);
	m->now = malloc(bytes);
	assert(m->base && m->now);
	return m;
}

static void model_free(struct model *m)
{
	free(m->base);
	free(m->now);
	free(m);
}

static void run_seeds(void *loop, uint64_t first, uint64_t count, bool torn) YIELDS
{
	struct model *m = model_new();
	for (uint64_t s = first; s < first + count; s++)
		one_seed(m, loop, s, torn);
	model_free(m);
}

/* ---- every state a power cut may leave ---- */

/* A mixed-radix counter: the n-th question of a run is answered by its n-th digit. Beyond ALL_STATES combinations the rest is drawn. */
#define ALL_STATES  256u
#define DRAWN       24u
#define MAX_DIGITS  512u
struct counter {
	unsigned digit[MAX_DIGITS], base[MAX_DIGITS], asked, used;
	uint64_t states; /* product of the bases so far */
	struct prng *draw;  /* NULL: count */
};

static unsigned counter_choose(void *arg, unsigned n)
{
	struct counter *c = arg;
	if (c->draw)
		return (unsigned)prng_below(c->draw, n);
	if (n == 1 || c->asked == MAX_DIGITS)
		return 0;
	if (c->asked == c->used) {
		c->digit[c->used] = 0;
		c->base[c->used++] = n;
		c->states = min_u64(c->states * n, ALL_STATES + 1);
	}
	assert(c->base[c->asked] == n); /* the run is the same up to the cut */
	return c->digit[c->asked++];
}

static bool counter_next(struct counter *c)
{
	c->asked = 0;
	for (unsigned i = 0; i < c->used; i++) {
		if (++c->digit[i] < c->base[i])
			return true;
		c->digit[i] = 0;
	}
	return false;
}

/* A few steps, cut at the n-th change of the disk; power is lost, c picks what stays. False when the steps end before. */
static bool cut_once(struct model *m, void *loop, uint64_t seed, int64_t n, struct counter *c) YIELDS
{
	struct engine *g = &m->g;
	memset(m->base, 0, (size_t)SHARDS * ROWS * MYFS_BLOCK);
	m->n = 0;
	m->seq = 0;
	m->settled = (struct txid){0, 0};
	m->seed = seed;
	m->torn = false;
	engine_make(g, loop, seed);
	engine_own(g, ALL_INSYNC);
	g->cs.writes_left = n;
	g->cs.choose = counter_choose;
	g->cs.choose_arg = c;
	for (unsigned i = 0; i < 30 && !brick_failure(g->b); i++) {
		uint64_t what = prng_below(&g->rng, 100);
		if (what < 40)
			step_prep(m);
		else if (what < 70)
			step_decide(m);
		else if (what < 85)
			step_sync(m);
		else
			step_checkpoint(m);
	}
	bool cut = brick_failure(g->b) != NULL;
	engine_crash(g, true);
	g->cs.choose = NULL;
	engine_start(g);
	takeover(m, true);
	verify(m);
	engine_remove(g);
	return cut;
}

static void every_cut(struct model *m, void *loop, uint64_t seed) YIELDS
{
	unsigned cuts = 0, states = 0, drawn = 0;
	bool cut = true;
	for (int64_t n = 0; cut; n++) {
		struct counter *c = calloc(1, sizeof(*c));
		struct prng draw;
		assert(c);
		c->states = 1;
		do {
			cut = cut_once(m, loop, seed, n, c);
			states++;
		} while (c->states <= ALL_STATES && counter_next(c));
		if (c->states > ALL_STATES) {
			prng_seed(&draw, seed + (uint64_t)n);
			c->draw = &draw;
			for (unsigned i = 0; i < DRAWN; i++)
				cut_once(m, loop, seed, n, c);
			states += DRAWN;
			drawn++;
		}
		free(c);
		cuts++;
	}
	print_message("seed %llu: %u cuts, %u states on disk, %u cuts with some of more than %u\n", (unsigned long long)seed, cuts, states, drawn, ALL_STATES);
}

static uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *v = getenv(name);
	return v ? strtoull(v, NULL, 10) : otherwise;
}

static void blocks_fiber(void *loop)
{
	run_seeds(loop, env_number("MYFS_SEED", 1), env_number("MYFS_SEEDS", getenv("MYFS_SEED") ? 1 : 15), false);
}

static void torn_fiber(void *loop)
{
	run_seeds(loop, env_number("MYFS_SEED", 1001), env_number("MYFS_SEEDS", getenv("MYFS_SEED") ? 1 : 10), true);
}

static void cuts_fiber(void *loop)
{
	uint64_t first = env_number("MYFS_SEED", 4), count = env_number("MYFS_CUT_SEEDS", 3);
	struct model *m = model_new();
	brick_dir_journal_bytes = BRICK_JOURNAL_MIN; /* it is made anew for each state */
	for (uint64_t s = first; s < first + count; s++)
		every_cut(m, loop, s);
	model_free(m);
}

static void every_state_a_power_cut_may_leave_recovers(void **state)
{
	(void)state;
	on_backend(LOOP_AUTO, cuts_fiber);
}

static void the_brick_keeps_its_word_through_kills_and_power_cuts(void **state)
{
	(void)state;
	on_backend(LOOP_AUTO, blocks_fiber);
}

static void torn_blocks_are_noticed_and_never_returned(void **state)
{
	(void)state;
	on_backend(LOOP_AUTO, torn_fiber);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_brick_keeps_its_word_through_kills_and_power_cuts),
	    cmocka_unit_test(torn_blocks_are_noticed_and_never_returned),
	    cmocka_unit_test(every_state_a_power_cut_may_leave_recovers),
	};
	return cmocka_run_group_tests_name("brick model", tests, NULL, NULL);
}
