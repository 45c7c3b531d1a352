/* test_cli.c - the pure parts of the command line: sizes, times, names, hints, layouts, placement. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "cli/size.h"
#include "cli/volume.h"
#include "cli/words.h"

static void sizes_are_powers_of_1024(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {{"0", 0}, {"4096", 4096}, {"10G", GIB(10)}, {"10g", GIB(10)}, {"10GiB", GIB(10)}, {"512K", KIB(512)}, {"1T", GIB(1024)}, {"3MiB", MIB(3)}, {"100B", 100}, {"16383P", UINT64_C(16383) << 50}};
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		uint64_t bytes = 1;
		assert_int_equal(size_parse(good[i].text, &bytes, NULL), 0);
		assert_int_equal(bytes, good[i].bytes);
	}
}

static void ambiguous_and_wrong_sizes_are_refused_with_a_hint(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "G", "10X", "-5", "1.5G", "10 G", "99999999999999999999", "16384P", "20000000000G"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		uint64_t bytes = 77;
		struct err e = ERR_INIT;
		assert_true(size_parse(bad[i], &bytes, &e) < 0);
		assert_int_equal(bytes, 77);
		assert_true(e.text[0] != '\0');
	}
	struct err e = ERR_INIT;
	uint64_t bytes;
	assert_int_equal(size_parse("10GB", &bytes, &e), -EINVAL);
	assert_non_null(strstr(e.text, "10G (= 10 GiB) or 10000000000"));
}

static void a_plus_makes_a_size_relative(void **state)
{
	(void)state;
	bool relative;
	uint64_t bytes;
	assert_int_equal(size_parse_change("+5G", &relative, &bytes, NULL), 0);
	assert_true(relative);
	assert_int_equal(bytes, GIB(5));
	assert_int_equal(size_parse_change("5G", &relative, &bytes, NULL), 0);
	assert_false(relative);
}

static void sizes_print_as_people_read_them(void **state)
{
	(void)state;
	static const struct {
		uint64_t bytes;
		const char *text;
	} t[] = {{0, "0 B"}, {1023, "1023 B"}, {1024, "1.0 KiB"}, {1048575, "1.0 MiB"}, {GIB(10), "10.0 GiB"}, {MIB(1536), "1.5 GiB"}, {UINT64_MAX, "16384.0 PiB"}};
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		char out[SIZE_TEXT];
		assert_string_equal(size_text(t[i].bytes, out), t[i].text);
	}
}

static void times_parse_and_print(void **state)
{
	(void)state;
	uint64_t s;
	char out[SIZE_TEXT];
	assert_int_equal(duration_parse("5m", &s, NULL), 0);
	assert_int_equal(s, 300);
	assert_int_equal(duration_parse("7d", &s, NULL), 0);
	assert_int_equal(s, 604800);
	assert_int_equal(duration_parse("5 m", &s, NULL), -EINVAL);
	assert_int_equal(duration_parse("m", &s, NULL), -EINVAL);
	assert_string_equal(duration_text(130, out), "2 min 10 s");
	assert_string_equal(duration_text(187500, out), "2 d 4 h");
}

static void names_and_specs_are_checked(void **state)
{
	(void)state;
	char volume[64], name[64];
	assert_int_equal(spec_parse("vol/lun-1.a_b", volume, name, NULL), 0);
	assert_string_equal(volume, "vol");
	assert_string_equal(name, "lun-1.a_b");
	static const char *const bad[] = {"vol", "vol/", "/lun", "vol/a/b", "Vol/lun", "vol/-x", "vol/.x", "vol/l un", "vol/\xc3\xa9",
	                                  "vol/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(spec_parse(bad[i], volume, name, NULL), -EINVAL);
}

static void near_words_have_a_small_distance(void **state)
{
	(void)state;
	assert_int_equal(word_distance("status", "status"), 0);
	assert_int_equal(word_distance("stauts", "status"), 1);
	assert_int_equal(word_distance("creat", "create"), 1);
	assert_int_equal(word_distance("", "abc"), 3);
	assert_true(word_distance("heal", "volume") > 3);
}

static void layouts_say_what_they_really_survive(void **state)
{
	(void)state;
	static const struct {
		uint32_t k, r, survives;
	} t[] = {{2, 1, 1}, {4, 2, 2}, {8, 3, 3}, {3, 3, 2}, {2, 2, 1}, {1, 2, 1}, {1, 1, 0}};
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		assert_int_equal(layout_survives(t[i].k, t[i].r), t[i].survives);
	uint32_t k, r;
	assert_int_equal(layout_parse("8+3", &k, &r, NULL), 0);
	static const char *const bad[] = {"4", "4+", "+2", "1+2", "4+0", "40+2", "4+2x", "4-2"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(layout_parse(bad[i], &k, &r, NULL), -EINVAL);
}

static struct volume_plan *plan_of(uint32_t k, uint32_t r, const char *const *nodes, size_t n)
{
	static struct volume_plan p;
	p = (struct volume_plan){.k = k, .r = r, .sets = (uint32_t)(n / (k + r)), .n_bricks = n};
	for (size_t i = 0; i < n; i++) {
		snprintf(p.bricks[i].node, REG_NAME, "%s", nodes[i]);
		snprintf(p.bricks[i].path, REG_PATH, "/b%zu", i);
	}
	return &p;
}

static void a_node_may_not_hold_more_of_a_set_than_it_survives(void **state)
{
	(void)state;
	static const char *const two_each[] = {"n1", "n1", "n2", "n2", "n3", "n3"}, *const three_on_one[] = {"n1", "n1", "n1", "n2", "n3", "n4"};
	struct err e = ERR_INIT;
	assert_int_equal(volume_check_placement(plan_of(4, 2, two_each, 6), &e), 0);
	assert_int_equal(volume_check_placement(plan_of(4, 2, three_on_one, 6), &e), -EPERM);
	assert_non_null(strstr(e.text, "node n1"));
}

static void bricks_are_spread_over_nodes_before_sets_are_cut(void **state)
{
	(void)state;
	/* Two 2+1 sets given node by node: as typed, each set would sit on one node. */
	static const char *const typed[] = {"n1", "n1", "n2", "n2", "n3", "n3"};
	struct volume_plan *p = plan_of(2, 1, typed, 6);
	assert_int_equal(volume_check_placement(p, NULL), -EPERM);
	volume_spread(p);
	assert_int_equal(volume_check_placement(p, NULL), 0);
	assert_string_equal(p->bricks[0].node, "n1");
	assert_string_equal(p->bricks[1].node, "n2");
	assert_string_equal(p->bricks[2].node, "n3");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_powers_of_1024),
		cmocka_unit_test(ambiguous_and_wrong_sizes_are_refused_with_a_hint),
		cmocka_unit_test(a_plus_makes_a_size_relative),
		cmocka_unit_test(sizes_print_as_people_read_them),
		cmocka_unit_test(times_parse_and_print),
		cmocka_unit_test(names_and_specs_are_checked),
		cmocka_unit_test(near_words_have_a_small_distance),
		cmocka_unit_test(layouts_say_what_they_really_survive),
		cmocka_unit_test(a_node_may_not_hold_more_of_a_set_than_it_survives),
		cmocka_unit_test(bricks_are_spread_over_nodes_before_sets_are_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
