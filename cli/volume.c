#include "cli/volume.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include <sys/random.h>

#include "cli/size.h"

int layout_parse(const char *text, uint32_t *ret_k, uint32_t *ret_r, struct err *e)
{
	unsigned k, r;
	char rest;
	if (sscanf(text, "%2u+%2u%c", &k, &r, &rest) != 2)
		return err_set(e, -EINVAL, "\"%s\" is not a layout; write DATA+PARITY, for example 4+2", text);
	if (k < 2 || r < 1 || k + r > 32)
		return err_set(e, -EINVAL, "layout %s is not possible: at least 2 data and 1 parity brick, at most 32 together (copies: --replica N)", text);
	*ret_k = k;
	*ret_r = r;
	return 0;
}

uint32_t layout_survives(uint32_t k, uint32_t r)
{
	uint32_t n = k + r, w = (uint32_t)max_u64(k, n / 2 + 1);
	return n - w;
}

void volume_spread(struct volume_plan *plan)
{
	/* Round-robin over nodes in order of first appearance: the i-th brick of every node before the (i+1)-th of any. */
	size_t rank[VOLUME_MAX_BRICKS];
	for (size_t i = 0; i < plan->n_bricks; i++) {
		rank[i] = 0;
		for (size_t j = 0; j < i; j++)
			rank[i] += strcmp(plan->bricks[i].node, plan->bricks[j].node) == 0;
	}
	/* Stable insertion sort by rank: at most 256 bricks. */
	for (size_t i = 1; i < plan->n_bricks; i++) {
		for (size_t j = i; j > 0 && rank[j - 1] > rank[j]; j--) {
			size_t r = rank[j];
			rank[j] = rank[j - 1];
			rank[j - 1] = r;
			__typeof__(plan->bricks[0]) b = plan->bricks[j];
			plan->bricks[j] = plan->bricks[j - 1];
			plan->bricks[j - 1] = b;
		}
	}
}

int volume_check_placement(const struct volume_plan *plan, struct err *e)
{
	uint32_t n = plan->k + plan->r, survives = layout_survives(plan->k, plan->r);
	for (uint32_t set = 0; set < plan->sets; set++) {
		for (size_t i = set * n; i < (set + 1) * n; i++) {
			uint32_t same = 0;
			for (size_t j = set * n; j < (set + 1) * n; j++)
				same += strcmp(plan->bricks[i].node, plan->bricks[j].node) == 0;
			/* One brick a node is the best there is, also for layouts that stop when any brick is gone. */
			if (same > max_u64(survives, 1))
				return err_set(e, -EPERM, "node %s would hold %" PRIu32 " bricks of one set, but a set of %" PRIu32 "+%" PRIu32
				               " survives the loss of %" PRIu32, plan->bricks[i].node, same, plan->k, plan->r, survives);
		}
	}
	return 0;
}

static int check_plan(const struct invocation *in, struct volume_plan *plan)
{
	struct err e = ERR_INIT;
	uint32_t n = plan->k + plan->r;
	if (plan->n_bricks != (size_t)n * plan->sets)
		return usage_error(in, "%" PRIu32 " set%s of %" PRIu32 "+%" PRIu32 " need %" PRIu32 " bricks; %zu are given", plan->sets,
		                   plan->sets == 1 ? "" : "s", plan->k, plan->r, n * plan->sets, plan->n_bricks);
	for (size_t i = 0; i < plan->n_bricks; i++)
		for (size_t j = 0; j < i; j++)
			if (strcmp(plan->bricks[i].node, plan->bricks[j].node) == 0 && strcmp(plan->bricks[i].path, plan->bricks[j].path) == 0)
				return usage_error(in, "brick %s:%s is given twice", plan->bricks[i].node, plan->bricks[i].path);
	if (plan->k > 1 && plan->k <= plan->r && !plan->force)
		return report(in, "E-LAYOUT-09", EXIT_REFUSED, "a set needs more than half of its bricks for a quorum", "nothing was changed",
		            "choose more data than parity bricks, or repeat with --force",
		            "layout %" PRIu32 "+%" PRIu32 " survives only %" PRIu32 " lost bricks, not %" PRIu32, plan->k, plan->r,
		            layout_survives(plan->k, plan->r), plan->r);
	volume_spread(plan);
	if (!plan->force && volume_check_placement(plan, &e) < 0)
		return report(in, "E-PLACEMENT-09", EXIT_REFUSED, e.text, "nothing was changed",
		            "spread the bricks over more nodes, or repeat with --force to accept it",
		            "cannot create volume %s: losing one node would lose data", plan->name);
	return 0;
}

