/* stripe_cache.h - present values of recently read or written 4 KiB blocks, so that a partial write need not ask for
 * the old one.
 *
 * A hit saves the first round trip of a delta write; the brick checks the checksum that goes with it, so a stale entry
 * costs a retry and never correctness. Bounded memory taken once, clock (second chance) eviction, no allocation
 * afterwards. Keys are (domain key, shard, lba); one cache serves all domains of a set.
 *
 * SC1 an entry is put only by whoever holds the row lock that covers the block, after the value was committed or read
 * as committed. */
#ifndef MYFS_EC_STRIPE_CACHE_H
#define MYFS_EC_STRIPE_CACHE_H

#include "core/base/base.h"

struct ec_stripe_cache;

/* bytes: block memory, rounded down to blocks; less than one block = a cache that never hits. 0 or -ENOMEM. */
int ec_stripe_cache_new(size_t bytes, struct ec_stripe_cache **ret);
void ec_stripe_cache_free(struct ec_stripe_cache *c);

/* Borrowed pointer to the 4 KiB, valid until the next call on this cache: copy or use before suspending. NULL = not
 * known. */
const uint8_t *ec_stripe_cache_get(struct ec_stripe_cache *c, uint64_t domain, uint32_t shard, uint32_t lba,
				   uint32_t *ret_crc);
void ec_stripe_cache_put(struct ec_stripe_cache *c, uint64_t domain, uint32_t shard, uint32_t lba, const void *block,
			 uint32_t crc);
void ec_stripe_cache_drop(struct ec_stripe_cache *c, uint64_t domain, uint32_t shard, uint32_t lba, uint32_t nblocks);
void ec_stripe_cache_drop_domain(struct ec_stripe_cache *c, uint64_t domain);

struct ec_stripe_cache_stats {
	uint64_t hits, misses;
	uint32_t blocks, used;
};
void ec_stripe_cache_stats(const struct ec_stripe_cache *c, struct ec_stripe_cache_stats *ret);

#endif
