/* domain.c - one owned object on one set: its state, who may enter, and the keeper that reacts to what happens to
 * bricks.
 *
 *            takeover            a member is lost, enough stay: view change, still serving
 *   OPENING ----------> SERVING <--+
 *                        |   ^
 *      fewer than K      |   | bricks return: takeover under the next epoch
 *      members or W      v   |
 *      promises         STALLED          any state --FENCED--> DEPOSED        any state --close--> CLOSING
 *
 * Everybody reports facts (brick down, brick suspect, fenced); only the keeper fiber acts on them, one action at a
 * time, so that view changes and takeovers never race. It exists only while there is something to do.
 *
 * D1 live(b) implies: b's present connection got FENCE with our epoch and our newest view, and every later frame. A
 * member of the view that is not live never becomes live again without being dropped and healed, or a takeover. D2
 * healing is a subset of live & ~insync. D3 state SERVING implies |insync & live| >= K at the last look, and that the
 * view is READY on W bricks. */
#include "ec/ec_priv.h"

#define RETRY_MIN_NS (200 * NS_PER_MS)
#define RETRY_MAX_NS (5 * NS_PER_S)
#define GRACE_NS (300 * NS_PER_MS)  /* others of the set are given this long to return together */
#define CLOSE_NS (5 * NS_PER_S)
#define FIRST_TRY_NS (1 * NS_PER_S)

/* ---- facts ---- */

void ec_domain_changed(struct ec_domain *d)
{
	waitq_wake_all(&d->wq);
	waitq_wake_all(&d->set->pool_wq);
	waitq_wake_all(&d->sync_wq);
	ec_confirm_look_again(d);
}

static void lose(struct ec_domain *d, uint32_t b)
{
	bool was_live = mask_has(d->live, b);

	d->live &= ~MASK(b);
	d->healing &= ~MASK(b);
	ec_confirm_lost(d, b);
	if (was_live && !mask_has(d->view.insync, b))
		ec_heal_brick_lost(d, b);
}

void ec_domain_brick_down(struct ec_domain *d, uint32_t b)
{
	ec_tx_forget_credit(d, b);
	d->retry_ns[b] = 0;
	lose(d, b);
	ec_domain_event(d);
}

void ec_domain_suspect(struct ec_domain *d, uint32_t b, int rc)
{
	if (!mask_has(d->live, b))
		return;
	uint64_t pause = RETRY_MIN_NS << (d->misbehaved[b] < 5 ? d->misbehaved[b] : 5);
	d->misbehaved[b]++;
	d->retry_ns[b] = loop_now_ns() + min_u64(pause, RETRY_MAX_NS);
	err_set(&d->last_error, rc < 0 ? rc : -EIO, "%s: %s", d->set->cfg.bricks[b].label, err_name(rc));
	lose(d, b);
	ec_domain_event(d);
}

void ec_domain_depose(struct ec_domain *d)
{
	if (d->state == EC_DEPOSED || d->state == EC_CLOSING)
		return;
	d->state = EC_DEPOSED;
	d->live = d->healing = 0;
	for (uint32_t b = 0; b < geo_of(d)->n; b++)
		ec_heal_brick_lost(d, b);
	ec_domain_event(d);
}

void ec_domain_stall(struct ec_domain *d)
{
	if (d->state != EC_SERVING)
		return;
	d->state = EC_STALLED;
	ec_domain_event(d);
}

/* ---- waiting to be served ---- */

bool ec_domain_may_write(const struct ec_domain *d)
{
	return d->state == EC_SERVING && (!d->view_busy || MUTATED(H29)) && mask_count(d->view.insync) >= d->set->cfg.write_min;
}

int ec_domain_ready(struct ec_domain *d, bool write, uint64_t deadline_ns) YIELDS
{
	for (;;) {
		int rc = ec_domain_ready_internal(d, write, deadline_ns);
		if (rc || !ec_replays(d))
			return rc;
		if (d->set->gives_up || loop_now_ns() >= deadline_ns)
			return -MYFS_E_QUORUM;
		waitq_wait_until(&d->wq, deadline_ns);
	}
}

