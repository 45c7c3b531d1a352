/* tree_create.c - making a brick out of a directory.
 *
 * Invariants: the volume-id xattr is set last, after everything else is durable, so a directory with a volume-id is a
 * complete brick (T1) and an interrupted creation can simply be repeated with force. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "brick/tree_priv.h"
#include "brick/xattr.h"
#include "core/base/buf.h"
#include "core/loop/loop.h"

#define JOURNAL_WRITE_BYTES MIB(1)
#define SPACE_SLACK         MIB(16)

static int refuse_a_brick(struct store *s, struct err *e)
{
	static const char *const names[] = {TREE_TRUSTED XATTR_VOLUME_ID, TREE_USER XATTR_VOLUME_ID};
	struct gfid g = GFID_NULL;
	char text[GFID_TEXT];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		ssize_t n = store_getxattr(s, STORE_ROOT, names[i], g.b, sizeof(g.b));
		if (n >= 0 || n == -ERANGE)
			return err_set(e, -EEXIST, "directory is already a brick of volume %s", gfid_text(&g, text));
	}
	return 0;
}

/* What an older brick left must not become part of the new one, force or not. */
static int refuse_remains(struct store *s, struct err *e)
{
	struct dirent_list l = {0};
	struct file_info info;
	int rc = store_readdir(s, TREE_SHARD_DIR, &l);
	bool remains = (rc == 0 && l.n > 0) || store_stat(s, TREE_STATE_PATH, &info) == 0;

	dirent_list_free(&l);
	if (remains)
		return err_set(e, -EEXIST, "directory holds remains of an older brick: empty it first");
	return 0;
}

static int refuse_used(struct store *s, bool force, struct err *e)
{
	struct dirent_list l = {0};
	int rc = store_readdir(s, STORE_ROOT, &l);

	if (rc)
		return err_set(e, rc, "directory: %s", err_name(rc));
	for (size_t i = 0; i < l.n && !force && !rc; i++) {
		if (strcmp(l.v[i].name, "lost+found") != 0)
			rc = err_set(e, -EEXIST, "directory is not empty (it holds \"%s\")", l.v[i].name);
	}
	dirent_list_free(&l);
	return rc;
}

/* trusted. needs CAP_SYS_ADMIN in the file system's user namespace; the only way to know is to try. */
static int choose_prefix(struct store *s, bool *user_xattrs, struct err *e)
{
	int rc = -EPERM;

	if (!*user_xattrs) {
		rc = store_setxattr(s, STORE_ROOT, TREE_TRUSTED "myfs.probe", "1", 1, 0);
		if (rc == 0)
			return store_removexattr(s, STORE_ROOT, TREE_TRUSTED "myfs.probe");
	}
	if (rc == -EPERM || rc == -EACCES || rc == -EOPNOTSUPP) {
		rc = store_setxattr(s, STORE_ROOT, TREE_USER "myfs.probe", "1", 1, 0);
		if (rc == 0) {
			*user_xattrs = true;
			return store_removexattr(s, STORE_ROOT, TREE_USER "myfs.probe");
		}
	}
	return err_set(e, rc, "file system does not take extended attributes: %s", err_name(rc));
}

static int check_space(struct store *s, const struct brick_identity *id, struct err *e)
{
	struct store_space sp;
	int rc = store_space(s, &sp);

	if (rc)
		return err_set(e, rc, "free space: %s", err_name(rc));
	if (sp.free_bytes < id->journal_bytes + SPACE_SLACK)
		return err_set(e, -ENOSPC, "%llu MiB free, the journal alone takes %llu MiB",
			       (unsigned long long)(sp.free_bytes >> 20),
			       (unsigned long long)(id->journal_bytes >> 20));
	return 0;
}

static int make_dirs(struct store *s)
{
	static const char *const dirs[] = {
	    TREE_HANDLES,  ".glusterfs/indices", TREE_INDEX_DIR, ".glusterfs/unlink",
	    TREE_LANDFILL, TREE_PRIVATE_DIR,     TREE_CSUMS,
	};
	char path[64];
	int rc;

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		rc = store_mkdir(s, dirs[i], strcmp(dirs[i], TREE_LANDFILL) == 0 ? 0755 : 0700);
		if (rc && rc != -EEXIST)
			return rc;
	}
	for (unsigned i = 0; i < 256; i++) { /* the first level of both fan-outs; the second comes when needed */
		snprintf(path, sizeof(path), "%s/%02x", TREE_HANDLES, i);
		rc = store_mkdir(s, path, 0700);
		if (rc && rc != -EEXIST)
			return rc;
		snprintf(path, sizeof(path), "%s/%02x", TREE_CSUMS, i);
		rc = store_mkdir(s, path, 0700);
		if (rc && rc != -EEXIST)
			return rc;
	}
	return 0;
}

static int write_file(struct store *s, const char *path, const void *data, size_t len, uint32_t mode)
{
	struct file *f = NULL;
	int rc = store_open(s, path, O_RDWR | O_CREAT | O_TRUNC, mode, &f);

	if (rc)
		return rc;
	if (len)
		rc = file_pwrite(f, data, len, 0);
	if (!rc)
		rc = file_datasync(f);
	file_close(f);
	return rc;
}

