/* test_net.c - addresses, streams and listeners of the kernel's network. */
#include "tests/unit/loop_fixture.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/loop/net.h"

/* ---- addresses ---- */

static void an_address_survives_the_way_to_text_and_back(void **state)
{
	static const char *const good[] = {"unix:/run/x.sock", "unix:rel", "tcp:host:10809", "tcp:127.0.0.1:0", "tcp:[::1]:65535", "tcp:*:1"};
	struct address a;
	char text[ADDRESS_TEXT];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(address_parse(good[i], &a, NULL), 0);
		assert_string_equal(address_text(&a, text), good[i]);
	}
}

static void a_bad_address_is_refused_with_text(void **state)
{
	static const char *const bad[] = {"", "x", "unix:", "tcp:", "tcp:host", "tcp::1", "tcp:h:", "tcp:h:65536", "tcp:h:1x",
	    "tcp:h:-1", "tcp:::1:5", "tcp:[::1:5", "tcp:[::1]5", "tcp:[]:5", "udp:h:1", "tcp:h:99999999999999999999"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;
		struct address a = {.port = 7};
		assert_int_equal(address_parse(bad[i], &a, &e), -EINVAL);
		assert_true(e.text[0] != '\0');
		assert_int_equal(a.port, 7);
	}
}

static void the_longest_names_fit_and_longer_ones_do_not(void **state)
{
	char text[512] = "unix:", tcp[512] = "tcp:";
	struct address a;

	(void)state;
	memset(text + 5, 'p', 107);
	assert_int_equal(address_parse(text, &a, NULL), 0);
	text[5 + 107] = 'p';
	assert_int_equal(address_parse(text, &a, NULL), -EINVAL);
	memset(tcp + 4, 'h', 255);
	strcpy(tcp + 4 + 255, ":1");
	assert_int_equal(address_parse(tcp, &a, NULL), 0);
	memset(tcp + 4, 'h', 256);
	strcpy(tcp + 4 + 256, ":1");
	assert_int_equal(address_parse(tcp, &a, NULL), -EINVAL);
}

/* ---- a listener in a directory of its own, and both ends of a connection ---- */

static char dir[64];

static struct address unix_at(const char *name)
{
	struct address a = {.kind = ADDRESS_UNIX};

	snprintf(a.host, sizeof(a.host), "%s/%s", dir, name);
	return a;
}

struct pair {
	struct listener *listener;
	struct stream *a, *b;
};

static struct pair pair_make(const struct address *at)
{
	struct pair p = {0};
	struct err e = ERR_INIT;

	if (net_listen(net_kernel(), at, &p.listener, &e) < 0)
		fprintf(stderr, "%s\n", e.text);
	CHECK(p.listener);
	if (net_connect(net_kernel(), &p.listener->address, loop_now_ns() + NS_PER_S, &p.a, &e) < 0)
		fprintf(stderr, "%s\n", e.text);
	CHECK(p.a);
	CHECK(listener_accept(p.listener, &p.b) == 0);
	return p;
}

static void pair_end(struct pair *p)
{
	stream_close(p->a);
	stream_close(p->b);
	listener_close(p->listener);
}

static void exchange(struct stream *from, struct stream *to)
{
	struct iovec v[3] = {{"ab", 2}, {"", 0}, {"cde", 3}};
	char got[5];

	CHECK(stream_send(from, v, 3) == 0);
	CHECK(stream_recv_full(to, got, 5) == 0);
	CHECK(memcmp(got, "abcde", 5) == 0);
}

static void unix_body(void *arg)
{
	struct address at = unix_at("s");
	struct pair p = pair_make(&at);
	char peer[64];

	exchange(p.a, p.b);
	exchange(p.b, p.a);
	CHECK(p.a->is_unix && p.b->is_unix);
	CHECK(p.a->peer_uid == getuid() && p.b->peer_uid == getuid());
	snprintf(peer, sizeof(peer), "unix uid %u pid %d", getuid(), getpid());
	CHECK(strcmp(p.b->peer, peer) == 0);
	pair_end(&p);
	CHECK(access(at.host, F_OK) < 0 && errno == ENOENT);
	(void)arg;
}

