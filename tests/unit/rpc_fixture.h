/* rpc_fixture.h - streams in memory, a server that does simple things, and clients for it: what the tests of core/rpc
 * share. */
#ifndef MYFS_TEST_RPC_FIXTURE_H
#define MYFS_TEST_RPC_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

#include "brick.h"
#include "core/loop/loop.h"
#include "core/rpc/frame.h"
#include "core/rpc/rpc.h"

/* ---- a stream in memory: two ends, each with an inbox the other fills ---- */

struct mem_stream {
	struct stream base;
	struct mem_stream *peer; /* NULL once it closed */
	uint8_t *inbox;
	size_t used, cap;
	bool ended;              /* shut down on this side */
	bool send_held;          /* sends wait while set */
	struct waitq q;
};

static ssize_t mem_recv(struct stream *s, void *dst, size_t cap)
{
	struct mem_stream *m = CONTAINER_OF(s, struct mem_stream, base);

	while (!m->ended && m->used == 0 && m->peer && !m->peer->ended)
		waitq_wait(&m->q);
	if (m->ended)
		return -ECONNRESET;
	size_t n = min_u64(m->used, cap);
	if (n == 0)
		return 0;
	memcpy(dst, m->inbox, n);
	memmove(m->inbox, m->inbox + n, m->used - n);
	m->used -= n;
	return (ssize_t)n;
}

static int mem_send(struct stream *s, const struct iovec *v, unsigned n)
{
	struct mem_stream *m = CONTAINER_OF(s, struct mem_stream, base);

	while (m->send_held && !m->ended)
		waitq_wait(&m->q);
	if (m->ended || !m->peer || m->peer->ended)
		return -EPIPE;
	struct mem_stream *to = m->peer;
	size_t len = iov_bytes((struct iov){.v = v, .n = n});
	if (to->cap - to->used < len) {
		to->cap = to->used + len + 65536;
		to->inbox = realloc(to->inbox, to->cap);
		assert_non_null(to->inbox);
	}
	iov_copy_out((struct iov){.v = v, .n = n}, 0, to->inbox + to->used, len);
	to->used += len;
	waitq_wake_all(&to->q);
	return 0;
}

static void mem_shutdown(struct stream *s)
{
	struct mem_stream *m = CONTAINER_OF(s, struct mem_stream, base);

	m->ended = true;
	waitq_wake_all(&m->q);
	if (m->peer)
		waitq_wake_all(&m->peer->q);
}

static void mem_close(struct stream *s)
{
	struct mem_stream *m = CONTAINER_OF(s, struct mem_stream, base);

	mem_shutdown(s);
	if (m->peer)
		m->peer->peer = NULL;
	free(m->inbox);
	free(m);
}

static const struct stream_ops mem_ops = {mem_recv, mem_send, mem_shutdown, mem_close};

static struct mem_stream *mem_new(void)
{
	struct mem_stream *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->base.ops = &mem_ops;
	m->base.is_unix = true;
	waitq_init(&m->q);
	return m;
}

/* A net with one listener; every connect makes a pair, whose ends are also remembered for the test to meddle with. */
struct mem_net {
	struct net net;
	struct listener listener;
	struct mem_stream *waiting[16];
	unsigned waiting_n;
	bool stopped;
	struct waitq q;
	struct mem_stream *last_client, *last_server;
	uint32_t uid; /* what the server side sees */
	bool tcp;
};

static int mem_connect(struct net *n, const struct address *a, uint64_t deadline_ns, struct stream **ret, struct err *e)
{
	struct mem_net *m = CONTAINER_OF(n, struct mem_net, net);
	struct mem_stream *client = mem_new(), *server = mem_new();

	(void)a, (void)deadline_ns, (void)e;
	client->peer = server;
	server->peer = client;
	server->base.peer_uid = m->uid;
	server->base.is_unix = client->base.is_unix = !m->tcp;
	m->last_client = client;
	m->last_server = server;
	assert_true(m->waiting_n < ARRAY_LEN(m->waiting));
	m->waiting[m->waiting_n++] = server;
	waitq_wake_all(&m->q);
	*ret = &client->base;
	return 0;
}

