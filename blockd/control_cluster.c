/* control_cluster.c - what concerns several gateways: moving a LUN, questions passed on to the gateway that serves it,
 * and lists put together from the answers of all. Whoever is asked, the answer is the same.
 *
 * A request that was passed on carries "local": true and is answered without asking further. */
#include "blockd/control.h"

#include <stdio.h>

#include "blockd/gateways.h"
#include "blockd/peer.h"

#define PEERS_MAX 32u
#define ASK_NS    (60 * NS_PER_S) /* changes passed on: they wait for bricks */

bool control_local(const json_t *params)
{
	return param_flag(params, "local");
}

static json_t *as_local(const json_t *params)
{
	json_t *copy = params ? json_copy((json_t *)(uintptr_t)params) : json_object();

	json_object_set_new(copy, "local", json_true());
	return copy;
}

int control_pass_on(struct blockd *d, const struct reg_lun *row, const char *method, const json_t *params, json_t **ret,
		    struct control_error *error)
{
	int rc;

	if (control_local(params) || !row->owner[0] || strcmp(row->owner, d->self.name) == 0 ||
	    gateways_state(d, row->owner) != GATEWAY_ALIVE)
		return 1;
	rc = peer_call(d, row->owner, method, as_local(params), ASK_NS, ret, error);
	return rc == 0 ? 0 : rc == -EREMOTEIO ? -1 : 1;
}

/* ---- move ---- */

static int no_such_gateway(struct blockd *d, const char *name, struct control_error *error)
{
	struct reg_gateway *rows = NULL;
	char names[400] = "";
	size_t n = 0, used = 0;

	reg_gateway_list(d->registry, &rows, &n, NULL);
	for (size_t i = 0; i < n && used < sizeof(names); i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? ", " : "there are ", rows[i].name);
	free(rows);
	return control_fail(error, "E-NOTFOUND-05", 5, names, "nothing was changed", "myfs gateway list",
			    "there is no gateway %.63s", name);
}

static int pass_move_on(struct blockd *d, const char *to, const json_t *params, json_t **ret,
			struct control_error *error) YIELDS
{
	struct reg_gateway row;
	int rc;

	if (strlen(to) >= REG_NAME || reg_gateway_get(d->registry, to, &row, NULL) < 0)
		return no_such_gateway(d, to, error);
	rc = control_local(params) ? -EPROTO
				   : peer_call(d, to, "lun.move", as_local(params), ASK_NS, ret, error);
	if (rc == 0 || rc == -EREMOTEIO)
		return rc == 0 ? 0 : -1;
	return control_fail(error, "E-NOANSWER-08", 8, err_name(rc), "nothing was changed", "myfs gateway list",
			    "gateway %s does not answer", to);
}

int method_lun_move(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	const char *to = param_text(params, "to");
	struct err e = ERR_INIT;
	struct reg_lun row, moved;
	char what[200];
	int rc;

	if (control_find_lun(d, params, &row, error) < 0)
		return -1;
	if (to && strcmp(to, d->self.name) != 0)
		return pass_move_on(d, to, params, ret, error);
	rc = lun_take(d, &row, &e);
	if (rc == 0)
		rc = reg_lun_get_gfid(d->registry, &row.gfid, &moved, &e);
	snprintf(what, sizeof(what), "cannot move %s/%s to %s", row.volume, row.name, d->self.name);
	if (rc < 0)
		return control_from_err(error, d, row.volume, rc, &e, what);
	*ret = control_lun_json(d, &moved);
	json_object_set_new(*ret, "moved_from", row.owner[0] ? json_string(row.owner) : json_null());
	return 0;
}

/* ---- lists from all gateways ---- */

typedef void merge_fn(json_t *mine, json_t *theirs, const char *gateway);

static void ask_all(struct blockd *d, const char *method, const json_t *params, json_t *mine, merge_fn *merge) YIELDS
{
	char(*names)[REG_NAME] = calloc(PEERS_MAX, sizeof(*names)); /* too large for a fiber's stack */
	unsigned n = names ? gateways_alive(d, names, PEERS_MAX) : 0;

	for (unsigned i = 0; i < n; i++) {
		struct control_error ignored;
		json_t *theirs = NULL;

		if (peer_call(d, names[i], method, as_local(params), PEER_ANSWER_NS, &theirs, &ignored) == 0)
			merge(mine, theirs, names[i]);
		json_decref(theirs);
	}
	free(names);
}

static json_t *item_named(json_t *list, const char *key, const char *name)
{
	size_t i;
	json_t *x;

	json_array_foreach(json_object_get(list, "items"), i, x)
	{
		const char *text = json_string_value(json_object_get(x, key));

		if (text && name && strcmp(text, name) == 0)
			return x;
	}
	return NULL;
}

static json_int_t add_field(json_t *a, const json_t *b, const char *key)
{
	json_int_t sum = json_integer_value(json_object_get(a, key)) + json_integer_value(json_object_get(b, key));

	json_object_set_new(a, key, json_integer(sum));
	return sum;
}

static void merge_sessions(json_t *mine, json_t *theirs, const char *gateway)
{
	(void)gateway;
	json_array_extend(json_object_get(mine, "items"), json_object_get(theirs, "items"));
}

