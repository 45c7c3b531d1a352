/* disk_store.c - the store interface of the simulated disk: delays, injected errors, lies; then the operation on disk.c's structures. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "tests/sim/disk_priv.h"

#define MISS_PROBABILITY 0.1
#define MISS_SPREAD_NS 100000
#define SYNC_MIN_NS 50000
#define SYNC_SPREAD_NS 1500000

static struct disk *disk_of(struct store *s)
{
	return CONTAINER_OF(s, struct sim_store, s)->disk;
}

static struct sim_file *file_of(struct file *f)
{
	return CONTAINER_OF(f, struct sim_file, f);
}

static void pause_ns(struct disk *d, uint64_t ns)
{
	if (d->slow_probability > 0 && prng_chance(world_prng(d->world), d->slow_probability))
		ns += d->slow_ns;
	if (ns > 0)
		fiber_sleep_until(world_now_ns(d->world) + ns);
}

static void maybe_pause(struct disk *d)
{
	struct prng *r = world_prng(d->world);
	pause_ns(d, prng_chance(r, MISS_PROBABILITY) ? prng_below(r, MISS_SPREAD_NS) : 0);
}

static bool injected(struct disk *d, enum disk_fault kind)
{
	if (d->fail[kind] == 0)
		return false;
	d->fail[kind]--;
	world_trace(d->world, "%s: injected EIO (%s)", d->name, kind == DISK_FAIL_READ ? "read" : kind == DISK_FAIL_WRITE ? "write" : "sync");
	return true;
}

/* ---- files ---- */

static void f_close(struct file *f)
{
	struct sim_file *x = file_of(f);
	list_del(&x->node);
	free(x);
}

static ssize_t f_pread(struct file *f, void *dst, size_t len, uint64_t off)
{
	struct sim_file *x = file_of(f);
	maybe_pause(x->disk);
	if (injected(x->disk, DISK_FAIL_READ))
		return -EIO;
	return (ssize_t)inode_read(x->inode, off, dst, len);
}

/* True when this write is to be lied about; *off moves for a misdirected one. */
static bool lie_about(struct disk *d, const struct inode *i, uint64_t *off)
{
	char path[512];
	if (d->lie_needle[0] == '\0' || !names_path_of(d, i, path, sizeof(path)) || strstr(path, d->lie_needle) == NULL)
		return false;
	d->lie_needle[0] = '\0';
	world_trace(d->world, "%s: a write to %s is %s", d->name, path, d->lie == DISK_LOSE_WRITE ? "lost" : "misdirected");
	*off += MYFS_BLOCK;
	return d->lie == DISK_LOSE_WRITE;
}

static int f_pwritev(struct file *f, const struct iovec *v, unsigned n, uint64_t off)
{
	struct sim_file *x = file_of(f);
	maybe_pause(x->disk);
	if (injected(x->disk, DISK_FAIL_WRITE))
		return -EIO;
	if (lie_about(x->disk, x->inode, &off))
		return 0;
	return inode_writev(x->disk, x->inode, off, v, n);
}

static int f_datasync(struct file *f)
{
	struct sim_file *x = file_of(f);
	/* What was written before the call gets durable; what is written while it runs may or may not be included. */
	bool early = x->disk->fail[DISK_FAIL_SYNC] == 0 && prng_chance(world_prng(x->disk->world), 0.5);
	if (early)
		inode_sync(x->inode);
	pause_ns(x->disk, SYNC_MIN_NS + prng_below(world_prng(x->disk->world), SYNC_SPREAD_NS));
	if (injected(x->disk, DISK_FAIL_SYNC)) {
		inode_sync_failed(x->disk, x->inode);
		return -EIO;
	}
	if (!early)
		inode_sync(x->inode);
	return 0;
}

static int f_allocate(struct file *f, enum file_alloc_mode mode, uint64_t off, uint64_t len)
{
	struct sim_file *x = file_of(f);
	maybe_pause(x->disk);
	if (mode == FILE_PREALLOCATE) {
		x->inode->size = max_u64(x->inode->size, off + len);
		return x->disk->used_pages + len / MYFS_BLOCK > x->disk->capacity_pages ? -ENOSPC : 0;
	}
	if (mode == FILE_ZERO_RANGE)
		x->inode->size = max_u64(x->inode->size, off + len);
	return inode_punch(x->disk, x->inode, off, len);
}

