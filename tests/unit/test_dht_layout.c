/* A layout must cover the whole hash circle exactly once, whatever the sizes, and find the right set for every point.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/base/prng.h"
#include "dht/layout.h"

static void assert_covers_circle(const struct dht_layout *l)
{
	uint64_t next = 0;

	for (uint32_t i = 0; i < l->n; i++) {
		assert_int_equal(l->v[i].start, next);
		assert_true(l->v[i].stop > l->v[i].start);
		next = (uint64_t)l->v[i].stop + 1;
	}
	assert_int_equal(next, UINT64_C(1) << 32);
}

static void two_equal_sets_divide_the_circle_as_glusterfs_does(void **state)
{
	struct dht_layout l;

	(void)state;
	assert_int_equal(dht_layout_build(&l, NULL, 2, 0, 7), 0);
	assert_int_equal(l.v[0].start, 0);
	assert_int_equal(l.v[0].stop, 0x7ffffffe);
	assert_int_equal(l.v[1].start, 0x7fffffff);
	assert_int_equal(l.v[1].stop, 0xffffffff);
	assert_int_equal(l.v[1].commit, 7);
	dht_layout_free(&l);
}

static void a_set_three_times_as_large_gets_three_times_the_range(void **state)
{
	const uint64_t sizes[2] = {GIB(100), GIB(300)};
	struct dht_layout l;

	(void)state;
	assert_int_equal(dht_layout_build(&l, sizes, 2, 0, 0), 0);
	assert_int_equal(l.v[0].stop, 0x3ffffffe);
	dht_layout_free(&l);
}

static void an_unknown_size_means_equal_shares(void **state)
{
	const uint64_t sizes[2] = {GIB(100), 0};
	struct dht_layout l;

	(void)state;
	assert_int_equal(dht_layout_build(&l, sizes, 2, 0, 0), 0);
	assert_int_equal(l.v[0].stop, 0x7ffffffe);
	dht_layout_free(&l);
}

static void the_first_place_rotates(void **state)
{
	struct dht_layout l;

	(void)state;
	assert_int_equal(dht_layout_build(&l, NULL, 3, 5, 0), 0);
	assert_int_equal(l.v[0].set, 2);
	assert_int_equal(l.v[1].set, 0);
	assert_int_equal(l.v[2].set, 1);
	assert_int_equal(dht_layout_range_of(&l, 0).start, l.v[1].start);
	dht_layout_free(&l);
}

static void every_number_and_size_of_sets_covers_the_circle_and_is_searched_right(void **state)
{
	static const uint32_t counts[] = {1, 2, 3, 7, 100, 1000, DHT_MAX_SETS};
	uint64_t sizes[DHT_MAX_SETS];
	struct prng p;

	(void)state;
	prng_seed(&p, 1);
	for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
		struct dht_layout l;

		for (uint32_t i = 0; i < counts[c]; i++)
			sizes[i] = 1 + prng_u64(&p) % (UINT64_C(1) << prng_below(&p, 63));
		assert_int_equal(dht_layout_build(&l, sizes, counts[c], (uint32_t)prng_u64(&p), 0), 0);
		assert_covers_circle(&l);
		for (uint32_t i = 0; i < l.n; i++) {
			assert_int_equal(dht_layout_find(&l, l.v[i].start), l.v[i].set);
			assert_int_equal(dht_layout_find(&l, l.v[i].stop), l.v[i].set);
		}
		dht_layout_free(&l);
	}
}

static void no_sets_or_too_many_are_refused(void **state)
{
	struct dht_layout l;

	(void)state;
	assert_int_equal(dht_layout_build(&l, NULL, 0, 0, 0), -EINVAL);
	assert_int_equal(dht_layout_build(&l, NULL, DHT_MAX_SETS + 1, 0, 0), -EINVAL);
}

static void the_xattr_is_four_big_endian_words(void **state)
{
	const struct dht_range r = {.commit = 0x01020304, .type = 0, .start = 0x7fffffff, .stop = 0xffffffff};
	const uint8_t want[16] = {1, 2, 3, 4, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	uint8_t raw[DHT_XATTR_BYTES];
	struct dht_range back = {.set = 9};

	(void)state;
	dht_range_encode(&r, raw);
	assert_memory_equal(raw, want, sizeof(raw));
	assert_int_equal(dht_range_decode(raw, sizeof(raw), &back), 0);
	assert_int_equal(back.commit, r.commit);
	assert_int_equal(back.start, r.start);
	assert_int_equal(back.stop, r.stop);
	assert_int_equal(back.set, 9);
}

static void a_malformed_xattr_is_refused_and_changes_nothing(void **state)
{
	struct dht_range r = {.start = 2, .stop = 1}, back = {.commit = 42};
	uint8_t raw[DHT_XATTR_BYTES + 1] = {0};

	(void)state;
	assert_int_equal(dht_range_decode(raw, 15, &back), -EINVAL);
	assert_int_equal(dht_range_decode(raw, 17, &back), -EINVAL);
	assert_int_equal(dht_range_decode(raw, 0, &back), -EINVAL);
	dht_range_encode(&r, raw);
	assert_int_equal(dht_range_decode(raw, 16, &back), -EINVAL);
	r = (struct dht_range){.type = 2};
	dht_range_encode(&r, raw);
	assert_int_equal(dht_range_decode(raw, 16, &back), -EINVAL);
	assert_int_equal(back.commit, 42);
}

struct assembly {
	const char *what;
	struct dht_range v[3];
	uint32_t n;
	int rc;
};

static const struct assembly assemblies[] = {
    {"in any order",
     {{.start = 0x80000000, .stop = 0xffffffff, .set = 0}, {.start = 0, .stop = 0x7fffffff, .set = 1}},
     2,
     0},
    {"one set takes no part", {{.set = 0}, {.start = 0, .stop = 0xffffffff, .set = 1}}, 2, 0},
    {"hole in the middle",
     {{.start = 0, .stop = 5, .set = 0}, {.start = 7, .stop = 0xffffffff, .set = 1}},
     2,
     -EUCLEAN},
    {"hole at the start", {{.start = 1, .stop = 0xffffffff}}, 1, -EUCLEAN},
    {"hole at the end", {{.start = 0, .stop = 0xfffffffe}}, 1, -EUCLEAN},
    {"overlap", {{.start = 0, .stop = 5, .set = 0}, {.start = 5, .stop = 0xffffffff, .set = 1}}, 2, -EUCLEAN},
    {"same range twice",
     {{.start = 0, .stop = 0xffffffff, .set = 0}, {.start = 0, .stop = 0xffffffff, .set = 1}},
     2,
     -EUCLEAN},
    {"nobody takes part", {{.set = 0}, {.set = 1}}, 2, -EUCLEAN},
    {"nothing", {{0}}, 0, -EUCLEAN},
};

static void holes_and_overlaps_are_found_when_a_layout_is_put_together(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(assemblies); i++) {
		struct dht_layout l = {0, NULL};
		struct err e = ERR_INIT;

		assert_int_equal(dht_layout_assemble(&l, assemblies[i].v, assemblies[i].n, &e), assemblies[i].rc);
		if (assemblies[i].rc == 0)
			assert_covers_circle(&l);
		else
			assert_true(e.text[0] != '\0' && l.v == NULL);
		dht_layout_free(&l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(two_equal_sets_divide_the_circle_as_glusterfs_does),
	    cmocka_unit_test(a_set_three_times_as_large_gets_three_times_the_range),
	    cmocka_unit_test(an_unknown_size_means_equal_shares),
	    cmocka_unit_test(the_first_place_rotates),
	    cmocka_unit_test(every_number_and_size_of_sets_covers_the_circle_and_is_searched_right),
	    cmocka_unit_test(no_sets_or_too_many_are_refused),
	    cmocka_unit_test(the_xattr_is_four_big_endian_words),
	    cmocka_unit_test(a_malformed_xattr_is_refused_and_changes_nothing),
	    cmocka_unit_test(holes_and_overlaps_are_found_when_a_layout_is_put_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
