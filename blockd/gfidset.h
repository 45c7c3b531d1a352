/* gfidset.h - a small set of gfids that the registry remembers under one key of its cluster table.
 *
 * Used for intents that must survive a kill: LUNs whose bricks may differ, resizes not finished. A change is durable
 * before the function returns; when the registry refuses it, the set in memory is unchanged too. */
#ifndef MYFS_BLOCKD_GFIDSET_H
#define MYFS_BLOCKD_GFIDSET_H

#include "core/registry/registry.h"

#define GFID_SET_MAX 65536u

struct gfid_set {
	struct registry *registry; /* borrowed; NULL = memory only */
	char key[REG_NAME + 32];
	struct gfid *v;
	size_t n, cap;
};

/* Add and remove are transactions of their own and may suspend; the set is looked through only between two suspend points. */
/* Reads what is there; an absent key is the empty set. */
int gfid_set_open(struct gfid_set *s, struct registry *r, const char *key, struct err *e);
void gfid_set_close(struct gfid_set *s);
bool gfid_set_has(const struct gfid_set *s, const struct gfid *g);
int gfid_set_add(struct gfid_set *s, const struct gfid *g, struct err *e);    /* present already: success */
/* Everything under another key becomes part of this set, and that key empty. Inside the caller's registry transaction;
 * when that fails the caller puts n back. */
int gfid_set_take(struct gfid_set *s, const char *key, struct err *e);
int gfid_set_remove(struct gfid_set *s, const struct gfid *g, struct err *e); /* absent: success */

#endif
