#include "cli/health.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "cli/field.h"
#include "cli/volume.h"

#define ASK_TIMEOUT_MS 3000

const char *health_level_name(enum health_level level)
{
	static const char *const names[] = {"OK", "OK", "WARNING", "ERROR"};
	return names[level];
}

static void add_finding(struct health *h, enum health_level level, const char *code, const char *effect, const char *action, const char *fmt, ...)
	PRINTF(6, 7);
static void add_finding(struct health *h, enum health_level level, const char *code, const char *effect, const char *action, const char *fmt, ...)
{
	char text[700];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	json_array_append_new(h->findings, json_pack("{s:s,s:s,s:s,s:s,s:s}", "code", code, "level", level == HEALTH_ERR ? "error" : level == HEALTH_WARN ? "warning" : "info",
	                                             "status", text, "effect", effect, "action", action));
	if (level > h->level)
		h->level = level;
}

static json_t *ask_quietly(const char *control, const char *method)
{
	struct control_error ce;
	json_t *result = NULL;
	const char *path = unix_path(control);
	return path != NULL && control_call(path, method, NULL, ASK_TIMEOUT_MS, &result, &ce) == 0 ? result : NULL;
}

static void gather_nodes(struct health *h, const struct reg_node *nodes, size_t n_nodes, const struct reg_brick *bricks, size_t n_bricks)
{
	for (size_t i = 0; i < n_nodes; i++) {
		json_t *status = ask_quietly(nodes[i].control, "status");
		json_array_append_new(h->nodes, json_pack("{s:s,s:s}", "name", nodes[i].name, "state", status != NULL ? "up" : "no answer"));
		if (status == NULL)
			add_finding(h, HEALTH_WARN, "NODE_DOWN", "its bricks are not served", "start myfs-brickd there (demo: myfs demo revive NODE)", "node %s does not answer", nodes[i].name);
		for (size_t b = 0; b < n_bricks; b++) {
			if (strcmp(bricks[b].node, nodes[i].name) != 0)
				continue;
			char id[GFID_TEXT];
			gfid_text(&bricks[b].uuid, id);
			json_t *row = json_pack("{s:s,s:s,s:s,s:s,s:i,s:i,s:s,s:s}", "id", id, "node", bricks[b].node, "path", bricks[b].path, "volume", bricks[b].volume, "set",
			                        (int)bricks[b].set_index, "index", (int)bricks[b].brick_index, "state", status != NULL ? "unknown" : "no answer", "reason", "");
			json_t *items = json_object_get(status, "bricks");
			for (size_t k = 0; k < json_array_size(items); k++)
				if (strcmp(field_text(json_array_get(items, k), "id", ""), id) == 0)
					json_object_update(row, json_array_get(items, k));
			json_array_append_new(h->bricks, row);
		}
		json_decref(status);
	}
}

static void judge_bricks(struct health *h)
{
	size_t i;
	json_t *b;
	json_array_foreach(h->bricks, i, b) {
		const char *state = field_text(b, "state", "");
		if (strcmp(state, "no answer") != 0 && strcmp(state, "online") != 0)
			add_finding(h, HEALTH_WARN, "BRICK_DOWN", "it holds nothing new until it is back", "myfs brick list; see the reason", "brick %s:%s is %s%s%s", field_text(b, "node", ""),
			            field_text(b, "path", ""), state, field_text(b, "reason", "")[0] ? ": " : "", field_text(b, "reason", ""));
		if (field_int(b, "full") != 0 || json_is_true(json_object_get(b, "full")))
			add_finding(h, HEALTH_ERR, "BRICK_FULL", "writes that need it end with \"no space\"; nothing is lost", "free space on its file system",
			            "brick %s:%s is full", field_text(b, "node", ""), field_text(b, "path", ""));
	}
}

static void judge_volume(struct health *h, const struct reg_volume *v)
{
	uint32_t survives = layout_survives(v->k, v->r), total = 0, up = 0, least = v->k + v->r;
	for (uint32_t set = 0; set < v->sets; set++) {
		uint32_t set_up = 0;
		size_t i;
		json_t *b;
		json_array_foreach(h->bricks, i, b) {
			if (strcmp(field_text(b, "volume", ""), v->name) != 0 || field_int(b, "set") != (json_int_t)set)
				continue;
			total++;
			set_up += strcmp(field_text(b, "state", ""), "online") == 0;
		}
		up += set_up;
		least = (uint32_t)min_u64(least, set_up);
	}
	uint32_t n = v->k + v->r, needed = n - survives;
	json_array_append_new(h->volumes, json_pack("{s:s,s:i,s:i,s:i,s:b,s:i,s:i,s:i}", "name", v->name, "data", (int)v->k, "parity", (int)v->r, "survives", (int)survives, "started",
	                                            (int)v->started, "bricks_up", (int)up, "bricks", (int)total, "may_lose", (int)least - (int)needed));
	if (!v->started || least == n)
		return;
	if (least < needed) {
		char status[128];
		snprintf(status, sizeof(status), "a set of it has %" PRIu32 " of %" PRIu32 " bricks, %" PRIu32 " are needed", least, n, needed);
		add_finding(h, HEALTH_ERR, "VOLUME_PAUSED", "I/O waits; nothing is lost", "bring its bricks back: myfs brick list", "volume %s is paused: %s", v->name, status);
		return;
	}
	char effect[160];
	snprintf(effect, sizeof(effect), least > needed ? "%" PRIu32 " more may fail; no data at risk yet" : "one more failure would stop its I/O (%" PRIu32 " more may fail)", least - needed);
	add_finding(h, HEALTH_WARN, "BRICK_DOWN", effect, "bring the bricks back: myfs brick list", "volume %s runs on %" PRIu32 " of %" PRIu32 " bricks", v->name, up, total);
}