int ec_domain_ready_internal(struct ec_domain *d, bool write, uint64_t deadline_ns) YIELDS
{
	for (;;) {
		if (d->state == EC_DEPOSED || d->state == EC_CLOSING)
			return -MYFS_E_FENCED;
		if (write ? ec_domain_may_write(d) : d->state == EC_SERVING)
			return 0;
		if ((d->set->gives_up && d->state != EC_SERVING) || loop_now_ns() >= deadline_ns)
			return -MYFS_E_QUORUM;
		waitq_wait_until(&d->wq, deadline_ns);
	}
}

int ec_domain_enter(struct ec_domain *d)
{
	if (d->state == EC_DEPOSED || d->state == EC_CLOSING)
		return -MYFS_E_FENCED;
	d->active++;
	return 0;
}

void ec_domain_leave(struct ec_domain *d)
{
	assert(d->active > 0);
	if (--d->active > 0)
		return;
	d->lost.n = 0;
	d->lost.all = false;
	if (d->state == EC_CLOSING)
		waitq_wake_all(&d->wq);
}

/* ---- calls ---- */

static void call_ended(struct rpc_call *call)
{
	struct ec_domain *d = call->user;

	ec_confirm_heard(d, call->peer, call->tag, call->epoch, call->rc);
	if (call->type == BP_READ || call->type == BP_PREP || call->type == BP_PING)
		ec_grey_sample(&d->set->bricks[call->peer], loop_now_ns() - call->start_ns);
	if (call->type == BP_PING)
		ec_confirm_ping_ended(d, call);
}

bool ec_call_start(struct ec_domain *d, uint32_t b, struct rpc_call *call, struct rpc_group *g)
{
	ec_decide_flush(d, b);
	call->done = call_ended;
	call->user = d;
	call->peer = b;
	ec_confirm_asked(d, b, call);
	return ec_brick_start(&d->set->bricks[b], call, g);
}

int ec_call_sync(struct ec_domain *d, uint32_t b, struct rpc_call *call) YIELDS
{
	struct rpc_group g;

	rpc_group_init(&g);
	if (ec_call_start(d, b, call, &g))
		rpc_group_wait_all(&g);
	return call->rc;
}

/* ---- bricks that come back ---- */

static int fence_again(struct ec_domain *d, uint32_t b, bool *ret_has_view) YIELDS
{
	struct bp_fence_item item = {.epoch = d->epoch};
	struct bp_fence_args args = {.items = {.items_len = 1, .items_val = &item}};
	struct bp_fence_res res = {0};
	struct rpc_call call;

	gfid_to_wire(&d->gfid, item.domain);
	gfid_to_wire(&d->set->owner, args.owner);
	ec_call_init(&call, BP_FENCE, (xdrproc_t)xdr_bp_fence_args, &args, (xdrproc_t)xdr_bp_fence_res, &res);
	int rc = ec_call_sync(d, b, &call);
	if (!rc && res.items.items_len != 1)
		rc = -MYFS_E_PROTO;
	if (!rc && res.items.items_val[0].status)
		rc = -(int)res.items.items_val[0].status;
	if (!rc)
		*ret_has_view = res.items.items_val[0].has_view;
	xdr_free((xdrproc_t)xdr_bp_fence_res, &res);
	rpc_call_release(&call);
	return rc;
}

/* A brick without a view was emptied, or was never here. Before it gets one, and looks like any other that was away,
 * the members write down that it lacks everything. */
static int miss_everything(struct ec_domain *d, uint32_t b, uint64_t epoch) YIELDS
{
	struct ec_missed all;
	struct ec_view same = d->view;

	if (d->state != EC_SERVING || d->epoch != epoch)
		return -EAGAIN;
	ec_missed_init(&all);
	int rc = ec_heal_miss_all(d, b, &all);
	if (!rc)
		rc = ec_missed_add_all(&d->missed, &all);
	if (!rc && ec_missed_pairs(&all))
		rc = ec_view_write(d, &same, d->live, &all);
	ec_missed_release(&all);
	return rc;
}

