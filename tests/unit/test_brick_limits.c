/* test_brick_limits.c - a brick that runs out of something: disk, journal, a working disk, an owner. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "brick_engine_fixture.h"

ENGINE_TEST(a_stable_floor_above_an_undecided_write_ends_the_connection)
{
	uint8_t data[MYFS_BLOCK] = {1};
	struct prep p = {.nrows = 1, .kind = BP_ABS, .data = data};
	CHECK(engine_prep(g, 1, &p, NULL) == 0);
	CHECK(engine_stable(g, 2) == -EPROTO);
}

ENGINE_TEST(no_disk_space_is_said_at_prep_and_decisions_still_work)
{
	uint8_t data[MYFS_BLOCK];
	block_fill(data, 5);
	struct prep p = {.nrows = 1, .kind = BP_ABS, .data = data};
	CHECK(engine_prep(g, 1, &p, NULL) == 0);
	g->b->opt.reserve_bytes = UINT64_MAX / 2;
	space_refresh(g->b);
	CHECK(engine_prep(g, 2, &p, NULL) == -ENOSPC);
	CHECK(engine_decide(g, 1, true) == 0);
	CHECK(row_is(g, 0, 0, 5));
	struct prep z = {.nrows = 1, .kind = BP_ZERO};
	CHECK(engine_prep(g, 3, &z, NULL) == 0);
}

ENGINE_TEST(a_checkpoint_without_space_is_repeated_later_and_loses_nothing)
{
	engine_write(g, 0, 0, 5);
	engine_make_stable(g);
	g->cs.writes_left = 3;
	g->cs.fail_with = -ENOSPC;
	int rc = brick_checkpoint(g->b, false);
	if (rc == -ENOSPC) {
		CHECK(!brick_failure(g->b));
		g->cs.writes_left = -1;
		space_refresh(g->b);
		CHECK(brick_checkpoint(g->b, true) == 0);
	}
	CHECK(row_is(g, 0, 0, 5));
}

ENGINE_TEST(a_journal_write_error_stops_the_brick_for_good)
{
	uint8_t data[MYFS_BLOCK] = {1}, block[MYFS_BLOCK];
	struct prep p = {.nrows = 1, .kind = BP_ABS, .data = data};
	g->cs.writes_left = 0;
	CHECK(engine_prep(g, 1, &p, NULL) == -EIO);
	g->cs.writes_left = -1;
	CHECK(brick_failure(g->b));
	CHECK(engine_prep(g, 2, &p, NULL) == -EIO);
	CHECK(engine_read(g, 0, 0, 1, block, NULL) == -EIO);
	CHECK(engine_sync(g, 1) == -EIO);
}

struct waiting_prep {
	struct engine *g;
	uint64_t n;
	int rc;
	bool done;
};

static void waiting_prep_fiber(void *arg)
{
	struct waiting_prep *w = arg;
	static uint8_t data[256 * MYFS_BLOCK];
	struct prep p = {.shard = 1, .nrows = 256, .row = (uint32_t)(w->n % 8) * 256, .kind = BP_ABS, .data = data};
	data[w->n % sizeof(data)] = 1;
	w->rc = engine_prep(w->g, w->n, &p, NULL);
	w->done = true;
}

ENGINE_TEST(a_full_journal_makes_preps_wait_until_a_checkpoint_frees_it)
{
	struct waiting_prep w[20];
	uint64_t held = 0;
	for (size_t i = 0; i < ARRAY_LEN(w); i++) { /* 20 MiB into 16 */
		w[i] = (struct waiting_prep){.g = g, .n = i + 1};
		unsigned parked = g->b->room_waiters;
		CHECK(fiber_run(g->loop, "prep", waiting_prep_fiber, &w[i]) == 0);
		while (!w[i].done && g->b->room_waiters == parked)
			fiber_yield();
	}
	while (held < ARRAY_LEN(w) && w[held].done)
		held++;
	CHECK(held > 8 && held < ARRAY_LEN(w) && g->b->room_waiters == ARRAY_LEN(w) - held);
	CHECK(engine_decide(g, ARRAY_LEN(w), false) == 0); /* an ABORT reaches one that waits */
	for (uint64_t n = 1; n <= held; n++)
		CHECK(engine_decide(g, n, true) == 0);
	CHECK(engine_sync(g, held + 1) == 0);
	CHECK(engine_stable(g, held + 1) == 0);
	CHECK(brick_checkpoint(g->b, true) == 0);
	for (size_t i = 0; i < ARRAY_LEN(w); i++) {
		while (!w[i].done)
			fiber_yield();
		CHECK(w[i].rc == (i + 1 == ARRAY_LEN(w) ? -ECANCELED : 0));
	}
}

