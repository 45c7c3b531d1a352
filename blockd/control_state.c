/* control_state.c - status, session.list and heal.*: what this gateway sees, computed when asked, from memory. */
#include "blockd/control.h"

#include <stdio.h>

#include "blockd/gateways.h"
#include "blockd/lio.h"
#include "blockd/watch.h"
#include "brick.h" /* generated from core/rpc/brick.x */

#define ETA_AFTER_NS (3 * NS_PER_S)

/* ---- status ---- */

/* Sums of the counters of all open domains of a volume. */
static void volume_counters(const struct volume *v, struct ec_domain_status *sum)
{
	*sum = (struct ec_domain_status){0};
	for (unsigned i = 0; i < dht_volume_sets(v->dht); i++) {
		struct ec_domain_status s;

		if (!dht_volume_names_status(v->dht, i, &s))
			continue;
		sum->checksum_errors += s.checksum_errors;
		sum->repaired_blocks += s.repaired_blocks;
	}
	list_for_each(l, &v->d->luns, struct lun, node) {
		struct ec_domain_status s;

		if (l->volume != v || l->state != LUN_OPEN)
			continue;
		dht_file_status(l->file, 0, &s);
		sum->reads += s.reads;
		sum->writes += s.writes;
		sum->flushes += s.flushes;
		sum->zeros += s.zeros;
		sum->bytes_read += s.bytes_read;
		sum->bytes_written += s.bytes_written;
		sum->rounds += s.rounds;
		sum->degraded_reads += s.degraded_reads;
		sum->pings += s.pings;
		sum->replays += s.replays;
		sum->checksum_errors += s.checksum_errors;
		sum->repaired_blocks += s.repaired_blocks;
	}
}

static json_t *brick_json(struct volume *v, unsigned set, unsigned index, bool names_known, uint32_t names_insync,
			  bool stats) YIELDS
{
	struct ec_set *s = dht_volume_set(v->dht, set);
	struct ec_brick_status b;
	struct bp_stat_res stat = {0};
	bool known;
	char id[GFID_TEXT];
	json_t *x;

	ec_set_brick_status(s, index, &b);
	known = stats && b.connected && ec_set_brick_stat(s, index, &stat) == 0;
	x = json_pack("{s:s,s:s,s:i,s:i,s:b,s:s?,s:o,s:o,s:o,s:o}", "label", b.label, "id",
		      gfid_text(&v->bricks[(size_t)set * v->geo.n + index].uuid, id), "set", (int)set, "index",
		      (int)index, "connected", (int)b.connected, "why",
		      b.connected ? NULL
		      : b.why[0]  ? b.why
				  : "not yet connected",
		      "down_s",
		      b.connected || !b.down_since_ns ? json_null()
						      : json_u64((loop_now_ns() - b.down_since_ns) / NS_PER_S),
		      "insync", names_known ? json_boolean((names_insync >> index) & 1) : json_null(),
		      "checksum_errors", json_u64(b.checksum_errors), "repaired_blocks", json_u64(b.repaired_blocks));
	json_object_set_new(x, "total_bytes", known ? json_u64(stat.total_bytes) : json_null());
	json_object_set_new(x, "free_bytes", known ? json_u64(stat.free_bytes) : json_null());
	json_object_set_new(x, "full", known ? json_boolean(stat.full) : json_null());
	return x;
}

static json_t *set_json(struct volume *v, unsigned set, bool stats) YIELDS
{
	struct ec_domain_status names = {0};
	bool known = dht_volume_names_status(v->dht, set, &names);
	json_t *bricks = json_array();
	unsigned connected = 0;

	for (unsigned i = 0; i < v->geo.n; i++) {
		json_t *b = brick_json(v, set, i, known, names.insync, stats);

		connected += json_is_true(json_object_get(b, "connected"));
		json_array_append_new(bricks, b);
	}
	return json_pack("{s:i,s:i,s:i,s:i,s:b,s:o}", "index", (int)set, "connected", (int)connected, "needed",
			 (int)v->geo.w, "survives_now", connected > v->geo.w ? (int)(connected - v->geo.w) : 0,
			 "serving", (int)(connected >= v->geo.w), "bricks", bricks);
}

