/* cmd_lun.c - myfs-block create, list, info, du, resize, delete, session list: thin over the gateway's control methods. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/access.h"
#include "cli/field.h"
#include "cli/cluster.h"
#include "cli/cmd.h"
#include "cli/size.h"
#include "cli/table.h"
#include "cli/words.h"

#define PREFERRED_ALIGN 4096u

/* 0 or exit code. */
static int check_spec(const struct invocation *in, const char *spec)
{
	char volume[64], name[64];
	struct err e = ERR_INIT;
	return spec_parse(spec, volume, name, &e) == 0 ? 0 : usage_error(in, "%s", e.text);
}

static void layout_text(const json_t *lun, char *out, size_t cap)
{
	const json_t *l = json_object_get(lun, "layout");
	uint64_t k = field_u64(l, "data"), r = field_u64(l, "parity");
	if (k == 1)
		snprintf(out, cap, "replica %" PRIu64 ", survives %" PRIu64 " brick%s", r + 1, field_u64(lun, "survives"), field_u64(lun, "survives") == 1 ? "" : "s");
	else
		snprintf(out, cap, "EC %" PRIu64 "+%" PRIu64 ", survives %" PRIu64 " brick%s", k, r, field_u64(lun, "survives"),
		         field_u64(lun, "survives") == 1 ? "" : "s");
}

static int created(const struct invocation *in, json_t *lun)
{
	if (want_json(in))
		return print_json("myfs.lun/1", lun);
	if (!want_quiet(in)) {
		char size[SIZE_TEXT], layout[96];
		layout_text(lun, layout, sizeof(layout));
		printf("%s %s   %s thin (%s)\n", json_is_true(json_object_get(lun, "existed")) ? "Exists already:" : "Created", field_text(lun, "name", "-"),
		       size_text(field_u64(lun, "size_bytes"), size), layout);
		print_exports(lun);
		print_attach(lun);
	}
	json_decref(lun);
	return 0;
}

static int parse_lun_size(const struct invocation *in, const char *text, uint64_t *ret)
{
	struct err e = ERR_INIT;
	if (size_parse(text, ret, &e) < 0)
		return usage_error(in, "%s", e.text);
	if (*ret == 0)
		return usage_error(in, "a LUN of 0 bytes cannot be used; give a size like 10G");
	if (text[strspn(text, "0123456789")] == '\0' && *ret < MIB(1))
		return usage_error(in, "a bare number is bytes, and %s bytes are less than 1 MiB; did you mean %sM?", text, text);
	if (*ret % PREFERRED_ALIGN != 0)
		return usage_error(in, "the size must be a multiple of 4096 bytes; the nearest above is %" PRIu64, round_up_u64(*ret, PREFERRED_ALIGN));
	return 0;
}

static int run_create(const struct invocation *in)
{
	uint64_t size;
	int rc = check_spec(in, in->args[0]);
	if (rc == 0)
		rc = parse_lun_size(in, in->args[1], &size);
	if (rc != 0)
		return rc;
	const char *block = opt_value(in, "block-size", "4096");
	if (strcmp(block, "512") != 0 && strcmp(block, "4096") != 0)
		return usage_error(in, "--block-size is 512 or 4096, not \"%s\"", block);
	char volume[64], name[64];
	spec_parse(in->args[0], volume, name, NULL);
	json_t *lun, *params = json_pack("{s:s,s:s,s:I,s:i,s:b}", "volume", volume, "name", name, "size_bytes", (json_int_t)size,
	                                 "block_size", atoi(block), "if_missing", (int)opt_given(in, "if-missing"));
	rc = access_params(in, params);
	if (rc != 0) {
		json_decref(params);
		return rc;
	}
	rc = cluster_ask_gateway(in, "lun.create", params, &lun);
	return rc != 0 ? rc : created(in, lun);
}

static const struct column LUN_COLUMNS[] = {
	{"NAME", "name", COL_TEXT, false},        {"SIZE", "size_bytes", COL_SIZE, false},   {"USED", "used_bytes", COL_SIZE, true},
	{"PROTO", "protos", COL_TEXT, false},     {"STATE", "state", COL_TEXT, false},      {"OWNER", "owner", COL_TEXT, false},       {"SESSIONS", "sessions", COL_COUNT, false},
	{"CREATED", "created", COL_TEXT, false},  {"ID", "id", COL_TEXT, true},              {"BLOCK", "block_size", COL_COUNT, true},
};

static json_t *take_items(json_t *result)
{
	json_t *items = json_incref(json_object_get(result, "items"));
	json_decref(result);
	return items;
}

