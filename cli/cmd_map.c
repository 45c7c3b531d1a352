/* cmd_map.c - myfs-block map, unmap, mapped: a LUN as a block device of this host, by the kernel's own NBD or iSCSI client. */
#include <fcntl.h>
#include <inttypes.h>
#include <linux/nbd.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/cluster.h"
#include "cli/cmd.h"
#include "cli/field.h"
#include "cli/iscsi_login.h"
#include "cli/keeper.h"
#include "cli/nbd_link.h"
#include "cli/nbd_netlink.h"
#include "cli/size.h"
#include "cli/table.h"
#include "cli/words.h"

#define MAX_MAPPED 256
#define DETACH_MS 15000
#define DATA_SAFE "every write that was acknowledged and flushed is on the bricks"

extern char **environ;

static int map_failed(const struct invocation *in, int rc, const char *why, const char *fmt, const char *what)
{
	switch (rc) {
	case -EBUSY:
		return report(in, "E-BUSY-06", EXIT_BUSY, why, "nothing was changed", "myfs-block mapped", fmt, what);
	case -EPERM:
	case -EACCES:
		return report(in, "E-DENIED-07", EXIT_NOT_ALLOWED, why, "nothing was changed", "run it as root; who may attach: myfs-block acl list", fmt, what);
	case -ENOENT:
		return report(in, "E-NOTFOUND-05", EXIT_NOT_FOUND, why, "nothing was changed", "myfs-block list", fmt, what);
	default:
		return report(in, "E-MAP-02", EXIT_SYSTEM, why, DATA_SAFE, "myfs explain E-MAP-02", fmt, what);
	}
}

/* One map or unmap at a time on this host. File descriptor or -errno. */
static int lock_mappings(struct err *e)
{
	struct mapping none = {.spec = ".", .proto = "nbd"};
	char path[MAPPING_TEXT];
	int rc = mapping_save(&none, e); /* makes the directories */
	if (rc < 0)
		return rc;
	mapping_forget(none.spec);
	mapping_path(".lock", MAPPING_PID, path);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return err_set(e, -errno, "%s cannot be locked: %s", path, err_name(-errno));
	return fd;
}

static bool module_is_there(const char *name)
{
	char path[64];
	snprintf(path, sizeof(path), "/sys/module/%s", name);
	if (access(path, F_OK) == 0)
		return true;
	char *argv[] = {(char[]){"modprobe"}, (char[]){"-q"}, NULL, NULL};
	char module[32];
	snprintf(module, sizeof(module), "%s", name);
	argv[2] = module;
	pid_t pid;
	int status = 1;
	if (posix_spawnp(&pid, "modprobe", NULL, NULL, argv, environ) == 0)
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			continue;
	return access(path, F_OK) == 0;
}

static int no_module(const struct invocation *in, const char *name)
{
	char next[64];
	snprintf(next, sizeof(next), "modprobe %s", name);
	return report(in, "E-MAP-02", EXIT_SYSTEM, "it could not be loaded either", "nothing was changed", next, "the kernel module %s is not loaded", name);
}

static int print_mapped(const struct invocation *in, const struct mapping *m)
{
	if (want_json(in)) {
		json_t *doc = mapping_to_json(m);
		return print_json("myfs.mapping/1", doc);
	}
	printf("%s\n", m->device); /* alone on standard output: dev=$(myfs-block map vol/lun) */
	return 0;
}

/* ---- map, NBD ---- */

