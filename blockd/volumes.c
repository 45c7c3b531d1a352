/* volumes.c - opening what the registry says is started, closing what it says no longer is.
 *
 * Invariants: one struct volume per name at a time; a volume whose bricks or addresses changed is closed and opened
 * anew. */
#include "blockd/volumes.h"

#include <inttypes.h>
#include <stdio.h>

#include "blockd/gateways.h"
#include "blockd/lun.h"
#include "core/base/log.h"

#define NAMES_RETRY_NS (1 * NS_PER_S)

static void volume_free(struct volume *v)
{
	if (!v)
		return;
	free(v->bricks);
	free(v);
}

struct volume *volume_get(struct blockd *d, const char *name)
{
	list_for_each(v, &d->volumes, struct volume, node) {
		if (!v->closing && strcmp(v->row.name, name) == 0) {
			v->holders++;
			return v;
		}
	}
	return NULL;
}

void volume_put(struct volume *v)
{
	assert(v->holders > 0);
	if (--v->holders == 0)
		waitq_wake_all(&v->idle);
}

/* ---- what the registry says ---- */

static int brick_address(struct blockd *d, const struct reg_brick *b, struct ec_brick_addr *ret, struct err *e)
{
	struct reg_node node;
	int rc = reg_node_get(d->registry, b->node, &node, e);

	if (rc == 0)
		rc = address_parse(node.address, &ret->address, e);
	if (rc < 0)
		return err_wrap(e, rc, "node %s", b->node);
	ret->uuid = b->uuid;
	snprintf(ret->label, sizeof(ret->label), "%s:%s", b->node, b->path);
	return 0;
}

/* The bricks of a volume in the order dht wants; every place must be filled. */
static int load_bricks(struct blockd *d, const struct reg_volume *row, struct ec_brick_addr **ret, size_t *ret_n,
		       struct err *e)
{
	uint32_t n = row->k + row->r;
	struct reg_brick *bricks = NULL;
	struct ec_brick_addr *addrs = NULL;
	size_t found = 0, want = (size_t)n * row->sets;
	int rc = reg_brick_list(d->registry, row->name, NULL, &bricks, &found, e);

	if (rc == 0 && found != want)
		rc = err_set(e, -EUCLEAN, "volume %s has %zu bricks in the registry, %zu expected", row->name, found,
			     want);
	if (rc == 0) {
		addrs = calloc(want ? want : 1, sizeof(*addrs));
		rc = addrs ? 0 : err_set(e, -ENOMEM, "no memory");
	}
	for (size_t i = 0; i < found && rc == 0; i++) {
		if (bricks[i].set_index != i / n || bricks[i].brick_index != i % n)
			rc = err_set(e, -EUCLEAN, "volume %s: brick %s:%s has place %u/%u in the registry", row->name,
				     bricks[i].node, bricks[i].path, bricks[i].set_index, bricks[i].brick_index);
		else
			rc = brick_address(d, &bricks[i], &addrs[i], e);
	}
	free(bricks);
	if (rc < 0) {
		free(addrs);
		return rc;
	}
	*ret = addrs;
	*ret_n = want;
	return 0;
}

static bool same_shape(const struct volume *v, const struct reg_volume *row, const struct ec_brick_addr *bricks,
		       size_t n)
{
	if (!gfid_eq(&v->row.uuid, &row->uuid) || v->row.k != row->k || v->row.r != row->r ||
	    v->row.sets != row->sets || v->row.chunk_bytes != row->chunk_bytes || v->bricks_n != n)
		return false;
	for (size_t i = 0; i < n; i++) {
		char a[ADDRESS_TEXT], b[ADDRESS_TEXT];

		if (!gfid_eq(&v->bricks[i].uuid, &bricks[i].uuid) ||
		    strcmp(address_text(&v->bricks[i].address, a), address_text(&bricks[i].address, b)) != 0)
			return false;
	}
	return true;
}

/* ---- heal settings: kept in the registry so that a restart does not forget them ---- */

static void heal_key(const struct reg_volume *row, char key[REG_NAME + 16])
{
	snprintf(key, REG_NAME + 16, "heal.%s", row->name);
}

static void heal_apply(struct volume *v)
{
	for (unsigned i = 0; i < dht_volume_sets(v->dht); i++) {
		struct ec_set *set = dht_volume_set(v->dht, i);

		bool rate = v->heal_limit != EC_HEAL_AUTO && v->heal_limit != EC_HEAL_MAX;

		ec_set_heal_limit(set, rate ? max_u64(1, v->heal_limit / dht_volume_sets(v->dht)) : v->heal_limit);
		ec_set_heal_pause(set, v->heal_paused);
	}
}

