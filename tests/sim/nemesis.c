/* nemesis.c - what goes wrong: picks faults, ends them, brings the dead back, and keeps the account of what can still be relied on.
 *
 * The account: `bad` holds every brick that may lack something or be out of reach, from the fault (or an owner's view without it) until the owner's view counts it in sync again; `rotten`
 * those whose disks lied. In live mode a fault on another brick needs room in what the set survives. When more than that lost their memory, the
 * oracle is told that unflushed writes may be gone, until no lost memory is counted on by the owner's view any more. */
#include <stdio.h>

#include "ec/ec_priv.h"
#include "tests/sim/schedule.h"

#define SETTLE_NS (500 * NS_PER_MS) /* the owner has noticed what happened to a connection by then */
#define DISK_NORMAL UINT64_C(0)

static const char *const FAULT_NAMES[FAULT_N] = {
	"kill", "power", "kill-all", "power-all", "wipe", "gateway-kill", "gateway-close", "gateway-steal",
	"gateway-split", "gateway-duel", "ambush", "block", "block-one-way", "cut", "cut-all",
	"delay", "slow-disk", "stuck-disk", "read-eio", "write-eio", "sync-eio", "no-space", "rot", "lost-write", "misdirected",
};

const char *fault_name(enum fault f)
{
	return FAULT_NAMES[f];
}

static uint64_t now(const struct schedule *s)
{
	return world_now_ns(s->world);
}

/* Between 1 ms and 8 s (half a second when not wide), every order of magnitude alike. */
static uint64_t some_time(struct schedule *s)
{
	uint64_t t = NS_PER_MS << prng_below(&s->prng, s->wide ? 13 : 9);
	return t + prng_below(&s->prng, t);
}

/* Longer than a gateway waits for a brick. */
static uint64_t stuck_time(const struct schedule *s)
{
	return s->wide ? 6 * NS_PER_S : 1500 * NS_PER_MS;
}

void nemesis_init(struct schedule *s)
{
	for (unsigned f = 0; f < FAULT_N; f++) {
		bool on = prng_chance(&s->prng, 0.35);
		double weight = 0.1 + (double)prng_below(&s->prng, 1000) / 1000.0;
		s->fault_weight[f] = on ? weight : 0;
	}
	s->faults_wanted = s->wide ? UINT64_MAX : 1 + prng_below(&s->prng, 14);
	if (s->fault_weight[FAULT_AMBUSH] > 0)
		ambush_init(s);
	s->early_faults = prng_chance(&s->prng, 0.2);
	s->fault_gap_ns = s->wide ? (NS_PER_MS * 10) << prng_below(&s->prng, 9) : (NS_PER_MS * 4) << prng_below(&s->prng, 6);
	for (unsigned i = 0; i < SIM_MAX_BRICKS; i++)
		s->bricks[i] = (struct brick_state){.revive_ns = UINT64_MAX, .calm_ns = UINT64_MAX};
	s->gateway_next_ns = UINT64_MAX;
	s->split_gateway = SIM_MAX_GATEWAYS;
}

/* ---- the account ---- */

static uint64_t bad_since[SIM_MAX_BRICKS]; /* one schedule per process */

bool nemesis_may_break(const struct schedule *s, uint32_t b)
{
	return !s->live || mask_count(s->bad | s->rotten | MASK(b)) <= s->cluster.tolerates;
}

bool nemesis_may_break_all(const struct schedule *s)
{
	/* K firm members go on alone: with rot among them that is not enough. And those that lie down do not fall. */
	return !s->live || (s->rotten == 0 && mask_count(s->bad) <= s->cluster.tolerates);
}

/* What was acknowledged and not flushed is gone with the memory of too many bricks, unless its owner writes it again. */
static void owner_forgets(struct schedule *s)
{
	s->guard_turn = 0;
	if (oracle_in_rollback(s->oracle))
		return;
	world_trace(s->world, "what was not flushed may be lost");
	oracle_rollback_begin(s->oracle);
	s->result->rollbacks++;
}

