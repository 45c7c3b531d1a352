/* Bricks that were away, over real bricks in this process: what they missed comes back, only that, while the domain is
 * in use; then others are taken away so that every byte depends on the healed ones. Seeds are printed; MYFS_SEED
 * repeats one, MYFS_GEOMETRY picks one. */
#include "brick/brick_priv.h"
#include "core/base/bitmap.h"
#include "ec/heal.h"
#include "ec_cluster.h"

#define LUN     1
#define SHARDS  2u
#define AREA    (2u * 1024 * 1024 + 8192) /* bytes used of each shard: three regions */
#define CLIENTS 3u
#define TIMEOUT (60 * NS_PER_S)

struct geometry {
	const char *name;
	uint32_t k, r, chunk;
};
static const struct geometry geometries[] = {
    {"2+1", 2, 1, 16384},
    {"4+2", 4, 2, 16384},
    {"replica 3", 1, 2, 16384},
    {"3+3", 3, 3, 4096},
};

static const struct geometry *geometry_now;
static uint64_t seed_now;

/* ---- a domain in use, and what it should hold ---- */

struct world {
	struct cluster c;
	struct ec_set *s;
	struct ec_domain *d;
	struct prng rng;
	uint8_t *bytes[SHARDS];
	unsigned running, ops;
	bool stop;
	struct waitq ended;
};

struct client {
	struct world *w;
	struct prng rng;
	uint32_t first, end; /* blocks of each shard that only this client writes */
};

static void die(const char *what, int rc)
{
	fprintf(stderr, "%s seed %llu: %s: %s\n", geometry_now->name, (unsigned long long)seed_now, what, err_name(rc));
	abort();
}

static void world_open(struct world *w, struct loop *l)
{
	memset(w, 0, sizeof(*w));
	prng_seed(&w->rng, seed_now);
	waitq_init(&w->ended);
	cluster_new(&w->c, l, geometry_now->k, geometry_now->r, geometry_now->chunk);
	for (unsigned s = 0; s < SHARDS; s++)
		CHECK((w->bytes[s] = calloc(1, AREA)));
	w->s = cluster_set(&w->c, 1, TIMEOUT);
	w->d = cluster_domain(w->s, LUN, true);
}

static void world_close(struct world *w)
{
	ec_domain_close(w->d);
	ec_set_close(w->s);
	for (unsigned s = 0; s < SHARDS; s++)
		free(w->bytes[s]);
	cluster_free(&w->c);
}

static uint32_t tolerates(const struct world *w) { return ec_set_geometry(w->s)->tolerates; }

static void put(struct world *w, uint32_t shard, uint32_t off, uint32_t len, struct prng *rng)
{
	uint8_t *p = w->bytes[shard] + off;
	prng_bytes(rng, p, len);
	uint8_t *copy = malloc(len);
	memcpy(copy, p, len);
	struct iovec v = {copy, len};
	int rc = ec_write(w->d, shard, off, (struct iov){.v = &v, .n = 1}, false);
	if (rc)
		die("write", rc);
	free(copy);
}

static void fill(struct world *w)
{
	for (uint32_t s = 0; s < SHARDS; s++)
		put(w, s, 0, AREA, &w->rng);
}

static void compare(struct world *w)
{
	struct bufs out;
	uint8_t *got = malloc(AREA);

	bufs_init(&out);
	for (uint32_t s = 0; s < SHARDS; s++) {
		int rc = ec_read(w->d, s, 0, AREA, &out);
		if (rc)
			die("read", rc);
		bufs_copy_out(&out, 0, got, AREA);
		for (uint32_t i = 0; i < AREA; i++) {
			if (got[i] == w->bytes[s][i])
				continue;
			fprintf(stderr, "%s seed %llu: shard %u block %u byte %u: got %02x, want %02x\n",
				geometry_now->name, (unsigned long long)seed_now, s, i / 4096, i % 4096, got[i],
				w->bytes[s][i]);
			abort();
		}
		bufs_release(&out);
	}
	free(got);
}