static void heal_load(struct volume *v)
{
	char key[REG_NAME + 16], text[64];
	unsigned paused = 0;
	uint64_t limit = 0;

	heal_key(&v->row, key);
	if (reg_cluster_get(v->d->registry, key, text, sizeof(text), NULL) == 0 &&
	    sscanf(text, "%u %" SCNu64, &paused, &limit) == 2) {
		v->heal_paused = paused != 0;
		v->heal_limit = limit;
	}
	heal_apply(v);
}

int volume_heal_set(struct volume *v, bool paused, uint64_t limit, struct err *e)
{
	char key[REG_NAME + 16], text[64];
	int rc;

	heal_key(&v->row, key);
	snprintf(text, sizeof(text), "%u %" PRIu64, paused, limit);
	rc = reg_cluster_set(v->d->registry, key, text, e);
	if (rc < 0)
		return rc;
	v->heal_paused = paused;
	v->heal_limit = limit;
	heal_apply(v);
	return 0;
}

/* ---- names ---- */

static void names_key(const struct reg_volume *row, char key[REG_NAME])
{
	char text[GFID_TEXT];

	snprintf(key, REG_NAME, "names.%s", gfid_text(&row->uuid, text));
}

int volume_names(struct volume *v, struct err *e)
{
	char key[REG_NAME], text[16];
	int rc = 0;

	if (v->names_ready)
		return 0;
	names_key(&v->row, key);
	fmutex_lock(&v->names_lock);
	if (!v->names_ready) {
		/* Only a volume whose directories were never finished may be seeded: a set whose bricks all came back
		 * empty must not pass for a new one. */
		if (reg_cluster_get(v->d->registry, key, text, sizeof(text), NULL) == 0)
			rc = dht_namespace_open(v->dht, e);
		else
			rc = dht_namespace_init(v->dht, e);
		if (rc == 0)
			rc = reg_cluster_set(v->d->registry, key, "ready", e);
		v->names_ready = rc == 0;
	}
	fmutex_unlock(&v->names_lock);
	return rc;
}

/* True when nobody has to open the names: they are open here, on every set, and not taken over by another gateway. */
static bool names_held(const struct volume *v)
{
	struct ec_domain_status s;

	for (unsigned i = 0; i < dht_volume_sets(v->dht); i++)
		if (!dht_volume_names_status(v->dht, i, &s))
			return false;
	return true;
}

static int names_take(struct volume *v, struct err *e) YIELDS
{
	int rc = volume_names(v, e);

	return rc == 0 && !names_held(v) ? dht_namespace_open(v->dht, e) : rc;
}

/* Keeps the names open on the first gateway that lives, as soon as there are bricks: a brick that returns gets missed
 * names although nobody asks. Others open them when they change one; then they come back here. */
static void names_fiber(void *arg)
{
	struct volume *v = arg;
	struct blockd *d = v->d;
	bool said = false;

	while (!v->closing && !d->stopping) {
		struct err e = ERR_INIT;

		if (gateways_first(d) && (!v->names_ready || !names_held(v)) && names_take(v, &e) < 0) {
			if (!said)
				log_warn("volume %s is not ready: %s", v->row.name, e.text);
			said = true;
		} else if (said) {
			log_note("volume %s is ready", v->row.name);
			said = false;
		}
		blockd_sleep(d, NAMES_RETRY_NS);
	}
	volume_put(v);
	blockd_fiber_done(d);
}

/* ---- open, close ---- */

static int volume_dht_open(struct volume *v, struct err *e)
{
	struct dht_volume_config cfg = {.loop = v->d->loop,
					.net = v->d->net,
					.tls = v->d->psk,
					.uuid = v->row.uuid,
					.gateway = v->d->self.uuid,
					.k = v->row.k,
					.r = v->row.r,
					.chunk_bytes = v->row.chunk_bytes,
					.sets = v->row.sets,
					.bricks = v->bricks,
					.io_timeout_ns = v->d->io_timeout_ns,
					.read_fence = v->d->read_fence};

	snprintf(cfg.name, sizeof(cfg.name), "%s", v->row.name);
	return dht_volume_open(&cfg, &v->dht, e);
}

