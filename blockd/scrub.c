/* scrub.c - see scrub.h.
 *
 *   first gateway:  plan due -> running;   every gateway that answers is done -> idle
 *   every gateway:  plan running -> its own LUNs in order of their ids, shard by shard, region by region
 *
 * A LUN that changes hands during a run may be looked at twice, or not until the next run. While clients have requests
 * under way, a scrub rests most of the time: it is never urgent.
 *
 * Invariant: SC1 the fiber works on one region at a time, inside lun_enter .. lun_leave, so a LUN may go at any moment. */
#include "blockd/scrub.h"

#include <inttypes.h>
#include <stdlib.h>

#include "blockd/gateways.h"
#include "blockd/lun.h"
#include "blockd/watch.h"
#include "core/base/log.h"

#define LOOK_NS       (1 * NS_PER_S)
#define SAVE_NS       (5 * NS_PER_S)
#define QUORUM_NS     (5 * NS_PER_S)
#define BUSY_REST     9u /* times as long as the region took, while clients are waiting for answers */
#define RECENT_NS     (500 * NS_PER_MS)

struct scrubber {
	struct blockd *d;
	struct volume *v;
	struct scrub_progress p;
	uint64_t generation; /* of the registry when the plan was read */
	uint64_t saved_ns;
	bool running;
};

static uint64_t wall_s(void)
{
	return loop_wall_ns() / NS_PER_S;
}

int scrub_begin(struct blockd *d, const char *volume, struct err *e)
{
	struct scrub_plan p;
	int rc = registry_begin(d->registry, e);

	if (rc < 0)
		return rc;
	rc = scrub_plan_load(d->registry, volume, &p, e);
	if (rc == 0) {
		p.run++;
		p.state = SCRUB_RUNNING;
		p.started_s = wall_s();
		rc = scrub_plan_save(d->registry, volume, &p, e);
	}
	if (rc == 0)
		return registry_commit(d->registry, e);
	registry_rollback(d->registry);
	return rc;
}

/* ---- the first gateway's part ---- */

static bool everybody_done(struct blockd *d, const char *volume, uint64_t run)
{
	struct reg_gateway *rows = NULL;
	bool all = true;
	size_t n = 0;

	if (reg_gateway_list(d->registry, &rows, &n, NULL) < 0)
		return false;
	for (size_t i = 0; i < n && all; i++) {
		struct scrub_progress p;

		if (gateways_state(d, rows[i].name) == GATEWAY_ALIVE)
			all = scrub_progress_load(d->registry, rows[i].name, volume, &p, NULL) == 0 && p.run == run && p.done;
	}
	free(rows);
	return all;
}

static void tend_plan(struct blockd *d, const struct volume *v)
{
	const char *name = v->row.name;
	struct scrub_plan p;
	struct err e = ERR_INIT;

	if (!gateways_first(d) || scrub_plan_load(d->registry, name, &p, &e) < 0)
		return;
	uint64_t from = p.started_s ? p.started_s : v->row.created_ns / NS_PER_S;
	if (p.state == SCRUB_IDLE && scrub_schedule_next(p.schedule, from) <= wall_s()) {
		log_note("volume %s: the scheduled scrub begins", name);
		if (scrub_begin(d, name, &e) < 0)
			log_warn("volume %s: scrub: %s", name, e.text);
	} else if (p.state == SCRUB_RUNNING && everybody_done(d, name, p.run)) {
		p.state = SCRUB_IDLE;
		p.ended_s = wall_s();
		if (scrub_plan_save(d->registry, name, &p, &e) == 0)
			log_note("volume %s: scrub %" PRIu64 " has ended", name, p.run);
	}
}

/* ---- one gateway's pass ---- */

static void save(struct scrubber *s)
{
	struct err e = ERR_INIT;

	s->saved_ns = loop_now_ns();
	if (scrub_progress_save(s->d->registry, s->d->self.name, s->v->row.name, &s->p, &e) < 0)
		log_warn("progress of a scrub is not saved: %s", e.text);
}

