/* Errors, identities, checksums, bitmaps, prng, lists: the pure parts of core/base. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/bitmap.h"
#include "core/base/crc32c.h"
#include "core/base/err.h"
#include "core/base/gfid.h"
#include "core/base/list.h"
#include "core/base/log.h"
#include "core/base/prng.h"

/* ---- err ---- */

static void every_private_code_has_an_errno_class_and_a_text(void **state)
{
	(void)state;
	for (int code = MYFS_E_FENCED; code < MYFS_E_LAST; code++) {
		int class = err_class(-code);
		assert_true(class < 0 && class > -4096);
		assert_string_not_equal(err_name(-code), "unknown error");
	}
	assert_int_equal(err_class(-MYFS_E_FENCED), -ESHUTDOWN);
	assert_int_equal(err_class(-MYFS_E_GONE), -ECONNRESET);
}

static void errno_codes_and_success_pass_through_the_class_map(void **state)
{
	(void)state;
	assert_int_equal(err_class(-EIO), -EIO);
	assert_int_equal(err_class(0), 0);
	assert_int_equal(err_class(-MYFS_E_LAST), -MYFS_E_LAST);
	assert_string_equal(err_name(-ENOENT), "No such file or directory");
	assert_string_equal(err_name(-MYFS_E_LAST), "unknown error");
	assert_string_equal(err_name(INT32_MIN), "unknown error");
}

static void a_text_grows_in_front_on_the_way_up(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(err_set(&e, -MYFS_E_QUORUM, "%d of %d bricks answered", 3, 6), -MYFS_E_QUORUM);
	assert_int_equal(err_wrap(&e, -EIO, "set %d", 2), -MYFS_E_QUORUM);
	assert_int_equal(err_wrap(&e, -EIO, "open %s", "vol/lun"), -MYFS_E_QUORUM);
	assert_string_equal(e.text, "open vol/lun: set 2: 3 of 6 bricks answered");
}

static void wrapping_an_empty_error_names_the_code(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(err_wrap(&e, -ENOENT, "read key"), -ENOENT);
	assert_string_equal(e.text, "read key: No such file or directory");
	assert_int_equal(e.code, -ENOENT);
}

static void without_a_place_for_text_only_the_code_travels(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_wrap(NULL, -EPERM, "x"), -EPERM);
}

static void a_text_too_long_ends_in_dots(void **state)
{
	struct err e = ERR_INIT;
	char big[2 * ERR_TEXT_MAX];

	(void)state;
	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	err_set(&e, -EIO, "%s", big);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	assert_string_equal(e.text + ERR_TEXT_MAX - 4, "...");
	err_wrap(&e, -EIO, "outer");
	assert_int_equal(strncmp(e.text, "outer: aaa", 10), 0);
	assert_string_equal(e.text + ERR_TEXT_MAX - 4, "...");
	err_wrap(&e, -EIO, "%s", big);
	assert_string_equal(e.text + ERR_TEXT_MAX - 4, "...");
}

/* ---- gfid ---- */

static void gfid_text_round_trips_in_either_case(void **state)
{
	struct gfid g;
	char text[GFID_TEXT];

	(void)state;
	assert_int_equal(gfid_parse("BE318638-E8A0-4C6D-977D-7A937AA84806", &g), 0);
	assert_true(gfid_eq(&g, &GFID_SHARD_DIR));
	assert_string_equal(gfid_text(&g, text), "be318638-e8a0-4c6d-977d-7a937aa84806");
	assert_string_equal(gfid_text(&GFID_ROOT, text), "00000000-0000-0000-0000-000000000001");
	assert_string_equal(gfid_text(&GFID_BLOCK_DIR, text), "6d796673-0000-4000-8000-000000000001");
	assert_true(gfid_is_null(&GFID_NULL));
}

