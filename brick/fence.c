/* fence.c - promises, views, missed regions and namespace operations: the requests that change who may do what.
 *
 * RAM changes first and in frame order, so that whatever comes next on the connection sees it; the reply waits until
 * the journal is on stable storage (I1). A crash in between loses what nobody was told. */
#include <stdlib.h>

#include "brick/brick_priv.h"
#include "brick/ns.h"

static struct gfid uuid_of(const char u[16])
{
	struct gfid g;
	memcpy(g.b, u, sizeof(g.b));
	return g;
}

/* ---- FENCE ---- */

/* Takes the promise when it is newer, or the same one again. 0, or -MYFS_E_FENCED. */
static int fence_take(struct brick *b, struct session *s, const struct gfid *owner, const struct bp_fence_item *item)
{
	struct gfid g = uuid_of(item->domain);
	struct domain *d = domain_find(b, &g);
	if (d && d->promise_epoch &&
	    (item->epoch < d->promise_epoch || (item->epoch == d->promise_epoch && !gfid_eq(owner, &d->promise_owner) && !MUTATED(H15))))
		return -MYFS_E_FENCED; /* H15: the first of two equal epochs wins */
	int rc = d ? 0 : domain_get(b, &g, &d);
	if (rc < 0)
		return rc;
	if (item->epoch > d->promise_epoch) {
		rc = log_promise(b, &g, item->epoch, owner, NULL);
		if (rc < 0)
			return rc;
		domain_apply_promise(d, item->epoch, owner);
	}
	domain_set_holder(d, s);
	return 0;
}

static uint32_t digest_state(const struct tx *t)
{
	switch (t->state) {
	case TX_COMMITTED:
		return BP_ST_COMMITTED;
	case TX_ABORTED:
		return t->undone ? BP_ST_UNDONE : BP_ST_ABORTED;
	case TX_PREPARING:
	case TX_PREP:
		break;
	}
	return BP_ST_PREP;
}

static int fence_digests(const struct domain *d, struct bp_fence_reply *r)
{
	r->txs.txs_val = d->n_txs ? calloc(d->n_txs, sizeof(*r->txs.txs_val)) : NULL;
	if (d->n_txs && !r->txs.txs_val)
		return -ENOMEM;
	uint32_t n = 0;
	list_for_each(t, &d->txs, struct tx, node) {
		if (txid_cmp(t->id, d->floor) < 0 || t->state == TX_PREPARING || t->busy)
			continue; /* not in the journal: not held */
		if (n == BP_MAX_DIGESTS)
			return -E2BIG;
		r->txs.txs_val[n++] = (struct bp_digest){.tx = {.epoch = t->id.epoch, .n = t->id.n},
							 .shard = t->shard,
							 .tx_kind = t->tx_kind,
							 .lba = t->lba,
							 .nblocks = t->nblocks,
							 .participants = t->participants,
							 .state = digest_state(t)};
	}
	r->txs.txs_len = n;
	return 0;
}

static int view_out(const struct domain *d, struct bp_view *v)
{
	v->epoch = d->view.epoch;
	v->ver = d->view.ver;
	v->state = d->view.state;
	v->insync = d->view.insync;
	v->layout_gen = d->view.layout_gen;
	v->loss_gen = d->view.loss_gen;
	v->clean = d->view.clean;
	v->boot.boot_val = calloc(d->view.nboot ? d->view.nboot : 1, sizeof(bp_uuid));
	if (!v->boot.boot_val)
		return -ENOMEM;
	v->boot.boot_len = d->view.nboot;
	for (uint32_t i = 0; i < d->view.nboot; i++)
		memcpy(v->boot.boot_val[i], d->view.boot[i].b, 16);
	return 0;
}

static int fence_report(const struct domain *d, struct bp_fence_reply *r)
{
	r->promise_epoch = d->promise_epoch;
	memcpy(r->promise_owner, d->promise_owner.b, 16);
	r->has_view = d->has_view;
	r->floor = (struct bp_tx){.epoch = d->floor.epoch, .n = d->floor.n};
	int rc = d->has_view ? view_out(d, &r->view) : 0;
	return rc < 0 ? rc : fence_digests(d, r);
}

