/* epoll.c - the backend for kernels and containers that forbid io_uring: readiness for sockets, the pool for files.
 *
 * A socket operation is attempted at once; when it would block, it waits in its descriptor's slot (one reader, one writer)
 * and is attempted again at each edge. Edge-triggered registration happens at the first wait and stays until forget_fd().
 * Invariants: E1 slots[fd] has an io only while that io is under way. E2 an edge cannot be missed: the attempt that found the
 * socket not ready came after the registration, or registering reports what is ready as a first edge. */
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/loop/backend.h"
#include "core/loop/pool.h"

#define EVENTS_PER_WAIT 256

struct slot {
	struct io *reader, *writer;
	bool registered;
};

struct epoll {
	struct backend b;
	int fd;
	int event_fd;
	struct pool *pool;
	struct slot *slots;
	size_t slots_n;
};

static struct epoll *epoll_of(struct backend *b)
{
	return CONTAINER_OF(b, struct epoll, b);
}

static int64_t attempt(const struct io *io)
{
	int64_t n;

	do {
		switch (io->kind) {
		case IO_RECV:
			loop_counters.receives++;
			n = recv(io->fd, io->buf, io->len, MSG_DONTWAIT);
			break;
		case IO_SENDMSG:
			loop_counters.sends++;
			n = sendmsg(io->fd, io->msg, MSG_DONTWAIT | MSG_NOSIGNAL);
			break;
		case IO_ACCEPT:
			n = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC);
			break;
		default:
			return -EOPNOTSUPP;
		}
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* connect(2) is begun once; after that the socket's error tells. */
static int64_t connect_begin(const struct io *io)
{
	return connect(io->fd, io->addr, io->addr_len) < 0 ? -errno : 0;
}

static int64_t connect_result(const struct io *io)
{
	int so_error = 0;
	socklen_t len = sizeof(so_error);

	return getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &so_error, &len) < 0 ? -errno : -so_error;
}

static struct slot *slot_of(struct epoll *p, int fd)
{
	size_t want = (size_t)fd + 1;

	if (want > p->slots_n) {
		size_t n = max_u64(want, max_u64(64, 2 * p->slots_n));
		struct slot *v = realloc(p->slots, n * sizeof(*v));
		if (!v)
			return NULL;
		memset(v + p->slots_n, 0, (n - p->slots_n) * sizeof(*v));
		p->slots = v;
		p->slots_n = n;
	}
	return &p->slots[fd];
}

static bool is_writer(const struct io *io)
{
	return io->kind == IO_SENDMSG || io->kind == IO_CONNECT;
}

static int slot_park(struct epoll *p, struct io *io)
{
	struct slot *s = slot_of(p, io->fd);

	if (!s)
		return -ENOMEM;
	if (!s->registered) {
		struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = io->fd};
		if (epoll_ctl(p->fd, EPOLL_CTL_ADD, io->fd, &ev) < 0)
			return -errno; /* adding reports present readiness as an edge: E2 */
		s->registered = true;
	}
	struct io **place = is_writer(io) ? &s->writer : &s->reader;
	assert(!*place); /* E1 */
	*place = io;
	return 0;
}

/* Level-triggered in meaning: ready is ready, however long ago the edge was. */
static bool readable_now(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return poll(&pfd, 1, 0) > 0;
}

static void epoll_start(struct backend *b, struct io *io)
{
	struct epoll *p = epoll_of(b);
	int64_t res;

	switch (io->kind) {
	case IO_RECV:
	case IO_SENDMSG:
	case IO_ACCEPT:
		res = attempt(io);
		break;
	case IO_CONNECT:
		res = connect_begin(io);
		break;
	case IO_POLL_IN:
		res = readable_now(io->fd) ? POLLIN : -EAGAIN;
		break;
	default:
		loop_counters.queued++;
		pool_start(p->pool, io);
		return;
	}
	/* A unix socket whose listener is full says EAGAIN and will not tell when that changes: it ends the connect. */
	bool blocked = io->kind == IO_CONNECT ? res == -EINPROGRESS : res == -EAGAIN;
	if (blocked)
		res = slot_park(p, io);
	if (!blocked || res < 0)
		io_end(io, res);
}

static void epoll_cancel(struct backend *b, struct io *io)
{
	struct epoll *p = epoll_of(b);

	if (io->fd < 0 || (size_t)io->fd >= p->slots_n)
		return;
	struct slot *s = &p->slots[io->fd];
	if (s->reader == io)
		s->reader = NULL;
	else if (s->writer == io)
		s->writer = NULL;
	else
		return; /* on the pool: it cannot be called back */
	io_end(io, -ECANCELED);
}

