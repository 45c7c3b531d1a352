/* heal.h - private to heal.c, heal_names.c and nsops.c: what healing knows about one domain. See heal.c. */
#ifndef MYFS_EC_HEAL_H
#define MYFS_EC_HEAL_H

#include "ec/ec_priv.h"

#define HEAL_WORKERS 4u /* regions rebuilt at once */

struct heal_brick {
	bp_tx left;       /* the floor when it left the view under this owner; zero: unknown */
	uint64_t floor_n; /* it may join once the floor is here: every tx that it does not hold is below (HL4) */
	bool no_space;    /* its last attempt ended for want of room */
};

struct heal_worker {
	struct ec_heal *h;
	uint32_t shard, region;
	bool busy;
	int rc;
};

struct ec_heal {
	struct ec_domain *d;
	bool runs; /* the fiber exists */
	bool stopping;
	struct waitq wq;       /* anything changed: kick, loss, worker ended, stop */
	struct ec_missed todo; /* of the bricks in d->healing: regions still to be rebuilt */
	struct heal_brick bricks[EC_MAX_BRICKS];
	struct heal_worker workers[HEAL_WORKERS];
	uint32_t failed; /* regions of this pass that could not be rebuilt */
	bool throttled;
	uint64_t healed_bytes;
	struct fmutex names; /* nsops.c: one change of names at a time, none while names are healed */
};

/* True while brick b is still the one whose healing began: connected, our epoch, not stopped. */
bool heal_goes_on(const struct ec_heal *h, uint32_t b);

/* heal_names.c: makes the names of brick b those of the members. The caller holds h->names. 0, -EAGAIN (somebody was
 * lost: again), or brick b's error. */
int heal_names(struct ec_heal *h, uint32_t b) YIELDS;

/* nsops.c: one NSREAD to one brick. res must be zeroed; xdr_free it after, also on failure. */
int ec_ns_ask(struct ec_domain *d, uint32_t b, struct bp_nsread_args *args, struct bp_nsread_res *res) YIELDS;

#endif
