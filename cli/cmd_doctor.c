/* cmd_doctor.c - myfs doctor: checks of this host and of the cluster, each with the command that mends it. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <linux/io_uring.h>

#include "cli/cmd.h"
#include "cli/health.h"
#include "cli/iscsi_host.h"
#include "cli/proc.h"
#include "cli/size.h"

#define LOW_SPACE_PERCENT 5

enum verdict { V_OK, V_WARN, V_FAIL };
struct checks {
	const struct invocation *in;
	json_t *items;
	int warnings, failures;
};

static void add_check(struct checks *c, enum verdict v, const char *what, const char *cure)
{
	static const char *const names[] = {"ok", "warn", "FAIL"};
	c->warnings += v == V_WARN;
	c->failures += v == V_FAIL;
	json_array_append_new(c->items, json_pack("{s:s,s:s,s:s}", "verdict", names[v], "what", what, "cure", cure));
	if (!want_json(c->in))
		printf(" %-5s %s%s%s\n", names[v], what, cure[0] ? "\n       → " : "", cure);
}

static void check_host(struct checks *c)
{
	char text[512];
	struct utsname u;
	uname(&u);
	struct io_uring_params params = {0};
	int fd = (int)syscall(SYS_io_uring_setup, 1, &params);
	if (fd >= 0) {
		close(fd);
		snprintf(text, sizeof(text), "io_uring works (kernel %s)", u.release);
		add_check(c, V_OK, text, "");
	} else {
		snprintf(text, sizeof(text), "io_uring is not usable (%s); daemons use epoll and threads, which is slower", err_name(-errno));
		add_check(c, V_WARN, text, "sysctl kernel.io_uring_disabled=0, or allow io_uring in the container's seccomp profile");
	}
	char bin[REG_PATH], path[REG_PATH + 32];
	if (proc_bin_dir(bin, sizeof(bin)) == 0) {
		static const char *const programs[] = {"myfs-brickd", "myfs-blockd", "myfs-lio"};
		for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
			snprintf(path, sizeof(path), "%s/%s", bin, programs[i]);
			if (access(path, X_OK) != 0) {
				snprintf(text, sizeof(text), "%s is missing", path);
				add_check(c, V_FAIL, text, "cmake --preset release && cmake --build --preset release");
			}
		}
	}
}

static bool on_root_disk(const char *path)
{
	struct stat a, b;
	return stat(path, &a) == 0 && stat("/", &b) == 0 && a.st_dev == b.st_dev;
}

static void check_bricks(struct checks *c, const struct health *h)
{
	size_t i;
	json_t *b;
	int online = 0, on_root = 0;
	json_array_foreach(h->bricks, i, b) {
		const char *path = json_string_value(json_object_get(b, "path")), *state = json_string_value(json_object_get(b, "state"));
		const char *node = json_string_value(json_object_get(b, "node"));
		double total = (double)json_integer_value(json_object_get(b, "total_bytes")), left = (double)json_integer_value(json_object_get(b, "free_bytes"));
		online += strcmp(state, "online") == 0;
		on_root += on_root_disk(path);
		if (total > 0 && left * 100 / total < LOW_SPACE_PERCENT) {
			char text[700], size[SIZE_TEXT];
			snprintf(text, sizeof(text), "brick %s:%s has only %s left", node, path, size_text((uint64_t)left, size));
			add_check(c, V_WARN, text, "free space on its file system before writes end with \"no space\"");
		}
	}
	char text[128];
	size_t n = json_array_size(h->bricks);
	snprintf(text, sizeof(text), "%d of %zu bricks are online", online, n);
	if (online == (int)n)
		add_check(c, V_OK, text, "");
	if (on_root > 0) {
		snprintf(text, sizeof(text), "%d brick director%s on the root file system", on_root, on_root == 1 ? "y is" : "ies are");
		add_check(c, V_WARN, text, "for real data use separate disks; for a demo this is fine");
	}
}

/* Needed where a gateway has iSCSI portals; elsewhere it is only told whether it would be possible. */
struct iscsi_checks {
	struct checks *c;
	int missing;
	char first[200];
};

