/* heal.c - bringing back bricks that were out of sync: only what they missed, while the domain is in use.
 * PROTOCOL.md, It comes back.
 *
 *   live & ~insync --REJOIN--> todo = missed map + what the brick threw away -----> in d->healing
 *                                                                                     |  per region, under an X lock:
 *        a write in a region that is not in todo has the brick among its participants |  cut of K members, rebuild,
 * HEALW
 *                                                                                     v
 *   member <--CLEAR-- join view <-- SYNC (members and brick), floor past all that the brick does not hold <-- todo
 * empty
 *
 * One fiber per domain, there only while bricks are to be healed; it hands regions to up to HEAL_WORKERS fibers.
 * Several returned bricks are rebuilt from the same cut. Whatever happens to a brick on the way, it is simply out again
 * and starts over from its missed map, which nobody shortens before the brick is a member.
 *
 * HL1 a region leaves todo only under the X lock of all its rows, after the brick answered HEALW; a tx learns its
 * participants under its own row lock: so a row is never written around the brick after it was healed. HL2 a brick
 * joins only after its last HEALW of every shard was durable and after a SYNC that began later: nothing it was given
 * can be taken back from the members (H10). HL3 the missed maps keep all regions until CLEAR, and CLEAR is queued right
 * behind the join view: no later drop of the brick can be undone by it. HL4 before the join the floor passes every tx
 * older than the REJOIN: a takeover then never takes the brick for one that lacks a tx it was healed past. */
#include "ec/heal.h"
#include "core/base/bitmap.h"
#include "core/base/crc32c.h"

#define RETRY_NS      (2 * NS_PER_S) /* after a region could not be rebuilt */
#define LOOK_AGAIN_NS (200 * NS_PER_MS)
#define BUSY_NS       (200 * NS_PER_MS) /* clients are there if one was answered within it */
#define BUSY_REST     12u
#define BUSY_REST_MAX_NS (1 * NS_PER_S)

/* ---- state ---- */

int ec_heal_new(struct ec_domain *d)
{
	struct ec_heal *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->d = d;
	waitq_init(&h->wq);
	fmutex_init(&h->names);
	ec_missed_init(&h->todo);
	d->heal = h;
	return 0;
}

void ec_heal_free(struct ec_domain *d)
{
	if (!d->heal)
		return;
	assert(!d->heal->runs);
	ec_missed_release(&d->heal->todo);
	free(d->heal);
	d->heal = NULL;
}

bool heal_goes_on(const struct ec_heal *h, uint32_t b)
{
	return !h->stopping && h->d->state == EC_SERVING && mask_has(h->d->healing, b);
}

uint32_t ec_heal_participants(const struct ec_domain *d, uint32_t shard, uint32_t region)
{
	uint32_t who = d->view.insync;

	for (uint32_t m = d->healing; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		if (!((ec_missed_get(&d->heal->todo, shard, b) >> region) & 1))
			who |= MASK(b);
	}
	return who;
}

void ec_heal_brick_lost(struct ec_domain *d, uint32_t b)
{
	struct ec_heal *h = d->heal;

	ec_missed_clear_brick(&h->todo, b);
	waitq_wake_all(&h->wq);
	waitq_wake_all(&d->set->heal_rate.changed);
}

void ec_heal_left(struct ec_domain *d, uint32_t bricks, bp_tx floor)
{
	for (; bricks; bricks &= bricks - 1)
		d->heal->bricks[__builtin_ctz(bricks)].left = floor;
}

int ec_heal_miss_all(const struct ec_domain *d, uint32_t b, struct ec_missed *into)
{
	int rc = 0;

	for (size_t s = bitmap_next(d->shards, d->shards_bits, 0); s < d->shards_bits && !rc;
	     s = bitmap_next(d->shards, d->shards_bits, s + 1))
		rc = ec_missed_add(into, (uint32_t)s, b, UINT64_MAX);
	return rc;
}

/* A region's worth of fragment. */
static uint64_t region_bytes(const struct ec_domain *d) { return (uint64_t)geo_of(d)->region_rows * MYFS_BLOCK; }

/* ---- rate ---- */

static bool clients_busy(struct ec_set *set)
{
	struct ec_heal_rate *r = &set->heal_rate;
	uint64_t ops = 0;

	list_for_each(d, &set->domains, struct ec_domain, node)
		ops += d->count.reads + d->count.writes + d->count.zeros + d->count.flushes;
	if (ops > r->client_ops)
		r->client_seen_ns = loop_now_ns();
	r->client_ops = ops; /* it falls when a domain is closed */
	return r->client_seen_ns && loop_now_ns() - r->client_seen_ns < BUSY_NS;
}

