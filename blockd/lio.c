/* lio.c - see lio.h. One fiber makes the passes; everything else reads what it remembers.
 *
 * A pass names only targets that changed since they were last found right, and every COMPLETE_NS all of them, so that
 * what others broke is repaired. Invariant: an entry exists for every target that this gateway wants or that the kernel
 * may still have because of it. */
#include "blockd/lio.h"

#include <stdio.h>

#include "blockd/gateways.h"
#include "blockd/lio_host.h"
#include "blockd/target.h"
#include "blockd/volumes.h"
#include "core/base/log.h"

#define POLL_NS      (500 * NS_PER_MS)
#define RETRY_NS     (1 * NS_PER_S)
#define RETRIES_LOG2 3u /* the pause between attempts doubles so often */
#define COMPLETE_NS  (60 * NS_PER_S)
#define WITHDRAWN_NS (10 * NS_PER_S)
#define HBA_FIRST    1048576u /* above the indices rtslib gives out */

struct entry {
	struct list node;
	struct gfid lun;
	char iqn[REG_IQN];
	char spec[2 * REG_NAME];
	char *applied; /* owned: the target as JSON when it was last found right; NULL = not known to be right */
	char *asked;   /* owned: as sent in the pass under way */
	bool wanted;
	uint64_t withdrawn_until_ns;
	struct lio_state state;
};

struct lio {
	struct lio_config cfg;
	char prefix[REG_IQN];
	uint32_t hba;
	struct list entries;
	bool cleaning; /* no portals: one pass to remove what is left, then nothing */
	bool sick;     /* something is to be tried again soon */
	unsigned retries;
	char lack_code[24], lack_why[256], lack_next[256];
	uint64_t begun, ended; /* passes */
	struct waitq pass_ended;
	bool kicked, stopping;
	uint64_t complete_ns; /* when all are looked at again */
};

bool lio_offered(const struct blockd *d)
{
	return d->lio && d->lio->cfg.portals_n > 0;
}

/* A LUN that was renamed may have two for a while: the one that is wanted counts. */
static struct entry *entry_find(const struct lio *l, const struct gfid *lun)
{
	struct entry *found = NULL;

	list_for_each(x, &l->entries, struct entry, node)
		if (gfid_eq(&x->lun, lun) && (!found || x->wanted))
			found = x;
	return found;
}

static struct entry *entry_by_iqn(const struct lio *l, const char *iqn)
{
	list_for_each(x, &l->entries, struct entry, node)
		if (strcmp(x->iqn, iqn) == 0)
			return x;
	return NULL;
}

static struct entry *entry_new(struct lio *l, const struct gfid *lun, const char *iqn, const char *spec)
{
	struct entry *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->lun = *lun;
	snprintf(x->iqn, sizeof(x->iqn), "%s", iqn);
	snprintf(x->spec, sizeof(x->spec), "%s", spec);
	x->state.kind = LIO_PENDING;
	list_init(&x->node);
	list_push_back(&l->entries, &x->node);
	return x;
}

static void entry_free(struct entry *x)
{
	list_del(&x->node);
	free(x->applied);
	free(x->asked);
	free(x);
}

/* ---- what is wanted ---- */

struct rows { /* the registry, read once per pass */
	struct reg_lun *luns;
	struct reg_target *targets;
	struct reg_acl *acl;
	size_t luns_n, targets_n, acl_n;
};

static void rows_free(struct rows *r)
{
	free(r->luns);
	free(r->targets);
	free(r->acl);
}

static int rows_read(struct blockd *d, struct rows *r, struct err *e)
{
	int rc = reg_lun_list(d->registry, NULL, REG_LUN_READY, &r->luns, &r->luns_n, e);

	if (rc == 0)
		rc = reg_target_list(d->registry, &r->targets, &r->targets_n, e);
	if (rc == 0)
		rc = reg_acl_list(d->registry, NULL, &r->acl, &r->acl_n, e);
	return rc;
}

static int compare_gfid(const void *key, const void *row)
{
	return memcmp(key, &((const struct reg_target *)row)->lun, sizeof(struct gfid));
}

