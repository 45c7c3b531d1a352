/* lio_main.c - myfs-lio: the only program that touches the kernel's target tree. Started by myfs-blockd for one pass.
 *
 * A process of its own, because a write to configfs may wait in the kernel for tcmu-runner without being killable, and
 * tcmu-runner's answer may need the gateway: the gateway must neither wait nor be held back from dying.
 *
 *   stdin   one line: {"configfs":DIR, "sessions":true|false, ...the fields of struct lio_want}
 *   stdout  lines:    {"iqn":I,"doing":TEXT}              before a step that may take long
 *                     {"iqn":I,"state":"ok"|"error"|"waiting","why":TEXT}   one for each target
 *                     {"done":true,"lack":CODE|null,"why":TEXT|null,"next":TEXT|null,"sessions":[..]}   the last one
 *
 * Two passes at once cannot mix: each holds a lock on the root directory. A pass whose gateway died ends by itself. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "blockd/lio_host.h"
#include "blockd/lio_sessions.h"

#define LINE_MAX_BYTES (64u << 20)

static void say(json_t *doc)
{
	json_dumpf(doc, stdout, JSON_COMPACT);
	putchar('\n');
	/* Nobody listens any more: the gateway is gone, and what it wanted may be out of date. */
	if (fflush(stdout) != 0)
		exit(1);
	json_decref(doc);
}

static void say_doing(void *arg, const char *iqn, const char *what)
{
	(void)arg;
	say(json_pack("{s:s,s:s}", "iqn", iqn, "doing", what));
}

static void say_done(const struct lio_lack *lack, json_t *sessions)
{
	say(json_pack("{s:b,s:s?,s:s?,s:s?,s:o}", "done", 1, "lack", lack->code, "why", lack->code ? lack->why : NULL,
		      "next", lack->code ? lack->next : NULL, "sessions", sessions ? sessions : json_null()));
}

static void say_result(const char *iqn, int rc, const struct err *e)
{
	const char *state = rc == 0 ? "ok" : rc == -EHOSTDOWN || rc == -EAGAIN || rc == -EBUSY ? "waiting" : "error";

	say(json_pack("{s:s,s:s,s:s}", "iqn", iqn, "state", state, "why", rc == 0 ? "" : e->text));
}

static void apply(struct lio_tree *t, const struct lio_want *w, struct lio_lack *lack)
{
	struct err e = ERR_INIT;

	for (size_t i = 0; i < w->remove_n; i++) {
		e = (struct err)ERR_INIT;
		int rc = lio_target_remove(t, w->remove[i], &e);
		say_result(w->remove[i], rc, &e);
	}
	e = (struct err)ERR_INIT;
	if (w->complete && lio_strays_remove(t, &e) < 0)
		fprintf(stderr, "myfs-lio: what is left over stays for now: %s\n", e.text);
	for (size_t i = 0; i < w->targets_n; i++) {
		e = (struct err)ERR_INIT;
		int rc = lio_target_apply(t, &w->targets[i], &e);
		say_result(w->targets[i].iqn, rc, &e);
	}
	if (!t->runner && (w->targets_n > 0 || w->remove_n > 0)) {
		lack->code = "runner";
		snprintf(lack->why, sizeof(lack->why), "tcmu-runner is not running");
		snprintf(lack->next, sizeof(lack->next), "systemctl start tcmu-runner");
	}
}

static int run(const json_t *request)
{
	const char *root = json_string_value(json_object_get(request, "configfs"));
	bool sessions_only = json_is_true(json_object_get(request, "sessions"));
	struct lio_lack lack = {.code = NULL};
	struct lio_want want = {.hba = 0};
	struct err e = ERR_INIT;
	json_t *sessions = NULL;
	int lock;

	if (!root || lio_want_parse(request, &want, &e) < 0) {
		fprintf(stderr, "myfs-lio: the request makes no sense: %s\n", e.text);
		return 64;
	}
	struct lio_fs fs = lio_fs_kernel(root);
	struct lio_tree tree = {.fs = &fs, .want = &want, .runner = lio_host_runner("/proc"), .doing = say_doing};
	if (sessions_only) {
		/* Reading needs no lock and must work while a pass waits. */
		if (lio_sessions_read(&tree, &sessions, &e) < 0)
			fprintf(stderr, "myfs-lio: %s\n", e.text);
		say_done(&lack, sessions);
		lio_want_free(&want);
		return 0;
	}
	lio_host_prepare(root, &lack);
	lock = lack.code ? -1 : open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) < 0) {
		lack.code = "busy";
		snprintf(lack.why, sizeof(lack.why), "an earlier pass still waits for the kernel (tcmu-runner hangs?)");
		snprintf(lack.next, sizeof(lack.next), "systemctl restart tcmu-runner");
	}
	if (!lack.code)
		apply(&tree, &want, &lack);
	say_done(&lack, NULL);
	lio_want_free(&want);
	return 0;
}

int main(int argc, char **argv)
{
	char *line = NULL;
	size_t cap = 0;

	if (argc > 1) {
		bool help = strcmp(argv[1], "--help") == 0;
		fprintf(help ? stdout : stderr,
			"myfs-lio is started by myfs-blockd; it takes no arguments. It writes the "
			"kernel's iSCSI targets\n(see blockd/README.md); look at them with: myfs-block "
			"target list\n");
		return help ? 0 : 64;
	}
	signal(SIGPIPE, SIG_IGN);
	ssize_t n = getline(&line, &cap, stdin);
	json_t *request = n > 0 && (size_t)n <= LINE_MAX_BYTES ? json_loadb(line, (size_t)n, 0, NULL) : NULL;
	free(line);
	int rc = request ? run(request) : 64;
	json_decref(request);
	return rc;
}