static bool rate_may_go(struct ec_set *set)
{
	const struct ec_heal_rate *r = &set->heal_rate;
	bool one = r->limit_bytes_per_s == EC_HEAL_AUTO && clients_busy(set); /* at a time */

	return !r->paused && loop_now_ns() >= r->next_ns && !(one && r->running > 0);
}

/* Waits for its turn. rate_done follows. */
static void rate_take(struct ec_heal *h, uint64_t bytes) YIELDS
{
	struct ec_heal_rate *r = &h->d->set->heal_rate;

	while (!rate_may_go(h->d->set) && !h->stopping && h->d->state == EC_SERVING && h->d->healing) {
		h->throttled = !r->paused;
		waitq_wait_until(&r->changed, r->paused	   ? UINT64_MAX
					      : r->running ? loop_now_ns() + BUSY_NS
							   : max_u64(r->next_ns, loop_now_ns() + NS_PER_MS));
	}
	if (r->limit_bytes_per_s != EC_HEAL_AUTO)
		h->throttled = false;
	if (r->limit_bytes_per_s != EC_HEAL_AUTO && r->limit_bytes_per_s != EC_HEAL_MAX) {
		uint64_t cost_ns = bytes * NS_PER_MS / (r->limit_bytes_per_s / 1000 + 1);
		r->next_ns = max_u64(r->next_ns, loop_now_ns()) + cost_ns;
	}
	r->running++;
}

/* A region ended that took this long. While clients are there, healing rests twelve times as long: it takes less than a
 * tenth of what bricks and gateway can do from them. */
static void rate_done(struct ec_heal *h, uint64_t took_ns)
{
	struct ec_heal_rate *r = &h->d->set->heal_rate;

	r->running--;
	if (r->limit_bytes_per_s == EC_HEAL_AUTO) {
		h->throttled = clients_busy(h->d->set);
		if (h->throttled)
			r->next_ns = loop_now_ns() + min_u64(took_ns * BUSY_REST, BUSY_REST_MAX_NS);
	}
	waitq_wake_all(&r->changed);
}

void ec_set_heal_limit(struct ec_set *s, uint64_t bytes_per_s)
{
	s->heal_rate.limit_bytes_per_s = bytes_per_s;
	s->heal_rate.next_ns = 0;
	waitq_wake_all(&s->heal_rate.changed);
}

void ec_set_heal_pause(struct ec_set *s, bool paused)
{
	s->heal_rate.paused = paused;
	waitq_wake_all(&s->heal_rate.changed);
}

/* ---- one region ---- */

struct region_job {
	struct ec_heal *h;
	uint32_t shard, region;
	uint32_t targets;                /* bricks */
	uint32_t durable;                /* of these: it is the last region of the shard they lack */
	struct buf *bufs[EC_MAX_BRICKS]; /* by brick */
};

static uint32_t targets_of(const struct ec_heal *h, uint32_t shard, uint32_t region)
{
	uint32_t m = 0;

	for (uint32_t left = h->d->healing; left; left &= left - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(left);
		if ((ec_missed_get(&h->todo, shard, b) >> region) & 1)
			m |= MASK(b);
	}
	return m;
}

/* What the targets should hold, into bufs. */
static int job_rebuild(struct region_job *j) YIELDS
{
	struct ec_domain *d = j->h->d;
	const struct ec_geometry *g = geo_of(d);
	uint32_t start = ec_rotation_start(g, &d->gfid, j->shard), want = 0;
	uint8_t *dst[EC_MAX_BRICKS] = {0};

	for (uint32_t m = j->targets; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m), chunk = ec_chunk_of(g, start, j->region, b);
		j->bufs[b] = buf_alloc(region_bytes(d));
		if (!j->bufs[b])
			return -ENOMEM;
		want |= MASK(chunk);
		dst[chunk] = j->bufs[b]->data;
	}
	return ec_cut_read(d, j->shard, j->region * g->region_rows, g->region_rows, want, 0, dst);
}

struct heal_leg {
	struct rpc_call call;
	struct iovec iov;
};

