/* control_target.c - target.*, acl.*, auth.*: how LUNs are offered and to whom; and the parts of the LUN document that
 * tell of it. A change is recorded first, then the kernel is given LIO_SETTLE_NS to follow; what it made of it is the
 * state in the answer. */
#include <stdio.h>

#include "blockd/control.h"
#include "blockd/gateways.h"
#include "blockd/lio.h"
#include "blockd/target.h"

#define WHAT    200
#define ANYBODY "any"

static const char *const auth_names[] = {"none", "chap", "mutual"};

/* ---- documents ---- */

static json_t *protos_json(uint32_t protos)
{
	json_t *list = json_array();

	if (protos & REG_PROTO_ISCSI)
		json_array_append_new(list, json_string("iscsi"));
	if (protos & REG_PROTO_NBD)
		json_array_append_new(list, json_string("nbd"));
	return list;
}

static json_t *allow_json(struct blockd *d, const struct gfid *lun)
{
	struct reg_acl *rows = NULL;
	json_t *list = json_array();
	size_t n = 0;

	reg_acl_list(d->registry, lun, &rows, &n, NULL);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_string(rows[i].who));
	free(rows);
	return list;
}

/* The gateway that exports it over iSCSI. */
static const char *exporter(const struct reg_lun *row, const struct reg_target *t)
{
	return row->owner[0] ? row->owner : t->home;
}

static json_t *portals_json(struct blockd *d, const char *gateway)
{
	struct reg_gateway g;
	json_t *list = json_array();
	char *save = NULL;

	if (reg_gateway_get(d->registry, gateway, &g, NULL) < 0)
		return list;
	for (char *p = strtok_r(g.portals, " ", &save); p; p = strtok_r(NULL, " ", &save))
		json_array_append_new(list, json_string(p));
	return list;
}

static const char *state_text(struct blockd *d, const struct reg_lun *row, const struct reg_target *t,
			      struct lio_state *s)
{
	static const char *const names[] = {"waiting", "pending", "exported", "waiting", "failed"};

	*s = (struct lio_state){.kind = LIO_ABSENT};
	if (!(t->protos & REG_PROTO_ISCSI))
		return "not offered";
	if (!t->enabled)
		return "disabled";
	if (strcmp(exporter(row, t), d->self.name) != 0) {
		snprintf(s->why, sizeof(s->why), "gateway %s exports it", exporter(row, t));
		return "elsewhere";
	}
	lio_state_of(d, &row->gfid, s);
	if (!lio_offered(d))
		snprintf(s->why, sizeof(s->why), "gateway %s was started without --portal", d->self.name);
	else if (s->kind == LIO_ABSENT)
		snprintf(s->why, sizeof(s->why), "volume %s is not started", row->volume);
	return names[s->kind];
}

static json_t *target_json(struct blockd *d, const struct reg_lun *row)
{
	char spec[2 * REG_NAME];
	struct reg_target t;
	struct lio_state s;
	const char *state;

	target_load(d, &row->gfid, &t);
	state = state_text(d, row, &t, &s);
	snprintf(spec, sizeof(spec), "%s/%s", row->volume, row->name);
	return json_pack("{s:s,s:s,s:o,s:s?,s:o,s:b,s:b,s:s,s:s?,s:s?,s:o,s:s,s:s?,s:s?}", "schema", "myfs.target/1",
			 "name", spec, "protos", protos_json(t.protos), "iqn", t.iqn[0] ? t.iqn : NULL, "portals",
			 portals_json(d, exporter(row, &t)), "enabled", (int)t.enabled, "open", (int)t.open, "auth",
			 auth_names[t.auth], "user", t.chap_user[0] ? t.chap_user : NULL, "mutual_user",
			 t.auth == REG_AUTH_MUTUAL ? t.mutual_user : NULL, "allow", allow_json(d, &row->gfid), "state",
			 state, "why", s.why[0] ? s.why : NULL, "gateway",
			 exporter(row, &t)[0] ? exporter(row, &t) : NULL);
}

