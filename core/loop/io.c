/* io.c - one operation from start to end: the fiber's side of backend.h. */
#include <unistd.h>

#include "core/loop/backend.h"
#include "core/loop/loop_priv.h"

void io_start(struct io *io)
{
	struct backend *b = loop_self()->backend;

	io->started = true;
	io->done = false;
	b->start(b, io);
}

void io_end(struct io *io, int64_t res)
{
	assert(io->started && !io->done);
	io->res = res;
	io->started = false;
	io->done = true;
	if (io->waiter) {
		io->waiter->io = NULL;
		fiber_make_ready(io->waiter);
		io->waiter = NULL;
	} else if (io->fn) {
		io->fn(io);
	}
}

void io_cancel(struct io *io)
{
	struct backend *b = loop_self()->backend;

	if (io->started)
		b->cancel(b, io);
}

int64_t io_wait(struct io *io)
{
	struct fiber *f = fiber_self();

	if (io->done)
		return io->res;
	assert(f && io->started && !io->waiter);
	io->waiter = f;
	f->io = io;
	fiber_suspend(f, FIBER_IN_IO);
	return io->res;
}

struct deadline {
	struct timer timer;
	struct io *io;
	bool passed;
};

static void deadline_passed(void *arg)
{
	struct deadline *d = arg;

	d->passed = true;
	io_cancel(d->io);
}

int64_t io_run_until(struct io *io, uint64_t deadline_ns)
{
	struct deadline d = {.io = io};

	io_start(io);
	if (deadline_ns == UINT64_MAX)
		return io_wait(io);
	timer_init(&d.timer, deadline_passed, &d);
	timer_arm(&d.timer, deadline_ns);
	int64_t res = io_wait(io);
	timer_cancel(&d.timer);
	return d.passed && res == -ECANCELED ? -ETIMEDOUT : res;
}

void io_inline_done(void)
{
	struct fiber *f = fiber_self();

	if (f && ++f->inline_run >= INLINE_RUN_MAX)
		fiber_yield();
}

int io_adopt_fd(int fd)
{
	struct backend *b = loop_self()->backend;

	return b->adopt_fd ? b->adopt_fd(b, fd) : 0;
}

void io_close_socket(int fd)
{
	struct backend *b = loop_self()->backend;

	if (b->forget_fd)
		b->forget_fd(b, fd);
	close(fd);
}

int64_t loop_offload(int64_t (*fn)(void *arg), void *arg)
{
	struct io io = {.kind = IO_WORK, .fd = -1, .work = fn, .arg = arg};

	return io_run(&io);
}
