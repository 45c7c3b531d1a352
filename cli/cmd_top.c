/* cmd_top.c - myfs top: live rates and latencies, from the counters the daemons always keep. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "cli/cluster.h"
#include "cli/cmd.h"
#include "cli/table.h"
#include "cli/top.h"

#define ASK_TIMEOUT_MS 3000
#define INTERVAL_MIN_MS 100
#define INTERVAL_MAX_MS 60000

static uint64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* One daemon's counters, added to look. A daemon that does not answer is said once, by name. */
static void ask(const struct invocation *in, json_t *look, const char *kind, const char *name, const char *control)
{
	const char *path = unix_path(control);
	struct control_error e;
	json_t *metrics = NULL;
	if (path == NULL)
		return; /* of another host: it has its own /metrics */
	if (control_call(path, "metrics", NULL, opt_timeout_ms(in, ASK_TIMEOUT_MS), &metrics, &e) != 0) {
		say(in, "note: %s %s does not answer: %s", kind, name, e.message);
		return;
	}
	json_array_append_new(look, json_pack("{s:s,s:s,s:I,s:o}", "name", name, "kind", kind, "taken_ns", (json_int_t)now_ns(), "metrics", metrics));
}

/* 0 and an owned array, or an exit code after printing. */
static int take_look(const struct invocation *in, enum top_by by, json_t **ret)
{
	struct registry *r = NULL;
	int rc = cluster_open(in, &r);
	if (rc != 0)
		return rc;
	struct reg_gateway *gateways = NULL;
	struct reg_node *nodes = NULL;
	size_t n_gateways = 0, n_nodes = 0;
	struct err e = ERR_INIT;
	rc = reg_gateway_list(r, &gateways, &n_gateways, &e);
	if (rc == 0)
		rc = reg_node_list(r, &nodes, &n_nodes, &e);
	registry_close(r);
	if (rc == 0) {
		*ret = json_array();
		for (size_t i = 0; i < n_gateways && by != TOP_BY_BRICK; i++)
			ask(in, *ret, "gateway", gateways[i].name, gateways[i].control);
		for (size_t i = 0; i < n_nodes && by != TOP_BY_LUN; i++)
			ask(in, *ret, "node", nodes[i].name, nodes[i].control);
	}
	free(gateways);
	free(nodes);
	if (rc < 0)
		return registry_failed(in, &e, "the list of daemons cannot be read");
	if (json_array_size(*ret) > 0)
		return 0;
	json_decref(*ret);
	return report(in, "E-NOANSWER-08", EXIT_NO_ANSWER, "none of the daemons this is about runs here", NULL, "myfs status", "nobody answers");
}

static const struct column LUN_COLUMNS[] = {
	{"LUN", "lun", COL_TEXT, false}, {"GATEWAY", "gateway", COL_TEXT, false}, {"READ/S", "read_s", COL_COUNT, false}, {"WRITE/S", "write_s", COL_COUNT, false},
	{"READ-B/S", "read_bytes_s", COL_SIZE, false}, {"WRITE-B/S", "written_bytes_s", COL_SIZE, false}, {"R-P50-US", "read_p50_us", COL_COUNT, false},
	{"R-P99-US", "read_p99_us", COL_COUNT, false}, {"W-P50-US", "write_p50_us", COL_COUNT, false}, {"W-P99-US", "write_p99_us", COL_COUNT, false},
	{"FLUSH/S", "flush_s", COL_COUNT, false}, {"F-P99-US", "flush_p99_us", COL_COUNT, true}, {"ZERO/S", "zero_s", COL_COUNT, true}, {"RUNNING", "running", COL_COUNT, false},
	{"TRIPS/W", "round_trips_per_write", COL_COUNT, false}, {"DEGRADED/S", "degraded_reads_s", COL_COUNT, true}, {"HEAL-B/S", "healed_bytes_s", COL_SIZE, true},
	{"SESSIONS", "sessions", COL_COUNT, true}, {"OPS/S", "operations_s", COL_COUNT, true},
};
static const struct column BRICK_COLUMNS[] = {
	{"BRICK", "brick", COL_TEXT, false}, {"VOLUME", "volume", COL_TEXT, false}, {"ONLINE", "online", COL_TEXT, false}, {"READ/S", "read_s", COL_COUNT, false},
	{"WRITE/S", "write_s", COL_COUNT, false}, {"READ-B/S", "read_bytes_s", COL_SIZE, false}, {"WRITE-B/S", "written_bytes_s", COL_SIZE, false},
	{"R-P50-US", "read_p50_us", COL_COUNT, false}, {"R-P99-US", "read_p99_us", COL_COUNT, false}, {"W-P50-US", "write_p50_us", COL_COUNT, false},
	{"W-P99-US", "write_p99_us", COL_COUNT, false}, {"SYNC/S", "sync_s", COL_COUNT, false}, {"S-P99-US", "sync_p99_us", COL_COUNT, false}, {"HEAL/S", "heal_s", COL_COUNT, true},
	{"RUNNING", "running", COL_COUNT, false}, {"JOURNAL", "journal_percent", COL_PERCENT, false}, {"FREE", "free_bytes", COL_SIZE, true}, {"OPS/S", "operations_s", COL_COUNT, true},
};
static const struct column NODE_COLUMNS[] = {
	{"DAEMON", "name", COL_TEXT, false}, {"WHAT", "what", COL_TEXT, false}, {"OPS/S", "operations_s", COL_COUNT, false}, {"CPU", "cpu_percent", COL_PERCENT, false},
	{"CPU-US/OP", "cpu_us_per_operation", COL_COUNT, false}, {"CALLS/S", "system_calls_s", COL_COUNT, false}, {"CALLS/OP", "system_calls_per_operation", COL_COUNT, false},
	{"MEMORY", "memory_bytes", COL_SIZE, false}, {"FILES", "descriptors", COL_COUNT, false},
};
static const struct {
	const char *word, *schema, *empty;
	const struct column *columns;
	size_t n;
} VIEWS[] = {
	[TOP_BY_LUN] = {"lun", "myfs.top.lun/1", "no LUN was used yet", LUN_COLUMNS, ARRAY_LEN(LUN_COLUMNS)},
	[TOP_BY_BRICK] = {"brick", "myfs.top.brick/1", "no bricks here", BRICK_COLUMNS, ARRAY_LEN(BRICK_COLUMNS)},
	[TOP_BY_NODE] = {"node", "myfs.top.node/1", "no daemons here", NODE_COLUMNS, ARRAY_LEN(NODE_COLUMNS)},
};

