/* The fence of reads, over real bricks: a gateway that was deposed without hearing of it returns nothing old (WRITE-PROTOCOL cases
 * 15 and 16), and what the fence costs in questions. */
#include "ec_cluster.h"
#include "ec/ec_priv.h"

#define LUN 1
#define BLOCK 4096u

static struct ec_set *set_with(struct cluster *c, uint8_t gateway, uint64_t io_timeout_ns, enum ec_read_fence fence, uint32_t unreachable)
{
	struct ec_set_config cfg = {.loop = c->loop, .net = net_kernel(), .volume = c->volume, .gateway = cluster_gfid(4, gateway),
				    .k = c->k, .r = c->r, .chunk_bytes = c->chunk, .io_timeout_ns = io_timeout_ns,
				    .stall_ns = c->stall_ns, .read_fence = fence};
	struct ec_set *s = NULL;
	struct err e = ERR_INIT;

	for (uint32_t i = 0; i < c->n; i++) {
		cfg.bricks[i].uuid = c->b[i].uuid;
		snprintf(cfg.bricks[i].label, sizeof(cfg.bricks[i].label), "b%u", i);
		cfg.bricks[i].address = c->b[i].address;
		if (mask_has(unreachable, i))
			snprintf(cfg.bricks[i].address.host, sizeof(cfg.bricks[i].address.host), "%s/nobody", c->root);
	}
	CHECK(ec_set_open(&cfg, &s, &e) == 0);
	return s;
}

static void write_block(struct ec_domain *d, uint32_t lba, uint8_t fill)
{
	static uint8_t block[BLOCK];
	struct iovec v = {block, BLOCK};

	memset(block, fill, BLOCK);
	CHECK(ec_write(d, 0, (uint64_t)lba * BLOCK, (struct iov){.v = &v, .n = 1}, false) == 0);
}

/* The block's fill, or the error. */
static int read_block(struct ec_domain *d, uint32_t shard, uint32_t lba)
{
	uint8_t block[BLOCK];
	struct bufs out;

	bufs_init(&out);
	int rc = ec_read(d, shard, (uint64_t)lba * BLOCK, BLOCK, &out);
	if (!rc) {
		CHECK(out.bytes == BLOCK);
		bufs_copy_out(&out, 0, block, BLOCK);
		rc = block[0];
	}
	bufs_release(&out);
	return rc;
}

static uint32_t brick_of_block(const struct ec_domain *d, uint32_t lba)
{
	const struct ec_geometry *g = geo_of(d);
	struct ec_block_addr a = ec_block_locate(g, lba);

	return ec_brick_of(g, ec_rotation_start(g, &d->gfid, 0), a.region, a.chunk);
}

/* The successor cannot reach the brick of block 0; the old owner reaches everybody, and has not spoken to anybody since. */
static void deposed(struct cluster *c, enum ec_read_fence fence)
{
	struct ec_set *old_set = set_with(c, 1, 20 * NS_PER_S, fence, 0);
	struct ec_domain *old = cluster_domain(old_set, LUN, true);
	uint64_t bits = 0;

	write_block(old, 0, 0x11);
	CHECK(ec_flush(old) == 0);
	CHECK(read_block(old, 0, 0) == 0x11);
	struct ec_set *new_set = set_with(c, 2, 20 * NS_PER_S, fence, MASK(brick_of_block(old, 0)));
	struct ec_domain *owner = cluster_domain(new_set, LUN, false);
	write_block(owner, 0, 0x22);
	CHECK(read_block(owner, 0, 0) == 0x22);
	if (fence == EC_READ_FENCE_OFF) {
		CHECK(read_block(old, 0, 0) == 0x11); /* what the option gives up */
	} else {
		CHECK(read_block(old, 0, 0) == -MYFS_E_FENCED);
		CHECK(read_block(old, 5, 0) == -MYFS_E_FENCED); /* a shard it knows nothing of */
		CHECK(ec_extents(old, 0, 0, BLOCK, &bits) == -MYFS_E_FENCED);
	}
	ec_domain_close(old);
	ec_domain_close(owner);
	ec_set_close(old_set);
	ec_set_close(new_set);
}

/* A shard that the old owner never heard of, and extents, are no shortcuts around the fence. */
static void deposed_absent(struct cluster *c)
{
	struct ec_set *old_set = set_with(c, 1, 20 * NS_PER_S, EC_READ_FENCE_INDEX, 0);
	struct ec_domain *old = cluster_domain(old_set, LUN, true);
	struct ec_set *new_set = set_with(c, 2, 20 * NS_PER_S, EC_READ_FENCE_INDEX, 0);

	CHECK(read_block(old, 3, 0) == 0);
	struct ec_domain *owner = cluster_domain(new_set, LUN, false);
	CHECK(read_block(old, 3, 0) == -MYFS_E_FENCED);
	ec_domain_close(old);
	ec_domain_close(owner);
	ec_set_close(old_set);
	ec_set_close(new_set);
}