/* Consumes bricks. */
static int volume_open(struct blockd *d, const struct reg_volume *row, struct ec_brick_addr *bricks, size_t n,
		       struct err *e)
{
	struct volume *v = calloc(1, sizeof(*v));
	int rc;

	if (!v) {
		free(bricks);
		return err_set(e, -ENOMEM, "no memory");
	}
	list_init(&v->node);
	v->d = d;
	v->row = *row;
	v->bricks = bricks;
	v->bricks_n = n;
	waitq_init(&v->idle);
	fmutex_init(&v->names_lock);
	fmutex_init(&v->changing);
	rc = volume_dht_open(v, e);
	if (rc < 0) {
		volume_free(v);
		return rc;
	}
	v->geo = *ec_set_geometry(dht_volume_set(v->dht, 0));
	heal_load(v);
	list_push_back(&d->volumes, &v->node);
	v->holders++;
	if (blockd_spawn(d, "names", names_fiber, v) < 0)
		volume_put(v);
	return 0;
}

static void volume_close(struct volume *v) YIELDS
{
	v->closing = true;
	luns_revoke(v->d, v);
	while (v->holders > 0)
		waitq_wait(&v->idle);
	list_del(&v->node);
	dht_volume_close(v->dht);
	volume_free(v);
}

void volumes_close_all(struct blockd *d)
{
	while (!list_empty(&d->volumes))
		volume_close(list_first(&d->volumes, struct volume, node));
}

static struct volume *find_any(struct blockd *d, const char *name)
{
	list_for_each(v, &d->volumes, struct volume, node)
		if (strcmp(v->row.name, name) == 0)
			return v;
	return NULL;
}

static void refresh_one(struct blockd *d, const struct reg_volume *row) YIELDS
{
	struct volume *v = find_any(d, row->name);
	struct ec_brick_addr *bricks = NULL;
	struct err e = ERR_INIT;
	size_t n = 0;
	int rc = 0;

	if (row->started)
		rc = load_bricks(d, row, &bricks, &n, &e);
	if (v && (!row->started || (rc == 0 && !same_shape(v, row, bricks, n)))) {
		log_note("volume %s %s", row->name, row->started ? "changed" : "was stopped");
		volume_close(v);
		v = NULL;
	}
	if (v)
		heal_load(v); /* another gateway may have been told */
	if (v || !row->started || rc < 0)
		free(bricks);
	else
		rc = volume_open(d, row, bricks, n, &e);
	if (rc < 0)
		log_error("volume %s cannot be served: %s", row->name, e.text);
}

static const struct reg_volume *find_row(const struct reg_volume *rows, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(rows[i].name, name) == 0)
			return &rows[i];
	return NULL;
}

void volumes_refresh(struct blockd *d)
{
	struct reg_volume *rows = NULL;
	struct err e = ERR_INIT;
	size_t n = 0;

	if (reg_volume_list(d->registry, &rows, &n, &e) < 0) {
		log_error("the registry cannot be read: %s", e.text);
		return;
	}
	list_for_each_safe(v, &d->volumes, struct volume, node) {
		if (!find_row(rows, n, v->row.name)) {
			log_note("volume %s was deleted", v->row.name);
			volume_close(v);
		}
	}
	for (size_t i = 0; i < n && !d->stopping; i++)
		refresh_one(d, &rows[i]);
	free(rows);
}

/* ---- for messages ---- */

unsigned volume_missing(const struct volume *v, char *out, size_t cap)
{
	unsigned missing = 0;
	size_t used = 0;

	out[0] = '\0';
	for (size_t i = 0; i < v->bricks_n; i++) {
		struct ec_brick_status s;

		ec_set_brick_status(dht_volume_set(v->dht, (unsigned)(i / v->geo.n)), (unsigned)(i % v->geo.n), &s);
		if (s.connected)
			continue;
		if (used < cap)
			used += (size_t)snprintf(out + used, cap - used, "%s%s (%s)", missing ? ", " : "", s.label,
						 s.why[0] ? s.why : "not yet connected");
		missing++;
	}
	return missing;
}

unsigned volume_fewest_connected(const struct volume *v)
{
	unsigned fewest = v->geo.n;

	for (unsigned set = 0; set < dht_volume_sets(v->dht); set++) {
		unsigned connected = 0;

		for (unsigned i = 0; i < v->geo.n; i++) {
			struct ec_brick_status s;

			ec_set_brick_status(dht_volume_set(v->dht, set), i, &s);
			connected += s.connected;
		}
		fewest = connected < fewest ? connected : fewest;
	}
	return fewest;
}
