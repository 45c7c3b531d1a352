/* tree_priv.h - the insides of struct tree, grouped by the file that owns them. Only tree*.c, object.c, frag*.c,
 * shards.c, landfill.c and ns*.c look in here. */
#ifndef MYFS_BRICK_TREE_PRIV_H
#define MYFS_BRICK_TREE_PRIV_H

#include "brick/tree.h"
#include "core/loop/fiber.h"

#define TREE_HANDLES       ".glusterfs"
#define TREE_CSUMS         ".glusterfs/myfs/csum"
#define TREE_IDENTITY_PATH ".glusterfs/myfs/identity"
#define TREE_FORMAT_PATH   ".glusterfs/myfs/format"
#define TREE_LOCK_PATH     ".glusterfs/myfs/lock"
#define TREE_INDEX_DIR     ".glusterfs/indices/xattrop"
#define TREE_LANDFILL      ".glusterfs/landfill"
#define TREE_SHARD_DIR     ".shard"
#define TREE_TRUSTED       "trusted."
#define TREE_USER          "user."
#define TREE_BUCKETS       256u
#define TREE_SHARDS_MAX    (16u * 1024 * 1024) /* of one domain: 1 PiB of 64 MiB shards */

struct tree {
	/* tree.c */
	struct store *store;
	struct brick_identity id;
	const char *prefix;

	/* frag.c: open fragments by (domain, shard); unreferenced ones also on lru, oldest first */
	struct list frags[TREE_BUCKETS];
	struct list lru;
	unsigned frags_open, frags_limit;

	/* shards.c: which shards above 0 exist, by domain */
	struct list shards[TREE_BUCKETS];

	/* landfill.c */
	struct waitq landfill_wake; /* the sweeper waits for work or closing, tree_close for its end */
	bool landfill_work, landfill_running, closing;
};

static inline unsigned tree_bucket(const struct gfid *g, uint32_t shard)
{
	return (g->b[15] + g->b[3] + shard) % TREE_BUCKETS;
}

/* ---- tree.c ---- */
/* "<base>/aa/bb/<gfid>", a tree of directories fanned out by the first two bytes. */
void tree_fanout_path(const char *base, const struct gfid *g, char out[TREE_PATH]);
/* Makes the two directories above that path (existing is fine) / makes their names durable. */
int tree_fanout_make(struct tree *t, const char *base, const struct gfid *g) YIELDS;
int tree_fanout_sync(struct tree *t, const char *base, const struct gfid *g) YIELDS;
/* The empty file the entries of indices/xattrop are links of. */
void tree_index_base(const struct brick_identity *id, char out[TREE_PATH]);
/* dir + "/" + name, for STORE_ROOT just name. 0 or -ENAMETOOLONG. */
int tree_join(const char *dir, const char *name, char out[TREE_PATH]);

/* ---- object.c: a file known by its gfid ---- */
/* gfid xattr of the object at path. 0, -ENOENT no such name, -ENODATA there is something without a gfid. */
int object_gfid_at(struct tree *t, const char *path, struct gfid *ret) YIELDS;
/* Makes the file's handle with its first xattrs, or completes what a crash left of that. Not synced. -EEXIST when a
 * directory has the gfid. */
int object_make_handle(struct tree *t, const struct gfid *g) YIELDS;
/* Links the handle to parent/name with its gfid2path xattr; fine when it is there already. -EEXIST when another object
 * has the name. Not synced. */
int object_link_name(struct tree *t, const struct gfid *g, const struct gfid *parent, const char *parent_path,
		     const char *name) YIELDS;

/* ---- shards.c ---- */
void shards_init(struct tree *t);
void shards_free(struct tree *t);
int shards_load(struct tree *t) YIELDS; /* from the names in /.shard */
bool shards_has(const struct tree *t, const struct gfid *domain, uint32_t shard);
int shards_add(struct tree *t, const struct gfid *domain, uint32_t shard); /* 0 or -ENOMEM */
void shards_remove(struct tree *t, const struct gfid *domain, uint32_t shard);
/* Lowest existing shard >= from, or UINT32_MAX. */
uint32_t shards_next(const struct tree *t, const struct gfid *domain, uint32_t from);
/* "<gfid>.<n>" */
#define SHARD_NAME (GFID_TEXT + 11)
void shards_name(const struct gfid *domain, uint32_t shard, char out[SHARD_NAME]);
int shards_parse(const char *name, struct gfid *ret_domain, uint32_t *ret_shard); /* 0 or -EINVAL */

/* ---- landfill.c ---- */
void landfill_start(struct tree *t);
void landfill_stop(struct tree *t) YIELDS;
/* The file's name moves to the landfill; its space comes back soon. Absent is success. Not synced: landfill_sync. */
int landfill_take(struct tree *t, const char *path) YIELDS;
int landfill_sync(struct tree *t) YIELDS;

#endif