static int check_unused(const struct invocation *in, struct registry *r, const struct volume_plan *plan)
{
	struct err e = ERR_INIT;
	struct reg_volume v;
	int rc = reg_volume_get(r, plan->name, &v, &e);
	if (rc == 0)
		return report(in, "E-EXISTS-03", EXIT_EXISTS, NULL, "nothing was changed", "myfs volume info", "volume %s exists already", plan->name);
	if (rc != -ENOENT)
		return registry_failed(in, &e, "the volumes cannot be read");
	struct reg_brick *bricks = NULL;
	size_t n = 0;
	if (reg_brick_list(r, NULL, NULL, &bricks, &n, &e) < 0)
		return registry_failed(in, &e, "the bricks cannot be read");
	rc = 0;
	for (size_t i = 0; i < n && rc == 0; i++)
		for (size_t j = 0; j < plan->n_bricks && rc == 0; j++)
			if (strcmp(bricks[i].node, plan->bricks[j].node) == 0 && strcmp(bricks[i].path, plan->bricks[j].path) == 0)
				rc = report(in, "E-EXISTS-03", EXIT_EXISTS, NULL, "nothing was changed", "choose an unused directory",
				          "brick %s:%s already belongs to volume %s", bricks[i].node, bricks[i].path, bricks[i].volume);
	free(bricks);
	return rc;
}

static struct gfid random_gfid(void)
{
	uint8_t raw[16];
	if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw))
		abort(); /* the kernel guarantees small requests */
	return gfid_from_random(raw);
}

static int prepare_brick(const struct invocation *in, struct registry *r, const struct volume_plan *plan, const struct reg_volume *v,
                         struct reg_brick *b)
{
	struct reg_node node;
	struct err e = ERR_INIT;
	if (reg_node_get(r, b->node, &node, &e) < 0)
		return report(in, "E-NOTFOUND-05", EXIT_NOT_FOUND, NULL, NULL, "myfs node list", "there is no node %s", b->node);
	char volume[GFID_TEXT], brick[GFID_TEXT];
	json_t *result = NULL, *params = json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:b}", "path", b->path, "volume", gfid_text(&v->uuid, volume),
	                                           "brick", gfid_text(&b->uuid, brick), "set", (json_int_t)b->set_index, "index", (json_int_t)b->brick_index,
	                                           "k", (json_int_t)v->k, "r", (json_int_t)v->r, "chunk", (json_int_t)v->chunk_bytes,
	                                           "journal_bytes", (json_int_t)plan->journal_bytes, "force", (int)plan->force);
	int rc = cluster_ask_node(in, &node, "brick.create", params, &result);
	json_decref(result);
	return rc;
}

void cluster_reload(struct registry *r)
{
	/* Only makes them look sooner: both poll the registry. */
	struct reg_node *nodes = NULL;
	struct reg_gateway *gateways = NULL;
	size_t n = 0;
	struct control_error ce;
	json_t *result;
	if (reg_node_list(r, &nodes, &n, NULL) == 0)
		for (size_t i = 0; i < n; i++)
			if (unix_path(nodes[i].control) != NULL && control_call(unix_path(nodes[i].control), "reload", NULL, 5000, &result, &ce) == 0)
				json_decref(result);
	free(nodes);
	if (reg_gateway_list(r, &gateways, &n, NULL) == 0)
		for (size_t i = 0; i < n; i++)
			if (unix_path(gateways[i].control) != NULL && control_call(unix_path(gateways[i].control), "reload", NULL, 5000, &result, &ce) == 0)
				json_decref(result);
	free(gateways);
}

static int record_volume(const struct invocation *in, struct registry *r, const struct reg_volume *v, const struct reg_brick *bricks, size_t n)
{
	struct err e = ERR_INIT;
	int rc = registry_begin(r, &e);
	if (rc == 0)
		rc = reg_volume_put(r, v, &e);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = reg_brick_put(r, &bricks[i], &e);
	if (rc == 0)
		rc = registry_commit(r, &e);
	if (rc < 0) {
		registry_rollback(r);
		return registry_failed(in, &e, "the volume cannot be recorded");
	}
	cluster_history(in, r);
	return 0;
}

int volume_create(const struct invocation *in, struct volume_plan *plan)
{
	int rc = check_plan(in, plan);
	struct registry *r = NULL;
	if (rc == 0)
		rc = cluster_open(in, &r);
	if (rc == 0)
		rc = check_unused(in, r, plan);
	struct reg_brick *bricks = calloc(plan->n_bricks + 1, sizeof(*bricks));
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	struct reg_volume v = {.uuid = random_gfid(), .k = plan->k, .r = plan->r, .chunk_bytes = plan->chunk_bytes, .sets = plan->sets, .started = 1,
	                       .created_ns = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec};
	memcpy(v.name, plan->name, sizeof(v.name));
	for (size_t i = 0; i < plan->n_bricks && rc == 0; i++) {
		struct reg_brick *b = &bricks[i];
		b->uuid = random_gfid();
		memcpy(b->volume, plan->name, sizeof(b->volume));
		memcpy(b->node, plan->bricks[i].node, sizeof(b->node));
		memcpy(b->path, plan->bricks[i].path, sizeof(b->path));
		b->set_index = (uint32_t)i / (plan->k + plan->r);
		b->brick_index = (uint32_t)i % (plan->k + plan->r);
		rc = prepare_brick(in, r, plan, &v, b);
		if (rc != 0 && i > 0)
			say(in, "  note:   %zu of %zu brick directories are prepared already; empty them, or repeat with --force", i, plan->n_bricks);
	}
	if (rc == 0)
		rc = record_volume(in, r, &v, bricks, plan->n_bricks);
	if (rc == 0)
		cluster_reload(r);
	registry_close(r);
	free(bricks);
	return rc;
}
