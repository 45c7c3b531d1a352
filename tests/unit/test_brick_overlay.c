/* test_brick_overlay.c - version chains of rows: what replaces, what folds, what may go to the base. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "brick/overlay.h"
#include "core/base/crc32c.h"

static struct overlay o;
static struct oshards set;
static uint64_t lsn;

static int setup(void **state)
{
	(void)state;
	overlay_init(&o, 64);
	oshards_init(&set);
	lsn = 1000;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	list_for_each_safe(s, &set.list, struct oshard, node)
		oshard_free(&o, &set, s);
	int leak = o.bytes != 0 || o.versions != 0;
	overlay_release(&o);
	return leak;
}

static struct oshard *shard(void)
{
	return oshard_find(&set, 1, true);
}

/* Commits one row of bytes `fill` (kind ABS, DELTA) as tx n. */
static void put(uint32_t row, enum ver_kind kind, uint64_t n, int fill, uint64_t seal, uint64_t floor)
{
	uint8_t block[MYFS_BLOCK];
	memset(block, fill, sizeof(block));
	struct row_change c = {.kind = kind,
			       .coef = 1,
			       .tx = {1, n},
			       .prep_lsn = lsn,
			       .commit_lsn = lsn + 64,
			       .data = kind == VER_ZERO ? NULL : block,
			       .crc = crc32c(block, sizeof(block))};
	lsn += 128;
	assert_int_equal(overlay_apply(&o, shard(), row, &c, seal, (struct txid){1, floor}), 0);
}

static int value(uint32_t row, int base)
{
	uint8_t block[MYFS_BLOCK];
	uint32_t crc;
	memset(block, base, sizeof(block));
	const struct row_ver *top = overlay_top(&o, shard(), row);
	bool known = overlay_fold(top, block, &crc);
	assert_true(!known || crc == crc32c(block, sizeof(block)));
	for (size_t i = 1; i < sizeof(block); i++)
		assert_int_equal(block[i], block[0]);
	return block[0];
}

static unsigned depth(uint32_t row)
{
	unsigned n = 0;
	for (const struct row_ver *v = overlay_top(&o, shard(), row); v; v = v->older)
		n++;
	return n;
}

static void absolute_values_replace_and_deltas_fold(void **state)
{
	(void)state;
	put(3, VER_DELTA, 1, 0x0f, 0, 0);
	assert_true(overlay_needs_base(overlay_top(&o, shard(), 3)));
	assert_int_equal(value(3, 0x30), 0x3f);
	put(3, VER_ABS, 2, 0x11, 0, 0);
	assert_false(overlay_needs_base(overlay_top(&o, shard(), 3)));
	assert_int_equal(value(3, 0x30), 0x11);
	put(3, VER_DELTA, 3, 0x01, 0, 0);
	assert_int_equal(value(3, 0x30), 0x10);
	put(3, VER_ZERO, 4, 0, 0, 0);
	assert_int_equal(value(3, 0x30), 0);
	put(3, VER_DELTA, 5, 0x22, 0, 0);
	assert_int_equal(value(3, 0x30), 0x22);
	assert_int_equal(depth(3), 1);
}

static void a_block_of_zeros_is_kept_without_memory(void **state)
{
	(void)state;
	put(1, VER_ABS, 1, 0, 0, 0);
	assert_true(overlay_top(&o, shard(), 1)->kind == VER_ZERO);
	assert_null(overlay_top(&o, shard(), 1)->data);
}

static void a_sync_seals_and_the_next_commit_starts_a_version(void **state)
{
	(void)state;
	put(1, VER_DELTA, 1, 1, 0, 0);
	put(1, VER_DELTA, 2, 2, lsn, 0);
	assert_int_equal(depth(1), 2);
	put(1, VER_DELTA, 3, 4, 0, 0);
	assert_int_equal(depth(1), 2);
	assert_int_equal(value(1, 0), 7);
}

static void only_the_stable_end_of_a_chain_may_go_to_the_base(void **state)
{
	(void)state;
	put(1, VER_ABS, 1, 1, 0, 0);
	put(1, VER_DELTA, 5, 2, lsn, 0);
	put(1, VER_DELTA, 3, 4, lsn, 0); /* tx 3 is stable below 4, but it stands on tx 5 */
	assert_int_equal(depth(1), 3);
	assert_null(overlay_stable(&o, shard(), 1, (struct txid){1, 1}));
	struct row_ver *v = overlay_stable(&o, shard(), 1, (struct txid){1, 4});
	assert_non_null(v);
	assert_int_equal(v->max.n, 1);
	v = overlay_stable(&o, shard(), 1, (struct txid){1, 6});
	assert_ptr_equal(v, overlay_top(&o, shard(), 1)); /* merged */
	assert_int_equal(v->max.n, 5);
	assert_int_equal(v->min_lsn, 1000);
	assert_int_equal(value(1, 0x80), 7);
	assert_false(v->rel);
	overlay_drop_oldest(&o, shard(), 1, v);
	assert_int_equal(shard()->rows, 0);
}

static void a_busy_version_never_changes(void **state)
{
	(void)state;
	put(1, VER_ABS, 1, 1, 0, 0);
	struct row_ver *v = overlay_stable(&o, shard(), 1, (struct txid){1, 2});
	v->busy = true;
	put(1, VER_DELTA, 2, 2, 0, 9);
	assert_int_equal(depth(1), 2);
	assert_int_equal(v->data[0], 1);
	assert_null(overlay_stable(&o, shard(), 1, (struct txid){1, 9}));
	v->busy = false;
	overlay_drop_oldest(&o, shard(), 1, v);
	assert_int_equal(value(1, 1), 3);
}

