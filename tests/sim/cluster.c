/* cluster.c - what runs on the hosts of cluster.h, and how it is started and killed. */
#include "tests/sim/cluster.h"

#include <pthread.h>
#include <stdio.h>

#include "brick/brick_priv.h"
#include "brick/tree.h"
#include "core/rpc/rpc.h"
#include "ec/ec_priv.h"

#define RETRY_NS (200 * NS_PER_MS)
#define RESERVE_BYTES MIB(4)

static struct gfid numbered(uint8_t kind, uint32_t n)
{
	struct gfid g;
	memset(g.b, kind, sizeof(g.b));
	g.b[15] = (uint8_t)n;
	return g;
}

void cluster_init(struct cluster *c, struct world *w, const struct cluster_config *cfg)
{
	memset(c, 0, sizeof(*c));
	c->world = w;
	c->cfg = *cfg;
	c->n = cfg->k + cfg->r;
	c->volume = numbered(1, 1);
	c->lun = numbered(9, 1);
	struct ec_geometry g;
	int rc = ec_geometry_init(&g, cfg->k, cfg->r, cfg->chunk_bytes);
	assert(rc == 0 && c->n <= SIM_MAX_BRICKS && cfg->gateways <= SIM_MAX_GATEWAYS);
	(void)rc;
	c->tolerates = g.tolerates;
	for (uint32_t i = 0; i < c->n; i++) {
		struct sim_brick *b = &c->bricks[i];
		char name[16];
		snprintf(name, sizeof(name), "b%u", i);
		*b = (struct sim_brick){.cluster = c, .index = i, .uuid = numbered(2, i)};
		b->host = host_new(w, name);
		b->disk = disk_new(b->host, name, SIM_DISK_BYTES);
		b->address.kind = ADDRESS_UNIX;
		snprintf(b->address.host, sizeof(b->address.host), "%s", name);
		if (cfg->images != NULL) {
			disk_clone(b->disk, cfg->images[i]);
			b->formatted = true;
		}
		b->checkpoint_bytes = KIB(4) << prng_below(world_prng(w), 12);
	}
	for (uint32_t i = 0; i < cfg->gateways; i++) {
		char name[16];
		snprintf(name, sizeof(name), "g%u", i);
		c->gateways[i] = (struct sim_gateway){.cluster = c, .index = i, .host = host_new(w, name)};
	}
}

/* ---- bricks ---- */

static void brick_gave_up(struct sim_brick *b, const char *why, bool damaged)
{
	world_trace(b->cluster->world, "%s gives up: %s", host_name(b->host), why);
	snprintf(b->why, sizeof(b->why), "%s", why);
	b->failed = true;
	b->damaged = damaged;
	b->serving = false;
}

static void on_failed(void *arg, struct brick *brick, const char *why)
{
	(void)brick;
	brick_gave_up(arg, why, false);
}

static int brick_format(struct sim_brick *b, struct store *s, struct err *e) YIELDS
{
	const struct cluster_config *cfg = &b->cluster->cfg;
	struct brick_identity id = {.volume = b->cluster->volume, .brick = b->uuid, .brick_index = b->index, .k = cfg->k, .r = cfg->r,
				    .chunk_bytes = cfg->chunk_bytes, .journal_bytes = cfg->journal_bytes};
	int rc = tree_create(s, &id, true, e);
	return rc == -EEXIST ? 0 : rc; /* it was done when the host died, and nobody was told */
}

/* ---- images ---- */

#define IMAGE_SETS 16u

struct image_set {
	uint32_t k, r, chunk_bytes;
	uint64_t journal_bytes;
	struct disk *disks[SIM_MAX_BRICKS];
};

static void format_all(void *arg)
{
	struct cluster *c = arg;
	for (uint32_t i = 0; i < c->n; i++) {
		struct store *s;
		struct err e = ERR_INIT;
		disk_store(c->bricks[i].disk, &s);
		int rc = brick_format(&c->bricks[i], s, &e);
		assert(rc == 0);
		(void)rc;
	}
}

/* On a thread of its own: what a thread keeps for reuse (buffers, the loop) is empty on the thread that runs schedules. */
static void *make_images(void *arg)
{
	struct image_set *set = arg;
	static struct cluster c;
	struct world *w = world_new(1);
	struct cluster_config cfg = {.k = set->k, .r = set->r, .chunk_bytes = set->chunk_bytes, .journal_bytes = set->journal_bytes};
	cluster_init(&c, w, &cfg);
	int rc = loop_run_fiber(world_loop(w), "format", format_all, &c);
	assert(rc == 0);
	(void)rc;
	for (uint32_t i = 0; i < c.n; i++)
		set->disks[i] = disk_image(c.bricks[i].disk);
	world_free(w);
	return NULL;
}