static void a_unix_stream_carries_bytes_both_ways_and_names_its_peer(void **state)
{
	(void)state;
	on_every_backend(unix_body);
}

static void tcp_body(void *arg)
{
	static const char *const hosts[] = {"127.0.0.1", "localhost", "*"};

	(void)arg;
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		struct address at = {.kind = ADDRESS_TCP};
		strcpy(at.host, hosts[i]);
		struct pair p = pair_make(&at);
		CHECK(p.listener->address.port != 0);
		CHECK(!p.a->is_unix && p.a->peer_uid == UINT32_MAX);
		CHECK(strrchr(p.b->peer, ':'));
		exchange(p.a, p.b);
		exchange(p.b, p.a);
		pair_end(&p);
	}
}

static void a_tcp_stream_carries_bytes_both_ways(void **state)
{
	(void)state;
	on_every_backend(tcp_body);
}

/* ---- large transfers ---- */

#define BULK_PIECES 3000u
#define BULK_PIECE 4099u

struct bulk {
	struct stream *s;
	uint8_t *data;
	int rc;
	bool done;
	struct waitq q;
};

static void bulk_send(void *arg)
{
	struct bulk *b = arg;
	struct iovec *v = calloc(BULK_PIECES, sizeof(*v));

	for (unsigned i = 0; i < BULK_PIECES; i++)
		v[i] = (struct iovec){b->data + (size_t)i * BULK_PIECE, BULK_PIECE};
	b->rc = stream_send(b->s, v, BULK_PIECES);
	free(v);
	b->done = true;
	waitq_wake_all(&b->q);
}

static void bulk_over(const struct address *at)
{
	size_t len = (size_t)BULK_PIECES * BULK_PIECE;
	struct pair p = pair_make(at);
	struct bulk b = {.s = p.a, .data = malloc(len)};
	uint8_t *got = malloc(len);

	for (size_t i = 0; i < len; i++)
		b.data[i] = (uint8_t)(i * 7 + i / 251);
	waitq_init(&b.q);
	CHECK(fiber_run(loop_self(), "sender", bulk_send, &b) == 0);
	CHECK(!b.done); /* more than any socket buffer takes: it had to wait */
	CHECK(stream_recv_full(p.b, got, len) == 0);
	if (!b.done)
		waitq_wait(&b.q);
	CHECK(b.rc == 0);
	CHECK(memcmp(got, b.data, len) == 0);
	free(got);
	free(b.data);
	pair_end(&p);
}

static void bulk_body(void *arg)
{
	struct address un = unix_at("s"), tcp = {.kind = ADDRESS_TCP, .host = "127.0.0.1"};

	(void)arg;
	bulk_over(&un);
	bulk_over(&tcp);
}

static void a_send_larger_than_the_socket_buffer_arrives_whole(void **state)
{
	(void)state;
	on_every_backend(bulk_body);
}

/* ---- ends ---- */

static void orderly_end_body(void *arg)
{
	struct address at = unix_at("s");
	struct pair p = pair_make(&at);
	char c[8];

	(void)arg;
	CHECK(stream_send(p.a, &(struct iovec){"abc", 3}, 1) == 0);
	stream_close(p.a);
	p.a = NULL;
	CHECK(stream_recv_full(p.b, c, 8) == -ENODATA);
	CHECK(stream_recv(p.b, c, 8) == 0);
	CHECK(stream_send(p.b, &(struct iovec){"abc", 3}, 1) == -EPIPE);
	pair_end(&p);
}

static void the_end_of_the_peer_is_zero_bytes_then_epipe(void **state)
{
	(void)state;
	on_every_backend(orderly_end_body);
}

