/* lio_target.c - the iSCSI side of a target: portals, LUN 0, who may log in and how they prove it. */
#include <stdio.h>

#include "blockd/lio_tree.h"

#define NO_NAME "NULL" /* what the kernel takes for "no CHAP name or secret" */

/* Path inside the target's one portal group. */
static void tpg_path(char out[LIO_PATH], const char *iqn, const char *fmt, ...) PRINTF(3, 4);
static void tpg_path(char out[LIO_PATH], const char *iqn, const char *fmt, ...)
{
	int n = snprintf(out, LIO_PATH, "iscsi/%s/tpgt_1/", iqn);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(out + n, LIO_PATH - (size_t)n, fmt, ap);
	va_end(ap);
}

/* ---- authentication ---- */

static int auth_apply(struct lio_tree *t, const char *dir, const struct lio_target *target, struct err *e)
{
	bool chap = target->auth != REG_AUTH_NONE, mutual = target->auth == REG_AUTH_MUTUAL;
	const struct {
		const char *name, *value;
	} values[] = {{"userid", chap ? target->chap_user : NO_NAME},
		      {"password", chap ? target->chap_secret : NO_NAME},
		      {"userid_mutual", mutual ? target->mutual_user : NO_NAME},
		      {"password_mutual", mutual ? target->mutual_secret : NO_NAME}};
	char path[LIO_PATH], now[LIO_VALUE];
	int rc = 0;

	for (size_t i = 0; i < ARRAY_LEN(values) && rc == 0; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, values[i].name);
		/* Never set and cleared look different and are the same. */
		if (strcmp(values[i].value, NO_NAME) == 0 && t->fs->read(t->fs, path, now) == 0 && now[0] == '\0')
			continue;
		rc = lio_attribute(t, path, values[i].value, e);
	}
	return rc;
}

/* ---- what the portal group is like ---- */

static int attributes_apply(struct lio_tree *t, const struct lio_target *target, struct err *e)
{
	const struct {
		const char *name, *value;
	} values[] = {
	    {"attrib/authentication", target->auth != REG_AUTH_NONE ? "1" : "0"},
	    {"attrib/generate_node_acls", target->open ? "1" : "0"},
	    {"attrib/demo_mode_write_protect", target->open ? "0" : "1"},
	    {"attrib/cache_dynamic_acls", target->open ? "1" : "0"},
	    {"attrib/default_cmdsn_depth", "128"}, /* commands an initiator may have under way */
	    {"param/MaxRecvDataSegmentLength", "262144"},
	    {"param/FirstBurstLength", "262144"},
	    {"param/MaxBurstLength", "1048576"},
	};
	char path[LIO_PATH];
	int rc = 0;

	for (size_t i = 0; i < ARRAY_LEN(values) && rc == 0; i++) {
		tpg_path(path, target->iqn, "%s", values[i].name);
		rc = lio_attribute(t, path, values[i].value, e);
	}
	if (rc == 0) {
		tpg_path(path, target->iqn, "auth");
		rc = auth_apply(t, path, target, e);
	}
	return rc;
}

/* ---- LUN 0 ---- */

static int link_apply(struct lio_tree *t, const char *dir, const char *to, struct err *e)
{
	struct lio_names links = {NULL, 0};
	char path[LIO_PATH];
	int rc = lio_mkdir(t, dir, e);

	if (rc == 0)
		rc = lio_names_read(t, dir, LIO_LINK, &links, e);
	if (rc == 0 && links.n == 0) {
		snprintf(path, sizeof(path), "%s/" LIO_LINK_NAME, dir);
		rc = t->fs->link(t->fs, to, path);
		if (rc < 0)
			err_set(e, rc, "%s cannot be linked to %s: %s", path, to, err_name(rc));
	}
	free(links.v);
	return rc;
}

static int link_remove(struct lio_tree *t, const char *dir, struct err *e)
{
	struct lio_names links = {NULL, 0};
	char path[LIO_PATH];
	int rc = lio_names_read(t, dir, LIO_LINK, &links, e);

	for (size_t i = 0; i < links.n && rc == 0; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, links.v[i]);
		rc = t->fs->unlink(t->fs, path);
		if (rc < 0)
			err_set(e, rc, "%s cannot be removed: %s", path, err_name(rc));
	}
	free(links.v);
	return rc == 0 ? lio_rmdir(t, dir, e) : rc;
}

/* ---- initiators ---- */

static int acl_apply(struct lio_tree *t, const struct lio_target *target, const char *initiator, struct err *e)
{
	char dir[LIO_PATH], lun[LIO_PATH];
	int rc;

	tpg_path(dir, target->iqn, "acls/%s", initiator);
	rc = lio_mkdir(t, dir, e);
	if (rc == 0) {
		tpg_path(dir, target->iqn, "acls/%s/auth", initiator);
		rc = auth_apply(t, dir, target, e);
	}
	if (rc == 0) {
		tpg_path(dir, target->iqn, "acls/%s/lun_0", initiator);
		tpg_path(lun, target->iqn, "lun/lun_0");
		rc = link_apply(t, dir, lun, e);
	}
	if (rc == 0) {
		tpg_path(dir, target->iqn, "acls/%s/lun_0/write_protect", initiator);
		rc = lio_attribute(t, dir, "0", e);
	}
	return rc;
}