struct disk *const *cluster_images(uint32_t k, uint32_t r, uint32_t chunk_bytes, uint64_t journal_bytes)
{
	static struct image_set sets[IMAGE_SETS];
	static unsigned n_sets;
	pthread_t thread;

	for (unsigned i = 0; i < n_sets; i++)
		if (sets[i].k == k && sets[i].r == r && sets[i].chunk_bytes == chunk_bytes && sets[i].journal_bytes == journal_bytes)
			return sets[i].disks;
	assert(n_sets < IMAGE_SETS);
	struct image_set *set = &sets[n_sets++];
	*set = (struct image_set){.k = k, .r = r, .chunk_bytes = chunk_bytes, .journal_bytes = journal_bytes};
	int rc = pthread_create(&thread, NULL, make_images, set);
	assert(rc == 0);
	rc = pthread_join(thread, NULL);
	assert(rc == 0);
	(void)rc;
	return set->disks;
}

static int brick_serve(struct sim_brick *b, struct err *e) YIELDS
{
	struct rpc_server_config cfg = {.net = host_net(b->host), .handle = brick_host_handle, .on_open = brick_host_on_open,
					.on_close = brick_host_on_close};
	struct brick_host *h;
	struct rpc_server *server;

	int rc = brick_host_new(&h);
	if (rc == 0)
		rc = brick_host_add(h, b->brick);
	cfg.arg = h;
	if (rc == 0)
		rc = rpc_server_new(&cfg, &server);
	return rc < 0 ? rc : rpc_server_listen(server, &b->address, NULL, e);
}

static void brick_main(void *arg)
{
	struct sim_brick *b = arg;
	struct world *w = b->cluster->world;
	struct brick_options o = {.loop = world_loop(w), .boot = host_boot_id(b->host), .witness = &b->witness, .reserve_bytes = RESERVE_BYTES,
				  .checkpoint_bytes = b->checkpoint_bytes, .on_failed = on_failed, .arg = b};
	struct err e = ERR_INIT;
	struct store *s;

	disk_store(b->disk, &s);
	int rc = b->formatted ? 0 : brick_format(b, s, &e);
	if (rc == 0) {
		b->formatted = true;
		rc = brick_open(s, &o, &b->brick, &e);
	}
	if (rc == 0 && !b->failed)
		rc = brick_serve(b, &e);
	if (rc < 0) {
		brick_gave_up(b, e.text[0] != '\0' ? e.text : err_name(rc), rc == -EUCLEAN || rc == -ENOMEDIUM);
		return;
	}
	if (b->failed)
		return;
	b->boot = b->brick->incarnation;
	b->serving = true;
	world_trace(w, "%s serves", host_name(b->host));
}

void cluster_brick_start(struct cluster *c, uint32_t i)
{
	struct sim_brick *b = &c->bricks[i];
	if (!host_is_up(b->host))
		host_up(b->host);
	b->failed = b->damaged = b->serving = false;
	b->starts++;
	host_spawn(b->host, "brick main", brick_main, b);
}

void cluster_brick_kill(struct cluster *c, uint32_t i, bool power_loss)
{
	struct sim_brick *b = &c->bricks[i];
	b->brick = NULL;
	b->serving = false;
	if (power_loss) {
		b->witness = (struct brick_witness){0};
		host_power_loss(b->host);
	} else {
		host_kill(b->host);
	}
}

void cluster_brick_wipe(struct cluster *c, uint32_t i)
{
	struct sim_brick *b = &c->bricks[i];
	assert(!host_is_up(b->host));
	world_trace(c->world, "%s gets an empty disk", host_name(b->host));
	disk_wipe(b->disk);
	disk_set_capacity(b->disk, SIM_DISK_BYTES);
	b->formatted = c->cfg.images != NULL;
	if (b->formatted)
		disk_clone(b->disk, c->cfg.images[i]);
}

static void sync_main(void *arg)
{
	struct sim_brick *b = arg;
	if (b->brick != NULL)
		(void)journal_sync(b->brick->journal, journal_end(b->brick->journal));
}

void cluster_brick_sync(struct cluster *c, uint32_t i)
{
	host_spawn(c->bricks[i].host, "sync", sync_main, &c->bricks[i]);
}

uint64_t cluster_brick_promised(const struct cluster *c, uint32_t i)
{
	const struct brick *b = c->bricks[i].brick;
	return b != NULL ? b->overlay.bytes + b->prep_bytes : 0;
}

