/* Scrub: every kind of damage, on every role, in every geometry, found without a reader and repaired; clients never see
 * a wrong byte. */
#include <fcntl.h>

#include "core/base/crc32c.h"
#include "ec_cluster.h"
#include "ec/ec_priv.h"

#define LUN     7
#define TIMEOUT (30 * NS_PER_S)
#define CHUNK   16384u

struct layout {
	uint32_t k, r;
};
static const struct layout layouts[] = {{2, 1}, {4, 2}, {3, 3}, {8, 3}, {1, 2}, {1, 1}};
static const struct layout *layout_now;
static const uint8_t *content; /* of shard 0 */
static size_t content_bytes;

/* ---- damage on a stopped brick's files ---- */

struct finder {
	char data[512], sums[512];
};
static struct finder found;

static int find_one(const char *path, const struct stat *st, int type, struct FTW *w)
{
	(void)w;
	if (type != FTW_F || st->st_size < MYFS_BLOCK)
		return 0;
	if (strstr(path, "/myfs/csum/"))
		snprintf(found.sums, sizeof(found.sums), "%s", path);
	else if (!strstr(path, "/myfs/"))
		snprintf(found.data, sizeof(found.data), "%s", path);
	return 0;
}

static void find_files(const struct cluster *c, uint32_t b)
{
	found = (struct finder){"", ""};
	CHECK(nftw(c->b[b].dir, find_one, 16, FTW_PHYS) == 0);
	CHECK(found.data[0] && found.sums[0]);
}

static void get(const char *path, void *p, size_t len, off_t off)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0 && pread(fd, p, len, off) == (ssize_t)len);
	close(fd);
}

static void set(const char *path, const void *p, size_t len, off_t off)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	CHECK(fd >= 0 && pwrite(fd, p, len, off) == (ssize_t)len);
	close(fd);
}

enum damage {
	BIT_FLIP,    /* data rots */
	SUM_FLIP,    /* the checksum rots */
	LOST_WRITE,  /* data and checksum of something else, both in order */
	SWAPPED,     /* two rows in each other's place, checksums too: a plain XOR of the region would not change */
	TWO_BRICKS   /* the same row rots on two bricks */
};

static void stale_row(const struct cluster *c, uint32_t b, uint32_t row, uint8_t with)
{
	uint8_t block[MYFS_BLOCK];
	uint32_t crc;

	find_files(c, b);
	memset(block, with, sizeof(block));
	crc = crc32c(block, sizeof(block)); /* little-endian on disk and here */
	set(found.data, block, sizeof(block), (off_t)row * MYFS_BLOCK);
	set(found.sums, &crc, sizeof(crc), (off_t)row * 8);
}

static void flip(const struct cluster *c, uint32_t b, uint32_t row, bool sum)
{
	uint8_t byte;
	const char *path;
	off_t off = sum ? (off_t)row * 8 + 1 : (off_t)row * MYFS_BLOCK + 100;

	find_files(c, b);
	path = sum ? found.sums : found.data;
	get(path, &byte, 1, off);
	byte ^= 0x10;
	set(path, &byte, 1, off);
}

static void swap_rows(const struct cluster *c, uint32_t b, uint32_t x, uint32_t y)
{
	uint8_t rows[2][MYFS_BLOCK], sums[2][8];

	find_files(c, b);
	get(found.data, rows[0], MYFS_BLOCK, (off_t)x * MYFS_BLOCK);
	get(found.data, rows[1], MYFS_BLOCK, (off_t)y * MYFS_BLOCK);
	get(found.sums, sums[0], 8, (off_t)x * 8);
	get(found.sums, sums[1], 8, (off_t)y * 8);
	set(found.data, rows[1], MYFS_BLOCK, (off_t)x * MYFS_BLOCK);
	set(found.data, rows[0], MYFS_BLOCK, (off_t)y * MYFS_BLOCK);
	set(found.sums, sums[1], 8, (off_t)x * 8);
	set(found.sums, sums[0], 8, (off_t)y * 8);
}

/* ---- the cluster with a LUN whose first region is full, all of it in the base files ---- */

static void stop_all(struct cluster *c)
{
	for (uint32_t i = 0; i < c->n; i++) {
		CHECK(brick_checkpoint(c->b[i].brick, true) == 0);
		cluster_stop(c, i, true);
	}
}

