/* catalogue.c - changes of which LUNs exist; see catalogue.h for the order of steps and why.
 *
 * Invariant: whatever changes a LUN's row or its names on the bricks holds the volume's `changing` lock, so steps of
 * two changes never mix on this gateway; rows are read again under it. */
#include "blockd/catalogue.h"

#include <stdio.h>

#include "blockd/lun.h"
#include "blockd/reconcile.h"
#include "blockd/watch.h"
#include "core/base/log.h"
#include "handlers/nbd/nbd.h"

/* ---- the volume of a change ---- */

static int change_begin(struct blockd *d, const char *volume, struct volume **ret, struct err *e) YIELDS
{
	struct reg_volume row;
	struct volume *v = volume_get(d, volume);
	int rc;

	if (!v) {
		rc = reg_volume_get(d->registry, volume, &row, e);
		return rc == -ENOENT
			   ? err_set(e, -ENOENT, "there is no volume %s", volume)
			   : err_set(e, rc < 0 ? rc : -ENXIO, "volume %s is not started on this gateway", volume);
	}
	fmutex_lock(&v->changing);
	rc = volume_names(v, e);
	if (rc < 0) {
		fmutex_unlock(&v->changing);
		volume_put(v);
		return rc;
	}
	*ret = v;
	return 0;
}

static void change_end(struct volume *v)
{
	fmutex_unlock(&v->changing);
	volume_put(v);
}

/* Reads the row again (somebody else may have changed it) and refuses when it is in another state. */
static int row_again(struct blockd *d, const struct gfid *gfid, uint32_t state, struct reg_lun *ret, struct err *e)
{
	int rc = reg_lun_get_gfid(d->registry, gfid, ret, e);

	if (rc == 0 && ret->state != state)
		rc = err_set(e, -EAGAIN, "%s/%s is being changed by somebody else", ret->volume, ret->name);
	return rc;
}

static int row_set_state(struct blockd *d, struct reg_lun *row, uint32_t state, struct err *e)
{
	uint32_t before = row->state;
	int rc;

	row->state = state;
	rc = reg_lun_put(d->registry, row, e);
	if (rc < 0)
		row->state = before;
	return rc;
}

/* ---- create ---- */

int lun_finish_create(struct blockd *d, const struct reg_lun *row, struct err *e)
{
	struct reg_lun now;
	struct volume *v;
	int rc = change_begin(d, row->volume, &v, e);

	if (rc < 0)
		return rc;
	rc = row_again(d, &row->gfid, REG_LUN_CREATING, &now, e);
	if (rc == 0)
		rc = dht_create(v->dht, now.name, &now.gfid, now.size_bytes, e);
	if (rc == 0) {
		now.owner[0] = '\0'; /* never opened */
		rc = row_set_state(d, &now, REG_LUN_READY, e);
	}
	change_end(v);
	return rc == -EAGAIN ? 0 : rc;
}

/* Adds a CREATING row unless the name is taken. */
static int add_row(struct blockd *d, const struct lun_wish *wish, struct reg_lun *row, struct reg_lun *ret_present,
		   struct err *e)
{
	static const struct target_wish usual = {.auth = REG_AUTH_CHAP};
	uint8_t random[16];
	int rc = registry_begin(d->registry, e);

	if (rc < 0)
		return rc;
	rc = reg_lun_get(d->registry, wish->volume, wish->name, ret_present, NULL);
	if (rc == 0) {
		registry_rollback(d->registry);
		return -EEXIST;
	}
	loop_random(random, sizeof(random));
	*row = (struct reg_lun){.gfid = gfid_from_random(random),
				.size_bytes = wish->size_bytes,
				.block_size = wish->block_size,
				.state = REG_LUN_CREATING,
				.created_ns = loop_wall_ns()};
	snprintf(row->volume, sizeof(row->volume), "%s", wish->volume);
	snprintf(row->name, sizeof(row->name), "%s", wish->name);
	snprintf(row->owner, sizeof(row->owner), "%s", d->self.name); /* whose business it is to finish it */
	rc = rc == -ENOENT ? reg_lun_put(d->registry, row, e) : err_set(e, rc, "the registry cannot be read");
	if (rc == 0)
		rc = target_make(d, row, wish->target ? wish->target : &usual, e);
	if (rc == 0)
		rc = registry_commit(d->registry, e);
	else
		registry_rollback(d->registry);
	return rc;
}

