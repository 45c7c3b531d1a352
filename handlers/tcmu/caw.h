/* caw.h - COMPARE AND WRITE: NBD has no such command, so the gateway's control socket carries it, one at a time per
 * device, in a thread that is started by the first one. Atomic in the gateway, against every path and protocol. */
#ifndef MYFS_TCMU_CAW_H
#define MYFS_TCMU_CAW_H

#include "handlers/tcmu/link.h"

#define CAW_BYTES_MAX KIB(256) /* the gateway's limit */

struct caw;
struct caw_request {
	uint64_t off;
	uint32_t len;
	const uint8_t *expected, *data; /* lent until done */
	bool fua;
	/* In the thread of caw. rc: 0, -EILSEQ (differs at byte `at` of expected), -EAGAIN (not done: try again),
	 * -ECANCELED (nobody knows whether it was done: it is not repeated, it could meet its own bytes), -ENOSPC,
	 * -EINVAL, -EREMOTEIO. */
	void (*done)(struct caw_request *r, int rc, uint32_t at);
	/* private */
	struct list node;
	int64_t deadline_ms;
};

int caw_new(const struct tcmu_config *cfg, struct link *link, struct caw **ret, struct err *e);
void caw_free(struct caw *c);                         /* NULL is fine; what waits is done with -EAGAIN */
int caw_submit(struct caw *c, struct caw_request *r); /* 0, or -errno and it is not done */

#endif