static void start_all(struct cluster *c)
{
	for (uint32_t i = 0; i < c->n; i++)
		cluster_start(c, i);
}

static void fill(struct cluster *c)
{
	struct ec_set *s = cluster_set(c, 1, TIMEOUT);
	struct ec_domain *d = cluster_domain(s, LUN, true);
	struct iovec v = {(void *)(uintptr_t)content, content_bytes};

	CHECK(ec_write(d, 0, 0, (struct iov){.v = &v, .n = 1}, true) == 0);
	CHECK(ec_flush(d) == 0);
	ec_domain_close(d);
	ec_set_close(s);
}

static void check_content(struct ec_domain *d)
{
	struct bufs out;
	uint8_t *back = malloc(content_bytes);

	bufs_init(&out);
	CHECK(back && ec_read(d, 0, 0, (uint32_t)content_bytes, &out) == 0);
	bufs_copy_out(&out, 0, back, content_bytes);
	CHECK(memcmp(back, content, content_bytes) == 0);
	bufs_release(&out);
	free(back);
}

static struct ec_scrub_count scrub(struct ec_domain *d)
{
	struct ec_scrub_count n = {0};

	CHECK(ec_scrub_region(d, 0, 0, &n) == 0);
	return n;
}

static uint32_t brick_of_chunk(const struct ec_set *s, uint32_t chunk)
{
	const struct ec_geometry *g = ec_set_geometry(s);
	struct gfid gfid = cluster_gfid(9, LUN);

	return ec_brick_of(g, ec_rotation_start(g, &gfid, 0), 0, chunk);
}

static void hurt(struct cluster *c, const struct ec_set *s, enum damage kind, uint32_t chunk)
{
	uint32_t b = brick_of_chunk(s, chunk), other = brick_of_chunk(s, (chunk + 1) % c->n);

	switch (kind) {
	case BIT_FLIP:
	case SUM_FLIP:
		flip(c, b, 3, kind == SUM_FLIP);
		break;
	case LOST_WRITE:
		stale_row(c, b, 2, 0x55);
		break;
	case SWAPPED:
		swap_rows(c, b, 1, 2);
		break;
	case TWO_BRICKS:
		flip(c, b, 3, false);
		flip(c, other, 3, false);
		break;
	}
}

static void expect(const struct ec_scrub_count *n, enum damage kind, bool decidable, uint32_t r)
{
	uint64_t rows = kind == SWAPPED ? 2 : 1;

	if (kind == BIT_FLIP || kind == SUM_FLIP || kind == TWO_BRICKS) {
		CHECK(n->rotten == (kind == TWO_BRICKS ? 2 : 1) && n->repaired == n->rotten);
		CHECK(n->stale == 0 && n->undecided == 0);
	} else if (decidable) {
		CHECK(n->stale == rows && n->repaired == rows && n->rotten == 0 && n->undecided == 0);
	} else {
		CHECK(n->undecided == rows && n->repaired == rows * r && n->stale == 0 && n->rotten == 0);
	}
	CHECK(n->unreadable == 0);
}

/* One damage on one role. Bricks are stopped meanwhile, so that nothing of it is in anybody's memory. */
static void one_case(struct cluster *c, enum damage kind, uint32_t chunk)
{
	bool decidable = c->r > 1, wrong = (kind == LOST_WRITE || kind == SWAPPED) && !decidable;
	struct ec_set *s = cluster_set(c, 1, TIMEOUT);

	stop_all(c);
	hurt(c, s, kind, chunk);
	start_all(c);
	ec_set_close(s);
	s = cluster_set(c, 1, TIMEOUT);
	struct ec_domain *d = cluster_domain(s, LUN, false);
	struct ec_scrub_count n = scrub(d);

	expect(&n, kind, decidable, c->r);
	n = scrub(d);
	CHECK(n.rotten + n.stale + n.undecided + n.repaired + n.unreadable == 0);
	CHECK(n.bytes == (uint64_t)ec_set_geometry(s)->region_rows * MYFS_BLOCK * c->n);
	if (!wrong)
		check_content(d);
	if (wrong) { /* nobody could tell: what a client reads is consistent now; it writes it again */
		struct iovec v = {(void *)(uintptr_t)content, content_bytes};
		CHECK(ec_write(d, 0, 0, (struct iov){.v = &v, .n = 1}, true) == 0);
		n = scrub(d);
		CHECK(n.rotten + n.stale + n.undecided == 0);
	}
	ec_domain_close(d);
	ec_set_close(s);
}

