/* cases_world.c - owners against each other, disks that fail or lie, healing in the way of writes: cases 14-17, 21-27, 29-31, 33, 37, 38, 40, and a must-show. */
#include <stdio.h>

#include "brick/brick_priv.h"
#include "core/rpc/rpc.h"
#include "tests/sim/cases.h"

#define BLOCK ORACLE_SECTORS /* in sectors */

static unsigned nth;
static uint32_t target;

/* ---- owners ---- */

/* 14: three gateways take the LUN from each other, again and again; every write that is acknowledged stays, and there is progress. */
static void case_14(struct schedule *s)
{
	unsigned acked = 0;
	fill(s);
	for (unsigned round = 0; round < 1000; round++) {
		for (uint32_t g = 0; g < s->cluster.cfg.gateways; g++)
			if (!s->cluster.gateways[g].running)
				cluster_gateway_start(&s->cluster, g);
		if (cluster_owner(&s->cluster) != NULL) {
			struct op *o = op_start(s, OP_WRITE, (round % 8) * BLOCK, BLOCK, false);
			if (op_wait(o) == 0)
				acked++;
		}
		schedule_step(s);
	}
	must(s, acked >= 100, "one write in ten is acknowledged");
	finish(s);
}

/* Owner and bricks die together, the bricks are back a moment after the next owner has come: none of them has to be healed. */
static void late_members(struct schedule *s)
{
	uint64_t id = fill(s);
	s->gateway_next_ns = UINT64_MAX;
	for (uint32_t b = 0; b < s->cluster.tolerates; b++)
		nemesis_stop_brick(s, b, false);
	nemesis_kill_gateway(s, owner(s)->index);
	s->gateway_next_ns = world_now_ns(s->world);
	for (uint32_t b = 0; b < s->cluster.tolerates; b++)
		s->bricks[b].revive_ns = world_now_ns(s->world) + 150 * NS_PER_MS;
	struct ec_domain_status st;
	ec_domain_status(owner(s)->domain, &st);
	must(s, st.insync == (UINT32_C(1) << s->cluster.n) - 1, "all are members of the new owner's view");
	must(s, content(s, 0) == id, "what was written is there");
	/* Really gone, they are not waited for much longer. */
	s->gateway_next_ns = UINT64_MAX;
	for (uint32_t b = 0; b < s->cluster.tolerates; b++) {
		nemesis_stop_brick(s, b, false);
		s->bricks[b].revive_ns = UINT64_MAX;
	}
	nemesis_kill_gateway(s, owner(s)->index);
	s->gateway_next_ns = world_now_ns(s->world);
	uint64_t begun = world_now_ns(s->world);
	must(s, content(s, 0) == id && world_now_ns(s->world) - begun < NS_PER_S, "without them within a second");
	for (uint32_t b = 0; b < s->cluster.tolerates; b++)
		s->bricks[b].revive_ns = world_now_ns(s->world);
	finish(s);
}

/* A second gateway takes over; the first does not know. */
static struct sim_gateway *second_owner(struct schedule *s, const struct sim_gateway *first) YIELDS
{
	s->gateway_next_ns = world_now_ns(s->world);
	for (unsigned i = 0; i < 60000; i++) {
		struct sim_gateway *gw = cluster_owner(&s->cluster);
		if (gw != NULL && gw != first)
			return gw;
		schedule_step(s);
	}
	must(s, false, "a second gateway takes over");
	return NULL;
}

/* 15: the old owner sees one data brick, the new one all others: nothing the old one reads is old. 16: the old one sees nothing for a minute, then everything
 * that was under way arrives: nothing of it counts. */
