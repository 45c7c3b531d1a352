/* cases_tools.c - see cases.h. */
#include "tests/sim/cases.h"

#include "core/base/buf.h"

#define OP_MAX_NS (200 * NS_PER_S)

static uint64_t now(const struct schedule *s)
{
	return world_now_ns(s->world);
}

void must(struct schedule *s, bool so, const char *what)
{
	if (!so)
		schedule_violation(s, "expected: %s", what);
}

void wait_ms(struct schedule *s, unsigned ms) YIELDS
{
	for (unsigned i = 0; i < ms; i++)
		schedule_step(s);
}

struct sim_gateway *owner(struct schedule *s) YIELDS
{
	uint64_t begun = now(s);
	for (;;) {
		struct sim_gateway *gw = cluster_owner(&s->cluster);
		struct ec_domain_status st;
		if (gw != NULL)
			ec_domain_status(gw->domain, &st);
		if (gw != NULL && st.serving && !st.deposed && !gw->stop)
			return gw;
		must(s, now(s) < begun + OP_MAX_NS, "somebody serves");
		schedule_step(s);
	}
}

void wait_until_out(struct schedule *s, uint32_t bricks) YIELDS
{
	uint64_t begun = now(s);
	for (;;) {
		struct ec_domain_status st;
		ec_domain_status(owner(s)->domain, &st);
		if ((st.insync & bricks) == 0)
			return;
		must(s, now(s) < begun + OP_MAX_NS, "the bricks are dropped from the view");
		schedule_step(s);
	}
}

void leave_behind(struct schedule *s, uint32_t brick) YIELDS
{
	nemesis_stop_brick(s, brick, false);
	s->bricks[brick].revive_ns = UINT64_MAX;
	must(s, op_now(s, OP_WRITE, 0, ALL_OF_AREA, false) == 0, "a write without it succeeds");
	wait_until_out(s, MASK(brick));
}

uint32_t brick_of_chunk(struct schedule *s, uint32_t chunk)
{
	struct ec_geometry g;
	ec_geometry_init(&g, s->cfg.k, s->cfg.r, s->cfg.chunk_bytes);
	return ec_brick_of(&g, ec_rotation_start(&g, &s->cluster.lun, s->areas[0].shard), 0, chunk);
}

void finish(struct schedule *s) YIELDS
{
	trap_off(s);
	nemesis_end(s);
	schedule_settle(s);
	schedule_verify(s, "at the end of the case");
}

uint64_t fill(struct schedule *s) YIELDS
{
	(void)owner(s);
	must(s, op_now(s, OP_WRITE, 0, ALL_OF_AREA, false) == 0 && op_now(s, OP_FLUSH, 0, 0, false) == 0, "the first write and flush succeed");
	return content(s, 0);
}

static uint64_t promised(const struct schedule *s)
{
	uint64_t bytes = 0;
	for (uint32_t b = 0; b < s->cluster.n; b++)
		bytes += cluster_brick_promised(&s->cluster, b);
	return bytes;
}

void checkpointed(struct schedule *s) YIELDS
{
	uint64_t begun = now(s);
	must(s, op_now(s, OP_FLUSH, 0, 0, false) == 0, "a flush succeeds");
	while (promised(s) != 0) {
		must(s, now(s) < begun + 120 * NS_PER_S, "checkpoints write everything within two minutes");
		schedule_step(s);
	}
}

struct checkpoint {
	struct sim_brick *b;
	bool ended;
};

static void checkpoint_run(void *arg)
{
	struct checkpoint *c = arg;
	int rc = brick_checkpoint(c->b->brick, false);
	assert(rc == 0);
	(void)rc;
	c->ended = true;
}

static struct checkpoint checkpoints[SIM_MAX_BRICKS];

void checkpoint_begin(struct schedule *s, uint32_t b)
{
	checkpoints[b] = (struct checkpoint){.b = &s->cluster.bricks[b]};
	host_spawn(s->cluster.bricks[b].host, "checkpoint", checkpoint_run, &checkpoints[b]);
}

void checkpoint_now(struct schedule *s, uint32_t b) YIELDS
{
	checkpoint_begin(s, b);
	while (!checkpoints[b].ended)
		fiber_sleep_until(loop_now_ns() + 100000);
}

void links(struct schedule *s, uint32_t g, uint32_t bricks, bool blocked)
{
	for (uint32_t m = bricks; m; m &= m - 1) {
		link_block(s->world, s->cluster.gateways[g].host, s->cluster.bricks[__builtin_ctz(m)].host, blocked);
		link_block(s->world, s->cluster.bricks[__builtin_ctz(m)].host, s->cluster.gateways[g].host, blocked);
	}
}

/* ---- requests ---- */