int lun_create(struct blockd *d, const struct lun_wish *wish, struct reg_lun *ret, bool *ret_existed, struct err *e)
{
	struct reg_lun row;
	struct volume *v;
	int rc;

	if (wish->size_bytes == 0 || wish->size_bytes > DHT_MAX_FILE_BYTES || wish->size_bytes % wish->block_size != 0)
		return err_set(e, -EINVAL, "the size must be a multiple of %u bytes, above 0 and at most 64 TiB",
			       wish->block_size);
	rc = change_begin(d, wish->volume, &v, e);
	if (rc < 0)
		return rc;
	*ret_existed = false;
	rc = add_row(d, wish, &row, ret, e);
	if (rc == -EEXIST) {
		*ret_existed =
		    wish->if_missing && ret->size_bytes == wish->size_bytes && ret->block_size == wish->block_size;
		change_end(v);
		return *ret_existed ? 0 : err_set(e, -EEXIST, "%s/%s exists already", wish->volume, wish->name);
	}
	if (rc == 0) {
		rc = dht_create(v->dht, row.name, &row.gfid, row.size_bytes, e);
		if (rc == 0)
			row.owner[0] = '\0';
		/* What could not be made is taken back, by reconcile.c when bricks are away. */
		if (row_set_state(d, &row, rc == 0 ? REG_LUN_READY : REG_LUN_PURGING, rc == 0 ? e : NULL) < 0 &&
		    rc == 0)
			rc = -EIO;
		if (rc < 0)
			reconcile_kick(d);
		*ret = row;
	}
	change_end(v);
	return rc;
}

/* ---- resize ---- */

struct beyond {
	bool data;
};

static int beyond_emit(void *arg, uint64_t len, bool data)
{
	struct beyond *b = arg;

	(void)len;
	b->data |= data;
	return b->data;
}

/* May the LUN end earlier? */
static int shrink_check(struct lun *l, uint64_t size_bytes, bool discard, struct err *e) YIELDS
{
	struct beyond b = {false};
	int rc;

	if (l->sessions > 0)
		return err_set(e, -EBUSY, "%s/%s is attached by %u client%s", l->row.volume, l->row.name, l->sessions,
			       l->sessions == 1 ? "" : "s");
	if (discard)
		return 0;
	rc = dht_extents(l->file, size_bytes, l->row.size_bytes - size_bytes, beyond_emit, &b);
	if (rc == 0 && b.data)
		rc = err_set(e, -EPERM, "%s/%s holds data beyond the new end", l->row.volume, l->row.name);
	return rc;
}

/* The size becomes true in the registry and, in the same step, an intent for the bricks. */
static int record_size(struct blockd *d, struct reg_lun *row, uint64_t size_bytes, struct err *e)
{
	uint64_t before = row->size_bytes;
	int rc = gfid_set_add(&d->resizing, &row->gfid, e);

	if (rc < 0)
		return rc;
	row->size_bytes = size_bytes;
	rc = reg_lun_put(d->registry, row, e);
	if (rc < 0)
		row->size_bytes = before;
	return rc;
}

static int resize_open(struct lun *l, struct reg_lun *row, uint64_t size_bytes, bool discard, struct err *e) YIELDS
{
	uint64_t before = row->size_bytes;
	int rc;

	if (size_bytes > before) {
		/* What lies beyond the present end is left from a larger past at most; clients must find zeros. Shards
		 * that were never written cost nothing here. */
		rc = dht_file_resized(l->file, size_bytes);
		if (rc == 0)
			rc = dht_zero(l->file, before, size_bytes - before, true);
		if (rc == 0)
			rc = record_size(l->d, row, size_bytes, e);
		if (rc < 0)
			dht_file_resized(l->file, before);
	} else {
		rc = shrink_check(l, size_bytes, discard, e);
		if (rc == 0)
			rc = record_size(l->d, row, size_bytes, e);
		if (rc == 0 && dht_zero(l->file, size_bytes, before - size_bytes, true) < 0)
			log_warn("%s/%s: space beyond the new end could not be freed now", row->volume, row->name);
		if (rc == 0)
			rc = dht_file_resized(l->file, size_bytes);
	}
	if (rc == 0) {
		char spec[2 * REG_NAME];

		l->row.size_bytes = size_bytes;
		snprintf(spec, sizeof(spec), "%s/%s", row->volume, row->name);
		if (l->d->nbd)
			nbd_server_resized(l->d->nbd, spec, size_bytes);
	}
	return rc < 0 && e && e->code == 0 ? err_set(e, rc, "%s", err_name(rc)) : rc;
}