/* Still this run, and not paused? Looked up when the registry changed. */
static bool goes_on(struct scrubber *s)
{
	uint64_t generation = 0;
	struct scrub_plan plan;

	if (s->d->stopping || s->v->closing)
		return false;
	if (registry_generation(s->d->registry, &generation, NULL) == 0 && generation != s->generation &&
	    scrub_plan_load(s->d->registry, s->v->row.name, &plan, NULL) == 0) {
		s->generation = generation;
		s->running = plan.state == SCRUB_RUNNING && plan.run == s->p.run;
	}
	return s->running;
}

static bool clients_wait(const struct blockd *d)
{
	list_for_each(l, &d->luns, struct lun, node)
		if (l->requests > 0 || (l->sessions > 0 && loop_now_ns() - l->last_request_ns < RECENT_NS))
			return true;
	return false;
}

static void rest(struct scrubber *s, uint64_t took_ns) YIELDS
{
	if (clients_wait(s->d))
		blockd_sleep(s->d, took_ns * BUSY_REST);
	else
		fiber_yield();
}

static void tell(const struct scrubber *s, const struct lun *l, uint32_t shard, uint32_t region,
		 const struct ec_scrub_count *before)
{
	const struct ec_scrub_count *now = &s->p.count;
	const char *vol = l->row.volume, *lun = l->row.name;

	if (now->rotten > before->rotten)
		log_warn("%s/%s: scrub: %" PRIu64 " blocks did not match their checksums (shard %u, region %u)", vol, lun,
			 now->rotten - before->rotten, shard, region);
	if (now->stale > before->stale)
		log_warn("%s/%s: scrub: %" PRIu64 " blocks were not what had been written, and are again (shard %u, region %u)",
			 vol, lun, now->stale - before->stale, shard, region);
	if (now->undecided > before->undecided)
		log_error("%s/%s: scrub: in %" PRIu64 " rows the bricks disagree and nobody can say which is wrong (shard %u, "
			  "region %u); what clients read is unchanged",
			  vol, lun, now->undecided - before->undecided, shard, region);
	if (now->unreadable > before->unreadable)
		log_error("%s/%s: scrub: rows cannot be read (shard %u, region %u)", vol, lun, shard, region);
}

/* One region. 0, -ENOENT: the shard does not exist, -ESHUTDOWN: the LUN is not ours any more, -EOPNOTSUPP. */
static int one_region(struct scrubber *s, struct lun *l, uint32_t generation) YIELDS
{
	struct ec_scrub_count before = s->p.count;
	uint64_t began = loop_precise_ns();
	int rc = lun_enter(l, generation);

	if (rc < 0)
		return rc;
	rc = dht_scrub(l->file, s->p.shard, s->p.region, &s->p.count);
	uint64_t clients_ns = l->last_request_ns;
	lun_leave(l, rc);
	l->last_request_ns = clients_ns; /* this was none of a client */
	tell(s, l, s->p.shard, s->p.region, &before);
	if (rc == -MYFS_E_QUORUM || rc == -ENOMEM)
		blockd_sleep(s->d, QUORUM_NS); /* and then the same again */
	else if (rc == 0)
		rest(s, loop_precise_ns() - began);
	return rc;
}

static int scrub_open_lun(struct scrubber *s, struct lun *l) YIELDS
{
	uint32_t generation = l->generation;
	uint32_t shards = dht_shards(l->file);

	while (s->p.shard < shards && goes_on(s)) {
		int rc = one_region(s, l, generation);

		if (rc == -MYFS_E_QUORUM || rc == -ENOMEM)
			continue;
		if (rc < 0 && rc != -ENOENT)
			return rc;
		if (rc == 0 && s->p.region + 1 < EC_REGIONS) {
			s->p.region++;
		} else {
			s->p.region = 0;
			s->p.shard++;
			s->p.permille = s->p.shard * UINT64_C(1000) / shards;
		}
		if (loop_now_ns() - s->saved_ns >= SAVE_NS)
			save(s);
		if (rc == -ENOENT && s->p.shard % 1024 == 0)
			fiber_yield(); /* a large LUN with nothing in it */
	}
	return s->p.shard < shards ? -EINTR : 0;
}

