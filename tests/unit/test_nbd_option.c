/* test_nbd_option.c - what the option parser lets through, and what it answers to everything else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "handlers/nbd/option.h"

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})
#define TEXT(s)    (const uint8_t *)(s), sizeof(s) - 1

struct option_case {
	const char *what;
	uint32_t id;
	const uint8_t *data;
	size_t len;
	uint32_t reply; /* 0: accepted */
};

static const struct option_case cases[] = {
    {"list without data", NBD_OPT_LIST, NULL, 0, 0},
    {"list with data", NBD_OPT_LIST, TEXT("x"), NBD_REP_ERR_INVALID},
    {"starttls with data", NBD_OPT_STARTTLS, TEXT("x"), NBD_REP_ERR_INVALID},
    {"structured reply with data", NBD_OPT_STRUCTURED_REPLY, TEXT("x"), NBD_REP_ERR_INVALID},
    {"abort with data", NBD_OPT_ABORT, TEXT("bye"), 0},
    {"option 4, withdrawn", 4, NULL, 0, NBD_REP_ERR_UNSUP},
    {"option 11, experimental", 11, NULL, 0, NBD_REP_ERR_UNSUP},
    {"option 0", 0, NULL, 0, NBD_REP_ERR_UNSUP},
    {"option 2^32-1", UINT32_MAX, TEXT("anything"), NBD_REP_ERR_UNSUP},
    {"go of nothing at all", NBD_OPT_GO, NULL, 0, NBD_REP_ERR_INVALID},
    {"go without room for the count", NBD_OPT_GO, TEXT("\0\0\0\3a/b"), NBD_REP_ERR_INVALID},
    {"go with half a count", NBD_OPT_GO, TEXT("\0\0\0\3a/b\0"), NBD_REP_ERR_INVALID},
    {"go", NBD_OPT_GO, TEXT("\0\0\0\3a/b\0\0"), 0},
    {"go with one request", NBD_OPT_GO, TEXT("\0\0\0\3a/b\0\1\0\3"), 0},
    {"go with a request missing", NBD_OPT_GO, TEXT("\0\0\0\3a/b\0\2\0\3"), NBD_REP_ERR_INVALID},
    {"go with a byte too many", NBD_OPT_GO, TEXT("\0\0\0\3a/b\0\1\0\3\0"), NBD_REP_ERR_INVALID},
    {"go with 65535 requests promised", NBD_OPT_GO, TEXT("\0\0\0\0\xff\xff"), NBD_REP_ERR_INVALID},
    {"go with a name longer than the option", NBD_OPT_GO, TEXT("\0\0\0\4a/b\0\0"), NBD_REP_ERR_INVALID},
    {"go with a name of 2^32-1", NBD_OPT_GO,
     TEXT("\xff\xff\xff\xff"
	  "a/b\0\0"),
     NBD_REP_ERR_INVALID},
    {"go with NUL in the name", NBD_OPT_GO, TEXT("\0\0\0\3a\0b\0\0"), NBD_REP_ERR_INVALID},
    {"go with a lone continuation byte", NBD_OPT_GO, TEXT("\0\0\0\1\x80\0\0"), NBD_REP_ERR_INVALID},
    {"go with an overlong slash", NBD_OPT_GO, TEXT("\0\0\0\2\xc0\xaf\0\0"), NBD_REP_ERR_INVALID},
    {"go with a surrogate", NBD_OPT_GO, TEXT("\0\0\0\3\xed\xa0\x80\0\0"), NBD_REP_ERR_INVALID},
    {"go with a cut sequence", NBD_OPT_GO, TEXT("\0\0\0\2\xe2\x82\0\0"), NBD_REP_ERR_INVALID},
    {"go beyond U+10FFFF", NBD_OPT_GO, TEXT("\0\0\0\4\xf4\x90\x80\x80\0\0"), NBD_REP_ERR_INVALID},
    {"go with two, three and four byte letters", NBD_OPT_GO, TEXT("\0\0\0\x09\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xbf\0\0"),
     0},
    {"meta of nothing at all", NBD_OPT_SET_META_CONTEXT, NULL, 0, NBD_REP_ERR_INVALID},
    {"meta without a count", NBD_OPT_SET_META_CONTEXT, TEXT("\0\0\0\1a"), NBD_REP_ERR_INVALID},
    {"meta without queries", NBD_OPT_SET_META_CONTEXT, TEXT("\0\0\0\1a\0\0\0\0"), 0},
    {"meta with a query", NBD_OPT_SET_META_CONTEXT, TEXT("\0\0\0\1a\0\0\0\1\0\0\0\5base:"), 0},
    {"meta with a query missing", NBD_OPT_SET_META_CONTEXT, TEXT("\0\0\0\1a\0\0\0\2\0\0\0\5base:"),
     NBD_REP_ERR_INVALID},
    {"meta with a query too long for the option", NBD_OPT_LIST_META_CONTEXT, TEXT("\0\0\0\1a\0\0\0\1\0\0\0\6base:"),
     NBD_REP_ERR_INVALID},
    {"meta with 2^32-1 queries promised", NBD_OPT_LIST_META_CONTEXT, TEXT("\0\0\0\1a\xff\xff\xff\xff\0\0\0\0"),
     NBD_REP_ERR_INVALID},
    {"meta with bytes left over", NBD_OPT_LIST_META_CONTEXT, TEXT("\0\0\0\1a\0\0\0\0\0"), NBD_REP_ERR_INVALID},
    {"meta with NUL in a query", NBD_OPT_LIST_META_CONTEXT, TEXT("\0\0\0\1a\0\0\0\1\0\0\0\2:\0"), NBD_REP_ERR_INVALID},
};

