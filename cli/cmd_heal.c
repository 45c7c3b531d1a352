/* cmd_heal.c - myfs heal status [--watch], pause, resume, throttle. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/field.h"
#include "cli/cluster.h"
#include "cli/cmd.h"
#include "cli/size.h"
#include "cli/table.h"

#define WATCH_INTERVAL_US 500000
#define BAR_WIDTH 24
#define HEAL_AUTO UINT64_C(0) /* as heal.throttle takes them: blockd/README.md */
#define HEAL_MAX ((uint64_t)INT64_MAX)

static const struct column HEAL_COLUMNS[] = {
	{"NAME", "name", COL_TEXT, false},        {"STATE", "state", COL_TEXT, false},      {"LEFT", "missed_bytes", COL_SIZE, false},
	{"HEALED", "healed_bytes", COL_SIZE, false}, {"RATE", "rate", COL_SIZE, false},      {"ETA", "eta_s", COL_SECONDS, false},
	{"AT LEAST", "eta_min_s", COL_SECONDS, true},  {"AT MOST", "eta_max_s", COL_SECONDS, true},
	{"CAUSE", "cause", COL_TEXT, false},
};

static int ask(const struct invocation *in, json_t **ret_result)
{
	json_t *params = json_object();
	if (in->n_args > 0)
		json_object_set_new(params, "volume", json_string(in->args[0]));
	return cluster_ask_gateway(in, "heal.status", params, ret_result);
}

struct heal_sum {
	uint64_t left, healed, rate, eta_s, eta_min_s, eta_max_s;
	bool eta_known, checking, waiting;
	char cause[128];
};

static struct heal_sum sum_up(const json_t *result)
{
	struct heal_sum s = {0};
	const json_t *items = json_object_get(result, "items");
	for (size_t i = 0; i < json_array_size(items); i++) {
		const json_t *x = json_array_get(items, i);
		s.left += field_u64(x, "missed_bytes");
		s.healed += field_u64(x, "healed_bytes");
		s.rate += field_u64(x, "rate");
		s.eta_min_s = max_u64(s.eta_min_s, field_u64(x, "eta_min_s"));
		s.eta_max_s = max_u64(s.eta_max_s, field_u64(x, "eta_max_s"));
		const char *cause = json_string_value(json_object_get(x, "cause")), *state = json_string_value(json_object_get(x, "state"));
		if (state != NULL && strcmp(state, "ok") != 0)
			s.waiting = true;
		if (cause != NULL && state != NULL && strcmp(state, "ok") != 0)
			snprintf(s.cause, sizeof(s.cause), "%s", cause);
	}
	s.checking = json_is_true(json_object_get(result, "checking"));
	s.eta_known = s.rate > 0;
	s.eta_s = s.rate > 0 ? s.left / s.rate : 0;
	s.eta_min_s = min_u64(s.eta_min_s, s.eta_s); /* the band is that of the slowest of several */
	s.eta_max_s = max_u64(s.eta_max_s, s.eta_s);
	return s;
}

static void print_progress(const struct invocation *in, const struct heal_sum *s, bool terminal)
{
	char left[SIZE_TEXT], healed[SIZE_TEXT], rate[SIZE_TEXT], eta[3 * SIZE_TEXT] = "", bar[BAR_WIDTH + 1];
	if (want_quiet(in))
		return;
	if (s->eta_known) {
		char about[SIZE_TEXT], least[SIZE_TEXT], most[SIZE_TEXT];
		snprintf(eta, sizeof(eta), "about %s to go (%s to %s)", duration_text(s->eta_s, about), duration_text(s->eta_min_s, least), duration_text(s->eta_max_s, most));
	}
	if (s->left == 0 && !s->checking) { /* whoever is away may have missed nothing, or nobody can tell yet */
		printf("%sheal: %s, %s done so far%s", terminal ? "\r\033[K" : "", s->cause[0] ? s->cause : "waiting", size_text(s->healed, healed), terminal ? "" : "\n");
		fflush(stdout);
		return;
	}
	uint64_t total = s->left + s->healed, filled = total > 0 ? s->healed * BAR_WIDTH / total : 0;
	for (unsigned i = 0; i < BAR_WIDTH; i++)
		bar[i] = i < filled ? '#' : '.';
	bar[BAR_WIDTH] = '\0';
	printf("%sheal [%s] %5.1f %%  %s left, %s done, %s/s%s%s%s%s", terminal ? "\r\033[K" : "", bar, total > 0 ? 100.0 * (double)s->healed / (double)total : 0.0,
	       size_text(s->left, left), size_text(s->healed, healed), size_text(s->rate, rate), eta[0] ? ", " : "", eta, s->cause[0] ? "  " : "", s->cause);
	if (!terminal)
		putchar('\n');
	fflush(stdout);
}

