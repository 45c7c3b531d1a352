/* takeover.c - how a domain gets its owner: fence, resolve, ready. PROTOCOL.md, Takeover.
 *
 *   FENCE(0)      what epoch was ever promised?            E' = highest + 1
 *   FENCE(E')     promises of >= W bricks, with their views and undecided transactions
 *   MISSQ         what stale bricks miss, from all of them
 *   decide        pure, ec/resolve.c; fewer than K firm members: wait for the others first, then roll back
 *   VIEW          (E', v+1, RESOLVING, old boot ids) on W: after a crash from here on the next owner decides alike (H9)
 *   RESOLVE       decisions to every used member, durable
 *   VIEW          (E', v+2, READY, new boot ids) on W: served
 *
 * Any failure in between ends the attempt; the next one starts from FENCE under a higher epoch and comes to the same
 * decisions. A domain no brick has a view of is seeded instead, when the caller says that it is new. */
#include "ec/ec_priv.h"

#define ROLLBACK_WAIT_NS (30 * NS_PER_S)
#define RETRY_NS (100 * NS_PER_MS)
#define LATE_NS (500 * NS_PER_MS) /* for members that do not answer yet; longer than the first pauses between attempts to connect */
#define DECISIONS_PER_FRAME 4000u

struct takeover {
	struct ec_domain *d;
	uint64_t epoch;
	bool steal;
	uint32_t fenced;                              /* promised E' on their present connection */
	uint64_t promise_max;
	bool foreign;                                 /* another owner holds promise_max, above ours */
	struct bp_fence_res res[EC_MAX_BRICKS];       /* owned; facts borrow from them */
	struct ec_fence_fact facts[EC_MAX_BRICKS];
	struct ec_resolve_members members;
	struct ec_resolution resolution;
	struct ec_missed missed;
	struct ec_missed doubtful; /* members' own words about themselves */
	bool lost;                 /* acknowledged data is gone, or may be */
	uint64_t replay_from;      /* own tx: from here on everything kept is written again; next_n: nothing is */
	struct err *e;
};

static bool interrupted(const struct takeover *t)
{
	return t->d->state == EC_CLOSING || t->d->state == EC_DEPOSED;
}

/* ---- fencing ---- */

/* One FENCE to each target; res[b] holds the answer where the mask returned has b. */
static uint32_t fence_send(struct takeover *t, uint64_t epoch, uint32_t targets) YIELDS
{
	struct ec_domain *d = t->d;
	struct bp_fence_item item = {.epoch = epoch};
	struct bp_fence_args args = {.items = {.items_len = 1, .items_val = &item}};
	struct rpc_call calls[EC_MAX_BRICKS];
	struct rpc_group g;
	uint32_t ok = 0;

	gfid_to_wire(&d->gfid, item.domain);
	gfid_to_wire(&d->set->owner, args.owner);
	rpc_group_init(&g);
	for (uint32_t m = targets; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		xdr_free((xdrproc_t)xdr_bp_fence_res, &t->res[b]);
		memset(&t->res[b], 0, sizeof(t->res[b]));
		memset(&t->facts[b], 0, sizeof(t->facts[b]));
		d->link[b] = d->set->bricks[b].link;
		ec_call_init(&calls[b], BP_FENCE, (xdrproc_t)xdr_bp_fence_args, &args, (xdrproc_t)xdr_bp_fence_res,
			     &t->res[b]);
		ec_call_start(d, b, &calls[b], &g);
	}
	rpc_group_wait_all(&g);
	for (uint32_t m = targets; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		if (calls[b].rc == 0 && t->res[b].items.items_len == 1 && d->set->bricks[b].link == d->link[b])
			ok |= MASK(b);
	}
	return ok;
}

static void note_promise(struct takeover *t, const struct bp_fence_reply *r)
{
	if (r->promise_epoch > t->promise_max)
		t->promise_max = r->promise_epoch;
	if (r->promise_epoch > t->d->epoch && memcmp(r->promise_owner, t->d->set->owner.b, 16) != 0)
		t->foreign = true;
}