static void deposed(struct schedule *s, uint32_t sees)
{
	fill(s);
	struct sim_gateway *old = owner(s);
	uint32_t all = mask_all(s->cluster.n);
	struct op *w = op_start(s, OP_WRITE, 2 * BLOCK, BLOCK, false);
	links(s, old->index, all & ~sees, true);
	if (sees != 0) { /* the new owner does without it */
		for (uint32_t g = 0; g < s->cluster.cfg.gateways; g++)
			if (g != old->index)
				links(s, g, sees, true);
		nemesis_cut(s, (uint32_t)__builtin_ctz(sees));
	}
	struct op *r = op_start(s, OP_READ, 0, BLOCK, false); /* if it ends, the oracle judges it */
	(void)second_owner(s, old);
	struct op *o = op_start(s, OP_WRITE, 0, ALL_OF_AREA, false);
	must(s, op_wait(o) == 0, "the new owner writes");
	wait_ms(s, 60000);
	for (uint32_t g = 0; g < s->cluster.cfg.gateways; g++)
		links(s, g, all, false);
	for (unsigned i = 0; i < 200000 && old->running; i++)
		schedule_step(s);
	must(s, r->done && w->done && w->rc == -MYFS_E_FENCED, "the old owner's requests end, its write is refused");
	must(s, content(s, 0) == o->id && content(s, 2 * BLOCK) == o->id, "the new owner's bytes stay");
	finish(s);
}

static void case_15(struct schedule *s) { deposed(s, MASK(brick_of_chunk(s, 0))); }
static void case_16(struct schedule *s) { deposed(s, 0); }

/* 17: the calendar jumps by a year, back and forth, among writes and takeovers. */
static void case_17(struct schedule *s)
{
	const int64_t year = INT64_C(365) * 86400 * (int64_t)NS_PER_S;
	fill(s);
	for (int i = 0; i < 8; i++) {
		struct op *o = op_start(s, OP_WRITE, (uint32_t)i * BLOCK, BLOCK, false);
		world_wall_jump(s->world, i % 2 ? -2 * year : 2 * year);
		must(s, op_wait(o) == 0 && op_now(s, OP_FLUSH, 0, 0, false) == 0, "writes and flushes succeed");
		nemesis_kill_gateway(s, owner(s)->index);
		uint64_t begun = world_now_ns(s->world);
		must(s, content(s, (uint32_t)i * BLOCK) == o->id && world_now_ns(s->world) < begun + NS_PER_S, "a takeover finds it within a second");
	}
	finish(s);
}

/* 40: a gateway that speaks only a newer version of the protocol is told so at its greeting. */
struct stranger {
	struct schedule *s;
	int rc;
	bool ended;
};

static void greet(void *arg)
{
	struct stranger *x = arg;
	struct sim_brick *b = &x->s->cluster.bricks[0];
	struct rpc_client_config cfg = {.net = host_net(x->s->cluster.gateways[0].host), .address = b->address, .connect_deadline_ns = loop_now_ns() + NS_PER_S};
	struct bp_hello_args args = {.proto_min = BP_VERSION + 1, .proto_max = BP_VERSION + 3, .instance = 7};
	struct bp_hello_res res = {0};
	struct rpc_client *c;
	struct rpc_call call;
	struct rpc_group g;
	must(x->s, rpc_client_connect(&cfg, &c, NULL) == 0, "a connection");
	memcpy(args.gateway, "another gateway", 16);
	memcpy(args.volume, x->s->cluster.volume.b, 16);
	memcpy(args.brick, b->uuid.b, 16);
	ec_call_init(&call, BP_HELLO, (xdrproc_t)xdr_bp_hello_args, &args, (xdrproc_t)xdr_bp_hello_res, &res);
	rpc_group_init(&g);
	rpc_call_start(c, &call, &g);
	rpc_group_wait_all(&g);
	x->rc = call.rc;
	rpc_call_release(&call);
	rpc_client_free(c);
	x->ended = true;
}

static void case_40(struct schedule *s)
{
	struct stranger x = {.s = s};
	uint64_t id = fill(s);
	struct host *h = s->cluster.gateways[0].host;
	if (!host_is_up(h))
		host_up(h);
	host_spawn(h, "stranger", greet, &x);
	for (unsigned i = 0; i < 10000 && !x.ended; i++)
		schedule_step(s);
	must(s, x.ended && x.rc < 0, "the greeting is refused");
	must(s, content(s, 0) == id, "the owner goes on");
	finish(s);
}

/* ---- space and errors ---- */

