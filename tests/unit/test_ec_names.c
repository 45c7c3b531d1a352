/* Names over real bricks in this process: changes reach every member, a brick that was away gets the missed and loses
 * the deleted ones, and no file loses its data because its name moved while the brick was away. */
#include "brick/ns.h"
#include "ec/ec_priv.h"
#include "ec_cluster.h"

#define TIMEOUT (60 * NS_PER_S)

static struct cluster cluster;
static struct ec_set *set;
static struct ec_domain *names;
static struct gfid block_dir; /* GFID_BLOCK_DIR */

/* ---- short words ---- */

static struct gfid file(uint8_t n) { return cluster_gfid(0x40, n); }

static struct bp_nsop_args op_new(uint32_t what, const struct gfid *parent, const char *name, const struct gfid *gfid)
{
	struct bp_nsop_args op = {.op = what, .name = (char *)(uintptr_t)name, .name2 = (char *)(uintptr_t) ""};
	if (parent)
		memcpy(op.parent, parent->b, 16);
	memcpy(op.gfid, gfid->b, 16);
	return op;
}

static int apply(struct bp_nsop_args op)
{
	struct err e = ERR_INIT;
	int rc = ec_ns_apply(names, &op, &e);
	if (rc)
		CHECK(e.text[0] != 0);
	return rc;
}

static struct bp_xattr xattr(const char *name, const char *value)
{
	return (struct bp_xattr){.name = (char *)(uintptr_t)name,
				 .value = {.value_len = (u_int)strlen(value), .value_val = (char *)(uintptr_t)value}};
}

static int make(const char *name, uint8_t n)
{
	struct gfid g = file(n);
	struct bp_xattr x = xattr("test.a", name);
	struct bp_nsop_args op = op_new(BP_NS_MKFILE, &block_dir, name, &g);
	op.xattrs.xattrs_len = 1;
	op.xattrs.xattrs_val = &x;
	return apply(op);
}

static int unlink_name(const char *name, uint8_t n)
{
	struct gfid g = file(n);
	return apply(op_new(BP_NS_UNLINK, &block_dir, name, &g));
}

static int rename_name(const char *from, const char *to, uint8_t n)
{
	struct gfid g = file(n);
	struct bp_nsop_args op = op_new(BP_NS_RENAME, &block_dir, from, &g);
	memcpy(op.parent2, block_dir.b, 16);
	op.name2 = (char *)(uintptr_t)to;
	return apply(op);
}

static int set_xattr(uint8_t n, const char *name, const char *value)
{
	struct gfid g = file(n);
	struct bp_xattr x = xattr(name, value);
	struct bp_nsop_args op = op_new(BP_NS_SETXATTR, NULL, "", &g);
	op.xattrs.xattrs_len = 1;
	op.xattrs.xattrs_val = &x;
	return apply(op);
}

/* "a=1 b=2": names of /block with the last byte of their gfid, as brick b or (b = UINT32_MAX) the members have them. */
static const char *listing(uint32_t b)
{
	static char text[512];
	struct bp_nsread_args args = {.op = BP_NS_READDIR, .name = (char *)(uintptr_t) ""};
	struct bp_nsread_res res = {0};
	size_t len = 0;

	memcpy(args.gfid, block_dir.b, 16);
	int rc =
	    b == UINT32_MAX ? ec_ns_read(names, &args, &res) : ns_read(brick_tree(cluster.b[b].brick), &args, &res);
	CHECK(rc == 0);
	text[0] = 0;
	for (u_int i = 0; i < res.entries.entries_len; i++) {
		const struct bp_entry *x = &res.entries.entries_val[i];
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s=%u", i ? " " : "", x->name,
					(uint8_t)x->gfid[15]);
	}
	xdr_free((xdrproc_t)xdr_bp_nsread_res, &res);
	return text;
}

