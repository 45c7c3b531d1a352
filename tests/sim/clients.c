/* clients.c - what uses the LUN: a few fibers on the owner's host that read, write, zero and flush overlapping ranges and tell the oracle. */
#include <stdio.h>

#include "core/base/buf.h"
#include "ec/ec_priv.h"
#include "tests/sim/schedule.h"

#define POLL_NS (10 * NS_PER_MS)

/* Wide: two neighbouring regions, a piece of the next shard, the end of a far one. Else a stripe or a few of each. */
void clients_init(struct schedule *s)
{
	struct ec_geometry g;
	ec_geometry_init(&g, s->cfg.k, s->cfg.r, s->cfg.chunk_bytes);
	uint32_t region = g.region_rows * g.k, blocks = EC_REGIONS * region;
	uint32_t far = 2 + (uint32_t)prng_below(&s->prng, 6);
	uint32_t stripe = g.rows_per_chunk * g.k;
	if (s->wide) {
		s->areas[0] = (struct oracle_area){0, 0, region + region / 2};
		s->areas[2] = (struct oracle_area){far, blocks - region / 2, region / 2};
	} else {
		s->areas[0] = (struct oracle_area){0, 0, stripe * (1 + (uint32_t)prng_below(&s->prng, 2))};
		s->areas[2] = (struct oracle_area){far, blocks - stripe, stripe};
	}
	s->areas[1] = (struct oracle_area){1, 3 * region - stripe, 2 * stripe};
	s->areas[3] = (struct oracle_area){0, 20 * region, stripe};
	s->p_area0 = s->wide ? 0.5 : 0.5 + 0.5 * (double)prng_below(&s->prng, 100) / 100.0;
	s->n_clients = 1 + (unsigned)prng_below(&s->prng, SIM_CLIENTS_MAX);
	s->think_ns = (UINT64_C(1) << prng_below(&s->prng, s->wide ? 9 : 7)) * 100000;
	for (unsigned i = 0; i < OP_N; i++)
		s->weight[i] = 0.05 + (double)prng_below(&s->prng, 1000) / 1000.0;
	s->weight[OP_WRITE] *= 3;
	s->weight[OP_FLUSH] *= 0.05 * (double)(1u << prng_below(&s->prng, 5));
	s->weight[OP_ZERO] *= 0.3;
	s->weight[OP_SCRUB] *= 0.05;
	s->p_small = (double)prng_below(&s->prng, 100) / 100.0;
	s->p_whole = 0.3 + 0.7 * (double)prng_below(&s->prng, 100) / 100.0;
	s->p_fua = prng_chance(&s->prng, 0.5) ? 0.2 * (double)prng_below(&s->prng, 100) / 100.0 : 0;
	s->ops_wanted = s->wide ? 150 + prng_below(&s->prng, 450) : 10 + prng_below(&s->prng, 50);
	for (unsigned g_ = 0; g_ < SIM_MAX_GATEWAYS; g_++)
		for (unsigned i = 0; i <= SIM_CLIENTS_MAX; i++) {
			s->clients[g_].v[i].buffer = malloc(SIM_IO_MAX);
			assert(s->clients[g_].v[i].buffer != NULL);
		}
}

static uint64_t now(const struct schedule *s)
{
	return world_now_ns(s->world);
}

/* ---- ranges ---- */

