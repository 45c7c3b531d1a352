/* test_nbd_reply.c - replies as bytes: what is cut into data and holes, and what every error looks like. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/base/bytes.h"
#include "handlers/nbd/reply.h"

static struct buf *memory; /* 1 MiB of 0x5a */
static struct nbd_reply reply;
static uint8_t wire[MIB(1)];

static int set_up(void **state)
{
	(void)state;
	memory = buf_alloc(MIB(1));
	memset(memory->data, 0x5a, MIB(1));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	buf_unref(memory);
	return 0;
}

/* "d4096 z8192 d0" and so on. */
static void compose(const char *pieces)
{
	bufs_init(&reply.data);
	reply.chunks = 0;
	for (const char *p = pieces; *p;) {
		char *end;
		unsigned long len = strtoul(p + 1, &end, 10);
		if (*p == 'd')
			assert_int_equal(bufs_add(&reply.data, memory, memory->data, len), 0);
		else
			assert_int_equal(bufs_add_zeros(&reply.data, len), 0);
		p = *end ? end + 1 : end;
	}
}

static size_t flatten(void)
{
	size_t n = 0;

	for (unsigned i = 0; i < reply.chunks; i++) {
		const struct nbd_chunk *c = &reply.chunk[i];
		memcpy(wire + n, reply.heads + c->head_at, c->head_len);
		n += c->head_len;
		for (unsigned s = c->first_slice; s < c->first_slice + c->slices; s++) {
			memcpy(wire + n, reply.data.v[s].ptr, reply.data.v[s].len);
			n += reply.data.v[s].len;
		}
	}
	return n;
}

/* Reads the chunks back and writes them down as "data 0+4096 hole 4096+8192 done". */
static void describe(size_t len, char *out, size_t cap)
{
	struct rcur c = rcur_of(wire, len);
	size_t n = 0;

	out[0] = '\0';
	while (c.left > 0) {
		assert_int_equal(rcur_be32(&c), NBD_STRUCTURED_REPLY_MAGIC);
		unsigned flags = rcur_be16(&c), type = rcur_be16(&c);
		assert_int_equal(rcur_be64(&c), 42);
		uint32_t payload = rcur_be32(&c);
		if (type == NBD_REPLY_TYPE_OFFSET_DATA) {
			n += (size_t)snprintf(out + n, cap - n, "data %llu+%u ", (unsigned long long)rcur_be64(&c),
					      payload - 8);
			rcur_bytes(&c, payload - 8);
		} else if (type == NBD_REPLY_TYPE_OFFSET_HOLE) {
			assert_int_equal(payload, 12);
			unsigned long long off = rcur_be64(&c);
			n += (size_t)snprintf(out + n, cap - n, "hole %llu+%u ", off, rcur_be32(&c));
		} else {
			assert_int_equal(type, NBD_REPLY_TYPE_NONE);
			n += (size_t)snprintf(out + n, cap - n, "none ");
		}
		assert_int_equal(flags, c.left == 0 ? NBD_REPLY_FLAG_DONE : 0); /* P3 */
	}
	assert_false(c.bad);
}

static struct nbd_request read_of(uint64_t off, size_t len, bool df)
{
	return (struct nbd_request){.cmd = NBD_CMD_READ, .cookie = 42, .off = off, .len = (uint32_t)len, .df = df};
}

static void zeros_travel_as_holes_where_it_is_worth_while(void **state)
{
	static const struct {
		const char *pieces;
		bool df;
		const char *chunks;
	} t[] = {
	    {"d4096", false, "data 1000+4096 "},
	    {"z4096", false, "hole 1000+4096 "},
	    {"z4095", false, "data 1000+4095 "},
	    {"z512", false, "data 1000+512 "},
	    {"d4096 z8192 d100", false, "data 1000+4096 hole 5096+8192 data 13288+100 "},
	    {"z8192 d4096 z8192", false, "hole 1000+8192 data 9192+4096 hole 13288+8192 "},
	    {"d4096 z1000 d4096", false, "data 1000+9192 "},
	    {"z1000 d4096 z1000", false, "data 1000+6096 "},
	    {"z2048 z2048", false, "hole 1000+4096 "},
	    {"d1 z2048 z2048 d1", false, "data 1000+1 hole 1001+4096 data 5097+1 "},
	    {"d4096 d4096", false, "data 1000+8192 "},
	    {"z200000", false, "hole 1000+200000 "},
	    {"d0 z4096 d0", false, "hole 1000+4096 "},
	    {"d1 d0", false, "data 1000+1 "},
	    {"d4096 z8192 d100", true, "data 1000+12388 "},
	    {"z8192", true, "hole 1000+8192 "},
	    {"d1 z4096 d1 z4096 d1 z4096 d1 z4096 d1 z4096", false,
	     "data 1000+1 hole 1001+4096 data 5097+1 hole 5098+4096 data 9194+1 hole 9195+4096 data 13291+1 data "
	     "13292+8193 "},
	    {"", false, "none "},
	};
	char text[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		compose(t[i].pieces);
		struct nbd_request r = read_of(1000, reply.data.bytes, t[i].df);
		nbd_reply_read(&reply, &r, true);
		describe(flatten(), text, sizeof(text));
		assert_string_equal(text, t[i].chunks);
		bufs_release(&reply.data);
	}
}

