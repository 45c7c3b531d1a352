/* Payload memory: references, pooling, slice lists, cutting of iovecs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/buf.h"

static void a_buf_is_aligned_and_at_least_as_large_as_asked(void **state)
{
	static const size_t sizes[] = {1, 4096, 4097, 65536, 262144, 262145, 1048576, 1114112, 1114113, 5000000};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct buf *b = buf_alloc(sizes[i]);
		assert_non_null(b);
		assert_true(b->size >= sizes[i]);
		assert_int_equal((uintptr_t)b->data % 4096, 0);
		assert_int_equal(b->refs, 1);
		memset(b->data, 0xee, b->size);
		buf_unref(b);
	}
	buf_unref(NULL);
}

static void a_buf_returns_to_its_pool_with_the_last_reference(void **state)
{
	(void)state;
	struct buf *a = buf_alloc(10000);
	buf_ref(a);
	buf_unref(a);
	assert_int_equal(a->refs, 1);
	buf_unref(a);
	struct buf *b = buf_alloc(16384);
	assert_ptr_equal(a, b); /* same class, last in first out */
	b->data[16383] = 1;
	buf_unref(b);
}

static void the_pool_does_not_keep_more_than_its_limit(void **state)
{
	enum { N = 40 }; /* 40 MiB of the largest class, 16 MiB are kept */
	struct buf *v[N];

	(void)state;
	for (int i = 0; i < N; i++)
		assert_non_null(v[i] = buf_alloc(MIB(1)));
	for (int i = 0; i < N; i++)
		buf_unref(v[i]);
	for (int i = 0; i < N; i++)
		assert_non_null(v[i] = buf_alloc(MIB(1)));
	for (int i = 0; i < N; i++)
		buf_unref(v[i]);
}

static void an_impossible_size_is_refused(void **state)
{
	(void)state;
	assert_null(buf_alloc(SIZE_MAX));
}

static void a_slice_list_holds_references_and_grows(void **state)
{
	struct bufs v;
	struct buf *b = buf_alloc(4096);

	(void)state;
	bufs_init(&v);
	for (unsigned i = 0; i < 100; i++) {
		b->data[i] = (uint8_t)i;
		assert_int_equal(bufs_add(&v, b, b->data + i, 1), 0);
	}
	assert_int_equal(b->refs, 101);
	assert_int_equal(v.bytes, 100);
	uint8_t out[50];
	bufs_copy_out(&v, 25, out, sizeof(out));
	for (unsigned i = 0; i < sizeof(out); i++)
		assert_int_equal(out[i], 25 + i);
	bufs_release(&v);
	assert_int_equal(b->refs, 1);
	assert_int_equal(v.n, 0);
	assert_int_equal(bufs_add(&v, b, b->data, 7), 0); /* reusable */
	bufs_release(&v);
	buf_unref(b);
}

static void zeros_take_no_memory_of_their_own(void **state)
{
	struct bufs v;
	struct buf *b = buf_alloc(4096);
	static uint8_t out[300000];

	(void)state;
	memset(b->data, 1, 4096);
	bufs_init(&v);
	bufs_add(&v, b, b->data, 10);
	assert_int_equal(bufs_add_zeros(&v, 200000), 0);
	bufs_add(&v, b, b->data, 10);
	assert_int_equal(v.bytes, 200020);
	memset(out, 0xff, sizeof(out));
	bufs_copy_out(&v, 0, out, v.bytes);
	assert_int_equal(out[9], 1);
	for (size_t i = 10; i < 200010; i++)
		assert_int_equal(out[i], 0);
	assert_int_equal(out[200010], 1);
	assert_int_equal(b->refs, 3);
	bufs_release(&v);
	buf_unref(b);
}

static void cutting_iovecs_covers_exactly_the_range(void **state)
{
	uint8_t mem[30], out[30];
	struct iovec parts[] = {{mem, 10}, {mem + 10, 0}, {mem + 10, 5}, {mem + 15, 15}};
	struct iov v = {.v = parts, .n = 4};

	(void)state;
	for (unsigned i = 0; i < 30; i++)
		mem[i] = (uint8_t)i;
	assert_int_equal(iov_bytes(v), 30);
	for (size_t off = 0; off <= 30; off++) {
		for (size_t len = 0; off + len <= 30; len++) {
			struct iovec cut[4];
			unsigned n = iov_cut(v, off, len, cut, 4);
			size_t pos = off;
			for (unsigned i = 0; i < n; i++) {
				assert_ptr_equal(cut[i].iov_base, mem + pos);
				assert_true(cut[i].iov_len > 0);
				pos += cut[i].iov_len;
			}
			assert_int_equal(pos, off + len);
			iov_copy_out(v, off, out, len);
			assert_memory_equal(out, mem + off, len);
		}
	}
}

static void cutting_into_too_few_pieces_says_so(void **state)
{
	uint8_t mem[20];
	struct iovec parts[] = {{mem, 10}, {mem + 10, 10}};
	struct iovec cut[1];

	(void)state;
	assert_int_equal(iov_cut((struct iov){.v = parts, .n = 2}, 5, 10, cut, 1), 0);
	assert_int_equal(iov_cut((struct iov){.v = parts, .n = 2}, 5, 5, cut, 1), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_buf_is_aligned_and_at_least_as_large_as_asked),
	    cmocka_unit_test(a_buf_returns_to_its_pool_with_the_last_reference),
	    cmocka_unit_test(the_pool_does_not_keep_more_than_its_limit),
	    cmocka_unit_test(an_impossible_size_is_refused),
	    cmocka_unit_test(a_slice_list_holds_references_and_grows),
	    cmocka_unit_test(zeros_take_no_memory_of_their_own),
	    cmocka_unit_test(cutting_iovecs_covers_exactly_the_range),
	    cmocka_unit_test(cutting_into_too_few_pieces_says_so),
	};
	return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
