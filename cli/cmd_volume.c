/* cmd_volume.c - myfs volume create, list, info, start, stop, delete. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/cmd.h"
#include "cli/size.h"
#include "cli/table.h"
#include "cli/volume.h"
#include "cli/words.h"

static int plan_bricks(const struct invocation *in, struct volume_plan *plan)
{
	for (int i = 1; i < in->n_args; i++) {
		const char *colon = strstr(in->args[i], ":/");
		char node[300];
		snprintf(node, sizeof(node), "%.*s", colon ? (int)min_u64((uint64_t)(colon - in->args[i]), 299) : 0, in->args[i]);
		struct err e = ERR_INIT;
		if (colon == NULL)
			return usage_error(in, "\"%s\" is not a brick; write NODE:/PATH", in->args[i]);
		if (name_check("node", node, &e) < 0)
			return usage_error(in, "%s", e.text);
		if (plan->n_bricks == VOLUME_MAX_BRICKS || strlen(colon + 1) >= REG_PATH)
			return usage_error(in, "too many bricks, or too long a path");
		memcpy(plan->bricks[plan->n_bricks].node, node, REG_NAME);
		strcpy(plan->bricks[plan->n_bricks].path, colon + 1);
		plan->n_bricks++;
	}
	return 0;
}

static int plan_layout(const struct invocation *in, struct volume_plan *plan)
{
	struct err e = ERR_INIT;
	const char *layout = opt_value(in, "layout", NULL), *replica = opt_value(in, "replica", NULL);
	if (layout != NULL && replica != NULL)
		return usage_error(in, "--layout and --replica exclude each other");
	if (replica != NULL) {
		unsigned long copies = strtoul(replica, NULL, 10);
		if (copies < 2 || copies > 8)
			return usage_error(in, "--replica takes 2 to 8 copies, not \"%s\"", replica);
		plan->k = 1;
		plan->r = (uint32_t)copies - 1;
	} else if (layout_parse(layout != NULL ? layout : "4+2", &plan->k, &plan->r, &e) < 0) {
		return usage_error(in, "%s", e.text);
	}
	uint64_t chunk, sets = strtoul(opt_value(in, "sets", "1"), NULL, 10);
	if (sets < 1 || sets > 64)
		return usage_error(in, "--sets takes 1 to 64, not \"%s\"", opt_value(in, "sets", "1"));
	plan->sets = (uint32_t)sets;
	if (size_parse(opt_value(in, "stripe-unit", "16K"), &chunk, &e) < 0)
		return usage_error(in, "%s", e.text);
	if (chunk < 4096 || chunk > 65536 || (chunk & (chunk - 1)) != 0)
		return usage_error(in, "--stripe-unit is 4K, 8K, 16K, 32K or 64K");
	plan->chunk_bytes = (uint32_t)chunk;
	if (size_parse(opt_value(in, "journal", "256M"), &plan->journal_bytes, &e) < 0)
		return usage_error(in, "%s", e.text);
	if (plan->journal_bytes < MIB(16) || plan->journal_bytes > GIB(16) || plan->journal_bytes % 4096 != 0)
		return usage_error(in, "--journal is 16M to 16G");
	return 0;
}

static int run_create(const struct invocation *in)
{
	static struct volume_plan plan;
	struct err e = ERR_INIT;
	if (name_check("volume", in->args[0], &e) < 0)
		return usage_error(in, "%s", e.text);
	strcpy(plan.name, in->args[0]);
	plan.force = opt_given(in, "force");
	int rc = plan_layout(in, &plan);
	if (rc == 0)
		rc = plan_bricks(in, &plan);
	if (rc == 0)
		rc = volume_create(in, &plan);
	if (rc != 0)
		return rc;
	uint32_t survives = layout_survives(plan.k, plan.r);
	if (want_json(in))
		return print_json("myfs.volume/1", json_pack("{s:s,s:i,s:i,s:i,s:i}", "name", plan.name, "data", (int)plan.k, "parity", (int)plan.r, "sets",
		                                             (int)plan.sets, "survives", (int)survives));
	if (!want_quiet(in))
		printf("Created volume %s: %" PRIu32 " set%s of %" PRIu32 "+%" PRIu32 ", each survives the loss of %" PRIu32 " brick%s\n"
		       "Next, make a LUN on it:\n  myfs-block create %s/lun 10G\n", plan.name, plan.sets, plan.sets == 1 ? "" : "s", plan.k, plan.r, survives,
		       survives == 1 ? "" : "s", plan.name);
	return 0;
}

static json_t *volume_json(const struct reg_volume *v)
{
	char id[GFID_TEXT], created[SIZE_TEXT], layout[32];
	if (v->k == 1)
		snprintf(layout, sizeof(layout), "replica %" PRIu32, v->r + 1);
	else
		snprintf(layout, sizeof(layout), "%" PRIu32 "+%" PRIu32, v->k, v->r);
	return json_pack("{s:s,s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:b,s:s}", "name", v->name, "id", gfid_text(&v->uuid, id), "layout", layout, "data", (int)v->k,
	                 "parity", (int)v->r, "survives", (int)layout_survives(v->k, v->r), "sets", (int)v->sets, "stripe_unit_bytes", (int)v->chunk_bytes,
	                 "started", (int)v->started, "created", time_text(v->created_ns, created));
}

static const struct column VOLUME_COLUMNS[] = {
	{"NAME", "name", COL_TEXT, false},   {"LAYOUT", "layout", COL_TEXT, false},  {"SETS", "sets", COL_COUNT, false},
	{"SURVIVES", "survives", COL_COUNT, false}, {"UNIT", "stripe_unit_bytes", COL_SIZE, false}, {"STARTED", "started", COL_TEXT, false},
	{"CREATED", "created", COL_TEXT, true}, {"ID", "id", COL_TEXT, true},
};

static int run_list(const struct invocation *in)
{
	struct registry *r = NULL;
	int rc = cluster_open(in, &r);
	if (rc != 0)
		return rc;
	struct reg_volume *v = NULL;
	size_t n = 0;
	struct err e = ERR_INIT;
	rc = reg_volume_list(r, &v, &n, &e);
	registry_close(r);
	if (rc < 0)
		return registry_failed(in, &e, "the volumes cannot be read");
	json_t *rows = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(rows, volume_json(&v[i]));
	free(v);
	return print_rows(in, "myfs.volumes/1", VOLUME_COLUMNS, ARRAY_LEN(VOLUME_COLUMNS), rows, "no volumes yet: myfs volume create vol NODE:/PATH...");
}

/* Opens the registry and finds args[0]. 0 or exit code. */
static int find_volume(const struct invocation *in, struct registry **ret_r, struct reg_volume *ret)
{
	struct err e = ERR_INIT;
	int rc = cluster_open(in, ret_r);
	if (rc != 0)
		return rc;
	rc = reg_volume_get(*ret_r, in->args[0], ret, &e);
	if (rc == 0)
		return 0;
	registry_close(*ret_r);
	*ret_r = NULL;
	return rc == -ENOENT ? report(in, "E-NOTFOUND-05", EXIT_NOT_FOUND, NULL, NULL, "myfs volume list", "there is no volume %s", in->args[0])
	                     : registry_failed(in, &e, "the volume cannot be read");
}