static int learn_promises(struct takeover *t) YIELDS
{
	uint32_t ok = fence_send(t, 0, ec_set_up_mask(t->d->set));

	for (uint32_t m = ok; m; m &= m - 1)
		note_promise(t, &t->res[__builtin_ctz(m)].items.items_val[0]);
	if (t->foreign && !t->steal)
		return err_set(t->e, -MYFS_E_FENCED, "another gateway has taken it over");
	t->epoch = max_u64(t->promise_max, t->d->epoch) + 1;
	return 0;
}

/* Copies what brick b said into its fact, checked. */
static int fact_from_reply(struct takeover *t, uint32_t b, const struct bp_fence_reply *r)
{
	struct ec_fence_fact *f = &t->facts[b];
	struct ec_view v;

	if (r->has_view) {
		int rc = ec_view_from_wire(geo_of(t->d), &r->view, &v, t->e);
		if (rc)
			return err_wrap(t->e, rc, "%s", t->d->set->cfg.bricks[b].label);
		f->view = v;
		t->d->last_ver = max_u64(t->d->last_ver, v.ver);
	}
	f->has_view = r->has_view;
	f->boot = t->d->set->bricks[b].boot;
	f->floor = r->floor;
	f->txs = r->txs.txs_val;
	f->ntxs = r->txs.txs_len;
	f->replied = true;
	return 0;
}

/* Asks those connected that have not promised yet. */
static int fence_more(struct takeover *t) YIELDS
{
	struct ec_domain *d = t->d;
	uint32_t ok = fence_send(t, t->epoch, ec_set_up_mask(d->set) & ~t->fenced);

	for (uint32_t m = ok; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		const struct bp_fence_reply *r = &t->res[b].items.items_val[0];
		if (r->status == MYFS_E_FENCED) { /* a duel: whoever was first here has it; come back later with more */
			note_promise(t, r);
			return t->steal || !t->foreign
				   ? err_set(t->e, -EAGAIN, "another gateway is taking it over")
				   : err_set(t->e, -MYFS_E_FENCED, "another gateway has taken it over");
		}
		if (r->status)
			continue;
		int rc = fact_from_reply(t, b, r);
		if (rc)
			return rc;
		t->fenced |= MASK(b);
	}
	for (uint32_t m = t->fenced; m; m &= m - 1) { /* some may have gone meanwhile */
		uint32_t b = (uint32_t)__builtin_ctz(m);
		if (!d->set->bricks[b].up || d->set->bricks[b].link != d->link[b]) {
			t->fenced &= ~MASK(b);
			t->facts[b].replied = false;
		}
	}
	return 0;
}

/* A member that is not fenced leaves the view and has to be healed: one whose connection is just being opened again is worth a moment. */
static bool worth_waiting(const struct takeover *t, const struct ec_view *v, uint64_t until_ns)
{
	return (v->insync & ~t->fenced) && loop_now_ns() < until_ns && !interrupted(t) && !t->d->set->gives_up;
}

/* Fences until it is known who can be used. -ENOENT: nobody has a view. */
static int fence_until_decidable(struct takeover *t, struct ec_view *ret_v, uint64_t deadline_ns) YIELDS
{
	struct ec_domain *d = t->d;
	uint64_t patience = loop_now_ns() + ROLLBACK_WAIT_NS, late = min_u64(loop_now_ns() + LATE_NS, deadline_ns);

	for (;;) {
		int rc = fence_more(t);
		if (rc)
			return rc;
		rc = ec_resolve_view(geo_of(d), t->facts, ret_v, t->e);
		/* Never served: its seeding was cut off. Else bricks with a view must return. */
		if (rc == -MYFS_E_UNSEEDED)
			rc = d->opt.create ? -ENOENT : -MYFS_E_QUORUM;
		if (rc)
			return rc;
		rc = ec_resolve_who(geo_of(d), ret_v, t->facts, loop_now_ns() >= patience, &t->members, t->e);
		if (rc == 0 && worth_waiting(t, ret_v, late)) {
			waitq_wait_until(&d->set->up_wq, late);
			continue;
		}
		if (rc != -EAGAIN)
			return rc;
		if (loop_now_ns() >= deadline_ns || interrupted(t) || d->set->gives_up)
			return -MYFS_E_QUORUM;
		waitq_wait_until(&d->set->up_wq, min_u64(loop_now_ns() + RETRY_NS, min_u64(patience, deadline_ns)));
	}
}

/* ---- questions ---- */

