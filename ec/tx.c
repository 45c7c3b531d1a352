/* tx.c - one transaction: its number, its PREPs, how it is decided, and what is still owed to it afterwards.
 *
 *   admit ----> (row lock) ----> begin ----> leg, send, settle (once or twice) ----> commit --> end
 *   place in the ring,           number n                 |
 *   object, credit                                        +--> abort, or abandoned by a takeover --> end
 *
 *   ring:   stable_n <= undecided_n <= next_n,  next_n - stable_n <= EC_RING
 *           [stable_n, undecided_n)  decided, not known durable everywhere: a brick dropped now misses their regions
 *           [undecided_n, next_n)    some still undecided
 *
 * T1 a number is taken while the row lock is held: numbers of conflicting tx grow in lock order. T2 COMMIT is queued
 * only when every participant that is a member acked and no view change is under way (I4, I11). T3 nothing is aborted
 * after its COMMIT was queued. T4 a frame of a domain never overtakes a COMMIT queued before it on the same connection
 * (ec_call_start). T5 tx of an older epoch than the domain's never touch its ring: the takeover decided them. */
#include "ec/ec_priv.h"

/* A COMMIT leaves with the next frame to its brick, or after this time. Nobody waits for one: a message and a wake-up of its own for
 * each would double the messages of a small write. */
#define DECIDE_NS (2 * NS_PER_MS)

/* ---- ring ---- */

static struct ec_slot *slot_of(struct ec_domain *d, uint64_t n)
{
	assert(n >= d->stable_n && n < d->next_n);
	return &d->ring[n % EC_RING];
}

static bool tx_is_current(const struct ec_tx *tx)
{
	return tx->id.epoch == tx->d->epoch && tx->id.n != 0;
}

static void slot_decide(struct ec_domain *d, uint64_t n, enum ec_fate fate)
{
	slot_of(d, n)->fate = fate;
	while (d->undecided_n < d->next_n && d->ring[d->undecided_n % EC_RING].fate != EC_UNDECIDED)
		d->undecided_n++;
}

static void slot_release_credit(struct ec_domain *d, const struct ec_slot *s)
{
	for (uint32_t m = s->charged; m; m &= m - 1) {
		struct ec_brick *brick = &d->set->bricks[__builtin_ctz(m)];
		assert(brick->unstable_bytes >= s->bytes);
		brick->unstable_bytes -= s->bytes;
	}
}

void ec_tx_forget_credit(struct ec_domain *d, uint32_t b)
{
	for (uint64_t n = d->stable_n; n < d->next_n; n++)
		d->ring[n % EC_RING].charged &= ~MASK(b);
}

void ec_floor_release(struct ec_domain *d, uint64_t n)
{
	assert(n <= d->undecided_n);
	while (d->stable_n < n) {
		struct ec_slot *s = &d->ring[d->stable_n % EC_RING];
		slot_release_credit(d, s);
		ec_kept_drop(d->set, s->kept);
		s->kept = NULL;
		d->stable_n++;
	}
	waitq_wake_all(&d->set->pool_wq);
}

void ec_tx_reset(struct ec_domain *d)
{
	d->undecided_n = d->next_n;
	ec_floor_release(d, d->next_n);
	d->next_n = d->undecided_n = d->stable_n = 1;
	d->decide_mask = 0;
	for (uint32_t b = 0; b < geo_of(d)->n; b++)
		d->decide[b].n = 0;
	d->unsynced_bytes = 0;
}

/* ---- decisions on the wire ---- */

static void decide_post(struct ec_domain *d, uint32_t b, uint32_t type, bp_tx *txs, unsigned n)
{
	struct ec_brick *brick = &d->set->bricks[b];
	struct bp_decide_args args = {.txs = {.txs_len = n, .txs_val = txs}};

	if (!brick->up || brick->link != d->link[b])
		return; /* lost: it leaves the view, or a takeover decides */
	gfid_to_wire(&d->gfid, args.domain);
	int rc = rpc_post(brick->client, type, (xdrproc_t)xdr_bp_decide_args, &args, NULL, 0);
	if (rc)
		ec_domain_suspect(d, b, rc); /* a decision that cannot be queued is a lost brick */
}