static bool exported_here(struct blockd *d, const struct reg_lun *row, const struct reg_target *t)
{
	const char *by = row->owner[0] ? row->owner : t->home;
	/* Never opened, and where it was made is gone: one of the others. */
	bool orphan = !row->owner[0] && gateways_state(d, by) == GATEWAY_GONE && gateways_first(d);
	struct volume *v;

	if (!(t->protos & REG_PROTO_ISCSI) || !t->enabled || !t->iqn[0] || (strcmp(by, d->self.name) != 0 && !orphan))
		return false;
	v = volume_get(d, row->volume);
	if (v)
		volume_put(v);
	return v != NULL;
}

static bool enough_bricks(struct blockd *d, const char *volume)
{
	struct volume *v = volume_get(d, volume);
	bool enough = v && volume_fewest_connected(v) >= v->geo.w;

	if (v)
		volume_put(v);
	return enough;
}

static int name_add(char (**names)[REG_IQN], size_t *n, const char *name)
{
	void *grown = reallocarray(*names, *n + 1, REG_IQN);

	if (!grown)
		return -ENOMEM;
	*names = grown;
	snprintf((*names)[(*n)++], REG_IQN, "%s", name);
	return 0;
}

static bool is_initiator(const char *who)
{
	return strncmp(who, "iqn.", 4) == 0 || strncmp(who, "eui.", 4) == 0 || strncmp(who, "naa.", 4) == 0;
}