static int f_truncate(struct file *f, uint64_t size)
{
	struct sim_file *x = file_of(f);
	maybe_pause(x->disk);
	return inode_truncate(x->disk, x->inode, size);
}

static void fill_info(const struct disk *d, const struct inode *i, struct file_info *ret)
{
	*ret = (struct file_info){.mode = i->mode, .nlink = names_links(d, i), .size_bytes = i->size, .alloc_bytes = i->n_pages * MYFS_BLOCK, .ino = i->ino};
}

static int f_stat(struct file *f, struct file_info *ret)
{
	struct sim_file *x = file_of(f);
	fill_info(x->disk, x->inode, ret);
	return 0;
}

static int64_t seek(struct file *f, uint64_t off, bool data)
{
	const struct inode *i = file_of(f)->inode;
	if (off >= i->size)
		return -ENXIO;
	for (size_t k = off / MYFS_BLOCK; k * MYFS_BLOCK < i->size; k++)
		if ((k < i->cur.n && i->cur.v[k] != NULL) == data)
			return (int64_t)max_u64(off, k * MYFS_BLOCK);
	return data ? -ENXIO : (int64_t)i->size;
}

static int64_t f_seek_data(struct file *f, uint64_t off)
{
	return seek(f, off, true);
}

static int64_t f_seek_hole(struct file *f, uint64_t off)
{
	return seek(f, off, false);
}

static const struct file_ops FILE_OPS = {f_close, f_pread, f_pwritev, f_datasync, f_allocate, f_truncate, f_stat, f_seek_data, f_seek_hole};

/* ---- store ---- */

static void s_close(struct store *s)
{
	struct sim_store *x = CONTAINER_OF(s, struct sim_store, s);
	x->disk->n_locks = 0;
	list_del(&x->node);
	free(x);
}

static int s_open(struct store *s, const char *path, int flags, uint32_t mode, struct file **ret)
{
	struct disk *d = disk_of(s);
	struct inode *dir, *i = NULL;
	const char *name;
	maybe_pause(d);
	int rc = names_parent(d, path, &dir, &name);
	if (rc < 0)
		return rc;
	struct entry *e = names_entry(d, dir, name);
	if (e != NULL && (flags & O_CREAT) && (flags & O_EXCL))
		return -EEXIST;
	if (e == NULL && !(flags & O_CREAT))
		return -ENOENT;
	if (e != NULL)
		i = e->inode;
	if (i != NULL && S_ISLNK(i->mode))
		return -ELOOP;
	if (i != NULL && S_ISDIR(i->mode) && (flags & O_ACCMODE) != O_RDONLY)
		return -EISDIR;
	if (i == NULL && disk_inodes_left(d) == 0)
		return -ENOSPC;
	if (i == NULL) {
		i = inode_new(d, S_IFREG | (mode & 07777));
		names_add(d, dir, name, i);
	}
	if (flags & O_TRUNC)
		inode_truncate(d, i, 0);
	struct sim_file *f = calloc(1, sizeof(*f));
	assert(f != NULL);
	f->f.ops = &FILE_OPS;
	f->disk = d;
	f->inode = i;
	list_push_back(&d->files, &f->node);
	*ret = &f->f;
	return 0;
}

/* For calls that make a name: its directory, and that it is free. */
static int new_name(struct disk *d, const char *path, struct inode **ret_dir, const char **ret_name)
{
	maybe_pause(d);
	int rc = names_parent(d, path, ret_dir, ret_name);
	if (rc < 0)
		return rc;
	return names_entry(d, *ret_dir, *ret_name) != NULL ? -EEXIST : 0;
}

static int s_mkdir(struct store *s, const char *path, uint32_t mode)
{
	struct disk *d = disk_of(s);
	struct inode *dir;
	const char *name;
	int rc = new_name(d, path, &dir, &name);
	if (rc == 0 && disk_inodes_left(d) == 0)
		rc = -ENOSPC;
	if (rc == 0)
		names_add(d, dir, name, inode_new(d, S_IFDIR | (mode & 07777)));
	return rc;
}