static json_t *counters_json(const struct volume *v, const struct ec_domain_status *c)
{
	return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "reads", json_u64(c->reads), "writes",
			 json_u64(c->writes), "flushes", json_u64(c->flushes), "zeros", json_u64(c->zeros),
			 "bytes_read", json_u64(c->bytes_read), "bytes_written", json_u64(c->bytes_written), "rounds",
			 json_u64(c->rounds), "degraded_reads", json_u64(c->degraded_reads), "checksum_errors",
			 json_u64(c->checksum_errors), "repaired_blocks", json_u64(c->repaired_blocks), "fence_pings",
			 json_u64(c->pings), "replays", json_u64(c->replays), "losses", json_u64(v->losses));
}

static unsigned luns_open(const struct blockd *d, const struct volume *v)
{
	unsigned n = 0;

	list_for_each(l, &d->luns, struct lun, node)
		n += l->state == LUN_OPEN && (!v || l->volume == v);
	return n;
}

static size_t luns_known(struct blockd *d, const char *volume)
{
	struct reg_lun *rows = NULL;
	size_t n = 0;

	reg_lun_list(d->registry, volume, REG_LUN_READY, &rows, &n, NULL);
	free(rows);
	return n;
}

static json_t *volume_json(struct volume *v, bool stats) YIELDS
{
	struct ec_domain_status sum;
	json_t *sets = json_array();
	bool healable;

	for (unsigned i = 0; i < dht_volume_sets(v->dht); i++)
		json_array_append_new(sets, set_json(v, i, stats));
	volume_counters(v, &sum);
	return json_pack("{s:s,s:i,s:i,s:i,s:b,s:i,s:i,s:i,s:b,s:o,s:o,s:o}", "name", v->row.name, "data",
			 (int)v->geo.k, "parity", (int)v->geo.r, "survives", (int)v->geo.tolerates, "names_ready",
			 (int)v->names_ready, "luns", (int)luns_known(v->d, v->row.name), "luns_open",
			 (int)luns_open(v->d, v), "luns_to_heal", (int)watch_waiting(v->d, v, &healable), "heal_paused",
			 (int)v->heal_paused, "heal_limit", json_u64(v->heal_limit), "sets", sets, "counters",
			 counters_json(v, &sum));
}

/* The next volume of the list that is not in `seen`, held; NULL at the end. The list may change while a volume is
 * looked at. */
static struct volume *next_volume(struct blockd *d, const json_t *seen)
{
	list_for_each(v, &d->volumes, struct volume, node) {
		bool done = v->closing;

		for (size_t i = 0; i < json_array_size(seen); i++)
			done |= strcmp(json_string_value(json_object_get(json_array_get(seen, i), "name")),
				       v->row.name) == 0;
		if (!done) {
			v->holders++;
			return v;
		}
	}
	return NULL;
}

int method_status(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	json_t *volumes = json_array();
	struct volume *v;

	(void)error;
	while ((v = next_volume(d, volumes))) {
		json_array_append_new(volumes, volume_json(v, !param_flag(params, "fast")));
		volume_put(v);
	}
	*ret = json_pack("{s:s,s:s,s:s,s:I,s:s,s:i,s:b,s:o,s:o}", "schema", "myfs.gateway/1", "gateway", d->self.name,
			 "version", MYFS_VERSION, "uptime_s", (json_int_t)((loop_now_ns() - d->started_ns) / NS_PER_S),
			 "loop", loop_backend_name(d->loop), "luns_open", (int)luns_open(d, NULL), "stopping",
			 (int)d->stopping, "volumes", volumes, "iscsi", lio_status_json(d));
	return 0;
}

/* ---- sessions ---- */

struct session_filter {
	const char *spec; /* NULL = all */
	json_t *items;
};

static void add_session(void *arg, const struct nbd_session_info *s)
{
	struct session_filter *f = arg;

	if ((f->spec && strcmp(f->spec, s->export_name) != 0) || peer_is_runner(s->peer))
		return; /* tcmu-runner: its initiators are listed */
	json_array_append_new(f->items,
			      json_pack("{s:s,s:s,s:s,s:o,s:o,s:o,s:o,s:o,s:b}", "lun", s->export_name, "proto", "nbd",
					"peer", s->peer, "since_s", json_u64((loop_now_ns() - s->since_ns) / NS_PER_S),
					"reads", json_u64(s->reads), "writes", json_u64(s->writes), "bytes_read",
					json_u64(s->bytes_read), "bytes_written", json_u64(s->bytes_written), "tls",
					(int)s->tls));
}

