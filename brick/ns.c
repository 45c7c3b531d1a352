/* ns.c - changes of names on this brick. See ns.h and, for the meaning of each operation, core/rpc/brick.x.
 *
 *   file /block/a of gfid G:   .glusterfs/GG/GG/<G>  <- the file     block/a  <- a second link of it     xattr
 * gfid2path.<h> = "<parent>/a" directory D below P:       P/d  <- the directory                 .glusterfs/DD/DD/<D> ->
 * ../../PP/PP/<P>/d
 *
 * Invariants: N1 every operation may be repeated, also after a crash anywhere inside it. N2 what another gfid owns is
 * never touched. N3 data goes only when no name of its gfid is left. */
#include "brick/ns_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "brick/frag.h"
#include "brick/xattr.h"

struct gfid ns_gfid(const char uuid[16])
{
	struct gfid g;

	memcpy(g.b, uuid, sizeof(g.b));
	return g;
}

bool ns_name_ok(const struct gfid *parent, const char *name)
{
	size_t len = name ? strnlen(name, BP_MAX_NAME + 1) : 0;

	if (len == 0 || len > BP_MAX_NAME || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return false;
	return !gfid_eq(parent, &GFID_ROOT) || strcmp(name, TREE_HANDLES) != 0;
}

/* ---- checking ---- */

static int check_xattrs(struct tree *t, const struct bp_nsop_args *op)
{
	uint8_t config[XATTR_CONFIG_BYTES];

	if (op->xattrs.xattrs_len > 32)
		return -EINVAL;
	for (u_int i = 0; i < op->xattrs.xattrs_len; i++) {
		const struct bp_xattr *x = &op->xattrs.xattrs_val[i];
		if (!x->name || !xattr_name_ok(x->name) || x->value.value_len > BP_MAX_XATTR)
			return -EINVAL;
		if (strcmp(x->name, XATTR_EC_CONFIG) == 0) { /* may be said, cannot be changed */
			xattr_ec_config(&t->id, config);
			if (x->value.value_len != sizeof(config) ||
			    memcmp(x->value.value_val, config, sizeof(config)) != 0)
				return -EINVAL;
		} else if (xattr_is_internal(x->name)) {
			return -EPERM;
		}
	}
	return 0;
}

static int check(struct tree *t, const struct bp_nsop_args *op)
{
	struct gfid gfid = ns_gfid(op->gfid), parent = ns_gfid(op->parent), parent2 = ns_gfid(op->parent2);
	bool fixed = gfid_is_null(&gfid) || gfid_eq(&gfid, &GFID_ROOT);

	switch (op->op) {
	case BP_NS_MKDIR:
	case BP_NS_MKFILE:
		return !fixed && ns_name_ok(&parent, op->name) ? check_xattrs(t, op) : -EINVAL;
	case BP_NS_UNLINK:
		return !fixed && ns_name_ok(&parent, op->name) ? 0 : -EINVAL;
	case BP_NS_RENAME:
		return !fixed && ns_name_ok(&parent, op->name) && ns_name_ok(&parent2, op->name2) ? 0 : -EINVAL;
	case BP_NS_SETXATTR:
		return !gfid_is_null(&gfid) ? check_xattrs(t, op) : -EINVAL;
	case BP_NS_MISS:
		return 0;
	default:
		return -EINVAL;
	}
}

/* ---- pieces ---- */

static int apply_xattrs(struct tree *t, const char *path, const struct bp_nsop_args *op) YIELDS
{
	int rc = 0;

	for (u_int i = 0; i < op->xattrs.xattrs_len && !rc; i++) {
		const struct bp_xattr *x = &op->xattrs.xattrs_val[i];
		if (x->value.value_len == 0)
			rc = tree_removexattr(t, path, x->name);
		else
			rc = tree_setxattr(t, path, x->name, x->value.value_val, x->value.value_len);
	}
	return rc;
}

/* A name: where it is and what is there now. */
struct place {
	struct gfid parent;
	char dir[TREE_PATH], path[TREE_PATH];
	bool exists;      /* something has the name */
	struct gfid gfid; /* its gfid, GFID_NULL when it has none */
	struct file_info info;
};

static int look(struct tree *t, const struct gfid *parent, const char *name, struct place *p) YIELDS
{
	memset(p, 0, sizeof(*p));
	p->parent = *parent;
	int rc = tree_dir_path(t, parent, p->dir);
	if (!rc)
		rc = tree_join(p->dir, name, p->path);
	if (rc)
		return rc;
	rc = store_stat(t->store, p->path, &p->info);
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	p->exists = true;
	rc = object_gfid_at(t, p->path, &p->gfid);
	return rc == -ENODATA ? 0 : rc;
}

static bool is_dir(const struct place *p)
{
	return S_ISDIR(p->info.mode);
}

/* Writes a directory's handle; replaces an old one in one step. */
static int write_dir_handle(struct tree *t, const struct gfid *g, const struct gfid *parent, const char *name) YIELDS
{
	char path[TREE_PATH], tmp[TREE_PATH], target[512], text[GFID_TEXT];
	int rc;

	snprintf(target, sizeof(target), "../../%02x/%02x/%s/%s", parent->b[0], parent->b[1], gfid_text(parent, text),
		 name);
	tree_handle_path(g, path);
	snprintf(tmp, sizeof(tmp), "%s/%02x/%02x/%s.new", TREE_HANDLES, g->b[0], g->b[1], gfid_text(g, text));
	rc = tree_fanout_make(t, TREE_HANDLES, g);
	if (rc)
		return rc;
	rc = store_unlink(t->store, tmp);
	if (rc && rc != -ENOENT)
		return rc;
	rc = store_symlink(t->store, target, tmp);
	if (!rc)
		rc = store_rename(t->store, tmp, path);
	return rc ? rc : tree_fanout_sync(t, TREE_HANDLES, g);
}

/* Directory handle -> the place it names now; -ENOENT when that is not (any more) the directory. */
static int dir_elsewhere(struct tree *t, const struct gfid *g, const struct place *wanted) YIELDS
{
	char path[TREE_PATH];
	int rc = tree_dir_path(t, g, path);

	if (rc == 0 && strcmp(path, wanted->path) != 0)
		return -EEXIST;
	return rc == -ENOENT || rc == 0 ? 0 : rc == -ENOTDIR ? -EEXIST : rc;
}

/* ---- operations ---- */

static int op_mkdir(struct tree *t, const struct bp_nsop_args *op) YIELDS
{
	struct gfid gfid = ns_gfid(op->gfid), parent = ns_gfid(op->parent);
	struct place p;
	int rc = look(t, &parent, op->name, &p);

	if (rc)
		return rc;
	if (p.exists && (!is_dir(&p) || (!gfid_is_null(&p.gfid) && !gfid_eq(&p.gfid, &gfid))))
		return -EEXIST; /* N2; a directory without gfid is our own unfinished one */
	rc = dir_elsewhere(t, &gfid, &p);
	if (!rc && !p.exists)
		rc = store_mkdir(t->store, p.path, 0700);
	if (!rc)
		rc = tree_setxattr(t, p.path, XATTR_GFID, gfid.b, sizeof(gfid.b));
	if (!rc)
		rc = write_dir_handle(t, &gfid, &parent, op->name);
	if (!rc)
		rc = apply_xattrs(t, p.path, op);
	if (!rc)
		rc = store_sync_dir(t->store, p.path);
	return rc ? rc : store_sync_dir(t->store, p.dir);
}

static int op_mkfile(struct tree *t, const struct bp_nsop_args *op) YIELDS
{
	struct gfid gfid = ns_gfid(op->gfid), parent = ns_gfid(op->parent);
	char handle[TREE_PATH];
	struct place p;
	int rc = look(t, &parent, op->name, &p);

	if (rc)
		return rc;
	if (p.exists && !gfid_eq(&p.gfid, &gfid))
		return -EEXIST; /* N2 */
	tree_handle_path(&gfid, handle);
	if (p.exists) { /* a handle that got lost comes back from the name */
		rc = tree_fanout_make(t, TREE_HANDLES, &gfid);
		if (!rc)
			rc = store_link(t->store, p.path, handle);
		if (rc && rc != -EEXIST)
			return rc;
	}
	rc = object_make_handle(t, &gfid);
	if (!rc)
		rc = apply_xattrs(t, handle, op);
	if (!rc)
		rc = object_link_name(t, &gfid, &parent, p.dir, op->name);
	if (!rc)
		rc = store_sync_dir(t->store, handle);
	if (!rc)
		rc = tree_fanout_sync(t, TREE_HANDLES, &gfid);
	return rc ? rc : store_sync_dir(t->store, p.dir);
}

/* Links of the file besides its handle: its names. */
static int count_names(struct tree *t, const struct gfid *g, const struct place *p, unsigned *ret) YIELDS
{
	char handle[TREE_PATH];
	struct file_info info;
	int rc = store_stat(t->store, tree_handle_path(g, handle), &info);

	if (rc && rc != -ENOENT)
		return rc;
	if (rc == 0 && !S_ISREG(info.mode))
		return -EISDIR;
	if (rc == 0)
		*ret = info.nlink - 1;
	else
		*ret = p->exists ? p->info.nlink : 0;
	return 0;
}

static int drop_name(struct tree *t, const struct gfid *g, const struct place *p, const char *name) YIELDS
{
	char handle[TREE_PATH], key[XATTR_GFID2PATH_KEY], value[XATTR_GFID2PATH_VALUE];
	int rc = store_unlink(t->store, p->path);

	if (rc && rc != -ENOENT)
		return rc;
	xattr_gfid2path(&p->parent, name, key, value);
	tree_handle_path(g, handle);
	rc = tree_removexattr(t, handle, key);
	if (!rc)
		rc = store_sync_dir(t->store, handle);
	return rc ? rc : store_sync_dir(t->store, p->dir);
}

/* The file and all its shards. The last thing that could be found again, the name or else the handle, goes last. */
static int purge_file(struct tree *t, const struct gfid *g, const struct place *p, bool named) YIELDS
{
	char path[TREE_PATH];
	int rc = frag_forget(t, g, 0);

	if (!rc)
		rc = frag_purge(t, g);
	if (rc)
		return rc;
	tree_fanout_path(TREE_CSUMS, g, path);
	rc = store_unlink(t->store, path);
	if (!rc || rc == -ENOENT)
		rc = tree_index_mark(t, g, false);
	if (!rc && named) {
		rc = store_unlink(t->store, tree_handle_path(g, path));
		rc = rc == -ENOENT ? 0 : rc;
	}
	if (!rc)
		rc = landfill_take(t, named ? p->path : tree_handle_path(g, path));
	if (!rc)
		rc = landfill_sync(t);
	if (!rc)
		rc = tree_fanout_sync(t, TREE_HANDLES, g);
	if (rc == -ENOENT) /* no such fan-out directory: there never was a handle */
		rc = 0;
	return rc ? rc : store_sync_dir(t->store, p->dir);
}

static int unlink_dir(struct tree *t, const struct gfid *g, const struct place *p) YIELDS
{
	char handle[TREE_PATH];
	int rc = store_rmdir(t->store, p->path);

	if (rc && rc != -ENOENT)
		return rc == -EEXIST ? -ENOTEMPTY : rc;
	rc = store_unlink(t->store, tree_handle_path(g, handle));
	if (!rc)
		rc = tree_fanout_sync(t, TREE_HANDLES, g);
	if (rc && rc != -ENOENT)
		return rc;
	return store_sync_dir(t->store, p->dir);
}

static int op_unlink(struct tree *t, const struct bp_nsop_args *op) YIELDS
{
	struct gfid gfid = ns_gfid(op->gfid), parent = ns_gfid(op->parent);
	unsigned names = 0;
	struct place p;
	int rc = look(t, &parent, op->name, &p);

	if (rc)
		return rc == -ENOENT ? 0 : rc;            /* the directory went with all its names */
	bool named = p.exists && gfid_eq(&p.gfid, &gfid); /* N2 */
	if (named && is_dir(&p))
		return unlink_dir(t, &gfid, &p);
	rc = count_names(t, &gfid, &p, &names);
	if (rc == -EISDIR) { /* a directory's handle: of a removed one it goes, of one that lives elsewhere it stays */
		char path[TREE_PATH];
		return tree_dir_path(t, &gfid, path) == -ENOENT ? unlink_dir(t, &gfid, &p) : 0;
	}
	if (rc)
		return rc;
	if (named && names > 1)
		return drop_name(t, &gfid, &p, op->name);
	if (!named && names > 0)
		return 0; /* it lives on under another name: N3 */
	return purge_file(t, &gfid, &p, named);
}

/* gfid2path of the new name, none of the old; for a directory the handle. */
static int rename_record(struct tree *t, const struct gfid *g, const struct place *from, const struct place *to,
			 const char *name, const char *name2, bool dir) YIELDS
{
	char handle[TREE_PATH], key[XATTR_GFID2PATH_KEY], value[XATTR_GFID2PATH_VALUE];

	if (dir)
		return write_dir_handle(t, g, &to->parent, name2);
	tree_handle_path(g, handle);
	size_t len = xattr_gfid2path(&to->parent, name2, key, value);
	int rc = tree_setxattr(t, handle, key, value, len);
	if (rc)
		return rc;
	xattr_gfid2path(&from->parent, name, key, value);
	rc = tree_removexattr(t, handle, key);
	return rc ? rc : store_sync_dir(t->store, handle);
}

static int op_rename(struct tree *t, const struct bp_nsop_args *op) YIELDS
{
	struct gfid gfid = ns_gfid(op->gfid), parent = ns_gfid(op->parent), parent2 = ns_gfid(op->parent2);
	struct place from, to;
	int rc = look(t, &parent2, op->name2, &to);

	if (!rc)
		rc = look(t, &parent, op->name, &from);
	if (rc)
		return rc;
	bool at_from = from.exists && gfid_eq(&from.gfid, &gfid), at_to = to.exists && gfid_eq(&to.gfid, &gfid);
	if (strcmp(from.path, to.path) == 0)
		return at_from ? 0 : -ENOENT;
	if (to.exists && !at_to)
		return -EEXIST; /* N2 */
	if (!at_from && !at_to)
		return -ENOENT;
	if (at_to && at_from) /* rename(2) of two links of one file does nothing */
		rc = store_unlink(t->store, from.path);
	else if (!at_to)
		rc = store_rename(t->store, from.path, to.path);
	if (!rc)
		rc = rename_record(t, &gfid, &from, &to, op->name, op->name2, is_dir(at_from ? &from : &to));
	if (!rc)
		rc = store_sync_dir(t->store, to.dir);
	return rc ? rc : store_sync_dir(t->store, from.dir);
}

static int op_setxattr(struct tree *t, const struct bp_nsop_args *op) YIELDS
{
	struct gfid gfid = ns_gfid(op->gfid);
	char path[TREE_PATH];
	bool dir;
	int rc = tree_object_path(t, &gfid, path, &dir);

	if (!rc)
		rc = apply_xattrs(t, path, op);
	return rc ? rc : store_sync_dir(t->store, path);
}

int ns_apply(struct tree *t, const struct bp_nsop_args *op)
{
	struct gfid parent = ns_gfid(op->parent);
	int rc = check(t, op);

	if (rc)
		return rc;
	switch (op->op) {
	case BP_NS_MKDIR:
		return op_mkdir(t, op);
	case BP_NS_MKFILE:
		return op_mkfile(t, op);
	case BP_NS_UNLINK:
		return op_unlink(t, op);
	case BP_NS_RENAME:
		return op_rename(t, op);
	case BP_NS_SETXATTR:
		return op_setxattr(t, op);
	default: /* BP_NS_MISS */
		return tree_index_mark(t, &parent, true);
	}
}
