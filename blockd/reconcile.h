/* reconcile.h - making what the registry says true, at start and whenever it changes. */
#ifndef MYFS_BLOCKD_RECONCILE_H
#define MYFS_BLOCKD_RECONCILE_H

#include "blockd/blockd.h"

int reconcile_start(struct blockd *d);
void reconcile_kick(struct blockd *d); /* look at once */

#endif
