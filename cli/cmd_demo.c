/* cmd_demo.c - myfs demo up, status, kill, revive, down. */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cmd.h"
#include "cli/demo.h"
#include "cli/proc.h"
#include "cli/size.h"
#include "cli/table.h"
#include "cli/volume.h"
#include "core/loop/keepsake.h"

#define DEMO_NBD_PORT 10809
#define LEAVE_TIMEOUT_MS 110000
#define DEMO_ISCSI_PORT 3260
#define STOP_TIMEOUT_MS 15000
#define START_TIMEOUT_MS 30000

static int system_failed(const struct invocation *in, const char *what, const char *path)
{
	return report(in, "E-SYSTEM-02", EXIT_SYSTEM, err_name(-errno), NULL, NULL, "%s %s", what, path);
}

static int make_dirs(const struct invocation *in, const char *path)
{
	char part[REG_PATH];
	for (const char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
		snprintf(part, sizeof(part), "%.*s", slash ? (int)(slash - path) : (int)strlen(path), path);
		if (mkdir(part, slash ? 0755 : 0700) < 0 && errno != EEXIST)
			return system_failed(in, "cannot make directory", part);
		if (slash == NULL)
			return 0;
	}
}

/* NBD's own port for the user's one demo when it is free; any other for demos elsewhere (tests, quickstart), which may be many. */
static void choose_nbd_address(const struct invocation *in, int port, char *out, size_t cap)
{
	bool usual = !opt_given(in, "dir") && getenv("MYFS_DEMO_DIR") == NULL;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	usual = usual && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
	close(fd);
	snprintf(out, cap, "tcp:127.0.0.1:%d", usual ? port : 0);
}

static int write_registry(const struct invocation *in, const struct demo *d, int nodes, int gateways)
{
	char path[REG_PATH], nbd[64], gateway[REG_NAME], key[REG_NAME + 32];
	struct registry *r = NULL;
	struct err e = ERR_INIT;
	snprintf(path, sizeof(path), "%.400s/registry.db", d->dir);
	int rc = registry_open(path, true, &r, &e);
	if (rc == 0)
		rc = registry_begin(r, &e);
	for (int i = 1; i <= nodes && rc == 0; i++) {
		struct reg_node n = {0};
		snprintf(n.name, sizeof(n.name), "node%d", i);
		snprintf(n.address, sizeof(n.address), "unix:%.400s/node%d/brick.sock", d->dir, i);
		snprintf(n.control, sizeof(n.control), "unix:%.400s/node%d/control.sock", d->dir, i);
		rc = reg_node_put(r, &n, &e);
	}
	for (int i = 1; i <= gateways && rc == 0; i++) {
		choose_nbd_address(in, DEMO_NBD_PORT + i - 1, nbd, sizeof(nbd));
		snprintf(gateway, sizeof(gateway), "gw%d", i);
		demo_address_key(gateway, key);
		rc = reg_cluster_set(r, key, nbd, &e);
		if (rc == 0 && opt_given(in, "portal")) {
			/* One host, one address: each gateway has a port of its own. */
			snprintf(nbd, sizeof(nbd), "%.40s:%d", opt_value(in, "portal", ""), DEMO_ISCSI_PORT + i - 1);
			demo_portal_key(gateway, key);
			rc = reg_cluster_set(r, key, nbd, &e);
		}
	}
	if (rc == 0)
		rc = reg_cluster_set(r, "cluster.name", "demo", &e);
	if (rc == 0)
		rc = registry_commit(r, &e);
	registry_close(r);
	return rc == 0 ? 0 : registry_failed(in, &e, "the demo's registry cannot be written");
}

static int make_tree(const struct invocation *in, const struct demo *d, int nodes, int gateways)
{
	char path[REG_PATH];
	int rc = make_dirs(in, d->dir);
	for (int i = 1; i <= nodes + gateways && rc == 0; i++) {
		snprintf(path, sizeof(path), i <= nodes ? "%.400s/node%d" : "%.400s/gw%d", d->dir, i <= nodes ? i : i - nodes);
		rc = make_dirs(in, path);
	}
	if (rc != 0)
		return rc;
	snprintf(path, sizeof(path), "%.400s/.myfs-demo", d->dir);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return system_failed(in, "cannot write", path);
	close(fd);
	return write_registry(in, d, nodes, gateways);
}

static bool directory_is_empty(const char *path)
{
	DIR *dir = opendir(path);
	if (dir == NULL)
		return true;
	bool empty = true;
	for (struct dirent *e = readdir(dir); e != NULL && empty; e = readdir(dir))
		empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
	closedir(dir);
	return empty;
}

