/* cases_load.c - many requests at once: late bricks, credits, requests that outlive their client, acknowledged writes that only the gateway has: cases 32, 35, 39, 43. */
#include "brick/brick_priv.h"
#include "tests/sim/cases.h"

#define BLOCK ORACLE_SECTORS /* in sectors */
#define WRITERS 8u
#define THINK_NS (5 * NS_PER_MS) /* a writer's, between two writes: the oracle remembers them all */

/* ---- 32 ---- */

/* Writes one block again and again. */
struct writer {
	struct op op;
	uint64_t n, slowest_ns;
	bool stop, ended;
};

static void write_on(void *arg)
{
	struct writer *w = arg;
	while (!w->stop) {
		uint64_t begun = loop_now_ns();
		op_do(&w->op);
		must(w->op.s, w->op.rc == 0, "a write succeeds");
		w->slowest_ns = max_u64(w->slowest_ns, loop_now_ns() - begun);
		w->n++;
		fiber_sleep_until(loop_now_ns() + THINK_NS);
	}
	w->ended = true;
}

static struct writer writers[WRITERS];

static void writers_start(struct schedule *s, struct sim_gateway *gw)
{
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){.op = {.s = s, .gw = gw, .turn = gw->turn, .kind = OP_WRITE}};
		writers[i].op.x = (struct oracle_range){0, (uint64_t)s->areas[0].lba * ORACLE_SECTORS + i * BLOCK, BLOCK};
		host_spawn(gw->host, "writer", write_on, &writers[i]);
	}
}

/* So many writes were made in that time. */
static uint64_t writes_in(struct schedule *s, unsigned ms) YIELDS
{
	uint64_t before = 0, after = 0;
	for (unsigned i = 0; i < WRITERS; i++)
		before += writers[i].n;
	wait_ms(s, ms);
	for (unsigned i = 0; i < WRITERS; i++)
		after += writers[i].n;
	return after - before;
}

static uint64_t writers_end(struct schedule *s) YIELDS
{
	uint64_t slowest = 0;
	for (unsigned i = 0; i < WRITERS; i++)
		writers[i].stop = true;
	for (unsigned i = 0; i < WRITERS; i++) {
		while (!writers[i].ended)
			schedule_step(s);
		slowest = max_u64(slowest, writers[i].slowest_ns);
	}
	return slowest;
}

/* 32: a brick's disk is slow, or stuck for a while: the brick is left out, no write takes five seconds, and soon writes are nearly as fast as they were. */
static void late_brick(struct schedule *s, uint32_t chunk, bool stuck)
{
	uint32_t b = brick_of_chunk(s, chunk);
	struct disk *d = s->cluster.bricks[b].disk;
	if (s->cluster.n - 1 <= s->cfg.k)
		return; /* a late brick is better than none */
	fill(s);
	s->cluster.cfg.stall_ns = 0; /* as in production */
	nemesis_kill_gateway(s, owner(s)->index);
	writers_start(s, owner(s));
	uint64_t healthy = writes_in(s, 1000);
	nemesis_cut(s, b);
	if (stuck)
		disk_set_slow(d, 1, 10 * NS_PER_S);
	else
		disk_set_slow(d, 0.1, 100 * NS_PER_MS);
	wait_ms(s, 50);
	if (stuck)
		disk_set_slow(d, 0, 0); /* what began meanwhile takes its ten seconds */
	wait_ms(s, 5000);
	must(s, writes_in(s, 1000) * 100 >= healthy * 60, "without the late brick writes are 60 % as fast as before, or more");
	disk_set_slow(d, 0, 0);
	must(s, writers_end(s) < 5 * NS_PER_S, "no write takes five seconds");
	finish(s);
}

static void case_32_slow(struct schedule *s) { late_brick(s, 0, false); }
static void case_32_slow_parity(struct schedule *s) { late_brick(s, s->cfg.k, false); }
static void case_32_stuck(struct schedule *s) { late_brick(s, 0, true); }
static void case_32_stuck_parity(struct schedule *s) { late_brick(s, s->cfg.k, true); }

/* ---- 35 ---- */

static void kill_all_bricks(struct schedule *s) { nemesis_kill_all(s); }
static void power_all_bricks(struct schedule *s) { nemesis_power_all(s, false); }
static void kill_one_brick(struct schedule *s) { nemesis_stop_brick(s, brick_of_chunk(s, s->cfg.k), false); }
static void nothing(struct schedule *s) { (void)s; }

/* 35: a write is under way when its client's connection ends, a new one writes the same block; what happens to the bricks then, the old one does not come after
 * the new one. */
static void late_old_write(struct schedule *s)
{
	void (*const EVENTS[])(struct schedule *) = {nothing, kill_one_brick, kill_all_bricks, power_all_bricks};
	for (unsigned e = 0; e < ARRAY_LEN(EVENTS); e++)
		for (unsigned back = 0; back < 2; back++) {
			uint32_t b = brick_of_chunk(s, 0);
			fill(s);
			struct sim_gateway *gw = owner(s);
			link_block(s->world, back ? s->cluster.bricks[b].host : gw->host, back ? gw->host : s->cluster.bricks[b].host, true);
			struct op *old = op_start(s, OP_WRITE, 0, BLOCK, false);
			wait_ms(s, 3);
			must(s, !old->done, "the old write is under way");
			struct op *new = op_start(s, OP_WRITE, 0, BLOCK, false);
			wait_ms(s, 3);
			nemesis_cut(s, b);
			EVENTS[e](s);
			wait_ms(s, 3);
			links(s, gw->index, MASK(b), false);
			must(s, op_wait(new) == 0 && op_wait(old) == 0, "both writes end");
			must(s, content(s, 0) == new->id, "the new write stays");
			finish(s);
		}
}