void control_target_fields(struct blockd *d, const struct reg_lun *row, json_t *doc)
{
	const json_t *portal;
	struct reg_target t;
	struct lio_state s;
	size_t i;

	target_load(d, &row->gfid, &t);
	json_object_set_new(doc, "protos", protos_json(t.protos));
	json_object_set_new(doc, "access",
			    json_pack("{s:b,s:s,s:s?,s:o}", "open", (int)t.open, "auth", auth_names[t.auth], "user",
				      t.chap_user[0] ? t.chap_user : NULL, "allow", allow_json(d, &row->gfid)));
	if (!(t.protos & REG_PROTO_NBD))
		json_array_clear(json_object_get(doc, "exports"));
	if (!(t.protos & REG_PROTO_ISCSI) || !t.enabled)
		return;
	json_t *portals = portals_json(d, exporter(row, &t));
	const char *state = state_text(d, row, &t, &s);
	json_array_foreach(portals, i, portal)
	{
		char uri[REG_IQN + 2 * LIO_PORTAL];

		snprintf(uri, sizeof(uri), "iscsi://%s/%s/0", json_string_value(portal), t.iqn);
		json_array_append_new(json_object_get(doc, "exports"),
				      json_pack("{s:s,s:s,s:s,s:O,s:b,s:s,s:s?}", "proto", "iscsi", "uri", uri, "iqn",
						t.iqn, "portal", portal, "active", s.kind == LIO_EXPORTED, "state",
						state, "why", s.why[0] ? s.why : NULL));
	}
	json_decref(portals);
}

/* ---- parameters ---- */

static int parse_protos(struct blockd *d, const json_t *params, uint32_t *ret, struct control_error *error)
{
	const json_t *list = json_object_get(params, "protos");
	uint32_t protos = 0;

	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *word = json_string_value(json_array_get(list, i));

		if (word && strcmp(word, "nbd") == 0)
			protos |= REG_PROTO_NBD;
		else if (word && strcmp(word, "iscsi") == 0)
			protos |= REG_PROTO_ISCSI;
		else
			return control_bad_input(error, "protocols are iscsi and nbd", "bad protocol");
	}
	if ((protos & REG_PROTO_ISCSI) && !lio_offered(d))
		return control_fail(error, "E-ISCSI-02", 2, "it was started without --portal", "nothing was changed",
				    "restart myfs-blockd with --portal IP, or use --proto nbd",
				    "gateway %s offers no iSCSI", d->self.name);
	*ret = protos;
	return 0;
}

static int parse_auth(const json_t *params, uint32_t def, uint32_t *ret, struct control_error *error)
{
	const char *word = param_text(params, "auth");

	if (!word) {
		*ret = def;
		return 0;
	}
	for (uint32_t i = 0; i < ARRAY_LEN(auth_names); i++) {
		if (strcmp(auth_names[i], word) != 0)
			continue;
		*ret = i;
		return 0;
	}
	return control_bad_input(error, "authentication is chap, mutual or none", "bad authentication");
}

/* params[key], an array of names, in the form that is kept; "any" sets *ret_any. *ret owned. */
static int parse_who(const json_t *params, const char *key, char (**ret)[REG_WHO], size_t *ret_n, bool *ret_any,
		     struct control_error *error)
{
	const json_t *list = json_object_get(params, key);
	size_t n = json_array_size(list), kept = 0;
	char(*who)[REG_WHO] = NULL;
	struct err e = ERR_INIT;
	enum who_kind kind;

	*ret_any = false;
	if (n > ACL_MAX)
		return control_bad_input(error, "a LUN has at most 256 entries", "too many names");
	if (n > 0 && !(who = calloc(n, sizeof(*who))))
		return control_fail(error, "E-FAILED-01", 1, "no memory", NULL, NULL, "cannot read the names");
	for (size_t i = 0; i < n; i++) {
		const char *text = json_string_value(json_array_get(list, i));

		if (text && strcmp(text, ANYBODY) == 0) {
			*ret_any = true;
		} else if (!text || who_parse(text, who[kept], &kind, &e) < 0) {
			free(who);
			return control_bad_input(error, e.text, "that is nobody who could be allowed");
		} else {
			kept++;
		}
	}
	*ret = who;
	*ret_n = kept;
	return 0;
}

