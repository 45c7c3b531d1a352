/* tree.c - opening and closing a brick directory; paths and xattrs. Invariants T1-T3 in tree.h. */
#include "brick/tree_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "brick/frag_priv.h"
#include "brick/xattr.h"
#include "core/loop/loop.h"

#define DEPTH_MAX          64
#define FRAGS_OPEN_DEFAULT 512u

struct store *tree_store(struct tree *t)
{
	return t->store;
}
const struct brick_identity *tree_identity(const struct tree *t)
{
	return &t->id;
}
const char *tree_xattr_prefix(const struct tree *t)
{
	return t->prefix;
}

void tree_fanout_path(const char *base, const struct gfid *g, char out[TREE_PATH])
{
	char text[GFID_TEXT];

	snprintf(out, TREE_PATH, "%s/%02x/%02x/%s", base, g->b[0], g->b[1], gfid_text(g, text));
}

char *tree_handle_path(const struct gfid *g, char out[TREE_PATH])
{
	tree_fanout_path(TREE_HANDLES, g, out);
	return out;
}

int tree_fanout_make(struct tree *t, const char *base, const struct gfid *g)
{
	char path[TREE_PATH];
	int rc;

	snprintf(path, sizeof(path), "%s/%02x", base, g->b[0]);
	rc = store_mkdir(t->store, path, 0700);
	if (rc && rc != -EEXIST)
		return rc;
	snprintf(path, sizeof(path), "%s/%02x/%02x", base, g->b[0], g->b[1]);
	rc = store_mkdir(t->store, path, 0700);
	return rc == -EEXIST ? 0 : rc;
}

int tree_fanout_sync(struct tree *t, const char *base, const struct gfid *g)
{
	char path[TREE_PATH];
	int rc;

	snprintf(path, sizeof(path), "%s/%02x/%02x", base, g->b[0], g->b[1]);
	rc = store_sync_dir(t->store, path);
	if (rc)
		return rc;
	snprintf(path, sizeof(path), "%s/%02x", base, g->b[0]);
	return store_sync_dir(t->store, path);
}

int tree_join(const char *dir, const char *name, char out[TREE_PATH])
{
	int n = strcmp(dir, STORE_ROOT) == 0 ? snprintf(out, TREE_PATH, "%s", name)
					     : snprintf(out, TREE_PATH, "%s/%s", dir, name);

	return n > 0 && (size_t)n < TREE_PATH ? 0 : -ENAMETOOLONG;
}

/* ---- xattrs ---- */

static int full_name(const struct tree *t, const char *name, char out[XATTR_NAME_BYTES + 1])
{
	int n = snprintf(out, XATTR_NAME_BYTES + 1, "%s%s", t->prefix, name);

	return n > 0 && n <= (int)XATTR_NAME_BYTES ? 0 : -ENAMETOOLONG;
}

ssize_t tree_getxattr(struct tree *t, const char *path, const char *name, void *dst, size_t cap)
{
	char full[XATTR_NAME_BYTES + 1];
	int rc = full_name(t, name, full);

	return rc ? rc : store_getxattr(t->store, path, full, dst, cap);
}

int tree_setxattr(struct tree *t, const char *path, const char *name, const void *src, size_t len)
{
	char full[XATTR_NAME_BYTES + 1];
	int rc = full_name(t, name, full);

	return rc ? rc : store_setxattr(t->store, path, full, src, len, 0);
}

int tree_removexattr(struct tree *t, const char *path, const char *name)
{
	char full[XATTR_NAME_BYTES + 1];
	int rc = full_name(t, name, full);

	if (!rc)
		rc = store_removexattr(t->store, path, full);
	return rc == -ENODATA ? 0 : rc;
}

/* ---- directories by gfid ---- */

/* A directory's handle says "../../<pp>/<qq>/<parent gfid>/<name>". */
static int parse_dir_link(const char *link, struct gfid *ret_parent, const char **ret_name)
{
	char parent[GFID_TEXT];
	int at = -1;

	if (sscanf(link, "../../%*2[0-9a-f]/%*2[0-9a-f]/%36[0-9a-f-]/%n", parent, &at) != 1 || at < 0)
		return -EUCLEAN;
	if (gfid_parse(parent, ret_parent) || link[at] == '\0' || strchr(link + at, '/'))
		return -EUCLEAN;
	*ret_name = link + at;
	return 0;
}