static void client_run(void *arg)
{
	struct client *c = arg;
	struct world *w = c->w;

	while (!w->stop) {
		static const uint32_t longest[] = {1, 1, 4, 30, 200};
		uint32_t shard = (uint32_t)prng_below(&c->rng, SHARDS), span = c->end - c->first;
		uint32_t n = 1 + (uint32_t)prng_below(&c->rng, min_u64(longest[prng_below(&c->rng, 5)], span));
		uint32_t first = c->first + (uint32_t)prng_below(&c->rng, span - n + 1);
		int rc = 0;
		if (prng_chance(&c->rng, 0.85)) {
			put(w, shard, first * 4096, n * 4096, &c->rng);
		} else if (prng_chance(&c->rng, 0.7)) {
			memset(w->bytes[shard] + first * 4096, 0, (size_t)n * 4096);
			rc = ec_zero(w->d, shard, (uint64_t)first * 4096, (uint64_t)n * 4096, false);
		} else {
			rc = ec_flush(w->d);
		}
		if (rc)
			die("client", rc);
		w->ops++;
	}
	w->running--;
	waitq_wake_all(&w->ended);
}

static void clients_start(struct world *w, struct client *c)
{
	w->stop = false;
	for (uint32_t i = 0; i < CLIENTS; i++) {
		c[i] =
		    (struct client){.w = w, .first = AREA / 4096 * i / CLIENTS, .end = AREA / 4096 * (i + 1) / CLIENTS};
		prng_seed(&c[i].rng, seed_now * 1000 + i);
		w->running++;
		CHECK(fiber_spawn(loop_self(), "client", client_run, &c[i]) == 0);
	}
}

static void clients_progress(struct world *w, unsigned n)
{
	unsigned until = w->ops + n;
	uint64_t deadline = loop_now_ns() + TIMEOUT;

	while (w->ops < until) {
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
		if (loop_now_ns() > deadline)
			die("clients stand still", -ETIMEDOUT);
	}
}

static void clients_stop(struct world *w)
{
	w->stop = true;
	while (w->running)
		waitq_wait(&w->ended);
}

/* ---- waiting for a state, never for a time ---- */

static struct ec_domain_status status(const struct world *w)
{
	struct ec_domain_status st;
	ec_domain_status(w->d, &st);
	return st;
}

static void wait_insync(struct world *w, uint32_t mask)
{
	uint64_t deadline = loop_now_ns() + TIMEOUT;

	while (status(w).insync != mask || !status(w).serving) {
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
		if (loop_now_ns() > deadline) {
			struct ec_domain_status st = status(w);
			fprintf(stderr,
				"in sync 0x%x, want 0x%x; connected 0x%x healing 0x%x cause %d missed %llu: %s\n",
				st.insync, mask, st.connected, st.healing, (int)st.cause,
				(unsigned long long)st.missed_bytes, w->d->last_error.text);
			die("waiting for members", -ETIMEDOUT);
		}
	}
}

static void wait_all_insync(struct world *w) { wait_insync(w, mask_all(w->c.n)); }

/* Every set of `tolerates` bricks that contains none of `keep` is taken away in turn, so that all reads lean on `keep`.
 */
static void compare_leaning_on(struct world *w, uint32_t keep)
{
	uint32_t gone = 0, spare = tolerates(w);
	ec_domain_close(w->d);
	ec_set_close(w->s);
	for (uint32_t i = 0; i < w->c.n && mask_count(gone) < spare; i++)
		if (!mask_has(keep, i))
			gone |= MASK(i);
	for (uint32_t i = 0; i < w->c.n; i++)
		if (mask_has(gone, i))
			cluster_cut(&w->c, i);
	w->s = cluster_set(&w->c, 1, TIMEOUT);
	w->d = cluster_domain(w->s, LUN, false);
	compare(w);
	for (uint32_t i = 0; i < w->c.n; i++)
		if (mask_has(gone, i))
			cluster_connect(&w->c, i);
	wait_all_insync(w);
	compare(w);
}

