/* ambush.c - faults at moments of the protocol: something dies or is cut when the n-th message of a kind arrives, before or shortly after it is handled. */
#include "ec/ec_priv.h"
#include "tests/sim/schedule.h"

#define AFTER_NS (300 * 1000) /* "shortly after": up to */

enum action { KILL_GATEWAY, KILL_BRICK, POWER_BRICK, KILL_BOTH, CUT, CUT_AND_KILL_GATEWAY, POWER_ALL, ACTIONS };

static const uint16_t TYPES[] = {BP_FENCE, BP_VIEW, BP_PREP, BP_COMMIT, BP_SYNC, BP_STABLE, BP_RESOLVE, BP_REJOIN, BP_HEALW, BP_CLEAR, BP_VIEW, BP_RESOLVE, BP_COMMIT};

static void spring(void *arg)
{
	struct schedule *s = arg;
	struct ambush *a = &s->ambush;
	bool may = nemesis_may_break(s, a->brick);
	if (s->quiesce || (s->live && mask_count(s->bad) > s->cluster.tolerates))
		return;
	world_trace(s->world, "ambush: message %u%s of g%u and b%u, action %u", a->type, a->reply ? " answered" : "", a->gateway, a->brick, a->action);
	if (a->action == KILL_GATEWAY || a->action == KILL_BOTH || a->action == CUT_AND_KILL_GATEWAY)
		nemesis_kill_gateway(s, a->gateway);
	if ((a->action == KILL_BRICK || a->action == POWER_BRICK || a->action == KILL_BOTH) && may)
		nemesis_stop_brick(s, a->brick, a->action == POWER_BRICK);
	if (a->action == POWER_ALL && nemesis_may_break_all(s))
		nemesis_power_all(s, prng_chance(&s->prng, 0.5));
}

static bool who(struct schedule *s, const struct message *m)
{
	const struct host *gw = m->reply ? m->to : m->from, *b = m->reply ? m->from : m->to;
	s->ambush.brick = s->ambush.gateway = UINT32_MAX;
	for (uint32_t i = 0; i < s->cluster.n; i++)
		if (s->cluster.bricks[i].host == b)
			s->ambush.brick = i;
	for (uint32_t i = 0; i < s->cluster.cfg.gateways; i++)
		if (s->cluster.gateways[i].host == gw)
			s->ambush.gateway = i;
	return s->ambush.brick != UINT32_MAX && s->ambush.gateway != UINT32_MAX;
}

static enum message_fate on_message(void *arg, const struct message *m)
{
	struct schedule *s = arg;
	struct ambush *a = &s->ambush;
	if (!a->armed || m->type != a->type || m->reply != a->reply || a->count-- > 0 || !who(s, m))
		return MESSAGE_ARRIVES;
	a->armed = false;
	bool cut = (a->action == CUT || a->action == CUT_AND_KILL_GATEWAY) && nemesis_may_break(s, a->brick);
	if (cut)
		nemesis_cut(s, a->brick);
	world_after(s->world, NULL, prng_chance(&s->prng, 0.5) ? 0 : prng_below(&s->prng, AFTER_NS), spring, s);
	return cut ? MESSAGE_CUTS : MESSAGE_ARRIVES;
}

void ambush_init(struct schedule *s)
{
	world_on_message(on_message, s);
}

void ambush_arm(struct schedule *s)
{
	struct ambush *a = &s->ambush;
	a->type = TYPES[prng_below(&s->prng, ARRAY_LEN(TYPES))];
	a->reply = a->type != BP_COMMIT && a->type != BP_STABLE && prng_chance(&s->prng, 0.4);
	a->count = (unsigned)prng_below(&s->prng, 2 * s->cluster.n);
	a->action = (unsigned)prng_below(&s->prng, ACTIONS);
	a->armed = true;
	if (prng_chance(&s->prng, 0.5)) { /* most of them speak of takeovers and views: make one happen */
		if (prng_chance(&s->prng, 0.5))
			s->gateway_next_ns = world_now_ns(s->world);
		else if (nemesis_may_break_all(s))
			nemesis_power_all(s, true);
	}
}