static void leg_start(struct region_job *j, uint32_t b, struct heal_leg *leg, uint32_t *crc, struct rpc_group *group)
{
	struct ec_domain *d = j->h->d;
	uint32_t rows = geo_of(d)->region_rows;
	uint8_t *data = j->bufs[b]->data;
	bool zero = mem_is_zero(data, region_bytes(d));
	struct bp_healw_args args = {.shard = j->shard,
				     .row = j->region * rows,
				     .nrows = rows,
				     .zero = zero,
				     .durable = mask_has(j->durable, b),
				     .crc = {.crc_len = zero ? 0 : rows, .crc_val = crc}};

	gfid_to_wire(&d->gfid, args.domain);
	for (uint32_t i = 0; i < args.crc.crc_len; i++)
		crc[i] = crc32c(data + (size_t)i * MYFS_BLOCK, MYFS_BLOCK);
	ec_call_init(&leg->call, BP_HEALW, (xdrproc_t)xdr_bp_healw_args, &args, NULL, NULL);
	leg->iov = (struct iovec){.iov_base = data, .iov_len = region_bytes(d)};
	leg->call.payload = &leg->iov;
	leg->call.payload_n = zero ? 0 : 1;
	ec_call_start(d, b, &leg->call, group);
}

/* HEALW to every target; those that took it are healed in this region. The X lock is held. */
static void job_write(struct region_job *j, uint64_t epoch) YIELDS
{
	struct heal_leg legs[EC_MAX_BRICKS];
	uint32_t crc[BP_MAX_ROWS_PAYLOAD];
	struct ec_heal *h = j->h;
	struct ec_domain *d = h->d;
	struct rpc_group group;

	j->targets &= d->healing;
	rpc_group_init(&group);
	for (uint32_t m = j->targets; m; m &= m - 1)
		leg_start(j, (uint32_t)__builtin_ctz(m), &legs[__builtin_ctz(m)], crc, &group);
	rpc_group_wait_all(&group);
	if (d->epoch != epoch || d->state != EC_SERVING)
		return;
	for (uint32_t m = j->targets & d->healing; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		int rc = legs[b].call.rc;
		if (rc == 0) {
			ec_missed_clear(&h->todo, j->shard, b, UINT64_C(1) << j->region); /* HL1 */
			h->healed_bytes += region_bytes(d);
			h->bricks[b].no_space = false;
		} else if (rc == -MYFS_E_FENCED) {
			ec_domain_depose(d);
			return;
		} else if (rc != -MYFS_E_GONE) {
			h->bricks[b].no_space = rc == -ENOSPC || rc == -EDQUOT;
			ec_domain_suspect(d, b, rc);
		}
	}
}

/* Heals one region for whoever lacks it. 0, or why it stays as it is. */
static int heal_region(struct ec_heal *h, uint32_t shard, uint32_t region, uint32_t durable) YIELDS
{
	struct ec_domain *d = h->d;
	uint32_t rows = geo_of(d)->region_rows;
	uint64_t epoch = d->epoch;
	struct rowlock lock = {.mode = ROWLOCK_X, .shard = shard, .row = region * rows, .nrows = rows};
	struct region_job j = {.h = h, .shard = shard, .region = region, .durable = durable};

	rate_take(h, region_bytes(d) * mask_count(targets_of(h, shard, region)));
	uint64_t began = loop_precise_ns();
	int rc = rowlock_acquire_until(&d->locks, &lock, ec_deadline(d));
	if (rc) {
		rate_done(h, 0);
		return rc;
	}
	j.targets = targets_of(h, shard, region);
	if (d->epoch != epoch || d->state != EC_SERVING || h->stopping)
		rc = -EAGAIN;
	else if (j.targets)
		rc = job_rebuild(&j);
	if (!rc && (d->epoch != epoch || d->state != EC_SERVING))
		rc = -EAGAIN;
	if (!rc && j.targets)
		job_write(&j, epoch);
	rowlock_release(&d->locks, &lock);
	for (uint32_t b = 0; b < geo_of(d)->n; b++)
		buf_unref(j.bufs[b]);
	rate_done(h, loop_precise_ns() - began);
	return rc;
}

/* ---- one shard ---- */

static void worker_run(void *arg)
{
	struct heal_worker *w = arg;

	w->rc = heal_region(w->h, w->shard, w->region, 0);
	w->busy = false;
	waitq_wake_all(&w->h->wq);
}

static struct heal_worker *worker_free(struct ec_heal *h)
{
	for (unsigned i = 0; i < HEAL_WORKERS; i++)
		if (!h->workers[i].busy)
			return &h->workers[i];
	return NULL;
}

static void worker_take_result(struct ec_heal *h, struct heal_worker *w)
{
	if (w->rc)
		h->failed++;
	w->rc = 0;
}

