/* Two looks at counters become rates, percentiles and ratios. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/field.h"
#include "cli/top.h"
#include "core/metrics/metrics.h"

struct lun_counts {
	const char *lun;
	uint64_t reads, read_ns, writes, read_bytes, trips, stripes;
};

static json_t *gateway(const char *name, uint64_t taken_ns, const struct lun_counts *c, size_t n)
{
	struct metrics m = {.json = json_object()};

	metrics_family(&m, "myfs_lun_operation_duration_seconds", METRICS_HISTOGRAM, "");
	for (size_t i = 0; i < n; i++) {
		struct histogram reads = {0}, writes = {0};
		for (uint64_t k = 0; k < c[i].reads; k++)
			histogram_add(&reads, c[i].read_ns);
		for (uint64_t k = 0; k < c[i].writes; k++)
			histogram_add(&writes, 1000000);
		metrics_histogram(&m, &reads, METRICS_LABELS({"volume", "vol"}, {"lun", c[i].lun}, {"op", "read"}));
		metrics_histogram(&m, &writes, METRICS_LABELS({"volume", "vol"}, {"lun", c[i].lun}, {"op", "write"}));
	}
	metrics_family(&m, "myfs_lun_read_bytes_total", METRICS_COUNTER, "");
	for (size_t i = 0; i < n; i++)
		metrics_u64(&m, c[i].read_bytes, METRICS_LABELS({"volume", "vol"}, {"lun", c[i].lun}));
	metrics_family(&m, "myfs_lun_write_round_trips_total", METRICS_COUNTER, "");
	for (size_t i = 0; i < n; i++)
		metrics_u64(&m, c[i].trips, METRICS_LABELS({"volume", "vol"}, {"lun", c[i].lun}));
	metrics_family(&m, "myfs_lun_stripe_writes_total", METRICS_COUNTER, "");
	for (size_t i = 0; i < n; i++)
		metrics_u64(&m, c[i].stripes, METRICS_LABELS({"volume", "vol"}, {"lun", c[i].lun}));
	metrics_family(&m, "myfs_loop_system_calls_total", METRICS_COUNTER, "");
	metrics_u64(&m, taken_ns / 1000000, METRICS_LABELS({"call", "wait"}));
	metrics_u64(&m, taken_ns / 1000000, METRICS_LABELS({"call", "send"}));
	return json_pack("[{s:s,s:s,s:I,s:o}]", "name", name, "kind", "gateway", "taken_ns", (json_int_t)taken_ns, "metrics", m.json);
}

static void rates_are_per_second_and_the_busiest_comes_first(void **state)
{
	const struct lun_counts was[] = {{"a", 10, 5000, 0, 100, 0, 0}, {"b", 0, 0, 0, 0, 4, 4}};
	const struct lun_counts is[] = {{"a", 30, 5000, 0, 4196, 0, 0}, {"b", 0, 0, 200, 0, 64, 44}};
	json_t *before = gateway("gw", 1 * NS_PER_S, was, 2), *after = gateway("gw", 3 * NS_PER_S, is, 2), *rows = top_rows(TOP_BY_LUN, before, after);
	const json_t *b = json_array_get(rows, 0), *a = json_array_get(rows, 1);

	(void)state;
	assert_int_equal(json_array_size(rows), 2);
	assert_string_equal(field_text(b, "lun", ""), "vol/b");
	assert_int_equal(field_int(b, "write_s"), 100);
	assert_true(field_int(b, "write_p50_us") > 875 && field_int(b, "write_p50_us") < 1125);
	assert_true(json_is_null(json_object_get(b, "read_p50_us")));
	assert_float_equal(json_number_value(json_object_get(b, "round_trips_per_write")), 1.5, 1e-9);
	assert_string_equal(field_text(a, "lun", ""), "vol/a");
	assert_int_equal(field_int(a, "read_s"), 10);
	assert_int_equal(field_int(a, "read_bytes_s"), 2048);
	assert_true(json_is_null(json_object_get(a, "round_trips_per_write")));
	json_decref(rows);
	json_decref(before);
	json_decref(after);
}

static void a_daemon_started_anew_counts_from_nothing(void **state)
{
	const struct lun_counts was[] = {{"a", 1000, 5000, 0, 99999, 0, 0}}, is[] = {{"a", 3, 5000, 0, 12, 0, 0}};
	json_t *before = gateway("gw", 1 * NS_PER_S, was, 1), *after = gateway("gw", 2 * NS_PER_S, is, 1), *rows = top_rows(TOP_BY_LUN, before, after);

	(void)state;
	assert_int_equal(field_int(json_array_get(rows, 0), "read_s"), 3);
	assert_int_equal(field_int(json_array_get(rows, 0), "read_bytes_s"), 12);
	json_decref(rows);
	json_decref(before);
	json_decref(after);
}

static void a_daemon_shows_system_calls_for_each_operation(void **state)
{
	const struct lun_counts was[] = {{"a", 0, 5000, 0, 0, 0, 0}}, is[] = {{"a", 500, 5000, 0, 0, 0, 0}};
	json_t *before = gateway("gw", 1 * NS_PER_S, was, 1), *after = gateway("gw", 2 * NS_PER_S, is, 1), *rows = top_rows(TOP_BY_NODE, before, after);
	const json_t *row = json_array_get(rows, 0);

	(void)state;
	assert_string_equal(field_text(row, "name", ""), "gw");
	assert_int_equal(field_int(row, "operations_s"), 500);
	assert_int_equal(field_int(row, "system_calls_s"), 2000);
	assert_float_equal(json_number_value(json_object_get(row, "system_calls_per_operation")), 4, 1e-9);
	json_decref(rows);
	json_decref(before);
	json_decref(after);
}

static void answers_of_another_shape_give_no_rows_and_no_crash(void **state)
{
	static const char *const odd[] = {
	    "[]", "[1,null,{}]", "[{\"kind\":\"gateway\",\"name\":\"g\",\"taken_ns\":1,\"metrics\":{\"myfs_lun_read_bytes_total\":7}}]",
	    "[{\"kind\":\"gateway\",\"name\":3,\"metrics\":{\"myfs_lun_read_bytes_total\":[1,{\"labels\":[]}]}}]"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		json_t *look = json_loads(odd[i], 0, NULL);
		for (enum top_by by = TOP_BY_LUN; by <= TOP_BY_NODE; by++) {
			json_t *rows = top_rows(by, NULL, look);
			assert_true(json_is_array(rows));
			json_decref(rows);
		}
		json_decref(look);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(rates_are_per_second_and_the_busiest_comes_first),
	    cmocka_unit_test(a_daemon_started_anew_counts_from_nothing),
	    cmocka_unit_test(a_daemon_shows_system_calls_for_each_operation),
	    cmocka_unit_test(answers_of_another_shape_give_no_rows_and_no_crash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
