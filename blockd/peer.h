/* peer.h - asking another gateway to let a LUN go. A courtesy: what keeps two gateways from writing one LUN is the
 * epoch that bricks promise, not this. */
#ifndef MYFS_BLOCKD_PEER_H
#define MYFS_BLOCKD_PEER_H

#include "blockd/blockd.h"

/* 0: the owner let it go, or cannot be reached (it is then fenced off when we open the LUN). -EBUSY: clients use it
 * there. */
int peer_release_lun(struct blockd *d, const char *owner, const struct gfid *gfid, struct err *e) YIELDS;

#endif
