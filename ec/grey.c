/* grey.c - bricks that answer, but late: how late, when to read around them, when to go on without them. PROTOCOL.md, A slow brick; H27.
 *
 *   every READ, PREP and PING ended --> running mean of its brick; its time counts as late when it was LATE_NS and more, and longer than
 *                                       what the brick has been given to write excuses at PACE: of bricks alike the one that is last
 *                                       has the whole queue before it, and is not ill
 *   brick_watch, twice a second     --> a quarter of the time spent in late answers, far above the median of the others, LOOKS times in a
 *                                       row: ejected from every domain, as a brick that was lost; healed and taken back after a
 *                                       rest, which doubles each time
 *                                   --> a READ or PREP is as old as a silence may last, though pings are answered: its disk is stuck.
 *                                       Ejected at once
 *
 * All in-sync participants must answer a write, so one brick with some late answers slows all writes; without it they are degraded, which
 * costs little. G1 only from a complete view, and only when more than K members and write_min stay: a grey brick is better than none.
 * G2 one ejection per second and set, and a stuck one only when no other is stuck: when everything is slow, it is not the bricks. A brick
 * that answers nothing is set.c's business: it is cut off, and back as soon as it answers. */
#include "ec/ec_priv.h"

#define MEAN_SHIFT     5u  /* weight of a sample: 1/32 */
#define LATE_NS        (20 * NS_PER_MS)
#define PACE           MIB(32) /* a second: less is late, whatever was asked */
#define LATE_SHARE     4u  /* of the time since the last look: one part in so many */
#define LATE_TIMES     4u  /* the median of the others */
#define LOOKS          3u
#define REST_NS        (30 * NS_PER_S)
#define REST_DOUBLINGS 4u
#define EJECT_EVERY_NS (1 * NS_PER_S)
#define LOOK_MIN_NS    (250 * NS_PER_MS)
#define HEDGE_MIN_NS   (20 * NS_PER_MS)
#define HEDGE_TIMES    4u

static uint64_t excused_ns(const struct ec_brick *b)
{
	return b->up ? rpc_client_outstanding_bytes(b->client) * NS_PER_S / PACE : 0;
}

void ec_grey_sample(struct ec_brick *b, uint64_t ns)
{
	b->mean_ns = b->mean_ns ? b->mean_ns + (ns >> MEAN_SHIFT) - (b->mean_ns >> MEAN_SHIFT) : ns;
	if (ns >= LATE_NS && ns >= LATE_NS + excused_ns(b))
		b->late_ns += ns;
}

uint64_t ec_grey_hedge_ns(const struct ec_brick *b)
{
	return max_u64(HEDGE_TIMES * b->mean_ns, HEDGE_MIN_NS);
}

void ec_grey_forget(struct ec_brick *b)
{
	b->mean_ns = b->late_ns = b->late_before_ns = 0;
	b->grey_looks = 0;
	b->looked_ns = loop_now_ns();
}

/* Of the lateness of the others that are up. */
static uint64_t median_of_others(const struct ec_set *s, uint32_t but)
{
	uint64_t v[EC_MAX_BRICKS];
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->geo.n; i++) {
		if (i == but || !s->bricks[i].up)
			continue;
		uint32_t at = n++;
		uint64_t late = max_u64(s->bricks[i].late_ns, s->bricks[i].late_before_ns); /* they look at other moments */
		for (; at > 0 && v[at - 1] > late; at--)
			v[at] = v[at - 1];
		v[at] = late;
	}
	return n ? v[n / 2] : 0;
}

static bool is_grey(const struct ec_brick *b, uint64_t elapsed_ns)
{
	return b->late_ns * LATE_SHARE >= elapsed_ns && b->late_ns >= LATE_TIMES * median_of_others(b->set, b->index);
}

/* How long what it was asked to do for clients has waited. */
static uint64_t waits_ns(const struct ec_brick *b)
{
	return b->up ? rpc_client_oldest_of_ns(b->client, UINT64_C(1) << BP_READ | UINT64_C(1) << BP_PREP) : 0;
}

static bool is_stuck(const struct ec_brick *b)
{
	const struct ec_set *s = b->set;
	unsigned n = 0;

	if (waits_ns(b) < s->cfg.stall_ns)
		return false;
	for (uint32_t i = 0; i < s->geo.n; i++)
		n += waits_ns(&s->bricks[i]) >= s->cfg.stall_ns;
	return n == 1;
}

/* G1 */
static bool may_eject(const struct ec_domain *d, uint32_t b)
{
	uint32_t all = mask_all(geo_of(d)->n), stay = mask_count(all) - 1;

	return d->state == EC_SERVING && !d->opt.namespace_domain && !d->view_busy && d->view.insync == all && d->live == all &&
	       mask_has(d->live, b) && stay > geo_of(d)->k && stay >= d->set->cfg.write_min;
}

static uint64_t rest_ns(const struct ec_brick *b)
{
	uint64_t rest = b->set->cfg.grey_rest_ns ? b->set->cfg.grey_rest_ns : REST_NS;

	return rest << (b->ejections < REST_DOUBLINGS ? b->ejections : REST_DOUBLINGS);
}

static void eject(struct ec_brick *b)
{
	struct ec_set *s = b->set;
	unsigned n = 0;

	list_for_each_safe(d, &s->domains, struct ec_domain, node) {
		if (!may_eject(d, b->index))
			continue;
		n++;
		d->count.ejections++;
		rpc_client_cancel_of(b->client, d); /* whoever waits for it waits for the smaller view now */
		ec_domain_suspect(d, b->index, -ETIMEDOUT);
		d->retry_ns[b->index] = loop_now_ns() + rest_ns(b);
	}
	if (!n)
		return;
	s->eject_ns = loop_now_ns() + EJECT_EVERY_NS; /* G2 */
	b->ejections++;
	ec_grey_forget(b);
}

void ec_grey_look(struct ec_brick *b)
{
	uint64_t now = loop_now_ns();

	if (now - b->looked_ns < LOOK_MIN_NS)
		return;
	b->grey_looks = is_grey(b, now - b->looked_ns) ? b->grey_looks + 1 : 0;
	b->looked_ns = now;
	b->late_before_ns = b->late_ns;
	b->late_ns = 0;
	if ((b->grey_looks >= LOOKS || is_stuck(b)) && now >= b->set->eject_ns)
		eject(b);
}
