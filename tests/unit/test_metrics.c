/* Histograms count what they are given and are honest about percentiles; pages are what Prometheus and `myfs top` read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/prng.h"
#include "core/metrics/metrics.h"

/* ---- histogram ---- */

static void every_bucket_begins_where_the_one_before_ends(void **state)
{
	unsigned last = 0;

	(void)state;
	assert_int_equal(histogram_bucket_of(0), 0);
	assert_int_equal(histogram_bucket_of(1023), 0);
	assert_int_equal(histogram_bucket_of(1024), 1);
	for (unsigned octave = HISTOGRAM_FIRST_OCTAVE; octave <= HISTOGRAM_LAST_OCTAVE; octave++) {
		for (uint64_t quarter = 4; quarter < 8; quarter++) {
			uint64_t start = quarter << (octave - 2);
			assert_int_equal(histogram_bucket_of(start), last + 1);
			assert_int_equal(histogram_bucket_of(start - 1), last);
			last++;
		}
	}
	assert_int_equal(histogram_bucket_of(UINT64_C(1) << (HISTOGRAM_LAST_OCTAVE + 1)), HISTOGRAM_BUCKETS - 1);
	assert_int_equal(histogram_bucket_of(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
	assert_int_equal(last, HISTOGRAM_BUCKETS - 2);
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void quantiles_are_within_an_eighth_of_the_true_ones(void **state)
{
	enum { N = 20000 };
	static uint64_t v[N];
	static const double shares[] = {0.01, 0.5, 0.9, 0.99, 0.999};
	struct histogram h = {0};
	struct prng p;

	(void)state;
	prng_seed(&p, 7);
	for (unsigned i = 0; i < N; i++) {
		v[i] = 2000 + prng_below(&p, UINT64_C(1) << (12 + prng_below(&p, 18)));
		histogram_add(&h, v[i]);
	}
	qsort(v, N, sizeof(v[0]), compare_u64);
	for (size_t i = 0; i < ARRAY_LEN(shares); i++) {
		double want = (double)v[(size_t)(shares[i] * N)], got = (double)histogram_quantile_ns(&h, shares[i]);
		assert_true(got > want * 0.875 && got < want * 1.125);
	}
}

static void an_empty_histogram_has_no_quantile(void **state)
{
	struct histogram h = {0};

	(void)state;
	assert_int_equal(histogram_quantile_ns(&h, 0.5), 0);
	assert_int_equal(histogram_below_octave(&h, HISTOGRAM_LAST_OCTAVE + 1), 0);
}

static void what_is_longer_than_the_last_octave_is_counted(void **state)
{
	struct histogram h = {0};

	(void)state;
	histogram_add(&h, 500 * NS_PER_S);
	assert_int_equal(h.count, 1);
	assert_int_equal(histogram_below_octave(&h, HISTOGRAM_LAST_OCTAVE + 1), 0);
	assert_true(histogram_quantile_ns(&h, 1) >= UINT64_C(1) << (HISTOGRAM_LAST_OCTAVE + 1));
}

static void since_is_what_happened_in_between(void **state)
{
	struct histogram before = {0}, after, d;

	(void)state;
	histogram_add(&before, 5000);
	after = before;
	histogram_add(&after, 9000);
	histogram_add(&after, 9000);
	histogram_since(&after, &before, &d);
	assert_int_equal(d.count, 2);
	assert_int_equal(d.sum_ns, 18000);
	assert_int_equal(d.bucket[histogram_bucket_of(9000)], 2);
	assert_int_equal(d.bucket[histogram_bucket_of(5000)], 0);
	histogram_since(&before, &after, &d); /* it began anew */
	assert_int_equal(d.count, 1);
	histogram_merge(&d, &after);
	assert_int_equal(d.count, 4);
}

/* ---- pages ---- */

static char *page_text;
static size_t page_len;

static char *page(void (*write)(struct metrics *m))
{
	struct metrics m = {.text = open_memstream(&page_text, &page_len)};

	write(&m);
	fclose(m.text);
	return page_text;
}

static void two_counters(struct metrics *m)
{
	metrics_family(m, "myfs_a_total", METRICS_COUNTER, "First.");
	metrics_u64(m, 18446744073709551615u, NULL, 0);
	metrics_family(m, "myfs_b_bytes", METRICS_GAUGE, "Second.");
	metrics_u64(m, 7, METRICS_LABELS({"volume", "v"}, {"path", "/a\"b\\c\nd"}));
	metrics_real(m, 0.25, METRICS_LABELS({"volume", "w"}));
}

static void text_is_the_exposition_format_with_escaped_labels(void **state)
{
	char *text = page(two_counters);

	(void)state;
	assert_string_equal(text, "# HELP myfs_a_total First.\n# TYPE myfs_a_total counter\nmyfs_a_total 18446744073709551615\n"
				  "# HELP myfs_b_bytes Second.\n# TYPE myfs_b_bytes gauge\n"
				  "myfs_b_bytes{volume=\"v\",path=\"/a\\\"b\\\\c\\nd\"} 7\nmyfs_b_bytes{volume=\"w\"} 0.25\n");
	free(text);
}

static void one_histogram(struct metrics *m)
{
	struct histogram h = {0};

	histogram_add(&h, 500);      /* below every bound */
	histogram_add(&h, 3000);     /* < 4.096 us */
	histogram_add(&h, 3 * NS_PER_S);
	histogram_add(&h, 100 * NS_PER_S); /* above every bound */
	metrics_family(m, "t_seconds", METRICS_HISTOGRAM, "T.");
	metrics_histogram(m, &h, METRICS_LABELS({"op", "read"}));
}

static void a_histogram_is_cumulative_and_ends_with_all(void **state)
{
	char *text = page(one_histogram);
	unsigned long last = 0, n;
	unsigned bounds = 0;

	(void)state;
	assert_non_null(strstr(text, "t_seconds_bucket{op=\"read\",le=\"1.024e-06\"} 1\n"));
	assert_non_null(strstr(text, "t_seconds_bucket{op=\"read\",le=\"2.048e-06\"} 1\n"));
	assert_non_null(strstr(text, "t_seconds_bucket{op=\"read\",le=\"4.096e-06\"} 2\n"));
	assert_non_null(strstr(text, "t_seconds_bucket{op=\"read\",le=\"34.3597384\"} 3\n"));
	assert_non_null(strstr(text, "t_seconds_bucket{op=\"read\",le=\"+Inf\"} 4\nt_seconds_sum{op=\"read\"} 103.000004\nt_seconds_count{op=\"read\"} 4\n"));
	for (char *p = text; (p = strstr(p, "_bucket{")) != NULL; p++, bounds++) {
		assert_int_equal(sscanf(strchr(p, '}') + 1, "%lu", &n), 1);
		assert_true(n >= last);
		last = n;
	}
	assert_int_equal(bounds, HISTOGRAM_LAST_OCTAVE - HISTOGRAM_FIRST_OCTAVE + 2);
	free(text);
}

static void a_histogram_comes_back_from_json(void **state)
{
	struct metrics m = {.json = json_object()};
	struct histogram h, wanted = {0};
	const json_t *sample;

	(void)state;
	one_histogram(&m);
	sample = json_array_get(json_object_get(m.json, "t_seconds"), 0);
	assert_string_equal(json_string_value(json_object_get(json_object_get(sample, "labels"), "op")), "read");
	assert_true(metrics_histogram_parse(sample, &h));
	histogram_add(&wanted, 500);
	histogram_add(&wanted, 3000);
	histogram_add(&wanted, 3 * NS_PER_S);
	histogram_add(&wanted, 100 * NS_PER_S);
	assert_memory_equal(&h, &wanted, sizeof(h));
	json_decref(m.json);
}

static void what_is_no_histogram_is_refused(void **state)
{
	static const char *const bad[] = {
	    "{}", "{\"count\":1,\"sum_ns\":1}", "{\"count\":1,\"sum_ns\":1,\"buckets\":[[106,1]]}", "{\"count\":1,\"sum_ns\":1,\"buckets\":[[-1,1]]}",
	    "{\"count\":1,\"sum_ns\":1,\"buckets\":[[1]]}", "{\"count\":1,\"sum_ns\":1,\"buckets\":[[1,-1]]}", "{\"count\":\"1\",\"sum_ns\":1,\"buckets\":[]}"};

	(void)state;
	assert_int_equal(HISTOGRAM_BUCKETS, 106);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct histogram h = {.count = 77};
		json_t *v = json_loads(bad[i], 0, NULL);
		assert_non_null(v);
		assert_false(metrics_histogram_parse(v, &h));
		assert_int_equal(h.count, 77);
		json_decref(v);
	}
	assert_false(metrics_histogram_parse(NULL, &(struct histogram){0}));
}

static void own_page(struct metrics *m)
{
	metrics_process(m, "blockd", "gw");
}

static void a_daemon_says_who_it_is_and_what_it_uses(void **state)
{
	char *text = page(own_page);
	unsigned long resident = 0, fds = 0;

	(void)state;
	assert_non_null(strstr(text, "myfs_build_info{daemon=\"blockd\",name=\"gw\",version=\"" MYFS_VERSION "\"} 1\n"));
	assert_int_equal(sscanf(strstr(text, "\nprocess_resident_memory_bytes ") + 1, "process_resident_memory_bytes %lu", &resident), 1);
	assert_true(resident > 100000);
	assert_int_equal(sscanf(strstr(text, "\nprocess_open_fds ") + 1, "process_open_fds %lu", &fds), 1);
	assert_true(fds >= 3);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_bucket_begins_where_the_one_before_ends),
	    cmocka_unit_test(quantiles_are_within_an_eighth_of_the_true_ones),
	    cmocka_unit_test(an_empty_histogram_has_no_quantile),
	    cmocka_unit_test(what_is_longer_than_the_last_octave_is_counted),
	    cmocka_unit_test(since_is_what_happened_in_between),
	    cmocka_unit_test(text_is_the_exposition_format_with_escaped_labels),
	    cmocka_unit_test(a_histogram_is_cumulative_and_ends_with_all),
	    cmocka_unit_test(a_histogram_comes_back_from_json),
	    cmocka_unit_test(what_is_no_histogram_is_refused),
	    cmocka_unit_test(a_daemon_says_who_it_is_and_what_it_uses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
