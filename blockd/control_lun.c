/* control_lun.c - lun.* and trash.*: parameters in, the LUN document (schema myfs.lun/1) out. */
#include "blockd/control.h"

#include <stdio.h>

#include "blockd/catalogue.h"
#include "blockd/exports.h"
#include "blockd/lio.h"
#include "blockd/watch.h"

#define WHAT 200 /* text of what was attempted */

/* ---- the LUN document ---- */

static const char *lun_condition(struct blockd *d, const struct reg_lun *row, const struct lun *l)
{
	static const char *const states[] = {"creating", NULL, "trash", "purging"};
	const char *state = row->state < ARRAY_LEN(states) ? states[row->state] : "unknown";
	struct volume *v;

	if (state)
		return state;
	v = volume_get(d, row->volume);
	if (!v)
		return "stopped";
	volume_put(v);
	if (l && l->state == LUN_OPEN) {
		for (unsigned i = 0; i < dht_volume_sets(v->dht); i++) {
			struct ec_domain_status s;

			dht_file_status(l->file, i, &s);
			if (!s.serving)
				return "unavailable";
			if (s.healing)
				return "healing";
		}
		return lun_whole(l) ? "ok" : "degraded";
	}
	if (volume_fewest_connected(v) < v->geo.w)
		return "unavailable";
	return volume_fewest_connected(v) < v->geo.n || watch_knows_stale(d, &row->gfid) ? "degraded" : "ok";
}

struct gateways { /* loaded once per command, not per LUN */
	struct reg_gateway *v;
	size_t n;
	json_t *iscsi; /* sessions; NULL when the kernel could not be asked */
};

static void gateways_load(struct blockd *d, struct gateways *g) YIELDS
{
	reg_gateway_list(d->registry, &g->v, &g->n, NULL);
	lio_sessions(d, &g->iscsi, NULL);
}

static void gateways_unload(struct gateways *g)
{
	free(g->v);
	json_decref(g->iscsi);
}

/* prefix holds one %s for the export's name; it comes from the registry, so it is not handed to printf. */
static void add_export(json_t *list, const char *prefix, const char *spec, bool active)
{
	const char *at = strstr(prefix, "%s");
	char uri[REG_PATH + 2 * REG_NAME];

	if (!at)
		return;
	snprintf(uri, sizeof(uri), "%.*s%s%s", (int)(at - prefix), prefix, spec, at + 2);
	json_array_append_new(list, json_pack("{s:s,s:s,s:b}", "proto", "nbd", "uri", uri, "active", (int)active));
}

static json_t *lun_exports(struct blockd *d, const struct gateways *g, const struct reg_lun *row, const char *spec)
{
	json_t *list = json_array();

	for (size_t i = 0; i < 2 * g->n; i++) { /* the one that serves it first */
		const struct reg_gateway *x = &g->v[i % g->n];
		bool owner = strcmp(x->name, row->owner) == 0 || (!row->owner[0] && strcmp(x->name, d->self.name) == 0);

		if (owner != (i < g->n))
			continue;
		add_export(list, x->nbd_uri, spec, owner);
		add_export(list, x->nbd_tcp_uri, spec, owner);
	}
	return list;
}

static json_t *lun_layout(struct blockd *d, const char *volume, json_t **ret_survives)
{
	struct volume *v = volume_get(d, volume);
	json_t *layout;

	if (!v) {
		*ret_survives = json_null();
		return json_null();
	}
	*ret_survives = json_integer(v->geo.tolerates);
	layout = json_pack("{s:s,s:i,s:i}", "type", v->geo.k == 1 ? "replica" : "ec", "data", (int)v->geo.k, "parity",
			   (int)v->geo.r);
	volume_put(v);
	return layout;
}

static json_t *lun_json(struct blockd *d, const struct gateways *g, const struct reg_lun *row, json_t *used)
{
	const struct lun *l = lun_find(d, &row->gfid);
	char spec[2 * REG_NAME], id[GFID_TEXT];
	json_t *survives, *layout = lun_layout(d, row->volume, &survives), *doc;

	snprintf(spec, sizeof(spec), "%s/%s", row->volume, row->name);
	doc = json_pack("{s:s,s:s,s:s,s:o,s:o,s:s,s:i,s:o,s:o,s:s,s:o,s:i,s:o,s:s?}", "schema", "myfs.lun/1", "name",
			spec, "id", gfid_text(&row->gfid, id), "size_bytes", json_u64(row->size_bytes), "used_bytes",
			used, "provisioning", "thin", "block_size", (int)row->block_size, "layout", layout, "survives",
			survives, "state", lun_condition(d, row, l), "exports", lun_exports(d, g, row, spec),
			"sessions", (int)((l ? l->sessions : 0) + lio_sessions_of(g->iscsi, spec, NULL, 0)), "created",
			json_time(row->created_ns), "owner", row->owner[0] ? row->owner : NULL);
	control_target_fields(d, row, doc);
	uint64_t own;
	json_object_set_new(doc, "loss_generation", l && l->state == LUN_OPEN ? json_u64(dht_file_losses(l->file, &own)) : json_null());
	return doc;
}