int cluster_session_list(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	json_t *x;
	size_t i;

	if (method_session_list(arg, params, ret, error) < 0)
		return -1;
	json_array_foreach(json_object_get(*ret, "items"), i, x)
		json_object_set_new(x, "gateway", json_string(d->self.name));
	if (!control_local(params))
		ask_all(d, "session.list", params, *ret, merge_sessions);
	return 0;
}

/* Items whose field `key` is this gateway, by their names. Owned. */
static json_t *items_of(const json_t *answer, const char *key, const char *gateway)
{
	json_t *by_name = json_object(), *x;
	size_t i;

	json_array_foreach(json_object_get(answer, "items"), i, x)
	{
		const char *whose = json_string_value(json_object_get(x, key));
		const char *name = json_string_value(json_object_get(x, "name"));

		if (whose && name && strcmp(whose, gateway) == 0)
			json_object_set(by_name, name, x);
	}
	return by_name;
}

/* The owner knows best about a LUN: its row of the list is taken, except what it was not asked for. */
static void merge_luns(json_t *mine, json_t *theirs, const char *gateway)
{
	json_t *by_name = items_of(theirs, "owner", gateway), *x;
	size_t i;

	json_array_foreach(json_object_get(mine, "items"), i, x)
	{
		const json_t *better = json_object_get(by_name, json_string_value(json_object_get(x, "name")));

		if (!better)
			continue;
		json_object_set(x, "state", json_object_get(better, "state"));
		json_object_set(x, "sessions", json_object_get(better, "sessions"));
	}
	json_decref(by_name);
}

int cluster_lun_list(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	json_t *plain;

	if (method_lun_list(arg, params, ret, error) < 0)
		return -1;
	if (control_local(params))
		return 0;
	plain = params ? json_copy((json_t *)(uintptr_t)params) : json_object();
	json_object_del(plain, "used"); /* bricks need not be asked twice */
	ask_all(arg, "lun.list", plain, *ret, merge_luns);
	json_decref(plain);
	return 0;
}

/* Whoever exports a LUN knows its target's state. */
static void merge_targets(json_t *mine, json_t *theirs, const char *gateway)
{
	json_t *by_name = items_of(theirs, "gateway", gateway), *x;
	size_t i;

	json_array_foreach(json_object_get(mine, "items"), i, x)
	{
		json_t *better = json_object_get(by_name, json_string_value(json_object_get(x, "name")));

		if (better)
			json_object_update(x, better);
	}
	json_decref(by_name);
}

int cluster_target_list(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	if (method_target_list(arg, params, ret, error) < 0)
		return -1;
	if (!control_local(params))
		ask_all(arg, "target.list", params, *ret, merge_targets);
	return 0;
}

/* A volume's own line sums what both gateways look after: its names on one of them, closed LUNs on either. */
static void merge_heal_volume(json_t *a, json_t *b)
{
	const char *mine = json_string_value(json_object_get(a, "state"));
	static const char *const sums[] = {"missed_bytes", "healed_bytes", "rate", "luns_waiting"};

	for (size_t i = 0; i < ARRAY_LEN(sums); i++)
		add_field(a, b, sums[i]);
	if (mine && strcmp(mine, "ok") == 0) {
		json_object_set(a, "state", json_object_get(b, "state"));
		json_object_set(a, "cause", json_object_get(b, "cause"));
		json_object_set(a, "eta_s", json_object_get(b, "eta_s"));
		json_object_set(a, "waiting_for", json_object_get(b, "waiting_for"));
	}
}

static void merge_heal(json_t *mine, json_t *theirs, const char *gateway)
{
	json_t *x;
	size_t i;

	(void)gateway;
	json_array_foreach(json_object_get(theirs, "items"), i, x)
	{
		json_t *same = item_named(mine, "name", json_string_value(json_object_get(x, "name")));

		if (!same)
			json_array_append(json_object_get(mine, "items"), x);
		else if (json_object_get(x, "luns_waiting"))
			merge_heal_volume(same, x);
	}
	if (json_is_true(json_object_get(theirs, "checking")))
		json_object_set_new(mine, "checking", json_true());
}

int cluster_heal_status(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	if (method_heal_status(arg, params, ret, error) < 0)
		return -1;
	if (!control_local(params))
		ask_all(arg, "heal.status", params, *ret, merge_heal);
	return 0;
}

/* ---- who is there ---- */

int method_gateway_list(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	struct reg_gateway *rows = NULL;
	struct err e = ERR_INIT;
	json_t *items = json_array();
	size_t n = 0;
	int rc = reg_gateway_list(d->registry, &rows, &n, &e);

	(void)params;
	for (size_t i = 0; i < n && rc == 0; i++)
		json_array_append_new(items, json_pack("{s:s,s:s}", "name", rows[i].name, "state",
						       gateway_state_name(gateways_state(d, rows[i].name))));
	free(rows);
	*ret = json_pack("{s:o}", "items", items);
	return rc < 0 ? control_from_err(error, d, NULL, rc, &e, "cannot read the gateways") : 0;
}
