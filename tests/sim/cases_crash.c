/* cases_crash.c - crashes of gateways, bricks and power at moments of a write, a takeover or a flush: cases 1-13, 18-20, 36, 41-42. */
#include "tests/sim/cases.h"

#define BLOCK ORACLE_SECTORS /* in sectors */

static unsigned nth;    /* of the message that a trap waits for */
static uint32_t target; /* brick */

static enum message_fate kill_gateway_at(struct schedule *s, uint32_t g, uint32_t b, unsigned n)
{
	(void)b;
	if (n == nth)
		kill_gateway_soon(s, g);
	return MESSAGE_ARRIVES;
}

static enum message_fate kill_both_at(struct schedule *s, uint32_t g, uint32_t b, unsigned n)
{
	(void)b;
	if (n == nth) {
		kill_gateway_soon(s, g);
		stop_brick_soon(s, target, false);
	}
	return MESSAGE_ARRIVES;
}

static enum message_fate power_all_at(struct schedule *s, uint32_t g, uint32_t b, unsigned n)
{
	(void)g, (void)b;
	if (n == nth)
		power_all_soon(s, true);
	return MESSAGE_ARRIVES;
}

static enum message_fate cut_at(struct schedule *s, uint32_t g, uint32_t b, unsigned n)
{
	(void)g;
	if (n != nth)
		return MESSAGE_ARRIVES;
	nemesis_cut(s, b);
	return MESSAGE_CUTS;
}

static void eight_writes(struct schedule *s, struct op **ops)
{
	for (uint32_t i = 0; i < 8; i++)
		ops[i] = op_start(s, OP_WRITE, i * BLOCK, BLOCK, false);
}

/* 1: with n in-flight transactions; what was acknowledged is there, the rest is old or new, and it goes on within a second. */
static void case_01(struct schedule *s)
{
	fill(s);
	for (nth = 0; nth < 8 * (1 + s->cfg.r); nth += 3) { /* answers to the PREPs of eight deltas */
		struct op *ops[8];
		(void)owner(s);
		trap(s, BP_PREP, true, kill_gateway_at);
		eight_writes(s, ops);
		for (unsigned i = 0; i < 8; i++)
			op_wait(ops[i]);
		must(s, trapped(), "the gateway dies among the writes");
		trap_off(s);
		uint64_t begun = world_now_ns(s->world);
		(void)owner(s);
		must(s, world_now_ns(s->world) < begun + NS_PER_S, "a takeover takes less than a second");
		must(s, op_now(s, OP_READ, 0, ALL_OF_AREA, false) == 0, "everything can be read");
	}
	finish(s);
}

/* 2, 3: every participant has the PREP, no COMMIT left: the gateway and the given brick die. The write is rolled forward on the others. */
static void die_after_preps(struct schedule *s, uint32_t chunk)
{
	uint64_t old = fill(s);
	target = brick_of_chunk(s, chunk);
	nth = s->cfg.r; /* answers of the data brick and then of the parity bricks: this is the last */
	trap(s, BP_PREP, true, kill_both_at);
	struct op *o = op_start(s, OP_WRITE, 0, BLOCK, false);
	op_wait(o);
	must(s, trapped() && !o->done, "gateway and brick die before the acknowledgement");
	trap_off(s);
	must(s, content(s, 0) == o->id && content(s, BLOCK) == old, "the write is rolled forward, its neighbour is as it was");
	finish(s);
}

static void case_02(struct schedule *s) { die_after_preps(s, 0); }
static void case_03(struct schedule *s) { die_after_preps(s, s->cfg.k); }

static enum message_fate commit_to_one(struct schedule *s, uint32_t g, uint32_t b, unsigned n)
{
	(void)b;
	if (n == 0)
		return MESSAGE_ARRIVES;
	kill_gateway_soon(s, g);
	return MESSAGE_CUTS;
}

/* 4: COMMIT reached one brick of three. */
static void case_04(struct schedule *s)
{
	fill(s);
	trap(s, BP_COMMIT, false, commit_to_one);
	struct op *o = op_start(s, OP_WRITE, 0, BLOCK, false);
	op_wait(o);
	wait_ms(s, 5);
	must(s, trapped(), "the gateway dies between two COMMITs");
	trap_off(s);
	must(s, content(s, 0) == o->id, "the write is forward everywhere");
	finish(s);
}

/* 5: everything loses power with writes in flight; the next owner dies at its n-th RESOLVE, or its n-th VIEW; the third decides alike. */
static void second_owner_dies(struct schedule *s, uint16_t type)
{
	for (nth = 0; nth < 6; nth++) {
		struct op *ops[8];
		fill(s);
		eight_writes(s, ops);
		wait_ms(s, 1);
		nemesis_power_all(s, true);
		trap(s, type, false, kill_gateway_at);
		(void)owner(s);
		wait_ms(s, 20);
		trap_off(s);
		must(s, op_now(s, OP_READ, 0, ALL_OF_AREA, false) == 0, "everything can be read");
		finish(s);
	}
}