void ec_decide_flush(struct ec_domain *d, uint32_t b)
{
	struct ec_decide_queue *q = &d->decide[b];

	if (!mask_has(d->decide_mask, b))
		return;
	d->decide_mask &= ~MASK(b);
	unsigned n = q->n;
	q->n = 0;
	decide_post(d, b, BP_COMMIT, q->txs, n);
}

static void decide_timer(void *arg)
{
	struct ec_domain *d = arg;

	for (uint32_t b = 0; d->decide_mask; b++)
		ec_decide_flush(d, b);
}

static void decide_queue(struct ec_domain *d, uint32_t b, const bp_tx *id)
{
	struct ec_decide_queue *q = &d->decide[b];

	if (q->n == EC_DECIDE_BATCH)
		ec_decide_flush(d, b);
	q->txs[q->n++] = *id;
	d->decide_mask |= MASK(b);
	if (!d->decide_timer.armed)
		timer_arm(&d->decide_timer, loop_now_ns() + DECIDE_NS);
}

/* ---- objects ---- */

int ec_tx_rings_new(struct ec_domain *d)
{
	d->ring = calloc(EC_RING, sizeof(*d->ring));
	d->decide = calloc(geo_of(d)->n, sizeof(*d->decide));
	timer_init(&d->decide_timer, decide_timer, d);
	d->next_n = d->undecided_n = d->stable_n = 1;
	return d->ring && d->decide ? 0 : -ENOMEM;
}

void ec_tx_rings_free(struct ec_domain *d)
{
	timer_cancel(&d->decide_timer);
	if (d->ring) {
		d->undecided_n = d->next_n;
		ec_floor_release(d, d->next_n); /* gives the credit back */
	}
	free(d->ring);
	free(d->decide);
}

static struct ec_tx *tx_new(struct ec_set *s)
{
	if (!list_empty(&s->free_tx)) {
		struct ec_tx *tx = list_first(&s->free_tx, struct ec_tx, node);
		list_del(&tx->node);
		return tx;
	}
	if (s->tx_made >= EC_POOL_MAX)
		return NULL;
	struct ec_tx *tx = calloc(1, sizeof(*tx) + s->geo.n * sizeof(tx->legs[0]));
	if (tx) {
		s->tx_made++;
		list_init(&tx->node);
	}
	return tx;
}

/* Credit for `bytes` on every live brick? A brick whose account is empty always takes one. */
static bool credit_ok(const struct ec_domain *d, uint64_t bytes)
{
	for (uint32_t m = d->live; m; m &= m - 1) {
		const struct ec_brick *b = &d->set->bricks[__builtin_ctz(m)];
		if (b->unstable_bytes && b->unstable_bytes + bytes > b->credit_bytes && !MUTATED(H23))
			return false;
	}
	return true;
}

static void sync_all_domains(struct ec_set *s)
{
	list_for_each(d, &s->domains, struct ec_domain, node)
		if (d->state == EC_SERVING && d->stable_n < d->next_n)
			ec_sync_start(d);
}

int ec_tx_admit(struct ec_domain *d, const struct ec_tx_need *need, uint64_t deadline_ns, struct ec_tx **ret) YIELDS
{
	struct ec_set *s = d->set;

	for (;;) {
		int rc = need->internal ? ec_domain_ready_internal(d, true, deadline_ns) : ec_domain_ready(d, true, deadline_ns);
		if (rc)
			return rc;
		if (d->view.clean) { /* taken back by all who look for it before anything can be acknowledged */
			(void)ec_view_unclean(d);
			continue;
		}
		bool room = d->next_n - d->stable_n + d->reserved < EC_RING && (!need->keep || ec_keep_room(s, need->keep));
		if (room && credit_ok(d, need->bytes_per_brick)) {
			struct ec_tx *tx = tx_new(s);
			if (tx) {
				d->reserved++;
				tx->d = d;
				tx->bytes = (uint32_t)need->bytes_per_brick;
				tx->keep = need->keep;
				s->kept_bytes += need->keep;
				tx->internal = need->internal;
				tx->id = (bp_tx){0};
				tx->mask = tx->missed = tx->acked = tx->failed = 0;
				tx->nak = 0;
				tx->decided = false;
				tx->bufs_n = 0;
				rpc_group_init(&tx->group);
				for (uint32_t b = 0; b < s->geo.n; b++) {
					tx->legs[b].state = EC_LEG_UNUSED;
					tx->legs[b].sync_sent = false;
				}
				*ret = tx;
				return 0;
			}
			if (s->tx_made < EC_POOL_MAX)
				return -ENOMEM;
		} else {
			sync_all_domains(s);
		}
		if (waitq_wait_until(&s->pool_wq, deadline_ns) && loop_now_ns() >= deadline_ns)
			return -MYFS_E_QUORUM;
	}
}

