/* test_loop.c - iterations, timers, deferred work, offloading, signals. */
#include "tests/unit/loop_fixture.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/prng.h"
#include "core/loop/backend.h"

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

static void note_arg(void *arg)
{
	note(*(const char *)arg);
}

/* ---- timers ---- */

static void timer_order_body(void *arg)
{
	struct timer t[6];
	static const int due_us[] = {300, 100, 200, 100, 400, 100};
	uint64_t start = loop_now_ns();

	(void)arg;
	for (unsigned i = 0; i < 6; i++) {
		timer_init(&t[i], note_arg, &"abcdef"[i]);
		timer_arm(&t[i], start + (uint64_t)due_us[i] * 1000);
	}
	timer_arm(&t[0], start + 500000); /* moved back */
	timer_cancel(&t[2]);
	timer_cancel(&t[2]);
	fiber_sleep_until(start + 600000);
	trace_is("bdfea");
	CHECK(!t[0].armed && !t[2].armed);
}

static void timers_fire_in_the_order_of_their_deadlines(void **state)
{
	(void)state;
	on_every_backend(timer_order_body);
}

struct due {
	struct timer t;
	uint64_t deadline;
	bool fired;
};
static uint64_t last_fired;

static void check_due(void *arg)
{
	struct due *d = arg;

	CHECK(!d->fired && d->deadline >= last_fired && d->deadline <= loop_now_ns());
	d->fired = true;
	last_fired = d->deadline;
}

static void timer_many_body(void *arg)
{
	enum { N = 2000 };
	struct due *d = calloc(N, sizeof(*d));
	bool cancelled[N] = {false};
	struct prng p;
	uint64_t start = loop_now_ns() + NS_PER_MS;

	(void)arg;
	last_fired = 0;
	prng_seed(&p, 1);
	for (unsigned i = 0; i < N; i++)
		timer_init(&d[i].t, check_due, &d[i]);
	for (unsigned i = 0; i < 5 * N; i++) {
		unsigned k = (unsigned)prng_below(&p, N);
		cancelled[k] = prng_chance(&p, 0.3);
		d[k].deadline = start + prng_below(&p, 1000000);
		if (cancelled[k])
			timer_cancel(&d[k].t);
		else
			timer_arm(&d[k].t, d[k].deadline);
	}
	fiber_sleep_until(start + 1000001);
	for (unsigned i = 0; i < N; i++)
		CHECK(d[i].fired == (!cancelled[i] && d[i].deadline != 0));
	free(d);
}

static void thousands_of_timers_moved_and_cancelled_fire_once_in_order(void **state)
{
	(void)state;
	on_every_backend(timer_many_body);
}

static struct timer again;

static void rearm(void *arg)
{
	note('r');
	if (strlen(trace) < 3)
		timer_arm(&again, 0); /* long past: comes in the next iteration, not for ever in this one */
	(void)arg;
}

static void rearm_body(void *arg)
{
	(void)arg;
	timer_init(&again, rearm, NULL);
	timer_arm(&again, 0);
	for (int i = 0; i < 4; i++)
		fiber_yield();
	trace_is("rrr");
}

static void a_timer_may_rearm_itself_from_its_call(void **state)
{
	(void)state;
	on_every_backend(rearm_body);
}

/* ---- deferred work ---- */

struct wake_later {
	struct deferred d;
	struct fiber *f;
};

static void wake_it(void *arg)
{
	struct wake_later *w = arg;

	note('d');
	fiber_wake(w->f);
}

static void note_fiber(void *arg)
{
	note(*(const char *)arg);
}

