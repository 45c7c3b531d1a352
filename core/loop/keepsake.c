/* keepsake.c - keepsake.h as a shared memory object (shm_open(3)). */
#include "core/loop/keepsake.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Only memory, and only ours: anybody may make names there. */
static int check(int fd, struct err *e)
{
	struct statfs fs;
	struct stat st;

	if (fstat(fd, &st) || fstatfs(fd, &fs))
		return err_set(e, -errno, "%s", err_name(-errno));
	if (fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC)
		return err_set(e, -ENOTSUP, "it lies on a disk");
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
		return err_set(e, -EPERM, "somebody else has made it");
	return 0;
}

static int map(int fd, size_t bytes, void **ret, struct err *e)
{
	int rc = check(fd, e);

	if (rc)
		return rc;
	rc = -posix_fallocate(fd, 0, (off_t)bytes); /* a store must not meet a full file system */
	if (rc)
		return err_set(e, rc, "%s", err_name(rc));
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return err_set(e, -errno, "%s", err_name(-errno));
	*ret = p;
	return 0;
}

int keepsake_open(const char *name, size_t bytes, void **ret, struct err *e)
{
	assert(bytes > 0 && bytes <= KEEPSAKE_MAX);
	int fd = shm_open(name, O_RDWR | O_CREAT, 0600);
	int rc = fd < 0 ? err_set(e, -errno, "%s", err_name(-errno)) : map(fd, bytes, ret, e);

	if (fd >= 0)
		close(fd);
	return rc ? err_wrap(e, rc, "shared memory %s", name) : 0;
}

void keepsake_close(void *p, size_t bytes)
{
	if (p)
		munmap(p, bytes);
}

void keepsake_remove(const char *name)
{
	(void)shm_unlink(name);
}