static void too_many_forgot(struct schedule *s)
{
	struct sim_gateway *gw = cluster_owner(&s->cluster);
	struct ec_domain_status st = {.deposed = true};
	if (gw != NULL)
		ec_domain_status(gw->domain, &st);
	if (s->live && !st.deposed && !gw->stop && !cluster_opening(&s->cluster)) {
		s->guard_turn = gw->turn;
		s->result->replays++;
		world_trace(s->world, "%s must write again what was not flushed", host_name(gw->host));
	} else {
		owner_forgets(s);
	}
}

static void judge_memory(struct schedule *s)
{
	if (mask_count(s->bad | s->rotten) > s->cluster.tolerates && !oracle_in_rollback(s->oracle) && s->guard_turn == 0)
		too_many_forgot(s);
}

/* In safe mode a brick may become bad on top of others that lost their memory: a view that drops it, though it is firm, rests on those. */
static void set_bad(struct schedule *s, uint32_t b)
{
	bool forgotten = false;
	s->bad |= MASK(b);
	bad_since[b] = now(s);
	for (uint32_t i = 0; i < s->cluster.n; i++)
		forgotten = forgotten || s->bricks[i].lost_memory;
	if (!s->live && forgotten)
		judge_memory(s);
}

/* Brick b's memory goes now. */
static void memory_lost(struct schedule *s, uint32_t b)
{
	set_bad(s, b);
	if (!s->bricks[b].lost_memory)
		s->bricks[b].lost_boot = s->cluster.bricks[b].boot;
	s->bricks[b].lost_memory = true;
	judge_memory(s);
}

static void trace_view(struct schedule *s, const struct sim_gateway *gw, const struct ec_domain_status *st)
{
	struct view_seen x = {gw->turn, st->epoch, st->view_ver, st->insync, gw->domain->live, st->serving};
	if (memcmp(&x, &s->view_seen, sizeof(x)) == 0)
		return;
	s->view_seen = x;
	world_trace(s->world, "%s: view %llu.%llu in sync %x live %x healing %x%s", host_name(gw->host), (unsigned long long)st->epoch,
		    (unsigned long long)st->view_ver, st->insync, gw->domain->live, st->healing, st->serving ? "" : " not serving");
}

static void notice(struct schedule *s)
{
	struct sim_gateway *gw = cluster_owner(&s->cluster);
	struct ec_domain_status st;
	if (gw == NULL)
		return;
	ec_domain_status(gw->domain, &st);
	trace_view(s, gw, &st);
	if (s->guard_turn != 0 && (gw->turn != s->guard_turn || st.deposed || cluster_opening(&s->cluster)))
		owner_forgets(s);
	if (!st.serving || st.deposed || gw->domain->view_busy || gw->domain->view.state != BP_VIEW_READY)
		return;
	uint32_t relied = 0; /* members by what they had in the memory they lost */
	for (uint32_t b = 0; b < s->cluster.n; b++) {
		struct brick_state *x = &s->bricks[b];
		bool member = mask_has(st.insync, b);
		if (!member && !mask_has(s->bad, b))
			set_bad(s, b); /* a new owner did not wait for it */
		if (x->lost_memory && member && gfid_eq(&gw->domain->view.boot[b], &x->lost_boot))
			relied |= MASK(b);
		else
			x->lost_memory = false;
		if (mask_has(s->bad, b) && member && mask_has(st.connected, b) && mask_has(gw->domain->live, b) && !x->lost_memory && !x->blocked &&
		    x->calm_ns == UINT64_MAX && s->cluster.bricks[b].serving && now(s) > bad_since[b] + SETTLE_NS && now(s) > x->stuck_ns)
			s->bad &= ~MASK(b);
	}
	if (relied == 0)
		s->guard_turn = 0;
	if (oracle_in_rollback(s->oracle) && relied == 0) {
		world_trace(s->world, "what was lost is decided");
		oracle_rollback_end(s->oracle, now(s));
	}
}

/* ---- ends of faults ---- */

static void links_block(struct schedule *s, uint32_t b, bool to, bool from)
{
	for (uint32_t g = 0; g < s->cluster.cfg.gateways; g++) {
		link_block(s->world, s->cluster.gateways[g].host, s->cluster.bricks[b].host, to);
		link_block(s->world, s->cluster.bricks[b].host, s->cluster.gateways[g].host, from);
	}
	s->bricks[b].blocked = to || from;
}

