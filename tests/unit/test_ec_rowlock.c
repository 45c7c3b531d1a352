/* ec/rowlock: the conflict table, fairness, and random crowds of fibers that must never meet on a row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/err.h"
#include "core/base/prng.h"
#include "core/loop/loop.h"
#include "ec/rowlock.h"

#define REGION 64u

static struct loop *loop;
static struct rowlock_table table;

static int setup(void **state)
{
	struct err e = ERR_INIT;
	(void)state;
	rowlock_table_init(&table, REGION);
	return loop_new(&(struct loop_options){0}, &loop, &e);
}

static int teardown(void **state)
{
	(void)state;
	loop_free(loop);
	return 0;
}

static struct rowlock make(enum rowlock_mode mode, uint32_t shard, uint32_t row, uint32_t nrows, uint32_t chunks)
{
	return (struct rowlock){.mode = mode, .shard = shard, .row = row, .nrows = nrows, .chunks = chunks};
}

static void modes_conflict_as_the_protocol_says(void **state)
{
	(void)state;
	static const struct {
		enum rowlock_mode a, b;
		uint32_t chunks_a, chunks_b;
		bool conflict;
	} t[] = {
	    {ROWLOCK_D, ROWLOCK_D, 1, 2, false}, {ROWLOCK_D, ROWLOCK_D, 3, 2, true}, {ROWLOCK_D, ROWLOCK_C, 1, 0, true},
	    {ROWLOCK_D, ROWLOCK_X, 1, 0, true},	 {ROWLOCK_C, ROWLOCK_C, 0, 0, false}, {ROWLOCK_C, ROWLOCK_X, 0, 0, true},
	    {ROWLOCK_X, ROWLOCK_X, 0, 0, true},
	};
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		struct rowlock a = make(t[i].a, 1, 10, 5, t[i].chunks_a), b = make(t[i].b, 1, 14, 3, t[i].chunks_b);
		assert_int_equal(rowlock_conflict(&a, &b), t[i].conflict);
		assert_int_equal(rowlock_conflict(&b, &a), t[i].conflict);
		b.row = 15; /* next to it */
		assert_false(rowlock_conflict(&a, &b));
		assert_false(rowlock_conflict(&b, &a));
		b.row = 10;
		b.shard = 2;
		assert_false(rowlock_conflict(&a, &b));
	}
}

static void try_takes_a_lock_only_when_free(void **state)
{
	(void)state;
	struct rowlock a = make(ROWLOCK_X, 0, 0, 10, 0), b = make(ROWLOCK_C, 0, 9, 1, 0), c = make(ROWLOCK_C, 0, 10, 1, 0);
	assert_true(rowlock_try(&table, &a));
	assert_false(rowlock_try(&table, &b));
	assert_true(rowlock_try(&table, &c));
	rowlock_release(&table, &a);
	assert_true(rowlock_try(&table, &b));
	rowlock_release(&table, &b);
	rowlock_release(&table, &c);
	rowlock_release(&table, &c); /* harmless */
	assert_true(rowlock_table_idle(&table));
}

static void wide_and_narrow_locks_see_each_other(void **state)
{
	(void)state;
	struct rowlock whole = make(ROWLOCK_X, 7, 0, 64 * REGION, 0), narrow = make(ROWLOCK_D, 7, 40 * REGION + 3, 1, 1);
	struct rowlock across = make(ROWLOCK_C, 7, 5 * REGION - 1, 2, 0), other = make(ROWLOCK_X, 8, 0, 64 * REGION, 0);
	assert_true(rowlock_try(&table, &narrow));
	assert_false(rowlock_try(&table, &whole));
	assert_true(rowlock_try(&table, &other));
	rowlock_release(&table, &narrow);
	assert_true(rowlock_try(&table, &across));
	assert_false(rowlock_try(&table, &whole));
	rowlock_release(&table, &across);
	assert_true(rowlock_try(&table, &whole));
	assert_false(rowlock_try(&table, &narrow));
	assert_false(rowlock_try(&table, &across));
	rowlock_release(&table, &whole);
	rowlock_release(&table, &other);
	assert_true(rowlock_table_idle(&table));
}

