/* resolve.c - the decision of a takeover as a pure function. See resolve.h.
 *
 * The digests of the used bricks are merged by tx id. Per tx, the participants among the used bricks either hold it
 * (prepared, committed), have aborted it, or lack it. Aborted bytes are kept as poison, a bitmap of 4 KiB blocks per
 * shard. */
#include "ec/resolve.h"
#include "core/base/bitmap.h"
#include "core/base/mutate.h"

int ec_resolve_view(const struct ec_geometry *g, const struct ec_fence_fact *facts, struct ec_view *ret, struct err *e)
{
	const struct ec_view *best = NULL;
	unsigned replies = 0, seeded = 0;
	for (uint32_t b = 0; b < g->n; b++) {
		const struct ec_fence_fact *f = &facts[b];
		if (!f->replied)
			continue;
		replies++;
		if (!f->has_view)
			continue;
		seeded++;
		if (best && ec_view_cmp(&f->view, best) == 0 && f->view.insync != best->insync)
			return err_set(e, -MYFS_E_PROTO, "two different views with epoch %llu version %llu",
				       (unsigned long long)best->epoch, (unsigned long long)best->ver);
		if (!best || ec_view_cmp(&f->view, best) > 0)
			best = &f->view;
	}
	if (replies < g->w)
		return err_set(e, -MYFS_E_QUORUM, "%u of %u bricks answered, %u needed", replies, g->n, g->w);
	if (!best)
		return err_set(e, -ENOENT, "no brick has a view");
	if (seeded < g->w && !MUTATED(H14)) /* H14: those that were emptied may be the ones that knew a newer view */
		return err_set(e, -MYFS_E_UNSEEDED, "%u of %u bricks know it, %u needed; the others came back empty", seeded, g->n, g->w);
	*ret = *best;
	return 0;
}

int ec_resolve_who(const struct ec_geometry *g, const struct ec_view *v, const struct ec_fence_fact *facts, bool waited,
		   struct ec_resolve_members *ret, struct err *e)
{
	struct ec_resolve_members m = {.settled_epoch = v->state == BP_VIEW_READY ? v->epoch : 0};
	for (uint32_t b = 0; b < g->n; b++) {
		if (!facts[b].replied)
			continue;
		m.replied |= UINT32_C(1) << b;
		if (!mask_has(v->insync, b) || (!facts[b].has_view && !MUTATED(H14)))
			continue; /* H14: without a view it was emptied since, whatever the newest view says */
		m.fenced |= UINT32_C(1) << b;
		if (gfid_eq(&facts[b].boot, &v->boot[b]))
			m.firm |= UINT32_C(1) << b;
	}
	*ret = m;
	if (mask_count(m.fenced) < g->k)
		return err_set(e, -MYFS_E_QUORUM, "%u of the %u in-sync bricks answered, %u needed to read every byte",
			       mask_count(m.fenced), mask_count(v->insync), g->k);
	if (MUTATED(H3))
		m.firm = ret->firm = m.fenced;
	if (mask_count(m.firm) >= g->k) {
		ret->use = m.firm;
		return 0;
	}
	if (!waited && m.fenced != v->insync && !MUTATED(H11)) /* H11: the missing ones may hold what these lost */
		return err_set(e, -EAGAIN, "%u in-sync bricks kept their journal, %u needed: waiting for %u more",
			       mask_count(m.firm), g->k, mask_count(v->insync & ~m.fenced));
	ret->use = m.fenced;
	ret->rollback = true;
	return 0;
}

uint64_t ec_regions_of(const struct ec_geometry *g, uint32_t lba, uint32_t nblocks)
{
	uint32_t region_blocks = g->region_rows * g->k;
	uint32_t first = lba / region_blocks, last = (lba + (nblocks ? nblocks - 1 : 0)) / region_blocks;
	assert(last < EC_REGIONS && first <= last);
	uint64_t upto = last == 63 ? UINT64_MAX : (UINT64_C(1) << (last + 1)) - 1;
	return upto & ~((UINT64_C(1) << first) - 1);
}

/* ---- poison: blocks whose latest writer was aborted ---- */

struct poison_shard {
	uint32_t shard;
	uint64_t *bits; /* one per block of the shard */
};

