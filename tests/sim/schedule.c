/* schedule.c - the course of one run (schedule.h): load and faults, then calm, then proof; three times over: as it is, after every brick process died, and
 * after everything lost power. */
#include "tests/sim/schedule.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "ec/ec_priv.h"

#define STEP_NS (5 * NS_PER_MS)
#define RUN_WIDE_NS (120 * NS_PER_S) /* load and faults end then, however few operations were done */
#define RUN_NS (2 * NS_PER_S)
#define COMPLETE_NS (300 * NS_PER_S) /* everything must have completed and healed by then */
#define REPAIR_NS (1200 * NS_PER_MS) /* a background SYNC and what follows it */
#define TRY_NS (60 * NS_PER_S)       /* safe mode: as long as it is worth hoping */

static struct schedule *current;

struct schedule *schedule_current(void)
{
	return current;
}

void schedule_report(const struct schedule *s, const char *what)
{
	fprintf(stderr, "VIOLATION seed %llu layout %u+%u chunk %u %s, commit %s: %s\nlast lines of the trace:\n", (unsigned long long)s->cfg.seed, s->cfg.k, s->cfg.r,
		s->cfg.chunk_bytes, s->live ? "live" : "safe", s->cfg.commit, what);
	world_trace_dump(s->world);
}

void schedule_violation(struct schedule *s, const char *fmt, ...)
{
	static char text[9000];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	schedule_report(s, text);
	fflush(NULL);
	_exit(1);
}

static void oracle_says(void *arg, const char *text)
{
	schedule_violation(arg, "%s", text);
}

static uint64_t now(const struct schedule *s)
{
	return world_now_ns(s->world);
}

static void step(struct schedule *s, bool faults) YIELDS
{
	fiber_sleep_until(loop_now_ns() + STEP_NS);
	nemesis_step(s, faults);
}

static void complain_unfinished(struct schedule *s)
{
	struct sim_gateway *gw = cluster_owner(&s->cluster);
	struct ec_domain_status st = {0};
	if (gw != NULL)
		ec_domain_status(gw->domain, &st);
	schedule_violation(s,
			   "nothing is broken any more, yet after %llu s of it: owner %s serving %d insync %x connected %x healing %x missed %llu cause %d; bricks "
			   "serving %x bad %x; clients busy %u; opening %d rollback %d",
			   (unsigned long long)(COMPLETE_NS / NS_PER_S), gw ? host_name(gw->host) : "none", st.serving, st.insync, st.connected, st.healing,
			   (unsigned long long)st.missed_bytes, (int)st.cause, cluster_serving(&s->cluster), s->bad, clients_running(s), cluster_opening(&s->cluster),
			   oracle_in_rollback(s->oracle));
}

/* What is to be verified is the complete set; an operation that a disk still holds must not take its brick out meanwhile. */
static void no_ejections(struct schedule *s)
{
	for (uint32_t g = 0; g < s->cluster.cfg.gateways; g++)
		if (s->cluster.gateways[g].set != NULL)
			s->cluster.gateways[g].set->eject_ns = UINT64_MAX;
}

/* Until all requests have ended and everything is whole. False: given up, in safe mode. */
static bool settle(struct schedule *s) YIELDS
{
	uint64_t begun = now(s);
	no_ejections(s);
	while (clients_running(s) > 0 || !nemesis_whole(s)) {
		no_ejections(s);
		step(s, false);
		if (now(s) > begun + (s->live ? COMPLETE_NS : TRY_NS)) {
			if (s->live)
				complain_unfinished(s);
			return false;
		}
	}
	return true;
}

static void verify_fiber(void *arg)
{
	struct schedule *s = arg;
	verify_all(s);
	s->spawned++;
}

static void verify(struct schedule *s, const char *when) YIELDS
{
	struct sim_gateway *gw = cluster_owner(&s->cluster);
	if (gw == NULL)
		return;
	uint64_t before = s->spawned, begun = now(s);
	while (now(s) < begun + REPAIR_NS) /* torn parity is made good in the background */
		step(s, false);
	gw = cluster_owner(&s->cluster);
	if (gw == NULL)
		return;
	world_trace(s->world, "verifying %s", when);
	begun = now(s);
	host_spawn(gw->host, "verify", verify_fiber, s);
	while (s->spawned == before) {
		step(s, false);
		if (now(s) > begun + COMPLETE_NS) {
			if (s->live)
				schedule_violation(s, "the verification %s does not end", when);
			return;
		}
	}
}