static int s_link(struct store *s, const char *from, const char *to)
{
	struct disk *d = disk_of(s);
	struct inode *dir, *i;
	const char *name;
	int rc = names_find(d, from, &i);
	if (rc == 0)
		rc = new_name(d, to, &dir, &name);
	if (rc == 0)
		names_add(d, dir, name, i);
	return rc;
}

static int s_symlink(struct store *s, const char *target, const char *path)
{
	struct disk *d = disk_of(s);
	struct inode *dir;
	const char *name;
	int rc = new_name(d, path, &dir, &name);
	if (rc < 0)
		return rc;
	if (disk_inodes_left(d) == 0)
		return -ENOSPC;
	struct inode *i = inode_new(d, S_IFLNK | 0777);
	i->target = strdup(target);
	assert(i->target != NULL);
	names_add(d, dir, name, i);
	return 0;
}

static int s_readlink(struct store *s, const char *path, char *out, size_t cap)
{
	struct inode *i;
	int rc = names_find(disk_of(s), path, &i);
	if (rc < 0)
		return rc;
	if (!S_ISLNK(i->mode))
		return -EINVAL;
	return snprintf(out, cap, "%s", i->target);
}

static int remove_name(struct disk *d, const char *path, bool want_dir)
{
	struct inode *dir;
	const char *name;
	maybe_pause(d);
	int rc = names_parent(d, path, &dir, &name);
	if (rc < 0)
		return rc;
	struct entry *e = names_entry(d, dir, name);
	if (e == NULL)
		return -ENOENT;
	if (want_dir != (bool)S_ISDIR(e->inode->mode))
		return want_dir ? -ENOTDIR : -EISDIR;
	if (want_dir && !names_dir_empty(d, e->inode))
		return -ENOTEMPTY;
	struct inode *i = e->inode;
	names_del(d, dir, e);
	/* The space counts as free once the last name is gone; the inode itself lives on for crashes that bring the name back. */
	if (S_ISREG(i->mode) && names_links(d, i) == 0)
		d->used_pages -= min_u64(d->used_pages, i->n_pages);
	return 0;
}

static int s_unlink(struct store *s, const char *path)
{
	return remove_name(disk_of(s), path, false);
}

static int s_rmdir(struct store *s, const char *path)
{
	return remove_name(disk_of(s), path, true);
}

static int s_rename(struct store *s, const char *from, const char *to)
{
	struct disk *d = disk_of(s);
	struct inode *from_dir, *to_dir;
	const char *from_name, *to_name;
	maybe_pause(d);
	int rc = names_parent(d, from, &from_dir, &from_name);
	if (rc == 0)
		rc = names_parent(d, to, &to_dir, &to_name);
	if (rc < 0)
		return rc;
	struct entry *e = names_entry(d, from_dir, from_name), *old = names_entry(d, to_dir, to_name);
	if (e == NULL)
		return -ENOENT;
	struct inode *i = e->inode;
	if (old != NULL && old->inode == i)
		return 0;
	names_move(d, from_dir, e, to_dir, to_name, old);
	return 0;
}

static int s_stat(struct store *s, const char *path, struct file_info *ret)
{
	struct inode *i;
	int rc = names_find(disk_of(s), path, &i);
	if (rc == 0)
		fill_info(disk_of(s), i, ret);
	return rc;
}

static int s_readdir(struct store *s, const char *path, struct dirent_list *ret)
{
	struct disk *d = disk_of(s);
	struct inode *dir;
	int rc = names_find(d, path, &dir);
	if (rc < 0)
		return rc;
	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	size_t n = 0;
	list_for_each(e, &dir->children, struct entry, in_dir)
		n++;
	struct dirent_item *v = calloc(n + 1, sizeof(*v));
	assert(v != NULL);
	n = 0;
	list_for_each(e, &dir->children, struct entry, in_dir) {
		snprintf(v[n].name, sizeof(v[n].name), "%s", e->name);
		v[n].type = e->inode->mode & S_IFMT;
		v[n++].ino = e->inode->ino;
	}
	*ret = (struct dirent_list){v, n};
	return 0;
}

