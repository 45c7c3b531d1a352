/* lun.c - the life of an open LUN; see lun.h for states and invariants. */
#include "blockd/lun.h"

#include <stdio.h>

#include "blockd/gateways.h"
#include "blockd/peer.h"
#include "blockd/watch.h"
#include "core/base/log.h"

#define CLAIM_TRIES 4u

struct lun *lun_find(struct blockd *d, const struct gfid *gfid)
{
	list_for_each(l, &d->luns, struct lun, node)
		if (gfid_eq(&l->row.gfid, gfid))
			return l;
	return NULL;
}

static struct lun *lun_new(struct blockd *d, const struct reg_lun *row)
{
	struct lun *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->d = d;
	l->row = *row;
	l->keep_ns = LUN_KEEP_OPEN_NS;
	waitq_init(&l->changed);
	span_table_init(&l->spans);
	list_init(&l->node);
	list_push_back(&d->luns, &l->node);
	return l;
}

static void lun_free_if_unused(struct lun *l)
{
	if (l->state == LUN_CLOSED && l->holds == 0) {
		list_del(&l->node);
		free(l);
	}
}

static void lun_become(struct lun *l, enum lun_state state)
{
	l->state = state;
	waitq_wake_all(&l->changed);
}

/* ---- open ---- */

/* The registry's owner becomes us, if it still is who we think. -EAGAIN: somebody else's now; l->row tells whose. */
static int lun_record_owner(struct lun *l, struct err *e)
{
	struct reg_lun row;
	int rc = registry_begin(l->d->registry, e);

	if (rc < 0)
		return rc;
	rc = reg_lun_get_gfid(l->d->registry, &l->row.gfid, &row, e);
	if (rc == 0 && strcmp(row.owner, l->row.owner) != 0) {
		l->row = row;
		rc = -EAGAIN;
	}
	if (rc == 0) {
		snprintf(row.owner, sizeof(row.owner), "%s", l->d->self.name);
		rc = reg_lun_put(l->d->registry, &row, e);
	}
	if (rc == 0)
		rc = registry_commit(l->d->registry, e);
	else
		registry_rollback(l->d->registry);
	if (rc == 0)
		l->row = row;
	return rc;
}

/* "gateway gw1 serves it (..); attach there: nbd://.. or nbd+unix://.." */
static int refused_by(struct lun *l, const struct err *why, struct err *e)
{
	struct reg_gateway g;

	if (reg_gateway_get(l->d->registry, l->row.owner, &g, NULL) < 0)
		return err_set(e, -EBUSY, "%s", why->text);
	return err_set(e, -EBUSY, "gateway %s serves it: %.200s; attach there: %.160s%s%.160s", l->row.owner, why->text,
		       g.nbd_uri, g.nbd_uri[0] && g.nbd_tcp_uri[0] ? " or " : "", g.nbd_tcp_uri);
}

/* Makes us the owner in the registry, asking the present one first. A LUN that was never opened keeps its empty owner
 * until it is, because that alone allows its domain to be seeded. */
static int lun_claim(struct lun *l, struct err *e) YIELDS
{
	for (unsigned i = 0; i < CLAIM_TRIES; i++) {
		struct err why = ERR_INIT;
		int rc;

		if (!l->row.owner[0] || strcmp(l->row.owner, l->d->self.name) == 0)
			return 0;
		/* Who cannot reach the bricks takes nothing away from those who may. */
		if (dht_volume_wait_up(l->volume->dht, loop_now_ns() + l->d->io_timeout_ns, &why) < 0)
			return err_set(e, -MYFS_E_QUORUM, "%s", why.text);
		rc = peer_release_lun(l->d, l->row.owner, &l->row.gfid, l->take, &why);
		if (rc < 0)
			return rc == -EBUSY ? refused_by(l, &why, e) : err_set(e, rc, "%s", why.text);
		rc = lun_record_owner(l, e);
		if (rc != -EAGAIN)
			return rc;
	}
	return err_set(e, -EBUSY, "its owner changes all the time (now %s); try again", l->row.owner);
}

