/* ec/resolve: every case of the takeover's decision as a small table. The set is 4+2 unless said otherwise: bricks 0..3 stand for
 * data, 4 and 5 for parity (rotation does not matter to these rules). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/prng.h"
#include "ec/resolve.h"

#define N 6u
#define MAXTX 8u

static struct ec_geometry geo;
static struct ec_fence_fact facts[32];
static bp_digest digests[32][MAXTX];
static struct ec_view view;

static struct gfid boot_of(uint32_t b, uint8_t life)
{
	struct gfid g = {{0}};
	g.b[0] = (uint8_t)(b + 1);
	g.b[1] = life;
	return g;
}

/* All bricks in sync, fenced, firm, without transactions; every test changes what it is about. */
static int setup(void **state)
{
	(void)state;
	if (ec_geometry_init(&geo, 4, 2, 16384))
		return -1;
	memset(facts, 0, sizeof(facts));
	view = (struct ec_view){.epoch = 3, .ver = 5, .state = BP_VIEW_READY, .insync = 0x3f};
	for (uint32_t b = 0; b < N; b++)
		view.boot[b] = boot_of(b, 1);
	for (uint32_t b = 0; b < N; b++)
		facts[b] = (struct ec_fence_fact){.replied = true, .has_view = true, .boot = boot_of(b, 1), .view = view,
						  .txs = digests[b]};
	return 0;
}

static void amnesia(uint32_t bricks)
{
	for (uint32_t b = 0; b < N; b++)
		if (mask_has(bricks, b))
			facts[b].boot = boot_of(b, 2);
}

static void silent(uint32_t bricks)
{
	for (uint32_t b = 0; b < N; b++)
		if (mask_has(bricks, b))
			facts[b].replied = false;
}

struct tx {
	uint64_t n;
	uint32_t kind, lba, nblocks, participants;
	uint32_t prep, committed, aborted; /* masks: who holds what; participants in none of them lack it */
};

static void hold(const struct tx *t)
{
	for (uint32_t b = 0; b < N; b++) {
		uint32_t state = mask_has(t->prep, b)	     ? BP_ST_PREP
				 : mask_has(t->committed, b) ? BP_ST_COMMITTED
				 : mask_has(t->aborted, b)   ? BP_ST_ABORTED
							     : 0;
		if (!state)
			continue;
		assert_true(facts[b].ntxs < MAXTX);
		digests[b][facts[b].ntxs++] = (bp_digest){
		    .tx = {3, t->n}, .shard = 1, .tx_kind = t->kind, .lba = t->lba, .nblocks = t->nblocks,
		    .participants = t->participants, .state = state};
	}
}

static struct ec_resolution resolution;
static struct ec_missed missed;
static struct ec_resolve_members members;

static int decide(bool waited)
{
	struct err e = ERR_INIT;
	struct ec_view v;
	ec_missed_release(&missed);
	ec_resolution_release(&resolution);
	int rc = ec_resolve_view(&geo, facts, &v, &e);
	if (!rc)
		rc = ec_resolve_who(&geo, &v, facts, waited, &members, &e);
	if (!rc)
		rc = ec_resolve_decide(&geo, &members, facts, &resolution, &missed, &e);
	if (rc)
		assert_string_not_equal(e.text, "");
	assert_int_equal(e.code, rc);
	return rc;
}

static int teardown(void **state)
{
	(void)state;
	ec_missed_release(&missed);
	ec_resolution_release(&resolution);
	return 0;
}

/* "C" / "A" per decided tx, in order. */
static const char *outcome(void)
{
	static char text[64];
	uint32_t i;
	for (i = 0; i < resolution.n && i + 1 < sizeof(text); i++)
		text[i] = resolution.v[i].commit ? 'C' : 'A';
	text[i] = 0;
	return text;
}

/* ---- which view ---- */

static void the_newest_view_of_any_reply_counts(void **state)
{
	(void)state;
	struct ec_view v;
	facts[2].view.epoch = 4;
	facts[2].view.ver = 1;
	facts[2].view.insync = 0x0f;
	assert_int_equal(ec_resolve_view(&geo, facts, &v, NULL), 0);
	assert_int_equal(v.epoch, 4);
	assert_int_equal(v.insync, 0x0f);
}

