/* watch.c - a tick a second while there is something to look at.
 *
 * An open LUN heals by itself (ec/). A closed one is opened for it when a brick is connected that was not in sync when
 * the LUN closed; after a restart nothing is known of the attention set's LUNs, so each is opened once. At most
 * HEALS_MAX at a time, so that a brick's return does not open a thousand LUNs at once.
 *
 * Invariant: every entry of d->watches is in d->attention; one that is in attention without an entry is "not known". */
#include "blockd/watch.h"

#include "core/base/log.h"

#define TICK_NS        (1 * NS_PER_S)
#define HEALS_MAX      2u
#define HEAL_LOOK_NS   (200 * NS_PER_MS)
#define HEAL_KEEP_NS   (0 * NS_PER_S)
#define RETRY_NS       (5 * NS_PER_S) /* after an attempt that failed */
#define RATE_WEIGHT    0.3
#define RATE_SAMPLE_NS (900 * NS_PER_MS)

struct watch { /* a closed LUN */
	struct list node;
	struct gfid gfid;
	char volume[REG_NAME];
	bool healing;      /* a fiber holds it open */
	uint64_t retry_ns; /* not before */
	uint32_t sets;
	uint32_t insync[]; /* [sets] when it closed; 0 = not known */
};

static struct watch *watch_find(struct blockd *d, const struct gfid *gfid)
{
	list_for_each(w, &d->watches, struct watch, node)
		if (gfid_eq(&w->gfid, gfid))
			return w;
	return NULL;
}

static void watch_free(struct watch *w)
{
	list_del(&w->node);
	free(w);
}

static struct watch *watch_make(struct blockd *d, const struct gfid *gfid, const struct volume *v)
{
	struct watch *w = watch_find(d, gfid);

	if (w)
		return w;
	w = calloc(1, sizeof(*w) + v->row.sets * sizeof(w->insync[0]));
	if (!w)
		return NULL;
	w->gfid = *gfid;
	w->sets = v->row.sets;
	memcpy(w->volume, v->row.name, sizeof(w->volume));
	list_init(&w->node);
	list_push_back(&d->watches, &w->node);
	return w;
}

void watch_forget(struct blockd *d, const struct gfid *gfid)
{
	struct watch *w = watch_find(d, gfid);
	struct err e = ERR_INIT;

	if (w && !w->healing)
		watch_free(w);
	if (gfid_set_remove(&d->attention, gfid, &e) < 0)
		log_warn("the list of LUNs to look at cannot be written: %s", e.text);
}

void watch_lun_closing(struct lun *l)
{
	struct watch *w;

	if (lun_whole(l)) {
		watch_forget(l->d, &l->row.gfid);
		if (lun_whole(l))
			return;
		gfid_set_add(&l->d->attention, &l->row.gfid, NULL); /* a brick went while that was written */
	}
	w = watch_make(l->d, &l->row.gfid, l->volume);
	for (uint32_t i = 0; w && i < w->sets; i++) {
		struct ec_domain_status s;

		dht_file_status(l->file, i, &s);
		w->insync[i] = s.insync;
	}
}

/* ---- healing closed LUNs ---- */

static uint32_t connected_mask(const struct volume *v, unsigned set)
{
	uint32_t mask = 0;

	for (unsigned i = 0; i < v->geo.n; i++) {
		struct ec_brick_status s;

		ec_set_brick_status(dht_volume_set(v->dht, set), i, &s);
		mask |= s.connected ? UINT32_C(1) << i : 0;
	}
	return mask;
}

/* Can opening it now bring a brick forward? Every set must be able to serve. */
static bool watch_due(const struct watch *w, const struct volume *v)
{
	bool newcomer = false;

	if (w->sets != v->row.sets || volume_fewest_connected(v) < v->geo.w)
		return false;
	for (uint32_t i = 0; i < w->sets; i++)
		newcomer |= (connected_mask(v, i) & ~w->insync[i]) != 0;
	return newcomer;
}

/* Is any connected brick of the open LUN still behind? */
static bool lun_behind(const struct lun *l)
{
	for (unsigned i = 0; i < dht_volume_sets(l->volume->dht); i++) {
		struct ec_domain_status s;

		dht_file_status(l->file, i, &s);
		if ((connected_mask(l->volume, i) & ~s.insync) != 0)
			return true;
	}
	return false;
}

static bool lun_is_ours(const struct blockd *d, const struct reg_lun *row)
{
	return !row->owner[0] || strcmp(row->owner, d->self.name) == 0;
}

struct heal_job {
	struct blockd *d;
	struct gfid gfid;
};

/* 0, or a negative code when it could not be opened now. */
static int heal_lun(struct blockd *d, const struct gfid *gfid) YIELDS
{
	struct err e = ERR_INIT;
	struct reg_lun row;
	struct lun *l;
	int rc = reg_lun_get_gfid(d->registry, gfid, &row, &e);

	if (rc == -ENOENT || (rc == 0 && (row.state != REG_LUN_READY || !lun_is_ours(d, &row)))) {
		/* In the trash, or gone: nobody reads it. Restoring it opens it once (catalogue.c adds it again). Or another
		 * gateway has it: whoever opens it heals it. */
		watch_forget(d, gfid);
		return 0;
	}
	if (rc == 0)
		rc = lun_hold(d, &row, &l, &e);
	if (rc < 0) {
		log_note("cannot look after a LUN now: %s", e.text);
		return rc;
	}
	while (!d->stopping && l->state == LUN_OPEN && !l->revoked && lun_behind(l))
		blockd_sleep(d, HEAL_LOOK_NS);
	l->keep_ns = l->sessions == 0 ? HEAL_KEEP_NS : l->keep_ns;
	lun_release(l);
	return 0;
}