static int lun_open_file(struct lun *l, struct err *e) YIELDS
{
	bool never_opened;
	int rc = lun_claim(l, e);

	never_opened = l->row.owner[0] == '\0';
	if (rc == 0)
		rc = gfid_set_add(&l->d->attention, &l->row.gfid, e); /* L4 */
	if (rc == 0)
		rc = dht_open(l->volume->dht, l->row.name, &l->row.gfid, l->row.size_bytes, never_opened, &l->file, e);
	if (rc == 0 && never_opened) {
		rc = lun_record_owner(l, e);
		if (rc == -EAGAIN)
			err_set(e, -EBUSY, "gateway %s opened it at the same moment; try again", l->row.owner);
		if (rc < 0) {
			dht_close(l->file);
			l->file = NULL;
		}
	}
	return rc == -EAGAIN ? -EBUSY : rc;
}

/* Acknowledged writes are gone that nobody can write again (H25): sessions that count on them must not go on as if nothing were. */
static void lun_note_losses(struct lun *l, bool opening)
{
	uint64_t own, losses = dht_file_losses(l->file, &own);

	if (losses == l->losses && !opening)
		return;
	uint64_t more = opening ? own : losses - l->losses;
	l->losses = losses;
	if (!more)
		return;
	l->volume->losses += more;
	log_error("%s/%s: bricks lost their memory; writes that were acknowledged and not flushed may be gone (loss generation %llu). "
		  "Flushed data is safe. Check the file systems on it: myfs explain LUN_LOSS",
		  l->row.volume, l->row.name, (unsigned long long)losses);
	l->generation++;
	l->sessions = 0;
}

/* While we opened it, another gateway that had asked us before we began may have written itself into the row: luns_follow looks only at
 * open ones. Then it is closed again, and asked for. */
static bool lun_is_anothers(const struct lun *l)
{
	struct reg_lun row;

	return reg_lun_get_gfid(l->d->registry, &l->row.gfid, &row, NULL) == 0 && row.owner[0] &&
	       strcmp(row.owner, l->d->self.name) != 0;
}

static int lun_open(struct lun *l, struct err *e) YIELDS
{
	int rc;

	assert(l->state == LUN_CLOSED && !l->file); /* L1 */
	lun_become(l, LUN_OPENING);
	rc = reg_lun_get_gfid(l->d->registry, &l->row.gfid, &l->row, e);
	if (rc == 0 && l->row.state != REG_LUN_READY)
		rc = err_set(e, -ENOENT, "%s/%s is being made or deleted", l->row.volume, l->row.name);
	if (rc == 0) {
		l->volume = volume_get(l->d, l->row.volume);
		rc = l->volume ? lun_open_file(l, e) : err_set(e, -ENXIO, "volume %s is not started", l->row.volume);
	}
	l->turn++;
	l->failure = (struct err)ERR_INIT;
	if (rc < 0) {
		if (l->volume)
			volume_put(l->volume);
		l->volume = NULL;
		err_wrap(e, rc, "%s/%s", l->row.volume, l->row.name);
		err_set(&l->failure, rc, "%s", e && e->text[0] ? e->text : err_name(rc));
		lun_become(l, LUN_CLOSED);
		return rc;
	}
	l->revoked = l->volume->closing || lun_is_anothers(l);
	l->rate = (struct lun_rate){0};
	l->keep_ns = LUN_KEEP_OPEN_NS;
	l->activity = lun_activity_of(l->d, &l->row);
	lun_note_losses(l, true);
	lun_become(l, LUN_OPEN);
	log_info("%s/%s is open", l->row.volume, l->row.name);
	return 0;
}

bool lun_whole(const struct lun *l)
{
	uint32_t all = (uint32_t)((UINT64_C(1) << l->volume->geo.n) - 1);

	for (unsigned i = 0; i < dht_volume_sets(l->volume->dht); i++) {
		struct ec_domain_status s;

		dht_file_status(l->file, i, &s);
		if (s.insync != all)
			return false;
	}
	return true;
}