/* Puts "name/" in front of the path that starts at out[*at]. */
static int prepend(char *out, size_t *at, const char *name)
{
	size_t len = strlen(name), slash = out[*at] != '\0';

	if (len + slash > *at)
		return -ENAMETOOLONG;
	if (slash)
		out[--*at] = '/';
	*at -= len;
	memcpy(out + *at, name, len);
	return 0;
}

int tree_dir_path(struct tree *t, const struct gfid *g, char out[TREE_PATH])
{
	char handle[TREE_PATH], link[512], built[TREE_PATH];
	struct gfid at_gfid = *g, found;
	size_t at = TREE_PATH - 1;
	int rc;

	built[at] = '\0';
	for (int depth = 0; !gfid_eq(&at_gfid, &GFID_ROOT); depth++) {
		const char *name;
		if (depth == DEPTH_MAX)
			return -ELOOP;
		rc = store_readlink(t->store, tree_handle_path(&at_gfid, handle), link, sizeof(link));
		if (rc < 0)
			return rc == -EINVAL ? -ENOTDIR : rc; /* a file's handle is no symlink */
		rc = parse_dir_link(link, &at_gfid, &name);
		if (!rc)
			rc = prepend(built, &at, name);
		if (rc)
			return rc;
	}
	const char *path = built[at] ? built + at : STORE_ROOT;
	rc = object_gfid_at(t, path, &found); /* a crash inside a rename may have left an old handle */
	if (rc || !gfid_eq(&found, g))
		return rc && rc != -ENODATA ? rc : -ENOENT;
	memcpy(out, path, strlen(path) + 1);
	return 0;
}

int tree_object_path(struct tree *t, const struct gfid *g, char out[TREE_PATH], bool *ret_is_dir)
{
	struct file_info info;
	char handle[TREE_PATH];
	int rc = store_stat(t->store, tree_handle_path(g, handle), &info);

	if (rc)
		return rc;
	if (S_ISLNK(info.mode)) {
		rc = tree_dir_path(t, g, out);
		if (!rc)
			*ret_is_dir = true;
		return rc;
	}
	memcpy(out, handle, sizeof(handle));
	*ret_is_dir = false;
	return 0;
}

/* ---- index of objects that need work ---- */

void tree_index_base(const struct brick_identity *id, char out[TREE_PATH])
{
	char text[GFID_TEXT];

	snprintf(out, TREE_PATH, "%s/xattrop-%s", TREE_INDEX_DIR, gfid_text(&id->brick, text));
}

int tree_index_mark(struct tree *t, const struct gfid *g, bool needs_work)
{
	char path[TREE_PATH], base[TREE_PATH], text[GFID_TEXT];
	int rc;

	snprintf(path, sizeof(path), "%s/%s", TREE_INDEX_DIR, gfid_text(g, text));
	if (!needs_work) {
		rc = store_unlink(t->store, path);
		return rc == -ENOENT ? 0 : rc;
	}
	tree_index_base(&t->id, base);
	rc = store_link(t->store, base, path);
	if (rc == -EMLINK || rc == -ENOENT) { /* the base file is only there to save inodes */
		struct file *f = NULL;
		rc = store_open(t->store, path, O_RDWR | O_CREAT | O_EXCL, 0, &f);
		file_close(f);
	}
	return rc == -EEXIST ? 0 : rc;
}

/* ---- open and close ---- */

static int read_small_file(struct store *s, const char *path, char *dst, size_t cap, size_t *ret_len)
{
	struct file *f = NULL;
	int rc = store_open(s, path, O_RDONLY, 0, &f);

	if (rc)
		return rc;
	ssize_t n = file_pread(f, dst, cap, 0);
	file_close(f);
	if (n < 0)
		return (int)n;
	*ret_len = (size_t)n;
	return 0;
}

static int no_brick_here(struct err *e)
{
	return err_set(e, -ENOMEDIUM,
		       "there is no brick in this directory (it has no volume-id): is the disk mounted?");
}