static void malformed_gfid_text_is_refused_and_leaves_the_result_alone(void **state)
{
	static const char *bad[] = {"",
				    "x",
				    "be318638-e8a0-4c6d-977d-7a937aa8480",
				    "be318638-e8a0-4c6d-977d-7a937aa848060",
				    "be318638e8a04c6d977d7a937aa84806",
				    "ge318638-e8a0-4c6d-977d-7a937aa84806",
				    "be318638-e8a0-4c6d-977d_7a937aa84806"};
	struct gfid g = GFID_ROOT;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(gfid_parse(bad[i], &g), -EINVAL);
	assert_true(gfid_eq(&g, &GFID_ROOT));
}

static void a_random_gfid_is_a_version_4_uuid(void **state)
{
	uint8_t random[16];

	(void)state;
	memset(random, 0xff, sizeof(random));
	struct gfid g = gfid_from_random(random);
	assert_int_equal(g.b[6], 0x4f);
	assert_int_equal(g.b[8], 0xbf);
	assert_int_equal(g.b[15], 0xff);
}

static void shard_gfids_are_fixed_distinct_and_start_with_the_base(void **state)
{
	struct gfid base = GFID_SHARD_DIR;
	char text[GFID_TEXT];

	(void)state;
	struct gfid g0 = gfid_of_shard(&base, 0);
	struct gfid g1 = gfid_of_shard(&base, 1);
	struct gfid g2 = gfid_of_shard(&base, 2);
	assert_true(gfid_eq(&g0, &base));
	assert_false(gfid_eq(&g1, &g2));
	assert_int_equal(g1.b[6] >> 4, 5);
	assert_int_equal(g1.b[8] >> 6, 2);
	/* On-disk format: uuid5(be318638-..., "be318638-e8a0-4c6d-977d-7a937aa84806.1"), by another implementation. */
	assert_string_equal(gfid_text(&g1, text), "b0259b07-d150-5d1f-af49-a0ba295fb6e2");
}

/* ---- crc32c ---- */