static json_t *lun_json_one(struct blockd *d, const struct reg_lun *row, json_t *used) YIELDS
{
	struct gateways g = {NULL, 0, NULL};
	json_t *doc;

	gateways_load(d, &g);
	doc = lun_json(d, &g, row, used);
	gateways_unload(&g);
	return doc;
}

json_t *control_lun_json(struct blockd *d, const struct reg_lun *row)
{
	return lun_json_one(d, row, json_null());
}

/* Bytes on the bricks, or null when no brick can be asked. */
static json_t *lun_used(struct blockd *d, const struct reg_lun *row) YIELDS
{
	struct volume *v = volume_get(d, row->volume);
	uint64_t bytes = 0;
	int rc = v ? dht_usage(v->dht, &row->gfid, &bytes, NULL) : -ENXIO;

	if (v)
		volume_put(v);
	return rc < 0 ? json_null() : json_u64(bytes);
}

/* ---- finding ---- */

int control_find_lun(struct blockd *d, const json_t *params, struct reg_lun *ret, struct control_error *error)
{
	const char *spec = param_text(params, "spec");
	char volume[REG_NAME], name[REG_NAME], what[WHAT];
	struct err e = ERR_INIT;
	int rc;

	if (!spec || lun_spec_parse(spec, volume, name, &e) < 0)
		return control_bad_input(error, e.text, "a LUN must be named as VOLUME/LUN");
	rc = reg_lun_get(d->registry, volume, name, ret, &e);
	snprintf(what, sizeof(what), rc == -ENOENT ? "there is no LUN %s" : "cannot look up %s", spec);
	return rc < 0 ? control_from_err(error, d, volume, rc, &e, what) : 0;
}

/* Among LUNs in the trash: by gfid, or by spec the one deleted last. */
static int find_trashed(struct blockd *d, const json_t *params, struct reg_lun *ret, struct control_error *error)
{
	const char *gfid_word = param_text(params, "gfid"), *spec = param_text(params, "spec");
	char volume[REG_NAME], name[REG_NAME];
	struct reg_lun *rows = NULL;
	struct err e = ERR_INIT;
	struct gfid gfid;
	bool found = false;
	size_t n = 0;
	int rc;

	if (!gfid_word && !spec)
		return control_bad_input(error, "", "name the LUN to restore");
	if (gfid_word ? gfid_parse(gfid_word, &gfid) < 0 : lun_spec_parse(spec, volume, name, &e) < 0)
		return control_bad_input(error, e.text, "that is neither VOLUME/LUN nor an id");
	rc = reg_lun_list(d->registry, NULL, REG_LUN_TRASH, &rows, &n, &e);
	if (rc < 0)
		return control_from_err(error, d, NULL, rc, &e, "cannot read the trash");
	for (size_t i = 0; i < n; i++) {
		bool match = gfid_word ? gfid_eq(&rows[i].gfid, &gfid)
				       : strcmp(rows[i].volume, volume) == 0 && strcmp(rows[i].name, name) == 0;

		if (match && (!found || rows[i].deleted_ns > ret->deleted_ns)) {
			*ret = rows[i];
			found = true;
		}
	}
	free(rows);
	return found ? 0
		     : control_fail(error, "E-NOTFOUND-05", 5, "", NULL, "myfs-block trash list",
				    "there is no LUN %s in the trash", spec ? spec : gfid_word);
}

/* ---- lun.* ---- */