int ec_missed_page_next(const struct bp_missed_res *page, struct bp_missq_args *at)
{
	uint32_t n = page->items.items_len;

	if (!page->more)
		return 0;
	const struct bp_missed *last = n ? &page->items.items_val[n - 1] : NULL;
	if (!last || last->brick >= EC_MAX_BRICKS || last->shard < at->from_shard ||
	    (last->shard == at->from_shard && last->brick < at->from_brick))
		return -MYFS_E_PROTO;
	at->from_shard = last->shard;
	at->from_brick = last->brick + 1;
	return 1;
}

static int missed_merge(struct takeover *t, uint32_t b, const struct bp_missed_res *page)
{
	int rc = 0;

	for (uint32_t i = 0; !rc && i < page->items.items_len; i++) {
		const struct bp_missed *x = &page->items.items_val[i];
		if (x->brick < geo_of(t->d)->n)
			rc = ec_missed_add(&t->missed, x->shard, x->brick, x->regions);
		if (!rc && x->brick == b && mask_has(t->members.use, b))
			rc = ec_missed_add(&t->doubtful, x->shard, b, x->regions);
	}
	return rc;
}

/* One page from each brick of *left, whose place in the list at[] says; *left: those whose list goes on. What bricks hold does not shrink
 * meanwhile: they promised us not to listen to others, and we clear nothing. Should somebody newer do so, no view of ours counts any more. */
static int ask_missed_page(struct takeover *t, struct bp_missq_args *at, uint32_t *left) YIELDS
{
	struct ec_domain *d = t->d;
	struct bp_missed_res res[EC_MAX_BRICKS];
	struct rpc_call calls[EC_MAX_BRICKS];
	struct rpc_group g;
	uint32_t more = 0;
	int rc = 0;

	memset(res, 0, sizeof(res));
	rpc_group_init(&g);
	for (uint32_t m = *left; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		ec_call_init(&calls[b], BP_MISSQ, (xdrproc_t)xdr_bp_missq_args, &at[b], (xdrproc_t)xdr_bp_missed_res,
			     &res[b]);
		ec_call_start(d, b, &calls[b], &g);
	}
	rpc_group_wait_all(&g);
	for (uint32_t m = *left; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		if (calls[b].rc && calls[b].rc != -MYFS_E_UNSEEDED)
			rc = err_set(t->e, -EAGAIN, "%s: missed regions: %s", d->set->cfg.bricks[b].label,
				     err_name(calls[b].rc));
		if (!rc)
			rc = missed_merge(t, b, &res[b]);
		int on = rc ? 0 : ec_missed_page_next(&res[b], &at[b]);
		if (on < 0)
			rc = err_set(t->e, on, "%s: missed regions: pages do not go on", d->set->cfg.bricks[b].label);
		more |= on > 0 ? MASK(b) : 0;
		xdr_free((xdrproc_t)xdr_bp_missed_res, &res[b]);
	}
	*left = more;
	return rc;
}

static int ask_missed(struct takeover *t) YIELDS
{
	struct bp_missq_args at[EC_MAX_BRICKS];
	uint32_t left = t->fenced;
	int rc = 0;

	for (uint32_t b = 0; b < geo_of(t->d)->n; b++) {
		at[b] = (struct bp_missq_args){.brick = BP_MISSED_ALL};
		gfid_to_wire(&t->d->gfid, at[b].domain);
	}
	while (left && !rc)
		rc = interrupted(t) ? -MYFS_E_FENCED : ask_missed_page(t, at, &left);
	return rc;
}

static int shards_merge(struct ec_domain *d, const struct bp_shards_res *r, const struct slice *map)
{
	size_t words = div_up_u64(r->max_plus_1, 64);

	if (map->len < words * 8 || r->max_plus_1 > RPC_PAYLOAD_MAX * 8)
		return -MYFS_E_PROTO;
	if (ec_shards_grow(d, r->max_plus_1))
		return -ENOMEM;
	for (size_t i = 0; i < words; i++) {
		uint64_t w;
		memcpy(&w, map->ptr + i * 8, 8); /* little-endian on the wire and here */
		d->shards[i] |= w;
	}
	return 0;
}

