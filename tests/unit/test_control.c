/* test_control.c - the control socket: a daemon's fibers on one side, the blocking client in a thread of its own on the
 * other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>


#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/control/control.h"
#include "core/control/notify.h"
#include "core/loop/loop.h"
#include "loop_fixture.h"

/* ---- the daemon ---- */

struct daemon {
	char dir[64], path[96];
	struct control_server *server;
	bool stop;
	struct waitq wake;
	unsigned calls;
};

static int run_echo(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct daemon *d = arg;

	(void)error;
	d->calls++;
	*ret = json_pack("{s:O?}", "params", params);
	return 0;
}

static int run_fail(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	(void)arg;
	(void)params;
	(void)ret;
	control_fail(error, "E-QUORUM-02", 2, "3 of 6 bricks answered", "no data is lost", "myfs status",
		     "cannot open %s", "vol/lun");
	snprintf(error->next[1], sizeof(error->next[1]), "myfs heal status");
	return -1;
}

static int run_nothing(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	(void)arg;
	(void)params;
	(void)ret;
	(void)error;
	return 0;
}

static int run_large(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	size_t len = (size_t)MIB(5);
	char *text = malloc(len + 1);

	(void)arg;
	(void)params;
	(void)error;
	memset(text, 'x', len);
	text[len] = '\0';
	*ret = json_pack("{s:o}", "text", json_string(text));
	free(text);
	return 0;
}

static int run_never(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct daemon *d = arg;

	(void)params;
	(void)ret;
	(void)error;
	while (!d->stop)
		waitq_wait(&d->wake);
	return 0;
}

static int run_stop(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct daemon *d = arg;

	(void)params;
	(void)ret;
	(void)error;
	d->stop = true;
	waitq_wake_all(&d->wake);
	return 0;
}

static const struct control_method methods[] = {
    {"echo", run_echo}, {"fail", run_fail}, {"nothing", run_nothing}, {"large", run_large}, {"never", run_never},
    {"stop", run_stop}, {NULL, NULL},
};

/* ---- a test: the client's half, run in a thread while the daemon serves ---- */

typedef void client_fn(const char *path);

struct run {
	struct daemon d;
	client_fn *client;
};

static void *client_main(void *arg)
{
	struct run *r = arg;
	struct control_error e;
	json_t *result = NULL;

	r->client(r->d.path);
	CHECK(control_call(r->d.path, "stop", NULL, 10000, &result, &e) == 0);
	json_decref(result);
	return NULL;
}

static void daemon_body(void *arg)
{
	struct run *r = arg;
	struct daemon *d = &r->d;
	struct address a = {.kind = ADDRESS_UNIX};
	struct err e = ERR_INIT;
	pthread_t thread;

	waitq_init(&d->wake);
	snprintf(a.host, sizeof(a.host), "%s", d->path);
	CHECK(control_server_start(net_kernel(), &a, methods, d, &d->server, &e) == 0);
	CHECK(pthread_create(&thread, NULL, client_main, r) == 0);
	while (!d->stop)
		waitq_wait(&d->wake);
	control_server_stop(d->server);
	CHECK(access(d->path, F_OK) < 0); /* the socket is gone */
	pthread_join(thread, NULL);
}

static void with_daemon(client_fn *client)
{
	static const enum loop_backend_kind kinds[] = {LOOP_URING, LOOP_EPOLL};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct run r = {.client = client};
		struct loop *l;
		if (loop_new(&(struct loop_options){.backend = kinds[i]}, &l, NULL))
			continue; /* this kernel forbids it */
		strcpy(r.d.dir, "/tmp/myfs-control-XXXXXX");
		assert_non_null(mkdtemp(r.d.dir));
		snprintf(r.d.path, sizeof(r.d.path), "%s/s", r.d.dir);
		assert_int_equal(loop_run_fiber(l, "daemon", daemon_body, &r), 0);
		loop_free(l);
		rmdir(r.d.dir);
	}
}