static void on_iscsi(void *arg, bool present, const char *what, const char *cure)
{
	struct iscsi_checks *i = arg;
	char text[200];
	if (i->c == NULL) {
		i->missing += !present;
		if (!present && i->first[0] == '\0')
			snprintf(i->first, sizeof(i->first), "%s", what);
		return;
	}
	snprintf(text, sizeof(text), "iSCSI: %s%s", present ? "" : "missing: ", what);
	add_check(i->c, present ? V_OK : V_FAIL, text, present ? "" : cure);
}

static void check_iscsi(struct checks *c, bool needed)
{
	struct iscsi_checks i = {.c = needed ? c : NULL};
	char text[300];
	iscsi_host_check(on_iscsi, &i);
	if (needed)
		return;
	if (i.missing == 0)
		snprintf(text, sizeof(text), "this host can export over iSCSI (myfs-blockd --portal IP)");
	else
		snprintf(text, sizeof(text), "this host is not set up for iSCSI (%s and others; not needed for NBD)", i.first);
	add_check(c, V_OK, text, "");
}

static bool has_portals(const struct health *h)
{
	size_t i;
	json_t *g;
	json_array_foreach(h->gateways, i, g)
		if (json_array_size(json_object_get(json_object_get(json_object_get(g, "status"), "iscsi"), "portals")) > 0)
			return true;
	return false;
}

static void check_cluster(struct checks *c)
{
	struct health h;
	if (health_gather(c->in, &h) != 0) {
		add_check(c, V_FAIL, "the cluster's registry cannot be used (see above)", "myfs explain E-NOCLUSTER-02");
		health_free(&h);
		return;
	}
	add_check(c, V_OK, "the registry is readable", "");
	check_bricks(c, &h);
	if (has_portals(&h))
		check_iscsi(c, true);
	size_t i;
	json_t *f;
	json_array_foreach(h.findings, i, f) {
		const char *level = json_string_value(json_object_get(f, "level"));
		add_check(c, strcmp(level, "error") == 0 ? V_FAIL : strcmp(level, "warning") == 0 ? V_WARN : V_OK, json_string_value(json_object_get(f, "status")),
		          json_string_value(json_object_get(f, "action")));
	}
	if (json_array_size(h.findings) == 0)
		add_check(c, V_OK, "every node, brick and gateway answers; nothing to heal", "");
	health_free(&h);
}

static int run_doctor(const struct invocation *in)
{
	struct checks c = {.in = in, .items = json_array()};
	check_host(&c);
	if (opt_given(in, "preflight"))
		check_iscsi(&c, false);
	else
		check_cluster(&c);
	int rc = c.failures > 0 ? EXIT_SYSTEM : 0;
	if (want_json(in))
		return print_json("myfs.doctor/1", json_pack("{s:o,s:i,s:i}", "items", c.items, "warnings", c.warnings, "problems", c.failures)), rc;
	json_decref(c.items);
	if (c.failures + c.warnings > 0)
		printf("%d problem%s, %d warning%s (exit %d)\n", c.failures, c.failures == 1 ? "" : "s", c.warnings, c.warnings == 1 ? "" : "s", rc);
	else
		printf("nothing to mend\n");
	return rc;
}

static const struct option_def DOCTOR_OPTIONS[] = {
	{"preflight", 0, NULL, "only this host: can it run myfs?", false},
	{NULL, 0, NULL, NULL, false},
};

const struct command DOCTOR_COMMANDS[] = {
	{"doctor", NULL, "", "check this host and the cluster; says how to mend what is wrong", "  myfs doctor --preflight\n  myfs doctor", 0, 0, DOCTOR_OPTIONS, run_doctor},
	{NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
