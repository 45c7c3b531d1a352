/* loop.c - the scheduler: who runs next, what runs at the end of an iteration, and when the thread may sleep.
 *
 * Invariants: L1 a thread has at most one loop and only that thread touches it (backend->wake excepted). L2 the thread
 * sleeps only when no fiber is ready and no work is deferred. L3 one iteration runs at most READY_PER_ITERATION fibers,
 * so that fibers waking each other cannot keep the kernel's completions and the timers waiting. */
#include <sched.h>

#include "core/loop/loop_priv.h"

#define MAX_FIBERS_DEFAULT 65536u
#define READY_PER_ITERATION 4096u
#define ROUNDS_PER_ITERATION 8u

static _Thread_local struct loop *this_loop;

struct loop *loop_self(void)
{
	return this_loop;
}

int loop_new_with_backend(struct backend *b, const struct loop_options *opt, struct loop **ret, struct err *e)
{
	assert(!this_loop); /* L1 */
	struct loop *l = calloc(1, sizeof(*l));
	if (!l)
		goto no_memory;
	l->backend = b;
	l->max_fibers = opt && opt->max_fibers ? opt->max_fibers : MAX_FIBERS_DEFAULT;
	list_init(&l->groups);
	list_init(&l->ready);
	list_init(&l->yielded);
	list_init(&l->deferred);
	list_init(&l->deferred_now);
	list_init(&l->stack_pool);
	l->base_group = fiber_group_add(l);
	if (!l->base_group)
		goto no_memory;
	l->group = l->base_group;
	l->now_ns = b->now_ns(b);
	if (b->real_time && opt && opt->spins)
		spin_init(&l->spin);
	this_loop = l;
	*ret = l;
	return 0;
no_memory:
	free(l);
	b->free(b);
	return err_set(e, -ENOMEM, "loop: out of memory");
}

static int backend_new(enum loop_backend_kind kind, struct backend **ret, struct err *e)
{
	const char *forced = getenv("MYFS_LOOP");

	if (forced && *forced) {
		if (strcmp(forced, "epoll") == 0)
			kind = LOOP_EPOLL;
		else if (strcmp(forced, "uring") == 0)
			kind = LOOP_URING;
		else
			return err_set(e, -EINVAL, "MYFS_LOOP=%s: must be epoll or uring", forced);
	}
	if (kind == LOOP_EPOLL)
		return epoll_backend_new(ret, e);
	int rc = uring_backend_new(ret, e);
	return rc < 0 && kind == LOOP_AUTO ? epoll_backend_new(ret, e) : rc;
}

int loop_new(const struct loop_options *opt, struct loop **ret, struct err *e)
{
	struct backend *b;
	int rc = backend_new(opt ? opt->backend : LOOP_AUTO, &b, e);

	return rc < 0 ? rc : loop_new_with_backend(b, opt, ret, e);
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	assert(l == this_loop && !l->current);
	l->backend->free(l->backend);
	signals_free(l);
	fibers_free_all(l);
	free(l->timers.v);
	free(l);
	this_loop = NULL;
}

const char *loop_backend_name(const struct loop *l)
{
	return l->backend->name;
}

static void run_ready(struct loop *l, unsigned *budget)
{
	while (!list_empty(&l->ready) && *budget > 0) {
		struct fiber *f = list_first(&l->ready, struct fiber, link);
		list_del(&f->link);
		--*budget;
		fiber_switch_to(l, f);
	}
}

static void list_take(struct list *from, struct list *to)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

static void run_deferred(struct loop *l)
{
	struct fiber_group *outer = l->group;

	list_take(&l->deferred, &l->deferred_now);
	while (!list_empty(&l->deferred_now)) {
		struct deferred *d = list_first(&l->deferred_now, struct deferred, node);
		list_del(&d->node);
		l->group = d->group;
		d->fn(d->arg);
	}
	l->group = outer;
}

static void run_yielded(struct loop *l)
{
	while (!list_empty(&l->yielded))
		fiber_make_ready(list_first(&l->yielded, struct fiber, link));
}

