/* cmd_target.c - myfs-block target, acl, auth, initiator-config: how LUNs are offered and who may attach. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/access.h"
#include "cli/cluster.h"
#include "cli/cmd.h"
#include "cli/field.h"
#include "cli/table.h"
#include "cli/words.h"

#define SECRET_MAX 256

static int check_spec(const struct invocation *in, const char *spec)
{
	char volume[64], name[64];
	struct err e = ERR_INIT;
	return spec_parse(spec, volume, name, &e) == 0 ? 0 : usage_error(in, "%s", e.text);
}

/* Asks with {"spec": first argument, ...more}; more is consumed. */
static int ask(const struct invocation *in, const char *method, json_t *more, json_t **ret)
{
	int rc = check_spec(in, in->args[0]);
	if (rc != 0) {
		json_decref(more);
		return rc;
	}
	json_object_set_new(more, "spec", json_string(in->args[0]));
	return cluster_ask_gateway(in, method, more, ret);
}

/* ---- target ---- */

static const struct column TARGET_COLUMNS[] = {
	{"NAME", "name", COL_TEXT, false},   {"PROTO", "protos", COL_TEXT, false},      {"STATE", "state", COL_TEXT, false},   {"IQN", "iqn", COL_TEXT, false},
	{"PORTALS", "portals", COL_TEXT, false}, {"AUTH", "auth", COL_TEXT, false},     {"OPEN", "open", COL_TEXT, false},     {"ALLOW", "allow", COL_TEXT, false},
	{"GATEWAY", "gateway", COL_TEXT, true}, {"ENABLED", "enabled", COL_TEXT, true}, {"WHY", "why", COL_TEXT, true},        {"USER", "user", COL_TEXT, true},
};

static int run_target_list(const struct invocation *in)
{
	json_t *result, *params = json_object();
	if (in->n_args == 1)
		json_object_set_new(params, "volume", json_string(in->args[0]));
	int rc = cluster_ask_gateway(in, "target.list", params, &result);
	if (rc != 0)
		return rc;
	json_t *items = json_incref(json_object_get(result, "items"));
	json_decref(result);
	return print_rows(in, "myfs.targets/1", TARGET_COLUMNS, ARRAY_LEN(TARGET_COLUMNS), items, "no LUNs yet; create one with: myfs-block create vol/lun 10G");
}

static void print_texts(const char *head, const json_t *list, const char *otherwise)
{
	printf("  %-9s", head);
	for (size_t i = 0; i < json_array_size(list); i++)
		printf("%s%s", i ? " " : "", json_string_value(json_array_get(list, i)));
	printf("%s\n", json_array_size(list) == 0 ? otherwise : "");
}

static void print_target(const json_t *t)
{
	const char *why = field_text(t, "why", NULL), *auth = field_text(t, "auth", "none");
	printf("%s\n  iscsi    %s%s%s\n", field_text(t, "name", "-"), field_text(t, "state", "-"), why != NULL ? ": " : "", why != NULL ? why : "");
	if (json_is_string(json_object_get(t, "iqn"))) {
		printf("  iqn      %s\n", field_text(t, "iqn", "-"));
		print_texts("portals", json_object_get(t, "portals"), "none: the gateway was started without --portal");
		printf("  auth     %s%s%s\n", auth, strcmp(auth, "none") != 0 ? ", user " : "", strcmp(auth, "none") != 0 ? field_text(t, "user", "-") : "");
	}
	print_texts("offered", json_object_get(t, "protos"), "over nothing");
	if (json_is_true(json_object_get(t, "open")))
		printf("  allowed  anybody\n");
	else
		print_texts("allowed", json_object_get(t, "allow"), "local sockets only");
	size_t i;
	const json_t *s;
	json_array_foreach(json_object_get(t, "sessions"), i, s)
		printf("  session  %s %s\n", field_text(s, "initiator", "-"), json_array_size(json_object_get(s, "addresses")) ? json_string_value(json_array_get(json_object_get(s, "addresses"), 0)) : "");
}

static int show_target(const struct invocation *in, json_t *target)
{
	if (want_json(in))
		return print_json("myfs.target/1", target);
	if (!want_quiet(in))
		print_target(target);
	json_decref(target);
	return 0;
}

static int run_target_info(const struct invocation *in)
{
	json_t *target;
	int rc = ask(in, "target.info", json_object(), &target);
	return rc != 0 ? rc : show_target(in, target);
}

