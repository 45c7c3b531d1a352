/* store.h - a directory tree that belongs to us (a brick, a state directory), behind an interface the simulator can crash.
 *
 * All paths are relative to the store's root (STORE_ROOT is the root itself), without "." or ".." components, and
 * never follow symlinks out of it. Durability is as POSIX promises: file data after file_datasync(), names after store_sync_dir(). All functions are YIELDS: data
 * reads and writes and syncs go through the loop; metadata calls may be executed inline. */
#ifndef MYFS_STORE_H
#define MYFS_STORE_H

#include <sys/uio.h>

#include "core/base/base.h"
#include "core/base/err.h"

struct store;
struct file;

#define STORE_ROOT ""

struct file_info {
	uint32_t mode;        /* st_mode */
	uint32_t nlink;
	uint64_t size_bytes;
	uint64_t alloc_bytes; /* blocks really allocated */
	uint64_t ino;
};

struct store_space {
	uint64_t total_bytes, free_bytes; /* free for us (f_bavail) */
	uint64_t free_inodes; /* UINT64_MAX where files are not numbered in advance (btrfs) */
};

struct dirent_item {
	char name[256];
	uint32_t type; /* S_IFREG, S_IFDIR, S_IFLNK ... as in st_mode & S_IFMT */
	uint64_t ino;
};
struct dirent_list {
	struct dirent_item *v; /* owned */
	size_t n;
};
void dirent_list_free(struct dirent_list *l);

enum file_alloc_mode { FILE_PREALLOCATE, FILE_PUNCH_HOLE, FILE_ZERO_RANGE };

struct store_ops {
	void (*close)(struct store *s);
	/* flags: O_RDONLY|O_RDWR|O_CREAT|O_EXCL|O_TRUNC */
	int (*open)(struct store *s, const char *path, int flags, uint32_t mode, struct file **ret);
	int (*mkdir)(struct store *s, const char *path, uint32_t mode);
	int (*link)(struct store *s, const char *from, const char *to);
	int (*symlink)(struct store *s, const char *target, const char *path);
	int (*readlink)(struct store *s, const char *path, char *out, size_t cap); /* length or -errno; NUL-terminated */
	int (*unlink)(struct store *s, const char *path);
	int (*rmdir)(struct store *s, const char *path);
	int (*rename)(struct store *s, const char *from, const char *to);
	int (*stat)(struct store *s, const char *path, struct file_info *ret); /* does not follow a final symlink */
	int (*readdir)(struct store *s, const char *path, struct dirent_list *ret);
	/* Names in the directory are durable; also its xattrs. A regular file may be named too: fsync(2) of it with its xattrs, which
	 * file_datasync does not promise. */
	int (*sync_dir)(struct store *s, const char *path);
	ssize_t (*getxattr)(struct store *s, const char *path, const char *name, void *dst, size_t cap);
	int (*setxattr)(struct store *s, const char *path, const char *name, const void *src, size_t len, int flags);
	int (*removexattr)(struct store *s, const char *path, const char *name);
	/* names separated by NUL; length or -errno */
	ssize_t (*listxattr)(struct store *s, const char *path, char *dst, size_t cap);
	int (*space)(struct store *s, struct store_space *ret);
	/* Exclusive advisory lock on the file for the life of the store; -EBUSY when another process holds it. */
	int (*lock)(struct store *s, const char *path);
};

struct file_ops {
	void (*close)(struct file *f);
	ssize_t (*pread)(struct file *f, void *dst, size_t len, uint64_t off);                /* short only at end of file */
	int (*pwritev)(struct file *f, const struct iovec *v, unsigned n, uint64_t off);      /* all or error */
	int (*datasync)(struct file *f);
	int (*allocate)(struct file *f, enum file_alloc_mode mode, uint64_t off, uint64_t len);
	int (*truncate)(struct file *f, uint64_t size);
	int (*stat)(struct file *f, struct file_info *ret);
	/* Next data / hole at or after off: offset, or -ENXIO past the end. */
	int64_t (*seek_data)(struct file *f, uint64_t off);
	int64_t (*seek_hole)(struct file *f, uint64_t off);
};