static struct nbd_option opt;

static void the_table_of_options_is_answered_as_written(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct option_case *c = &cases[i];
		const char *why = NULL;
		uint32_t reply = nbd_option_parse(c->id, c->data, c->len, &opt, &why);
		if (reply != c->reply)
			fail_msg("%s: answered %#x, not %#x", c->what, reply, c->reply);
		if (reply != 0)
			assert_non_null(why);
	}
}

static void every_cut_of_a_good_option_is_refused_or_shorter(void **state)
{
	static const uint8_t go[] = "\0\0\0\7vol/lun\0\2\0\1\0\3";

	(void)state;
	for (size_t len = 0; len < sizeof(go) - 1; len++) {
		uint8_t exact[sizeof(go)]; /* copied so that a sanitizer sees one byte too far */
		const char *why;
		memcpy(exact, go, len);
		assert_int_equal(nbd_option_parse(NBD_OPT_GO, exact, len, &opt, &why), NBD_REP_ERR_INVALID);
	}
}

static void go_tells_name_and_wishes(void **state)
{
	const char *why;

	(void)state;
	assert_int_equal(nbd_option_parse(NBD_OPT_GO, TEXT("\0\0\0\7vol/lun\0\4\0\1\0\3\0\2\x12\x34"), &opt, &why), 0);
	assert_string_equal(opt.name, "vol/lun");
	assert_int_equal(opt.name_len, 7);
	assert_true(opt.wants_name && opt.wants_description && opt.wants_block_size);
	assert_int_equal(nbd_option_parse(NBD_OPT_GO, TEXT("\0\0\0\0\0\0"), &opt, &why), 0);
	assert_string_equal(opt.name, "");
	assert_false(opt.wants_name || opt.wants_description || opt.wants_block_size);
}