int lun_finish_resize(struct blockd *d, const struct gfid *gfid, struct err *e)
{
	struct reg_lun row;
	struct volume *v;
	int rc = reg_lun_get_gfid(d->registry, gfid, &row, e);

	if (rc == 0 && row.state != REG_LUN_TRASH && row.state != REG_LUN_READY)
		rc = -ENOENT;
	if (rc == -ENOENT)
		return gfid_set_remove(&d->resizing, gfid, e);
	if (rc == 0)
		rc = change_begin(d, row.volume, &v, e);
	if (rc < 0)
		return rc;
	rc = reg_lun_get_gfid(d->registry, gfid, &row, e);
	if (rc == 0)
		rc = dht_set_size(v->dht, gfid, row.name, row.size_bytes, e);
	if (rc == 0)
		rc = gfid_set_remove(&d->resizing, gfid, e);
	change_end(v);
	return rc;
}

int lun_resize(struct blockd *d, const struct reg_lun *row, uint64_t size_bytes, bool allow_shrink, bool discard,
	       struct err *e)
{
	struct reg_lun now;
	struct lun *l = NULL;
	struct volume *v;
	int rc;

	if (size_bytes == 0 || size_bytes > DHT_MAX_FILE_BYTES || size_bytes % row->block_size != 0)
		return err_set(e, -EINVAL, "the size must be a multiple of %u bytes, above 0 and at most 64 TiB",
			       row->block_size);
	if (size_bytes < row->size_bytes && !allow_shrink)
		return err_set(e, -EPERM, "shrinking %s/%s was not allowed", row->volume, row->name);
	rc = change_begin(d, row->volume, &v, e);
	if (rc < 0)
		return rc;
	rc = row_again(d, &row->gfid, REG_LUN_READY, &now, e);
	if (rc == 0 && now.size_bytes != row->size_bytes)
		rc = err_set(e, -EAGAIN, "%s/%s was resized by somebody else meanwhile", row->volume, row->name);
	if (rc == 0 && now.size_bytes != size_bytes) {
		rc = lun_hold(d, &now, &l, e);
		if (rc == 0) {
			now = l->row; /* the owner may have been recorded */
			rc = lun_enter(l, l->generation); /* or it would be closed under us when it is moved */
			if (rc == 0) {
				rc = resize_open(l, &now, size_bytes, discard, e);
				lun_leave(l, rc);
			}
			lun_release(l);
		}
	}
	change_end(v);
	if (rc == 0 && gfid_set_has(&d->resizing, &row->gfid) && lun_finish_resize(d, &row->gfid, e) < 0) {
		/* The size is true for clients; the bricks' note of it follows. */
		log_warn("%s/%s: %s", row->volume, row->name, e ? e->text : "size not noted on the bricks yet");
		reconcile_kick(d);
	}
	return rc;
}

/* ---- delete ---- */

int lun_finish_trash(struct blockd *d, const struct reg_lun *row, struct err *e)
{
	struct reg_lun now;
	struct volume *v;
	int rc = change_begin(d, row->volume, &v, e);

	if (rc < 0)
		return rc;
	rc = row_again(d, &row->gfid, REG_LUN_TRASH, &now, e);
	if (rc == 0)
		rc = dht_trash(v->dht, now.name, &now.gfid, e);
	if (rc == 0)
		rc = gfid_set_add(&d->trashed, &row->gfid, e);
	change_end(v);
	return rc == -EAGAIN ? 0 : rc;
}

int lun_finish_purge(struct blockd *d, const struct reg_lun *row, struct err *e)
{
	struct reg_lun now;
	struct volume *v;
	int rc = change_begin(d, row->volume, &v, e);

	if (rc < 0)
		return rc;
	rc = row_again(d, &row->gfid, REG_LUN_PURGING, &now, e);
	if (rc == 0)
		rc = lun_expel(d, &now.gfid, false, e);
	if (rc == 0) {
		rc = dht_trash(v->dht, now.name, &now.gfid, e);
		if (rc == 0 || rc == -ENOENT) /* -ENOENT: it was never made */
			rc = dht_unlink_trashed(v->dht, &now.gfid, e);
	}
	if (rc == 0)
		rc = reg_lun_delete(d->registry, &now.gfid, e);
	if (rc == 0) {
		watch_forget(d, &now.gfid);
		gfid_set_remove(&d->trashed, &now.gfid, NULL);
		gfid_set_remove(&d->resizing, &now.gfid, NULL);
	}
	change_end(v);
	return rc == -EAGAIN ? 0 : rc;
}

