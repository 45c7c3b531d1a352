/* uring.c - the io_uring backend: one submit-and-wait system call per loop iteration.
 *
 * Invariants: U1 `inflight` counts ios whose completion has not been seen; free() cancels and waits until it is 0, so the
 * kernel never writes into memory we gave back. U2 user_data is the struct io, or 0 for cancel requests.
 * Setup flags are tried best first: DEFER_TASKRUN runs completions only when we ask, COOP_TASKRUN is its older
 * relative. The pool and wake() reach us through an eventfd that the ring reads. */
#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/loop/backend.h"
#include "core/loop/pool.h"

#define SQ_ENTRIES 1024u
#define CQ_ENTRIES 8192u

struct uring {
	struct backend b;
	struct io_uring ring;
	unsigned inflight;
	bool closing;
	struct pool *pool;
	int event_fd;
	uint64_t event_count;
	struct io event_io;
};

static struct uring *uring_of(struct backend *b)
{
	return CONTAINER_OF(b, struct uring, b);
}

/* Ends what is done. Runs no fiber and queues nothing, so it may be called while an SQE is wanted. */
static void reap(struct uring *u)
{
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	io_uring_for_each_cqe(&u->ring, head, cqe) {
		struct io *io = io_uring_cqe_get_data(cqe);
		n++;
		if (!io)
			continue;
		u->inflight--;
		io_end(io, cqe->res);
	}
	io_uring_cq_advance(&u->ring, n);
}

static struct io_uring_sqe *sqe_get(struct uring *u)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&u->ring))) {
		loop_counters.submits++;
		if (io_uring_submit(&u->ring) < 0) /* full, and completions are in the way */
			reap(u);
	}
	return sqe;
}

static void sqe_fill(struct io_uring_sqe *sqe, const struct io *io)
{
	switch (io->kind) {
	case IO_RECV:
		io_uring_prep_recv(sqe, io->fd, io->buf, io->len, 0);
		if (io->flags & IO_WOULD_BLOCK)
			sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
		break;
	case IO_SENDMSG:
		io_uring_prep_sendmsg(sqe, io->fd, io->msg, MSG_NOSIGNAL);
		break;
	case IO_ACCEPT:
		io_uring_prep_accept(sqe, io->fd, NULL, NULL, SOCK_CLOEXEC);
		break;
	case IO_CONNECT:
		io_uring_prep_connect(sqe, io->fd, io->addr, io->addr_len);
		break;
	case IO_POLL_IN:
		io_uring_prep_poll_add(sqe, io->fd, POLLIN);
		break;
	case IO_PREAD:
		io_uring_prep_read(sqe, io->fd, io->buf, (unsigned)min_u64(io->len, GIB(1)), io->off);
		break;
	case IO_PWRITEV:
		io_uring_prep_writev(sqe, io->fd, io->iov, io->iov_n, io->off);
		break;
	case IO_FSYNC:
		io_uring_prep_fsync(sqe, io->fd, io->flags & IO_DATASYNC ? IORING_FSYNC_DATASYNC : 0);
		break;
	case IO_FALLOCATE:
		io_uring_prep_fallocate(sqe, io->fd, io->flags, (off_t)io->off, (off_t)io->len);
		break;
	case IO_WORK:
		break;
	}
}

static void uring_start(struct backend *b, struct io *io)
{
	struct uring *u = uring_of(b);

	loop_counters.queued++;
	if (io->kind == IO_WORK) {
		pool_start(u->pool, io);
		return;
	}
	u->inflight++;
	struct io_uring_sqe *sqe = sqe_get(u);
	sqe_fill(sqe, io);
	io_uring_sqe_set_data(sqe, io); /* U2 */
}

static void uring_cancel(struct backend *b, struct io *io)
{
	if (io->kind == IO_WORK)
		return;
	struct io_uring_sqe *sqe = sqe_get(uring_of(b));
	io_uring_prep_cancel(sqe, io, 0);
	io_uring_sqe_set_data(sqe, NULL);
}

static void event_arm(struct uring *u)
{
	u->inflight++;
	u->event_io.started = true;
	u->event_io.done = false;
	struct io_uring_sqe *sqe = sqe_get(u);
	io_uring_prep_read(sqe, u->event_fd, &u->event_count, sizeof(u->event_count), 0);
	io_uring_sqe_set_data(sqe, &u->event_io);
}