struct receiver {
	struct stream *s;
	ssize_t rc;
	char buf[64];
	struct waitq q;
	bool done;
};

static void receive(void *arg)
{
	struct receiver *r = arg;

	r->rc = stream_recv(r->s, r->buf, sizeof(r->buf));
	r->done = true;
	waitq_wake_all(&r->q);
}

static void shutdown_recv_body(void *arg)
{
	struct address at = unix_at("s");
	struct pair p = pair_make(&at);
	struct receiver r = {.s = p.a};

	waitq_init(&r.q);
	CHECK(fiber_run(arg, "receiver", receive, &r) == 0);
	fiber_yield(); /* the kernel has it now */
	CHECK(!r.done);
	stream_shutdown(p.a);
	stream_shutdown(p.a);
	if (!r.done)
		waitq_wait(&r.q);
	CHECK(r.rc == -ECONNRESET);
	CHECK(stream_recv(p.a, r.buf, 1) == -ECONNRESET);
	CHECK(stream_send(p.a, &(struct iovec){"x", 1}, 1) == -ECONNRESET);
	CHECK(stream_recv(p.b, r.buf, 1) == 0);
	pair_end(&p);
}

static void shutdown_wakes_a_parked_receiver_with_econnreset(void **state)
{
	(void)state;
	on_every_backend(shutdown_recv_body);
}

static void shutdown_send_body(void *arg)
{
	struct address at = unix_at("s");
	struct pair p = pair_make(&at);
	struct bulk b = {.s = p.a, .data = calloc(BULK_PIECES, BULK_PIECE)};

	waitq_init(&b.q);
	CHECK(fiber_run(arg, "sender", bulk_send, &b) == 0);
	fiber_yield();
	CHECK(!b.done);
	stream_shutdown(p.a);
	if (!b.done)
		waitq_wait(&b.q);
	CHECK(b.rc == -ECONNRESET);
	free(b.data);
	pair_end(&p);
}

static void shutdown_wakes_a_parked_sender_with_econnreset(void **state)
{
	(void)state;
	on_every_backend(shutdown_send_body);
}

struct acceptor {
	struct listener *l;
	int rc;
	bool done;
	struct waitq q;
};

static void accept_one(void *arg)
{
	struct acceptor *a = arg;
	struct stream *s;

	a->rc = listener_accept(a->l, &s);
	a->done = true;
	waitq_wake_all(&a->q);
}

static void stop_body(void *arg)
{
	struct acceptor a = {0};
	struct address at = unix_at("s");
	struct stream *s;

	waitq_init(&a.q);
	CHECK(net_listen(net_kernel(), &at, &a.l, NULL) == 0);
	CHECK(fiber_run(arg, "acceptor", accept_one, &a) == 0);
	fiber_yield();
	CHECK(!a.done);
	listener_stop(a.l);
	if (!a.done)
		waitq_wait(&a.q);
	CHECK(a.rc == -ECANCELED);
	CHECK(listener_accept(a.l, &s) == -ECANCELED);
	CHECK(access(at.host, F_OK) < 0);
	listener_close(a.l);
}

static void stopping_a_listener_ends_its_accept(void **state)
{
	(void)state;
	on_every_backend(stop_body);
}

/* ---- socket files ---- */

static void in_use_body(void *arg)
{
	struct address at = unix_at("s");
	struct listener *l, *second = NULL;
	struct err e = ERR_INIT;

	(void)arg;
	CHECK(net_listen(net_kernel(), &at, &l, NULL) == 0);
	CHECK(net_listen(net_kernel(), &at, &second, &e) == -EADDRINUSE);
	CHECK(!second && strstr(e.text, "another process"));
	CHECK(access(at.host, F_OK) == 0);
	listener_close(l);
}

static void a_socket_somebody_answers_on_is_not_taken_over(void **state)
{
	(void)state;
	on_every_backend(in_use_body);
}

