/* lio_kernel.h - a directory that behaves like the kernel's target tree: making a directory brings its default groups
 * and attributes, some writes have effects, and what is used cannot be removed. Used through struct lio_fs. */
#ifndef MYFS_TEST_LIO_KERNEL_H
#define MYFS_TEST_LIO_KERNEL_H

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockd/lio_fs.h"

struct lio_kernel {
	struct lio_fs fs, plain;
	char root[64];
	unsigned changes;     /* so far: directories, links, writes */
	unsigned crash_after; /* changes that still happen; then everything fails, as for a process that was killed */
	int refuse_enable;    /* what tcmu-runner answers, 0 = opens the device */
	void (*after)(struct lio_kernel *k); /* called after every change */
};

static inline void kernel_put(struct lio_kernel *k, const char *dir, const char *name, const char *value)
{
	char path[2 * LIO_PATH];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s/%s", k->root, dir, name);
	for (char *p = path + strlen(k->root) + 1; (p = strchr(p, '/')); *p++ = '/') {
		*p = '\0';
		mkdir(path, 0755);
	}
	if (name[strlen(name) - 1] == '/')
		return;
	f = fopen(path, "w");
	assert(f);
	fputs(value, f);
	fclose(f);
}

/* What a new directory comes with; the kind of directory follows from its place. */
enum place { P_HBA, P_DEVICE, P_FABRIC, P_TARGET, P_TPG, P_NP, P_LUN, P_ACL, P_ACL_LUN, P_OTHER };

static inline enum place place_of(const char *path)
{
	unsigned depth = 1;

	for (const char *p = path; *p; p++)
		depth += *p == '/';
	if (strncmp(path, "core/", 5) == 0)
		return depth == 2 ? P_HBA : depth == 3 ? P_DEVICE : P_OTHER;
	if (depth == 5 && strstr(path, "/np/"))
		return P_NP;
	if (depth == 5 && strstr(path, "/lun/"))
		return P_LUN;
	if (strstr(path, "/acls/"))
		return depth == 5 ? P_ACL : depth == 6 && strstr(path, "/lun_") ? P_ACL_LUN : P_OTHER;
	return depth == 1 ? P_FABRIC : depth == 2 ? P_TARGET : depth == 3 ? P_TPG : P_OTHER;
}

static const struct {
	enum place place;
	const char *name, *value;
} kernel_defaults[] = {
    {P_HBA, "hba_info", "HBA Index: 1 plugin: user"},
    {P_DEVICE, "control", ""},
    {P_DEVICE, "enable", "0"},
    {P_DEVICE, "alua/default_tg_pt_gp/", ""},
    {P_DEVICE, "attrib/dev_config", ""},
    {P_DEVICE, "attrib/dev_size", "0"},
    {P_DEVICE, "attrib/hw_block_size", "512"},
    {P_DEVICE, "attrib/hw_max_sectors", "128"},
    {P_DEVICE, "attrib/max_data_area_mb", "1024"},
    {P_DEVICE, "attrib/cmd_time_out", "30"},
    {P_DEVICE, "wwn/vpd_unit_serial", "T10 VPD Unit Serial Number: "},
    {P_DEVICE, "wwn/vendor_id", "LIO-ORG"},
    {P_DEVICE, "wwn/product_id", "TCM-USER"},
    {P_FABRIC, "discovery_auth/userid", ""},
    {P_TARGET, "fabric_statistics/", ""},
    {P_TPG, "enable", "0"},
    {P_TPG, "dynamic_sessions", ""},
    {P_TPG, "np/", ""},
    {P_TPG, "acls/", ""},
    {P_TPG, "lun/", ""},
    {P_TPG, "auth/userid", ""},
    {P_TPG, "auth/password", ""},
    {P_TPG, "auth/userid_mutual", ""},
    {P_TPG, "auth/password_mutual", ""},
    {P_TPG, "attrib/authentication", "0"},
    {P_TPG, "attrib/generate_node_acls", "0"},
    {P_TPG, "attrib/demo_mode_write_protect", "1"},
    {P_TPG, "attrib/cache_dynamic_acls", "0"},
    {P_TPG, "attrib/default_cmdsn_depth", "64"},
    {P_TPG, "param/MaxRecvDataSegmentLength", "8192"},
    {P_TPG, "param/FirstBurstLength", "65536"},
    {P_TPG, "param/MaxBurstLength", "262144"},
    {P_LUN, "alua_tg_pt_gp", ""},
    {P_LUN, "statistics/", ""},
    {P_ACL, "info", "No active iSCSI Session for Initiator Endpoint"},
    {P_ACL, "auth/userid", ""},
    {P_ACL, "auth/password", ""},
    {P_ACL, "auth/userid_mutual", ""},
    {P_ACL, "auth/password_mutual", ""},
    {P_ACL, "fabric_statistics/", ""},
    {P_ACL_LUN, "write_protect", "1"},
    {P_ACL_LUN, "statistics/", ""},
};