/* Addresses the kernel can use, those of the gateway that serves it first (as lun.info orders them). 0 or exit code. */
static int take_nbd_addresses(const struct invocation *in, const json_t *lun, struct mapping *m)
{
	size_t i, tls = 0;
	json_t *x;
	json_array_foreach(json_object_get(lun, "exports"), i, x) {
		const char *uri = field_text(x, "uri", "");
		if (strcmp(field_text(x, "proto", "nbd"), "nbd") != 0 || strlen(uri) >= MAPPING_TEXT || m->n_uris == MAPPING_URIS)
			continue;
		if (nbd_uri_is_tls(uri))
			tls++;
		else
			snprintf(m->uris[m->n_uris++], MAPPING_TEXT, "%s", uri);
	}
	if (m->n_uris > 0)
		return 0;
	if (tls > 0)
		return report(in, "E-MAP-02", EXIT_SYSTEM, "the kernel's NBD client has no TLS, and every address of this LUN asks for it", "nothing was changed",
		            "attach with a client that has TLS (nbdfuse, QEMU), or map on the gateway's own host over its unix socket", "cannot map %s over NBD", m->spec);
	return report(in, "E-MAP-02", EXIT_SYSTEM, "the gateway offers no NBD address for it", "nothing was changed", "myfs-block info VOL/LUN", "cannot map %s over NBD", m->spec);
}

static int parse_seconds(const struct invocation *in, const char *option, const char *otherwise, uint64_t min, uint64_t *ret)
{
	struct err e = ERR_INIT;
	if (duration_parse(opt_value(in, option, otherwise), ret, &e) < 0)
		return usage_error(in, "%s", e.text);
	if (*ret < min || *ret > 86400)
		return usage_error(in, "--%s is %" PRIu64 " s to 24 h", option, min);
	return 0;
}

static int map_nbd(const struct invocation *in, const json_t *lun, struct mapping *m)
{
	const char *device = opt_value(in, "device", NULL);
	struct err e = ERR_INIT;
	m->connections = (uint64_t)atoi(opt_value(in, "connections", "1"));
	if (m->connections < 1 || m->connections > 16)
		return usage_error(in, "--connections is 1 to 16");
	if (device != NULL && nbd_device_index(device) < 0)
		return usage_error(in, "--device is /dev/nbdN, not \"%s\"", device);
	m->index = device != NULL ? nbd_device_index(device) : NBD_ANY_DEVICE;
	int rc = parse_seconds(in, "io-timeout", "30s", 1, &m->io_timeout_s);
	if (rc == 0)
		rc = parse_seconds(in, "reattach-timeout", "5m", 1, &m->reattach_timeout_s);
	if (rc == 0)
		rc = take_nbd_addresses(in, lun, m);
	if (rc != 0)
		return rc;
	if (!module_is_there("nbd"))
		return no_module(in, "nbd");
	rc = keeper_start(m, false, &e);
	if (rc == -EBUSY && device != NULL)
		return map_failed(in, rc, "the kernel has it connected to something else", "%s is in use", device);
	return rc < 0 ? map_failed(in, rc, e.text, "cannot map %s over NBD", m->spec) : 0;
}

/* ---- map, iSCSI ---- */

