/* geometry.c - where a byte of a shard lives. See geometry.h for the picture.
 *
 * Everything here is part of the on-disk meaning of a volume: a change of any formula makes existing fragments
 * unreadable. The test vectors in tests/unit/test_ec_geometry.c pin them. */
#include "ec/geometry.h"
#include "core/base/mutate.h"

int ec_geometry_init(struct ec_geometry *g, uint32_t k, uint32_t r, uint32_t chunk_bytes)
{
	if (k < 1 || r < 1 || k > 32 || r > 32 || k + r > 32)
		return -EINVAL;
	if (chunk_bytes < KIB(4) || chunk_bytes > KIB(64) || (chunk_bytes & (chunk_bytes - 1)) != 0)
		return -EINVAL;
	uint32_t stripe = k * chunk_bytes;
	uint32_t group = (uint32_t)MIB(1) / stripe;
	uint32_t n = k + r;
	if (group == 0)
		group = 1;
	*g = (struct ec_geometry){
	    .k = k,
	    .r = r,
	    .n = n,
	    .chunk_bytes = chunk_bytes,
	    .rows_per_chunk = chunk_bytes / MYFS_BLOCK,
	    .stripe_bytes = stripe,
	    .region_stripes = group,
	    .region_rows = group * (chunk_bytes / MYFS_BLOCK),
	    .shard_rows = EC_REGIONS * group * (chunk_bytes / MYFS_BLOCK),
	    .shard_bytes = (uint64_t)EC_REGIONS * group * stripe,
	    .w = k > n / 2 + 1 ? k : n / 2 + 1,
	};
	if (MUTATED(H2))
		g->w = k;
	g->tolerates = MUTATED(H26) ? r : n - g->w;
	return 0;
}

/* Spreads domains over the bricks by all bits of their gfid; consecutive shards of one domain start on neighbouring
 * bricks. */
uint32_t ec_rotation_start(const struct ec_geometry *g, const struct gfid *gfid, uint32_t shard)
{
	uint64_t h = 0;
	for (unsigned i = 0; i < sizeof(gfid->b); i++)
		h = (h ^ gfid->b[i]) * UINT64_C(0x100000001B3) + i;
	h ^= h >> 32;
	return (uint32_t)((h % g->n + shard) % g->n);
}

uint32_t ec_brick_of(const struct ec_geometry *g, uint32_t start, uint32_t region, uint32_t chunk)
{
	assert(chunk < g->n && start < g->n);
	return (chunk + start + region) % g->n;
}

uint32_t ec_chunk_of(const struct ec_geometry *g, uint32_t start, uint32_t region, uint32_t brick)
{
	assert(brick < g->n && start < g->n);
	return (brick + 2 * g->n - start - region % g->n) % g->n;
}

struct ec_block_addr ec_block_locate(const struct ec_geometry *g, uint32_t lba)
{
	uint32_t stripe_blocks = g->k * g->rows_per_chunk;
	uint32_t stripe = lba / stripe_blocks, in = lba % stripe_blocks;
	assert(stripe < EC_REGIONS * g->region_stripes);
	return (struct ec_block_addr){
	    .region = stripe / g->region_stripes,
	    .chunk = in / g->rows_per_chunk,
	    .row = stripe * g->rows_per_chunk + in % g->rows_per_chunk,
	};
}

uint32_t ec_lba_of(const struct ec_geometry *g, uint32_t row, uint32_t chunk)
{
	assert(row < g->shard_rows && chunk < g->k);
	return (row / g->rows_per_chunk) * g->k * g->rows_per_chunk + chunk * g->rows_per_chunk +
	       row % g->rows_per_chunk;
}