/* Which shards exist: on any member is enough. */
static int ask_shards(struct takeover *t, uint32_t members) YIELDS
{
	struct ec_domain *d = t->d;
	struct bp_shards_res res[EC_MAX_BRICKS];
	struct rpc_call calls[EC_MAX_BRICKS];
	struct bp_domain_args args;
	struct rpc_group g;
	int rc = 0;

	memset(res, 0, sizeof(res));
	gfid_to_wire(&d->gfid, args.domain);
	rpc_group_init(&g);
	for (uint32_t m = members; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		ec_call_init(&calls[b], BP_SHARDS, (xdrproc_t)xdr_bp_domain_args, &args, (xdrproc_t)xdr_bp_shards_res,
			     &res[b]);
		ec_call_start(d, b, &calls[b], &g);
	}
	rpc_group_wait_all(&g);
	for (uint32_t m = members; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		int r = calls[b].rc ? -EAGAIN : shards_merge(d, &res[b], &calls[b].payload_in);
		rpc_call_release(&calls[b]);
		if (r)
			rc = err_set(t->e, r, "%s: list of shards: %s", d->set->cfg.bricks[b].label,
				     err_name(calls[b].rc ? calls[b].rc : r));
	}
	return rc;
}

/* ---- resolution ---- */

/* Decisions [from, ...) that concern brick b, at most one frame of them; returns where to go on. */
static uint32_t decisions_for(const struct ec_resolution *r, uint32_t b, uint32_t from, bp_decision *out,
			      uint32_t *ret_n)
{
	uint32_t n = 0, i = from;

	for (; i < r->n && n < DECISIONS_PER_FRAME; i++)
		if (mask_has(r->v[i].to, b))
			out[n++] = (bp_decision){.tx = r->v[i].tx, .commit = r->v[i].commit};
	*ret_n = n;
	return i;
}

static int resolve_brick(struct takeover *t, uint32_t b, bp_decision *scratch) YIELDS
{
	struct bp_resolve_args args;
	struct rpc_call call;

	for (uint32_t at = 0; at < t->resolution.n;) {
		uint32_t n;
		at = decisions_for(&t->resolution, b, at, scratch, &n);
		if (!n)
			continue;
		gfid_to_wire(&t->d->gfid, args.domain);
		args.items.items_len = n;
		args.items.items_val = scratch;
		ec_call_init(&call, BP_RESOLVE, (xdrproc_t)xdr_bp_resolve_args, &args, NULL, NULL);
		int rc = ec_call_sync(t->d, b, &call);
		if (rc)
			return err_set(t->e, rc == -MYFS_E_FENCED ? rc : -EAGAIN, "%s: %s",
				       t->d->set->cfg.bricks[b].label, err_name(rc));
	}
	return 0;
}

static int resolve_send(struct takeover *t) YIELDS
{
	int rc = 0;

	if (!t->resolution.n)
		return 0;
	bp_decision *scratch = calloc(DECISIONS_PER_FRAME, sizeof(*scratch));
	if (!scratch)
		return -ENOMEM;
	for (uint32_t m = t->members.use; m && !rc; m &= m - 1)
		rc = resolve_brick(t, (uint32_t)__builtin_ctz(m), scratch);
	free(scratch);
	return rc;
}

