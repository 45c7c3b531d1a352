/* loop_fixture.h - runs the body of a test as a fiber, once on each backend of the loop. */
#ifndef MYFS_TEST_LOOP_FIXTURE_H
#define MYFS_TEST_LOOP_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/loop/loop.h"

/* cmocka leaves a failed test by longjmp, which must not cross from a fiber to the thread's stack: checks in fibers end the program. */
#define CHECK(cond)                                                                                                    \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "%s:%d: on %s: %s\n", __FILE__, __LINE__, loop_backend_name(loop_self()), #cond); \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static inline void on_backend(enum loop_backend_kind kind, fiber_fn *body)
{
	struct loop *l;
	struct err e = ERR_INIT;

	int rc = loop_new(&(struct loop_options){.backend = kind}, &l, &e);
	if (rc < 0 && kind == LOOP_URING)
		return; /* this kernel forbids it: nothing to test */
	if (rc < 0)
		fail_msg("loop: %s", e.text);
	assert_int_equal(loop_run_fiber(l, "test", body, l), 0);
	loop_free(l);
}

static inline void on_every_backend(fiber_fn *body)
{
	on_backend(LOOP_URING, body);
	on_backend(LOOP_EPOLL, body);
}

#endif