static int run_target_enable(const struct invocation *in)
{
	json_t *target, *params = json_object();
	const char *proto = opt_value(in, "proto", NULL);
	if (proto != NULL) {
		json_t *list = protos_parse(proto);
		if (list == NULL) {
			json_decref(params);
			return usage_error(in, "--proto is iscsi, nbd or iscsi,nbd, not \"%s\"", proto);
		}
		json_object_set_new(params, "protos", list);
	}
	int rc = ask(in, "target.enable", params, &target);
	return rc != 0 ? rc : show_target(in, target);
}

static int run_target_disable(const struct invocation *in)
{
	json_t *target;
	int rc = ask(in, "target.disable", json_pack("{s:b}", "force", (int)opt_given(in, "force")), &target);
	return rc != 0 ? rc : show_target(in, target);
}

/* ---- acl ---- */

static int change_acl(const struct invocation *in, const char *method)
{
	json_t *target, *who = json_array();
	for (int i = 1; i < in->n_args; i++)
		json_array_append_new(who, json_string(in->args[i]));
	int rc = ask(in, method, json_pack("{s:o,s:b}", "who", who, "force", (int)opt_given(in, "force")), &target);
	if (rc != 0)
		return rc;
	if (want_json(in))
		return print_json("myfs.target/1", target);
	if (!want_quiet(in)) {
		const json_t *allow = json_object_get(target, "allow");
		printf("%s may be attached by %s", field_text(target, "name", "-"), json_is_true(json_object_get(target, "open")) ? "anybody" : "local sockets");
		for (size_t i = 0; i < json_array_size(allow); i++)
			printf(", %s", json_string_value(json_array_get(allow, i)));
		printf("\n");
	}
	json_decref(target);
	return 0;
}

static int run_acl_add(const struct invocation *in)
{
	return change_acl(in, "acl.add");
}

static int run_acl_remove(const struct invocation *in)
{
	return change_acl(in, "acl.remove");
}

static const struct column ACL_COLUMNS[] = {{"WHO", "who", COL_TEXT, false}, {"PROTO", "proto", COL_TEXT, false}};

static int run_acl_list(const struct invocation *in)
{
	json_t *result;
	int rc = ask(in, "acl.list", json_object(), &result);
	if (rc != 0)
		return rc;
	json_t *items = json_incref(json_object_get(result, "items"));
	json_decref(result);
	return print_rows(in, "myfs.acl/1", ACL_COLUMNS, ARRAY_LEN(ACL_COLUMNS), items, "only local sockets may attach it");
}

/* ---- auth ---- */

static int show_auth(const struct invocation *in, json_t *auth)
{
	if (want_json(in))
		return print_json("myfs.auth/1", auth);
	if (!want_quiet(in)) {
		const char *how = field_text(auth, "auth", "none");
		printf("%s  %s\n", field_text(auth, "name", "-"), strcmp(how, "none") == 0 ? "no authentication" : strcmp(how, "mutual") == 0 ? "mutual CHAP" : "CHAP");
		printf("  user           %s\n", field_text(auth, "user", "-"));
		if (json_object_get(auth, "secret") != NULL)
			printf("  secret         %s\n", field_text(auth, "secret", "-"));
		if (strcmp(how, "mutual") == 0) {
			printf("  target's user  %s\n", field_text(auth, "mutual_user", "-"));
			if (json_object_get(auth, "mutual_secret") != NULL)
				printf("  its secret     %s\n", field_text(auth, "mutual_secret", "-"));
		}
	}
	json_decref(auth);
	return 0;
}

static int run_auth_show(const struct invocation *in)
{
	json_t *auth;
	int rc = ask(in, "auth.show", json_pack("{s:b}", "secret", (int)opt_given(in, "secret")), &auth);
	return rc != 0 ? rc : show_auth(in, auth);
}

static int run_auth_rotate(const struct invocation *in)
{
	json_t *auth;
	int rc = ask(in, "auth.rotate", json_object(), &auth);
	if (rc != 0)
		return rc;
	say(in, "The next login needs the new secret; sessions that exist go on. Show it: myfs-block auth show %s --secret", in->args[0]);
	return show_auth(in, auth);
}

/* The first line of a file or of standard input ("-"): never from the command line, where others can read it. */
static int read_secret(const struct invocation *in, const char *path, char ret[SECRET_MAX])
{
	int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return report(in, "E-SYSTEM-02", EXIT_SYSTEM, err_name(-errno), "nothing was changed", NULL, "%s cannot be read", path);
	size_t used = 0;
	ssize_t n;
	while (used < SECRET_MAX - 1 && (n = read(fd, ret + used, SECRET_MAX - 1 - used)) > 0)
		used += (size_t)n;
	if (fd != STDIN_FILENO)
		close(fd);
	ret[used] = '\0';
	ret[strcspn(ret, "\r\n")] = '\0';
	return ret[0] != '\0' ? 0 : usage_error(in, "%s holds no secret", strcmp(path, "-") == 0 ? "standard input" : path);
}

