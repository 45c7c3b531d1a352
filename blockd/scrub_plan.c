/* scrub_plan.c - see scrub_plan.h. */
#include "blockd/scrub_plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define DAY_S    UINT64_C(86400)
#define WEEK_S   (7 * DAY_S)
#define SUNDAY_S (3 * DAY_S) /* 1970-01-04 00:00 UTC was the first Sunday */
#define HOUR_S   UINT64_C(3600)
#define LEAST_S  HOUR_S
#define MOST_S   (366 * DAY_S)

static const char *const states[] = {"idle", "running", "paused"};
static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

const char *scrub_state_name(enum scrub_state s)
{
	return states[s];
}

struct schedule {
	uint64_t every_s;   /* 0: not by interval */
	uint64_t weekly_s;  /* into the week, from Sunday 00:00 UTC; UINT64_MAX: not weekly */
};

static bool parse_weekly(const char *text, uint64_t *ret)
{
	char day[4] = "";
	unsigned hour, minute;
	int used = 0;

	if (sscanf(text, "%3s %2u:%2u%n", day, &hour, &minute, &used) != 3 || text[used] != '\0' || hour > 23 || minute > 59)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(days); i++) {
		if (strcmp(day, days[i]) == 0) {
			*ret = i * DAY_S + hour * HOUR_S + minute * 60;
			return true;
		}
	}
	return false;
}

static bool parse_interval(const char *text, uint64_t *ret)
{
	char unit = '\0';
	unsigned n = 0;
	int used = 0;

	if (sscanf(text, "%4u%c%n", &n, &unit, &used) != 2 || text[used] != '\0')
		return false;
	*ret = n * (unit == 'd' ? DAY_S : unit == 'h' ? HOUR_S : 0);
	return *ret >= LEAST_S && *ret <= MOST_S;
}

static bool parse(const char *text, struct schedule *ret)
{
	*ret = (struct schedule){0, UINT64_MAX};
	return strcmp(text, "never") == 0 || parse_interval(text, &ret->every_s) || parse_weekly(text, &ret->weekly_s);
}

int scrub_schedule_check(const char *text, struct err *e)
{
	struct schedule s;

	if (strlen(text) < SCRUB_SCHEDULE_TEXT && parse(text, &s))
		return 0;
	return err_set(e, -EINVAL, "\"%.40s\" is no schedule: write 7d or 36h (1h to 366d), \"Sun 02:00\" (UTC), or never", text);
}

uint64_t scrub_schedule_next(const char *schedule, uint64_t from_s)
{
	struct schedule s;

	if (!parse(schedule, &s))
		return UINT64_MAX;
	if (s.every_s)
		return from_s + s.every_s;
	if (s.weekly_s == UINT64_MAX)
		return UINT64_MAX;
	uint64_t into = (from_s + WEEK_S - SUNDAY_S) % WEEK_S;
	return from_s - into + s.weekly_s + (into >= s.weekly_s ? WEEK_S : 0);
}

/* ---- in the registry ---- */

#define KEY  (2 * REG_NAME + 16)
#define TEXT 512

static int get(struct registry *r, const char *key, char text[TEXT], struct err *e)
{
	int rc = reg_cluster_get(r, key, text, TEXT, NULL);

	return rc == 0 || rc == -ENOENT ? rc : err_set(e, rc, "the registry's %s cannot be read", key);
}

int scrub_plan_load(struct registry *r, const char *volume, struct scrub_plan *ret, struct err *e)
{
	char key[KEY], text[TEXT], state[16];
	struct scrub_plan p = {.schedule = SCRUB_SCHEDULE_DEFAULT};
	int rc;

	snprintf(key, sizeof(key), "scrub/%s", volume);
	rc = get(r, key, text, e);
	if (rc == -ENOENT) {
		*ret = p;
		return 0;
	}
	if (rc < 0)
		return rc;
	if (sscanf(text, "%" SCNu64 " %15s %" SCNu64 " %" SCNu64 " %31[^\n]", &p.run, state, &p.started_s, &p.ended_s,
		   p.schedule) != 5)
		return err_set(e, -EUCLEAN, "the registry's %s makes no sense", key);
	for (size_t i = 0; i < ARRAY_LEN(states); i++)
		if (strcmp(states[i], state) == 0)
			p.state = (enum scrub_state)i;
	*ret = p;
	return 0;
}

int scrub_plan_save(struct registry *r, const char *volume, const struct scrub_plan *p, struct err *e)
{
	char key[KEY], text[TEXT];

	snprintf(key, sizeof(key), "scrub/%s", volume);
	snprintf(text, sizeof(text), "%" PRIu64 " %s %" PRIu64 " %" PRIu64 " %s", p->run, states[p->state], p->started_s,
		 p->ended_s, p->schedule);
	return reg_cluster_set(r, key, text, e);
}

int scrub_progress_load(struct registry *r, const char *gateway, const char *volume, struct scrub_progress *ret,
			struct err *e)
{
	char key[KEY], text[TEXT], lun[GFID_TEXT];
	struct scrub_progress p = {.run = 0};
	struct ec_scrub_count *c = &p.count;
	unsigned done = 0;
	int rc;

	snprintf(key, sizeof(key), "scrubbing/%s/%s", gateway, volume);
	rc = get(r, key, text, e);
	if (rc == -ENOENT) {
		*ret = p;
		return 0;
	}
	if (rc < 0)
		return rc;
	if (sscanf(text,
		   "%" SCNu64 " %u %36s %u %u %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
		   " %" SCNu64 " %" SCNu64,
		   &p.run, &done, lun, &p.shard, &p.region, &p.luns, &p.permille, &c->bytes, &c->rotten, &c->stale,
		   &c->undecided, &c->unreadable, &c->repaired, &c->partial) != 14 ||
	    gfid_parse(lun, &p.lun) < 0)
		return err_set(e, -EUCLEAN, "the registry's %s makes no sense", key);
	p.done = done != 0;
	*ret = p;
	return 0;
}

int scrub_progress_save(struct registry *r, const char *gateway, const char *volume, const struct scrub_progress *p,
			struct err *e)
{
	const struct ec_scrub_count *c = &p->count;
	char key[KEY], text[TEXT], lun[GFID_TEXT];

	snprintf(key, sizeof(key), "scrubbing/%s/%s", gateway, volume);
	snprintf(text, sizeof(text),
		 "%" PRIu64 " %u %s %u %u %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
		 " %" PRIu64 " %" PRIu64,
		 p->run, p->done, gfid_text(&p->lun, lun), p->shard, p->region, p->luns, p->permille, c->bytes, c->rotten,
		 c->stale, c->undecided, c->unreadable, c->repaired, c->partial);
	return reg_cluster_set(r, key, text, e);
}