static void fewer_than_w_replies_decide_nothing(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	struct ec_view v = {.epoch = 77};
	silent(0x07);
	assert_int_equal(ec_resolve_view(&geo, facts, &v, &e), -MYFS_E_QUORUM);
	assert_string_equal(e.text, "3 of 6 bricks answered, 4 needed");
	assert_int_equal(v.epoch, 77);
}

static void a_domain_nobody_has_a_view_of_may_be_seeded(void **state)
{
	(void)state;
	struct ec_view v;
	for (uint32_t b = 0; b < N; b++)
		facts[b].has_view = false;
	assert_int_equal(ec_resolve_view(&geo, facts, &v, NULL), -ENOENT);
}

static void emptied_bricks_do_not_help_to_find_the_newest_view(void **state)
{
	(void)state;
	struct ec_view v;
	for (uint32_t b = 0; b < N; b++)
		facts[b].has_view = b >= 3;
	assert_int_equal(ec_resolve_view(&geo, facts, &v, NULL), -MYFS_E_UNSEEDED);
	facts[0].has_view = true;
	assert_int_equal(ec_resolve_view(&geo, facts, &v, NULL), 0);
}

static void a_silent_bricks_view_does_not_count(void **state)
{
	(void)state;
	struct ec_view v;
	facts[5].view.epoch = 9;
	silent(0x20);
	assert_int_equal(ec_resolve_view(&geo, facts, &v, NULL), 0);
	assert_int_equal(v.epoch, 3);
}

static void two_views_of_one_version_are_a_contradiction(void **state)
{
	(void)state;
	struct ec_view v;
	facts[3].view.insync = 0x1f;
	assert_int_equal(ec_resolve_view(&geo, facts, &v, NULL), -MYFS_E_PROTO);
}

/* ---- who is used ---- */

static void members_are_chosen_by_boot_id_and_waiting(void **state)
{
	static const struct {
		const char *what;
		uint32_t insync, silent, amnesiac;
		bool waited;
		int rc;
		uint32_t use;
		bool rollback;
	} t[] = {
	    {"all well", 0x3f, 0, 0, false, 0, 0x3f, false},
	    {"a stale brick answers: never used", 0x1f, 0, 0, false, 0, 0x1f, false},
	    {"two silent", 0x3f, 0x30, 0, false, 0, 0x0f, false},
	    {"one amnesiac is dropped, five firm", 0x3f, 0, 0x01, false, 0, 0x3e, false},
	    {"two amnesiac, K firm", 0x3f, 0, 0x03, false, 0, 0x3c, false},
	    {"one silent, one amnesiac, K firm", 0x3f, 0x20, 0x01, false, 0, 0x1e, false},
	    {"two silent, one amnesiac: wait for the silent", 0x3f, 0x30, 0x01, false, -EAGAIN, 0, false},
	    {"the same after waiting: roll back", 0x3f, 0x30, 0x01, true, 0, 0x0f, true},
	    {"three amnesiac and nobody to wait for: roll back at once", 0x3f, 0, 0x07, false, 0, 0x3f, true},
	    {"everybody amnesiac", 0x3f, 0, 0x3f, false, 0, 0x3f, true},
	    {"K in sync, one of them silent", 0x0f, 0x01, 0, true, -MYFS_E_QUORUM, 0, false},
	    {"stale bricks do not make up for members", 0x0f, 0x02, 0, true, -MYFS_E_QUORUM, 0, false},
	    {"K in sync, one amnesiac: nobody to wait for", 0x0f, 0, 0x01, false, 0, 0x0f, true},
	};
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		struct ec_resolve_members m;
		struct err e = ERR_INIT;
		setup(state);
		view.insync = t[i].insync;
		silent(t[i].silent);
		amnesia(t[i].amnesiac);
		int rc = ec_resolve_who(&geo, &view, facts, t[i].waited, &m, &e);
		if (rc != t[i].rc || (!rc && (m.use != t[i].use || m.rollback != t[i].rollback)))
			fail_msg("%s: rc %d use 0x%x rollback %d", t[i].what, rc, m.use, m.rollback);
		assert_int_equal(m.fenced, t[i].insync & ~t[i].silent);
		assert_int_equal(m.firm, t[i].insync & ~t[i].silent & ~t[i].amnesiac);
	}
}

/* ---- one transaction ---- */