/* A process that was killed changes nothing more. */
static inline int kernel_change(struct lio_kernel *k)
{
	if (k->changes >= k->crash_after)
		return -EIO;
	k->changes++;
	return 0;
}

static inline int kernel_changed(struct lio_kernel *k, int rc)
{
	if (k->after)
		k->after(k);
	return rc;
}

static inline int fake_mkdir(struct lio_fs *fs, const char *path)
{
	struct lio_kernel *k = CONTAINER_OF(fs, struct lio_kernel, fs);
	char probe[LIO_PATH];
	struct stat st;

	snprintf(probe, sizeof(probe), "%s/%s", k->root, path);
	if (stat(probe, &st) == 0)
		return -EEXIST;
	int rc = kernel_change(k);
	if (rc == 0)
		rc = k->plain.mkdir(&k->plain, path);
	for (size_t i = 0; i < ARRAY_LEN(kernel_defaults) && rc == 0; i++)
		if (kernel_defaults[i].place == place_of(path))
			kernel_put(k, path, kernel_defaults[i].name, kernel_defaults[i].value);
	return kernel_changed(k, rc);
}

/* Does any link of the tree lead to the directory? */
static const char *link_wanted;
static bool link_found;
static inline int find_link(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	char to[LIO_PATH];
	ssize_t n;

	(void)st, (void)ftw;
	if (type == FTW_SL || type == FTW_SLN) {
		n = readlink(path, to, sizeof(to) - 1);
		to[n > 0 ? n : 0] = '\0';
		link_found |= strcmp(to, link_wanted) == 0;
	}
	return 0;
}

static inline bool kernel_linked(struct lio_kernel *k, const char *path)
{
	char to[LIO_PATH];

	snprintf(to, sizeof(to), "%s/%s", k->root, path);
	link_wanted = to;
	link_found = false;
	nftw(k->root, find_link, 16, FTW_PHYS);
	return link_found;
}

struct children {
	enum place place;
	bool foreign;
};