ENGINE_TEST(the_background_checkpoint_keeps_overlay_and_journal_small)
{
	static uint8_t data[64 * MYFS_BLOCK];
	engine_crash(g, false);
	g->background = true;
	engine_start(g);
	engine_own(g, ALL_INSYNC);
	for (uint64_t i = 1; i <= 400; i++) { /* 100 MiB through a journal of 16 */
		struct prep p = {.shard = (uint32_t)(i % 5),
				 .row = (uint32_t)(i * 64 % 4096),
				 .nrows = 64,
				 .kind = BP_ABS,
				 .data = data};
		memset(data, (int)i, sizeof(data));
		CHECK(engine_prep(g, ++g->n, &p, NULL) == 0);
		CHECK(engine_decide(g, g->n, true) == 0);
		if (i % 4 == 0)
			engine_make_stable(g);
	}
	CHECK(journal_used(g->b->journal) < MIB(16));
	CHECK(g->b->count.checkpoints > 3);
	CHECK(!g->b->carry.file); /* whoever makes progress is waited for, not copied */
}

/* A domain whose owner is gone keeps what it promised, without keeping the ring. */
ENGINE_TEST(a_domain_without_progress_does_not_hold_the_journal)
{
	struct neighbour other = {.domain = test_gfid(0xd7)};
	uint8_t one[MYFS_BLOCK] = {0}, have[MYFS_BLOCK];
	one[5] = 1;
	engine_write(g, 0, 1, 41); /* tx 1: stable, then in the base */
	engine_make_stable(g);
	CHECK(brick_checkpoint(g->b, false) == 0);
	struct prep p = {.row = 1, .nrows = 1, .kind = BP_DELTA, .coef = 1, .data = one};
	CHECK(engine_prep(g, 2, &p, NULL) == 0); /* committed, unstable */
	CHECK(engine_decide(g, 2, true) == 0);
	p.row = 2;
	CHECK(engine_prep(g, 3, &p, NULL) == 0); /* undecided */
	CHECK(engine_prep(g, 4, &p, NULL) == 0); /* aborted */
	CHECK(engine_decide(g, 4, false) == 0);
	CHECK(neighbour_write(g, &other, 40) == 0);
	CHECK(journal_trim_pos(g->b->journal) > 2 * MIB(8) && g->b->carry.file && g->b->carry.n == 1);
	for (int power = 0; power < 2; power++) {
		engine_crash(g, power);
		other.owned = false;
		engine_start(g);
		struct bp_fence_res res;
		CHECK(engine_fence(g, ++g->epoch, &res) == 0);
		const struct bp_fence_reply *r = res.items.items_val;
		CHECK(r->txs.txs_len == 3 && r->txs.txs_val[0].state == BP_ST_COMMITTED &&
		      r->txs.txs_val[1].state == BP_ST_PREP);
		CHECK(r->txs.txs_val[2].state == BP_ST_ABORTED);
		fence_free(&res);
		CHECK(neighbour_write(g, &other, 20) == 0); /* the carried records move with the trim */
	}
	CHECK(engine_resolve(g, 1, 3, true) == 0);
	CHECK(engine_resolve(g, 1, 2, false) == 0); /* taken back: its payload is in the carry file */
	g->ver++;
	CHECK(engine_view(g, BP_VIEW_READY, ALL_INSYNC) == 0);
	CHECK(row_is(g, 0, 1, 41));
	g->n = 0;
	engine_make_stable(g);
	CHECK(neighbour_write(g, &other, 20) == 0);
	CHECK(!g->b->carry.file); /* nobody needs it any more */
	engine_crash(g, true);
	engine_start(g);
	engine_own(g, ALL_INSYNC);
	bool good;
	CHECK(row_is(g, 0, 1, 41));
	CHECK(engine_read(g, 0, 2, 1, have, &good) == 0 && good && memcmp(have, one, MYFS_BLOCK) == 0);
}