/* The kernel counts no I/O per initiator. */
static void add_iscsi_sessions(struct session_filter *f, const json_t *sessions)
{
	const json_t *x;
	size_t i;

	json_array_foreach(sessions, i, x)
	{
		const char *lun = json_string_value(json_object_get(x, "lun"));
		const json_t *addresses = json_object_get(x, "addresses");

		if (f->spec && strcmp(f->spec, lun) != 0)
			continue;
		json_array_append_new(f->items, json_pack("{s:s,s:s,s:O,s:O,s:n,s:n,s:n,s:n,s:n,s:b}", "lun", lun,
							  "proto", "iscsi", "peer", json_object_get(x, "initiator"),
							  "addresses", addresses, "since_s", "reads", "writes",
							  "bytes_read", "bytes_written", "tls", 0));
	}
}

int method_session_list(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	struct session_filter f = {.spec = param_text(params, "spec"), .items = json_array()};

	json_t *iscsi = NULL;
	struct err e = ERR_INIT;

	if (d->nbd)
		nbd_server_sessions(d->nbd, add_session, &f);
	if (lio_sessions(d, &iscsi, &e) < 0) {
		json_decref(f.items);
		return control_from_err(error, d, NULL, -EIO, &e, "cannot list iSCSI sessions");
	}
	add_iscsi_sessions(&f, iscsi);
	json_decref(iscsi);
	*ret = json_pack("{s:o}", "items", f.items);
	return 0;
}

/* ---- heal ---- */

struct heal_view {
	struct volume *v;
	bool healing, behind, paused_cause, no_space, yields, stopped;
	json_t *waiting_for; /* owned until packed */
};

/* Adds what one domain on one set says. Waited for are bricks out of sync that are away; and members, when without them nothing goes on. */
static void heal_look(struct heal_view *h, unsigned set, const struct ec_domain_status *s)
{
	bool stopped = !s->serving && !s->deposed;

	for (unsigned i = 0; i < h->v->geo.n; i++) {
		struct ec_brick_status b;
		bool member = (s->insync >> i) & 1;

		h->behind |= !member;
		if (((s->connected >> i) & 1) || (member && !stopped))
			continue;
		ec_set_brick_status(dht_volume_set(h->v->dht, set), i, &b);
		json_array_append_new(h->waiting_for, json_string(b.label));
	}
	h->healing |= s->healing != 0 || s->cause == EC_HEAL_RUNNING || s->cause == EC_HEAL_THROTTLED;
	h->paused_cause |= s->cause == EC_HEAL_PAUSED;
	h->no_space |= s->cause == EC_HEAL_NO_SPACE;
	h->yields |= s->cause == EC_HEAL_THROTTLED;
	h->stopped |= stopped;
}

static json_t *eta(uint64_t missed, double rate)
{
	return rate >= 1 ? json_u64((uint64_t)((double)missed / rate)) : json_null();
}

/* Consumes h->waiting_for. rate: NULL when not known (yet). The band of the ETA is what the spread of the rate makes of
 * it; at worst ten times. */
static json_t *heal_item(struct heal_view *h, const char *name, const char *kind, uint64_t missed, uint64_t healed,
			 const struct lun_rate *rate)
{
	double speed = rate ? rate->bytes_per_s : 0, spread = rate ? rate->spread : 0;
	double slow = speed - spread > speed / 10 ? speed - spread : speed / 10;
	json_t *item;
	size_t waiting = json_array_size(h->waiting_for);
	const char *state = "ok";
	char cause[300] = "";

	if (h->behind || h->stopped || missed > 0)
		state = waiting > 0 && (h->stopped || !h->healing) ? "waiting"
			: h->paused_cause          ? "paused"
			: h->no_space              ? "stalled"
						   : "healing";
	if (h->no_space)
		snprintf(cause, sizeof(cause), "a brick is full");
	else if (h->paused_cause)
		snprintf(cause, sizeof(cause), "paused: myfs heal resume %s", h->v->row.name);
	else if (waiting > 0)
		snprintf(cause, sizeof(cause), "waiting for %s%s", json_string_value(json_array_get(h->waiting_for, 0)),
			 waiting > 1 ? " and others" : "");
	else if (strcmp(state, "healing") == 0)
		snprintf(cause, sizeof(cause), "%s",
			 h->v->heal_limit != EC_HEAL_AUTO && h->v->heal_limit != EC_HEAL_MAX ? "healing, throttled"
			 : h->yields							       ? "healing, clients come first"
												       : "healing");
	item = json_pack("{s:s,s:s,s:s,s:s?,s:o,s:o,s:o,s:o,s:o}", "name", name, "kind", kind, "state", state, "cause",
			 cause[0] ? cause : NULL, "missed_bytes", json_u64(missed), "healed_bytes", json_u64(healed),
			 "rate", json_u64((uint64_t)speed), "eta_s", eta(missed, speed), "waiting_for", h->waiting_for);
	json_object_set_new(item, "io_waits", json_boolean(h->stopped));
	json_object_set_new(item, "eta_min_s", eta(missed, speed + spread));
	json_object_set_new(item, "eta_max_s", eta(missed, slow));
	return item;
}

