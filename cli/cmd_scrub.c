/* cmd_scrub.c - myfs scrub start, status [--watch], pause, resume, schedule. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/cluster.h"
#include "cli/cmd.h"
#include "cli/field.h"
#include "cli/size.h"
#include "cli/table.h"

#define WATCH_INTERVAL_US 500000

static const struct column SCRUB_COLUMNS[] = {
	{"VOLUME", "volume", COL_TEXT, false},      {"STATE", "state", COL_TEXT, false},       {"DONE%", "percent", COL_COUNT, false},
	{"LUNS", "luns_done", COL_COUNT, false},    {"OF", "luns", COL_COUNT, false},          {"CHECKED", "bytes", COL_SIZE, false},
	{"ROTTEN", "rotten", COL_COUNT, false},     {"STALE", "stale", COL_COUNT, false},      {"UNDECIDED", "undecided", COL_COUNT, false},
	{"REPAIRED", "repaired", COL_COUNT, false}, {"ETA", "eta_s", COL_SECONDS, false},      {"SCHEDULE", "schedule", COL_TEXT, false},
	{"NEXT", "next", COL_TEXT, false},          {"ENDED", "ended", COL_TEXT, true},        {"STARTED", "started", COL_TEXT, true},
	{"RATE", "rate", COL_SIZE, true},           {"UNREADABLE", "unreadable", COL_COUNT, true}, {"PARTIAL", "partial", COL_COUNT, true},
};

static int ask(const struct invocation *in, json_t **ret_items)
{
	json_t *result, *params = json_object();
	if (in->n_args > 0)
		json_object_set_new(params, "volume", json_string(in->args[0]));
	int rc = cluster_ask_gateway(in, "scrub.status", params, &result);
	if (rc != 0)
		return rc;
	*ret_items = json_incref(json_object_get(result, "items"));
	json_decref(result);
	return 0;
}

/* One line; returns whether anything still runs. */
static bool print_progress(const struct invocation *in, const json_t *items, bool terminal)
{
	bool running = false;
	size_t i;
	json_t *x;
	json_array_foreach(items, i, x) {
		char checked[SIZE_TEXT], eta[SIZE_TEXT];
		bool this_runs = strcmp(field_text(x, "state", ""), "running") == 0;
		running |= this_runs;
		if (want_quiet(in) || want_json(in))
			continue;
		printf("%sscrub of %s: %s, %" PRIu64 " %%, %s checked, %" PRIu64 " blocks wrong, %" PRIu64 " repaired%s%s%s", terminal ? "\r\033[K" : "", field_text(x, "volume", "-"),
		       field_text(x, "state", "-"), field_u64(x, "percent"), size_text(field_u64(x, "bytes"), checked),
		       field_u64(x, "rotten") + field_u64(x, "stale") + field_u64(x, "undecided"), field_u64(x, "repaired"),
		       json_is_integer(json_object_get(x, "eta_s")) ? ", about " : "", json_is_integer(json_object_get(x, "eta_s")) ? duration_text(field_u64(x, "eta_s"), eta) : "",
		       json_is_integer(json_object_get(x, "eta_s")) ? " to go" : "");
		if (!terminal || !this_runs)
			putchar('\n');
	}
	fflush(stdout);
	return running;
}

static int watch(const struct invocation *in)
{
	bool terminal = isatty(STDOUT_FILENO);
	int left_ms = opt_timeout_ms(in, -1);
	for (;; left_ms -= left_ms >= 0 ? (int)min_u64((uint64_t)left_ms, WATCH_INTERVAL_US / 1000) : 0) {
		json_t *items;
		int rc = ask(in, &items);
		if (rc != 0)
			return rc;
		bool running = print_progress(in, items, terminal);
		if (!running && want_json(in))
			return print_rows(in, "myfs.scrub/1", SCRUB_COLUMNS, ARRAY_LEN(SCRUB_COLUMNS), items, "");
		json_decref(items);
		if (!running)
			return 0;
		if (left_ms == 0)
			return report(in, "E-SCRUB-08", EXIT_NO_ANSWER, NULL, "nothing is wrong with that: it goes on", "myfs scrub status", "the scrub has not ended within the time given");
		usleep(WATCH_INTERVAL_US);
	}
}

static int run_status(const struct invocation *in)
{
	if (opt_given(in, "watch"))
		return watch(in);
	json_t *items;
	int rc = ask(in, &items);
	return rc != 0 ? rc : print_rows(in, "myfs.scrub/1", SCRUB_COLUMNS, ARRAY_LEN(SCRUB_COLUMNS), items, "no started volume");
}

static int change(const struct invocation *in, const char *method, json_t *params, const char *done)
{
	json_t *result;
	int rc = cluster_ask_gateway(in, method, params, &result);
	if (rc != 0)
		return rc;
	if (want_json(in))
		return print_json("myfs.scrub_set/1", result);
	json_decref(result);
	say(in, "scrub of %s: %s", in->args[0], done);
	return 0;
}

static int run_start(const struct invocation *in)
{
	return change(in, "scrub.start", json_pack("{s:s}", "volume", in->args[0]), "begun; follow it with: myfs scrub status --watch");
}

static int run_pause(const struct invocation *in)
{
	return change(in, "scrub.pause", json_pack("{s:s}", "volume", in->args[0]), "paused");
}

static int run_resume(const struct invocation *in)
{
	return change(in, "scrub.resume", json_pack("{s:s}", "volume", in->args[0]), "resumed");
}

static int run_schedule(const struct invocation *in)
{
	return change(in, "scrub.schedule", json_pack("{s:s,s:s}", "volume", in->args[0], "schedule", in->args[1]), in->args[1]);
}

static const struct option_def STATUS_OPTIONS[] = {
	{"watch", 'w', NULL, "follow until it has ended", false},
	{NULL, 0, NULL, NULL, false},
};

const struct command SCRUB_COMMANDS[] = {
	{"scrub start", NULL, "VOL", "look for damage now: every block on every brick against its checksum and the others", "  myfs scrub start vol && myfs scrub status --watch", 1, 1, NULL, run_start},
	{"scrub status", NULL, "[VOL]", "what the present or last scrub found", "  myfs scrub status --watch\n  myfs scrub status vol --json", 0, 1, STATUS_OPTIONS, run_status},
	{"scrub pause", NULL, "VOL", "stop for now; it knows where to go on", NULL, 1, 1, NULL, run_pause},
	{"scrub resume", NULL, "VOL", "go on", NULL, 1, 1, NULL, run_resume},
	{"scrub schedule", NULL, "VOL WHEN", "when to scrub by itself: every 7d (default), \"Sun 02:00\" (UTC), never", "  myfs scrub schedule vol \"Sun 02:00\"\n  myfs scrub schedule vol 30d", 2, 2, NULL, run_schedule},
	{NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