/* A 4 KiB write to data brick 0: participants 0, 4, 5 (mask 0x31). */
static void one_partial_write_is_decided_by_what_its_participants_hold(void **state)
{
	static const struct {
		const char *what;
		uint32_t silent, amnesiac;
		bool waited;
		uint32_t prep, committed, aborted;
		int rc;
		const char *outcome;
		uint32_t to;
	} t[] = {
	    {"all hold it: forward", 0, 0, false, 0x31, 0, 0, 0, "C", 0x31},
	    {"all committed", 0, 0, false, 0, 0x31, 0, 0, "C", 0x31},
	    {"commit reached some", 0, 0, false, 0x11, 0x20, 0, 0, "C", 0x31},
	    {"a firm one lacks it: never acknowledged", 0, 0, false, 0x11, 0, 0, 0, "A", 0x31},
	    {"only parity holds it, data brick silent", 0x01, 0, false, 0x30, 0, 0, 0, "C", 0x30},
	    {"only one parity is left and holds it", 0x21, 0, false, 0x10, 0, 0, 0, "C", 0x10},
	    {"only one parity left and it lacks it: nobody tells", 0x21, 0, false, 0, 0, 0, 0, "", 0},
	    {"an amnesiac one lacks it: it does not count", 0, 0x20, false, 0x11, 0, 0, 0, "C", 0x11},
	    {"an amnesiac one holds it alone: it does not count either", 0, 0x20, false, 0x20, 0, 0, 0, "", 0},
	    {"aborted on one, prepared on others", 0, 0, false, 0x11, 0, 0x20, 0, "A", 0x31},
	    {"aborted everywhere", 0, 0, false, 0, 0, 0x31, 0, "A", 0x31},
	    {"committed here, lacking there, no journal lost", 0, 0, false, 0x10, 0x20, 0, -MYFS_E_PROTO, "", 0},
	    {"committed here, aborted there, no journal lost", 0, 0, false, 0x01, 0x20, 0x10, -MYFS_E_PROTO, "", 0},
	    {"rollback: all present ones hold it", 0x08, 0x27, true, 0x31, 0, 0, 0, "C", 0x31},
	    {"rollback: one lost it, others prepared", 0x08, 0x27, true, 0x30, 0, 0, 0, "A", 0x31},
	    {"rollback: one lost it, others committed", 0x08, 0x27, true, 0, 0x30, 0, 0, "A", 0x31},
	    {"rollback: a half-delivered abort of a committed one", 0, 0x3f, true, 0, 0x11, 0x20, 0, "A", 0x31},
	};
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		setup(state);
		silent(t[i].silent);
		amnesia(t[i].amnesiac);
		struct tx x = {10, BP_TX_DELTA, 100, 1, 0x31, t[i].prep, t[i].committed, t[i].aborted};
		hold(&x);
		int rc = decide(t[i].waited);
		if (rc != t[i].rc || (!rc && strcmp(outcome(), t[i].outcome) != 0))
			fail_msg("%s: rc %d outcome \"%s\"", t[i].what, rc, rc ? "" : outcome());
		if (!rc && resolution.n)
			assert_int_equal(resolution.v[0].to, t[i].to);
	}
}

static void every_state_of_three_participants_follows_the_rule(void **state)
{
	/* Per participant: P prepared, C committed, A aborted, L lacks. */
	for (unsigned combo = 0; combo < 64; combo++) {
		for (unsigned rollback = 0; rollback < 2; rollback++) {
			static const uint32_t bricks[3] = {0, 4, 5};
			unsigned count[4] = {0};
			struct tx x = {10, BP_TX_DELTA, 100, 1, 0x31, 0, 0, 0};
			setup(state);
			if (rollback)
				amnesia(0x3f);
			for (unsigned i = 0; i < 3; i++) {
				unsigned s = combo >> (2 * i) & 3;
				count[s]++;
				x.prep |= s == 0 ? 1u << bricks[i] : 0;
				x.committed |= s == 1 ? 1u << bricks[i] : 0;
				x.aborted |= s == 2 ? 1u << bricks[i] : 0;
			}
			hold(&x);
			bool forward = count[2] == 0 && count[3] == 0;
			int rc = decide(true);
			if (!rollback && !forward && count[1] > 0) {
				assert_int_equal(rc, -MYFS_E_PROTO); /* D1 */
				continue;
			}
			assert_int_equal(rc, 0);
			assert_int_equal(resolution.n, count[3] < 3);
			if (!resolution.n)
				continue;
			assert_int_equal(resolution.v[0].commit, forward);
			assert_int_equal(resolution.v[0].was_committed, count[1] > 0);
			assert_int_equal(resolution.aborted, !forward);
			assert_int_equal(resolution.lost, !forward && count[1] > 0);
			assert_int_equal(resolution.v[0].holders, x.prep | x.committed);
		}
	}
}