/* [sector, +n) of an area: a block, some blocks, a chunk, a stripe, a region, anything; whole blocks mostly. */
static struct oracle_range range_pick(struct client *c)
{
	struct schedule *s = c->s;
	struct prng *r = &c->prng;
	struct oracle_range x = {.area = (unsigned)prng_below(r, SIM_AREAS)};
	if (prng_chance(r, s->p_area0))
		x.area = 0;
	const struct oracle_area *a = &s->areas[x.area];
	uint64_t chunk = s->cfg.chunk_bytes / ORACLE_SECTOR, stripe = chunk * s->cfg.k, all = (uint64_t)a->nblocks * ORACLE_SECTORS;
	uint64_t unit = ORACLE_SECTORS, n = ORACLE_SECTORS;
	if (!prng_chance(r, s->p_small)) {
		switch (prng_below(r, 7)) {
		case 0: n = ORACLE_SECTORS * (1 + prng_below(r, 8)); break;
		case 1: unit = n = chunk; break;
		case 2: unit = n = stripe; break;
		case 3: unit = stripe; n = stripe * (1 + prng_below(r, 6)); break;
		case 4: n = ORACLE_SECTORS * (1 + prng_below(r, 200)); break;
		case 5: unit = chunk; n = stripe - chunk + (s->cfg.k == 1) * chunk; break; /* all but one chunk */
		default: unit = stripe; n = SIM_IO_MAX / ORACLE_SECTOR; break;
		}
	}
	if (!prng_chance(r, s->p_whole)) {
		unit = 1;
		n = 1 + prng_below(r, n + ORACLE_SECTORS);
	}
	n = min_u64(n, min_u64(all, SIM_IO_MAX / ORACLE_SECTOR));
	/* A few places are hot, so that writes meet. */
	uint64_t places = (all - n) / unit + 1, place = prng_below(r, prng_chance(r, 0.3) ? min_u64(places, 4) : places);
	x.sector = (uint64_t)a->lba * ORACLE_SECTORS + place * unit;
	x.nsectors = (uint32_t)n;
	return x;
}

/* ---- operations ---- */

static void note_failure(struct client *c, const char *what, struct oracle_range x, int rc)
{
	struct schedule *s = c->s;
	world_trace(s->world, "g%u.%u %s %u/%llu+%u: %s", c->gw->index, c->index, what, s->areas[x.area].shard, (unsigned long long)x.sector, x.nsectors,
		    err_name(rc));
	s->result->failed_ops++;
	if (rc == -MYFS_E_FENCED || !s->live)
		return;
	if (rc == -ENOSPC && s->no_space_seen)
		return;
	schedule_violation(s, "%s failed although no more was broken than the set survives: %s", what, err_name(rc));
}

/* Names the owner's view when just K bricks are in it; 0: it is another one. */
static uint64_t view_at_k(const struct client *c)
{
	struct ec_domain_status st;
	if (c->gw->domain == NULL || c->turn != c->s->cluster.turns)
		return 0;
	ec_domain_status(c->gw->domain, &st);
	return mask_count(st.insync) == c->s->cfg.k ? st.epoch << 32 | st.view_ver : 0;
}

static int op_write(struct client *c, bool zero) YIELDS
{
	struct schedule *s = c->s;
	struct oracle_range x = range_pick(c);
	bool fua = prng_chance(&c->prng, s->p_fua);
	uint32_t shard = s->areas[x.area].shard;
	struct iovec v = {c->buffer, (size_t)x.nsectors * ORACLE_SECTOR};
	uint64_t at_k = s->flushed_at_k == view_at_k(c) ? s->flushed_at_k : 0;
	uint64_t id = oracle_write_begin(s->oracle, x, zero, c->turn, now(s), zero ? NULL : c->buffer);

	world_trace(s->world, "g%u.%u %s%s %llu: %u/%llu+%u", c->gw->index, c->index, zero ? "zero" : "write", fua ? " fua" : "", (unsigned long long)id, shard,
		    (unsigned long long)x.sector, x.nsectors);
	int rc = zero ? ec_zero(c->gw->domain, shard, x.sector * ORACLE_SECTOR, v.iov_len, fua)
		      : ec_write(c->gw->domain, shard, x.sector * ORACLE_SECTOR, (struct iov){.v = &v, .n = 1}, fua);
	if (rc < 0) {
		oracle_write_failed(s->oracle, x, id, now(s));
		note_failure(c, zero ? "zero" : "write", x, rc);
		return rc;
	}
	/* With only K in sync all along since a flush, nothing it may lean on can be lost either (H12). */
	oracle_write_acked(s->oracle, x, id, fua || (at_k != 0 && at_k == view_at_k(c)), now(s));
	world_trace(s->world, "g%u.%u done %llu", c->gw->index, c->index, (unsigned long long)id);
	return 0;
}