/* False: the pass ends here for now. */
static bool scrub_lun(struct scrubber *s, const struct reg_lun *row) YIELDS
{
	struct err e = ERR_INIT;
	struct lun *l;
	int rc;

	if (!gfid_eq(&s->p.lun, &row->gfid)) {
		s->p.lun = row->gfid;
		s->p.shard = s->p.region = 0;
	}
	rc = lun_hold(s->d, row, &l, &e);
	if (rc < 0) {
		log_note("scrub: %s", e.text);
		if (rc == -MYFS_E_QUORUM)
			return false; /* later */
	} else {
		rc = scrub_open_lun(s, l);
		if (l->sessions == 0)
			l->keep_ns = 0;
		lun_release(l);
		watch_kick(s->d);
	}
	if (rc == -EOPNOTSUPP)
		log_error("scrub: a brick's daemon is of an older version that cannot; volume %s is not scrubbed",
			  s->v->row.name);
	if (rc == -EINTR || rc == -EOPNOTSUPP)
		return false;
	s->p.luns++;
	s->p.permille = 0;
	return true;
}

static int by_gfid(const void *a, const void *b)
{
	return memcmp(((const struct reg_lun *)a)->gfid.b, ((const struct reg_lun *)b)->gfid.b, sizeof(struct gfid));
}

static void pass(struct scrubber *s) YIELDS
{
	struct reg_lun *rows = NULL;
	bool on = true;
	size_t n = 0;

	if (reg_lun_list(s->d->registry, s->v->row.name, REG_LUN_READY, &rows, &n, NULL) < 0)
		return;
	if (n > 0)
		qsort(rows, n, sizeof(*rows), by_gfid);
	for (size_t i = 0; i < n && on; i++) {
		struct reg_lun now;

		if (memcmp(rows[i].gfid.b, s->p.lun.b, sizeof(s->p.lun.b)) < 0 ||
		    reg_lun_get_gfid(s->d->registry, &rows[i].gfid, &now, NULL) < 0 || now.state != REG_LUN_READY ||
		    strcmp(now.owner, s->d->self.name) != 0)
			continue;
		on = goes_on(s) && scrub_lun(s, &now);
		if (loop_now_ns() - s->saved_ns >= SAVE_NS)
			save(s);
	}
	free(rows);
	s->p.done = on && s->running;
	save(s);
}

/* The volume is held. */
static void tend_volume(struct blockd *d, struct volume *v) YIELDS
{
	struct scrubber s = {.d = d, .v = v};
	struct scrub_plan plan;
	struct err e = ERR_INIT;

	tend_plan(d, v);
	if (registry_generation(d->registry, &s.generation, &e) < 0 || scrub_plan_load(d->registry, v->row.name, &plan, &e) < 0 ||
	    scrub_progress_load(d->registry, d->self.name, v->row.name, &s.p, &e) < 0) {
		log_warn("scrub of volume %s: %s", v->row.name, e.text);
		return;
	}
	if (plan.state != SCRUB_RUNNING || (s.p.run == plan.run && s.p.done))
		return;
	if (s.p.run != plan.run)
		s.p = (struct scrub_progress){.run = plan.run};
	s.running = true;
	pass(&s);
}

static void scrub_fiber(void *arg)
{
	struct blockd *d = arg;
	uint64_t seen = 0, next_ns = 0;

	while (!d->stopping) {
		uint64_t generation = 0;
		bool changed = registry_generation(d->registry, &generation, NULL) == 0 && generation != seen;

		if (changed || loop_now_ns() >= next_ns) { /* a due date comes without a change */
			char names[32][REG_NAME];
			unsigned n = 0;

			seen = generation;
			next_ns = loop_now_ns() + 20 * LOOK_NS;
			list_for_each(v, &d->volumes, struct volume, node)
				if (!v->closing && n < ARRAY_LEN(names))
					memcpy(names[n++], v->row.name, REG_NAME);
			for (unsigned i = 0; i < n && !d->stopping; i++) {
				struct volume *v = volume_get(d, names[i]);

				if (!v)
					continue;
				tend_volume(d, v);
				volume_put(v);
			}
		}
		blockd_sleep(d, LOOK_NS);
	}
	blockd_fiber_done(d);
}

int scrub_start(struct blockd *d)
{
	return blockd_spawn(d, "scrub", scrub_fiber, d);
}
