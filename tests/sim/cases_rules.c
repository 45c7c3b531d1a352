/* cases_rules.c - courses of events in which one rule of the protocol (core/base/mutate.h) decides: with it off each of them breaks a promise, whatever the seed.
 * tests/sim/mutants counts on that, mutants.txt names them. */
#include "tests/sim/cases.h"

#define BLOCK ORACLE_SECTORS /* in sectors */

/* Brick b goes, and the owner does without it. */
static void drop(struct schedule *s, uint32_t b, unsigned seconds) YIELDS
{
	nemesis_stop_brick(s, b, false);
	s->bricks[b].revive_ns = world_now_ns(s->world) + seconds * NS_PER_S;
}

static void lose_power(struct schedule *s, uint32_t b)
{
	disk_set_crash(s->cluster.bricks[b].disk, DISK_CRASH_LOSES);
	nemesis_stop_brick(s, b, true);
	disk_set_crash(s->cluster.bricks[b].disk, DISK_CRASH_CHANCE);
}

/* Everything loses power; these bricks lose all they had not synced, the others happen to keep it. */
static void all_lose_power(struct schedule *s, uint32_t losers)
{
	for (uint32_t b = 0; b < s->cluster.n; b++)
		disk_set_crash(s->cluster.bricks[b].disk, mask_has(losers, b) ? DISK_CRASH_LOSES : DISK_CRASH_KEEPS);
	nemesis_power_all(s, true);
	for (uint32_t b = 0; b < s->cluster.n; b++)
		disk_set_crash(s->cluster.bricks[b].disk, DISK_CRASH_CHANCE);
}

static void links_of_all(struct schedule *s, uint32_t bricks, bool blocked)
{
	for (uint32_t g = 0; g < s->cluster.cfg.gateways; g++)
		links(s, g, bricks, blocked);
}

static struct op *acked(struct schedule *s, uint32_t block, uint32_t nblocks) YIELDS
{
	struct op *o = op_start(s, OP_WRITE, block * BLOCK, nblocks * BLOCK, false);
	must(s, op_wait(o) == 0, "a write succeeds");
	return o;
}

/* H2: the bricks fall into two halves, the owner sees the smaller one; a second gateway tries with the other. At most one of them gets writes acknowledged. */
static void two_halves(struct schedule *s)
{
	fill(s);
	struct sim_gateway *a = owner(s);
	uint32_t half = mask_all(s->cluster.n / 2), other = mask_all(s->cluster.n) & ~half;
	struct sim_gateway *b = &s->cluster.gateways[(a->index + 1) % s->cluster.cfg.gateways];
	links(s, a->index, other, true);
	links(s, b->index, half, true);
	links(s, (a->index + 2) % s->cluster.cfg.gateways, mask_all(s->cluster.n), true);
	for (uint32_t m = mask_all(s->cluster.n); m; m &= m - 1)
		nemesis_cut(s, (uint32_t)__builtin_ctz(m));
	struct op *old = op_start(s, OP_WRITE, 0, ALL_OF_AREA, false), *new = NULL; /* whole stripes concern every brick */
	cluster_gateway_start(&s->cluster, b->index);
	for (unsigned i = 0; i < 20000; i++) {
		schedule_step(s);
		if (new == NULL && cluster_owner(&s->cluster) == b)
			new = op_start(s, OP_WRITE, 0, ALL_OF_AREA, false);
	}
	must(s, !(old->done && old->rc == 0), "an owner that sees half the bricks gets no write acknowledged");
	must(s, new == NULL || (new->done && new->rc == 0), "one that sees enough of them does");
	for (uint32_t g = 0; g < s->cluster.cfg.gateways; g++)
		links(s, g, mask_all(s->cluster.n), false);
	finish(s);
}

