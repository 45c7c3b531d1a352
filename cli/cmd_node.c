/* cmd_node.c - myfs node list, add; myfs gateway list. */
#include <stdio.h>

#include "cli/cluster.h"
#include "cli/cmd.h"
#include "cli/table.h"
#include "cli/words.h"
#include "core/loop/net.h"

static const char *probe(const char *control)
{
	struct control_error ce;
	json_t *result = NULL;
	const char *path = unix_path(control);
	if (path == NULL)
		return "unknown (no local socket)";
	if (control_call(path, "status", NULL, 2000, &result, &ce) != 0)
		return "no answer";
	json_decref(result);
	return "up";
}

static const struct column NODE_COLUMNS[] = {
	{"NAME", "name", COL_TEXT, false}, {"STATE", "state", COL_TEXT, false}, {"ADDRESS", "address", COL_TEXT, false}, {"CONTROL", "control", COL_TEXT, true},
};

static int run_node_list(const struct invocation *in)
{
	struct registry *r = NULL;
	int rc = cluster_open(in, &r);
	if (rc != 0)
		return rc;
	struct reg_node *v = NULL;
	size_t n = 0;
	struct err e = ERR_INIT;
	rc = reg_node_list(r, &v, &n, &e);
	registry_close(r);
	if (rc < 0)
		return registry_failed(in, &e, "the nodes cannot be read");
	json_t *rows = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(rows, json_pack("{s:s,s:s,s:s,s:s}", "name", v[i].name, "state", probe(v[i].control), "address", v[i].address, "control", v[i].control));
	free(v);
	return print_rows(in, "myfs.nodes/1", NODE_COLUMNS, ARRAY_LEN(NODE_COLUMNS), rows, "no nodes yet: myfs node add NAME ADDRESS CONTROL");
}

static int run_node_add(const struct invocation *in)
{
	struct reg_node n = {0};
	struct address a;
	struct err e = ERR_INIT;
	if (name_check("node", in->args[0], &e) < 0 || address_parse(in->args[1], &a, &e) < 0 || address_parse(in->args[2], &a, &e) < 0)
		return usage_error(in, "%s", e.text);
	if (strlen(in->args[1]) >= REG_PATH || strlen(in->args[2]) >= REG_PATH)
		return usage_error(in, "an address is too long");
	strcpy(n.name, in->args[0]);
	strcpy(n.address, in->args[1]);
	strcpy(n.control, in->args[2]);
	char path[REG_PATH];
	struct registry *r = NULL;
	int rc = cluster_registry_path(in, path);
	if (rc != 0)
		return rc;
	/* The first node makes the registry. */
	rc = registry_open(path, true, &r, &e);
	if (rc == 0)
		rc = reg_node_put(r, &n, &e);
	if (rc < 0) {
		registry_close(r);
		return registry_failed(in, &e, "the node cannot be recorded");
	}
	cluster_history(in, r);
	registry_close(r);
	say(in, "Node %s is recorded; start its daemon: myfs-brickd --registry %s --node %s --control %s", n.name, path, n.name, n.control);
	return 0;
}

static const struct column GATEWAY_COLUMNS[] = {
	{"NAME", "name", COL_TEXT, false}, {"STATE", "state", COL_TEXT, false}, {"NBD", "nbd_uri", COL_TEXT, false}, {"TCP", "nbd_tcp_uri", COL_TEXT, false},
	{"CONTROL", "control", COL_TEXT, true},
};

static int run_gateway_list(const struct invocation *in)
{
	struct registry *r = NULL;
	int rc = cluster_open(in, &r);
	if (rc != 0)
		return rc;
	struct reg_gateway *v = NULL;
	size_t n = 0;
	struct err e = ERR_INIT;
	rc = reg_gateway_list(r, &v, &n, &e);
	registry_close(r);
	if (rc < 0)
		return registry_failed(in, &e, "the gateways cannot be read");
	json_t *rows = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(rows, json_pack("{s:s,s:s,s:s,s:s,s:s}", "name", v[i].name, "state", probe(v[i].control), "nbd_uri", v[i].nbd_uri, "nbd_tcp_uri",
		                                      v[i].nbd_tcp_uri, "control", v[i].control));
	free(v);
	return print_rows(in, "myfs.gateways/1", GATEWAY_COLUMNS, ARRAY_LEN(GATEWAY_COLUMNS), rows, "no gateway yet: start myfs-blockd");
}

/* LUNs that name it as their owner. */
static size_t luns_of(struct registry *r, const char *gateway)
{
	struct reg_lun *rows = NULL;
	size_t n = 0, owned = 0;
	reg_lun_list(r, NULL, -1, &rows, &n, NULL);
	for (size_t i = 0; i < n; i++)
		owned += strcmp(rows[i].owner, gateway) == 0;
	free(rows);
	return owned;
}

static int run_gateway_remove(const struct invocation *in)
{
	const char *name = in->args[0];
	struct registry *r = NULL;
	struct reg_gateway g;
	struct err e = ERR_INIT;
	int rc = cluster_open(in, &r);
	if (rc != 0)
		return rc;
	if (reg_gateway_get(r, name, &g, &e) < 0) {
		rc = registry_failed(in, &e, "that gateway cannot be removed");
	} else if (strcmp(probe(g.control), "up") == 0) {
		rc = report(in, "E-BUSY-06", EXIT_BUSY, "it answers", "nothing was changed", "stop myfs-blockd there first", "gateway %s is in use", name);
	} else if (luns_of(r, name) > 0) {
		rc = report(in, "E-BUSY-06", EXIT_BUSY, "no other gateway has taken its LUNs over yet", "nothing was changed", "start another gateway; it takes them over within seconds", "gateway %s still owns LUNs", name);
	} else if (reg_gateway_delete(r, name, &e) < 0) {
		rc = registry_failed(in, &e, "that gateway cannot be removed");
	} else {
		cluster_history(in, r);
		say(in, "gateway %s is forgotten; it comes back when its myfs-blockd is started", name);
	}
	registry_close(r);
	return rc;
}

const struct command NODE_COMMANDS[] = {
	{"node list", "ls", "", "nodes and whether they answer", NULL, 0, 0, NULL, run_node_list},
	{"node add", NULL, "NAME ADDRESS CONTROL", "record a node that serves bricks",
	 "  myfs node add node1 unix:/run/myfs/brick.sock unix:/run/myfs/brickd.sock\n  myfs node add node2 tcp:192.0.2.12:24120 unix:/run/myfs/brickd.sock", 3, 3, NULL, run_node_add},
	{"gateway list", "ls", "", "gateways and their NBD addresses", NULL, 0, 0, NULL, run_gateway_list},
	{"gateway remove", "rm", "NAME", "forget a gateway that is not coming back", "  myfs gateway remove gw2", 1, 1, NULL, run_gateway_remove},
	{NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