void cluster_brick_fill(struct cluster *c, uint32_t i, uint64_t more)
{
	struct sim_brick *b = &c->bricks[i];
	if (b->brick != NULL)
		disk_set_capacity(b->disk, disk_used(b->disk) + cluster_brick_promised(c, i) + RESERVE_BYTES + more);
}

uint32_t cluster_serving(const struct cluster *c)
{
	uint32_t m = 0;
	for (uint32_t i = 0; i < c->n; i++)
		m |= (uint32_t)(c->bricks[i].serving && !c->bricks[i].failed) << i;
	return m;
}

/* ---- gateways ---- */

static struct ec_set *set_open(struct sim_gateway *gw)
{
	struct cluster *c = gw->cluster;
	struct ec_set_config cfg = {.loop = world_loop(c->world), .net = host_net(gw->host), .volume = c->volume, .gateway = numbered(4, gw->index),
				    .k = c->cfg.k, .r = c->cfg.r, .chunk_bytes = c->cfg.chunk_bytes, .stall_ns = c->cfg.stall_ns,
				    .idle_clean_ns = c->cfg.idle_clean_ns};
	struct ec_set *s = NULL;
	struct err e = ERR_INIT;

	for (uint32_t i = 0; i < c->n; i++) {
		cfg.bricks[i].uuid = c->bricks[i].uuid;
		snprintf(cfg.bricks[i].label, sizeof(cfg.bricks[i].label), "b%u", i);
		cfg.bricks[i].address = c->bricks[i].address;
	}
	int rc = ec_set_open(&cfg, &s, &e);
	assert(rc == 0);
	(void)rc;
	return s;
}

static int domain_open(struct sim_gateway *gw) YIELDS
{
	struct cluster *c = gw->cluster;
	struct ec_domain_options o = {.gfid = c->lun, .create = !c->created};
	struct ec_domain *d = NULL;
	struct err e = ERR_INIT;

	int rc = ec_domain_open(gw->set, &o, &d, &e);
	if (rc < 0) {
		world_trace(c->world, "%s does not open: %s (%s)", host_name(gw->host), e.text, err_name(rc));
		return rc;
	}
	if (d->epoch < c->epoch) { /* somebody newer was faster */
		ec_domain_close(d);
		return -MYFS_E_FENCED;
	}
	c->epoch = d->epoch;
	gw->turn = ++c->turns;
	c->created = true;
	gw->domain = d;
	world_trace(c->world, "%s serves, turn %llu", host_name(gw->host), (unsigned long long)gw->turn);
	return 0;
}

static void gateway_main(void *arg)
{
	struct sim_gateway *gw = arg;
	struct cluster *c = gw->cluster;

	gw->set = set_open(gw);
	while (!gw->stop && domain_open(gw) < 0)
		fiber_sleep_until(loop_now_ns() + RETRY_NS);
	gw->opening = false;
	if (gw->domain != NULL) {
		c->cfg.serve(c->cfg.arg, gw);
		struct ec_domain *d = gw->domain;
		gw->domain = NULL;
		ec_domain_close(d);
	}
	struct ec_set *s = gw->set;
	gw->set = NULL;
	ec_set_close(s);
	gw->running = false;
	world_trace(c->world, "%s has closed", host_name(gw->host));
}

void cluster_gateway_start(struct cluster *c, uint32_t i)
{
	struct sim_gateway *gw = &c->gateways[i];
	if (!host_is_up(gw->host))
		host_up(gw->host);
	assert(!gw->running);
	gw->running = gw->opening = true;
	gw->stop = false;
	host_spawn(gw->host, "gateway main", gateway_main, gw);
}

void cluster_gateway_kill(struct cluster *c, uint32_t i)
{
	struct sim_gateway *gw = &c->gateways[i];
	gw->set = NULL;
	gw->domain = NULL;
	gw->running = gw->opening = false;
	host_kill(gw->host);
}

struct sim_gateway *cluster_owner(struct cluster *c)
{
	struct sim_gateway *best = NULL;
	for (uint32_t i = 0; i < c->cfg.gateways; i++) {
		struct sim_gateway *gw = &c->gateways[i];
		if (gw->domain != NULL && (best == NULL || gw->turn > best->turn))
			best = gw;
	}
	return best != NULL && best->turn == c->turns ? best : NULL;
}

bool cluster_opening(const struct cluster *c)
{
	for (uint32_t i = 0; i < c->cfg.gateways; i++)
		if (c->gateways[i].opening)
			return true;
	return false;
}
