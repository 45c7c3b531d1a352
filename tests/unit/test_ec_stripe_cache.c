/* ec/stripe_cache: what is found is what was put last, whatever was evicted or dropped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/prng.h"
#include "ec/stripe_cache.h"

static uint8_t block[MYFS_BLOCK];

static void put(struct ec_stripe_cache *c, uint64_t domain, uint32_t shard, uint32_t lba, uint8_t fill)
{
	memset(block, fill, sizeof(block));
	ec_stripe_cache_put(c, domain, shard, lba, block, fill * 3u);
}

/* The fill byte, or -1 when not cached. */
static int get(struct ec_stripe_cache *c, uint64_t domain, uint32_t shard, uint32_t lba)
{
	uint32_t crc = 0;
	const uint8_t *p = ec_stripe_cache_get(c, domain, shard, lba, &crc);
	if (!p)
		return -1;
	assert_int_equal(crc, p[0] * 3u);
	for (unsigned i = 0; i < MYFS_BLOCK; i += 512)
		assert_int_equal(p[i], p[0]);
	return p[0];
}

static void a_block_is_found_under_its_whole_key_only(void **state)
{
	(void)state;
	struct ec_stripe_cache *c;
	assert_int_equal(ec_stripe_cache_new(16 * MYFS_BLOCK, &c), 0);
	put(c, 1, 2, 3, 7);
	assert_int_equal(get(c, 1, 2, 3), 7);
	assert_int_equal(get(c, 0, 2, 3), -1);
	assert_int_equal(get(c, 1, 0, 3), -1);
	assert_int_equal(get(c, 1, 2, 0), -1);
	put(c, 1, 2, 3, 9);
	assert_int_equal(get(c, 1, 2, 3), 9);
	struct ec_stripe_cache_stats st;
	ec_stripe_cache_stats(c, &st);
	assert_int_equal(st.hits, 2);
	assert_int_equal(st.misses, 3);
	assert_int_equal(st.used, 1);
	ec_stripe_cache_free(c);
}

static void a_full_cache_evicts_the_untouched_first(void **state)
{
	(void)state;
	struct ec_stripe_cache *c;
	assert_int_equal(ec_stripe_cache_new(8 * MYFS_BLOCK, &c), 0);
	for (uint32_t i = 0; i < 8; i++)
		put(c, 1, 0, i, (uint8_t)i);
	assert_int_equal(get(c, 1, 0, 5), 5);
	for (uint32_t i = 8; i < 15; i++)
		put(c, 1, 0, i, (uint8_t)i);
	assert_int_equal(get(c, 1, 0, 5), 5);
	for (uint32_t i = 0; i < 8; i++)
		if (i != 5)
			assert_int_equal(get(c, 1, 0, i), -1);
	struct ec_stripe_cache_stats st;
	ec_stripe_cache_stats(c, &st);
	assert_int_equal(st.used, 8);
	assert_int_equal(st.blocks, 8);
	ec_stripe_cache_free(c);
}

static void a_cache_without_room_never_hits(void **state)
{
	(void)state;
	struct ec_stripe_cache *c;
	assert_int_equal(ec_stripe_cache_new(MYFS_BLOCK - 1, &c), 0);
	put(c, 1, 0, 0, 1);
	assert_int_equal(get(c, 1, 0, 0), -1);
	ec_stripe_cache_drop(c, 1, 0, 0, 1);
	ec_stripe_cache_drop_domain(c, 1);
	ec_stripe_cache_free(c);
	ec_stripe_cache_free(NULL);
}

static void dropping_a_range_takes_exactly_that_range(void **state)
{
	(void)state;
	static const uint32_t lengths[] = {4, 100}; /* fewer, and more blocks than the cache has */
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		struct ec_stripe_cache *c;
		assert_int_equal(ec_stripe_cache_new(32 * MYFS_BLOCK, &c), 0);
		for (uint32_t lba = 0; lba < 16; lba++) {
			put(c, 1, 0, lba, (uint8_t)lba);
			put(c, 2, 0, lba, (uint8_t)lba);
		}
		ec_stripe_cache_drop(c, 1, 0, 6, lengths[i]);
		for (uint32_t lba = 0; lba < 16; lba++) {
			assert_int_equal(get(c, 1, 0, lba), lba >= 6 && lba < 6 + lengths[i] ? -1 : (int)lba);
			assert_int_equal(get(c, 2, 0, lba), lba);
		}
		ec_stripe_cache_drop_domain(c, 2);
		for (uint32_t lba = 0; lba < 16; lba++)
			assert_int_equal(get(c, 2, 0, lba), -1);
		assert_int_equal(get(c, 1, 0, 5), 5);
		ec_stripe_cache_free(c);
	}
}

static void a_hit_is_always_the_last_value_put(void **state)
{
	(void)state;
	int model[2][2][64];
	struct ec_stripe_cache *c;
	struct prng p;
	unsigned hits = 0;
	prng_seed(&p, 42);
	memset(model, 0xff, sizeof(model)); /* -1 */
	assert_int_equal(ec_stripe_cache_new(100 * MYFS_BLOCK, &c), 0);
	for (unsigned i = 0; i < 20000; i++) {
		uint32_t d = (uint32_t)prng_below(&p, 2), s = (uint32_t)prng_below(&p, 2), l = (uint32_t)prng_below(&p, 64);
		uint64_t what = prng_below(&p, 100);
		if (what < 45) {
			model[d][s][l] = (int)prng_below(&p, 256);
			put(c, d, s, l, (uint8_t)model[d][s][l]);
		} else if (what < 95) {
			int v = get(c, d, s, l);
			if (v != -1)
				assert_int_equal(v, model[d][s][l]);
			hits += v != -1;
		} else if (what < 99) {
			uint32_t n = (uint32_t)prng_below(&p, 65 - l);
			ec_stripe_cache_drop(c, d, s, l, n);
			for (uint32_t j = l; j < l + n; j++)
				model[d][s][j] = -1;
		} else {
			ec_stripe_cache_drop_domain(c, d);
			memset(model[d], 0xff, sizeof(model[d]));
		}
	}
	assert_true(hits > 100);
	ec_stripe_cache_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_block_is_found_under_its_whole_key_only),
	    cmocka_unit_test(a_full_cache_evicts_the_untouched_first),
	    cmocka_unit_test(a_cache_without_room_never_hits),
	    cmocka_unit_test(dropping_a_range_takes_exactly_that_range),
	    cmocka_unit_test(a_hit_is_always_the_last_value_put),
	};
	return cmocka_run_group_tests_name("ec.stripe_cache", tests, NULL, NULL);
}