static int parse(const struct invocation *in, enum top_by *ret_by, long *ret_times, long *ret_interval_ms)
{
	const char *by = opt_value(in, "by", "lun"), *times = opt_value(in, "times", NULL), *interval = opt_value(in, "interval", "1");
	char *end;
	size_t i;
	for (i = 0; i < ARRAY_LEN(VIEWS) && strcmp(VIEWS[i].word, by) != 0; i++)
		;
	if (i == ARRAY_LEN(VIEWS))
		return usage_error(in, "--by is lun, brick or node, not \"%s\"", by);
	*ret_by = (enum top_by)i;
	*ret_times = times ? strtol(times, &end, 10) : 0;
	if (times && (*end != '\0' || *ret_times < 1))
		return usage_error(in, "-n is a whole number from 1 on, not \"%s\"", times);
	if (*ret_times == 0 && (want_json(in) || !isatty(STDOUT_FILENO)))
		*ret_times = 1;
	if (*ret_times > 1 && want_json(in))
		return usage_error(in, "--json prints one document: -n 1");
	*ret_interval_ms = (long)(strtod(interval, &end) * 1000);
	if (*end != '\0' || *ret_interval_ms < INTERVAL_MIN_MS || *ret_interval_ms > INTERVAL_MAX_MS)
		return usage_error(in, "--interval is 0.1 to 60 seconds, not \"%s\"", interval);
	return 0;
}

static int run_top(const struct invocation *in)
{
	enum top_by by = TOP_BY_LUN;
	long times = 0, interval_ms = 0;
	json_t *before = NULL, *after = NULL;
	int rc = parse(in, &by, &times, &interval_ms);
	bool screen = rc == 0 && times != 1 && isatty(STDOUT_FILENO);
	if (rc == 0)
		rc = take_look(in, by, &before);
	for (long shown = 0; rc == 0 && (times == 0 || shown < times); shown++) {
		usleep((useconds_t)interval_ms * 1000);
		rc = take_look(in, by, &after);
		if (rc != 0)
			break;
		if (screen)
			fputs("\033[H\033[J", stdout);
		rc = print_rows(in, VIEWS[by].schema, VIEWS[by].columns, VIEWS[by].n, top_rows(by, before, after), VIEWS[by].empty);
		fflush(stdout);
		json_decref(before);
		before = after;
	}
	json_decref(before);
	return rc;
}

static const struct option_def TOP_OPTIONS[] = {
	{"by", 0, "WHAT", "lun (default), brick or node (daemons: CPU, system calls, memory)", false},
	{"times", 'n', "N", "show N times and end (default: until interrupted; 1 without a terminal)", false},
	{"interval", 0, "S", "seconds between two looks, which rates and latencies are of (default 1)", false},
	{NULL, 0, NULL, NULL, false},
};

const struct command TOP_COMMANDS[] = {
	{"top", NULL, "", "who does what now: operations, bytes, latencies", "  myfs top\n  myfs top --by brick\n  myfs top -n 1 --json", 0, 0, TOP_OPTIONS, run_top},
	{NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