static void a_simple_reply_carries_every_byte(void **state)
{
	(void)state;
	compose("d100 z5000 d100");
	struct nbd_request r = read_of(0, 5200, false);
	nbd_reply_read(&reply, &r, false);
	assert_int_equal(flatten(), 16 + 5200);
	assert_memory_equal(wire, "\x67\x44\x66\x98\0\0\0\0\0\0\0\0\0\0\0\x2a\x5a", 17);
	assert_int_equal(wire[16 + 100], 0);
	bufs_release(&reply.data);
}

static void an_error_is_a_chunk_with_text_where_negotiated_and_a_number_elsewhere(void **state)
{
	struct nbd_request r = read_of(0, 100, false);

	(void)state;
	compose("d100");
	nbd_reply_error(&reply, &r, true, NBD_EIO, "sad");
	assert_int_equal(reply.data.n, 0);
	assert_int_equal(flatten(), 29);
	assert_memory_equal(wire, "\x66\x8e\x33\xef\0\1\x80\1\0\0\0\0\0\0\0\x2a\0\0\0\x09\0\0\0\5\0\3sad", 29);
	compose("d100");
	nbd_reply_error(&reply, &r, false, NBD_EIO, "sad");
	assert_int_equal(flatten(), 16);
	assert_memory_equal(wire, "\x67\x44\x66\x98\0\0\0\5\0\0\0\0\0\0\0\x2a", 16);
	compose("");
	nbd_reply_error(&reply, &r, true, NBD_EIO, NULL);
	assert_int_equal(flatten(), 26);
}

static void a_long_error_text_is_cut(void **state)
{
	char text[1000];
	struct nbd_request r = read_of(0, 100, false);

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	compose("");
	nbd_reply_error(&reply, &r, true, NBD_EIO, text);
	assert_int_equal(flatten(), 26 + NBD_ERROR_TEXT_MAX);
}

static void success_of_a_write_is_a_simple_reply_even_when_structured(void **state)
{
	struct nbd_request r = {.cmd = NBD_CMD_WRITE, .cookie = 42, .len = 1};

	(void)state;
	compose("");
	nbd_reply_ok(&reply, &r, true);
	assert_int_equal(flatten(), 16);
	assert_memory_equal(wire, "\x67\x44\x66\x98\0\0\0\0\0\0\0\0\0\0\0\x2a", 16);
}

static void errors_of_ours_become_errors_of_the_protocol(void **state)
{
	static const struct {
		int rc;
		uint32_t error;
	} t[] = {
	    {0, 0},
	    {-EPERM, NBD_EPERM},
	    {-EROFS, NBD_EPERM},
	    {-EACCES, NBD_EPERM},
	    {-EIO, NBD_EIO},
	    {-ENOMEM, NBD_ENOMEM},
	    {-EINVAL, NBD_EINVAL},
	    {-ENOSPC, NBD_ENOSPC},
	    {-EDQUOT, NBD_ENOSPC},
	    {-EFBIG, NBD_ENOSPC},
	    {-ESHUTDOWN, NBD_ESHUTDOWN},
	    {-MYFS_E_FENCED, NBD_ESHUTDOWN},
	    {-MYFS_E_UNREADABLE, NBD_EIO},
	    {-MYFS_E_QUORUM, NBD_ESHUTDOWN},
	    {-EOPNOTSUPP, NBD_EINVAL},
	    {-EOVERFLOW, NBD_EIO},
	    {-ETIMEDOUT, NBD_ESHUTDOWN},
	};
	struct nbd_request r = {.cmd = NBD_CMD_WRITE_ZEROES};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		assert_int_equal(nbd_error_of(t[i].rc, &r), t[i].error);
	r.fast_zero = true;
	assert_int_equal(nbd_error_of(-EOPNOTSUPP, &r), NBD_ENOTSUP);
}

static void transmission_flags_promise_only_what_is_there(void **state)
{
	struct nbd_export_info info = {0};

	(void)state;
	unsigned f = nbd_transmission_flags(&info, false);
	assert_int_equal(f, NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE |
				NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO);
	assert_true(nbd_transmission_flags(&info, true) & NBD_FLAG_SEND_DF);
	info = (struct nbd_export_info){.read_only = true, .multi_conn = true, .rotational = true};
	f = nbd_transmission_flags(&info, false);
	assert_int_equal(f, NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE |
				NBD_FLAG_READ_ONLY | NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_ROTATIONAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(zeros_travel_as_holes_where_it_is_worth_while),
	    cmocka_unit_test(a_simple_reply_carries_every_byte),
	    cmocka_unit_test(an_error_is_a_chunk_with_text_where_negotiated_and_a_number_elsewhere),
	    cmocka_unit_test(a_long_error_text_is_cut),
	    cmocka_unit_test(success_of_a_write_is_a_simple_reply_even_when_structured),
	    cmocka_unit_test(errors_of_ours_become_errors_of_the_protocol),
	    cmocka_unit_test(transmission_flags_promise_only_what_is_there),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