static int s_sync_dir(struct store *s, const char *path)
{
	struct disk *d = disk_of(s);
	struct inode *dir;
	int rc = names_find(d, path, &dir);
	if (rc < 0)
		return rc;
	pause_ns(d, SYNC_MIN_NS + prng_below(world_prng(d->world), SYNC_SPREAD_NS));
	if (injected(d, DISK_FAIL_SYNC))
		return -EIO;
	names_sync(d);
	return 0;
}

static ssize_t s_getxattr(struct store *s, const char *path, const char *name, void *dst, size_t cap)
{
	struct inode *i;
	int rc = names_find(disk_of(s), path, &i);
	if (rc < 0)
		return rc;
	struct xattr *x = xattr_find(i, name);
	if (x == NULL)
		return -ENODATA;
	if (cap == 0)
		return (ssize_t)x->len;
	if (cap < x->len)
		return -ERANGE;
	memcpy(dst, x->value, x->len);
	return (ssize_t)x->len;
}

static int s_setxattr(struct store *s, const char *path, const char *name, const void *src, size_t len, int flags)
{
	struct disk *d = disk_of(s);
	struct inode *i;
	maybe_pause(d);
	int rc = names_find(d, path, &i);
	if (rc < 0)
		return rc;
	struct xattr *old = xattr_find(i, name);
	if ((flags & XATTR_CREATE) && old != NULL)
		return -EEXIST;
	if ((flags & XATTR_REPLACE) && old == NULL)
		return -ENODATA;
	names_setxattr(d, i, name, src, len);
	return 0;
}

static int s_removexattr(struct store *s, const char *path, const char *name)
{
	struct disk *d = disk_of(s);
	struct inode *i;
	int rc = names_find(d, path, &i);
	if (rc < 0)
		return rc;
	struct xattr *x = xattr_find(i, name);
	if (x == NULL)
		return -ENODATA;
	names_rmxattr(d, i, x);
	return 0;
}

static ssize_t s_listxattr(struct store *s, const char *path, char *dst, size_t cap)
{
	struct inode *i;
	int rc = names_find(disk_of(s), path, &i);
	if (rc < 0)
		return rc;
	size_t used = 0;
	list_for_each(x, &i->xattrs, struct xattr, node) {
		size_t len = strlen(x->name) + 1;
		if (cap > 0 && used + len > cap)
			return -ERANGE;
		if (cap > 0)
			memcpy(dst + used, x->name, len);
		used += len;
	}
	return (ssize_t)used;
}

static int s_space(struct store *s, struct store_space *ret)
{
	const struct disk *d = disk_of(s);
	uint64_t total = d->capacity_pages * MYFS_BLOCK, used = d->used_pages * MYFS_BLOCK;
	*ret = (struct store_space){total, total > used ? total - used : 0, disk_inodes_left(d)};
	return 0;
}

static int s_lock(struct store *s, const char *path)
{
	struct disk *d = disk_of(s);
	struct inode *i;
	int rc = names_find(d, path, &i);
	if (rc < 0)
		return rc;
	for (unsigned k = 0; k < d->n_locks; k++)
		if (d->locks[k] == i)
			return -EBUSY;
	assert(d->n_locks < MAX_LOCKS);
	d->locks[d->n_locks++] = i;
	return 0;
}

static const struct store_ops STORE_OPS = {s_close, s_open, s_mkdir, s_link, s_symlink, s_readlink, s_unlink, s_rmdir, s_rename, s_stat, s_readdir,
                                           s_sync_dir, s_getxattr, s_setxattr, s_removexattr, s_listxattr, s_space, s_lock};

int disk_store(struct disk *d, struct store **ret)
{
	struct sim_store *x = calloc(1, sizeof(*x));
	assert(x != NULL);
	x->s.ops = &STORE_OPS;
	x->disk = d;
	list_push_back(&d->stores, &x->node);
	*ret = &x->s;
	return 0;
}
