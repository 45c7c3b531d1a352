/* metrics.c - walks LUNs, brick connections and sets, one family after another (a family must be whole in the exposition format). */
#include "blockd/metrics.h"

#include <stdio.h>

#include "blockd/activity.h"
#include "blockd/lun.h"

/* ---- LUNs ---- */

static const struct lun *open_lun(struct blockd *d, const struct lun_activity *a)
{
	const struct lun *l = lun_find(d, &a->gfid);

	return l && l->activity == a ? l : NULL; /* its file is open, and not yet counted in a->before */
}

static void lun_histograms(struct blockd *d, struct metrics *m)
{
	metrics_family(m, "myfs_lun_operation_duration_seconds", METRICS_HISTOGRAM,
		       "Client requests that went well, from their arrival at the gateway to their answer.");
	list_for_each(a, &d->activity, struct lun_activity, node)
		for (unsigned op = 0; op < LUN_OPS; op++)
			metrics_histogram(m, &a->took[op], METRICS_LABELS({"volume", a->volume}, {"lun", a->name}, {"op", lun_op_names[op]}));
	metrics_family(m, "myfs_lun_operation_errors_total", METRICS_COUNTER, "Client requests that were answered with an error.");
	list_for_each(a, &d->activity, struct lun_activity, node)
		for (unsigned op = 0; op < LUN_OPS; op++)
			metrics_u64(m, a->errors[op], METRICS_LABELS({"volume", a->volume}, {"lun", a->name}, {"op", lun_op_names[op]}));
}

static void lun_bytes(struct blockd *d, struct metrics *m)
{
	static const struct {
		const char *name, *help;
		enum lun_op op;
	} rows[] = {
	    {"myfs_lun_read_bytes_total", "Bytes read by clients.", LUN_OP_READ},
	    {"myfs_lun_written_bytes_total", "Bytes written by clients.", LUN_OP_WRITE},
	    {"myfs_lun_zeroed_bytes_total", "Bytes trimmed or zeroed by clients.", LUN_OP_ZERO},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		metrics_family(m, rows[i].name, METRICS_COUNTER, rows[i].help);
		list_for_each(a, &d->activity, struct lun_activity, node)
			metrics_u64(m, a->bytes[rows[i].op], METRICS_LABELS({"volume", a->volume}, {"lun", a->name}));
	}
}

/* Now, and in the times it was open before. */
static uint64_t count_of(struct blockd *d, const struct lun_activity *a, size_t field)
{
	const struct lun *l = open_lun(d, a);
	struct ec_domain_status now = {0};

	if (l)
		dht_file_status(l->file, 0, &now);
	return *(const uint64_t *)(const void *)((const char *)&a->before + field) + *(const uint64_t *)(const void *)((const char *)&now + field);
}

static void lun_engine(struct blockd *d, struct metrics *m)
{
	static const struct {
		const char *name, *help;
		size_t field;
	} rows[] = {
	    {"myfs_lun_stripe_writes_total", "Writes after they were cut at stripe ends.", offsetof(struct ec_domain_status, writes)},
	    {"myfs_lun_write_round_trips_total", "Waits for bricks that those writes needed.", offsetof(struct ec_domain_status, rounds)},
	    {"myfs_lun_degraded_reads_total", "Reads rebuilt from parity.", offsetof(struct ec_domain_status, degraded_reads)},
	    {"myfs_lun_checksum_errors_total", "Blocks found wrong on a brick.", offsetof(struct ec_domain_status, checksum_errors)},
	    {"myfs_lun_repaired_blocks_total", "Blocks rewritten because of that.", offsetof(struct ec_domain_status, repaired_blocks)},
	    {"myfs_lun_healed_bytes_total", "Bytes of fragments rebuilt on bricks that had been away.", offsetof(struct ec_domain_status, healed_bytes)},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		metrics_family(m, rows[i].name, METRICS_COUNTER, rows[i].help);
		list_for_each(a, &d->activity, struct lun_activity, node)
			metrics_u64(m, count_of(d, a, rows[i].field), METRICS_LABELS({"volume", a->volume}, {"lun", a->name}));
	}
}

static void lun_gauges(struct blockd *d, struct metrics *m)
{
	metrics_family(m, "myfs_lun_running_operations", METRICS_GAUGE, "Client requests being executed now.");
	list_for_each(a, &d->activity, struct lun_activity, node) {
		const struct lun *l = open_lun(d, a);
		metrics_u64(m, l ? l->requests : 0, METRICS_LABELS({"volume", a->volume}, {"lun", a->name}));
	}
	metrics_family(m, "myfs_lun_sessions", METRICS_GAUGE, "Clients attached through this gateway.");
	list_for_each(a, &d->activity, struct lun_activity, node) {
		const struct lun *l = open_lun(d, a);
		metrics_u64(m, l ? l->sessions : 0, METRICS_LABELS({"volume", a->volume}, {"lun", a->name}));
	}
	metrics_family(m, "myfs_lun_missed_bytes", METRICS_GAUGE, "Bytes of fragments that returned bricks still lack, of open LUNs.");
	list_for_each(a, &d->activity, struct lun_activity, node) {
		const struct lun *l = open_lun(d, a);
		struct ec_domain_status s = {0};
		if (l)
			dht_file_status(l->file, 0, &s);
		metrics_u64(m, s.missed_bytes, METRICS_LABELS({"volume", a->volume}, {"lun", a->name}));
	}
}