/* ---- floors ---- */

static void below_the_highest_floor_nothing_is_decided_or_lacking(void **state)
{
	(void)state;
	/* Brick 5 has checkpointed and trimmed tx 10, the others have not: it does not lack it. */
	struct tx old = {10, BP_TX_DELTA, 100, 1, 0x31, 0, 0x11, 0}, young = {12, BP_TX_DELTA, 100, 1, 0x31, 0x31, 0, 0};
	hold(&old);
	hold(&young);
	facts[5].floor = (bp_tx){3, 11};
	assert_int_equal(decide(false), 0);
	assert_string_equal(outcome(), "C");
	assert_int_equal(resolution.v[0].tx.n, 12);
	assert_int_equal(resolution.floor.n, 11);
}

static void a_floor_known_only_to_a_stale_brick_counts(void **state)
{
	(void)state;
	/* Brick 5 joined after a heal and never saw tx 10; only brick 0, meanwhile out, heard of the floor. */
	struct tx old = {10, BP_TX_DELTA, 100, 1, 0x30, 0, 0x10, 0};
	for (uint32_t b = 0; b < N; b++)
		facts[b].view.insync = 0x3e;
	hold(&old);
	assert_int_equal(decide(false), -MYFS_E_PROTO);
	facts[0].floor = (bp_tx){3, 11};
	assert_int_equal(decide(false), 0);
	assert_int_equal(resolution.n, 0);
}

static void a_prepared_transaction_below_the_floor_is_a_contradiction(void **state)
{
	(void)state;
	struct tx old = {10, BP_TX_DELTA, 100, 1, 0x31, 0x01, 0x30, 0};
	hold(&old);
	facts[4].floor = (bp_tx){3, 11};
	assert_int_equal(decide(false), -MYFS_E_PROTO);
}

static void the_floor_itself_is_not_below_the_floor(void **state)
{
	(void)state;
	struct tx x = {10, BP_TX_DELTA, 100, 1, 0x31, 0x31, 0, 0};
	hold(&x);
	facts[4].floor = (bp_tx){3, 10};
	assert_int_equal(decide(false), 0);
	assert_string_equal(outcome(), "C");
}

/* ---- dependencies (stripe of 4+2 with 16 KiB chunks: blocks 0-3 chunk 0, 4-7 chunk 1, 8-11 chunk 2, 12-15 chunk 3) ---- */

