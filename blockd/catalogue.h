/* catalogue.h - which LUNs exist: create, resize, delete, restore, purge, each of which survives being killed half way.
 *
 *   CREATING --(file made)--> READY --(delete)--> TRASH --(7 days, or now)--> PURGING --(data gone)--> no row
 *      |                        ^                   |                            ^
 *      +--(cannot be made)------|---(restore)-------+                            |
 *      |                                                                         |
 *      +-------------------------------------------------------------------------+
 * The registry row changes first and says what is to become true on the bricks; the steps on the bricks are idempotent;
 * reconcile.c repeats them for rows that are not finished. Restore is the exception: the name comes back on the bricks
 * first, so that a READY row always has its file. */
#ifndef MYFS_BLOCKD_CATALOGUE_H
#define MYFS_BLOCKD_CATALOGUE_H

#include "blockd/target.h"
#include "blockd/volumes.h"

#define TRASH_KEEP_NS (UINT64_C(7) * 86400 * NS_PER_S)

struct lun_wish {
	const char *volume, *name;
	uint64_t size_bytes;
	uint32_t block_size; /* 512 or 4096 */
	bool if_missing;
	const struct target_wish *target; /* NULL = the usual: target.h */
};
/* *ret_existed: it was there already (if_missing, same size and block size). -EEXIST otherwise: *ret is the present
 * one. */
int lun_create(struct blockd *d, const struct lun_wish *wish, struct reg_lun *ret, bool *ret_existed,
	       struct err *e) YIELDS;
/* Shrinking needs allow_shrink, no session and, unless discard, no data beyond the new end (-EPERM says which it was).
 */
int lun_resize(struct blockd *d, const struct reg_lun *row, uint64_t size_bytes, bool allow_shrink, bool discard,
	       struct err *e) YIELDS;
/* Into the trash, or at once for good. -EBUSY while attached. Once recorded it succeeds even if bricks are away. */
int lun_delete(struct blockd *d, const struct reg_lun *row, bool now, struct err *e) YIELDS;
int lun_restore(struct blockd *d, const struct reg_lun *row, const char *name, struct reg_lun *ret,
		struct err *e) YIELDS;
int lun_purge(struct blockd *d, const struct reg_lun *row, struct err *e) YIELDS;

/* ---- reconcile.c: go on where somebody stopped ---- */
int lun_finish_create(struct blockd *d, const struct reg_lun *row, struct err *e) YIELDS;
int lun_finish_trash(struct blockd *d, const struct reg_lun *row, struct err *e) YIELDS;
int lun_finish_purge(struct blockd *d, const struct reg_lun *row, struct err *e) YIELDS;
int lun_finish_resize(struct blockd *d, const struct gfid *gfid, struct err *e) YIELDS;

#endif
