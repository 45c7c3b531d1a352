/* ec/geometry: the arithmetic of stripes as a matrix over codes and chunk sizes, and the vectors that pin the on-disk meaning. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ec/geometry.h"

struct shape {
	uint32_t k, r, chunk;
};

static const struct shape shapes[] = {
    {2, 1, 4096},  {2, 1, 16384},  {2, 1, 65536},  {4, 2, 4096},   {4, 2, 16384}, {4, 2, 65536}, {8, 3, 4096},
    {8, 3, 16384}, {8, 3, 65536},  {3, 3, 4096},   {3, 3, 16384},  {3, 3, 65536}, {1, 1, 4096},  {1, 1, 16384},
    {1, 1, 65536}, {1, 2, 4096},   {1, 2, 16384},  {1, 2, 65536},  {5, 3, 16384}, {20, 4, 65536}, {31, 1, 65536},
    {1, 31, 4096}, {16, 16, 8192}, {17, 3, 65536},
};

#define FOR_EACH_SHAPE(g) \
	for (size_t shape_ = 0; shape_ < ARRAY_LEN(shapes); shape_++) \
		if (assert_int_equal(ec_geometry_init(&(g), shapes[shape_].k, shapes[shape_].r, shapes[shape_].chunk), 0), true)

static void blocks_and_row_chunk_pairs_correspond_one_to_one(void **state)
{
	(void)state;
	struct ec_geometry g;
	FOR_EACH_SHAPE(g)
	{
		uint32_t blocks = (uint32_t)(g.shard_bytes / MYFS_BLOCK);
		uint8_t *seen = calloc(blocks, 1);
		assert_int_equal(blocks, g.k * g.shard_rows);
		for (uint32_t lba = 0; lba < blocks; lba++) {
			struct ec_block_addr a = ec_block_locate(&g, lba);
			assert_true(a.chunk < g.k && a.row < g.shard_rows);
			assert_int_equal(a.region, a.row / g.region_rows);
			assert_int_equal(ec_lba_of(&g, a.row, a.chunk), lba);
			uint32_t flat = a.row * g.k + a.chunk;
			assert_int_equal(seen[flat], 0);
			seen[flat] = 1;
		}
		free(seen);
	}
}

static void consecutive_blocks_of_a_chunk_are_consecutive_rows(void **state)
{
	(void)state;
	struct ec_geometry g;
	FOR_EACH_SHAPE(g)
	{
		for (uint32_t lba = 0; lba + 1 < g.k * g.region_rows; lba++) {
			struct ec_block_addr a = ec_block_locate(&g, lba), b = ec_block_locate(&g, lba + 1);
			if (b.chunk == a.chunk)
				assert_int_equal(b.row, a.row + 1);
			else if (b.chunk > a.chunk)
				assert_int_equal(b.row, a.row + 1 - g.rows_per_chunk);
			else
				assert_int_equal(b.row, a.row + 1);
		}
	}
}

static void a_chunk_has_one_brick_and_a_brick_one_chunk_in_every_region(void **state)
{
	(void)state;
	struct ec_geometry g;
	FOR_EACH_SHAPE(g)
	{
		for (uint32_t start = 0; start < g.n; start++) {
			for (uint32_t region = 0; region < EC_REGIONS; region++) {
				uint32_t used = 0;
				for (uint32_t chunk = 0; chunk < g.n; chunk++) {
					uint32_t b = ec_brick_of(&g, start, region, chunk);
					assert_true(b < g.n);
					assert_int_equal(ec_chunk_of(&g, start, region, b), chunk);
					used |= UINT32_C(1) << b;
				}
				assert_int_equal(__builtin_popcount(used), g.n);
			}
		}
	}
}

static void parity_load_differs_between_bricks_by_at_most_the_wrap_of_64_regions(void **state)
{
	(void)state;
	struct ec_geometry g;
	FOR_EACH_SHAPE(g)
	{
		uint32_t parity[32] = {0}, low = UINT32_MAX, high = 0;
		for (uint32_t region = 0; region < EC_REGIONS; region++)
			for (uint32_t chunk = g.k; chunk < g.n; chunk++)
				parity[ec_brick_of(&g, 0, region, chunk)]++;
		for (uint32_t b = 0; b < g.n; b++) {
			low = parity[b] < low ? parity[b] : low;
			high = parity[b] > high ? parity[b] : high;
		}
		assert_true(high - low <= (EC_REGIONS % g.n ? g.r : 0));
	}
}

static void consecutive_shards_start_on_neighbouring_bricks_so_that_all_are_used(void **state)
{
	(void)state;
	struct ec_geometry g;
	struct gfid id = {{0x3e, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};
	FOR_EACH_SHAPE(g)
	{
		uint32_t first = ec_rotation_start(&g, &id, 0);
		for (uint32_t shard = 0; shard < 100; shard++)
			assert_int_equal(ec_rotation_start(&g, &id, shard), (first + shard) % g.n);
	}
}

static void gfids_spread_over_the_bricks(void **state)
{
	(void)state;
	struct ec_geometry g;
	uint32_t hits[6] = {0};
	assert_int_equal(ec_geometry_init(&g, 4, 2, 16384), 0);
	for (uint32_t i = 0; i < 6000; i++) {
		struct gfid id = {{0}};
		id.b[3] = (uint8_t)(i >> 8);
		id.b[12] = (uint8_t)i;
		hits[ec_rotation_start(&g, &id, 0)]++;
	}
	for (unsigned b = 0; b < 6; b++)
		assert_in_range(hits[b], 800, 1200);
}

static void shards_are_64_regions_of_about_one_mib(void **state)
{
	(void)state;
	static const struct {
		struct shape s;
		uint64_t shard_bytes;
		uint32_t region_rows, w, tolerates;
	} want[] = {
	    {{2, 1, 16384}, MIB(64), 128, 2, 1},
	    {{4, 2, 16384}, MIB(64), 64, 4, 2},
	    {{8, 3, 16384}, MIB(64), 32, 8, 3},
	    {{3, 3, 16384}, UINT64_C(64) * 21 * 3 * 16384, 84, 4, 2},
	    {{1, 1, 16384}, MIB(64), 256, 2, 0},
	    {{1, 2, 16384}, MIB(64), 256, 2, 1},
	    {{4, 2, 4096}, MIB(64), 64, 4, 2},
	    {{4, 2, 65536}, MIB(64), 64, 4, 2},
	    {{20, 4, 65536}, UINT64_C(64) * 20 * 65536, 16, 20, 4},
	};
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		struct ec_geometry g;
		assert_int_equal(ec_geometry_init(&g, want[i].s.k, want[i].s.r, want[i].s.chunk), 0);
		assert_int_equal(g.shard_bytes, want[i].shard_bytes);
		assert_int_equal(g.region_rows, want[i].region_rows);
		assert_int_equal(g.shard_rows, 64 * g.region_rows);
		assert_int_equal(g.w, want[i].w);
		assert_int_equal(g.tolerates, want[i].tolerates);
	}
}

static void impossible_shapes_are_refused_and_leave_the_result_alone(void **state)
{
	(void)state;
	static const struct shape bad[] = {
	    {0, 1, 4096}, {1, 0, 4096},  {32, 1, 4096}, {16, 17, 4096}, {UINT32_MAX, 2, 4096},
	    {2, 1, 2048}, {2, 1, 12288}, {2, 1, 0},     {2, 1, 131072}, {2, UINT32_MAX, 4096},
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct ec_geometry g = {.k = 77};
		assert_int_equal(ec_geometry_init(&g, bad[i].k, bad[i].r, bad[i].chunk), -EINVAL);
		assert_int_equal(g.k, 77);
	}
}

static void known_addresses_stay_where_they_are_on_disk(void **state)
{
	(void)state;
	struct ec_geometry g;
	struct gfid id = {{0x6d, 0x79, 0x66, 0x73, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 1}};
	assert_int_equal(ec_geometry_init(&g, 4, 2, 16384), 0);
	struct ec_block_addr a = ec_block_locate(&g, 1000);
	assert_int_equal(a.region, 3);
	assert_int_equal(a.chunk, 2);
	assert_int_equal(a.row, 248);
	assert_int_equal(ec_brick_of(&g, 5, 3, 2), 4);
	assert_int_equal(ec_rotation_start(&g, &id, 0), 4);
	assert_int_equal(ec_rotation_start(&g, &id, 7), 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(blocks_and_row_chunk_pairs_correspond_one_to_one),
	    cmocka_unit_test(consecutive_blocks_of_a_chunk_are_consecutive_rows),
	    cmocka_unit_test(a_chunk_has_one_brick_and_a_brick_one_chunk_in_every_region),
	    cmocka_unit_test(parity_load_differs_between_bricks_by_at_most_the_wrap_of_64_regions),
	    cmocka_unit_test(consecutive_shards_start_on_neighbouring_bricks_so_that_all_are_used),
	    cmocka_unit_test(gfids_spread_over_the_bricks),
	    cmocka_unit_test(shards_are_64_regions_of_about_one_mib),
	    cmocka_unit_test(impossible_shapes_are_refused_and_leave_the_result_alone),
	    cmocka_unit_test(known_addresses_stay_where_they_are_on_disk),
	};
	return cmocka_run_group_tests_name("ec.geometry", tests, NULL, NULL);
}
