/* test_fiber.c - switching, waking, queues, mutexes, groups. */
#include "tests/unit/loop_fixture.h"

#include "core/loop/fiber.h"

/* What happened, in order. */
static char trace[256];

static void note(char c)
{
	size_t n = strlen(trace);

	CHECK(n + 1 < sizeof(trace));
	trace[n] = c;
	trace[n + 1] = '\0';
}

static void trace_is(const char *want)
{
	if (strcmp(trace, want) != 0) {
		fprintf(stderr, "trace is '%s', expected '%s'\n", trace, want);
		abort();
	}
	trace[0] = '\0';
}

static void note_around_yield(void *arg)
{
	const char *names = arg;

	note(names[0]);
	fiber_yield();
	note(names[1]);
}

static void spawn_body(void *arg)
{
	struct loop *l = arg;

	CHECK(fiber_spawn(l, "a", note_around_yield, "aA") == 0);
	CHECK(fiber_spawn(l, "b", note_around_yield, "bB") == 0);
	note('0');
	fiber_yield();
	note('1');
	fiber_yield();
	trace_is("0ab1AB");
}

static void spawned_fibers_run_in_order_after_the_spawner_waits(void **state)
{
	(void)state;
	on_every_backend(spawn_body);
}

static void run_inner(void *arg)
{
	note_around_yield("cC");
	(void)arg;
}

static void run_outer(void *arg)
{
	note('b');
	CHECK(fiber_run(arg, "inner", run_inner, NULL) == 0);
	note('d');
	fiber_yield();
	note('D');
}

static void run_body(void *arg)
{
	note('a');
	CHECK(fiber_run(arg, "outer", run_outer, arg) == 0);
	CHECK(strcmp(fiber_name(fiber_self()), "test") == 0);
	note('e');
	fiber_yield();
	fiber_yield();
	trace_is("abcdeCD");
}

static void fiber_run_starts_at_once_and_nests(void **state)
{
	(void)state;
	on_every_backend(run_body);
}

static void park_and_note(void *arg)
{
	struct fiber **self = arg;

	*self = fiber_self();
	fiber_park();
	note('w');
	fiber_park();
	note('W');
}

static void wake_body(void *arg)
{
	struct fiber *f = NULL;

	CHECK(fiber_run(arg, "parked", park_and_note, &f) == 0);
	fiber_wake(f);
	fiber_wake(f);
	trace_is("");
	fiber_yield();
	trace_is("w");
	fiber_yield();
	trace_is("");
	fiber_wake(f);
	fiber_yield();
	trace_is("W");
}

static void waking_twice_counts_once(void **state)
{
	(void)state;
	on_every_backend(wake_body);
}

static void wake_before_park_body(void *arg)
{
	(void)arg;
	fiber_wake(fiber_self());
	fiber_park();
	CHECK(fiber_park_until(loop_now_ns() + NS_PER_MS) == -ETIMEDOUT);
}

static void a_wake_before_the_park_is_not_lost(void **state)
{
	(void)state;
	on_every_backend(wake_before_park_body);
}

struct waiter {
	struct waitq *q;
	struct fiber *self;
	char c;
};

static void wait_and_note(void *arg)
{
	struct waiter *w = arg;

	w->self = fiber_self();
	waitq_wait(w->q);
	note(w->c);
	fiber_park(); /* a wake that came while queued is delivered here */
	note((char)(w->c - 'a' + 'A'));
}

static void wake_in_queue_body(void *arg)
{
	struct waitq q;
	struct waiter w = {.q = &q, .c = 'a'};

	waitq_init(&q);
	CHECK(fiber_run(arg, "w", wait_and_note, &w) == 0);
	fiber_wake(w.self);
	fiber_yield();
	trace_is("");
	waitq_wake_one(&q);
	fiber_yield();
	trace_is("aA");
}

static void a_wake_does_not_end_a_queue_wait_but_is_kept(void **state)
{
	(void)state;
	on_every_backend(wake_in_queue_body);
}

