/* crash_store.h - a store over a real one that can lose power: writes not yet synced are undone, block by block, at
 * random.
 *
 * Names, sizes and xattrs are durable at once (the engine syncs directories itself; what is tested here is data). Every
 * 4 KiB block of an unsynced write goes back to one of the contents it had since the last sync of its file. The n-th
 * write can be made the last one: it and everything after it fail, as if the machine had stopped there. */
#ifndef MYFS_TEST_CRASH_STORE_H
#define MYFS_TEST_CRASH_STORE_H

#include <fcntl.h>
#include <stdio.h>

#include "core/base/buf.h"
#include "core/base/list.h"
#include "core/base/prng.h"
#include "core/loop/store.h"

struct old_block {
	struct list node;
	uint64_t block;
	uint8_t bytes[MYFS_BLOCK];
};

struct crash_inode {
	struct list node;
	uint64_t ino;
	char path[512];
	struct list undo; /* oldest first */
};

struct crash_store {
	struct store store;
	struct store *under;
	struct list inodes;
	struct prng *rng;
	int64_t writes_left; /* < 0: no limit */
	int fail_with;
	uint64_t writes;
	bool torn; /* blocks may also tear in the middle */
	unsigned (*choose)(void *arg, unsigned n); /* below n: who picks what stays of a block's n - 1 writes; NULL: rng */
	void *choose_arg;
};

struct crash_file {
	struct file file;
	struct file *under;
	struct crash_store *s;
	struct crash_inode *inode;
};

static inline struct crash_store *crash_of(struct store *s)
{
	return CONTAINER_OF(s, struct crash_store, store);
}
static inline struct crash_file *crash_file_of(struct file *f)
{
	return CONTAINER_OF(f, struct crash_file, file);
}

/* False once the limit is used up. */
static inline int crash_write_allowed(struct crash_store *s)
{
	s->writes++;
	if (s->writes_left == 0)
		return s->fail_with ? s->fail_with : -EIO;
	if (s->writes_left > 0)
		s->writes_left--;
	return 0;
}

static inline void crash_remember(struct crash_file *f, uint64_t off, uint64_t len)
{
	for (uint64_t b = off / MYFS_BLOCK; b * MYFS_BLOCK < off + len; b++) {
		struct old_block *o = calloc(1, sizeof(*o));
		assert(o);
		o->block = b;
		ssize_t n = file_pread(f->under, o->bytes, MYFS_BLOCK, b * MYFS_BLOCK);
		assert(n >= 0);
		list_push_back(&f->inode->undo, &o->node);
	}
}

static inline void crash_forget(struct crash_inode *i)
{
	list_for_each_safe(o, &i->undo, struct old_block, node) {
		list_del(&o->node);
		free(o);
	}
}

static inline void cf_close(struct file *f)
{
	file_close(crash_file_of(f)->under);
	free(crash_file_of(f));
}
static inline ssize_t cf_pread(struct file *f, void *dst, size_t len, uint64_t off)
{
	return file_pread(crash_file_of(f)->under, dst, len, off);
}
static inline int cf_pwritev(struct file *f, const struct iovec *v, unsigned n, uint64_t off)
{
	struct crash_file *c = crash_file_of(f);
	int rc = crash_write_allowed(c->s);
	if (rc < 0)
		return rc;
	crash_remember(c, off, iov_bytes((struct iov){.v = v, .n = n}));
	return file_pwritev(c->under, v, n, off);
}
static inline int cf_datasync(struct file *f)
{
	struct crash_file *c = crash_file_of(f);
	int rc = crash_write_allowed(c->s);
	if (rc == 0)
		crash_forget(c->inode);
	return rc;
}
static inline int cf_allocate(struct file *f, enum file_alloc_mode mode, uint64_t off, uint64_t len)
{
	struct crash_file *c = crash_file_of(f);
	int rc = crash_write_allowed(c->s);
	if (rc < 0)
		return rc;
	if (mode != FILE_PREALLOCATE)
		crash_remember(c, off, len);
	return file_allocate(c->under, mode, off, len);
}
static inline int cf_truncate(struct file *f, uint64_t size)
{
	return file_truncate(crash_file_of(f)->under, size);
}
static inline int cf_stat(struct file *f, struct file_info *ret)
{
	return file_stat(crash_file_of(f)->under, ret);
}
static inline int64_t cf_seek_data(struct file *f, uint64_t off)
{
	return file_seek_data(crash_file_of(f)->under, off);
}
static inline int64_t cf_seek_hole(struct file *f, uint64_t off)
{
	return file_seek_hole(crash_file_of(f)->under, off);
}