static int read_range(struct client *c, struct oracle_range x) YIELDS
{
	struct schedule *s = c->s;
	uint64_t begun = now(s);
	struct bufs out;

	bufs_init(&out);
	int rc = ec_read(c->gw->domain, s->areas[x.area].shard, x.sector * ORACLE_SECTOR, x.nsectors * ORACLE_SECTOR, &out);
	if (rc < 0) {
		note_failure(c, "read", x, rc);
	} else { /* whoever reads: the fence of reads keeps a deposed owner's fresh too */
		bufs_copy_out(&out, 0, c->buffer, out.bytes);
		world_trace(s->world, "g%u.%u read %u/%llu+%u since %.6f", c->gw->index, c->index, s->areas[x.area].shard, (unsigned long long)x.sector,
			    x.nsectors, (double)begun / 1e9);
		oracle_read(s->oracle, x, c->buffer, begun, now(s));
	}
	bufs_release(&out);
	return rc;
}

static int op_read(struct client *c) YIELDS { return read_range(c, range_pick(c)); }

static int op_flush(struct client *c) YIELDS
{
	struct schedule *s = c->s;
	uint64_t begun = now(s);
	bool rolled = oracle_in_rollback(s->oracle);
	uint64_t rollbacks = s->result->rollbacks, at_k = view_at_k(c);

	int rc = ec_flush(c->gw->domain);
	world_trace(s->world, "g%u.%u flush since %.6f: %s", c->gw->index, c->index, (double)begun / 1e9, rc ? err_name(rc) : "done");
	if (rc == 0 && !rolled && rollbacks == s->result->rollbacks)
	{
		oracle_flushed(s->oracle, begun);
		if (at_k != 0 && at_k == view_at_k(c))
			s->flushed_at_k = at_k;
	}
	if (rc < 0) {
		s->result->failed_ops++;
		if (rc != -MYFS_E_FENCED && s->live && s->result->rollbacks == 0)
			schedule_violation(s, "flush failed although no more was broken than the set survives: %s", err_name(rc));
	}
	return rc;
}

/* Unless a disk was made to lie, members that disagree are our doing (I7). */
static int op_scrub(struct client *c) YIELDS
{
	struct schedule *s = c->s;
	struct oracle_range x = range_pick(c);
	const struct ec_geometry *g = ec_set_geometry(c->gw->set);
	uint32_t shard = s->areas[x.area].shard, region = (uint32_t)(x.sector / ORACLE_SECTORS / ((uint64_t)g->region_rows * g->k));
	struct ec_scrub_count n = {0};
	int rc = ec_scrub_region(c->gw->domain, shard, region, &n);

	world_trace(s->world, "g%u.%u scrub %u/%u: %s, %llu rotten, %llu repaired", c->gw->index, c->index, shard, region, rc ? err_name(rc) : "done",
		    (unsigned long long)n.rotten, (unsigned long long)n.repaired);
	if (rc < 0 && rc != -ENOENT)
		note_failure(c, "scrub", x, rc);
	if ((n.stale || n.undecided) && !s->rotten)
		schedule_violation(s, "scrub found %llu blocks that agree with their checksum and not with the others (I7)",
				   (unsigned long long)(n.stale + n.undecided));
	return rc == -ENOENT ? 0 : rc;
}

static enum sim_op op_pick(struct client *c)
{
	double sum = 0, at;
	for (unsigned i = 0; i < OP_N; i++)
		sum += c->s->weight[i];
	at = sum * (double)prng_below(&c->prng, 1000000) / 1000000.0;
	for (unsigned i = 0; i < OP_N; i++) {
		if (at < c->s->weight[i])
			return (enum sim_op)i;
		at -= c->s->weight[i];
	}
	return OP_READ;
}

