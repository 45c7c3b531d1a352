/* fiber.c - switching, parking and waking of fibers; wait queues and mutexes on top.
 *
 * A fiber suspends back to whoever resumed it: the loop, or the fiber that called fiber_run(). Resumers therefore nest
 * like calls, and a fiber in the middle of fiber_run() is RUNNING, not parked.
 * Invariants: F1 and F2 of fiber.h. F3 only the innermost RUNNING fiber (loop->current) may suspend. */
#include "core/loop/loop_priv.h"

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#ifdef FIBER_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

/* Stacks kept for reuse; what a burst needed beyond that goes back to the system. */
#define STACK_POOL_MAX 1024u

/* Boost.Context's switch: saves the caller's registers on its stack, continues at `to`, hands over `data`. */
struct transfer {
	void *context;
	void *data;
};
extern struct transfer jump_fcontext(void *to, void *data);
extern void *make_fcontext(void *stack_top, size_t size, void (*fn)(struct transfer));

static void before_switch(void **fake_stack_save, const void *bottom, size_t size)
{
#ifdef FIBER_ASAN
	__sanitizer_start_switch_fiber(fake_stack_save, bottom, size);
#else
	(void)fake_stack_save, (void)bottom, (void)size;
#endif
}

static void after_switch(void *fake_stack, const void **ret_bottom, size_t *ret_size)
{
#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(fake_stack, ret_bottom, ret_size);
#else
	(void)fake_stack, (void)ret_bottom, (void)ret_size;
#endif
}

/* Notes, in a fiber that has just been switched to, where it came from: ASan knows the thread's own stack, we do not. */
static void arrived(struct fiber *f)
{
	const void *bottom = NULL;
	size_t size = 0;

	after_switch(f->fake_stack, &bottom, &size);
	if (!f->resumer) {
		f->loop->thread_bottom = bottom;
		f->loop->thread_size = size;
	}
}

static void leave_to_resumer(struct fiber *f, bool for_good)
{
	const struct fiber *r = f->resumer;

	before_switch(for_good ? NULL : &f->fake_stack, r ? r->stack.bottom : f->loop->thread_bottom,
	    r ? r->stack.size : f->loop->thread_size);
	struct transfer t = jump_fcontext(f->back, NULL);
	f->back = t.context;
	arrived(f);
}

static void fiber_main(struct transfer t)
{
	struct fiber *f = t.data;

	f->back = t.context;
	arrived(f);
	f->fn(f->arg);
	assert(f->loop->current == f); /* F3 */
	f->state = FIBER_ENDED;
	leave_to_resumer(f, true);
	abort(); /* nobody resumes an ended fiber */
}

static void fiber_recycle(struct loop *l, struct fiber *f)
{
	timer_cancel(&f->timer);
	list_del(&f->in_group);
	l->fibers--;
	if (l->stack_pool_n >= STACK_POOL_MAX) {
		fiber_stack_free(f);
		return;
	}
	l->stack_pool_n++;
	list_push_front(&l->stack_pool, &f->link); /* the warmest stack is reused first */
}

void fiber_switch_to(struct loop *l, struct fiber *f)
{
	struct fiber *prev = l->current;
	struct fiber_group *prev_group = l->group;
	void **fake = prev ? &prev->fake_stack : &l->fake_stack;

	assert(f->state == FIBER_READY);
	f->state = FIBER_RUNNING;
	f->inline_run = 0;
	f->resumer = prev;
	l->current = f;
	l->group = f->group;
	before_switch(fake, f->stack.bottom, f->stack.size);
	struct transfer t = jump_fcontext(f->context, f);
	after_switch(*fake, NULL, NULL);
	f->context = t.context;
	l->current = prev;
	l->group = prev ? prev->group : prev_group;
	if (f->state == FIBER_ENDED)
		fiber_recycle(l, f);
}

