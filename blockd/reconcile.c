/* reconcile.c - one fiber that follows the registry's generation.
 *
 * Every step is idempotent and may fail when bricks are away; then it is tried again after RETRY_NS. Unfinished changes
 * are only those this gateway began, or whose gateway is not in the registry any more; two gateways finishing the same
 * one does no harm. */
#include "blockd/reconcile.h"

#include "blockd/catalogue.h"
#include "blockd/gateways.h"
#include "core/base/log.h"

#define POLL_NS       (500 * NS_PER_MS)
#define RETRY_NS      (5 * NS_PER_S)
#define TRASH_LOOK_NS (60 * NS_PER_S)

static bool ours(struct blockd *d, const struct reg_lun *row)
{
	struct reg_gateway g;

	if (strcmp(row->owner, d->self.name) == 0)
		return true;
	return gateways_first(d) &&
	       (row->owner[0] == '\0' || reg_gateway_get(d->registry, row->owner, &g, NULL) == -ENOENT);
}

typedef int finish_fn(struct blockd *d, const struct reg_lun *row, struct err *e); /* YIELDS */

/* Calls finish for the rows in `state` that need it. Returns how many could not be finished. */
static unsigned finish_all(struct blockd *d, enum reg_lun_state state, const char *what, finish_fn *finish) YIELDS
{
	struct reg_lun *rows = NULL;
	unsigned failed = 0;
	size_t n = 0;

	if (reg_lun_list(d->registry, NULL, (int)state, &rows, &n, NULL) < 0)
		return 1;
	for (size_t i = 0; i < n && !d->stopping; i++) {
		struct volume *v = volume_get(d, rows[i].volume);
		struct err e = ERR_INIT;
		int rc = 0;

		if (v && ours(d, &rows[i]))
			rc = finish(d, &rows[i], &e);
		if (v)
			volume_put(v);
		if (rc < 0) {
			log_note("%s %s/%s goes on later: %s", what, rows[i].volume, rows[i].name, e.text);
			failed++;
		}
	}
	free(rows);
	return failed;
}

static int trash_step(struct blockd *d, const struct reg_lun *row, struct err *e) YIELDS
{
	if (row->deleted_ns + TRASH_KEEP_NS < loop_wall_ns()) {
		log_note("%s/%s was deleted more than 7 days ago and goes for good", row->volume, row->name);
		return lun_purge(d, row, e);
	}
	return gfid_set_has(&d->trashed, &row->gfid) ? 0 : lun_finish_trash(d, row, e);
}

static unsigned finish_resizes(struct blockd *d) YIELDS
{
	unsigned failed = 0;

	for (size_t i = d->resizing.n; i-- > 0 && !d->stopping;) {
		struct gfid gfid;
		struct err e = ERR_INIT;

		if (i >= d->resizing.n)
			continue; /* others were finished meanwhile */
		gfid = d->resizing.v[i];
		if (lun_finish_resize(d, &gfid, &e) < 0) {
			log_note("a resize goes on later: %s", e.text);
			failed++;
		}
	}
	return failed;
}

static unsigned reconcile_luns(struct blockd *d) YIELDS
{
	return finish_all(d, REG_LUN_CREATING, "creating", lun_finish_create) +
	       finish_all(d, REG_LUN_TRASH, "deleting", trash_step) +
	       finish_all(d, REG_LUN_PURGING, "purging", lun_finish_purge) + finish_resizes(d);
}

static void luns_fiber(void *arg)
{
	struct blockd *d = arg;
	uint64_t seen = 0, next_ns = 0;

	while (!d->stopping) {
		uint64_t generation = 0;
		struct err e = ERR_INIT;

		if (registry_generation(d->registry, &generation, &e) < 0)
			log_error("the registry cannot be read: %s", e.text);
		else if (generation != seen || d->kicked || loop_now_ns() >= next_ns) {
			d->kicked = false;
			seen = generation;
			next_ns = loop_now_ns() + (reconcile_luns(d) > 0 ? RETRY_NS : TRASH_LOOK_NS);
		}
		blockd_sleep(d, POLL_NS);
	}
	blockd_fiber_done(d);
}

/* Volumes in a fiber of their own: finishing a LUN may wait for bricks, opening a new volume must not wait for that. */
static void volumes_fiber(void *arg)
{
	struct blockd *d = arg;
	uint64_t seen = 0;
	bool first = true;

	while (!d->stopping) {
		uint64_t generation = 0;

		if (registry_generation(d->registry, &generation, NULL) == 0 && (first || generation != seen)) {
			first = false;
			seen = generation;
			volumes_refresh(d);
		}
		blockd_sleep(d, POLL_NS);
	}
	blockd_fiber_done(d);
}

int reconcile_start(struct blockd *d)
{
	int rc = blockd_spawn(d, "volumes", volumes_fiber, d);

	return rc < 0 ? rc : blockd_spawn(d, "luns", luns_fiber, d);
}

void reconcile_kick(struct blockd *d)
{
	d->kicked = true;
	waitq_wake_all(&d->kick);
}
