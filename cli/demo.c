#include "cli/demo.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/proc.h"

#define START_TIMEOUT_MS 15000

static int join(char *out, const char *dir, const char *rest)
{
	return snprintf(out, REG_PATH, "%s/%s", dir, rest) < REG_PATH ? 0 : -ENAMETOOLONG;
}

int demo_locate(const struct invocation *in, struct demo *ret)
{
	const char *dir = opt_value(in, "dir", NULL);
	char path[REG_PATH];
	if (dir == NULL)
		dir = demo_default_dir(path);
	char cwd[REG_PATH] = "";
	if (dir[0] != '/' && getcwd(cwd, sizeof(cwd)) == NULL)
		return report(in, "E-SYSTEM-02", EXIT_SYSTEM, NULL, NULL, NULL, "the current directory cannot be read");
	/* A unix socket path has at most 107 bytes: DIR/node16/control.sock. */
	int n = snprintf(ret->dir, sizeof(ret->dir), "%s%s%s", cwd, cwd[0] ? "/" : "", dir);
	if (n > 80)
		return report(in, "E-CONFIG-02", EXIT_SYSTEM, "sockets live in it, and their paths are limited to 107 bytes", "nothing was changed",
		            "choose a shorter one: --dir /tmp/myfs-demo", "the demo directory's path is too long (%d bytes, 80 are possible)", n);
	if (proc_bin_dir(ret->bin, sizeof(ret->bin)) < 0)
		return report(in, "E-SYSTEM-02", EXIT_SYSTEM, NULL, NULL, NULL, "the directory of the programs cannot be found");
	return 0;
}

bool demo_exists(const struct demo *d)
{
	char path[REG_PATH];
	return join(path, d->dir, ".myfs-demo") == 0 && access(path, F_OK) == 0;
}

static bool fill_member(const struct demo *d, const char *name, bool gateway, struct demo_member *m)
{
	char dir[REG_PATH];
	struct stat st;
	if (join(dir, d->dir, name) < 0 || stat(dir, &st) < 0)
		return false;
	snprintf(m->name, sizeof(m->name), "%s", name);
	m->gateway = gateway;
	return join(m->control, dir, "control.sock") == 0 && join(m->log, dir, "log") == 0 && join(m->pid, dir, "pid") == 0;
}

int demo_members(const struct demo *d, struct demo_member *ret, int cap)
{
	int n = 0;
	for (int i = 1; i <= DEMO_MAX_NODES && n < cap; i++) {
		char name[REG_NAME];
		snprintf(name, sizeof(name), "node%d", i);
		n += fill_member(d, name, false, &ret[n]);
	}
	for (int i = 1; i <= DEMO_MAX_GATEWAYS && n < cap; i++) {
		char name[REG_NAME];
		snprintf(name, sizeof(name), "gw%d", i);
		n += fill_member(d, name, true, &ret[n]);
	}
	return n;
}

int demo_find(const struct invocation *in, const struct demo *d, const char *name, struct demo_member *ret, int *ret_n)
{
	struct demo_member m[DEMO_MAX_MEMBERS];
	int n = demo_members(d, m, DEMO_MAX_MEMBERS), found = 0;
	for (int i = 0; i < n; i++)
		if (strcmp(m[i].name, name) == 0 || (m[i].gateway && strcmp(name, "gateway") == 0))
			ret[found++] = m[i];
	*ret_n = found;
	if (found > 0)
		return 0;
	return report(in, "E-NOTFOUND-05", EXIT_NOT_FOUND, n == 0 ? "no demo is up" : NULL, NULL, n == 0 ? "myfs demo up" : "myfs demo status",
	            "the demo has no member called %s", name);
}

void demo_address_key(const char *gateway, char out[REG_NAME + 32])
{
	snprintf(out, REG_NAME + 32, "demo.nbd_address.%s", gateway);
}

