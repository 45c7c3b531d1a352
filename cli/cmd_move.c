/* cmd_move.c - myfs-block move: another gateway serves the LUN. */
#include <stdio.h>

#include "cli/cluster.h"
#include "cli/cmd.h"
#include "cli/field.h"
#include "cli/table.h"
#include "cli/words.h"

static int run_move(const struct invocation *in)
{
	char volume[64], name[64];
	struct err e = ERR_INIT;
	const char *to = opt_value(in, "to", NULL);
	json_t *lun;
	if (spec_parse(in->args[0], volume, name, &e) < 0)
		return usage_error(in, "%s", e.text);
	if (to == NULL)
		return usage_error(in, "say where to: --to GATEWAY (myfs gateway list shows them)");
	int rc = cluster_ask_gateway(in, "lun.move", json_pack("{s:s,s:s}", "spec", in->args[0], "to", to), &lun);
	if (rc != 0)
		return rc;
	if (want_json(in))
		return print_json("myfs.lun/1", lun);
	if (!want_quiet(in)) {
		const char *from = field_text(lun, "moved_from", NULL);
		if (from == NULL || strcmp(from, to) == 0)
			printf("%s is served by gateway %s\n", in->args[0], to);
		else
			printf("%s moved from gateway %s to %s; clients of %s were disconnected and find it here:\n", in->args[0], from, to, from);
		for (size_t i = 0; i < json_array_size(json_object_get(lun, "exports")); i++) {
			const json_t *x = json_array_get(json_object_get(lun, "exports"), i);
			if (json_is_true(json_object_get(x, "active")))
				printf("  %s\n", field_text(x, "uri", "-"));
		}
	}
	json_decref(lun);
	return 0;
}

static const struct option_def MOVE_OPTIONS[] = {
	{"to", 0, "GATEWAY", "the gateway that is to serve it", false},
	{NULL, 0, NULL, NULL, false},
};

const struct command MOVE_COMMANDS[] = {
	{"move", NULL, "VOL/LUN --to GATEWAY", "let another gateway serve a LUN: flushed, released, taken over", "  myfs-block move vol/lun --to gw2", 1, 1, MOVE_OPTIONS, run_move},
	{NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
