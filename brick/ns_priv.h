/* ns_priv.h - what ns.c (changes) and ns_read.c (answers) share. */
#ifndef MYFS_BRICK_NS_PRIV_H
#define MYFS_BRICK_NS_PRIV_H

#include "brick/ns.h"
#include "brick/tree_priv.h"

struct gfid ns_gfid(const char uuid[16]);
/* One component that may come from outside: no "/", ".", "..", and not our own directory in the root. */
bool ns_name_ok(const struct gfid *parent, const char *name);
/* A name of a file, from one of its gfid2path xattrs ("" when it has none); of a directory the end of its path. */
int ns_name_of(struct tree *t, const char *path, bool dir, char out[BP_MAX_NAME + 1]) YIELDS;

#endif