/* Asks the control socket until it answers or the process is gone. */
static int wait_ready(const struct invocation *in, const struct demo_member *m)
{
	struct control_error ce;
	for (int waited_ms = 0; waited_ms < START_TIMEOUT_MS; waited_ms += 20) {
		json_t *result = NULL;
		if (control_call(m->control, "status", NULL, 5000, &result, &ce) == 0) {
			json_decref(result);
			return 0;
		}
		if (proc_alive(m->pid) == 0)
			break;
		usleep(20000);
	}
	char tail[300], next[REG_PATH + 8];
	proc_log_tail(m->log, tail, sizeof(tail));
	snprintf(next, sizeof(next), "less %s", m->log);
	return report(in, "E-START-02", EXIT_SYSTEM, tail[0] ? tail : "it wrote no message", NULL, next, "%s of the demo did not start", m->name);
}

void demo_portal_key(const char *gateway, char out[REG_NAME + 32])
{
	snprintf(out, REG_NAME + 32, "demo.portal.%s", gateway);
}

/* Remembers the TCP port the gateway got. */
static int keep_nbd_address(const struct invocation *in, const char *registry, const char *gateway)
{
	struct registry *r = NULL;
	struct reg_gateway g;
	struct err e = ERR_INIT;
	char host[64], address[128], key[REG_NAME + 32];
	unsigned port;
	int rc = registry_open(registry, false, &r, &e);
	if (rc == 0)
		rc = reg_gateway_get(r, gateway, &g, &e);
	if (rc == 0 && sscanf(g.nbd_tcp_uri, "nbd://%63[^:]:%u/", host, &port) == 2) {
		snprintf(address, sizeof(address), "tcp:%s:%u", host, port);
		demo_address_key(gateway, key);
		rc = reg_cluster_set(r, key, address, &e);
	}
	registry_close(r);
	return rc == 0 ? 0 : registry_failed(in, &e, "the demo's registry cannot be used");
}

int demo_start_member(const struct invocation *in, const struct demo *d, const struct demo_member *m)
{
	if (proc_alive(m->pid) != 0)
		return 0;
	char program[REG_PATH], registry[REG_PATH], control[REG_PATH + 8], nbd[REG_PATH + 8];
	struct err e = ERR_INIT;
	if (join(program, d->bin, m->gateway ? "myfs-blockd" : "myfs-brickd") < 0 || join(registry, d->dir, "registry.db") < 0)
		return report(in, "E-CONFIG-02", EXIT_SYSTEM, NULL, NULL, NULL, "a path of the demo is too long");
	snprintf(control, sizeof(control), "unix:%s", m->control);
	snprintf(nbd, sizeof(nbd), "unix:%s/%s/nbd.sock", d->dir, m->name);
	char *brickd[] = {program, "--registry", registry, "--node", (char *)(uintptr_t)m->name, "--control", control, NULL};
	char *blockd[] = {program, "--registry", registry, "--name", (char *)(uintptr_t)m->name, "--control", control, "--nbd", nbd, "--nbd", NULL, NULL, NULL, NULL};
	char tcp[REG_PATH], portal[128];
	struct registry *r = NULL;
	if (m->gateway) {
		/* The port of the first start is kept, so that URIs people copied stay good. 0 = any. */
		if (registry_open(registry, false, &r, &e) < 0)
			return registry_failed(in, &e, "the demo's registry cannot be opened");
		char key[REG_NAME + 32];
		demo_address_key(m->name, key);
		if (reg_cluster_get(r, key, tcp, sizeof(tcp), NULL) < 0)
			snprintf(tcp, sizeof(tcp), "tcp:127.0.0.1:0");
		demo_portal_key(m->name, key);
		if (reg_cluster_get(r, key, portal, sizeof(portal), NULL) == 0) {
			blockd[11] = (char *)(uintptr_t)"--portal";
			blockd[12] = portal;
		}
		registry_close(r);
		blockd[10] = tcp;
	}
	int rc = proc_start(m->gateway ? blockd : brickd, m->log, m->pid, &e);
	if (rc < 0)
		return report(in, "E-START-02", EXIT_SYSTEM, e.text, NULL, NULL, "%s of the demo cannot be started", m->name);
	rc = wait_ready(in, m);
	return rc == 0 && m->gateway ? keep_nbd_address(in, registry, m->name) : rc;
}