static void make(struct cluster *c, struct loop *l)
{
	struct ec_geometry g;
	struct prng rng;
	uint8_t *bytes;

	cluster_new(c, l, layout_now->k, layout_now->r, CHUNK);
	CHECK(ec_geometry_init(&g, c->k, c->r, CHUNK) == 0);
	content_bytes = (size_t)g.region_stripes * g.stripe_bytes;
	bytes = malloc(content_bytes);
	CHECK(bytes);
	prng_seed(&rng, 5);
	prng_bytes(&rng, bytes, content_bytes);
	content = bytes;
	fill(c);
}

static void unmake(struct cluster *c)
{
	cluster_free(c);
	free((void *)(uintptr_t)content);
}

static void body_damage(void *arg)
{
	struct cluster c;

	make(&c, arg);
	for (enum damage kind = BIT_FLIP; kind <= TWO_BRICKS; kind++) {
		if (kind == TWO_BRICKS && c.r < 2)
			continue;
		one_case(&c, kind, 0);            /* a data brick */
		one_case(&c, kind, c.k);          /* the XOR parity */
		one_case(&c, kind, c.n - 1);      /* another parity, which no read ever touches */
	}
	unmake(&c);
}

/* While a brick is away there is less to compare with; nothing is made worse, and what it can tell later it tells. */
static void body_degraded(void *arg)
{
	struct cluster c;

	make(&c, arg);
	struct ec_set *s = cluster_set(&c, 1, TIMEOUT);
	uint32_t away = brick_of_chunk(s, 1), hurt_brick = brick_of_chunk(s, 0);

	stop_all(&c);
	stale_row(&c, hurt_brick, 2, 0x33);
	for (uint32_t i = 0; i < c.n; i++)
		if (i != away)
			cluster_start(&c, i);
	ec_set_close(s);
	s = cluster_set(&c, 1, TIMEOUT);
	struct ec_domain *d = cluster_domain(s, LUN, false);
	struct ec_scrub_count n = scrub(d);

	CHECK(n.partial == 1 && n.repaired == 0 && n.undecided == 1); /* 4+2 with five: it is seen, not which */
	CHECK(n.undecided_shard == 0 && n.undecided_off == 2 * MYFS_BLOCK);
	cluster_start(&c, away);
	struct ec_domain_status st;
	do {
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
		ec_domain_status(d, &st);
	} while (st.insync != (1u << c.n) - 1);
	n = scrub(d);
	CHECK(n.partial == 0 && n.stale == 1 && n.repaired == 1);
	check_content(d);
	ec_domain_close(d);
	ec_set_close(s);
	unmake(&c);
}

struct writer {
	struct ec_domain *d;
	bool stop, ended;
	unsigned writes;
};

static void write_run(void *arg)
{
	struct writer *w = arg;
	struct prng rng;

	prng_seed(&rng, 9);
	while (!w->stop) { /* the same bytes again: content stays what it is, transactions are real */
		size_t block = prng_below(&rng, content_bytes / MYFS_BLOCK);
		size_t len = MYFS_BLOCK * (1 + prng_below(&rng, min_u64(8, content_bytes / MYFS_BLOCK - block)));
		struct iovec v = {(void *)(uintptr_t)(content + block * MYFS_BLOCK), len};

		CHECK(ec_write(w->d, 0, block * MYFS_BLOCK, (struct iov){.v = &v, .n = 1}, false) == 0);
		w->writes++;
	}
	w->ended = true;
}

/* Under load a scrub finds nothing, because nothing is wrong, and does not stop anybody. */
static void body_load(void *arg)
{
	struct writer w[4] = {{0}};
	struct cluster c;

	make(&c, arg);
	struct ec_set *s = cluster_set(&c, 1, TIMEOUT);
	struct ec_domain *d = cluster_domain(s, LUN, false);

	for (unsigned i = 0; i < 4; i++) {
		w[i].d = d;
		CHECK(fiber_spawn(loop_self(), "writer", write_run, &w[i]) == 0);
	}
	for (unsigned i = 0; i < 30; i++) {
		unsigned before = w[0].writes;
		struct ec_scrub_count n = scrub(d);

		CHECK(n.rotten + n.stale + n.undecided + n.repaired + n.unreadable == 0);
		while (w[0].writes == before)
			fiber_sleep_until(loop_now_ns() + NS_PER_MS);
	}
	for (unsigned i = 0; i < 4; i++) {
		w[i].stop = true;
		while (!w[i].ended)
			fiber_sleep_until(loop_now_ns() + NS_PER_MS);
	}
	check_content(d);
	struct ec_scrub_count none = {0};
	CHECK(ec_scrub_region(d, 99, 0, &none) == -ENOENT); /* never written */
	CHECK(ec_scrub_region(d, 0, 64, &none) == -EINVAL);
	ec_domain_close(d);
	ec_set_close(s);
	unmake(&c);
}