/* Client threads check with CHECK of the fixture's kind, without a loop of their own. */
#undef CHECK
#define CHECK(cond)                                                                                                    \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                                     \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static void echo_client(const char *path)
{
	struct control_error e;
	json_t *result = NULL, *params = json_pack("{s:s,s:i}", "name", "vol/lun", "size", 7);

	for (int i = 0; i < 3; i++) {
		CHECK(control_call(path, "echo", params, 10000, &result, &e) == 0);
		CHECK(json_equal(json_object_get(result, "params"), params));
		json_decref(result);
	}
	CHECK(control_call(path, "echo", NULL, 10000, &result, &e) == 0);
	CHECK(json_is_null(json_object_get(result, "params")));
	json_decref(result);
	CHECK(control_call(path, "nothing", NULL, 10000, &result, &e) == 0);
	CHECK(json_is_object(result) && json_object_size(result) == 0);
	json_decref(result);
	json_decref(params);
}

static void a_call_returns_the_methods_result(void **state)
{
	(void)state;
	with_daemon(echo_client);
}

static void fail_client(const char *path)
{
	struct control_error e;
	json_t *result = NULL;

	CHECK(control_call(path, "fail", NULL, 10000, &result, &e) == -1);
	CHECK(result == NULL && e.exit_code == 2);
	CHECK(strcmp(e.code, "E-QUORUM-02") == 0 && strcmp(e.message, "cannot open vol/lun") == 0);
	CHECK(strcmp(e.why, "3 of 6 bricks answered") == 0 && strcmp(e.data, "no data is lost") == 0);
	CHECK(strcmp(e.next[0], "myfs status") == 0 && strcmp(e.next[1], "myfs heal status") == 0 &&
	      e.next[2][0] == '\0');
}

static void an_error_travels_with_all_its_lines(void **state)
{
	(void)state;
	with_daemon(fail_client);
}

static void unknown_client(const char *path)
{
	struct control_error e;
	json_t *result = NULL;

	CHECK(control_call(path, "no.such", NULL, 10000, &result, &e) == -1);
	CHECK(e.exit_code == 64 && strstr(e.message, "no.such"));
}

static void an_unknown_method_is_a_usage_error(void **state)
{
	(void)state;
	with_daemon(unknown_client);
}

static void large_client(const char *path)
{
	struct control_error e;
	json_t *result = NULL;

	CHECK(control_call(path, "large", NULL, 30000, &result, &e) == 0);
	CHECK(json_string_length(json_object_get(result, "text")) == MIB(5));
	json_decref(result);
}

static void a_reply_of_megabytes_arrives_whole(void **state)
{
	(void)state;
	with_daemon(large_client);
}

static void slow_client(const char *path)
{
	struct control_error e;
	json_t *result = NULL;

	CHECK(control_call(path, "never", NULL, 50, &result, &e) == -1);
	CHECK(strcmp(e.code, "E-NOANSWER-08") == 0 && e.exit_code == 8);
}

static void a_method_that_takes_too_long_is_no_answer(void **state)
{
	(void)state;
	with_daemon(slow_client);
}

/* ---- raw bytes ---- */

static int raw_connect(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	CHECK(connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	return fd;
}

/* Sends text, returns what comes back up to `lines` newlines or the end. */
static size_t raw_talk(int fd, const char *text, size_t len, unsigned lines, char *out, size_t cap)
{
	size_t used = 0;
	ssize_t n;

	while (len > 0) {
		n = send(fd, text, len, MSG_NOSIGNAL);
		if (n < 0)
			break; /* closed on us */
		text += n;
		len -= (size_t)n;
	}
	while (lines > 0 && used + 1 < cap && (n = recv(fd, out + used, 1, 0)) == 1) {
		if (out[used++] == '\n')
			lines--;
	}
	out[used] = '\0';
	return used;
}

static void garbage_client(const char *path)
{
	static const char *const bad[] = {
	    "\n",
	    "{\n",
	    "[]\n",
	    "null\n",
	    "42\n",
	    "{\"method\":7}\n",
	    "{\"method\":\"echo\",\"params\":[]}\n",
	    "{\"params\":{}}\n",
	    "\xff\xfe\n",
	    "{\"method\":\"echo\",\"method\":\"fail\"}\n",
	};
	char out[2048];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int fd = raw_connect(path);
		CHECK(raw_talk(fd, bad[i], strlen(bad[i]), 1, out, sizeof(out)) > 0);
		CHECK(strstr(out, "\"ok\":false") && strstr(out, "E-USAGE-64"));
		/* and the connection goes on */
		static const char good[] = "{\"method\":\"nothing\"}\n";
		CHECK(raw_talk(fd, good, strlen(good), 1, out, sizeof(out)) > 0 && strstr(out, "\"ok\":true"));
		close(fd);
	}
}

