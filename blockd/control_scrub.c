/* control_scrub.c - scrub.*: the plan is changed in the registry, the state is read from there; any gateway may be asked. */
#include "blockd/control.h"

#include <stdio.h>

#include "blockd/reconcile.h"
#include "blockd/scrub.h"

#define ETA_AFTER_S 10u

struct sum {
	struct ec_scrub_count count;
	uint64_t luns, permille;
};

/* What all gateways saw in this run. */
static struct sum sum_up(struct blockd *d, const char *volume, uint64_t run)
{
	struct reg_gateway *rows = NULL;
	struct sum s = {.luns = 0};
	size_t n = 0;

	reg_gateway_list(d->registry, &rows, &n, NULL);
	for (size_t i = 0; i < n; i++) {
		struct scrub_progress p;

		if (scrub_progress_load(d->registry, rows[i].name, volume, &p, NULL) < 0 || p.run != run)
			continue;
		s.luns += p.luns;
		s.permille += p.permille;
		s.count.bytes += p.count.bytes;
		s.count.rotten += p.count.rotten;
		s.count.stale += p.count.stale;
		s.count.undecided += p.count.undecided;
		s.count.unreadable += p.count.unreadable;
		s.count.repaired += p.count.repaired;
		s.count.partial += p.count.partial;
	}
	free(rows);
	return s;
}

static uint64_t luns_to_scrub(struct blockd *d, const char *volume)
{
	struct reg_lun *rows = NULL;
	uint64_t wanted = 0;
	size_t n = 0;

	reg_lun_list(d->registry, volume, REG_LUN_READY, &rows, &n, NULL);
	for (size_t i = 0; i < n; i++)
		wanted += rows[i].owner[0] != '\0'; /* others were never opened: nothing is in them */
	free(rows);
	return wanted;
}

static json_t *time_or_null(uint64_t s)
{
	return s == UINT64_MAX ? json_null() : json_time(s * NS_PER_S);
}

static json_t *item(struct blockd *d, const struct volume *v, const struct scrub_plan *p)
{
	struct sum s = sum_up(d, v->row.name, p->run);
	uint64_t total = luns_to_scrub(d, v->row.name), now_s = loop_wall_ns() / NS_PER_S;
	uint64_t part = s.luns * 1000 + s.permille, whole = total * 1000;
	uint64_t took_s = p->state == SCRUB_RUNNING && now_s > p->started_s ? now_s - p->started_s : 0;
	bool eta = took_s >= ETA_AFTER_S && part > 0 && part <= whole;

	return json_pack("{s:s,s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:s,s:o,s:o,s:o}", "volume", v->row.name, "state",
			 scrub_state_name(p->state), "luns_done", json_u64(s.luns), "luns", json_u64(total), "percent",
			 json_integer(whole ? (json_int_t)min_u64(100, part * 100 / whole) : 100), "bytes", json_u64(s.count.bytes),
			 "rotten", json_u64(s.count.rotten), "stale", json_u64(s.count.stale), "undecided",
			 json_u64(s.count.undecided), "unreadable", json_u64(s.count.unreadable), "repaired",
			 json_u64(s.count.repaired), "partial", json_u64(s.count.partial), "rate",
			 took_s ? json_u64(s.count.bytes / took_s) : json_null(), "schedule", p->schedule, "eta_s",
			 eta ? json_u64(took_s * (whole - part) / part) : json_null(), "started", json_time(p->started_s * NS_PER_S),
			 "ended", json_time(p->ended_s * NS_PER_S));
}

static int no_volume(struct control_error *error, const char *name)
{
	return control_fail(error, "E-NOTFOUND-05", 5, "", NULL, "myfs volume list", "there is no started volume %s",
			    name ? name : "(name one)");
}

int method_scrub_status(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	const char *only = param_text(params, "volume");
	json_t *items = json_array();
	bool found = !only;

	list_for_each(v, &d->volumes, struct volume, node) {
		struct scrub_plan p;
		json_t *x;

		if (v->closing || (only && strcmp(only, v->row.name) != 0) ||
		    scrub_plan_load(d->registry, v->row.name, &p, NULL) < 0)
			continue;
		found = true;
		x = item(d, v, &p);
		json_object_set_new(x, "next",
				    time_or_null(p.state != SCRUB_IDLE
						     ? UINT64_MAX
						     : scrub_schedule_next(p.schedule, p.started_s ? p.started_s
												   : v->row.created_ns / NS_PER_S)));
		json_array_append_new(items, x);
	}
	if (!found) {
		json_decref(items);
		return no_volume(error, only);
	}
	*ret = json_pack("{s:o}", "items", items);
	return 0;
}

/* Changes the plan of the volume that params name. */
static int change(struct blockd *d, const json_t *params, struct control_error *error,
		  void (*fn)(struct scrub_plan *p, const char *schedule))
{
	const char *name = param_text(params, "volume");
	struct volume *v = name ? volume_get(d, name) : NULL;
	struct scrub_plan p;
	struct err e = ERR_INIT;
	int rc;

	if (!v)
		return no_volume(error, name);
	volume_put(v);
	rc = registry_begin(d->registry, &e);
	if (rc == 0) {
		rc = scrub_plan_load(d->registry, name, &p, &e);
		if (rc == 0) {
			fn(&p, param_text(params, "schedule"));
			rc = scrub_plan_save(d->registry, name, &p, &e);
		}
		if (rc == 0)
			rc = registry_commit(d->registry, &e);
		else
			registry_rollback(d->registry);
	}
	reconcile_kick(d);
	return rc < 0 ? control_from_err(error, d, name, rc, &e, "cannot record it") : 0;
}

int method_scrub_start(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	const char *name = param_text(params, "volume");
	struct volume *v = name ? volume_get(d, name) : NULL;
	struct err e = ERR_INIT;
	int rc;

	(void)ret;
	if (!v)
		return no_volume(error, name);
	volume_put(v);
	rc = scrub_begin(d, name, &e);
	reconcile_kick(d);
	return rc < 0 ? control_from_err(error, d, name, rc, &e, "cannot start the scrub") : 0;
}

static void pause_it(struct scrub_plan *p, const char *schedule)
{
	(void)schedule;
	if (p->state == SCRUB_RUNNING)
		p->state = SCRUB_PAUSED;
}

int method_scrub_pause(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	(void)ret;
	return change(arg, params, error, pause_it);
}

static void resume_it(struct scrub_plan *p, const char *schedule)
{
	(void)schedule;
	if (p->state == SCRUB_PAUSED)
		p->state = SCRUB_RUNNING;
}

int method_scrub_resume(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	(void)ret;
	return change(arg, params, error, resume_it);
}

static void set_schedule(struct scrub_plan *p, const char *schedule)
{
	snprintf(p->schedule, sizeof(p->schedule), "%s", schedule);
}

int method_scrub_schedule(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	const char *schedule = param_text(params, "schedule");
	struct err e = ERR_INIT;

	(void)ret;
	if (!schedule || scrub_schedule_check(schedule, &e) < 0)
		return control_bad_input(error, e.text, "a schedule is needed");
	return change(arg, params, error, set_schedule);
}