static int start_all(const struct invocation *in, const struct demo *d)
{
	struct demo_member m[DEMO_MAX_MEMBERS];
	int n = demo_members(d, m, DEMO_MAX_MEMBERS), rc = 0;
	for (int i = 0; i < n && rc == 0; i++)
		rc = demo_start_member(in, d, &m[i]);
	return rc;
}

/* True when the gateway has every brick of the volume and its names are in place. */
static bool volume_is_ready(const json_t *status)
{
	size_t i, k;
	json_t *v, *set;
	json_array_foreach(json_object_get(status, "volumes"), i, v) {
		bool ready = strcmp(json_string_value(json_object_get(v, "name")), "vol") == 0 && json_is_true(json_object_get(v, "names_ready"));
		json_array_foreach(json_object_get(v, "sets"), k, set)
			ready &= (size_t)json_integer_value(json_object_get(set, "connected")) == json_array_size(json_object_get(set, "bricks"));
		if (ready)
			return true;
	}
	return false;
}

static int wait_volume(const struct invocation *in)
{
	for (int waited_ms = 0; waited_ms < START_TIMEOUT_MS; waited_ms += 20) {
		json_t *status;
		int rc = cluster_ask_gateway(in, "status", json_pack("{s:b}", "fast", 1), &status);
		if (rc != 0)
			return rc;
		bool ready = volume_is_ready(status);
		json_decref(status);
		if (ready)
			return 0;
		usleep(20000);
	}
	return report(in, "E-START-02", EXIT_SYSTEM, "not all of its bricks answer", NULL, "myfs status; myfs brick list", "volume vol of the demo does not come up");
}

static int parse_up(const struct invocation *in, int *ret_nodes, int *ret_gateways, struct volume_plan *plan)
{
	struct err e = ERR_INIT;
	if (layout_parse(opt_value(in, "layout", "4+2"), &plan->k, &plan->r, &e) < 0)
		return usage_error(in, "%s", e.text);
	if (size_parse(opt_value(in, "journal", "64M"), &plan->journal_bytes, &e) < 0 || plan->journal_bytes < MIB(16))
		return usage_error(in, "--journal is at least 16M");
	plan->sets = (uint32_t)atoi(opt_value(in, "sets", "1"));
	int nodes = atoi(opt_value(in, "nodes", "3"));
	int bricks = (int)((plan->k + plan->r) * plan->sets);
	if (nodes < 1 || nodes > DEMO_MAX_NODES || plan->sets < 1 || bricks > VOLUME_MAX_BRICKS)
		return usage_error(in, "--nodes is 1 to %d, --sets at least 1, at most %d bricks in all", DEMO_MAX_NODES, VOLUME_MAX_BRICKS);
	*ret_gateways = atoi(opt_value(in, "gateways", "2"));
	if (*ret_gateways < 1 || *ret_gateways > DEMO_MAX_GATEWAYS)
		return usage_error(in, "--gateways is 1 to %d", DEMO_MAX_GATEWAYS);
	*ret_nodes = nodes;
	plan->chunk_bytes = 16384;
	strcpy(plan->name, "vol");
	return 0;
}

static void plan_demo_bricks(const struct demo *d, int nodes, struct volume_plan *plan)
{
	size_t bricks = (size_t)(plan->k + plan->r) * plan->sets;
	for (size_t i = 0; i < bricks; i++) {
		snprintf(plan->bricks[i].node, REG_NAME, "node%d", (int)(i % (size_t)nodes) + 1);
		snprintf(plan->bricks[i].path, REG_PATH, "%.400s/node%d/b%d", d->dir, (int)(i % (size_t)nodes) + 1, (int)(i / (size_t)nodes) + 1);
	}
	plan->n_bricks = bricks;
}

static void print_up(const struct invocation *in, const struct demo *d, const struct volume_plan *plan)
{
	if (want_quiet(in))
		return;
	printf("Demo cluster is up: %zu bricks, volume vol (EC %" PRIu32 "+%" PRIu32 ", survives %" PRIu32 " bricks)\n  files in %s\n", plan->n_bricks, plan->k,
	       plan->r, layout_survives(plan->k, plan->r), d->dir);
	if (opt_given(in, "dir"))
		printf("  export MYFS_REGISTRY=%s/registry.db\n", d->dir);
	printf("Next:\n  myfs-block create vol/lun 10G\n  myfs status\n  myfs demo kill node2     # SIGKILL: its bricks are gone\n  myfs demo revive node2 && myfs heal status --watch\n"
	       "  myfs demo kill gw1       # its LUNs move to gw2\n  myfs demo down\n");
}

