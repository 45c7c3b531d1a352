/* ec_cluster.h - the bricks of one set in this process, on unix sockets and throw-away directories, for tests of the
 * engine. */
#ifndef MYFS_TEST_EC_CLUSTER_H
#define MYFS_TEST_EC_CLUSTER_H

#include <sys/xattr.h>
#include <ftw.h>
#include <stdio.h>
#include <unistd.h>

#include "brick/brick.h"
#include "brick/tree.h"
#include "core/base/prng.h"
#include "ec/ec.h"
#include "loop_fixture.h"

#define CLUSTER_MAX 12

struct cluster_brick {
	char dir[96];
	struct gfid uuid, boot;
	struct brick_witness witness; /* memory of its host; what it says of another boot is not looked at */
	struct store *store;
	struct brick *brick;
	struct brick_host *host;
	struct rpc_server *server; /* NULL: nobody can connect */
	struct address address;
	uint64_t reserve_bytes;    /* kept free; more than the disk has = a full brick */
	bool stalled;              /* takes requests and does not answer */
	uint32_t stalled_type;     /* only those of this type, when not 0 */
	struct waitq unstalled;
};

struct cluster {
	uint64_t stall_ns; /* for cluster_set */
	struct loop *loop;
	char root[64];
	uint32_t k, r, n, chunk;
	struct gfid volume;
	struct cluster_brick b[CLUSTER_MAX];
};

static inline struct gfid cluster_gfid(uint8_t kind, uint8_t n)
{
	struct gfid g;

	memset(g.b, kind, sizeof(g.b));
	g.b[15] = n;
	return g;
}

/* Opens brick i's directory: replay, if it was abandoned. */
static inline void cluster_brick_load(struct cluster *c, uint32_t i)
{
	struct cluster_brick *b = &c->b[i];
	struct brick_options o = {.loop = c->loop, .boot = b->boot, .witness = &b->witness, .reserve_bytes = b->reserve_bytes};
	struct err e = ERR_INIT;

	CHECK(store_open_posix(b->dir, &b->store, &e) == 0);
	int rc = brick_open(b->store, &o, &b->brick, &e);
	if (rc)
		fprintf(stderr, "brick %u: %s (%s)\n", i, e.text, err_name(rc));
	CHECK(rc == 0);
	CHECK(brick_host_new(&b->host) == 0);
	CHECK(brick_host_add(b->host, b->brick) == 0);
}

static inline void cluster_handle(void *arg, struct rpc_request *req)
{
	struct cluster_brick *b = arg;

	while (b->stalled || (b->stalled_type && req->type == b->stalled_type))
		waitq_wait(&b->unstalled);
	brick_host_handle(b->host, req);
}

static inline void cluster_on_open(void *arg, struct rpc_conn *conn)
{
	brick_host_on_open(((struct cluster_brick *)arg)->host, conn);
}

static inline void cluster_on_close(void *arg, struct rpc_conn *conn)
{
	brick_host_on_close(((struct cluster_brick *)arg)->host, conn);
}

static inline void cluster_stall(struct cluster *c, uint32_t i, bool on)
{
	c->b[i].stalled = on;
	if (!on)
		waitq_wake_all(&c->b[i].unstalled);
}

static inline void cluster_stall_type(struct cluster *c, uint32_t type)
{
	for (uint32_t i = 0; i < c->n; i++) {
		c->b[i].stalled_type = type;
		waitq_wake_all(&c->b[i].unstalled);
	}
}

/* Brick i accepts connections. */
static inline void cluster_connect(struct cluster *c, uint32_t i)
{
	struct cluster_brick *b = &c->b[i];
	struct rpc_server_config cfg = {.net = net_kernel(),
					.allowed_uid = (uint32_t)getuid(),
					.handle = cluster_handle,
					.on_open = cluster_on_open,
					.on_close = cluster_on_close,
					.arg = b};
	struct err e = ERR_INIT;

	CHECK(rpc_server_new(&cfg, &b->server) == 0);
	CHECK(rpc_server_listen(b->server, &b->address, NULL, &e) == 0);
}

/* Every connection to brick i ends and none can be made; the brick itself goes on. */
static inline void cluster_cut(struct cluster *c, uint32_t i)
{
	rpc_server_stop(c->b[i].server);
	rpc_server_free(c->b[i].server);
	c->b[i].server = NULL;
}

static inline void cluster_start(struct cluster *c, uint32_t i)
{
	cluster_brick_load(c, i);
	cluster_connect(c, i);
}

