/* brick_engine_fixture.h - one brick engine driven by direct calls, as the owner of one domain would drive it over the
 * wire. */
#ifndef MYFS_TEST_BRICK_ENGINE_FIXTURE_H
#define MYFS_TEST_BRICK_ENGINE_FIXTURE_H

#include "brick/brick_priv.h"
#include "brick_fixture.h"
#include "core/base/crc32c.h"
#include "crash_store.h"

#define OWN_INDEX  3u
#define ALL_INSYNC 0x3fu

struct engine {
	struct brick_dir dir;
	struct crash_store cs;
	struct prng rng;
	struct brick *b;
	struct session *s;
	struct gfid boot, gateway, domain;
	struct brick_witness witness; /* memory of the host */
	uint64_t epoch, ver, n; /* of the view; last tx number */
	struct loop *loop;
	bool background, unjournaled;
	uint64_t checkpoint_bytes;
};

static inline int engine_try_start(struct engine *g, struct err *e) YIELDS
{
	struct brick_options o = {.loop = g->loop,
				  .boot = g->boot,
				  .witness = &g->witness,
				  .reserve_bytes = 1,
				  .manual = !g->background,
				  .unjournaled = g->unjournaled,
				  .checkpoint_bytes = g->checkpoint_bytes};
	int rc = brick_open(&g->cs.store, &o, &g->b, e);
	if (rc == 0)
		g->s = session_new(g->b, &g->gateway, 1, NULL);
	return rc;
}

static inline void engine_start(struct engine *g) YIELDS
{
	struct err e = ERR_INIT;
	int rc = engine_try_start(g, &e);
	if (rc < 0)
		fprintf(stderr, "brick_open: %s\n", e.text);
	CHECK(rc == 0);
}

/* The power cuts are ours, so a memory file system serves as well and is faster; it must hold trusted. xattrs. */
static inline void engine_dir(struct brick_dir *d) YIELDS
{
	char path[] = "/dev/shm/myfs-brick-XXXXXX";
	brick_dir_make(d);
	struct store *s;
	if (!mkdtemp(path))
		return;
	if (store_open_posix(path, &s, NULL) < 0 || store_setxattr(s, STORE_ROOT, "trusted.try", "x", 1, 0) < 0 ||
	    store_removexattr(s, STORE_ROOT, "trusted.try") < 0) {
		rmdir(path);
		return;
	}
	store_close(d->s);
	rmdir(d->path);
	strcpy(d->path, path);
	d->s = s;
}

static inline void engine_make(struct engine *g, struct loop *loop, uint64_t seed) YIELDS
{
	memset(g, 0, sizeof(*g));
	g->loop = loop;
	prng_seed(&g->rng, seed);
	g->boot = test_gfid(0xb0);
	g->gateway = test_gfid(0x6a);
	g->domain = test_gfid(0xd0);
	engine_dir(&g->dir);
	struct err e = ERR_INIT;
	CHECK(tree_create(g->dir.s, &g->dir.id, false, &e) == 0);
	crash_store_init(&g->cs, g->dir.s, &g->rng);
	engine_start(g);
}

/* Ends the engine as a kill (or a power cut) does and puts a fresh store under the next one. */
static inline void engine_crash(struct engine *g, bool power_loss) YIELDS
{
	brick_abandon(g->b);
	g->b = NULL;
	crash_store_crash(&g->cs, power_loss);
	if (power_loss) {
		prng_bytes(&g->rng, g->boot.b, sizeof(g->boot.b));
		g->witness = (struct brick_witness){0};
	}
	store_close(g->dir.s);
	CHECK(store_open_posix(g->dir.path, &g->dir.s, NULL) == 0);
	g->cs.under = g->dir.s;
}

static inline void engine_stop(struct engine *g) YIELDS
{
	brick_close(g->b);
	g->b = NULL;
	store_close(g->dir.s);
	CHECK(store_open_posix(g->dir.path, &g->dir.s, NULL) == 0);
	g->cs.under = g->dir.s;
}

static inline void engine_remove(struct engine *g) YIELDS
{
	if (g->b)
		brick_close(g->b);
	crash_store_release(&g->cs);
	brick_dir_remove(&g->dir);
}

/* ---- protocol steps ---- */

static inline int engine_fence(struct engine *g, uint64_t epoch, struct bp_fence_res *res) YIELDS
{
	struct bp_fence_item item = {.epoch = epoch};
	struct bp_fence_args a = {.items = {1, &item}};
	memcpy(item.domain, g->domain.b, 16);
	memcpy(a.owner, g->gateway.b, 16);
	memset(res, 0, sizeof(*res));
	int rc = fence_request(g->b, g->s, &a, res);
	return rc < 0 ? rc : -(int)res->items.items_val[0].status;
}

static inline void fence_free(struct bp_fence_res *res)
{
	xdr_free((xdrproc_t)xdr_bp_fence_res, res);
}

static inline int engine_view(struct engine *g, uint32_t state, uint32_t insync) YIELDS
{
	bp_uuid boots[6] = {{0}};
	struct bp_view_args a = {
	    .view = {.epoch = g->epoch, .ver = g->ver, .state = state, .insync = insync, .boot = {6, boots}}};
	memcpy(a.domain, g->domain.b, 16);
	return view_request(g->b, g->s, &a);
}