static int map_iscsi(const struct invocation *in, const json_t *lun, struct mapping *m)
{
	size_t i;
	json_t *x, *auth = NULL;
	const char *not_used[] = {"device", "connections", "ro", "io-timeout", "reattach-timeout"};
	for (i = 0; i < ARRAY_LEN(not_used); i++)
		if (opt_given(in, not_used[i]))
			return usage_error(in, "--%s is for --proto nbd; open-iscsi's own settings are in /etc/iscsi/iscsid.conf", not_used[i]);
	json_array_foreach(json_object_get(lun, "exports"), i, x) {
		if (strcmp(field_text(x, "proto", ""), "iscsi") != 0 || strlen(field_text(x, "portal", "")) >= MAPPING_TEXT || m->n_uris == MAPPING_URIS)
			continue;
		snprintf(m->uris[m->n_uris++], MAPPING_TEXT, "%s", field_text(x, "portal", ""));
		snprintf(m->target, sizeof(m->target), "%s", field_text(x, "iqn", ""));
	}
	if (m->n_uris == 0)
		return report(in, "E-MAP-02", EXIT_SYSTEM, "it is not offered over iSCSI", "nothing was changed", "myfs-block target enable VOL/LUN", "cannot map %s over iSCSI",
		            m->spec);
	if (!module_is_there("iscsi_tcp"))
		return no_module(in, "iscsi_tcp");
	int rc = cluster_ask_gateway(in, "auth.show", json_pack("{s:s,s:b}", "spec", m->spec, "secret", 1), &auth);
	if (rc != 0)
		return rc;
	struct iscsi_account account = {NULL, NULL, NULL, NULL};
	if (strcmp(field_text(auth, "auth", "none"), "none") != 0) {
		account.user = field_text(auth, "user", NULL);
		account.secret = field_text(auth, "secret", NULL);
		account.target_user = field_text(auth, "mutual_user", NULL);
		account.target_secret = field_text(auth, "mutual_secret", NULL);
	}
	struct err e = ERR_INIT;
	rc = iscsi_login(m->target, m->uris[0], &account, m->device, sizeof(m->device), &e);
	json_decref(auth);
	if (rc == -EACCES)
		return report(in, "E-DENIED-07", EXIT_NOT_ALLOWED, e.text, "nothing was changed",
		            "allow this host: myfs-block acl add VOL/LUN $(cut -d= -f2 /etc/iscsi/initiatorname.iscsi)", "%s does not let this host in", m->target);
	if (rc < 0)
		return map_failed(in, rc == -ENOENT ? -EIO : rc, e.text, "cannot map %s over iSCSI", m->spec);
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	m->since_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	snprintf(m->state, sizeof(m->state), "connected");
	if (mapping_save(m, &e) < 0)
		say(in, "note: %s", e.text);
	return 0;
}

/* ---- map ---- */

/* True when there is one already; *ret_code is then what the command ends with. */
static bool mapped_already(const struct invocation *in, const char *spec, int *ret_code)
{
	struct mapping m;
	char device[64];
	struct err e = ERR_INIT;
	if (mapping_load(spec, &m) < 0)
		return false;
	bool nbd = strcmp(m.proto, "nbd") == 0;
	if (nbd ? !nbd_device_is(m.index, spec) : iscsi_device(m.target, device, sizeof(device)) < 0) {
		keeper_stop(spec);
		mapping_forget(spec);
		return false;
	}
	if (!nbd || keeper_is_alive(spec)) {
		*ret_code = report(in, "E-EXISTS-03", EXIT_EXISTS, NULL, "nothing was changed", "myfs-block mapped", "%s is mapped already, as %s", spec, m.device);
		return true;
	}
	int rc = keeper_start(&m, true, &e);
	if (rc < 0) {
		*ret_code = map_failed(in, rc, e.text, "the keeper of %s cannot be started", spec);
		return true;
	}
	say(in, "%s was mapped as %s already; its keeper had ended and was started again", spec, m.device);
	*ret_code = print_mapped(in, &m);
	return true;
}

static int run_map(const struct invocation *in)
{
	struct mapping m = {.index = NBD_ANY_DEVICE, .connections = 1, .read_only = opt_given(in, "ro")};
	char volume[64], name[64];
	const char *proto = opt_value(in, "proto", "nbd");
	struct err e = ERR_INIT;
	json_t *lun;
	if (spec_parse(in->args[0], volume, name, &e) < 0)
		return usage_error(in, "%s", e.text);
	if (strcmp(proto, "nbd") != 0 && strcmp(proto, "iscsi") != 0)
		return usage_error(in, "--proto is nbd or iscsi, not \"%s\"", proto);
	if (geteuid() != 0)
		return map_failed(in, -EPERM, "only root may attach devices to the kernel", "cannot map %s", in->args[0]);
	int lock = lock_mappings(&e), rc = 0;
	if (lock < 0)
		return map_failed(in, lock, e.text, "cannot map %s", in->args[0]);
	if (mapped_already(in, in->args[0], &rc)) {
		close(lock);
		return rc;
	}
	snprintf(m.spec, sizeof(m.spec), "%s", in->args[0]);
	snprintf(m.proto, sizeof(m.proto), "%s", proto);
	rc = cluster_ask_gateway(in, "lun.info", json_pack("{s:s}", "spec", in->args[0]), &lun);
	if (rc == 0) {
		m.size_bytes = field_u64(lun, "size_bytes");
		m.block_bytes = field_u64(lun, "block_size");
		rc = strcmp(proto, "nbd") == 0 ? map_nbd(in, lun, &m) : map_iscsi(in, lun, &m);
		json_decref(lun);
	}
	close(lock);
	return rc != 0 ? rc : print_mapped(in, &m);
}

