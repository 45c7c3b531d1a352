#include "core/metrics/metrics.h"

#include <inttypes.h>

static const char *const type_words[] = {"counter", "gauge", "histogram"};

void metrics_family(struct metrics *m, const char *name, enum metrics_type type, const char *help)
{
	m->family = name;
	if (m->text)
		fprintf(m->text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type_words[type]);
	else {
		m->samples = json_array();
		json_object_set_new(m->json, name, m->samples);
	}
}

/* Values are escaped as the format wants it: backslash, quote and newline. */
static void print_label(FILE *out, const char *sep, const char *key, const char *value)
{
	fprintf(out, "%s%s=\"", sep, key);
	for (const char *p = value; *p; p++) {
		if (*p == '\\' || *p == '"')
			fprintf(out, "\\%c", *p);
		else if (*p == '\n')
			fputs("\\n", out);
		else
			fputc(*p, out);
	}
	fputc('"', out);
}

/* NAME SUFFIX {labels, le="..."}: le NULL = none. */
static void print_series(const struct metrics *m, const char *suffix, const struct metrics_label *labels, size_t n, const char *le)
{
	fprintf(m->text, "%s%s", m->family, suffix);
	for (size_t i = 0; i < n; i++)
		print_label(m->text, i == 0 ? "{" : ",", labels[i].key, labels[i].value);
	if (le)
		print_label(m->text, n == 0 ? "{" : ",", "le", le);
	fputs(n > 0 || le ? "} " : " ", m->text);
}

static json_t *sample_add(struct metrics *m, const struct metrics_label *labels, size_t n)
{
	json_t *sample = json_object(), *l = json_object();

	for (size_t i = 0; i < n; i++)
		json_object_set_new(l, labels[i].key, json_string(labels[i].value));
	json_object_set_new(sample, "labels", l);
	json_array_append_new(m->samples, sample);
	return sample;
}

void metrics_u64(struct metrics *m, uint64_t value, const struct metrics_label *labels, size_t n)
{
	if (m->text) {
		print_series(m, "", labels, n, NULL);
		fprintf(m->text, "%" PRIu64 "\n", value);
	} else
		json_object_set_new(sample_add(m, labels, n), "value", json_integer((json_int_t)(value & INT64_MAX)));
}

void metrics_real(struct metrics *m, double value, const struct metrics_label *labels, size_t n)
{
	if (m->text) {
		print_series(m, "", labels, n, NULL);
		fprintf(m->text, "%.9g\n", value);
	} else
		json_object_set_new(sample_add(m, labels, n), "value", json_real(value));
}

static void histogram_text(const struct metrics *m, const struct histogram *h, const struct metrics_label *labels, size_t n)
{
	char le[32];

	for (unsigned octave = HISTOGRAM_FIRST_OCTAVE; octave <= HISTOGRAM_LAST_OCTAVE; octave++) {
		snprintf(le, sizeof(le), "%.9g", (double)(UINT64_C(1) << octave) / 1e9);
		print_series(m, "_bucket", labels, n, le);
		fprintf(m->text, "%" PRIu64 "\n", histogram_below_octave(h, octave));
	}
	print_series(m, "_bucket", labels, n, "+Inf");
	fprintf(m->text, "%" PRIu64 "\n", h->count);
	print_series(m, "_sum", labels, n, NULL);
	fprintf(m->text, "%.9g\n", (double)h->sum_ns / 1e9);
	print_series(m, "_count", labels, n, NULL);
	fprintf(m->text, "%" PRIu64 "\n", h->count);
}

void metrics_histogram(struct metrics *m, const struct histogram *h, const struct metrics_label *labels, size_t n)
{
	if (m->text) {
		histogram_text(m, h, labels, n);
		return;
	}
	json_t *sample = sample_add(m, labels, n), *buckets = json_array();

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		if (h->bucket[i])
			json_array_append_new(buckets, json_pack("[iI]", (int)i, (json_int_t)h->bucket[i]));
	json_object_set_new(sample, "count", json_integer((json_int_t)h->count));
	json_object_set_new(sample, "sum_ns", json_integer((json_int_t)h->sum_ns));
	json_object_set_new(sample, "buckets", buckets);
}

bool metrics_histogram_parse(const json_t *sample, struct histogram *ret)
{
	const json_t *count = json_object_get(sample, "count"), *sum = json_object_get(sample, "sum_ns"), *buckets = json_object_get(sample, "buckets"), *b;
	struct histogram h = {0};
	size_t i;

	if (!json_is_integer(count) || !json_is_integer(sum) || !json_is_array(buckets))
		return false;
	h.count = (uint64_t)json_integer_value(count);
	h.sum_ns = (uint64_t)json_integer_value(sum);
	json_array_foreach(buckets, i, b) {
		json_int_t at = json_integer_value(json_array_get(b, 0)), n = json_integer_value(json_array_get(b, 1));
		if (json_array_size(b) != 2 || at < 0 || at >= (json_int_t)HISTOGRAM_BUCKETS || n < 0)
			return false;
		h.bucket[at] = (uint64_t)n;
	}
	*ret = h;
	return true;
}
