/* tree.h - one brick directory: its identity, the handle tree, and the paths and xattrs everything else on the brick is
 * reached by.
 *
 *   <root>/                         xattrs: volume-id, gfid 00..01
 *     block/<lun>                   base files (shard 0)
 *     .shard/<gfid>.<n>             other shards
 *     .glusterfs/aa/bb/<gfid>       handle: hardlink of a file, relative symlink of a directory
 *     .glusterfs/indices/xattrop/   a link named by gfid = this object needs work
 *     .glusterfs/landfill/          renamed here to be deleted at leisure
 *     .glusterfs/myfs/              identity, format, lock, journal, state, csum/aa/bb/<gfid>
 *
 * Invariants: T1 a directory is ours only when its volume-id xattr says so; it is written last at creation. T2 identity
 * never changes. T3 only gfids and single name components come from outside; paths are built here. */
#ifndef MYFS_BRICK_TREE_H
#define MYFS_BRICK_TREE_H

#include "brick/identity.h"
#include "core/loop/store.h"

struct tree;

#define TREE_PATH           1024u /* longest path inside a brick, with NUL */
#define TREE_JOURNAL_PATH   ".glusterfs/myfs/journal"
#define TREE_STATE_PATH     ".glusterfs/myfs/state"
#define TREE_STATE_TMP_PATH ".glusterfs/myfs/state.new"
#define TREE_UNJOURNALED    ".glusterfs/myfs/unjournaled"
#define TREE_PRIVATE_DIR    ".glusterfs/myfs"

/* Makes a brick out of the directory. id: volume, brick, set_index, brick_index, k, r, chunk_bytes, journal_bytes are
 * taken; user_xattrs true forces the user. prefix, false uses trusted. when it works. Refuses (-EEXIST) a directory
 * that is a brick already and, unless force, one that is not empty. *id is completed on success. Durable on return. */
int tree_create(struct store *s, struct brick_identity *id, bool force, struct err *e) YIELDS;

/* What the directory says it is, checked: format number, identity, volume-id. Errors as tree_open. */
int tree_read_identity(struct store *s, struct brick_identity *ret, struct err *e) YIELDS;
/* Checks format number, volume-id and identity, takes the lock, reads the list of shards, starts the landfill sweeper.
 * The store is borrowed and must outlive the tree. -ENOMEDIUM: no brick here (disk not mounted?); -EUCLEAN: damaged;
 * -EBUSY: another process has it. */
int tree_open(struct store *s, struct tree **ret, struct brick_identity *id, struct err *e) YIELDS;
/* Drops every fragment (none may be referenced) and waits for the sweeper; frees. Unsynced checksums are not written:
 * that is frag_sync's job. NULL is fine. */
void tree_close(struct tree *t) YIELDS;
struct store *tree_store(struct tree *t);
const struct brick_identity *tree_identity(const struct tree *t);

/* ".glusterfs/aa/bb/<gfid>". Returns out. */
char *tree_handle_path(const struct gfid *g, char out[TREE_PATH]);
/* Path of a directory by its gfid, through its handle symlinks up to the root (STORE_ROOT for the root). 0, -ENOENT,
 * -ENOTDIR when g is a file, -ELOOP, -ENAMETOOLONG. */
int tree_dir_path(struct tree *t, const struct gfid *g, char out[TREE_PATH]) YIELDS;
/* Path by which an object's xattrs are reached: the handle of a file, the real path of a directory (STORE_ROOT for the
 * root). */
int tree_object_path(struct tree *t, const struct gfid *g, char out[TREE_PATH], bool *ret_is_dir) YIELDS;

/* xattrs of objects; name without prefix ("ec.version"), -ENAMETOOLONG beyond 255 with it. Lengths and errors as
 * getxattr(2). */
ssize_t tree_getxattr(struct tree *t, const char *path, const char *name, void *dst, size_t cap) YIELDS;
int tree_setxattr(struct tree *t, const char *path, const char *name, const void *src, size_t len) YIELDS;
int tree_removexattr(struct tree *t, const char *path, const char *name) YIELDS; /* absent is success */
const char *tree_xattr_prefix(const struct tree *t);

/* "This object needs work": a link named by gfid in indices/xattrop. For people and tools; not fsynced. */
int tree_index_mark(struct tree *t, const struct gfid *g, bool needs_work) YIELDS;

/* Writes and reads back .glusterfs/health_check. 0, or the error that makes the brick unusable. */
int tree_health_check(struct store *s, struct err *e) YIELDS;

#endif