static void case_05(struct schedule *s)
{
	second_owner_dies(s, BP_RESOLVE);
	second_owner_dies(s, BP_VIEW);
}

/* 6: N-W bricks are out already; another one loses power. What was acknowledged meanwhile is there. */
static void case_06(struct schedule *s)
{
	fill(s);
	for (uint32_t i = 0; i < s->cluster.tolerates; i++) {
		nemesis_stop_brick(s, brick_of_chunk(s, s->cfg.k + i), false);
		s->bricks[brick_of_chunk(s, s->cfg.k + i)].revive_ns = world_now_ns(s->world) + 20 * NS_PER_S;
	}
	must(s, op_now(s, OP_WRITE, 0, BLOCK, false) == 0, "writes go on with K bricks"); /* who is out is noticed by it */
	must(s, op_now(s, OP_FLUSH, 0, 0, false) == 0 && op_now(s, OP_WRITE, BLOCK, BLOCK, false) == 0, "and are acknowledged");
	uint64_t id = s->result->ops[OP_WRITE];
	struct op *o = op_start(s, OP_WRITE, 2 * BLOCK, BLOCK, false);
	must(s, op_wait(o) == 0, "and again");
	(void)id;
	nemesis_stop_brick(s, brick_of_chunk(s, 2), true);
	must(s, content(s, 2 * BLOCK) == o->id, "nothing acknowledged at K in sync is lost");
	finish(s);
}

/* Bytes that were rebuilt on bricks under the present owner, in regions of one brick. */
static uint64_t regions_healed(struct schedule *s) YIELDS
{
	struct ec_domain_status st;
	const struct sim_gateway *gw = owner(s);
	ec_domain_status(gw->domain, &st);
	return st.healed_bytes / ((uint64_t)gw->domain->set->geo.region_rows * MYFS_BLOCK);
}

/* 7: a process dies and is back at once, with everything it wrote in the page cache: nothing is lost, only the region that was being written is healed. */
static void case_07(struct schedule *s)
{
	struct op *ops[8];
	fill(s);
	uint64_t healed = regions_healed(s);
	eight_writes(s, ops);
	nemesis_stop_brick(s, brick_of_chunk(s, 1), false);
	s->bricks[brick_of_chunk(s, 1)].revive_ns = world_now_ns(s->world) + 100 * NS_PER_MS;
	for (unsigned i = 0; i < 8; i++)
		must(s, op_wait(ops[i]) == 0, "the writes end");
	for (unsigned i = 0; i < 8; i++)
		must(s, content(s, i * BLOCK) == ops[i]->id, "nothing is lost");
	schedule_settle(s);
	must(s, regions_healed(s) <= healed + 1, "no more is healed than was being written");
	finish(s);
}

/* 8: a host loses power among writes: the others go on, what it was writing is healed and no more. */
static void case_08(struct schedule *s)
{
	struct op *ops[8];
	fill(s);
	for (unsigned round = 0; round < 6; round++) {
		uint64_t healed = regions_healed(s);
		eight_writes(s, ops);
		wait_ms(s, round % 2);
		nemesis_stop_brick(s, round % s->cluster.n, true);
		for (unsigned i = 0; i < 8; i++)
			must(s, op_wait(ops[i]) == 0, "the writes end");
		schedule_settle(s);
		must(s, regions_healed(s) <= healed + 1, "no more is healed than was being written");
	}
	finish(s);
}

/* 9, 10, 11: every host loses power among writes; all return, one never does, as many as the set survives never do. */
static void all_lose_power(struct schedule *s, uint32_t gone)
{
	struct op *ops[8];
	uint64_t old = fill(s);
	for (unsigned i = 0; i < 4; i++)
		ops[i] = op_start(s, OP_WRITE, i * BLOCK, BLOCK, false); /* the other stripe is left alone */
	nth = 5;
	trap(s, BP_PREP, false, power_all_at);
	for (unsigned i = 0; i < 4; i++)
		op_wait(ops[i]);
	must(s, trapped(), "power goes among the writes");
	wait_ms(s, 1);
	uint32_t lost = 0;
	for (uint32_t i = 0; i < gone; i++)
		lost |= MASK(brick_of_chunk(s, i)); /* data: what was not written must be rebuilt */
	nemesis_lose(s, lost);
	trap_off(s);
	(void)owner(s);
	for (uint32_t i = 4; i < 8; i++)
		must(s, content(s, i * BLOCK) == old, "a block nobody was writing is as it was");
	must(s, op_now(s, OP_READ, 0, ALL_OF_AREA, false) == 0, "every block can be read");
	finish(s);
}

