/* disk_priv.h - inside of the simulated disk: pages and inodes (disk.c), names (disk_names.c), the store interface (disk_store.c). */
#ifndef MYFS_SIM_DISK_PRIV_H
#define MYFS_SIM_DISK_PRIV_H

#include "core/base/crc32c.h"
#include "tests/sim/world.h"

#define SECTOR 512u
#define MAX_VERSIONS 3u
#define MAX_LOCKS 8u
#define NAME_BUCKETS 256u

/* Bytes on a cache line's edge: copies of a page are an eighth of a schedule. */
struct page {
	_Alignas(64) uint8_t data[MYFS_BLOCK];
	unsigned refs;
};
struct pages {
	struct page **v; /* NULL = hole */
	size_t n;
};

/* A page written since the last sync; versions: what it held in between. */
struct dirty {
	struct list node;
	size_t index;
	bool forgotten;          /* a failed sync marked it clean: later ones do not write it, unless it is written again */
	unsigned n;
	struct page *versions[MAX_VERSIONS];
};

struct xattr {
	struct list node;
	char *name; /* lies behind value */
	size_t len;
	uint8_t value[];
};

struct inode {
	struct list node;
	uint64_t ino;
	uint32_t mode;
	struct pages cur, durable;
	uint64_t size, durable_size;
	uint64_t n_pages; /* of cur that are no holes */
	unsigned links;   /* live entries that name it */
	struct list dirty;
	struct dirty **dirty_at; /* by page index, dirty_n entries */
	size_t dirty_n;
	struct list children; /* struct entry, by in_dir */
	struct list xattrs; /* changes are names' changes: durable with them */
	char *target;       /* symlink; owned */
};

/* A directory entry. */
struct entry {
	struct list in_bucket, in_order, in_dir;
	uint64_t parent;
	uint64_t hash;
	struct inode *inode;
	char name[];
};

enum change_kind { CHANGE_ADD, CHANGE_DEL, CHANGE_SETXATTR, CHANGE_RMXATTR };
struct change {
	struct list node;
	enum change_kind kind;
	bool more;             /* happens together with the next one */
	struct inode *dir;     /* ADD, DEL */
	char *name;            /* entry or xattr name; lies behind value */
	struct inode *inode;
	size_t len;
	uint8_t value[];
};

struct sim_file {
	struct file f;
	struct list node;
	struct disk *disk;
	struct inode *inode;
};
struct sim_store {
	struct store s;
	struct list node;
	struct disk *disk;
};

struct disk {
	struct host *host;
	struct world *world;
	char name[64];
	uint64_t next_ino, used_pages, capacity_pages, max_inodes; /* 0: no limit */
	struct list inodes, files, stores;
	struct inode *root;
	struct list buckets[NAME_BUCKETS], order; /* live entries */
	struct list changes;                      /* since the last sync_dir: what a crash may undo, newest first */
	struct inode *locks[MAX_LOCKS];
	unsigned n_locks;
	double slow_probability;
	uint64_t slow_ns;
	unsigned fail[3];
	enum disk_lie lie;
	enum disk_crash crash_set;                /* by a written course */
	enum { CRASH_SOME, CRASH_KEEPS, CRASH_LOSES } crash; /* what happens to unsynced writes in the present power loss */
	char lie_needle[64];                      /* "" = no lie pending */
};

struct inode *inode_new(struct disk *d, uint32_t mode);
void inode_free(struct inode *i);
uint64_t disk_inodes_left(const struct disk *d);
int inode_write(struct disk *d, struct inode *i, uint64_t off, const uint8_t *src, size_t len);
int inode_writev(struct disk *d, struct inode *i, uint64_t off, const struct iovec *v, unsigned n_pieces);
size_t inode_read(const struct inode *i, uint64_t off, uint8_t *dst, size_t len);
int inode_punch(struct disk *d, struct inode *i, uint64_t off, uint64_t len);
int inode_truncate(struct disk *d, struct inode *i, uint64_t size);
void inode_sync(struct inode *i);
void inode_sync_failed(struct disk *d, struct inode *i);
/* Pages that a failed sync marked clean leave the cache, one in two or all: what the disk holds shows again. */
void inode_evict(struct disk *d, struct inode *i, bool all);
void inode_crash(struct disk *d, struct inode *i);
void disk_drop_handles(struct disk *d);

/* disk_names.c */
void names_init(struct disk *d);
void names_free(struct disk *d);
void names_crash(struct disk *d);
/* inodes: the clone's, by number. d has none of its own names yet. */
void names_clone(struct disk *d, const struct disk *from, struct inode *const *inodes);
void names_sync(struct disk *d);
/* 0 and *ret, or -ENOENT / -ENOTDIR. Does not follow a final symlink; intermediate ones are refused (-ELOOP). */
int names_find(struct disk *d, const char *path, struct inode **ret);
/* Directory and last component of path. */
int names_parent(struct disk *d, const char *path, struct inode **ret_dir, const char **ret_name);
struct entry *names_entry(struct disk *d, const struct inode *dir, const char *name);
void names_add(struct disk *d, struct inode *dir, const char *name, struct inode *i);
void names_del(struct disk *d, struct inode *dir, struct entry *e);
/* The name to (its present entry, or NULL) becomes what from is; at once, for a crash too. */
void names_move(struct disk *d, struct inode *from_dir, struct entry *from, struct inode *to_dir, const char *to_name, struct entry *to);
unsigned names_links(const struct disk *d, const struct inode *i);
bool names_dir_empty(const struct disk *d, const struct inode *dir);
bool names_path_of(const struct disk *d, const struct inode *i, char *out, size_t cap);
struct xattr *xattr_find(struct inode *i, const char *name);
void names_setxattr(struct disk *d, struct inode *i, const char *name, const void *value, size_t len);
void names_rmxattr(struct disk *d, struct inode *i, struct xattr *x);

#endif