struct store {
	const struct store_ops *ops;
};
struct file {
	const struct file_ops *ops;
	/* What is cached of the range and not dirty is dropped; a hint, does not block. NULL: there is no cache. */
	void (*uncache)(struct file *f, uint64_t off, uint64_t len);
};

/* A store on a real directory. Missing directory: -ENOENT. */
int store_open_posix(const char *root, struct store **ret, struct err *e);

static inline void store_close(struct store *s) { if (s) s->ops->close(s); }
static inline int store_open(struct store *s, const char *p, int flags, uint32_t mode, struct file **ret) YIELDS { return s->ops->open(s, p, flags, mode, ret); }
static inline int store_mkdir(struct store *s, const char *p, uint32_t mode) YIELDS { return s->ops->mkdir(s, p, mode); }
static inline int store_link(struct store *s, const char *from, const char *to) YIELDS { return s->ops->link(s, from, to); }
static inline int store_symlink(struct store *s, const char *target, const char *p) YIELDS { return s->ops->symlink(s, target, p); }
static inline int store_readlink(struct store *s, const char *p, char *out, size_t cap) YIELDS { return s->ops->readlink(s, p, out, cap); }
static inline int store_unlink(struct store *s, const char *p) YIELDS { return s->ops->unlink(s, p); }
static inline int store_rmdir(struct store *s, const char *p) YIELDS { return s->ops->rmdir(s, p); }
static inline int store_rename(struct store *s, const char *from, const char *to) YIELDS { return s->ops->rename(s, from, to); }
static inline int store_stat(struct store *s, const char *p, struct file_info *ret) YIELDS { return s->ops->stat(s, p, ret); }
static inline int store_readdir(struct store *s, const char *p, struct dirent_list *ret) YIELDS { return s->ops->readdir(s, p, ret); }
static inline int store_sync_dir(struct store *s, const char *p) YIELDS { return s->ops->sync_dir(s, p); }
static inline ssize_t store_getxattr(struct store *s, const char *p, const char *name, void *dst, size_t cap) YIELDS { return s->ops->getxattr(s, p, name, dst, cap); }
static inline int store_setxattr(struct store *s, const char *p, const char *name, const void *src, size_t len, int flags) YIELDS { return s->ops->setxattr(s, p, name, src, len, flags); }
static inline int store_removexattr(struct store *s, const char *p, const char *name) YIELDS { return s->ops->removexattr(s, p, name); }
static inline ssize_t store_listxattr(struct store *s, const char *p, char *dst, size_t cap) YIELDS { return s->ops->listxattr(s, p, dst, cap); }
static inline int store_space(struct store *s, struct store_space *ret) YIELDS { return s->ops->space(s, ret); }
static inline int store_lock(struct store *s, const char *p) YIELDS { return s->ops->lock(s, p); }

static inline void file_close(struct file *f) { if (f) f->ops->close(f); }
static inline ssize_t file_pread(struct file *f, void *dst, size_t len, uint64_t off) YIELDS { return f->ops->pread(f, dst, len, off); }
static inline int file_pwritev(struct file *f, const struct iovec *v, unsigned n, uint64_t off) YIELDS { return f->ops->pwritev(f, v, n, off); }
static inline int file_pwrite(struct file *f, const void *src, size_t len, uint64_t off) YIELDS
{
	struct iovec v = {.iov_base = (void *)(uintptr_t)src, .iov_len = len};
	return f->ops->pwritev(f, &v, 1, off);
}
static inline int file_datasync(struct file *f) YIELDS { return f->ops->datasync(f); }
static inline int file_allocate(struct file *f, enum file_alloc_mode m, uint64_t off, uint64_t len) YIELDS { return f->ops->allocate(f, m, off, len); }
static inline int file_truncate(struct file *f, uint64_t size) YIELDS { return f->ops->truncate(f, size); }
static inline int file_stat(struct file *f, struct file_info *ret) YIELDS { return f->ops->stat(f, ret); }
static inline int64_t file_seek_data(struct file *f, uint64_t off) YIELDS { return f->ops->seek_data(f, off); }
static inline void file_uncache(struct file *f, uint64_t off, uint64_t len) { if (f->uncache) f->uncache(f, off, len); }
static inline int64_t file_seek_hole(struct file *f, uint64_t off) YIELDS { return f->ops->seek_hole(f, off); }

#endif
