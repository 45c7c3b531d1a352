/* node_control.c - see node_control.h. Parameters come from outside and are checked here, once. */
#include "brick/node_control.h"

#include <brick.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "brick/inspect.h"
#include "brick/metrics.h"
#include "brick/tree.h"
#include "core/base/log.h"

#define CHUNK_DEFAULT   16384
#define JOURNAL_DEFAULT MIB(256)

/* ---- parameters ---- */

static int bad(struct control_error *error, const char *what)
{
	return control_fail(error, "E-USAGE-64", 64, NULL, "nothing was changed", NULL, "%s", what);
}

static const char *get_text(const json_t *params, const char *key)
{
	return json_string_value(json_object_get(params, key));
}

/* Absent: the default. False when it is there and not a number in [0, max]. */
static bool get_number(const json_t *params, const char *key, uint64_t def, uint64_t max, uint64_t *ret)
{
	const json_t *v = json_object_get(params, key);

	*ret = v ? (uint64_t)json_integer_value(v) : def;
	return !v || (json_is_integer(v) && json_integer_value(v) >= 0 && *ret <= max);
}

static bool get_gfid(const json_t *params, const char *key, struct gfid *ret)
{
	const char *text = get_text(params, key);

	return text && gfid_parse(text, ret) == 0 && !gfid_is_null(ret);
}

/* ---- status ---- */

static void add_counters(json_t *o, const struct bp_stat_res *s)
{
	const struct {
		const char *key;
		uint64_t value;
	} v[] = {
	    {"total_bytes", s->total_bytes},
	    {"free_bytes", s->free_bytes},
	    {"journal_bytes", s->journal_bytes},
	    {"journal_used", s->journal_used},
	    {"overlay_bytes", s->overlay_bytes},
	    {"reads", s->reads},
	    {"preps", s->preps},
	    {"commits", s->commits},
	    {"syncs", s->syncs},
	    {"checkpoints", s->checkpoints},
	    {"bytes_read", s->bytes_read},
	    {"bytes_written", s->bytes_written},
	    {"checksum_errors", s->checksum_errors},
	    {"repaired_blocks", s->repaired_blocks},
	    {"domains", s->domains},
	    {"full", s->full},
	};

	for (size_t i = 0; i < ARRAY_LEN(v); i++)
		json_object_set_new(o, v[i].key, json_integer((json_int_t)v[i].value));
}

static json_t *brick_row(const struct node_brick *b)
{
	char id[GFID_TEXT];

	return json_pack("{s:s, s:s, s:s, s:i, s:i, s:s, s:s}", "id", gfid_text(&b->reg.uuid, id), "path", b->reg.path,
			 "volume", b->reg.volume, "set", (int)b->reg.set_index, "index", (int)b->reg.brick_index,
			 "state", node_brick_state_name(b->state), "reason", b->reason);
}

/* Counting parks, and meanwhile bricks may come and go: so first take the rows, then fill in each by id. */
static void fill_row(struct node *n, json_t *row) YIELDS
{
	struct gfid id;

	if (gfid_parse(get_text(row, "id"), &id))
		return;
	list_for_each(b, &n->bricks, struct node_brick, node)
	{
		if (!gfid_eq(&b->reg.uuid, &id) || b->state != NODE_BRICK_ONLINE)
			continue;
		struct bp_stat_res s = {0};
		node_brick_hold(b);
		brick_stat(b->brick, &s);
		node_brick_release(b);
		add_counters(row, &s);
		return;
	}
}