/* 21: a parity brick, then every brick, is full: ENOSPC, nothing half done; with space again everything goes on. */
static void case_21(struct schedule *s)
{
	s->no_space_seen = true;
	fill(s);
	for (unsigned round = 0; round < 2; round++) {
		checkpointed(s);
		for (uint32_t b = 0; b < s->cluster.n; b++)
			if (round == 1 || b == brick_of_chunk(s, s->cfg.k))
				disk_set_capacity(s->cluster.bricks[b].disk, disk_used(s->cluster.bricks[b].disk));
		wait_ms(s, 1100); /* bricks look at most once a second */
		uint64_t before = content(s, 0);
		must(s, op_now(s, OP_WRITE, 0, BLOCK, false) == -ENOSPC, "a write without space says so");
		must(s, content(s, 0) == before && op_now(s, OP_READ, 0, ALL_OF_AREA, false) == 0, "and changes nothing");
		for (uint32_t b = 0; b < s->cluster.n; b++)
			disk_set_capacity(s->cluster.bricks[b].disk, SIM_DISK_BYTES);
		wait_ms(s, 1100);
		must(s, op_now(s, OP_WRITE, 0, ALL_OF_AREA, false) == 0, "with space it goes on");
	}
	finish(s);
}

static void inodes_left(struct schedule *s, uint64_t n) YIELDS
{
	for (uint32_t b = 0; b < s->cluster.n; b++)
		disk_set_inodes_left(s->cluster.bricks[b].disk, n);
	wait_ms(s, 1100); /* bricks look at most once a second */
}

/* 21: no file can be made any more, though there is space: what has no files yet ends with ENOSPC, what has them goes on. */
static void case_21_inodes(struct schedule *s)
{
	s->no_space_seen = true;
	(void)owner(s);
	inodes_left(s, 8);
	must(s, op_now(s, OP_WRITE, 0, BLOCK, false) == -ENOSPC, "a write that needs new files says so");
	must(s, content(s, 0) == 0, "and changes nothing");
	inodes_left(s, UINT64_MAX);
	fill(s);
	checkpointed(s);
	inodes_left(s, 0);
	must(s, op_now(s, OP_WRITE, 0, ALL_OF_AREA, false) == 0 && op_now(s, OP_FLUSH, 0, 0, false) == 0, "what has its files is written as before");
	must(s, op_now(s, OP_READ, 0, ALL_OF_AREA, false) == 0, "and read");
	nemesis_kill_gateway(s, owner(s)->index);
	(void)owner(s);
	must(s, op_now(s, OP_WRITE, 0, BLOCK, false) == 0, "by another owner too");
	inodes_left(s, UINT64_MAX);
	finish(s);
}

/* 22: reads, writes and syncs of a brick's disk fail: data is served and written, the brick stops rather than guess, and comes back. */
static void case_22(struct schedule *s)
{
	fill(s);
	for (unsigned kind = DISK_FAIL_READ; kind <= DISK_FAIL_SYNC; kind++) {
		uint32_t b = brick_of_chunk(s, kind);
		checkpointed(s);
		s->bricks[b].may_fail = true;
		s->rotten |= kind == DISK_FAIL_READ ? MASK(b) : 0;
		nemesis_cut(s, b);
		disk_fail(s->cluster.bricks[b].disk, (enum disk_fault)kind, 3);
		must(s, op_now(s, OP_READ, 0, ALL_OF_AREA, false) == 0 && op_now(s, OP_WRITE, 0, BLOCK * 3, false) == 0 && op_now(s, OP_FLUSH, 0, 0, false) == 0,
		     "reads, writes and flushes succeed");
		disk_fail(s->cluster.bricks[b].disk, (enum disk_fault)kind, 0);
		must(s, op_now(s, OP_READ, 0, ALL_OF_AREA, false) == 0, "everything can be read");
		schedule_settle(s);
	}
	finish(s);
}

/* 22: a sync fails, what it should have made durable leaves the cache, the brick starts again on the same boot of its host: it must not say that
 * it never had a write which was acknowledged with its help. */
