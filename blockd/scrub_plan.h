/* scrub_plan.h - when a volume is scrubbed and how far each gateway is: text in the registry, so that it survives
 * restarts and moves.
 *
 *   scrub/VOL              the plan, one for the volume: number of the run, idle / running / paused, times, schedule
 *   scrubbing/GATEWAY/VOL  progress of one gateway through the LUNs it owns, in order of their ids */
#ifndef MYFS_BLOCKD_SCRUB_PLAN_H
#define MYFS_BLOCKD_SCRUB_PLAN_H

#include "core/registry/registry.h"
#include "ec/ec.h"

#define SCRUB_SCHEDULE_DEFAULT "7d"
#define SCRUB_SCHEDULE_TEXT    32

enum scrub_state { SCRUB_IDLE, SCRUB_RUNNING, SCRUB_PAUSED };

struct scrub_plan {
	uint64_t run; /* 0: never */
	enum scrub_state state;
	uint64_t started_s, ended_s; /* of the last run; wall clock, 0 = never */
	char schedule[SCRUB_SCHEDULE_TEXT];
};
struct scrub_progress {
	uint64_t run;
	bool done;
	struct gfid lun; /* being looked at; those with smaller ids are done */
	uint32_t shard, region;
	uint64_t luns;     /* done */
	uint64_t permille; /* of the present one */
	struct ec_scrub_count count;
};

const char *scrub_state_name(enum scrub_state s);
/* "7d", "36h", "Sun 02:00" (UTC), "never". 0 or -EINVAL with text. */
int scrub_schedule_check(const char *text, struct err *e);
/* When the next run is due, wall clock seconds; from = start of the last run, or when the volume was made. UINT64_MAX:
 * never. */
uint64_t scrub_schedule_next(const char *schedule, uint64_t from_s);

/* What is not in the registry yet is the default. */
int scrub_plan_load(struct registry *r, const char *volume, struct scrub_plan *ret, struct err *e);
int scrub_plan_save(struct registry *r, const char *volume, const struct scrub_plan *p, struct err *e);
int scrub_progress_load(struct registry *r, const char *gateway, const char *volume, struct scrub_progress *ret,
			struct err *e);
int scrub_progress_save(struct registry *r, const char *gateway, const char *volume, const struct scrub_progress *p,
			struct err *e);

#endif