static int run_auth_set(const struct invocation *in)
{
	const char *file = opt_value(in, "secret-file", NULL), *user = opt_value(in, "user", NULL), *how = opt_value(in, "auth", NULL);
	char secret[SECRET_MAX];
	json_t *auth, *params = json_pack("{s:b}", "mutual", (int)opt_given(in, "mutual"));
	int rc = file != NULL ? read_secret(in, file, secret) : 0;
	if (rc == 0 && file == NULL && how == NULL)
		rc = usage_error(in, "say what to change: --auth chap|mutual|none, or --secret-file FILE (- = standard input)");
	if (rc == 0 && file == NULL && (user != NULL || opt_given(in, "mutual")))
		rc = usage_error(in, "--user and --mutual go with --secret-file FILE (- = standard input)");
	if (rc != 0) {
		json_decref(params);
		return rc;
	}
	if (file != NULL)
		json_object_set_new(params, "secret", json_string(secret));
	if (user != NULL)
		json_object_set_new(params, "user", json_string(user));
	if (how != NULL)
		json_object_set_new(params, "auth", json_string(how));
	rc = ask(in, "auth.set", params, &auth);
	return rc != 0 ? rc : show_auth(in, auth);
}

/* ---- initiator-config ---- */

static const char MULTIPATH[] = "devices {\n\tdevice {\n\t\tvendor \"(MYFS|LIO-ORG)\"\n\t\tproduct \".*\"\n\t\tpath_grouping_policy failover\n\t\tpath_checker tur\n"
				"\t\tfailback immediate\n\t\tno_path_retry 120\n\t}\n}\n";

static json_t *iscsid_settings(const json_t *auth)
{
	const char *how = field_text(auth, "auth", "none");
	bool shown = json_object_get(auth, "secret") != NULL;
	json_t *o = json_pack("{s:s}", "node.session.auth.authmethod", strcmp(how, "none") == 0 ? "None" : "CHAP");
	if (strcmp(how, "none") == 0)
		return o;
	json_object_set_new(o, "node.session.auth.username", json_string(field_text(auth, "user", "")));
	json_object_set_new(o, "node.session.auth.password", json_string(shown ? field_text(auth, "secret", "") : "SECRET"));
	if (strcmp(how, "mutual") == 0) {
		json_object_set_new(o, "node.session.auth.username_in", json_string(field_text(auth, "mutual_user", "")));
		json_object_set_new(o, "node.session.auth.password_in", json_string(shown ? field_text(auth, "mutual_secret", "") : "SECRET_OF_THE_TARGET"));
	}
	return o;
}

static json_t *client_commands(const json_t *target)
{
	const json_t *portals = json_object_get(target, "portals");
	const char *iqn = field_text(target, "iqn", "-");
	json_t *list = json_array();
	char text[600];
	for (size_t i = 0; i < json_array_size(portals); i++) {
		snprintf(text, sizeof(text), "iscsiadm -m discovery -t sendtargets -p %s", json_string_value(json_array_get(portals, i)));
		json_array_append_new(list, json_string(text));
	}
	snprintf(text, sizeof(text), "iscsiadm -m node -T %s --login", iqn);
	json_array_append_new(list, json_string(text));
	return list;
}

static void print_config(const struct invocation *in, const json_t *settings, const json_t *commands)
{
	const char *key;
	json_t *value;
	size_t i;
	printf("# into /etc/iscsi/iscsid.conf, before the discovery%s\n", opt_given(in, "secret") ? "" : " (--secret shows the secret here)");
	json_object_foreach((json_t *)(uintptr_t)settings, key, value)
		printf("%s = %s\n", key, json_string_value(value));
	printf("# then\n");
	json_array_foreach(commands, i, value)
		printf("%s\n", json_string_value(value));
	if (opt_given(in, "multipath"))
		printf("# into /etc/multipath.conf\n%s", MULTIPATH);
}