static void a_folded_delta_remembers_that_it_stood_on_the_base(void **state)
{
	(void)state;
	uint8_t block[MYFS_BLOCK];
	memset(block, 9, sizeof(block));
	put(1, VER_DELTA, 1, 1, 0, 0);
	struct row_ver *v = overlay_top(&o, shard(), 1);
	assert_true(v->rel);
	assert_int_equal(overlay_make_abs(&o, v, block, crc32c(block, sizeof(block)), false), 0);
	assert_true(v->rel && v->kind == VER_ABS);
	put(1, VER_DELTA, 2, 2, lsn, 0);
	v = overlay_stable(&o, shard(), 1, (struct txid){1, 3});
	assert_true(v->rel && v->kind == VER_ABS);
	assert_int_equal(value(1, 0x55), 11);
	put(1, VER_ABS, 3, 7, 0, 0);
	assert_false(overlay_top(&o, shard(), 1)->rel);
}

/* Commits `payload` on row 3 as a delta, lent as a received frame is. */
static void put_lent(struct buf *payload, uint8_t coef, uint64_t n)
{
	struct row_change c = {.kind = VER_DELTA,
			       .coef = coef,
			       .tx = {1, n},
			       .prep_lsn = lsn,
			       .commit_lsn = lsn + 64,
			       .data = payload->data,
			       .owner = payload};
	lsn += 128;
	assert_int_equal(overlay_apply(&o, shard(), 3, &c, 0, (struct txid){1, 0}), 0);
}

static void a_delta_kept_as_it_came_is_not_written_to(void **state)
{
	struct buf *payload = buf_alloc(MYFS_BLOCK);
	uint8_t block[MYFS_BLOCK];
	(void)state;
	memset(payload->data, 0x11, MYFS_BLOCK);
	put_lent(payload, 1, 1);
	struct row_ver *v = overlay_top(&o, shard(), 3);
	assert_ptr_equal(v->data, payload->data);
	assert_int_equal(payload->refs, 2);
	assert_int_equal(value(3, 0x40), 0x51);
	put(3, VER_DELTA, 2, 0x22, 0, 0); /* folds into a block of its own */
	assert_int_equal(value(3, 0x40), 0x73);
	assert_int_equal(payload->refs, 1);
	overlay_drop_row(&o, shard(), 3);

	put_lent(payload, 1, 3);
	memset(block, 0x77, sizeof(block));
	v = overlay_top(&o, shard(), 3);
	assert_int_equal(overlay_make_abs(&o, v, block, crc32c(block, sizeof(block)), false), 0);
	assert_int_equal(value(3, 0), 0x77);
	assert_int_equal(payload->data[0], 0x11);
	overlay_drop_row(&o, shard(), 3);

	put_lent(payload, 2, 4); /* multiplied: 2 * 0x11 = 0x22 */
	assert_int_equal(payload->refs, 1);
	assert_int_equal(value(3, 0x40), 0x62);
	buf_unref(payload);
}

static void stable_versions_of_a_hot_row_do_not_pile_up(void **state)
{
	(void)state;
	for (uint64_t n = 1; n < 50; n++)
		put(1, n % 3 ? VER_DELTA : VER_ABS, n, 1, lsn, n > 2 ? n - 2 : 0);
	assert_true(depth(1) <= 4);
}

static void rows_are_walked_in_order_over_regions(void **state)
{
	(void)state;
	const uint32_t rows[] = {0, 63, 64, 200, 4095};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		put(rows[i], VER_ABS, i + 1, 1, 0, 0);
	size_t at = 0;
	for (uint32_t r = overlay_next_row(&o, shard(), 0); r != UINT32_MAX; r = overlay_next_row(&o, shard(), r + 1))
		assert_int_equal(r, rows[at++]);
	assert_int_equal(at, ARRAY_LEN(rows));
	overlay_drop_row(&o, shard(), 64);
	assert_int_equal(overlay_next_row(&o, shard(), 64), 200);
}

static void shards_are_found_whatever_the_order(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 300; i++)
		assert_non_null(oshard_find(&set, i * 7 % 300, true));
	uint32_t expect = 0;
	list_for_each(s, &set.list, struct oshard, node)
		assert_int_equal(s->shard, expect++);
	oshard_free(&o, &set, oshard_find(&set, 64, false));
	assert_null(oshard_find(&set, 64, false));
	assert_int_equal(oshard_find(&set, 128, false)->shard, 128);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(absolute_values_replace_and_deltas_fold, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_block_of_zeros_is_kept_without_memory, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_sync_seals_and_the_next_commit_starts_a_version, setup, teardown),
	    cmocka_unit_test_setup_teardown(only_the_stable_end_of_a_chain_may_go_to_the_base, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_busy_version_never_changes, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_folded_delta_remembers_that_it_stood_on_the_base, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_delta_kept_as_it_came_is_not_written_to, setup, teardown),
	    cmocka_unit_test_setup_teardown(stable_versions_of_a_hot_row_do_not_pile_up, setup, teardown),
	    cmocka_unit_test_setup_teardown(rows_are_walked_in_order_over_regions, setup, teardown),
	    cmocka_unit_test_setup_teardown(shards_are_found_whatever_the_order, setup, teardown),
	};
	return cmocka_run_group_tests_name("brick overlay", tests, NULL, NULL);
}
