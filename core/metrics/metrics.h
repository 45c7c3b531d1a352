/* metrics.h - one walk over a daemon's counters, written down either for Prometheus or for the CLI, so that /metrics and
 * `myfs top` cannot disagree.
 *
 * A page is a list of families; a family is a name, a type, a help text and samples that differ in their labels. Names follow
 * Prometheus: myfs_<thing>_<what>_<unit>, base units (seconds, bytes), counters end in _total. A family must be written as a
 * whole before the next begins.
 *
 * Text: exposition format 0.0.4; a histogram has a bucket at every octave of ns. JSON, on control sockets:
 *   {"NAME": [{"labels": {..}, "value": 1}, {"labels": {..}, "count": 2, "sum_ns": 99, "buckets": [[i, n], ..]}]} */
#ifndef MYFS_METRICS_H
#define MYFS_METRICS_H

#include <jansson.h>
#include <stdio.h>

#include "core/metrics/histogram.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum metrics_type { METRICS_COUNTER, METRICS_GAUGE, METRICS_HISTOGRAM };

struct metrics_label {
	const char *key, *value;
};
/* Arguments labels, n of the functions below. */
#define METRICS_LABELS(...)                                                                                             \
	(const struct metrics_label[]){__VA_ARGS__},                                                                    \
	    sizeof((const struct metrics_label[]){__VA_ARGS__}) / sizeof(struct metrics_label)

/* Exactly one of the two is set. */
struct metrics {
	FILE *text;
	json_t *json;         /* object */
	const char *family;   /* private */
	json_t *samples;      /* private, borrowed from json */
};

void metrics_family(struct metrics *m, const char *name, enum metrics_type type, const char *help);
void metrics_u64(struct metrics *m, uint64_t value, const struct metrics_label *labels, size_t n);
void metrics_real(struct metrics *m, double value, const struct metrics_label *labels, size_t n);
void metrics_histogram(struct metrics *m, const struct histogram *h, const struct metrics_label *labels, size_t n);

/* Reads back what metrics_histogram wrote as JSON. False when it is no histogram. */
bool metrics_histogram_parse(const json_t *sample, struct histogram *ret);

/* What every daemon has: build, CPU, memory, descriptors, system calls of its loop. */
void metrics_process(struct metrics *m, const char *daemon, const char *name);

#endif
