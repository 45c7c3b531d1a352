/* node.c - the bricks of one node, kept as the registry wants them. Invariants N1, N2 in node.h. */
#include "brick/node.h"

#include <stdio.h>
#include <unistd.h>

#include "brick/frag.h"
#include "brick/identity.h"
#include "brick/tree.h"
#include "core/base/log.h"
#include "core/loop/keepsake.h"

#define POLL_NS     (500 * NS_PER_MS)
#define RETRY_NS    (5 * NS_PER_S)
#define HEALTH_NS   (30 * NS_PER_S)
#define FILES_OTHER 512u /* descriptors left for connections and everything else */
#define FRAGS_MIN   16u
#define FRAGS_MAX   512u

const char *node_brick_state_name(enum node_brick_state s)
{
	static const char *const names[] = {
	    [NODE_BRICK_STARTING] = "starting", [NODE_BRICK_ONLINE] = "online",     [NODE_BRICK_OFFLINE] = "offline",
	    [NODE_BRICK_FAILED] = "failed",     [NODE_BRICK_STOPPING] = "stopping",
	};

	return names[s];
}

unsigned node_bricks_online(const struct node *n)
{
	unsigned online = 0;

	list_for_each(b, &n->bricks, struct node_brick, node) online += b->state == NODE_BRICK_ONLINE;
	return online;
}

struct node_brick *node_find_path(struct node *n, const char *path, const char **ret_rest)
{
	list_for_each(b, &n->bricks, struct node_brick, node)
	{
		size_t len = strlen(b->reg.path);
		if (b->state != NODE_BRICK_ONLINE || strncmp(path, b->reg.path, len) != 0)
			continue;
		const char *rest = path + len;
		if (*rest != '\0' && *rest != '/')
			continue;
		*ret_rest = rest + strspn(rest, "/");
		return b;
	}
	return NULL;
}

/* ---- the life of one brick ---- */

void node_brick_hold(struct node_brick *b)
{
	assert(b->state == NODE_BRICK_ONLINE);
	b->held++;
}

void node_brick_release(struct node_brick *b)
{
	assert(b->held > 0);
	b->held--;
	waitq_wake_all(&b->wake);
}

static void brick_failed(void *arg, struct brick *brick, const char *why)
{
	struct node_brick *b = arg;

	(void)brick;
	b->failed = true;
	snprintf(b->reason, sizeof(b->reason), "%s", why);
	waitq_wake_all(&b->wake);
}

/* N2 */
static int check_is_the_one(const struct node_brick *b, const struct brick_identity *id, struct err *e)
{
	char found[GFID_TEXT];

	if (!gfid_eq(&id->volume, &b->volume.uuid))
		return err_set(e, -MYFS_E_WRONG_VOLUME, "the directory belongs to volume %s, not to %s",
			       gfid_text(&id->volume, found), b->volume.name);
	if (!gfid_eq(&id->brick, &b->reg.uuid))
		return err_set(e, -MYFS_E_WRONG_VOLUME, "the directory holds another brick of the volume (%s)",
			       gfid_text(&id->brick, found));
	if (id->set_index != b->reg.set_index || id->brick_index != b->reg.brick_index || id->k != b->volume.k ||
	    id->r != b->volume.r || id->chunk_bytes != b->volume.chunk_bytes)
		return err_set(e, -EUCLEAN,
			       "the directory says set %u, index %u, %u+%u, chunk %u; the registry says set %u, index "
			       "%u, %u+%u, chunk %u",
			       id->set_index, id->brick_index, id->k, id->r, id->chunk_bytes, b->reg.set_index,
			       b->reg.brick_index, b->volume.k, b->volume.r, b->volume.chunk_bytes);
	return 0;
}

/* Two descriptors per open fragment, shared out evenly. */
static unsigned frags_limit(const struct node *n)
{
	uint64_t bricks = 0;

	list_for_each(b, &n->bricks, struct node_brick, node) bricks++;
	uint64_t spare = n->cfg.max_files > FILES_OTHER ? n->cfg.max_files - FILES_OTHER : 0;
	return (unsigned)max_u64(FRAGS_MIN, min_u64(FRAGS_MAX, spare / (2 * max_u64(1, bricks))));
}

