/* The checked cursors: what is inside is read and written exactly, what is outside is refused for good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/bytes.h"

static const uint8_t sample[15] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static void big_endian_reads_take_network_order(void **state)
{
	struct rcur c = rcur_of(sample, sizeof(sample));

	(void)state;
	assert_int_equal(rcur_u8(&c), 1);
	assert_int_equal(rcur_be16(&c), 0x0203);
	assert_int_equal(rcur_be32(&c), 0x04050607);
	assert_true(rcur_be64(&c) == UINT64_C(0x08090a0b0c0d0e0f));
	assert_int_equal(c.left, 0);
	assert_false(c.bad);
}

static void little_endian_reads_take_host_file_order(void **state)
{
	struct rcur c = rcur_of(sample, sizeof(sample));

	(void)state;
	assert_int_equal(rcur_le32(&c), 0x04030201);
	assert_true(rcur_le64(&c) == UINT64_C(0x0c0b0a0908070605));
	assert_false(c.bad);
}

static void a_read_past_the_end_gives_zero_and_sticks(void **state)
{
	struct rcur c = rcur_of(sample, 3);

	(void)state;
	assert_int_equal(rcur_be32(&c), 0);
	assert_true(c.bad);
	assert_int_equal(c.left, 3);
	assert_int_equal(rcur_u8(&c), 0); /* would fit, but the cursor is bad now */
	assert_null(rcur_bytes(&c, 0));
}

static void a_copy_past_the_end_fills_with_zeros(void **state)
{
	struct rcur c = rcur_of(sample, 3);
	uint8_t dst[4] = {9, 9, 9, 9};
	static const uint8_t zero[4];

	(void)state;
	rcur_copy(&c, dst, sizeof(dst));
	assert_memory_equal(dst, zero, sizeof(dst));
	assert_true(c.bad);
}

static void a_length_near_the_top_of_size_t_is_refused(void **state)
{
	struct rcur c = rcur_of(sample, sizeof(sample));

	(void)state;
	assert_null(rcur_bytes(&c, SIZE_MAX));
	assert_true(c.bad);
}

static void writes_read_back(void **state)
{
	uint8_t b[40];
	struct wcur w = wcur_of(b, sizeof(b));

	(void)state;
	wcur_u8(&w, 0xaa);
	wcur_be16(&w, 0x1234);
	wcur_be32(&w, 0xdeadbeef);
	wcur_be64(&w, UINT64_C(0x0123456789abcdef));
	wcur_le32(&w, 0xcafef00d);
	wcur_le64(&w, UINT64_C(0xfedcba9876543210));
	wcur_zeros(&w, 2);
	wcur_copy(&w, "xyz", 3);
	assert_false(w.bad);
	assert_int_equal(w.used, 32);
	assert_int_equal(w.left, 8);

	struct rcur c = rcur_of(b, w.used);
	assert_int_equal(rcur_u8(&c), 0xaa);
	assert_int_equal(rcur_be16(&c), 0x1234);
	assert_int_equal(rcur_be32(&c), 0xdeadbeef);
	assert_true(rcur_be64(&c) == UINT64_C(0x0123456789abcdef));
	assert_int_equal(rcur_le32(&c), 0xcafef00d);
	assert_true(rcur_le64(&c) == UINT64_C(0xfedcba9876543210));
	assert_int_equal(rcur_be16(&c), 0);
	assert_memory_equal(rcur_bytes(&c, 3), "xyz", 3);
	assert_false(c.bad);
}

static void a_write_past_the_end_changes_nothing_and_sticks(void **state)
{
	uint8_t b[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	struct wcur w = wcur_of(b, 3);

	(void)state;
	wcur_be32(&w, 0xffffffff);
	assert_true(w.bad);
	assert_int_equal(w.used, 0);
	wcur_u8(&w, 0xff);
	wcur_zeros(&w, 1);
	wcur_copy(&w, "a", 1);
	assert_int_equal(w.used, 0);
	assert_int_equal(b[0], 1);
	assert_int_equal(b[3], 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(big_endian_reads_take_network_order),
	    cmocka_unit_test(little_endian_reads_take_host_file_order),
	    cmocka_unit_test(a_read_past_the_end_gives_zero_and_sticks),
	    cmocka_unit_test(a_copy_past_the_end_fills_with_zeros),
	    cmocka_unit_test(a_length_near_the_top_of_size_t_is_refused),
	    cmocka_unit_test(writes_read_back),
	    cmocka_unit_test(a_write_past_the_end_changes_nothing_and_sticks),
	};
	return cmocka_run_group_tests_name("bytes", tests, NULL, NULL);
}