/* The intent alone; the bricks follow. */
static int record_delete(struct blockd *d, struct volume *v, const struct reg_lun *row, bool now, struct err *e) YIELDS
{
	struct reg_lun again;
	int rc;

	fmutex_lock(&v->changing);
	rc = row_again(d, &row->gfid, REG_LUN_READY, &again, e);
	if (rc == 0)
		rc = lun_expel(d, &row->gfid, false, e);
	if (rc == 0 && again.owner[0] && strcmp(again.owner, d->self.name) != 0) {
		/* Another gateway may have clients on it: opening it here asks that gateway. */
		struct lun *l;

		rc = lun_hold(d, &again, &l, e);
		if (rc == 0) {
			again = l->row;
			lun_release(l);
			rc = lun_expel(d, &row->gfid, false, e);
		}
	}
	if (rc == 0) {
		gfid_set_remove(&d->trashed, &row->gfid, NULL);
		again.deleted_ns = loop_wall_ns();
		rc = row_set_state(d, &again, now ? REG_LUN_PURGING : REG_LUN_TRASH, e);
	}
	fmutex_unlock(&v->changing);
	return rc;
}

int lun_delete(struct blockd *d, const struct reg_lun *row, bool now, struct err *e)
{
	struct volume *v = volume_get(d, row->volume);
	struct err later = ERR_INIT;
	int rc;

	if (!v)
		return err_set(e, -ENXIO, "volume %s is not started on this gateway", row->volume);
	rc = record_delete(d, v, row, now, e);
	volume_put(v);
	if (rc < 0)
		return rc;
	rc = now ? lun_finish_purge(d, row, &later) : lun_finish_trash(d, row, &later);
	if (rc < 0) {
		log_note("deleting %s/%s goes on later: %s", row->volume, row->name, later.text);
		reconcile_kick(d);
	}
	return 0;
}

int lun_purge(struct blockd *d, const struct reg_lun *row, struct err *e)
{
	struct reg_lun now;
	struct err later = ERR_INIT;
	int rc = row_again(d, &row->gfid, REG_LUN_TRASH, &now, e);

	if (rc == 0)
		rc = row_set_state(d, &now, REG_LUN_PURGING, e);
	if (rc < 0)
		return rc;
	rc = lun_finish_purge(d, &now, &later);
	if (rc < 0) {
		log_note("purging %s/%s goes on later: %s", row->volume, row->name, later.text);
		reconcile_kick(d);
	}
	return 0;
}

int lun_restore(struct blockd *d, const struct reg_lun *row, const char *name, struct reg_lun *ret, struct err *e)
{
	struct reg_lun now, present;
	struct volume *v;
	int rc = change_begin(d, row->volume, &v, e);

	if (rc < 0)
		return rc;
	rc = row_again(d, &row->gfid, REG_LUN_TRASH, &now, e);
	if (rc == 0 && reg_lun_get(d->registry, now.volume, name, &present, NULL) == 0)
		rc = err_set(e, -EEXIST, "%s/%s exists already", now.volume, name);
	if (rc == 0 && !gfid_set_has(&d->trashed, &now.gfid))
		rc = dht_trash(v->dht, now.name, &now.gfid, e); /* its rename may not have happened yet */
	if (rc == 0)
		rc = dht_restore(v->dht, &now.gfid, name, e);
	if (rc == 0) {
		snprintf(now.name, sizeof(now.name), "%s", name);
		now.deleted_ns = 0;
		if (now.owner[0]) /* closed everywhere; whoever restores it looks after it */
			snprintf(now.owner, sizeof(now.owner), "%s", d->self.name);
		rc = row_set_state(d, &now, REG_LUN_READY, e);
	}
	if (rc == 0 && target_rename(d, &now, NULL) < 0)
		log_warn("%s/%s: its target keeps its old name", now.volume, now.name);
	gfid_set_remove(&d->trashed, &row->gfid, NULL);
	if (rc == 0) {
		/* It may have been in the trash while bricks were away. */
		if (now.owner[0])
			gfid_set_add(&d->attention, &now.gfid, NULL);
		*ret = now;
	} else {
		reconcile_kick(d); /* its name goes back under .trash */
	}
	change_end(v);
	return rc;
}