static void stale_body(void *arg)
{
	struct address at = unix_at("s");
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct listener *l;

	(void)arg;
	memcpy(un.sun_path, at.host, strlen(at.host));
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(bind(fd, (struct sockaddr *)&un, sizeof(un)) == 0);
	close(fd); /* its file stays, as after a crash */
	CHECK(access(at.host, F_OK) == 0);
	CHECK(net_listen(net_kernel(), &at, &l, NULL) == 0);
	listener_close(l);
}

static void a_socket_file_left_by_a_dead_process_is_replaced(void **state)
{
	(void)state;
	on_every_backend(stale_body);
}

static void not_a_socket_body(void *arg)
{
	struct address at = unix_at("file");
	struct listener *l;

	(void)arg;
	int fd = open(at.host, O_CREAT | O_WRONLY | O_TRUNC, 0600);
	CHECK(write(fd, "precious", 8) == 8);
	CHECK(net_listen(net_kernel(), &at, &l, NULL) == -EADDRINUSE);
	struct stat st;
	CHECK(fstat(fd, &st) == 0 && st.st_nlink == 1);
	close(fd);
	CHECK(unlink(at.host) == 0);
}

static void a_file_that_is_no_socket_is_never_removed(void **state)
{
	(void)state;
	on_every_backend(not_a_socket_body);
}

static void replaced_body(void *arg)
{
	struct address at = unix_at("s");
	struct listener *l, *next;

	(void)arg;
	CHECK(net_listen(net_kernel(), &at, &l, NULL) == 0);
	CHECK(unlink(at.host) == 0);
	CHECK(net_listen(net_kernel(), &at, &next, NULL) == 0);
	listener_close(l);
	CHECK(access(at.host, F_OK) == 0); /* it belongs to the next one */
	listener_close(next);
}

static void a_listener_removes_only_its_own_socket_file(void **state)
{
	(void)state;
	on_every_backend(replaced_body);
}

static void refused_body(void *arg)
{
	struct address gone = unix_at("nobody"), tcp = {.kind = ADDRESS_TCP, .host = "127.0.0.1"};
	struct address name = {.kind = ADDRESS_TCP, .host = "no-such-host.invalid", .port = 1};
	struct stream *s = NULL;
	struct listener *l;
	struct err e = ERR_INIT;

	(void)arg;
	CHECK(net_connect(net_kernel(), &gone, UINT64_MAX, &s, &e) == -ENOENT);
	CHECK(strstr(e.text, "nobody"));
	CHECK(net_listen(net_kernel(), &tcp, &l, NULL) == 0);
	tcp.port = l->address.port;
	listener_close(l);
	CHECK(net_connect(net_kernel(), &tcp, loop_now_ns() + NS_PER_S, &s, &e) == -ECONNREFUSED);
	CHECK(strstr(e.text, "127.0.0.1"));
	CHECK(net_connect(net_kernel(), &name, UINT64_MAX, &s, &e) == -EHOSTUNREACH);
	CHECK(strstr(e.text, "no-such-host"));
	CHECK(!s);
}

static void a_connect_that_fails_says_where_and_why(void **state)
{
	(void)state;
	on_every_backend(refused_body);
}

static void port_taken_body(void *arg)
{
	struct address at = {.kind = ADDRESS_TCP, .host = "127.0.0.1"};
	struct listener *l, *second;
	struct err e = ERR_INIT;

	(void)arg;
	CHECK(net_listen(net_kernel(), &at, &l, NULL) == 0);
	CHECK(net_listen(net_kernel(), &l->address, &second, &e) == -EADDRINUSE);
	CHECK(strstr(e.text, "in use"));
	listener_close(l);
}

static void a_port_in_use_is_refused_with_text(void **state)
{
	(void)state;
	on_every_backend(port_taken_body);
}