struct poison {
	uint32_t blocks; /* of a shard */
	uint32_t n, cap;
	struct poison_shard *v;
};

static void poison_release(struct poison *p)
{
	for (uint32_t i = 0; i < p->n; i++)
		free(p->v[i].bits);
	free(p->v);
}

static uint64_t *poison_bits(const struct poison *p, uint32_t shard)
{
	for (uint32_t i = 0; i < p->n; i++)
		if (p->v[i].shard == shard)
			return p->v[i].bits;
	return NULL;
}

static int poison_add(struct poison *p, const struct ec_decision *t)
{
	uint64_t *bits = poison_bits(p, t->shard);
	if (!bits) {
		if (p->n == p->cap) {
			uint32_t cap = p->cap ? p->cap * 2 : 8;
			struct poison_shard *v = realloc(p->v, cap * sizeof(*v));
			if (!v)
				return -ENOMEM;
			p->v = v;
			p->cap = cap;
		}
		bits = calloc(BITMAP_WORDS(p->blocks), sizeof(*bits));
		if (!bits)
			return -ENOMEM;
		p->v[p->n++] = (struct poison_shard){.shard = t->shard, .bits = bits};
	}
	bitmap_set_range(bits, t->lba, t->nblocks);
	return 0;
}

static void poison_clear(struct poison *p, const struct ec_decision *t)
{
	uint64_t *bits = poison_bits(p, t->shard);
	if (bits)
		bitmap_clear_range(bits, t->lba, t->nblocks);
}

static bool own_bytes_poisoned(const uint64_t *bits, const struct ec_decision *t)
{
	uint32_t end = t->lba + t->nblocks;
	return bitmap_next(bits, end, t->lba) < end;
}

/* A reconstruct-write read the chunks it did not touch, in every row it wrote. nblocks == 0 (repair of a parity block)
 * wrote no data block and read the whole row of lba. */
static bool untouched_poisoned(const struct ec_geometry *g, const uint64_t *bits, const struct ec_decision *t)
{
	uint32_t last = t->lba + (t->nblocks ? t->nblocks - 1 : 0);
	uint32_t stripe_blocks = g->k * g->rows_per_chunk;
	for (uint32_t s = t->lba / stripe_blocks; s <= last / stripe_blocks; s++) {
		uint64_t rows = 0; /* rows of this stripe that t wrote */
		for (uint32_t i = 0; i < stripe_blocks; i++) {
			uint32_t lba = s * stripe_blocks + i;
			if (lba >= t->lba && lba <= last)
				rows |= UINT64_C(1) << i % g->rows_per_chunk;
		}
		for (uint32_t i = 0; i < stripe_blocks; i++) {
			uint32_t lba = s * stripe_blocks + i;
			bool own = t->nblocks && lba >= t->lba && lba <= last;
			if (!own && ((rows >> i % g->rows_per_chunk) & 1) && bitmap_test(bits, lba))
				return true;
		}
	}
	return false;
}

/* D2: was t computed from bytes that are now taken back? */
static bool depends_on_poison(const struct ec_geometry *g, const struct poison *p, const struct ec_decision *t)
{
	const uint64_t *bits = poison_bits(p, t->shard);
	if (!bits || MUTATED(H8))
		return false;
	switch (t->tx_kind) {
	case BP_TX_DELTA:
		return own_bytes_poisoned(bits, t);
	case BP_TX_RCW:
		return !MUTATED(H8B) && untouched_poisoned(g, bits, t);
	default:
		return false; /* BP_TX_FULL */
	}
}

/* ---- merging digests ---- */

/* A decision being built; the states seen so far per brick. */
struct merge {
	struct ec_decision d;
	uint32_t committed, aborted, prepared; /* masks of used bricks */
	uint32_t undone;                       /* of the aborted: by a takeover */
};