void op_do(struct op *o) YIELDS
{
	struct schedule *s = o->s;
	uint32_t shard = s->areas[o->x.area].shard;
	size_t len = (size_t)o->x.nsectors * ORACLE_SECTOR;
	uint8_t *buf = malloc(len + 1);
	struct iovec v = {buf, len};
	uint64_t begun = now(s);
	assert(buf != NULL);
	if (o->kind == OP_READ) {
		struct bufs out;
		bufs_init(&out);
		o->rc = ec_read(o->gw->domain, shard, o->x.sector * ORACLE_SECTOR, (uint32_t)len, &out);
		if (o->rc == 0) {
			bufs_copy_out(&out, 0, buf, out.bytes);
			oracle_read(s->oracle, o->x, buf, begun, now(s));
			memcpy(&o->id, buf + 8, sizeof(o->id));
		}
		bufs_release(&out);
	} else if (o->kind == OP_FLUSH) {
		o->rc = ec_flush(o->gw->domain);
		if (o->rc == 0)
			oracle_flushed(s->oracle, begun);
	} else {
		bool zero = o->kind == OP_ZERO;
		o->id = oracle_write_begin(s->oracle, o->x, zero, o->turn, begun, zero ? NULL : buf);
		o->rc = zero ? ec_zero(o->gw->domain, shard, o->x.sector * ORACLE_SECTOR, len, o->fua)
			     : ec_write(o->gw->domain, shard, o->x.sector * ORACLE_SECTOR, (struct iov){.v = &v, .n = 1}, o->fua);
		if (o->rc == 0)
			oracle_write_acked(s->oracle, o->x, o->id, o->fua, now(s));
		else
			oracle_write_failed(s->oracle, o->x, o->id, now(s));
	}
	world_trace(s->world, "%s: kind %d %llu+%u: %s", host_name(o->gw->host), (int)o->kind, (unsigned long long)o->x.sector, o->x.nsectors,
		    o->rc ? err_name(o->rc) : "done");
	free(buf);
	o->done = true;
}

static void op_run(void *arg)
{
	op_do(arg);
}

struct op *op_start_on(struct schedule *s, struct sim_gateway *gw, enum sim_op kind, uint32_t sector, uint32_t nsectors, bool fua)
{
	struct op *o = calloc(1, sizeof(*o));
	const struct oracle_area *a = &s->areas[0];
	assert(o != NULL);
	if (nsectors == ALL_OF_AREA)
		nsectors = a->nblocks * ORACLE_SECTORS - sector;
	*o = (struct op){.s = s, .gw = gw, .turn = gw->turn, .kind = kind, .x = {0, (uint64_t)a->lba * ORACLE_SECTORS + sector, nsectors}, .fua = fua};
	host_spawn(gw->host, "op", op_run, o);
	return o;
}

struct op *op_start(struct schedule *s, enum sim_op kind, uint32_t sector, uint32_t nsectors, bool fua)
{
	struct sim_gateway *gw = cluster_owner(&s->cluster);
	must(s, gw != NULL, "somebody owns the LUN when a request comes");
	return op_start_on(s, gw, kind, sector, nsectors, fua);
}

int op_wait(struct op *o) YIELDS
{
	uint64_t begun = now(o->s);
	while (!o->done) {
		if (o->gw->turn != o->turn || o->gw->domain == NULL)
			return -ECONNRESET;
		must(o->s, now(o->s) < begun + OP_MAX_NS, "a request ends");
		schedule_step(o->s);
	}
	return o->rc;
}

int op_now(struct schedule *s, enum sim_op kind, uint32_t sector, uint32_t nsectors, bool fua) YIELDS
{
	return op_wait(op_start(s, kind, sector, nsectors, fua));
}

uint64_t content(struct schedule *s, uint32_t sector) YIELDS
{
	(void)owner(s);
	struct op *o = op_start(s, OP_READ, sector, 1, false);
	must(s, op_wait(o) == 0, "a read succeeds");
	return o->id;
}

/* ---- traps ---- */

static struct {
	uint16_t type;
	bool reply, sprung;
	unsigned n;
	trap_fn *fn;
} present;

static enum message_fate on_message(void *arg, const struct message *m)
{
	struct schedule *s = arg;
	const struct host *gw = m->reply ? m->to : m->from, *b = m->reply ? m->from : m->to;
	if (present.fn == NULL || m->type != present.type || m->reply != present.reply)
		return MESSAGE_ARRIVES;
	for (uint32_t g = 0; g < s->cluster.cfg.gateways; g++)
		for (uint32_t i = 0; i < s->cluster.n && s->cluster.gateways[g].host == gw; i++)
			if (s->cluster.bricks[i].host == b)
				return present.fn(s, g, i, present.n++);
	return MESSAGE_ARRIVES;
}

void trap(struct schedule *s, uint16_t type, bool reply, trap_fn *fn)
{
	present.type = type;
	present.reply = reply;
	present.n = 0;
	present.fn = fn;
	present.sprung = false;
	world_on_message(on_message, s);
}

void trap_off(struct schedule *s)
{
	(void)s;
	present.fn = NULL;
}

bool trapped(void)
{
	return present.sprung;
}

bool wait_trapped(struct schedule *s) YIELDS
{
	for (unsigned i = 0; i < 2000 && !trapped(); i++)
		schedule_step(s);
	return trapped();
}

struct soon {
	struct schedule *s;
	int gateway, brick; /* -1: none, -2: all */
	bool power;
};

static void act(void *arg)
{
	struct soon a = *(struct soon *)arg;
	free(arg);
	if (a.gateway >= 0)
		nemesis_kill_gateway(a.s, (uint32_t)a.gateway);
	if (a.brick >= 0)
		nemesis_stop_brick(a.s, (uint32_t)a.brick, a.power);
	if (a.brick == -2)
		nemesis_power_all(a.s, a.gateway == -2);
}

static void soon(struct schedule *s, int gateway, int brick, bool power)
{
	struct soon *a = malloc(sizeof(*a));
	assert(a != NULL);
	*a = (struct soon){s, gateway, brick, power};
	present.sprung = true;
	world_after(s->world, NULL, 0, act, a);
}

void kill_gateway_soon(struct schedule *s, uint32_t gateway)
{
	soon(s, (int)gateway, -1, false);
}

void stop_brick_soon(struct schedule *s, uint32_t brick, bool power)
{
	soon(s, -1, (int)brick, power);
}

void power_all_soon(struct schedule *s, bool gateways)
{
	soon(s, gateways ? -2 : -1, -2, true);
}