int ec_domain_admit_brick(struct ec_domain *d, uint32_t b) YIELDS
{
	uint64_t link = d->set->bricks[b].link, epoch = d->epoch;

	fmutex_lock(&d->view_lock);
	int rc = -MYFS_E_GONE;
	bool has_view = true;
	if (d->state == EC_SERVING && !mask_has(d->view.insync, b))
		rc = fence_again(d, b, &has_view);
	if (!rc && !has_view)
		rc = miss_everything(d, b, epoch);
	if (!rc)
		rc = ec_view_tell(d, b);
	fmutex_unlock(&d->view_lock);
	if (d->epoch != epoch || d->state != EC_SERVING)
		return -EAGAIN;
	if (rc == -MYFS_E_FENCED) {
		ec_domain_depose(d);
		return rc;
	}
	if (!d->set->bricks[b].up || d->set->bricks[b].link != link)
		return -MYFS_E_GONE;
	if (rc) {
		d->misbehaved[b]++;
		d->retry_ns[b] = loop_now_ns() + RETRY_MAX_NS;
		return rc;
	}
	d->link[b] = link;
	d->live |= MASK(b);
	d->retry_ns[b] = 0;
	return 0;
}

/* Connected bricks outside the view that we have not spoken to yet and may ask now; arms the timer for the others. */
static uint32_t to_admit(struct ec_domain *d)
{
	uint32_t m = ec_set_up_mask(d->set) & ~d->live & ~d->view.insync, now = 0;
	uint64_t next = UINT64_MAX;

	for (; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		if (d->retry_ns[b] <= loop_now_ns())
			now |= MASK(b);
		else
			next = min_u64(next, d->retry_ns[b]);
	}
	if (next != UINT64_MAX)
		timer_arm(&d->retry_timer, next);
	return now;
}

/* ---- keeper ---- */

static bool may_take_over(const struct ec_domain *d)
{
	uint32_t up = ec_set_up_mask(d->set);

	return mask_count(up) >= geo_of(d)->w && mask_count(up & d->view.insync) >= geo_of(d)->k;
}

/* Parks until bricks changed or the time passed. */
static void keeper_wait(struct ec_domain *d, uint64_t ns) YIELDS
{
	if (!d->keeper_again)
		waitq_wait_until(&d->keeper_wq, loop_now_ns() + ns);
	d->keeper_again = false;
}

static void keep_stalled(struct ec_domain *d) YIELDS
{
	struct err e = ERR_INIT;

	if (!may_take_over(d)) {
		ec_set_missing(d->set, d->view.insync, -MYFS_E_QUORUM, &d->last_error);
		keeper_wait(d, 10 * NS_PER_S);
		return;
	}
	uint64_t grace = loop_now_ns() + GRACE_NS; /* those that went together mostly return together */
	while ((d->view.insync & ~ec_set_up_mask(d->set)) && loop_now_ns() < grace && d->state == EC_STALLED)
		keeper_wait(d, grace - loop_now_ns());
	if (d->state != EC_STALLED)
		return;
	int rc = ec_takeover(d, false, loop_now_ns() + d->set->cfg.io_timeout_ns, &e);
	if (rc == -MYFS_E_FENCED) {
		ec_domain_depose(d);
	} else if (rc) {
		d->last_error = e;
		keeper_wait(d, RETRY_MIN_NS);
	} else {
		ec_heal_kick(d); /* it fenced stale bricks too */
	}
}

static void keep_serving(struct ec_domain *d) YIELDS
{
	uint32_t lost = d->view.insync & ~d->live;

	if (lost) {
		if (!ec_view_can_serve(geo_of(d), d->view.insync & d->live, d->live, geo_of(d)->k)) {
			ec_domain_stall(d);
			ec_domain_changed(d);
			return;
		}
		if (ec_view_drop(d, lost) == -MYFS_E_FENCED)
			ec_domain_depose(d);
		else if (d->state == EC_SERVING && mask_count(d->view.insync) <= geo_of(d)->k)
			ec_sync_start(d); /* H12: what was acknowledged before may live in one page cache now */
		ec_domain_changed(d);
		return;
	}
	for (uint32_t m = to_admit(d); m; m &= m - 1)
		ec_domain_admit_brick(d, (uint32_t)__builtin_ctz(m));
	ec_heal_kick(d);
}

static bool keeper_has_work(struct ec_domain *d)
{
	if (d->state == EC_STALLED)
		return true;
	return d->state == EC_SERVING && ((d->view.insync & ~d->live) || to_admit(d));
}

static void start_replay(struct ec_domain *d)
{
	if (d->state == EC_SERVING && ec_replay_start(d))
		timer_arm(&d->retry_timer, loop_now_ns() + RETRY_MIN_NS); /* no fiber now */
}