static void case_09(struct schedule *s) { all_lose_power(s, 0); }
static void case_10(struct schedule *s) { all_lose_power(s, 1); }
static void case_11(struct schedule *s) { all_lose_power(s, s->cluster.tolerates); }

/* 12, 13: a brick that missed writes, owners and views comes back when as many others as the set survives are away: it is no source, not even then. */
static void stale_brick(struct schedule *s, bool others_away)
{
	fill(s);
	uint32_t stale = brick_of_chunk(s, 0), all = 0;
	nemesis_stop_brick(s, stale, false);
	s->bricks[stale].revive_ns = world_now_ns(s->world) + 60 * NS_PER_S;
	struct op *o = op_start(s, OP_WRITE, 0, ALL_OF_AREA, false);
	must(s, op_wait(o) == 0, "writes go on without it");
	for (unsigned i = 0; i < 2; i++) {
		nemesis_kill_gateway(s, owner(s)->index);
		(void)owner(s);
	}
	must(s, op_now(s, OP_FLUSH, 0, 0, false) == 0, "a flush succeeds");
	for (uint32_t i = 0; others_away && i < s->cluster.tolerates; i++)
		all |= MASK(brick_of_chunk(s, i + 1));
	nemesis_kill_gateway(s, owner(s)->index);
	for (uint32_t m = all; m; m &= m - 1)
		nemesis_stop_brick(s, (uint32_t)__builtin_ctz(m), false);
	for (uint32_t m = all; m; m &= m - 1)
		s->bricks[__builtin_ctz(m)].revive_ns = world_now_ns(s->world) + 20 * NS_PER_S;
	s->bricks[stale].revive_ns = world_now_ns(s->world);
	for (uint32_t i = 0; i < 8; i++)
		must(s, content(s, i * BLOCK) == o->id, "the new bytes are read, however long it takes");
	finish(s);
}

static void case_12(struct schedule *s) { stale_brick(s, false); }
static void case_13(struct schedule *s) { stale_brick(s, true); }

/* 18: the connection ends instead of the n-th message of each kind, there or back, for every n of a write and a flush. */
static void case_18(struct schedule *s)
{
	static const uint16_t TYPES[] = {BP_PREP, BP_COMMIT, BP_SYNC, BP_STABLE, BP_VIEW, BP_REJOIN, BP_HEALW, BP_CLEAR};
	fill(s);
	for (unsigned t = 0; t < ARRAY_LEN(TYPES); t++)
		for (unsigned reply = 0; reply < 2; reply++)
			for (nth = 0; nth < 4; nth++) {
				trap(s, TYPES[t], reply, cut_at);
				struct op *a = op_start(s, OP_WRITE, 0, BLOCK, false), *b = op_start(s, OP_WRITE, BLOCK, 5 * BLOCK, false);
				must(s, op_wait(a) == 0 && op_wait(b) == 0 && op_now(s, OP_FLUSH, 0, 0, false) == 0, "write and flush succeed all the same");
				schedule_settle(s);
			}
	finish(s);
}

static enum message_fate stop_brick_at(struct schedule *s, uint32_t g, uint32_t b, unsigned n)
{
	(void)g;
	if (n == nth)
		stop_brick_soon(s, b, true);
	return MESSAGE_ARRIVES;
}

/* 19: a host dies in the middle of its fdatasync: the flush is answered after the view has changed, and holds. */
static void case_19(struct schedule *s)
{
	fill(s);
	for (nth = 0; nth < s->cluster.n; nth++) {
		struct op *o = op_start(s, OP_WRITE, 0, ALL_OF_AREA, false);
		must(s, op_wait(o) == 0, "the write succeeds");
		trap(s, BP_SYNC, false, stop_brick_at);
		must(s, op_now(s, OP_FLUSH, 0, 0, false) == 0 && trapped(), "the flush succeeds without that brick");
		trap_off(s);
		nemesis_power_all(s, true);
		must(s, content(s, 0) == o->id, "what was flushed is there");
		(void)op_now(s, OP_FLUSH, 0, 0, false); /* the first one after it may say, once, that something may be lost */
		schedule_settle(s);
	}
	finish(s);
}

/* 20: FUA, acknowledged, and at once everything loses power. */
static void case_20(struct schedule *s)
{
	fill(s);
	for (unsigned round = 0; round < 6; round++) {
		struct op *other = op_start(s, OP_WRITE, 0, (1 + round % 4) * BLOCK, false), *o = op_start(s, OP_WRITE, round * BLOCK, BLOCK, true);
		must(s, op_wait(o) == 0, "the FUA write succeeds");
		bool alone = round >= 1 + round % 4 && other != NULL;
		nemesis_power_all(s, true);
		uint64_t seen = content(s, round * BLOCK);
		must(s, seen == o->id || !alone, "the FUA write is there");
		schedule_settle(s);
	}
	finish(s);
}