/* ---- fibers that write down the order in which they get in ---- */

static char order[64];
struct visitor {
	char name;
	struct rowlock lock;
	uint64_t deadline; /* 0: none */
};

static void note(char c)
{
	size_t n = strlen(order);
	order[n] = c;
	order[n + 1] = 0;
}

static void visit(void *arg)
{
	struct visitor *v = arg;
	if (v->deadline) {
		if (rowlock_acquire_until(&table, &v->lock, v->deadline) == -ETIMEDOUT) {
			note((char)(v->name - 'a' + 'A'));
			return;
		}
	} else {
		rowlock_acquire(&table, &v->lock);
	}
	note(v->name);
	fiber_yield();
	rowlock_release(&table, &v->lock);
}

static void run(struct visitor *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		assert_int_equal(fiber_run(loop, "visitor", visit, &v[i]), 0);
	while (!rowlock_table_idle(&table))
		fiber_yield();
}

static void crowd_behind_an_exclusive_waiter(void *arg)
{
	(void)arg;
	struct visitor v[] = {
	    {'a', make(ROWLOCK_C, 0, 0, 4, 0), 0}, {'b', make(ROWLOCK_X, 0, 2, 4, 0), 0}, {'c', make(ROWLOCK_C, 0, 3, 1, 0), 0},
	    {'d', make(ROWLOCK_C, 0, 0, 1, 0), 0}, {'e', make(ROWLOCK_X, 0, 9, 1, 0), 0},
	};
	order[0] = 0;
	run(v, ARRAY_LEN(v));
}

static void a_waiting_exclusive_lock_is_not_overtaken_by_those_it_blocks(void **state)
{
	(void)state;
	assert_int_equal(loop_run_fiber(loop, "test", crowd_behind_an_exclusive_waiter, NULL), 0);
	assert_string_equal(order, "adebc"); /* d and e do not conflict with anybody before them */
}

static void queue_of_three(void *arg)
{
	(void)arg;
	struct visitor v[] = {
	    {'a', make(ROWLOCK_X, 0, 0, 200, 0), 0},
	    {'b', make(ROWLOCK_D, 0, 70, 1, 1), 0},
	    {'c', make(ROWLOCK_D, 0, 70, 1, 1), 0},
	    {'d', make(ROWLOCK_D, 0, 70, 1, 2), 0},
	};
	order[0] = 0;
	run(v, ARRAY_LEN(v));
}

static void conflicting_locks_are_granted_in_order_of_arrival(void **state)
{
	(void)state;
	assert_int_equal(loop_run_fiber(loop, "test", queue_of_three, NULL), 0);
	assert_string_equal(order, "abdc");
}

static void one_gives_up(void *arg)
{
	(void)arg;
	struct rowlock held = make(ROWLOCK_X, 0, 0, 1, 0);
	struct visitor v[] = {
	    {'a', make(ROWLOCK_X, 0, 0, 2, 0), 1},
	    {'b', make(ROWLOCK_C, 0, 1, 1, 0), 0},
	};
	order[0] = 0;
	rowlock_acquire(&table, &held);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(fiber_run(loop, "visitor", visit, &v[i]), 0);
	while (strlen(order) < 2) /* b gets in as soon as a left, held or not */
		fiber_yield();
	rowlock_release(&table, &held);
	while (!rowlock_table_idle(&table))
		fiber_yield();
}

static void a_waiter_that_gives_up_lets_those_behind_it_pass(void **state)
{
	(void)state;
	assert_int_equal(loop_run_fiber(loop, "test", one_gives_up, NULL), 0);
	assert_string_equal(order, "Ab");
}

/* ---- a crowd ---- */

enum { SHARDS = 2, ROWS = 4 * REGION, CHUNKS = 4, FIBERS = 60, ROUNDS = 40 };
static struct {
	int8_t writers[CHUNKS]; /* D per chunk */
	int8_t exclusive, readers;
	uint64_t last_ticket[CHUNKS];
} rows[SHARDS][ROWS];
static unsigned running;