static void what_was_built_on_aborted_bytes_is_aborted_too(void **state)
{
	static const uint32_t F = 0x3f;
	static const struct {
		const char *what;
		struct tx t[4];
		const char *outcome;
	} t[] = {
	    {"delta on the same block",
	     {{1, BP_TX_FULL, 0, 16, F, 0x3e, 0, 0}, {2, BP_TX_DELTA, 5, 1, 0x32, 0x32, 0, 0}},
	     "AA"},
	    {"delta beside it",
	     {{1, BP_TX_FULL, 0, 16, F, 0x3e, 0, 0}, {2, BP_TX_DELTA, 16, 1, 0x31, 0x31, 0, 0}},
	     "AC"},
	    {"full stripe depends on nothing and heals",
	     {{1, BP_TX_DELTA, 5, 1, 0x32, 0x02, 0, 0},
	      {2, BP_TX_FULL, 0, 16, F, F, 0, 0},
	      {3, BP_TX_DELTA, 5, 1, 0x32, 0x32, 0, 0}},
	     "ACC"},
	    {"an aborted full stripe heals nothing",
	     {{1, BP_TX_DELTA, 5, 1, 0x32, 0x02, 0, 0},
	      {2, BP_TX_FULL, 0, 16, F, 0x1f, 0, 0},
	      {3, BP_TX_DELTA, 5, 1, 0x32, 0x32, 0, 0}},
	     "AAA"},
	    {"chain of deltas",
	     {{1, BP_TX_DELTA, 5, 1, 0x32, 0x02, 0, 0},
	      {2, BP_TX_DELTA, 4, 4, 0x32, 0x32, 0, 0},
	      {3, BP_TX_DELTA, 7, 1, 0x32, 0x32, 0, 0},
	      {4, BP_TX_DELTA, 3, 1, 0x31, 0x31, 0, 0}},
	     "AAAC"},
	    {"reconstruct-write over an aborted untouched chunk, same row",
	     {{1, BP_TX_DELTA, 5, 1, 0x32, 0x02, 0, 0}, {2, BP_TX_RCW, 8, 8, 0x3c, 0x3c, 0, 0}},
	     "AA"},
	    {"reconstruct-write over its own aborted bytes replaces them",
	     {{1, BP_TX_DELTA, 9, 1, 0x34, 0x04, 0, 0},
	      {2, BP_TX_RCW, 8, 8, 0x3c, 0x3c, 0, 0},
	      {3, BP_TX_DELTA, 9, 1, 0x34, 0x34, 0, 0}},
	     "ACC"},
	    {"reconstruct-write of other rows of the stripe",
	     {{1, BP_TX_DELTA, 5, 1, 0x32, 0x02, 0, 0},
	      {2, BP_TX_RCW, 10, 5, 0x3c, 0x3c, 0, 0} /* rows 2, 3 and 0..2 */},
	     "AA"},
	    {"reconstruct-write of one row, poison in another",
	     {{1, BP_TX_DELTA, 5, 1, 0x32, 0x02, 0, 0}, {2, BP_TX_RCW, 8, 1, 0x34, 0x34, 0, 0}},
	     "AC"},
	    {"parity repair of the poisoned row",
	     {{1, BP_TX_DELTA, 5, 1, 0x32, 0x02, 0, 0}, {2, BP_TX_RCW, 1, 0, 0x10, 0x10, 0, 0}},
	     "AA"},
	    {"parity repair of another row, and it poisons nothing",
	     {{1, BP_TX_DELTA, 5, 1, 0x32, 0x02, 0, 0},
	      {2, BP_TX_RCW, 2, 0, 0x10, 0x10, 0, 0},
	      {3, BP_TX_DELTA, 2, 1, 0x31, 0x31, 0, 0}},
	     "ACC"},
	    {"another stripe is another world",
	     {{1, BP_TX_DELTA, 5, 1, 0x32, 0x02, 0, 0}, {2, BP_TX_RCW, 24, 8, 0x3c, 0x3c, 0, 0}},
	     "AC"},
	};
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		setup(state);
		for (size_t j = 0; j < 4 && t[i].t[j].n; j++)
			hold(&t[i].t[j]);
		amnesia(0x3f);
		int rc = decide(true);
		if (rc || strcmp(outcome(), t[i].outcome) != 0)
			fail_msg("%s: rc %d outcome \"%s\"", t[i].what, rc, rc ? "" : outcome());
	}
}

static void a_committed_write_on_aborted_bytes_is_taken_back_only_in_rollback(void **state)
{
	(void)state;
	struct tx lost = {1, BP_TX_FULL, 0, 16, 0x3f, 0, 0x3e, 0}, later = {2, BP_TX_DELTA, 5, 1, 0x32, 0, 0x32, 0};
	hold(&lost);
	hold(&later);
	amnesia(0x07);
	assert_int_equal(decide(true), 0);
	assert_true(members.rollback);
	assert_string_equal(outcome(), "AA");
	assert_int_equal(resolution.lost, 2);

	setup(state);
	hold(&lost);
	hold(&later);
	assert_int_equal(decide(true), -MYFS_E_PROTO); /* D1: cannot happen without a lost journal */
}

/* The owner aborts a tx that one brick refused, frees the row and writes the same bytes again. */
static void what_followed_an_abort_by_the_owner_stands(void **state)
{
	struct tx refused = {1, BP_TX_FULL, 0, 16, 0x3f, 0x0c, 0, 0x32}, again = {2, BP_TX_DELTA, 5, 1, 0x32, 0, 0x32, 0};
	hold(&refused);
	hold(&again);
	assert_int_equal(decide(true), 0);
	assert_string_equal(outcome(), "AC");

	setup(state);
	hold(&refused);
	hold(&again);
	amnesia(0x07);
	assert_int_equal(decide(true), 0);
	assert_true(members.rollback);
	assert_string_equal(outcome(), "AC");
}

