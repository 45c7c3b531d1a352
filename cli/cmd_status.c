/* cmd_status.c - myfs status: one line of health, then what is wrong, what it means and what to do. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/field.h"
#include "cli/cmd.h"
#include "cli/health.h"
#include "cli/size.h"

static void print_summary(const struct invocation *in, const struct health *h)
{
	static const char *const colors[] = {"\033[32m", "\033[32m", "\033[33m", "\033[31m"};
	bool color = use_color(in, STDOUT_FILENO);
	size_t nodes = json_array_size(h->nodes), bricks = json_array_size(h->bricks), volumes = json_array_size(h->volumes);
	printf("myfs: %s%s%s   %zu node%s, %zu brick%s, %zu volume%s, %zu LUN%s\n", color ? colors[h->level] : "", health_level_name(h->level), color ? "\033[0m" : "", nodes,
	       nodes == 1 ? "" : "s", bricks, bricks == 1 ? "" : "s", volumes, volumes == 1 ? "" : "s", h->luns, h->luns == 1 ? "" : "s");
}

static void print_findings(const struct health *h)
{
	size_t i;
	json_t *f;
	json_array_foreach(h->findings, i, f)
		printf("  status: %s\n  effect: %s\n  action: %s        see: myfs explain %s\n", field_text(f, "status", ""), field_text(f, "effect", ""), field_text(f, "action", ""), field_text(f, "code", ""));
}

static void print_volumes(const struct health *h)
{
	size_t i;
	json_t *v;
	json_array_foreach(h->volumes, i, v) {
		json_int_t may = field_int(v, "may_lose");
		printf("  volume %s: EC %" JSON_INTEGER_FORMAT "+%" JSON_INTEGER_FORMAT ", %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " bricks up", field_text(v, "name", ""), field_int(v, "data"),
		       field_int(v, "parity"), field_int(v, "bricks_up"), field_int(v, "bricks"));
		if (!json_is_true(json_object_get(v, "started")))
			printf(", stopped\n");
		else if (may >= 0)
			printf(", %" JSON_INTEGER_FORMAT " more may fail\n", may);
		else
			printf(", paused\n");
	}
}

static int run_status(const struct invocation *in)
{
	struct health h;
	int rc = health_gather(in, &h);
	enum health_level level = h.level;
	if (rc == 0 && want_json(in)) {
		print_json("myfs.status/1", json_pack("{s:s,s:O,s:O,s:O,s:O,s:O,s:i}", "health", level >= HEALTH_ERR ? "error" : level >= HEALTH_WARN ? "warning" : "ok", "findings", h.findings,
		                                      "nodes", h.nodes, "bricks", h.bricks, "volumes", h.volumes, "gateways", h.gateways, "luns", (int)h.luns));
	} else if (rc == 0 && !(opt_given(in, "only-problems") && level < HEALTH_WARN)) {
		print_summary(in, &h);
		print_findings(&h);
		if (!opt_given(in, "only-problems"))
			print_volumes(&h);
	}
	health_free(&h);
	if (rc != 0)
		return opt_given(in, "nagios") ? 3 : rc;
	if (opt_given(in, "nagios"))
		return level >= HEALTH_ERR ? 2 : level >= HEALTH_WARN ? 1 : 0;
	return opt_given(in, "strict") && level >= HEALTH_WARN ? EXIT_DEGRADED : 0;
}

static const struct option_def STATUS_OPTIONS[] = {
	{"only-problems", 'x', NULL, "print nothing when all is well", false},
	{"strict", 0, NULL, "exit 10 when something is wrong", false},
	{"nagios", 0, NULL, "exit 0 ok, 1 warning, 2 critical, 3 unknown", false},
	{NULL, 0, NULL, NULL, false},
};

const struct command STATUS_COMMANDS[] = {
	{"status", NULL, "", "health in words: what is wrong, what it means, what to do", "  myfs status\n  myfs status -x\n  myfs status --json", 0, 0, STATUS_OPTIONS, run_status},
	{NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