/* Ends the initiator's session. */
static int acl_remove(struct lio_tree *t, const char *iqn, const char *initiator, struct err *e)
{
	char dir[LIO_PATH];
	int rc;

	tpg_path(dir, iqn, "acls/%s/lun_0", initiator);
	rc = link_remove(t, dir, e);
	if (rc == 0) {
		tpg_path(dir, iqn, "acls/%s", initiator);
		rc = lio_rmdir(t, dir, e);
	}
	return rc;
}

static bool initiator_wanted(const struct lio_target *target, const char *name)
{
	for (size_t i = 0; i < target->initiators_n; i++)
		if (strcmp(target->initiators[i], name) == 0)
			return true;
	return false;
}

static int acls_apply(struct lio_tree *t, const struct lio_target *target, struct err *e)
{
	struct lio_names present = {NULL, 0};
	char path[LIO_PATH];
	int rc;

	tpg_path(path, target->iqn, "acls");
	rc = lio_names_read(t, path, LIO_DIR, &present, e);
	for (size_t i = 0; i < present.n && rc == 0; i++)
		if (!initiator_wanted(target, present.v[i]))
			rc = acl_remove(t, target->iqn, present.v[i], e);
	for (size_t i = 0; i < target->initiators_n && rc == 0; i++)
		rc = acl_apply(t, target, target->initiators[i], e);
	free(present.v);
	return rc;
}

/* ---- portals ---- */

static bool portal_wanted(const struct lio_want *w, const char *name)
{
	for (unsigned i = 0; i < w->portals_n; i++)
		if (strcmp(w->portals[i], name) == 0)
			return true;
	return false;
}

static int portals_apply(struct lio_tree *t, const struct lio_target *target, struct err *e)
{
	struct lio_names present = {NULL, 0};
	char path[LIO_PATH];
	int rc;

	tpg_path(path, target->iqn, "np");
	rc = lio_names_read(t, path, LIO_DIR, &present, e);
	for (size_t i = 0; i < present.n && rc == 0; i++) {
		if (portal_wanted(t->want, present.v[i]))
			continue;
		tpg_path(path, target->iqn, "np/%s", present.v[i]);
		rc = lio_rmdir(t, path, e);
	}
	for (unsigned i = 0; i < t->want->portals_n && rc == 0; i++) {
		if (lio_names_have(&present, t->want->portals[i]))
			continue;
		tpg_path(path, target->iqn, "np/%s", t->want->portals[i]);
		rc = lio_mkdir(t, path, NULL);
		if (rc < 0)
			err_set(e, rc, "the kernel cannot listen on %s: %s", t->want->portals[i], err_name(rc));
	}
	free(present.v);
	return rc;
}

/* ---- the whole ---- */

int lio_iscsi_apply(struct lio_tree *t, const struct lio_target *target, struct err *e)
{
	char path[LIO_PATH], to[LIO_PATH];
	int rc = lio_mkdir(t, "iscsi", e);

	if (rc == -EINVAL || rc == -ENOENT)
		return err_set(e, -ENODEV, "the kernel has no iscsi_target_mod");
	snprintf(path, sizeof(path), "iscsi/%s", target->iqn);
	if (rc == 0)
		rc = lio_mkdir(t, path, e);
	snprintf(path, sizeof(path), "iscsi/%s/tpgt_1", target->iqn);
	if (rc == 0)
		rc = lio_mkdir(t, path, e);
	if (rc == 0)
		rc = attributes_apply(t, target, e);
	if (rc == 0) {
		tpg_path(path, target->iqn, "lun/lun_0");
		snprintf(to, sizeof(to), "core/user_%u/%s", t->want->hba, target->backstore);
		rc = link_apply(t, path, to, e);
	}
	if (rc == 0)
		rc = acls_apply(t, target, e);
	if (rc == 0)
		rc = portals_apply(t, target, e);
	if (rc == 0) {
		tpg_path(path, target->iqn, "enable"); /* T2 */
		rc = lio_attribute(t, path, "1", e);
	}
	return rc;
}

int lio_iscsi_remove(struct lio_tree *t, const char *iqn, struct err *e)
{
	struct lio_names acls = {NULL, 0}, portals = {NULL, 0};
	char path[LIO_PATH], now[LIO_VALUE];
	int rc = 0;

	tpg_path(path, iqn, "enable");
	if (t->fs->read(t->fs, path, now) == 0)
		rc = lio_attribute(t, path, "0", e); /* T2 */
	tpg_path(path, iqn, "acls");
	if (rc == 0)
		rc = lio_names_read(t, path, LIO_DIR, &acls, e);
	for (size_t i = 0; i < acls.n && rc == 0; i++)
		rc = acl_remove(t, iqn, acls.v[i], e);
	tpg_path(path, iqn, "lun/lun_0");
	if (rc == 0)
		rc = link_remove(t, path, e);
	tpg_path(path, iqn, "np");
	if (rc == 0)
		rc = lio_names_read(t, path, LIO_DIR, &portals, e);
	for (size_t i = 0; i < portals.n && rc == 0; i++) {
		tpg_path(path, iqn, "np/%s", portals.v[i]);
		rc = lio_rmdir(t, path, e);
	}
	free(acls.v);
	free(portals.v);
	snprintf(path, sizeof(path), "iscsi/%s/tpgt_1", iqn);
	if (rc == 0)
		rc = lio_rmdir(t, path, e);
	snprintf(path, sizeof(path), "iscsi/%s", iqn);
	return rc == 0 ? lio_rmdir(t, path, e) : rc;
}