int control_target_wish(struct blockd *d, const json_t *params, struct target_wish *ret, struct control_error *error)
{
	struct target_wish w = {.open = param_flag(params, "open")};
	bool any;

	if (parse_protos(d, params, &w.protos, error) < 0 || parse_auth(params, REG_AUTH_CHAP, &w.auth, error) < 0 ||
	    parse_who(params, "allow", &w.allow, &w.allow_n, &any, error) < 0)
		return -1;
	w.open |= any;
	*ret = w;
	return 0;
}

/* ---- finding, and answering ---- */

/* 0: the LUN is for us to answer. 1: another gateway answered, *rc is what it said. */
static int find_target(struct blockd *d, const char *method, const json_t *params, struct reg_lun *row, json_t **ret,
		       int *rc, struct control_error *error) YIELDS
{
	struct reg_target t;
	struct reg_lun asked;

	*rc = control_find_lun(d, params, row, error);
	if (*rc < 0)
		return 1;
	target_load(d, &row->gfid, &t);
	asked = *row;
	snprintf(asked.owner, sizeof(asked.owner), "%s", exporter(row, &t));
	*rc = control_pass_on(d, &asked, method, params, ret, error);
	return *rc <= 0;
}

static int answer(struct blockd *d, const struct reg_lun *row, int rc, const struct err *e, const char *verb,
		  json_t **ret, struct control_error *error) YIELDS
{
	char what[WHAT];

	snprintf(what, sizeof(what), "cannot %s %s/%s", verb, row->volume, row->name);
	if (rc < 0)
		return control_from_err(error, d, row->volume, rc, e, what);
	lio_settle(d, LIO_SETTLE_NS);
	*ret = target_json(d, row);
	return 0;
}

/* Who is logged in, as text; "" when nobody. */
static void logged_in(struct blockd *d, const struct reg_lun *row, char *text, size_t cap) YIELDS
{
	char spec[2 * REG_NAME];
	json_t *sessions = NULL;

	text[0] = '\0';
	snprintf(spec, sizeof(spec), "%s/%s", row->volume, row->name);
	if (lio_sessions(d, &sessions, NULL) == 0)
		lio_sessions_of(sessions, spec, text, cap);
	json_decref(sessions);
}

/* ---- target.* ---- */

int method_target_list(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	struct reg_lun *rows = NULL;
	struct err e = ERR_INIT;
	json_t *items = json_array();
	size_t n = 0;
	int rc = reg_lun_list(d->registry, param_text(params, "volume"), REG_LUN_READY, &rows, &n, &e);

	for (size_t i = 0; i < n && rc == 0; i++)
		json_array_append_new(items, target_json(d, &rows[i]));
	free(rows);
	*ret = json_pack("{s:o}", "items", items);
	if (rc == 0)
		return 0;
	json_decref(*ret);
	*ret = NULL;
	return control_from_err(error, d, NULL, rc, &e, "cannot list targets");
}

int method_target_info(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	struct reg_lun row;
	json_t *sessions = NULL;
	int rc;

	if (find_target(d, "target.info", params, &row, ret, &rc, error))
		return rc;
	*ret = target_json(d, &row);
	if (lio_sessions(d, &sessions, NULL) == 0) {
		const char *spec = param_text(params, "spec");
		json_t *mine = json_array(), *x;
		size_t i;

		json_array_foreach(sessions, i, x) if (strcmp(json_string_value(json_object_get(x, "lun")), spec) == 0)
		    json_array_append(mine, x);
		json_object_set_new(*ret, "sessions", mine);
	} else {
		json_object_set_new(*ret, "sessions", json_null());
	}
	json_decref(sessions);
	return 0;
}