static const struct file_ops crash_file_ops = {cf_close,    cf_pread, cf_pwritev,   cf_datasync, cf_allocate,
					       cf_truncate, cf_stat,  cf_seek_data, cf_seek_hole};

static inline struct crash_inode *crash_inode_of(struct crash_store *s, const char *path, uint64_t ino)
{
	list_for_each(i, &s->inodes, struct crash_inode, node)
		if (i->ino == ino)
			return i;
	struct crash_inode *i = calloc(1, sizeof(*i));
	assert(i);
	i->ino = ino;
	snprintf(i->path, sizeof(i->path), "%s", path);
	list_init(&i->undo);
	list_push_back(&s->inodes, &i->node);
	return i;
}

static inline int cs_open(struct store *s, const char *path, int flags, uint32_t mode, struct file **ret)
{
	struct crash_store *c = crash_of(s);
	struct file *under;
	int rc = store_open(c->under, path, flags, mode, &under);
	if (rc < 0)
		return rc;
	struct file_info info;
	rc = file_stat(under, &info);
	assert(rc == 0);
	struct crash_file *f = calloc(1, sizeof(*f));
	assert(f);
	f->file.ops = &crash_file_ops;
	f->under = under;
	f->s = c;
	f->inode = crash_inode_of(c, path, info.ino);
	*ret = &f->file;
	return 0;
}
#define CS_CHANGE(c)                                                                                                   \
	do {                                                                                                           \
		int rc_ = crash_write_allowed(c);                                                                      \
		if (rc_ < 0)                                                                                           \
			return rc_;                                                                                    \
	} while (0)
static inline void cs_close(struct store *s)
{
	(void)s;
}
static inline int cs_mkdir(struct store *s, const char *p, uint32_t mode)
{
	CS_CHANGE(crash_of(s));
	return store_mkdir(crash_of(s)->under, p, mode);
}
static inline int cs_link(struct store *s, const char *a, const char *b)
{
	CS_CHANGE(crash_of(s));
	return store_link(crash_of(s)->under, a, b);
}
static inline int cs_symlink(struct store *s, const char *a, const char *b)
{
	CS_CHANGE(crash_of(s));
	return store_symlink(crash_of(s)->under, a, b);
}
static inline int cs_readlink(struct store *s, const char *p, char *out, size_t cap)
{
	return store_readlink(crash_of(s)->under, p, out, cap);
}
static inline int cs_unlink(struct store *s, const char *p)
{
	CS_CHANGE(crash_of(s));
	return store_unlink(crash_of(s)->under, p);
}
static inline int cs_rmdir(struct store *s, const char *p)
{
	CS_CHANGE(crash_of(s));
	return store_rmdir(crash_of(s)->under, p);
}
static inline int cs_rename(struct store *s, const char *a, const char *b)
{
	CS_CHANGE(crash_of(s));
	return store_rename(crash_of(s)->under, a, b);
}
static inline int cs_stat(struct store *s, const char *p, struct file_info *ret)
{
	return store_stat(crash_of(s)->under, p, ret);
}
static inline int cs_readdir(struct store *s, const char *p, struct dirent_list *ret)
{
	return store_readdir(crash_of(s)->under, p, ret);
}
static inline int cs_sync_dir(struct store *s, const char *p)
{
	CS_CHANGE(crash_of(s));
	return store_sync_dir(crash_of(s)->under, p);
}
static inline ssize_t cs_getxattr(struct store *s, const char *p, const char *n, void *dst, size_t cap)
{
	return store_getxattr(crash_of(s)->under, p, n, dst, cap);
}
static inline int cs_setxattr(struct store *s, const char *p, const char *n, const void *src, size_t len, int flags)
{
	CS_CHANGE(crash_of(s));
	return store_setxattr(crash_of(s)->under, p, n, src, len, flags);
}
static inline int cs_removexattr(struct store *s, const char *p, const char *n)
{
	CS_CHANGE(crash_of(s));
	return store_removexattr(crash_of(s)->under, p, n);
}
static inline ssize_t cs_listxattr(struct store *s, const char *p, char *dst, size_t cap)
{
	return store_listxattr(crash_of(s)->under, p, dst, cap);
}
static inline int cs_space(struct store *s, struct store_space *ret)
{
	return store_space(crash_of(s)->under, ret);
}
static inline int cs_lock(struct store *s, const char *p)
{
	return store_lock(crash_of(s)->under, p);
}

