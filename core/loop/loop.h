/* loop.h - one scheduler: ready fibers, timers, end-of-iteration work, and a backend that waits for the world.
 *
 * One iteration: run ready fibers until none is ready -> run deferred work (queued output goes out, journals are
 * written; this may make fibers ready again) -> submit everything to the kernel in one call -> wait for completions or
 * the next timer. Backends: io_uring, epoll + thread pool (where io_uring is forbidden), and tests/sim's virtual one. */
#ifndef MYFS_LOOP_H
#define MYFS_LOOP_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/base/list.h"
#include "core/loop/fiber.h"

enum loop_backend_kind { LOOP_AUTO, LOOP_URING, LOOP_EPOLL };

struct loop_options {
	enum loop_backend_kind backend; /* LOOP_AUTO: io_uring when the kernel has it, else epoll; MYFS_LOOP=epoll|uring overrides */
	unsigned max_fibers;            /* 0 = 65536 */
	bool spins;                     /* looks for events a moment before it sleeps, when that has paid (spin.c) */
};

struct loop;

/* Makes this thread's loop. 0 or a negative code with text in e. */
int loop_new(const struct loop_options *opt, struct loop **ret, struct err *e);
void loop_free(struct loop *l);
struct loop *loop_self(void);
const char *loop_backend_name(const struct loop *l); /* "io_uring", "epoll", "sim" */
/* Runs until loop_stop() and returns. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);
/* Runs fn(arg) as a fiber and the loop until that fiber ends: for programs and tests without a loop of their own. */
int loop_run_fiber(struct loop *l, const char *name, fiber_fn *fn, void *arg);

uint64_t loop_now_ns(void); /* monotonic (CLOCK_BOOTTIME), read once per loop iteration and after each wait */
uint64_t loop_precise_ns(void); /* monotonic, read now: for latency measurement */
uint64_t loop_wall_ns(void); /* CLOCK_REALTIME, for timestamps people read */
void loop_random(void *dst, size_t len); /* getrandom(), or the simulator's seed */

struct timer {
	uint64_t deadline_ns;
	void (*fn)(void *arg); /* called from the loop, not in a fiber: must not park; wake a fiber or spawn one */
	void *arg;
	unsigned heap_index; /* private, as all below */
	bool armed;
	uint64_t seq;        /* equal deadlines fire in the order armed */
	struct fiber_group *group;
};
void timer_init(struct timer *t, void (*fn)(void *arg), void *arg);
void timer_arm(struct timer *t, uint64_t deadline_ns); /* re-arming moves it */
void timer_cancel(struct timer *t);

/* Work that runs once at the end of the current iteration, in the order queued, outside fibers (it must not park). */
struct deferred {
	struct list node;
	void (*fn)(void *arg);
	void *arg;
	struct fiber_group *group; /* private */
};
void deferred_init(struct deferred *d, void (*fn)(void *arg), void *arg);
void loop_defer(struct deferred *d); /* idempotent while queued */
void loop_defer_cancel(struct deferred *d);

/* Runs fn(arg) on a thread of the loop's small pool while the calling fiber waits: for calls that may block (name lookup, a
 * database). fn must not touch anything the loop may touch meanwhile. The simulator runs it in place. Returns fn's value. */
int64_t loop_offload(int64_t (*fn)(void *arg), void *arg) YIELDS;

/* More (1) or fewer (-1) answers of other processes that somebody waits for: with few of them the loop looks for them a moment before it
 * sleeps (spin.h). */
void loop_await(int change);

/* System calls this thread's loop made, and operations it handed to the kernel with them: always counted, never reset. */
struct loop_counters {
	uint64_t waits;   /* io_uring_enter, epoll_wait */
	uint64_t submits; /* io_uring_enter because the queue was full */
	uint64_t sends, receives; /* made in place */
	uint64_t reads, writes;   /* of files, made in place */
	uint64_t queued;  /* operations given to the ring or to pool threads */
};
extern _Thread_local struct loop_counters loop_counters;

/* SIGTERM/SIGINT/SIGHUP arrive as a call of fn on the loop. */
int loop_on_signals(struct loop *l, void (*fn)(void *arg, int signo), void *arg);

#endif
