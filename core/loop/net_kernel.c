/* net_kernel.c - the kernel's sockets as streams and listeners.
 *
 * Sends are attempted inline and go through the backend only for what the socket buffer does not take. Receives go through the
 * backend: the ring arms and delivers in the system call the loop makes anyway (measured: see core/README.md).
 * Invariants: N1 one io per direction, embedded in the stream, so at most one receiver and one sender (net.h). N2 once `down`, both
 * directions say -ECONNRESET whatever the socket says. N3 a descriptor is closed only when neither io is under way.
 * Connecting and listening are in net_socket.c. */
#include <sys/socket.h>
#include <unistd.h>

#include "core/loop/backend.h"
#include "core/loop/iov_cursor.h"
#include "core/loop/net_socket.h"

struct kernel_stream {
	struct stream s;
	int fd;
	bool down;
	bool drained; /* the last receive took all there was: the next waits first */
	struct io rx, tx;
};

static struct kernel_stream *kernel_stream(struct stream *s)
{
	return CONTAINER_OF(s, struct kernel_stream, s);
}

static ssize_t kernel_recv(struct stream *s, void *dst, size_t cap)
{
	struct kernel_stream *k = kernel_stream(s);
	int64_t n;

	if (k->down)
		return -ECONNRESET;
	assert(!k->rx.started); /* N1 */
	do {
		k->rx = (struct io){.kind = IO_RECV, .fd = k->fd, .flags = k->drained ? IO_WOULD_BLOCK : 0, .buf = dst, .len = cap};
		n = io_run(&k->rx);
		k->drained = n >= 0 && (size_t)n < cap;
	} while (n == -EINTR && !k->down);
	return k->down ? -ECONNRESET : (ssize_t)n; /* N2 */
}

static int kernel_send(struct stream *s, const struct iovec *v, unsigned n)
{
	struct kernel_stream *k = kernel_stream(s);
	struct iov_cursor at = {.v = v, .n = n};
	struct iovec window[IOV_WINDOW];

	assert(!k->tx.started); /* N1 */
	iov_cursor_advance(&at, 0);
	while (at.n > 0) {
		const struct iovec *w;
		struct msghdr msg = {.msg_iovlen = iov_cursor_window(&at, window, &w)};
		msg.msg_iov = (struct iovec *)(uintptr_t)w;
		if (k->down)
			return -ECONNRESET; /* N2 */
		loop_counters.sends++;
		int64_t sent = sendmsg(k->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0 && errno == EAGAIN) {
			k->tx = (struct io){.kind = IO_SENDMSG, .fd = k->fd, .msg = &msg};
			sent = io_run(&k->tx);
		} else if (sent < 0) {
			sent = -errno;
		} else {
			io_inline_done();
		}
		if (sent == -EINTR)
			continue;
		if (sent < 0)
			return k->down ? -ECONNRESET : (int)sent;
		iov_cursor_advance(&at, (size_t)sent);
	}
	return 0;
}

static void kernel_shutdown(struct stream *s)
{
	struct kernel_stream *k = kernel_stream(s);

	if (k->down)
		return;
	k->down = true;
	shutdown(k->fd, SHUT_RDWR);
	io_cancel(&k->rx);
	io_cancel(&k->tx);
}

static void kernel_close(struct stream *s)
{
	struct kernel_stream *k = kernel_stream(s);

	assert(!k->rx.started && !k->tx.started); /* N3 */
	io_close_socket(k->fd);
	free(k);
}

static const struct stream_ops kernel_stream_ops = {
    .recv = kernel_recv,
    .send = kernel_send,
    .shutdown = kernel_shutdown,
    .close = kernel_close,
};

int stream_from_fd(int fd, struct stream **ret, struct err *e)
{
	struct kernel_stream *k = calloc(1, sizeof(*k));

	if (!k)
		return err_set(e, -ENOMEM, "socket: out of memory");
	k->s.ops = &kernel_stream_ops;
	k->fd = fd;
	int rc = socket_prepare(fd, &k->s);
	if (rc == 0)
		rc = io_adopt_fd(fd);
	if (rc < 0) {
		free(k);
		return err_set(e, rc, "socket: %s", strerror(-rc));
	}
	*ret = &k->s;
	return 0;
}