/* Fences with the next epoch and becomes the owner of a READY view. */
static inline void engine_own(struct engine *g, uint32_t insync) YIELDS
{
	struct bp_fence_res res;
	g->epoch++;
	g->n = 0;
	CHECK(engine_fence(g, g->epoch, &res) == 0);
	fence_free(&res);
	g->ver++;
	CHECK(engine_view(g, BP_VIEW_READY, insync) == 0);
}

/* One page of the domain's missed list. */
static inline int engine_missq(struct engine *g, uint32_t only, uint32_t shard, uint32_t brick, struct bp_missed_res *ret)
{
	struct bp_missq_args a = {.brick = only, .from_shard = shard, .from_brick = brick};
	memcpy(a.domain, g->domain.b, 16);
	*ret = (struct bp_missed_res){0};
	return missed_request(g->b, &a, ret);
}

/* Another domain of the same brick that is written and made stable without end: what makes the journal go round. */
struct neighbour {
	struct gfid domain;
	uint64_t epoch, ver, n;
	bool owned; /* since the last start */
};

static inline void neighbour_swap(struct engine *g, struct neighbour *o)
{
	struct neighbour mine = {g->domain, g->epoch, g->ver, g->n, o->owned};
	g->domain = o->domain;
	g->epoch = o->epoch;
	g->ver = o->ver;
	g->n = o->n;
	*o = mine;
}

struct prep {
	uint32_t shard, row, nrows, kind, flags, coef, missed;
	uint8_t *data;    /* nrows blocks; NULL for zero */
	uint32_t old_crc; /* every row, with BP_PREP_OLD_CRC */
};

/* Prepares tx n of the present epoch. */
static inline int engine_prep(struct engine *g, uint64_t n, const struct prep *p, struct slice *ret_delta) YIELDS
{
	uint32_t crc[BP_MAX_ROWS_PAYLOAD], old[BP_MAX_ROWS_PAYLOAD];
	struct bp_prep_args a = {.shard = p->shard,
				 .tx = {g->epoch, n},
				 .view_version = g->ver,
				 .kind = p->kind,
				 .flags = p->flags,
				 .tx_kind = BP_TX_DELTA,
				 .row = p->row,
				 .nrows = p->nrows,
				 .coef = p->coef,
				 .lba = p->row,
				 .nblocks = p->nrows,
				 .participants = 1u << OWN_INDEX,
				 .missed = p->missed};
	memcpy(a.domain, g->domain.b, 16);
	struct slice payload = {0}, delta = {0};
	struct buf *buf = NULL;
	if (p->kind != BP_ZERO) {
		size_t len = (size_t)p->nrows * MYFS_BLOCK;
		buf = buf_alloc(len * (1 + n % 8)); /* now mostly the payload, now a small part of it */
		memcpy(buf->data, p->data, len);
		payload = (struct slice){buf, buf->data, len};
		for (uint32_t i = 0; i < p->nrows; i++)
			crc[i] = crc32c(p->data + (size_t)i * MYFS_BLOCK, MYFS_BLOCK);
		a.crc.crc_len = p->nrows;
		a.crc.crc_val = crc;
	}
	if (p->flags & BP_PREP_OLD_CRC) {
		for (uint32_t i = 0; i < p->nrows; i++)
			old[i] = p->old_crc;
		a.old_crc.old_crc_len = p->nrows;
		a.old_crc.old_crc_val = old;
	}
	int rc = tx_prepare(g->b, g->s, &a, &payload, &delta);
	buf_unref(buf);
	if (ret_delta)
		*ret_delta = delta;
	else
		buf_unref(delta.owner);
	return rc;
}

static inline int engine_decide(struct engine *g, uint64_t n, bool commit)
{
	struct bp_tx id = {g->epoch, n};
	struct bp_decide_args a = {.txs = {1, &id}};
	memcpy(a.domain, g->domain.b, 16);
	return tx_decide(g->b, g->s, &a, commit);
}

static inline int engine_resolve(struct engine *g, uint64_t epoch, uint64_t n, bool commit) YIELDS
{
	struct bp_decision dec = {{epoch, n}, commit};
	struct bp_resolve_args a = {.items = {1, &dec}};
	memcpy(a.domain, g->domain.b, 16);
	return tx_resolve(g->b, g->s, &a);
}

static inline int engine_sync(struct engine *g, uint64_t floor) YIELDS
{
	struct bp_floor f = {.floor = {g->epoch, floor}};
	struct bp_floor_args a = {.items = {1, &f}};
	memcpy(f.domain, g->domain.b, 16);
	return tx_sync(g->b, g->s, &a);
}

static inline int engine_stable(struct engine *g, uint64_t floor)
{
	struct bp_floor f = {.floor = {g->epoch, floor}};
	struct bp_floor_args a = {.items = {1, &f}};
	memcpy(f.domain, g->domain.b, 16);
	return tx_stable(g->b, g->s, &a);
}