/* ---- every transaction there is waits for the row that is being repaired ---- */

#define CROWD (EC_POOL_MAX + 50)

struct crowd {
	struct ec_domain *d;
	uint32_t lba;
	unsigned started, left;
	struct ec_scrub_count count;
	bool scrubbed;
	struct waitq ended;
};

static void crowd_write(void *arg)
{
	struct crowd *w = arg;
	struct iovec v = {(void *)(uintptr_t)(content + (size_t)w->lba * MYFS_BLOCK), MYFS_BLOCK};

	w->started++;
	CHECK(ec_write(w->d, 0, (uint64_t)w->lba * MYFS_BLOCK, (struct iov){.v = &v, .n = 1}, false) == 0);
	w->left--;
	waitq_wake_all(&w->ended);
}

static void crowd_scrub(void *arg)
{
	struct crowd *w = arg;

	w->count = scrub(w->d);
	w->scrubbed = true;
	waitq_wake_all(&w->ended);
}

/* The repair holds its row and waits for a brick; then writers take all transactions and queue up behind it. */
static void body_crowd(void *arg)
{
	struct crowd w = {.left = CROWD};
	struct cluster c;

	make(&c, arg);
	waitq_init(&w.ended);
	struct ec_set *s = cluster_set(&c, 1, TIMEOUT);
	uint32_t b = brick_of_chunk(s, 0);
	stop_all(&c);
	flip(&c, b, 3, false);
	start_all(&c);
	ec_set_close(s);
	s = cluster_set(&c, 1, TIMEOUT);
	w.d = cluster_domain(s, LUN, false);
	w.lba = ec_lba_of(geo_of(w.d), 3, 0);
	cluster_stall_type(&c, BP_READ);
	CHECK(fiber_spawn(loop_self(), "scrub", crowd_scrub, &w) == 0);
	while (list_empty(&c.b[b].unstalled.waiters))
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
	for (unsigned i = 0; i < CROWD; i++)
		CHECK(fiber_spawn(loop_self(), "writer", crowd_write, &w) == 0);
	while (w.started < CROWD)
		fiber_yield();
	CHECK(w.left == CROWD && s->tx_made == EC_POOL_MAX && list_empty(&s->free_tx));
	cluster_stall_type(&c, 0);
	while (!w.scrubbed || w.left)
		waitq_wait(&w.ended);
	CHECK(w.count.rotten == 1 && w.count.repaired == 1);
	check_content(w.d);
	ec_domain_close(w.d);
	ec_set_close(s);
	unmake(&c);
}

static void in_layouts(fiber_fn *body, const struct layout *from, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		layout_now = &from[i];
		on_backend(LOOP_EPOLL, body);
	}
}

static void damage_is_found_and_repaired_in_every_layout(void **state)
{
	(void)state;
	in_layouts(body_damage, layouts, ARRAY_LEN(layouts));
}

static void with_a_brick_away_it_reports_and_changes_nothing(void **state)
{
	(void)state;
	in_layouts(body_degraded, &layouts[1], 1);
}

static void under_load_it_finds_nothing_wrong(void **state)
{
	(void)state;
	in_layouts(body_load, layouts, 2);
}

static void a_repair_ends_while_all_transactions_wait_for_its_row(void **state)
{
	(void)state;
	in_layouts(body_crowd, layouts, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(damage_is_found_and_repaired_in_every_layout),
	    cmocka_unit_test(with_a_brick_away_it_reports_and_changes_nothing),
	    cmocka_unit_test(under_load_it_finds_nothing_wrong),
	    cmocka_unit_test(a_repair_ends_while_all_transactions_wait_for_its_row),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