/* ---- listeners ---- */

struct kernel_listener {
	struct listener l;
	int fd;
	bool stopped;
	struct socket_path path; /* ours to remove */
	struct io io;
};

/* Out of descriptors or memory: what is accepted next would fail as well, so the caller must not spin. */
#define ACCEPT_PAUSE_NS (50 * NS_PER_MS)

static int kernel_accept(struct listener *l, struct stream **ret)
{
	struct kernel_listener *k = CONTAINER_OF(l, struct kernel_listener, l);

	while (!k->stopped) {
		k->io = (struct io){.kind = IO_ACCEPT, .fd = k->fd};
		int64_t fd = io_run(&k->io);
		if (k->stopped) {
			if (fd >= 0)
				close((int)fd);
			break;
		}
		if (fd == -ECONNABORTED || fd == -EINTR || fd == -EPROTO || fd == -EAGAIN)
			continue; /* that peer is gone already */
		if (fd < 0) {
			fiber_sleep_until(loop_now_ns() + ACCEPT_PAUSE_NS);
			return (int)fd;
		}
		int rc = stream_from_fd((int)fd, ret, NULL);
		if (rc < 0)
			close((int)fd);
		return rc;
	}
	return -ECANCELED;
}

static void kernel_listener_stop(struct listener *l)
{
	struct kernel_listener *k = CONTAINER_OF(l, struct kernel_listener, l);

	if (k->stopped)
		return;
	k->stopped = true;
	socket_path_remove(&k->path);
	shutdown(k->fd, SHUT_RDWR);
	io_cancel(&k->io);
}

static void kernel_listener_close(struct listener *l)
{
	struct kernel_listener *k = CONTAINER_OF(l, struct kernel_listener, l);

	kernel_listener_stop(l);
	assert(!k->io.started); /* N3 */
	io_close_socket(k->fd);
	free(k);
}

static int listener_new(int fd, const struct socket_path *path, struct listener **ret, struct err *e)
{
	struct kernel_listener *k = calloc(1, sizeof(*k));

	if (!k)
		return err_set(e, -ENOMEM, "listen: out of memory");
	*k = (struct kernel_listener){.fd = fd, .path = *path};
	k->l.accept = kernel_accept;
	k->l.stop = kernel_listener_stop;
	k->l.close = kernel_listener_close;
	int rc = socket_local_address(fd, &k->l.address);
	if (rc == 0)
		rc = io_adopt_fd(fd);
	if (rc < 0) {
		free(k);
		return err_set(e, rc, "listen: %s", strerror(-rc));
	}
	*ret = &k->l;
	return 0;
}

int listener_from_fd(int fd, struct listener **ret, struct err *e)
{
	int listening = 0;
	socklen_t len = sizeof(listening);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0)
		return err_set(e, -errno, "descriptor %d: %s", fd, strerror(errno));
	if (!listening)
		return err_set(e, -EINVAL, "descriptor %d: not a listening socket", fd);
	return listener_new(fd, &(struct socket_path){.path = ""}, ret, e);
}

/* ---- struct net ---- */

static int kernel_connect(struct net *n, const struct address *a, uint64_t deadline_ns, struct stream **ret, struct err *e)
{
	(void)n;
	int fd = socket_connect(a, deadline_ns, e);
	if (fd < 0)
		return fd;
	int rc = stream_from_fd(fd, ret, e);
	if (rc < 0)
		io_close_socket(fd);
	return rc;
}

static int kernel_listen(struct net *n, const struct address *a, struct listener **ret, struct err *e)
{
	struct socket_path path = {.path = ""};

	(void)n;
	int fd = socket_listen(a, &path, e);
	if (fd < 0)
		return fd;
	int rc = listener_new(fd, &path, ret, e);
	if (rc < 0) {
		socket_path_remove(&path);
		close(fd);
	}
	return rc;
}

struct net *net_kernel(void)
{
	static struct net net = {.connect = kernel_connect, .listen = kernel_listen};

	return &net;
}