int fence_request(struct brick *b, struct session *s, const struct bp_fence_args *a, struct bp_fence_res *ret) YIELDS
{
	if (b->failed[0])
		return -EIO;
	if (s->dead)
		return -MYFS_E_FENCED;
	uint32_t n = a->items.items_len;
	ret->items.items_val = calloc(n ? n : 1, sizeof(*ret->items.items_val));
	if (!ret->items.items_val)
		return -ENOMEM;
	ret->items.items_len = n;
	struct gfid owner = uuid_of(a->owner);
	for (uint32_t i = 0; i < n; i++) {
		int rc = a->items.items_val[i].epoch ? fence_take(b, s, &owner, &a->items.items_val[i]) : 0;
		if (rc < 0 && rc != -MYFS_E_FENCED)
			return rc;
		ret->items.items_val[i].status = (uint32_t)-rc;
	}
	int rc = journal_sync(b->journal, journal_end(b->journal));
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < n && rc == 0; i++) {
		struct gfid g = uuid_of(a->items.items_val[i].domain);
		struct domain *d = domain_find(b, &g);
		if (d && d->promise_epoch)
			rc = fence_report(d, &ret->items.items_val[i]);
		if (rc == 0 && d && a->items.items_val[i].epoch && d->holder != s)
			ret->items.items_val[i].status = MYFS_E_FENCED; /* somebody newer came during the sync */
	}
	return rc;
}

/* ---- VIEW ---- */

static int view_in(const struct brick *b, const struct bp_view *in, struct rec_view_head *ret)
{
	uint32_t all = b->id.n >= 32 ? UINT32_MAX : (1u << b->id.n) - 1;
	if ((in->state != BP_VIEW_RESOLVING && in->state != BP_VIEW_READY) || in->boot.boot_len > b->id.n ||
	    (in->insync & ~all) || (unsigned)__builtin_popcount(in->insync) < b->id.k) /* I3 */
		return -EINVAL;
	*ret = (struct rec_view_head){.epoch = in->epoch,
				      .ver = in->ver,
				      .state = in->state,
				      .insync = in->insync,
				      .layout_gen = in->layout_gen,
				      .loss_gen = in->loss_gen,
				      .clean = in->clean,
				      .nboot = in->boot.boot_len};
	for (uint32_t i = 0; i < ret->nboot; i++)
		ret->boot[i] = uuid_of(in->boot.boot_val[i]);
	return 0;
}

static int missed_valid(const struct brick *b, const struct bp_view_args *a)
{
	for (uint32_t i = 0; i < a->missed.missed_len; i++)
		if (a->missed.missed_val[i].brick >= b->id.n)
			return -EINVAL;
	return 0;
}

int view_request(struct brick *b, struct session *s, const struct bp_view_args *a) YIELDS
{
	struct domain *d;
	struct rec_view_head v;
	int rc = session_domain(s, a->domain, &d);
	if (rc < 0)
		return rc;
	if (a->view.epoch < d->promise_epoch)
		return -MYFS_E_FENCED;
	rc = a->view.epoch > d->promise_epoch ? -EINVAL : view_in(b, &a->view, &v);
	if (rc == 0)
		rc = missed_valid(b, a);
	if (rc < 0)
		return rc;
	bool same = d->has_view && d->view.epoch == v.epoch && d->view.ver == v.ver;
	if (d->has_view && !same && (v.epoch < d->view.epoch || (v.epoch == d->view.epoch && v.ver < d->view.ver)))
		return -MYFS_E_VIEW;
	if (!same) {
		v.floor = d->floor;
		rc = log_view(b, &d->gfid, &v, a->missed.missed_val, a->missed.missed_len, NULL);
		if (rc < 0)
			return rc;
		domain_apply_view(b, d, &v);
		for (uint32_t i = 0; i < a->missed.missed_len && rc >= 0; i++) {
			const struct bp_missed *m = &a->missed.missed_val[i];
			rc = missed_add(&d->missed, m->shard, m->brick, m->regions);
		}
		if (rc < 0) {
			brick_fail(b, "no memory for missed regions");
			return -EIO;
		}
	}
	return journal_sync(b->journal, journal_end(b->journal));
}

/* ---- missed maps ---- */

