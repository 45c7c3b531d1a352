/* test_brick_engine.c - one brick: promises, views, transactions, checkpoint, restart, rejoin, heal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "brick_engine_fixture.h"

/* ---- ownership ---- */

ENGINE_TEST(a_domain_without_a_promise_is_unseeded)
{
	g->domain = test_gfid(0xd1);
	uint8_t block[MYFS_BLOCK];
	CHECK(engine_read(g, 0, 0, 1, block, NULL) == -MYFS_E_UNSEEDED);
}

ENGINE_TEST(an_older_epoch_is_refused_and_told_the_winner)
{
	struct bp_fence_res res;
	struct gfid other = test_gfid(0x6b);
	struct session *s2 = session_new(g->b, &other, 1, NULL);
	struct session *s1 = g->s;
	g->s = s2;
	CHECK(engine_fence(g, g->epoch, &res) == 0); /* same owner uuid in the args: taken again by another session */
	fence_free(&res);
	g->gateway = other;
	CHECK(engine_fence(g, g->epoch, &res) == -MYFS_E_FENCED);
	CHECK(res.items.items_val[0].promise_epoch == g->epoch && res.items.items_val[0].promise_owner[0] == 0x6a);
	fence_free(&res);
	CHECK(engine_fence(g, g->epoch + 1, &res) == 0);
	fence_free(&res);
	g->s = s1;
	uint8_t block[MYFS_BLOCK];
	CHECK(engine_read(g, 0, 0, 1, block, NULL) == -MYFS_E_FENCED);
	CHECK(engine_decide(g, 1, true) == -MYFS_E_FENCED);
}

ENGINE_TEST(a_newer_session_of_the_same_gateway_ends_the_older_one)
{
	struct session *old = g->s;
	g->s = session_new(g->b, &g->gateway, 2, NULL);
	CHECK(old->dead && old->node.next != NULL);
	uint8_t block[MYFS_BLOCK];
	CHECK(engine_read(g, 0, 0, 1, block, NULL) == -MYFS_E_FENCED); /* it has not fenced yet */
}

ENGINE_TEST(a_write_under_another_view_is_refused)
{
	uint8_t data[MYFS_BLOCK] = {1};
	struct prep p = {.nrows = 1, .kind = BP_ABS, .data = data};
	g->ver++;
	CHECK(engine_prep(g, 1, &p, NULL) == -MYFS_E_VIEW);
	g->ver--;
	CHECK(engine_prep(g, 1, &p, NULL) == 0);
}

ENGINE_TEST(an_older_view_is_refused_and_the_same_one_accepted_again)
{
	CHECK(engine_view(g, BP_VIEW_READY, ALL_INSYNC) == 0);
	g->ver++;
	CHECK(engine_view(g, BP_VIEW_READY, 0x1f) == 0);
	g->ver--;
	CHECK(engine_view(g, BP_VIEW_READY, ALL_INSYNC) == -MYFS_E_VIEW);
}

ENGINE_TEST(a_view_below_k_members_is_refused)
{
	g->ver++;
	CHECK(engine_view(g, BP_VIEW_READY, 0x7) == -EINVAL);
}

ENGINE_TEST(a_brick_out_of_the_view_is_never_read)
{
	g->ver++;
	CHECK(engine_view(g, BP_VIEW_READY, ALL_INSYNC & ~(1u << OWN_INDEX)) == 0);
	uint8_t block[MYFS_BLOCK];
	CHECK(engine_read(g, 0, 0, 1, block, NULL) == -MYFS_E_OUT);
}

ENGINE_TEST(promise_view_and_missed_regions_survive_a_power_loss)
{
	struct bp_missed m = {.shard = 5, .brick = 1, .regions = 0x18};
	bp_uuid boots[6] = {{0}};
	boots[2][0] = 0x77;
	g->ver++;
	struct bp_view_args a = {.view = {g->epoch, g->ver, BP_VIEW_READY, 0x3d, 9, 3, true, {6, boots}}, .missed = {1, &m}};
	memcpy(a.domain, g->domain.b, 16);
	CHECK(view_request(g->b, g->s, &a) == 0);
	engine_crash(g, true);
	engine_start(g);
	struct bp_fence_res res;
	CHECK(engine_fence(g, g->epoch, &res) == 0);
	const struct bp_fence_reply *r = res.items.items_val;
	CHECK(r->promise_epoch == g->epoch && r->has_view && r->view.ver == g->ver && r->view.insync == 0x3d);
	CHECK(r->view.layout_gen == 9 && r->view.loss_gen == 3 && r->view.clean && r->view.boot.boot_len == 6 && r->view.boot.boot_val[2][0] == 0x77);
	fence_free(&res);
	struct bp_missed_res mr = {0};
	CHECK(engine_missq(g, BP_MISSED_ALL, 0, 0, &mr) == 0 && !mr.more);
	CHECK(mr.items.items_len == 1 && mr.items.items_val[0].shard == 5 && mr.items.items_val[0].regions == 0x18);
	xdr_free((xdrproc_t)xdr_bp_missed_res, &mr);
}