static int create_wish(const json_t *params, struct lun_wish *w, struct control_error *error)
{
	char volume[REG_NAME], name[REG_NAME], spec[2 * REG_NAME + 2];
	struct err e = ERR_INIT;
	uint64_t block;

	w->volume = param_text(params, "volume");
	w->name = param_text(params, "name");
	w->if_missing = param_flag(params, "if_missing");
	if (!w->volume || !w->name || strlen(w->volume) >= REG_NAME || strlen(w->name) >= REG_NAME)
		return control_bad_input(error, "names have at most 63 characters", "volume and name are needed");
	snprintf(spec, sizeof(spec), "%s/%s", w->volume, w->name);
	if (lun_spec_parse(spec, volume, name, &e) < 0)
		return control_bad_input(error, e.text, "bad LUN name");
	if (param_u64(params, "size_bytes", 0, &w->size_bytes, error) < 0 ||
	    param_u64(params, "block_size", MYFS_BLOCK, &block, error) < 0)
		return -1;
	if (block != 512 && block != 4096)
		return control_bad_input(error, "block_size is 512 or 4096", "bad block size");
	w->block_size = (uint32_t)block;
	return 0;
}

int method_lun_create(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	struct lun_wish wish = {0};
	struct target_wish target;
	struct err e = ERR_INIT;
	struct reg_lun row = {.size_bytes = 0};
	bool existed;
	char what[WHAT];
	int rc;

	if (create_wish(params, &wish, error) < 0 || control_target_wish(d, params, &target, error) < 0)
		return -1;
	wish.target = &target;
	rc = lun_create(d, &wish, &row, &existed, &e);
	free(target.allow);
	snprintf(what, sizeof(what), "cannot create %s/%s", wish.volume, wish.name);
	if (rc == -EEXIST && wish.if_missing)
		err_set(&e, rc, "it exists with %llu bytes in blocks of %u, not %llu in blocks of %u",
			(unsigned long long)row.size_bytes, row.block_size, (unsigned long long)wish.size_bytes,
			wish.block_size);
	if (rc < 0)
		return control_from_err(error, d, wish.volume, rc, &e, what);
	lio_settle(d, LIO_SETTLE_NS);
	*ret = lun_json_one(d, &row, json_null());
	json_object_set_new(*ret, "existed", json_boolean(existed));
	return 0;
}

static int list_rows(struct blockd *d, const json_t *params, struct reg_lun **rows, size_t *n,
		     struct control_error *error)
{
	const char *volume = param_text(params, "volume");
	struct reg_volume v;
	struct err e = ERR_INIT;
	char what[WHAT];
	int rc = 0;

	if (volume && reg_volume_get(d->registry, volume, &v, &e) == -ENOENT) {
		snprintf(what, sizeof(what), "there is no volume %.63s", volume);
		return control_fail(error, "E-NOTFOUND-05", 5, "", NULL, "myfs volume list", "%s", what);
	}
	rc = reg_lun_list(d->registry, volume, REG_LUN_READY, rows, n, &e);
	return rc < 0 ? control_from_err(error, d, volume, rc, &e, "cannot list LUNs") : 0;
}

int method_lun_list(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	struct gateways g = {NULL, 0, NULL};
	struct reg_lun *rows = NULL;
	json_t *items;
	size_t n = 0;

	if (list_rows(d, params, &rows, &n, error) < 0)
		return -1;
	gateways_load(d, &g);
	items = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(
		    items, lun_json(d, &g, &rows[i], param_flag(params, "used") ? lun_used(d, &rows[i]) : json_null()));
	free(rows);
	gateways_unload(&g);
	*ret = json_pack("{s:o}", "items", items);
	return 0;
}

int method_lun_info(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	struct reg_lun row;
	int rc;

	if (control_find_lun(d, params, &row, error) < 0)
		return -1;
	rc = control_pass_on(d, &row, "lun.info", params, ret, error);
	if (rc <= 0)
		return rc;
	*ret = lun_json_one(d, &row, lun_used(d, &row));
	return 0;
}

int method_lun_du(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	struct reg_lun *rows = NULL, one;
	json_t *items;
	size_t n = 0;

	if (param_text(params, "spec")) {
		if (control_find_lun(d, params, &one, error) < 0)
			return -1;
		*ret = json_pack("{s:[o]}", "items", lun_json_one(d, &one, lun_used(d, &one)));
		return 0;
	}
	if (list_rows(d, params, &rows, &n, error) < 0)
		return -1;
	items = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(items, lun_json_one(d, &rows[i], lun_used(d, &rows[i])));
	free(rows);
	*ret = json_pack("{s:o}", "items", items);
	return 0;
}