/* ---- the witness: in the kernel's memory while the brick is served; an orderly stop needs none ---- */

static void witness_open(struct node_brick *b)
{
	struct err e = ERR_INIT;
	char name[REG_BRICK_KEEPSAKE];
	void *p;

	if (b->witness)
		return;
	if (keepsake_open(reg_brick_keepsake(&b->reg.uuid, name), sizeof(*b->witness), &p, &e) == 0)
		b->witness = p;
	else
		log_note("brick %s: killed, it will not be able to prove that it lost nothing: %s", b->reg.path, e.text);
}

static void witness_close(struct node_brick *b, bool remove)
{
	char name[REG_BRICK_KEEPSAKE];

	keepsake_close(b->witness, sizeof(*b->witness));
	b->witness = NULL;
	if (remove)
		keepsake_remove(reg_brick_keepsake(&b->reg.uuid, name));
}

/* ---- up and down ---- */

static int brick_up(struct node_brick *b, struct err *e) YIELDS
{
	int rc = store_open_posix(b->reg.path, &b->store, e);

	if (rc == -ENOENT)
		return err_set(e, rc, "the directory does not exist: is the disk mounted?");
	witness_open(b);
	struct brick_options o = {.loop = b->owner->loop,
				  .boot = b->owner->cfg.boot,
				  .witness = b->witness,
				  .unjournaled = b->owner->cfg.unjournaled,
				  .on_failed = brick_failed,
				  .arg = b};
	if (!rc)
		rc = brick_open(b->store, &o, &b->brick, e);
	if (!rc)
		rc = check_is_the_one(b, brick_identity_of(b->brick), e);
	if (!rc) {
		frag_set_limit(brick_tree(b->brick), frags_limit(b->owner));
		rc = brick_host_add(b->owner->host, b->brick);
	}
	if (rc && e->code == 0)
		err_set(e, rc, "%s", err_name(rc));
	return rc;
}

static void brick_down(struct node_brick *b, bool in_host) YIELDS
{
	struct brick *brick = b->brick;

	if (in_host)
		brick_host_remove(b->owner->host, brick);
	while (b->held > 0)
		waitq_wait(&b->wake);
	b->brick = NULL;
	if (b->failed)
		brick_abandon(brick);
	else
		brick_close(brick);
	witness_close(b, brick && !b->failed); /* before the directory's lock goes */
	store_close(b->store);
	b->store = NULL;
}

/* Until asked to stop or broken. */
static void brick_serve(struct node_brick *b) YIELDS
{
	while (!b->stop && !b->failed) {
		struct err e = ERR_INIT;
		if (waitq_wait_until(&b->wake, loop_now_ns() + HEALTH_NS) == -ETIMEDOUT && !b->failed &&
		    tree_health_check(b->store, &e))
			brick_fail(b->brick, e.text);
	}
}

static void set_offline(struct node_brick *b, const char *why)
{
	if (b->state != NODE_BRICK_OFFLINE || strcmp(b->reason, why) != 0)
		log_error("brick %s is offline: %s", b->reg.path, why);
	b->state = NODE_BRICK_OFFLINE;
	snprintf(b->reason, sizeof(b->reason), "%s", why);
}

static void brick_run_once(struct node_brick *b) YIELDS
{
	struct err e = ERR_INIT;
	int rc = brick_up(b, &e);

	if (rc) {
		brick_down(b, false);
		set_offline(b, e.text);
		return;
	}
	b->state = NODE_BRICK_ONLINE;
	b->reason[0] = '\0';
	log_note("brick %s (%s set %u, index %u) is online", b->reg.path, b->reg.volume, b->reg.set_index,
		 b->reg.brick_index);
	brick_serve(b);
	if (b->failed)
		log_error("brick %s failed and is taken offline until the daemon is restarted: %s", b->reg.path,
			  b->reason);
	b->state = b->failed ? NODE_BRICK_FAILED : NODE_BRICK_STOPPING;
	brick_down(b, true);
}