static int mem_accept(struct listener *l, struct stream **ret)
{
	struct mem_net *m = CONTAINER_OF(l, struct mem_net, listener);

	while (m->waiting_n == 0 && !m->stopped)
		waitq_wait(&m->q);
	if (m->stopped)
		return -ECANCELED;
	*ret = &m->waiting[--m->waiting_n]->base;
	return 0;
}

static void mem_listener_stop(struct listener *l)
{
	struct mem_net *m = CONTAINER_OF(l, struct mem_net, listener);

	m->stopped = true;
	waitq_wake_all(&m->q);
}

static void mem_listener_close(struct listener *l) { (void)l; }

static int mem_listen(struct net *n, const struct address *a, struct listener **ret, struct err *e)
{
	struct mem_net *m = CONTAINER_OF(n, struct mem_net, net);

	(void)e;
	m->listener = (struct listener){
	    .accept = mem_accept, .stop = mem_listener_stop, .close = mem_listener_close, .address = *a};
	*ret = &m->listener;
	return 0;
}

static void mem_net_init(struct mem_net *m)
{
	*m = (struct mem_net){.net = {.connect = mem_connect, .listen = mem_listen}};
	waitq_init(&m->q);
}

/* ---- the server under test ---- */

enum {
	T_ECHO = 1,
	T_GATE = 2,
	T_FENCED = 3,
	T_NOTE = 4,
	T_SILENT = 5,
	T_FILL = 6,
	T_REPLY_AND_CLOSE = 7,
	T_HUGE_BODY = 8,
	T_NOTE_PARK = 9
};

static struct {
	struct mem_net net;
	struct rpc_server *server;
	struct address address;
	struct waitq gate;
	bool gate_open;
	unsigned handled, opened, closed;
	unsigned notes[64], notes_n;
	struct rpc_conn *last_conn;
} S;

static void note(unsigned v)
{
	if (S.notes_n < ARRAY_LEN(S.notes))
		S.notes[S.notes_n++] = v;
}

static void handle_echo(struct rpc_request *req)
{
	u_int v = 0;
	int rc = rpc_decode(req, (xdrproc_t)xdr_u_int, &v);

	v++;
	rpc_reply_epoch(req, req->session + 100);
	rpc_reply(req, rc, (xdrproc_t)xdr_u_int, &v, &req->payload, req->payload.len > 0);
}

static void handle_fill(struct rpc_request *req)
{
	u_int size = 0;

	assert_int_equal(rpc_decode(req, (xdrproc_t)xdr_u_int, &size), 0);
	struct buf *b = buf_alloc(size);
	for (u_int i = 0; i < size; i++)
		b->data[i] = (uint8_t)(i * 7);
	struct slice s = {.owner = b, .ptr = b->data, .len = size};
	rpc_reply(req, 0, NULL, NULL, &s, 1);
	buf_unref(b);
}

static void handle_huge_body(struct rpc_request *req)
{
	static char big[RPC_BODY_MAX + 1];
	char *text = big;

	memset(big, 'x', sizeof(big) - 1);
	rpc_reply(req, 0, (xdrproc_t)xdr_wrapstring, &text, NULL, 0);
}

static void handle(void *arg, struct rpc_request *req)
{
	u_int v = 0;

	(void)arg;
	S.handled++;
	switch (req->type) {
	case T_ECHO:
		handle_echo(req);
		break;
	case T_GATE:
		while (!S.gate_open)
			waitq_wait(&S.gate);
		handle_echo(req);
		break;
	case T_FENCED:
		rpc_reply(req, -MYFS_E_FENCED, NULL, NULL, NULL, 0);
		break;
	case T_NOTE:
	case T_NOTE_PARK:
		assert_int_equal(rpc_decode(req, (xdrproc_t)xdr_u_int, &v), 0);
		note(v);
		if (req->type == T_NOTE_PARK) {
			fiber_yield();
			note(v + 1000);
		}
		rpc_reply(req, 0, NULL, NULL, NULL, 0);
		break;
	case T_FILL:
		handle_fill(req);
		break;
	case T_REPLY_AND_CLOSE:
		rpc_reply(req, 0, NULL, NULL, NULL, 0);
		rpc_conn_close(req->conn);
		assert_false(rpc_conn_is_open(req->conn));
		break;
	case T_HUGE_BODY:
		handle_huge_body(req);
		break;
	default:
		break; /* T_SILENT and whatever comes */
	}
}

