/* ns_read.c - looking at names: one, a directory's, or an object by its gfid.
 *
 * Invariant: an answer fits an RPC body. What has no gfid is not part of the volume (lost+found, an unfinished mkdir)
 * and is not shown. */
#include <stdio.h>
#include <sys/stat.h>

#include "brick/ns_priv.h"
#include "brick/xattr.h"
#include "core/rpc/rpc.h"

#define BODY_BUDGET    (RPC_BODY_MAX - 16384u)
#define ENTRY_OVERHEAD 36u /* XDR of an entry without its name and xattrs */
#define XATTRS_MAX     32u
#define LIST_BYTES     16384u

/* ---- xattrs of one object ---- */

static bool shown(const char *name)
{
	return strcmp(name, XATTR_GFID) != 0 && strcmp(name, XATTR_VOLUME_ID) != 0 &&
	       strncmp(name, XATTR_GFID2PATH, strlen(XATTR_GFID2PATH)) != 0;
}

static int add_xattr(struct tree *t, const char *path, const char *name, struct bp_entry *entry) YIELDS
{
	char *value = malloc(BP_MAX_XATTR), *copy = strdup(name);
	ssize_t n = value && copy ? tree_getxattr(t, path, name, value, BP_MAX_XATTR) : -ENOMEM;

	if (n < 0) {
		free(value);
		free(copy);
		return n == -ENOMEM ? -ENOMEM : 0; /* too large for us, or gone meanwhile */
	}
	struct bp_xattr *x = &entry->xattrs.xattrs_val[entry->xattrs.xattrs_len++];
	x->name = copy;
	x->value.value_val = value;
	x->value.value_len = (u_int)n;
	return 0;
}

static int fill_xattrs(struct tree *t, const char *path, struct bp_entry *entry) YIELDS
{
	char *names = malloc(LIST_BYTES);
	size_t prefix = strlen(t->prefix);
	ssize_t len = names ? store_listxattr(t->store, path, names, LIST_BYTES) : -ENOMEM;
	int rc = len < 0 ? (int)len : 0;

	entry->xattrs.xattrs_val = calloc(XATTRS_MAX, sizeof(struct bp_xattr));
	if (!entry->xattrs.xattrs_val)
		rc = -ENOMEM;
	for (const char *p = names; !rc && p < names + len && entry->xattrs.xattrs_len < XATTRS_MAX;
	     p += strlen(p) + 1) {
		if (strncmp(p, t->prefix, prefix) == 0 && shown(p + prefix))
			rc = add_xattr(t, path, p + prefix, entry);
	}
	free(names);
	return rc;
}

/* ---- one entry ---- */

static int fill_entry(struct bp_entry *entry, const char *name, const struct gfid *g, bool dir)
{
	entry->name = strdup(name);
	if (!entry->name)
		return -ENOMEM;
	memcpy(entry->gfid, g->b, sizeof(entry->gfid));
	entry->is_dir = dir;
	return 0;
}

static int answer_one(struct tree *t, struct bp_nsread_res *res, const char *name, const struct gfid *g,
		      const char *path, bool dir) YIELDS
{
	res->entries.entries_val = calloc(1, sizeof(struct bp_entry));
	if (!res->entries.entries_val)
		return -ENOMEM;
	int rc = fill_entry(&res->entries.entries_val[0], name, g, dir);
	if (rc)
		return rc;
	res->entries.entries_len = 1;
	return fill_xattrs(t, path, &res->entries.entries_val[0]);
}

static int lookup(struct tree *t, const struct bp_nsread_args *a, struct bp_nsread_res *res) YIELDS
{
	struct gfid parent = ns_gfid(a->gfid), g;
	char dir[TREE_PATH], path[TREE_PATH];
	struct file_info info;

	if (!ns_name_ok(&parent, a->name))
		return -EINVAL;
	int rc = tree_dir_path(t, &parent, dir);
	if (!rc)
		rc = tree_join(dir, a->name, path);
	if (!rc)
		rc = store_stat(t->store, path, &info);
	if (!rc)
		rc = object_gfid_at(t, path, &g);
	if (rc)
		return rc == -ENODATA ? -ENOENT : rc;
	return answer_one(t, res, a->name, &g, path, S_ISDIR(info.mode));
}