static int run_list(const struct invocation *in)
{
	json_t *result, *params = json_object();
	if (in->n_args == 1)
		json_object_set_new(params, "volume", json_string(in->args[0]));
	int rc = cluster_ask_gateway(in, "lun.list", params, &result);
	return rc != 0 ? rc : print_rows(in, "myfs.luns/1", LUN_COLUMNS, ARRAY_LEN(LUN_COLUMNS), take_items(result),
	                                 "no LUNs yet; create one with: myfs-block create vol/lun 10G");
}

static int run_can(const struct invocation *in, const char *what, bool iscsi)
{
	const struct {
		const char *name;
		bool answer;
	} abilities[] = {{"trim", true}, {"multi-conn", true}, {"fua", true}, {"zero", true}, {"ro", false}, {"iscsi", iscsi}};
	for (size_t i = 0; i < ARRAY_LEN(abilities); i++)
		if (strcmp(abilities[i].name, what) == 0)
			return abilities[i].answer ? EXIT_DONE : EXIT_FAILED;
	return usage_error(in, "--can %s is not known; ask for trim, multi-conn, fua, zero, ro or iscsi", what);
}

static int run_info(const struct invocation *in)
{
	int rc = check_spec(in, in->args[0]);
	json_t *lun;
	if (rc == 0)
		rc = cluster_ask_gateway(in, "lun.info", json_pack("{s:s}", "spec", in->args[0]), &lun);
	if (rc != 0)
		return rc;
	const char *can = opt_value(in, "can", NULL);
	if (can != NULL) {
		bool iscsi = export_of(lun, "iscsi") != NULL;
		json_decref(lun);
		return run_can(in, can, iscsi);
	}
	if (want_json(in))
		return print_json("myfs.lun/1", lun);
	char text[SIZE_TEXT], layout[96];
	layout_text(lun, layout, sizeof(layout));
	printf("%s\n  size     %s (%" PRIu64 " bytes), thin\n", field_text(lun, "name", "-"), size_text(field_u64(lun, "size_bytes"), text), field_u64(lun, "size_bytes"));
	if (json_is_integer(json_object_get(lun, "used_bytes")))
		printf("  used     %s on the bricks, parity included\n", size_text(field_u64(lun, "used_bytes"), text));
	printf("  layout   %s\n  block    %" PRIu64 " bytes\n  state    %s\n  owner    %s\n  sessions %" PRIu64 "\n  created  %s\n  id       %s\n",
	       layout, field_u64(lun, "block_size"), field_text(lun, "state", "-"), field_text(lun, "owner", "-"), field_u64(lun, "sessions"), field_text(lun, "created", "-"), field_text(lun, "id", "-"));
	if (field_u64(lun, "loss_generation") > 0)
		printf("  losses   loss generation %" PRIu64 ": acknowledged writes that were not flushed may have been lost; see myfs explain LUN_LOSS\n",
		       field_u64(lun, "loss_generation"));
	print_exports(lun);
	json_decref(lun);
	return 0;
}

static const struct column DU_COLUMNS[] = {
	{"NAME", "name", COL_TEXT, false}, {"SIZE", "size_bytes", COL_SIZE, false}, {"USED", "used_bytes", COL_SIZE, false},
};

static int run_du(const struct invocation *in)
{
	json_t *result, *params = json_object();
	if (in->n_args == 1) {
		int rc = check_spec(in, in->args[0]);
		if (rc != 0)
			return rc;
		json_object_set_new(params, "spec", json_string(in->args[0]));
	}
	int rc = cluster_ask_gateway(in, "lun.du", params, &result);
	return rc != 0 ? rc : print_rows(in, "myfs.du/1", DU_COLUMNS, ARRAY_LEN(DU_COLUMNS), take_items(result), "no LUNs");
}

static int run_resize(const struct invocation *in)
{
	bool relative = false;
	uint64_t size;
	struct err e = ERR_INIT;
	int rc = check_spec(in, in->args[0]);
	if (rc != 0)
		return rc;
	if (size_parse_change(in->args[1], &relative, &size, &e) < 0)
		return usage_error(in, "%s", e.text);
	json_t *lun;
	rc = cluster_ask_gateway(in, "lun.info", json_pack("{s:s}", "spec", in->args[0]), &lun);
	if (rc != 0)
		return rc;
	uint64_t old = field_u64(lun, "size_bytes");
	json_decref(lun);
	if (relative && size > UINT64_MAX / 2 - old)
		return usage_error(in, "%s is more than a LUN can hold", in->args[1]);
	size += relative ? old : 0;
	if (size % PREFERRED_ALIGN != 0 || size == 0)
		return usage_error(in, "the new size must be a multiple of 4096 bytes above 0");
	if (size < old)
		return report(in, "E-SHRINK-09", EXIT_REFUSED, "data beyond the new end would be lost", "nothing was changed", NULL,
		            "cannot shrink %s: this version only grows LUNs", in->args[0]);
	rc = cluster_ask_gateway(in, "lun.resize", json_pack("{s:s,s:I}", "spec", in->args[0], "size_bytes", (json_int_t)size), &lun);
	if (rc != 0)
		return rc;
	if (want_json(in))
		return print_json("myfs.lun/1", lun);
	char a[SIZE_TEXT], b[SIZE_TEXT];
	if (!want_quiet(in))
		printf("Resized %s from %s to %s; NBD clients see it when they attach again, iSCSI ones after a rescan\n", in->args[0], size_text(old, a), size_text(size, b));
	json_decref(lun);
	return 0;
}