static int watch(const struct invocation *in)
{
	bool terminal = isatty(STDOUT_FILENO), shown = false;
	int left_ms = opt_timeout_ms(in, -1);
	for (;; left_ms -= left_ms >= 0 ? (int)min_u64((uint64_t)left_ms, WATCH_INTERVAL_US / 1000) : 0) {
		json_t *result;
		int rc = ask(in, &result);
		if (rc != 0)
			return rc;
		struct heal_sum s = sum_up(result);
		if (want_json(in)) {
			json_dumpf(result, stdout, JSON_COMPACT);
			putchar('\n');
			fflush(stdout);
		}
		json_decref(result);
		if (s.left == 0 && !s.checking && !s.waiting) {
			if (!want_json(in))
				printf("%severything is healed: every brick holds everything\n", terminal && shown ? "\r\033[K" : "");
			return 0;
		}
		if (!want_json(in))
			print_progress(in, &s, terminal);
		shown = true;
		if (left_ms == 0)
			return report(in, "E-HEAL-08", EXIT_NO_ANSWER, s.cause, "no data at risk beyond what myfs status says", "myfs heal status", "not healed within the time given");
		usleep(WATCH_INTERVAL_US);
	}
}

static int run_status(const struct invocation *in)
{
	if (opt_given(in, "watch"))
		return watch(in);
	json_t *result;
	int rc = ask(in, &result);
	if (rc != 0)
		return rc;
	json_t *items = json_incref(json_object_get(result, "items"));
	json_decref(result);
	return print_rows(in, "myfs.heal/1", HEAL_COLUMNS, ARRAY_LEN(HEAL_COLUMNS), items, "everything is healed: every brick holds everything");
}

static int control_heal(const struct invocation *in, const char *method, json_t *params, const char *done)
{
	json_t *result;
	int rc = cluster_ask_gateway(in, method, params, &result);
	if (rc != 0)
		return rc;
	if (want_json(in))
		return print_json("myfs.heal_set/1", result);
	json_decref(result);
	say(in, "healing of %s: %s", in->args[0], done);
	return 0;
}

static int run_pause(const struct invocation *in)
{
	return control_heal(in, "heal.pause", json_pack("{s:s}", "volume", in->args[0]), "paused");
}

static int run_resume(const struct invocation *in)
{
	return control_heal(in, "heal.resume", json_pack("{s:s}", "volume", in->args[0]), "resumed");
}

static int run_throttle(const struct invocation *in)
{
	uint64_t rate;
	struct err e = ERR_INIT;
	bool max = strcmp(in->args[1], "max") == 0, automatic = strcmp(in->args[1], "auto") == 0;
	if (!max && !automatic && size_parse(in->args[1], &rate, &e) < 0)
		return usage_error(in, "%s (or auto, or max)", e.text);
	if (max || (!automatic && rate == 0))
		rate = HEAL_MAX; /* as fast as it goes */
	if (automatic)
		rate = HEAL_AUTO;
	char text[SIZE_TEXT + 48];
	if (rate == HEAL_MAX)
		snprintf(text, sizeof(text), "full speed, whatever clients do");
	else if (rate == HEAL_AUTO)
		snprintf(text, sizeof(text), "full speed while clients are quiet, a tenth of the time while they are not");
	else {
		size_text(rate, text);
		strcat(text, "/s at most");
	}
	return control_heal(in, "heal.throttle", json_pack("{s:s,s:I}", "volume", in->args[0], "bytes_per_s", (json_int_t)rate), text);
}

static const struct option_def STATUS_OPTIONS[] = {
	{"watch", 'w', NULL, "follow until everything is healed", false},
	{NULL, 0, NULL, NULL, false},
};

const struct command HEAL_COMMANDS[] = {
	{"heal status", NULL, "[VOL]", "what returned bricks still lack", "  myfs heal status --watch", 0, 1, STATUS_OPTIONS, run_status},
	{"heal pause", NULL, "VOL", "stop healing for now", NULL, 1, 1, NULL, run_pause},
	{"heal resume", NULL, "VOL", "go on healing", NULL, 1, 1, NULL, run_resume},
	{"heal throttle", NULL, "VOL auto|max|RATE", "how fast healing may go: auto (default) leaves nine tenths of the time to clients that are busy; or RATE bytes per second", "  myfs heal throttle vol 100M\n  myfs heal throttle vol auto", 2, 2, NULL, run_throttle},
	{NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
