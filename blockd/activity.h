/* activity.h - what clients did with each LUN on this gateway, and how long it took. Always counted.
 *
 * Kept from a LUN's first use here until it is deleted or another gateway takes it: so a LUN that is closed for being idle goes on
 * counting where it was. Bounded by the LUNs this gateway was asked for, about 5 KiB each. */
#ifndef MYFS_BLOCKD_ACTIVITY_H
#define MYFS_BLOCKD_ACTIVITY_H

#include "core/base/gfid.h"
#include "core/base/list.h"
#include "core/metrics/histogram.h"
#include "core/registry/registry.h"
#include "ec/ec.h"

struct blockd;

enum lun_op { LUN_OP_READ, LUN_OP_WRITE, LUN_OP_FLUSH, LUN_OP_ZERO, LUN_OP_COMPARE, LUN_OPS };
extern const char *const lun_op_names[LUN_OPS];

struct lun_activity {
	struct list node; /* blockd's */
	struct gfid gfid;
	char volume[REG_NAME], name[REG_NAME];
	struct histogram took[LUN_OPS]; /* of requests that went well, from arrival at the gateway's front end */
	uint64_t bytes[LUN_OPS];
	uint64_t errors[LUN_OPS];
	struct ec_domain_status before; /* counters of the times it was open before */
};

/* Finds or makes it. NULL without memory: then nothing is counted. */
struct lun_activity *lun_activity_of(struct blockd *d, const struct reg_lun *row);
void lun_activity_forget(struct blockd *d, const struct gfid *gfid);
void lun_activity_free_all(struct blockd *d);
/* One request ended. a may be NULL. */
void lun_activity_count(struct lun_activity *a, enum lun_op op, uint64_t began_ns, uint64_t bytes, int rc);
/* Adds the counters of a file that is about to be closed. a may be NULL. */
void lun_activity_closing(struct lun_activity *a, const struct ec_domain_status *s);

#endif