static void deferred_body(void *arg)
{
	struct deferred a, b, c;
	struct wake_later w = {.f = fiber_self()};

	deferred_init(&a, note_arg, "a");
	deferred_init(&b, note_arg, "b");
	deferred_init(&c, note_arg, "c");
	deferred_init(&w.d, wake_it, &w);
	CHECK(fiber_spawn(arg, "f", note_fiber, "f") == 0);
	loop_defer(&b);
	loop_defer(&a);
	loop_defer(&b);
	loop_defer(&c);
	loop_defer_cancel(&c);
	loop_defer_cancel(&c);
	loop_defer(&w.d);
	fiber_park();
	trace_is("fbad"); /* after every ready fiber, in the order queued, and we run again in the same iteration */
}

static void deferred_work_runs_after_ready_fibers_in_order(void **state)
{
	(void)state;
	on_every_backend(deferred_body);
}

struct twice {
	struct deferred first, second;
};

static void queue_second(void *arg)
{
	struct twice *t = arg;

	note('1');
	loop_defer(&t->second);
	loop_defer(&t->first);
	loop_defer_cancel(&t->first);
}

static void requeue_body(void *arg)
{
	struct twice t;

	(void)arg;
	deferred_init(&t.first, queue_second, &t);
	deferred_init(&t.second, note_arg, "2");
	loop_defer(&t.first);
	fiber_yield();
	trace_is("12");
}

static void deferred_work_may_queue_more(void **state)
{
	(void)state;
	on_every_backend(requeue_body);
}

/* ---- fairness ---- */

struct ping {
	struct fiber *other;
	bool *stop;
};

static void ping_pong(void *arg)
{
	struct ping *p = arg;

	while (!*p->stop) {
		if (p->other)
			fiber_wake(p->other);
		fiber_wake(fiber_self());
		fiber_park(); /* never leaves the ready queue for long */
		fiber_yield();
	}
}

static void set_flag(void *arg)
{
	*(bool *)arg = true;
}

static void fairness_body(void *arg)
{
	bool stop = false;
	struct timer t;
	struct ping p = {.stop = &stop};

	timer_init(&t, set_flag, &stop);
	timer_arm(&t, loop_now_ns() + NS_PER_MS);
	CHECK(fiber_spawn(arg, "p", ping_pong, &p) == 0);
	while (!stop)
		fiber_yield();
	fiber_yield();
	fiber_yield();
}

static void busy_fibers_do_not_starve_timers(void **state)
{
	(void)state;
	on_every_backend(fairness_body);
}

/* ---- running and stopping ---- */

static void stop_loop(void *arg)
{
	loop_stop(arg);
}

static void loop_stop_ends_loop_run_and_it_can_run_again(void **state)
{
	struct loop *l;

	(void)state;
	assert_int_equal(loop_new(NULL, &l, NULL), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(fiber_spawn(l, "stop", stop_loop, l), 0);
		loop_run(l);
	}
	assert_int_equal(loop_run_fiber(l, "note", note_arg, "x"), 0);
	loop_free(l);
	trace_is("x");
}