static void meta_queries_are_matched_exactly(void **state)
{
	static const struct {
		const uint8_t *data;
		size_t len;
		uint32_t queries;
		bool allocation, base;
	} t[] = {
	    {TEXT("\0\0\0\0\0\0\0\0"), 0, false, false},
	    {TEXT("\0\0\0\0\0\0\0\1\0\0\0\5base:"), 1, false, true},
	    {TEXT("\0\0\0\0\0\0\0\1\0\0\0\xf"
		  "base:allocation"),
	     1, true, false},
	    {TEXT("\0\0\0\0\0\0\0\1\0\0\0\xe"
		  "base:allocatio"),
	     1, false, false},
	    {TEXT("\0\0\0\0\0\0\0\1\0\0\0\4base"), 1, false, false},
	    {TEXT("\0\0\0\0\0\0\0\2\0\0\0\5qemu:\0\0\0\xf"
		  "base:allocation"),
	     2, true, false},
	    {TEXT("\0\0\0\0\0\0\0\1\0\0\0\0"), 1, false, false},
	};
	const char *why;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		assert_int_equal(nbd_option_parse(NBD_OPT_SET_META_CONTEXT, t[i].data, t[i].len, &opt, &why), 0);
		assert_int_equal(opt.queries, t[i].queries);
		assert_int_equal(opt.asks_allocation, t[i].allocation);
		assert_int_equal(opt.asks_base, t[i].base);
	}
}

static void a_name_of_4096_bytes_is_taken_and_one_of_4097_is_too_big(void **state)
{
	static uint8_t data[6 + NBD_STRING_MAX + 1];
	const char *why;

	(void)state;
	memset(data, 'n', sizeof(data));
	assert_int_equal(nbd_option_parse(NBD_OPT_EXPORT_NAME, data, NBD_STRING_MAX, &opt, &why), 0);
	assert_int_equal(opt.name_len, NBD_STRING_MAX);
	assert_int_equal(strlen(opt.name), NBD_STRING_MAX);
	assert_int_not_equal(nbd_option_parse(NBD_OPT_EXPORT_NAME, data, NBD_STRING_MAX + 1, &opt, &why), 0);

	memcpy(data, "\0\0\x10\1", 4); /* a name of 4097 bytes, no information requests */
	memset(data + sizeof(data) - 2, 0, 2);
	assert_int_equal(nbd_option_parse(NBD_OPT_GO, data, sizeof(data), &opt, &why), NBD_REP_ERR_TOO_BIG);
}

static void unknown_client_flags_end_the_connection(void **state)
{
	bool fixed = false, no_zeroes = false;

	(void)state;
	assert_int_equal(nbd_client_flags_parse((const uint8_t *)"\0\0\0\3", &fixed, &no_zeroes), 0);
	assert_true(fixed && no_zeroes);
	assert_int_equal(nbd_client_flags_parse((const uint8_t *)"\0\0\0\0", &fixed, &no_zeroes), 0);
	assert_false(fixed || no_zeroes);
	assert_int_equal(nbd_client_flags_parse((const uint8_t *)"\0\0\0\7", &fixed, &no_zeroes), -EPROTO);
	assert_int_equal(nbd_client_flags_parse((const uint8_t *)"\x80\0\0\3", &fixed, &no_zeroes), -EPROTO);
}

static void an_option_without_the_magic_ends_the_connection(void **state)
{
	uint32_t id = 77, len = 77;

	(void)state;
	assert_int_equal(nbd_option_head_parse((const uint8_t *)"IHAVEOPT\0\0\0\7\0\0\1\0", &id, &len), 0);
	assert_int_equal(id, 7);
	assert_int_equal(len, 256);
	assert_int_equal(nbd_option_head_parse((const uint8_t *)"IHAVEOPS\0\0\0\1\0\0\0\0", &id, &len), -EPROTO);
	assert_int_equal(id, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_table_of_options_is_answered_as_written),
	    cmocka_unit_test(every_cut_of_a_good_option_is_refused_or_shorter),
	    cmocka_unit_test(go_tells_name_and_wishes),
	    cmocka_unit_test(meta_queries_are_matched_exactly),
	    cmocka_unit_test(a_name_of_4096_bytes_is_taken_and_one_of_4097_is_too_big),
	    cmocka_unit_test(unknown_client_flags_end_the_connection),
	    cmocka_unit_test(an_option_without_the_magic_ends_the_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