/* A rollback aborted the first for want of brick 5, told brick 1, and was interrupted; now brick 5 is gone as well. */
static void what_an_interrupted_rollback_took_back_still_poisons(void **state)
{
	(void)state;
	struct tx first = {1, BP_TX_FULL, 0, 16, 0x3f, 0x1f, 0, 0}, later = {2, BP_TX_DELTA, 5, 1, 0x32, 0x32, 0, 0};
	hold(&first);
	hold(&later);
	digests[0][0].state = BP_ST_UNDONE;
	for (uint32_t b = 0; b < N; b++)
		facts[b].view.state = BP_VIEW_RESOLVING;
	amnesia(0x3f);
	silent(0x20);
	assert_int_equal(decide(true), 0);
	assert_true(members.rollback);
	assert_string_equal(outcome(), "AA");
}

static void a_ready_view_settles_earlier_epochs(void **state)
{
	/* Brick 5 lacks it: it was healed past under the present owner. */
	struct tx old = {10, BP_TX_DELTA, 100, 1, 0x31, 0, 0x11, 0};
	for (unsigned resolving = 0; resolving < 2; resolving++) {
		setup(state);
		hold(&old);
		for (uint32_t b = 0; b < N; b++) {
			if (facts[b].ntxs)
				digests[b][0].tx.epoch = 2;
			facts[b].view.state = resolving ? BP_VIEW_RESOLVING : BP_VIEW_READY;
		}
		assert_int_equal(decide(false), resolving ? -MYFS_E_PROTO : 0);
		if (!resolving)
			assert_int_equal(resolution.n, 0);
	}
}

static void a_member_that_has_no_view_any_more_is_none(void **state)
{
	(void)state;
	struct tx x = {10, BP_TX_DELTA, 100, 1, 0x31, 0x11, 0, 0};
	hold(&x);
	facts[5].has_view = false; /* emptied: it is neither firm, nor does it lack anything */
	assert_int_equal(decide(false), 0);
	assert_int_equal(members.use, 0x1f);
	assert_string_equal(outcome(), "C");
	facts[0].has_view = facts[1].has_view = false;
	assert_int_equal(decide(true), -MYFS_E_UNSEEDED); /* and no rollback makes it one */
}

static void transactions_are_decided_in_order_of_epoch_and_number(void **state)
{
	(void)state;
	view.state = BP_VIEW_RESOLVING;
	for (uint32_t i = 0; i < N; i++)
		facts[i].view.state = BP_VIEW_RESOLVING;
	struct tx a = {7, BP_TX_FULL, 0, 16, 0x3f, 0x3f, 0, 0}, b = {9, BP_TX_FULL, 16, 16, 0x3f, 0x3f, 0, 0};
	hold(&a);
	hold(&b);
	for (uint32_t i = 0; i < N; i++) { /* the one with the lower number is of the later epoch */
		digests[i][0].tx.epoch = 2;
		digests[i][0].tx.n = 9;
		digests[i][1].tx.n = 7;
	}
	assert_int_equal(decide(false), 0);
	assert_int_equal(resolution.n, 2);
	assert_int_equal(resolution.v[0].tx.epoch, 2);
	assert_int_equal(resolution.v[1].tx.epoch, 3);
}

/* ---- what dropped bricks missed ---- */

static void bricks_not_used_missed_the_regions_of_what_concerned_them(void **state)
{
	(void)state;
	uint32_t region = geo.region_rows * geo.k; /* blocks of one */
	struct tx full = {1, BP_TX_FULL, 2 * region, 2 * region, 0x3f, 0x3f, 0, 0};
	struct tx part = {2, BP_TX_DELTA, 9 * region + 5, 1, 0x31, 0x31, 0, 0}, gone = {3, BP_TX_DELTA, 0, 1, 0x31, 0x10, 0, 0};
	hold(&full);
	hold(&part);
	hold(&gone);
	silent(0x02);
	amnesia(0x20);
	assert_int_equal(decide(false), 0);
	assert_int_equal(members.use, 0x1d);
	assert_string_equal(outcome(), "CCA");
	assert_int_equal(ec_missed_get(&missed, 1, 1), 0x0c);
	assert_int_equal(ec_missed_get(&missed, 1, 5), 0x0c | 1 << 9 | 1);
	assert_int_equal(ec_missed_get(&missed, 1, 0), 0);
	assert_int_equal(ec_missed_pairs(&missed), 2);
}

