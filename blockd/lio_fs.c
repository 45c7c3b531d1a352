/* lio_fs.c - file operations on the kernel's configfs, or on any directory in its place. */
#include "blockd/lio_fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int full(struct lio_fs *fs, const char *path, char out[2 * LIO_PATH])
{
	int n = snprintf(out, 2 * LIO_PATH, "%s/%s", fs->root, path);

	return n < 2 * LIO_PATH ? 0 : -ENAMETOOLONG;
}

static int kernel_mkdir(struct lio_fs *fs, const char *path)
{
	char p[2 * LIO_PATH];
	int rc = full(fs, path, p);

	return rc == 0 && mkdir(p, 0755) < 0 ? -errno : rc;
}

static int kernel_rmdir(struct lio_fs *fs, const char *path)
{
	char p[2 * LIO_PATH];
	int rc = full(fs, path, p);

	return rc == 0 && rmdir(p) < 0 ? -errno : rc;
}

static int kernel_link(struct lio_fs *fs, const char *to, const char *path)
{
	char p[2 * LIO_PATH], target[2 * LIO_PATH];
	int rc = full(fs, path, p);

	if (rc == 0)
		rc = full(fs, to, target);
	return rc == 0 && symlink(target, p) < 0 ? -errno : rc;
}

static int kernel_unlink(struct lio_fs *fs, const char *path)
{
	char p[2 * LIO_PATH];
	int rc = full(fs, path, p);

	return rc == 0 && unlink(p) < 0 ? -errno : rc;
}

static int kernel_write(struct lio_fs *fs, const char *path, const char *value)
{
	char p[2 * LIO_PATH];
	size_t len = strlen(value);
	int fd, rc = full(fs, path, p);

	if (rc < 0)
		return rc;
	fd = open(p, O_WRONLY | O_TRUNC | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* configfs takes the value as it is in one write; a newline would become part of names and secrets. */
	ssize_t n = write(fd, value, len);
	rc = n < 0 ? -errno : (size_t)n < len ? -EIO : 0;
	/* The kernel acts when the file is closed at the latest. */
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	return rc;
}

static int kernel_read(struct lio_fs *fs, const char *path, char ret[LIO_VALUE])
{
	char p[2 * LIO_PATH], text[LIO_VALUE];
	size_t used = 0;
	ssize_t n = 0;
	int fd, rc = full(fs, path, p);

	if (rc < 0)
		return rc;
	fd = open(p, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (used < LIO_VALUE - 1 && (n = read(fd, text + used, LIO_VALUE - 1 - used)) > 0)
		used += (size_t)n;
	rc = n < 0 ? -errno : 0;
	close(fd);
	if (rc < 0)
		return rc;
	while (used > 0 && strchr(" \t\r\n", text[used - 1]))
		used--;
	memcpy(ret, text, used);
	ret[used] = '\0';
	return 0;
}

static int kernel_readlink(struct lio_fs *fs, const char *path, char ret[LIO_PATH])
{
	char p[2 * LIO_PATH], text[LIO_PATH];
	int rc = full(fs, path, p);

	if (rc < 0)
		return rc;
	ssize_t n = readlink(p, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	memcpy(ret, text, (size_t)n);
	ret[n] = '\0';
	return 0;
}

static enum lio_kind kind_of(struct lio_fs *fs, const char *dir, const struct dirent *entry)
{
	char p[3 * LIO_PATH];
	struct stat st;

	if (entry->d_type == DT_LNK)
		return LIO_LINK;
	if (entry->d_type != DT_UNKNOWN)
		return entry->d_type == DT_DIR ? LIO_DIR : LIO_ATTRIBUTE;
	snprintf(p, sizeof(p), "%s/%s/%s", fs->root, dir, entry->d_name);
	if (lstat(p, &st) < 0)
		return LIO_ATTRIBUTE;
	return S_ISDIR(st.st_mode) ? LIO_DIR : S_ISLNK(st.st_mode) ? LIO_LINK : LIO_ATTRIBUTE;
}

static int kernel_list(struct lio_fs *fs, const char *path,
		       void (*each)(void *arg, const char *name, enum lio_kind kind), void *arg)
{
	struct dirent **entries = NULL;
	char p[2 * LIO_PATH];
	int rc = full(fs, path, p);

	if (rc < 0)
		return rc;
	int n = scandir(p, &entries, NULL, alphasort);
	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		if (strcmp(entries[i]->d_name, ".") != 0 && strcmp(entries[i]->d_name, "..") != 0)
			each(arg, entries[i]->d_name, kind_of(fs, path, entries[i]));
		free(entries[i]);
	}
	free(entries);
	return 0;
}

struct lio_fs lio_fs_kernel(const char *root)
{
	return (struct lio_fs){.mkdir = kernel_mkdir,
			       .rmdir = kernel_rmdir,
			       .link = kernel_link,
			       .unlink = kernel_unlink,
			       .write = kernel_write,
			       .read = kernel_read,
			       .readlink = kernel_readlink,
			       .list = kernel_list,
			       .root = root};
}