static int check_volume_id(struct store *s, const struct brick_identity *id, struct err *e)
{
	struct gfid found;
	char a[GFID_TEXT], b[GFID_TEXT];
	const char *name = id->user_xattrs ? TREE_USER XATTR_VOLUME_ID : TREE_TRUSTED XATTR_VOLUME_ID;
	ssize_t n = store_getxattr(s, STORE_ROOT, name, found.b, sizeof(found.b));

	if (n == -ENODATA && !id->user_xattrs)
		return err_set(e, -ENOMEDIUM,
			       "the directory has no readable %s: is the disk mounted? (a brick made by root can only "
			       "be served by root)",
			       name);
	if (n == -ENODATA)
		return no_brick_here(e);
	if (n < 0)
		return err_set(e, (int)n, "volume-id: %s", err_name((int)n));
	if (n != sizeof(found.b))
		return err_set(e, -EUCLEAN, "volume-id has %zd bytes instead of 16", n);
	if (!gfid_eq(&found, &id->volume))
		return err_set(e, -MYFS_E_WRONG_VOLUME, "directory belongs to volume %s but its identity says %s",
			       gfid_text(&found, a), gfid_text(&id->volume, b));
	return 0;
}

int tree_read_identity(struct store *s, struct brick_identity *ret, struct err *e)
{
	char text[IDENTITY_TEXT_MAX], format[16];
	size_t len = 0, format_len = 0;
	int rc = read_small_file(s, TREE_FORMAT_PATH, format, sizeof(format) - 1, &format_len);

	if (!rc) {
		format[format_len] = '\0';
		if (atoi(format) != BRICK_FORMAT)
			return err_set(e, -EUCLEAN, "brick has format \"%.*s\", this program knows %d",
				       (int)strcspn(format, "\n"), format, BRICK_FORMAT);
		rc = read_small_file(s, TREE_IDENTITY_PATH, text, sizeof(text), &len);
	}
	if (rc == -ENOENT || rc == -ENOTDIR)
		return no_brick_here(e);
	if (rc)
		return err_set(e, rc, "brick identity: %s", err_name(rc));
	rc = identity_parse(text, len, ret, e);
	if (!rc)
		rc = check_volume_id(s, ret, e);
	return rc;
}

static struct tree *tree_new(struct store *s, const struct brick_identity *id)
{
	struct tree *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->store = s;
	t->id = *id;
	t->prefix = id->user_xattrs ? TREE_USER : TREE_TRUSTED;
	t->frags_limit = FRAGS_OPEN_DEFAULT;
	list_init(&t->lru);
	for (size_t i = 0; i < TREE_BUCKETS; i++)
		list_init(&t->frags[i]);
	shards_init(t);
	waitq_init(&t->landfill_wake);
	return t;
}

int tree_open(struct store *s, struct tree **ret, struct brick_identity *id, struct err *e)
{
	struct brick_identity found;
	int rc = tree_read_identity(s, &found, e);

	if (rc)
		return rc;
	rc = store_lock(s, TREE_LOCK_PATH);
	if (rc == -EBUSY)
		return err_set(e, rc, "another process serves this brick");
	if (rc)
		return err_set(e, rc, "brick lock: %s", err_name(rc));

	struct tree *t = tree_new(s, &found);
	rc = t ? shards_load(t) : -ENOMEM;
	if (rc) {
		tree_close(t);
		return err_set(e, rc, "list of shards: %s", err_name(rc));
	}
	landfill_start(t);
	*ret = t;
	if (id)
		*id = found;
	return 0;
}

void tree_close(struct tree *t)
{
	if (!t)
		return;
	landfill_stop(t);
	frag_cache_drop(t);
	shards_free(t);
	free(t);
}

/* ---- health ---- */

int tree_health_check(struct store *s, struct err *e)
{
	char wrote[64], back[64];
	struct file *f = NULL;
	int len = snprintf(wrote, sizeof(wrote), "%020llu\n", (unsigned long long)loop_wall_ns());
	int rc = store_open(s, ".glusterfs/health_check", O_RDWR | O_CREAT, 0600, &f);

	if (rc)
		return err_set(e, rc, "health check cannot open its file: %s", err_name(rc));
	rc = file_pwrite(f, wrote, (size_t)len, 0);
	if (!rc)
		rc = file_datasync(f);
	if (!rc) {
		ssize_t n = file_pread(f, back, (size_t)len, 0);
		if (n < 0)
			rc = (int)n;
		else if (n != len || memcmp(wrote, back, (size_t)len) != 0)
			rc = -EIO;
	}
	file_close(f);
	if (rc)
		return err_set(e, rc, "health check: writing and reading back failed: %s", err_name(rc));
	return 0;
}