/* The second half of closing: waits for running requests, then closes the file. */
static void lun_close_file(struct lun *l) YIELDS
{
	struct ec_domain_status s;

	assert(l->state == LUN_CLOSING && l->file); /* L1 */
	l->generation++; /* L3: its sessions are over */
	l->sessions = 0;
	while (l->requests > 0)
		waitq_wait(&l->changed);
	dht_file_status(l->file, 0, &s);
	l->volume->healed_closed_bytes += s.healed_bytes;
	lun_activity_closing(l->activity, &s);
	l->activity = NULL;
	if (s.deposed)
		lun_activity_forget(l->d, &l->row.gfid); /* another gateway counts now */
	watch_lun_closing(l);
	dht_close(l->file);
	l->file = NULL;
	volume_put(l->volume);
	l->volume = NULL;
	l->revoked = false;
	lun_become(l, LUN_CLOSED);
	log_info("%s/%s is closed", l->row.volume, l->row.name);
}

static void lun_close(struct lun *l) YIELDS
{
	assert(l->state == LUN_OPEN);
	lun_become(l, LUN_CLOSING);
	lun_close_file(l);
}

/* ---- hold ---- */

static int lun_wait_open(struct lun *l, struct err *e) YIELDS
{
	while (l->state != LUN_OPEN || l->revoked) {
		uint32_t turn = l->turn;

		if (l->d->stopping)
			return err_set(e, -ESHUTDOWN, "the gateway is stopping");
		if (l->state == LUN_CLOSED) {
			int rc = lun_open(l, e);

			if (rc < 0)
				return rc;
			continue;
		}
		if (l->state == LUN_OPEN) {
			lun_close(l);
			continue;
		}
		waitq_wait(&l->changed);
		if (l->state == LUN_CLOSED && l->turn != turn && l->failure.code < 0)
			return err_set(e, l->failure.code, "%s", l->failure.text);
	}
	return 0;
}

int lun_take(struct blockd *d, const struct reg_lun *row, struct err *e)
{
	struct lun *l = lun_find(d, &row->gfid);
	int rc;

	if (!l)
		l = lun_new(d, row);
	if (!l)
		return err_set(e, -ENOMEM, "no memory");
	l->holds++;
	l->take = true;
	rc = lun_wait_open(l, e);
	l->take = false;
	if (rc == 0)
		l->stays_until_ns = loop_now_ns() + LUN_STAYS_NS;
	lun_release(l);
	return rc;
}

int lun_hold(struct blockd *d, const struct reg_lun *row, struct lun **ret, struct err *e)
{
	struct lun *l = lun_find(d, &row->gfid);
	int rc;

	if (!l)
		l = lun_new(d, row);
	if (!l)
		return err_set(e, -ENOMEM, "no memory");
	l->holds++;
	rc = lun_wait_open(l, e);
	if (rc < 0) {
		lun_release(l);
		return rc;
	}
	*ret = l;
	return 0;
}

void lun_release(struct lun *l)
{
	assert(l->holds > 0);
	if (--l->holds == 0)
		l->idle_since_ns = loop_now_ns();
	lun_free_if_unused(l);
}

/* ---- requests ---- */

/* It is served elsewhere, or is going to be. Its sessions end without an answer to what was not carried out: a client
 * takes a lost connection as a reason to attach again and repeat, an error as the disk's last word. */
static void lun_hand_over(struct lun *l)
{
	char spec[2 * REG_NAME];

	l->revoked = true;
	snprintf(spec, sizeof(spec), "%s/%s", l->row.volume, l->row.name);
	if (l->d->nbd)
		nbd_server_hang_up(l->d->nbd, spec);
	watch_kick(l->d);
}

int lun_enter(struct lun *l, uint32_t generation)
{
	if (LIKELY(l->state == LUN_OPEN))
		lun_note_losses(l, false);
	if (UNLIKELY(l->state != LUN_OPEN || l->revoked || l->generation != generation))
		return -ESHUTDOWN; /* L3 */
	l->requests++;
	return 0;
}