static void backlog_full_body(void *arg)
{
	struct address at = unix_at("full");
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct stream *s[4];
	int rc = 0, n = 0;

	(void)arg;
	memcpy(un.sun_path, at.host, strlen(at.host));
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(bind(fd, (struct sockaddr *)&un, sizeof(un)) == 0 && listen(fd, 0) == 0);
	while (n < 4 && (rc = net_connect(net_kernel(), &at, loop_now_ns() + 10 * NS_PER_MS, &s[n], NULL)) == 0)
		n++;
	CHECK(rc == -ETIMEDOUT);
	while (n > 0)
		stream_close(s[--n]);
	close(fd);
	CHECK(unlink(at.host) == 0);
}

static void a_connect_to_a_full_listener_ends_at_its_deadline(void **state)
{
	(void)state;
	on_every_backend(backlog_full_body);
}

/* ---- descriptors handed to us ---- */

static void from_fd_body(void *arg)
{
	int fds[2];
	struct pair p = {0};

	(void)arg;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	CHECK(stream_from_fd(fds[0], &p.a, NULL) == 0);
	CHECK(stream_from_fd(fds[1], &p.b, NULL) == 0);
	exchange(p.a, p.b);
	struct receiver r = {.s = p.a};
	waitq_init(&r.q);
	CHECK(fiber_run(arg, "receiver", receive, &r) == 0);
	fiber_yield();
	CHECK(!r.done); /* waits, non-blocking or not when it came */
	CHECK(stream_send(p.b, &(struct iovec){"hey", 3}, 1) == 0);
	waitq_wait(&r.q);
	CHECK(r.rc == 3);
	pair_end(&p);
}

static void a_connected_socket_can_be_taken_over(void **state)
{
	(void)state;
	on_every_backend(from_fd_body);
}

static void listen_fd_body(void *arg)
{
	struct address at = unix_at("given");
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct pair p = {0};
	int plain[2];

	(void)arg;
	memcpy(un.sun_path, at.host, strlen(at.host));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(bind(fd, (struct sockaddr *)&un, sizeof(un)) == 0 && listen(fd, 8) == 0);
	CHECK(listener_from_fd(fd, &p.listener, NULL) == 0);
	CHECK(p.listener->address.kind == ADDRESS_UNIX && strcmp(p.listener->address.host, at.host) == 0);
	CHECK(net_connect(net_kernel(), &at, UINT64_MAX, &p.a, NULL) == 0);
	CHECK(listener_accept(p.listener, &p.b) == 0);
	exchange(p.a, p.b);
	pair_end(&p);
	CHECK(unlink(at.host) == 0); /* whoever made the file keeps it */
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, plain) == 0);
	CHECK(listener_from_fd(plain[0], &p.listener, NULL) == -EINVAL);
	close(plain[0]);
	close(plain[1]);
}

static void a_listening_socket_can_be_taken_over(void **state)
{
	(void)state;
	on_every_backend(listen_fd_body);
}

/* ---- many connections at once ---- */

#define MANY 300u

struct many {
	struct listener *l;
	struct waitq q;
	unsigned done;
};

static void echo_once(void *arg)
{
	struct stream *s = arg;
	char c[5];

	CHECK(stream_recv_full(s, c, 5) == 0);
	CHECK(stream_send(s, &(struct iovec){c, 5}, 1) == 0);
	stream_close(s);
}

static void accept_all(void *arg)
{
	struct many *m = arg;
	struct stream *s;

	while (listener_accept(m->l, &s) == 0)
		CHECK(fiber_run(loop_self(), "echo", echo_once, s) == 0);
	m->done++;
	waitq_wake_all(&m->q);
}

static void ask_once(void *arg)
{
	struct many *m = arg;
	struct stream *s;
	char c[5];

	CHECK(net_connect(net_kernel(), &m->l->address, UINT64_MAX, &s, NULL) == 0);
	CHECK(stream_send(s, &(struct iovec){"hello", 5}, 1) == 0);
	CHECK(stream_recv_full(s, c, 5) == 0 && memcmp(c, "hello", 5) == 0);
	stream_close(s);
	m->done++;
	waitq_wake_all(&m->q);
}

