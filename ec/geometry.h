/* geometry.h - where a byte of a shard lives. Pure arithmetic.
 *
 *   shard address space (what the LUN sees):   stripe 0                stripe 1
 *                                              c0  c1  .. cK-1         c0 c1 .. cK-1        c = chunk_bytes
 *   brick fragment file:                       one chunk per stripe: stripe s at byte s * chunk_bytes
 *   row      = 4 KiB block number inside the fragment file; the same row of all N bricks is coded together
 *   region   = group of G stripes, G = max(1, 1 MiB / (K * c)): unit of role rotation and of "missed"
 *   shard    = 64 regions
 *
 * Rotation: in region g of a file with start s (from the gfid), chunk j (data j < K, parity K <= j < N) is on brick
 * (j + s + g) % N. */
#ifndef MYFS_EC_GEOMETRY_H
#define MYFS_EC_GEOMETRY_H

#include "core/base/base.h"
#include "core/base/gfid.h"

#define EC_REGIONS 64u

struct ec_geometry {
	uint32_t k, r, n;
	uint32_t chunk_bytes;
	uint32_t rows_per_chunk; /* chunk_bytes / 4096 */
	uint32_t stripe_bytes;   /* k * chunk_bytes */
	uint32_t region_stripes; /* G */
	uint32_t region_rows;    /* G * rows_per_chunk */
	uint32_t shard_rows;     /* 64 * region_rows */
	uint64_t shard_bytes;    /* 64 * G * stripe_bytes: 64 MiB when K*c divides 1 MiB */
	uint32_t w;              /* promise and view quorum: max(K, N/2 + 1) */
	uint32_t tolerates;      /* N - W */
};

/* 0, or -EINVAL: k >= 1, r >= 1, n <= 32, chunk a power of two in 4 KiB..64 KiB. */
int ec_geometry_init(struct ec_geometry *g, uint32_t k, uint32_t r, uint32_t chunk_bytes);

/* Rotation start of a domain. */
uint32_t ec_rotation_start(const struct ec_geometry *g, const struct gfid *gfid, uint32_t shard);
/* Brick index of chunk j (0..n-1) in region; and the inverse: which chunk brick b holds there. */
uint32_t ec_brick_of(const struct ec_geometry *g, uint32_t start, uint32_t region, uint32_t chunk);
uint32_t ec_chunk_of(const struct ec_geometry *g, uint32_t start, uint32_t region, uint32_t brick);

/* One 4 KiB block of the shard address space. */
struct ec_block_addr {
	uint32_t region, chunk, row; /* row in fragment files */
};
struct ec_block_addr ec_block_locate(const struct ec_geometry *g, uint32_t lba);
/* Inverse: lba of data chunk j at row. */
uint32_t ec_lba_of(const struct ec_geometry *g, uint32_t row, uint32_t chunk);

#endif
