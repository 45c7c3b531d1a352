/* test_lun_target.c - how LUNs are offered: names of clients, admission to NBD, secrets, and the way from a registry
 * row to the kernel's tree and back to what commands show. The passes run in place, over a directory that behaves like
 * the kernel; what myfs-lio adds to them (a process, pipes) is in tests/vm. */
#include "tests/unit/blockd_fixture.h"

#include "blockd/control.h"
#include "blockd/lio.h"
#include "blockd/lio_sessions.h"
#include "tests/unit/lio_kernel.h"

/* The body runs in a fiber. */
#define TEST(name)                                                                                                     \
	static void name##_body(void *arg);                                                                            \
	static void name(void **state)                                                                                 \
	{                                                                                                              \
		(void)state;                                                                                           \
		on_backend(LOOP_EPOLL, name##_body);                                                                   \
	}                                                                                                              \
	static void name##_body(void *arg __attribute__((unused)))

/* ---- a host ---- */

static struct lio_kernel *kernel;
static bool runner_runs, host_broken;
static const char portals[1][LIO_PORTAL] = {"192.0.2.11:3260"};

static void tell(void (*line)(void *arg, const json_t *doc), void *arg, json_t *doc)
{
	line(arg, doc);
	json_decref(doc);
}

static void tell_result(void (*line)(void *arg, const json_t *doc), void *arg, const char *iqn, int rc,
			const struct err *e)
{
	bool waits = rc == -EHOSTDOWN || rc == -EAGAIN;

	tell(line, arg,
	     json_pack("{s:s,s:s,s:s}", "iqn", iqn, "state",
		       rc == 0 ? "ok"
		       : waits ? "waiting"
			       : "error",
		       "why", e->text));
}

/* One pass, as the program would make it. */
static int pass_in_place(void *arg, json_t *request, void (*line)(void *line_arg, const json_t *doc), void *line_arg,
			 struct err *e)
{
	struct lio_want want = {.hba = 0};
	struct lio_tree tree = {.fs = &kernel->fs, .want = &want, .runner = runner_runs};
	json_t *sessions = NULL;

	(void)arg;
	if (host_broken)
		return err_set(e, -ENOENT, "myfs-lio cannot be started");
	CHECK(lio_want_parse(request, &want, e) == 0);
	if (json_is_true(json_object_get(request, "sessions"))) {
		CHECK(lio_sessions_read(&tree, &sessions, e) == 0);
		tell(line, line_arg, json_pack("{s:b,s:o}", "done", 1, "sessions", sessions));
		lio_want_free(&want);
		return 0;
	}
	for (size_t i = 0; i < want.remove_n; i++) {
		struct err why = ERR_INIT;
		int rc = lio_target_remove(&tree, want.remove[i], &why);

		tell_result(line, line_arg, want.remove[i], rc, &why);
	}
	if (want.complete)
		lio_strays_remove(&tree, NULL);
	for (size_t i = 0; i < want.targets_n; i++) {
		struct err why = ERR_INIT;
		int rc = lio_target_apply(&tree, &want.targets[i], &why);

		tell_result(line, line_arg, want.targets[i].iqn, rc, &why);
	}
	tell(line, line_arg,
	     json_pack("{s:b,s:s?,s:s?,s:n}", "done", 1, "lack", runner_runs ? NULL : "runner", "why",
		       runner_runs ? NULL : "tcmu-runner is not running", "next"));
	lio_want_free(&want);
	return 0;
}

static void stop_nothing(void *arg)
{
	(void)arg;
}

static const struct lio_runner in_place = {.pass = pass_in_place, .stop = stop_nothing};

/* A gateway with one portal. */
static struct blockd *gateway_with_portal(void)
{
	struct blockd *d = gateway_start("gw");
	struct lio_config cfg = {.configfs = "/nowhere",
				 .socket = LIO_NBD_SOCKET_DEFAULT,
				 .portals = portals,
				 .portals_n = 1,
				 .runner = &in_place};

	snprintf(d->self.portals, sizeof(d->self.portals), "%s", portals[0]);
	CHECK(reg_gateway_put(d->registry, &d->self, NULL) == 0);
	CHECK(lio_start(d, &cfg, NULL) == 0);
	return d;
}

static void world_new(void)
{
	fixture_new(1);
	kernel = lio_kernel_new();
	runner_runs = true;
	host_broken = false;
}

static void world_end(void)
{
	lio_kernel_free(kernel);
	fixture_end();
}

/* Runs one method; 0 with *ret (owned) or the exit code of its error. */
static int call(struct blockd *d, const char *method, json_t *params, json_t **ret)
{
	struct control_error error = {.code = ""};
	json_t *result = NULL;

	for (const struct control_method *m = blockd_methods; m->name; m++) {
		if (strcmp(m->name, method) != 0)
			continue;
		int rc = m->run(d, params, &result, &error);
		json_decref(params);
		CHECK(rc == 0 || (error.code[0] && error.message[0]));
		if (ret && rc == 0)
			*ret = result;
		else
			json_decref(result);
		return rc == 0 ? 0 : error.exit_code;
	}
	const bool method_known = false;
	CHECK(method_known);
	return -1;
}

static void make(struct blockd *d, const char *name, json_t *more)
{
	json_t *params = json_pack("{s:s,s:s,s:i}", "volume", "vol", "name", name, "size_bytes", 1 << 20);

	json_object_update(params, more);
	json_decref(more);
	CHECK(call(d, "lun.create", params, NULL) == 0);
}

static json_t *spec(const char *name)
{
	return json_pack("{s:s}", "spec", name);
}

static void check_state(struct blockd *d, const char *name, const char *state)
{
	json_t *t = NULL;

	CHECK(call(d, "target.info", spec(name), &t) == 0);
	CHECK(strcmp(json_string_value(json_object_get(t, "state")), state) == 0);
	json_decref(t);
}

static char *iqn_of(struct blockd *d, const char *name, char out[REG_IQN])
{
	json_t *t = NULL;

	CHECK(call(d, "target.info", spec(name), &t) == 0);
	snprintf(out, REG_IQN, "%s", json_string_value(json_object_get(t, "iqn")));
	json_decref(t);
	return out;
}

static bool in_kernel(const char *fmt, const char *iqn)
{
	char path[LIO_PATH], full[LIO_PATH + 80];
	struct stat st;

	snprintf(path, sizeof(path), "iscsi/%s/tpgt_1/%s", iqn, fmt);
	snprintf(full, sizeof(full), "%s/%s", kernel->root, path);
	return lstat(full, &st) == 0;
}

static void log_in(const char *iqn, const char *initiator)
{
	char dir[LIO_PATH];

	snprintf(dir, sizeof(dir), "iscsi/%s/tpgt_1/acls/%s", iqn, initiator);
	kernel_put(kernel, dir, "info",
		   "Session State: TARG_SESS_STATE_LOGGED_IN\n   Address 192.0.2.50 TCP  StatSN: 0x1\n");
}

static void log_out(const char *iqn, const char *initiator)
{
	char dir[LIO_PATH];

	snprintf(dir, sizeof(dir), "iscsi/%s/tpgt_1/acls/%s", iqn, initiator);
	kernel_put(kernel, dir, "info", "No active iSCSI Session for Initiator Endpoint\n");
}

/* ---- names ---- */

static void who_may_be_named(void **state)
{
	static const struct {
		const char *text, *kept;
		int kind; /* -1: refused */
	} cases[] = {
	    {"iqn.1993-08.org.debian:01:abc", "iqn.1993-08.org.debian:01:abc", WHO_INITIATOR},
	    {"IQN.1991-05.com.Microsoft:PC", "iqn.1991-05.com.microsoft:pc", WHO_INITIATOR},
	    {"eui.02004567A425678D", "eui.02004567a425678d", WHO_INITIATOR},
	    {"192.0.2.50", "192.0.2.50", WHO_ADDRESS},
	    {"192.0.2.50/32", "192.0.2.50", WHO_ADDRESS},
	    {"192.0.2.77/24", "192.0.2.0/24", WHO_ADDRESS},
	    {"0.0.0.0/0", "0.0.0.0/0", WHO_ADDRESS},
	    {"2001:DB8::1/33", "2001:db8::/33", WHO_ADDRESS},
	    {"iqn.1993-08.org.debian:01/../x", "", -1},
	    {"iqn.", "", -1},
	    {"192.0.2.0/33", "", -1},
	    {"192.0.2.0/", "", -1},
	    {"192.0.2.0/-1", "", -1},
	    {"192.0.2", "", -1},
	    {"host.example", "", -1},
	    {"", "", -1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char kept[REG_WHO] = "";
		enum who_kind kind = WHO_ADDRESS;
		struct err e = ERR_INIT;
		int rc = who_parse(cases[i].text, kept, &kind, &e);

		assert_int_equal(rc, cases[i].kind < 0 ? -EINVAL : 0);
		if (rc == 0)
			assert_true(strcmp(kept, cases[i].kept) == 0 && (int)kind == cases[i].kind);
	}
}

static void ranges_cover_the_addresses_of_peers(void **state)
{
	static const struct {
		const char *range, *peer;
		bool covered;
	} cases[] = {
	    {"192.0.2.50", "192.0.2.50:4711", true},
	    {"192.0.2.50", "192.0.2.5:4711", false},
	    {"192.0.2.0/24", "192.0.2.255:1", true},
	    {"192.0.2.0/25", "192.0.2.128:1", false},
	    {"192.0.2.0/24", "[::ffff:192.0.2.9]:1", true},
	    {"0.0.0.0/0", "203.0.113.1:1", true},
	    {"0.0.0.0/0", "[2001:db8::1]:1", false},
	    {"2001:db8::/32", "[2001:db8:1::1]:1", true},
	    {"2001:db8::/32", "[2001:db9::1]:1", false},
	    {"iqn.1993-08.org.debian:01:abc", "192.0.2.50:4711", false},
	    {"192.0.2.0/24", "unix uid 0 pid 1", false},
	    {"192.0.2.0/24", "unknown", false},
	    {"192.0.2.0/24", "", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(who_covers(cases[i].range, cases[i].peer), cases[i].covered);
}

static void portals_are_addresses_with_ports(void **state)
{
	static const struct {
		const char *text, *kept;
	} cases[] = {
	    {"192.0.2.11", "192.0.2.11:3260"},
	    {"192.0.2.11:3261", "192.0.2.11:3261"},
	    {"0.0.0.0", "0.0.0.0:3260"},
	    {"[2001:DB8::1]:3260", "[2001:db8::1]:3260"},
	    {"[::]", "[::]:3260"},
	    {"host", NULL},
	    {"192.0.2.11:", NULL},
	    {"192.0.2.11:0", NULL},
	    {"192.0.2.11:65536", NULL},
	    {"192.0.2.11:3260x", NULL},
	    {"[2001:db8::1", NULL},
	    {"[2001:db8::1]x", NULL},
	    {"2001:db8::1", NULL},
	    {"", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char kept[LIO_PORTAL] = "";
		struct err e = ERR_INIT;

		assert_int_equal(lio_portal_parse(cases[i].text, kept, &e), cases[i].kept ? 0 : -EINVAL);
		CHECK(strcmp(kept, cases[i].kept ? cases[i].kept : "") == 0);
	}
}

/* ---- NBD ---- */

static int attach_from(struct blockd *d, const char *lun, const char *address)
{
	struct nbd_provider p = exports_provider(d);
	struct stream peer = {.is_unix = address == NULL};
	struct nbd_export_info info;
	struct nbd_export *x;
	struct err e = ERR_INIT;
	int rc;

	snprintf(peer.peer, sizeof(peer.peer), "%s", address ? address : "unix uid 0 pid 1");
	rc = p.open(d, lun, &peer, &x, &info, &e);
	if (rc == 0)
		p.close(x);
	return rc;
}

static void count_name(void *arg, const char *name, const char *description)
{
	(void)name, (void)description;
	++*(unsigned *)arg;
}

TEST(over_nbd_nobody_is_admitted_who_was_not_named)
{
	struct stream stranger = {.peer = "203.0.113.1:5"};
	struct blockd *d;
	unsigned seen = 0;

	world_new();
	d = gateway_start("gw");
	make(d, "lun", json_pack("{s:[s]}", "allow", "192.0.2.0/24"));
	make(d, "free", json_pack("{s:b}", "open", 1));
	CHECK(attach_from(d, "vol/lun", NULL) == 0);
	CHECK(attach_from(d, "vol/lun", "192.0.2.9:5") == 0);
	CHECK(attach_from(d, "vol/lun", "203.0.113.1:5") == -EACCES);
	CHECK(attach_from(d, "vol/free", "203.0.113.1:5") == 0);
	exports_provider(d).list(d, &stranger, count_name, &seen);
	CHECK(seen == 1);
	CHECK(call(d, "acl.add", json_pack("{s:s,s:[s]}", "spec", "vol/lun", "who", "203.0.113.1"), NULL) == 0);
	CHECK(attach_from(d, "vol/lun", "203.0.113.1:5") == 0);
	CHECK(call(d, "acl.remove", json_pack("{s:s,s:[s,s]}", "spec", "vol/lun", "who", "203.0.113.1", "198.51.100.1"),
		   NULL) == 5);
	CHECK(attach_from(d, "vol/lun", "203.0.113.1:5") == 0); /* all or nothing */
	CHECK(call(d, "acl.remove", json_pack("{s:s,s:[s]}", "spec", "vol/lun", "who", "203.0.113.1"), NULL) == 0);
	CHECK(attach_from(d, "vol/lun", "203.0.113.1:5") == -EACCES);
	CHECK(call(d, "acl.add", json_pack("{s:s,s:[s]}", "spec", "vol/lun", "who", "any"), NULL) == 0);
	CHECK(attach_from(d, "vol/lun", "203.0.113.1:5") == 0);
	CHECK(call(d, "acl.add", json_pack("{s:s,s:[s]}", "spec", "vol/lun", "who", "no_body"), NULL) == 64);
	CHECK(call(d, "acl.add", spec("vol/lun"), NULL) == 64);
	CHECK(call(d, "target.enable", json_pack("{s:s,s:[s]}", "spec", "vol/lun", "protos", "iscsi"), NULL) ==
	      2); /* no portal */
	blockd_stop(d);
	world_end();
}

/* ---- iSCSI ---- */

TEST(a_new_lun_is_exported_when_create_returns_and_gone_after_delete)
{
	char iqn[REG_IQN];
	struct blockd *d;

	world_new();
	d = gateway_with_portal();
	make(d, "lun", json_pack("{s:[s]}", "allow", "iqn.1993-08.org.debian:01:abc"));
	check_state(d, "vol/lun", "exported");
	iqn_of(d, "vol/lun", iqn);
	CHECK(strncmp(iqn, "iqn.2026-11.internal.myfs:", 26) == 0 && strcmp(iqn + 26 + 8, ":vol.lun") == 0);
	CHECK(in_kernel("np/192.0.2.11:3260", iqn) && in_kernel("acls/iqn.1993-08.org.debian:01:abc/lun_0/myfs", iqn));
	CHECK(call(d, "target.disable", spec("vol/lun"), NULL) == 0);
	check_state(d, "vol/lun", "disabled");
	CHECK(!in_kernel("", iqn));
	CHECK(call(d, "target.enable", spec("vol/lun"), NULL) == 0);
	CHECK(in_kernel("lun/lun_0/myfs", iqn));
	CHECK(call(d, "lun.delete", spec("vol/lun"), NULL) == 0);
	CHECK(!in_kernel("", iqn));
	CHECK(call(d, "trash.restore", spec("vol/lun"), NULL) == 0);
	CHECK(in_kernel("lun/lun_0/myfs", iqn));
	CHECK(call(d, "trash.list", NULL, NULL) == 0);
	blockd_stop(d);
	CHECK(in_kernel("lun/lun_0/myfs", iqn)); /* a gateway that stops comes back */
	world_end();
}

TEST(a_lun_somebody_is_logged_in_to_is_neither_deleted_nor_taken_away)
{
	static const char who[] = "iqn.1993-08.org.debian:01:abc";
	json_t *list = NULL;
	char iqn[REG_IQN];
	struct blockd *d;

	world_new();
	d = gateway_with_portal();
	make(d, "lun", json_pack("{s:[s]}", "allow", who));
	log_in(iqn_of(d, "vol/lun", iqn), who);
	CHECK(call(d, "session.list", NULL, &list) == 0);
	const json_t *s = json_array_get(json_object_get(list, "items"), 0);
	CHECK(strcmp(json_string_value(json_object_get(s, "peer")), who) == 0);
	CHECK(strcmp(json_string_value(json_object_get(s, "proto")), "iscsi") == 0);
	json_decref(list);
	CHECK(call(d, "lun.delete", spec("vol/lun"), NULL) == 6);
	CHECK(call(d, "target.disable", spec("vol/lun"), NULL) == 6);
	CHECK(call(d, "acl.remove", json_pack("{s:s,s:[s]}", "spec", "vol/lun", "who", who), NULL) == 6);
	CHECK(call(d, "lun.resize",
		   json_pack("{s:s,s:i,s:b}", "spec", "vol/lun", "size_bytes", 1 << 19, "allow_shrink", 1), NULL) == 6);
	check_state(d, "vol/lun", "exported");
	CHECK(call(d, "target.disable", json_pack("{s:s,s:b}", "spec", "vol/lun", "force", 1), NULL) == 0);
	CHECK(!in_kernel("", iqn));
	CHECK(call(d, "target.enable", spec("vol/lun"), NULL) == 0);
	log_out(iqn, who);
	CHECK(call(d, "lun.delete", spec("vol/lun"), NULL) == 0);
	blockd_stop(d);
	world_end();
}

TEST(a_lun_that_nbd_clients_use_keeps_its_target_when_it_is_not_deleted)
{
	struct nbd_provider p;
	struct nbd_export_info info;
	struct nbd_export *x;
	char iqn[REG_IQN];
	struct blockd *d;

	world_new();
	d = gateway_with_portal();
	make(d, "lun", json_object());
	iqn_of(d, "vol/lun", iqn);
	p = exports_provider(d);
	CHECK(p.open(d, "vol/lun", NULL, &x, &info, NULL) == 0);
	CHECK(call(d, "lun.delete", spec("vol/lun"), NULL) == 6);
	CHECK(lio_settle(d, NS_PER_S) == 0);
	CHECK(in_kernel("lun/lun_0/myfs", iqn));
	p.close(x);
	blockd_stop(d);
	world_end();
}

TEST(what_the_host_lacks_is_told_and_made_good_later)
{
	json_t *status = NULL;
	struct blockd *d;

	world_new();
	host_broken = true;
	d = gateway_with_portal();
	make(d, "lun", json_object());
	check_state(d, "vol/lun", "waiting");
	CHECK(call(d, "status", NULL, &status) == 0);
	const json_t *iscsi = json_object_get(status, "iscsi");
	CHECK(strcmp(json_string_value(json_object_get(iscsi, "state")), "unavailable") == 0);
	CHECK(strcmp(json_string_value(json_object_get(iscsi, "why")), "myfs-lio cannot be started") == 0);
	json_decref(status);
	host_broken = false;
	runner_runs = false;
	CHECK(lio_settle(d, NS_PER_S) == 0);
	check_state(d, "vol/lun", "waiting");
	CHECK(attach_from(d, "vol/lun", NULL) == 0); /* NBD goes on */
	runner_runs = true;
	CHECK(lio_settle(d, NS_PER_S) == 0);
	check_state(d, "vol/lun", "exported");
	blockd_stop(d);
	world_end();
}

TEST(after_a_restart_targets_are_as_the_registry_wants_them)
{
	char iqn[REG_IQN], gone[REG_IQN], path[LIO_PATH];
	struct reg_target t;
	struct blockd *d;
	struct reg_lun row;

	world_new();
	d = gateway_with_portal();
	make(d, "lun", json_object());
	make(d, "gone", json_object());
	iqn_of(d, "vol/lun", iqn);
	iqn_of(d, "vol/gone", gone);
	blockd_stop(d);
	/* Meanwhile somebody turned authentication off, and a LUN was disabled with the gateway away. */
	snprintf(path, sizeof(path), "iscsi/%s/tpgt_1/attrib", iqn);
	kernel_put(kernel, path, "authentication", "0");
	d = gateway_start("gw");
	CHECK(reg_lun_get(d->registry, "vol", "gone", &row, NULL) == 0);
	target_load(d, &row.gfid, &t);
	t.enabled = 0;
	CHECK(reg_target_put(d->registry, &t, NULL) == 0);
	blockd_stop(d);
	d = gateway_with_portal();
	CHECK(lio_settle(d, 5 * NS_PER_S) == 0);
	char value[LIO_VALUE];
	snprintf(path, sizeof(path), "iscsi/%s/tpgt_1/attrib/authentication", iqn);
	CHECK(kernel->plain.read(&kernel->plain, path, value) == 0);
	CHECK(strcmp(value, "1") == 0);
	CHECK(!in_kernel("", gone));
	CHECK(lio_leave(d, NULL) == 0);
	CHECK(!in_kernel("", iqn));
	blockd_stop(d);
	world_end();
}

TEST(a_lun_that_another_gateway_owns_is_not_exported_here)
{
	struct reg_lun row;
	char iqn[REG_IQN];
	struct blockd *d;

	world_new();
	d = gateway_with_portal();
	make(d, "lun", json_object());
	iqn_of(d, "vol/lun", iqn);
	CHECK(reg_lun_get(d->registry, "vol", "lun", &row, NULL) == 0);
	snprintf(row.owner, sizeof(row.owner), "elsewhere");
	CHECK(reg_lun_put(d->registry, &row, NULL) == 0);
	CHECK(lio_settle(d, NS_PER_S) == 0);
	CHECK(!in_kernel("", iqn));
	check_state(d, "vol/lun", "elsewhere");
	blockd_stop(d);
	world_end();
}

TEST(another_gateway_gets_a_lun_nobody_uses_and_no_other)
{
	static const char who[] = "iqn.1993-08.org.debian:01:abc";
	char iqn[REG_IQN], id[GFID_TEXT];
	struct nbd_provider p;
	struct nbd_export_info info;
	struct nbd_export *x;
	struct blockd *d;
	struct reg_lun row;
	unsigned changes;

	world_new();
	d = gateway_with_portal();
	make(d, "lun", json_pack("{s:[s]}", "allow", who));
	iqn_of(d, "vol/lun", iqn);
	CHECK(reg_lun_get(d->registry, "vol", "lun", &row, NULL) == 0);
	gfid_text(&row.gfid, id);
	changes = kernel->changes;
	p = exports_provider(d);
	CHECK(p.open(d, "vol/lun", NULL, &x, &info, NULL) == 0);
	CHECK(call(d, "lun.release", json_pack("{s:s}", "gfid", id), NULL) == 6);
	p.close(x);
	log_in(iqn, who);
	CHECK(call(d, "lun.release", json_pack("{s:s}", "gfid", id), NULL) == 6);
	CHECK(lio_settle(d, NS_PER_S) == 0);
	CHECK(kernel->changes == changes); /* not even for a moment */
	log_out(iqn, who);
	CHECK(call(d, "lun.release", json_pack("{s:s}", "gfid", id), NULL) == 0);
	CHECK(!in_kernel("", iqn));
	lio_readmit(d, &row.gfid); /* nobody took it after all */
	CHECK(lio_settle(d, NS_PER_S) == 0);
	CHECK(in_kernel("lun/lun_0/myfs", iqn));
	blockd_stop(d);
	world_end();
}

/* ---- secrets ---- */

static json_t *auth_of(struct blockd *d, bool secret)
{
	json_t *doc = NULL;

	CHECK(call(d, "auth.show", json_pack("{s:s,s:b}", "spec", "vol/lun", "secret", (int)secret), &doc) == 0);
	return doc;
}

static int set_auth(struct blockd *d, const char *how, const char *secret, bool mutual)
{
	return call(
	    d, "auth.set",
	    json_pack("{s:s,s:s*,s:s*,s:b}", "spec", "vol/lun", "auth", how, "secret", secret, "mutual", (int)mutual),
	    NULL);
}

TEST(secrets_are_made_kept_rotated_and_shown_only_when_asked_for)
{
	char first[REG_CHAP], path[LIO_PATH], value[LIO_VALUE], iqn[REG_IQN];
	struct blockd *d;
	json_t *doc;

	world_new();
	d = gateway_with_portal();
	make(d, "lun", json_object());
	doc = auth_of(d, false);
	CHECK(!json_object_get(doc, "secret"));
	CHECK(strcmp(json_string_value(json_object_get(doc, "user")), "vol.lun") == 0);
	json_decref(doc);
	doc = auth_of(d, true);
	snprintf(first, sizeof(first), "%s", json_string_value(json_object_get(doc, "secret")));
	CHECK(strlen(first) >= CHAP_SECRET_MIN && strlen(first) <= CHAP_SECRET_MAX);
	json_decref(doc);
	CHECK(call(d, "auth.rotate", spec("vol/lun"), NULL) == 0);
	doc = auth_of(d, true);
	const char *second = json_string_value(json_object_get(doc, "secret"));
	CHECK(strcmp(first, second) != 0);
	snprintf(path, sizeof(path), "iscsi/%s/tpgt_1/auth/password", iqn_of(d, "vol/lun", iqn));
	CHECK(kernel->plain.read(&kernel->plain, path, value) == 0);
	CHECK(strcmp(value, second) == 0);
	json_decref(doc);
	CHECK(set_auth(d, NULL, "short", false) == 64);
	CHECK(set_auth(d, NULL, "seventeen-letters", false) == 64);
	CHECK(set_auth(d, NULL, "with a space in", false) == 64);
	CHECK(set_auth(d, NULL, "NULLNULLNULL", false) == 64);
	CHECK(set_auth(d, "kerberos", NULL, false) == 64);
	CHECK(set_auth(d, NULL, "same-for-both", false) == 0);
	CHECK(set_auth(d, NULL, "same-for-both", true) == 64);
	CHECK(set_auth(d, "mutual", NULL, false) == 0);
	doc = auth_of(d, true);
	CHECK(strlen(json_string_value(json_object_get(doc, "mutual_secret"))) == CHAP_SECRET_MAX);
	json_decref(doc);
	CHECK(set_auth(d, "none", NULL, false) == 0);
	snprintf(path, sizeof(path), "iscsi/%s/tpgt_1/attrib/authentication", iqn);
	CHECK(kernel->plain.read(&kernel->plain, path, value) == 0);
	CHECK(strcmp(value, "0") == 0);
	blockd_stop(d);
	world_end();
}

TEST(names_that_would_share_an_iqn_get_two)
{
	char a[REG_IQN], b[REG_IQN];
	struct blockd *d;

	world_new();
	d = gateway_with_portal();
	make(d, "a_b", json_object());
	make(d, "a-b", json_object());
	iqn_of(d, "vol/a_b", a);
	iqn_of(d, "vol/a-b", b);
	CHECK(!strchr(a, '_') && strcmp(a, b) != 0 && strncmp(b, a, strlen(a)) == 0);
	check_state(d, "vol/a_b", "exported");
	check_state(d, "vol/a-b", "exported");
	blockd_stop(d);
	world_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(who_may_be_named),
	    cmocka_unit_test(ranges_cover_the_addresses_of_peers),
	    cmocka_unit_test(portals_are_addresses_with_ports),
	    cmocka_unit_test(over_nbd_nobody_is_admitted_who_was_not_named),
	    cmocka_unit_test(a_new_lun_is_exported_when_create_returns_and_gone_after_delete),
	    cmocka_unit_test(a_lun_somebody_is_logged_in_to_is_neither_deleted_nor_taken_away),
	    cmocka_unit_test(a_lun_that_nbd_clients_use_keeps_its_target_when_it_is_not_deleted),
	    cmocka_unit_test(what_the_host_lacks_is_told_and_made_good_later),
	    cmocka_unit_test(after_a_restart_targets_are_as_the_registry_wants_them),
	    cmocka_unit_test(a_lun_that_another_gateway_owns_is_not_exported_here),
	    cmocka_unit_test(another_gateway_gets_a_lun_nobody_uses_and_no_other),
	    cmocka_unit_test(secrets_are_made_kept_rotated_and_shown_only_when_asked_for),
	    cmocka_unit_test(names_that_would_share_an_iqn_get_two),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
