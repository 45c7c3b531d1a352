/* test_nbd_request.c - which requests are carried out, and which error every other one gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/base/bytes.h"
#include "handlers/nbd/request.h"

#define SIZE MIB(1)

static const struct nbd_limits plain = {.size_bytes = SIZE, .min_block = 1, .max_payload = 65536};
static const struct nbd_limits full = {
    .size_bytes = SIZE, .min_block = 1, .max_payload = 65536, .structured = true, .block_status = true};
static const struct nbd_limits read_only = {
    .size_bytes = SIZE, .min_block = 1, .max_payload = 65536, .read_only = true};
static const struct nbd_limits sectors = {.size_bytes = SIZE, .min_block = 512, .max_payload = 65536};
static const struct nbd_limits huge = {.size_bytes = UINT64_MAX, .min_block = 1, .max_payload = 65536};

struct request_case {
	const char *what;
	const struct nbd_limits *limits;
	unsigned flags, type;
	uint64_t off;
	uint32_t len, error;
};

static const struct request_case cases[] = {
    {"read", &plain, 0, NBD_CMD_READ, 0, 4096, 0},
    {"read to the last byte", &plain, 0, NBD_CMD_READ, SIZE - 1, 1, 0},
    {"read over the end", &plain, 0, NBD_CMD_READ, SIZE - 1, 2, NBD_EINVAL},
    {"read behind the end", &plain, 0, NBD_CMD_READ, SIZE + 1, 0, NBD_EINVAL},
    {"read of nothing at the end", &plain, 0, NBD_CMD_READ, SIZE, 0, 0},
    {"read that wraps", &plain, 0, NBD_CMD_READ, UINT64_MAX, 2, NBD_EINVAL},
    {"read that would wrap in a huge export", &huge, 0, NBD_CMD_READ, UINT64_MAX - 1, 2, NBD_EINVAL},
    {"read with FUA", &plain, NBD_CMD_FLAG_FUA, NBD_CMD_READ, 0, 1, 0},
    {"read with DF, structured", &full, NBD_CMD_FLAG_DF, NBD_CMD_READ, 0, 1, 0},
    {"read with DF, not negotiated", &plain, NBD_CMD_FLAG_DF, NBD_CMD_READ, 0, 1, NBD_EINVAL},
    {"read with NO_HOLE", &full, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_READ, 0, 1, NBD_EINVAL},
    {"read of the maximum", &plain, 0, NBD_CMD_READ, 0, 65536, 0},
    {"read over the maximum", &plain, 0, NBD_CMD_READ, 0, 65537, NBD_EINVAL},
    {"read over the maximum, structured", &full, 0, NBD_CMD_READ, 0, 65537, NBD_EOVERFLOW},
    {"write", &plain, 0, NBD_CMD_WRITE, 5, 7, 0},
    {"write with FUA", &plain, NBD_CMD_FLAG_FUA, NBD_CMD_WRITE, 5, 7, 0},
    {"write with DF", &full, NBD_CMD_FLAG_DF, NBD_CMD_WRITE, 5, 7, NBD_EINVAL},
    {"write over the end", &plain, 0, NBD_CMD_WRITE, SIZE - 1, 2, NBD_ENOSPC},
    {"write over the maximum", &plain, 0, NBD_CMD_WRITE, 0, 65537, NBD_EINVAL},
    {"write, read-only", &read_only, 0, NBD_CMD_WRITE, 0, 1, NBD_EPERM},
    {"trim, read-only", &read_only, 0, NBD_CMD_TRIM, 0, 1, NBD_EPERM},
    {"zeroes, read-only", &read_only, 0, NBD_CMD_WRITE_ZEROES, 0, 1, NBD_EPERM},
    {"flush, read-only", &read_only, 0, NBD_CMD_FLUSH, 0, 0, 0},
    {"flush", &plain, 0, NBD_CMD_FLUSH, 0, 0, 0},
    {"flush with FUA", &plain, NBD_CMD_FLAG_FUA, NBD_CMD_FLUSH, 0, 0, 0},
    {"flush with a range", &plain, 0, NBD_CMD_FLUSH, 0, 1, NBD_EINVAL},
    {"flush with an offset", &plain, 0, NBD_CMD_FLUSH, 1, 0, NBD_EINVAL},
    {"trim of everything", &plain, 0, NBD_CMD_TRIM, 0, SIZE, 0},
    {"trim over the end", &plain, 0, NBD_CMD_TRIM, 1, SIZE, NBD_EINVAL},
    {"trim with NO_HOLE", &plain, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_TRIM, 0, 1, NBD_EINVAL},
    {"zeroes beyond the maximum payload", &plain, 0, NBD_CMD_WRITE_ZEROES, 0, SIZE, 0},
    {"zeroes over the end", &plain, 0, NBD_CMD_WRITE_ZEROES, 1, SIZE, NBD_ENOSPC},
    {"zeroes allocated", &plain, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES, 0, 9, 0},
    {"zeroes fast", &plain, NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_WRITE_ZEROES, 0, 9, 0},
    {"zeroes fast and allocated", &plain, NBD_CMD_FLAG_FAST_ZERO | NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES, 0, 9,
     NBD_ENOTSUP},
    {"fast allocated zeroes over the end", &plain, NBD_CMD_FLAG_FAST_ZERO | NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES,
     SIZE, 9, NBD_ENOSPC},
    {"cache", &plain, 0, NBD_CMD_CACHE, 0, SIZE, 0},
    {"cache with FAST_ZERO", &plain, NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_CACHE, 0, 1, NBD_EINVAL},
    {"cache over the end", &plain, 0, NBD_CMD_CACHE, 0, SIZE + 1, NBD_EINVAL},
    {"status", &full, 0, NBD_CMD_BLOCK_STATUS, 0, SIZE, 0},
    {"status of one", &full, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_BLOCK_STATUS, 0, SIZE, 0},
    {"status of nothing", &full, 0, NBD_CMD_BLOCK_STATUS, 0, 0, NBD_EINVAL},
    {"status over the end", &full, 0, NBD_CMD_BLOCK_STATUS, SIZE, 1, NBD_EINVAL},
    {"status without a context", &plain, 0, NBD_CMD_BLOCK_STATUS, 0, 1, NBD_EINVAL},
    {"command 8, not ours", &full, 0, 8, 0, 0, NBD_EINVAL},
    {"command 65535", &full, 0, 65535, 0, 0, NBD_EINVAL},
    {"unknown flag", &full, 0x20, NBD_CMD_READ, 0, 1, NBD_EINVAL},
    {"unknown high flag", &full, 0x8000, NBD_CMD_FLUSH, 0, 0, NBD_EINVAL},
    {"half a sector", &sectors, 0, NBD_CMD_READ, 0, 256, NBD_EINVAL},
    {"sector at an odd place", &sectors, 0, NBD_CMD_WRITE, 256, 512, NBD_EINVAL},
    {"sector", &sectors, 0, NBD_CMD_WRITE, 512, 512, 0},
};

static void encode(uint8_t out[NBD_REQUEST_BYTES], uint32_t magic, unsigned flags, unsigned type, uint64_t off,
		   uint32_t len)
{
	struct wcur c = wcur_of(out, NBD_REQUEST_BYTES);

	wcur_be32(&c, magic);
	wcur_be16(&c, (uint16_t)flags);
	wcur_be16(&c, (uint16_t)type);
	wcur_be64(&c, UINT64_C(0x0123456789abcdef));
	wcur_be64(&c, off);
	wcur_be32(&c, len);
	assert_false(c.bad);
}

static void the_table_of_requests_is_judged_as_written(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct request_case *c = &cases[i];
		uint8_t bytes[NBD_REQUEST_BYTES];
		struct nbd_request r;
		encode(bytes, NBD_REQUEST_MAGIC, c->flags, c->type, c->off, c->len);
		assert_int_equal(nbd_request_parse(bytes, c->limits, &r), 0);
		if (r.error != c->error)
			fail_msg("%s: error %u, not %u", c->what, r.error, c->error);
		if (r.error)
			assert_non_null(r.why);
		assert_true(r.cookie == UINT64_C(0x0123456789abcdef) && r.off == c->off && r.len == c->len);
		assert_int_equal(r.payload, c->type == NBD_CMD_WRITE ? c->len : 0);
		assert_int_equal(r.fua, (c->flags & NBD_CMD_FLAG_FUA) != 0);
	}
}

static void wrong_magic_ends_the_connection(void **state)
{
	static const uint32_t magics[] = {0, 0x12560953, 0x21e41c71, NBD_SIMPLE_REPLY_MAGIC, NBD_REQUEST_MAGIC + 1};
	uint8_t bytes[NBD_REQUEST_BYTES];
	struct nbd_request r;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(magics); i++) {
		encode(bytes, magics[i], 0, NBD_CMD_READ, 0, 1);
		assert_int_equal(nbd_request_parse(bytes, &full, &r), -EPROTO);
	}
}

static void
a_refused_write_up_to_twice_the_usual_maximum_is_read_away_and_a_longer_one_ends_the_connection(void **state)
{
	uint8_t bytes[NBD_REQUEST_BYTES];
	struct nbd_request r;

	(void)state;
	encode(bytes, NBD_REQUEST_MAGIC, 0, NBD_CMD_WRITE, 0, (uint32_t)MIB(64));
	assert_int_equal(nbd_request_parse(bytes, &full, &r), 0);
	assert_int_equal(r.error, NBD_ENOSPC);
	assert_int_equal(r.payload, MIB(64));
	encode(bytes, NBD_REQUEST_MAGIC, 0, NBD_CMD_WRITE, 0, (uint32_t)MIB(64) + 1);
	assert_int_equal(nbd_request_parse(bytes, &full, &r), -EMSGSIZE);
	encode(bytes, NBD_REQUEST_MAGIC, 0, NBD_CMD_TRIM, 0, UINT32_MAX);
	assert_int_equal(nbd_request_parse(bytes, &full, &r), 0);
	assert_int_equal(r.payload, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_table_of_requests_is_judged_as_written),
	    cmocka_unit_test(wrong_magic_ends_the_connection),
	    cmocka_unit_test(
		a_refused_write_up_to_twice_the_usual_maximum_is_read_away_and_a_longer_one_ends_the_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
