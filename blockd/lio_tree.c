/* lio_tree.c - backstores (the tcmu device of a LUN), and a target and its backstore as one thing; see lio_tree.h. */
#include "blockd/lio_tree.h"

#include <stdio.h>

static void path_of(char out[LIO_PATH], const char *fmt, ...) PRINTF(2, 3);
static void path_of(char out[LIO_PATH], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(out, LIO_PATH, fmt, ap);
	va_end(ap);
}

/* ---- small steps, shared with lio_target.c ---- */

int lio_attribute(struct lio_tree *t, const char *path, const char *value, struct err *e)
{
	char now[LIO_VALUE];
	int rc = t->fs->read(t->fs, path, now);

	if (rc == 0 && strcmp(now, value) == 0)
		return 0; /* T3 */
	rc = t->fs->write(t->fs, path, value);
	return rc < 0 ? err_set(e, rc, "%s cannot be written: %s", path, err_name(rc)) : 0;
}

int lio_mkdir(struct lio_tree *t, const char *path, struct err *e)
{
	int rc = t->fs->mkdir(t->fs, path);

	return rc < 0 && rc != -EEXIST ? err_set(e, rc, "%s cannot be made: %s", path, err_name(rc)) : 0;
}

int lio_rmdir(struct lio_tree *t, const char *path, struct err *e)
{
	int rc = t->fs->rmdir(t->fs, path);

	return rc < 0 && rc != -ENOENT ? err_set(e, rc, "%s cannot be removed: %s", path, err_name(rc)) : 0;
}

struct gathering {
	struct lio_names names;
	enum lio_kind kind;
	int rc;
};

static void gather(void *arg, const char *name, enum lio_kind kind)
{
	struct gathering *g = arg;

	if (kind != g->kind || strlen(name) >= REG_IQN || g->rc < 0)
		return;
	void *grown = reallocarray(g->names.v, g->names.n + 1, sizeof(*g->names.v));
	if (!grown) {
		g->rc = -ENOMEM;
		return;
	}
	g->names.v = grown;
	snprintf(g->names.v[g->names.n++], REG_IQN, "%s", name);
}

int lio_names_read(struct lio_tree *t, const char *path, enum lio_kind kind, struct lio_names *ret, struct err *e)
{
	struct gathering g = {.kind = kind};
	int rc = t->fs->list(t->fs, path, gather, &g);

	if (rc == -ENOENT)
		rc = 0;
	if (rc == 0)
		rc = g.rc;
	if (rc < 0) {
		free(g.names.v);
		return err_set(e, rc, "%s cannot be listed: %s", path, err_name(rc));
	}
	*ret = g.names;
	return 0;
}

bool lio_names_have(const struct lio_names *names, const char *name)
{
	for (size_t i = 0; i < names->n; i++)
		if (strcmp(names->v[i], name) == 0)
			return true;
	return false;
}

static void doing(struct lio_tree *t, const char *iqn, const char *what)
{
	if (t->doing)
		t->doing(t->arg, iqn, what);
}

/* ---- the backstore ---- */

static bool attribute_is(struct lio_tree *t, const char *dir, const char *name, const char *value)
{
	char path[LIO_PATH], now[LIO_VALUE];

	path_of(path, "%s/%s", dir, name);
	if (t->fs->read(t->fs, path, now) < 0)
		return false;
	/* The serial is shown as "T10 VPD Unit Serial Number: x". */
	const char *colon = strcmp(name, "wwn/vpd_unit_serial") == 0 ? strrchr(now, ':') : NULL;
	return strcmp(colon ? colon + 1 + strspn(colon + 1, " ") : now, value) == 0;
}

/* T4: is the enabled device the disk that is wanted? */
static bool same_disk(struct lio_tree *t, const char *dir, const struct lio_target *target)
{
	char block[16];

	snprintf(block, sizeof(block), "%u", target->block_size);
	return attribute_is(t, dir, "attrib/dev_config", target->config) &&
	       attribute_is(t, dir, "attrib/hw_block_size", block) &&
	       attribute_is(t, dir, "wwn/vpd_unit_serial", target->serial);
}