/* ---- transactions ---- */

ENGINE_TEST(a_prepared_write_is_invisible_until_committed)
{
	uint8_t data[MYFS_BLOCK];
	block_fill(data, 11);
	struct prep p = {.nrows = 1, .row = 9, .kind = BP_ABS, .data = data};
	CHECK(engine_prep(g, 1, &p, NULL) == 0);
	CHECK(row_is(g, 0, 9, 0));
	CHECK(engine_decide(g, 1, true) == 0);
	CHECK(row_is(g, 0, 9, 11));
}

ENGINE_TEST(an_aborted_write_has_no_effect)
{
	uint8_t data[MYFS_BLOCK];
	block_fill(data, 11);
	struct prep p = {.nrows = 1, .row = 9, .kind = BP_ABS, .data = data};
	CHECK(engine_prep(g, 1, &p, NULL) == 0);
	CHECK(engine_decide(g, 1, false) == 0);
	CHECK(engine_decide(g, 1, true) == 0); /* too late, ignored */
	CHECK(row_is(g, 0, 9, 0));
	CHECK(engine_prep(g, 1, &p, NULL) == -ECANCELED);
}

ENGINE_TEST(the_same_prep_twice_is_held_once_and_another_one_under_its_id_is_refused)
{
	uint8_t data[MYFS_BLOCK];
	block_fill(data, 11);
	struct prep p = {.nrows = 1, .row = 9, .kind = BP_DELTA, .coef = 1, .data = data};
	CHECK(engine_prep(g, 1, &p, NULL) == 0);
	CHECK(engine_prep(g, 1, &p, NULL) == 0);
	p.row = 10;
	CHECK(engine_prep(g, 1, &p, NULL) == -EINVAL);
	CHECK(engine_decide(g, 1, true) == 0);
	CHECK(engine_decide(g, 1, true) == 0);
	CHECK(row_is(g, 0, 9, 11));
}

ENGINE_TEST(a_damaged_payload_is_never_stored)
{
	uint8_t data[MYFS_BLOCK] = {1};
	uint32_t crc = 1;
	struct bp_prep_args a = {.tx = {g->epoch, 1},
				 .view_version = g->ver,
				 .kind = BP_ABS,
				 .tx_kind = BP_TX_FULL,
				 .nrows = 1,
				 .crc = {1, &crc}};
	struct slice payload = {NULL, data, MYFS_BLOCK}, delta = {0};
	memcpy(a.domain, g->domain.b, 16);
	CHECK(tx_prepare(g->b, g->s, &a, &payload, &delta) == -EBADMSG);
}

ENGINE_TEST(want_delta_answers_old_xor_new)
{
	uint8_t a[MYFS_BLOCK], b[MYFS_BLOCK];
	block_fill(a, 21);
	block_fill(b, 22);
	engine_write(g, 1, 4, 21);
	struct prep p = {.shard = 1, .row = 4, .nrows = 1, .kind = BP_ABS, .flags = BP_PREP_WANT_DELTA, .data = b};
	struct slice delta = {0};
	CHECK(engine_prep(g, ++g->n, &p, &delta) == 0);
	CHECK(delta.len == MYFS_BLOCK);
	for (size_t i = 0; i < MYFS_BLOCK; i++)
		CHECK(delta.ptr[i] == (a[i] ^ b[i]));
	buf_unref(delta.owner);
}

ENGINE_TEST(a_wrong_idea_of_the_old_value_is_refused_and_not_held)
{
	uint8_t data[MYFS_BLOCK];
	block_fill(data, 30);
	engine_write(g, 0, 2, 29);
	struct prep p = {.row = 2, .nrows = 1, .kind = BP_ABS, .flags = BP_PREP_OLD_CRC, .data = data, .old_crc = 1};
	CHECK(engine_prep(g, ++g->n, &p, NULL) == -EILSEQ);
	CHECK(engine_decide(g, g->n, true) == 0);
	CHECK(row_is(g, 0, 2, 29));
	uint8_t old[MYFS_BLOCK];
	block_fill(old, 29);
	p.old_crc = crc32c(old, MYFS_BLOCK);
	CHECK(engine_prep(g, ++g->n, &p, NULL) == 0);
	CHECK(engine_decide(g, g->n, true) == 0);
	CHECK(row_is(g, 0, 2, 30));
}