static int run_status(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct node *n = ((struct node_control *)arg)->node;
	json_t *bricks = json_array(), *listen = json_array();
	char text[ADDRESS_TEXT];

	(void)params;
	(void)error;
	list_for_each(b, &n->bricks, struct node_brick, node) json_array_append_new(bricks, brick_row(b));
	for (size_t i = 0; i < json_array_size(bricks); i++)
		fill_row(n, json_array_get(bricks, i));
	for (unsigned i = 0; i < n->n_listen; i++)
		json_array_append_new(listen, json_string(address_text(&n->listen[i], text)));
	*ret = json_pack("{s:s, s:s, s:s, s:I, s:I, s:o, s:s, s:o}", "node", n->cfg.name, "version", MYFS_VERSION,
			 "backend", loop_backend_name(n->loop), "pid", (json_int_t)getpid(), "uptime_s",
			 (json_int_t)((loop_now_ns() - n->started_ns) / NS_PER_S), "listen", listen, "trouble",
			 n->trouble, "bricks", bricks);
	return 0;
}

/* ---- brick.create ---- */

static int parse_identity(const json_t *params, struct brick_identity *id, struct control_error *error)
{
	uint64_t set, index, k, r, chunk, journal;

	if (!get_gfid(params, "volume", &id->volume) || !get_gfid(params, "brick", &id->brick))
		return bad(error, "volume and brick must be uuids");
	if (!get_number(params, "set", 0, UINT16_MAX, &set) || !get_number(params, "index", 0, 31, &index) ||
	    !get_number(params, "k", 0, 32, &k) || !get_number(params, "r", 0, 32, &r) ||
	    !get_number(params, "chunk", CHUNK_DEFAULT, 65536, &chunk) ||
	    !get_number(params, "journal_bytes", JOURNAL_DEFAULT, BRICK_JOURNAL_MAX, &journal))
		return bad(error, "set, index, k, r, chunk and journal_bytes must be sensible numbers");
	id->set_index = (uint32_t)set;
	id->brick_index = (uint32_t)index;
	id->k = (uint32_t)k;
	id->r = (uint32_t)r;
	id->chunk_bytes = (uint32_t)chunk;
	id->journal_bytes = journal ? journal : JOURNAL_DEFAULT;
	return 0;
}

/* The directory and what is missing above it; an existing one stays as it is. */
static int make_directory(const char *path)
{
	char part[REG_PATH];

	for (const char *p = path + 1;; p++) {
		if (*p != '/' && *p != '\0')
			continue;
		snprintf(part, sizeof(part), "%.*s", (int)(p - path), path);
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -errno;
		if (*p == '\0')
			return 0;
	}
}

static int create_failed(struct control_error *error, int rc, const char *path, const char *why)
{
	if (rc == -EEXIST)
		return control_fail(error, "E-EXISTS-03", 3, why, "nothing was changed",
				    "choose an empty directory (--force takes one that is not empty but no brick)",
				    "%s cannot become a brick", path);
	if (rc == -ENOSPC)
		return control_fail(error, "E-NOSPACE-04", 4, why, "no data is affected",
				    "use a larger file system or a smaller journal", "%s cannot become a brick", path);
	if (rc == -EACCES || rc == -EPERM)
		return control_fail(error, "E-ACCESS-07", 7, why, "no data is affected", NULL,
				    "%s cannot become a brick", path);
	if (rc == -EINVAL)
		return control_fail(error, "E-USAGE-64", 64, why, "nothing was changed", NULL,
				    "%s cannot become a brick", path);
	return control_fail(error, "E-BRICK-02", 2, why, "no data is affected", NULL, "%s cannot become a brick", path);
}

/* The same brick again: a volume create that is repeated after it was cut off. */
static bool is_made_already(struct store *s, const struct brick_identity *want) YIELDS
{
	struct brick_identity have;

	return tree_read_identity(s, &have, NULL) == 0 && gfid_eq(&have.volume, &want->volume) &&
	       gfid_eq(&have.brick, &want->brick) && have.set_index == want->set_index &&
	       have.brick_index == want->brick_index && have.k == want->k && have.r == want->r &&
	       have.chunk_bytes == want->chunk_bytes;
}

