/* frag_priv.h - the insides of an open fragment, shared by frag.c (cache, data) and frag_domain.c (all shards of a
 * domain). */
#ifndef MYFS_BRICK_FRAG_PRIV_H
#define MYFS_BRICK_FRAG_PRIV_H

#include "brick/csum.h"
#include "brick/frag.h"
#include "brick/tree_priv.h"

struct frag {
	struct list bucket; /* tree->frags[] */
	struct list lru;    /* tree->lru while unreferenced */
	struct tree *tree;
	struct gfid domain, gfid; /* gfid: of this shard */
	uint32_t shard;
	unsigned refs;
	bool loading; /* files are being opened: wait on `loaded` */
	int load_rc;
	struct waitq loaded;
	struct file *data, *sums_file;
	struct csum sums;
	bool data_dirty;  /* written or punched since the last sync */
	bool names_dirty; /* made since the last sync */
	bool sync_failed; /* no sync of it succeeds any more */
	bool inherited;   /* found, not made: what a killed process wrote may be in the page cache only, and look finished */
	struct fmutex sync_lock;
};

/* Frees every cached fragment; none may be referenced. */
void frag_cache_drop(struct tree *t);

#endif