/* Only the block's own brick answers: nobody can confirm, so the read waits, and ends. Then the others answer again. */
static void nobody_confirms(struct cluster *c)
{
	struct ec_set *s = set_with(c, 1, 300 * NS_PER_MS, EC_READ_FENCE_INDEX, 0);
	struct ec_domain *d = cluster_domain(s, LUN, true);

	write_block(d, 0, 0x33);
	CHECK(ec_flush(d) == 0);
	uint32_t b = brick_of_block(d, 0);
	for (uint32_t i = 0; i < c->n; i++)
		cluster_stall(c, i, i != b);
	CHECK(read_block(d, 0, 0) == -MYFS_E_QUORUM);
	for (uint32_t i = 0; i < c->n; i++)
		cluster_stall(c, i, false);
	CHECK(read_block(d, 0, 0) == 0x33);
	ec_domain_close(d);
	ec_set_close(s);
}

/* One of those that were asked is silent: somebody else is, LATE_NS later. */
static void one_is_silent(struct cluster *c)
{
	struct ec_set *s = set_with(c, 1, 20 * NS_PER_S, EC_READ_FENCE_INDEX, 0);
	struct ec_domain *d = cluster_domain(s, LUN, true);

	write_block(d, 0, 0x44);
	CHECK(ec_flush(d) == 0);
	for (uint32_t i = 0; i < c->n; i++) {
		if (i == brick_of_block(d, 0))
			continue;
		cluster_stall(c, i, true);
		for (unsigned k = 0; k < 4; k++)
			CHECK(read_block(d, 0, 0) == 0x44);
		cluster_stall(c, i, false);
	}
	ec_domain_close(d);
	ec_set_close(s);
}

struct reader {
	struct ec_domain *d;
	unsigned *running, turns;
	struct waitq *ended;
};

static void reader_run(void *arg)
{
	struct reader *r = arg;

	for (unsigned i = 0; i < r->turns; i++)
		CHECK(read_block(r->d, 0, (i * 7 + r->turns) % 64) >= 0);
	if (--*r->running == 0)
		waitq_wake_all(r->ended);
}

/* Questions asked per read: at most N-W when reads come one at a time, nearly none when there are many. */
static void costs(struct cluster *c)
{
	struct ec_set *s = set_with(c, 1, 20 * NS_PER_S, EC_READ_FENCE_INDEX, 0);
	struct ec_domain *d = cluster_domain(s, LUN, true);
	struct ec_domain_status st;
	struct waitq ended;
	struct reader r[16];
	unsigned running = 16, reads = 100;

	for (uint32_t i = 0; i < 64; i++)
		write_block(d, i, (uint8_t)i);
	CHECK(ec_flush(d) == 0);
	ec_domain_status(d, &st);
	uint64_t before = st.pings;
	for (unsigned i = 0; i < reads; i++)
		CHECK(read_block(d, 0, i % 64) == (int)(i % 64));
	ec_domain_status(d, &st);
	CHECK(st.pings - before <= (uint64_t)reads * (c->n - geo_of(d)->w));
	before = st.pings;
	waitq_init(&ended);
	for (unsigned i = 0; i < running; i++)
		r[i] = (struct reader){d, &running, reads + i, &ended};
	for (unsigned i = 0; i < 16; i++)
		CHECK(fiber_spawn(c->loop, "reader", reader_run, &r[i]) == 0);
	while (running)
		waitq_wait(&ended);
	ec_domain_status(d, &st);
	CHECK(st.pings - before <= 16 * reads / 2);
	ec_domain_close(d);
	ec_set_close(s);
}

static struct loop *loop_now;

static void fresh(uint32_t k, uint32_t r, void (*fn)(struct cluster *c))
{
	struct cluster c;

	cluster_new(&c, loop_now, k, r, 16384);
	fn(&c);
	cluster_free(&c);
}

static void deposed_index(struct cluster *c) { deposed(c, EC_READ_FENCE_INDEX); }
static void deposed_off(struct cluster *c) { deposed(c, EC_READ_FENCE_OFF); }

static void each_layout(void (*fn)(struct cluster *c))
{
	fresh(4, 2, fn);
	fresh(2, 1, fn);
	fresh(3, 3, fn);
	fresh(1, 2, fn);
}

static void body_deposed(void *arg)
{
	loop_now = arg;
	each_layout(deposed_index);
	fresh(4, 2, deposed_off);
	each_layout(deposed_absent);
}

static void body_silent(void *arg)
{
	loop_now = arg;
	each_layout(nobody_confirms);
	fresh(4, 2, one_is_silent);
	fresh(3, 3, one_is_silent);
}

static void body_costs(void *arg)
{
	loop_now = arg;
	fresh(4, 2, costs);
	fresh(3, 3, costs);
}

static void test_deposed(void **state)
{
	(void)state;
	on_every_backend(body_deposed);
}

static void test_silent(void **state)
{
	(void)state;
	on_every_backend(body_silent);
}

static void test_costs(void **state)
{
	(void)state;
	on_every_backend(body_costs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_deposed), cmocka_unit_test(test_silent), cmocka_unit_test(test_costs)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
