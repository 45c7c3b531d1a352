/* ns.h - names on one brick: the namespace operations of core/rpc/brick.x, absolute, idempotent, durable on return.
 *
 * Whether the caller may do it (fence, view) and what the engine remembers (missed bits, domain state of an unlinked
 * gfid) is the engine's business; here are only files, directories, handles and xattrs. Arguments are checked
 * completely. */
#ifndef MYFS_BRICK_NS_H
#define MYFS_BRICK_NS_H

#include "brick/tree.h"
#include <brick.h> /* generated from core/rpc/brick.x; <> so that brick/brick.h is not meant */

/* 0; -EINVAL bad argument; -EEXIST name or gfid taken by something else; -ENOENT parent or source missing; -ENOTEMPTY;
 * -EPERM xattr that only the brick itself writes; -EBUSY fragments of the gfid still referenced; or what the file
 * system said. BP_NS_UNLINK of one of several names takes only that name away; the data goes with the last one (also
 * when the name had gone already). */
int ns_apply(struct tree *t, const struct bp_nsop_args *op) YIELDS;
/* res must be zeroed; xdr_free(xdr_bp_nsread_res, res) after, also on failure. -ENOENT, -ENOTDIR, -EINVAL. A READDIR
 * answer holds at most BP_MAX_NAMES entries and fits an RPC body; `more` tells that names follow. */
int ns_read(struct tree *t, const struct bp_nsread_args *a, struct bp_nsread_res *res) YIELDS;

#endif