static void brick_main(void *arg)
{
	struct node_brick *b = arg;
	struct node *n = b->owner;

	while (!b->stop) {
		brick_run_once(b);
		while (b->failed && !b->stop) /* N1 */
			waitq_wait(&b->wake);
		if (!b->stop)
			(void)waitq_wait_until(&b->wake, loop_now_ns() + RETRY_NS);
	}
	list_del(&b->node);
	free(b);
	waitq_wake_all(&n->changed);
}

static int brick_start(struct node *n, const struct reg_brick *reg, const struct reg_volume *volume)
{
	struct node_brick *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->owner = n;
	b->reg = *reg;
	b->volume = *volume;
	waitq_init(&b->wake);
	list_push_back(&n->bricks, &b->node);
	int rc = fiber_spawn(n->loop, "brick", brick_main, b);
	if (rc) {
		list_del(&b->node);
		free(b);
	}
	return rc;
}

static void brick_stop(struct node_brick *b)
{
	b->stop = true;
	waitq_wake_all(&b->wake);
}

/* ---- registry -> bricks ---- */

static const struct reg_volume *volume_named(const struct reg_volume *v, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(v[i].name, name) == 0)
			return &v[i];
	}
	return NULL;
}

static bool same_place(const struct reg_brick *a, const struct reg_brick *b)
{
	return gfid_eq(&a->uuid, &b->uuid) && strcmp(a->path, b->path) == 0 && a->set_index == b->set_index &&
	       a->brick_index == b->brick_index;
}

static void reconcile(struct node *n, const struct reg_brick *want, size_t want_n, const struct reg_volume *volumes,
		      size_t volumes_n)
{
	list_for_each(b, &n->bricks, struct node_brick, node)
	{
		const struct reg_volume *v = volume_named(volumes, volumes_n, b->reg.volume);
		bool keep = false;
		for (size_t i = 0; i < want_n && v && v->started; i++)
			keep |= same_place(&b->reg, &want[i]);
		if (!keep)
			brick_stop(b);
	}
	for (size_t i = 0; i < want_n; i++) {
		const struct reg_volume *v = volume_named(volumes, volumes_n, want[i].volume);
		bool there = false;
		list_for_each(b, &n->bricks, struct node_brick,
			      node) /* one that is stopping has the directory: next time */
		    there |= gfid_eq(&b->reg.uuid, &want[i].uuid) || strcmp(b->reg.path, want[i].path) == 0;
		if (v && v->started && !there && brick_start(n, &want[i], v))
			log_error("brick %s: out of memory", want[i].path);
	}
}

static int read_registry(struct node *n, uint64_t *ret_generation, struct err *e)
{
	struct reg_volume *volumes = NULL;
	struct reg_brick *bricks = NULL;
	size_t volumes_n = 0, bricks_n = 0;
	/* The generation first: a change in between is then seen again. */
	int rc = registry_generation(n->registry, ret_generation, e);

	if (!rc)
		rc = reg_volume_list(n->registry, &volumes, &volumes_n, e);
	if (!rc)
		rc = reg_brick_list(n->registry, NULL, n->cfg.name, &bricks, &bricks_n, e);
	if (!rc)
		reconcile(n, bricks, bricks_n, volumes, volumes_n);
	free(volumes);
	free(bricks);
	return rc;
}

static void watch_main(void *arg)
{
	struct node *n = arg;
	uint64_t seen = UINT64_MAX;

	while (!n->stopping) {
		struct err e = ERR_INIT;
		uint64_t now = 0;
		int rc = registry_generation(n->registry, &now, &e);
		if (!rc && now != seen) {
			rc = read_registry(n, &now, &e);
			if (!rc)
				seen = now;
		}
		if (rc && strcmp(n->trouble, e.text) != 0)
			log_error("%s (bricks stay as they are)", e.text);
		snprintf(n->trouble, sizeof(n->trouble), "%s", e.text);
		if (waitq_wait_until(&n->changed, loop_now_ns() + POLL_NS) == 0)
			seen = UINT64_MAX; /* a brick ended or someone asked: look again */
	}
	n->watching = false;
	waitq_wake_all(&n->changed);
}