static void keeper(void *arg)
{
	struct ec_domain *d = arg;

	do {
		d->keeper_again = false;
		ec_domain_changed(d);
		if (d->state == EC_STALLED)
			keep_stalled(d);
		else if (d->state == EC_SERVING)
			keep_serving(d);
		start_replay(d);
	} while (d->keeper_again || keeper_has_work(d));
	d->keeper_runs = false;
	ec_domain_changed(d);
	ec_domain_leave(d);
}

void ec_domain_event(struct ec_domain *d)
{
	d->keeper_again = true;
	ec_domain_changed(d);
	waitq_wake_all(&d->keeper_wq);
	if (d->keeper_runs || d->state == EC_OPENING || d->state == EC_CLOSING)
		return;
	if (d->state == EC_DEPOSED)
		return; /* waking everybody was all there is to do */
	d->keeper_runs = true;
	d->active++;
	if (fiber_spawn(loop_self(), "ec keeper", keeper, d)) {
		d->keeper_runs = false; /* no fiber now: the timer tries again */
		d->active--;
		timer_arm(&d->retry_timer, loop_now_ns() + RETRY_MIN_NS);
	}
}

static void retry_due(void *arg)
{
	ec_domain_event(arg);
}

/* ---- shards that may exist ---- */

int ec_shards_grow(struct ec_domain *d, uint32_t bits)
{
	if (bits <= d->shards_bits)
		return 0;
	uint32_t want = (uint32_t)round_up_u64(max_u64(bits, (uint64_t)d->shards_bits * 2), 1024);
	uint64_t *w = realloc(d->shards, want / 8);
	if (!w)
		return -ENOMEM;
	memset((uint8_t *)w + d->shards_bits / 8, 0, (want - d->shards_bits) / 8);
	d->shards = w;
	d->shards_bits = want;
	return 0;
}

void ec_shard_note(struct ec_domain *d, uint32_t shard)
{
	assert(shard < d->shards_bits); /* grown before the tx began */
	d->shards[shard / 64] |= UINT64_C(1) << (shard % 64);
}

bool ec_shard_absent(const struct ec_domain *d, uint32_t shard)
{
	return shard >= d->shards_bits || !((d->shards[shard / 64] >> (shard % 64)) & 1);
}

/* ---- face ---- */

static void domain_free(struct ec_domain *d)
{
	if (!d)
		return;
	if (list_linked(&d->node))
		list_del(&d->node);
	timer_cancel(&d->retry_timer);
	timer_cancel(&d->sync_timer);
	timer_cancel(&d->idle_timer);
	ec_heal_free(d);
	ec_confirm_free(d);
	ec_replay_free(d);
	if (d->set->cache)
		ec_stripe_cache_drop_domain(d->set->cache, d->key);
	ec_tx_rings_free(d);
	ec_missed_release(&d->missed);
	ec_missed_release(&d->doubtful);
	free(d->lost.v);
	free(d->shards);
	free(d);
}

static struct ec_domain *domain_new(struct ec_set *s, const struct ec_domain_options *opt)
{
	struct ec_domain *d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->set = s;
	d->opt = *opt;
	d->gfid = opt->gfid;
	d->key = ++s->next_key;
	list_init(&d->node);
	list_init(&d->replay.list);
	waitq_init(&d->wq);
	waitq_init(&d->keeper_wq);
	waitq_init(&d->sync_wq);
	fmutex_init(&d->view_lock);
	timer_init(&d->retry_timer, retry_due, d);
	timer_init(&d->sync_timer, ec_sync_timer, d);
	timer_init(&d->idle_timer, ec_idle_timer, d);
	rowlock_table_init(&d->locks, s->geo.region_rows);
	ec_missed_init(&d->missed);
	ec_missed_init(&d->doubtful);
	if (ec_tx_rings_new(d) || ec_heal_new(d) || ec_confirm_new(d)) {
		domain_free(d);
		return NULL;
	}
	list_insert_between(&d->node, s->domains.prev, &s->domains);
	return d;
}

static struct ec_domain *domain_find(struct ec_set *s, const struct gfid *gfid)
{
	list_for_each(d, &s->domains, struct ec_domain, node)
		if (gfid_eq(&d->gfid, gfid))
			return d;
	return NULL;
}