static int run_create(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	const char *path = get_text(params, "path");
	bool force = json_is_true(json_object_get(params, "force"));
	struct brick_identity id = {0};
	struct err e = ERR_INIT;
	struct store *s = NULL;
	bool made = false;

	(void)arg;
	if (!path || path[0] != '/' || strlen(path) >= REG_PATH)
		return bad(error, "path must be an absolute path of at most 511 bytes");
	if (parse_identity(params, &id, error))
		return -1;
	int rc = make_directory(path);
	if (rc)
		return create_failed(error, rc, path, err_name(rc));
	rc = store_open_posix(path, &s, &e);
	if (!rc && !is_made_already(s, &id)) {
		rc = tree_create(s, &id, force, &e);
		made = rc == 0;
	}
	store_close(s);
	if (rc)
		return create_failed(error, rc, path, e.text);
	log_note("brick directory %s %s", path, made ? "made" : "is made already");
	*ret = json_pack("{s:s, s:b}", "path", path, "made", made);
	return 0;
}

/* ---- brick.inspect ---- */

static struct node_brick *brick_of_id(struct node *n, const json_t *params)
{
	struct gfid id;

	if (!get_gfid(params, "brick", &id))
		return NULL;
	list_for_each(b, &n->bricks, struct node_brick, node)
	{
		if (gfid_eq(&b->reg.uuid, &id) && b->state == NODE_BRICK_ONLINE)
			return b;
	}
	return NULL;
}

static int inspect_closed(const char *path, json_t **ret, struct err *e) YIELDS
{
	struct store *s = NULL;
	int rc = store_open_posix(path, &s, e);

	if (!rc)
		rc = inspect_unserved(s, ret, e);
	store_close(s);
	return rc;
}

static int run_inspect(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct node *n = ((struct node_control *)arg)->node;
	const char *path = get_text(params, "path"), *rest = "";
	struct node_brick *b = brick_of_id(n, params);
	struct gfid gfid;
	struct err e = ERR_INIT;
	int rc;

	if (b)
		rest = path ? path + strspn(path, "/") : "";
	else if (path && path[0] == '/')
		b = node_find_path(n, path, &rest);
	else
		return bad(error, "say path (absolute), or brick (uuid, online here) with path or gfid");
	if (b)
		node_brick_hold(b);
	if (b && get_gfid(params, "gfid", &gfid))
		rc = inspect_gfid(b->brick, &gfid, ret, &e);
	else if (b)
		rc = inspect_path(b->brick, rest, ret, &e);
	else
		rc = inspect_closed(path, ret, &e);
	bool served = b != NULL;
	if (b)
		node_brick_release(b);
	if (rc)
		return control_fail(error, rc == -ENOENT || rc == -ENOMEDIUM ? "E-NOTFOUND-05" : "E-BRICK-02",
				    rc == -ENOENT || rc == -ENOMEDIUM ? 5 : 2, e.text, NULL, "myfs brick list",
				    "cannot inspect %s", path ? path : "the object");
	json_object_set_new(*ret, "served", served ? json_string("yes") : json_string("no: not online on this node"));
	return 0;
}

/* ---- the rest ---- */

static int run_reload(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	(void)params;
	(void)ret;
	(void)error;
	node_reload(((struct node_control *)arg)->node);
	return 0;
}

static int run_shutdown(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct node_control *c = arg;

	(void)params;
	(void)ret;
	(void)error;
	c->shutdown(c->arg);
	return 0;
}

static int run_metrics(void *arg, const json_t *params, json_t **ret, struct control_error *error) YIELDS
{
	struct metrics m = {.json = json_object()};

	(void)params;
	(void)error;
	node_metrics_write(((struct node_control *)arg)->node, &m);
	*ret = m.json;
	return 0;
}

const struct control_method node_control_methods[] = {
    {"status", run_status},   {"metrics", run_metrics}, {"brick.create", run_create}, {"brick.inspect", run_inspect},
    {"reload", run_reload}, {"shutdown", run_shutdown}, {NULL, NULL},
};