int method_target_enable(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	struct err e = ERR_INIT;
	struct reg_lun row;
	uint32_t protos;
	int rc;

	if (find_target(d, "target.enable", params, &row, ret, &rc, error))
		return rc;
	if (parse_protos(d, params, &protos, error) < 0)
		return -1;
	rc = target_set_protos(d, &row, protos, true, &e);
	return answer(d, &row, rc, &e, "enable the target of", ret, error);
}

int method_target_disable(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	struct err e = ERR_INIT;
	char who[400];
	struct reg_lun row;
	int rc;

	if (find_target(d, "target.disable", params, &row, ret, &rc, error))
		return rc;
	logged_in(d, &row, who, sizeof(who));
	if (who[0] && !param_flag(params, "force"))
		rc = err_set(&e, -EBUSY, "logged in over iSCSI: %s", who);
	else
		rc = target_set_protos(d, &row, 0, false, &e);
	return answer(d, &row, rc, &e, "disable the target of", ret, error);
}

int method_target_leave(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	struct err e = ERR_INIT;
	int rc = lio_leave(d, &e);

	(void)params;
	(void)ret;
	return rc < 0 ? control_from_err(error, d, NULL, rc, &e, "cannot take the iSCSI targets down") : 0;
}

/* ---- acl.* ---- */

int method_acl_list(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	struct reg_acl *rows = NULL;
	struct reg_target t;
	struct reg_lun row;
	json_t *items;
	size_t n = 0;

	if (control_find_lun(d, params, &row, error) < 0)
		return -1;
	target_load(d, &row.gfid, &t);
	items = json_array();
	if (t.open)
		json_array_append_new(items, json_pack("{s:s,s:s}", "who", ANYBODY, "proto", "iscsi,nbd"));
	reg_acl_list(d->registry, &row.gfid, &rows, &n, NULL);
	for (size_t i = 0; i < n; i++) {
		char again[REG_WHO];
		enum who_kind kind = WHO_ADDRESS;

		who_parse(rows[i].who, again, &kind, NULL);
		json_array_append_new(items, json_pack("{s:s,s:s}", "who", rows[i].who, "proto",
						       kind == WHO_INITIATOR ? "iscsi" : "nbd"));
	}
	free(rows);
	*ret = json_pack("{s:o}", "items", items);
	return 0;
}

static int acl_change(struct blockd *d, const struct reg_lun *row, char (*who)[REG_WHO], size_t n, bool add,
		      struct err *e)
{
	struct reg_acl *present = NULL;
	size_t present_n = 0;
	int rc = registry_begin(d->registry, e);

	if (rc < 0)
		return rc;
	rc = reg_acl_list(d->registry, &row->gfid, &present, &present_n, e);
	free(present);
	if (rc == 0 && add && present_n + n > ACL_MAX)
		rc = err_set(e, -EINVAL, "a LUN has at most %u entries", ACL_MAX);
	for (size_t i = 0; i < n && rc == 0; i++) {
		struct reg_acl a = {.lun = row->gfid};

		memcpy(a.who, who[i], sizeof(a.who));
		rc = add ? reg_acl_add(d->registry, &a, e) : reg_acl_remove(d->registry, &a, e);
	}
	if (rc == 0)
		return registry_commit(d->registry, e);
	registry_rollback(d->registry);
	return rc;
}

static int acl_method(struct blockd *d, const char *method, bool add, const json_t *params, json_t **ret,
		      struct control_error *error) YIELDS
{
	char(*who)[REG_WHO] = NULL, users[400] = "";
	struct err e = ERR_INIT;
	struct reg_lun row;
	size_t n = 0;
	bool any;
	int rc;