/* -EBUSY while an initiator is logged in. */
static int iscsi_unused(struct blockd *d, const struct reg_lun *row, struct err *e) YIELDS
{
	char spec[2 * REG_NAME], who[400] = "";
	json_t *sessions = NULL;

	snprintf(spec, sizeof(spec), "%s/%s", row->volume, row->name);
	if (lio_sessions(d, &sessions, NULL) == 0)
		lio_sessions_of(sessions, spec, who, sizeof(who));
	json_decref(sessions);
	return who[0] ? err_set(e, -EBUSY, "logged in over iSCSI: %s", who) : 0;
}

int method_lun_resize(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	struct reg_lun row;
	struct err e = ERR_INIT;
	uint64_t size;
	char what[WHAT];
	int rc;

	if (control_find_lun(d, params, &row, error) < 0 || param_u64(params, "size_bytes", 0, &size, error) < 0)
		return -1;
	rc = control_pass_on(d, &row, "lun.resize", params, ret, error);
	if (rc <= 0)
		return rc;
	rc = size < row.size_bytes ? iscsi_unused(d, &row, &e) : 0;
	if (rc == 0)
		rc = lun_resize(d, &row, size, param_flag(params, "allow_shrink"), param_flag(params, "discard"), &e);
	if (rc == 0)
		lio_settle(d, LIO_SETTLE_NS); /* the kernel's device grows too */
	snprintf(what, sizeof(what), "cannot resize %s/%s", row.volume, row.name);
	if (rc < 0)
		return control_from_err(error, d, row.volume, rc, &e, what);
	rc = reg_lun_get_gfid(d->registry, &row.gfid, &row, &e);
	if (rc < 0)
		return control_from_err(error, d, row.volume, rc, &e, what);
	*ret = lun_json_one(d, &row, json_null());
	return 0;
}

/* "vol/lun is attached by ...": who keeps a LUN busy, as far as this gateway knows. */
struct peers {
	const char *spec;
	char text[400];
};

static void add_peer(void *arg, const struct nbd_session_info *s)
{
	struct peers *p = arg;
	size_t used = strlen(p->text);

	if (strcmp(s->export_name, p->spec) == 0 && !peer_is_runner(s->peer))
		snprintf(p->text + used, sizeof(p->text) - used, "%s%s", used ? ", " : "attached by ", s->peer);
}

int method_lun_delete(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	struct reg_lun row;
	struct err e = ERR_INIT;
	char id[GFID_TEXT], what[WHAT];
	int rc = control_find_lun(d, params, &row, error);

	if (rc < 0 && error->exit_code == 5 && param_flag(params, "if_exists")) {
		*error = (struct control_error){.code = ""};
		*ret = json_pack("{s:n}", "gfid");
		return 0;
	}
	if (rc == 0)
		rc = control_pass_on(d, &row, "lun.delete", params, ret, error);
	if (rc <= 0)
		return rc;
	rc = lio_withdraw(d, &row, &e);
	bool attached = rc == 0;
	if (rc == 0)
		rc = lun_delete(d, &row, param_flag(params, "now"), &e);
	lio_readmit(d, &row.gfid); /* gone, or back as it was */
	snprintf(what, sizeof(what), "cannot delete %s/%s", row.volume, row.name);
	if (rc == -EBUSY && attached && d->nbd) {
		struct peers peers = {.spec = param_text(params, "spec"), .text = ""};

		nbd_server_sessions(d->nbd, add_peer, &peers);
		if (peers.text[0])
			err_set(&e, rc, "%s", peers.text);
	}
	if (rc < 0)
		return control_from_err(error, d, row.volume, rc, &e, what);
	*ret = json_pack("{s:s}", "gfid", gfid_text(&row.gfid, id));
	return 0;
}

/* A target nobody is logged in to is no reason to keep a LUN; clients and a move of a moment ago are. */
static int release_target(struct blockd *d, const struct gfid *gfid, struct err *e) YIELDS
{
	const struct lun *l = lun_find(d, gfid);
	struct reg_lun row;

	if ((l && (l->sessions > 0 || loop_now_ns() < l->stays_until_ns)) ||
	    reg_lun_get_gfid(d->registry, gfid, &row, NULL) < 0)
		return 0; /* lun_expel decides */
	return lio_withdraw(d, &row, e);
}