static void heal_fiber(void *arg)
{
	struct heal_job *j = arg;
	struct blockd *d = j->d;
	int rc = heal_lun(d, &j->gfid);
	struct watch *w;

	w = watch_find(d, &j->gfid);
	if (w) {
		w->healing = false;
		w->retry_ns = rc < 0 ? loop_now_ns() + RETRY_NS : 0;
		if (!gfid_set_has(&d->attention, &j->gfid))
			watch_free(w);
	}
	d->heals--;
	free(j);
	watch_kick(d);
	blockd_fiber_done(d);
}

static void heal_start(struct blockd *d, struct watch *w)
{
	struct heal_job *j = calloc(1, sizeof(*j));

	if (!j)
		return;
	j->d = d;
	j->gfid = w->gfid;
	if (blockd_spawn(d, "lun-heal", heal_fiber, j) < 0) {
		free(j);
		return;
	}
	w->healing = true;
	d->heals++;
}

static size_t list_length(const struct list *head)
{
	size_t n = 0;

	for (const struct list *it = head->next; it != head; it = it->next)
		n++;
	return n;
}

/* LUNs of the attention set that nobody has an entry for: left by an earlier life of this gateway. */
static void adopt_unknown(struct blockd *d)
{
	if (d->attention.n <= list_length(&d->watches) + list_length(&d->luns))
		return; /* each has an entry or is in use: nothing to search for, the usual case */
	for (size_t i = 0; i < d->attention.n; i++) {
		struct gfid gfid = d->attention.v[i];
		struct reg_lun row;
		struct volume *v;
		int rc;

		if (watch_find(d, &gfid) || lun_find(d, &gfid))
			continue;
		rc = reg_lun_get_gfid(d->registry, &gfid, &row, NULL);
		v = rc == 0 ? volume_get(d, row.volume) : NULL;
		if (v) {
			watch_make(d, &gfid, v);
			volume_put(v);
		} else if (rc == -ENOENT) {
			watch_forget(d, &gfid);
			return; /* the set changed under the index; the rest has time until the next tick */
		}
	}
}

static void start_heals(struct blockd *d)
{
	list_for_each(w, &d->watches, struct watch, node) {
		struct lun *l = lun_find(d, &w->gfid);
		struct volume *v;

		if (d->heals >= HEALS_MAX)
			return;
		if (w->healing || w->retry_ns > loop_now_ns() || (l && l->state != LUN_CLOSED))
			continue;
		v = volume_get(d, w->volume);
		if (!v)
			continue;
		if (watch_due(w, v))
			heal_start(d, w);
		volume_put(v);
	}
}

/* Entries of LUNs that somebody opened meanwhile: what was known of them is old. */
static void drop_old(struct blockd *d)
{
	list_for_each_safe(w, &d->watches, struct watch, node) {
		const struct lun *l = lun_find(d, &w->gfid);

		if (!w->healing && ((l && l->state == LUN_OPEN) || !gfid_set_has(&d->attention, &w->gfid)))
			watch_free(w);
	}
}

bool watch_knows_stale(struct blockd *d, const struct gfid *gfid)
{
	const struct watch *w = watch_find(d, gfid);

	return w && w->insync[0] != 0;
}

unsigned watch_waiting(struct blockd *d, const struct volume *v, bool *ret_now)
{
	unsigned n = 0;

	*ret_now = false;
	adopt_unknown(d);
	list_for_each(w, &d->watches, struct watch, node) {
		const struct lun *l = lun_find(d, &w->gfid);

		if (strcmp(w->volume, v->row.name) != 0 || (l && l->state == LUN_OPEN))
			continue;
		n++;
		*ret_now |= w->healing || watch_due(w, v);
	}
	return n;
}

/* ---- the tick ---- */

static void sample_rate(struct lun *l)
{
	uint64_t now = loop_now_ns();
	struct ec_domain_status s;
	struct lun_rate *r = &l->rate;

	if (now - r->sampled_ns < RATE_SAMPLE_NS)
		return;
	dht_file_status(l->file, 0, &s);
	if (s.missed_bytes == 0) {
		*r = (struct lun_rate){.sampled_ns = now, .sampled_bytes = s.healed_bytes};
		return;
	}
	if (r->since_ns == 0) {
		r->since_ns = now;
	} else {
		double rate = (double)(s.healed_bytes - r->sampled_bytes) * 1e9 / (double)(now - r->sampled_ns);

		double off = rate > r->bytes_per_s ? rate - r->bytes_per_s : r->bytes_per_s - rate;

		r->spread = r->bytes_per_s > 0 ? r->spread * (1 - RATE_WEIGHT) + off * RATE_WEIGHT : 0;
		r->bytes_per_s = r->bytes_per_s > 0 ? r->bytes_per_s * (1 - RATE_WEIGHT) + rate * RATE_WEIGHT : rate;
	}
	r->sampled_ns = now;
	r->sampled_bytes = s.healed_bytes;
}

static void watch_fiber(void *arg)
{
	struct blockd *d = arg;

	while (!d->stopping) {
		luns_tend(d);
		list_for_each(l, &d->luns, struct lun, node)
			if (l->state == LUN_OPEN)
				sample_rate(l);
		drop_old(d);
		adopt_unknown(d);
		start_heals(d);
		blockd_sleep(d, TICK_NS);
	}
	blockd_fiber_done(d);
}

int watch_start(struct blockd *d)
{
	return blockd_spawn(d, "watch", watch_fiber, d);
}

void watch_stop(struct blockd *d)
{
	list_for_each_safe(w, &d->watches, struct watch, node)
		watch_free(w);
}

void watch_kick(struct blockd *d)
{
	waitq_wake_all(&d->kick);
}
