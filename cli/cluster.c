#include "cli/cluster.h"

#include <ini.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

#define PING_TIMEOUT_MS 2000
#define CONFIG_FILE "/etc/myfs/myfs.conf"

char *demo_default_dir(char out[REG_PATH])
{
	const char *dir = getenv("MYFS_DEMO_DIR"), *home = getenv("HOME");
	if (dir != NULL && dir[0] != '\0')
		snprintf(out, REG_PATH, "%s", dir);
	else
		snprintf(out, REG_PATH, "%s/.local/share/myfs-demo", home != NULL ? home : "/tmp");
	return out;
}

static int on_config(void *user, const char *section, const char *name, const char *value)
{
	if (strcmp(section, "cluster") == 0 && strcmp(name, "registry") == 0)
		snprintf(user, REG_PATH, "%s", value);
	return 1;
}

int cluster_registry_path(const struct invocation *in, char ret[REG_PATH])
{
	const char *path = opt_value(in, "registry", getenv("MYFS_REGISTRY"));
	if (path != NULL) {
		snprintf(ret, REG_PATH, "%s", path);
		return 0;
	}
	ret[0] = '\0';
	int line = access(CONFIG_FILE, F_OK) == 0 ? ini_parse(CONFIG_FILE, on_config, ret) : 0;
	if (line > 0)
		return report(in, "E-CONFIG-02", EXIT_SYSTEM, NULL, "nothing was changed", "edit " CONFIG_FILE, CONFIG_FILE " line %d cannot be read", line);
	if (ret[0] != '\0')
		return 0;
	char dir[REG_PATH];
	demo_default_dir(dir);
	if (snprintf(ret, REG_PATH, "%s/registry.db", dir) >= REG_PATH)
		return report(in, "E-CONFIG-02", EXIT_SYSTEM, NULL, NULL, NULL, "the path of the demo directory is too long");
	return 0;
}

int registry_failed(const struct invocation *in, const struct err *e, const char *what)
{
	if (e->code == -ENOENT)
		return report(in, "E-NOTFOUND-05", EXIT_NOT_FOUND, e->text, NULL, NULL, "%s", what);
	return report(in, "E-REGISTRY-02", EXIT_SYSTEM, e->text, "data on the bricks is not affected", "myfs doctor", "%s", what);
}

int cluster_open(const struct invocation *in, struct registry **ret)
{
	char path[REG_PATH];
	int rc = cluster_registry_path(in, path);
	if (rc != 0)
		return rc;
	struct err e = ERR_INIT;
	rc = registry_open(path, false, ret, &e);
	if (rc == -ENOENT)
		return report(in, "E-NOCLUSTER-02", EXIT_SYSTEM, path, NULL,
		            "start one with `myfs demo up`, or name its registry with --registry FILE or $MYFS_REGISTRY",
		            "no cluster here: the registry does not exist");
	return rc == 0 ? 0 : registry_failed(in, &e, "the cluster's registry cannot be opened");
}

const char *unix_path(const char *address)
{
	return strncmp(address, "unix:", 5) == 0 ? address + 5 : NULL;
}

int cluster_ask_node(const struct invocation *in, const struct reg_node *node, const char *method, json_t *params, json_t **ret_result)
{
	struct control_error e;
	memset(&e, 0, sizeof(e));
	const char *path = unix_path(node->control);
	int rc = path == NULL ? control_fail(&e, "E-CONFIG-02", EXIT_SYSTEM, node->control, NULL, NULL, "node %s has no local control socket", node->name)
	                      : control_call(path, method, params, opt_timeout_ms(in, 60000), ret_result, &e);
	json_decref(params);
	return rc == 0 ? 0 : show_error(in, &e);
}

/* A gateway that is stopped must not keep the next one from being asked. */
static bool answers(const char *path, struct control_error *e)
{
	json_t *result = NULL;
	bool yes = control_call(path, "ping", NULL, PING_TIMEOUT_MS, &result, e) == 0;
	json_decref(result);
	return yes;
}

int cluster_ask_gateway(const struct invocation *in, const char *method, json_t *params, json_t **ret_result)
{
	struct registry *r = NULL;
	int rc = cluster_open(in, &r);
	if (rc != 0) {
		json_decref(params);
		return rc;
	}
	struct reg_gateway *gateways = NULL;
	size_t n = 0;
	struct err e = ERR_INIT;
	rc = reg_gateway_list(r, &gateways, &n, &e);
	registry_close(r);
	if (rc < 0) {
		json_decref(params);
		return registry_failed(in, &e, "the list of gateways cannot be read");
	}
	struct control_error ce;
	control_fail(&ce, "E-NOGATEWAY-02", EXIT_SYSTEM, "the registry lists none", NULL, "myfs demo up", "no gateway serves this cluster");
	rc = -1;
	for (size_t i = 0; i < n && rc != 0; i++) {
		const char *path = unix_path(gateways[i].control);
		if (path == NULL || (n > 1 && !answers(path, &ce)))
			continue;
		rc = control_call(path, method, params, opt_timeout_ms(in, 60000), ret_result, &ce);
		if (rc != 0 && ce.exit_code != EXIT_NO_ANSWER)
			break;
	}
	free(gateways);
	json_decref(params);
	return rc == 0 ? 0 : show_error(in, &ce);
}

void cluster_history(const struct invocation *in, struct registry *r)
{
	char host[256] = "?", who[600], what[2048];
	gethostname(host, sizeof(host) - 1);
	const struct passwd *pw = getpwuid(getuid());
	snprintf(who, sizeof(who), "%s@%s", pw != NULL ? pw->pw_name : "?", host);
	size_t used = (size_t)snprintf(what, sizeof(what), "%s", in->program);
	for (int i = 1; i < in->argc && used < sizeof(what); i++)
		used += (size_t)snprintf(what + used, sizeof(what) - used, " %s", in->argv[i]);
	struct err e = ERR_INIT;
	if (reg_history_add(r, who, what, &e) < 0)
		say(in, "%s: note: the history line could not be written (%s)", in->program, e.text);
}