static void garbage_is_answered_and_the_connection_goes_on(void **state)
{
	(void)state;
	with_daemon(garbage_client);
}

static void pipelined_client(const char *path)
{
	static const char three[] = "{\"method\":\"nothing\"}\n{\"method\":\"fail\"}\n{\"method\":\"nothing\"}\n";
	char out[4096];
	int fd = raw_connect(path);

	for (size_t i = 0; i < strlen(three); i++) /* byte by byte */
		raw_talk(fd, three + i, 1, 0, out, sizeof(out));
	raw_talk(fd, "", 0, 3, out, sizeof(out));
	CHECK(strncmp(out, "{\"ok\":true", 10) == 0);
	CHECK(strstr(out, "\n{\"ok\":false") && strstr(out, "}\n{\"ok\":true"));
	close(fd);
}

static void lines_are_answered_in_order_however_they_are_cut(void **state)
{
	(void)state;
	with_daemon(pipelined_client);
}

static void endless_client(const char *path)
{
	size_t len = (size_t)MIB(2);
	char *text = malloc(len), out[64];
	int fd = raw_connect(path);

	memset(text, 'x', len);
	CHECK(raw_talk(fd, text, len, 1, out, sizeof(out)) == 0);
	free(text);
	close(fd);
}

static void a_line_over_the_limit_ends_the_connection(void **state)
{
	(void)state;
	with_daemon(endless_client);
}

static void many_client(const char *path)
{
	int fd[80];
	char out[64];
	unsigned served = 0;
	static const char line[] = "{\"method\":\"nothing\"}\n";

	for (size_t i = 0; i < ARRAY_LEN(fd); i++)
		fd[i] = raw_connect(path);
	for (size_t i = 0; i < ARRAY_LEN(fd); i++) {
		served += raw_talk(fd[i], line, strlen(line), 1, out, sizeof(out)) > 0;
	}
	CHECK(served == 64);
	for (size_t i = 0; i < ARRAY_LEN(fd); i++)
		close(fd[i]);
	struct control_error e;
	json_t *result = NULL; /* and room again when they have gone */
	while (control_call(path, "nothing", NULL, 10000, &result, &e) != 0)
		;
	json_decref(result);
}

static void connections_are_limited(void **state)
{
	(void)state;
	with_daemon(many_client);
}

/* ---- no daemon ---- */

static void nobody_there_is_no_answer(void **state)
{
	struct control_error e;
	json_t *result = NULL;
	char long_path[200];

	(void)state;
	assert_int_equal(control_call("/nonexistent/sock", "status", NULL, 1000, &result, &e), -1);
	assert_string_equal(e.code, "E-NOANSWER-08");
	assert_int_equal(e.exit_code, 8);
	assert_string_equal(e.why, "the daemon is not running");
	memset(long_path, 'x', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	assert_int_equal(control_call(long_path, "status", NULL, 1000, &result, &e), -1);
}

static void the_service_manager_gets_a_datagram(void **state)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char got[128] = {0};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	(void)state;
	unsetenv("NOTIFY_SOCKET");
	notify_send("READY=1");
	snprintf(a.sun_path, sizeof(a.sun_path), "/tmp/myfs-notify-%d", (int)getpid());
	unlink(a.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	setenv("NOTIFY_SOCKET", a.sun_path, 1);
	notify_send("READY=1\nSTATUS=%d bricks", 3);
	assert_true(recv(fd, got, sizeof(got) - 1, 0) > 0);
	assert_string_equal(got, "READY=1\nSTATUS=3 bricks");
	unsetenv("NOTIFY_SOCKET");
	unlink(a.sun_path);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_call_returns_the_methods_result),
	    cmocka_unit_test(an_error_travels_with_all_its_lines),
	    cmocka_unit_test(an_unknown_method_is_a_usage_error),
	    cmocka_unit_test(a_reply_of_megabytes_arrives_whole),
	    cmocka_unit_test(a_method_that_takes_too_long_is_no_answer),
	    cmocka_unit_test(garbage_is_answered_and_the_connection_goes_on),
	    cmocka_unit_test(lines_are_answered_in_order_however_they_are_cut),
	    cmocka_unit_test(a_line_over_the_limit_ends_the_connection),
	    cmocka_unit_test(connections_are_limited),
	    cmocka_unit_test(nobody_there_is_no_answer),
	    cmocka_unit_test(the_service_manager_gets_a_datagram),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