/* Another gateway wants to open the LUN. */
int method_lun_release(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	const char *word = param_text(params, "gfid");
	struct err e = ERR_INIT;
	struct gfid gfid;
	char what[WHAT];
	int rc;

	(void)ret;
	if (!word || gfid_parse(word, &gfid) < 0)
		return control_bad_input(error, "", "gfid is needed");
	rc = param_flag(params, "force") ? 0 : release_target(d, &gfid, &e);
	if (rc == 0)
		rc = lun_expel(d, &gfid, param_flag(params, "force"), &e);
	if (rc < 0)
		lio_readmit(d, &gfid);
	snprintf(what, sizeof(what), "gateway %s does not let it go: %.100s", d->self.name, e.text);
	return rc < 0 ? control_from_err(error, d, NULL, rc, &e, what) : 0;
}

/* ---- trash.* ---- */

int method_trash_list(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	struct reg_lun *rows = NULL;
	struct err e = ERR_INIT;
	json_t *items;
	size_t n = 0;
	int rc = reg_lun_list(d->registry, param_text(params, "volume"), REG_LUN_TRASH, &rows, &n, &e);

	if (rc < 0)
		return control_from_err(error, d, NULL, rc, &e, "cannot read the trash");
	items = json_array();
	for (size_t i = 0; i < n; i++) {
		char spec[2 * REG_NAME], id[GFID_TEXT];

		snprintf(spec, sizeof(spec), "%s/%s", rows[i].volume, rows[i].name);
		json_array_append_new(items,
				      json_pack("{s:s,s:s,s:o,s:o,s:o}", "name", spec, "id",
						gfid_text(&rows[i].gfid, id), "size_bytes",
						json_u64(rows[i].size_bytes), "deleted", json_time(rows[i].deleted_ns),
						"purge_at", json_time(rows[i].deleted_ns + TRASH_KEEP_NS)));
	}
	free(rows);
	*ret = json_pack("{s:o}", "items", items);
	return 0;
}

int method_trash_restore(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	const char *name = param_text(params, "name");
	char volume[REG_NAME], plain[REG_NAME], spec[2 * REG_NAME + 2], what[WHAT];
	struct reg_lun row, restored;
	struct err e = ERR_INIT;
	int rc;

	if (find_trashed(d, params, &row, error) < 0)
		return -1;
	/* The new name may be given as "lun" or "vol/lun"; it stays in its volume. */
	if (name && strchr(name, '/'))
		snprintf(spec, sizeof(spec), "%.*s", (int)sizeof(spec) - 1, name);
	else
		snprintf(spec, sizeof(spec), "%s/%.64s", row.volume, name ? name : row.name);
	if (lun_spec_parse(spec, volume, plain, &e) < 0 || strcmp(volume, row.volume) != 0)
		return control_bad_input(error, e.text, "a LUN can only be restored under a name in its own volume");
	rc = lun_restore(d, &row, plain, &restored, &e);
	snprintf(what, sizeof(what), "cannot restore %s/%s", row.volume, plain);
	if (rc < 0)
		return control_from_err(error, d, row.volume, rc, &e, what);
	lio_settle(d, LIO_SETTLE_NS);
	*ret = lun_json_one(d, &restored, json_null());
	return 0;
}

int method_trash_purge(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	const char *word = param_text(params, "gfid");
	struct reg_lun *rows = NULL;
	struct err e = ERR_INIT;
	struct gfid gfid = GFID_NULL;
	uint64_t older_s, now = loop_wall_ns();
	size_t n = 0, purged = 0;
	int rc;

	if ((word && gfid_parse(word, &gfid) < 0) || (!word && !json_object_get(params, "older_s")))
		return control_bad_input(error, "", "give the id of a deleted LUN, or an age");
	if (param_u64(params, "older_s", 0, &older_s, error) < 0)
		return -1;
	rc = reg_lun_list(d->registry, NULL, REG_LUN_TRASH, &rows, &n, &e);
	for (size_t i = 0; i < n && rc == 0; i++) {
		bool match = word ? gfid_eq(&rows[i].gfid, &gfid) : now - rows[i].deleted_ns >= older_s * NS_PER_S;

		if (!match)
			continue;
		rc = lun_purge(d, &rows[i], &e);
		purged += rc == 0;
	}
	free(rows);
	if (rc < 0)
		return control_from_err(error, d, NULL, rc, &e, "cannot purge the trash");
	if (word && purged == 0)
		return control_fail(error, "E-NOTFOUND-05", 5, "", NULL, "myfs-block trash list",
				    "there is no LUN %s in the trash", word);
	*ret = json_pack("{s:I}", "purged", (json_int_t)purged);
	return 0;
}
