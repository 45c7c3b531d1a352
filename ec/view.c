/* view.c - who is in sync: writing a new view so that it counts, before anything relies on it. PROTOCOL.md, A brick
 * goes away; H29.
 *
 *   view_busy = true      no tx begins, no tx is acknowledged (joint rule)
 *   VIEW(E, v+1, ...) --> every live brick, at once; those that answer well hold it on stable storage
 *   W answered well       adopted, view_busy = false, everybody looks again
 *   fewer                 nobody may rely on either: the domain stalls; the takeover that follows, under epoch E+1,
 *                         supersedes both
 *
 * V1 versions sent by one owner never repeat. V2 a view that drops bricks carries what they missed: regions of every tx
 * from the stable floor on that they took part in (I10). V3 a joining brick learns everything that other stale bricks
 * miss before it counts: from then on it may be the only one left that can tell. V4 what a view carries never depends
 * on later frames: long missed lists go ahead of it under views that change nothing else. */
#include "ec/ec_priv.h"

#define MISSED_PER_FRAME 12000u /* of 16 bytes: below the frame body's limit */

/* One VIEW to each target. Mask of those that hold it durably. */
static uint32_t view_send(struct ec_domain *d, struct ec_view *v, uint32_t targets, struct bp_missed *missed,
			  uint32_t missed_n) YIELDS
{
	struct rpc_call calls[EC_MAX_BRICKS];
	struct bp_view_args args = {.missed = {.missed_len = missed_n, .missed_val = missed}};
	struct rpc_group g;
	uint32_t ok = 0;

	gfid_to_wire(&d->gfid, args.domain);
	ec_view_to_wire(geo_of(d), v, &args.view);
	rpc_group_init(&g);
	for (uint32_t m = targets; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		ec_call_init(&calls[b], BP_VIEW, (xdrproc_t)xdr_bp_view_args, &args, NULL, NULL);
		ec_call_start(d, b, &calls[b], &g);
	}
	rpc_group_wait_all(&g);
	for (uint32_t m = targets; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		if (calls[b].rc == 0)
			ok |= MASK(b);
		else if (calls[b].rc == -MYFS_E_FENCED)
			ec_domain_depose(d);
		else if (calls[b].rc != -MYFS_E_GONE)
			ec_domain_suspect(d, b, calls[b].rc);
	}
	return ok;
}

/* missed -> wire entries; owned. */
static int missed_to_wire(const struct ec_missed *missed, struct bp_missed **ret, uint32_t *ret_n)
{
	uint32_t n = missed ? ec_missed_pairs(missed) : 0, cursor = 0, i = 0;

	*ret = NULL;
	*ret_n = 0;
	if (!n)
		return 0;
	struct bp_missed *v = calloc(n, sizeof(*v));
	if (!v)
		return -ENOMEM;
	const struct ec_missed_slot *s;
	while (i < n && (s = ec_missed_next(missed, &cursor)))
		v[i++] = (struct bp_missed){.shard = s->shard, .brick = s->brick, .regions = s->regions};
	*ret = v;
	*ret_n = i;
	return 0;
}

int ec_view_write(struct ec_domain *d, struct ec_view *nv, uint32_t targets, const struct ec_missed *missed) YIELDS
{
	struct bp_missed *list;
	uint32_t n, at = 0;
	int rc = missed_to_wire(missed, &list, &n);

	if (rc)
		return rc;
	assert(!d->view_busy);
	d->view_busy = true;
	while (n - at > MISSED_PER_FRAME && mask_count(targets) >= geo_of(d)->w) { /* V4 */
		struct ec_view same = d->view;
		same.epoch = nv->epoch;
		same.state = nv->state;
		same.ver = ++d->last_ver;
		targets = view_send(d, &same, targets, list + at, MISSED_PER_FRAME);
		at += MISSED_PER_FRAME;
	}
	nv->ver = ++d->last_ver; /* V1 */
	uint32_t ok = mask_count(targets) >= geo_of(d)->w ? view_send(d, nv, targets, list + at, n - at) : 0;
	free(list);
	d->view_busy = false;
	if (d->state == EC_DEPOSED || d->state == EC_CLOSING) {
		ec_domain_changed(d);
		return -MYFS_E_FENCED;
	}
	if (mask_count(ok) < geo_of(d)->w) {
		if (!MUTATED(H29))
			ec_domain_stall(d);
		ec_domain_changed(d);
		return -MYFS_E_QUORUM;
	}
	d->view = *nv;
	ec_domain_changed(d);
	return 0;
}

/* V2: regions of tx from the floor on that `dropped` took part in. */
static int missed_of_ring(const struct ec_domain *d, uint32_t dropped, struct ec_missed *ret)
{
	for (uint64_t n = d->stable_n; n < d->next_n; n++) {
		const struct ec_slot *s = &d->ring[n % EC_RING];
		uint32_t who = s->participants & dropped;
		if (who && ec_missed_add_mask(ret, s->shard, who, s->regions))
			return -ENOMEM;
	}
	return 0;
}

