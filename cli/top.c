#include "cli/top.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli/field.h"
#include "core/metrics/metrics.h"

/* One member, seen twice. */
struct pair {
	const json_t *before, *after; /* metrics objects; before may be NULL */
	const char *name;
	double seconds;
};

static const json_t *sample(const json_t *metrics, const char *family, const json_t *labels)
{
	size_t i;
	const json_t *s;

	json_array_foreach(json_object_get(metrics, family), i, s)
		if (json_equal(json_object_get(s, "labels"), labels))
			return s;
	return NULL;
}

static double number(const json_t *metrics, const char *family, const json_t *labels)
{
	return json_number_value(json_object_get(sample(metrics, family, labels), "value"));
}

/* Growth of a counter; one that fell was started anew. */
static double growth(const struct pair *p, const char *family, const json_t *labels)
{
	double was = number(p->before, family, labels), is = number(p->after, family, labels);

	return is >= was ? is - was : is;
}

static json_int_t rate(const struct pair *p, const char *family, const json_t *labels)
{
	return (json_int_t)(growth(p, family, labels) / p->seconds + 0.5);
}

static struct histogram passed(const struct pair *p, const char *family, const json_t *labels, const char *op)
{
	struct histogram was = {0}, is = {0}, ret;
	json_t *full = json_copy((json_t *)(uintptr_t)labels);

	if (op)
		json_object_set_new(full, "op", json_string(op));
	metrics_histogram_parse(sample(p->before, family, full), &was);
	metrics_histogram_parse(sample(p->after, family, full), &is);
	json_decref(full);
	histogram_since(&is, &was, &ret);
	return ret;
}

/* KEY_s, KEY_p50_us, KEY_p99_us; latencies are null when nothing happened. Returns operations per second. */
static double put_operations(json_t *row, const struct pair *p, const char *family, const json_t *labels, const char *op, const char *key)
{
	struct histogram h = passed(p, family, labels, op);
	static const struct {
		const char *suffix;
		double share;
	} quantiles[] = {{"p50_us", 0.5}, {"p99_us", 0.99}};
	double per_s = (double)h.count / p->seconds;
	char name[64];

	snprintf(name, sizeof(name), "%s_s", key);
	json_object_set_new(row, name, json_integer((json_int_t)(per_s + 0.5)));
	for (size_t i = 0; i < ARRAY_LEN(quantiles); i++) {
		snprintf(name, sizeof(name), "%s_%s", key, quantiles[i].suffix);
		json_object_set_new(row, name, h.count ? json_integer((json_int_t)(histogram_quantile_ns(&h, quantiles[i].share) / 1000)) : json_null());
	}
	return per_s;
}

static json_t *ratio(double part, double whole)
{
	return whole > 0 ? json_real(part / whole) : json_null();
}

/* ---- rows ---- */

static void add_luns(json_t *rows, const struct pair *p)
{
	static const char took[] = "myfs_lun_operation_duration_seconds";
	size_t i;
	const json_t *s;

	json_array_foreach(json_object_get(p->after, "myfs_lun_read_bytes_total"), i, s) {
		const json_t *labels = json_object_get(s, "labels");
		json_t *row = json_object();
		char name[300];
		double busy = 0;

		snprintf(name, sizeof(name), "%s/%s", field_text(labels, "volume", "?"), field_text(labels, "lun", "?"));
		json_object_set_new(row, "lun", json_string(name));
		json_object_set_new(row, "gateway", json_string(p->name));
		busy += put_operations(row, p, took, labels, "read", "read");
		busy += put_operations(row, p, took, labels, "write", "write");
		busy += put_operations(row, p, took, labels, "flush", "flush");
		busy += put_operations(row, p, took, labels, "zero", "zero");
		json_object_set_new(row, "read_bytes_s", json_integer(rate(p, "myfs_lun_read_bytes_total", labels)));
		json_object_set_new(row, "written_bytes_s", json_integer(rate(p, "myfs_lun_written_bytes_total", labels)));
		json_object_set_new(row, "running", json_integer((json_int_t)number(p->after, "myfs_lun_running_operations", labels)));
		json_object_set_new(row, "sessions", json_integer((json_int_t)number(p->after, "myfs_lun_sessions", labels)));
		json_object_set_new(row, "round_trips_per_write", ratio(growth(p, "myfs_lun_write_round_trips_total", labels), growth(p, "myfs_lun_stripe_writes_total", labels)));
		json_object_set_new(row, "degraded_reads_s", json_integer(rate(p, "myfs_lun_degraded_reads_total", labels)));
		json_object_set_new(row, "healed_bytes_s", json_integer(rate(p, "myfs_lun_healed_bytes_total", labels)));
		json_object_set_new(row, "operations_s", json_integer((json_int_t)(busy + 0.5)));
		json_array_append_new(rows, row);
	}
}

