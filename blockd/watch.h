/* watch.h - what happens to LUNs without anybody asking: idle ones are closed, ones whose bricks differ are opened and
 * healed. */
#ifndef MYFS_BLOCKD_WATCH_H
#define MYFS_BLOCKD_WATCH_H

#include "blockd/lun.h"

int watch_start(struct blockd *d);
void watch_stop(struct blockd *d); /* after its fiber ended: frees what it knows */
void watch_kick(struct blockd *d); /* look now */
/* lun.c: the LUN closes; whether its bricks agree decides whether it stays in the attention set. */
void watch_lun_closing(struct lun *l);
/* A LUN that is deleted needs no attention any more. */
void watch_forget(struct blockd *d, const struct gfid *gfid);
/* LUNs of the volume that are closed and wait for their heal; *ret_now: some of them could be healed now. */
unsigned watch_waiting(struct blockd *d, const struct volume *v, bool *ret_now);

/* True when the closed LUN is known to have had bricks out of sync when it was closed. */
bool watch_knows_stale(struct blockd *d, const struct gfid *gfid);

#endif
