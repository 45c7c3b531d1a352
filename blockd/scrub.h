/* scrub.h - one fiber that looks through the LUNs this gateway owns when their volume's plan says so. */
#ifndef MYFS_BLOCKD_SCRUB_H
#define MYFS_BLOCKD_SCRUB_H

#include "blockd/scrub_plan.h"
#include "blockd/volumes.h"

int scrub_start(struct blockd *d);
/* Begins a new run now, whatever is under way. */
int scrub_begin(struct blockd *d, const char *volume, struct err *e);

#endif