static int digest_check(const struct ec_geometry *g, uint32_t brick, const bp_digest *t, struct err *e)
{
	uint32_t blocks = g->shard_rows * g->k;
	const char *what = NULL;
	if (t->tx_kind != BP_TX_DELTA && t->tx_kind != BP_TX_RCW && t->tx_kind != BP_TX_FULL)
		what = "of unknown kind";
	else if (t->state < BP_ST_PREP || t->state > BP_ST_UNDONE)
		what = "in an unknown state";
	else if (t->lba >= blocks || !range_inside(t->lba, t->nblocks, blocks))
		what = "outside its shard";
	else if (t->nblocks == 0 && t->tx_kind != BP_TX_RCW)
		what = "without blocks";
	else if ((t->participants & ~mask_all(g->n)) || !mask_has(t->participants, brick))
		what = "with impossible participants";
	if (!what)
		return 0;
	return err_set(e, -MYFS_E_PROTO, "brick %u reports transaction %llu.%llu %s", brick,
		       (unsigned long long)t->tx.epoch, (unsigned long long)t->tx.n, what);
}

static int merge_cmp(const void *a, const void *b)
{
	const struct merge *x = a, *y = b;
	int c = ec_tx_cmp(&x->d.tx, &y->d.tx);
	return c ? c : (x->d.holders > y->d.holders) - (x->d.holders < y->d.holders);
}

static int merge_collect(const struct ec_geometry *g, uint32_t use, const struct ec_fence_fact *facts,
			 const bp_tx *floor, struct merge *v, size_t *ret_n, struct err *e)
{
	size_t n = 0;
	for (uint32_t b = 0; b < g->n; b++) {
		for (uint32_t i = 0; mask_has(use, b) && i < facts[b].ntxs; i++) {
			const bp_digest *t = &facts[b].txs[i];
			int rc = digest_check(g, b, t, e);
			if (rc)
				return rc;
			if (i > 0 && ec_tx_cmp(&facts[b].txs[i - 1].tx, &t->tx) >= 0)
				return err_set(e, -MYFS_E_PROTO, "brick %u reports transactions out of order", b);
			if (ec_tx_cmp(&t->tx, floor) < 0) {
				if (t->state == BP_ST_PREP)
					return err_set(
					    e, -MYFS_E_PROTO,
					    "brick %u never heard the outcome of transaction %llu.%llu, which is "
					    "below the floor",
					    b, (unsigned long long)t->tx.epoch, (unsigned long long)t->tx.n);
				continue; /* decided and durable everywhere: its record only waits to be trimmed */
			}
			uint32_t bit = UINT32_C(1) << b;
			v[n++] = (struct merge){
			    .d = {.tx = t->tx,
				  .holders = bit,
				  .shard = t->shard,
				  .tx_kind = t->tx_kind,
				  .lba = t->lba,
				  .nblocks = t->nblocks,
				  .participants = t->participants},
			    .committed = t->state == BP_ST_COMMITTED ? bit : 0,
			    .aborted = t->state == BP_ST_ABORTED || t->state == BP_ST_UNDONE ? bit : 0,
			    .undone = t->state == BP_ST_UNDONE ? bit : 0,
			    .prepared = t->state == BP_ST_PREP ? bit : 0,
			};
		}
	}
	qsort(v, n, sizeof(*v), merge_cmp);
	*ret_n = n;
	return 0;
}

/* Joins entries of the same tx in place. */
static int merge_join(struct merge *v, size_t *n, struct err *e)
{
	size_t out = 0;
	for (size_t i = 0; i < *n; i++) {
		struct merge *last = out ? &v[out - 1] : NULL;
		if (!last || ec_tx_cmp(&last->d.tx, &v[i].d.tx) != 0) {
			v[out++] = v[i];
			continue;
		}
		const struct ec_decision *a = &last->d, *b = &v[i].d;
		if (a->shard != b->shard || a->tx_kind != b->tx_kind || a->lba != b->lba || a->nblocks != b->nblocks ||
		    a->participants != b->participants)
			return err_set(e, -MYFS_E_PROTO, "bricks disagree about what transaction %llu.%llu is",
				       (unsigned long long)a->tx.epoch, (unsigned long long)a->tx.n);
		last->d.holders |= v[i].d.holders;
		last->committed |= v[i].committed;
		last->aborted |= v[i].aborted;
		last->undone |= v[i].undone;
		last->prepared |= v[i].prepared;
	}
	*n = out;
	return 0;
}

/* ---- deciding ---- */