static void add_bricks(json_t *rows, const struct pair *p)
{
	static const char took[] = "myfs_brick_operation_duration_seconds";
	size_t i;
	const json_t *s;

	json_array_foreach(json_object_get(p->after, "myfs_brick_online"), i, s) {
		const json_t *labels = json_object_get(s, "labels");
		bool online = json_integer_value(json_object_get(s, "value")) != 0;
		json_t *row = json_object();
		char name[5000];
		double busy = 0;

		snprintf(name, sizeof(name), "%s:%s", p->name, field_text(labels, "path", "?"));
		json_object_set_new(row, "brick", json_string(name));
		json_object_set_new(row, "volume", json_string(field_text(labels, "volume", "?")));
		json_object_set_new(row, "online", json_boolean(online));
		busy += put_operations(row, p, took, labels, "read", "read");
		busy += put_operations(row, p, took, labels, "prepare", "write");
		busy += put_operations(row, p, took, labels, "sync", "sync");
		busy += put_operations(row, p, took, labels, "heal", "heal");
		json_object_set_new(row, "read_bytes_s", json_integer(rate(p, "myfs_brick_read_bytes_total", labels)));
		json_object_set_new(row, "written_bytes_s", json_integer(rate(p, "myfs_brick_prepared_bytes_total", labels)));
		json_object_set_new(row, "running", json_integer((json_int_t)number(p->after, "myfs_brick_running_operations", labels)));
		json_object_set_new(row, "journal_percent",
				    online ? ratio(100 * number(p->after, "myfs_brick_journal_used_bytes", labels), number(p->after, "myfs_brick_journal_size_bytes", labels))
					   : json_null());
		json_object_set_new(row, "free_bytes", online ? json_integer((json_int_t)number(p->after, "myfs_brick_free_bytes", labels)) : json_null());
		json_object_set_new(row, "operations_s", json_integer((json_int_t)(busy + 0.5)));
		json_array_append_new(rows, row);
	}
}

/* Operations of all samples of a histogram family since the earlier look. */
static double all_operations(const struct pair *p, const char *family)
{
	size_t i;
	const json_t *s;
	double sum = 0;

	json_array_foreach(json_object_get(p->after, family), i, s)
		sum += (double)passed(p, family, json_object_get(s, "labels"), NULL).count;
	return sum;
}

static double all_growth(const struct pair *p, const char *family)
{
	size_t i;
	const json_t *s;
	double sum = 0;

	json_array_foreach(json_object_get(p->after, family), i, s)
		sum += growth(p, family, json_object_get(s, "labels"));
	return sum;
}

static void add_daemon(json_t *rows, const struct pair *p, bool gateway)
{
	double ops = all_operations(p, gateway ? "myfs_lun_operation_duration_seconds" : "myfs_brick_operation_duration_seconds");
	double calls = all_growth(p, "myfs_loop_system_calls_total"), cpu = all_growth(p, "process_cpu_seconds_total");
	json_t *none = json_object();

	json_array_append_new(rows, json_pack("{s:s,s:s,s:I,s:f,s:o,s:I,s:o,s:I,s:I}", "name", p->name, "what", gateway ? "gateway" : "bricks", "operations_s",
					      (json_int_t)(ops / p->seconds + 0.5), "cpu_percent", 100 * cpu / p->seconds, "cpu_us_per_operation", ratio(cpu * 1e6, ops),
					      "system_calls_s", (json_int_t)(calls / p->seconds + 0.5), "system_calls_per_operation", ratio(calls, ops), "memory_bytes",
					      (json_int_t)number(p->after, "process_resident_memory_bytes", none), "descriptors",
					      (json_int_t)number(p->after, "process_open_fds", none)));
	json_decref(none);
}

/* ---- all members ---- */

static const json_t *member(const json_t *look, const char *kind, const char *name)
{
	size_t i;
	const json_t *m;

	json_array_foreach(look, i, m)
		if (strcmp(field_text(m, "kind", ""), kind) == 0 && strcmp(field_text(m, "name", ""), name) == 0)
			return m;
	return NULL;
}

static int busier(const void *a, const void *b)
{
	json_int_t x = field_int(*(const json_t *const *)a, "operations_s"), y = field_int(*(const json_t *const *)b, "operations_s");

	return (x < y) - (x > y);
}

/* Consumes rows. */
static json_t *sorted(json_t *rows)
{
	size_t n = json_array_size(rows);
	json_t **v = calloc(n + 1, sizeof(*v)), *ret = json_array();

	for (size_t i = 0; v && i < n; i++)
		v[i] = json_array_get(rows, i);
	if (v)
		qsort(v, n, sizeof(json_t *), busier);
	for (size_t i = 0; v && i < n; i++)
		json_array_append(ret, v[i]);
	free(v);
	json_decref(rows);
	return ret;
}

json_t *top_rows(enum top_by by, const json_t *before, const json_t *after)
{
	json_t *rows = json_array();
	size_t i;
	const json_t *now;

	json_array_foreach(after, i, now) {
		const char *kind = field_text(now, "kind", "");
		const json_t *then = member(before, kind, field_text(now, "name", ""));
		uint64_t ns = field_u64(now, "taken_ns") - field_u64(then, "taken_ns");
		struct pair p = {.before = json_object_get(then, "metrics"), .after = json_object_get(now, "metrics"), .name = field_text(now, "name", "?"),
				 .seconds = then && ns > 0 ? (double)ns / 1e9 : 1};
		bool gateway = strcmp(kind, "gateway") == 0;

		if (by == TOP_BY_LUN && gateway)
			add_luns(rows, &p);
		else if (by == TOP_BY_BRICK && !gateway)
			add_bricks(rows, &p);
		else if (by == TOP_BY_NODE)
			add_daemon(rows, &p, gateway);
	}
	return sorted(rows);
}