/* ---- bricks, as this gateway sees them ---- */

struct place {
	struct volume *v;
	struct ec_set *set;
	char set_text[12];
	unsigned index;
	struct ec_brick_status status;
};

/* Calls fn for every brick of every open volume. */
static void each_brick(struct blockd *d, struct metrics *m, void (*fn)(struct metrics *m, const struct place *p))
{
	list_for_each(v, &d->volumes, struct volume, node)
		for (unsigned set = 0; v->dht && set < dht_volume_sets(v->dht); set++)
			for (unsigned i = 0; i < v->geo.n; i++) {
				struct place p = {.v = v, .set = dht_volume_set(v->dht, set), .index = i};
				snprintf(p.set_text, sizeof(p.set_text), "%u", set);
				ec_set_brick_status(p.set, i, &p.status);
				fn(m, &p);
			}
}

#define PLACE_LABELS(p) METRICS_LABELS({"volume", (p)->v->row.name}, {"set", (p)->set_text}, {"brick", (p)->status.label})

static void brick_up(struct metrics *m, const struct place *p)
{
	metrics_u64(m, p->status.connected, PLACE_LABELS(p));
}

static void brick_round_trips(struct metrics *m, const struct place *p)
{
	metrics_histogram(m, ec_set_brick_round_trips(p->set, p->index), PLACE_LABELS(p));
}

static void brick_checksum_errors(struct metrics *m, const struct place *p)
{
	metrics_u64(m, p->status.checksum_errors, PLACE_LABELS(p));
}

static void bricks(struct blockd *d, struct metrics *m)
{
	metrics_family(m, "myfs_gateway_brick_up", METRICS_GAUGE, "1 while this gateway is connected to the brick.");
	each_brick(d, m, brick_up);
	metrics_family(m, "myfs_gateway_brick_round_trip_seconds", METRICS_HISTOGRAM, "From a request to a brick to its answer, as this gateway sees it.");
	each_brick(d, m, brick_round_trips);
	metrics_family(m, "myfs_gateway_brick_checksum_errors_total", METRICS_COUNTER, "Blocks of this brick that this gateway found wrong.");
	each_brick(d, m, brick_checksum_errors);
}

/* ---- sets and sessions ---- */

static void cache(struct blockd *d, struct metrics *m, const char *name, const char *help, bool want_hits)
{
	metrics_family(m, name, METRICS_COUNTER, help);
	list_for_each(v, &d->volumes, struct volume, node)
		for (unsigned set = 0; v->dht && set < dht_volume_sets(v->dht); set++) {
			char text[12];
			uint64_t hits, misses;
			snprintf(text, sizeof(text), "%u", set);
			ec_set_cache_counts(dht_volume_set(v->dht, set), &hits, &misses);
			metrics_u64(m, want_hits ? hits : misses, METRICS_LABELS({"volume", v->row.name}, {"set", text}));
		}
}

static void count_session(void *arg, const struct nbd_session_info *info)
{
	(void)info;
	++*(uint64_t *)arg;
}

void blockd_metrics_write(struct blockd *d, struct metrics *m)
{
	uint64_t sessions = 0;

	metrics_process(m, "blockd", d->self.name);
	lun_histograms(d, m);
	lun_bytes(d, m);
	lun_engine(d, m);
	lun_gauges(d, m);
	bricks(d, m);
	cache(d, m, "myfs_gateway_cache_hits_total", "Blocks of old data that a partial write found in the gateway's cache.", true);
	cache(d, m, "myfs_gateway_cache_misses_total", "Blocks of old data that had to come from a brick.", false);
	if (d->nbd)
		nbd_server_sessions(d->nbd, count_session, &sessions);
	metrics_family(m, "myfs_nbd_sessions", METRICS_GAUGE, "NBD connections past their handshake.");
	metrics_u64(m, sessions, NULL, 0);
}

static int print_page(void *arg, FILE *out)
{
	struct metrics m = {.text = out};

	blockd_metrics_write(arg, &m);
	return 0;
}

const struct http_page blockd_pages[] = {{"/metrics", METRICS_CONTENT_TYPE, print_page}, {NULL, NULL, NULL}};

int method_metrics(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct metrics m = {.json = json_object()};

	(void)params;
	(void)error;
	blockd_metrics_write(arg, &m);
	*ret = m.json;
	return 0;
}