static void regions_of_a_range_of_blocks(void **state)
{
	(void)state;
	uint32_t region = geo.region_rows * geo.k;
	assert_int_equal(ec_regions_of(&geo, 0, 1), 1);
	assert_int_equal(ec_regions_of(&geo, region - 1, 1), 1);
	assert_int_equal(ec_regions_of(&geo, region - 1, 2), 3);
	assert_int_equal(ec_regions_of(&geo, region, 0), 2);
	assert_true(ec_regions_of(&geo, 0, 64 * region) == UINT64_MAX);
	assert_true(ec_regions_of(&geo, 63 * region, region) == UINT64_C(1) << 63);
}

/* ---- what may not come off the wire ---- */

static void impossible_digests_are_refused(void **state)
{
	uint32_t blocks = (uint32_t)(geo.shard_bytes / MYFS_BLOCK);
	const struct {
		uint32_t kind, lba, nblocks, participants, state;
	} bad[] = {
	    {0, 0, 1, 0x31, BP_ST_PREP},
	    {9, 0, 1, 0x31, BP_ST_PREP},
	    {BP_TX_DELTA, 0, 1, 0x31, 0},
	    {BP_TX_DELTA, 0, 1, 0x31, 5},
	    {BP_TX_DELTA, blocks, 1, 0x31, BP_ST_PREP},
	    {BP_TX_DELTA, blocks - 1, 2, 0x31, BP_ST_PREP},
	    {BP_TX_DELTA, 1, UINT32_MAX, 0x31, BP_ST_PREP},
	    {BP_TX_DELTA, 0, 0, 0x31, BP_ST_PREP},
	    {BP_TX_FULL, 0, 0, 0x31, BP_ST_PREP},
	    {BP_TX_DELTA, 0, 1, 0x30, BP_ST_PREP}, /* without the brick that reports it */
	    {BP_TX_DELTA, 0, 1, 0x71, BP_ST_PREP}, /* with a brick the set does not have */
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		setup(state);
		facts[0].ntxs = 1;
		digests[0][0] = (bp_digest){.tx = {3, 1}, .shard = 0, .tx_kind = bad[i].kind, .lba = bad[i].lba,
					    .nblocks = bad[i].nblocks, .participants = bad[i].participants,
					    .state = bad[i].state};
		assert_int_equal(decide(false), -MYFS_E_PROTO);
	}
}

static void bricks_that_disagree_about_a_transaction_are_refused(void **state)
{
	for (unsigned what = 0; what < 5; what++) {
		struct tx x = {10, BP_TX_DELTA, 100, 1, 0x31, 0x31, 0, 0};
		setup(state);
		hold(&x);
		digests[4][0].shard += what == 0;
		digests[4][0].tx_kind = what == 1 ? BP_TX_FULL : BP_TX_DELTA;
		digests[4][0].lba += what == 2;
		digests[4][0].nblocks += what == 3;
		digests[4][0].participants = what == 4 ? 0x33 : 0x31;
		assert_int_equal(decide(false), -MYFS_E_PROTO);
	}
}

static void digests_out_of_order_or_twice_are_refused(void **state)
{
	for (unsigned what = 0; what < 2; what++) {
		struct tx a = {10, BP_TX_DELTA, 100, 1, 0x31, 0x31, 0, 0}, b = {11, BP_TX_DELTA, 200, 1, 0x31, 0x31, 0, 0};
		setup(state);
		hold(&a);
		hold(&b);
		digests[4][1].tx.n = what ? 10 : 9;
		assert_int_equal(decide(false), -MYFS_E_PROTO);
	}
}

/* ---- random histories ---- */