static void case_22_forgets(struct schedule *s)
{
	uint32_t b = brick_of_chunk(s, 0);
	struct sim_brick *x = &s->cluster.bricks[b];
	fill(s);
	checkpointed(s); /* so that the next sync is one of the journal */
	struct gfid boot = x->boot;
	struct op *o = op_start(s, OP_WRITE, 0, BLOCK, false);
	must(s, op_wait(o) == 0, "a write is acknowledged");
	s->gateway_next_ns = world_now_ns(s->world) + 3 * NS_PER_S; /* the next owner comes when the brick is back */
	nemesis_kill_gateway(s, owner(s)->index);                    /* nobody writes a view without the brick */
	s->bricks[b].may_fail = true;
	disk_fail(x->disk, DISK_FAIL_SYNC, 1);
	cluster_brick_sync(&s->cluster, b);
	for (unsigned i = 0; i < 20 && host_is_up(x->host); i++)
		schedule_step(s);
	must(s, !host_is_up(x->host), "the brick stops when a sync fails");
	disk_evict(x->disk, true);
	s->bricks[b].revive_ns = world_now_ns(s->world) + 100 * NS_PER_MS;
	must(s, content(s, 0) == o->id, "the write is there");
	must(s, !gfid_eq(&boot, &x->boot), "the brick says that it may have forgotten something");
	finish(s);
}

struct scrub {
	struct schedule *s;
	struct ec_domain *d;
	int rc;
	bool ended;
};

static void scrub_run(void *arg)
{
	struct scrub *x = arg;
	const struct oracle_area *a = &x->s->areas[0];
	const struct ec_geometry *g = &x->d->set->geo;
	uint32_t region_blocks = g->region_rows * g->k;
	for (uint32_t r = a->lba / region_blocks; r <= (a->lba + a->nblocks - 1) / region_blocks && x->rc == 0; r++) {
		struct ec_scrub_count n = {0};
		x->rc = ec_scrub_region(x->d, a->shard, r, &n);
	}
	x->ended = true;
}

/* Everything is looked through and made good: from now on rot would be a violation. */
static void scrubbed(struct schedule *s) YIELDS
{
	struct sim_gateway *gw = owner(s);
	struct scrub x = {.s = s, .d = gw->domain};
	host_spawn(gw->host, "scrub", scrub_run, &x);
	while (!x.ended)
		schedule_step(s);
	must(s, x.rc == 0, "the scrub succeeds");
	s->rotten = 0;
}

/* 23: a bit flips in a data fragment, a parity fragment, a checksum file: reads are right, also with other bricks away, and the block is made good. */
static void case_23(struct schedule *s)
{
	char lun[GFID_TEXT];
	gfid_text(&s->cluster.lun, lun);
	for (unsigned what = 0; what < 3; what++) {
		uint64_t id = fill(s);
		uint32_t b = brick_of_chunk(s, what == 1 ? s->cfg.k : 0);
		checkpointed(s);
		nemesis_rot(s, b, what == 2 ? "csum" : lun);
		nemesis_kill_gateway(s, owner(s)->index); /* nothing cached */
		must(s, content(s, 0) == id && op_now(s, OP_READ, 0, ALL_OF_AREA, false) == 0, "reads are right");
		if (s->cluster.tolerates > 1)
			nemesis_stop_brick(s, brick_of_chunk(s, 1), false);
		must(s, op_now(s, OP_READ, 0, ALL_OF_AREA, false) == 0, "and with another brick away");
		schedule_settle(s);
		scrubbed(s);
	}
	finish(s);
}

/* 24: the bit flips in bytes that a delta is to be computed from. */
static void case_24(struct schedule *s)
{
	char lun[GFID_TEXT];
	const uint32_t sectors = s->cfg.chunk_bytes / ORACLE_SECTOR; /* of a chunk */
	gfid_text(&s->cluster.lun, lun);
	for (uint32_t chunk = 0; chunk < s->cfg.k; chunk++) {
		uint64_t id = fill(s);
		checkpointed(s);
		nemesis_rot(s, brick_of_chunk(s, chunk), lun);
		nemesis_kill_gateway(s, owner(s)->index);
		(void)owner(s);
		must(s, op_now(s, OP_WRITE, chunk * sectors, BLOCK, false) == 0 && op_now(s, OP_WRITE, chunk * sectors + 1, 3, false) == 0, "the write succeeds");
		uint32_t lost = 0; /* parity that was computed from rot would show now */
		for (uint32_t i = 0; i < s->cluster.tolerates; i++)
			lost |= MASK(brick_of_chunk(s, (chunk + 1 + i) % s->cfg.k));
		for (uint32_t m = lost; m; m &= m - 1)
			nemesis_stop_brick(s, (uint32_t)__builtin_ctz(m), false);
		for (uint32_t i = 0; i < s->cfg.k; i++)
			must(s, i == chunk || content(s, i * sectors) == id, "its neighbours are as they were, also rebuilt");
		schedule_settle(s);
	}
	finish(s);
}