static int control(struct lio_tree *t, const char *dir, const char *fmt, ...) PRINTF(3, 4);
static int control(struct lio_tree *t, const char *dir, const char *fmt, ...)
{
	char path[LIO_PATH], value[LIO_CONFIG + 64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	path_of(path, "%s/control", dir);
	return t->fs->write(t->fs, path, value);
}

/* Names a host sees; the kernel refuses to change them once the disk is exported. Absent in old kernels. */
static int write_names(struct lio_tree *t, const char *dir, const struct lio_target *target)
{
	const struct {
		const char *name, *value;
		bool needed;
	} names[] = {{"wwn/vpd_unit_serial", target->serial, true},
		     {"wwn/vendor_id", LIO_VENDOR, false},
		     {"wwn/product_id", target->product, false}};
	char path[LIO_PATH];
	int rc = 0;

	for (size_t i = 0; i < ARRAY_LEN(names) && rc == 0; i++) {
		if (attribute_is(t, dir, names[i].name, names[i].value))
			continue;
		path_of(path, "%s/%s", dir, names[i].name);
		rc = t->fs->write(t->fs, path, names[i].value);
		if (rc == -ENOENT && !names[i].needed)
			rc = 0;
	}
	return rc;
}

static int backstore_make(struct lio_tree *t, const char *dir, const struct lio_target *target, struct err *e)
{
	char path[LIO_PATH];
	int rc;

	if (!target->may_create)
		return err_set(e, -EAGAIN, "too few bricks answer to open it");
	if (!t->runner) /* T5 */
		return err_set(e, -EHOSTDOWN, "tcmu-runner is not running");
	path_of(path, "core/user_%u", t->want->hba);
	rc = lio_mkdir(t, path, e);
	if (rc < 0)
		return rc == -EINVAL ? err_set(e, -ENODEV, "the kernel has no target_core_user") : rc;
	rc = lio_mkdir(t, dir, e);
	if (rc < 0)
		return rc;
	rc = control(t, dir, "dev_config=%s", target->config);
	if (rc == 0)
		rc = control(t, dir, "dev_size=%llu", (unsigned long long)target->size_bytes);
	if (rc == 0)
		rc = control(t, dir, "hw_block_size=%u", target->block_size);
	if (rc == 0)
		rc = control(t, dir, "hw_max_sectors=%u", LIO_MAX_IO_BYTES / target->block_size);
	if (rc == 0)
		rc = control(t, dir, "max_data_area_mb=%u", LIO_MAX_DATA_AREA_MB);
	if (rc == 0)
		rc = write_names(t, dir, target);
	if (rc < 0)
		return err_set(e, rc, "%s does not take its settings: %s", dir, err_name(rc));
	path_of(path, "%s/attrib/cmd_time_out", dir);
	rc = lio_attribute(t, path, LIO_CMD_TIME_OUT, e); /* refused later, when it is exported */
	if (rc < 0)
		return rc;
	doing(t, target->iqn, "waiting for tcmu-runner to open the device");
	path_of(path, "%s/enable", dir);
	rc = t->fs->write(t->fs, path, "1");
	return rc < 0 ? err_set(e, rc,
				"tcmu-runner refuses the device (%s): its log says why; is handler_myfs.so installed?",
				err_name(rc))
		      : 0;
}

static int backstore_size(struct lio_tree *t, const char *dir, const struct lio_target *target, struct err *e)
{
	char path[LIO_PATH], size[24];

	snprintf(size, sizeof(size), "%llu", (unsigned long long)target->size_bytes);
	if (attribute_is(t, dir, "attrib/dev_size", size))
		return 0;
	if (!t->runner) /* T5 */
		return err_set(e, -EHOSTDOWN, "the new size waits for tcmu-runner, which is not running");
	doing(t, target->iqn, "waiting for tcmu-runner to take the new size");
	path_of(path, "%s/attrib/dev_size", dir);
	return lio_attribute(t, path, size, e);
}

static int backstore_remove(struct lio_tree *t, const char *iqn, const char *dir, struct err *e)
{
	char path[LIO_PATH];
	bool enabled = attribute_is(t, dir, "enable", "1");

	if (enabled && !t->runner) /* T5 */
		return err_set(e, -EHOSTDOWN, "its device goes when tcmu-runner is running again");
	if (enabled)
		doing(t, iqn, "waiting for tcmu-runner to close the device");
	int rc = lio_rmdir(t, dir, e);
	if (rc == 0) {
		/* The HBA goes with its last device. */
		path_of(path, "%.*s", (int)(strrchr(dir, '/') - dir), dir);
		(void)t->fs->rmdir(t->fs, path);
	}
	return rc;
}

/* ---- target and backstore ---- */

/* T1: ours, or of a gateway of this cluster that is gone: it cannot clear it away itself. */
static bool may_remove(const struct lio_tree *t, uint32_t hba)
{
	for (unsigned i = 0; i < t->want->gone_n; i++)
		if (t->want->gone[i] == hba)
			return true;
	return hba == t->want->hba;
}

/* "user_<hba>/<backstore>" that the target's LUN links to; -ENOENT when it has none. */
static int linked_backstore(struct lio_tree *t, const char *iqn, uint32_t *ret_hba, char ret_name[LIO_BACKSTORE])
{
	char path[LIO_PATH], to[LIO_PATH];
	struct lio_names links = {NULL, 0};
	unsigned hba;

	path_of(path, "iscsi/%s/tpgt_1/lun/lun_0", iqn);
	int rc = lio_names_read(t, path, LIO_LINK, &links, NULL);
	if (rc < 0 || links.n == 0) {
		free(links.v);
		return -ENOENT;
	}
	path_of(path, "iscsi/%s/tpgt_1/lun/lun_0/%s", iqn, links.v[0]);
	free(links.v);
	rc = t->fs->readlink(t->fs, path, to);
	const char *core = rc == 0 ? strstr(to, "/core/user_") : NULL;
	const char *name = rc == 0 ? strrchr(to, '/') : NULL;
	if (!core || sscanf(core, "/core/user_%u/", &hba) != 1 || strlen(name + 1) >= LIO_BACKSTORE)
		return -ENOENT;
	*ret_hba = hba;
	snprintf(ret_name, LIO_BACKSTORE, "%s", name + 1);
	return 0;
}

int lio_target_apply(struct lio_tree *t, const struct lio_target *target, struct err *e)
{
	char dir[LIO_PATH], linked[LIO_BACKSTORE] = "";
	uint32_t hba = t->want->hba;
	int rc = linked_backstore(t, target->iqn, &hba, linked);

	bool linked_here = rc == 0 && hba == t->want->hba && strcmp(linked, target->backstore) == 0;
	if (rc == 0 && !may_remove(t, hba))
		return err_set(e, -EBUSY, "another gateway on this host still exports it");
	path_of(dir, "core/user_%u/%s", t->want->hba, target->backstore);
	bool enabled = attribute_is(t, dir, "enable", "1");
	if ((enabled && !same_disk(t, dir, target)) || (rc == 0 && !linked_here)) {
		rc = lio_target_remove(t, target->iqn, e); /* T4 */
		if (rc == 0)
			rc = backstore_remove(t, target->iqn, dir, e);
		if (rc < 0)
			return rc;
		enabled = false;
	}
	rc = enabled ? backstore_size(t, dir, target, e) : backstore_make(t, dir, target, e);
	return rc == 0 ? lio_iscsi_apply(t, target, e) : rc;
}

int lio_target_remove(struct lio_tree *t, const char *iqn, struct err *e)
{
	char dir[LIO_PATH], name[LIO_BACKSTORE] = "";
	uint32_t hba = t->want->hba;
	bool linked = linked_backstore(t, iqn, &hba, name) == 0;
	int rc;

	if (!may_remove(t, hba))
		return 0;
	doing(t, iqn, "ending its sessions");
	rc = lio_iscsi_remove(t, iqn, e);
	if (rc < 0)
		return rc;
	/* A target without a link had its device under the IQN's own name. */
	size_t prefix = strlen(t->want->prefix);
	path_of(dir, "core/user_%u/%s", hba,
		linked                                       ? name
		: strncmp(iqn, t->want->prefix, prefix) == 0 ? iqn + prefix
							     : iqn);
	return backstore_remove(t, iqn, dir, e);
}

static bool wanted(const struct lio_tree *t, const char *iqn, const char *backstore)
{
	for (size_t i = 0; i < t->want->targets_n; i++) {
		if (iqn && strcmp(t->want->targets[i].iqn, iqn) == 0)
			return true;
		if (backstore && strcmp(t->want->targets[i].backstore, backstore) == 0)
			return true;
	}
	return false;
}

/* T1: not ours to remove: another gateway of the cluster, on this host too, is making or serving it. */
static bool of_others(struct lio_tree *t, const char *iqn)
{
	char name[LIO_BACKSTORE];
	uint32_t hba;

	if (linked_backstore(t, iqn, &hba, name) == 0)
		return !may_remove(t, hba);
	for (size_t i = 0; i < t->want->others_n; i++)
		if (strcmp(t->want->others[i], iqn) == 0)
			return true;
	return false;
}

static int stray_targets_remove(struct lio_tree *t, struct err *e)
{
	struct lio_names targets = {NULL, 0};
	int rc = lio_names_read(t, "iscsi", LIO_DIR, &targets, e);

	for (size_t i = 0; i < targets.n; i++) {
		if (strncmp(targets.v[i], t->want->prefix, strlen(t->want->prefix)) != 0 ||
		    wanted(t, targets.v[i], NULL) || of_others(t, targets.v[i]))
			continue;
		int one = lio_target_remove(t, targets.v[i], rc == 0 ? e : NULL);
		rc = rc == 0 ? one : rc;
	}
	free(targets.v);
	return rc;
}

/* Devices of one HBA that no wanted target of ours uses. */
static int stray_backstores_remove(struct lio_tree *t, uint32_t hba, struct err *e)
{
	struct lio_names backstores = {NULL, 0};
	char dir[LIO_PATH], path[LIO_PATH], probe[LIO_PATH + 16], now[LIO_VALUE];
	unsigned kept = 0;

	path_of(dir, "core/user_%u", hba);
	int rc = lio_names_read(t, dir, LIO_DIR, &backstores, e);
	for (size_t i = 0; i < backstores.n; i++) {
		path_of(path, "core/user_%u/%s", hba, backstores.v[i]);
		snprintf(probe, sizeof(probe), "%s/enable", path);
		if (t->fs->read(t->fs, probe, now) < 0)
			continue; /* a group of the kernel's, no device */
		int one = hba == t->want->hba && wanted(t, NULL, backstores.v[i])
			      ? -EEXIST
			      : backstore_remove(t, backstores.v[i], path, rc == 0 ? e : NULL);
		kept += one < 0;
		rc = rc == 0 && one != -EEXIST ? one : rc;
	}
	/* An HBA without devices: a pass was cut off between the two. */
	if (kept == 0)
		(void)t->fs->rmdir(t->fs, dir);
	free(backstores.v);
	return rc;
}

int lio_strays_remove(struct lio_tree *t, struct err *e)
{
	int rc = stray_targets_remove(t, e);

	for (unsigned i = 0; i <= t->want->gone_n; i++) {
		uint32_t hba = i < t->want->gone_n ? t->want->gone[i] : t->want->hba;
		int one = stray_backstores_remove(t, hba, rc == 0 ? e : NULL);

		rc = rc == 0 ? one : rc;
	}
	return rc;
}