static void workers_wait(struct ec_heal *h) YIELDS
{
	for (unsigned i = 0; i < HEAL_WORKERS; i++) {
		while (h->workers[i].busy)
			waitq_wait(&h->wq);
		worker_take_result(h, &h->workers[i]);
	}
}

static void worker_start(struct ec_heal *h, uint32_t shard, uint32_t region) YIELDS
{
	struct heal_worker *w;

	while (!(w = worker_free(h)))
		waitq_wait(&h->wq);
	worker_take_result(h, w);
	*w = (struct heal_worker){.h = h, .shard = shard, .region = region, .busy = true};
	if (fiber_spawn(loop_self(), "ec heal worker", worker_run, w)) {
		w->busy = false;
		w->rc = -EAGAIN;
	}
}

static uint64_t highest_bit(uint64_t bits) { return bits ? UINT64_C(1) << (63 - __builtin_clzll(bits)) : 0; }

/* Bricks for which this region is the only one of the shard left: their HEALW ends the shard and is durable. */
static uint32_t last_for(const struct ec_heal *h, uint32_t shard, uint32_t region)
{
	uint32_t m = 0;

	for (uint32_t left = h->d->healing; left; left &= left - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(left);
		if (ec_missed_get(&h->todo, shard, b) == UINT64_C(1) << region)
			m |= MASK(b);
	}
	return m;
}

/* All regions but the last one of each brick side by side, then those last ones in turn (HL2). */
static void heal_shard(struct ec_heal *h, uint32_t shard) YIELDS
{
	struct ec_domain *d = h->d;
	uint64_t all = 0, lasts = 0, epoch = d->epoch;

	for (uint32_t m = d->healing; m; m &= m - 1) {
		uint64_t bits = ec_missed_get(&h->todo, shard, (uint32_t)__builtin_ctz(m));
		all |= bits;
		lasts |= highest_bit(bits);
	}
	for (uint64_t left = all & ~lasts; left && d->epoch == epoch && d->healing && !h->stopping; left &= left - 1)
		worker_start(h, shard, (uint32_t)__builtin_ctzll(left));
	workers_wait(h);
	for (uint64_t left = lasts; left && d->epoch == epoch && d->healing && !h->stopping; left &= left - 1) {
		uint32_t region = (uint32_t)__builtin_ctzll(left);
		if (heal_region(h, shard, region, last_for(h, shard, region)))
			h->failed++;
	}
}

/* ---- beginning and end of one brick ---- */

/* HL3: nothing suspends between the join and the last frame. */
static void clear_all(struct ec_domain *d, uint32_t b) YIELDS
{
	struct rpc_call calls[EC_MAX_BRICKS];
	struct bp_clear_args args = {.brick = b};
	struct rpc_group g;

	gfid_to_wire(&d->gfid, args.domain);
	rpc_group_init(&g);
	for (uint32_t m = d->live; m; m &= m - 1) {
		uint32_t i = (uint32_t)__builtin_ctz(m);
		ec_call_init(&calls[i], BP_CLEAR, (xdrproc_t)xdr_bp_clear_args, &args, NULL, NULL);
		ec_call_start(d, i, &calls[i], &g);
	}
	rpc_group_wait_all(&g); /* one that fails keeps too many regions: harmless, members miss nothing */
}

struct newcomer {
	uint32_t b;
	uint64_t epoch, link; /* of when it began */
};

static bool newcomer_there(const struct ec_domain *d, const struct newcomer *n)
{
	return d->epoch == n->epoch && d->state == EC_SERVING && mask_has(d->live, n->b) && d->link[n->b] == n->link &&
	       !mask_has(d->view.insync, n->b);
}

/* One call for a page of what the brick says it misses. 0, -ESTALE (it is not the newcomer any more), or its error. */
static int newcomer_page(struct ec_domain *d, const struct newcomer *n, struct rpc_call *call, struct bp_missed_res *page) YIELDS
{
	int rc = ec_call_sync(d, n->b, call);

	rpc_call_release(call);
	if (!newcomer_there(d, n))
		return -ESTALE;
	for (uint32_t i = 0; !rc && i < page->items.items_len; i++)
		rc = ec_missed_add(&d->missed, page->items.items_val[i].shard, n->b, page->items.items_val[i].regions);
	return rc;
}

/* REJOIN, and the pages behind its first. The floor sent is one that was known while the brick was a member: of what came later a rollback
 * may have taken something back that it still has as committed. Between pages the brick's list only grows, by what is named to us too. */
