/* lio_fs.h - the few file operations configfs is driven by, replaceable so that tests can imitate what the kernel does
 * when a directory is made. All paths are relative to the root; all return 0 (or a count) or -errno. Blocking: only the
 * myfs-lio program and tests call them. */
#ifndef MYFS_LIO_FS_H
#define MYFS_LIO_FS_H

#include "core/base/base.h"

#define LIO_PATH  1024
#define LIO_VALUE 4096 /* a configfs attribute is at most a page */

enum lio_kind { LIO_DIR, LIO_LINK, LIO_ATTRIBUTE };

struct lio_fs {
	int (*mkdir)(struct lio_fs *fs, const char *path); /* -EEXIST when it is there */
	int (*rmdir)(struct lio_fs *fs, const char *path);
	int (*link)(struct lio_fs *fs, const char *to, const char *path); /* both relative to the root */
	int (*unlink)(struct lio_fs *fs, const char *path);
	int (*write)(struct lio_fs *fs, const char *path, const char *value); /* one write, the file must exist */
	/* Trailing white space is cut off. */
	int (*read)(struct lio_fs *fs, const char *path, char ret[LIO_VALUE]);
	int (*readlink)(struct lio_fs *fs, const char *path, char ret[LIO_PATH]);
	/* Every entry but . and .. in the order of the directory, gathered before the first call of each. */
	int (*list)(struct lio_fs *fs, const char *path, void (*each)(void *arg, const char *name, enum lio_kind kind),
		    void *arg);
	const char *root; /* borrowed, absolute */
};

struct lio_fs lio_fs_kernel(const char *root);

#endif