/* 36: sixteen overlapping writes of the same blocks: one of the last ones stays, on every brick the same. */
static void case_36(struct schedule *s)
{
	struct op *ops[16];
	fill(s);
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < 16; i++)
			ops[i] = op_start(s, OP_WRITE, (i % 3) * BLOCK, (1 + i % 5) * BLOCK, false);
		for (unsigned i = 0; i < 16; i++)
			must(s, op_wait(ops[i]) == 0, "every write succeeds");
		must(s, op_now(s, OP_READ, 0, ALL_OF_AREA, false) == 0, "everything can be read");
	}
	finish(s);
}

static enum message_fate view_to_few(struct schedule *s, uint32_t g, uint32_t b, unsigned n)
{
	if (n < nth)
		return MESSAGE_ARRIVES;
	nemesis_cut(s, b);
	if (n == s->cluster.n - 1)
		kill_gateway_soon(s, g);
	return MESSAGE_CUTS;
}

/* 41: the view with which a healed brick joins reaches 1 .. W-1 bricks; the owner lives on for a moment, writes, and dies. */
static void case_41(struct schedule *s)
{
	uint32_t w = s->cluster.n - s->cluster.tolerates;
	for (nth = 1; nth < w; nth++) {
		fill(s);
		uint32_t joins = brick_of_chunk(s, nth % s->cfg.k);
		leave_behind(s, joins);
		trap(s, BP_VIEW, false, view_to_few);
		s->bricks[joins].revive_ns = world_now_ns(s->world);
		must(s, wait_trapped(s), "the owner dies with its view on a few bricks");
		trap_off(s);
		(void)owner(s);
		must(s, op_now(s, OP_READ, 0, ALL_OF_AREA, false) == 0, "everything can be read");
		finish(s);
	}
}

/* 28, 42: whole-stripe, reconstruct- and delta writes of the same rows on top of each other, and everything loses power at the n-th PREP: what a resolution takes
 * back takes along what was computed from it. */
static void rollback_of_a_pile(struct schedule *s, uint32_t first, uint32_t second)
{
	for (nth = 3; nth < 27; nth += 3) {
		struct op *ops[12];
		fill(s);
		trap(s, BP_PREP, false, power_all_at);
		for (unsigned i = 0; i < 12; i++)
			ops[i] = op_start(s, OP_WRITE, i % 3 == 0 ? 0 : (i % 4) * BLOCK, (i % 3 == 0 ? first : i % 3 == 1 ? 1 : second) * BLOCK, false);
		for (unsigned i = 0; i < 12; i++)
			op_wait(ops[i]);
		trap_off(s);
		(void)owner(s);
		must(s, op_now(s, OP_READ, 0, ALL_OF_AREA, false) == 0, "everything can be read");
		finish(s);
	}
}

static void case_28(struct schedule *s) { rollback_of_a_pile(s, s->cfg.k, 1); }
static void case_42(struct schedule *s) { rollback_of_a_pile(s, s->cfg.k - 1, s->cfg.k - 1); }

const struct sim_case CASES_CRASH[] = {
	{"case_01_gateway_killed_among_writes", case_01, NULL, 0},
	{"case_02_gateway_and_data_brick_die", case_02, NULL, 0},
	{"case_03_gateway_and_parity_brick_die", case_03, NULL, 0},
	{"case_04_commit_reached_one", case_04, NULL, 0},
	{"case_05_second_owner_dies", case_05, NULL, 0},
	{"case_06_one_more_than_tolerated_loses_power", case_06, NULL, 0},
	{"case_07_process_killed", case_07, NULL, 1024},
	{"case_08_host_loses_power", case_08, NULL, 1024},
	{"case_09_all_lose_power", case_09, NULL, 0},
	{"case_10_all_lose_power_one_gone", case_10, NULL, 0},
	{"case_11_all_lose_power_some_gone", case_11, NULL, 0},
	{"case_12_stale_brick_returns", case_12, NULL, 0},
	{"case_13_stale_brick_and_others_away", case_13, NULL, 0},
	{"case_18_cut_between_messages", case_18, NULL, 0},
	{"case_19_host_dies_in_sync", case_19, NULL, 0},
	{"case_20_fua_then_power", case_20, NULL, 0},
	{"case_36_overlapping_writes", case_36, NULL, 0},
	{"case_41_join_view_on_few", case_41, NULL, 0},
	{"case_28_whole_stripe_over_partial_rollback", case_28, NULL, 0},
	{"case_42_reconstruct_write_over_rollback", case_42, NULL, 0},
	{NULL, NULL, NULL, 0},
};