void fiber_suspend(struct fiber *f, enum fiber_state state)
{
	assert(f && f->loop->current == f && f->state == FIBER_RUNNING); /* F3: not from timers or deferred work */
	f->state = state;
	leave_to_resumer(f, false);
}

void fiber_make_ready(struct fiber *f)
{
	assert(f->state != FIBER_READY && f->state != FIBER_RUNNING && f->state != FIBER_ENDED);
	f->ready_from_park = f->state == FIBER_PARKED && !f->timed_out;
	f->state = FIBER_READY;
	if (list_linked(&f->link))
		list_del(&f->link);
	list_push_back(&f->loop->ready, &f->link);
}

static void deadline_passed(void *arg)
{
	struct fiber *f = arg;

	if (f->state == FIBER_READY)
		return; /* woken in this very iteration and not run yet: the wake came first */
	f->timed_out = true;
	fiber_make_ready(f);
}

static int fiber_create(struct loop *l, const char *name, fiber_fn *fn, void *arg, struct fiber **ret)
{
	struct fiber *f;

	assert(l == loop_self());
	if (l->fibers >= l->max_fibers)
		return -EAGAIN;
	if (!list_empty(&l->stack_pool)) {
		f = list_first(&l->stack_pool, struct fiber, link);
		list_del(&f->link);
		l->stack_pool_n--;
		fiber_stack_reuse(f);
	} else {
		f = fiber_stack_new(l->stack_colour++);
		if (!f)
			return -ENOMEM;
	}
	struct fiber_stack stack = f->stack;
	*f = (struct fiber){.stack = stack, .state = FIBER_READY, .loop = l, .name = name, .fn = fn, .arg = arg, .group = l->group};
	list_init(&f->link);
	list_push_back(&f->group->fibers, &f->in_group);
	timer_init(&f->timer, deadline_passed, f);
	f->context = make_fcontext((uint8_t *)stack.bottom + stack.size, stack.size, fiber_main);
	l->fibers++;
	*ret = f;
	return 0;
}

int fiber_spawn(struct loop *l, const char *name, fiber_fn *fn, void *arg)
{
	struct fiber *f;
	int rc = fiber_create(l, name, fn, arg, &f);

	if (rc < 0)
		return rc;
	list_push_back(&l->ready, &f->link);
	return 0;
}

int fiber_run(struct loop *l, const char *name, fiber_fn *fn, void *arg)
{
	struct fiber *f;
	int rc = fiber_create(l, name, fn, arg, &f);

	if (rc < 0)
		return rc;
	fiber_switch_to(l, f);
	return 0;
}

struct fiber *fiber_self(void)
{
	struct loop *l = loop_self();

	return l ? l->current : NULL;
}

const char *fiber_name(const struct fiber *f)
{
	return f->name;
}

static struct fiber *self_checked(void)
{
	struct fiber *f = fiber_self();

	assert(f); /* only fibers may wait */
	return f;
}

/* Suspends until made ready; with a deadline, -ETIMEDOUT when that came first. */
static int suspend_until(struct fiber *f, enum fiber_state state, uint64_t deadline_ns)
{
	f->timed_out = false;
	if (deadline_ns != UINT64_MAX)
		timer_arm(&f->timer, deadline_ns);
	fiber_suspend(f, state);
	if (deadline_ns != UINT64_MAX)
		timer_cancel(&f->timer);
	return f->timed_out ? -ETIMEDOUT : 0;
}

void fiber_park(void)
{
	fiber_park_until(UINT64_MAX);
}

int fiber_park_until(uint64_t deadline_ns)
{
	struct fiber *f = self_checked();

	if (f->wake_pending) {
		f->wake_pending = false;
		return 0;
	}
	return suspend_until(f, FIBER_PARKED, deadline_ns);
}

void fiber_wake(struct fiber *f)
{
	assert(f->loop == loop_self() && f->state != FIBER_ENDED);
	if (f->state == FIBER_PARKED)
		fiber_make_ready(f);
	else if (f->state != FIBER_READY || !f->ready_from_park)
		f->wake_pending = true; /* F2 */
}