void lun_leave(struct lun *l, int rc)
{
	assert(l->requests > 0);
	if (UNLIKELY(rc == -MYFS_E_FENCED) && !l->revoked) {
		log_warn("%s/%s was taken over by another gateway", l->row.volume, l->row.name);
		lun_hand_over(l);
	}
	l->last_request_ns = loop_now_ns();
	if (--l->requests == 0 && UNLIKELY(l->state == LUN_CLOSING))
		waitq_wake_all(&l->changed);
}

int lun_enter_span(struct lun *l, uint32_t generation, struct span *s)
{
	int rc = lun_enter(l, generation);

	if (rc == 0)
		span_enter(&l->spans, s); /* counted in l->requests: the file stays open meanwhile */
	return rc;
}

void lun_leave_span(struct lun *l, struct span *s, int rc)
{
	span_leave(&l->spans, s);
	lun_leave(l, rc);
}

/* ---- closing ---- */

int lun_expel(struct blockd *d, const struct gfid *gfid, bool force, struct err *e)
{
	for (;;) {
		struct lun *l = lun_find(d, gfid);

		if (!l || l->state == LUN_CLOSED) {
			lun_activity_forget(d, gfid);
			return 0;
		}
		if (force && l->state == LUN_OPEN && !l->revoked)
			lun_hand_over(l);
		if (!force && !l->revoked && loop_now_ns() < l->stays_until_ns)
			return err_set(e, -EBUSY, "%s/%s was moved here a moment ago", l->row.volume, l->row.name);
		if (l->sessions > 0 && !l->revoked)
			return err_set(e, -EBUSY, "%s/%s is attached by %u client%s", l->row.volume, l->row.name,
				       l->sessions, l->sessions == 1 ? "" : "s");
		l->holds++;
		if (l->state == LUN_OPEN)
			lun_close(l);
		else
			waitq_wait(&l->changed);
		lun_release(l);
	}
}

void luns_follow(struct blockd *d)
{
	list_for_each(l, &d->luns, struct lun, node) {
		struct reg_lun row;

		if (l->state != LUN_OPEN || l->revoked || reg_lun_get_gfid(d->registry, &l->row.gfid, &row, NULL) < 0)
			continue;
		if (row.owner[0] && strcmp(row.owner, d->self.name) != 0) {
			log_warn("%s/%s belongs to gateway %s now", l->row.volume, l->row.name, row.owner);
			lun_hand_over(l);
		}
	}
}

void luns_revoke(struct blockd *d, const struct volume *v)
{
	list_for_each(l, &d->luns, struct lun, node)
		if (l->volume == v)
			l->revoked = true;
	watch_kick(d);
}

/* One LUN that should be closed now, or NULL. */
static struct lun *lun_to_close(struct blockd *d)
{
	uint64_t now = loop_now_ns();

	list_for_each(l, &d->luns, struct lun, node) {
		bool idle = l->holds == 0 && now - l->idle_since_ns >= l->keep_ns;

		if (l->state == LUN_OPEN && (idle || l->revoked))
			return l;
	}
	return NULL;
}

static void close_fiber(void *arg)
{
	struct lun *l = arg;
	struct blockd *d = l->d;

	lun_close_file(l);
	lun_release(l);
	blockd_fiber_done(d);
}

void luns_tend(struct blockd *d)
{
	struct lun *l;

	/* Closing may take as long as missing bricks are waited for: each in a fiber of its own. */
	while ((l = lun_to_close(d))) {
		if (blockd_spawn(d, "lun-close", close_fiber, l) < 0)
			return;
		l->holds++;
		lun_become(l, LUN_CLOSING);
	}
}

void luns_close_all(struct blockd *d)
{
	for (;;) {
		struct lun *busy = NULL;

		list_for_each(l, &d->luns, struct lun, node)
			if (l->state != LUN_CLOSED)
				busy = l;
		if (!busy)
			return;
		busy->holds++;
		if (busy->state == LUN_OPEN)
			lun_close(busy);
		else
			waitq_wait(&busy->changed);
		lun_release(busy);
	}
}