/* ---- unmap ---- */

/* By name or by device. 0 or exit code. */
static int find_mapping(const struct invocation *in, const char *what, struct mapping *ret)
{
	static struct mapping all[MAX_MAPPED];
	size_t n = mapping_list(all, MAX_MAPPED);
	for (size_t i = 0; i < n; i++)
		if (strcmp(all[i].spec, what) == 0 || strcmp(all[i].device, what) == 0) {
			*ret = all[i];
			return 0;
		}
	return report(in, "E-NOTFOUND-05", EXIT_NOT_FOUND, NULL, "nothing was changed", "myfs-block mapped", "%s is not mapped on this host", what);
}

/* Writes back what the kernel has cached; refuses when somebody else holds the device. 0 or -errno. */
static int settle_device(const char *device)
{
	int fd = open(device, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENXIO ? 0 : -errno;
	int rc = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

static int unmap_nbd(const struct invocation *in, const struct mapping *m)
{
	struct nbd_netlink *n = NULL;
	struct err e = ERR_INIT;
	if (!nbd_device_is(m->index, m->spec))
		return 0;
	int rc = nbd_netlink_open(&n, &e);
	if (rc == 0)
		rc = nbd_netlink_disconnect(n, m->index, &e);
	nbd_netlink_close(n);
	for (int waited_ms = 0; rc == 0 && nbd_device_is(m->index, m->spec); waited_ms += 20) {
		if (waited_ms >= DETACH_MS)
			rc = err_set(&e, -ETIMEDOUT, "the kernel still has %s connected", m->device);
		(void)poll(NULL, 0, 20);
	}
	return rc < 0 ? map_failed(in, rc, e.text, "cannot unmap %s", m->spec) : 0;
}

static int unmap_locked(const struct invocation *in, const struct mapping *m)
{
	bool nbd = strcmp(m->proto, "nbd") == 0, force = opt_given(in, "force");
	struct err e = ERR_INIT;
	int rc = force ? 0 : settle_device(m->device);
	if (rc == -EBUSY)
		return report(in, "E-BUSY-06", EXIT_BUSY, "it is mounted, or part of another device", "nothing was changed", "unmount it, or give --force (what was not written is lost)",
		            "%s (%s) is in use", m->device, m->spec);
	if (rc < 0)
		return map_failed(in, -EIO, err_name(rc), "%s cannot be written back; --force unmaps it all the same", m->device);
	if (nbd && keeper_stop(m->spec) < 0)
		return map_failed(in, -ETIMEDOUT, "its keeper does not end", "cannot unmap %s", m->spec);
	if (nbd)
		rc = unmap_nbd(in, m);
	else if (iscsi_logout(m->target, m->uris[0], &e) < 0)
		rc = map_failed(in, e.code, e.text, "cannot unmap %s", m->spec);
	if (rc == 0)
		mapping_forget(m->spec);
	return rc;
}

static int run_unmap(const struct invocation *in)
{
	struct mapping m;
	struct err e = ERR_INIT;
	if (geteuid() != 0)
		return map_failed(in, -EPERM, "only root may detach devices from the kernel", "cannot unmap %s", in->args[0]);
	int lock = lock_mappings(&e);
	if (lock < 0)
		return map_failed(in, lock, e.text, "cannot unmap %s", in->args[0]);
	int rc = find_mapping(in, in->args[0], &m);
	if (rc == 0)
		rc = unmap_locked(in, &m);
	close(lock);
	if (rc == 0 && want_json(in))
		return print_json("myfs.unmapped/1", json_pack("{s:s,s:s}", "spec", m.spec, "device", m.device));
	if (rc == 0)
		say(in, "unmapped %s from %s", m.spec, m.device);
	return rc;
}

/* ---- mapped ---- */

static const char *state_now(const struct mapping *m)
{
	char device[64];
	if (strcmp(m->proto, "iscsi") == 0)
		return iscsi_device(m->target, device, sizeof(device)) == 0 ? m->state : "gone";
	if (!nbd_device_is(m->index, m->spec))
		return "gone";
	return keeper_is_alive(m->spec) ? m->state : "no keeper";
}

static json_t *mapped_rows(void)
{
	static struct mapping all[MAX_MAPPED];
	size_t n = mapping_list(all, MAX_MAPPED);
	json_t *rows = json_array();
	for (size_t i = 0; i < n; i++) {
		char since[SIZE_TEXT];
		const struct mapping *m = &all[i];
		json_array_append_new(rows, json_pack("{s:s,s:s,s:s,s:I,s:s,s:s,s:s,s:I,s:b}", "device", m->device, "name", m->spec, "proto", m->proto, "size_bytes",
		                                      (json_int_t)m->size_bytes, "state", state_now(m), "since", time_text(m->since_ns, since), "address", m->uris[0],
		                                      "reattached", (json_int_t)m->reattached, "read_only", (int)m->read_only));
	}
	return rows;
}

static const struct column MAPPED_COLUMNS[] = {
	{"DEVICE", "device", COL_TEXT, false}, {"LUN", "name", COL_TEXT, false},   {"PROTO", "proto", COL_TEXT, false},
	{"SIZE", "size_bytes", COL_SIZE, false}, {"STATE", "state", COL_TEXT, false}, {"SINCE", "since", COL_TEXT, false},
	{"ADDRESS", "address", COL_TEXT, true}, {"REATTACHED", "reattached", COL_COUNT, true},
};

static int run_mapped(const struct invocation *in)
{
	return print_rows(in, "myfs.mapped/1", MAPPED_COLUMNS, ARRAY_LEN(MAPPED_COLUMNS), mapped_rows(), "no LUN is mapped on this host");
}

static const struct option_def MAP_OPTIONS[] = {
	{"proto", 0, "PROTO", "nbd (default) or iscsi", false},
	{"device", 0, "/dev/nbdN", "that device (default: the first free one)", false},
	{"ro", 0, NULL, "read-only", false},
	{"connections", 'C', "N", "NBD connections, 1 to 16 (default 1)", false},
	{"io-timeout", 0, "TIME", "a request without an answer is sent again over a new connection after this (default 30s)", false},
	{"reattach-timeout", 0, "TIME", "how long I/O waits for a gateway that went away before it fails (default 5m)", false},
	{NULL, 0, NULL, NULL, false},
};
static const struct option_def UNMAP_OPTIONS[] = {
	{"force", 0, NULL, "also while mounted or hanging: what was not written is lost", false},
	{NULL, 0, NULL, NULL, false},
};

const struct command MAP_COMMANDS[] = {
	{"map", NULL, "VOL/LUN", "make a LUN a block device of this host; prints its name", "  dev=$(myfs-block map vol/lun)\n  myfs-block map vol/lun --device /dev/nbd3 -C 4\n  myfs-block map vol/lun --proto iscsi", 1, 1,
	 MAP_OPTIONS, run_map},
	{"unmap", NULL, "VOL/LUN|DEVICE", "take the block device away", "  myfs-block unmap vol/lun\n  myfs-block unmap /dev/nbd0 --force", 1, 1, UNMAP_OPTIONS, run_unmap},
	{"mapped", NULL, "", "LUNs that are block devices of this host", NULL, 0, 0, NULL, run_mapped},
	{NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