static void on_open(void *arg, struct rpc_conn *c)
{
	(void)arg;
	S.opened++;
	S.last_conn = c;
	rpc_conn_set_user(c, &S);
}

static void on_close(void *arg, struct rpc_conn *c)
{
	(void)arg;
	assert_ptr_equal(rpc_conn_user(c), &S);
	S.closed++;
}

static struct rpc_server_config server_config(struct net *net)
{
	return (struct rpc_server_config){
	    .net = net, .allowed_uid = getuid(), .handle = handle, .on_open = on_open, .on_close = on_close};
}

static void server_start(struct net *net, const struct rpc_server_config *cfg_or_null)
{
	struct rpc_server_config cfg = server_config(net);
	struct err e = ERR_INIT;

	waitq_init(&S.gate);
	snprintf(S.address.host, sizeof(S.address.host), "/tmp/myfs-test-rpc-%d.sock", getpid());
	S.address.kind = ADDRESS_UNIX;
	assert_int_equal(rpc_server_new(cfg_or_null ? cfg_or_null : &cfg, &S.server), 0);
	assert_int_equal(rpc_server_listen(S.server, &S.address, NULL, &e), 0);
}

static void server_stop(void)
{
	S.gate_open = true;
	waitq_wake_all(&S.gate);
	rpc_server_stop(S.server);
	rpc_server_free(S.server);
	assert_int_equal(S.opened, S.closed);
}

struct down {
	unsigned times;
	char why[128];
	bool free_it;
};

static void on_down(void *arg, struct rpc_client *c, const char *why)
{
	struct down *d = arg;

	d->times++;
	snprintf(d->why, sizeof(d->why), "%s", why);
	if (d->free_it)
		rpc_client_free(c);
}

static struct rpc_client *client_new(struct net *net, struct down *down)
{
	struct rpc_client_config cfg = {.net = net,
					.address = S.address,
					.connect_deadline_ns = loop_now_ns() + 5 * NS_PER_S,
					.on_down = down ? on_down : NULL,
					.arg = down};
	struct rpc_client *c = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(rpc_client_connect(&cfg, &c, &e), 0);
	return c;
}

/* Lets everything that can happen without new input happen. */
static void settle(void)
{
	for (int i = 0; i < 20; i++)
		fiber_yield();
}

/* ---- test frame: each test is a fiber with a fresh server ---- */

struct run {
	void (*fn)(struct net *net);
	bool kernel;
};

static void run_fiber(void *arg)
{
	struct run *r = arg;

	memset(&S, 0, sizeof(S));
	mem_net_init(&S.net);
	S.net.uid = getuid();
	struct net *net = r->kernel ? net_kernel() : &S.net.net;
	server_start(net, NULL);
	r->fn(net);
	server_stop();
}

static void run(void (*fn)(struct net *net), bool kernel)
{
	struct loop *l;
	struct err e = ERR_INIT;
	struct loop_options opt = {0};
	struct run r = {fn, kernel};

	assert_int_equal(loop_new(&opt, &l, &e), 0);
	assert_int_equal(loop_run_fiber(l, "test", run_fiber, &r), 0);
	loop_free(l);
}

#define BOTH(name) \
	static void name##_body(struct net *net); \
	static void name(void **state) \
	{ \
		(void)state; \
		run(name##_body, false); \
		run(name##_body, true); \
	} \
	static void name##_body(struct net *net)

#define MEMORY(name) \
	static void name##_body(struct net *net); \
	static void name(void **state) \
	{ \
		(void)state; \
		run(name##_body, false); \
	} \
	static void name##_body(struct net *net)

static struct rpc_call echo_call(u_int *value, u_int *result)
{
	return (struct rpc_call){.type = T_ECHO,
				 .args_proc = (xdrproc_t)xdr_u_int,
				 .args = value,
				 .res_proc = (xdrproc_t)xdr_u_int,
				 .res = result};
}

#endif
