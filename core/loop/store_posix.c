/* store_posix.c - a store on a real directory.
 *
 * Every path is resolved by the kernel beneath the root's descriptor (openat2 RESOLVE_BENEATH): symlinks inside the tree
 * (directory handles) may be walked through, none leads out, and a final symlink is never followed. Operations that take a
 * name resolve the parent directory first and act on (parent, last component).
 * Calls that may take long (unlink of a large file, reading a directory, syncing one) run on a pool thread; files are in
 * file_posix.c. Invariant: P1 `locks` are held until the store is closed. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/loop/file_posix.h"
#include "core/loop/loop.h"

#define LOCKS_MAX 8u
#define OPEN_FLAGS (O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND)

struct posix_store {
	struct store s;
	int root_fd;
	int locks[LOCKS_MAX];
	unsigned locks_n;
};

static struct posix_store *posix_of(struct store *s)
{
	return CONTAINER_OF(s, struct posix_store, s);
}

/* ---- resolving ---- */

static int open_beneath(int dir_fd, const char *path, int flags, uint32_t mode)
{
	struct open_how how = {
	    .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
	    .mode = flags & O_CREAT ? mode : 0,
	    .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	do /* EAGAIN: a rename raced with the walk */
		fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return fd < 0 ? -errno : (int)fd;
}

/* "." and ".." have no business in our paths, nor have empty or absolute ones. */
static bool path_is_clean(const char *path)
{
	if (*path == '\0' || *path == '/')
		return false;
	for (const char *p = path; *p; p += strcspn(p, "/"), p += *p == '/') {
		size_t n = strcspn(p, "/");
		if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
	}
	return path[strlen(path) - 1] != '/';
}

/* Where a name lives: a directory and the last component. */
struct place {
	int dir_fd;
	bool owned;
	const char *name; /* points into the path */
};

static int place_find(const struct posix_store *p, const char *path, struct place *ret)
{
	char parent[PATH_MAX];
	const char *slash = strrchr(path, '/');

	if (!path_is_clean(path))
		return -EINVAL;
	if (!slash) {
		*ret = (struct place){.dir_fd = p->root_fd, .name = path};
		return 0;
	}
	size_t len = (size_t)(slash - path);
	if (len >= sizeof(parent))
		return -ENAMETOOLONG;
	memcpy(parent, path, len);
	parent[len] = '\0';
	int fd = open_beneath(p->root_fd, parent, O_PATH | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	*ret = (struct place){.dir_fd = fd, .owned = true, .name = slash + 1};
	return 0;
}

static void place_done(struct place *at)
{
	if (at->owned)
		close(at->dir_fd);
	at->owned = false;
}

static int or_errno(int rc)
{
	return rc < 0 ? -errno : rc;
}

/* ---- names ---- */

static int posix_open(struct store *s, const char *path, int flags, uint32_t mode, struct file **ret)
{
	if ((flags & ~OPEN_FLAGS) || !path_is_clean(path))
		return -EINVAL;
	int fd = open_beneath(posix_of(s)->root_fd, path, flags | O_NOFOLLOW, mode);
	if (fd < 0)
		return fd;
	int rc = file_posix_new(fd, ret);
	if (rc < 0)
		close(fd);
	return rc;
}

static int posix_mkdir(struct store *s, const char *path, uint32_t mode)
{
	struct place at;
	int rc = place_find(posix_of(s), path, &at);

	if (rc < 0)
		return rc;
	rc = or_errno(mkdirat(at.dir_fd, at.name, (mode_t)mode));
	place_done(&at);
	return rc;
}

static int two_places(const struct posix_store *p, const char *from, const char *to, struct place *ret_from, struct place *ret_to)
{
	int rc = place_find(p, from, ret_from);

	if (rc < 0)
		return rc;
	rc = place_find(p, to, ret_to);
	if (rc < 0)
		place_done(ret_from);
	return rc;
}

static int posix_link(struct store *s, const char *from, const char *to)
{
	struct place a, b;
	int rc = two_places(posix_of(s), from, to, &a, &b);

	if (rc < 0)
		return rc;
	rc = or_errno(linkat(a.dir_fd, a.name, b.dir_fd, b.name, 0));
	place_done(&a);
	place_done(&b);
	return rc;
}

static int posix_rename(struct store *s, const char *from, const char *to)
{
	struct place a, b;
	int rc = two_places(posix_of(s), from, to, &a, &b);

	if (rc < 0)
		return rc;
	rc = or_errno(renameat(a.dir_fd, a.name, b.dir_fd, b.name));
	place_done(&a);
	place_done(&b);
	return rc;
}

static int posix_symlink(struct store *s, const char *target, const char *path)
{
	struct place at;
	int rc = place_find(posix_of(s), path, &at);

	if (rc < 0)
		return rc;
	rc = or_errno(symlinkat(target, at.dir_fd, at.name));
	place_done(&at);
	return rc;
}

static int posix_readlink(struct store *s, const char *path, char *out, size_t cap)
{
	struct place at;
	int rc = place_find(posix_of(s), path, &at);

	if (rc < 0)
		return rc;
	ssize_t n = readlinkat(at.dir_fd, at.name, out, cap);
	rc = n < 0 ? -errno : (size_t)n == cap ? -ENAMETOOLONG : (int)n;
	if (rc >= 0)
		out[n] = '\0';
	place_done(&at);
	return rc;
}

struct remove_args {
	const struct place *at;
	int flags;
};

static int64_t remove_run(void *arg)
{
	const struct remove_args *a = arg;

	return or_errno(unlinkat(a->at->dir_fd, a->at->name, a->flags));
}

static int remove_name(struct store *s, const char *path, int flags)
{
	struct place at;
	int rc = place_find(posix_of(s), path, &at);

	if (rc < 0)
		return rc;
	struct remove_args args = {&at, flags};
	rc = (int)loop_offload(remove_run, &args);
	place_done(&at);
	return rc;
}

static int posix_unlink(struct store *s, const char *path)
{
	return remove_name(s, path, 0);
}

static int posix_rmdir(struct store *s, const char *path)
{
	return remove_name(s, path, AT_REMOVEDIR);
}

static int posix_stat(struct store *s, const char *path, struct file_info *ret)
{
	struct place at;
	struct stat st;

	if (*path == '\0') {
		if (fstat(posix_of(s)->root_fd, &st) < 0)
			return -errno;
		file_info_fill(&st, ret);
		return 0;
	}
	int rc = place_find(posix_of(s), path, &at);
	if (rc < 0)
		return rc;
	rc = or_errno(fstatat(at.dir_fd, at.name, &st, AT_SYMLINK_NOFOLLOW));
	place_done(&at);
	if (rc == 0)
		file_info_fill(&st, ret);
	return rc;
}

/* ---- directories ---- */

static int open_dir(const struct posix_store *p, const char *path)
{
	if (*path == '\0')
		return open_beneath(p->root_fd, ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (!path_is_clean(path))
		return -EINVAL;
	return open_beneath(p->root_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
}

struct readdir_args {
	int fd; /* consumed */
	struct dirent_list list;
	size_t cap;
};

static uint32_t type_of(int dir_fd, const struct dirent *d)
{
	struct stat st;

	if (d->d_type != DT_UNKNOWN)
		return (uint32_t)DTTOIF(d->d_type);
	return fstatat(dir_fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_mode & S_IFMT;
}

static int list_add(struct readdir_args *a, int dir_fd, const struct dirent *d)
{
	if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
		return 0;
	if (a->list.n == a->cap) {
		size_t cap = a->cap ? 2 * a->cap : 32;
		struct dirent_item *v = realloc(a->list.v, cap * sizeof(*v));
		if (!v)
			return -ENOMEM;
		a->list.v = v;
		a->cap = cap;
	}
	struct dirent_item *item = &a->list.v[a->list.n++];
	snprintf(item->name, sizeof(item->name), "%s", d->d_name);
	item->type = type_of(dir_fd, d);
	item->ino = d->d_ino;
	return 0;
}

static int64_t readdir_run(void *arg)
{
	struct readdir_args *a = arg;
	struct dirent *d;
	int rc = 0;

	DIR *dir = fdopendir(a->fd);
	if (!dir) {
		rc = -errno;
		close(a->fd);
		return rc;
	}
	while (rc == 0 && (errno = 0, d = readdir(dir)))
		rc = list_add(a, dirfd(dir), d);
	if (rc == 0 && errno)
		rc = -errno;
	closedir(dir);
	if (rc < 0)
		dirent_list_free(&a->list);
	return rc;
}

static int posix_readdir(struct store *s, const char *path, struct dirent_list *ret)
{
	int fd = open_dir(posix_of(s), path);

	if (fd < 0)
		return fd;
	struct readdir_args args = {.fd = fd};
	int rc = (int)loop_offload(readdir_run, &args);
	if (rc == 0)
		*ret = args.list;
	return rc;
}

static int posix_sync_dir(struct store *s, const char *path)
{
	int fd = open_dir(posix_of(s), path);

	if (fd == -ENOTDIR) /* a file: its data and xattrs */
		fd = open_beneath(posix_of(s)->root_fd, path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	int rc = file_posix_sync(fd, false);
	close(fd);
	return rc;
}

/* ---- extended attributes ---- */

/* The object itself, symlinks included, as a path the xattr calls accept. */
struct xattr_target {
	int fd;
	char path[32];
};

static int xattr_target_open(const struct posix_store *p, const char *path, struct xattr_target *ret)
{
	if (*path != '\0' && !path_is_clean(path))
		return -EINVAL;
	int fd = open_beneath(p->root_fd, *path ? path : ".", O_PATH | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	ret->fd = fd;
	snprintf(ret->path, sizeof(ret->path), "/proc/self/fd/%d", fd);
	return 0;
}

static ssize_t xattr_target_done(struct xattr_target *t, ssize_t rc)
{
	if (rc < 0)
		rc = -errno;
	close(t->fd);
	return rc;
}

static ssize_t posix_getxattr(struct store *s, const char *path, const char *name, void *dst, size_t cap)
{
	struct xattr_target t;
	int rc = xattr_target_open(posix_of(s), path, &t);

	return rc < 0 ? rc : xattr_target_done(&t, getxattr(t.path, name, dst, cap));
}

static int posix_setxattr(struct store *s, const char *path, const char *name, const void *src, size_t len, int flags)
{
	struct xattr_target t;
	int rc = xattr_target_open(posix_of(s), path, &t);

	return rc < 0 ? rc : (int)xattr_target_done(&t, setxattr(t.path, name, src, len, flags));
}

static int posix_removexattr(struct store *s, const char *path, const char *name)
{
	struct xattr_target t;
	int rc = xattr_target_open(posix_of(s), path, &t);

	return rc < 0 ? rc : (int)xattr_target_done(&t, removexattr(t.path, name));
}

static ssize_t posix_listxattr(struct store *s, const char *path, char *dst, size_t cap)
{
	struct xattr_target t;
	int rc = xattr_target_open(posix_of(s), path, &t);

	return rc < 0 ? rc : xattr_target_done(&t, listxattr(t.path, dst, cap));
}

/* ---- the whole ---- */

static int posix_space(struct store *s, struct store_space *ret)
{
	struct statvfs v;

	if (fstatvfs(posix_of(s)->root_fd, &v) < 0)
		return -errno;
	*ret = (struct store_space){
	    .total_bytes = (uint64_t)v.f_blocks * v.f_frsize,
	    .free_bytes = (uint64_t)v.f_bavail * v.f_frsize,
	    .free_inodes = v.f_files ? v.f_favail : UINT64_MAX,
	};
	return 0;
}

static int posix_lock(struct store *s, const char *path)
{
	struct posix_store *p = posix_of(s);

	if (!path_is_clean(path))
		return -EINVAL;
	if (p->locks_n == LOCKS_MAX)
		return -ENOLCK;
	int fd = open_beneath(p->root_fd, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
	if (fd < 0)
		return fd;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
		close(fd);
		return rc;
	}
	p->locks[p->locks_n++] = fd; /* P1 */
	return 0;
}

static void posix_close(struct store *s)
{
	struct posix_store *p = posix_of(s);

	for (unsigned i = 0; i < p->locks_n; i++)
		close(p->locks[i]);
	close(p->root_fd);
	free(p);
}

static const struct store_ops posix_store_ops = {
    .close = posix_close,
    .open = posix_open,
    .mkdir = posix_mkdir,
    .link = posix_link,
    .symlink = posix_symlink,
    .readlink = posix_readlink,
    .unlink = posix_unlink,
    .rmdir = posix_rmdir,
    .rename = posix_rename,
    .stat = posix_stat,
    .readdir = posix_readdir,
    .sync_dir = posix_sync_dir,
    .getxattr = posix_getxattr,
    .setxattr = posix_setxattr,
    .removexattr = posix_removexattr,
    .listxattr = posix_listxattr,
    .space = posix_space,
    .lock = posix_lock,
};

int store_open_posix(const char *root, struct store **ret, struct err *e)
{
	struct posix_store *p = calloc(1, sizeof(*p));

	if (!p)
		return err_set(e, -ENOMEM, "directory '%s': out of memory", root);
	p->s.ops = &posix_store_ops;
	p->root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->root_fd < 0) {
		int rc = -errno;
		free(p);
		return err_set(e, rc, "directory '%s': %s", root, strerror(-rc));
	}
	*ret = &p->s;
	return 0;
}