/* One row as a READ would answer; zeros are filled in. *ret_good: the checksum fits. */
static inline int engine_read(struct engine *g, uint32_t shard, uint32_t row, uint32_t nrows, uint8_t *dst,
			      bool *ret_good) YIELDS
{
	struct bp_read_args a = {.shard = shard, .row = row, .nrows = nrows};
	struct bp_read_res res = {0};
	uint32_t crc[BP_MAX_ROWS_PAYLOAD];
	struct slice payload = {0};
	memcpy(a.domain, g->domain.b, 16);
	int rc = rows_request_read(g->b, g->s, &a, &res, crc, &payload);
	if (rc < 0)
		return rc;
	bool good = true;
	memset(dst, 0, (size_t)nrows * MYFS_BLOCK);
	if (!res.zero) {
		CHECK(payload.len == (size_t)nrows * MYFS_BLOCK && res.crc.crc_len == nrows);
		memcpy(dst, payload.ptr, payload.len);
		for (uint32_t i = 0; i < nrows; i++)
			good = good && crc32c(dst + (size_t)i * MYFS_BLOCK, MYFS_BLOCK) == crc[i];
	}
	buf_unref(payload.owner);
	if (ret_good)
		*ret_good = good;
	return 0;
}

/* A block of bytes that depends on the seed; seed 0 is all zeros. */
static inline void block_fill(uint8_t *p, uint64_t seed)
{
	struct prng r;
	memset(p, 0, MYFS_BLOCK);
	if (!seed)
		return;
	prng_seed(&r, seed);
	for (size_t i = 0; i < MYFS_BLOCK; i += 512)
		prng_bytes(&r, p + i, 32);
}

static inline bool row_is(struct engine *g, uint32_t shard, uint32_t row, uint64_t seed) YIELDS
{
	uint8_t have[MYFS_BLOCK], want[MYFS_BLOCK];
	bool good;
	block_fill(want, seed);
	return engine_read(g, shard, row, 1, have, &good) == 0 && good && memcmp(have, want, MYFS_BLOCK) == 0;
}

/* PREP of one row with block_fill(seed), then COMMIT. */
static inline void engine_write(struct engine *g, uint32_t shard, uint32_t row, uint64_t seed) YIELDS
{
	uint8_t data[MYFS_BLOCK];
	block_fill(data, seed);
	struct prep p = {.shard = shard, .row = row, .nrows = 1, .kind = BP_ABS, .data = data};
	CHECK(engine_prep(g, ++g->n, &p, NULL) == 0);
	CHECK(engine_decide(g, g->n, true) == 0);
}

static inline void engine_make_stable(struct engine *g) YIELDS
{
	CHECK(engine_sync(g, g->n + 1) == 0);
	CHECK(engine_stable(g, g->n + 1) == 0);
}

/* Writes `mib` MiB of the neighbour and makes them stable. 0, or the first error (the brick has failed). */
static inline int neighbour_write(struct engine *g, struct neighbour *o, unsigned mib) YIELDS
{
	static uint8_t data[256 * MYFS_BLOCK];
	int rc = 0;
	neighbour_swap(g, o);
	if (!o->owned) {
		struct bp_fence_res res;
		g->n = 0;
		rc = engine_fence(g, ++g->epoch, &res);
		fence_free(&res);
		g->ver++;
		if (rc == 0)
			rc = engine_view(g, BP_VIEW_READY, ALL_INSYNC);
		o->owned = rc == 0;
	}
	for (unsigned i = 0; i < mib && rc == 0; i++) {
		struct prep p = {
		    .shard = 7, .row = 256 * (uint32_t)(g->n % 8), .nrows = 256, .kind = BP_ABS, .data = data};
		memset(data, (int)g->n + 1, sizeof(data));
		rc = engine_prep(g, ++g->n, &p, NULL);
		if (rc == 0)
			rc = engine_decide(g, g->n, true);
		if (rc == 0)
			rc = engine_sync(g, g->n + 1);
		if (rc == 0)
			rc = engine_stable(g, g->n + 1);
		if (rc == 0)
			rc = brick_checkpoint(g->b, i % 2 == 1);
	}
	neighbour_swap(g, o);
	return rc;
}

/* ENGINE_TEST(name) { ... }: a test with a fresh engine g that owns its domain, on every backend. */
static inline void with_engine(struct engine *g, void *loop)
{
	engine_make(g, loop, 7);
	engine_own(g, ALL_INSYNC);
}

#define ENGINE_TEST(name)                                                                                              \
	static void name##_body(struct engine *g);                                                                     \
	static void name##_fiber(void *loop)                                                                           \
	{                                                                                                              \
		struct engine *g = calloc(1, sizeof(*g));                                                              \
		CHECK(g);                                                                                              \
		with_engine(g, loop);                                                                                  \
		name##_body(g);                                                                                        \
		engine_remove(g);                                                                                      \
		free(g);                                                                                               \
	}                                                                                                              \
	static void name(void **state)                                                                                 \
	{                                                                                                              \
		(void)state;                                                                                           \
		on_every_backend(name##_fiber);                                                                        \
	}                                                                                                              \
	static void name##_body(struct engine *g)

#endif