static void crc32c_matches_rfc_3720_vectors(void **state)
{
	uint8_t b[32];

	(void)state;
	memset(b, 0, sizeof(b));
	assert_int_equal(crc32c(b, 32), 0x8a9136aa);
	memset(b, 0xff, sizeof(b));
	assert_int_equal(crc32c(b, 32), 0x62a8ab43);
	for (unsigned i = 0; i < 32; i++)
		b[i] = (uint8_t)i;
	assert_int_equal(crc32c(b, 32), 0x46dd794e);
	assert_int_equal(crc32c("123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(NULL, 0), 0);
}

static void crc32c_continues_across_a_cut_anywhere(void **state)
{
	uint8_t b[300];
	struct prng p;

	(void)state;
	prng_seed(&p, 1);
	prng_bytes(&p, b, sizeof(b));
	for (size_t cut = 0; cut <= sizeof(b); cut++)
		assert_int_equal(crc32c_more(crc32c(b, cut), b + cut, sizeof(b) - cut), crc32c(b, sizeof(b)));
}

static void the_zero_block_constant_is_the_crc_of_a_zero_block(void **state)
{
	static const uint8_t zero[MYFS_BLOCK];

	(void)state;
	assert_int_equal(crc32c(zero, sizeof(zero)), CRC32C_ZERO_BLOCK);
}

static void zero_detection_sees_a_single_set_bit_anywhere(void **state)
{
	static uint8_t b[MYFS_BLOCK];

	(void)state;
	assert_true(mem_is_zero(b, sizeof(b)));
	for (size_t i = 0; i < sizeof(b); i += 37) {
		b[i] = 0x10;
		assert_false(mem_is_zero(b, sizeof(b)));
		b[i] = 0;
	}
	b[sizeof(b) - 1] = 1;
	assert_false(mem_is_zero(b, sizeof(b)));
	assert_true(mem_is_zero(b, sizeof(b) - 64));
	b[sizeof(b) - 1] = 0;
}

/* ---- bitmap ---- */

static void bitmap_ranges_agree_with_single_bits(void **state)
{
	enum { BITS = 200 };
	struct prng p;

	(void)state;
	prng_seed(&p, 7);
	for (int round = 0; round < 500; round++) {
		uint64_t a[BITMAP_WORDS(BITS)] = {0}, b[BITMAP_WORDS(BITS)] = {0};
		for (int i = 0; i < 4; i++) {
			size_t first = prng_below(&p, BITS);
			size_t count = prng_below(&p, BITS - first + 1);
			bool set = prng_chance(&p, 0.6);
			(set ? bitmap_set_range : bitmap_clear_range)(a, first, count);
			for (size_t j = first; j < first + count; j++)
				(set ? bitmap_set : bitmap_clear)(b, j);
		}
		assert_memory_equal(a, b, sizeof(a));
		size_t count = 0;
		for (size_t j = 0; j < BITS; j++)
			count += bitmap_test(b, j);
		assert_int_equal(bitmap_count(a, BITS), count);
	}
}

static void bitmap_searches_agree_with_a_walk(void **state)
{
	enum { BITS = 130 };
	uint64_t w[BITMAP_WORDS(BITS)];
	struct prng p;

	(void)state;
	prng_seed(&p, 9);
	for (int round = 0; round < 300; round++) {
		bool mostly = round % 2;
		memset(w, mostly ? 0xff : 0, sizeof(w));
		for (int i = 0; i < 3; i++) {
			size_t bit = prng_below(&p, BITS);
			(mostly ? bitmap_clear : bitmap_set)(w, bit);
		}
		w[2] |= ~UINT64_C(0) << 2; /* bits past the end must not be reported */
		for (size_t from = 0; from <= BITS; from++) {
			size_t one = from, zero = from;
			while (one < BITS && !bitmap_test(w, one))
				one++;
			while (zero < BITS && bitmap_test(w, zero))
				zero++;
			assert_int_equal(bitmap_next(w, BITS, from), one);
			assert_int_equal(bitmap_next_clear(w, BITS, from), zero);
		}
	}
}

/* ---- prng ---- */

static void the_same_seed_gives_the_same_sequence(void **state)
{
	struct prng a, b, c;

	(void)state;
	prng_seed(&a, 42);
	prng_seed(&b, 42);
	prng_seed(&c, 43);
	bool differs = false;
	for (int i = 0; i < 100; i++) {
		uint64_t v = prng_u64(&a);
		assert_true(v == prng_u64(&b));
		differs |= v != prng_u64(&c);
	}
	assert_true(differs);
}

static void xoshiro_matches_its_definition_from_a_known_state(void **state)
{
	struct prng p = {.s = {1, 2, 3, 4}};

	(void)state;
	assert_true(prng_u64(&p) == 11520);
	assert_true(prng_u64(&p) == 0);
	assert_true(prng_u64(&p) == 1509978240);
}

static void bounded_randomness_stays_below_and_reaches_every_value(void **state)
{
	struct prng p;
	unsigned seen[7] = {0};

	(void)state;
	prng_seed(&p, 3);
	for (int i = 0; i < 7000; i++) {
		uint64_t v = prng_below(&p, 7);
		assert_true(v < 7);
		seen[v]++;
	}
	for (int i = 0; i < 7; i++)
		assert_in_range(seen[i], 800, 1200);
	assert_true(prng_below(&p, 1) == 0);
	assert_false(prng_chance(&p, 0.0));
	assert_true(prng_chance(&p, 1.0));
}

/* ---- list, base ---- */

struct item {
	int value;
	struct list node;
};

static void a_list_keeps_order_and_survives_removal_while_walking(void **state)
{
	struct list head;
	struct item items[4] = {{.value = 0}, {.value = 1}, {.value = 2}, {.value = 3}};

	(void)state;
	list_init(&head);
	assert_true(list_empty(&head));
	for (int i = 1; i < 4; i++)
		list_push_back(&head, &items[i].node);
	list_push_front(&head, &items[0].node);
	int expect = 0;
	list_for_each (it, &head, struct item, node)
		assert_int_equal(it->value, expect++);
	list_for_each_safe (it, &head, struct item, node) {
		if (it->value % 2 == 0)
			list_del(&it->node);
	}
	assert_false(list_linked(&items[0].node));
	assert_int_equal(list_first(&head, struct item, node)->value, 1);
	assert_ptr_equal(items[1].node.next, &items[3].node);
}

static void a_range_check_does_not_wrap(void **state)
{
	(void)state;
	assert_true(range_inside(0, 0, 0));
	assert_true(range_inside(4, 4, 8));
	assert_false(range_inside(4, 5, 8));
	assert_false(range_inside(9, 0, 8));
	assert_false(range_inside(UINT64_MAX, 2, 8));
	assert_false(range_inside(2, UINT64_MAX, 8));
}

/* ---- log ---- */

/* Runs fn with stderr in a pipe and returns what it wrote. */
static void capture(void (*fn)(void), char *out, size_t cap)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	int saved = dup(STDERR_FILENO);
	assert_true(saved >= 0);
	dup2(fds[1], STDERR_FILENO);
	fn();
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fds[1]);
	ssize_t n = read(fds[0], out, cap - 1);
	out[n > 0 ? n : 0] = '\0';
	close(fds[0]);
}