int ec_tx_begin(struct ec_tx *tx, uint32_t shard, uint32_t lba, uint32_t nblocks, uint32_t tx_kind, uint32_t roles,
		uint64_t regions)
{
	struct ec_domain *d = tx->d;

	if (!ec_domain_may_write(d) || d->view.clean || (ec_replays(d) && !tx->internal) || d->next_n - d->stable_n >= EC_RING)
		return -EAGAIN;
	/* Regions of a ZERO may differ in who is healed there; such a tx comes one region at a time (update.c). */
	uint32_t part = ec_heal_participants(d, shard, (uint32_t)__builtin_ctzll(regions));
	uint32_t missed = roles & ~d->view.insync;
	if (missed && ec_missed_add_mask(&d->missed, shard, missed, regions))
		return -ENOMEM;
	tx->shard = shard;
	tx->lba = lba;
	tx->nblocks = nblocks;
	tx->tx_kind = tx_kind;
	tx->mask = roles & part;
	tx->missed = missed; /* also those healed there: should one fail before it joins, nothing is forgotten (I10) */
	assert(roles & d->view.insync); /* I3: at most R are out, R + 1 have a role */
	tx->id = (bp_tx){.epoch = d->epoch, .n = d->next_n++};
	uint32_t charged = tx->mask & d->live;
	*slot_of(d, tx->id.n) = (struct ec_slot){.regions = regions,
						 .shard = shard,
						 .participants = tx->mask,
						 .charged = charged,
						 .bytes = tx->bytes,
						 .fate = EC_UNDECIDED};
	for (uint32_t m = charged; m; m &= m - 1)
		d->set->bricks[__builtin_ctz(m)].unstable_bytes += tx->bytes;
	d->reserved--;
	ec_shard_note(d, shard);
	return 0;
}

void ec_tx_keep(struct ec_tx *tx, struct buf *b)
{
	assert(tx->bufs_n < ARRAY_LEN(tx->bufs));
	tx->bufs[tx->bufs_n++] = buf_ref(b);
}

uint8_t *ec_tx_memory(struct ec_tx *tx, size_t bytes)
{
	struct buf *b = buf_alloc(bytes);

	if (!b)
		return NULL;
	assert(tx->bufs_n < ARRAY_LEN(tx->bufs));
	tx->bufs[tx->bufs_n++] = b;
	return b->data;
}

/* ---- legs ---- */

struct ec_leg *ec_tx_leg(struct ec_tx *tx, uint32_t b, uint32_t kind, uint32_t row, uint32_t nrows)
{
	struct ec_leg *leg = &tx->legs[b];

	assert(mask_has(tx->mask, b) && leg->state == EC_LEG_UNUSED);
	leg->kind = kind;
	leg->flags = 0;
	leg->row = row;
	leg->nrows = nrows;
	leg->coef = 1;
	leg->iov_n = 0;
	return leg;
}

void ec_leg_add(struct ec_leg *leg, const void *p, size_t len)
{
	struct iovec *last = leg->iov_n ? &leg->iov[leg->iov_n - 1] : NULL;

	if (last && (const char *)last->iov_base + last->iov_len == p) {
		last->iov_len += len;
		return;
	}
	assert(leg->iov_n < RPC_PAYLOAD_IOVS);
	leg->iov[leg->iov_n++] = (struct iovec){.iov_base = (void *)(uintptr_t)p, .iov_len = len};
}

static uint32_t leg_brick(const struct ec_tx *tx, const struct ec_leg *leg)
{
	return (uint32_t)(leg - tx->legs);
}