/* H3: a parity brick loses power with a write it had acknowledged, and the owner dies: that it lacks the write proves nothing. */
static void amnesiac_among_firm(struct schedule *s)
{
	uint32_t p = brick_of_chunk(s, s->cfg.k);
	fill(s);
	struct op *o = acked(s, 0, 1);
	s->gateway_next_ns = world_now_ns(s->world) + 2 * NS_PER_S; /* when the brick is back */
	nemesis_kill_gateway(s, owner(s)->index);
	lose_power(s, p);
	s->bricks[p].revive_ns = world_now_ns(s->world);
	must(s, content(s, 0) == o->id, "the write is there");
	finish(s);
}

/* H4: a write is committed, one of its bricks has it in memory only; another one's checkpoint comes, then all power goes. */
static void committed_is_not_stable(struct schedule *s)
{
	fill(s);
	checkpointed(s);
	(void)acked(s, 0, 1);
	links_of_all(s, MASK(brick_of_chunk(s, 0)), true); /* no SYNC reaches it */
	wait_ms(s, 20);                                    /* the COMMIT reaches the others */
	for (uint32_t c = s->cfg.k; c < s->cluster.n; c++)
		checkpoint_now(s, brick_of_chunk(s, c));
	all_lose_power(s, MASK(brick_of_chunk(s, 0)));
	links_of_all(s, MASK(brick_of_chunk(s, 0)), false);
	(void)owner(s);
	finish(s);
}

/* H5: a parity brick dies at every moment of a checkpoint that folds deltas into its base. */
static void killed_in_fold(struct schedule *s)
{
	uint32_t p = brick_of_chunk(s, s->cfg.k);
	fill(s);
	for (unsigned at = 0; at < 40; at++) {
		checkpointed(s);
		(void)acked(s, 0, 1);
		must(s, op_now(s, OP_FLUSH, 0, 0, false) == 0, "a flush succeeds");
		wait_ms(s, 2);
		checkpoint_begin(s, p);
		fiber_sleep_until(loop_now_ns() + at * 200000);
		nemesis_stop_brick(s, p, false);
		s->bricks[p].revive_ns = world_now_ns(s->world);
		schedule_settle(s);
	}
	finish(s);
}

/* H8: a whole stripe is written, then one of its blocks; all power goes, and a brick that is no part of the second loses the first. */
static void delta_over_lost_stripe(struct schedule *s)
{
	fill(s);
	(void)acked(s, 0, s->cfg.k * (s->cfg.chunk_bytes / MYFS_BLOCK));
	(void)acked(s, 0, 1);
	all_lose_power(s, MASK(brick_of_chunk(s, s->cfg.k - 1)));
	(void)owner(s);
	finish(s);
}

/* H8B: a block is written, then all others of its row, with parity computed from all; all power goes, and the block is lost. */
static void reconstruct_over_lost_block(struct schedule *s)
{
	fill(s);
	(void)acked(s, 0, 1);
	(void)acked(s, 1, s->cfg.k - 1);
	all_lose_power(s, MASK(brick_of_chunk(s, 0)));
	(void)owner(s);
	finish(s);
}

static enum message_fate kill_at_first(struct schedule *s, uint32_t g, uint32_t b, unsigned n)
{
	(void)b;
	if (n == 0)
		kill_gateway_soon(s, g);
	return MESSAGE_ARRIVES;
}

/* H9: all power goes, one brick loses a whole stripe that the others have; the owner that is to decide about it dies before it says what it decided. */
static void decider_dies(struct schedule *s)
{
	fill(s);
	(void)acked(s, 0, s->cfg.k * (s->cfg.chunk_bytes / MYFS_BLOCK));
	(void)acked(s, 0, 1); /* depends on the lost one, which only a rollback heeds */
	trap(s, BP_RESOLVE, false, kill_at_first);
	all_lose_power(s, MASK(brick_of_chunk(s, s->cfg.k - 1)));
	(void)owner(s);
	must(s, trapped(), "an owner dies when it has decided");
	finish(s);
}

/* H11: as many bricks as are tolerated lose power, one of them with a write it had acknowledged, and the owner dies; the others who have that write are
 * out of reach for a while. */