int ec_view_drop(struct ec_domain *d, uint32_t bricks) YIELDS
{
	struct ec_missed missed;
	uint64_t epoch = d->epoch;
	int rc = 0;

	ec_missed_init(&missed);
	fmutex_lock(&d->view_lock);
	bricks &= d->view.insync;
	if (d->state != EC_SERVING || d->epoch != epoch || !bricks)
		goto out;
	if (!ec_view_can_drop(geo_of(d), d->view.insync, bricks)) {
		rc = -MYFS_E_QUORUM;
		goto out;
	}
	rc = missed_of_ring(d, bricks, &missed);
	if (rc)
		goto out;
	ec_heal_left(d, bricks, (bp_tx){.epoch = d->epoch, .n = d->stable_n}); /* what V2 counts from */
	struct ec_view nv = d->view;
	nv.insync &= ~bricks;
	if (MUTATED(H1))
		d->view = nv;
	else
		rc = ec_view_write(d, &nv, d->live, &missed);
	if (!rc)
		rc = ec_missed_add_all(&d->missed, &missed);
out:
	if (rc == -ENOMEM)
		ec_domain_stall(d); /* unsafe to go on without knowing: the takeover reads the maps from the bricks */
	fmutex_unlock(&d->view_lock);
	ec_missed_release(&missed);
	return rc;
}

int ec_view_join(struct ec_domain *d, uint32_t b) YIELDS
{
	struct ec_missed others;
	uint64_t epoch = d->epoch;
	int rc;

	ec_missed_init(&others);
	fmutex_lock(&d->view_lock);
	/* H10: every member is connected and was flushed; b's connection is the one that was healed. */
	rc = -EAGAIN;
	if (d->state != EC_SERVING || d->epoch != epoch || !mask_has(d->healing, b) ||
	    !ec_view_can_join(d->view.insync, d->live, b, true, true))
		goto out;
	rc = ec_missed_add_all(&others, &d->missed); /* V3 */
	if (rc)
		goto out;
	ec_missed_clear_brick(&others, b);
	struct ec_view nv = d->view;
	nv.insync |= MASK(b);
	nv.boot[b] = d->set->bricks[b].boot;
	rc = ec_view_write(d, &nv, d->live, &others);
	if (rc)
		goto out;
	/* Should b have been lost meanwhile, it is a lost member now and the keeper drops it. */
	d->healing &= ~MASK(b);
	d->misbehaved[b] = 0;
	ec_missed_clear_brick(&d->missed, b);
out:
	fmutex_unlock(&d->view_lock);
	ec_missed_release(&others);
	ec_domain_event(d);
	return rc;
}

/* The present view once more, but for what `change` did to it. */
static int view_amend(struct ec_domain *d, const struct ec_view *nv) YIELDS
{
	struct ec_view v = d->view;

	v.loss_gen = nv->loss_gen;
	v.clean = nv->clean;
	return ec_view_write(d, &v, d->live, NULL);
}

int ec_view_unloss(struct ec_domain *d) YIELDS
{
	fmutex_lock(&d->view_lock);
	int rc = d->state != EC_SERVING ? -EAGAIN : view_amend(d, &(struct ec_view){.loss_gen = d->loss_gen});
	fmutex_unlock(&d->view_lock);
	return rc;
}

int ec_view_clean(struct ec_domain *d) YIELDS
{
	int rc = 0;

	fmutex_lock(&d->view_lock);
	if (d->state != EC_SERVING || d->stable_n != d->next_n || ec_replays(d))
		rc = -EAGAIN;
	else if (!d->view.clean)
		rc = view_amend(d, &(struct ec_view){.loss_gen = d->loss_gen, .clean = true});
	fmutex_unlock(&d->view_lock);
	return rc;
}

int ec_view_unclean(struct ec_domain *d) YIELDS
{
	int rc = 0;

	fmutex_lock(&d->view_lock);
	if (d->state != EC_SERVING)
		rc = -EAGAIN;
	else if (d->view.clean)
		rc = view_amend(d, &(struct ec_view){.loss_gen = d->view.loss_gen});
	fmutex_unlock(&d->view_lock);
	return rc;
}

int ec_view_tell(struct ec_domain *d, uint32_t b) YIELDS
{
	struct rpc_call call;
	struct bp_view_args args = {0};
	struct ec_view v = d->view;

	gfid_to_wire(&d->gfid, args.domain);
	ec_view_to_wire(geo_of(d), &v, &args.view);
	ec_call_init(&call, BP_VIEW, (xdrproc_t)xdr_bp_view_args, &args, NULL, NULL);
	return ec_call_sync(d, b, &call);
}