/* 25, 26: power goes at every moment of a checkpoint, and once more while the bricks start. */
static void power_in_checkpoint(struct schedule *s, bool twice)
{
	for (unsigned at = 0; at < 24; at++) {
		struct op *ops[4];
		fill(s);
		for (unsigned i = 0; i < 4; i++)
			ops[i] = op_start(s, OP_WRITE, i * 2 * BLOCK, BLOCK, false);
		for (unsigned i = 0; i < 4; i++)
			must(s, op_wait(ops[i]) == 0, "the writes succeed");
		must(s, op_now(s, OP_FLUSH, 0, 0, false) == 0, "the flush succeeds");
		fiber_sleep_until(loop_now_ns() + at * 200000); /* syncs take up to 1.5 ms, a round several */
		nemesis_power_all(s, true);
		if (twice) {
			for (uint32_t b = 0; b < s->cluster.n; b++)
				s->bricks[b].revive_ns = world_now_ns(s->world);
			schedule_step(s);
			fiber_sleep_until(loop_now_ns() + at % 7 * 300000);
			nemesis_power_all(s, true);
		}
		for (unsigned i = 0; i < 4; i++)
			must(s, content(s, i * 2 * BLOCK) == ops[i]->id, "what was flushed is there");
		finish(s);
	}
}

static void case_25(struct schedule *s) { power_in_checkpoint(s, false); }
static void case_26(struct schedule *s) { power_in_checkpoint(s, true); }

/* ---- degraded, healing ---- */

/* 27: one data brick away; reads of its chunk race writes to the K-1 others. */
static void case_27(struct schedule *s)
{
	if (s->cfg.k < 2)
		return; /* no other chunks */
	uint64_t id = fill(s);
	uint32_t away = brick_of_chunk(s, 0);
	nemesis_stop_brick(s, away, false);
	s->bricks[away].revive_ns = world_now_ns(s->world) + 60 * NS_PER_S;
	for (unsigned round = 0; round < 40; round++) {
		struct op *ops[8];
		for (unsigned i = 0; i < 8; i++)
			ops[i] = i % 2 ? op_start(s, OP_READ, 0, BLOCK, false) : op_start(s, OP_WRITE, (1 + (i / 2) % (s->cfg.k - 1)) * BLOCK, BLOCK, false);
		for (unsigned i = 0; i < 8; i++)
			must(s, op_wait(ops[i]) == 0 && (i % 2 == 0 || ops[i]->id == id), "reads and writes succeed, the chunk reads as it was");
	}
	s->bricks[away].revive_ns = world_now_ns(s->world);
	finish(s);
}

static enum message_fate die_at_healw(struct schedule *s, uint32_t g, uint32_t b, unsigned n)
{
	if (n != 0)
		return MESSAGE_ARRIVES;
	if (nth == 0)
		stop_brick_soon(s, b, false); /* the target */
	else if (nth == 1)
		stop_brick_soon(s, target, true); /* a source */
	else
		kill_gateway_soon(s, g);
	return MESSAGE_ARRIVES;
}

/* 29: a region is healed while it is written; its target, a source, the owner dies meanwhile. 30: a member dies silently, and everything loses power. */
static void heal_race(struct schedule *s, bool power)
{
	for (nth = 0; nth < 4; nth++) {
		struct op *ops[8];
		fill(s);
		uint32_t away = brick_of_chunk(s, 0);
		target = brick_of_chunk(s, 1);
		leave_behind(s, away);
		trap(s, BP_HEALW, false, die_at_healw);
		if (nth == 3)
			trap_off(s);
		s->bricks[away].revive_ns = world_now_ns(s->world);
		for (unsigned round = 0; round < 12; round++) {
			(void)owner(s);
			for (unsigned i = 0; i < 8; i++)
				ops[i] = op_start(s, OP_WRITE, i * BLOCK, BLOCK, false);
			for (unsigned i = 0; i < 8; i++)
				op_wait(ops[i]);
			wait_ms(s, round);
		}
		must(s, nth == 3 || wait_trapped(s), "it was healing");
		trap_off(s);
		if (power) {
			nemesis_stop_brick(s, brick_of_chunk(s, 2), true);
			nemesis_power_all(s, true);
		}
		(void)owner(s);
		must(s, op_now(s, OP_READ, 0, ALL_OF_AREA, false) == 0, "everything can be read");
		finish(s);
	}
}