void ec_tx_send(struct ec_tx *tx, struct ec_leg *leg, xdrproc_t res_proc)
{
	struct ec_domain *d = tx->d;
	uint32_t b = leg_brick(tx, leg);
	bool zero = leg->kind == BP_ZERO;
	struct bp_prep_args args = {
		.shard = tx->shard,
		.tx = tx->id,
		.view_version = d->view.ver,
		.kind = leg->kind,
		.flags = leg->flags,
		.tx_kind = tx->tx_kind,
		.row = leg->row,
		.nrows = leg->nrows,
		.coef = leg->coef,
		.lba = tx->lba,
		.nblocks = tx->nblocks,
		.participants = tx->mask,
		.missed = tx->missed,
		.crc = {.crc_len = zero ? 0 : leg->nrows, .crc_val = leg->crc},
		.old_crc = {.old_crc_len = leg->flags & BP_PREP_OLD_CRC ? leg->nrows : 0, .old_crc_val = leg->old_crc},
	};

	leg->view_ver = d->view.ver;
	gfid_to_wire(&d->gfid, args.domain);
	ec_call_init(&leg->call, BP_PREP, (xdrproc_t)xdr_bp_prep_args, &args, res_proc, NULL);
	leg->call.payload = leg->iov;
	leg->call.payload_n = leg->iov_n;
	leg->state = EC_LEG_SENT;
	if (!mask_has(d->live, b) || !ec_call_start(d, b, &leg->call, &tx->group))
		leg->call.rc = -MYFS_E_GONE;
}

void ec_tx_send_sync(struct ec_tx *tx, uint32_t b)
{
	struct ec_leg *leg = &tx->legs[b];
	struct bp_floor_args none = {0};

	leg->sync_sent = true;
	tx->acked &= ~MASK(b);
	ec_call_init(&leg->sync_call, BP_SYNC, (xdrproc_t)xdr_bp_floor_args, &none, NULL, NULL);
	if (!mask_has(tx->d->live, b) || !ec_call_start(tx->d, b, &leg->sync_call, &tx->group))
		leg->sync_call.rc = -MYFS_E_GONE;
}

/* ---- outcome ---- */

/* What brick b's refusal means. Health goes to the domain, the rest is the writer's business. */
static void leg_refused(struct ec_tx *tx, uint32_t b, int rc)
{
	struct ec_domain *d = tx->d;

	tx->failed |= MASK(b);
	switch (rc) {
	case -MYFS_E_FENCED:
		if (tx_is_current(tx))
			ec_domain_depose(d);
		return;
	case -ENOSPC:
	case -MYFS_E_BADSUM:
	case -EILSEQ:
		if (mask_has(d->view.insync, b)) {
			if (!tx->nak || rc == -ENOSPC) {
				tx->nak = rc;
				tx->nak_brick = b;
			}
			return;
		}
		break; /* a brick still healing must take everything; it starts over */
	case -MYFS_E_VIEW:
		/* A newer view overtook the PREP inside the brick, while it read the old block: nothing was logged, the request
		 * is run again under the new view. Without a newer view a member on another one has lost its state. */
		if (mask_has(d->view.insync, b) && tx->legs[b].view_ver != d->last_ver) {
			if (!tx->nak)
				tx->nak = -EILSEQ;
			tx->nak_brick = b;
			return;
		}
		break;
	default:
		break;
	}
	if (tx_is_current(tx) && rc != -MYFS_E_GONE)
		ec_domain_suspect(d, b, rc);
}

static void legs_collect(struct ec_tx *tx)
{
	for (uint32_t m = tx->mask; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		struct ec_leg *leg = &tx->legs[b];
		int rc = leg->call.rc;

		if (leg->state == EC_LEG_UNUSED || leg->state == EC_LEG_FAILED)
			continue;
		if (leg->state == EC_LEG_OK && !leg->sync_sent)
			continue;
		if (rc == 0 && leg->sync_sent)
			rc = leg->sync_call.rc;
		leg->sync_sent = false;
		leg->state = rc ? EC_LEG_FAILED : EC_LEG_OK;
		if (rc == 0)
			tx->acked |= MASK(b);
		else
			leg_refused(tx, b, rc);
	}
}

int ec_tx_settle(struct ec_tx *tx, uint32_t needed, uint64_t deadline_ns) YIELDS
{
	struct ec_domain *d = tx->d;

	rpc_group_wait_all(&tx->group);
	d->count.rounds++;
	legs_collect(tx);
	for (;;) {
		if (d->state == EC_DEPOSED || d->state == EC_CLOSING)
			return -MYFS_E_FENCED;
		if (!tx_is_current(tx) || d->state != EC_SERVING)
			return -EAGAIN; /* the takeover to come decides it; the request runs again (T5) */
		if (tx->nak) {
			ec_tx_abort(tx);
			return tx->nak;
		}
		/* Joint rule: while a view is being written nothing is acknowledged; after it, members are those of the
		 * new one. */
		if ((!d->view_busy || MUTATED(H29)) && !(needed & tx->mask & d->view.insync & ~tx->acked))
			return 0;
		if (waitq_wait_until(&d->wq, deadline_ns) && loop_now_ns() >= deadline_ns)
			return -EAGAIN; /* its request has the same deadline and says so */
	}
}