static bool has_work(const struct loop *l)
{
	return !list_empty(&l->ready) || !list_empty(&l->deferred) || !list_empty(&l->yielded);
}

/* True when something arrived. Whoever else wants this processor gets it. */
static bool spin(struct loop *l, uint64_t deadline_ns)
{
	if (!l->spin.limit_ns)
		return false;
	uint64_t now = l->backend->now_ns(l->backend);
	uint64_t ns = spin_begin(&l->spin, now, deadline_ns > now ? deadline_ns - now : 0);

	if (!ns)
		return false;
	do {
		l->backend->wait(l->backend, 0);
		if (has_work(l))
			break;
		sched_yield();
	} while (l->backend->now_ns(l->backend) - now < ns);
	spin_end(&l->spin, has_work(l));
	return has_work(l);
}

static void iterate(struct loop *l)
{
	unsigned budget = READY_PER_ITERATION;

	for (unsigned round = 0; round < ROUNDS_PER_ITERATION; round++) {
		run_ready(l, &budget);
		run_deferred(l);
		if (budget == 0 || (list_empty(&l->ready) && list_empty(&l->deferred)))
			break;
	}
	bool busy = l->stop || l->main_ended || has_work(l);
	uint64_t deadline_ns = busy ? 0 : timers_next_ns(l); /* L2 */

	if (busy || !spin(l, deadline_ns))
		l->backend->wait(l->backend, deadline_ns);
	l->now_ns = l->backend->now_ns(l->backend);
	timers_run(l);
	run_yielded(l);
}

void loop_run(struct loop *l)
{
	assert(l == this_loop && !l->current);
	l->stop = false;
	while (!l->stop)
		iterate(l);
}

void loop_stop(struct loop *l)
{
	l->stop = true;
}

struct main_fiber {
	struct loop *loop;
	fiber_fn *fn;
	void *arg;
};

static void main_fiber_run(void *arg)
{
	struct main_fiber *m = arg;

	m->fn(m->arg);
	m->loop->main_ended = true; /* the loop has nothing to wait for */
}

int loop_run_fiber(struct loop *l, const char *name, fiber_fn *fn, void *arg)
{
	struct main_fiber m = {.loop = l, .fn = fn, .arg = arg};

	l->main_ended = false;
	int rc = fiber_spawn(l, name, main_fiber_run, &m);

	if (rc < 0)
		return rc;
	assert(l == this_loop && !l->current);
	while (!l->main_ended)
		iterate(l);
	l->main_ended = false;
	return 0;
}

/* ---- clocks and randomness ---- */

_Thread_local struct loop_counters loop_counters;

uint64_t loop_now_ns(void)
{
	return LIKELY(this_loop != NULL) ? this_loop->now_ns : kernel_now_ns(NULL);
}

uint64_t loop_precise_ns(void)
{
	return LIKELY(this_loop != NULL) ? this_loop->backend->now_ns(this_loop->backend) : kernel_now_ns(NULL);
}

uint64_t loop_wall_ns(void)
{
	return this_loop ? this_loop->backend->wall_ns(this_loop->backend) : kernel_wall_ns(NULL);
}

void loop_random(void *dst, size_t len)
{
	if (this_loop)
		this_loop->backend->random(this_loop->backend, dst, len);
	else
		kernel_random(NULL, dst, len);
}

void loop_await(int change)
{
	spin_await(&this_loop->spin, change, this_loop->now_ns);
}

/* ---- deferred work ---- */

void deferred_init(struct deferred *d, void (*fn)(void *arg), void *arg)
{
	*d = (struct deferred){.fn = fn, .arg = arg};
	list_init(&d->node);
}

void loop_defer(struct deferred *d)
{
	if (list_linked(&d->node))
		return;
	d->group = this_loop->group;
	list_push_back(&this_loop->deferred, &d->node);
}

void loop_defer_cancel(struct deferred *d)
{
	if (list_linked(&d->node))
		list_del(&d->node);
}