static int newcomer_rejoin(struct ec_heal *h, const struct newcomer *n) YIELDS
{
	struct ec_domain *d = h->d;
	struct bp_rejoin_args args = {.floor = h->bricks[n->b].left};
	struct bp_missq_args at = {.brick = n->b};
	struct bp_missed_res page = {0};
	struct rpc_call call;

	gfid_to_wire(&d->gfid, args.domain);
	gfid_to_wire(&d->gfid, at.domain);
	ec_call_init(&call, BP_REJOIN, (xdrproc_t)xdr_bp_rejoin_args, &args, (xdrproc_t)xdr_bp_missed_res, &page);
	int rc = newcomer_page(d, n, &call, &page);
	while (rc == 0 && (rc = ec_missed_page_next(&page, &at)) == 1) {
		xdr_free((xdrproc_t)xdr_bp_missed_res, &page);
		memset(&page, 0, sizeof(page));
		ec_call_init(&call, BP_MISSQ, (xdrproc_t)xdr_bp_missq_args, &at, (xdrproc_t)xdr_bp_missed_res, &page);
		rc = newcomer_page(d, n, &call, &page);
	}
	xdr_free((xdrproc_t)xdr_bp_missed_res, &page);
	return rc;
}

/* REJOIN; then todo and the bit in d->healing come into being together. */
static void brick_begin(struct ec_heal *h, uint32_t b) YIELDS
{
	struct ec_domain *d = h->d;
	struct newcomer n = {.b = b, .epoch = d->epoch, .link = d->link[b]};
	uint32_t cursor = 0;
	int rc = newcomer_rejoin(h, &n);

	if (rc == -ESTALE)
		return;
	ec_missed_clear_brick(&h->todo, b);
	for (const struct ec_missed_slot *s; !rc && (s = ec_missed_next(&d->missed, &cursor));)
		if (s->brick == b && !d->opt.namespace_domain) /* names are compared as a whole */
			rc = ec_missed_add(&h->todo, s->shard, b, s->regions);
	if (rc) {
		ec_missed_clear_brick(&h->todo, b);
		if (rc == -MYFS_E_FENCED)
			ec_domain_depose(d);
		else if (rc != -MYFS_E_GONE)
			ec_domain_suspect(d, b, rc);
		return;
	}
	h->bricks[b].floor_n = d->next_n;
	h->bricks[b].no_space = false;
	d->healing |= MASK(b);
	ec_domain_changed(d);
	if (MUTATED(H16))
		clear_all(d, b);
}

/* 0: a member. -EAGAIN: not now. */
static int brick_join(struct ec_heal *h, uint32_t b) YIELDS
{
	struct ec_domain *d = h->d;
	uint64_t deadline = ec_deadline(d);

	while (!MUTATED(H10)) { /* HL2, HL4: the floor stands still while an older tx is undecided */
		int rc = ec_domain_sync(d, deadline);
		if (rc)
			return rc;
		if (!heal_goes_on(h, b))
			return -EAGAIN;
		if (d->stable_n >= h->bricks[b].floor_n)
			break;
		waitq_wait_until(&d->wq, loop_now_ns() + LOOK_AGAIN_NS);
	}
	if (!heal_goes_on(h, b) || ec_missed_count(&h->todo, b))
		return -EAGAIN;
	int rc = ec_view_join(d, b);
	if (!rc)
		clear_all(d, b);
	return rc;
}

static int brick_end(struct ec_heal *h, uint32_t b) YIELDS
{
	if (!h->d->opt.namespace_domain)
		return brick_join(h, b);
	fmutex_lock(&h->names); /* it joins with the names of this moment */
	int rc = heal_goes_on(h, b) ? heal_names(h, b) : -EAGAIN;
	if (!rc)
		rc = brick_join(h, b);
	fmutex_unlock(&h->names);
	if (rc && rc != -EAGAIN && heal_goes_on(h, b)) {
		h->bricks[b].no_space = rc == -ENOSPC || rc == -EDQUOT;
		ec_domain_suspect(h->d, b, rc);
	}
	return rc;
}

/* ---- the fiber ---- */

static uint32_t newcomers(const struct ec_domain *d) { return d->live & ~d->view.insync & ~d->healing; }

static void begin_newcomers(struct ec_heal *h) YIELDS
{
	for (uint32_t m = newcomers(h->d); m && !h->stopping; m &= m - 1)
		if (mask_has(newcomers(h->d), (uint32_t)__builtin_ctz(m)))
			brick_begin(h, (uint32_t)__builtin_ctz(m));
}

