/* rowlock.h - who may touch which rows of a domain's shards now.
 *
 *            held  D(other chunks)  D(same chunk)  C     X
 *   wanted D       ok               wait           wait  wait       D  partial write: chunk mask on a row range
 *          C       wait             wait           ok    wait       C  cut-read: nothing may change meanwhile
 *          X       wait             wait           wait  wait       X  whole rows: full stripe, zero, heal, ...
 *
 * Invariants: L1 two granted locks never conflict. L2 fair: a lock is granted only when no earlier one (granted or
 * waiting) conflicts, so conflicting locks are granted in order of arrival, and tx ids taken right after the grant
 * (without suspending) grow in lock order. L3 lock objects are embedded in requests and must be released before they
 * go; no allocation. */
#ifndef MYFS_EC_ROWLOCK_H
#define MYFS_EC_ROWLOCK_H

#include "core/base/base.h"
#include "core/base/list.h"
#include "core/loop/fiber.h"

enum rowlock_mode { ROWLOCK_D, ROWLOCK_X, ROWLOCK_C };

struct rowlock {
	/* in: fill before acquiring; unchanged until released */
	enum rowlock_mode mode;
	uint32_t shard;
	uint32_t row, nrows; /* nrows >= 1 */
	uint32_t chunks;     /* ROWLOCK_D: mask of data chunks, not 0; ignored otherwise */
	/* private */
	struct list node;
	uint64_t ticket;   /* order of arrival */
	uint32_t blockers; /* earlier conflicting locks still there */
	bool active;       /* in the table: granted or waiting */
	bool wide;         /* on its shard's list of locks that span regions */
	struct fiber *waiter;
};

#define ROWLOCK_NARROW 512u
#define ROWLOCK_WIDE   64u

/* One per domain. Short locks hang in lists by (shard, region), those that span regions in lists by shard. */
struct rowlock_table {
	uint32_t region_rows;
	uint64_t next_ticket;
	uint32_t active; /* locks granted or waiting */
	uint32_t waiting;
	uint32_t wide_active;
	struct list narrow[ROWLOCK_NARROW];
	struct list wide[ROWLOCK_WIDE];
};

void rowlock_table_init(struct rowlock_table *t, uint32_t region_rows);
/* True when nothing is held or waited for. */
static inline bool rowlock_table_idle(const struct rowlock_table *t) { return t->active == 0; }

/* Waits in turn; the caller must be a fiber. On return the lock is held. */
void rowlock_acquire(struct rowlock_table *t, struct rowlock *l) YIELDS;
/* The same with a deadline: 0, or -ETIMEDOUT and the lock is not held (and has left the queue). */
int rowlock_acquire_until(struct rowlock_table *t, struct rowlock *l, uint64_t deadline_ns) YIELDS;
/* Takes it only when nobody conflicts, waiting or holding. */
bool rowlock_try(struct rowlock_table *t, struct rowlock *l);
/* Grants what waited for it; those fibers run later. Harmless on a lock that is not active. */
void rowlock_release(struct rowlock_table *t, struct rowlock *l);

/* Pure rule, exported for its test. */
bool rowlock_conflict(const struct rowlock *a, const struct rowlock *b);

#endif