static int run_info(const struct invocation *in)
{
	struct registry *r = NULL;
	struct reg_volume v;
	int rc = find_volume(in, &r, &v);
	if (rc != 0)
		return rc;
	struct reg_brick *b = NULL;
	size_t n = 0;
	struct err e = ERR_INIT;
	rc = reg_brick_list(r, v.name, NULL, &b, &n, &e);
	registry_close(r);
	if (rc < 0)
		return registry_failed(in, &e, "the bricks cannot be read");
	json_t *doc = volume_json(&v), *bricks = json_array();
	for (size_t i = 0; i < n; i++) {
		char id[GFID_TEXT];
		json_array_append_new(bricks, json_pack("{s:s,s:s,s:s,s:i,s:i}", "id", gfid_text(&b[i].uuid, id), "node", b[i].node, "path", b[i].path, "set",
		                                        (int)b[i].set_index, "index", (int)b[i].brick_index));
	}
	json_object_set_new(doc, "bricks", bricks);
	if (want_json(in)) {
		free(b);
		return print_json("myfs.volume/1", doc);
	}
	char unit[SIZE_TEXT];
	printf("%s\n  layout   %s, %" PRIu32 " set%s; each set survives the loss of %" PRIu32 " brick%s\n  unit     %s per brick and stripe\n  state    %s\n  id       %s\n",
	       v.name, json_string_value(json_object_get(doc, "layout")), v.sets, v.sets == 1 ? "" : "s", layout_survives(v.k, v.r),
	       layout_survives(v.k, v.r) == 1 ? "" : "s", size_text(v.chunk_bytes, unit), v.started ? "started" : "stopped",
	       json_string_value(json_object_get(doc, "id")));
	for (size_t i = 0; i < n; i++)
		printf("  brick    set %" PRIu32 " #%" PRIu32 "  %s:%s\n", b[i].set_index, b[i].brick_index, b[i].node, b[i].path);
	free(b);
	json_decref(doc);
	return 0;
}

