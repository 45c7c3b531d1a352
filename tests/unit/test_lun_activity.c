/* What clients did with a LUN is counted once, goes on where it was after the LUN was closed for being idle, and ends with it. */
#include "tests/unit/blockd_fixture.h"

#include "blockd/activity.h"
#include "blockd/metrics.h"
#include "core/metrics/metrics.h"

static struct nbd_export *attach(struct blockd *d)
{
	struct nbd_provider p = exports_provider(d);
	struct nbd_export_info info;
	struct nbd_export *x = NULL;
	struct err e = ERR_INIT;

	CHECK(p.open(p.arg, "vol/lun", NULL, &x, &info, &e) == 0);
	return x;
}

static void use(struct blockd *d, struct nbd_export *x, unsigned writes, unsigned reads, unsigned flushes, unsigned zeros)
{
	struct nbd_provider p = exports_provider(d);
	static uint8_t block[4096];
	struct iovec v = {block, sizeof(block)};
	struct bufs out;

	for (unsigned i = 0; i < writes; i++)
		CHECK(p.write(x, i * 4096ull, (struct iov){.v = &v, .n = 1}, false) == 0);
	for (unsigned i = 0; i < reads; i++) {
		bufs_init(&out);
		CHECK(p.read(x, 0, 1000, &out) == 0);
		bufs_release(&out);
	}
	for (unsigned i = 0; i < flushes; i++)
		CHECK(p.flush(x) == 0);
	for (unsigned i = 0; i < zeros; i++)
		CHECK(p.zero(x, 0, 8192, false, true) == 0);
}

static struct lun_activity *only(struct blockd *d)
{
	struct lun_activity *a = list_first(&d->activity, struct lun_activity, node);

	CHECK(a && a->node.next == &d->activity);
	return a;
}

/* Value of the one sample of a family without op, or with it. */
static json_int_t sample(struct blockd *d, const char *family, const char *op)
{
	struct metrics m = {.json = json_object()};
	json_int_t found = -1;
	size_t i;
	const json_t *s;

	blockd_metrics_write(d, &m);
	json_array_foreach(json_object_get(m.json, family), i, s) {
		const char *its = json_string_value(json_object_get(json_object_get(s, "labels"), "op"));
		if (!op || (its && strcmp(its, op) == 0)) {
			CHECK(found == -1);
			found = json_integer_value(json_object_get(s, op && json_object_get(s, "count") ? "count" : "value"));
		}
	}
	json_decref(m.json);
	return found;
}

static void idle_close(struct blockd *d, const struct gfid *gfid)
{
	struct lun *l = lun_find(d, gfid);

	l->idle_since_ns -= 61 * NS_PER_S;
	luns_tend(d);
	EVENTUALLY(!lun_find(d, gfid));
}

static void counts_body(void *arg)
{
	static const char took[] = "myfs_lun_operation_duration_seconds";
	struct blockd *d;
	struct nbd_export *x;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	struct reg_lun row = make_lun(d, "lun", MIB(128));
	CHECK(list_empty(&d->activity)); /* a LUN nobody used takes no memory */
	x = attach(d);
	use(d, x, 5, 3, 2, 1);
	CHECK(only(d)->took[LUN_OP_WRITE].count == 5 && only(d)->bytes[LUN_OP_WRITE] == 5 * 4096);
	CHECK(only(d)->took[LUN_OP_READ].count == 3 && only(d)->bytes[LUN_OP_READ] == 3000);
	CHECK(only(d)->took[LUN_OP_FLUSH].count == 2 && only(d)->took[LUN_OP_ZERO].count == 1 && only(d)->bytes[LUN_OP_ZERO] == 8192);
	CHECK(sample(d, took, "write") == 5 && sample(d, "myfs_lun_read_bytes_total", NULL) == 3000);
	CHECK(sample(d, "myfs_lun_sessions", NULL) == 1 && sample(d, "myfs_lun_running_operations", NULL) == 0);

	exports_provider(d).close(x);
	idle_close(d, &row.gfid);
	CHECK(sample(d, took, "write") == 5 && sample(d, "myfs_lun_sessions", NULL) == 0); /* closed, and still known */
	x = attach(d);
	use(d, x, 2, 0, 0, 0);
	CHECK(sample(d, took, "write") == 7);
	exports_provider(d).close(x);
	blockd_stop(d);
	fixture_end();
}

static void operations_are_counted_and_an_idle_close_loses_nothing(void **state)
{
	(void)state;
	on_every_backend(counts_body);
}

static void engine_body(void *arg)
{
	struct lun_activity a = {.name = "a"};
	struct ec_domain_status first = {.writes = 3, .rounds = 6, .degraded_reads = 1, .healed_bytes = 10}, second = {.writes = 4, .rounds = 4, .repaired_blocks = 2};

	(void)arg;
	lun_activity_closing(&a, &first);
	lun_activity_closing(&a, &second);
	CHECK(a.before.writes == 7 && a.before.rounds == 10 && a.before.degraded_reads == 1 && a.before.healed_bytes == 10 && a.before.repaired_blocks == 2);
	lun_activity_closing(NULL, &first);
	lun_activity_count(NULL, LUN_OP_READ, 0, 1, 0);
	lun_activity_count(&a, LUN_OP_READ, loop_precise_ns(), 512, -EIO);
	CHECK(a.errors[LUN_OP_READ] == 1 && a.bytes[LUN_OP_READ] == 0 && a.took[LUN_OP_READ].count == 0);
}

static void lives_add_up_and_failures_are_counted_apart(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, engine_body);
}

static void delete_body(void *arg)
{
	struct blockd *d;
	struct nbd_export *x;
	struct err e = ERR_INIT;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	struct reg_lun row = make_lun(d, "lun", MIB(128));
	x = attach(d);
	use(d, x, 1, 0, 0, 0);
	CHECK(lun_delete(d, &row, true, &e) == -EBUSY);
	CHECK(only(d)->took[LUN_OP_WRITE].count == 1);
	exports_provider(d).close(x);
	CHECK(reg_lun_get_gfid(d->registry, &row.gfid, &row, &e) == 0);
	CHECK(lun_delete(d, &row, true, &e) == 0);
	CHECK(list_empty(&d->activity) && sample(d, "myfs_lun_read_bytes_total", NULL) == -1);
	blockd_stop(d);
	fixture_end();
}

static void a_deleted_lun_is_forgotten(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, delete_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(operations_are_counted_and_an_idle_close_loses_nothing),
	    cmocka_unit_test(lives_add_up_and_failures_are_counted_apart),
	    cmocka_unit_test(a_deleted_lun_is_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