ENGINE_TEST(a_brick_whose_carried_records_are_damaged_refuses_to_start)
{
	struct neighbour other = {.domain = test_gfid(0xd7)};
	uint8_t data[MYFS_BLOCK] = {1};
	struct prep p = {.nrows = 1, .kind = BP_ABS, .data = data};
	char path[64];
	CHECK(engine_prep(g, 1, &p, NULL) == 0);
	CHECK(neighbour_write(g, &other, 20) == 0);
	snprintf(path, sizeof(path), TREE_PRIVATE_DIR "/carry.%llu", (unsigned long long)g->b->carry.id);
	engine_crash(g, false);
	struct file *f;
	CHECK(store_open(g->dir.s, path, O_RDWR, 0, &f) == 0);
	CHECK(file_pwrite(f, "x", 1, 70) == 0);
	file_close(f);
	struct err e = ERR_INIT;
	CHECK(engine_try_start(g, &e) == -EUCLEAN);
}

/* Small writes far from any checkpoint: what is found again of them must fit the answer to a FENCE. */
ENGINE_TEST(after_a_kill_the_floor_is_known_however_long_ago_the_last_checkpoint_was)
{
	struct bp_fence_res res;
	struct prep nothing = {.nrows = 1, .kind = BP_ZERO}; /* without payload: the journal must not fill */
	for (uint32_t i = 0; i < 3 * BP_MAX_DIGESTS; i++) {
		nothing.row = 100 + i % 100;
		CHECK(engine_prep(g, ++g->n, &nothing, NULL) == 0);
		CHECK(engine_decide(g, g->n, true) == 0);
		if (i % 100 == 99)
			engine_make_stable(g);
	}
	engine_write(g, 0, 7, 1);
	engine_make_stable(g);
	engine_crash(g, false);
	engine_start(g);
	CHECK(engine_fence(g, ++g->epoch, &res) == 0);
	const struct bp_fence_reply *f = res.items.items_val;
	CHECK(f->txs.txs_len < BP_MAX_TX && f->txs.txs_len + f->floor.n >= g->n);
	fence_free(&res);
	CHECK(row_is(g, 0, 7, 1) && row_is(g, 0, 150, 0));
}

ENGINE_TEST(a_brick_that_was_served_without_a_journal_is_never_opened_again)
{
	struct err e = ERR_INIT;
	engine_stop(g);
	g->unjournaled = true;
	engine_start(g);
	engine_own(g, ALL_INSYNC);
	uint64_t owned = journal_end(g->b->journal);
	engine_write(g, 0, 7, 1);
	CHECK(row_is(g, 0, 7, 1));
	CHECK(journal_end(g->b->journal) - owned < MYFS_BLOCK); /* its decision, not its bytes */
	engine_make_stable(g);
	CHECK(brick_checkpoint(g->b, true) == 0 && row_is(g, 0, 7, 1));
	engine_stop(g);
	g->unjournaled = false;
	CHECK(engine_try_start(g, &e) == -EUCLEAN && strstr(e.text, "without a journal"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_stable_floor_above_an_undecided_write_ends_the_connection),
	    cmocka_unit_test(no_disk_space_is_said_at_prep_and_decisions_still_work),
	    cmocka_unit_test(a_checkpoint_without_space_is_repeated_later_and_loses_nothing),
	    cmocka_unit_test(a_journal_write_error_stops_the_brick_for_good),
	    cmocka_unit_test(a_full_journal_makes_preps_wait_until_a_checkpoint_frees_it),
	    cmocka_unit_test(the_background_checkpoint_keeps_overlay_and_journal_small),
	    cmocka_unit_test(a_domain_without_progress_does_not_hold_the_journal),
	    cmocka_unit_test(after_a_kill_the_floor_is_known_however_long_ago_the_last_checkpoint_was),
	    cmocka_unit_test(a_brick_that_was_served_without_a_journal_is_never_opened_again),
	    cmocka_unit_test(a_brick_whose_carried_records_are_damaged_refuses_to_start),
	};
	return cmocka_run_group_tests_name("brick limits", tests, NULL, NULL);
}