static int decide_one(const struct ec_geometry *g, const struct ec_resolve_members *m, struct merge *t,
		      struct poison *poison, struct err *e)
{
	struct ec_decision *d = &t->d;
	d->to = d->participants & m->use;
	uint32_t lack = d->to & ~d->holders;
	bool poisoned = m->rollback && depends_on_poison(g, poison, d);
	/* Aborted by its owner: whatever came later on these bytes was computed without it. Aborted by a takeover, which may have been
	 * interrupted: the brick that lacked it then need not be here now. */
	bool by_owner = (t->aborted & ~t->undone) != 0;
	d->commit = lack == 0 && t->aborted == 0 && !poisoned;
	d->was_committed = t->committed != 0;
	d->holders &= ~t->aborted;
	if (d->commit) {
		if (d->tx_kind != BP_TX_DELTA)
			poison_clear(poison, d);
		return 0;
	}
	if (d->was_committed && !m->rollback) /* D1 */
		return err_set(e, -MYFS_E_PROTO,
			       "transaction %llu.%llu: committed on bricks 0x%x, but %s (0x%x) with no journal lost",
			       (unsigned long long)d->tx.epoch, (unsigned long long)d->tx.n, t->committed,
			       poisoned     ? "built on an aborted one"
			       : t->aborted ? "aborted on others"
					    : "unknown to others",
			       t->aborted ? t->aborted : lack);
	return m->rollback && !by_owner && d->nblocks ? poison_add(poison, d) : 0;
}

/* The highest that any brick knows; and a READY view says that its takeover has settled every tx of earlier epochs, durably. */
static bp_tx highest_floor(const struct ec_geometry *g, const struct ec_resolve_members *m, const struct ec_fence_fact *facts)
{
	bp_tx floor = {m->settled_epoch, 0};
	for (uint32_t b = 0; b < g->n; b++)
		if (facts[b].replied && facts[b].has_view && ec_tx_cmp(&facts[b].floor, &floor) > 0)
			floor = facts[b].floor;
	return floor;
}

static int decide_all(const struct ec_geometry *g, const struct ec_resolve_members *m, struct merge *v, size_t n,
		      struct ec_resolution *r, struct ec_missed *missed, struct err *e)
{
	struct poison poison = {.blocks = g->shard_rows * g->k};
	int rc = 0;
	for (size_t i = 0; i < n && !rc; i++) {
		struct ec_decision *d = &v[i].d;
		rc = decide_one(g, m, &v[i], &poison, e);
		if (!rc && missed)
			rc = ec_missed_add_mask(missed, d->shard, d->participants & ~m->use,
						ec_regions_of(g, d->lba, d->nblocks));
		if (rc)
			break;
		r->v[r->n++] = *d;
		r->aborted += !d->commit;
		r->lost += !d->commit && d->was_committed;
	}
	poison_release(&poison);
	return rc == -ENOMEM ? err_set(e, rc, "out of memory") : rc;
}

int ec_resolve_decide(const struct ec_geometry *g, const struct ec_resolve_members *m,
		      const struct ec_fence_fact *facts, struct ec_resolution *ret, struct ec_missed *missed,
		      struct err *e)
{
	struct ec_resolution r = {.floor = highest_floor(g, m, facts)};
	size_t n = 0;
	for (uint32_t b = 0; b < g->n; b++)
		n += mask_has(m->use, b) ? facts[b].ntxs : 0;
	struct merge *v = malloc((n + 1) * sizeof(*v));
	if (!v)
		return err_set(e, -ENOMEM, "out of memory");
	int rc = merge_collect(g, m->use, facts, &r.floor, v, &n, e);
	if (!rc)
		rc = merge_join(v, &n, e);
	if (!rc && !(r.v = malloc((n + 1) * sizeof(*r.v))))
		rc = err_set(e, -ENOMEM, "out of memory");
	if (!rc)
		rc = decide_all(g, m, v, n, &r, missed, e);
	free(v);
	if (rc) {
		free(r.v);
		return rc;
	}
	*ret = r;
	return 0;
}

void ec_resolution_release(struct ec_resolution *r)
{
	free(r->v);
	*r = (struct ec_resolution){0};
}
