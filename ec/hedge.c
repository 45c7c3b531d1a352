/* hedge.c - a brick is late with what was read from it: the same blocks from a cut of the others; whoever is first wins. H27.
 *
 *   reader's fiber: READs out --- ec_grey_hedge_ns ---> race: parks until its READs ended, or the cut did
 *   hedge fiber:                                        C lock, ec_cut_read around the late chunks
 *
 * The loser is cut loose: late READs are cancelled (and counted as that late), a late cut ends by itself and frees itself. */
#include "ec/ec_priv.h"

#define HEDGES_MAX 64u /* per set at once: when everything is late, more reads are no help */

struct hedge {
	struct ec_domain *d;
	struct rowlock lock;
	uint32_t want, avoid;    /* chunks */
	struct buf *buf;
	struct fiber *waiter;    /* NULL: the reader has gone */
	int rc;
	bool done;
};

static void hedge_free(struct hedge *h)
{
	buf_unref(h->buf);
	free(h);
}

static void hedge_run(void *arg)
{
	struct hedge *h = arg;
	struct ec_domain *d = h->d;
	uint8_t *dst[EC_MAX_BRICKS] = {0};
	uint32_t i = 0;

	for (uint32_t m = h->want; m; m &= m - 1)
		dst[__builtin_ctz(m)] = h->buf->data + (size_t)i++ * h->lock.nrows * MYFS_BLOCK;
	h->rc = rowlock_acquire_until(&d->locks, &h->lock, ec_deadline(d));
	if (!h->rc) {
		h->rc = ec_cut_read(d, h->lock.shard, h->lock.row, h->lock.nrows, h->want, h->avoid, dst);
		rowlock_release(&d->locks, &h->lock);
	}
	h->done = true;
	d->set->hedges--;
	if (h->waiter)
		fiber_wake(h->waiter);
	else
		hedge_free(h);
	ec_domain_leave(d);
}

static struct hedge *hedge_start(struct ec_domain *d, const struct ec_hedge_range *r)
{
	struct hedge *h = d->set->hedges < HEDGES_MAX ? calloc(1, sizeof(*h)) : NULL;

	if (!h)
		return NULL;
	*h = (struct hedge){.d = d, .want = r->want, .avoid = r->late, .waiter = fiber_self()};
	h->lock = (struct rowlock){.mode = ROWLOCK_C, .shard = r->shard, .row = r->row, .nrows = r->nrows};
	h->buf = buf_alloc((size_t)r->nrows * MYFS_BLOCK * mask_count(r->want));
	if (!h->buf || ec_domain_enter(d)) {
		hedge_free(h);
		return NULL;
	}
	d->set->hedges++;
	if (fiber_spawn(loop_self(), "ec hedge", hedge_run, h)) {
		d->set->hedges--;
		ec_domain_leave(d);
		hedge_free(h);
		return NULL;
	}
	d->count.hedged_reads++;
	return h;
}

struct buf *ec_hedge_race(struct ec_domain *d, const struct ec_hedge_range *r, struct rpc_group *reads) YIELDS
{
	struct hedge *h = hedge_start(d, r);
	struct buf *won = NULL;

	if (h) {
		while (!h->done && reads->ended < reads->started)
			rpc_group_park(reads);
		if (!h->done) {
			h->waiter = NULL;
			return NULL;
		}
		if (h->rc == 0 && reads->ended < reads->started) {
			won = h->buf;
			h->buf = NULL;
		}
		hedge_free(h);
	}
	if (!won)
		rpc_group_wait_all(reads);
	return won;
}
