/* http.c - see http.h.
 *
 * Invariants: H1 only the fiber http_main enters the daemon between start and stop. H2 `polled` is under way only while that fiber waits in
 * io_run_until; http_server_stop cancels it and waits until the fiber has ended. */
#include "core/loop/http.h"

#include <fcntl.h>
#include <microhttpd.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/loop/backend.h"
#include "core/loop/net_socket.h"

struct http_server {
	struct MHD_Daemon *daemon;
	int epoll_fd;
	const struct http_page *pages;
	void *arg;
	struct socket_path path; /* ours to remove */
	struct io polled;        /* H2 */
	bool stopping, running;
	struct waitq ended;
};

static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, const char *type, void *body, size_t len)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(len, body, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result rc = MHD_NO;

	if (!r)
		return MHD_NO;
	if (MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type) == MHD_YES &&
	    (status != MHD_HTTP_METHOD_NOT_ALLOWED || MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD") == MHD_YES))
		rc = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return rc;
}

static enum MHD_Result answer_text(struct MHD_Connection *c, unsigned status, const char *text)
{
	return answer(c, status, "text/plain; charset=utf-8", (void *)(uintptr_t)text, strlen(text));
}

static enum MHD_Result answer_page(struct http_server *s, struct MHD_Connection *c, const struct http_page *p) YIELDS
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	int rc = out ? p->print(s->arg, out) : -ENOMEM;

	if (out && (ferror(out) | fclose(out)) && rc == 0)
		rc = -ENOMEM;
	enum MHD_Result res = rc == 0 ? answer(c, MHD_HTTP_OK, p->content_type, text, len)
				      : answer_text(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "the page cannot be made now\n");
	free(text);
	return res;
}

/* libmicrohttpd calls this when the headers are in, again for every piece of a body, and at the end of the request. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method, const char *version, const char *data,
				  size_t *data_len, void **state)
{
	static char seen;
	struct http_server *s = arg;

	(void)version;
	(void)data;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return answer_text(c, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
	if (!*state) {
		*state = &seen;
		return MHD_YES;
	}
	*data_len = 0; /* a body with GET means nothing */
	for (const struct http_page *p = s->pages; p->path; p++)
		if (strcmp(p->path, url) == 0)
			return answer_page(s, c, p);
	return answer_text(c, MHD_HTTP_NOT_FOUND, "not here\n");
}

static void http_main(void *arg)
{
	struct http_server *s = arg;

	while (!s->stopping) {
		MHD_UNSIGNED_LONG_LONG ms;
		uint64_t deadline = MHD_get_timeout(s->daemon, &ms) == MHD_YES ? loop_now_ns() + ms * NS_PER_MS : UINT64_MAX;

		s->polled = (struct io){.kind = IO_POLL_IN, .fd = s->epoll_fd};
		io_run_until(&s->polled, deadline);
		if (!s->stopping)
			MHD_run(s->daemon);
	}
	s->running = false;
	waitq_wake_all(&s->ended);
}

static int daemon_start(struct http_server *s, int fd, struct err *e)
{
	const union MHD_DaemonInfo *info;

	s->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, s, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
				     HTTP_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_CONNECTION_BYTES,
				     MHD_OPTION_CONNECTION_TIMEOUT, HTTP_IDLE_S, MHD_OPTION_END);
	if (!s->daemon) {
		close(fd);
		return err_set(e, -EIO, "libmicrohttpd does not start");
	}
	info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info || info->epoll_fd < 0)
		return err_set(e, -ENOTSUP, "libmicrohttpd was built without epoll");
	s->epoll_fd = fcntl(info->epoll_fd, F_DUPFD_CLOEXEC, 0); /* the loop may keep it registered: it must not be closed behind its back */
	return s->epoll_fd < 0 ? err_set(e, -errno, "epoll: %s", strerror(errno)) : 0;
}

static int listen_here(struct http_server *s, const struct address *a, struct address *ret_real, int *ret_fd, struct err *e) YIELDS
{
	struct address real = *a;
	int fd = socket_listen(a, &s->path, e), rc = 0;

	if (fd < 0)
		return fd;
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		rc = err_set(e, -errno, "socket: %s", strerror(errno));
	if (rc == 0 && a->kind == ADDRESS_TCP)
		rc = socket_local_address(fd, &real);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	if (ret_real)
		*ret_real = real;
	*ret_fd = fd;
	return 0;
}

int http_server_start(const struct address *a, const struct http_page *pages, void *arg, struct address *ret_real, struct http_server **ret, struct err *e)
{
	struct http_server *s = calloc(1, sizeof(*s));
	char text[ADDRESS_TEXT];
	int fd, rc;

	if (!s)
		return err_set(e, -ENOMEM, "no memory");
	s->pages = pages;
	s->arg = arg;
	s->epoll_fd = -1;
	waitq_init(&s->ended);
	rc = listen_here(s, a, ret_real, &fd, e);
	if (rc == 0)
		rc = daemon_start(s, fd, e);
	if (rc == 0) {
		s->running = true;
		rc = fiber_spawn(loop_self(), "http", http_main, s);
		if (rc < 0) {
			s->running = false;
			err_set(e, rc, "cannot start a fiber");
		}
	}
	if (rc < 0) {
		http_server_stop(s);
		return err_wrap(e, rc, "HTTP on %s", address_text(a, text));
	}
	*ret = s;
	return 0;
}

void http_server_stop(struct http_server *s)
{
	if (!s)
		return;
	s->stopping = true;
	io_cancel(&s->polled);
	while (s->running)
		waitq_wait(&s->ended);
	if (s->epoll_fd >= 0)
		io_close_socket(s->epoll_fd);
	if (s->daemon)
		MHD_stop_daemon(s->daemon);
	socket_path_remove(&s->path);
	free(s);
}