static void slot_reader_ready(struct slot *s)
{
	struct io *io = s->reader;

	if (!io)
		return;
	int64_t res = io->kind == IO_POLL_IN ? POLLIN : attempt(io);
	if (res == -EAGAIN)
		return;
	s->reader = NULL;
	io_end(io, res);
}

static void slot_writer_ready(struct slot *s)
{
	struct io *io = s->writer;

	if (!io)
		return;
	int64_t res = io->kind == IO_CONNECT ? connect_result(io) : attempt(io);
	if (res == -EAGAIN)
		return;
	s->writer = NULL;
	io_end(io, res);
}

static void event_ready(struct epoll *p, const struct epoll_event *ev)
{
	if (ev->data.fd == p->event_fd) {
		eventfd_t count;
		eventfd_read(p->event_fd, &count);
		pool_reap(p->pool);
		return;
	}
	struct slot *s = &p->slots[ev->data.fd];
	if (ev->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		slot_reader_ready(s);
	if (ev->events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		slot_writer_ready(s);
}

static void epoll_wait_events(struct backend *b, uint64_t deadline_ns)
{
	struct epoll *p = epoll_of(b);
	struct epoll_event events[EVENTS_PER_WAIT];
	struct timespec ts = {0, 0}, *timeout = &ts;

	if (deadline_ns == UINT64_MAX) {
		timeout = NULL;
	} else if (deadline_ns != 0) {
		uint64_t now = kernel_now_ns(b), left = deadline_ns > now ? deadline_ns - now : 0;
		ts = (struct timespec){.tv_sec = (time_t)(left / NS_PER_S), .tv_nsec = (long)(left % NS_PER_S)};
	}
	loop_counters.waits++;
	int n = epoll_pwait2(p->fd, events, EVENTS_PER_WAIT, timeout, NULL);
	if (n < 0 && errno == ENOSYS) { /* before kernel 5.11: whole milliseconds, rounded up */
		uint64_t ms = timeout ? div_up_u64((uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec, NS_PER_MS) : 0;
		n = epoll_wait(p->fd, events, EVENTS_PER_WAIT, timeout ? (int)min_u64(ms, 1000000) : -1);
	}
	for (int i = 0; i < n; i++)
		event_ready(p, &events[i]);
}

static void epoll_wake(struct backend *b)
{
	eventfd_write(epoll_of(b)->event_fd, 1);
}

static int epoll_adopt_fd(struct backend *b, int fd)
{
	(void)b;
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return -errno;
	return fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

static void epoll_forget_fd(struct backend *b, int fd)
{
	struct epoll *p = epoll_of(b);

	if ((size_t)fd >= p->slots_n)
		return;
	struct slot *s = &p->slots[fd];
	assert(!s->reader && !s->writer); /* nobody closes under a waiter */
	if (s->registered)
		epoll_ctl(p->fd, EPOLL_CTL_DEL, fd, NULL);
	s->registered = false;
}

static void epoll_free(struct backend *b)
{
	struct epoll *p = epoll_of(b);

	pool_free(p->pool);
	for (size_t i = 0; i < p->slots_n; i++) {
		if (p->slots[i].reader)
			epoll_cancel(b, p->slots[i].reader);
		if (p->slots[i].writer)
			epoll_cancel(b, p->slots[i].writer);
	}
	if (p->event_fd >= 0)
		close(p->event_fd);
	if (p->fd >= 0)
		close(p->fd);
	free(p->slots);
	free(p);
}

int epoll_backend_new(struct backend **ret, struct err *e)
{
	struct epoll *p = calloc(1, sizeof(*p));

	if (!p)
		return err_set(e, -ENOMEM, "epoll: out of memory");
	p->b = (struct backend){
	    .name = "epoll",
	    .real_time = true,
	    .start = epoll_start,
	    .cancel = epoll_cancel,
	    .wait = epoll_wait_events,
	    .wake = epoll_wake,
	    .adopt_fd = epoll_adopt_fd,
	    .forget_fd = epoll_forget_fd,
	    .now_ns = kernel_now_ns,
	    .wall_ns = kernel_wall_ns,
	    .random = kernel_random,
	    .free = epoll_free,
	};
	p->fd = epoll_create1(EPOLL_CLOEXEC);
	p->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->pool = p->event_fd >= 0 ? pool_new(p->event_fd) : NULL;
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = p->event_fd};
	if (p->fd < 0 || !p->pool || epoll_ctl(p->fd, EPOLL_CTL_ADD, p->event_fd, &ev) < 0) {
		int rc = errno ? -errno : -ENOMEM;
		epoll_free(&p->b);
		return err_set(e, rc, "epoll: %s", strerror(-rc));
	}
	*ret = &p->b;
	return 0;
}