static void event_arrived(struct io *io)
{
	struct uring *u = CONTAINER_OF(io, struct uring, event_io);

	if (!u->closing)
		pool_reap(u->pool);
}

static void uring_wait(struct backend *b, uint64_t deadline_ns)
{
	struct uring *u = uring_of(b);
	uint64_t now;

	if (deadline_ns != 0 && io_uring_cq_ready(&u->ring) > 0)
		deadline_ns = 0;
	if (deadline_ns == 0 || deadline_ns <= (now = kernel_now_ns(b))) {
		if (io_uring_sq_ready(&u->ring) || (IO_URING_READ_ONCE(*u->ring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW))) {
			loop_counters.waits++;
			io_uring_submit_and_get_events(&u->ring);
		}
	} else if (deadline_ns == UINT64_MAX) {
		loop_counters.waits++;
		io_uring_submit_and_wait(&u->ring, 1);
	} else {
		uint64_t left = deadline_ns - now;
		struct __kernel_timespec ts = {.tv_sec = (long long)(left / NS_PER_S), .tv_nsec = (long long)(left % NS_PER_S)};
		struct io_uring_cqe *cqe;
		loop_counters.waits++;
		io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
	}
	/* Errors of these calls (EINTR, EBUSY, ETIME) mean: look again next time. */
	reap(u);
	if (u->event_io.done)
		event_arm(u);
}

static void uring_wake(struct backend *b)
{
	eventfd_write(uring_of(b)->event_fd, 1);
}

/* The ring refuses to wait on non-blocking descriptors. */
static int uring_adopt_fd(struct backend *b, int fd)
{
	(void)b;
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return -errno;
	return (flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ? -errno : 0;
}

static void uring_free(struct backend *b)
{
	struct uring *u = uring_of(b);

	u->closing = true;
	pool_free(u->pool);
	while (u->inflight > 0) { /* U1 */
		struct io_uring_sqe *sqe = sqe_get(u);
		io_uring_prep_cancel(sqe, NULL, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
		io_uring_sqe_set_data(sqe, NULL);
		io_uring_submit_and_wait(&u->ring, 1);
		reap(u);
	}
	io_uring_queue_exit(&u->ring);
	close(u->event_fd);
	free(u);
}

static int ring_open(struct io_uring *ring)
{
	static const unsigned tries[] = {
	    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	};
	int rc = -EINVAL;

	for (unsigned i = 0; i < ARRAY_LEN(tries) && rc == -EINVAL; i++) {
		struct io_uring_params p = {
		    .flags = tries[i] | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
		    .cq_entries = CQ_ENTRIES,
		};
		rc = io_uring_queue_init_params(SQ_ENTRIES, ring, &p);
		if (rc == 0 && !(p.features & IORING_FEAT_EXT_ARG)) {
			io_uring_queue_exit(ring);
			rc = -EOPNOTSUPP;
		}
	}
	return rc;
}

int uring_backend_new(struct backend **ret, struct err *e)
{
	struct uring *u = calloc(1, sizeof(*u));

	if (!u)
		return err_set(e, -ENOMEM, "io_uring: out of memory");
	int rc = ring_open(&u->ring);
	if (rc < 0) {
		free(u);
		return err_set(e, rc, "io_uring: %s (a kernel from 5.19 on that allows it is needed)", strerror(-rc));
	}
	u->event_fd = eventfd(0, EFD_CLOEXEC);
	u->pool = u->event_fd >= 0 ? pool_new(u->event_fd) : NULL;
	if (!u->pool) {
		if (u->event_fd >= 0)
			close(u->event_fd);
		io_uring_queue_exit(&u->ring);
		free(u);
		return err_set(e, -ENOMEM, "io_uring: no memory or descriptors for the thread pool");
	}
	u->event_io.fn = event_arrived;
	u->b = (struct backend){
	    .name = "io_uring",
	    .real_time = true,
	    .start = uring_start,
	    .cancel = uring_cancel,
	    .wait = uring_wait,
	    .wake = uring_wake,
	    .adopt_fd = uring_adopt_fd,
	    .now_ns = kernel_now_ns,
	    .wall_ns = kernel_wall_ns,
	    .random = kernel_random,
	    .free = uring_free,
	};
	event_arm(u);
	*ret = &u->b;
	return 0;
}