static void holders_come_late(struct schedule *s)
{
	uint32_t holders = 0;
	fill(s);
	struct op *o = acked(s, 0, 1);
	for (uint32_t i = 0; i < s->cluster.tolerates; i++) {
		lose_power(s, brick_of_chunk(s, s->cfg.k + i));
		s->bricks[brick_of_chunk(s, s->cfg.k + i)].revive_ns = world_now_ns(s->world);
	}
	holders = MASK(brick_of_chunk(s, 0));
	links_of_all(s, holders, true);
	nemesis_kill_gateway(s, owner(s)->index);
	wait_ms(s, 5000);
	links_of_all(s, holders, false);
	must(s, content(s, 0) == o->id, "the write is there");
	finish(s);
}

/* H12: N-W bricks are out; a write is acknowledged; at once one of those that have it loses power, and the owner dies. */
static void power_cycle_at_k(struct schedule *s)
{
	uint32_t out = 0, holder = brick_of_chunk(s, 0);
	if (s->cluster.n - s->cluster.tolerates != s->cfg.k)
		return; /* never so few in sync */
	fill(s);
	for (uint32_t i = 0; i < s->cluster.tolerates; i++)
		out |= MASK(brick_of_chunk(s, s->cfg.k + i));
	for (uint32_t m = out; m; m &= m - 1)
		drop(s, (uint32_t)__builtin_ctz(m), 100);
	wait_until_out(s, out);
	must(s, op_now(s, OP_FLUSH, 0, 0, false) == 0, "a flush succeeds");
	struct op *o = acked(s, 0, 1);
	lose_power(s, holder);
	nemesis_kill_gateway(s, owner(s)->index);
	s->bricks[holder].revive_ns = world_now_ns(s->world);
	must(s, content(s, 0) == o->id, "nothing that was acknowledged with K in sync is lost");
	finish(s);
}

/* H13: the owner is cut off from all but one brick, a second one takes over without that brick and writes. The first one, which cannot know, is asked for what
 * it can still reach. */
static void read_of_the_deposed(struct schedule *s)
{
	uint32_t seen = MASK(brick_of_chunk(s, 0)), all = mask_all(s->cluster.n);
	fill(s);
	struct sim_gateway *old = owner(s);
	links_of_all(s, seen, true);
	links(s, old->index, all, true);
	links(s, old->index, seen, false);
	nemesis_cut(s, brick_of_chunk(s, 0));
	s->gateway_next_ns = world_now_ns(s->world);
	while (cluster_owner(&s->cluster) == old || cluster_owner(&s->cluster) == NULL)
		schedule_step(s);
	(void)acked(s, 0, 1);
	struct op *r = op_start_on(s, old, OP_READ, 0, BLOCK, false); /* the oracle judges what it returns */
	wait_ms(s, 2000);
	for (uint32_t g = 0; g < s->cluster.cfg.gateways; g++)
		links(s, g, all, false);
	for (unsigned i = 0; i < 200000 && old->running; i++)
		schedule_step(s);
	must(s, r->done && r->rc < 0, "the read ends with an error");
	finish(s);
}

/* H14: a brick comes back empty while nobody owns the LUN: the next owner finds it among the others. */
static void emptied_without_owner(struct schedule *s)
{
	for (uint32_t b = 0; b < s->cluster.n; b++) {
		uint64_t id = fill(s);
		checkpointed(s);
		nemesis_kill_gateway(s, owner(s)->index);
		s->gateway_next_ns = world_now_ns(s->world) + 2 * NS_PER_S;
		nemesis_wipe(s, b);
		s->bricks[b].revive_ns = world_now_ns(s->world);
		must(s, content(s, 0) == id, "reads are right");
		finish(s);
	}
}

/* H15: two gateways ask for the highest promise at the same time. One is held up before it can take the next epoch, the other takes it, serves and writes. */
static struct {
	uint32_t fast, slow;
	unsigned asked[SIM_MAX_GATEWAYS]; /* bricks that told a gateway their promise */
} race;