static int take_initiators(const struct rows *r, struct lio_target *t, const struct gfid *lun)
{
	for (size_t i = 0; i < r->acl_n; i++) {
		if (!gfid_eq(&r->acl[i].lun, lun) || !is_initiator(r->acl[i].who))
			continue;
		if (name_add(&t->initiators, &t->initiators_n, r->acl[i].who) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int describe(struct blockd *d, const struct rows *r, const struct reg_lun *row, const struct reg_target *t,
		    struct lio_target *ret)
{
	const struct lio *l = d->lio;
	char id[GFID_TEXT];
	size_t prefix = strlen(l->prefix);

	*ret = (struct lio_target){.size_bytes = row->size_bytes,
				   .block_size = row->block_size,
				   .may_create = enough_bricks(d, row->volume),
				   .open = t->open,
				   .auth = t->auth};
	gfid_text(&row->gfid, id);
	snprintf(ret->iqn, sizeof(ret->iqn), "%s", t->iqn);
	snprintf(ret->backstore, sizeof(ret->backstore), "%.129s",
		 t->iqn + (strncmp(t->iqn, l->prefix, prefix) == 0 ? prefix : 0));
	bool usual = strcmp(l->cfg.socket, LIO_NBD_SOCKET_DEFAULT) == 0;
	snprintf(ret->config, sizeof(ret->config), "myfs/%s/%s%s%s", row->volume, row->name,
		 usual ? "" : ";socket=", usual ? "" : l->cfg.socket);
	snprintf(ret->serial, sizeof(ret->serial), "%s", id);
	snprintf(ret->product, sizeof(ret->product), "LUN %.8s%.4s", id, id + 9);
	memcpy(ret->chap_user, t->chap_user, sizeof(ret->chap_user));
	memcpy(ret->chap_secret, t->chap_secret, sizeof(ret->chap_secret));
	memcpy(ret->mutual_user, t->mutual_user, sizeof(ret->mutual_user));
	memcpy(ret->mutual_secret, t->mutual_secret, sizeof(ret->mutual_secret));
	return take_initiators(r, ret, &row->gfid);
}

static char *target_text(const struct lio_target *t)
{
	json_t *doc = lio_target_json(t);
	char *text = json_dumps(doc, JSON_COMPACT);

	json_decref(doc);
	return text;
}

/* Adds the LUN's target to the pass unless it is known to be right. */
static int want_target(struct blockd *d, struct lio_want *w, const struct rows *r, const struct reg_lun *row,
		       const struct reg_target *t)
{
	char spec[2 * REG_NAME];
	struct lio_target target;
	struct entry *x = entry_by_iqn(d->lio, t->iqn);
	int rc = describe(d, r, row, t, &target);

	snprintf(spec, sizeof(spec), "%s/%s", row->volume, row->name);
	if (rc == 0 && !x)
		x = entry_new(d->lio, &row->gfid, t->iqn, spec);
	if (x)
		x->lun = row->gfid; /* a LUN may get the name of one that was just deleted */
	char *text = rc == 0 && x ? target_text(&target) : NULL;
	if (!text) {
		free(target.initiators);
		return -ENOMEM;
	}
	x->wanted = true;
	if (!w->complete && x->applied && strcmp(x->applied, text) == 0) {
		free(target.initiators);
		free(text);
		return 0;
	}
	void *grown = reallocarray(w->targets, w->targets_n + 1, sizeof(*w->targets));
	if (!grown) {
		free(target.initiators);
		free(text);
		return -ENOMEM;
	}
	w->targets = grown;
	w->targets[w->targets_n++] = target;
	free(x->asked);
	x->asked = text;
	if (x->state.kind != LIO_EXPORTED)
		x->state.kind = LIO_PENDING;
	return 0;
}

static int want_build(struct blockd *d, const struct rows *r, struct lio_want *w)
{
	uint64_t now = loop_now_ns();
	int rc = 0;

	list_for_each(x, &d->lio->entries, struct entry, node)
		x->wanted = false;
	for (size_t i = 0; i < r->luns_n && rc == 0; i++) {
		const struct reg_lun *row = &r->luns[i];
		const struct reg_target *t =
		    bsearch(&row->gfid, r->targets, r->targets_n, sizeof(*r->targets), compare_gfid);
		const struct entry *x = entry_find(d->lio, &row->gfid);

		if (!t || !t->iqn[0] || (x && x->withdrawn_until_ns > now))
			continue;
		if (!d->lio->cleaning && exported_here(d, row, t))
			rc = want_target(d, w, r, row, t);
		else if (w->complete && (t->protos & REG_PROTO_ISCSI) && t->enabled)
			rc = name_add(&w->others, &w->others_n, t->iqn);
	}
	list_for_each_safe(x, &d->lio->entries, struct entry, node) {
		if (x->wanted || rc < 0)
			continue;
		if (x->state.kind != LIO_ABSENT)
			rc = name_add(&w->remove, &w->remove_n, x->iqn);
		else if (x->withdrawn_until_ns <= now)
			entry_free(x);
	}
	return rc;
}

/* ---- one pass ---- */

static void entry_told(struct lio *l, struct entry *x, const char *state, const char *why)
{
	enum lio_state_kind before = x->state.kind;

	if (!x->wanted && strcmp(state, "ok") == 0) {
		x->state.kind = LIO_ABSENT;
		if (x->withdrawn_until_ns <= loop_now_ns())
			entry_free(x);
		return;
	}
	free(x->applied);
	x->applied = NULL;
	x->state.kind = strcmp(state, "ok") == 0        ? LIO_EXPORTED
			: strcmp(state, "waiting") == 0 ? LIO_WAITING
							: LIO_FAILED;
	snprintf(x->state.why, sizeof(x->state.why), "%s", why);
	if (x->state.kind == LIO_EXPORTED) {
		x->applied = x->asked;
		x->asked = NULL;
	} else {
		l->sick = true;
	}
	if (x->state.kind != before)
		log_note("iSCSI target of %s: %s%s%s", x->spec, state, why[0] ? ": " : "", why);
}

static void take_line(void *arg, const json_t *doc)
{
	struct lio *l = arg;
	const char *iqn = json_string_value(json_object_get(doc, "iqn"));
	const char *state = json_string_value(json_object_get(doc, "state"));
	const char *what = json_string_value(json_object_get(doc, "doing"));
	const char *why = json_string_value(json_object_get(doc, "why"));
	const char *lack = json_string_value(json_object_get(doc, "lack"));
	const char *next = json_string_value(json_object_get(doc, "next"));
	struct entry *x = iqn ? entry_by_iqn(l, iqn) : NULL;

	if (x && state) {
		entry_told(l, x, state, why ? why : "");
	} else if (x && what) {
		snprintf(x->state.why, sizeof(x->state.why), "%s", what);
	} else if (json_is_true(json_object_get(doc, "done"))) {
		if (strcmp(l->lack_code, lack ? lack : "") != 0)
			log_note("iSCSI: %s", lack ? why ? why : lack : "the kernel is ready");
		snprintf(l->lack_code, sizeof(l->lack_code), "%s", lack ? lack : "");
		snprintf(l->lack_why, sizeof(l->lack_why), "%s", why ? why : "");
		snprintf(l->lack_next, sizeof(l->lack_next), "%s", next ? next : "");
		l->sick |= lack != NULL;
	}
}

static void fill_want(const struct lio *l, struct lio_want *w)
{
	snprintf(w->prefix, sizeof(w->prefix), "%s", l->prefix);
	w->hba = l->hba;
	for (unsigned i = 0; i < l->cfg.portals_n; i++)
		memcpy(w->portals[w->portals_n++], l->cfg.portals[i], LIO_PORTAL);
}

static json_t *request_of(const struct lio *l, const struct lio_want *w, bool sessions)
{
	json_t *doc = lio_want_json(w);

	json_object_set_new(doc, "configfs", json_string(l->cfg.configfs));
	json_object_set_new(doc, "sessions", json_boolean(sessions));
	return doc;
}

static uint32_t hba_of(const struct gfid *gateway)
{
	return HBA_FIRST + (((uint32_t)gateway->b[0] << 16) | ((uint32_t)gateway->b[1] << 8) | gateway->b[2]);
}

/* What gateways that are gone left in a kernel can only be in ours: no other would show it to us. */
static int name_gone(struct blockd *d, struct lio_want *w, struct err *e)
{
	struct reg_gateway *rows = NULL;
	size_t n = 0;
	int rc = reg_gateway_list(d->registry, &rows, &n, e);

	for (size_t i = 0; i < n && w->gone_n < LIO_GONE_MAX; i++)
		if (strcmp(rows[i].name, d->self.name) != 0 && gateways_state(d, rows[i].name) == GATEWAY_GONE)
			w->gone[w->gone_n++] = hba_of(&rows[i].uuid);
	free(rows);
	return rc;
}

static int make_pass(struct blockd *d, struct err *e) YIELDS
{
	struct lio *l = d->lio;
	struct rows rows = {.luns = NULL};
	struct lio_want want = {.complete = loop_now_ns() >= l->complete_ns};
	int rc = rows_read(d, &rows, e);

	fill_want(l, &want);
	if (rc == 0)
		rc = name_gone(d, &want, e);
	if (rc == 0)
		rc = want_build(d, &rows, &want);
	rows_free(&rows);
	if (rc == 0 && (want.complete || want.targets_n > 0 || want.remove_n > 0)) {
		json_t *request = request_of(l, &want, false);

		rc = l->cfg.runner->pass(l->cfg.runner->arg, request, take_line, l, e);
		json_decref(request);
		if (rc == 0 && want.complete && l->lack_code[0] == '\0')
			l->complete_ns = loop_now_ns() + COMPLETE_NS;
	}
	lio_want_free(&want);
	return rc;
}

/* What the kernel lacks hits every target alike. */
static void spread_lack(struct lio *l)
{
	list_for_each(x, &l->entries, struct entry, node) {
		if (x->state.kind != LIO_PENDING || !l->lack_code[0])
			continue;
		x->state.kind = LIO_WAITING;
		snprintf(x->state.why, sizeof(x->state.why), "%s", l->lack_why);
	}
}

static void lio_fiber(void *arg)
{
	struct blockd *d = arg;
	struct lio *l = d->lio;
	uint64_t seen = 0, next_ns = 0;

	while (!d->stopping && !l->stopping) {
		uint64_t generation = seen, now = loop_now_ns();
		struct err e = ERR_INIT;

		(void)registry_generation(d->registry, &generation, NULL);
		if (generation != seen || l->kicked || now >= next_ns) {
			l->kicked = l->sick = false;
			seen = generation;
			l->begun++;
			if (make_pass(d, &e) < 0 && !d->stopping) {
				l->sick = true;
				snprintf(l->lack_code, sizeof(l->lack_code), "program");
				snprintf(l->lack_why, sizeof(l->lack_why), "%s", e.text);
				snprintf(l->lack_next, sizeof(l->lack_next), "myfs doctor");
				log_warn("iSCSI: %s", e.text);
			}
			spread_lack(l);
			l->ended++;
			waitq_wake_all(&l->pass_ended);
			if (l->cleaning && !l->sick)
				break;
			next_ns = loop_now_ns() + (l->sick ? RETRY_NS << l->retries : COMPLETE_NS);
			l->retries = l->sick ? (unsigned)min_u64(l->retries + 1, RETRIES_LOG2) : 0;
		}
		if (!l->kicked)
			blockd_sleep(d, POLL_NS);
	}
	blockd_fiber_done(d);
}

/* ---- start and stop ---- */

int lio_start(struct blockd *d, const struct lio_config *cfg, struct err *e)
{
	struct lio *l = calloc(1, sizeof(*l));
	char id[9];
	int rc = l ? cluster_id(d, id, e) : err_set(e, -ENOMEM, "no memory");

	if (rc < 0) {
		free(l);
		return rc;
	}
	l->cfg = *cfg;
	l->cleaning = cfg->portals_n == 0;
	snprintf(l->prefix, sizeof(l->prefix), "iqn.2026-11.internal.myfs:%s:", id);
	l->hba =
	    HBA_FIRST + (((uint32_t)d->self.uuid.b[0] << 16) | ((uint32_t)d->self.uuid.b[1] << 8) | d->self.uuid.b[2]);
	list_init(&l->entries);
	waitq_init(&l->pass_ended);
	d->lio = l;
	rc = blockd_spawn(d, "lio", lio_fiber, d);
	return rc < 0 ? err_set(e, rc, "cannot start a fiber") : 0;
}

void lio_stop(struct blockd *d)
{
	if (!d->lio)
		return;
	d->lio->stopping = true;
	d->lio->cfg.runner->stop(d->lio->cfg.runner->arg);
	waitq_wake_all(&d->lio->pass_ended);
	waitq_wake_all(&d->kick);
}

void lio_free(struct blockd *d)
{
	if (!d->lio)
		return;
	list_for_each_safe(x, &d->lio->entries, struct entry, node)
		entry_free(x);
	free(d->lio);
	d->lio = NULL;
}

void lio_kick(struct blockd *d)
{
	if (!d->lio)
		return;
	d->lio->kicked = true;
	waitq_wake_all(&d->kick);
}

int lio_settle(struct blockd *d, uint64_t timeout_ns)
{
	struct lio *l = d->lio;
	uint64_t deadline = loop_now_ns() + timeout_ns;

	if (!lio_offered(d))
		return 0;
	uint64_t pass = l->begun + 1;
	lio_kick(d);
	while (l->ended < pass && !l->stopping)
		if (waitq_wait_until(&l->pass_ended, deadline) < 0)
			return -ETIMEDOUT;
	return 0;
}

/* ---- what is known ---- */

void lio_state_of(const struct blockd *d, const struct gfid *lun, struct lio_state *ret)
{
	const struct entry *x = d->lio ? entry_find(d->lio, lun) : NULL;

	*ret = x ? x->state : (struct lio_state){.kind = LIO_ABSENT};
}

static int64_t look_for_runner(void *arg)
{
	(void)arg;
	return lio_host_runner("/proc");
}

json_t *lio_status_json(struct blockd *d)
{
	const struct lio *l = d->lio;
	json_t *portals = json_array();
	unsigned exported = 0, all = 0;

	for (unsigned i = 0; l && i < l->cfg.portals_n; i++)
		json_array_append_new(portals, json_string(l->cfg.portals[i]));
	if (l)
		list_for_each(x, &l->entries, struct entry, node) {
			all++;
			exported += x->state.kind == LIO_EXPORTED;
		}
	if (lio_offered(d) && !l->lack_code[0] && all > 0 && !loop_offload(look_for_runner, NULL)) {
		/* Devices that exist stay; their I/O waits. The next pass says so too. */
		snprintf(d->lio->lack_code, sizeof(l->lack_code), "runner");
		snprintf(d->lio->lack_why, sizeof(l->lack_why), "tcmu-runner is not running");
		snprintf(d->lio->lack_next, sizeof(l->lack_next), "systemctl start tcmu-runner");
		lio_kick(d);
	}
	const char *state = !lio_offered(d)   ? "off"
			    : l->lack_code[0] ? "unavailable"
			    : exported < all  ? "waiting"
					      : "ok";
	return json_pack("{s:s,s:s?,s:s?,s:o,s:i,s:i}", "state", state, "why",
			 lio_offered(d) && l->lack_code[0] ? l->lack_why : NULL, "next",
			 lio_offered(d) && l->lack_code[0] ? l->lack_next : NULL, "portals", portals, "targets",
			 (int)all, "exported", (int)exported);
}

/* ---- sessions ---- */

struct sessions_read {
	struct lio *l;
	json_t *out;
};

static void take_sessions(void *arg, const json_t *doc)
{
	struct sessions_read *s = arg;
	const json_t *list = json_object_get(doc, "sessions"), *one;
	size_t i;

	json_array_foreach(list, i, one)
	{
		const char *iqn = json_string_value(json_object_get(one, "iqn"));
		const struct entry *x = iqn ? entry_by_iqn(s->l, iqn) : NULL;

		if (x)
			json_array_append_new(s->out, json_pack("{s:s,s:O,s:O}", "lun", x->spec, "initiator",
								json_object_get(one, "initiator"), "addresses",
								json_object_get(one, "addresses")));
	}
}

int lio_sessions(struct blockd *d, json_t **ret, struct err *e)
{
	struct sessions_read s = {.l = d->lio, .out = json_array()};
	int rc = 0;

	if (d->lio && !list_empty(&d->lio->entries)) {
		struct lio_want w = {.complete = false};

		fill_want(d->lio, &w);
		json_t *request = request_of(d->lio, &w, true);
		rc = d->lio->cfg.runner->pass(d->lio->cfg.runner->arg, request, take_sessions, &s, e);
		json_decref(request);
	}
	if (rc < 0)
		json_decref(s.out);
	else
		*ret = s.out;
	return rc;
}

unsigned lio_sessions_of(const json_t *sessions, const char *spec, char *text, size_t cap)
{
	const json_t *one;
	unsigned n = 0;
	size_t i;

	json_array_foreach(sessions, i, one)
	{
		if (strcmp(json_string_value(json_object_get(one, "lun")), spec) != 0)
			continue;
		n++;
		size_t used = text ? strlen(text) : 0;
		const char *address = json_string_value(json_array_get(json_object_get(one, "addresses"), 0));
		if (text)
			snprintf(text + used, cap - used, "%s%s%s%s%s", used ? ", " : "",
				 json_string_value(json_object_get(one, "initiator")), address ? " (" : "",
				 address ? address : "", address ? ")" : "");
	}
	return n;
}

/* ---- taking a target down for a while ---- */

int lio_withdraw(struct blockd *d, const struct reg_lun *row, struct err *e)
{
	struct entry *x = d->lio ? entry_find(d->lio, &row->gfid) : NULL;
	char spec[2 * REG_NAME], who[400] = "";
	json_t *sessions = NULL;
	int rc;

	if (!x)
		return 0;
	snprintf(spec, sizeof(spec), "%s/%s", row->volume, row->name);
	rc = lio_sessions(d, &sessions, e);
	if (rc < 0)
		return err_wrap(e, -EBUSY, "who is logged in cannot be told");
	bool used = lio_sessions_of(sessions, spec, who, sizeof(who)) > 0;
	json_decref(sessions);
	if (used)
		return err_set(e, -EBUSY, "logged in over iSCSI: %s", who);
	x = entry_find(d->lio, &row->gfid);
	if (!x)
		return 0;
	x->withdrawn_until_ns = loop_now_ns() + WITHDRAWN_NS + LIO_SETTLE_NS;
	lio_settle(d, LIO_SETTLE_NS);
	x = entry_find(d->lio, &row->gfid);
	if (!x || x->state.kind == LIO_ABSENT)
		return 0;
	x->withdrawn_until_ns = 0;
	return err_set(e, -EBUSY, "the kernel does not let its iSCSI target go: %s",
		       x->state.why[0] ? x->state.why : "tcmu-runner does not answer");
}

void lio_readmit(struct blockd *d, const struct gfid *lun)
{
	struct entry *x = d->lio ? entry_find(d->lio, lun) : NULL;

	if (!x)
		return;
	x->withdrawn_until_ns = 0;
	if (x->state.kind == LIO_ABSENT)
		entry_free(x);
	lio_kick(d);
}

int lio_leave(struct blockd *d, struct err *e)
{
	if (!lio_offered(d))
		return 0;
	d->lio->cleaning = true;
	d->lio->complete_ns = 0;
	int rc = lio_settle(d, LIO_LEAVE_NS); /* the pass under way ends first */
	if (rc == 0 && !d->lio->sick)
		return 0;
	return err_set(e, -EBUSY, "the kernel does not let all targets go: %s",
		       d->lio->lack_why[0] ? d->lio->lack_why : "tcmu-runner does not answer");
}