static int run_delete(const struct invocation *in)
{
	int rc = check_spec(in, in->args[0]);
	if (rc != 0)
		return rc;
	bool now = opt_given(in, "now");
	if (now) {
		char what[160];
		snprintf(what, sizeof(what), "Deleting %s at once, without the trash", in->args[0]);
		if (!confirm(in, what, in->args[0]))
			return EXIT_REFUSED;
	}
	json_t *result;
	rc = cluster_ask_gateway(in, "lun.delete", json_pack("{s:s,s:b,s:b}", "spec", in->args[0], "now", (int)now, "if_exists",
	                                                     (int)opt_given(in, "if-exists")), &result);
	if (rc != 0)
		return rc;
	if (want_json(in))
		return print_json("myfs.deleted/1", result);
	if (!want_quiet(in)) {
		if (json_is_null(json_object_get(result, "gfid")))
			printf("There is no LUN %s\n", in->args[0]);
		else if (now)
			printf("Deleted %s\n", in->args[0]);
		else
			printf("Moved %s to the trash; it stays 7 days: myfs-block trash restore %s\n", in->args[0], in->args[0]);
	}
	json_decref(result);
	return 0;
}

static const struct column TRASH_COLUMNS[] = {
	{"NAME", "name", COL_TEXT, false}, {"SIZE", "size_bytes", COL_SIZE, false}, {"DELETED", "deleted", COL_TEXT, false},
	{"GONE", "purge_at", COL_TEXT, false}, {"ID", "id", COL_TEXT, false},
};

static int run_trash_list(const struct invocation *in)
{
	json_t *result;
	int rc = cluster_ask_gateway(in, "trash.list", json_object(), &result);
	return rc != 0 ? rc : print_rows(in, "myfs.trash/1", TRASH_COLUMNS, ARRAY_LEN(TRASH_COLUMNS), take_items(result), "the trash is empty");
}

static int run_trash_restore(const struct invocation *in)
{
	json_t *lun, *params = json_pack("{s:s}", strchr(in->args[0], '/') ? "spec" : "gfid", in->args[0]);
	if (in->n_args == 2)
		json_object_set_new(params, "name", json_string(in->args[1]));
	int rc = cluster_ask_gateway(in, "trash.restore", params, &lun);
	if (rc != 0)
		return rc;
	if (want_json(in))
		return print_json("myfs.lun/1", lun);
	if (!want_quiet(in))
		printf("Restored %s\n", field_text(lun, "name", "-"));
	json_decref(lun);
	return 0;
}

static int run_trash_purge(const struct invocation *in)
{
	json_t *result, *params = json_object();
	const char *older = opt_value(in, "older", NULL);
	uint64_t seconds = 0;
	struct err e = ERR_INIT;
	if (older != NULL && duration_parse(older, &seconds, &e) < 0) {
		json_decref(params);
		return usage_error(in, "%s", e.text);
	}
	if (in->n_args == 1)
		json_object_set_new(params, "gfid", json_string(in->args[0]));
	else
		json_object_set_new(params, "older_s", json_integer((json_int_t)seconds));
	if (!confirm(in, "Deleting LUNs in the trash for good", "purge")) {
		json_decref(params);
		return EXIT_REFUSED;
	}
	int rc = cluster_ask_gateway(in, "trash.purge", params, &result);
	if (rc != 0)
		return rc;
	if (want_json(in))
		return print_json("myfs.purged/1", result);
	if (!want_quiet(in))
		printf("Purged %" PRIu64 " LUN%s\n", field_u64(result, "purged"), field_u64(result, "purged") == 1 ? "" : "s");
	json_decref(result);
	return 0;
}