static enum message_fate hold_when_asked(struct schedule *s, uint32_t g, uint32_t b, unsigned n)
{
	(void)b, (void)n;
	if (++race.asked[g] == s->cluster.n)
		links(s, g, mask_all(s->cluster.n), true);
	return MESSAGE_ARRIVES;
}

static void equal_epochs(struct schedule *s)
{
	fill(s);
	memset(&race, 0, sizeof(race));
	s->gateway_next_ns = UINT64_MAX - 1;
	nemesis_kill_gateway(s, owner(s)->index);
	race.slow = 1;
	trap(s, BP_FENCE, true, hold_when_asked);
	cluster_gateway_start(&s->cluster, race.fast);
	cluster_gateway_start(&s->cluster, race.slow);
	for (unsigned i = 0; i < 100 && (race.asked[race.fast] < s->cluster.n || race.asked[race.slow] < s->cluster.n); i++)
		schedule_step(s);
	must(s, race.asked[race.fast] == s->cluster.n && race.asked[race.slow] == s->cluster.n, "both know the highest promise");
	trap_off(s);
	links(s, race.fast, mask_all(s->cluster.n), false);
	(void)owner(s);
	for (unsigned i = 0; i < 3; i++)
		(void)acked(s, i, 1);
	links(s, race.slow, mask_all(s->cluster.n), false);
	unsigned n = 0;
	for (unsigned i = 0; i < 200; i++) { /* the slow one takes over in order now */
		struct sim_gateway *gw = cluster_owner(&s->cluster);
		n += gw != NULL && op_now(s, i % 2 ? OP_READ : OP_WRITE, i % 8 * BLOCK, BLOCK, false) == 0;
		schedule_step(s);
		struct ec_domain_status st = {.insync = mask_all(s->cluster.n)};
		if (gw != NULL && gw == cluster_owner(&s->cluster))
			ec_domain_status(gw->domain, &st);
		must(s, st.insync == mask_all(s->cluster.n), "no brick is left out: none did anything wrong"); /* transactions of equal numbers collide in bricks */
	}
	must(s, n >= 100, "there is progress");
	s->gateway_next_ns = UINT64_MAX;
	finish(s);
}

static enum message_fate kill_instead(struct schedule *s, uint32_t g, uint32_t b, unsigned n)
{
	(void)b, (void)n;
	kill_gateway_soon(s, g);
	return MESSAGE_CUTS;
}

/* H16: a brick was away during writes; the owner dies when it begins to heal it. */
static void healer_dies(struct schedule *s)
{
	uint32_t away = brick_of_chunk(s, 0);
	fill(s);
	checkpointed(s);
	drop(s, away, 1000);
	struct op *o = op_start(s, OP_WRITE, 0, ALL_OF_AREA, false);
	must(s, op_wait(o) == 0 && op_now(s, OP_FLUSH, 0, 0, false) == 0, "write and flush succeed without it");
	wait_until_out(s, MASK(away));
	trap(s, BP_HEALW, false, kill_instead);
	s->bricks[away].revive_ns = world_now_ns(s->world);
	must(s, wait_trapped(s), "the owner dies healing");
	trap_off(s);
	must(s, content(s, 0) == o->id, "reads are right");
	finish(s);
}

/* H18: a sync of one brick's journal fails, and it loses power, as all others do. */
static void failed_sync_then_power(struct schedule *s)
{
	uint32_t b = brick_of_chunk(s, 0);
	fill(s);
	checkpointed(s);
	s->bricks[b].may_fail = true;
	nemesis_cut(s, b);
	disk_fail(s->cluster.bricks[b].disk, DISK_FAIL_SYNC, 1);
	struct op *o = acked(s, 0, 1);
	must(s, op_now(s, OP_FLUSH, 0, 0, false) == 0, "a flush succeeds");
	disk_fail(s->cluster.bricks[b].disk, DISK_FAIL_SYNC, 0);
	all_lose_power(s, MASK(b));
	must(s, content(s, 0) == o->id, "what was flushed is there");
	finish(s);
}