static void links_delay(struct schedule *s, uint32_t b, uint64_t ns)
{
	for (uint32_t g = 0; g < s->cluster.cfg.gateways; g++) {
		link_delay(s->cluster.gateways[g].host, s->cluster.bricks[b].host, ns);
		link_delay(s->cluster.bricks[b].host, s->cluster.gateways[g].host, ns);
	}
}

static void links_cut(struct schedule *s, uint32_t b)
{
	for (uint32_t g = 0; g < s->cluster.cfg.gateways; g++)
		link_cut(s->cluster.gateways[g].host, s->cluster.bricks[b].host);
}

/* The owner is left with brick b alone, nobody else sees b; another gateway takes over. */
static bool gateway_split(struct schedule *s)
{
	struct sim_gateway *gw = cluster_owner(&s->cluster);
	uint32_t b = gw == NULL || prng_chance(&s->prng, 0.3) ? (uint32_t)prng_below(&s->prng, s->cluster.n) : clients_hot_brick(s, gw);
	if (gw == NULL || s->split_gateway != SIM_MAX_GATEWAYS || s->bricks[b].calm_ns != UINT64_MAX || !host_is_up(s->cluster.bricks[b].host) ||
	    !nemesis_may_break(s, b) || cluster_opening(&s->cluster))
		return false;
	links_block(s, b, true, true);
	s->split_gateway = gw->index;
	s->split_brick = b;
	for (uint32_t i = 0; i < s->cluster.n; i++) {
		link_block(s->world, gw->host, s->cluster.bricks[i].host, i != b);
		link_block(s->world, s->cluster.bricks[i].host, gw->host, i != b);
	}
	world_trace(s->world, "g%u sees only b%u", gw->index, b);
	set_bad(s, b);
	s->bricks[b].calm_ns = now(s) + 2 * NS_PER_S + prng_below(&s->prng, 6 * NS_PER_S);
	s->gateway_next_ns = now(s);
	clients_watch(s, gw, b);
	return true;
}

static void split_end(struct schedule *s)
{
	struct host *g = s->cluster.gateways[s->split_gateway].host;
	for (uint32_t i = 0; i < s->cluster.n; i++) {
		link_block(s->world, g, s->cluster.bricks[i].host, s->bricks[i].blocked);
		link_block(s->world, s->cluster.bricks[i].host, g, s->bricks[i].blocked);
	}
	s->split_gateway = SIM_MAX_GATEWAYS;
}

static void calm(struct schedule *s, uint32_t b)
{
	struct disk *d = s->cluster.bricks[b].disk;
	s->bricks[b].calm_ns = UINT64_MAX;
	if (s->bricks[b].stuck_ns == UINT64_MAX)
		s->bricks[b].stuck_ns = now(s) + stuck_time(s) + SETTLE_NS;
	if (s->bricks[b].blocked)
		links_block(s, b, false, false);
	if (s->split_gateway != SIM_MAX_GATEWAYS && s->split_brick == b)
		split_end(s);
	links_delay(s, b, 0);
	disk_set_slow(d, 0, DISK_NORMAL);
	disk_set_capacity(d, SIM_DISK_BYTES);
	for (unsigned k = DISK_FAIL_READ; k <= DISK_FAIL_SYNC; k++)
		disk_fail(d, (enum disk_fault)k, 0);
	disk_lie_once(d, DISK_LOSE_WRITE, "");
	world_trace(s->world, "b%u works as it should", b);
}

/* The engine stopped, or would not start: a person, or the node, starts it again; a damaged one is rebuilt from nothing. */
static void brick_gave_up(struct schedule *s, uint32_t b)
{
	struct sim_brick *x = &s->cluster.bricks[b];
	if (!s->bricks[b].may_fail && !mask_has(s->rotten, b))
		schedule_violation(s, "b%u stopped although its disk did nothing wrong: %s", b, x->why);
	bool rebuild = x->damaged;
	if (rebuild || (s->bricks[b].sync_fails && !s->live)) /* live: at most as many as the set survives */
		memory_lost(s, b);
	cluster_brick_kill(&s->cluster, b, false);
	if (rebuild)
		cluster_brick_wipe(&s->cluster, b);
	set_bad(s, b);
	s->bricks[b].revive_ns = now(s) + some_time(s);
}