static const struct column SESSION_COLUMNS[] = {
	{"LUN", "lun", COL_TEXT, false},     {"PROTO", "proto", COL_TEXT, false},   {"PEER", "peer", COL_TEXT, false},     {"ADDRESSES", "addresses", COL_TEXT, true}, {"SINCE", "since_s", COL_SECONDS, false},
	{"READS", "reads", COL_COUNT, false}, {"WRITES", "writes", COL_COUNT, false}, {"READ", "bytes_read", COL_SIZE, false},
	{"WRITTEN", "bytes_written", COL_SIZE, false}, {"TLS", "tls", COL_TEXT, false},
};

static int run_session_list(const struct invocation *in)
{
	json_t *result, *params = json_object();
	if (in->n_args == 1)
		json_object_set_new(params, "spec", json_string(in->args[0]));
	int rc = cluster_ask_gateway(in, "session.list", params, &result);
	return rc != 0 ? rc : print_rows(in, "myfs.sessions/1", SESSION_COLUMNS, ARRAY_LEN(SESSION_COLUMNS), take_items(result), "no client is attached");
}

static const struct option_def CREATE_OPTIONS[] = {
	{"block-size", 'b', "BYTES", "logical block size clients see: 512 or 4096 (default)", false},
	{"proto", 0, "LIST", "offer it over iscsi, nbd or iscsi,nbd (default: both where the gateway has an iSCSI portal, else nbd)", false},
	{"allow", 0, "WHO", "an initiator's IQN, or an address or network for NBD; only local unix sockets otherwise", true},
	{"open", 0, NULL, "anybody may attach it", false},
	{"auth", 0, "HOW", "of iSCSI: chap (default, with a generated secret), mutual or none", false},
	{"if-missing", 0, NULL, "succeed when it exists with the same size; exit 3 when it differs", false},
	{NULL, 0, NULL, NULL, false},
};
static const struct option_def INFO_OPTIONS[] = {
	{"can", 0, "WHAT", "answer by exit status only: trim, multi-conn, fua, zero, ro, iscsi", false},
	{NULL, 0, NULL, NULL, false},
};
static const struct option_def DELETE_OPTIONS[] = {
	{"now", 0, NULL, "skip the trash: data is gone at once", false},
	{"if-exists", 0, NULL, "succeed when there is no such LUN", false},
	{NULL, 0, NULL, NULL, false},
};
static const struct option_def PURGE_OPTIONS[] = {
	{"older", 0, "TIME", "only LUNs deleted longer ago than this, for example 3d", false},
	{NULL, 0, NULL, NULL, false},
};

const struct command LUN_COMMANDS[] = {
	{"create", NULL, "VOL/LUN SIZE", "make a LUN (thin: it takes space as it is written)",
	 "  myfs-block create vol/lun 10G\n  myfs-block create vol/db 1T --block-size 512 --if-missing\n  myfs-block create vol/vm 20G --proto iscsi --allow iqn.1993-08.org.debian:01:abc", 2, 2, CREATE_OPTIONS, run_create},
	{"list", "ls", "[VOL]", "all LUNs", "  myfs-block list\n  myfs-block list vol -H -p -o name,size", 0, 1, NULL, run_list},
	{"info", "show", "VOL/LUN", "one LUN: size, layout, owner, how to attach", "  myfs-block info vol/lun --json\n  myfs-block info vol/lun --can trim && echo yes",
	 1, 1, INFO_OPTIONS, run_info},
	{"du", NULL, "[VOL/LUN]", "space LUNs really take on the bricks", "  myfs-block du", 0, 1, NULL, run_du},
	{"resize", "modify", "VOL/LUN SIZE|+SIZE", "grow a LUN, attached or not", "  myfs-block resize vol/lun 20G\n  myfs-block resize vol/lun +5G", 2, 2, NULL, run_resize},
	{"delete", "rm", "VOL/LUN", "move a LUN to the trash for 7 days", "  myfs-block delete vol/lun\n  myfs-block delete vol/lun --now --yes", 1, 1, DELETE_OPTIONS,
	 run_delete},
	{NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
const struct command TRASH_COMMANDS[] = {
	{"trash list", "ls", "", "deleted LUNs that can still be restored", NULL, 0, 0, NULL, run_trash_list},
	{"trash restore", NULL, "VOL/LUN|ID [NEWNAME]", "bring a deleted LUN back", "  myfs-block trash restore vol/lun\n  myfs-block trash restore vol/lun lun-old", 1, 2, NULL,
	 run_trash_restore},
	{"trash purge", NULL, "[ID]", "delete for good", "  myfs-block trash purge --older 3d --yes", 0, 1, PURGE_OPTIONS, run_trash_purge},
	{NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
const struct command SESSION_COMMANDS[] = {
	{"session list", "ls", "[VOL/LUN]", "which clients are attached", NULL, 0, 1, NULL, run_session_list},
	{NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