static void many_body(void *arg)
{
	struct many m = {0};
	struct address at = unix_at("s");

	waitq_init(&m.q);
	CHECK(net_listen(net_kernel(), &at, &m.l, NULL) == 0);
	CHECK(fiber_run(arg, "acceptor", accept_all, &m) == 0);
	for (unsigned i = 0; i < MANY; i++)
		CHECK(fiber_spawn(arg, "client", ask_once, &m) == 0);
	while (m.done < MANY)
		waitq_wait(&m.q);
	listener_stop(m.l);
	while (m.done < MANY + 1)
		waitq_wait(&m.q);
	listener_close(m.l);
}

static void hundreds_of_connections_are_served_at_once(void **state)
{
	(void)state;
	on_every_backend(many_body);
}

static void no_descriptors_body(void *arg)
{
	struct address at = unix_at("s");
	struct listener *l;
	struct stream *s[2];
	struct rlimit before, low;
	int spare[64], n = 0;

	(void)arg;
	CHECK(net_listen(net_kernel(), &at, &l, NULL) == 0);
	CHECK(net_connect(net_kernel(), &at, UINT64_MAX, &s[0], NULL) == 0);
	CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
	low = (struct rlimit){.rlim_cur = 64, .rlim_max = before.rlim_max};
	CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
	while (n < 64 && (spare[n] = dup(0)) >= 0)
		n++;
	CHECK(listener_accept(l, &s[1]) == -EMFILE); /* an error, and not one a caller can spin on */
	CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
	while (n > 0)
		close(spare[--n]);
	CHECK(listener_accept(l, &s[1]) == 0); /* the peer is still there */
	stream_close(s[0]);
	stream_close(s[1]);
	listener_close(l);
}

static void running_out_of_descriptors_loses_no_peer(void **state)
{
	(void)state;
	on_every_backend(no_descriptors_body);
}

static int directory_make(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/myfs-net-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int directory_remove(void **state)
{
	(void)state;
	return rmdir(dir); /* fails when a test left something behind */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_address_survives_the_way_to_text_and_back),
	    cmocka_unit_test(a_bad_address_is_refused_with_text),
	    cmocka_unit_test(the_longest_names_fit_and_longer_ones_do_not),
	    cmocka_unit_test(a_unix_stream_carries_bytes_both_ways_and_names_its_peer),
	    cmocka_unit_test(a_tcp_stream_carries_bytes_both_ways),
	    cmocka_unit_test(a_send_larger_than_the_socket_buffer_arrives_whole),
	    cmocka_unit_test(the_end_of_the_peer_is_zero_bytes_then_epipe),
	    cmocka_unit_test(shutdown_wakes_a_parked_receiver_with_econnreset),
	    cmocka_unit_test(shutdown_wakes_a_parked_sender_with_econnreset),
	    cmocka_unit_test(stopping_a_listener_ends_its_accept),
	    cmocka_unit_test(a_socket_somebody_answers_on_is_not_taken_over),
	    cmocka_unit_test(a_socket_file_left_by_a_dead_process_is_replaced),
	    cmocka_unit_test(a_file_that_is_no_socket_is_never_removed),
	    cmocka_unit_test(a_listener_removes_only_its_own_socket_file),
	    cmocka_unit_test(a_connect_that_fails_says_where_and_why),
	    cmocka_unit_test(a_port_in_use_is_refused_with_text),
	    cmocka_unit_test(a_connect_to_a_full_listener_ends_at_its_deadline),
	    cmocka_unit_test(a_connected_socket_can_be_taken_over),
	    cmocka_unit_test(a_listening_socket_can_be_taken_over),
	    cmocka_unit_test(hundreds_of_connections_are_served_at_once),
	    cmocka_unit_test(running_out_of_descriptors_loses_no_peer),
	};
	return cmocka_run_group_tests(tests, directory_make, directory_remove);
}