static const struct store_ops crash_store_ops = {
    cs_close, cs_open,    cs_mkdir,    cs_link,     cs_symlink,  cs_readlink,    cs_unlink,    cs_rmdir, cs_rename,
    cs_stat,  cs_readdir, cs_sync_dir, cs_getxattr, cs_setxattr, cs_removexattr, cs_listxattr, cs_space, cs_lock};

static inline void crash_store_init(struct crash_store *s, struct store *under, struct prng *rng)
{
	*s = (struct crash_store){.store.ops = &crash_store_ops, .under = under, .rng = rng, .writes_left = -1};
	list_init(&s->inodes);
}

/* Undoes the youngest changes of one block, so that `keep` of its n unsynced writes remain. Returns what was there
 * before the rest. */
static inline const struct old_block *crash_pick(struct crash_store *s, struct crash_inode *i, uint64_t block)
{
	unsigned n = 0;
	list_for_each(o, &i->undo, struct old_block, node)
		n += o->block == block;
	unsigned keep = s->choose ? s->choose(s->choose_arg, n + 1) : (unsigned)prng_below(s->rng, n + 1);
	list_for_each(o, &i->undo, struct old_block, node)
		if (o->block == block && keep-- == 0)
			return o;
	return NULL; /* all of them made it */
}

static inline void crash_undo_inode(struct crash_store *s, struct crash_inode *i)
{
	struct file *f;
	if (list_empty(&i->undo))
		return;
	if (store_open(s->under, i->path, O_RDWR, 0, &f) < 0) { /* renamed or removed since: nothing of it counts */
		crash_forget(i);
		return;
	}
	struct file_info info;
	if (file_stat(f, &info) == 0 && info.ino == i->ino) {
		while (!list_empty(&i->undo)) {
			uint64_t block = list_first(&i->undo, struct old_block, node)->block;
			const struct old_block *o = crash_pick(s, i, block);
			if (o) {
				size_t half = s->torn && prng_chance(s->rng, 0.2) ? 512 * prng_below(s->rng, 8) : 0;
				int rc = file_pwrite(f, o->bytes + half, MYFS_BLOCK - half, block * MYFS_BLOCK + half);
				assert(rc == 0);
			}
			list_for_each_safe(x, &i->undo, struct old_block, node)
				if (x->block == block) {
					list_del(&x->node);
					free(x);
				}
		}
	}
	crash_forget(i);
	file_close(f);
}

/* No file of the store is open any more. power_loss: unsynced blocks go back; else (a killed process) everything
 * written stays. */
static inline void crash_store_crash(struct crash_store *s, bool power_loss)
{
	list_for_each_safe(i, &s->inodes, struct crash_inode, node) {
		if (power_loss)
			crash_undo_inode(s, i);
	}
	s->writes_left = -1;
	s->fail_with = 0;
}

static inline void crash_store_release(struct crash_store *s)
{
	list_for_each_safe(i, &s->inodes, struct crash_inode, node) {
		crash_forget(i);
		list_del(&i->node);
		free(i);
	}
}

#endif