int missed_page(const struct domain *d, const struct missed_from *from, struct bp_missed_res *ret)
{
	size_t at = missed_at(&d->missed, from->shard, from->brick);
	size_t room = min_u64(d->missed.n - at, BP_MISSED_PAGE);

	ret->items.items_val = calloc(room ? room : 1, sizeof(*ret->items.items_val));
	if (!ret->items.items_val)
		return -ENOMEM;
	for (; at < d->missed.n; at++) {
		const struct rec_missed *m = &d->missed.v[at];
		if (from->only != BP_MISSED_ALL && m->brick != from->only)
			continue;
		ret->more = ret->items.items_len == BP_MISSED_PAGE;
		if (ret->more)
			break;
		ret->items.items_val[ret->items.items_len++] =
		    (struct bp_missed){.shard = m->shard, .brick = m->brick, .regions = m->regions};
	}
	return 0;
}

int missed_request(struct brick *b, const struct bp_missq_args *a, struct bp_missed_res *ret)
{
	struct gfid g = uuid_of(a->domain);
	struct domain *d = domain_find(b, &g);
	struct missed_from from = {.only = a->brick, .shard = a->from_shard, .brick = a->from_brick};

	if (b->failed[0])
		return -EIO;
	return d ? missed_page(d, &from, ret) : -MYFS_E_UNSEEDED;
}

int clear_request(struct brick *b, struct session *s, const struct bp_clear_args *a) YIELDS
{
	struct domain *d;
	int rc = session_domain(s, a->domain, &d);
	if (rc == 0 && a->brick >= b->id.n)
		rc = -EINVAL;
	if (rc == 0)
		rc = log_clear(b, &d->gfid, a->brick, NULL);
	if (rc < 0)
		return rc;
	missed_clear_brick(&d->missed, a->brick);
	return journal_sync(b->journal, journal_end(b->journal));
}

/* ---- NSOP: names go straight to the file system; what the absent bricks miss is journaled first ---- */

static int nsop_miss(struct brick *b, struct domain *root, uint32_t mask) YIELDS
{
	struct rec_missed m[BP_MAX_BRICKS];
	uint32_t n = 0;
	for (uint32_t i = 0; i < b->id.n; i++)
		if (mask >> i & 1u)
			m[n++] = (struct rec_missed){.shard = 0, .brick = i, .regions = 1};
	int rc = n ? log_missed(b, &root->gfid, m, n, NULL) : 0;
	for (uint32_t i = 0; i < n && rc >= 0; i++)
		rc = missed_add(&root->missed, m[i].shard, m[i].brick, m[i].regions);
	return rc < 0 ? rc : journal_sync(b->journal, journal_end(b->journal));
}

/* After an unlink: when no name of the file is left its domain goes too. A crash before this leaves a promise nobody
 * will use; the owner repeats the unlink, which is idempotent. */
static int nsop_drop_domain(struct brick *b, const struct gfid *gfid) YIELDS
{
	char path[TREE_PATH];
	bool is_dir;
	if (gfid_eq(gfid, &GFID_ROOT) || tree_object_path(b->tree, gfid, path, &is_dir) != -ENOENT)
		return 0;
	struct domain *d = domain_find(b, gfid);
	int rc = d ? log_drop(b, gfid, NULL) : 0;
	if (!d || rc < 0)
		return rc;
	domain_drop(b, d);
	return journal_sync(b->journal, journal_end(b->journal));
}

int nsop_request(struct brick *b, struct session *s, const struct bp_nsop_args *a) YIELDS
{
	struct domain *root;
	int rc = session_domain(s, (const char *)GFID_ROOT.b, &root);
	if (rc < 0)
		return rc;
	if (!root->has_view || root->view.epoch != root->promise_epoch || root->view.ver != a->view_version)
		return root->has_view ? -MYFS_E_VIEW : -MYFS_E_UNSEEDED;
	domain_ref(root);
	rc = nsop_miss(b, root, a->missed);
	if (rc == 0 && a->op != BP_NS_MISS) {
		struct gfid gfid = uuid_of(a->gfid);
		bool unlink = a->op == BP_NS_UNLINK;
		if (unlink)
			fmutex_lock(&b->ckpt_lock); /* no checkpoint may bring a shard file back */
		rc = ns_apply(b->tree, a);
		if (unlink && rc == 0)
			rc = nsop_drop_domain(b, &gfid);
		if (unlink)
			fmutex_unlock(&b->ckpt_lock);
	}
	domain_unref(root);
	if (rc == -EIO)
		brick_fail(b, "changing names failed"); /* a sync among them: H18 */
	return rc;
}