void node_reload(struct node *n)
{
	waitq_wake_all(&n->changed);
}

/* ---- start and stop ---- */

static int listen_addresses(struct node *n, struct err *e)
{
	struct reg_node reg;

	if (n->cfg.n_listen > 0)
		return 0;
	int rc = reg_node_get(n->registry, n->cfg.name, &reg, e);
	if (rc == -ENOENT)
		return err_set(e, rc, "node %s is not in the registry: add it (myfs node add) or say --listen",
			       n->cfg.name);
	if (!rc)
		rc = address_parse(reg.address, &n->cfg.listen[0], e);
	if (!rc)
		n->cfg.n_listen = 1;
	return rc ? err_wrap(e, rc, "address of node %s", n->cfg.name) : 0;
}

static int start_server(struct node *n, struct err *e) YIELDS
{
	struct rpc_server_config cfg = {
	    .net = net_kernel(),
	    .tls = n->tls,
	    .allow_plain_tcp = n->cfg.allow_plain_tcp,
	    .allowed_uid = geteuid(),
	    .handle = brick_host_handle,
	    .on_open = brick_host_on_open,
	    .on_close = brick_host_on_close,
	    .arg = n->host,
	};
	int rc = rpc_server_new(&cfg, &n->server);

	if (rc)
		return err_set(e, rc, "server: %s", err_name(rc));
	for (unsigned i = 0; i < n->cfg.n_listen; i++) {
		const struct address *a = &n->cfg.listen[i];
		if (a->kind == ADDRESS_TCP && !n->tls && !n->cfg.allow_plain_tcp)
			return err_set(
			    e, -EPERM,
			    "listening on TCP needs the cluster key: --psk FILE (or, to test, --allow-plain-tcp)");
		rc = rpc_server_listen(n->server, a, &n->listen[i], e);
		if (rc)
			return err_wrap(e, rc, "listen for gateways");
		n->n_listen++;
	}
	return 0;
}

static int start(struct node *n, struct err *e) YIELDS
{
	int rc = registry_open(n->cfg.registry_path, false, &n->registry, e);

	if (!rc)
		rc = listen_addresses(n, e);
	if (!rc && n->cfg.psk_path)
		rc = tls_creds_psk(n->cfg.psk_path, TLS_CLUSTER_IDENTITY, &n->tls, e);
	if (!rc && brick_host_new(&n->host))
		rc = err_set(e, -ENOMEM, "out of memory");
	if (!rc)
		brick_host_set_delay(n->host, &n->cfg.delay);
	if (!rc)
		rc = start_server(n, e);
	if (!rc) {
		n->watching = true;
		rc = fiber_spawn(n->loop, "registry-watch", watch_main, n);
		if (rc) {
			n->watching = false;
			err_set(e, rc, "watch of the registry: %s", err_name(rc));
		}
	}
	return rc;
}

int node_start(const struct node_config *cfg, struct node **ret, struct err *e)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		return err_set(e, -ENOMEM, "out of memory");
	n->cfg = *cfg;
	n->loop = loop_self();
	n->started_ns = loop_now_ns();
	list_init(&n->bricks);
	waitq_init(&n->changed);
	int rc = start(n, e);
	if (rc) {
		node_stop(n);
		return rc;
	}
	*ret = n;
	return 0;
}

void node_stop(struct node *n)
{
	if (!n)
		return;
	n->stopping = true;
	waitq_wake_all(&n->changed);
	while (n->watching)
		waitq_wait(&n->changed);
	list_for_each(b, &n->bricks, struct node_brick, node) brick_stop(b);
	while (!list_empty(&n->bricks))
		waitq_wait(&n->changed);
	if (n->server) {
		rpc_server_stop(n->server);
		rpc_server_free(n->server);
	}
	brick_host_free(n->host);
	tls_creds_free(n->tls);
	registry_close(n->registry);
	free(n);
}