static int run_up(const struct invocation *in)
{
	static struct volume_plan plan;
	struct demo d;
	int nodes = 0, gateways = 0, rc = parse_up(in, &nodes, &gateways, &plan);
	if (rc == 0)
		rc = demo_locate(in, &d);
	if (rc != 0)
		return rc;
	char registry[REG_PATH];
	snprintf(registry, sizeof(registry), "%.400s/registry.db", d.dir);
	setenv("MYFS_REGISTRY", registry, 1);
	bool fresh = !demo_exists(&d);
	if (fresh && !directory_is_empty(d.dir))
		return report(in, "E-EXISTS-03", EXIT_EXISTS, "it holds files that no demo made", "nothing was changed", "choose another: --dir DIR",
		            "%s cannot be used for a demo", d.dir);
	if (fresh)
		say(in, "starting %d nodes and %d gateway%s ...", nodes, gateways, gateways == 1 ? "" : "s");
	else
		say(in, "starting the demo in place again ...");
	if (fresh)
		rc = make_tree(in, &d, nodes, gateways);
	if (rc == 0)
		rc = start_all(in, &d);
	if (rc == 0 && fresh) {
		plan_demo_bricks(&d, nodes, &plan);
		/* All on one disk: the demo shows how it works, it does not keep data safe; a node may hold what the layout allows. */
		plan.force = opt_given(in, "force");
		rc = volume_create(in, &plan);
	}
	if (rc == 0)
		rc = wait_volume(in);
	if (rc == 0)
		print_up(in, &d, &plan);
	return rc;
}

static const struct column DEMO_COLUMNS[] = {
	{"MEMBER", "name", COL_TEXT, false}, {"WHAT", "what", COL_TEXT, false}, {"STATE", "state", COL_TEXT, false}, {"PID", "pid", COL_COUNT, false},
	{"LOG", "log", COL_TEXT, true},
};

static int run_status(const struct invocation *in)
{
	struct demo d;
	struct demo_member m[DEMO_MAX_MEMBERS];
	int rc = demo_locate(in, &d);
	if (rc != 0)
		return rc;
	json_t *rows = json_array();
	int n = demo_exists(&d) ? demo_members(&d, m, DEMO_MAX_MEMBERS) : 0;
	for (int i = 0; i < n; i++) {
		pid_t pid = proc_alive(m[i].pid);
		json_array_append_new(rows, json_pack("{s:s,s:s,s:s,s:o,s:s}", "name", m[i].name, "what", m[i].gateway ? "blockd (gateway)" : "brickd (bricks)",
		                                      "state", pid ? "running" : "dead", "pid", pid ? json_integer(pid) : json_null(), "log", m[i].log));
	}
	return print_rows(in, "myfs.demo/1", DEMO_COLUMNS, ARRAY_LEN(DEMO_COLUMNS), rows, "no demo is up: myfs demo up");
}

typedef int member_fn(const struct invocation *in, const struct demo *d, const struct demo_member *m);

static int for_members(const struct invocation *in, member_fn *fn)
{
	struct demo d;
	struct demo_member m[DEMO_MAX_MEMBERS];
	int n = 0, rc = demo_locate(in, &d);
	for (int i = 0; i < in->n_args && rc == 0; i++) {
		rc = demo_find(in, &d, in->args[i], m, &n);
		for (int k = 0; k < n && rc == 0; k++)
			rc = fn(in, &d, &m[k]);
	}
	return rc;
}

static int kill_member(const struct invocation *in, const struct demo *d, const struct demo_member *m)
{
	(void)d;
	if (proc_alive(m->pid) == 0) {
		say(in, "%s is dead already", m->name);
		return 0;
	}
	if (proc_signal(m->pid, SIGKILL) < 0 || proc_wait_gone(m->pid, STOP_TIMEOUT_MS) < 0)
		return report(in, "E-SYSTEM-02", EXIT_SYSTEM, NULL, NULL, NULL, "%s cannot be killed", m->name);
	say(in, "killed %s with SIGKILL; bring it back with: myfs demo revive %s", m->name, m->name);
	return 0;
}

static int run_kill(const struct invocation *in)
{
	return for_members(in, kill_member);
}

static int revive_member(const struct invocation *in, const struct demo *d, const struct demo_member *m)
{
	int rc = demo_start_member(in, d, m);
	if (rc == 0)
		say(in, "%s is back", m->name);
	return rc;
}