/* ---- bodies ---- */

static void body_tail(void *arg)
{
	struct world w;
	world_open(&w, arg);
	fill(&w);
	CHECK(ec_flush(w.d) == 0);
	cluster_stop(&w.c, 0, false);
	put(&w, 0, MIB(1) + 4096, 8192, &w.rng);
	wait_insync(&w, mask_all(w.c.n) & ~1u);
	CHECK(status(&w).missed_bytes > 0);
	CHECK(status(&w).cause == EC_HEAL_WAITING_BRICK);
	cluster_start(&w.c, 0);
	wait_all_insync(&w);
	struct ec_domain_status st = status(&w);
	uint64_t region = (uint64_t)ec_set_geometry(w.s)->region_rows * 4096;
	CHECK(st.cause == EC_HEAL_NONE && st.missed_bytes == 0 && st.healing == 0);
	/* What was written meanwhile, not the rest: the tail before the loss was durable. More views than seed, drop and join:
	 * another brick was too slow on a busy machine, and was healed as well. */
	CHECK(st.healed_bytes <= 2 * region || st.view_ver > 3);
	compare_leaning_on(&w, 1);
	world_close(&w);
}

static void body_under_load(void *arg)
{
	struct world w;
	struct client clients[CLIENTS];
	uint32_t away;

	world_open(&w, arg);
	fill(&w);
	clients_start(&w, clients);
	clients_progress(&w, 20);
	uint32_t first = (uint32_t)prng_below(&w.rng, w.c.n);
	away = 0;
	for (uint32_t i = 0; i < tolerates(&w); i++) {
		cluster_stop(&w.c, (first + i) % w.c.n, false);
		away |= MASK((first + i) % w.c.n);
		clients_progress(&w, 20);
	}
	for (uint32_t i = 0; i < tolerates(&w); i++) {
		cluster_start(&w.c, (first + i) % w.c.n);
		clients_progress(&w, 10);
	}
	wait_all_insync(&w);
	clients_progress(&w, 20);
	clients_stop(&w);
	compare(&w);
	compare_leaning_on(&w, away);
	world_close(&w);
}

static void body_flapping(void *arg)
{
	struct world w;
	struct client clients[CLIENTS];

	world_open(&w, arg);
	fill(&w);
	ec_set_heal_limit(w.s, MIB(2)); /* slow enough to be interrupted */
	clients_start(&w, clients);
	for (unsigned round = 0; round < 4; round++) {
		uint32_t b = (uint32_t)prng_below(&w.rng, w.c.n);
		cluster_stop(&w.c, b, prng_chance(&w.rng, 0.3));
		clients_progress(&w, 15);
		cluster_start(&w.c, b);
		clients_progress(&w, 15);
		if (w.c.b[b].server) { /* mostly while it heals */
			cluster_cut(&w.c, b);
			clients_progress(&w, 5);
			cluster_connect(&w.c, b);
		}
		if (round == 2)
			ec_set_heal_limit(w.s, 0);
		wait_all_insync(&w);
	}
	clients_stop(&w);
	compare(&w);
	compare_leaning_on(&w, MASK(prng_below(&w.rng, w.c.n)));
	world_close(&w);
}

/* A brick misses everything and returns while clients are busy. Returns whether healing was seen to wait for them. */
static bool heal_under_load(struct loop *l, uint64_t limit)
{
	struct world w;
	struct client clients[CLIENTS];
	bool yielded = false;

	world_open(&w, l);
	ec_set_heal_limit(w.s, limit);
	cluster_stop(&w.c, 1, false);
	fill(&w);
	clients_start(&w, clients);
	clients_progress(&w, 10);
	cluster_start(&w.c, 1);
	while (status(&w).insync != MASK(w.c.n) - 1) { /* it ends although they never stop */
		yielded |= status(&w).cause == EC_HEAL_THROTTLED;
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
	}
	clients_stop(&w);
	compare(&w);
	compare_leaning_on(&w, MASK(1));
	world_close(&w);
	return yielded;
}