void schedule_step(struct schedule *s) YIELDS
{
	fiber_sleep_until(loop_now_ns() + NS_PER_MS);
	nemesis_step(s, false);
}

void schedule_settle(struct schedule *s) YIELDS
{
	(void)settle(s);
}

void schedule_verify(struct schedule *s, const char *when) YIELDS
{
	verify(s, when);
}

static uint32_t some_bricks(struct schedule *s, uint32_t n)
{
	uint32_t m = 0;
	while (mask_count(m) < n)
		m |= UINT32_C(1) << prng_below(&s->prng, s->cluster.n);
	return m;
}

static void course(void *arg)
{
	struct schedule *s = arg;
	for (uint32_t b = 0; b < s->cluster.n; b++)
		cluster_brick_start(&s->cluster, b);
	while (cluster_serving(&s->cluster) != (UINT32_C(1) << s->cluster.n) - 1)
		fiber_sleep_until(loop_now_ns() + STEP_NS);
	if (s->cfg.course != NULL) {
		s->cfg.course(s);
		return;
	}
	uint64_t begun = now(s);
	while (s->ops_done < s->ops_wanted && now(s) < begun + (s->wide ? RUN_WIDE_NS : RUN_NS))
		step(s, true);
	world_trace(s->world, "the faults end");
	s->quiesce = true;
	nemesis_end(s);
	bool whole = settle(s);
	verify(s, "after the run");
	whole = whole && s->rotten == 0; /* rot that nobody has read yet, and bricks dropped as well, may be too much */
	bool kill = s->wide || prng_chance(&s->prng, 0.3);
	if (whole && kill) {
		nemesis_kill_all(s);
		whole = settle(s);
		verify(s, "after every brick was killed");
	}
	if (whole && (s->wide || !kill)) {
		if (prng_chance(&s->prng, 0.8))
			nemesis_power_all(s, true);
		if (prng_chance(&s->prng, 0.7))
			nemesis_lose(s, some_bricks(s, (uint32_t)prng_below(&s->prng, s->cluster.tolerates + 1)));
		settle(s);
		verify(s, "after a loss of power of everything");
	}
}

void schedule_run(const struct schedule_config *cfg, struct schedule_result *result)
{
	static struct schedule s;
	struct disk *const *images = cluster_images(cfg->k, cfg->r, cfg->chunk_bytes, SIM_JOURNAL_BYTES);
	uint64_t begun;

	memset(&s, 0, sizeof(s));
	s.cfg = *cfg;
	s.result = result;
	s.world = world_new(cfg->seed);
	current = &s;
	world_trace_echo(s.world, cfg->echo);
	prng_seed(&s.prng, cfg->seed ^ UINT64_C(0x5eed5eed));
	s.live = result->live = prng_chance(&s.prng, 0.75);
	s.wide = prng_chance(&s.prng, 0.005);
	if (cfg->course != NULL) {
		s.live = result->live = true;
		s.wide = false;
	}
	clients_init(&s);
	if (cfg->course != NULL) {
		s.n_clients = 0;
		uint32_t stripe = cfg->k * (cfg->chunk_bytes / MYFS_BLOCK);
		s.areas[0].nblocks = stripe * (stripe >= 4 ? 2 : (8 + stripe - 1) / stripe); /* eight blocks at least */
		if (cfg->course_blocks != 0) {
			s.areas[0].lba = 0;
			s.areas[0].nblocks = cfg->course_blocks / stripe * stripe;
		}
	}
	s.oracle = oracle_new(s.areas, SIM_AREAS, oracle_says, &s);
	bool format = prng_chance(&s.prng, 0.02); /* else disks come formatted; a wiped one is formatted anyhow */
	struct cluster_config cc = {.k = cfg->k, .r = cfg->r, .chunk_bytes = cfg->chunk_bytes, .gateways = 3, .journal_bytes = SIM_JOURNAL_BYTES, .serve = clients_serve,
				    .arg = &s, .images = format ? NULL : images, .stall_ns = s.wide ? 0 : 500 * NS_PER_MS,
				    .idle_clean_ns = cfg->course != NULL ? 0 : NS_PER_MS << prng_below(&s.prng, 14)};
	cluster_init(&s.cluster, s.world, &cc);
	nemesis_init(&s);
	begun = world_now_ns(s.world);
	int rc = loop_run_fiber(world_loop(s.world), "schedule", course, &s);
	assert(rc == 0);
	(void)rc;
	result->hash = world_trace_hash(s.world);
	result->sim_ns = world_now_ns(s.world) - begun;
	result->done = true;
}