static bool next_shard(const struct ec_heal *h, uint32_t from, uint32_t *ret)
{
	bool found = false;

	if (h->d->opt.namespace_domain)
		return false; /* names are compared as a whole */
	for (uint32_t m = h->d->healing; m; m &= m - 1) {
		const struct ec_missed_slot *s = ec_missed_first(&h->todo, (uint32_t)__builtin_ctz(m), from);
		if (s && (!found || s->shard < *ret)) {
			*ret = s->shard;
			found = true;
		}
	}
	return found;
}

/* Every shard once, in order; bricks that come meanwhile take part from the shard that is next. */
static void heal_pass(struct ec_heal *h) YIELDS
{
	uint32_t shard;

	h->failed = 0;
	for (uint32_t from = 0; !h->stopping && h->d->state == EC_SERVING && next_shard(h, from, &shard);
	     from = shard + 1) {
		heal_shard(h, shard);
		begin_newcomers(h);
		if (shard == UINT32_MAX)
			break;
	}
}

/* Bricks with nothing left join. True when one did. */
static bool end_healed(struct ec_heal *h) YIELDS
{
	bool joined = false;

	for (uint32_t m = h->d->healing; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		if (heal_goes_on(h, b) && (h->d->opt.namespace_domain || !ec_missed_count(&h->todo, b)))
			joined = brick_end(h, b) == 0 || joined;
	}
	return joined;
}

static bool heal_has_work(const struct ec_heal *h)
{
	return !h->stopping && h->d->state == EC_SERVING && (newcomers(h->d) | h->d->healing);
}

static void heal_run(void *arg)
{
	struct ec_heal *h = arg;
	struct ec_domain *d = h->d;

	while (heal_has_work(h)) {
		uint32_t shard;
		begin_newcomers(h);
		heal_pass(h);
		if (!end_healed(h) && heal_has_work(h) && (h->failed || !next_shard(h, 0, &shard)))
			waitq_wait_until(&h->wq, loop_now_ns() + (h->failed ? RETRY_NS : LOOK_AGAIN_NS));
	}
	h->runs = false;
	waitq_wake_all(&h->wq);
	ec_domain_leave(d);
}

void ec_heal_kick(struct ec_domain *d)
{
	struct ec_heal *h = d->heal;

	if (h->stopping || d->state != EC_SERVING)
		return;
	waitq_wake_all(&h->wq);
	if (h->runs || !heal_has_work(h) || ec_domain_enter(d))
		return;
	h->runs = true;
	if (fiber_spawn(loop_self(), "ec heal", heal_run, h)) {
		h->runs = false; /* the keeper kicks again with the next event */
		ec_domain_leave(d);
	}
}

void ec_heal_stop(struct ec_domain *d) YIELDS
{
	struct ec_heal *h = d->heal;

	h->stopping = true;
	waitq_wake_all(&h->wq);
	waitq_wake_all(&d->set->heal_rate.changed);
	while (h->runs)
		waitq_wait(&h->wq);
}

/* ---- status ---- */

static enum ec_heal_cause cause_of(const struct ec_domain *d)
{
	const struct ec_heal *h = d->heal;
	uint32_t out = mask_all(geo_of(d)->n) & ~d->view.insync;

	if (!out)
		return EC_HEAL_NONE;
	for (uint32_t m = out & ~d->healing; m; m &= m - 1)
		if (h->bricks[__builtin_ctz(m)].no_space)
			return EC_HEAL_NO_SPACE;
	bool sources = mask_count(ec_insync_live(d)) >= geo_of(d)->k; /* else nothing is healed, and clients wait as well */
	if (!sources || (!d->healing && !(d->live & out)))
		return EC_HEAL_WAITING_BRICK;
	if (d->set->heal_rate.paused)
		return EC_HEAL_PAUSED;
	return h->throttled ? EC_HEAL_THROTTLED : EC_HEAL_RUNNING;
}

void ec_heal_status(const struct ec_domain *d, struct ec_domain_status *ret)
{
	uint64_t regions = 0;

	for (uint32_t b = 0; b < geo_of(d)->n && !d->opt.namespace_domain; b++)
		if (!mask_has(d->view.insync, b))
			regions += ec_missed_count(mask_has(d->healing, b) ? &d->heal->todo : &d->missed, b);
	ret->healing = d->live & ~d->view.insync;
	ret->missed_bytes = regions * region_bytes(d);
	ret->healed_bytes = d->heal->healed_bytes;
	ret->cause = cause_of(d);
}