ENGINE_TEST(deltas_fold_with_their_coefficient_over_base_and_overlay)
{
	uint8_t one[MYFS_BLOCK] = {0}, have[MYFS_BLOCK];
	one[0] = 0x80;
	engine_write(g, 0, 1, 0);
	for (int round = 0; round < 3; round++) {
		struct prep p = {.row = 1, .nrows = 1, .kind = BP_DELTA, .coef = 2, .data = one};
		CHECK(engine_prep(g, ++g->n, &p, NULL) == 0);
		CHECK(engine_decide(g, g->n, true) == 0);
		engine_make_stable(g);
		if (round == 1)
			CHECK(brick_checkpoint(g->b, false) == 0);
	}
	bool good;
	CHECK(engine_read(g, 0, 1, 1, have, &good) == 0 && good);
	CHECK(have[0] == 0x1d); /* 0x80 * 2 in GF(2^8) 0x11D, three times */
}

ENGINE_TEST(bad_requests_are_refused_without_effect)
{
	uint8_t data[2 * MYFS_BLOCK] = {1};
	struct prep p = {.nrows = 1, .kind = BP_ABS, .data = data};
	struct prep bad[] = {
	    {.nrows = 1, .kind = 9, .data = data},
	    {.nrows = 1, .row = 4096, .kind = BP_ABS, .data = data},
	    {.nrows = 2, .row = 4095, .kind = BP_ABS, .data = data},
	    {.nrows = 1, .shard = BRICK_MAX_SHARDS, .kind = BP_ABS, .data = data},
	    {.nrows = 1, .kind = BP_DELTA, .coef = 0, .data = data},
	    {.nrows = 1, .kind = BP_DELTA, .coef = 256, .data = data},
	    {.nrows = 1, .kind = BP_DELTA, .coef = 3, .flags = BP_PREP_WANT_DELTA, .data = data},
	    {.nrows = 1, .kind = BP_ABS, .flags = 0x80, .data = data},
	    {.nrows = 4097, .kind = BP_ZERO},
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		CHECK(engine_prep(g, 1, &bad[i], NULL) == -EINVAL);
	CHECK(engine_prep(g, 0, &p, NULL) == -EINVAL);
	CHECK(engine_prep(g, 1, &p, NULL) == 0);
}

/* ---- stable, checkpoint, restart ---- */

ENGINE_TEST(only_stable_writes_reach_the_base)
{
	engine_write(g, 0, 1, 51);
	CHECK(engine_sync(g, 2) == 0);
	CHECK(brick_checkpoint(g->b, false) == 0);
	CHECK(g->b->overlay.versions == 1); /* durable here, but nobody said everywhere */
	CHECK(engine_stable(g, 2) == 0);
	engine_write(g, 0, 2, 52);
	CHECK(brick_checkpoint(g->b, false) == 0);
	CHECK(g->b->overlay.versions == 1 && row_is(g, 0, 1, 51) && row_is(g, 0, 2, 52));
}

ENGINE_TEST(a_row_written_all_the_time_is_checkpointed_one_sync_behind)
{
	for (uint64_t i = 1; i <= 20; i++) {
		engine_write(g, 0, 7, i);
		CHECK(engine_sync(g, g->n + 1) == 0);
		engine_write(g, 0, 7, 100 + i);
		CHECK(engine_stable(g, g->n) == 0); /* the floor of the SYNC above */
		CHECK(brick_checkpoint(g->b, true) == 0);
		CHECK(g->b->overlay.versions == 1);
	}
	CHECK(row_is(g, 0, 7, 120));
}

ENGINE_TEST(zeros_become_holes)
{
	engine_write(g, 0, 5, 1);
	engine_make_stable(g);
	CHECK(brick_checkpoint(g->b, false) == 0);
	engine_write(g, 0, 5, 0);
	engine_make_stable(g);
	CHECK(brick_checkpoint(g->b, false) == 0);
	struct frag *f;
	CHECK(frag_get(g->b->tree, &g->domain, 0, false, &f) == 0);
	CHECK(frag_rows_are_holes(f, 5, 1));
	frag_put(f);
	CHECK(row_is(g, 0, 5, 0));
}

ENGINE_TEST(a_whole_shard_can_be_zeroed_at_once)
{
	for (uint32_t r = 0; r < 4096; r += 500)
		engine_write(g, 2, r, r + 1);
	struct prep p = {.shard = 2, .nrows = 4096, .kind = BP_ZERO};
	CHECK(engine_prep(g, ++g->n, &p, NULL) == 0);
	CHECK(engine_decide(g, g->n, true) == 0);
	engine_make_stable(g);
	for (uint32_t r = 0; r < 4096; r += 250)
		CHECK(row_is(g, 2, r, 0));
	CHECK(brick_checkpoint(g->b, true) == 0);
	CHECK(g->b->overlay.versions == 0 && row_is(g, 2, 500, 0));
}

ENGINE_TEST(acknowledged_preps_and_their_commits_survive_a_kill)
{
	uint8_t data[MYFS_BLOCK];
	block_fill(data, 62);
	engine_write(g, 0, 1, 61);
	fiber_yield(); /* the COMMIT leaves with the iteration */
	struct prep p = {.row = 2, .nrows = 1, .kind = BP_ABS, .data = data};
	CHECK(engine_prep(g, ++g->n, &p, NULL) == 0);
	struct gfid inc = g->b->incarnation;
	engine_crash(g, false);
	engine_start(g);
	CHECK(gfid_eq(&inc, &g->b->incarnation));
	struct bp_fence_res res;
	CHECK(engine_fence(g, ++g->epoch, &res) == 0);
	const struct bp_fence_reply *r = res.items.items_val;
	CHECK(r->txs.txs_len == 2 && r->txs.txs_val[0].state == BP_ST_COMMITTED &&
	      r->txs.txs_val[1].state == BP_ST_PREP);
	CHECK(r->txs.txs_val[1].tx.n == 2 && r->txs.txs_val[1].participants == 1u << OWN_INDEX);
	fence_free(&res);
	CHECK(engine_resolve(g, g->epoch - 1, 2, true) == 0);
	g->ver++;
	CHECK(engine_view(g, BP_VIEW_READY, ALL_INSYNC) == 0);
	CHECK(row_is(g, 0, 1, 61) && row_is(g, 0, 2, 62));
}

ENGINE_TEST(a_ready_view_purges_undecided_transactions_of_older_epochs)
{
	uint8_t data[MYFS_BLOCK] = {1};
	struct prep p = {.row = 2, .nrows = 1, .kind = BP_ABS, .data = data};
	CHECK(engine_prep(g, 1, &p, NULL) == 0);
	engine_own(g, ALL_INSYNC);
	struct brick_domain_info info;
	CHECK(brick_domain_info(g->b, &g->domain, &info) == 0 && info.tx_undecided == 0 && g->b->prep_bytes == 0);
}

ENGINE_TEST(the_incarnation_changes_only_when_the_tail_may_be_lost)
{
	struct gfid first = g->b->incarnation;
	engine_crash(g, false);
	engine_start(g);
	CHECK(gfid_eq(&first, &g->b->incarnation)); /* killed: the page cache is there */
	engine_stop(g);
	prng_bytes(&g->rng, g->boot.b, 16);
	engine_start(g);
	CHECK(gfid_eq(&first, &g->b->incarnation)); /* orderly stop, then a reboot */
	engine_crash(g, true);
	engine_start(g);
	CHECK(!gfid_eq(&first, &g->b->incarnation)); /* power cut */
}

static unsigned keep_none(void *arg, unsigned n)
{
	(void)arg, (void)n;
	return 0;
}

/* A PREP is answered, the sync behind it fails, its pages go: same boot, same directory, no power lost. */
static void lose_a_prepared_row(struct engine *g) YIELDS
{
	uint8_t data[MYFS_BLOCK] = {1};
	struct prep p = {.row = 2, .nrows = 1, .kind = BP_ABS, .data = data};
	CHECK(journal_sync(g->b->journal, journal_end(g->b->journal)) == 0);
	CHECK(engine_prep(g, 1, &p, NULL) == 0);
	g->cs.writes_left = 0;
	CHECK(engine_sync(g, 1) == -EIO && brick_failure(g->b));
	struct gfid boot = g->boot;
	struct brick_witness witness = g->witness;
	g->cs.choose = keep_none;
	engine_crash(g, true);
	g->cs.choose = NULL;
	g->boot = boot;
	g->witness = witness;
}

ENGINE_TEST(a_brick_that_lost_what_it_had_answered_is_another_one_on_the_same_boot)
{
	struct gfid first = g->b->incarnation;
	lose_a_prepared_row(g);
	engine_start(g);
	CHECK(!gfid_eq(&first, &g->b->incarnation));
	struct brick_domain_info info;
	CHECK(brick_domain_info(g->b, &g->domain, &info) == 0 && info.tx_undecided == 0);
	struct gfid second = g->b->incarnation;
	engine_crash(g, false);
	engine_start(g);
	CHECK(gfid_eq(&second, &g->b->incarnation)); /* what it says now is true again */
}

ENGINE_TEST(a_brick_that_dies_as_it_becomes_another_one_becomes_one_again)
{
	struct gfid first = g->b->incarnation;
	lose_a_prepared_row(g);
	struct err e = ERR_INIT;
	int64_t left = 0;
	for (g->cs.writes_left = 0; engine_try_start(g, &e) < 0; g->cs.writes_left = ++left)
		engine_crash(g, false);
	CHECK(left >= 4); /* the journal, and a state file that is written, synced, named and its name synced */
	CHECK(!gfid_eq(&first, &g->b->incarnation));
}

ENGINE_TEST(without_a_witness_only_an_orderly_stop_keeps_the_incarnation)
{
	struct gfid first = g->b->incarnation;
	engine_stop(g);
	g->witness = (struct brick_witness){0};
	engine_start(g);
	CHECK(gfid_eq(&first, &g->b->incarnation));
	engine_crash(g, false);
	g->witness = (struct brick_witness){0};
	engine_start(g);
	CHECK(!gfid_eq(&first, &g->b->incarnation));
}

ENGINE_TEST(a_fragment_whose_sync_failed_is_never_synced_again)
{
	uint8_t data[MYFS_BLOCK];
	uint32_t crc;
	struct iovec v = {data, sizeof(data)};
	struct frag *f;
	block_fill(data, 9);
	crc = crc32c(data, sizeof(data));
	CHECK(frag_get(g->b->tree, &g->domain, 0, true, &f) == 0);
	CHECK(frag_write(f, 7, 1, &v, 1, &crc) == 0);
	g->cs.writes_left = 0;
	CHECK(frag_sync(f) == -EIO); /* as when others made room for a fragment */
	g->cs.writes_left = -1;
	CHECK(frag_sync(f) == -EIO);
	frag_put(f);
	engine_write(g, 0, 1, 70);
	engine_make_stable(g);
	CHECK(brick_checkpoint(g->b, true) == -EIO && brick_failure(g->b)); /* the journal keeps what the file may lack */
	engine_crash(g, false);
	engine_start(g);
	engine_own(g, ALL_INSYNC);
	CHECK(row_is(g, 0, 1, 70));
}

ENGINE_TEST(a_committed_write_can_be_taken_back_by_a_rollback_resolution)
{
	uint8_t data[MYFS_BLOCK], have[MYFS_BLOCK], want[MYFS_BLOCK], delta[MYFS_BLOCK];
	engine_write(g, 0, 1, 70);
	engine_make_stable(g);
	CHECK(brick_checkpoint(g->b, false) == 0);
	block_fill(data, 71);
	block_fill(delta, 72);
	struct prep p = {.row = 1, .nrows = 1, .kind = BP_DELTA, .coef = 1, .data = data};
	CHECK(engine_prep(g, 2, &p, NULL) == 0);
	CHECK(engine_decide(g, 2, true) == 0);
	p.data = delta;
	CHECK(engine_prep(g, 3, &p, NULL) == 0);
	CHECK(engine_decide(g, 3, true) == 0);
	CHECK(engine_resolve(g, g->epoch, 2, false) == 0);
	block_fill(want, 70);
	for (size_t i = 0; i < MYFS_BLOCK; i++)
		want[i] ^= delta[i];
	bool good;
	CHECK(engine_read(g, 0, 1, 1, have, &good) == 0 && good && memcmp(have, want, MYFS_BLOCK) == 0);
	engine_crash(g, false);
	engine_start(g);
	engine_own(g, ALL_INSYNC);
	CHECK(engine_read(g, 0, 1, 1, have, &good) == 0 && good && memcmp(have, want, MYFS_BLOCK) == 0);
}

ENGINE_TEST(a_brick_whose_state_file_is_lost_refuses_to_start)
{
	engine_write(g, 0, 1, 1);
	engine_crash(g, false);
	CHECK(store_unlink(g->dir.s, TREE_STATE_PATH) == 0);
	struct err e = ERR_INIT;
	CHECK(engine_try_start(g, &e) == -EUCLEAN);
	CHECK(strstr(e.text, "rebuilt"));
}

ENGINE_TEST(a_damaged_state_file_is_refused)
{
	engine_crash(g, false);
	struct file *f;
	CHECK(store_open(g->dir.s, TREE_STATE_PATH, O_RDWR, 0, &f) == 0);
	CHECK(file_pwrite(f, "x", 1, 40) == 0);
	file_close(f);
	struct err e = ERR_INIT;
	CHECK(engine_try_start(g, &e) == -EUCLEAN);
}

ENGINE_TEST(a_journal_that_lost_synced_records_is_refused)
{
	CHECK(brick_checkpoint(g->b, true) == 0); /* state up to here is on disk */
	engine_crash(g, false);
	struct file *f;
	uint8_t junk[MYFS_BLOCK] = {0};
	CHECK(store_open(g->dir.s, TREE_JOURNAL_PATH, O_RDWR, 0, &f) == 0);
	engine_start(g);
	engine_own(g, ALL_INSYNC);
	CHECK(state_save(g->b, journal_trim_pos(g->b->journal), false, &g->b->carry) == 0);
	uint64_t at = journal_trim_pos(g->b->journal);
	engine_crash(g, false);
	CHECK(file_pwrite(f, junk, sizeof(junk), at) == 0);
	file_close(f);
	struct err e = ERR_INIT;
	CHECK(engine_try_start(g, &e) == -EUCLEAN);
}

/* ---- rot ---- */

ENGINE_TEST(rot_under_a_delta_is_not_laundered)
{
	uint8_t data[MYFS_BLOCK], have[MYFS_BLOCK];
	block_fill(data, 81);
	engine_write(g, 0, 3, 80);
	engine_make_stable(g);
	CHECK(brick_checkpoint(g->b, true) == 0);
	struct gfid sg = gfid_of_shard(&g->domain, 0);
	char path[TREE_PATH];
	struct file *f;
	CHECK(store_open(g->dir.s, tree_handle_path(&sg, path), O_RDWR, 0, &f) == 0);
	CHECK(file_pwrite(f, "rot", 3, 3 * MYFS_BLOCK + 100) == 0);
	file_close(f);
	bool good;
	CHECK(engine_read(g, 0, 3, 1, have, &good) == 0 && !good); /* the reader sees it */
	struct prep p = {.row = 3, .nrows = 1, .kind = BP_ABS, .flags = BP_PREP_WANT_DELTA, .data = data};
	CHECK(engine_prep(g, ++g->n, &p, NULL) == -MYFS_E_BADSUM); /* the old value is no base for a delta */
	p.kind = BP_DELTA;
	p.flags = 0;
	p.coef = 1;
	CHECK(engine_prep(g, ++g->n, &p, NULL) == 0);
	CHECK(engine_decide(g, g->n, true) == 0);
	CHECK(engine_read(g, 0, 3, 1, have, &good) == 0 && !good);
	engine_make_stable(g);
	CHECK(brick_checkpoint(g->b, true) == 0);
	CHECK(engine_read(g, 0, 3, 1, have, &good) == 0 && !good);
	CHECK(g->b->count.checksum_errors == 1 && g->b->count.repaired == 0); /* however often it was met */
	struct brick_domain_info info;
	CHECK(brick_domain_info(g->b, &g->domain, &info) == 0 && info.missed_entries == 1); /* the next owner is told */
	engine_write(g, 0, 3, 83);                                                          /* the repair */
	engine_make_stable(g);
	CHECK(brick_checkpoint(g->b, true) == 0);
	CHECK(row_is(g, 0, 3, 83) && g->b->count.repaired == 1);
}

/* ---- missed, rejoin, heal ---- */

ENGINE_TEST(a_prep_marks_what_absent_bricks_miss_and_clear_forgets_it)
{
	uint8_t data[2 * MYFS_BLOCK] = {1};
	struct prep p = {.shard = 4, .row = 63, .nrows = 2, .kind = BP_ABS, .data = data, .missed = 0x21};
	CHECK(engine_prep(g, 1, &p, NULL) == 0);
	for (int again = 0; again < 2; again++) {
		struct bp_missed_res mr = {0};
		CHECK(engine_missq(g, BP_MISSED_ALL, 0, 0, &mr) == 0);
		CHECK(mr.items.items_len == 2 && mr.items.items_val[0].regions == 3 &&
		      mr.items.items_val[1].brick == 5);
		xdr_free((xdrproc_t)xdr_bp_missed_res, &mr);
		engine_crash(g, false);
		engine_start(g);
		engine_own(g, ALL_INSYNC);
	}
	struct bp_clear_args a = {.brick = 0};
	memcpy(a.domain, g->domain.b, 16);
	CHECK(clear_request(g->b, g->s, &a) == 0);
	engine_crash(g, true);
	engine_start(g);
	struct bp_missed_res mr = {0};
	CHECK(engine_missq(g, BP_MISSED_ALL, 0, 0, &mr) == 0);
	CHECK(mr.items.items_len == 1 && mr.items.items_val[0].brick == 5);
	xdr_free((xdrproc_t)xdr_bp_missed_res, &mr);
}

static int heal_one(struct engine *g, uint32_t shard, uint32_t row, uint64_t seed) YIELDS
{
	uint8_t data[MYFS_BLOCK];
	block_fill(data, seed);
	uint32_t crc = crc32c(data, MYFS_BLOCK);
	struct bp_healw_args a = {.shard = shard, .row = row, .nrows = 1, .durable = true, .crc = {1, &crc}};
	struct slice payload = {NULL, data, MYFS_BLOCK};
	memcpy(a.domain, g->domain.b, 16);
	return rows_request_heal(g->b, g->s, &a, &payload);
}

ENGINE_TEST(rejoin_keeps_what_is_stable_and_reports_what_it_throws_away)
{
	uint8_t data[MYFS_BLOCK] = {1};
	engine_write(g, 0, 1, 90); /* tx 1, stable */
	engine_make_stable(g);
	engine_write(g, 0, 100, 91); /* tx 2, committed only */
	struct prep p = {.shard = 3, .row = 4000, .nrows = 1, .kind = BP_ABS, .data = data};
	CHECK(engine_prep(g, 3, &p, NULL) == 0); /* tx 3, undecided */
	struct bp_rejoin_args a = {.floor = {g->epoch, 2}};
	memcpy(a.domain, g->domain.b, 16);
	struct bp_missed_res mr = {0};
	CHECK(tx_rejoin(g->b, g->s, &a, &mr) == -EINVAL); /* a member never throws anything away */
	g->epoch++;
	g->ver++;
	struct bp_fence_res res;
	CHECK(engine_fence(g, g->epoch, &res) == 0);
	fence_free(&res);
	CHECK(engine_view(g, BP_VIEW_RESOLVING, ALL_INSYNC & ~(1u << OWN_INDEX)) == 0);
	for (int again = 0; again < 2; again++) { /* the answer is the same after a crash of whoever asked */
		CHECK(tx_rejoin(g->b, g->s, &a, &mr) == 0);
		CHECK(mr.items.items_len == 2);
		CHECK(mr.items.items_val[0].shard == 0 && mr.items.items_val[0].regions == 2 &&
		      mr.items.items_val[0].brick == OWN_INDEX);
		CHECK(mr.items.items_val[1].shard == 3 && mr.items.items_val[1].regions == UINT64_C(1) << 62);
		xdr_free((xdrproc_t)xdr_bp_missed_res, &mr);
		mr = (struct bp_missed_res){0};
	}
	CHECK(heal_one(g, 0, 100, 92) == 0);
	g->ver++;
	CHECK(engine_view(g, BP_VIEW_READY, ALL_INSYNC) == 0);
	CHECK(heal_one(g, 0, 100, 93) == -EINVAL); /* a member is not healed */
	for (int again = 0; again < 2; again++) {
		CHECK(row_is(g, 0, 1, 90) && row_is(g, 0, 100, 92) && row_is(g, 3, 4000, 0));
		engine_crash(g, false);
		engine_start(g);
		engine_own(g, ALL_INSYNC);
	}
}

ENGINE_TEST(healed_rows_supersede_versions_also_after_a_restart)
{
	g->ver++;
	CHECK(engine_view(g, BP_VIEW_READY, ALL_INSYNC & ~(1u << OWN_INDEX)) == 0);
	engine_write(g, 0, 5, 95); /* a write of a region healed before */
	CHECK(heal_one(g, 0, 5, 96) == 0);
	g->ver++;
	CHECK(engine_view(g, BP_VIEW_READY, ALL_INSYNC) == 0);
	CHECK(row_is(g, 0, 5, 96));
	engine_crash(g, false);
	engine_start(g);
	engine_own(g, ALL_INSYNC);
	CHECK(row_is(g, 0, 5, 96));
}

ENGINE_TEST(shards_and_extents_include_what_is_not_in_the_base_yet)
{
	engine_write(g, 6, 10, 1);
	engine_write(g, 2, 1, 1);
	engine_make_stable(g);
	CHECK(brick_checkpoint(g->b, false) == 0);
	engine_write(g, 6, 12, 1);
	engine_write(g, 9, 0, 1);
	struct bp_shards_res sr = {0};
	struct slice bits = {0};
	CHECK(rows_request_shards(g->b, (const char *)g->domain.b, &sr, &bits) == 0);
	CHECK(sr.count == 3 && sr.max_plus_1 == 10 && bits.len == 8 && bits.ptr[0] == 0x44 && bits.ptr[1] == 0x02);
	buf_unref(bits.owner);
	struct bp_extents_args a = {.shard = 6, .row = 8, .nrows = 8};
	memcpy(a.domain, g->domain.b, 16);
	CHECK(rows_request_extents(g->b, g->s, &a, &bits) == 0);
	CHECK(bits.len == 1 && bits.ptr[0] == 0x14);
	buf_unref(bits.owner);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_domain_without_a_promise_is_unseeded),
	    cmocka_unit_test(an_older_epoch_is_refused_and_told_the_winner),
	    cmocka_unit_test(a_newer_session_of_the_same_gateway_ends_the_older_one),
	    cmocka_unit_test(a_write_under_another_view_is_refused),
	    cmocka_unit_test(an_older_view_is_refused_and_the_same_one_accepted_again),
	    cmocka_unit_test(a_view_below_k_members_is_refused),
	    cmocka_unit_test(a_brick_out_of_the_view_is_never_read),
	    cmocka_unit_test(promise_view_and_missed_regions_survive_a_power_loss),
	    cmocka_unit_test(a_prepared_write_is_invisible_until_committed),
	    cmocka_unit_test(an_aborted_write_has_no_effect),
	    cmocka_unit_test(the_same_prep_twice_is_held_once_and_another_one_under_its_id_is_refused),
	    cmocka_unit_test(a_damaged_payload_is_never_stored),
	    cmocka_unit_test(want_delta_answers_old_xor_new),
	    cmocka_unit_test(a_wrong_idea_of_the_old_value_is_refused_and_not_held),
	    cmocka_unit_test(deltas_fold_with_their_coefficient_over_base_and_overlay),
	    cmocka_unit_test(bad_requests_are_refused_without_effect),
	    cmocka_unit_test(only_stable_writes_reach_the_base),
	    cmocka_unit_test(a_row_written_all_the_time_is_checkpointed_one_sync_behind),
	    cmocka_unit_test(zeros_become_holes),
	    cmocka_unit_test(a_whole_shard_can_be_zeroed_at_once),
	    cmocka_unit_test(acknowledged_preps_and_their_commits_survive_a_kill),
	    cmocka_unit_test(a_ready_view_purges_undecided_transactions_of_older_epochs),
	    cmocka_unit_test(the_incarnation_changes_only_when_the_tail_may_be_lost),
	    cmocka_unit_test(a_brick_that_lost_what_it_had_answered_is_another_one_on_the_same_boot),
	    cmocka_unit_test(a_brick_that_dies_as_it_becomes_another_one_becomes_one_again),
	    cmocka_unit_test(without_a_witness_only_an_orderly_stop_keeps_the_incarnation),
	    cmocka_unit_test(a_fragment_whose_sync_failed_is_never_synced_again),
	    cmocka_unit_test(a_committed_write_can_be_taken_back_by_a_rollback_resolution),
	    cmocka_unit_test(a_brick_whose_state_file_is_lost_refuses_to_start),
	    cmocka_unit_test(a_damaged_state_file_is_refused),
	    cmocka_unit_test(a_journal_that_lost_synced_records_is_refused),
	    cmocka_unit_test(rot_under_a_delta_is_not_laundered),
	    cmocka_unit_test(a_prep_marks_what_absent_bricks_miss_and_clear_forgets_it),
	    cmocka_unit_test(rejoin_keeps_what_is_stable_and_reports_what_it_throws_away),
	    cmocka_unit_test(healed_rows_supersede_versions_also_after_a_restart),
	    cmocka_unit_test(shards_and_extents_include_what_is_not_in_the_base_yet),
	};
	return cmocka_run_group_tests_name("brick engine", tests, NULL, NULL);
}