static void case_29(struct schedule *s) { heal_race(s, false); }
static void case_30(struct schedule *s) { heal_race(s, true); }

static enum message_fate lose_at(struct schedule *s, uint32_t g, uint32_t b, unsigned n)
{
	(void)g;
	if (n != nth % s->cluster.n)
		return MESSAGE_ARRIVES;
	if (nth < s->cluster.n)
		stop_brick_soon(s, b, true);
	else
		stop_brick_soon(s, target, false); /* it misses things again at this moment */
	return MESSAGE_ARRIVES;
}

/* The first n messages of a kind after the brick came back, each with either loss. False when there are no so many. */
static bool heal_with_loss(struct schedule *s, uint16_t type, bool reply) YIELDS
{
	fill(s);
	target = brick_of_chunk(s, 0);
	leave_behind(s, target);
	trap(s, type, reply, lose_at);
	s->bricks[target].revive_ns = world_now_ns(s->world);
	bool lost = wait_trapped(s);
	must(s, op_now(s, OP_WRITE, 0, 3 * BLOCK, false) == 0, "a write succeeds");
	trap_off(s);
	finish(s);
	return lost;
}

/* 31: a region is healed, joins and is cleared while the healed brick, or one that has its part in it, is lost at any message of that, and writes go on. */
static void case_31(struct schedule *s)
{
	static const uint16_t steps[] = {BP_HEALW, BP_SYNC, BP_REJOIN, BP_VIEW, BP_CLEAR};
	unsigned lost = 0;
	for (unsigned i = 0; i < 2 * ARRAY_LEN(steps); i++)
		for (nth = 0; nth < 2 * s->cluster.n; nth++) {
			bool so = heal_with_loss(s, steps[i / 2], i % 2);
			lost += so;
			must(s, so || steps[i / 2] != BP_CLEAR || i % 2, "regions are cleared");
		}
	must(s, lost > 10 * s->cluster.n, "most of them are met");
}

/* 33: a brick comes back empty, then another one in its slot: neither is a source, both are rebuilt. */
static void case_33(struct schedule *s)
{
	uint64_t id = fill(s);
	for (uint32_t i = 0; i < s->cluster.n; i++) {
		nemesis_wipe(s, i);
		if (s->cluster.tolerates > 1)
			nemesis_stop_brick(s, (i + 1) % s->cluster.n, false);
		for (uint32_t b = 0; b < 8; b++)
			must(s, content(s, b * BLOCK) == id, "reads are right with it and another one away");
		schedule_settle(s);
	}
	finish(s);
}

/* 37: 512-byte writes next to each other in one block, side by side: none is lost. */
static void case_37(struct schedule *s)
{
	fill(s);
	for (unsigned round = 0; round < 6; round++) {
		struct op *ops[16];
		if (round == 3) {
			nemesis_stop_brick(s, brick_of_chunk(s, 0), false);
			s->bricks[brick_of_chunk(s, 0)].revive_ns = world_now_ns(s->world) + 60 * NS_PER_S;
		}
		for (uint32_t i = 0; i < 16; i++)
			ops[i] = op_start(s, OP_WRITE, i, 1, false);
		for (uint32_t i = 0; i < 16; i++)
			must(s, op_wait(ops[i]) == 0, "the write succeeds");
		for (uint32_t i = 0; i < 16; i++)
			must(s, content(s, i) == ops[i]->id, "every sector is the one written");
	}
	s->bricks[brick_of_chunk(s, 0)].revive_ns = world_now_ns(s->world);
	finish(s);
}

struct usage {
	struct ec_domain *d;
	uint64_t bytes;
	int rc;
	bool ended;
};

static void ask_usage(void *arg)
{
	struct usage *u = arg;
	u->rc = ec_usage(u->d, &u->bytes);
	u->ended = true;
}

