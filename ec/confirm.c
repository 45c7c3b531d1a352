/* confirm.c - is this gateway still the owner? The fence of reads. PROTOCOL.md, A read; H13.
 *
 *   begin      the read takes a stamp; calls started from now on carry it, or a later one
 *   answers    whatever brick b answers to a call of the domain tells b's promise: our epoch = b confirms that stamp
 *   wait       done when N-W+1 bricks have confirmed the read's stamp: whoever wants to own the domain needs one of them first
 *
 * Under load the answers to other requests are enough. Few reads at a time are accompanied by PINGs, sent at the end of the loop
 * iteration to just as many bricks as are missing; many wait for their own bytes first and ask only for what is then still
 * missing. What a brick owes for LATE_NS is asked of all others.
 *
 * C1 heard[b] only grows. C2 tickets wait in the order of their stamps. C3 only answers with our present epoch
 * count, and a ticket is good for the epoch it was taken under. */
#include "ec/ec_priv.h"

#define EAGER_READS 3u              /* up to so many reads at once are worth PINGs of their own */
#define LATE_NS     (20 * NS_PER_MS)

static bool fence_is_on(const struct ec_domain *d) { return d->set->cfg.read_fence != EC_READ_FENCE_OFF && !MUTATED(H13); }

static unsigned needed(const struct ec_domain *d) { return geo_of(d)->n - geo_of(d)->w + 1; }

static unsigned count_from(const struct ec_domain *d, const uint64_t *stamps, uint64_t from)
{
	unsigned n = 0;

	for (uint32_t b = 0; b < geo_of(d)->n; b++)
		n += stamps[b] >= from;
	return n;
}

static bool confirmed(const struct ec_domain *d, uint64_t stamp)
{
	return count_from(d, d->confirm->heard, stamp) >= needed(d);
}

/* ---- answers ---- */

static void wake_confirmed(struct ec_domain *d)
{
	struct ec_confirm *c = d->confirm;

	while (!list_empty(&c->waiting)) {
		struct ec_ticket *t = list_first(&c->waiting, struct ec_ticket, node);
		if (!confirmed(d, t->stamp))
			return; /* C2 */
		list_del(&t->node);
		fiber_wake(t->fiber);
	}
}

void ec_confirm_heard(struct ec_domain *d, uint32_t b, uint64_t stamp, uint64_t epoch, int rc)
{
	struct ec_confirm *c = d->confirm;

	if (epoch == d->epoch && epoch && stamp > c->heard[b]) {
		c->heard[b] = stamp;
		wake_confirmed(d);
	}
	if (rc < 0 && !list_empty(&c->waiting))
		loop_defer(&c->ask); /* it was counted on: somebody else then */
}

/* ---- questions ---- */

void ec_confirm_ping_ended(struct ec_domain *d, const struct rpc_call *call)
{
	d->confirm->pings[call->peer].out = false;
	if (call->rc == 0 && call->epoch > d->epoch && d->state == EC_SERVING)
		ec_domain_depose(d);
	if (!list_empty(&d->confirm->waiting))
		loop_defer(&d->confirm->ask); /* it may have answered for older reads only */
}

static void ping_send(struct ec_domain *d, uint32_t b)
{
	struct ec_ping *p = &d->confirm->pings[b];

	gfid_to_wire(&d->gfid, p->args.domain);
	ec_call_init(&p->call, BP_PING, (xdrproc_t)xdr_bp_ping_args, &p->args, (xdrproc_t)xdr_bp_ping_res, &p->res);
	p->out = true;
	d->count.pings++;
	if (!ec_call_start(d, b, &p->call, &d->confirm->group))
		p->out = false;
}

/* The one to ask next: a neighbour of somebody who is asked anyway (one process to wake instead of two), else in turn. */
static uint32_t pick(const struct ec_domain *d, uint32_t from, uint32_t asked)
{
	uint32_t n = geo_of(d)->n, turn = d->confirm->turn % n;

	for (uint32_t m = from; m; m &= m - 1)
		if (d->set->bricks[__builtin_ctz(m)].neighbours & asked)
			return (uint32_t)__builtin_ctz(m);
	for (uint32_t i = 0; i < n; i++)
		if (mask_has(from, (turn + i) % n))
			return (turn + i) % n;
	return (uint32_t)__builtin_ctz(from);
}

/* PINGs to as many more as stamp needs; all: to everybody who has not answered. */
static void ask(struct ec_domain *d, uint64_t stamp, bool all)
{
	struct ec_confirm *c = d->confirm;
	uint32_t can = 0, asked = 0;

	for (uint32_t b = 0; b < geo_of(d)->n; b++) {
		bool owes = c->asked[b] >= stamp && (!all || c->pings[b].out);
		if (c->heard[b] >= stamp || owes)
			asked |= MASK(b);
		else if (mask_has(d->live, b) && !c->pings[b].out)
			can |= MASK(b);
	}
	while (can && (all || mask_count(asked) < needed(d))) {
		uint32_t b = pick(d, can, asked);
		can &= ~MASK(b);
		asked |= MASK(b);
		ping_send(d, b);
	}
}