static void gateway_due(struct schedule *s)
{
	struct cluster *c = &s->cluster;
	bool any = false;
	for (uint32_t g = 0; g < c->cfg.gateways; g++)
		any |= c->gateways[g].running && !c->gateways[g].stop;
	if (!any && s->gateway_next_ns == UINT64_MAX)
		s->gateway_next_ns = now(s);
	if (s->gateway_next_ns > now(s) || cluster_opening(c))
		return;
	uint32_t first = (uint32_t)prng_below(&s->prng, c->cfg.gateways);
	for (uint32_t i = 0; i < c->cfg.gateways; i++) {
		uint32_t g = (first + i) % c->cfg.gateways;
		if (c->gateways[g].running)
			continue;
		s->gateway_next_ns = UINT64_MAX;
		if (s->guard_turn != 0)
			owner_forgets(s);
		cluster_gateway_start(c, g);
		return;
	}
}

static void ends_due(struct schedule *s)
{
	for (uint32_t b = 0; b < s->cluster.n; b++) {
		if (s->cluster.bricks[b].failed && host_is_up(s->cluster.bricks[b].host))
			brick_gave_up(s, b);
		if (s->bricks[b].calm_ns <= now(s))
			calm(s, b);
		if (s->bricks[b].revive_ns <= now(s)) {
			s->bricks[b].revive_ns = UINT64_MAX;
			cluster_brick_start(&s->cluster, b);
		}
	}
	gateway_due(s);
}

/* ---- faults ---- */

void nemesis_stop_brick(struct schedule *s, uint32_t b, bool power)
{
	if (!host_is_up(s->cluster.bricks[b].host))
		return;
	if (power)
		memory_lost(s, b);
	set_bad(s, b);
	cluster_brick_kill(&s->cluster, b, power);
	s->bricks[b].revive_ns = now(s) + some_time(s);
}

void nemesis_kill_gateway(struct schedule *s, uint32_t g)
{
	clients_forget(s, g);
	if (s->guard_turn != 0)
		owner_forgets(s);
	if (host_is_up(s->cluster.gateways[g].host))
		cluster_gateway_kill(&s->cluster, g);
}

void nemesis_power_all(struct schedule *s, bool gateways)
{
	for (uint32_t b = 0; b < s->cluster.n; b++)
		nemesis_stop_brick(s, b, true);
	for (uint32_t g = 0; g < s->cluster.cfg.gateways && gateways; g++)
		nemesis_kill_gateway(s, g);
}

void nemesis_kill_all(struct schedule *s)
{
	for (uint32_t b = 0; b < s->cluster.n; b++)
		nemesis_stop_brick(s, b, false);
}

void nemesis_lose(struct schedule *s, uint32_t bricks)
{
	s->gone |= bricks;
	for (uint32_t m = bricks; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		world_trace(s->world, "b%u never returns", b);
		nemesis_stop_brick(s, b, true);
		s->bricks[b].revive_ns = UINT64_MAX;
	}
}

void nemesis_cut(struct schedule *s, uint32_t b)
{
	set_bad(s, b);
}

static void soon_calm(struct schedule *s, uint32_t b)
{
	if (s->bricks[b].calm_ns == UINT64_MAX)
		s->bricks[b].calm_ns = now(s) + some_time(s);
}

static void disk_lies(struct schedule *s, enum fault f, uint32_t b)
{
	struct disk *d = s->cluster.bricks[b].disk;
	char needle[GFID_TEXT];
	gfid_text(&s->cluster.lun, needle);
	if (prng_chance(&s->prng, 0.3))
		snprintf(needle, sizeof(needle), "csum");
	s->rotten |= MASK(b);
	if (f == FAULT_ROT)
		disk_bit_rot(d, needle);
	else
		disk_lie_once(d, f == FAULT_LOST_WRITE ? DISK_LOSE_WRITE : DISK_MISDIRECT_WRITE, needle);
}

void nemesis_wipe(struct schedule *s, uint32_t b)
{
	memory_lost(s, b);
	nemesis_stop_brick(s, b, false);
	cluster_brick_wipe(&s->cluster, b);
	s->rotten &= ~MASK(b);
}