static void without_a_loop_time_and_randomness_still_work(void **state)
{
	uint8_t a[16] = {0}, b[16] = {0};

	(void)state;
	assert_null(loop_self());
	assert_null(fiber_self());
	uint64_t now = loop_now_ns();
	assert_true(now > 0 && loop_precise_ns() >= now && loop_wall_ns() > NS_PER_S * 1000000000);
	loop_random(a, sizeof(a));
	loop_random(b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
}

static void an_unknown_backend_name_is_refused(void **state)
{
	struct loop *l = NULL;
	struct err e = ERR_INIT;
	char *before = getenv("MYFS_LOOP") ? strdup(getenv("MYFS_LOOP")) : NULL;

	(void)state;
	setenv("MYFS_LOOP", "kqueue", 1);
	assert_int_equal(loop_new(NULL, &l, &e), -EINVAL);
	assert_non_null(strstr(e.text, "kqueue"));
	setenv("MYFS_LOOP", "epoll", 1);
	assert_int_equal(loop_new(NULL, &l, &e), 0);
	assert_string_equal(loop_backend_name(l), "epoll");
	loop_free(l);
	if (before)
		setenv("MYFS_LOOP", before, 1);
	else
		unsetenv("MYFS_LOOP");
	free(before);
}

/* ---- threads ---- */

static int64_t wait_for_go(void *arg)
{
	int *go = arg;
	char c;

	return read(go[0], &c, 1); /* blocks its thread until the loop, still alive, writes */
}

struct offloaded {
	int go[2];
	int64_t res;
	unsigned *left;
	struct waitq *q;
};

static void offload_wait(void *arg)
{
	struct offloaded *o = arg;

	o->res = loop_offload(wait_for_go, o->go);
	if (--*o->left == 0)
		waitq_wake_all(o->q);
}

static void offload_body(void *arg)
{
	enum { N = 12 }; /* more than the pool has threads */
	struct offloaded o[N];
	struct waitq q;
	unsigned left = N;

	waitq_init(&q);
	for (unsigned i = 0; i < N; i++) {
		o[i] = (struct offloaded){.left = &left, .q = &q};
		CHECK(pipe(o[i].go) == 0);
		CHECK(fiber_spawn(arg, "o", offload_wait, &o[i]) == 0);
	}
	fiber_yield();
	CHECK(left == N);
	for (unsigned i = 0; i < N; i++)
		CHECK(write(o[i].go[1], "g", 1) == 1);
	waitq_wait(&q);
	for (unsigned i = 0; i < N; i++) {
		CHECK(o[i].res == 1);
		close(o[i].go[0]);
		close(o[i].go[1]);
	}
}

/* Each call but the last waits for the one queued behind it. */
struct link {
	int *own, *next; /* pipes; own NULL: waits for nobody */
	unsigned *left;
	struct waitq *q;
};

static int64_t link_work(void *arg)
{
	struct link *l = arg;
	char c;

	if (l->own && read(l->own[0], &c, 1) != 1)
		return -EIO;
	return l->next && write(l->next[1], "g", 1) != 1 ? -EIO : 0;
}

static void link_run(void *arg)
{
	struct link *l = arg;

	CHECK(loop_offload(link_work, l) == 0);
	if (--*l->left == 0)
		waitq_wake_all(l->q);
}

static void chain_body(void *arg)
{
	enum { LONGEST = 4 }; /* threads of the pool */
	struct link link[LONGEST];
	struct waitq q;
	int go[LONGEST][2];

	waitq_init(&q);
	for (unsigned i = 0; i < LONGEST; i++)
		CHECK(pipe(go[i]) == 0);
	for (unsigned n = 1; n <= LONGEST; n++) { /* n - 1 threads are there and idle, or about to be */
		unsigned left = n;
		for (unsigned i = 0; i < n; i++) {
			link[i] = (struct link){.own = i + 1 < n ? go[i] : NULL, .next = i > 0 ? go[i - 1] : NULL, .left = &left, .q = &q};
			CHECK(fiber_spawn(arg, "link", link_run, &link[i]) == 0);
		}
		while (left > 0)
			waitq_wait(&q);
	}
	for (unsigned i = 0; i < LONGEST; i++) {
		close(go[i][0]);
		close(go[i][1]);
	}
}

static void a_blocking_call_never_waits_behind_another_while_threads_are_free(void **state)
{
	(void)state;
	on_every_backend(chain_body);
}

static void blocking_calls_leave_the_loop_running(void **state)
{
	(void)state;
	on_every_backend(offload_body);
}

/* ---- operations under way ---- */

static void poll_deadline_body(void *arg)
{
	int p[2];

	(void)arg;
	CHECK(pipe(p) == 0);
	struct io io = {.kind = IO_POLL_IN, .fd = p[0]};
	CHECK(io_run_until(&io, loop_now_ns() + NS_PER_MS) == -ETIMEDOUT);
	CHECK(write(p[1], "x", 1) == 1);
	struct io ready = {.kind = IO_POLL_IN, .fd = p[0]};
	CHECK(io_run_until(&ready, loop_now_ns() + 60 * NS_PER_S) > 0);
	io_close_socket(p[0]);
	close(p[1]);
}

static void an_operation_is_cancelled_at_its_deadline(void **state)
{
	(void)state;
	on_every_backend(poll_deadline_body);
}

static int forgotten[2];

static void poll_for_ever(void *arg)
{
	struct io io = {.kind = IO_POLL_IN, .fd = forgotten[0]};

	(void)arg;
	io_run(&io);
	abort(); /* nobody writes */
}

static void forget_body(void *arg)
{
	CHECK(pipe(forgotten) == 0);
	CHECK(fiber_spawn(arg, "poll", poll_for_ever, NULL) == 0);
	fiber_yield();
}

static void a_loop_may_be_freed_with_operations_under_way(void **state)
{
	(void)state;
	on_backend(LOOP_URING, forget_body);
	close(forgotten[0]);
	close(forgotten[1]);
	on_backend(LOOP_EPOLL, forget_body);
	close(forgotten[0]);
	close(forgotten[1]);
}

static void sq_full_body(void *arg)
{
	enum { N = 3000 }; /* more than the submission queue has entries */
	static struct io io[N];
	int p[2];

	(void)arg;
	CHECK(pipe(p) == 0);
	if (strcmp(loop_backend_name(loop_self()), "io_uring") != 0)
		goto done; /* epoll has one reader a descriptor */
	for (unsigned i = 0; i < N; i++) {
		io[i] = (struct io){.kind = IO_POLL_IN, .fd = p[0]};
		io_start(&io[i]);
	}
	CHECK(write(p[1], "x", 1) == 1);
	for (unsigned i = 0; i < N; i++)
		CHECK(io_wait(&io[i]) > 0);
done:
	close(p[0]);
	close(p[1]);
}

static void more_operations_than_the_queue_holds_all_end(void **state)
{
	(void)state;
	on_every_backend(sq_full_body);
}

/* ---- signals ---- */

static void on_signal(void *arg, int signo)
{
	note(signo == SIGTERM ? 'T' : signo == SIGHUP ? 'H' : '?');
	fiber_wake(arg);
}

static void signal_body(void *arg)
{
	CHECK(loop_on_signals(arg, on_signal, fiber_self()) == 0);
	CHECK(loop_on_signals(arg, on_signal, NULL) == -EALREADY);
	CHECK(kill(getpid(), SIGHUP) == 0);
	fiber_park();
	CHECK(kill(getpid(), SIGTERM) == 0);
	fiber_park();
	trace_is("HT");
}

static void signals_arrive_as_calls(void **state)
{
	(void)state;
	on_every_backend(signal_body);
}

/* ---- other worlds ---- */

/* Time that passes only when the loop waits: what a simulator does. */
struct virtual_world {
	struct backend b;
	uint64_t now_ns;
	unsigned waits;
	bool *freed;
};

static void virtual_wait(struct backend *b, uint64_t deadline_ns)
{
	struct virtual_world *v = CONTAINER_OF(b, struct virtual_world, b);

	v->waits++;
	CHECK(deadline_ns != UINT64_MAX); /* nothing would ever happen */
	v->now_ns = max_u64(v->now_ns, deadline_ns);
}

static uint64_t virtual_now(struct backend *b)
{
	return CONTAINER_OF(b, struct virtual_world, b)->now_ns;
}

static void virtual_random(struct backend *b, void *dst, size_t len)
{
	(void)b;
	memset(dst, 0x5a, len);
}

static void virtual_start(struct backend *b, struct io *io)
{
	(void)b;
	io_end(io, io->kind == IO_WORK ? io->work(io->arg) : -EOPNOTSUPP);
}

static void virtual_free(struct backend *b)
{
	struct virtual_world *v = CONTAINER_OF(b, struct virtual_world, b);

	*v->freed = true;
	free(v);
}

static int64_t forty_two(void *arg)
{
	(void)arg;
	return 42;
}

static void virtual_body(void *arg)
{
	uint8_t r;

	(void)arg;
	CHECK(loop_now_ns() == 1000);
	fiber_sleep_until(3600 * NS_PER_S); /* an hour that takes no time */
	CHECK(loop_now_ns() == 3600 * NS_PER_S && loop_precise_ns() == loop_now_ns());
	CHECK(fiber_park_until(7200 * NS_PER_S) == -ETIMEDOUT && loop_now_ns() == 7200 * NS_PER_S);
	CHECK(loop_offload(forty_two, NULL) == 42);
	loop_random(&r, 1);
	CHECK(r == 0x5a);
	note('v');
}

static void a_backend_of_virtual_time_drives_the_loop(void **state)
{
	struct virtual_world *v = calloc(1, sizeof(*v));
	struct loop *l;
	bool freed = false;

	(void)state;
	*v = (struct virtual_world){
	    .b = {.name = "sim", .start = virtual_start, .wait = virtual_wait, .now_ns = virtual_now, .wall_ns = virtual_now,
	        .random = virtual_random, .free = virtual_free},
	    .now_ns = 1000,
	    .freed = &freed,
	};
	assert_int_equal(loop_new_with_backend(&v->b, NULL, &l, NULL), 0);
	assert_string_equal(loop_backend_name(l), "sim");
	assert_int_equal(loop_run_fiber(l, "v", virtual_body, NULL), 0);
	trace_is("v");
	assert_true(v->waits < 10);
	loop_free(l);
	assert_true(freed);
}

/* In a child: refuses io_uring_setup from now on, as container runtimes do. */
static int child_without_io_uring(void)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {.len = ARRAY_LEN(code), .filter = code};
	struct loop *l;
	struct err e = ERR_INIT;

	unsetenv("MYFS_LOOP");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		return 1;
	if (loop_new(&(struct loop_options){.backend = LOOP_URING}, &l, &e) != -EPERM || !strstr(e.text, "io_uring"))
		return 2;
	if (loop_new(NULL, &l, NULL) < 0 || strcmp(loop_backend_name(l), "epoll") != 0)
		return 3;
	if (loop_run_fiber(l, "n", note_arg, "n") < 0 || strcmp(trace, "n") != 0)
		return 4;
	loop_free(l);
	return 0;
}

