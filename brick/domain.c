/* domain.c - domain table and the state changes that live requests and replay share. */
#include "brick/domain.h"

#include <stdlib.h>

#include "brick/brick_priv.h"

/* ---- missed map ---- */

size_t missed_at(const struct missed_map *m, uint32_t shard, uint32_t brick)
{
	size_t lo = 0, hi = m->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct rec_missed *e = &m->v[mid];
		if (e->shard < shard || (e->shard == shard && e->brick < brick))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int missed_add(struct missed_map *m, uint32_t shard, uint32_t brick, uint64_t regions)
{
	if (!regions)
		return 0;
	size_t at = missed_at(m, shard, brick);
	if (at < m->n && m->v[at].shard == shard && m->v[at].brick == brick) {
		bool fresh = (regions & ~m->v[at].regions) != 0;
		m->v[at].regions |= regions;
		return fresh;
	}
	if (m->n == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 8;
		struct rec_missed *v = realloc(m->v, cap * sizeof(*v));
		if (!v)
			return -ENOMEM;
		m->v = v;
		m->cap = cap;
	}
	memmove(m->v + at + 1, m->v + at, (m->n - at) * sizeof(*m->v));
	m->v[at] = (struct rec_missed){.shard = shard, .brick = brick, .regions = regions};
	m->n++;
	return 1;
}

void missed_clear_brick(struct missed_map *m, uint32_t brick)
{
	size_t keep = 0;
	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].brick != brick)
			m->v[keep++] = m->v[i];
	m->n = keep;
}

void missed_release(struct missed_map *m)
{
	free(m->v);
	*m = (struct missed_map){0};
}

uint64_t missed_of_shard(const struct missed_map *m, uint32_t shard)
{
	uint64_t all = 0;
	for (size_t i = missed_at(m, shard, 0); i < m->n && m->v[i].shard == shard; i++)
		all |= m->v[i].regions;
	return all;
}

/* ---- table ---- */

static uint32_t domain_bucket(const struct gfid *g)
{
	uint32_t h;
	memcpy(&h, g->b + 4, sizeof(h)); /* random bytes of a version 4 gfid */
	return h % DOMAIN_BUCKETS;
}

struct domain *domain_find(const struct brick *b, const struct gfid *gfid)
{
	struct domain *d = b->domain_hash[domain_bucket(gfid)];
	while (d && !gfid_eq(&d->gfid, gfid))
		d = d->hash_next;
	return d;
}

int domain_get(struct brick *b, const struct gfid *gfid, struct domain **ret)
{
	struct domain *d = domain_find(b, gfid);
	if (d) {
		*ret = d;
		return 0;
	}
	if (b->n_domains >= BRICK_MAX_DOMAINS)
		return -ENOSPC;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->gfid = *gfid;
	d->refs = 1;
	list_init(&d->txs);
	list_init(&d->held_node);
	oshards_init(&d->shards);
	list_push_back(&b->domains, &d->node);
	struct domain **slot = &b->domain_hash[domain_bucket(gfid)];
	d->hash_next = *slot;
	*slot = d;
	b->n_domains++;
	*ret = d;
	return 0;
}

void domain_ref(struct domain *d)
{
	d->refs++;
}

void domain_unref(struct domain *d)
{
	assert(d->refs);
	if (--d->refs)
		return;
	assert(d->dropped && list_empty(&d->txs) && list_empty(&d->shards.list));
	missed_release(&d->missed);
	free(d);
}

void domain_forget_writes(struct brick *b, struct domain *d)
{
	list_for_each_safe(t, &d->txs, struct tx, node) {
		if (t->busy)
			tx_set_state(b, t, TX_ABORTED); /* X3: its handler frees it */
		else
			tx_free(b, t);
	}
	list_for_each_safe(s, &d->shards.list, struct oshard, node)
		oshard_free(&b->overlay, &d->shards, s);
	d->base_seq++;
}

void domain_drop(struct brick *b, struct domain *d)
{
	assert(!d->dropped);
	d->dropped = true;
	domain_forget_writes(b, d);
	domain_set_holder(d, NULL);
	struct domain **slot = &b->domain_hash[domain_bucket(&d->gfid)];
	while (*slot != d)
		slot = &(*slot)->hash_next;
	*slot = d->hash_next;
	list_del(&d->node);
	b->n_domains--;
	domain_unref(d);
}

/* ---- state ---- */

bool domain_is_insync(const struct brick *b, const struct domain *d)
{
	return d->has_view && (d->view.insync >> b->id.brick_index & 1u);
}

void domain_set_holder(struct domain *d, struct session *s)
{
	if (list_linked(&d->held_node))
		list_del(&d->held_node);
	d->holder = s;
	if (s)
		list_push_back(&s->held, &d->held_node);
}

void domain_apply_promise(struct domain *d, uint64_t epoch, const struct gfid *owner)
{
	assert(epoch >= d->promise_epoch); /* D1, I1 */
	d->promise_epoch = epoch;
	d->promise_owner = *owner;
}

void domain_apply_view(struct brick *b, struct domain *d, const struct rec_view_head *v)
{
	d->has_view = true;
	d->view = *v;
	if (v->state == BP_VIEW_READY)
		domain_purge_undecided(b, d, v->epoch);
}

void domain_purge_undecided(struct brick *b, struct domain *d, uint64_t epoch)
{
	list_for_each_safe(t, &d->txs, struct tx, node) {
		if (t->id.epoch >= epoch || (t->state != TX_PREP && t->state != TX_PREPARING))
			continue;
		if (t->busy)
			tx_set_state(b, t, TX_ABORTED);
		else
			tx_free(b, t);
	}
}

void domain_raise_floor(struct domain *d, struct txid floor)
{
	if (txid_cmp(floor, d->floor) > 0)
		d->floor = floor;
}

uint64_t regions_of_rows(const struct brick *b, uint32_t row, uint32_t nrows)
{
	uint32_t first = row / b->id.region_rows, last = (row + nrows - 1) / b->id.region_rows;
	uint64_t bits = 0;
	for (uint32_t r = first; r <= last && r < OVERLAY_REGIONS; r++)
		bits |= UINT64_C(1) << r;
	return bits;
}
