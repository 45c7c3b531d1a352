/* A brick that answers, but late: reads go around it, writes go on without it after a while, and it comes back (WRITE-PROTOCOL case 32). */
#include "ec_cluster.h"
#include "ec/ec_priv.h"

#define LUN     1
#define BLOCK   4096u
#define BLOCKS  64u
#define TIMEOUT (60 * NS_PER_S)
#define LATE_NS (100 * NS_PER_MS)

struct world {
	struct cluster c;
	struct ec_set *set;
	struct ec_domain *d;
	uint32_t grey;   /* this brick ... */
	bool late, gone; /* ... holds everything back for LATE_NS, time and again */
	struct waitq ended;
};

static void late_run(void *arg)
{
	struct world *w = arg;

	while (w->late) {
		cluster_stall(&w->c, w->grey, true);
		fiber_sleep_until(loop_now_ns() + LATE_NS);
		cluster_stall(&w->c, w->grey, false);
		fiber_sleep_until(loop_now_ns() + LATE_NS / 2);
	}
	w->gone = true;
	waitq_wake_all(&w->ended);
}

static void put(struct world *w, uint32_t lba, uint8_t fill)
{
	static uint8_t block[BLOCK];
	struct iovec v = {block, BLOCK};

	memset(block, fill, BLOCK);
	CHECK(ec_write(w->d, 0, (uint64_t)lba * BLOCK, (struct iov){.v = &v, .n = 1}, false) == 0);
}

static void check(struct world *w, uint32_t lba, uint8_t fill)
{
	uint8_t got[BLOCK];
	struct bufs out;

	bufs_init(&out);
	CHECK(ec_read(w->d, 0, (uint64_t)lba * BLOCK, BLOCK, &out) == 0);
	bufs_copy_out(&out, 0, got, BLOCK);
	CHECK(got[0] == fill && got[BLOCK - 1] == fill);
	bufs_release(&out);
}

static uint32_t brick_of_block(const struct world *w, uint32_t lba)
{
	const struct ec_geometry *g = geo_of(w->d);
	struct ec_block_addr a = ec_block_locate(g, lba);

	return ec_brick_of(g, ec_rotation_start(g, &w->d->gfid, 0), a.region, a.chunk);
}

static void begin(struct world *w, struct loop *l, uint32_t k, uint32_t r, uint64_t rest_ns)
{
	memset(w, 0, sizeof(*w));
	waitq_init(&w->ended);
	cluster_new(&w->c, l, k, r, 16384);
	w->set = cluster_set(&w->c, 1, TIMEOUT);
	w->set->cfg.grey_rest_ns = rest_ns;
	w->d = cluster_domain(w->set, LUN, true);
	for (uint32_t i = 0; i < BLOCKS; i++)
		put(w, i, (uint8_t)(i + 1));
	CHECK(ec_flush(w->d) == 0);
	w->grey = brick_of_block(w, 0);
}

static void end(struct world *w)
{
	ec_domain_close(w->d);
	ec_set_close(w->set);
	cluster_free(&w->c);
}

static struct ec_domain_status status(const struct world *w)
{
	struct ec_domain_status st;

	ec_domain_status(w->d, &st);
	return st;
}

/* The brick of block 0 does not answer at all for a while: its block comes from the others, long before. */
static void hedged(struct loop *l, uint32_t k, uint32_t r)
{
	struct world w;

	begin(&w, l, k, r, 0);
	for (unsigned i = 0; i < 3; i++) {
		cluster_stall(&w.c, w.grey, true);
		uint64_t before = status(&w).hedged_reads;
		check(&w, 0, 1);
		CHECK(status(&w).hedged_reads == before + 1);
		cluster_stall(&w.c, w.grey, false);
		check(&w, 0, 1);
	}
	end(&w);
}

/* With only K members there is no way around it: the read waits, and is right. */
static void no_way_around(struct loop *l)
{
	struct world w;

	begin(&w, l, 4, 2, 0);
	for (uint32_t i = 0, n = 0; n < 2; i++)
		if (i != w.grey) {
			cluster_stop(&w.c, i, false);
			n++;
		}
	while (mask_count(status(&w).insync) > 4)
		fiber_sleep_until(loop_now_ns() + 5 * NS_PER_MS);
	w.late = true;
	CHECK(fiber_spawn(l, "late", late_run, &w) == 0);
	for (unsigned i = 0; i < 5; i++)
		check(&w, 0, 1);
	CHECK(status(&w).hedged_reads == 0 && status(&w).ejections == 0);
	w.late = false;
	while (!w.gone)
		waitq_wait(&w.ended);
	end(&w);
}

/* Often late: it leaves the view, writes are fast, and after its rest it is healed and a member again. */
static void ejected(struct loop *l, uint32_t k, uint32_t r, bool expected)
{
	struct world w;
	uint32_t all, i = 0;

	begin(&w, l, k, r, 2 * NS_PER_S);
	all = mask_all(w.c.n);
	w.late = true;
	CHECK(fiber_spawn(l, "late", late_run, &w) == 0);
	uint64_t until = loop_now_ns() + (expected ? 30 : 3) * NS_PER_S;
	while (status(&w).insync == all && loop_now_ns() < until)
		put(&w, i++ % BLOCKS, 0x77);
	CHECK(status(&w).ejections == (expected ? 1 : 0) && status(&w).insync == (expected ? all & ~MASK(w.grey) : all));
	if (expected) { /* nobody waits for it now: not one of these may take as long as it would make them */
		uint64_t begun = loop_now_ns();
		for (i = 0; i < BLOCKS; i++)
			put(&w, i, 0x78);
		CHECK(loop_now_ns() - begun < BLOCKS * LATE_NS / 8);
	} else {
		for (i = 0; i < BLOCKS; i++)
			put(&w, i, 0x78);
	}
	w.late = false;
	while (!w.gone)
		waitq_wait(&w.ended);
	until = loop_now_ns() + TIMEOUT;
	while (status(&w).insync != all && loop_now_ns() < until)
		fiber_sleep_until(loop_now_ns() + 20 * NS_PER_MS);
	CHECK(status(&w).insync == all);
	for (i = 0; i < BLOCKS; i++)
		check(&w, i, 0x78);
	end(&w);
}

static void body_reads(void *arg)
{
	hedged(arg, 4, 2);
	hedged(arg, 2, 1);
	hedged(arg, 3, 3);
	hedged(arg, 1, 2);
	no_way_around(arg);
}

static void body_writes(void *arg)
{
	ejected(arg, 4, 2, true);
	ejected(arg, 2, 1, false); /* only K would stay */
}

static void a_late_block_is_read_from_the_others(void **state)
{
	(void)state;
	on_every_backend(body_reads);
}

static void a_brick_that_is_late_too_often_is_left_out_for_a_while(void **state)
{
	(void)state;
	on_every_backend(body_writes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_late_block_is_read_from_the_others),
					   cmocka_unit_test(a_brick_that_is_late_too_often_is_left_out_for_a_while)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