int ns_name_of(struct tree *t, const char *path, bool dir, char out[BP_MAX_NAME + 1])
{
	char *names = malloc(LIST_BYTES), value[XATTR_GFID2PATH_VALUE];
	size_t prefix = strlen(t->prefix);
	ssize_t len = dir || !names ? 0 : store_listxattr(t->store, path, names, LIST_BYTES);
	const char *slash = dir ? strrchr(path, '/') : NULL;

	snprintf(out, BP_MAX_NAME + 1, "%s", slash ? slash + 1 : dir ? path : "");
	for (const char *p = names; len > 0 && p < names + len; p += strlen(p) + 1) {
		if (strncmp(p, t->prefix, prefix) != 0 ||
		    strncmp(p + prefix, XATTR_GFID2PATH, strlen(XATTR_GFID2PATH)) != 0)
			continue;
		ssize_t n = tree_getxattr(t, path, p + prefix, value, sizeof(value) - 1);
		if (n < GFID_TEXT || value[GFID_TEXT - 1] != '/')
			continue;
		value[n] = '\0';
		snprintf(out, BP_MAX_NAME + 1, "%s", value + GFID_TEXT);
		break;
	}
	free(names);
	return len < 0 ? (int)len : 0;
}

static int stat_object(struct tree *t, const struct bp_nsread_args *a, struct bp_nsread_res *res) YIELDS
{
	struct gfid g = ns_gfid(a->gfid);
	char path[TREE_PATH], name[BP_MAX_NAME + 1];
	bool dir;
	int rc = gfid_is_null(&g) ? -EINVAL : tree_object_path(t, &g, path, &dir);

	if (!rc)
		rc = ns_name_of(t, path, dir, name);
	return rc ? rc : answer_one(t, res, name, &g, path, dir);
}

/* ---- a directory ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct dirent_item *)a)->name, ((const struct dirent_item *)b)->name);
}

static int fill_page(struct tree *t, const struct gfid *parent, const char *dir, const char *after,
		     const struct dirent_list *l, struct bp_nsread_res *res) YIELDS
{
	size_t bytes = 0;

	for (size_t i = 0; i < l->n; i++) {
		const struct dirent_item *it = &l->v[i];
		char path[TREE_PATH];
		struct gfid g;
		if (strcmp(it->name, after) <= 0 || !ns_name_ok(parent, it->name))
			continue;
		size_t need = ENTRY_OVERHEAD + round_up_u64(strlen(it->name), 4);
		if (res->entries.entries_len == BP_MAX_NAMES || bytes + need > BODY_BUDGET) {
			res->more = true;
			return 0;
		}
		int rc = tree_join(dir, it->name, path);
		if (!rc)
			rc = object_gfid_at(t, path, &g);
		if (rc == -ENODATA || rc == -ENOENT)
			continue; /* not ours, or gone meanwhile */
		if (!rc)
			rc = fill_entry(&res->entries.entries_val[res->entries.entries_len], it->name, &g,
					it->type == S_IFDIR);
		if (rc)
			return rc;
		res->entries.entries_len++;
		bytes += need;
	}
	return 0;
}

static int read_dir(struct tree *t, const struct bp_nsread_args *a, struct bp_nsread_res *res) YIELDS
{
	struct gfid parent = ns_gfid(a->gfid);
	const char *after = a->name ? a->name : "";
	struct dirent_list l = {0};
	char dir[TREE_PATH];
	int rc = strnlen(after, BP_MAX_NAME + 1) > BP_MAX_NAME ? -EINVAL : tree_dir_path(t, &parent, dir);

	if (!rc)
		rc = store_readdir(t->store, dir, &l);
	if (rc)
		return rc;
	if (l.n > 0)
		qsort(l.v, l.n, sizeof(l.v[0]), by_name);
	res->entries.entries_val = calloc(max_u64(1, min_u64(l.n, BP_MAX_NAMES)), sizeof(struct bp_entry));
	rc = res->entries.entries_val ? fill_page(t, &parent, dir, after, &l, res) : -ENOMEM;
	dirent_list_free(&l);
	return rc;
}

int ns_read(struct tree *t, const struct bp_nsread_args *a, struct bp_nsread_res *res)
{
	switch (a->op) {
	case BP_NS_LOOKUP:
		return lookup(t, a, res);
	case BP_NS_READDIR:
		return read_dir(t, a, res);
	case BP_NS_STATX:
		return stat_object(t, a, res);
	default:
		return -EINVAL;
	}
}
