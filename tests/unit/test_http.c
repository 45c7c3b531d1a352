/* GET requests are answered on the loop; strangers with other wishes are told so; many at once are served in turn. */
#include "tests/unit/loop_fixture.h"

#include <unistd.h>

#include "core/loop/http.h"

struct fixture {
	struct http_server *server;
	struct address at;
	unsigned pages_made;
};

static int print_hello(void *arg, FILE *out)
{
	struct fixture *f = arg;

	f->pages_made++;
	fiber_sleep_until(loop_now_ns() + NS_PER_MS); /* a page may wait */
	fprintf(out, "hello %u\n", f->pages_made);
	return 0;
}

static int print_nothing(void *arg, FILE *out)
{
	(void)arg;
	fputs("half a page", out);
	return -EIO;
}

static const struct http_page pages[] = {{"/hello", "text/x-hello", print_hello}, {"/broken", "text/plain", print_nothing}, {NULL, NULL, NULL}};

static void start(struct fixture *f, const char *address)
{
	struct err e = ERR_INIT;
	struct address a;

	CHECK(address_parse(address, &a, &e) == 0);
	*f = (struct fixture){0};
	CHECK(http_server_start(&a, pages, f, &f->at, &f->server, &e) == 0);
}

/* Sends text, reads until the server closes or `until` was seen. Length. */
static size_t talk(const struct fixture *f, const char *text, const char *until, char *out, size_t cap)
{
	struct stream *s;
	struct err e = ERR_INIT;
	size_t used = 0;
	ssize_t n;

	CHECK(net_connect(net_kernel(), &f->at, loop_now_ns() + 5 * NS_PER_S, &s, &e) == 0);
	CHECK(stream_send(s, &(struct iovec){(void *)(uintptr_t)text, strlen(text)}, 1) == 0);
	while (used + 1 < cap && (n = stream_recv(s, out + used, cap - 1 - used)) > 0) {
		used += (size_t)n;
		out[used] = '\0';
		if (until && strstr(out, until))
			break;
	}
	out[used] = '\0';
	stream_close(s);
	return used;
}

static void get_body(void *arg)
{
	struct fixture f;
	char out[2048];

	(void)arg;
	start(&f, "tcp:127.0.0.1:0");
	CHECK(f.at.port != 0);
	talk(&f, "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", NULL, out, sizeof(out));
	CHECK(strncmp(out, "HTTP/1.1 200", 12) == 0);
	CHECK(strstr(out, "Content-Type: text/x-hello") != NULL);
	CHECK(strstr(out, "\r\n\r\nhello 1\n") != NULL);
	talk(&f, "HEAD /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", NULL, out, sizeof(out));
	CHECK(strncmp(out, "HTTP/1.1 200", 12) == 0 && strstr(out, "hello") == strstr(out, "hello\r\n"));
	http_server_stop(f.server);
}

static void a_page_is_served_over_tcp(void **state)
{
	(void)state;
	on_every_backend(get_body);
}

static void unix_body(void *arg)
{
	struct fixture f;
	char out[2048], address[64], path[48];

	(void)arg;
	snprintf(path, sizeof(path), "/tmp/myfs-test-http.%d", getpid());
	snprintf(address, sizeof(address), "unix:%s", path);
	start(&f, address);
	talk(&f, "GET /hello HTTP/1.0\r\n\r\n", NULL, out, sizeof(out));
	CHECK(strstr(out, "hello 1\n") != NULL);
	http_server_stop(f.server);
	CHECK(access(path, F_OK) != 0);
}

static void a_page_is_served_over_a_unix_socket_which_goes_with_it(void **state)
{
	(void)state;
	on_every_backend(unix_body);
}

