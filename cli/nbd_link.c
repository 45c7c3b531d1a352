#include "cli/nbd_link.h"

#include <fcntl.h>
#include <libnbd.h>
#include <linux/nbd.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

bool nbd_uri_is_tls(const char *uri)
{
	return strncmp(uri, "nbds", 4) == 0;
}

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int failed(struct err *e, const char *uri)
{
	const char *text = nbd_get_error();
	int code = nbd_get_errno();
	return err_set(e, code > 0 ? -code : -ECONNREFUSED, "%s: %s", uri, text != NULL ? text : "no connection");
}

/* Lets the handshake go on until it rests. 0 or -errno. */
static int settle(struct nbd_handle *h, const char *uri, int64_t deadline_ms, struct err *e)
{
	while (nbd_aio_is_connecting(h) == 1) {
		int64_t left = deadline_ms - now_ms();
		if (left <= 0)
			return err_set(e, -ETIMEDOUT, "%s: the handshake does not end", uri);
		if (nbd_poll(h, (int)left) < 0)
			return failed(e, uri);
	}
	if (nbd_aio_is_dead(h) == 1 || nbd_aio_is_closed(h) == 1)
		return err_set(e, -ECONNREFUSED, "%s: the connection was closed", uri);
	return 0;
}

static int begin(const char *uri, bool probe, int64_t deadline_ms, struct nbd_handle **ret, struct err *e)
{
	if (nbd_uri_is_tls(uri))
		return err_set(e, -EPROTONOSUPPORT, "%s asks for TLS, which the kernel's NBD client does not have", uri);
	struct nbd_handle *h = nbd_create();
	if (h == NULL)
		return failed(e, uri);
	int rc = 0;
	if (nbd_set_request_structured_replies(h, false) < 0 || nbd_set_tls(h, LIBNBD_TLS_DISABLE) < 0 || nbd_set_opt_mode(h, probe) < 0 ||
	    nbd_aio_connect_uri(h, uri) < 0)
		rc = failed(e, uri);
	if (rc == 0)
		rc = settle(h, uri, deadline_ms, e);
	if (rc < 0)
		nbd_close(h);
	else
		*ret = h;
	return rc;
}

static uint64_t flags_of(struct nbd_handle *h)
{
	uint64_t f = NBD_FLAG_HAS_FLAGS;
	f |= nbd_is_read_only(h) == 1 ? NBD_FLAG_READ_ONLY : 0u;
	f |= nbd_can_flush(h) == 1 ? NBD_FLAG_SEND_FLUSH : 0u;
	f |= nbd_can_fua(h) == 1 ? NBD_FLAG_SEND_FUA : 0u;
	f |= nbd_can_trim(h) == 1 ? NBD_FLAG_SEND_TRIM : 0u;
	f |= nbd_can_multi_conn(h) == 1 ? NBD_FLAG_CAN_MULTI_CONN : 0u;
	return f;
}

int nbd_link_open(const char *uri, int timeout_ms, struct nbd_link *ret, struct err *e)
{
	struct nbd_handle *h = NULL;
	int rc = begin(uri, false, now_ms() + timeout_ms, &h, e);
	if (rc < 0)
		return rc;
	int64_t size = nbd_get_size(h);
	int fd = size < 0 ? -1 : nbd_aio_get_fd(h);
	/* nbd_close closes its descriptor without a word on the wire; the duplicate keeps the connection. */
	int mine = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (mine < 0)
		rc = failed(e, uri);
	else
		*ret = (struct nbd_link){.fd = mine, .size_bytes = (uint64_t)size, .server_flags = flags_of(h)};
	nbd_close(h);
	return rc;
}

void nbd_link_close(struct nbd_link *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
}

static int option_failed(void *arg, int *error)
{
	*(int *)arg = *error;
	return 1;
}

int nbd_link_size(const char *uri, int timeout_ms, uint64_t *ret_bytes, struct err *e)
{
	int64_t deadline_ms = now_ms() + timeout_ms;
	struct nbd_handle *h = NULL;
	int rc = begin(uri, true, deadline_ms, &h, e), refused = 0;
	if (rc < 0)
		return rc;
	if (nbd_aio_opt_info(h, (nbd_completion_callback){.callback = option_failed, .user_data = &refused}) < 0)
		rc = failed(e, uri);
	if (rc == 0)
		rc = settle(h, uri, deadline_ms, e);
	if (rc == 0 && refused != 0)
		rc = err_set(e, -refused, "%s: no such export", uri);
	int64_t size = rc == 0 ? nbd_get_size(h) : 0;
	if (rc == 0 && size < 0)
		rc = failed(e, uri);
	if (nbd_aio_is_negotiating(h) == 1)
		nbd_aio_opt_abort(h);
	nbd_close(h);
	if (rc == 0)
		*ret_bytes = (uint64_t)size;
	return rc;
}