	if (find_target(d, method, params, &row, ret, &rc, error))
		return rc;
	if (parse_who(params, "who", &who, &n, &any, error) < 0)
		return -1;
	if (n == 0 && !any)
		return control_bad_input(error, "", "name initiators (iqn...), addresses, or \"any\"");
	if (!add && !param_flag(params, "force"))
		logged_in(d, &row, users, sizeof(users));
	rc = 0;
	for (size_t i = 0; i < n && users[0] && rc == 0; i++)
		if (strstr(users, who[i]))
			rc = err_set(&e, -EBUSY, "logged in over iSCSI: %s", users);
	if (rc == 0 && n > 0)
		rc = acl_change(d, &row, who, n, add, &e);
	if (rc == 0 && any)
		rc = target_set_open(d, &row, add, &e);
	free(who);
	return answer(d, &row, rc, &e, "change who may attach", ret, error);
}

int method_acl_add(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	return acl_method(arg, "acl.add", true, params, ret, error);
}

int method_acl_remove(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	return acl_method(arg, "acl.remove", false, params, ret, error);
}

/* ---- auth.* ---- */

static json_t *auth_json(struct blockd *d, const struct reg_lun *row, bool secret)
{
	char spec[2 * REG_NAME];
	struct reg_target t;
	json_t *doc;

	target_load(d, &row->gfid, &t);
	bool mutual = t.auth == REG_AUTH_MUTUAL;
	snprintf(spec, sizeof(spec), "%s/%s", row->volume, row->name);
	doc = json_pack("{s:s,s:s,s:s,s:s?,s:s?,s:s?}", "schema", "myfs.auth/1", "name", spec, "auth",
			auth_names[t.auth], "iqn", t.iqn[0] ? t.iqn : NULL, "user", t.chap_user[0] ? t.chap_user : NULL,
			"mutual_user", mutual ? t.mutual_user : NULL);
	if (secret) {
		json_object_set_new(doc, "secret", t.chap_secret[0] ? json_string(t.chap_secret) : json_null());
		json_object_set_new(doc, "mutual_secret", mutual ? json_string(t.mutual_secret) : json_null());
	}
	return doc;
}

int method_auth_show(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct reg_lun row;

	if (control_find_lun(arg, params, &row, error) < 0)
		return -1;
	*ret = auth_json(arg, &row, param_flag(params, "secret"));
	return 0;
}

static int auth_answer(struct blockd *d, const struct reg_lun *row, int rc, const struct err *e, json_t **ret,
		       struct control_error *error) YIELDS
{
	json_t *target = NULL;

	rc = answer(d, row, rc, e, "change the authentication of", &target, error);
	json_decref(target);
	if (rc == 0)
		*ret = auth_json(d, row, false);
	return rc;
}

int method_auth_rotate(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	struct err e = ERR_INIT;
	struct reg_target t;
	struct reg_lun row;
	int rc;

	if (find_target(d, "auth.rotate", params, &row, ret, &rc, error))
		return rc;
	target_load(d, &row.gfid, &t);
	rc = target_set_secret(d, &row, false, NULL, NULL, &e);
	if (rc == 0 && t.auth == REG_AUTH_MUTUAL)
		rc = target_set_secret(d, &row, true, NULL, NULL, &e);
	return auth_answer(d, &row, rc, &e, ret, error);
}

int method_auth_set(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	const char *user = param_text(params, "user"), *secret = param_text(params, "secret");
	struct err e = ERR_INIT;
	struct reg_target t;
	struct reg_lun row;
	uint32_t auth;
	int rc;

	if (find_target(d, "auth.set", params, &row, ret, &rc, error))
		return rc;
	target_load(d, &row.gfid, &t);
	if (parse_auth(params, t.auth, &auth, error) < 0)
		return -1;
	if (secret)
		rc = target_set_secret(d, &row, param_flag(params, "mutual"), user, secret, &e);
	else if (user)
		return control_bad_input(error, "", "a new user needs its secret too");
	else
		rc = 0;
	if (rc == 0 && param_text(params, "auth"))
		rc = target_set_auth(d, &row, auth, &e);
	return auth_answer(d, &row, rc, &e, ret, error);
}