/* orderly: a stop with a clean marker; else as kill -9. */
static inline void cluster_stop(struct cluster *c, uint32_t i, bool orderly)
{
	struct cluster_brick *b = &c->b[i];

	if (b->server)
		cluster_cut(c, i);
	brick_host_remove(b->host, b->brick);
	brick_host_free(b->host);
	if (orderly)
		brick_close(b->brick);
	else
		brick_abandon(b->brick);
	store_close(b->store);
	b->brick = NULL;
	b->host = NULL;
	b->store = NULL;
}

/* In memory when that takes the bricks' xattrs: what is lost on a power cut is decided by the tests, not by the disk. */
static inline void cluster_make_root(struct cluster *c)
{
	strcpy(c->root, "/dev/shm/myfs-ec-XXXXXX");
	bool made = mkdtemp(c->root) != NULL;
	if (made && setxattr(c->root, geteuid() == 0 ? "trusted.probe" : "user.probe", "1", 1, 0) == 0)
		return;
	if (made)
		rmdir(c->root);
	strcpy(c->root, "/tmp/myfs-ec-XXXXXX");
	CHECK(mkdtemp(c->root));
}

static inline void cluster_new(struct cluster *c, struct loop *l, uint32_t k, uint32_t r, uint32_t chunk)
{
	struct err e = ERR_INIT;

	memset(c, 0, sizeof(*c));
	c->loop = l;
	c->k = k;
	c->r = r;
	c->n = k + r;
	c->chunk = chunk;
	c->volume = cluster_gfid(1, 1);
	c->stall_ns = 60 * NS_PER_S; /* a busy machine is no grey brick; tests of silence set their own */
	cluster_make_root(c);
	for (uint32_t i = 0; i < c->n; i++) {
		struct cluster_brick *b = &c->b[i];
		struct brick_identity id = {.volume = c->volume, .brick_index = i, .k = k, .r = r, .chunk_bytes = chunk,
					    .journal_bytes = MIB(16)};
		snprintf(b->dir, sizeof(b->dir), "%s/b%u", c->root, i);
		CHECK(mkdir(b->dir, 0700) == 0);
		b->uuid = id.brick = cluster_gfid(2, (uint8_t)i);
		b->boot = cluster_gfid(3, (uint8_t)i);
		b->address.kind = ADDRESS_UNIX;
		b->reserve_bytes = MIB(1);
		waitq_init(&b->unstalled);
		snprintf(b->address.host, sizeof(b->address.host), "%s/s%u", c->root, i);
		struct store *s;
		CHECK(store_open_posix(b->dir, &s, &e) == 0);
		CHECK(tree_create(s, &id, false, &e) == 0);
		store_close(s);
		cluster_start(c, i);
	}
}

static inline int cluster_remove_one(const char *path, const struct stat *st, int type, struct FTW *w)
{
	(void)st;
	(void)type;
	(void)w;
	return remove(path);
}

static inline void cluster_free(struct cluster *c)
{
	for (uint32_t i = 0; i < c->n; i++)
		if (c->b[i].brick)
			cluster_stop(c, i, false);
	CHECK(nftw(c->root, cluster_remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

/* A gateway's connections to the cluster. */
static inline struct ec_set *cluster_set(struct cluster *c, uint8_t gateway, uint64_t io_timeout_ns)
{
	struct ec_set_config cfg = {.loop = c->loop, .net = net_kernel(), .volume = c->volume,
				    .gateway = cluster_gfid(4, gateway), .k = c->k, .r = c->r, .chunk_bytes = c->chunk,
				    .io_timeout_ns = io_timeout_ns, .stall_ns = c->stall_ns};
	struct ec_set *s = NULL;
	struct err e = ERR_INIT;

	for (uint32_t i = 0; i < c->n; i++) {
		cfg.bricks[i].uuid = c->b[i].uuid;
		snprintf(cfg.bricks[i].label, sizeof(cfg.bricks[i].label), "b%u", i);
		cfg.bricks[i].address = c->b[i].address;
	}
	int rc = ec_set_open(&cfg, &s, &e);
	if (rc)
		fprintf(stderr, "set: %s\n", e.text);
	CHECK(rc == 0);
	return s;
}

static inline struct ec_domain *cluster_domain(struct ec_set *s, uint8_t lun, bool create)
{
	struct ec_domain_options o = {.gfid = cluster_gfid(9, lun), .create = create};
	struct ec_domain *d = NULL;
	struct err e = ERR_INIT;
	int rc = ec_domain_open(s, &o, &d, &e);

	if (rc)
		fprintf(stderr, "domain: %s (%s)\n", e.text, err_name(rc));
	CHECK(rc == 0);
	return d;
}

#endif