/* ---- 39 ---- */

static uint64_t prepared_peak(struct schedule *s)
{
	uint64_t peak = 0;
	for (uint32_t b = 0; b < s->cluster.n; b++)
		peak = max_u64(peak, s->cluster.bricks[b].brick ? s->cluster.bricks[b].brick->prep_bytes : 0);
	return peak;
}

/* 39: more is written at once than bricks give credit for: it waits its turn, no brick holds more than that in memory for it, everything completes. */
static void credits(struct schedule *s)
{
	enum { OPS = 1000 };
	static struct op *ops[OPS];
	uint64_t credit = SIM_JOURNAL_BYTES / 4, peak = 0, begun;
	uint32_t stripe = s->cfg.k * (s->cfg.chunk_bytes / MYFS_BLOCK);
	(void)owner(s);
	begun = world_now_ns(s->world);
	for (uint32_t i = 0; i < OPS; i++)
		ops[i] = op_start(s, OP_WRITE, i * stripe * BLOCK % (s->areas[0].nblocks * BLOCK), stripe * BLOCK, false);
	for (unsigned left = OPS, i; left > 0;) {
		for (i = 0, left = 0; i < OPS; i++)
			left += !ops[i]->done;
		peak = max_u64(peak, prepared_peak(s));
		must(s, world_now_ns(s->world) < begun + 60 * NS_PER_S, "all writes end within a minute");
		fiber_sleep_until(loop_now_ns() + 50000);
	}
	for (unsigned i = 0; i < OPS; i++)
		must(s, ops[i]->rc == 0, "every write succeeds");
	world_trace(s->world, "a brick had prepared %llu bytes", (unsigned long long)peak);
	must(s, peak > credit / 2, "bricks were kept busy");
	must(s, peak <= credit, "no brick holds more than its credit");
	finish(s);
}

/* ---- 43, H25 ---- */

/* 43: acknowledged writes, not flushed, and some under way; every brick loses power and all it had not synced, the gateway does not: it writes them again. */
static void gateway_remembers(struct schedule *s)
{
	static const enum disk_crash FATE[] = {DISK_CRASH_LOSES, DISK_CRASH_CHANCE, DISK_CRASH_KEEPS, DISK_CRASH_LOSES};
	for (unsigned round = 0; round < 12; round++) {
		struct op *ops[8], *more[8];
		fill(s);
		struct sim_gateway *gw = owner(s);
		uint64_t losses = gw->domain->losses;
		for (unsigned i = 0; i < 8; i++) {
			ops[i] = op_start(s, OP_WRITE, i * BLOCK, (i % 3 ? 1 : 8 - i) * BLOCK, false);
			must(s, op_wait(ops[i]) == 0, "a write succeeds");
		}
		for (unsigned i = 0; i < 8 && round % 2; i++)
			more[i] = op_start(s, OP_WRITE, i * BLOCK, BLOCK, false);
		for (uint32_t b = 0; b < s->cluster.n; b++)
			disk_set_crash(s->cluster.bricks[b].disk, FATE[(round + b * (round / 4)) % ARRAY_LEN(FATE)]);
		nemesis_power_all(s, false);
		for (unsigned i = 0; i < 8 && round % 2; i++)
			must(s, op_wait(more[i]) == 0, "what was under way succeeds");
		for (unsigned i = 0; i < 8 && round % 2 == 0; i++)
			must(s, content(s, i * BLOCK) == ops[i - i % 3 + (i % 3 ? i % 3 : 0)]->id, "what was acknowledged is there");
		must(s, owner(s) == gw && gw->domain->losses == losses, "nothing is lost");
		must(s, op_now(s, OP_FLUSH, 0, 0, false) == 0, "a flush succeeds");
		finish(s);
	}
}

/* H25: the gateway loses power as well: what was acknowledged and not flushed is gone, and the first flush says so. */
static void loss_is_told(struct schedule *s)
{
	uint64_t old = fill(s);
	struct op *o = op_start(s, OP_WRITE, 0, BLOCK, false);
	must(s, op_wait(o) == 0, "a write succeeds");
	for (uint32_t b = 0; b < s->cluster.n; b++)
		disk_set_crash(s->cluster.bricks[b].disk, DISK_CRASH_LOSES);
	nemesis_power_all(s, true);
	must(s, content(s, 0) == old, "the write is lost");
	must(s, op_now(s, OP_FLUSH, 0, 0, false) == -EIO, "the first flush says so");
	must(s, op_now(s, OP_FLUSH, 0, 0, false) == 0, "the second does not");
	finish(s);
}

const struct sim_case CASES_LOAD[] = {
	{"case_32_slow_data_brick", case_32_slow, NULL, 0},
	{"case_32_slow_parity_brick", case_32_slow_parity, NULL, 0},
	{"case_32_stuck_data_brick", case_32_stuck, NULL, 0},
	{"case_32_stuck_parity_brick", case_32_stuck_parity, NULL, 0},
	{"case_35_late_old_write", late_old_write, NULL, 0},
	{"case_39_credits", credits, NULL, 4096},
	{"case_43_gateway_remembers", gateway_remembers, NULL, 0},
	{"rule_h25_loss_is_told", loss_is_told, NULL, 0},
	{NULL, NULL, NULL, 0},
};