/* Writes of random kinds reach random subsets; then the same replies with a partly delivered outcome must lead to the same one (D3). */
static void a_takeover_interrupted_anywhere_is_decided_the_same_again(void **state)
{
	for (uint64_t seed = 1; seed <= 3000; seed++) {
		struct prng p;
		prng_seed(&p, seed);
		setup(state);
		bool lossy = prng_chance(&p, 0.5);
		if (lossy)
			amnesia(0x3f);
		for (uint64_t n = 1; n <= MAXTX; n++) {
			struct tx x = {n, BP_TX_DELTA, (uint32_t)prng_below(&p, 16), 1, 0, 0, 0, 0};
			if (prng_chance(&p, 0.4))
				x = (struct tx){n, BP_TX_FULL, 0, 16, 0x3f, 0, 0, 0};
			else if (prng_chance(&p, 0.5))
				x = (struct tx){n, BP_TX_RCW, 4, 12, 0x3e, 0, 0, 0};
			else
				x.participants = 0x30 | 1u << x.lba / 4;
			x.prep = x.participants & (prng_chance(&p, 0.5) ? 0x3f : (uint32_t)prng_u64(&p));
			if (lossy && prng_chance(&p, 0.3)) {
				x.committed = x.prep & (uint32_t)prng_u64(&p);
				x.prep &= ~x.committed;
			}
			hold(&x);
		}
		assert_int_equal(decide(true), 0);
		struct ec_resolution first = resolution;
		resolution = (struct ec_resolution){0};
		for (uint32_t b = 0; b < N; b++) { /* some bricks heard all decisions, some none */
			if (prng_chance(&p, 0.5))
				continue;
			for (uint32_t i = 0; i < facts[b].ntxs; i++)
				for (uint32_t j = 0; j < first.n; j++)
					if (ec_tx_cmp(&first.v[j].tx, &digests[b][i].tx) == 0)
						digests[b][i].state = first.v[j].commit ? BP_ST_COMMITTED : BP_ST_UNDONE;
		}
		for (uint32_t b = 0; b < N; b++) {
			facts[b].view.ver++;
			facts[b].view.state = BP_VIEW_RESOLVING;
		}
		assert_int_equal(decide(true), 0);
		assert_int_equal(resolution.n, first.n);
		for (uint32_t i = 0; i < first.n; i++)
			assert_int_equal(resolution.v[i].commit, first.v[i].commit);
		ec_resolution_release(&first);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(the_newest_view_of_any_reply_counts, setup, teardown),
	    cmocka_unit_test_setup_teardown(fewer_than_w_replies_decide_nothing, setup, teardown),
	    cmocka_unit_test_setup_teardown(emptied_bricks_do_not_help_to_find_the_newest_view, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_domain_nobody_has_a_view_of_may_be_seeded, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_silent_bricks_view_does_not_count, setup, teardown),
	    cmocka_unit_test_setup_teardown(two_views_of_one_version_are_a_contradiction, setup, teardown),
	    cmocka_unit_test_setup_teardown(members_are_chosen_by_boot_id_and_waiting, setup, teardown),
	    cmocka_unit_test_setup_teardown(one_partial_write_is_decided_by_what_its_participants_hold, setup, teardown),
	    cmocka_unit_test_setup_teardown(every_state_of_three_participants_follows_the_rule, setup, teardown),
	    cmocka_unit_test_setup_teardown(below_the_highest_floor_nothing_is_decided_or_lacking, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_floor_known_only_to_a_stale_brick_counts, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_prepared_transaction_below_the_floor_is_a_contradiction, setup, teardown),
	    cmocka_unit_test_setup_teardown(the_floor_itself_is_not_below_the_floor, setup, teardown),
	    cmocka_unit_test_setup_teardown(what_was_built_on_aborted_bytes_is_aborted_too, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_committed_write_on_aborted_bytes_is_taken_back_only_in_rollback, setup, teardown),
	    cmocka_unit_test_setup_teardown(what_followed_an_abort_by_the_owner_stands, setup, teardown),
	    cmocka_unit_test_setup_teardown(what_an_interrupted_rollback_took_back_still_poisons, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_ready_view_settles_earlier_epochs, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_member_that_has_no_view_any_more_is_none, setup, teardown),
	    cmocka_unit_test_setup_teardown(transactions_are_decided_in_order_of_epoch_and_number, setup, teardown),
	    cmocka_unit_test_setup_teardown(bricks_not_used_missed_the_regions_of_what_concerned_them, setup, teardown),
	    cmocka_unit_test_setup_teardown(regions_of_a_range_of_blocks, setup, teardown),
	    cmocka_unit_test_setup_teardown(impossible_digests_are_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(bricks_that_disagree_about_a_transaction_are_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(digests_out_of_order_or_twice_are_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_takeover_interrupted_anywhere_is_decided_the_same_again, setup, teardown),
	};
	return cmocka_run_group_tests_name("ec.resolve", tests, NULL, NULL);
}