/* Really written, not only allocated: later journal writes then change no metadata and cannot run out of space. */
static int write_journal(struct store *s, uint64_t bytes)
{
	struct buf *zeros = buf_alloc(JOURNAL_WRITE_BYTES);
	struct file *f = NULL;
	int rc = zeros ? store_open(s, TREE_JOURNAL_PATH, O_RDWR | O_CREAT | O_TRUNC, 0600, &f) : -ENOMEM;

	if (!rc)
		memset(zeros->data, 0, JOURNAL_WRITE_BYTES);
	for (uint64_t off = 0; !rc && off < bytes; off += JOURNAL_WRITE_BYTES)
		rc = file_pwrite(f, zeros->data, (size_t)min_u64(JOURNAL_WRITE_BYTES, bytes - off), off);
	if (!rc)
		rc = file_datasync(f);
	file_close(f);
	buf_unref(zeros);
	return rc;
}

static int set_xattr(struct store *s, const struct brick_identity *id, const char *path, const char *name,
		     const void *v, size_t len)
{
	char full[XATTR_NAME_BYTES + 1];

	snprintf(full, sizeof(full), "%s%s", id->user_xattrs ? TREE_USER : TREE_TRUSTED, name);
	return store_setxattr(s, path, full, v, len, 0);
}

/* A handle that is a symlink, made in place of whatever an interrupted creation left. */
static int make_dir_handle(struct store *s, const struct gfid *g, const char *target)
{
	char path[TREE_PATH];

	snprintf(path, sizeof(path), "%s/%02x/%02x", TREE_HANDLES, g->b[0], g->b[1]);
	int rc = store_mkdir(s, path, 0700);
	if (rc && rc != -EEXIST)
		return rc;
	(void)store_unlink(s, tree_handle_path(g, path));
	rc = store_symlink(s, target, path);
	if (rc)
		return rc;
	snprintf(path, sizeof(path), "%s/%02x/%02x", TREE_HANDLES, g->b[0], g->b[1]);
	rc = store_sync_dir(s, path);
	if (rc)
		return rc;
	snprintf(path, sizeof(path), "%s/%02x", TREE_HANDLES, g->b[0]);
	return store_sync_dir(s, path);
}

/* The root and /.shard, with their gfids and handles. */
static int make_root_objects(struct store *s, const struct brick_identity *id)
{
	static const char root_text[] = "00000000-0000-0000-0000-000000000001";
	char target[128];
	int rc = store_mkdir(s, TREE_SHARD_DIR, 0700);

	if (rc == -EEXIST)
		rc = 0;
	if (!rc)
		rc = set_xattr(s, id, STORE_ROOT, XATTR_GFID, GFID_ROOT.b, sizeof(GFID_ROOT.b));
	if (!rc)
		rc = set_xattr(s, id, TREE_SHARD_DIR, XATTR_GFID, GFID_SHARD_DIR.b, sizeof(GFID_SHARD_DIR.b));
	if (!rc)
		rc = make_dir_handle(s, &GFID_ROOT, "../../..");
	snprintf(target, sizeof(target), "../../00/00/%s/%s", root_text, TREE_SHARD_DIR);
	if (!rc)
		rc = make_dir_handle(s, &GFID_SHARD_DIR, target);
	return rc ? rc : store_sync_dir(s, TREE_SHARD_DIR);
}

static int sync_dirs(struct store *s)
{
	static const char *const dirs[] = {TREE_CSUMS,    TREE_PRIVATE_DIR, TREE_INDEX_DIR, ".glusterfs/indices",
					   TREE_LANDFILL, TREE_HANDLES,     STORE_ROOT};
	int rc = 0;

	for (size_t i = 0; i < ARRAY_LEN(dirs) && !rc; i++)
		rc = store_sync_dir(s, dirs[i]);
	return rc;
}

static int fill(struct store *s, const struct brick_identity *id)
{
	char text[IDENTITY_TEXT_MAX], format[16], index[TREE_PATH];
	size_t len = identity_format(id, text);
	int format_len = snprintf(format, sizeof(format), "%d\n", BRICK_FORMAT);
	int rc = make_dirs(s);

	if (!rc)
		rc = make_root_objects(s, id);
	if (!rc)
		rc = write_file(s, TREE_FORMAT_PATH, format, (size_t)format_len, 0600);
	if (!rc)
		rc = write_file(s, TREE_IDENTITY_PATH, text, len, 0600);
	if (!rc)
		rc = write_file(s, TREE_LOCK_PATH, NULL, 0, 0600);
	tree_index_base(id, index);
	(void)store_unlink(s, index); /* mode 0: an unfinished one could not be opened again */
	if (!rc)
		rc = write_file(s, index, NULL, 0, 0);
	if (!rc)
		rc = write_journal(s, id->journal_bytes);
	if (!rc)
		rc = sync_dirs(s);
	if (!rc)
		rc = set_xattr(s, id, STORE_ROOT, XATTR_VOLUME_ID, id->volume.b, sizeof(id->volume.b));
	return rc ? rc : store_sync_dir(s, STORE_ROOT);
}

int tree_create(struct store *s, struct brick_identity *id, bool force, struct err *e)
{
	struct brick_identity made = *id;
	int rc = identity_complete(&made, e);

	if (!rc)
		rc = refuse_a_brick(s, e);
	if (!rc)
		rc = refuse_used(s, force, e);
	if (!rc)
		rc = refuse_remains(s, e);
	if (!rc)
		rc = choose_prefix(s, &made.user_xattrs, e);
	if (!rc)
		rc = check_space(s, &made, e);
	if (rc)
		return rc;
	rc = fill(s, &made);
	if (rc)
		return err_set(e, rc, "creating the brick failed: %s (the directory is unfinished; repeat with force)",
			       err_name(rc));
	*id = made;
	return 0;
}
