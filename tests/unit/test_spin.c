/* When a loop looks for an answer before it sleeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/loop/spin.h"

static void few_awaited_answers_are_looked_for_and_never_past_the_deadline(void **state)
{
	static const struct {
		unsigned awaited;
		uint64_t left_ns, expect;
	} t[] = {{0, UINT64_MAX, SPIN_NS}, {1, NS_PER_S, SPIN_NS}, {SPIN_ANSWERS, NS_PER_S, SPIN_NS}, {SPIN_ANSWERS + 1, NS_PER_S, 0}, {1, 10, 10}, {1, 0, 0}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		struct spin s = {.limit_ns = SPIN_NS, .awaited = t[i].awaited};
		assert_int_equal(spin_begin(&s, 1, t[i].left_ns), t[i].expect);
	}
}

static void what_is_switched_off_never_spins(void **state)
{
	struct spin s = {.awaited = 1};

	(void)state;
	assert_int_equal(spin_begin(&s, 1, NS_PER_S), 0);
}

/* Waits that go by until it spins again. */
static unsigned rest_of(struct spin *s)
{
	unsigned n = 0;

	while (!spin_begin(s, 1, NS_PER_S))
		n++;
	return n;
}

static void each_time_in_vain_doubles_the_rest_and_an_answer_ends_it(void **state)
{
	static const unsigned rests[] = {1, 3, 7, 15, 31, 63, 63, 63};
	struct spin s = {.limit_ns = SPIN_NS};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rests); i++) {
		spin_end(&s, false);
		assert_int_equal(rest_of(&s), rests[i]);
	}
	spin_end(&s, true);
	assert_int_equal(rest_of(&s), 0);
	spin_end(&s, false);
	assert_int_equal(rest_of(&s), 1);
}

static void a_moment_after_many_answers_were_awaited_it_still_does_not_spin(void **state)
{
	struct spin s = {.limit_ns = SPIN_NS};

	(void)state;
	for (unsigned i = 0; i <= SPIN_ANSWERS; i++)
		spin_await(&s, 1, NS_PER_S);
	for (unsigned i = 0; i <= SPIN_ANSWERS; i++)
		spin_await(&s, -1, NS_PER_S);
	assert_int_equal(s.awaited, 0);
	assert_int_equal(spin_begin(&s, NS_PER_S + SPIN_CROWDED - 1, NS_PER_S), 0);
	assert_int_equal(spin_begin(&s, NS_PER_S + SPIN_CROWDED, NS_PER_S), SPIN_NS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(few_awaited_answers_are_looked_for_and_never_past_the_deadline),
	    cmocka_unit_test(what_is_switched_off_never_spins),
	    cmocka_unit_test(a_moment_after_many_answers_were_awaited_it_still_does_not_spin),
	    cmocka_unit_test(each_time_in_vain_doubles_the_rest_and_an_answer_ends_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