static void body_clients_first(void *arg)
{
	CHECK(heal_under_load(arg, EC_HEAL_AUTO));
	CHECK(!heal_under_load(arg, EC_HEAL_MAX));
}

static void body_new_owner(void *arg)
{
	struct world w;
	struct client clients[CLIENTS];

	world_open(&w, arg);
	fill(&w);
	cluster_stop(&w.c, 1, false);
	clients_start(&w, clients);
	clients_progress(&w, 40);
	clients_stop(&w);
	ec_set_heal_pause(w.s, true);
	cluster_start(&w.c, 1);
	while (status(&w).cause != EC_HEAL_PAUSED)
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
	struct ec_set *old_set = w.s;
	struct ec_domain *old = w.d;
	w.s = cluster_set(&w.c, 2, TIMEOUT); /* the first owner is never told to stop */
	w.d = cluster_domain(w.s, LUN, false);
	wait_all_insync(&w);
	compare(&w);
	ec_domain_close(old);
	ec_set_close(old_set);
	compare_leaning_on(&w, 2);
	world_close(&w);
}

static void body_pause(void *arg)
{
	struct world w;
	world_open(&w, arg);
	fill(&w);
	ec_set_heal_pause(w.s, true);
	cluster_stop(&w.c, 0, false);
	put(&w, 0, 0, 4096, &w.rng);
	cluster_start(&w.c, 0);
	while (status(&w).cause != EC_HEAL_PAUSED)
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
	put(&w, 1, 0, AREA, &w.rng);
	CHECK(status(&w).insync == (mask_all(w.c.n) & ~1u));
	CHECK(status(&w).healing == 1);
	uint64_t missed = status(&w).missed_bytes;
	CHECK(missed > 0);
	ec_set_heal_pause(w.s, false);
	wait_all_insync(&w);
	CHECK(status(&w).healed_bytes == missed); /* no region twice, and none forgotten */
	compare_leaning_on(&w, 1);
	world_close(&w);
}

/* A brick comes back with its fragments, but others wrote at the same time and lost power: what it was healed with must
 * be flushed. */
static void body_power(void *arg)
{
	struct world w;
	world_open(&w, arg);
	fill(&w);
	cluster_stop(&w.c, 0, false);
	put(&w, 0, 8192, 16384, &w.rng);
	cluster_start(&w.c, 0);
	wait_all_insync(&w);
	for (uint32_t i = 0; i < w.c.n; i++) { /* every host reboots: journals are intact, but nobody can know */
		cluster_stop(&w.c, i, false);
		w.c.b[i].boot = cluster_gfid(7, (uint8_t)i);
	}
	for (uint32_t i = 0; i < w.c.n; i++)
		cluster_start(&w.c, i);
	wait_all_insync(&w);
	compare(&w);
	compare_leaning_on(&w, 1);
	world_close(&w);
}

/* Bricks restart right after one joined: their floors are young, and it lacks transactions that they still hold. */
static void body_restart_after_join(void *arg)
{
	struct world w;
	world_open(&w, arg);
	fill(&w); /* everybody takes part; unflushed */
	cluster_stop(&w.c, 0, false);
	put(&w, 0, 0, 4096, &w.rng);
	cluster_start(&w.c, 0);
	wait_all_insync(&w);
	for (uint32_t i = w.c.n; i-- > 0;) /* the joined one last: it must be among the members to be resolved */
		cluster_stop(&w.c, i, false);
	for (uint32_t i = 0; i < w.c.n; i++)
		cluster_start(&w.c, i);
	put(&w, 1, 0, 4096, &w.rng);
	wait_all_insync(&w);
	compare(&w);
	compare_leaning_on(&w, 1);
	world_close(&w);
}