void fiber_yield(void)
{
	struct fiber *f = self_checked();

	list_push_back(&f->loop->yielded, &f->link);
	fiber_suspend(f, FIBER_ASLEEP);
}

void fiber_sleep_until(uint64_t deadline_ns)
{
	suspend_until(self_checked(), FIBER_ASLEEP, deadline_ns);
}

/* ---- groups ---- */

struct fiber_group *fiber_group_add(struct loop *l)
{
	struct fiber_group *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->loop = l;
	list_init(&g->fibers);
	list_push_back(&l->groups, &g->in_loop);
	return g;
}

struct fiber_group *fiber_group_new(struct loop *l)
{
	return fiber_group_add(l);
}

void fiber_group_enter(struct fiber_group *g)
{
	struct fiber *f = self_checked();

	list_del(&f->in_group);
	list_push_back(&g->fibers, &f->in_group);
	f->group = g;
	g->loop->group = g;
}

static void fiber_kill(struct loop *l, struct fiber *f)
{
	assert(f->state != FIBER_RUNNING);
	assert(!f->io); /* the kernel still owns a buffer of it: simulated hosts have no kernel I/O */
	if (list_linked(&f->link))
		list_del(&f->link);
	f->state = FIBER_ENDED;
	fiber_recycle(l, f);
}

static void drop_deferred(struct list *queue, const struct fiber_group *g)
{
	list_for_each_safe(d, queue, struct deferred, node) {
		if (d->group == g)
			loop_defer_cancel(d);
	}
}

void fiber_group_kill(struct fiber_group *g)
{
	struct loop *l = g->loop;

	assert(g != l->group && g != l->base_group);
	list_for_each_safe(f, &g->fibers, struct fiber, in_group)
		fiber_kill(l, f);
	timers_drop_group(l, g);
	drop_deferred(&l->deferred, g);
	drop_deferred(&l->deferred_now, g);
	list_del(&g->in_loop);
	free(g);
}

void fibers_free_all(struct loop *l)
{
	list_for_each_safe(g, &l->groups, struct fiber_group, in_loop) {
		list_for_each_safe(f, &g->fibers, struct fiber, in_group) {
			f->io = NULL; /* the backend has ended all I/O */
			fiber_kill(l, f);
		}
		list_del(&g->in_loop);
		free(g);
	}
	list_for_each_safe(f, &l->stack_pool, struct fiber, link)
		fiber_stack_free(f);
}

/* ---- wait queue ---- */

void waitq_init(struct waitq *q)
{
	list_init(&q->waiters);
}

void waitq_wait(struct waitq *q)
{
	waitq_wait_until(q, UINT64_MAX);
}

int waitq_wait_until(struct waitq *q, uint64_t deadline_ns)
{
	struct fiber *f = self_checked();

	list_push_back(&q->waiters, &f->link);
	return suspend_until(f, FIBER_QUEUED, deadline_ns); /* being made ready takes it off the queue */
}

void waitq_wake_one(struct waitq *q)
{
	if (!list_empty(&q->waiters))
		fiber_make_ready(list_first(&q->waiters, struct fiber, link));
}

void waitq_wake_all(struct waitq *q)
{
	while (!list_empty(&q->waiters))
		waitq_wake_one(q);
}

/* ---- mutex ---- */

void fmutex_init(struct fmutex *m)
{
	m->held = false;
	waitq_init(&m->q);
}

void fmutex_lock(struct fmutex *m)
{
	if (!m->held)
		m->held = true;
	else
		waitq_wait(&m->q); /* unlock hands it over without letting go */
}

void fmutex_unlock(struct fmutex *m)
{
	assert(m->held);
	if (list_empty(&m->q.waiters))
		m->held = false;
	else
		waitq_wake_one(&m->q);
}
