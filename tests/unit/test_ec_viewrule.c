/* ec/viewrule: who may leave, join, serve and acknowledge, as tables; views from the wire are checked whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "brick.h"
#include "ec/viewrule.h"

static struct ec_geometry geo(uint32_t k, uint32_t r)
{
	struct ec_geometry g;
	assert_int_equal(ec_geometry_init(&g, k, r, 16384), 0);
	return g;
}

static void the_newer_view_has_the_higher_epoch_then_the_higher_version(void **state)
{
	(void)state;
	static const uint64_t order[][2] = {{1, 1}, {1, 2}, {1, 9}, {2, 1}, {2, 3}, {UINT64_MAX, 0}};
	for (size_t i = 0; i < ARRAY_LEN(order); i++)
		for (size_t j = 0; j < ARRAY_LEN(order); j++) {
			struct ec_view a = {.epoch = order[i][0], .ver = order[i][1]};
			struct ec_view b = {.epoch = order[j][0], .ver = order[j][1]};
			int c = ec_view_cmp(&a, &b);
			assert_int_equal((c > 0) - (c < 0), (i > j) - (i < j));
		}
}

static void a_view_survives_the_wire(void **state)
{
	(void)state;
	struct ec_geometry g = geo(4, 2);
	struct ec_view v = {.epoch = 7, .ver = 9, .state = BP_VIEW_READY, .insync = 0x2f, .layout_gen = 3}, back;
	for (uint8_t b = 0; b < 6; b++)
		memset(v.boot[b].b, b + 1, 16);
	struct bp_view w;
	ec_view_to_wire(&g, &v, &w);
	assert_int_equal(w.boot.boot_len, 6);
	assert_int_equal(ec_view_from_wire(&g, &w, &back, NULL), 0);
	assert_int_equal(ec_view_cmp(&v, &back), 0);
	assert_int_equal(back.state, v.state);
	assert_int_equal(back.insync, v.insync);
	assert_int_equal(back.layout_gen, 3);
	assert_memory_equal(back.boot, v.boot, 6 * 16);
}

static void an_impossible_view_from_the_wire_is_refused(void **state)
{
	(void)state;
	struct ec_geometry g = geo(4, 2);
	struct ec_view good = {.epoch = 7, .ver = 9, .state = BP_VIEW_RESOLVING, .insync = 0x3f}, ret = {.epoch = 55};
	for (unsigned what = 0; what < 7; what++) {
		struct bp_view w;
		struct err e = ERR_INIT;
		ec_view_to_wire(&g, &good, &w);
		switch (what) {
		case 0:
			w.boot.boot_len = 5;
			break;
		case 1:
			w.boot.boot_len = 7;
			break;
		case 2:
			w.state = 0;
			break;
		case 3:
			w.state = 3;
			break;
		case 4:
			w.insync = 0x7f;
			break;
		case 5:
			w.insync = 0x07;
			break;
		default:
			w.epoch = 0;
			break;
		}
		assert_int_equal(ec_view_from_wire(&g, &w, &ret, &e), -MYFS_E_PROTO);
		assert_string_not_equal(e.text, "");
		assert_int_equal(ret.epoch, 55);
	}
}

static void bricks_may_leave_while_k_stay(void **state)
{
	(void)state;
	static const struct {
		uint32_t k, r, insync, drop;
		bool can;
	} t[] = {
	    {4, 2, 0x3f, 0x01, true},  {4, 2, 0x3f, 0x03, true},  {4, 2, 0x3f, 0x07, false}, {4, 2, 0x1e, 0x02, false},
	    {4, 2, 0x1e, 0x21, true}, /* nobody that is in */
	    {2, 1, 0x07, 0x04, true},  {2, 1, 0x07, 0x05, false}, {1, 2, 0x07, 0x06, true},  {1, 2, 0x07, 0x07, false},
	};
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		struct ec_geometry g = geo(t[i].k, t[i].r);
		assert_int_equal(ec_view_can_drop(&g, t[i].insync, t[i].drop), t[i].can);
	}
}

static void a_brick_joins_healed_and_flushed_with_every_member_connected(void **state)
{
	(void)state;
	static const struct {
		uint32_t insync, connected, brick;
		bool healed, flushed, can;
	} t[] = {
	    {0x1f, 0x3f, 5, true, true, true},	 {0x1f, 0x3f, 5, false, true, false}, {0x1f, 0x3f, 5, true, false, false},
	    {0x1f, 0x3e, 5, true, true, false}, /* H10: a member is down but not dropped */
	    {0x1f, 0x1f, 5, true, true, false},	 {0x3f, 0x3f, 5, true, true, false},
	};
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		assert_int_equal(
		    ec_view_can_join(t[i].insync, t[i].connected, t[i].brick, t[i].healed, t[i].flushed), t[i].can);
}

static void serving_needs_w_bricks_and_enough_members(void **state)
{
	(void)state;
	static const struct {
		uint32_t k, r, insync, connected, write_min;
		bool can;
	} t[] = {
	    {4, 2, 0x3f, 0x3f, 0, true},  {4, 2, 0x3f, 0x0f, 0, true},	{4, 2, 0x3f, 0x07, 0, false},
	    {4, 2, 0x0f, 0x3e, 0, false}, {4, 2, 0x1f, 0x0f, 5, false}, {4, 2, 0x1f, 0x1f, 5, true},
	    {1, 2, 0x07, 0x01, 0, false}, /* one replica alone is readable but no promise quorum */
	    {1, 2, 0x01, 0x03, 0, true},  {3, 3, 0x3f, 0x07, 0, false}, {3, 3, 0x3f, 0x0f, 0, true},
	    {3, 3, 0x07, 0x0f, 0, true},
	};
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		struct ec_geometry g = geo(t[i].k, t[i].r);
		assert_int_equal(ec_view_can_serve(&g, t[i].insync, t[i].connected, t[i].write_min), t[i].can);
	}
}

static void an_acknowledgement_satisfies_the_old_and_the_coming_view(void **state)
{
	(void)state;
	struct ec_view now = {.insync = 0x1f}, drop = {.insync = 0x1e}, join = {.insync = 0x3f};
	assert_int_equal(ec_view_ack_mask(&now, NULL, 0x31), 0x11);
	assert_int_equal(ec_view_ack_mask(&now, &drop, 0x31), 0x11);
	assert_int_equal(ec_view_ack_mask(&now, &join, 0x31), 0x31);
}

static void masks_of_all_sizes(void **state)
{
	(void)state;
	assert_int_equal(mask_all(0), 0);
	assert_int_equal(mask_all(6), 0x3f);
	assert_int_equal(mask_all(31), 0x7fffffff);
	assert_int_equal(mask_all(32), UINT32_MAX);
	assert_true(mask_has(0x80000000, 31));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_newer_view_has_the_higher_epoch_then_the_higher_version),
	    cmocka_unit_test(a_view_survives_the_wire),
	    cmocka_unit_test(an_impossible_view_from_the_wire_is_refused),
	    cmocka_unit_test(bricks_may_leave_while_k_stay),
	    cmocka_unit_test(a_brick_joins_healed_and_flushed_with_every_member_connected),
	    cmocka_unit_test(serving_needs_w_bricks_and_enough_members),
	    cmocka_unit_test(an_acknowledgement_satisfies_the_old_and_the_coming_view),
	    cmocka_unit_test(masks_of_all_sizes),
	};
	return cmocka_run_group_tests_name("ec.viewrule", tests, NULL, NULL);
}