static void refusals_body(void *arg)
{
	static const struct {
		const char *request, *status;
	} cases[] = {
	    {"GET /other HTTP/1.0\r\n\r\n", "404"},
	    {"GET /hello/ HTTP/1.0\r\n\r\n", "404"},
	    {"DELETE /hello HTTP/1.0\r\n\r\n", "405"},
	    {"POST /hello HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", "405"},
	    {"GET /broken HTTP/1.0\r\n\r\n", "500"},
	};
	struct fixture f;
	char out[2048];

	(void)arg;
	start(&f, "tcp:127.0.0.1:0");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		talk(&f, cases[i].request, NULL, out, sizeof(out));
		CHECK(strlen(out) > 12 && strncmp(out + 9, cases[i].status, 3) == 0);
		CHECK(strstr(out, "half a page") == NULL);
	}
	CHECK(f.pages_made == 0);
	talk(&f, "\x16\x03\x01 what is this\r\n\r\n", NULL, out, sizeof(out)); /* TLS to a plain port: ended, one way or another */
	talk(&f, "GET /hello HTTP/1.0\r\n\r\n", NULL, out, sizeof(out));
	CHECK(strstr(out, "hello 1\n") != NULL);
	http_server_stop(f.server);
}

static void other_wishes_are_refused_and_the_next_one_is_served(void **state)
{
	(void)state;
	on_every_backend(refusals_body);
}

static unsigned served;

static void one_client(void *arg)
{
	char out[2048];

	talk(arg, "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", NULL, out, sizeof(out));
	served += strstr(out, "hello ") != NULL;
}

static void many_body(void *arg)
{
	struct fixture f;

	(void)arg;
	start(&f, "tcp:127.0.0.1:0");
	served = 0;
	for (unsigned i = 0; i < HTTP_CONNECTIONS_MAX; i++)
		CHECK(fiber_spawn(loop_self(), "client", one_client, &f) == 0);
	for (uint64_t end = loop_now_ns() + 10 * NS_PER_S; served < HTTP_CONNECTIONS_MAX && loop_now_ns() < end;)
		fiber_yield();
	CHECK(served == HTTP_CONNECTIONS_MAX);
	http_server_stop(f.server);
}

static void as_many_clients_as_allowed_are_served_at_once(void **state)
{
	(void)state;
	on_every_backend(many_body);
}

static void stop_body(void *arg)
{
	struct fixture f;
	struct stream *s;
	struct err e = ERR_INIT;
	char byte;

	(void)arg;
	start(&f, "tcp:127.0.0.1:0");
	CHECK(net_connect(net_kernel(), &f.at, loop_now_ns() + 5 * NS_PER_S, &s, &e) == 0);
	CHECK(stream_send(s, &(struct iovec){(void *)(uintptr_t)"GET /he", 7}, 1) == 0);
	http_server_stop(f.server); /* with a request half sent */
	CHECK(stream_recv(s, &byte, 1) <= 0);
	stream_close(s);
	http_server_stop(NULL);
}

static void stopping_does_not_wait_for_clients(void **state)
{
	(void)state;
	on_every_backend(stop_body);
}

static void taken_body(void *arg)
{
	struct fixture f;
	struct http_server *second = (void *)1;
	struct err e = ERR_INIT;

	(void)arg;
	start(&f, "tcp:127.0.0.1:0");
	CHECK(http_server_start(&f.at, pages, &f, NULL, &second, &e) < 0);
	CHECK(second == (void *)1 && strstr(e.text, "HTTP on tcp:127.0.0.1:") != NULL);
	http_server_stop(f.server);
}

static void a_port_in_use_is_refused_with_text(void **state)
{
	(void)state;
	on_every_backend(taken_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_page_is_served_over_tcp),
	    cmocka_unit_test(a_page_is_served_over_a_unix_socket_which_goes_with_it),
	    cmocka_unit_test(other_wishes_are_refused_and_the_next_one_is_served),
	    cmocka_unit_test(as_many_clients_as_allowed_are_served_at_once),
	    cmocka_unit_test(stopping_does_not_wait_for_clients),
	    cmocka_unit_test(a_port_in_use_is_refused_with_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