static json_t *heal_lun_item(struct volume *v, const struct lun *l)
{
	struct heal_view h = {.v = v, .waiting_for = json_array()};
	struct ec_domain_status s = {0};
	char name[2 * REG_NAME];

	for (unsigned i = dht_volume_sets(v->dht); i-- > 0;) {
		dht_file_status(l->file, i, &s);
		heal_look(&h, i, &s);
	}
	snprintf(name, sizeof(name), "%s/%s", l->row.volume, l->row.name);
	bool known = l->rate.since_ns && loop_now_ns() - l->rate.since_ns >= ETA_AFTER_NS;
	return heal_item(&h, name, "lun", s.missed_bytes, s.healed_bytes, known ? &l->rate : NULL);
}

/* The volume's own line: its names, and LUNs that are closed and wait. *ret_checking: some of that can be worked on
 * now. */
static json_t *heal_volume_item(struct volume *v, bool *ret_checking)
{
	struct heal_view h = {.v = v, .waiting_for = json_array()};
	uint64_t missed = 0, healed = v->healed_closed_bytes;
	bool now;
	unsigned waiting = watch_waiting(v->d, v, &now);
	json_t *item;

	for (unsigned i = 0; i < dht_volume_sets(v->dht); i++) {
		struct ec_domain_status s;

		if (!dht_volume_names_status(v->dht, i, &s)) {
			h.behind |= !v->names_ready && gateways_first(v->d); /* else another gateway looks after them */
			continue;
		}
		heal_look(&h, i, &s);
		missed += s.missed_bytes;
		healed += s.healed_bytes;
	}
	h.behind |= waiting > 0;
	h.healing |= now;
	item = heal_item(&h, v->row.name, "volume", missed, healed, NULL);
	json_object_set_new(item, "luns_waiting", json_integer((json_int_t)waiting));
	*ret_checking |= now;
	return item;
}

int method_heal_status(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	const char *only = param_text(params, "volume");
	json_t *items = json_array();
	bool checking = false, found = !only;

	list_for_each(v, &d->volumes, struct volume, node) {
		if (v->closing || (only && strcmp(only, v->row.name) != 0))
			continue;
		found = true;
		json_array_append_new(items, heal_volume_item(v, &checking));
		list_for_each(l, &d->luns, struct lun, node)
			if (l->volume == v && l->state == LUN_OPEN)
				json_array_append_new(items, heal_lun_item(v, l));
	}
	if (!found) {
		json_decref(items);
		return control_fail(error, "E-NOTFOUND-05", 5, "", NULL, "myfs volume list",
				    "no started volume %s on gateway %s", only, d->self.name);
	}
	*ret = json_pack("{s:o,s:b}", "items", items, "checking", (int)checking);
	return 0;
}

static int heal_change(struct blockd *d, const json_t *params, int paused, const uint64_t *limit,
		       struct control_error *error)
{
	const char *name = param_text(params, "volume");
	struct volume *v = name ? volume_get(d, name) : NULL;
	struct err e = ERR_INIT;
	int rc;

	if (!v)
		return control_fail(error, "E-NOTFOUND-05", 5, "", NULL, "myfs volume list",
				    "no started volume %s on gateway %s", name ? name : "was named", d->self.name);
	rc = volume_heal_set(v, paused < 0 ? v->heal_paused : paused != 0, limit ? *limit : v->heal_limit, &e);
	volume_put(v);
	return rc < 0 ? control_from_err(error, d, name, rc, &e, "cannot record the setting") : 0;
}

int method_heal_pause(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	(void)ret;
	return heal_change(arg, params, 1, NULL, error);
}

int method_heal_resume(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	(void)ret;
	return heal_change(arg, params, 0, NULL, error);
}

int method_heal_throttle(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	uint64_t limit;

	(void)ret;
	if (param_u64(params, "bytes_per_s", 0, &limit, error) < 0)
		return -1;
	return heal_change(arg, params, -1, &limit, error);
}
