/* cmd_brick.c - myfs brick list, inspect. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/cmd.h"
#include "cli/health.h"
#include "cli/table.h"

static const struct column BRICK_COLUMNS[] = {
	{"VOLUME", "volume", COL_TEXT, false}, {"SET", "set", COL_COUNT, false},      {"#", "index", COL_COUNT, false},      {"NODE", "node", COL_TEXT, false},
	{"PATH", "path", COL_TEXT, false},     {"STATE", "state", COL_TEXT, false},   {"FREE", "free_bytes", COL_SIZE, false}, {"REASON", "reason", COL_TEXT, false},
	{"JOURNAL", "journal_used", COL_SIZE, true}, {"WRONG", "checksum_errors", COL_COUNT, true}, {"REPAIRED", "repaired_blocks", COL_COUNT, true},
	{"READS", "reads", COL_COUNT, true},   {"PREPS", "preps", COL_COUNT, true},   {"ID", "id", COL_TEXT, true},
};

static int run_list(const struct invocation *in)
{
	struct health h;
	int rc = health_gather(in, &h);
	if (rc == 0) {
		json_t *rows = json_array();
		size_t i;
		json_t *b;
		json_array_foreach(h.bricks, i, b) {
			const char *volume = json_string_value(json_object_get(b, "volume"));
			if (in->n_args == 0 || strcmp(volume, in->args[0]) == 0)
				json_array_append(rows, b);
		}
		rc = print_rows(in, "myfs.bricks/1", BRICK_COLUMNS, ARRAY_LEN(BRICK_COLUMNS), rows, "no bricks yet: myfs volume create vol NODE:/PATH...");
	}
	health_free(&h);
	return rc;
}

/* Prints a document from brickd as indented words: "key  value", lists one item a line. */
static void print_words(const json_t *doc, int depth)
{
	const char *key;
	json_t *v;
	json_object_foreach((json_t *)(uintptr_t)doc, key, v) {
		printf("%*s%-*s ", depth * 2, "", 26 - depth * 2, key);
		size_t i;
		json_t *x;
		if (json_is_object(v)) {
			putchar('\n');
			print_words(v, depth + 1);
		} else if (json_is_array(v)) {
			printf(json_array_size(v) == 0 ? "none\n" : "\n");
			json_array_foreach(v, i, x) {
				if (json_is_object(x)) {
					print_words(x, depth + 1);
					putchar('\n');
				} else {
					printf("%*s%s\n", depth * 2 + 2, "", json_string_value(x));
				}
			}
		} else if (json_is_string(v)) {
			printf("%s\n", json_string_value(v));
		} else if (json_is_integer(v)) {
			printf("%" JSON_INTEGER_FORMAT "\n", json_integer_value(v));
		} else {
			printf("%s\n", json_is_true(v) ? "yes" : json_is_false(v) ? "no" : "-");
		}
	}
}

static int run_inspect(const struct invocation *in)
{
	const char *colon = strstr(in->args[0], ":/");
	if (colon == NULL || colon - in->args[0] >= REG_NAME)
		return usage_error(in, "\"%s\" is not a place on a brick; write NODE:/PATH", in->args[0]);
	struct registry *r = NULL;
	struct reg_node node;
	char name[REG_NAME];
	struct err e = ERR_INIT;
	snprintf(name, sizeof(name), "%.*s", (int)(colon - in->args[0]), in->args[0]);
	int rc = cluster_open(in, &r);
	if (rc != 0)
		return rc;
	rc = reg_node_get(r, name, &node, &e);
	registry_close(r);
	if (rc < 0)
		return rc == -ENOENT ? report(in, "E-NOTFOUND-05", EXIT_NOT_FOUND, NULL, NULL, "myfs node list", "there is no node %s", name)
		                     : registry_failed(in, &e, "the node cannot be read");
	json_t *doc;
	rc = cluster_ask_node(in, &node, "brick.inspect", json_pack("{s:s}", "path", colon + 1), &doc);
	if (rc != 0)
		return rc;
	if (want_json(in))
		return print_json("myfs.inspect/1", doc);
	print_words(doc, 0);
	json_decref(doc);
	return 0;
}

const struct command BRICK_COMMANDS[] = {
	{"brick list", "ls", "[VOL]", "bricks, their state and free space", "  myfs brick list\n  myfs brick list vol -o node,path,state,wrong,repaired", 0, 1, NULL, run_list},
	{"brick inspect", NULL, "NODE:/PATH", "what a brick directory, or a file in it, says: gfid, versions, dirty, layout",
	 "  myfs brick inspect node1:/bricks/b1\n  myfs brick inspect node1:/bricks/b1/block/lun", 1, 1, NULL, run_inspect},
	{NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