static void judge_iscsi(struct health *h, const struct reg_gateway *g, const json_t *iscsi)
{
	const char *state = field_text(iscsi, "state", "off");
	if (strcmp(state, "unavailable") == 0)
		add_finding(h, HEALTH_WARN, "ISCSI_DOWN", "iSCSI clients wait or cannot log in; NBD goes on working", field_text(iscsi, "next", "myfs doctor"), "iSCSI on gateway %s: %s", g->name,
		            field_text(iscsi, "why", "not available"));
	else if (strcmp(state, "waiting") == 0)
		add_finding(h, HEALTH_WARN, "ISCSI_DOWN", "clients cannot log in to the others yet; NBD goes on working", "myfs-block target list -o name,state,why",
		            "iSCSI on gateway %s: %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " targets are exported", g->name, field_int(iscsi, "exported"), field_int(iscsi, "targets"));
}

static void judge_gateway(struct health *h, const struct reg_gateway *g, const json_t *status, bool others)
{
	if (status == NULL && others) {
		add_finding(h, HEALTH_WARN, "GATEWAY_DOWN", "its LUNs are served by the others; clients attach there", "start myfs-blockd (demo: myfs demo revive NAME)",
		            "gateway %s does not answer", g->name);
		return;
	}
	if (status == NULL) {
		add_finding(h, HEALTH_ERR, "GATEWAY_DOWN", "its LUNs are not served; acknowledged data is on the bricks", "start myfs-blockd (demo: myfs demo revive gateway)",
		            "gateway %s does not answer", g->name);
		return;
	}
	json_int_t wrong = 0, repaired = 0, losses = 0;
	size_t i;
	json_t *v;
	json_array_foreach(json_object_get(status, "volumes"), i, v) {
		wrong += field_int(json_object_get(v, "counters"), "checksum_errors");
		repaired += field_int(json_object_get(v, "counters"), "repaired_blocks");
		losses += field_int(json_object_get(v, "counters"), "losses");
	}
	judge_iscsi(h, g, json_object_get(status, "iscsi"));
	if (losses > 0)
		add_finding(h, HEALTH_WARN, "LUN_LOSS", "flushed data is safe; sessions of these LUNs were ended", "check the file systems on them: myfs-block info shows losses",
		            "bricks lost their memory: unflushed writes of %" JSON_INTEGER_FORMAT " LUN%s on %s may be gone", losses, losses == 1 ? "" : "s", g->name);
	if (wrong > 0)
		add_finding(h, HEALTH_WARN, "CHECKSUM_ERRORS", "reads returned right data", "myfs brick list -o node,path,wrong,repaired",
		            "%" JSON_INTEGER_FORMAT " block%s on the bricks did not match the checksum; %" JSON_INTEGER_FORMAT " rewritten", wrong, wrong == 1 ? "" : "s", repaired);
}

/* VOLUME_PAUSED is said already. */
static bool volume_is_paused(const struct health *h, const char *lun)
{
	size_t i;
	json_t *v;
	json_array_foreach(h->volumes, i, v) {
		const char *name = field_text(v, "name", "");
		size_t len = strlen(name);
		if (strncmp(lun, name, len) == 0 && lun[len] == '/')
			return field_int(v, "may_lose") < 0;
	}
	return false;
}

static void judge_heal(struct health *h, const struct reg_gateway *g)
{
	json_t *heal = ask_quietly(g->control, "heal.status");
	json_int_t left = 0;
	const char *cause = "";
	size_t i;
	json_t *x;
	json_array_foreach(json_object_get(heal, "items"), i, x) {
		if (json_is_true(json_object_get(x, "io_waits")) && strcmp(field_text(x, "kind", ""), "lun") == 0 && !volume_is_paused(h, field_text(x, "name", "")))
			add_finding(h, HEALTH_ERR, "LUN_PAUSED", "its I/O waits; nothing is lost", "bring back the bricks that hold everything: myfs heal status",
			            "too few bricks that hold all of %s answer%s%s", field_text(x, "name", ""), field_text(x, "cause", "")[0] ? ": " : "", field_text(x, "cause", ""));
		left += field_int(x, "missed_bytes");
		if (field_int(x, "missed_bytes") > 0)
			cause = field_text(x, "cause", "");
	}
	if (left > 0)
		add_finding(h, HEALTH_WARN, "HEAL_RUNNING", "until it is done fewer bricks may fail", "myfs heal status --watch",
		            "%.1f MiB still have to be healed (%s)", (double)left / (double)MIB(1), cause[0] ? cause : "healing");
	json_decref(heal);
}

static void judge_scrub(struct health *h, const struct reg_gateway *g)
{
	json_t *scrub = ask_quietly(g->control, "scrub.status");
	size_t i;
	json_t *x;
	json_array_foreach(json_object_get(scrub, "items"), i, x) {
		const char *vol = field_text(x, "volume", "");
		json_int_t undecided = field_int(x, "undecided"), unreadable = field_int(x, "unreadable"), repaired = field_int(x, "repaired");
		if (unreadable > 0)
			add_finding(h, HEALTH_ERR, "SCRUB_UNREADABLE", "reading them ends with an error", "bring bricks back, then: myfs scrub start VOL",
			            "scrub of %s found %" JSON_INTEGER_FORMAT " region%s with rows that cannot be rebuilt", vol, unreadable, unreadable == 1 ? "" : "s");
		if (undecided > 0)
			add_finding(h, HEALTH_WARN, "SCRUB_UNDECIDED", "what clients read is unchanged, but may be old there", "myfs explain SCRUB_UNDECIDED",
			            "scrub of %s found %" JSON_INTEGER_FORMAT " row%s in which bricks disagree and nobody can say which is wrong", vol, undecided, undecided == 1 ? "" : "s");
		else if (repaired > 0)
			add_finding(h, HEALTH_INFO, "SCRUB_REPAIRED", "none: they are right again", "myfs scrub status", "the last scrub of %s repaired %" JSON_INTEGER_FORMAT " block%s", vol,
			            repaired, repaired == 1 ? "" : "s");
	}
	json_decref(scrub);
}

static void judge_luns(struct health *h, const struct reg_lun *luns, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		h->luns += luns[i].state == REG_LUN_READY;
		if (luns[i].state == REG_LUN_CREATING)
			add_finding(h, HEALTH_WARN, "LUN_HALF_DONE", "it is not served yet", "nothing: the gateway finishes it", "LUN %s/%s is still being created", luns[i].volume, luns[i].name);
	}
}