static int set_started(const struct invocation *in, uint32_t started)
{
	struct registry *r = NULL;
	struct reg_volume v;
	int rc = find_volume(in, &r, &v);
	if (rc != 0)
		return rc;
	struct err e = ERR_INIT;
	v.started = started;
	rc = reg_volume_put(r, &v, &e);
	if (rc < 0) {
		registry_close(r);
		return registry_failed(in, &e, "the volume cannot be changed");
	}
	cluster_history(in, r);
	cluster_reload(r);
	registry_close(r);
	if (want_json(in))
		return print_json("myfs.volume/1", volume_json(&v));
	if (!want_quiet(in))
		printf("Volume %s is %s\n", v.name, started ? "started" : "stopped; its LUNs are not served");
	return 0;
}

static int run_start(const struct invocation *in)
{
	return set_started(in, 1);
}

/* Refuses while clients are attached to LUNs of the volume. */
static int refuse_sessions(const struct invocation *in)
{
	json_t *result;
	int rc = cluster_ask_gateway(in, "session.list", json_object(), &result);
	if (rc != 0)
		return rc;
	json_t *items = json_object_get(result, "items");
	size_t n = strlen(in->args[0]);
	char why[400] = "";
	for (size_t i = 0; i < json_array_size(items); i++) {
		const char *lun = json_string_value(json_object_get(json_array_get(items, i), "lun"));
		const char *peer = json_string_value(json_object_get(json_array_get(items, i), "peer"));
		if (lun != NULL && strncmp(lun, in->args[0], n) == 0 && lun[n] == '/')
			snprintf(why + strlen(why), sizeof(why) - strlen(why), "%s%s by %s", why[0] ? ", " : "", lun, peer ? peer : "?");
	}
	json_decref(result);
	return why[0] == '\0' ? 0 : report(in, "E-BUSY-06", EXIT_BUSY, why, "nothing was changed", "detach the clients, or repeat with --force",
	                                 "volume %s has clients attached", in->args[0]);
}

static int run_stop(const struct invocation *in)
{
	if (!opt_given(in, "force")) {
		int rc = refuse_sessions(in);
		if (rc != 0)
			return rc;
	}
	return set_started(in, 0);
}

