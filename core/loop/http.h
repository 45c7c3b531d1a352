/* http.h - answers HTTP GET requests on a loop: for /metrics and the like, not for data.
 *
 * libmicrohttpd speaks HTTP. It runs without threads: its epoll descriptor is polled like any other, and one fiber lets it work
 * when something is ready. So pages are made on the loop, where the counters are, without locks; and since that fiber is the
 * only one that enters libmicrohttpd, making a page may suspend. */
#ifndef MYFS_HTTP_H
#define MYFS_HTTP_H

#include <stdio.h>

#include "core/base/err.h"
#include "core/loop/net.h"

#define HTTP_CONNECTIONS_MAX  32u
#define HTTP_CONNECTION_BYTES (32u * 1024u) /* headers of one request */
#define HTTP_IDLE_S           10u

struct http_page {
	const char *path; /* "/metrics" */
	const char *content_type;
	int (*print)(void *arg, FILE *out); /* YIELDS; 0, or negative: the client gets status 500 */
};

struct http_server;
/* pages: ended by {NULL}, borrowed. ret_real may be NULL. 0, or negative with text. */
int http_server_start(const struct address *a, const struct http_page *pages, void *arg, struct address *ret_real,
		      struct http_server **ret, struct err *e) YIELDS;
void http_server_stop(struct http_server *s) YIELDS; /* and frees; NULL is fine */

#endif