static void ask_now(void *arg)
{
	struct ec_domain *d = arg;
	struct ec_confirm *c = d->confirm;

	if (d->state != EC_SERVING)
		return;
	c->turn++;
	uint64_t stamp = c->eager;
	if (!list_empty(&c->waiting)) {
		stamp = max_u64(stamp, list_entry(c->waiting.prev, struct ec_ticket, node)->stamp);
		if (!c->late.armed)
			timer_arm(&c->late, loop_now_ns() + LATE_NS);
	}
	ask(d, stamp, false);
}

static void ask_late(void *arg)
{
	struct ec_domain *d = arg;
	struct ec_confirm *c = d->confirm;

	if (list_empty(&c->waiting) || d->state != EC_SERVING)
		return;
	ask(d, list_first(&c->waiting, struct ec_ticket, node)->stamp, true);
	timer_arm(&c->late, loop_now_ns() + LATE_NS);
}

/* ---- reads ---- */

void ec_confirm_begin(struct ec_domain *d, struct ec_ticket *t)
{
	struct ec_confirm *c = d->confirm;

	*t = (struct ec_ticket){.epoch = d->epoch};
	list_init(&t->node);
	if (!fence_is_on(d))
		return;
	t->stamp = ++c->stamp;
	if (++c->reads <= EAGER_READS) {
		c->eager = t->stamp;
		loop_defer(&c->ask);
	}
}

void ec_confirm_end(struct ec_domain *d, struct ec_ticket *t)
{
	if (t->stamp)
		d->confirm->reads--;
}

/* Behind those with smaller stamps: mostly at the end. */
static void ticket_queue(struct ec_confirm *c, struct ec_ticket *t)
{
	struct list *at = c->waiting.prev;

	while (at != &c->waiting && list_entry(at, struct ec_ticket, node)->stamp > t->stamp)
		at = at->prev;
	list_insert_between(&t->node, at, at->next);
}

int ec_confirm_wait(struct ec_domain *d, struct ec_ticket *t, uint64_t deadline_ns) YIELDS
{
	for (;;) {
		if (d->state == EC_DEPOSED || d->state == EC_CLOSING)
			return -MYFS_E_FENCED;
		if (d->epoch != t->epoch)
			return -EAGAIN; /* C3; it may even have taken back what was read */
		if (!t->stamp || confirmed(d, t->stamp))
			return 0;
		if ((d->set->gives_up && d->state != EC_SERVING) || loop_now_ns() >= deadline_ns)
			return -MYFS_E_QUORUM;
		t->fiber = fiber_self();
		ticket_queue(d->confirm, t);
		loop_defer(&d->confirm->ask);
		fiber_park_until(deadline_ns);
		if (list_linked(&t->node))
			list_del(&t->node);
	}
}

void ec_confirm_asked(struct ec_domain *d, uint32_t b, struct rpc_call *call)
{
	struct ec_confirm *c = d->confirm;

	call->tag = c->stamp;
	if (call->type == BP_READ || call->type == BP_PING)
		c->asked[b] = c->stamp;
}

void ec_confirm_lost(struct ec_domain *d, uint32_t b)
{
	d->confirm->asked[b] = d->confirm->heard[b];
	d->confirm->pings[b].out &= !d->confirm->pings[b].call.ended; /* it may have been cancelled */
	if (!list_empty(&d->confirm->waiting))
		loop_defer(&d->confirm->ask);
}

void ec_confirm_look_again(struct ec_domain *d)
{
	struct ec_confirm *c = d->confirm;

	while (!list_empty(&c->waiting)) {
		struct ec_ticket *t = list_first(&c->waiting, struct ec_ticket, node);
		list_del(&t->node);
		fiber_wake(t->fiber);
	}
}

/* ---- life ---- */

int ec_confirm_new(struct ec_domain *d)
{
	struct ec_confirm *c = calloc(1, sizeof(*c) + geo_of(d)->n * sizeof(c->pings[0]));

	if (!c)
		return -ENOMEM;
	list_init(&c->waiting);
	rpc_group_init(&c->group);
	deferred_init(&c->ask, ask_now, d);
	timer_init(&c->late, ask_late, d);
	d->confirm = c;
	return 0;
}

void ec_confirm_free(struct ec_domain *d)
{
	struct ec_confirm *c = d->confirm;

	if (!c)
		return;
	loop_defer_cancel(&c->ask);
	timer_cancel(&c->late);
	for (uint32_t b = 0; b < geo_of(d)->n; b++)
		if (c->pings[b].out)
			rpc_call_cancel(&c->pings[b].call);
	free(c);
	d->confirm = NULL;
}