static bool has_xattr(uint32_t b, uint8_t n, const char *name, const char *value)
{
	struct bp_nsread_args args = {.op = BP_NS_STATX, .name = (char *)(uintptr_t) ""};
	struct bp_nsread_res res = {0};
	struct gfid g = file(n);
	bool found = false;

	memcpy(args.gfid, g.b, 16);
	CHECK(ns_read(brick_tree(cluster.b[b].brick), &args, &res) == 0);
	for (u_int i = 0; i < res.entries.entries_val[0].xattrs.xattrs_len; i++) {
		const struct bp_xattr *x = &res.entries.entries_val[0].xattrs.xattrs_val[i];
		found = found || (strcmp(x->name, name) == 0 && x->value.value_len == strlen(value) &&
				  memcmp(x->value.value_val, value, strlen(value)) == 0);
	}
	xdr_free((xdrproc_t)xdr_bp_nsread_res, &res);
	return found;
}

#define CHECK_LISTING(b, want)                                                                                         \
	do {                                                                                                           \
		const char *got_ = listing(b);                                                                         \
		if (strcmp(got_, want) != 0) {                                                                         \
			fprintf(stderr, "%s:%d: brick %d has \"%s\", not \"%s\"\n", __FILE__, __LINE__, (int)(b),      \
				got_, want);                                                                           \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static void wait_insync(uint32_t mask)
{
	uint64_t deadline = loop_now_ns() + TIMEOUT;
	struct ec_domain_status st;

	for (;;) {
		ec_domain_status(names, &st);
		if (st.insync == mask && st.serving)
			return;
		if (loop_now_ns() > deadline) {
			fprintf(stderr, "in sync 0x%x, want 0x%x: %s\n", st.insync, mask, names->last_error.text);
			abort();
		}
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
	}
}

static void names_open(void)
{
	struct ec_domain_options o = {.gfid = GFID_ROOT, .namespace_domain = true, .create = true};
	struct err e = ERR_INIT;
	CHECK(ec_domain_open(set, &o, &names, &e) == 0);
}

static void begin(struct loop *l)
{
	block_dir = GFID_BLOCK_DIR;
	cluster_new(&cluster, l, 4, 2, 16384);
	set = cluster_set(&cluster, 1, TIMEOUT);
	names_open();
	struct gfid root = GFID_ROOT, shards = GFID_SHARD_DIR;
	CHECK(apply(op_new(BP_NS_MKDIR, &root, "block", &block_dir)) == 0);
	CHECK(apply(op_new(BP_NS_MKDIR, &root, ".shard", &shards)) == 0);
}

static void end(void)
{
	ec_domain_close(names);
	ec_set_close(set);
	cluster_free(&cluster);
}

/* ---- bodies ---- */

static void body_all(void *arg)
{
	begin(arg);
	CHECK(make("a", 1) == 0);
	CHECK(make("b", 2) == 0);
	CHECK(make("a", 1) == 0); /* N1 */
	CHECK(make("a", 3) == -EEXIST);
	CHECK(rename_name("b", "c", 2) == 0);
	CHECK(rename_name("b", "c", 2) == 0);
	CHECK(unlink_name("a", 1) == 0);
	CHECK(unlink_name("a", 1) == 0);
	CHECK(rename_name("x", "y", 5) == -ENOENT);
	for (uint32_t b = 0; b < cluster.n; b++)
		CHECK_LISTING(b, "c=2");
	CHECK_LISTING(UINT32_MAX, "c=2");
	end();
}

static void body_away(void *arg)
{
	begin(arg);
	CHECK(make("deleted", 1) == 0);
	CHECK(make("renamed", 2) == 0);
	CHECK(make("stays", 3) == 0);
	CHECK(make("reused", 4) == 0);
	CHECK(make("swap1", 5) == 0);
	CHECK(make("swap2", 6) == 0);
	CHECK(make("trash", 7) == 0);
	cluster_stop(&cluster, 2, false);
	cluster_stop(&cluster, 5, false);
	CHECK(unlink_name("deleted", 1) == 0);
	CHECK(rename_name("renamed", "new", 2) == 0);
	CHECK(set_xattr(3, "test.a", "other") == 0);
	CHECK(set_xattr(3, "test.b", "more") == 0);
	CHECK(unlink_name("reused", 4) == 0);
	CHECK(make("reused", 8) == 0);
	CHECK(rename_name("swap1", "tmp", 5) == 0);
	CHECK(rename_name("swap2", "swap1", 6) == 0);
	CHECK(rename_name("tmp", "swap2", 5) == 0);
	CHECK(make("born", 9) == 0);
	cluster_start(&cluster, 2);
	cluster_start(&cluster, 5);
	wait_insync(0x3f);
	for (uint32_t b = 0; b < cluster.n; b++) {
		CHECK_LISTING(b, "born=9 new=2 reused=8 stays=3 swap1=6 swap2=5 trash=7");
		CHECK(has_xattr(b, 3, "test.a", "other"));
		CHECK(has_xattr(b, 3, "test.b", "more"));
		CHECK(has_xattr(b, 9, "test.a", "born"));
		CHECK(has_xattr(b, 2, "test.a", "renamed"));
	}
	end();
}

/* The same LUN is in sync on the brick that missed its rename: its data must still be there. */
static void body_data(void *arg)
{
	static uint8_t block[65536], back[65536];
	struct prng rng;
	struct bufs out;

	begin(arg);
	prng_seed(&rng, 1);
	prng_bytes(&rng, block, sizeof(block));
	CHECK(make("a", 1) == 0);
	CHECK(make("b", 2) == 0);
	for (uint8_t n = 1; n <= 2; n++) {
		struct ec_domain_options o = {.gfid = file(n), .create = true};
		struct iovec v = {block, sizeof(block)};
		struct err e = ERR_INIT;
		struct ec_domain *d;
		CHECK(ec_domain_open(set, &o, &d, &e) == 0);
		CHECK(ec_write(d, 0, 0, (struct iov){.v = &v, .n = 1}, true) == 0);
		CHECK(ec_write(d, 3, 0, (struct iov){.v = &v, .n = 1}, true) == 0);
		ec_domain_close(d);
	}
	cluster_stop(&cluster, 0, true);
	CHECK(rename_name("a", "c", 1) == 0);
	CHECK(rename_name("b", "a", 2) == 0);
	CHECK(rename_name("c", "b", 1) == 0);
	cluster_start(&cluster, 0);
	wait_insync(0x3f);
	CHECK_LISTING(0, "a=2 b=1");
	bufs_init(&out);
	for (uint8_t n = 1; n <= 2; n++) {
		struct ec_domain *d;
		struct ec_domain_options o = {.gfid = file(n)};
		struct ec_domain_status st;
		struct err e = ERR_INIT;
		CHECK(ec_domain_open(set, &o, &d, &e) == 0);
		ec_domain_status(d, &st);
		CHECK(st.insync == 0x3f && st.missed_bytes == 0); /* it was never out of sync here */
		for (uint32_t shard = 0; shard <= 3; shard += 3) {
			CHECK(ec_read(d, shard, 0, sizeof(block), &out) == 0);
			bufs_copy_out(&out, 0, back, sizeof(back));
			bufs_release(&out);
			CHECK(memcmp(block, back, sizeof(back)) == 0);
		}
		ec_domain_status(d, &st);
		CHECK(st.degraded_reads == 0 && st.checksum_errors == 0);
		ec_domain_close(d);
	}
	end();
}

/* Deleted while a brick was away: its data goes there, too, and does not come back. */
static void body_no_resurrection(void *arg)
{
	static uint8_t block[65536];
	struct iovec v = {block, sizeof(block)};
	struct gfid g = file(1);
	struct err e = ERR_INIT;
	struct ec_domain *d;
	uint64_t bytes = 0;

	memset(block, 7, sizeof(block));
	begin(arg);
	CHECK(make("a", 1) == 0);
	struct ec_domain_options o = {.gfid = g, .create = true};
	CHECK(ec_domain_open(set, &o, &d, &e) == 0);
	CHECK(ec_write(d, 0, 0, (struct iov){.v = &v, .n = 1}, true) == 0);
	CHECK(ec_write(d, 3, 0, (struct iov){.v = &v, .n = 1}, true) == 0);
	ec_domain_close(d);
	cluster_stop(&cluster, 4, true);
	CHECK(unlink_name("a", 1) == 0);
	cluster_start(&cluster, 4);
	wait_insync(0x3f);
	CHECK_LISTING(4, "");
	unsigned bricks;
	CHECK(ec_set_usage(set, &g, &bytes, &bricks) == 0);
	CHECK(bricks == 6 && bytes == 0);
	end();
}

/* Two returned bricks at once, the owner changes before they are healed. */
static void body_next_owner(void *arg)
{
	begin(arg);
	CHECK(make("a", 1) == 0);
	cluster_stop(&cluster, 1, false);
	cluster_stop(&cluster, 3, false);
	CHECK(make("b", 2) == 0);
	CHECK(unlink_name("a", 1) == 0);
	ec_domain_close(names);
	ec_set_close(set);
	cluster_start(&cluster, 1);
	cluster_start(&cluster, 3);
	set = cluster_set(&cluster, 2, TIMEOUT);
	names_open();
	wait_insync(0x3f);
	for (uint32_t b = 0; b < cluster.n; b++)
		CHECK_LISTING(b, "b=2");
	end();
}

/* Somebody broke the names of one member by hand: it is the one that has to follow. */
static void body_odd_one(void *arg)
{
	begin(arg);
	CHECK(make("a", 1) == 0);
	struct gfid g = file(1);
	struct bp_nsop_args op = op_new(BP_NS_RENAME, &block_dir, "a", &g);
	memcpy(op.parent2, block_dir.b, 16);
	op.name2 = (char *)(uintptr_t) "odd";
	CHECK(ns_apply(brick_tree(cluster.b[3].brick), &op) == 0);
	struct bp_nsop_args other = op_new(BP_NS_MKFILE, &block_dir, "b", &(struct gfid){{9, 9}});
	CHECK(ns_apply(brick_tree(cluster.b[3].brick), &other) == 0);
	CHECK(make("b", 2) == 0);
	wait_insync(0x3f);
	for (uint32_t b = 0; b < cluster.n; b++)
		CHECK_LISTING(b, "a=1 b=2");
	end();
}

static void run(fiber_fn *body)
{
	struct loop *l;
	struct err e = ERR_INIT;

	assert_int_equal(loop_new(&(struct loop_options){0}, &l, &e), 0);
	assert_int_equal(loop_run_fiber(l, "test", body, l), 0);
	loop_free(l);
}

#define TEST(name, body)                                                                                               \
	static void name(void **state)                                                                                 \
	{                                                                                                              \
		(void)state;                                                                                           \
		run(body);                                                                                             \
	}

TEST(a_change_reaches_every_member_and_may_be_repeated, body_all)
TEST(a_brick_that_was_away_gets_the_missed_names_and_loses_the_deleted_ones, body_away)
TEST(renames_while_a_brick_was_away_cost_no_data, body_data)
TEST(what_was_deleted_meanwhile_does_not_come_back, body_no_resurrection)
TEST(the_next_owner_heals_the_names, body_next_owner)
TEST(a_member_with_wrong_names_is_dropped_and_healed, body_odd_one)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_change_reaches_every_member_and_may_be_repeated),
	    cmocka_unit_test(a_brick_that_was_away_gets_the_missed_names_and_loses_the_deleted_ones),
	    cmocka_unit_test(renames_while_a_brick_was_away_cost_no_data),
	    cmocka_unit_test(what_was_deleted_meanwhile_does_not_come_back),
	    cmocka_unit_test(the_next_owner_heals_the_names),
	    cmocka_unit_test(a_member_with_wrong_names_is_dropped_and_healed),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("ec.names", tests, NULL, NULL);
}