void nemesis_rot(struct schedule *s, uint32_t b, const char *needle)
{
	s->rotten |= MASK(b);
	disk_bit_rot(s->cluster.bricks[b].disk, needle);
}

/* Faults of one brick; it is up. */
static void brick_fault(struct schedule *s, enum fault f, uint32_t b)
{
	struct disk *d = s->cluster.bricks[b].disk;
	switch (f) {
	case FAULT_KILL:
	case FAULT_POWER:
		nemesis_stop_brick(s, b, f == FAULT_POWER);
		break;
	case FAULT_WIPE:
		nemesis_wipe(s, b);
		break;
	case FAULT_BLOCK:
	case FAULT_BLOCK_ONE_WAY: {
		bool to = prng_chance(&s->prng, 0.5);
		links_block(s, b, f == FAULT_BLOCK || to, f == FAULT_BLOCK || !to);
		set_bad(s, b);
		soon_calm(s, b);
		break;
	}
	case FAULT_CUT:
		set_bad(s, b);
		links_cut(s, b);
		break;
	case FAULT_DELAY:
		links_delay(s, b, prng_below(&s->prng, 30 * NS_PER_MS));
		soon_calm(s, b);
		break;
	case FAULT_SLOW_DISK:
		disk_set_slow(d, 0.3, prng_below(&s->prng, 50 * NS_PER_MS));
		soon_calm(s, b);
		break;
	case FAULT_STUCK_DISK:
		disk_set_slow(d, 1, stuck_time(s));
		s->bricks[b].stuck_ns = UINT64_MAX;
		set_bad(s, b);
		soon_calm(s, b);
		break;
	case FAULT_READ_EIO:
	case FAULT_WRITE_EIO:
	case FAULT_SYNC_EIO:
		disk_fail(d, f == FAULT_READ_EIO ? DISK_FAIL_READ : f == FAULT_WRITE_EIO ? DISK_FAIL_WRITE : DISK_FAIL_SYNC, 1 + (unsigned)prng_below(&s->prng, 3));
		s->bricks[b].may_fail = true;
		s->bricks[b].sync_fails |= f == FAULT_SYNC_EIO;
		if (f == FAULT_READ_EIO) /* a block that was once unreadable counts as rotten until somebody rewrites it */
			s->rotten |= MASK(b);
		set_bad(s, b);
		soon_calm(s, b);
		break;
	case FAULT_NO_SPACE:
		s->no_space_seen = true;
		cluster_brick_fill(&s->cluster, b, prng_below(&s->prng, MIB(4)));
		soon_calm(s, b);
		break;
	default:
		disk_lies(s, f, b);
		break;
	}
}

static bool harmless(enum fault f)
{
	return f == FAULT_DELAY || f == FAULT_SLOW_DISK || f == FAULT_NO_SPACE;
}

/* Faults of everything at once; false: f is not one of them. */
static bool wide_fault(struct schedule *s, enum fault f)
{
	struct sim_gateway *gw = cluster_owner(&s->cluster);
	switch (f) {
	case FAULT_KILL_ALL:
		nemesis_kill_all(s);
		return true;
	case FAULT_POWER_ALL:
		nemesis_power_all(s, prng_chance(&s->prng, 0.5));
		return true;
	case FAULT_CUT_ALL:
		for (uint32_t b = 0; b < s->cluster.n; b++) {
			set_bad(s, b);
			links_cut(s, b);
		}
		return true;
	case FAULT_GATEWAY_KILL:
		for (uint32_t g = 0; g < s->cluster.cfg.gateways; g++)
			if (s->cluster.gateways[g].running && prng_chance(&s->prng, 0.8))
				nemesis_kill_gateway(s, g);
		return true;
	case FAULT_GATEWAY_CLOSE:
		if (gw != NULL)
			gw->stop = true;
		if (gw != NULL && s->guard_turn != 0)
			owner_forgets(s);
		return true;
	case FAULT_GATEWAY_STEAL:
		if (!cluster_opening(&s->cluster))
			s->gateway_next_ns = now(s);
		return true;
	case FAULT_GATEWAY_SPLIT:
		gateway_split(s);
		return true;
	case FAULT_GATEWAY_DUEL: /* the first opening is for one: it makes the LUN */
		if (s->guard_turn != 0)
			owner_forgets(s);
		for (uint32_t g = 0; g < s->cluster.cfg.gateways && s->cluster.created; g++)
			if (!s->cluster.gateways[g].running)
				cluster_gateway_start(&s->cluster, g);
		return true;
	case FAULT_AMBUSH:
		ambush_arm(s);
		return true;
	default:
		return false;
	}
}