static void log_one_multi_line_event(void)
{
	log_set_name("brickd");
	log_warn("peer said \"%s\"", "a\nb");
	log_debug("not shown");
	log_set_name("");
}

static void a_log_event_is_one_prefixed_line_whatever_it_holds(void **state)
{
	char out[1024];

	(void)state;
	capture(log_one_multi_line_event, out, sizeof(out));
	assert_string_equal(out, "<4>brickd: peer said \"a b\"\n");
}

static void log_a_thousand_times(void)
{
	for (int i = 0; i < 1000; i++)
		log_info("again and again %d", i);
}

static void a_repeating_call_site_is_limited(void **state)
{
	char out[65536];
	unsigned lines = 0;

	(void)state;
	capture(log_a_thousand_times, out, sizeof(out));
	for (char *p = out; *p; p++)
		lines += *p == '\n';
	assert_in_range(lines, 10, 40); /* the second may turn while it runs */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_private_code_has_an_errno_class_and_a_text),
	    cmocka_unit_test(errno_codes_and_success_pass_through_the_class_map),
	    cmocka_unit_test(a_text_grows_in_front_on_the_way_up),
	    cmocka_unit_test(wrapping_an_empty_error_names_the_code),
	    cmocka_unit_test(without_a_place_for_text_only_the_code_travels),
	    cmocka_unit_test(a_text_too_long_ends_in_dots),
	    cmocka_unit_test(gfid_text_round_trips_in_either_case),
	    cmocka_unit_test(malformed_gfid_text_is_refused_and_leaves_the_result_alone),
	    cmocka_unit_test(a_random_gfid_is_a_version_4_uuid),
	    cmocka_unit_test(shard_gfids_are_fixed_distinct_and_start_with_the_base),
	    cmocka_unit_test(crc32c_matches_rfc_3720_vectors),
	    cmocka_unit_test(crc32c_continues_across_a_cut_anywhere),
	    cmocka_unit_test(the_zero_block_constant_is_the_crc_of_a_zero_block),
	    cmocka_unit_test(zero_detection_sees_a_single_set_bit_anywhere),
	    cmocka_unit_test(bitmap_ranges_agree_with_single_bits),
	    cmocka_unit_test(bitmap_searches_agree_with_a_walk),
	    cmocka_unit_test(the_same_seed_gives_the_same_sequence),
	    cmocka_unit_test(xoshiro_matches_its_definition_from_a_known_state),
	    cmocka_unit_test(bounded_randomness_stays_below_and_reaches_every_value),
	    cmocka_unit_test(a_list_keeps_order_and_survives_removal_while_walking),
	    cmocka_unit_test(a_range_check_does_not_wrap),
	    cmocka_unit_test(a_log_event_is_one_prefixed_line_whatever_it_holds),
	    cmocka_unit_test(a_repeating_call_site_is_limited),
	};
	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
