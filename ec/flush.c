/* flush.c - making what was acknowledged durable, and moving the floor. PROTOCOL.md, Flush.
 *
 *   SYNC(floor)           to every member and every healing brick, all queued without suspending: a consistent cut,
 *                         behind all earlier COMMITs
 *   all members answered  (whoever did not was dropped by a view change meanwhile): all below floor is stable
 *   STABLE(floor)         one-way: bricks may checkpoint it
 *
 * One SYNC runs at a time; flushes that come while it runs share the next one. In the background a SYNC runs a second
 * after something was committed, or as soon as much is waiting.
 *
 * Nothing written for a while after that: the view says that everything is durable (PROTOCOL.md, Takeover).
 *
 * F1 a ticket is done only by a SYNC that began after it was taken. F2 the floor only passes decided tx, and only when
 * no view change is under way (I5, I6). */
#include "ec/ec_priv.h"

#define BACKGROUND_NS (1 * NS_PER_S)
#define BACKGROUND_BYTES MIB(16)
#define BACKGROUND_TX (EC_RING / 2)

struct sync_round {
	struct rpc_call calls[EC_MAX_BRICKS];
	struct rpc_group g;
	uint32_t targets;
	uint64_t epoch, floor_n;
};

/* No suspend inside: the frames are one cut of the domain. */
static void round_start(struct ec_domain *d, struct sync_round *r)
{
	struct bp_floor item = {.floor = {.epoch = d->epoch, .n = d->undecided_n}};
	struct bp_floor_args args = {.items = {.items_len = 1, .items_val = &item}};

	r->epoch = d->epoch;
	r->floor_n = d->undecided_n;
	r->targets = d->live & (d->view.insync | d->healing);
	d->unsynced_bytes = 0;
	gfid_to_wire(&d->gfid, item.domain);
	rpc_group_init(&r->g);
	for (uint32_t m = r->targets; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		ec_call_init(&r->calls[b], BP_SYNC, (xdrproc_t)xdr_bp_floor_args, &args, NULL, NULL);
		ec_call_start(d, b, &r->calls[b], &r->g);
	}
}

static uint32_t round_wait(struct ec_domain *d, struct sync_round *r) YIELDS
{
	uint32_t ok = 0;

	rpc_group_wait_all(&r->g);
	for (uint32_t m = r->targets; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		int rc = r->calls[b].rc;
		if (rc == 0)
			ok |= MASK(b);
		else if (d->epoch != r->epoch || rc == -MYFS_E_GONE)
			continue;
		else if (rc == -MYFS_E_FENCED)
			ec_domain_depose(d);
		else
			ec_domain_suspect(d, b, rc);
	}
	return ok;
}

static void post_stable(struct ec_domain *d, uint32_t to)
{
	struct bp_floor item = {.floor = {.epoch = d->epoch, .n = d->stable_n}};
	struct bp_floor_args args = {.items = {.items_len = 1, .items_val = &item}};

	gfid_to_wire(&d->gfid, item.domain);
	for (uint32_t m = to & d->live; m; m &= m - 1) {
		struct ec_brick *b = &d->set->bricks[__builtin_ctz(m)];
		ec_decide_flush(d, b->index);
		if (b->up)
			rpc_post(b->client, BP_STABLE, (xdrproc_t)xdr_bp_floor_args, &args, NULL, 0);
	}
}

/* One SYNC that counts. 0, -EAGAIN (a member was lost: again, with the smaller view), -MYFS_E_FENCED, -MYFS_E_QUORUM.
 */
static int sync_once(struct ec_domain *d, uint64_t deadline_ns) YIELDS
{
	struct sync_round r;
	int rc = ec_domain_ready_internal(d, false, deadline_ns);

	if (rc)
		return rc;
	round_start(d, &r);
	uint32_t ok = round_wait(d, &r);
	for (;;) {
		if (d->state == EC_DEPOSED || d->state == EC_CLOSING)
			return -MYFS_E_FENCED;
		if (d->epoch != r.epoch || d->state != EC_SERVING)
			return -EAGAIN; /* after the takeover everything is durable; the next round has little to do */
		if (!d->view_busy && !(d->view.insync & ~ok))
			break;
		if (!d->view_busy && (d->view.insync & d->live & ~ok))
			return -EAGAIN; /* somebody joined meanwhile */
		if (loop_now_ns() >= deadline_ns)
			return -MYFS_E_QUORUM;
		waitq_wait_until(&d->wq, deadline_ns);
	}
	if (r.floor_n > d->stable_n) {
		ec_floor_release(d, r.floor_n); /* F2 */
		post_stable(d, ok);
		ec_idle_arm(d);
		ec_domain_changed(d);
	}
	return 0;
}

