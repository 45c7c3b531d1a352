/* ec/missed: a map from (shard, brick) to regions against a plain array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/prng.h"
#include "ec/missed.h"

static void regions_add_up_and_are_counted_once(void **state)
{
	(void)state;
	struct ec_missed m;
	ec_missed_init(&m);
	assert_int_equal(ec_missed_get(&m, 3, 1), 0);
	assert_int_equal(ec_missed_add(&m, 3, 1, 0x5), 0);
	assert_int_equal(ec_missed_add(&m, 3, 1, 0x6), 0);
	assert_int_equal(ec_missed_get(&m, 3, 1), 0x7);
	assert_int_equal(ec_missed_get(&m, 3, 2), 0);
	assert_int_equal(ec_missed_count(&m, 1), 3);
	assert_int_equal(ec_missed_pairs(&m), 1);
	ec_missed_release(&m);
}

static void adding_nothing_leaves_no_trace(void **state)
{
	(void)state;
	struct ec_missed m;
	uint32_t cursor = 0;
	ec_missed_init(&m);
	assert_int_equal(ec_missed_add(&m, 3, 1, 0), 0);
	assert_int_equal(ec_missed_add_mask(&m, 3, 0, 0xff), 0);
	ec_missed_clear(&m, 3, 1, UINT64_MAX);
	ec_missed_clear_brick(&m, 1);
	assert_null(ec_missed_next(&m, &cursor));
	assert_null(ec_missed_first(&m, 1, 0));
	assert_int_equal(ec_missed_pairs(&m), 0);
	ec_missed_release(&m);
}

static void a_mask_adds_to_every_brick_of_it(void **state)
{
	(void)state;
	struct ec_missed m;
	ec_missed_init(&m);
	assert_int_equal(ec_missed_add_mask(&m, 9, 0x80000005, 0xf0), 0);
	assert_int_equal(ec_missed_count(&m, 0), 4);
	assert_int_equal(ec_missed_count(&m, 1), 0);
	assert_int_equal(ec_missed_count(&m, 2), 4);
	assert_int_equal(ec_missed_count(&m, 31), 4);
	ec_missed_release(&m);
}

static void the_first_pair_of_a_brick_is_that_of_the_lowest_shard(void **state)
{
	(void)state;
	struct ec_missed m;
	static const uint32_t shards[] = {70, 3, 900, 12, 4};
	ec_missed_init(&m);
	for (size_t i = 0; i < ARRAY_LEN(shards); i++) {
		assert_int_equal(ec_missed_add(&m, shards[i], 2, 1), 0);
		assert_int_equal(ec_missed_add(&m, shards[i] - 1, 3, 1), 0);
	}
	assert_int_equal(ec_missed_first(&m, 2, 0)->shard, 3);
	assert_int_equal(ec_missed_first(&m, 2, 4)->shard, 4);
	assert_int_equal(ec_missed_first(&m, 2, 5)->shard, 12);
	assert_int_equal(ec_missed_first(&m, 2, 900)->shard, 900);
	assert_null(ec_missed_first(&m, 2, 901));
	ec_missed_release(&m);
}

static void reserved_room_is_enough_without_growing(void **state)
{
	(void)state;
	struct ec_missed m;
	ec_missed_init(&m);
	assert_int_equal(ec_missed_reserve(&m, 1000), 0);
	const struct ec_missed_slot *slots = m.slots;
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(ec_missed_add(&m, i, 0, 1), 0);
	assert_ptr_equal(m.slots, slots);
	assert_int_equal(ec_missed_reserve(&m, UINT32_MAX), -ENOMEM);
	ec_missed_release(&m);
}

/* Few shards and bricks, so that runs of slots collide and wrap. */
enum { SHARDS = 40, BRICKS = 4 };

static void compare(const struct ec_missed *m, uint64_t model[SHARDS][BRICKS])
{
	uint64_t count[BRICKS] = {0};
	uint32_t cursor = 0, pairs = 0, seen = 0;
	for (uint32_t s = 0; s < SHARDS; s++)
		for (uint32_t b = 0; b < BRICKS; b++) {
			assert_int_equal(ec_missed_get(m, s, b), model[s][b]);
			count[b] += (unsigned)__builtin_popcountll(model[s][b]);
			pairs += model[s][b] != 0;
		}
	for (uint32_t b = 0; b < BRICKS; b++)
		assert_int_equal(ec_missed_count(m, b), count[b]);
	for (const struct ec_missed_slot *s; (s = ec_missed_next(m, &cursor)) != NULL; seen++)
		assert_int_equal(s->regions, model[s->shard][s->brick]);
	assert_int_equal(seen, pairs);
	assert_int_equal(ec_missed_pairs(m), pairs);
}

static void random_changes_agree_with_a_plain_array(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct prng p;
		struct ec_missed m, copy;
		uint64_t model[SHARDS][BRICKS] = {{0}};
		prng_seed(&p, seed);
		ec_missed_init(&m);
		for (unsigned step = 0; step < 400; step++) {
			uint32_t s = (uint32_t)prng_below(&p, SHARDS), b = (uint32_t)prng_below(&p, BRICKS);
			uint64_t regions = prng_u64(&p) & prng_u64(&p) & prng_u64(&p);
			uint64_t what = prng_below(&p, 100);
			if (what < 55) {
				assert_int_equal(ec_missed_add(&m, s, b, regions), 0);
				model[s][b] |= regions;
			} else if (what < 98) {
				if (prng_chance(&p, 0.7))
					regions = UINT64_MAX;
				ec_missed_clear(&m, s, b, regions);
				model[s][b] &= ~regions;
			} else {
				ec_missed_clear_brick(&m, b);
				for (uint32_t i = 0; i < SHARDS; i++)
					model[i][b] = 0;
			}
			compare(&m, model);
		}
		ec_missed_init(&copy);
		assert_int_equal(ec_missed_add_all(&copy, &m), 0);
		compare(&copy, model);
		ec_missed_release(&copy);
		ec_missed_release(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(regions_add_up_and_are_counted_once),
	    cmocka_unit_test(adding_nothing_leaves_no_trace),
	    cmocka_unit_test(a_mask_adds_to_every_brick_of_it),
	    cmocka_unit_test(the_first_pair_of_a_brick_is_that_of_the_lowest_shard),
	    cmocka_unit_test(reserved_room_is_enough_without_growing),
	    cmocka_unit_test(random_changes_agree_with_a_plain_array),
	};
	return cmocka_run_group_tests_name("ec.missed", tests, NULL, NULL);
}