static void body_wiped(void *arg)
{
	struct world w;

	world_open(&w, arg);
	fill(&w);
	CHECK(ec_flush(w.d) == 0);
	cluster_stop(&w.c, 0, false);
	struct cluster_brick *b = &w.c.b[0];
	struct err e = ERR_INIT;
	struct store *s;
	struct brick_identity id = {.volume = w.c.volume,
				    .brick = b->uuid,
				    .brick_index = 0,
				    .k = w.c.k,
				    .r = w.c.r,
				    .chunk_bytes = w.c.chunk,
				    .journal_bytes = MIB(16)};
	CHECK(nftw(b->dir, cluster_remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
	CHECK(mkdir(b->dir, 0700) == 0);
	CHECK(store_open_posix(b->dir, &s, &e) == 0);
	CHECK(tree_create(s, &id, false, &e) == 0);
	store_close(s);
	if (seed_now % 2) { /* found empty by the running owner, or by the next one */
		cluster_start(&w.c, 0);
	} else {
		ec_domain_close(w.d);
		cluster_start(&w.c, 0);
		w.d = cluster_domain(w.s, LUN, false);
	}
	wait_all_insync(&w);
	compare(&w);
	compare_leaning_on(&w, 1);
	world_close(&w);
}

static uint64_t usage(struct world *w)
{
	struct gfid domain = ec_domain_gfid(w->d);
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < w->c.n; i++) {
		struct brick_domain_info info;
		do { /* until it has heard of the new floor */
			fiber_sleep_until(loop_now_ns() + NS_PER_MS);
			CHECK(brick_domain_info(w->c.b[i].brick, &domain, &info) == 0);
		} while (info.tx_unstable || info.tx_undecided);
		CHECK(brick_checkpoint(w->c.b[i].brick, true) == 0);
	}
	CHECK(ec_usage(w->d, &bytes) == 0);
	return bytes;
}

static void body_sparse(void *arg)
{
	struct world w;
	world_open(&w, arg);
	put(&w, 0, 0, 65536, &w.rng);
	CHECK(ec_flush(w.d) == 0);
	uint64_t before = usage(&w);
	CHECK(before > 0);
	put(&w, 0, MIB(1), MIB(1), &w.rng);
	CHECK(ec_flush(w.d) == 0);
	CHECK(usage(&w) > before);
	cluster_stop(&w.c, 0, false);
	CHECK(ec_zero(w.d, 0, MIB(1), MIB(1), false) == 0);
	memset(w.bytes[0] + MIB(1), 0, MIB(1));
	cluster_start(&w.c, 0);
	wait_all_insync(&w);
	CHECK(ec_flush(w.d) == 0);
	uint64_t after = usage(&w);
	if (after > before + (uint64_t)w.c.n * 8192) { /* the returned brick has holes again, too */
		fprintf(stderr, "%s: %llu bytes before, %llu after\n", geometry_now->name, (unsigned long long)before,
			(unsigned long long)after);
		abort();
	}
	compare_leaning_on(&w, 1);
	world_close(&w);
}

/* Every block as ec_extents sees it, with and without each brick. */
static void check_extents(struct world *w, const bool *data, uint32_t blocks, bool exact)
{
	uint64_t bits[BITMAP_WORDS(AREA / 4096)];
	CHECK(ec_extents(w->d, 0, 0, (uint64_t)blocks * 4096, bits) == 0);
	for (uint32_t i = 0; i < blocks; i++) {
		bool says = (bits[i / 64] >> (i % 64)) & 1;
		if (says == data[i] || (says && !exact))
			continue;
		fprintf(stderr, "%s: block %u: data %d, extents say %d\n", geometry_now->name, i, data[i], says);
		abort();
	}
}

static void body_extents(void *arg)
{
	struct world w;
	enum { BLOCKS = AREA / 4096 };
	bool data[BLOCKS] = {0};

	world_open(&w, arg);
	uint64_t bits[1] = {UINT64_MAX};
	CHECK(ec_extents(w.d, 1, 0, 4096, bits) == 0);
	CHECK(bits[0] == 0); /* a shard that does not exist */
	CHECK(ec_extents(w.d, 0, 1, 4096, bits) == -EINVAL);
	CHECK(ec_extents(w.d, 0, 0, 0, bits) == -EINVAL);
	CHECK(ec_extents(w.d, 0, ec_set_geometry(w.s)->shard_bytes, 4096, bits) == -EINVAL);
	for (unsigned i = 0; i < 25; i++) {
		uint32_t n = 1 + (uint32_t)prng_below(&w.rng, 40), first = (uint32_t)prng_below(&w.rng, BLOCKS - n);
		put(&w, 0, first * 4096, n * 4096, &w.rng);
		for (uint32_t j = 0; j < n; j++)
			data[first + j] = true;
	}
	CHECK(ec_zero(w.d, 0, 65536, MIB(1), false) == 0);
	memset(w.bytes[0] + 65536, 0, MIB(1));
	memset(data + 16, 0, 256);
	check_extents(&w, data, BLOCKS, true);
	CHECK(ec_flush(w.d) == 0);
	for (uint32_t i = 0; i < w.c.n; i++)
		CHECK(brick_checkpoint(w.c.b[i].brick, true) == 0);
	check_extents(&w, data, BLOCKS, true);
	cluster_stop(&w.c, 0, false); /* some holes are not sure any more, but data is never called a hole */
	check_extents(&w, data, BLOCKS, false);
	compare(&w);
	world_close(&w);
}

/* ---- more missed regions than a frame holds ---- */

#define PAIRS (2 * BP_MISSED_PAGE + 100)
#define OWN   100000u /* first shard of the brick's own list */

/* Written down at the members, as by a view that left the brick out. */
static void miss_at_members(struct world *w)
{
	struct ec_missed many;

	ec_missed_init(&many);
	for (uint32_t i = 0; i < PAIRS; i++)
		CHECK(ec_missed_add(&many, SHARDS + i, 0, 1) == 0);
	fmutex_lock(&w->d->view_lock);
	struct ec_view v = w->d->view;
	CHECK(ec_view_write(w->d, &v, w->d->live, &many) == 0);
	fmutex_unlock(&w->d->view_lock);
	ec_missed_release(&many);
}

/* In the brick's own map, as by a REJOIN before. */
static void miss_at_brick(struct world *w)
{
	struct gfid lun = cluster_gfid(9, LUN);
	struct domain *d = domain_find(w->c.b[0].brick, &lun);

	CHECK(d);
	for (uint32_t i = 0; i < PAIRS; i++)
		CHECK(missed_add(&d->missed, OWN + i, 0, 2) == 1);
}

static void has_pairs(const struct ec_missed *m, uint32_t first, uint64_t regions)
{
	for (uint32_t i = 0; i < PAIRS; i++)
		CHECK(ec_missed_get(m, first + i, 0) == regions);
}

/* The next owner finds all of it, and so does the healing, while a client adds to it between two pages. */
static void body_pages(void *arg)
{
	struct world w;

	world_open(&w, arg);
	fill(&w);
	CHECK(ec_flush(w.d) == 0);
	cluster_stop(&w.c, 0, false);
	put(&w, 1, 0, 4096, &w.rng);
	wait_insync(&w, mask_all(w.c.n) & ~1u);
	miss_at_members(&w);
	ec_domain_close(w.d);
	w.d = cluster_domain(w.s, LUN, false);
	has_pairs(&w.d->missed, SHARDS, 1);
	ec_set_heal_pause(w.s, true);
	cluster_brick_load(&w.c, 0);
	miss_at_brick(&w);
	w.c.b[0].stalled_type = BP_MISSQ;
	cluster_connect(&w.c, 0);
	while (list_empty(&w.c.b[0].unstalled.waiters))
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
	CHECK(!(w.d->healing & 1)); /* after the first page, before the second */
	put(&w, 0, MIB(1), 4096, &w.rng);
	cluster_stall_type(&w.c, 0);
	while (!(w.d->healing & 1))
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
	has_pairs(&w.d->heal->todo, SHARDS, 1);
	has_pairs(&w.d->heal->todo, OWN, 2);
	CHECK(ec_missed_get(&w.d->heal->todo, 0, 0) & 2);
	compare(&w);
	world_close(&w);
}

/* ---- runner ---- */

/* geometries: mask of those to run on. */
static void run(fiber_fn *body, unsigned mask)
{
	const char *want = getenv("MYFS_SEED"), *only = getenv("MYFS_GEOMETRY");
	struct loop *l;
	struct err e = ERR_INIT;

	for (unsigned i = 0; i < ARRAY_LEN(geometries); i++) {
		geometry_now = &geometries[i];
		if (only ? strcmp(only, geometry_now->name) != 0 : !((mask >> i) & 1))
			continue;
		assert_int_equal(loop_new(&(struct loop_options){0}, &l, &e), 0);
		loop_random(&seed_now, sizeof(seed_now));
		seed_now = want ? strtoull(want, NULL, 10) : seed_now % 1000000;
		printf("%s seed %llu\n", geometry_now->name, (unsigned long long)seed_now);
		fflush(stdout);
		assert_int_equal(loop_run_fiber(l, "test", body, l), 0);
		loop_free(l);
	}
}

#define EC      0x2u /* 4+2 */
#define EC_BOTH 0x3u /* and 2+1: nothing to spare while one is away */
#define REPLICA 0x4u
#define ALL     0xfu

#define TEST(name, body, geometries_mask)                                                                              \
	static void name(void **state)                                                                                 \
	{                                                                                                              \
		(void)state;                                                                                           \
		run(body, geometries_mask);                                                                            \
	}

TEST(a_returned_brick_is_healed_of_what_it_missed_and_no_more, body_tail, ALL)
TEST(bricks_heal_while_clients_write, body_under_load, ALL)
TEST(a_brick_that_comes_and_goes_while_healing_is_healed_in_the_end, body_flapping, EC_BOTH)
TEST(clients_come_first_unless_told_otherwise, body_clients_first, EC)
TEST(the_next_owner_finishes_the_healing, body_new_owner, EC)
TEST(pausing_holds_the_healing_and_loses_nothing, body_pause, EC)
TEST(a_joined_brick_survives_the_reboot_of_all_hosts, body_power, EC_BOTH)
TEST(a_joined_brick_is_not_taken_for_one_that_lacks_what_it_was_healed_past, body_restart_after_join, EC_BOTH | REPLICA)
TEST(an_emptied_brick_gets_everything, body_wiped, EC | REPLICA)
TEST(missed_regions_of_several_frames_are_all_found, body_pages, EC_BOTH)
TEST(healing_keeps_holes, body_sparse, EC | REPLICA)
TEST(extents_never_call_data_a_hole, body_extents, EC | REPLICA)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(extents_never_call_data_a_hole),
	    cmocka_unit_test(a_returned_brick_is_healed_of_what_it_missed_and_no_more),
	    cmocka_unit_test(pausing_holds_the_healing_and_loses_nothing),
	    cmocka_unit_test(bricks_heal_while_clients_write),
	    cmocka_unit_test(a_brick_that_comes_and_goes_while_healing_is_healed_in_the_end),
	    cmocka_unit_test(clients_come_first_unless_told_otherwise),
	    cmocka_unit_test(the_next_owner_finishes_the_healing),
	    cmocka_unit_test(a_joined_brick_survives_the_reboot_of_all_hosts),
	    cmocka_unit_test(a_joined_brick_is_not_taken_for_one_that_lacks_what_it_was_healed_past),
	    cmocka_unit_test(missed_regions_of_several_frames_are_all_found),
	    cmocka_unit_test(healing_keeps_holes),
	    cmocka_unit_test(an_emptied_brick_gets_everything),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("ec.heal", tests, NULL, NULL);
}