static void sync_run(void *arg)
{
	struct ec_domain *d = arg;

	while (d->sync_done < d->sync_asked && d->state != EC_DEPOSED && d->state != EC_CLOSING) {
		uint64_t ticket = d->sync_begun = d->sync_asked; /* F1: those that come from now on want the next one */
		int rc;
		do
			rc = sync_once(d, loop_now_ns() + d->set->cfg.io_timeout_ns);
		while (rc == -EAGAIN);
		d->sync_rc = rc;
		d->sync_done = ticket;
		waitq_wake_all(&d->sync_wq);
	}
	d->sync_runs = false;
	d->sync_done = d->sync_asked;
	if (d->stable_n < d->next_n && d->state == EC_SERVING)
		timer_arm(&d->sync_timer, loop_now_ns() + BACKGROUND_NS);
	ec_domain_changed(d);
}

static void sync_spawn(struct ec_domain *d)
{
	if (d->sync_runs || d->state == EC_CLOSING || d->state == EC_DEPOSED)
		return;
	d->sync_runs = true;
	if (fiber_spawn(loop_self(), "ec sync", sync_run, d)) {
		d->sync_runs = false;
		timer_arm(&d->sync_timer, loop_now_ns() + BACKGROUND_NS / 10);
	}
}

void ec_sync_start(struct ec_domain *d)
{
	if (d->sync_asked == d->sync_begun)
		d->sync_asked++;
	sync_spawn(d);
}

void ec_sync_timer(void *arg)
{
	struct ec_domain *d = arg;

	if (d->state == EC_SERVING && d->stable_n < d->next_n)
		ec_sync_start(d);
	else if (d->sync_asked > d->sync_done)
		sync_spawn(d);
}

/* ---- idle ---- */

void ec_idle_arm(struct ec_domain *d)
{
	if (d->stable_n == d->next_n && !d->view.clean && !d->opt.namespace_domain)
		timer_arm(&d->idle_timer, loop_now_ns() + d->set->cfg.idle_clean_ns);
}

static void idle_run(void *arg)
{
	struct ec_domain *d = arg;

	(void)ec_view_clean(d); /* if not now, then when the domain is served again, or after the next write */
	ec_domain_leave(d);
}

/* Whoever has written meanwhile is followed by a SYNC that arms it again. */
void ec_idle_timer(void *arg)
{
	struct ec_domain *d = arg;

	if (d->state != EC_SERVING || d->stable_n != d->next_n || d->view.clean)
		return;
	if (d->reserved || d->view_busy || ec_replays(d) || ec_domain_enter(d)) {
		ec_idle_arm(d);
		return;
	}
	if (fiber_spawn(loop_self(), "ec idle", idle_run, d))
		ec_domain_leave(d);
}

void ec_sync_note(struct ec_domain *d, uint64_t bytes)
{
	uint64_t limit = BACKGROUND_BYTES;

	d->unsynced_bytes += bytes;
	for (uint32_t m = d->view.insync & d->live; m; m &= m - 1)
		limit = min_u64(limit, d->set->bricks[__builtin_ctz(m)].credit_bytes / 3);
	if (d->unsynced_bytes >= limit || d->next_n - d->stable_n >= BACKGROUND_TX) {
		if (!d->sync_runs)
			ec_sync_start(d);
	} else if (!d->sync_timer.armed && !d->sync_runs) {
		timer_arm(&d->sync_timer, loop_now_ns() + BACKGROUND_NS);
	}
}

int ec_domain_sync(struct ec_domain *d, uint64_t deadline_ns) YIELDS
{
	if (d->state == EC_DEPOSED || d->state == EC_CLOSING)
		return -MYFS_E_FENCED;
	uint64_t ticket = d->sync_begun + 1;

	if (d->sync_asked < ticket)
		d->sync_asked = ticket;
	sync_spawn(d);
	while (d->sync_done < ticket) {
		if (d->state == EC_DEPOSED || d->state == EC_CLOSING)
			return -MYFS_E_FENCED;
		if (loop_now_ns() >= deadline_ns)
			return -MYFS_E_QUORUM;
		waitq_wait_until(&d->sync_wq, deadline_ns);
	}
	if (d->state == EC_DEPOSED)
		return -MYFS_E_FENCED;
	/* A later round may have set sync_rc meanwhile: it covers this one as well. */
	return d->sync_rc;
}

/* F3 a client's flush counts when no takeover came between and nothing waits to be replayed: else what it stands for may not be
 * written again yet. */
int ec_domain_flush(struct ec_domain *d, uint64_t deadline_ns) YIELDS
{
	uint64_t epoch;
	int rc;

	do {
		rc = ec_domain_ready(d, false, deadline_ns);
		if (rc)
			return rc;
		epoch = d->epoch;
		if (d->stable_n == d->next_n)
			return 0; /* nothing was written since the last one */
		rc = ec_domain_sync(d, deadline_ns);
	} while (!rc && (d->epoch != epoch || ec_replays(d)));
	return rc;
}

int ec_flush(struct ec_domain *d) YIELDS
{
	int rc = ec_domain_enter(d);

	if (rc)
		return rc;
	d->count.flushes++;
	rc = ec_domain_flush(d, ec_deadline(d));
	if (!rc && d->lost_acked) {
		d->lost_acked = false; /* said once, as file systems expect of a device */
		rc = -EIO;
	}
	ec_domain_leave(d);
	return rc;
}
