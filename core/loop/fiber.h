/* fiber.h - stackful coroutines on one loop, and the few ways they wait for each other.
 *
 * A fiber runs until it parks; nothing preempts it. All functions here act on the loop of the calling
 * thread (loop_self()). Stacks are pooled, 64 KiB with a guard page; switching is Boost.Context's
 * jump_fcontext. ASan is told about every switch.
 *
 * Invariants: F1 a fiber is on at most one list (ready, one waitq, or parked). F2 a wake of a fiber
 * that is not parked is remembered, so a wake is never lost between test and park. */
#ifndef MYFS_FIBER_H
#define MYFS_FIBER_H

#include "core/base/base.h"
#include "core/base/list.h"

struct fiber;
struct loop;

typedef void fiber_fn(void *arg);

/* Starts fn(arg) as a new fiber at the end of the ready queue. Name is borrowed static text. 0, -ENOMEM, or -EAGAIN at the
 * loop's fiber limit. The new fiber inherits the spawner's group. */
int fiber_spawn(struct loop *loop, const char *name, fiber_fn *fn, void *arg);
/* Like fiber_spawn but switches to the new fiber at once; returns to the caller when that fiber first parks or
 * ends. For request handlers: what they do before their first YIELDS call is atomic with the caller's. */
int fiber_run(struct loop *loop, const char *name, fiber_fn *fn, void *arg);
struct fiber *fiber_self(void);       /* NULL outside fibers */
const char *fiber_name(const struct fiber *f);

void fiber_park(void) YIELDS;         /* until fiber_wake(); returns at once when a wake is pending */
/* Until woken or the absolute monotonic time. 0 or -ETIMEDOUT. */
int fiber_park_until(uint64_t deadline_ns) YIELDS;
void fiber_wake(struct fiber *f);     /* from the same loop; makes it ready, idempotent */
void fiber_yield(void) YIELDS;        /* lets every ready fiber and pending I/O run once */
void fiber_sleep_until(uint64_t deadline_ns) YIELDS;

/* Fibers that belong together (one simulated host, one daemon): fiber_group_kill frees them wherever they are parked,
 * without running their cleanups, and disarms the timers and deferred work they (or what they armed) armed; then frees g. The host's
 * memory goes after that. Only the simulator uses it, from a fiber outside g or from the loop. */
struct fiber_group;
struct fiber_group *fiber_group_new(struct loop *loop);
void fiber_group_kill(struct fiber_group *g);
void fiber_group_enter(struct fiber_group *g); /* the calling fiber (and what it spawns) joins g */

/* FIFO wait queue. */
struct waitq {
	struct list waiters;
};
void waitq_init(struct waitq *q);
void waitq_wait(struct waitq *q) YIELDS;
int waitq_wait_until(struct waitq *q, uint64_t deadline_ns) YIELDS; /* 0 or -ETIMEDOUT */
void waitq_wake_one(struct waitq *q);
void waitq_wake_all(struct waitq *q);

/* Fiber mutex, FIFO. */
struct fmutex {
	bool held;
	struct waitq q;
};
void fmutex_init(struct fmutex *m);
void fmutex_lock(struct fmutex *m) YIELDS;
void fmutex_unlock(struct fmutex *m);

#endif