static void where_io_uring_is_forbidden_epoll_takes_over(void **state)
{
	int status = 0;

	(void)state;
	pid_t pid = fork();
	if (pid == 0)
		_exit(child_without_io_uring());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(timers_fire_in_the_order_of_their_deadlines),
	    cmocka_unit_test(thousands_of_timers_moved_and_cancelled_fire_once_in_order),
	    cmocka_unit_test(a_timer_may_rearm_itself_from_its_call),
	    cmocka_unit_test(deferred_work_runs_after_ready_fibers_in_order),
	    cmocka_unit_test(deferred_work_may_queue_more),
	    cmocka_unit_test(busy_fibers_do_not_starve_timers),
	    cmocka_unit_test(loop_stop_ends_loop_run_and_it_can_run_again),
	    cmocka_unit_test(without_a_loop_time_and_randomness_still_work),
	    cmocka_unit_test(an_unknown_backend_name_is_refused),
	    cmocka_unit_test(blocking_calls_leave_the_loop_running),
	    cmocka_unit_test(a_blocking_call_never_waits_behind_another_while_threads_are_free),
	    cmocka_unit_test(an_operation_is_cancelled_at_its_deadline),
	    cmocka_unit_test(a_loop_may_be_freed_with_operations_under_way),
	    cmocka_unit_test(more_operations_than_the_queue_holds_all_end),
	    cmocka_unit_test(signals_arrive_as_calls),
	    cmocka_unit_test(a_backend_of_virtual_time_drives_the_loop),
	    cmocka_unit_test(where_io_uring_is_forbidden_epoll_takes_over),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