/* H19: bits flip in what a delta is computed from, or added to. */
static void delta_from_rot(struct schedule *s)
{
	char lun[GFID_TEXT];
	gfid_text(&s->cluster.lun, lun);
	for (unsigned parity = 0; parity < 2; parity++) {
		uint32_t b = brick_of_chunk(s, parity ? s->cfg.k : 0);
		fill(s);
		checkpointed(s);
		for (unsigned i = 0; i < 100; i++) /* in every block */
			nemesis_rot(s, b, lun);
		nemesis_kill_gateway(s, owner(s)->index); /* with all it knew about them */
		(void)owner(s);
		(void)acked(s, 0, 1);
		checkpointed(s);
		finish(s);
	}
}

/* H20: a checkpoint is over, and said to be in every journal; then all power goes, and with it what was not synced: every block has its checksum. */
static void power_after_checkpoint(struct schedule *s)
{
	uint64_t id = fill(s);
	checkpointed(s);
	(void)acked(s, s->areas[0].nblocks - 1, 1);
	must(s, op_now(s, OP_FLUSH, 0, 0, false) == 0, "a flush succeeds");
	all_lose_power(s, mask_all(s->cluster.n));
	must(s, content(s, 0) == id, "what was flushed is there");
	finish(s);
}

/* H24: a brick was away when the first block was written. It is back, not yet healed, when the next owner asks which shards exist. */
static enum message_fate kill_at_rejoin(struct schedule *s, uint32_t g, uint32_t b, unsigned n)
{
	(void)b;
	if (n < 4)
		kill_gateway_soon(s, g);
	return MESSAGE_ARRIVES;
}

static void shard_unknown_to_one(struct schedule *s)
{
	(void)owner(s);
	drop(s, 0, 100);
	wait_until_out(s, MASK(0));
	struct op *o = acked(s, 0, 1);
	trap(s, BP_REJOIN, false, kill_at_rejoin);
	s->bricks[0].revive_ns = world_now_ns(s->world);
	for (unsigned i = 0; i < 5; i++) {
		must(s, content(s, 0) == o->id, "the block is there");
		wait_ms(s, 100);
	}
	must(s, trapped(), "the owner dies when the brick comes back");
	finish(s);
}

/* H26: as many bricks are away as are said to be tolerated: reads and writes go on. */
static void as_many_as_shown(struct schedule *s)
{
	fill(s);
	for (uint32_t b = 0; b < s->cluster.tolerates; b++)
		drop(s, b, 1000);
	struct op *o = acked(s, 0, 8);
	must(s, content(s, 0) == o->id && op_now(s, OP_FLUSH, 0, 0, false) == 0, "reads and flushes succeed");
	finish(s);
}

/* H27: a brick takes no byte any more and says nothing. */
static void silent_brick(struct schedule *s)
{
	for (uint32_t chunk = 0; chunk < s->cluster.n; chunk++) {
		uint32_t b = brick_of_chunk(s, chunk);
		fill(s);
		links_of_all(s, MASK(b), true);
		nemesis_cut(s, b);
		uint64_t begun = world_now_ns(s->world);
		struct op *o = acked(s, 0, 8);
		must(s, world_now_ns(s->world) < begun + 5 * NS_PER_S && content(s, 0) == o->id, "a write does without it within five seconds");
		links_of_all(s, MASK(b), false);
		schedule_settle(s);
	}
	finish(s);
}

/* H29: a brick is healed and is to join; a write is under way to it and to members. The view reaches one of them; then the brick's connection ends, before it has
 * the write, and the owner dies. The next owner finds the view that says the brick has everything. */
static struct {
	uint32_t joins;
	struct op *write;
	bool told; /* the view reached a brick */
} half;

static enum message_fate view_to_one(struct schedule *s, uint32_t g, uint32_t b, unsigned n)
{
	(void)b;
	half.told = true;
	for (uint32_t m = mask_all(s->cluster.n); m && n == 0; m &= m - 1)
		link_block(s->world, s->cluster.gateways[g].host, s->cluster.bricks[__builtin_ctz(m)].host, true);
	return MESSAGE_ARRIVES;
}