int health_gather(const struct invocation *in, struct health *h)
{
	*h = (struct health){json_array(), json_array(), json_array(), json_array(), json_array(), HEALTH_OK, 0};
	struct registry *r = NULL;
	int rc = cluster_open(in, &r);
	if (rc != 0)
		return rc;
	struct reg_node *nodes = NULL;
	struct reg_gateway *gateways = NULL;
	struct reg_volume *volumes = NULL;
	struct reg_brick *bricks = NULL;
	struct reg_lun *luns = NULL;
	size_t n_nodes = 0, n_gateways = 0, n_volumes = 0, n_bricks = 0, n_luns = 0;
	struct err e = ERR_INIT;
	rc = reg_node_list(r, &nodes, &n_nodes, &e);
	rc = rc == 0 ? reg_gateway_list(r, &gateways, &n_gateways, &e) : rc;
	rc = rc == 0 ? reg_volume_list(r, &volumes, &n_volumes, &e) : rc;
	rc = rc == 0 ? reg_brick_list(r, NULL, NULL, &bricks, &n_bricks, &e) : rc;
	rc = rc == 0 ? reg_lun_list(r, NULL, -1, &luns, &n_luns, &e) : rc;
	registry_close(r);
	if (rc < 0) {
		rc = registry_failed(in, &e, "the registry cannot be read");
	} else {
		gather_nodes(h, nodes, n_nodes, bricks, n_bricks);
		judge_bricks(h);
		for (size_t i = 0; i < n_volumes; i++)
			judge_volume(h, &volumes[i]);
		size_t up = 0;
		bool heal_judged = false;
		for (size_t i = 0; i < n_gateways; i++) {
			json_t *ping = ask_quietly(gateways[i].control, "ping");
			up += ping != NULL;
			json_decref(ping);
		}
		for (size_t i = 0; i < n_gateways; i++) {
			json_t *status = ask_quietly(gateways[i].control, "status");
			judge_gateway(h, &gateways[i], status, up > 0);
			if (status != NULL && !heal_judged) {
				judge_heal(h, &gateways[i]);
				judge_scrub(h, &gateways[i]);
			}
			heal_judged |= status != NULL; /* the answer is for all of them */
			json_t *row = json_pack("{s:s,s:s}", "name", gateways[i].name, "state", status != NULL ? "up" : "no answer");
			json_object_set_new(row, "status", status != NULL ? status : json_null());
			json_array_append_new(h->gateways, row);
		}
		judge_luns(h, luns, n_luns);
	}
	free(nodes);
	free(gateways);
	free(volumes);
	free(bricks);
	free(luns);
	return rc;
}

void health_free(struct health *h)
{
	json_decref(h->bricks);
	json_decref(h->nodes);
	json_decref(h->gateways);
	json_decref(h->volumes);
	json_decref(h->findings);
}