static inline void see_child(void *arg, const char *name, enum lio_kind kind)
{
	struct children *c = arg;
	bool own = false;
	size_t len = strlen(name);

	for (size_t i = 0; i < ARRAY_LEN(kernel_defaults); i++)
		own |= kernel_defaults[i].place == c->place && strncmp(kernel_defaults[i].name, name, len) == 0 &&
		       (kernel_defaults[i].name[len] == '/' || kernel_defaults[i].name[len] == '\0');
	c->foreign |= kind != LIO_ATTRIBUTE && !own;
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static inline int fake_rmdir(struct lio_fs *fs, const char *path)
{
	static const char *const groups[] = {"np", "acls", "lun"};
	struct lio_kernel *k = CONTAINER_OF(fs, struct lio_kernel, fs);
	struct children c = {.place = place_of(path)};
	char full[LIO_PATH], group[LIO_PATH];
	int rc = k->plain.list(&k->plain, path, see_child, &c);

	for (size_t i = 0; i < ARRAY_LEN(groups) && place_of(path) == P_TPG && rc == 0; i++) {
		struct children g = {.place = P_OTHER};

		snprintf(group, sizeof(group), "%s/%s", path, groups[i]);
		k->plain.list(&k->plain, group, see_child, &g);
		c.foreign |= g.foreign;
	}
	if (rc < 0)
		return rc;
	if (c.foreign)
		return -ENOTEMPTY;
	if (kernel_linked(k, path))
		return -EBUSY;
	rc = kernel_change(k);
	snprintf(full, sizeof(full), "%s/%s", k->root, path);
	if (rc == 0)
		rc = nftw(full, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return kernel_changed(k, rc);
}

static inline int fake_link(struct lio_fs *fs, const char *to, const char *path)
{
	struct lio_kernel *k = CONTAINER_OF(fs, struct lio_kernel, fs);
	char enable[LIO_PATH + 8], value[LIO_VALUE];
	int rc = 0;

	snprintf(enable, sizeof(enable), "%s/enable", to);
	if (strncmp(to, "core/", 5) == 0 && (k->plain.read(&k->plain, enable, value) < 0 || strcmp(value, "1") != 0))
		rc = -ENODEV; /* an unconfigured device cannot be exported */
	if (rc == 0)
		rc = kernel_change(k);
	if (rc == 0)
		rc = k->plain.link(&k->plain, to, path);
	return kernel_changed(k, rc);
}

static inline int fake_unlink(struct lio_fs *fs, const char *path)
{
	struct lio_kernel *k = CONTAINER_OF(fs, struct lio_kernel, fs);
	int rc = kernel_change(k);

	return kernel_changed(k, rc == 0 ? k->plain.unlink(&k->plain, path) : rc);
}

/* "key=value" written to control shows in attrib/, but dev_config only before the device is enabled. */
static inline int fake_control(struct lio_kernel *k, const char *dir, const char *value)
{
	char key[64], path[LIO_PATH], now[LIO_VALUE];
	const char *eq = strchr(value, '=');

	if (!eq)
		return -EINVAL;
	snprintf(path, sizeof(path), "%s/enable", dir);
	if (k->plain.read(&k->plain, path, now) == 0 && strcmp(now, "1") == 0)
		return -EEXIST;
	snprintf(key, sizeof(key), "%.*s", (int)(eq - value), value);
	snprintf(path, sizeof(path), "%s/attrib", dir);
	kernel_put(k, path, key, eq + 1);
	return 0;
}

static inline int fake_write(struct lio_fs *fs, const char *path, const char *value)
{
	struct lio_kernel *k = CONTAINER_OF(fs, struct lio_kernel, fs);
	char dir[LIO_PATH], shown[LIO_VALUE], old[LIO_VALUE];
	const char *slash = strrchr(path, '/');
	int rc = k->plain.read(&k->plain, path, old);

	if (rc < 0)
		return rc;
	snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
	rc = kernel_change(k);
	if (rc < 0)
		return rc;
	if (strcmp(slash, "/control") == 0)
		return kernel_changed(k, fake_control(k, dir, value));
	snprintf(shown, sizeof(shown), "%s", value);
	if (strcmp(slash, "/enable") == 0 && place_of(dir) == P_DEVICE && k->refuse_enable)
		return k->refuse_enable;
	if (strstr(path, "/wwn/")) {
		char device[LIO_PATH];

		snprintf(device, sizeof(device), "%.*s", (int)(strstr(path, "/wwn/") - path), path);
		if (kernel_linked(k, device))
			return -EINVAL;
		if (strcmp(slash, "/vpd_unit_serial") == 0)
			snprintf(shown, sizeof(shown), "T10 VPD Unit Serial Number: %s", value);
	}
	kernel_put(k, dir, slash + 1, shown);
	return kernel_changed(k, 0);
}

static inline int fake_read(struct lio_fs *fs, const char *path, char ret[LIO_VALUE])
{
	struct lio_kernel *k = CONTAINER_OF(fs, struct lio_kernel, fs);

	return k->plain.read(&k->plain, path, ret);
}

static inline int fake_readlink(struct lio_fs *fs, const char *path, char ret[LIO_PATH])
{
	struct lio_kernel *k = CONTAINER_OF(fs, struct lio_kernel, fs);

	return k->plain.readlink(&k->plain, path, ret);
}

static inline int fake_list(struct lio_fs *fs, const char *path,
			    void (*each)(void *arg, const char *name, enum lio_kind kind), void *arg)
{
	struct lio_kernel *k = CONTAINER_OF(fs, struct lio_kernel, fs);

	return k->plain.list(&k->plain, path, each, arg);
}

static inline struct lio_kernel *lio_kernel_new(void)
{
	struct lio_kernel *k = calloc(1, sizeof(*k));
	char core[96];

	assert(k);
	snprintf(k->root, sizeof(k->root), "/tmp/myfs-lio-XXXXXX");
	if (!mkdtemp(k->root))
		abort();
	snprintf(core, sizeof(core), "%s/core", k->root);
	if (mkdir(core, 0755) < 0)
		abort();
	k->plain = lio_fs_kernel(k->root);
	k->crash_after = UINT32_MAX;
	k->fs = (struct lio_fs){.mkdir = fake_mkdir,
				.rmdir = fake_rmdir,
				.link = fake_link,
				.unlink = fake_unlink,
				.write = fake_write,
				.read = fake_read,
				.readlink = fake_readlink,
				.list = fake_list,
				.root = k->root};
	return k;
}

static inline void lio_kernel_free(struct lio_kernel *k)
{
	nftw(k->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(k);
}

/* The whole tree as text, owned: "path = value", "path -> link", sorted; empty directories "path/". */
static inline void dump_dir(struct lio_kernel *k, const char *dir, FILE *out)
{
	char full[LIO_PATH], path[LIO_PATH], value[LIO_VALUE];
	struct dirent **entries;
	struct stat st;

	snprintf(full, sizeof(full), "%s/%s", k->root, dir);
	int n = scandir(full, &entries, NULL, alphasort);
	assert(n >= 2);
	if (n == 2)
		fprintf(out, "%s/\n", dir);
	for (int i = 0; i < n; i++) {
		if (entries[i]->d_name[0] != '.') {
			snprintf(path, sizeof(path), "%s%s%s", dir, dir[0] ? "/" : "", entries[i]->d_name);
			snprintf(full, sizeof(full), "%s/%s", k->root, path);
			if (lstat(full, &st) == 0 && S_ISDIR(st.st_mode)) {
				dump_dir(k, path, out);
			} else if (S_ISLNK(st.st_mode) && k->plain.readlink(&k->plain, path, value) == 0) {
				fprintf(out, "%s -> %s\n", path, value + strlen(k->root) + 1);
			} else if (k->plain.read(&k->plain, path, value) == 0 &&
				   strcmp(entries[i]->d_name, "control") != 0) {
				fprintf(out, "%s = %s\n", path, value);
			}
		}
		free(entries[i]);
	}
	free(entries);
}

static inline char *lio_kernel_dump(struct lio_kernel *k)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	assert(out);
	dump_dir(k, "", out);
	fclose(out);
	return text;
}

#endif