bool ec_tx_leans(const struct ec_tx *tx)
{
	struct ec_domain *d = tx->d;
	const struct ec_slot *own = slot_of(d, tx->id.n);

	if (tx->tx_kind == BP_TX_FULL)
		return false;
	for (uint64_t n = d->stable_n; n < tx->id.n; n++) {
		const struct ec_slot *s = &d->ring[n % EC_RING];
		if (s->shard == own->shard && (s->regions & own->regions) && s->fate != EC_ABORTED && !s->durable)
			return true;
	}
	return false;
}

void ec_tx_commit(struct ec_tx *tx, bool durable)
{
	struct ec_domain *d = tx->d;

	assert(tx_is_current(tx) && !tx->decided && (!d->view_busy || MUTATED(H29))); /* I11 */
	assert(!(tx->mask & d->view.insync & ~tx->acked));                /* I4 */
	assert(tx->acked & d->view.insync);
	tx->decided = true;
	for (uint32_t m = tx->mask & tx->acked; m; m &= m - 1)
		decide_queue(d, (uint32_t)__builtin_ctz(m), &tx->id);
	uint32_t bytes = slot_of(d, tx->id.n)->bytes;
	slot_of(d, tx->id.n)->durable = durable;
	slot_decide(d, tx->id.n, EC_COMMITTED);
	ec_sync_note(d, bytes);
}

void ec_tx_promise(struct ec_tx *tx, const struct ec_part *p)
{
	struct ec_slot *s = slot_of(tx->d, tx->id.n);

	assert(s->fate == EC_COMMITTED && tx->keep);
	s->promised = true;
	s->kept = ec_keep(tx->d->set, p, tx->keep);
	tx->keep = 0;
}

void ec_tx_abort(struct ec_tx *tx)
{
	struct ec_domain *d = tx->d;

	if (tx->decided || !tx_is_current(tx) || d->state != EC_SERVING)
		return; /* not serving: what a takeover has seen of it must not change any more, it decides (T5) */
	tx->decided = true; /* T3 */
	for (uint32_t m = tx->mask; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		if (tx->legs[b].state == EC_LEG_UNUSED || !mask_has(d->live, b))
			continue;
		ec_decide_flush(d, b);
		decide_post(d, b, BP_ABORT, &tx->id, 1);
	}
	slot_decide(d, tx->id.n, EC_ABORTED);
	ec_sync_note(d, 0);
}

void ec_lost_note(struct ec_domain *d, const bp_tx *tx)
{
	struct ec_lost *l = &d->lost;

	if (l->n == l->cap) {
		uint32_t cap = l->cap ? 2 * l->cap : 64;
		bp_tx *v = realloc(l->v, cap * sizeof(*v));
		if (!v) {
			l->all = true;
			return;
		}
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n++] = *tx;
}

bool ec_lost(const struct ec_domain *d, const struct ec_part_done *done)
{
	if (done->rollbacks == d->rollbacks)
		return false;
	if (d->lost.all || done->tx.n == 0)
		return true;
	for (uint32_t i = 0; i < d->lost.n; i++)
		if (ec_tx_cmp(&d->lost.v[i], &done->tx) == 0)
			return true;
	return false;
}

void ec_tx_end(struct ec_tx *tx)
{
	struct ec_domain *d = tx->d;
	struct ec_set *s = d->set;

	rpc_group_wait_all(&tx->group);
	s->kept_bytes -= tx->keep;
	tx->keep = 0;
	if (tx->id.n == 0)
		d->reserved--;
	else
		ec_tx_abort(tx);
	for (uint32_t b = 0; b < s->geo.n; b++)
		if (tx->legs[b].state != EC_LEG_UNUSED)
			rpc_call_release(&tx->legs[b].call);
	while (tx->bufs_n)
		buf_unref(tx->bufs[--tx->bufs_n]);
	list_push_front(&s->free_tx, &tx->node);
	waitq_wake_all(&s->pool_wq);
}