/* Allocated bytes on all bricks. */
static uint64_t usage(struct schedule *s) YIELDS
{
	struct sim_gateway *gw = owner(s);
	struct usage u = {.d = gw->domain};
	host_spawn(gw->host, "usage", ask_usage, &u);
	while (!u.ended)
		schedule_step(s);
	must(s, u.rc == 0, "bricks tell what they use");
	return u.bytes;
}

/* 38: zeroes among writes and healing; what is all zero takes no space in the end. */
static void case_38(struct schedule *s)
{
	(void)owner(s);
	for (unsigned round = 0; round < 4; round++) {
		struct op *ops[8];
		nemesis_stop_brick(s, round % s->cluster.n, false);
		for (unsigned i = 0; i < 8; i++)
			ops[i] = op_start(s, i % 2 ? OP_ZERO : OP_WRITE, (i % 4) * BLOCK, (1 + i % 5) * BLOCK, false);
		for (unsigned i = 0; i < 8; i++)
			must(s, op_wait(ops[i]) == 0, "writes and zeroes succeed");
		schedule_settle(s);
	}
	(void)fill(s);
	checkpointed(s);
	must(s, usage(s) >= (uint64_t)s->areas[0].nblocks * MYFS_BLOCK, "data takes space");
	must(s, op_now(s, OP_ZERO, 0, ALL_OF_AREA, false) == 0, "zeroing everything succeeds");
	checkpointed(s);
	must(s, usage(s) == 0, "zeros take none");
	finish(s);
}

/* Must show: everything loses power with writes under way, and as many disks as the set survives never return. Every block that was not being written is
 * unchanged, every flushed write is there. */
static void power_and_disks(struct schedule *s)
{
	struct op *ops[4];
	fill(s);
	struct op *flushed = op_start(s, OP_WRITE, 4 * BLOCK, 4 * BLOCK, false);
	must(s, op_wait(flushed) == 0 && op_now(s, OP_FLUSH, 0, 0, false) == 0, "a write is flushed");
	for (unsigned i = 0; i < 4; i++)
		ops[i] = op_start(s, OP_WRITE, i * BLOCK, BLOCK, false);
	schedule_step(s);
	uint32_t lost = 0;
	for (uint32_t i = 0; i < s->cluster.tolerates; i++)
		lost |= MASK(brick_of_chunk(s, i));
	nemesis_power_all(s, true);
	nemesis_lose(s, lost);
	for (uint32_t i = 4; i < 8; i++)
		must(s, content(s, i * BLOCK) == flushed->id, "the flushed write is there");
	for (uint32_t i = 0; i < 4; i++)
		must(s, ops[i] != NULL && op_now(s, OP_READ, i * BLOCK, BLOCK, false) == 0, "every other block can be read");
	finish(s);
}

const struct sim_case CASES_WORLD[] = {
	{"case_14_duel", case_14, NULL, 0},
	{"takeover_waits_for_late_members", late_members, NULL, 0},
	{"case_15_old_owner_sees_one_brick", case_15, NULL, 0},
	{"case_16_owner_paused", case_16, NULL, 0},
	{"case_17_wall_clock_jumps", case_17, NULL, 0},
	{"case_40_other_protocol_version", case_40, NULL, 0},
	{"case_21_no_space", case_21, NULL, 0},
	{"case_21_no_inodes", case_21_inodes, NULL, 0},
	{"case_22_io_errors", case_22, NULL, 0},
	{"case_22_sync_forgets", case_22_forgets, NULL, 0},
	{"case_23_bit_flips", case_23, NULL, 0},
	{"case_24_bit_flip_under_delta", case_24, NULL, 0},
	{"case_25_power_in_checkpoint", case_25, NULL, 0},
	{"case_26_power_in_checkpoint_and_replay", case_26, NULL, 0},
	{"case_27_degraded_reads_race_writes", case_27, NULL, 0},
	{"case_29_heal_races_writes", case_29, NULL, 0},
	{"case_30_heal_with_silent_member_then_power", case_30, NULL, 0},
	{"case_31_clear_races_set", case_31, NULL, 0},
	{"case_33_brick_wiped", case_33, NULL, 0},
	{"case_37_adjacent_sectors", case_37, NULL, 0},
	{"case_38_zeroes_and_heal", case_38, NULL, 0},
	{"must_show_power_and_disks", power_and_disks, NULL, 0},
	{NULL, NULL, NULL, 0},
};
