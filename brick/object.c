/* object.c - a file as its gfid knows it: the handle, the first xattrs, its names.
 *
 * Invariants: O1 a file has a handle before it has a name, so whatever a name shows is complete but for later xattrs.
 * O2 making is repeatable: every step looks at what is there. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "brick/tree_priv.h"
#include "brick/xattr.h"
#include "core/loop/loop.h"

int object_gfid_at(struct tree *t, const char *path, struct gfid *ret)
{
	struct gfid g;
	ssize_t n = tree_getxattr(t, path, XATTR_GFID, g.b, sizeof(g.b));

	if (n < 0 && n != -ERANGE)
		return (int)n;
	if (n != sizeof(g.b))
		return -ENODATA;
	*ret = g;
	return 0;
}

/* gfid last: a handle that has it has the others. */
static int set_first_xattrs(struct tree *t, const char *path, const struct gfid *g)
{
	uint8_t config[XATTR_CONFIG_BYTES], mdata[XATTR_MDATA_BYTES], zero[XATTR_COUNTERS_BYTES] = {0};
	int rc;

	xattr_ec_config(&t->id, config);
	xattr_mdata(loop_wall_ns(), mdata);
	rc = tree_setxattr(t, path, XATTR_EC_CONFIG, config, sizeof(config));
	if (!rc)
		rc = tree_setxattr(t, path, XATTR_EC_VERSION, zero, sizeof(zero));
	if (!rc)
		rc = tree_setxattr(t, path, XATTR_EC_DIRTY, zero, sizeof(zero));
	if (!rc)
		rc = tree_setxattr(t, path, XATTR_MDATA, mdata, sizeof(mdata));
	if (!rc)
		rc = tree_setxattr(t, path, XATTR_GFID, g->b, sizeof(g->b));
	return rc;
}

static int create_file(struct tree *t, const struct gfid *g, const char *path)
{
	struct file *f = NULL;
	int rc = store_open(t->store, path, O_RDWR | O_CREAT, 0600, &f);

	if (rc == -ENOENT) {
		rc = tree_fanout_make(t, TREE_HANDLES, g);
		if (!rc)
			rc = store_open(t->store, path, O_RDWR | O_CREAT, 0600, &f);
	}
	file_close(f);
	return rc;
}

int object_make_handle(struct tree *t, const struct gfid *g)
{
	char path[TREE_PATH];
	struct file_info info;
	struct gfid found;
	int rc = store_stat(t->store, tree_handle_path(g, path), &info);

	if (rc == 0 && !S_ISREG(info.mode))
		return -EEXIST;
	if (rc == -ENOENT)
		rc = create_file(t, g, path);
	if (rc)
		return rc;
	rc = object_gfid_at(t, path, &found);
	if (rc == -ENODATA)
		return set_first_xattrs(t, path, g);
	return rc ? rc : gfid_eq(&found, g) ? 0 : -EUCLEAN;
}

int object_link_name(struct tree *t, const struct gfid *g, const struct gfid *parent, const char *parent_path,
		     const char *name)
{
	char handle[TREE_PATH], path[TREE_PATH], key[XATTR_GFID2PATH_KEY], value[XATTR_GFID2PATH_VALUE];
	struct gfid found;
	int rc = tree_join(parent_path, name, path);

	if (rc)
		return rc;
	rc = store_link(t->store, tree_handle_path(g, handle), path);
	if (rc == -EEXIST) {
		rc = object_gfid_at(t, path, &found);
		if (rc == -ENODATA || (rc == 0 && !gfid_eq(&found, g)))
			return -EEXIST;
	}
	if (rc)
		return rc;
	size_t len = xattr_gfid2path(parent, name, key, value);
	return tree_setxattr(t, handle, key, value, len);
}
