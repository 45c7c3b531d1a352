/* test_brick_delay.c - brick/debug_delay.h: what is accepted, and that the share held back is the one asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "brick/debug_delay.h"

static void percent_and_time_are_read(void **state)
{
	struct debug_delay d;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(debug_delay_parse("10%:100ms", &d, &e), 0);
	assert_int_equal(d.percent, 10);
	assert_int_equal(d.ns, 100 * NS_PER_MS);
	assert_int_equal(debug_delay_parse("100%:10000ms", &d, &e), 0);
}

static void anything_else_is_refused(void **state)
{
	static const char *const bad[] = {"", "10", "10%", "10%:", "10%:100", "0%:5ms", "101%:5ms", "5%:0ms", "5%:10001ms", "-5%:5ms", "5%:-5ms", "5%:5s", "5%:5ms ", " 5%:5ms"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct debug_delay d = {.percent = 77};
		struct err e = ERR_INIT;

		assert_int_equal(debug_delay_parse(bad[i], &d, &e), -EINVAL);
		assert_int_equal(d.percent, 77);
		assert_non_null(strstr(e.text, bad[i]));
	}
}

static uint64_t waited_ns;

static void answer_a_hundred(void *arg)
{
	uint64_t start = loop_precise_ns();

	for (unsigned i = 0; i < 100; i++)
		debug_delay_answer(arg);
	waited_ns = loop_precise_ns() - start;
}

static void about_the_asked_share_waits(void **state)
{
	struct debug_delay d;
	struct err e = ERR_INIT;
	struct loop *l;

	(void)state;
	assert_int_equal(debug_delay_parse("20%:1ms", &d, &e), 0);
	assert_int_equal(loop_new(NULL, &l, &e), 0);
	loop_run_fiber(l, "answers", answer_a_hundred, &d);
	assert_true(waited_ns >= 8 * NS_PER_MS); /* 20 expected; the seed is fixed */
	debug_delay_answer(NULL);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(percent_and_time_are_read),
	    cmocka_unit_test(anything_else_is_refused),
	    cmocka_unit_test(about_the_asked_share_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
