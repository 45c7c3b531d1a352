/* Scrub plans: schedules as a table, and what the registry keeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "blockd/scrub_plan.h"

#define DAY UINT64_C(86400)

static void schedules_say_when_the_next_run_is_due(void **state)
{
	/* 1,000,000,000 s = Sunday 2001-09-09 01:46:40 UTC */
	static const struct {
		const char *schedule;
		uint64_t from, next;
	} table[] = {
	    {"7d", 1000000000, 1000000000 + 7 * DAY},
	    {"36h", 1000000000, 1000000000 + 36 * 3600},
	    {"never", 1000000000, UINT64_MAX},
	    {"Sun 02:00", 1000000000, 1000000800},            /* 13 min 20 s later */
	    {"Sun 01:46", 1000000000, 1000000000 - 40 + 7 * DAY}, /* just over */
	    {"Sun 02:00", 1000000800, 1000000800 + 7 * DAY},  /* the start itself is not the next one */
	    {"Mon 00:00", 1000000000, 999993600 + DAY},
	    {"Sat 23:59", 1000000000, 999993600 + 7 * DAY - 60},
	    {"Thu 00:00", 0, 7 * DAY},                        /* the epoch was a Thursday */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		assert_int_equal(scrub_schedule_check(table[i].schedule, NULL), 0);
		assert_true(scrub_schedule_next(table[i].schedule, table[i].from) == table[i].next);
	}
}

static void what_is_no_schedule_is_refused(void **state)
{
	static const char *const bad[] = {"", "7", "7w", "0d", "367d", "59m", "Sunday 02:00", "sun 02:00", "Sun 24:00", "Sun 02:60",
					  "Sun 02:00 ", "7d ", "Sun", "always", "99999d", "-1d", "Sun 02:00:00 and a very long text that does not fit"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;

		assert_int_equal(scrub_schedule_check(bad[i], &e), -EINVAL);
		assert_non_null(strstr(e.text, "no schedule"));
	}
}

static void plan_and_progress_survive_in_the_registry(void **state)
{
	char path[] = "/tmp/myfs-scrub-plan.XXXXXX", db[64];
	struct registry *r = NULL;
	struct scrub_plan p;
	struct scrub_progress g;
	struct err e = ERR_INIT;

	(void)state;
	assert_non_null(mkdtemp(path));
	snprintf(db, sizeof(db), "%s/registry.db", path);
	assert_int_equal(registry_open(db, true, &r, &e), 0);
	assert_int_equal(scrub_plan_load(r, "vol", &p, &e), 0);
	assert_true(p.run == 0 && p.state == SCRUB_IDLE && strcmp(p.schedule, SCRUB_SCHEDULE_DEFAULT) == 0);
	p = (struct scrub_plan){.run = 4, .state = SCRUB_PAUSED, .started_s = 5, .ended_s = 6, .schedule = "Sun 02:00"};
	assert_int_equal(scrub_plan_save(r, "vol", &p, &e), 0);
	struct scrub_plan back;
	assert_int_equal(scrub_plan_load(r, "vol", &back, &e), 0);
	assert_true(back.run == 4 && back.state == SCRUB_PAUSED && back.started_s == 5 && back.ended_s == 6);
	assert_string_equal(back.schedule, "Sun 02:00");

	assert_int_equal(scrub_progress_load(r, "gw", "vol", &g, &e), 0);
	assert_true(g.run == 0 && !g.done);
	g = (struct scrub_progress){.run = 4, .done = true, .lun = {{1, 2, 3}}, .shard = 7, .region = 8, .luns = 9, .permille = 10};
	g.count = (struct ec_scrub_count){.bytes = UINT64_C(1) << 50, .rotten = 1, .stale = 2, .undecided = 3, .unreadable = 4, .repaired = 5, .partial = 6};
	assert_int_equal(scrub_progress_save(r, "gw", "vol", &g, &e), 0);
	struct scrub_progress again;
	assert_int_equal(scrub_progress_load(r, "gw", "vol", &again, &e), 0);
	assert_memory_equal(&again.count, &g.count, sizeof(g.count));
	assert_true(again.run == 4 && again.done && gfid_eq(&again.lun, &g.lun) && again.shard == 7 && again.region == 8 && again.luns == 9 && again.permille == 10);
	assert_int_equal(scrub_progress_load(r, "other", "vol", &again, &e), 0);
	assert_true(again.run == 0);

	assert_int_equal(reg_cluster_set(r, "scrub/vol", "nonsense", &e), 0);
	assert_int_equal(scrub_plan_load(r, "vol", &p, &e), -EUCLEAN);
	assert_int_equal(reg_cluster_set(r, "scrubbing/gw/vol", "1 2 3", &e), 0);
	assert_int_equal(scrub_progress_load(r, "gw", "vol", &g, &e), -EUCLEAN);
	registry_close(r);
	unlink(db);
	snprintf(db, sizeof(db), "%s/registry.db-wal", path);
	unlink(db);
	snprintf(db, sizeof(db), "%s/registry.db-shm", path);
	unlink(db);
	rmdir(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(schedules_say_when_the_next_run_is_due),
	    cmocka_unit_test(what_is_no_schedule_is_refused),
	    cmocka_unit_test(plan_and_progress_survive_in_the_registry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
