/* loop_priv.h - the inside of a loop and of a fiber, shared by the files of core/loop only.
 *
 * Fiber states and who moves them on:
 *
 *   READY --run--> RUNNING --park--> PARKED --fiber_wake or deadline--> READY
 *                     |----waitq_wait--> QUEUED --waitq_wake_* or deadline--> READY
 *                     |----io_wait-----> IN_IO --io_end--> READY
 *                     |----sleep-------> ASLEEP --deadline--> READY
 *                     |----return------> ENDED (stack goes back to the pool)
 *
 * Only PARKED is ended by fiber_wake(); in every other state the wake is kept in wake_pending for the next park (F2). */
#ifndef MYFS_LOOP_PRIV_H
#define MYFS_LOOP_PRIV_H

#include "core/loop/backend.h"
#include "core/loop/fiber.h"
#include "core/loop/loop.h"
#include "core/loop/spin.h"

enum fiber_state { FIBER_READY, FIBER_RUNNING, FIBER_PARKED, FIBER_QUEUED, FIBER_IN_IO, FIBER_ASLEEP, FIBER_ENDED };

/* A mapping: guard page, stack growing down to it, and the struct fiber at its upper end. */
struct fiber_stack {
	void *map;
	size_t map_len;
	void *bottom;  /* lowest usable address */
	size_t size;   /* usable bytes, up to the struct fiber */
	unsigned valgrind_id;
};

struct fiber {
	struct list link;      /* F1: ready queue, yielded list or a waitq; alone otherwise. Pool list when ended */
	struct list in_group;
	struct fiber_group *group;
	enum fiber_state state;
	bool wake_pending;
	bool timed_out;
	unsigned inline_run;   /* operations done in place since it was resumed */
	bool ready_from_park;  /* READY because of a wake: another wake adds nothing */
	void *context;         /* where to resume it */
	void *back;            /* where to go when it suspends */
	struct fiber *resumer; /* NULL: the loop */
	void *fake_stack;      /* ASan */
	struct loop *loop;
	const char *name;
	fiber_fn *fn;
	void *arg;
	struct timer timer;
	struct io *io;         /* IN_IO */
	struct fiber_stack stack;
};

struct fiber_group {
	struct list fibers;
	struct list in_loop;
	struct loop *loop;
};

struct timer_heap {
	struct timer **v;
	unsigned n, cap;
	uint64_t next_seq;
};

struct loop {
	struct backend *backend;
	uint64_t now_ns;
	bool stop;
	bool main_ended;           /* loop_run_fiber()'s fiber has returned */
	struct fiber *current;
	struct fiber_group *group; /* of whoever runs now: what it arms and spawns belongs to it */
	struct fiber_group *base_group;
	struct list groups;
	struct list ready;
	struct list yielded;       /* become ready after the next look at the kernel */
	struct list deferred;
	struct list deferred_now;  /* the batch being run */
	struct timer_heap timers;
	struct spin spin;
	unsigned fibers, max_fibers;
	struct list stack_pool;    /* ended fibers */
	unsigned stack_pool_n;
	unsigned stack_colour;
	void *fake_stack;          /* ASan: of the thread's own stack */
	const void *thread_bottom;
	size_t thread_size;
	struct loop_signals *signals;
};

/* fiber_stack.c: NULL without memory. The struct fiber is zeroed but for its stack. */
struct fiber *fiber_stack_new(unsigned colour);
void fiber_stack_free(struct fiber *f);
void fiber_stack_reuse(struct fiber *f); /* forget what a killed fiber left behind */

/* fiber.c */
void fiber_switch_to(struct loop *l, struct fiber *f);
void fiber_make_ready(struct fiber *f);
void fiber_suspend(struct fiber *f, enum fiber_state state);
struct fiber_group *fiber_group_add(struct loop *l);
void fibers_free_all(struct loop *l);

/* timer.c */
uint64_t timers_next_ns(const struct loop *l); /* UINT64_MAX when none */
void timers_run(struct loop *l);
void timers_drop_group(struct loop *l, const struct fiber_group *g);

/* signals.c */
void signals_free(struct loop *l);

#endif