static int remove_volume(const struct invocation *in, struct registry *r, const struct reg_volume *v)
{
	struct err e = ERR_INIT;
	struct reg_brick *b = NULL;
	size_t n = 0;
	int rc = reg_brick_list(r, v->name, NULL, &b, &n, &e);
	if (rc == 0)
		rc = registry_begin(r, &e);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = reg_brick_delete(r, &b[i].uuid, &e);
	if (rc == 0)
		rc = reg_volume_delete(r, v->name, &e);
	if (rc == 0)
		rc = registry_commit(r, &e);
	if (rc < 0) {
		registry_rollback(r);
		free(b);
		return registry_failed(in, &e, "the volume cannot be removed");
	}
	cluster_history(in, r);
	cluster_reload(r);
	if (!want_quiet(in) && !want_json(in)) {
		printf("Deleted volume %s. Its brick directories are untouched; to free their space:\n", v->name);
		for (size_t i = 0; i < n; i++)
			printf("  on %s: rm -rf %s\n", b[i].node, b[i].path);
	}
	free(b);
	return 0;
}

static int run_delete(const struct invocation *in)
{
	struct registry *r = NULL;
	struct reg_volume v;
	int rc = find_volume(in, &r, &v);
	if (rc != 0)
		return rc;
	struct reg_lun *luns = NULL;
	size_t n = 0;
	struct err e = ERR_INIT;
	rc = reg_lun_list(r, v.name, -1, &luns, &n, &e);
	free(luns);
	if (rc < 0)
		rc = registry_failed(in, &e, "the LUNs cannot be read");
	else if (n > 0)
		rc = report(in, "E-BUSY-06", EXIT_BUSY, "LUNs, also those in the trash, live on it", "nothing was changed",
		          "delete them first: myfs-block list; myfs-block trash purge", "volume %s still holds %zu LUN%s", v.name, n, n == 1 ? "" : "s");
	else if (v.started)
		rc = report(in, "E-BUSY-06", EXIT_BUSY, NULL, "nothing was changed", "myfs volume stop NAME", "volume %s is started", v.name);
	else if (!confirm(in, "Deleting a volume", v.name))
		rc = EXIT_REFUSED;
	else
		rc = remove_volume(in, r, &v);
	registry_close(r);
	return rc != 0 || !want_json(in) ? rc : print_json("myfs.volume/1", volume_json(&v));
}

static const struct option_def CREATE_OPTIONS[] = {
	{"layout", 0, "K+R", "data and parity bricks of a set (default 4+2)", false},
	{"replica", 0, "N", "N copies instead of erasure coding", false},
	{"sets", 0, "N", "number of sets; files are spread over them (default 1)", false},
	{"stripe-unit", 0, "SIZE", "bytes per brick and stripe, 4K to 64K (default 16K)", false},
	{"journal", 0, "SIZE", "journal of each brick (default 256M)", false},
	{"force", 0, NULL, "accept an unsafe placement, layout or a directory that is not empty", false},
	{NULL, 0, NULL, NULL, false},
};
static const struct option_def STOP_OPTIONS[] = {
	{"force", 0, NULL, "even with clients attached", false},
	{NULL, 0, NULL, NULL, false},
};

const struct command VOLUME_COMMANDS[] = {
	{"volume create", NULL, "VOL NODE:/PATH...", "make a volume from bricks",
	 "  myfs volume create vol node{1,2,3}:/bricks/b{1,2}\n  myfs volume create mirror --replica 3 node{1,2,3}:/bricks/m1", 2, MAX_ARGS, CREATE_OPTIONS, run_create},
	{"volume list", "ls", "", "all volumes", NULL, 0, 0, NULL, run_list},
	{"volume info", "show", "VOL", "one volume and its bricks", NULL, 1, 1, NULL, run_info},
	{"volume start", NULL, "VOL", "serve its LUNs", NULL, 1, 1, NULL, run_start},
	{"volume stop", NULL, "VOL", "stop serving its LUNs; data stays", NULL, 1, 1, STOP_OPTIONS, run_stop},
	{"volume delete", "rm", "VOL", "forget an empty, stopped volume", NULL, 1, 1, NULL, run_delete},
	{NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