static int run_initiator_config(const struct invocation *in)
{
	json_t *target = NULL, *auth = NULL;
	int rc = ask(in, "target.info", json_object(), &target);
	if (rc == 0 && !json_is_string(json_object_get(target, "iqn")))
		rc = report(in, "E-ISCSI-02", EXIT_SYSTEM, "it was made for NBD only", NULL, "myfs-block target enable SPEC --proto iscsi,nbd", "%s is not offered over iSCSI", in->args[0]);
	if (rc == 0)
		rc = ask(in, "auth.show", json_pack("{s:b}", "secret", (int)opt_given(in, "secret")), &auth);
	if (rc == 0) {
		json_t *settings = iscsid_settings(auth), *commands = client_commands(target);
		if (want_json(in))
			print_json("myfs.initiator/1", json_pack("{s:s,s:O,s:O,s:O,s:O,s:s}", "name", in->args[0], "iqn", json_object_get(target, "iqn"), "portals", json_object_get(target, "portals"),
			                                         "iscsid_conf", settings, "commands", commands, "multipath_conf", MULTIPATH));
		else
			print_config(in, settings, commands);
		json_decref(settings);
		json_decref(commands);
	}
	json_decref(target);
	json_decref(auth);
	return rc;
}

static const struct option_def FORCE_OPTIONS[] = {
	{"force", 0, NULL, "also when an initiator is logged in: its session ends", false},
	{NULL, 0, NULL, NULL, false},
};
static const struct option_def ENABLE_OPTIONS[] = {
	{"proto", 0, "LIST", "offer it over these: iscsi, nbd or iscsi,nbd (default: as before)", false},
	{NULL, 0, NULL, NULL, false},
};
static const struct option_def SECRET_OPTIONS[] = {
	{"secret", 0, NULL, "show secrets", false},
	{NULL, 0, NULL, NULL, false},
};
static const struct option_def AUTH_SET_OPTIONS[] = {
	{"auth", 0, "HOW", "chap, mutual (the target proves itself too) or none", false},
	{"secret-file", 0, "FILE", "the secret, 12 to 16 characters, in a file's first line; - reads standard input", false},
	{"user", 0, "NAME", "the user that goes with the secret", false},
	{"mutual", 0, NULL, "it is the target's secret, not the initiator's", false},
	{NULL, 0, NULL, NULL, false},
};
static const struct option_def CONFIG_OPTIONS[] = {
	{"secret", 0, NULL, "show secrets", false},
	{"multipath", 0, NULL, "with a section for multipath.conf", false},
	{NULL, 0, NULL, NULL, false},
};

const struct command TARGET_COMMANDS[] = {
	{"target list", "ls", "[VOL]", "how every LUN is offered, and whether the kernel exports it", "  myfs-block target list\n  myfs-block target list vol -o name,state,why", 0, 1, NULL, run_target_list},
	{"target info", "show", "VOL/LUN", "one LUN's target: state and reason, IQN, portals, who may, who is logged in", "  myfs-block target info vol/lun", 1, 1, NULL, run_target_info},
	{"target enable", NULL, "VOL/LUN", "export it over iSCSI (again)", "  myfs-block target enable vol/lun\n  myfs-block target enable vol/lun --proto iscsi,nbd", 1, 1, ENABLE_OPTIONS, run_target_enable},
	{"target disable", NULL, "VOL/LUN", "take the iSCSI target away; NBD and data stay", "  myfs-block target disable vol/lun", 1, 1, FORCE_OPTIONS, run_target_disable},
	{"acl add", NULL, "VOL/LUN WHO...", "allow initiators (IQN) and addresses or networks (NBD), or \"any\"",
	 "  myfs-block acl add vol/lun iqn.1993-08.org.debian:01:abc\n  myfs-block acl add vol/lun 192.0.2.50 2001:db8::/64", 2, MAX_ARGS, NULL, run_acl_add},
	{"acl remove", "rm", "VOL/LUN WHO...", "allow them no longer; NBD connections that exist stay", "  myfs-block acl remove vol/lun 192.0.2.50", 2, MAX_ARGS, FORCE_OPTIONS, run_acl_remove},
	{"acl list", "ls", "VOL/LUN", "who may attach it", NULL, 1, 1, NULL, run_acl_list},
	{"auth show", NULL, "VOL/LUN", "how initiators prove who they are", "  myfs-block auth show vol/lun --secret", 1, 1, SECRET_OPTIONS, run_auth_show},
	{"auth rotate", NULL, "VOL/LUN", "new secrets", "  myfs-block auth rotate vol/lun", 1, 1, NULL, run_auth_rotate},
	{"auth set", NULL, "VOL/LUN", "choose the authentication, or a secret of your own",
	 "  myfs-block auth set vol/lun --auth mutual\n  myfs-block auth set vol/lun --user bob --secret-file - < secret", 1, 1, AUTH_SET_OPTIONS, run_auth_set},
	{"initiator-config", NULL, "VOL/LUN", "settings and commands for an iSCSI client", "  myfs-block initiator-config vol/lun --secret --multipath", 1, 1, CONFIG_OPTIONS, run_initiator_config},
	{NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