static int run_revive(const struct invocation *in)
{
	return for_members(in, revive_member);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* Kernel targets outlive their gateway, so that it may come back; here it does not. */
static void leave_kernel(const struct demo_member *m, int n)
{
	for (int i = 0; i < n; i++) {
		struct control_error ignored;
		json_t *result = NULL;
		if (m[i].gateway && proc_alive(m[i].pid) != 0)
			control_call(m[i].control, "target.leave", NULL, LEAVE_TIMEOUT_MS, &result, &ignored);
		json_decref(result);
	}
}

/* What this host still remembers of bricks that were killed and never came back. */
static void forget_bricks(const struct demo *d)
{
	char path[REG_PATH], name[REG_BRICK_KEEPSAKE];
	struct registry *r;
	struct reg_brick *v;
	size_t n;
	struct err e = ERR_INIT;

	if ((size_t)snprintf(path, sizeof(path), "%s/registry.db", d->dir) >= sizeof(path) || registry_open(path, false, &r, &e) < 0)
		return;
	if (reg_brick_list(r, NULL, NULL, &v, &n, &e) == 0) {
		for (size_t i = 0; i < n; i++)
			keepsake_remove(reg_brick_keepsake(&v[i].uuid, name));
		free(v);
	}
	registry_close(r);
}

static int run_down(const struct invocation *in)
{
	struct demo d;
	struct demo_member m[DEMO_MAX_MEMBERS];
	int rc = demo_locate(in, &d);
	if (rc != 0)
		return rc;
	if (!demo_exists(&d)) {
		say(in, "no demo is up in %s", d.dir);
		return 0;
	}
	int n = demo_members(&d, m, DEMO_MAX_MEMBERS);
	leave_kernel(m, n);
	/* Gateways first: they hand their last writes to the bricks. */
	for (int i = n - 1; i >= 0; i--) {
		if (proc_signal(m[i].pid, SIGTERM) == 0 && proc_wait_gone(m[i].pid, STOP_TIMEOUT_MS) == 0)
			continue;
		say(in, "%s does not stop, killing it", m[i].name);
		if (proc_signal(m[i].pid, SIGKILL) < 0 || proc_wait_gone(m[i].pid, STOP_TIMEOUT_MS) < 0)
			return report(in, "E-SYSTEM-02", EXIT_SYSTEM, NULL, NULL, NULL, "%s cannot be stopped", m[i].name);
	}
	if (opt_given(in, "keep")) {
		say(in, "demo stopped; its files stay in %s", d.dir);
		return 0;
	}
	forget_bricks(&d);
	if (nftw(d.dir, remove_entry, 32, FTW_DEPTH | FTW_PHYS) != 0)
		return system_failed(in, "cannot remove all of", d.dir);
	say(in, "demo stopped and %s removed", d.dir);
	return 0;
}

#define DIR_OPTION {"dir", 0, "DIR", "where the demo lives (default $MYFS_DEMO_DIR or ~/.local/share/myfs-demo)", false}
static const struct option_def UP_OPTIONS[] = {
	DIR_OPTION,
	{"nodes", 0, "N", "node daemons (default 3)", false},
	{"layout", 0, "K+R", "layout of volume vol (default 4+2)", false},
	{"sets", 0, "N", "brick sets (default 1)", false},
	{"gateways", 0, "N", "gateways gw1, gw2 ... (default 2)", false},
	{"portal", 0, "IP", "offer LUNs over iSCSI there too, gw1 on port 3260, gw2 on 3261 ... (root, tcmu-runner)", false},
	{"journal", 0, "SIZE", "journal of each brick (default 64M)", false},
	{"force", 0, NULL, "accept a layout that one node's loss would break", false},
	{NULL, 0, NULL, NULL, false},
};
static const struct option_def DIR_OPTIONS[] = {DIR_OPTION, {NULL, 0, NULL, NULL, false}};
static const struct option_def DOWN_OPTIONS[] = {
	DIR_OPTION,
	{"keep", 0, NULL, "leave the files, for another demo up", false},
	{NULL, 0, NULL, NULL, false},
};

const struct command DEMO_COMMANDS[] = {
	{"demo up", NULL, "", "start a private cluster on this machine", "  myfs demo up\n  myfs demo up --layout 2+1 --dir /tmp/d", 0, 0, UP_OPTIONS, run_up},
	{"demo status", NULL, "", "which demo daemons run", NULL, 0, 0, DIR_OPTIONS, run_status},
	{"demo kill", NULL, "MEMBER...", "SIGKILL a node (all its bricks) or a gateway; \"gateway\" is all of them", "  myfs demo kill node2\n  myfs demo kill gw1", 1, MAX_ARGS, DIR_OPTIONS, run_kill},
	{"demo revive", NULL, "MEMBER...", "start a killed member again", "  myfs demo revive node2", 1, MAX_ARGS, DIR_OPTIONS, run_revive},
	{"demo down", NULL, "", "stop the demo and remove its files", "  myfs demo down --keep", 0, 0, DOWN_OPTIONS, run_down},
	{NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