static enum fault fault_pick(struct schedule *s)
{
	double sum = 0;
	for (unsigned f = 0; f < FAULT_N; f++)
		sum += s->fault_weight[f];
	double at = sum * (double)prng_below(&s->prng, 1000000) / 1000000.0;
	for (unsigned f = 0; f < FAULT_N; f++) {
		if (at < s->fault_weight[f])
			return (enum fault)f;
		at -= s->fault_weight[f];
	}
	return FAULT_N;
}

static void new_fault(struct schedule *s)
{
	enum fault f = fault_pick(s);
	if (f == FAULT_N || (s->live && mask_count(s->bad) > s->cluster.tolerates))
		return; /* nothing is switched on, or the cluster is getting up after all of it fell */
	if ((f == FAULT_KILL_ALL || f == FAULT_POWER_ALL || f == FAULT_CUT_ALL) && !nemesis_may_break_all(s))
		return;
	if (mask_count(cluster_serving(&s->cluster)) < s->cluster.n / 2 || (cluster_opening(&s->cluster) && prng_chance(&s->prng, 0.8)))
		return; /* those that lie down do not fall; a takeover is disturbed now and then, not always */
	if (!wide_fault(s, f)) {
		uint32_t b = (uint32_t)prng_below(&s->prng, s->cluster.n);
		if (!host_is_up(s->cluster.bricks[b].host) || (!harmless(f) && !nemesis_may_break(s, b)))
			return;
		world_trace(s->world, "fault: %s of b%u", fault_name(f), b);
		brick_fault(s, f, b);
	} else {
		world_trace(s->world, "fault: %s", fault_name(f));
	}
	s->result->faults[f]++;
	s->faults_done++;
}

/* ---- face ---- */

/* I12: what a brick promised to write fits on its disk. */
static void check_space(struct schedule *s)
{
	for (uint32_t b = 0; b < s->cluster.n; b++) {
		struct disk *d = s->cluster.bricks[b].disk;
		uint64_t promised = cluster_brick_promised(&s->cluster, b);
		if (promised > 0 && disk_used(d) + promised > disk_capacity(d))
			schedule_violation(s, "b%u promised %llu bytes more than its disk holds", b,
					   (unsigned long long)(disk_used(d) + promised - disk_capacity(d)));
	}
}

void nemesis_step(struct schedule *s, bool faults)
{
	ends_due(s);
	notice(s);
	check_space(s);
	if (faults && s->faults_done < s->faults_wanted && (s->cluster.created || s->early_faults) && prng_chance(&s->prng, (double)NS_PER_MS * 5 / (double)s->fault_gap_ns))
		new_fault(s);
}

void nemesis_end(struct schedule *s)
{
	s->ambush.armed = false;
	for (uint32_t b = 0; b < s->cluster.n; b++) {
		s->bricks[b].calm_ns = min_u64(s->bricks[b].calm_ns, now(s));
		if (s->bricks[b].revive_ns != UINT64_MAX)
			s->bricks[b].revive_ns = now(s);
	}
	if (s->gateway_next_ns != UINT64_MAX)
		s->gateway_next_ns = now(s);
}

bool nemesis_whole(struct schedule *s)
{
	struct sim_gateway *gw = cluster_owner(&s->cluster);
	struct ec_domain_status st;
	uint32_t there = mask_all(s->cluster.n) & ~s->gone;
	if (gw == NULL || gw->stop || cluster_opening(&s->cluster) || cluster_serving(&s->cluster) != there || (s->bad != 0 && s->gone == 0))
		return false;
	ec_domain_status(gw->domain, &st);
	if (s->gone != 0) /* an idle LUN need not have noticed */
		return st.serving && !st.deposed;
	return st.serving && !st.deposed && st.insync == there && !oracle_in_rollback(s->oracle);
}