/* The brick answers the flush when the write has reached the members, and hears nothing more. */
static enum message_fate write_at_sync(struct schedule *s, uint32_t g, uint32_t b, unsigned n)
{
	(void)n;
	if (b != half.joins)
		return MESSAGE_ARRIVES;
	half.write = op_start(s, OP_WRITE, 0, BLOCK, false);
	links(s, g, MASK(b), true);
	trap(s, BP_VIEW, false, view_to_one);
	return MESSAGE_ARRIVES;
}

/* The flush that follows is the one before it joins. */
static enum message_fate healed(struct schedule *s, uint32_t g, uint32_t b, unsigned n)
{
	(void)g, (void)b, (void)n;
	trap(s, BP_SYNC, false, write_at_sync);
	return MESSAGE_ARRIVES;
}

static void view_on_one(struct schedule *s)
{
	uint32_t joins = half.joins = brick_of_chunk(s, s->cfg.k);
	half.write = NULL;
	half.told = false;
	fill(s);
	checkpointed(s);
	drop(s, joins, 1000);
	struct op *o = op_start(s, OP_WRITE, 0, ALL_OF_AREA, false);
	must(s, op_wait(o) == 0 && op_now(s, OP_FLUSH, 0, 0, false) == 0, "write and flush succeed without it");
	wait_until_out(s, MASK(joins));
	s->bricks[joins].revive_ns = world_now_ns(s->world);
	trap(s, BP_HEALW, true, healed);
	for (unsigned i = 0; i < 2000 && half.write == NULL; i++)
		schedule_step(s);
	struct sim_gateway *gw = owner(s);
	wait_ms(s, 20);
	link_block(s->world, s->cluster.bricks[joins].host, gw->host, false);
	wait_ms(s, 20);
	must(s, half.told, "the view is on its way");
	link_cut(gw->host, s->cluster.bricks[joins].host);
	nemesis_cut(s, joins);
	wait_ms(s, 1);
	nemesis_kill_gateway(s, gw->index);
	links(s, gw->index, mask_all(s->cluster.n), false);
	trap_off(s);
	must(s, !half.write->done || content(s, 0) == half.write->id, "what was acknowledged is there");
	finish(s);
}

const struct sim_case CASES_RULES[] = {
	{"rule_h2_two_halves", two_halves, "3+3", 0},
	{"rule_h3_amnesiac_among_firm", amnesiac_among_firm, NULL, 0},
	{"rule_h4_committed_is_not_stable", committed_is_not_stable, NULL, 0},
	{"rule_h5_killed_in_fold", killed_in_fold, NULL, 0},
	{"rule_h8_delta_over_lost_stripe", delta_over_lost_stripe, NULL, 0},
	{"rule_h8b_reconstruct_over_lost_block", reconstruct_over_lost_block, NULL, 0},
	{"rule_h9_decider_dies", decider_dies, NULL, 0},
	{"rule_h11_holders_come_late", holders_come_late, NULL, 0},
	{"rule_h12_power_cycle_at_k", power_cycle_at_k, NULL, 0},
	{"rule_h13_read_of_the_deposed", read_of_the_deposed, NULL, 0},
	{"rule_h14_emptied_without_owner", emptied_without_owner, NULL, 0},
	{"rule_h15_equal_epochs", equal_epochs, NULL, 0},
	{"rule_h16_healer_dies", healer_dies, NULL, 0},
	{"rule_h18_failed_sync_then_power", failed_sync_then_power, NULL, 0},
	{"rule_h19_delta_from_rot", delta_from_rot, NULL, 0},
	{"rule_h20_power_after_checkpoint", power_after_checkpoint, NULL, 0},
	{"rule_h24_shard_unknown_to_one", shard_unknown_to_one, NULL, 0},
	{"rule_h26_as_many_as_shown", as_many_as_shown, "3+3", 0},
	{"rule_h27_silent_brick", silent_brick, NULL, 0},
	{"rule_h29_view_on_one", view_on_one, NULL, 0},
	{NULL, NULL, NULL, 0},
};