static void fifo_body(void *arg)
{
	struct waitq q;
	struct waiter w[3] = {{.q = &q, .c = 'a'}, {.q = &q, .c = 'b'}, {.q = &q, .c = 'c'}};

	waitq_init(&q);
	waitq_wake_one(&q);
	for (unsigned i = 0; i < 3; i++)
		CHECK(fiber_run(arg, "w", wait_and_note, &w[i]) == 0);
	waitq_wake_one(&q);
	fiber_yield();
	trace_is("a");
	waitq_wake_all(&q);
	fiber_yield();
	trace_is("bc");
	for (unsigned i = 0; i < 3; i++)
		fiber_wake(w[i].self);
	fiber_yield();
	trace_is("ABC");
}

static void a_wait_queue_is_first_in_first_out(void **state)
{
	(void)state;
	on_every_backend(fifo_body);
}

static void queue_timeout_body(void *arg)
{
	struct waitq q;
	struct waiter w = {.q = &q, .c = 'a'};

	waitq_init(&q);
	CHECK(waitq_wait_until(&q, loop_now_ns() + NS_PER_MS) == -ETIMEDOUT);
	CHECK(fiber_run(arg, "w", wait_and_note, &w) == 0);
	waitq_wake_one(&q); /* reaches the one that still waits */
	fiber_wake(w.self);
	fiber_yield();
	trace_is("aA");
}

static void a_timed_out_waiter_leaves_the_queue(void **state)
{
	(void)state;
	on_every_backend(queue_timeout_body);
}

struct locker {
	struct fmutex *m;
	char c;
};

static void lock_and_note(void *arg)
{
	struct locker *k = arg;

	fmutex_lock(k->m);
	note(k->c);
	fiber_yield();
	note(k->c);
	fmutex_unlock(k->m);
}

static void mutex_body(void *arg)
{
	struct fmutex m;
	struct locker k[3] = {{&m, 'a'}, {&m, 'b'}, {&m, 'c'}};

	fmutex_init(&m);
	for (unsigned i = 0; i < 3; i++)
		CHECK(fiber_run(arg, "k", lock_and_note, &k[i]) == 0);
	fmutex_lock(&m);
	trace_is("aabbcc");
	fmutex_unlock(&m);
	CHECK(!m.held);
}

static void a_mutex_admits_one_at_a_time_in_order(void **state)
{
	(void)state;
	on_every_backend(mutex_body);
}

static void sleep_body(void *arg)
{
	(void)arg;
	uint64_t until = loop_now_ns() + 2 * NS_PER_MS;
	fiber_wake(fiber_self());
	fiber_sleep_until(until);
	CHECK(loop_now_ns() >= until);
	fiber_park(); /* the wake from before is still there */
	fiber_sleep_until(0);
}

static void sleep_lasts_until_its_deadline(void **state)
{
	(void)state;
	on_every_backend(sleep_body);
}

static void nothing(void *arg)
{
	(void)arg;
}

static void park_forever(void *arg)
{
	(void)arg;
	fiber_park();
}

static void the_fiber_limit_is_an_error_not_growth(void **state)
{
	struct loop *l;

	(void)state;
	assert_int_equal(loop_new(&(struct loop_options){.max_fibers = 3}, &l, NULL), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(fiber_run(l, "p", park_forever, NULL), 0);
	assert_int_equal(fiber_spawn(l, "p", nothing, NULL), -EAGAIN);
	assert_int_equal(fiber_run(l, "p", nothing, NULL), -EAGAIN);
	loop_free(l);
}

static void many_body(void *arg)
{
	static struct waitq q;

	waitq_init(&q);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 2000; i++)
			CHECK(fiber_run(arg, "w", (fiber_fn *)waitq_wait, &q) == 0);
		waitq_wake_all(&q);
		fiber_yield();
	}
}

static void thousands_of_fibers_come_and_go(void **state)
{
	(void)state;
	on_every_backend(many_body);
}