static bool decided_commit(const struct ec_resolution *r, const bp_tx *tx)
{
	uint32_t lo = 0, hi = r->n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = ec_tx_cmp(&r->v[mid].tx, tx);
		if (c == 0)
			return r->v[mid].commit;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

/* Committed by us, and taken back by this takeover. */
static bool taken_back(const struct takeover *t, uint64_t n)
{
	const struct ec_domain *d = t->d;
	bp_tx tx = {.epoch = d->epoch, .n = n};

	return t->members.rollback && d->ring[n % EC_RING].fate == EC_COMMITTED && d->ring[n % EC_RING].promised &&
	       ec_tx_cmp(&tx, &t->resolution.floor) >= 0 && !decided_commit(&t->resolution, &tx);
}

/* What a rollback took back of what clients were told is done (H25). Of what we told them ourselves we know it, and mostly have it still:
 * t->replay_from. What an owner before us told them, unless it had closed the domain in order, nobody knows. */
static void judge_loss(struct takeover *t, const struct ec_view *found)
{
	const struct ec_domain *d = t->d;

	t->replay_from = d->next_n;
	t->lost = false;
	if (t->members.rollback && d->state == EC_OPENING)
		t->lost = t->resolution.lost || !found->clean;
	for (uint64_t n = d->next_n; n-- > d->stable_n;) {
		if (!taken_back(t, n))
			continue;
		t->replay_from = n;
		t->lost |= !d->ring[n % EC_RING].kept;
	}
}


/* ---- the steps ---- */

static void boots_now(struct takeover *t, struct ec_view *v)
{
	for (uint32_t m = v->insync; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		v->boot[b] = t->facts[b].boot;
	}
}

static int write_view(struct takeover *t, struct ec_view *v, uint32_t state, const struct ec_missed *missed) YIELDS
{
	struct ec_domain *d = t->d;

	v->epoch = t->epoch;
	v->state = state;
	fmutex_lock(&d->view_lock);
	int rc = ec_view_write(d, v, t->fenced & d->live, missed);
	fmutex_unlock(&d->view_lock);
	return rc ? err_set(t->e, rc == -MYFS_E_QUORUM ? -EAGAIN : rc, "writing the view: %s", err_name(rc)) : 0;
}

static int seed(struct takeover *t) YIELDS
{
	struct ec_domain *d = t->d;
	struct ec_view v = {.insync = t->fenced};

	if (!d->opt.create)
		return err_set(t->e, -MYFS_E_UNSEEDED,
			       "no brick knows it: it was never opened, or its bricks were replaced");
	boots_now(t, &v);
	t->members =
	    (struct ec_resolve_members){.replied = t->fenced, .fenced = t->fenced, .firm = t->fenced, .use = t->fenced};
	return write_view(t, &v, BP_VIEW_READY, NULL);
}

/* Bricks that answered without a view were emptied, or were never here: the view they get now must not make them look
 * complete. What the undecided transactions will add to the shards is not listed by any brick yet. */
static int miss_unseeded(struct takeover *t) YIELDS
{
	struct ec_domain *d = t->d;
	uint32_t empty = 0;

	for (uint32_t m = MUTATED(H14) ? 0 : t->fenced & ~t->members.use; m; m &= m - 1)
		if (!t->facts[__builtin_ctz(m)].has_view)
			empty |= MASK(__builtin_ctz(m));
	int rc = empty ? ask_shards(t, t->members.use & d->live) : 0;
	for (uint32_t m = empty; m && !rc; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		rc = ec_heal_miss_all(d, b, &t->missed);
		for (uint32_t i = 0; i < t->resolution.n && !rc; i++)
			rc = ec_missed_add(&t->missed, t->resolution.v[i].shard, b, UINT64_MAX);
	}
	return rc;
}

static int resolve(struct takeover *t, const struct ec_view *found) YIELDS
{
	struct ec_domain *d = t->d;
	struct ec_view v = *found;
	int rc = ask_missed(t);

	if (!rc)
		rc = ec_resolve_decide(geo_of(d), &t->members, t->facts, &t->resolution, &t->missed, t->e);
	if (rc)
		return rc;
	rc = miss_unseeded(t);
	if (rc)
		return rc;
	for (uint32_t m = t->members.use; m; m &= m - 1) /* members miss nothing: leftovers of an earlier CLEAR */
		ec_missed_clear_brick(&t->missed, (uint32_t)__builtin_ctz(m));
	judge_loss(t, found);
	d->view = *found;
	v.insync = t->members.use;
	if (MUTATED(H9))
		boots_now(t, &v);
	v.clean = false;
	rc = write_view(t, &v, BP_VIEW_RESOLVING, &t->missed);
	if (!rc)
		rc = resolve_send(t);
	if (rc)
		return rc;
	boots_now(t, &v);
	uint64_t known = d->state == EC_OPENING ? found->loss_gen : d->loss_gen;
	bool again = t->replay_from < d->next_n || ec_replays(d);
	v.loss_gen = known + t->lost + again; /* lowered when all of it is durable: should we die before, it was lost */
	rc = write_view(t, &v, BP_VIEW_READY, NULL);
	if (!rc)
		d->loss_gen = known + t->lost;
	if (!rc)
		ec_heal_left(d, found->insync & ~t->members.use, t->resolution.floor);
	return rc;
}

static void post_floor(struct ec_domain *d)
{
	struct bp_floor item = {.floor = {.epoch = d->epoch, .n = d->stable_n}};
	struct bp_floor_args args = {.items = {.items_len = 1, .items_val = &item}};

	gfid_to_wire(&d->gfid, item.domain);
	for (uint32_t m = d->live & d->view.insync; m; m &= m - 1)
		rpc_post(d->set->bricks[__builtin_ctz(m)].client, BP_STABLE, (xdrproc_t)xdr_bp_floor_args, &args, NULL,
			 0);
}

/* From here to the end nothing suspends: requests find the new epoch, an empty ring and the new view together. */
static void serve(struct takeover *t)
{
	struct ec_domain *d = t->d;

	for (uint64_t n = t->replay_from; n < d->next_n; n++) {
		bp_tx tx = {.epoch = d->epoch, .n = n};
		if (taken_back(t, n) && !d->ring[n % EC_RING].kept)
			ec_lost_note(d, &tx);
	}
	if (t->lost && !MUTATED(H25)) {
		d->lost_acked = true;
		d->losses++;
	}
	if (t->members.rollback)
		d->rollbacks++;
	ec_replay_take(d, t->replay_from);
	ec_tx_reset(d);
	d->opt.create = false; /* from now on emptied bricks are a loss, not a beginning */
	d->epoch = t->epoch;
	ec_missed_release(&d->missed);
	d->missed = t->missed;
	ec_missed_init(&t->missed);
	ec_missed_release(&d->doubtful);
	d->doubtful = t->doubtful;
	ec_missed_init(&t->doubtful);
	ec_stripe_cache_drop_domain(d->set->cache, d->key);
	memset(d->misbehaved, 0, sizeof(d->misbehaved));
	memset(d->retry_ns, 0, sizeof(d->retry_ns));
	post_floor(d); /* all that was undecided is durable on every member */
	d->state = EC_SERVING;
	ec_idle_arm(d);
	ec_domain_changed(d);
	ec_repair_doubtful(d);
}

static int takeover_run(struct takeover *t, uint64_t deadline_ns) YIELDS
{
	struct ec_domain *d = t->d;
	struct ec_view found;
	int rc = learn_promises(t);

	if (!rc)
		rc = fence_until_decidable(t, &found, deadline_ns);
	if (rc && rc != -ENOENT)
		return rc;
	if (interrupted(t))
		return -MYFS_E_FENCED;
	d->live = t->fenced; /* their loss clears the bit from now on */
	rc = rc == -ENOENT ? seed(t) : resolve(t, &found);
	if (!rc)
		rc = ask_shards(t, MUTATED(H24) ? t->fenced & d->live & ~(t->fenced - 1) : t->members.use & d->live);
	if (rc)
		return rc;
	if (interrupted(t))
		return -MYFS_E_FENCED;
	if (!ec_view_can_serve(geo_of(d), d->view.insync & d->live, d->live, geo_of(d)->k))
		return ec_set_missing(d->set, d->view.insync, -EAGAIN, t->e);
	serve(t);
	return 0;
}

int ec_takeover(struct ec_domain *d, bool steal, uint64_t deadline_ns, struct err *e) YIELDS
{
	struct err own = ERR_INIT;
	struct takeover *t = calloc(1, sizeof(*t));

	if (!t)
		return err_set(e, -ENOMEM, "no memory to take over");
	assert(d->state == EC_OPENING || d->state == EC_STALLED);
	t->d = d;
	t->steal = steal;
	t->e = e ? e : &own;
	ec_missed_init(&t->missed);
	ec_missed_init(&t->doubtful);
	for (uint32_t b = 0; b < geo_of(d)->n; b++)
		ec_decide_flush(d, b); /* before FENCE on the same connections */
	uint32_t was_healing = d->live & ~d->view.insync;
	d->live = d->healing = 0;
	for (uint32_t m = was_healing; m; m &= m - 1)
		ec_heal_brick_lost(d, (uint32_t)__builtin_ctz(m));
	int rc = takeover_run(t, deadline_ns);
	if (rc)
		d->live = 0;
	for (uint32_t b = 0; b < geo_of(d)->n; b++)
		xdr_free((xdrproc_t)xdr_bp_fence_res, &t->res[b]);
	ec_resolution_release(&t->resolution);
	ec_missed_release(&t->missed);
	ec_missed_release(&t->doubtful);
	free(t);
	return rc;
}