static void enter_rows(const struct rowlock *l, int8_t by)
{
	for (uint32_t r = l->row; r < l->row + l->nrows; r++) {
		if (l->mode == ROWLOCK_X)
			rows[l->shard][r].exclusive = (int8_t)(rows[l->shard][r].exclusive + by);
		else if (l->mode == ROWLOCK_C)
			rows[l->shard][r].readers = (int8_t)(rows[l->shard][r].readers + by);
		for (uint32_t c = 0; c < CHUNKS && l->mode == ROWLOCK_D; c++)
			if ((l->chunks >> c) & 1)
				rows[l->shard][r].writers[c] = (int8_t)(rows[l->shard][r].writers[c] + by);
	}
}

/* L1, and L2 for the two modes that write: per chunk and row they get in by age. */
static void check_rows(const struct rowlock *l)
{
	for (uint32_t r = l->row; r < l->row + l->nrows; r++) {
		int writers = 0;
		for (uint32_t c = 0; c < CHUNKS; c++) {
			writers += rows[l->shard][r].writers[c];
			assert_in_range(rows[l->shard][r].writers[c], 0, 1);
			if (l->mode == ROWLOCK_C || (l->mode == ROWLOCK_D && !((l->chunks >> c) & 1)))
				continue;
			assert_true(l->ticket > rows[l->shard][r].last_ticket[c]);
			rows[l->shard][r].last_ticket[c] = l->ticket;
		}
		assert_true(rows[l->shard][r].exclusive + (writers > 0) + (rows[l->shard][r].readers > 0) == 1);
	}
}

static void crowd_member(void *arg)
{
	struct prng p;
	prng_seed(&p, (uint64_t)(uintptr_t)arg);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct rowlock l = make((enum rowlock_mode)prng_below(&p, 3), (uint32_t)prng_below(&p, SHARDS),
					(uint32_t)prng_below(&p, ROWS), 1, (uint32_t)prng_below(&p, 15) + 1);
		uint64_t longest = prng_chance(&p, 0.1) ? ROWS : 6;
		l.nrows = 1 + (uint32_t)prng_below(&p, min_u64(longest, ROWS - l.row));
		if (prng_chance(&p, 0.1)) {
			if (!rowlock_try(&table, &l))
				continue;
		} else if (prng_chance(&p, 0.1)) {
			if (rowlock_acquire_until(&table, &l, 1) != 0)
				continue;
		} else {
			rowlock_acquire(&table, &l);
		}
		enter_rows(&l, 1);
		check_rows(&l);
		for (uint64_t k = prng_below(&p, 3); k > 0; k--)
			fiber_yield();
		enter_rows(&l, -1);
		rowlock_release(&table, &l);
	}
	running--;
}

static void start_crowd(void *arg)
{
	uint64_t seed = (uint64_t)(uintptr_t)arg;
	running = FIBERS;
	for (uint64_t i = 0; i < FIBERS; i++)
		assert_int_equal(fiber_spawn(loop, "member", crowd_member, (void *)(uintptr_t)(seed * 1000 + i)), 0);
	while (running > 0)
		fiber_yield();
}

static void a_random_crowd_never_meets_on_a_row_and_enters_by_age(void **state)
{
	(void)state;
	for (uintptr_t seed = 1; seed <= 4; seed++) {
		assert_int_equal(loop_run_fiber(loop, "test", start_crowd, (void *)seed), 0);
		assert_true(rowlock_table_idle(&table));
		assert_int_equal(table.waiting, 0);
		assert_int_equal(table.wide_active, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(modes_conflict_as_the_protocol_says),
	    cmocka_unit_test(try_takes_a_lock_only_when_free),
	    cmocka_unit_test(wide_and_narrow_locks_see_each_other),
	    cmocka_unit_test(a_waiting_exclusive_lock_is_not_overtaken_by_those_it_blocks),
	    cmocka_unit_test(conflicting_locks_are_granted_in_order_of_arrival),
	    cmocka_unit_test(a_waiter_that_gives_up_lets_those_behind_it_pass),
	    cmocka_unit_test(a_random_crowd_never_meets_on_a_row_and_enters_by_age),
	};
	return cmocka_run_group_tests_name("ec.rowlock", tests, setup, teardown);
}