/* Every brick should have had its first chance to connect: a takeover without it would drop it from the view. */
static void wait_first_tries(struct ec_set *s) YIELDS
{
	uint64_t until = loop_now_ns() + FIRST_TRY_NS;

	for (uint32_t b = 0; b < s->geo.n; b++)
		while (!s->bricks[b].tried && loop_now_ns() < until)
			waitq_wait_until(&s->up_wq, until);
}

int ec_domain_open(struct ec_set *s, const struct ec_domain_options *opt, struct ec_domain **ret, struct err *e) YIELDS
{
	if (domain_find(s, &opt->gfid))
		return err_set(e, -EBUSY, "this gateway has it open already");
	struct ec_domain *d = domain_new(s, opt);
	if (!d)
		return err_set(e, -ENOMEM, "no memory for a domain");
	uint64_t deadline = ec_deadline(d);

	wait_first_tries(s);
	for (;;) {
		struct err why = ERR_INIT;
		int rc = ec_set_wait_up(s, s->geo.w, deadline, &why);
		rc = rc ? -MYFS_E_QUORUM : ec_takeover(d, true, deadline, &why);
		if (rc == 0)
			break;
		if ((rc != -EAGAIN && rc != -MYFS_E_QUORUM) || s->gives_up || loop_now_ns() >= deadline) {
			rc = rc == -EAGAIN ? -MYFS_E_QUORUM : rc;
			d->state = EC_CLOSING;
			domain_free(d);
			return err_set(e, rc, "%s", why.text[0] ? why.text : err_name(rc));
		}
		waitq_wait_until(&s->up_wq, min_u64(deadline, loop_now_ns() + RETRY_MIN_NS));
	}
	ec_domain_event(d);
	*ret = d;
	return 0;
}

static void release_post(struct ec_domain *d) YIELDS
{
	struct rpc_call calls[EC_MAX_BRICKS];
	struct bp_domain_args args;
	struct rpc_group g;

	gfid_to_wire(&d->gfid, args.domain);
	rpc_group_init(&g);
	for (uint32_t m = d->live; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		ec_call_init(&calls[b], BP_RELEASE, (xdrproc_t)xdr_bp_domain_args, &args, NULL, NULL);
		ec_call_start(d, b, &calls[b], &g);
	}
	rpc_group_wait_all(&g);
}

/* Everything durable, and the view says so? As far as it goes: nobody was promised it. */
static bool close_flush(struct ec_domain *d) YIELDS
{
	uint64_t deadline = loop_now_ns() + CLOSE_NS;
	int rc = d->state == EC_SERVING ? ec_domain_ready(d, false, deadline) : -MYFS_E_QUORUM;

	if (!rc && d->stable_n < d->next_n)
		rc = ec_domain_sync(d, deadline);
	if (!rc && d->state == EC_SERVING && !ec_replays(d) && d->stable_n == d->next_n && !d->opt.namespace_domain)
		ec_view_clean(d);
	return d->state == EC_SERVING;
}

void ec_domain_close(struct ec_domain *d) YIELDS
{
	if (!d)
		return;
	bool orderly = close_flush(d);
	d->state = EC_CLOSING;
	timer_cancel(&d->retry_timer);
	timer_cancel(&d->sync_timer);
	timer_cancel(&d->idle_timer);
	ec_domain_changed(d);
	waitq_wake_all(&d->keeper_wq);
	ec_heal_stop(d);
	while (d->active || d->sync_runs)
		waitq_wait(&d->wq);
	if (orderly)
		release_post(d);
	domain_free(d);
}

struct gfid ec_domain_gfid(const struct ec_domain *d)
{
	return d->gfid;
}

uint64_t ec_domain_loss_gen(const struct ec_domain *d, uint64_t *ret_own)
{
	*ret_own = d->losses;
	return d->loss_gen;
}

void ec_domain_status(const struct ec_domain *d, struct ec_domain_status *ret)
{
	*ret = d->count;
	ret->insync = d->view.insync;
	ret->connected = ec_set_up_mask(d->set);
	ret->epoch = d->epoch;
	ret->view_ver = d->view.ver;
	ret->loss_gen = d->loss_gen;
	ret->replays = d->replay.done;
	ret->replaying = ec_replays(d);
	ret->serving = d->state == EC_SERVING && !ec_replays(d) && mask_count(ec_insync_live(d)) >= geo_of(d)->k;
	ret->deposed = d->state == EC_DEPOSED;
	ec_heal_status(d, ret);
}