static void client_run(void *arg)
{
	struct client *c = arg;
	struct schedule *s = c->s;
	int rc = 0;

	while (!s->quiesce && !c->gw->stop && rc != -MYFS_E_FENCED) {
		enum sim_op op = op_pick(c);
		rc = op == OP_READ	? op_read(c)
		     : op == OP_FLUSH	? op_flush(c)
		     : op == OP_SCRUB	? op_scrub(c)
					: op_write(c, op == OP_ZERO);
		s->result->ops[op]++;
		s->ops_done++;
		fiber_sleep_until(loop_now_ns() + prng_below(&c->prng, 2 * s->think_ns));
	}
	s->clients[c->gw->index].running--;
}

void clients_serve(void *arg, struct sim_gateway *gw) YIELDS
{
	struct schedule *s = arg;
	struct gateway_clients *all = &s->clients[gw->index];
	struct ec_domain_status st;

	s->result->takeovers++;
	oracle_owner(s->oracle, gw->turn, now(s));
	for (unsigned i = 0; i < s->n_clients; i++) {
		struct client *c = &all->v[i];
		c->s = s;
		c->gw = gw;
		c->index = i;
		c->turn = gw->turn;
		prng_seed(&c->prng, s->cfg.seed * 1000003 + gw->turn * 101 + i);
		int rc = fiber_spawn(loop_self(), "client", client_run, c);
		assert(rc == 0);
		(void)rc;
		all->running++;
	}
	do {
		fiber_sleep_until(loop_now_ns() + POLL_NS);
		ec_domain_status(gw->domain, &st);
	} while (!gw->stop && !st.deposed);
	gw->stop = true;
	while (all->running > 0)
		fiber_sleep_until(loop_now_ns() + POLL_NS);
}

static void watch_run(void *arg)
{
	struct client *c = arg;
	struct schedule *s = c->s;
	int rc = 0;

	while (!s->quiesce && !c->gw->stop && rc == 0) {
		rc = read_range(c, (struct oracle_range){0, prng_below(&c->prng, min_u64(4, s->areas[0].nblocks)) * ORACLE_SECTORS, ORACLE_SECTORS});
		fiber_sleep_until(loop_now_ns() + prng_below(&c->prng, 2 * s->think_ns));
	}
	s->clients[c->gw->index].running--;
	s->clients[c->gw->index].watched = false;
}

uint32_t clients_hot_brick(struct schedule *s, const struct sim_gateway *gw)
{
	const struct ec_geometry *g = ec_set_geometry(gw->set);
	return ec_brick_of(g, ec_rotation_start(g, &s->cluster.lun, 0), 0, 0);
}

void clients_watch(struct schedule *s, struct sim_gateway *gw, uint32_t b)
{
	struct gateway_clients *all = &s->clients[gw->index];
	struct client *c = &all->v[SIM_CLIENTS_MAX];

	if (all->watched || all->running == 0 || b != clients_hot_brick(s, gw))
		return;
	uint8_t *buffer = c->buffer;
	*c = (struct client){.s = s, .gw = gw, .index = SIM_CLIENTS_MAX, .turn = gw->turn, .buffer = buffer};
	prng_seed(&c->prng, s->cfg.seed * 1000003 + gw->turn * 101 + SIM_CLIENTS_MAX);
	all->watched = true;
	all->running++;
	host_spawn(gw->host, "watch", watch_run, c);
}

void clients_forget(struct schedule *s, uint32_t gateway)
{
	s->clients[gateway].running = 0;
	s->clients[gateway].watched = false;
}

unsigned clients_running(const struct schedule *s)
{
	unsigned n = 0;
	for (unsigned i = 0; i < SIM_MAX_GATEWAYS; i++)
		n += s->clients[i].running;
	return n;
}
