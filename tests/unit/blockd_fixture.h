/* blockd_fixture.h - a gateway over bricks in memory and a registry in a directory of its own. */
#ifndef MYFS_TEST_BLOCKD_FIXTURE_H
#define MYFS_TEST_BLOCKD_FIXTURE_H

#include "tests/unit/loop_fixture.h"

#include <ftw.h>
#include <unistd.h>

#include "blockd/catalogue.h"
#include "blockd/exports.h"
#include "blockd/lun.h"
#include "blockd/reconcile.h"
#include "blockd/watch.h"
#include "tests/unit/ec_memory.h"

static char fixture_dir[64], fixture_registry[96];

static void fixture_volume(struct registry *r, const char *name, uint32_t sets)
{
	struct reg_volume v = {
	    .k = 2, .r = 1, .chunk_bytes = 16384, .sets = sets, .started = 1, .uuid = {{(uint8_t)name[0], 1}}};
	struct err e = ERR_INIT;

	snprintf(v.name, sizeof(v.name), "%s", name);
	CHECK(registry_begin(r, &e) == 0);
	CHECK(reg_volume_put(r, &v, &e) == 0);
	for (uint32_t i = 0; i < 3 * sets; i++) {
		struct reg_brick b = {.uuid = {{(uint8_t)name[0], 2, (uint8_t)i}},
				      .node = "node1",
				      .set_index = i / 3,
				      .brick_index = i % 3};

		snprintf(b.volume, sizeof(b.volume), "%s", name);
		snprintf(b.path, sizeof(b.path), "/bricks/%s%u", name, i);
		CHECK(reg_brick_put(r, &b, &e) == 0);
	}
	CHECK(registry_commit(r, &e) == 0);
}

/* A new world: empty bricks, a registry with one node and the volume "vol" of `sets` sets. */
static void fixture_new(uint32_t sets)
{
	struct reg_node node = {.name = "node1", .address = "unix:/nowhere.sock", .control = "unix:/nowhere.control"};
	struct registry *r = NULL;
	struct err e = ERR_INIT;

	mem_reset();
	snprintf(fixture_dir, sizeof(fixture_dir), "/tmp/myfs-blockd-test.XXXXXX");
	CHECK(mkdtemp(fixture_dir));
	snprintf(fixture_registry, sizeof(fixture_registry), "%s/registry.db", fixture_dir);
	CHECK(registry_open(fixture_registry, true, &r, &e) == 0);
	CHECK(reg_node_put(r, &node, &e) == 0);
	fixture_volume(r, "vol", sets);
	registry_close(r);
}

static int fixture_unlink(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void fixture_end(void)
{
	nftw(fixture_dir, fixture_unlink, 8, FTW_DEPTH | FTW_PHYS);
	mem_reset();
}

static struct blockd *gateway_start_at(const char *name, const char *control)
{
	struct blockd_config cfg = {
	    .loop = loop_self(), .net = net_kernel(), .name = name, .control = control, .io_timeout_ns = NS_PER_S};
	struct blockd *d = NULL;
	struct err e = ERR_INIT;

	CHECK(registry_open(fixture_registry, false, &cfg.registry, &e) == 0);
	CHECK(blockd_start(&cfg, &d, &e) == 0);
	return d;
}

static inline struct blockd *gateway_start(const char *name)
{
	return gateway_start_at(name, "unix:/nowhere.gw");
}

static inline struct reg_lun make_lun(struct blockd *d, const char *name, uint64_t size)
{
	struct lun_wish wish = {.volume = "vol", .name = name, .size_bytes = size, .block_size = 4096};
	struct reg_lun row;
	struct err e = ERR_INIT;
	bool existed;

	CHECK(lun_create(d, &wish, &row, &existed, &e) == 0);
	CHECK(!existed && row.state == REG_LUN_READY && row.owner[0] == '\0');
	return row;
}

/* Lets background fibers work until cond holds. */
#define EVENTUALLY(cond)                                                                                               \
	do {                                                                                                           \
		uint64_t give_up_ = loop_now_ns() + 60 * NS_PER_S;                                                     \
		while (!(cond)) {                                                                                      \
			CHECK(loop_now_ns() < give_up_);                                                               \
			fiber_sleep_until(loop_now_ns() + NS_PER_MS);                                                  \
		}                                                                                                      \
	} while (0)

static inline bool row_state_is(struct blockd *d, const struct gfid *gfid, int state)
{
	struct reg_lun row;
	int rc = reg_lun_get_gfid(d->registry, gfid, &row, NULL);

	return state < 0 ? rc == -ENOENT : rc == 0 && row.state == (uint32_t)state;
}

#endif