/* ---- groups ---- */

struct host {
	struct fiber_group *group;
	struct timer timer;
	struct deferred deferred;
	struct waitq q;
	struct fmutex m;
};

static void note_x(void *arg)
{
	(void)arg;
	note('x');
}

static void host_child(void *arg)
{
	struct host *h = arg;

	waitq_wait(&h->q);
	note('x');
}

static void host_main(void *arg)
{
	struct host *h = arg;

	fiber_group_enter(h->group);
	CHECK(fiber_spawn(loop_self(), "child", host_child, h) == 0);
	CHECK(fiber_run(loop_self(), "child", host_child, h) == 0);
	timer_init(&h->timer, note_x, NULL);
	timer_arm(&h->timer, loop_now_ns() + 1);
	deferred_init(&h->deferred, note_x, NULL);
	fmutex_lock(&h->m);
	fiber_yield();
	loop_defer(&h->deferred);
	fiber_sleep_until(loop_now_ns() + NS_PER_MS);
	note('x');
}

static void kill_body(void *arg)
{
	struct host *h = calloc(1, sizeof(*h));

	h->group = fiber_group_new(arg);
	waitq_init(&h->q);
	fmutex_init(&h->m);
	CHECK(fiber_run(arg, "host", host_main, h) == 0);
	fiber_group_kill(h->group);
	waitq_wake_all(&h->q);
	free(h);
	fiber_sleep_until(loop_now_ns() + 2 * NS_PER_MS);
	trace_is("");
	CHECK(fiber_run(arg, "after", nothing, NULL) == 0); /* on a reused stack */
}

static void killing_a_group_stops_its_fibers_timers_and_deferred_work(void **state)
{
	(void)state;
	on_every_backend(kill_body);
}

static struct fiber *last_parked;

static void wait_a_little(void *arg)
{
	(void)arg;
	last_parked = fiber_self();
	note(fiber_park_until(loop_now_ns() + NS_PER_MS) == 0 ? 'w' : 't');
}

/* More fibers than one iteration runs stand before the woken one, so its deadline passes while it is ready. */
static void wake_before_deadline_body(void *arg)
{
	struct loop *l = arg;
	struct fiber *waiter;

	CHECK(fiber_run(l, "waiter", wait_a_little, l) == 0);
	waiter = last_parked;
	uint64_t due = loop_now_ns() + 2 * NS_PER_MS;
	for (int i = 0; i < 5000; i++)
		CHECK(fiber_spawn(l, "filler", nothing, NULL) == 0);
	while (loop_precise_ns() < due)
		;
	fiber_wake(waiter);
	fiber_yield();
	fiber_yield();
	trace_is("w");
}

static void a_wake_wins_over_a_deadline_that_passes_before_the_fiber_runs(void **state)
{
	(void)state;
	on_every_backend(wake_before_deadline_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(spawned_fibers_run_in_order_after_the_spawner_waits),
	    cmocka_unit_test(fiber_run_starts_at_once_and_nests),
	    cmocka_unit_test(waking_twice_counts_once),
	    cmocka_unit_test(a_wake_before_the_park_is_not_lost),
	    cmocka_unit_test(a_wake_does_not_end_a_queue_wait_but_is_kept),
	    cmocka_unit_test(a_wait_queue_is_first_in_first_out),
	    cmocka_unit_test(a_timed_out_waiter_leaves_the_queue),
	    cmocka_unit_test(a_mutex_admits_one_at_a_time_in_order),
	    cmocka_unit_test(sleep_lasts_until_its_deadline),
	    cmocka_unit_test(the_fiber_limit_is_an_error_not_growth),
	    cmocka_unit_test(thousands_of_fibers_come_and_go),
	    cmocka_unit_test(a_wake_wins_over_a_deadline_that_passes_before_the_fiber_runs),
	    cmocka_unit_test(killing_a_group_stops_its_fibers_timers_and_deferred_work),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
