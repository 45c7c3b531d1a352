/* missed.h - which regions a stale brick lacks: (shard, brick) -> one bit per region, of one domain.
 *
 * A set that only grows while a brick is away; shrinks when regions are healed or the brick is cleared. Absent =
 * nothing missed. */
#ifndef MYFS_EC_MISSED_H
#define MYFS_EC_MISSED_H

#include "core/base/base.h"

#define EC_MISSED_BRICKS 32u

struct ec_missed_slot {
	uint64_t regions; /* 0 = free slot */
	uint32_t shard;
	uint32_t brick;
};

struct ec_missed {
	struct ec_missed_slot *slots; /* open addressing, power of two */
	uint32_t cap, used;
	uint64_t count[EC_MISSED_BRICKS]; /* regions per brick */
};

void ec_missed_init(struct ec_missed *m);
void ec_missed_release(struct ec_missed *m); /* empty and reusable afterwards */
/* Room for `more` further (shard, brick) pairs, so that adding them cannot fail. 0 or -ENOMEM. */
int ec_missed_reserve(struct ec_missed *m, uint32_t more);
/* 0 or -ENOMEM; ORs regions in. */
int ec_missed_add(struct ec_missed *m, uint32_t shard, uint32_t brick, uint64_t regions);
/* The same for every brick of a mask. */
int ec_missed_add_mask(struct ec_missed *m, uint32_t shard, uint32_t bricks, uint64_t regions);
int ec_missed_add_all(struct ec_missed *m, const struct ec_missed *other);
void ec_missed_clear(struct ec_missed *m, uint32_t shard, uint32_t brick, uint64_t regions);
void ec_missed_clear_brick(struct ec_missed *m, uint32_t brick);
uint64_t ec_missed_get(const struct ec_missed *m, uint32_t shard, uint32_t brick);
static inline uint64_t ec_missed_count(const struct ec_missed *m, uint32_t brick) { return m->count[brick]; }
/* Number of (shard, brick) pairs present. */
static inline uint32_t ec_missed_pairs(const struct ec_missed *m) { return m->used; }
/* Next pair from *cursor (start with 0) in no useful order; NULL at the end. No changes of m in between. */
const struct ec_missed_slot *ec_missed_next(const struct ec_missed *m, uint32_t *cursor);
/* The pair of `brick` with the lowest shard >= from; NULL when none. One pass over the table. */
const struct ec_missed_slot *ec_missed_first(const struct ec_missed *m, uint32_t brick, uint32_t from);

#endif
