/* Frames, client and server together: over real unix sockets, and over streams in memory where a test must hold bytes back. */
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
	size_t len = iov_bytes((struct iov){v, n});
	if (to->cap - to->used < len) {
		to->cap = to->used + len + 65536;
		to->inbox = realloc(to->inbox, to->cap);
		assert_non_null(to->inbox);
	}
	iov_copy_out((struct iov){v, n}, 0, to->inbox + to->used, len);
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
	m->listener = (struct listener){.accept = mem_accept, .stop = mem_listener_stop, .close = mem_listener_close, .address = *a};
	*ret = &m->listener;
	return 0;
}

static void mem_net_init(struct mem_net *m)
{
	*m = (struct mem_net){.net = {.connect = mem_connect, .listen = mem_listen}};
	waitq_init(&m->q);
}

/* ---- the server under test ---- */

enum { T_ECHO = 1, T_GATE = 2, T_FENCED = 3, T_NOTE = 4, T_SILENT = 5, T_FILL = 6, T_REPLY_AND_CLOSE = 7, T_HUGE_BODY = 8, T_NOTE_PARK = 9 };

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

/* ---- calls ---- */

BOTH(a_call_brings_back_result_payload_and_epoch)
{
	struct rpc_client *c = client_new(net, NULL);
	char text[] = "some bytes";
	struct iovec v[] = {{text, 4}, {text + 4, 6}};
	u_int value = 41, result = 0;
	struct rpc_call call = echo_call(&value, &result);

	rpc_client_set_session(c, 7);
	call.payload = v;
	call.payload_n = 2;
	assert_int_equal(rpc_call_sync(c, &call), 0);
	assert_int_equal(result, 42);
	assert_int_equal(call.epoch, 107);
	assert_int_equal(call.payload_in.len, 10);
	assert_memory_equal(call.payload_in.ptr, text, 10);
	rpc_call_release(&call);
	assert_null(call.payload_in.owner);
	rpc_client_free(c);
}

BOTH(a_failed_request_carries_its_status)
{
	struct rpc_client *c = client_new(net, NULL);
	struct rpc_call call = {.type = T_FENCED};

	assert_int_equal(rpc_call_sync(c, &call), -MYFS_E_FENCED);
	assert_true(rpc_client_up(c));
	rpc_client_free(c);
}

BOTH(a_body_that_does_not_decode_is_refused_and_the_connection_lives)
{
	struct rpc_client *c = client_new(net, NULL);
	u_quad_t trailing = 1;
	u_int value = 1, result = 0;
	struct rpc_call bad = {.type = T_ECHO, .args_proc = (xdrproc_t)xdr_u_int64_t, .args = &trailing};
	struct rpc_call empty = {.type = T_ECHO};
	struct rpc_call good = echo_call(&value, &result);

	assert_int_equal(rpc_call_sync(c, &bad), -MYFS_E_PROTO);
	assert_int_equal(rpc_call_sync(c, &empty), -MYFS_E_PROTO);
	assert_int_equal(rpc_call_sync(c, &good), 0);
	rpc_client_free(c);
}

BOTH(a_handler_without_an_answer_does_not_leave_the_caller_waiting)
{
	struct rpc_client *c = client_new(net, NULL);
	struct rpc_call call = {.type = T_SILENT};

	assert_int_equal(rpc_call_sync(c, &call), -MYFS_E_PROTO);
	rpc_client_free(c);
}

BOTH(payloads_up_to_the_limit_travel_both_ways)
{
	static const u_int sizes[] = {1, 4096, 65536, 262144 - 48 - 4, 262144, 1048576, RPC_PAYLOAD_MAX};
	static uint8_t out[RPC_PAYLOAD_MAX];
	struct rpc_client *c = client_new(net, NULL);

	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 7);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct iovec v = {out, sizes[i]};
		u_int value = sizes[i], result = 0;
		struct rpc_call fill = {.type = T_FILL, .args_proc = (xdrproc_t)xdr_u_int, .args = &value};
		struct rpc_call echo = echo_call(&value, &result);

		assert_int_equal(rpc_call_sync(c, &fill), 0);
		assert_int_equal(fill.payload_in.len, sizes[i]);
		assert_memory_equal(fill.payload_in.ptr, out, sizes[i]);
		rpc_call_release(&fill);
		echo.payload = &v;
		echo.payload_n = 1;
		assert_int_equal(rpc_call_sync(c, &echo), 0);
		assert_memory_equal(echo.payload_in.ptr, out, sizes[i]);
		rpc_call_release(&echo);
	}
	rpc_client_free(c);
}

BOTH(what_does_not_fit_a_frame_is_refused_without_harm)
{
	static uint8_t out[RPC_PAYLOAD_MAX + 1];
	static char big[RPC_BODY_MAX + 1];
	struct rpc_client *c = client_new(net, NULL);
	struct iovec v = {out, sizeof(out)};
	char *text = big;
	u_int value = 1, result = 0;

	memset(big, 'x', sizeof(big) - 1);
	struct rpc_call payload = {.type = T_SILENT, .payload = &v, .payload_n = 1};
	struct rpc_call body = {.type = T_SILENT, .args_proc = (xdrproc_t)xdr_wrapstring, .args = &text};
	struct rpc_call huge_reply = {.type = T_HUGE_BODY};
	struct rpc_call good = echo_call(&value, &result);
	assert_int_equal(rpc_call_sync(c, &payload), -EMSGSIZE);
	assert_int_equal(rpc_call_sync(c, &body), -EMSGSIZE);
	assert_int_equal(rpc_post(c, T_NOTE, (xdrproc_t)xdr_wrapstring, &text, NULL, 0), -EMSGSIZE);
	assert_int_equal(rpc_post(c, T_NOTE, NULL, NULL, &v, 1), -EMSGSIZE);
	assert_int_equal(rpc_call_sync(c, &huge_reply), -EMSGSIZE);
	assert_int_equal(rpc_call_sync(c, &good), 0);
	rpc_client_free(c);
}

BOTH(a_body_larger_than_the_arena_still_travels)
{
	struct rpc_client *c = client_new(net, NULL);
	bp_decide_args args = {.txs = {.txs_len = BP_MAX_TX, .txs_val = calloc(BP_MAX_TX, sizeof(bp_tx))}};
	struct rpc_call call = {.type = T_ECHO, .args_proc = (xdrproc_t)xdr_bp_decide_args, .args = &args};

	assert_int_equal(rpc_call_sync(c, &call), -MYFS_E_PROTO); /* arrived, and is no u_int */
	free(args.txs.txs_val);
	rpc_client_free(c);
}

/* ---- order ---- */

BOTH(frames_are_handled_in_the_order_they_were_sent)
{
	struct rpc_client *c = client_new(net, NULL);
	struct rpc_call calls[4];
	u_int values[8];
	struct rpc_group g;

	rpc_group_init(&g);
	for (u_int i = 0; i < 8; i++) {
		values[i] = i;
		if (i % 2) {
			calls[i / 2] = (struct rpc_call){.type = T_NOTE, .args_proc = (xdrproc_t)xdr_u_int, .args = &values[i]};
			rpc_call_start(c, &calls[i / 2], &g);
		} else {
			assert_int_equal(rpc_post(c, T_NOTE, (xdrproc_t)xdr_u_int, &values[i], NULL, 0), 0);
		}
	}
	assert_int_equal(rpc_group_wait_all(&g), 4);
	assert_int_equal(S.notes_n, 8);
	for (u_int i = 0; i < 8; i++)
		assert_int_equal(S.notes[i], i);
	rpc_client_free(c);
}

BOTH(a_handler_runs_up_to_its_first_suspend_before_the_next_frame)
{
	struct rpc_client *c = client_new(net, NULL);
	struct rpc_call calls[2];
	u_int values[2] = {1, 2};
	struct rpc_group g;

	rpc_group_init(&g);
	for (int i = 0; i < 2; i++) {
		calls[i] = (struct rpc_call){.type = T_NOTE_PARK, .args_proc = (xdrproc_t)xdr_u_int, .args = &values[i]};
		rpc_call_start(c, &calls[i], &g);
	}
	rpc_group_wait_all(&g);
	static const unsigned expect[] = {1, 2, 1001, 1002};
	assert_memory_equal(S.notes, expect, sizeof(expect));
	rpc_client_free(c);
}

BOTH(replies_may_overtake_each_other)
{
	struct rpc_client *c = client_new(net, NULL);
	u_int v = 1, r1 = 0, r2 = 0;
	struct rpc_call slow = echo_call(&v, &r1), fast = echo_call(&v, &r2);
	struct rpc_group g, g2;

	slow.type = T_GATE;
	rpc_group_init(&g);
	rpc_group_init(&g2);
	rpc_call_start(c, &slow, &g);
	rpc_call_start(c, &fast, &g2);
	assert_int_equal(rpc_group_wait_all(&g2), 1);
	assert_false(slow.ended);
	assert_true(rpc_client_oldest_ns(c) > 0);
	S.gate_open = true;
	waitq_wake_all(&S.gate);
	assert_int_equal(rpc_group_wait_all(&g), 1);
	assert_int_equal(rpc_client_oldest_ns(c), 0);
	rpc_client_free(c);
}

BOTH(many_outstanding_calls_all_find_their_reply)
{
	enum { N = 3000 };
	static struct rpc_call calls[N];
	static u_int values[N], results[N];
	struct rpc_client *c = client_new(net, NULL);
	u_int v = 5, r = 0;
	struct rpc_call slow = echo_call(&v, &r);
	struct rpc_group g, gs;

	rpc_group_init(&gs);
	slow.type = T_GATE;
	rpc_call_start(c, &slow, &gs); /* the oldest stays, the table must grow around it */
	rpc_group_init(&g);
	for (u_int i = 0; i < N; i++) {
		values[i] = i * 3;
		results[i] = 0;
		calls[i] = echo_call(&values[i], &results[i]);
		rpc_call_start(c, &calls[i], &g);
	}
	assert_int_equal(rpc_group_wait_all(&g), N);
	for (u_int i = 0; i < N; i++)
		assert_int_equal(results[i], i * 3 + 1);
	S.gate_open = true;
	waitq_wake_all(&S.gate);
	assert_int_equal(rpc_group_wait_all(&gs), 1);
	rpc_client_free(c);
}

/* ---- groups ---- */

BOTH(a_group_wait_ends_when_enough_calls_ended_well)
{
	struct rpc_client *c = client_new(net, NULL);
	u_int v = 1, r[3] = {0};
	struct rpc_call calls[3];
	struct rpc_group g;

	rpc_group_init(&g);
	for (int i = 0; i < 3; i++) {
		calls[i] = echo_call(&v, &r[i]);
		calls[i].type = i == 0 ? T_GATE : T_ECHO;
		rpc_call_start(c, &calls[i], &g);
	}
	assert_int_equal(rpc_group_wait(&g, 2, UINT64_MAX), 2);
	assert_false(calls[0].ended);
	S.gate_open = true;
	waitq_wake_all(&S.gate);
	assert_int_equal(rpc_group_wait_all(&g), 3);
	rpc_client_free(c);
}

BOTH(a_group_wait_ends_when_enough_has_become_impossible)
{
	struct rpc_client *c = client_new(net, NULL);
	u_int v = 1, r = 0;
	struct rpc_call good = echo_call(&v, &r), bad = {.type = T_FENCED};
	struct rpc_group g;

	rpc_group_init(&g);
	rpc_call_start(c, &bad, &g);
	rpc_call_start(c, &good, &g);
	assert_int_equal(rpc_group_wait(&g, 2, UINT64_MAX), 1);
	assert_int_equal(g.ended, 2);
	rpc_client_free(c);
}

BOTH(a_group_wait_ends_at_its_deadline)
{
	struct rpc_client *c = client_new(net, NULL);
	u_int v = 1, r = 0;
	struct rpc_call call = echo_call(&v, &r);
	struct rpc_group g;

	call.type = T_GATE;
	rpc_group_init(&g);
	rpc_call_start(c, &call, &g);
	assert_int_equal(rpc_group_wait(&g, 1, loop_now_ns() + NS_PER_MS), 0);
	assert_false(call.ended);
	rpc_call_cancel(&call);
	assert_int_equal(rpc_group_wait_all(&g), 0);
	rpc_client_free(c);
}

/* ---- cancel ---- */

BOTH(a_cancelled_calls_reply_is_dropped_and_the_connection_goes_on)
{
	struct rpc_client *c = client_new(net, NULL);
	u_int v = 1, r = 0;
	struct rpc_call call = echo_call(&v, &r), next = echo_call(&v, &r);
	struct rpc_group g;

	call.type = T_GATE;
	rpc_group_init(&g);
	rpc_call_start(c, &call, &g);
	settle();
	rpc_call_cancel(&call);
	assert_int_equal(call.rc, -ECANCELED);
	assert_int_equal(g.ended, 1);
	memset(&call, 0xee, sizeof(call)); /* its memory is the caller's again */
	S.gate_open = true;
	waitq_wake_all(&S.gate);
	assert_int_equal(rpc_call_sync(c, &next), 0);
	assert_int_equal(r, 2);
	rpc_client_free(c);
}

BOTH(a_call_cancelled_before_it_was_sent_goes_out_with_the_bytes_it_had)
{
	struct rpc_client *c = client_new(net, NULL);
	char bytes[8] = "precious";
	struct iovec v = {bytes, 8};
	struct rpc_call call = {.type = T_SILENT, .payload = &v, .payload_n = 1}, sync = {.type = T_FENCED};

	rpc_call_start(c, &call, NULL);
	rpc_call_cancel(&call);
	memset(bytes, 'X', 8);
	assert_int_equal(rpc_call_sync(c, &sync), -MYFS_E_FENCED); /* frames stay in step */
	assert_true(rpc_client_up(c));
	rpc_client_free(c);
}

MEMORY(a_call_cancelled_while_the_kernel_sends_it_ends_the_connection)
{
	struct down down = {0};
	struct rpc_client *c = client_new(net, &down);
	char bytes[8] = "precious";
	struct iovec v = {bytes, 8};
	struct rpc_call call = {.type = T_SILENT, .payload = &v, .payload_n = 1};

	S.net.last_client->send_held = true;
	rpc_call_start(c, &call, NULL);
	settle();
	rpc_call_cancel(&call);
	assert_false(rpc_client_up(c));
	settle();
	assert_int_equal(down.times, 1);
	rpc_client_free(c);
}

/* ---- the end of a connection ---- */

struct ending {
	unsigned *order, *n;
	unsigned id;
	struct rpc_client *close, *restart_on;
	struct rpc_call again;
};

static void note_ending(struct rpc_call *call)
{
	struct ending *e = call->user;

	e->order[(*e->n)++] = e->id;
	if (e->close)
		rpc_client_close(e->close);
	if (e->restart_on) {
		e->again = (struct rpc_call){.type = T_ECHO};
		rpc_call_start(e->restart_on, &e->again, NULL);
	}
}

BOTH(losing_the_connection_ends_every_call_in_order_and_then_tells_the_owner)
{
	struct down down = {0};
	struct rpc_client *c = client_new(net, &down);
	unsigned order[5], n = 0;
	struct rpc_call calls[5];
	struct ending endings[5];
	u_int v = 1, r = 0;
	struct rpc_group g;

	rpc_group_init(&g);
	for (unsigned i = 0; i < 5; i++) {
		calls[i] = echo_call(&v, &r);
		calls[i].type = T_GATE;
		endings[i] = (struct ending){.order = order, .n = &n, .id = i};
		calls[i].done = note_ending;
		calls[i].user = &endings[i];
		rpc_call_start(c, &calls[i], &g);
	}
	while (S.handled < 5)
		fiber_yield();
	rpc_conn_close(S.last_conn);
	assert_int_equal(rpc_group_wait_all(&g), 0);
	assert_int_equal(n, 5);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(order[i], i);
		assert_int_equal(calls[i].rc, -MYFS_E_GONE);
	}
	while (down.times == 0)
		fiber_yield();
	assert_string_equal(down.why, "peer closed the connection");
	assert_false(rpc_client_up(c));
	rpc_client_free(c);
	assert_int_equal(down.times, 1);
}

BOTH(a_call_on_a_dead_connection_ends_later_not_inside_start)
{
	struct down down = {0};
	struct rpc_client *c = client_new(net, &down);
	struct rpc_call call = {.type = T_ECHO}, bye = {.type = T_REPLY_AND_CLOSE};
	struct rpc_group g;

	assert_int_equal(rpc_call_sync(c, &bye), 0); /* the last reply still arrives */
	while (down.times == 0)
		fiber_yield();
	rpc_group_init(&g);
	rpc_call_start(c, &call, &g);
	assert_false(call.ended);
	assert_int_equal(rpc_group_wait_all(&g), 0);
	assert_int_equal(call.rc, -MYFS_E_GONE);
	assert_int_equal(rpc_post(c, T_NOTE, NULL, NULL, NULL, 0), -MYFS_E_GONE);
	rpc_client_free(c);
}

BOTH(closing_ends_calls_before_it_returns_and_tells_nobody)
{
	struct down down = {0};
	struct rpc_client *c = client_new(net, &down);
	u_int v = 1, r = 0;
	struct rpc_call call = echo_call(&v, &r);

	call.type = T_GATE;
	rpc_call_start(c, &call, NULL);
	settle();
	rpc_client_close(c);
	assert_true(call.ended);
	assert_int_equal(call.rc, -MYFS_E_GONE);
	settle();
	assert_int_equal(down.times, 0);
	rpc_client_close(c);
	rpc_client_free(c);
}

BOTH(a_callback_may_close_the_client_while_calls_end)
{
	struct down down = {0};
	struct rpc_client *c = client_new(net, &down);
	unsigned order[3], n = 0;
	struct rpc_call calls[3];
	struct ending endings[3];

	for (unsigned i = 0; i < 3; i++) {
		calls[i] = (struct rpc_call){.type = i == 0 ? T_FENCED : T_SILENT};
		endings[i] = (struct ending){.order = order, .n = &n, .id = i, .close = i == 0 ? c : NULL};
		calls[i].done = note_ending;
		calls[i].user = &endings[i];
		rpc_call_start(c, &calls[i], NULL);
	}
	while (n < 3)
		fiber_yield();
	assert_int_equal(calls[0].rc, -MYFS_E_FENCED);
	assert_int_equal(calls[2].rc, -MYFS_E_GONE);
	settle();
	assert_int_equal(down.times, 0);
	rpc_client_free(c);
}

BOTH(a_callback_that_tries_again_on_a_dead_connection_does_not_hold_the_loop)
{
	struct down down = {0};
	struct rpc_client *c = client_new(net, &down);
	unsigned order[4], n = 0;
	struct rpc_call calls[2] = {{.type = T_GATE}, {.type = T_GATE}};
	struct ending endings[2];

	for (unsigned i = 0; i < 2; i++) {
		endings[i] = (struct ending){.order = order, .n = &n, .id = i, .restart_on = c};
		calls[i].done = note_ending;
		calls[i].user = &endings[i];
		rpc_call_start(c, &calls[i], NULL);
	}
	while (S.handled < 2)
		fiber_yield();
	rpc_conn_close(S.last_conn);
	while (!endings[1].again.ended)
		fiber_yield();
	assert_int_equal(endings[1].again.rc, -MYFS_E_GONE);
	assert_int_equal(down.times, 1);
	rpc_client_free(c);
}

BOTH(the_owner_may_free_the_client_when_told_that_it_is_down)
{
	struct down down = {.free_it = true};
	struct rpc_client *c = client_new(net, &down);
	struct rpc_call bye = {.type = T_REPLY_AND_CLOSE};

	assert_int_equal(rpc_call_sync(c, &bye), 0);
	while (down.times == 0)
		fiber_yield();
	settle();
}

BOTH(freeing_right_after_connecting_is_fine)
{
	rpc_client_free(client_new(net, NULL));
	rpc_client_free(NULL);
	settle();
}

/* ---- misbehaving peers ---- */

static struct stream *raw_connect(struct net *net)
{
	struct stream *s = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(net_connect(net, &S.address, loop_now_ns() + 5 * NS_PER_S, &s, &e), 0);
	return s;
}

static void raw_send(struct stream *s, const void *p, size_t len)
{
	struct iovec v = {(void *)(uintptr_t)p, len};

	(void)stream_send(s, &v, 1);
}

/* A valid request frame with a 4-byte body. */
static size_t frame_make(uint8_t out[128], uint16_t type, uint16_t flags, uint64_t seq)
{
	struct frame_header h = {.type = type, .flags = flags, .seq = seq, .body_len = 4};

	memset(out + RPC_HEADER_BYTES, 0, 4);
	frame_header_write(out, &h);
	return RPC_HEADER_BYTES + 4;
}

BOTH(broken_frames_end_the_connection_and_nothing_else)
{
	static const struct {
		size_t offset;
		uint8_t value;
	} damage[] = {
	    {0, 'X'},     /* magic */
	    {7, 0x80},    /* unknown flag */
	    {7, 0x03},    /* reply and one-way at once */
	    {7, 0x01},    /* a reply to a server: crc is wrong too */
	    {8, 0xff},    /* crc */
	    {12, 0xff},   /* body length */
	    {40, 0xff},   /* payload length */
	    {47, 0x01},   /* status in a request */
	    {44, 0x01},   /* status out of range */
	    {49, 0x77},   /* body damaged */
	};

	for (size_t i = 0; i < ARRAY_LEN(damage); i++) {
		uint8_t f[128];
		size_t len = frame_make(f, T_ECHO, 0, 1);
		struct stream *s = raw_connect(net);

		f[damage[i].offset] = damage[i].value;
		raw_send(s, f, len);
		uint8_t b;
		assert_true(stream_recv(s, &b, 1) <= 0);
		stream_close(s);
	}
	assert_int_equal(S.handled, 0);
	struct rpc_client *c = client_new(net, NULL);
	u_int v = 1, r = 0;
	struct rpc_call call = echo_call(&v, &r);
	assert_int_equal(rpc_call_sync(c, &call), 0);
	rpc_client_free(c);
}

BOTH(a_frame_that_says_reply_ends_a_server_connection)
{
	uint8_t f[128], b;
	struct stream *s = raw_connect(net);

	raw_send(s, f, frame_make(f, T_ECHO, RPC_FLAG_REPLY, 1));
	assert_true(stream_recv(s, &b, 1) <= 0);
	stream_close(s);
}

BOTH(frames_arriving_one_byte_at_a_time_are_put_together)
{
	uint8_t f[128], reply[RPC_HEADER_BYTES + 4];
	size_t len = frame_make(f, T_ECHO, 0, 9);
	struct stream *s = raw_connect(net);

	for (size_t i = 0; i < len; i++) {
		raw_send(s, f + i, 1);
		fiber_yield();
	}
	assert_int_equal(stream_recv_full(s, reply, sizeof(reply)), 0);
	struct frame_header h;
	const char *why;
	assert_int_equal(frame_header_parse(reply, &h, &why), 0);
	assert_int_equal(h.seq, 9);
	assert_int_equal(h.flags, RPC_FLAG_REPLY);
	stream_close(s);
}

BOTH(a_two_way_type_sent_one_way_gets_no_reply)
{
	uint8_t f[128], reply[RPC_HEADER_BYTES + 4];
	struct stream *s = raw_connect(net);

	raw_send(s, f, frame_make(f, T_ECHO, RPC_FLAG_ONEWAY, 1));
	raw_send(s, f, frame_make(f, T_ECHO, 0, 2));
	assert_int_equal(stream_recv_full(s, reply, sizeof(reply)), 0);
	assert_int_equal(reply[31], 2);
	stream_close(s);
}

/* A server that is the test itself: accepts one stream on the memory net. */
static void reply_make(struct mem_stream *to, uint16_t type, uint16_t flags, uint64_t seq, uint32_t status)
{
	uint8_t f[RPC_HEADER_BYTES];
	struct frame_header h = {.type = type, .flags = flags, .seq = seq, .status = status};

	frame_header_write(f, &h);
	raw_send(&to->base, f, sizeof(f));
}

/* A client whose peer end the test plays: the server under test does not see it. */
static struct rpc_client *client_against_test(struct net *net, struct down *down, struct mem_stream **ret_peer)
{
	struct rpc_client *c = client_new(net, down);

	S.net.waiting_n = 0;
	*ret_peer = S.net.last_server;
	return c;
}

MEMORY(a_reply_nobody_asked_for_ends_the_connection)
{
	static const struct {
		uint16_t type, flags;
		uint64_t seq;
		const char *why;
	} bad[] = {
	    {T_ECHO, RPC_FLAG_REPLY, 2, "peer sent something that is no reply to a request of ours"},
	    {T_ECHO, 0, 1, "peer sent something that is no reply to a request of ours"},
	    {T_NOTE, RPC_FLAG_REPLY, 1, "peer sent a malformed reply"},
	    {T_ECHO, RPC_FLAG_REPLY, 1, "peer sent a malformed reply"}, /* body missing */
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct down down = {0};
		struct mem_stream *peer;
		struct rpc_client *c = client_against_test(net, &down, &peer);
		u_int v = 1, r = 0;
		struct rpc_call call = echo_call(&v, &r);

		rpc_call_start(c, &call, NULL);
		settle();
		reply_make(peer, bad[i].type, bad[i].flags, bad[i].seq, 0);
		while (down.times == 0)
			fiber_yield();
		assert_string_equal(down.why, bad[i].why);
		assert_true(call.ended && call.rc < 0);
		rpc_client_free(c);
		stream_close(&peer->base);
	}
}

MEMORY(a_reply_before_the_request_was_sent_does_not_end_the_call_early)
{
	struct mem_stream *peer;
	struct rpc_client *c = client_against_test(net, NULL, &peer);
	char bytes[8] = "precious";
	struct iovec v = {bytes, 8};
	struct rpc_call call = {.type = T_SILENT, .payload = &v, .payload_n = 1};
	struct rpc_group g;

	rpc_group_init(&g);
	S.net.last_client->send_held = true;
	rpc_call_start(c, &call, &g);
	settle();
	reply_make(peer, T_SILENT, RPC_FLAG_REPLY, 1, 0);
	settle();
	assert_false(call.ended); /* its payload is still being read */
	S.net.last_client->send_held = false;
	waitq_wake_all(&S.net.last_client->q);
	assert_int_equal(rpc_group_wait_all(&g), 1);
	rpc_client_free(c);
	stream_close(&peer->base);
}

MEMORY(a_peer_that_does_not_read_is_cut_off_at_the_output_limit)
{
	static uint8_t mib[1048576];
	struct down down = {0};
	struct mem_stream *peer;
	struct rpc_client *c = client_against_test(net, &down, &peer);
	struct iovec v = {mib, sizeof(mib)};
	static struct rpc_call calls[80];
	struct rpc_group g;

	rpc_group_init(&g);
	S.net.last_client->send_held = true;
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		calls[i] = (struct rpc_call){.type = T_SILENT, .payload = &v, .payload_n = 1};
		rpc_call_start(c, &calls[i], &g);
	}
	assert_false(rpc_client_up(c));
	assert_int_equal(rpc_group_wait_all(&g), 0);
	assert_int_equal(g.ended, 80);
	while (down.times == 0)
		fiber_yield();
	assert_string_equal(down.why, "peer does not read, output limit reached");
	rpc_client_free(c);
	stream_close(&peer->base);
}

/* ---- limits and admission of the server ---- */

MEMORY(a_server_stops_reading_when_too_many_requests_are_unfinished)
{
	enum { N = 5000 };
	uint8_t f[128];
	struct stream *s = raw_connect(net);
	uint8_t *all = malloc((size_t)N * (RPC_HEADER_BYTES + 4));
	size_t len = 0;

	for (unsigned i = 0; i < N; i++) {
		size_t n = frame_make(f, T_GATE, 0, i);
		memcpy(all + len, f, n);
		len += n;
	}
	raw_send(s, all, len);
	free(all);
	settle();
	assert_int_equal(S.handled, 4096);
	S.gate_open = true;
	waitq_wake_all(&S.gate);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(stream_recv_full(s, f, RPC_HEADER_BYTES + 4), 0);
	assert_int_equal(S.handled, N);
	stream_close(s);
}

MEMORY(a_server_stops_reading_from_a_client_that_does_not_take_its_replies)
{
	enum { N = 40 };
	u_int size = htonl(RPC_PAYLOAD_MAX);
	uint8_t f[128];
	struct stream *s = raw_connect(net);

	settle();
	S.net.last_server->send_held = true;
	for (unsigned i = 0; i < N; i++) {
		struct frame_header h = {.type = T_FILL, .seq = i, .body_len = 4};
		memcpy(f + RPC_HEADER_BYTES, &size, 4);
		frame_header_write(f, &h);
		raw_send(s, f, RPC_HEADER_BYTES + 4);
	}
	settle();
	assert_in_range(S.handled, 8, 10); /* 8 MiB of replies wait */
	S.net.last_server->send_held = false;
	waitq_wake_all(&S.net.last_server->q);
	settle();
	while (S.handled < N)
		fiber_yield();
	stream_close(s);
}

MEMORY(a_unix_peer_of_another_user_is_turned_away)
{
	struct down down = {0};

	S.net.uid = getuid() + 4711;
	struct rpc_client *c = client_new(net, &down);
	while (down.times == 0)
		fiber_yield();
	assert_int_equal(S.opened, 0);
	rpc_client_free(c);

	S.net.uid = 0; /* root may */
	c = client_new(net, NULL);
	struct rpc_call call = {.type = T_FENCED};
	assert_int_equal(rpc_call_sync(c, &call), -MYFS_E_FENCED);
	rpc_client_free(c);
}

MEMORY(tcp_without_a_key_is_neither_listened_on_nor_accepted)
{
	struct address a = {.kind = ADDRESS_TCP, .host = "127.0.0.1"};
	struct err e = ERR_INIT;
	struct down down = {0};

	assert_int_equal(rpc_server_listen(S.server, &a, NULL, &e), -EACCES);
	assert_string_equal(e.text, "listen on tcp:127.0.0.1:0: TCP needs a cluster key");
	S.net.tcp = true;
	struct rpc_client *c = client_new(net, &down);
	while (down.times == 0)
		fiber_yield();
	assert_int_equal(S.opened, 0);
	rpc_client_free(c);
}

MEMORY(connections_beyond_the_limit_are_closed)
{
	struct mem_net other;
	struct rpc_server *limited;
	struct rpc_server_config cfg = server_config(&other.net);
	struct down down = {0};
	struct rpc_call call = {.type = T_FENCED};

	(void)net;
	mem_net_init(&other);
	other.uid = getuid();
	cfg.max_conns = 1;
	assert_int_equal(rpc_server_new(&cfg, &limited), 0);
	assert_int_equal(rpc_server_listen(limited, &S.address, NULL, NULL), 0);
	struct rpc_client *first = client_new(&other.net, NULL);
	assert_int_equal(rpc_call_sync(first, &call), -MYFS_E_FENCED);
	struct rpc_client *second = client_new(&other.net, &down);
	while (down.times == 0)
		fiber_yield();
	assert_int_equal(rpc_call_sync(first, &call), -MYFS_E_FENCED);
	rpc_client_free(first);
	rpc_client_free(second);
	rpc_server_stop(limited);
	rpc_server_free(limited);
}

BOTH(stopping_waits_for_handlers_and_ends_connections)
{
	struct down down = {0};
	struct rpc_client *c = client_new(net, &down);
	u_int v = 1, r = 0;
	struct rpc_call call = echo_call(&v, &r);
	struct rpc_group g;

	call.type = T_GATE;
	rpc_group_init(&g);
	rpc_call_start(c, &call, &g);
	while (S.handled == 0)
		fiber_yield();
	server_stop(); /* opens the gate, too */
	assert_int_equal(S.closed, 1);
	rpc_group_wait_all(&g);
	rpc_client_free(c);
	S.opened = S.closed = 0;
	server_start(net, NULL); /* for the frame of the test */
	S.net.stopped = false;
}

/* ---- decoding without allocation ---- */

static void arrays_decode_into_memory_of_the_caller(void **state)
{
	uint8_t body[4096];
	u_int crc[BP_MAX_ROWS_PAYLOAD], in[3] = {1, 2, 3};
	bp_read_res out = {.zero = FALSE, .crc = {.crc_len = 3, .crc_val = in}};
	XDR x;

	(void)state;
	xdrmem_create(&x, (char *)body, sizeof(body), XDR_ENCODE);
	assert_true(xdr_bp_read_res(&x, &out));
	struct rpc_request req = {.body = body, .body_len = xdr_getpos(&x)};
	bp_read_res got = {.crc = {.crc_val = crc}};
	assert_int_equal(rpc_decode_into(&req, (xdrproc_t)xdr_bp_read_res, &got), 0);
	assert_ptr_equal(got.crc.crc_val, crc);
	assert_int_equal(got.crc.crc_len, 3);
	assert_int_equal(crc[2], 3);

	body[4] = 0x7f; /* a count past the bound must not be believed */
	got = (bp_read_res){.crc = {.crc_val = crc}};
	assert_int_equal(rpc_decode_into(&req, (xdrproc_t)xdr_bp_read_res, &got), -MYFS_E_PROTO);
	req.body_len--;
	got = (bp_read_res){0};
	assert_int_equal(rpc_decode(&req, (xdrproc_t)xdr_bp_read_res, &got), -MYFS_E_PROTO);
	assert_null(got.crc.crc_val);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_call_brings_back_result_payload_and_epoch),
	    cmocka_unit_test(a_failed_request_carries_its_status),
	    cmocka_unit_test(a_body_that_does_not_decode_is_refused_and_the_connection_lives),
	    cmocka_unit_test(a_handler_without_an_answer_does_not_leave_the_caller_waiting),
	    cmocka_unit_test(payloads_up_to_the_limit_travel_both_ways),
	    cmocka_unit_test(what_does_not_fit_a_frame_is_refused_without_harm),
	    cmocka_unit_test(a_body_larger_than_the_arena_still_travels),
	    cmocka_unit_test(frames_are_handled_in_the_order_they_were_sent),
	    cmocka_unit_test(a_handler_runs_up_to_its_first_suspend_before_the_next_frame),
	    cmocka_unit_test(replies_may_overtake_each_other),
	    cmocka_unit_test(many_outstanding_calls_all_find_their_reply),
	    cmocka_unit_test(a_group_wait_ends_when_enough_calls_ended_well),
	    cmocka_unit_test(a_group_wait_ends_when_enough_has_become_impossible),
	    cmocka_unit_test(a_group_wait_ends_at_its_deadline),
	    cmocka_unit_test(a_cancelled_calls_reply_is_dropped_and_the_connection_goes_on),
	    cmocka_unit_test(a_call_cancelled_before_it_was_sent_goes_out_with_the_bytes_it_had),
	    cmocka_unit_test(a_call_cancelled_while_the_kernel_sends_it_ends_the_connection),
	    cmocka_unit_test(losing_the_connection_ends_every_call_in_order_and_then_tells_the_owner),
	    cmocka_unit_test(a_call_on_a_dead_connection_ends_later_not_inside_start),
	    cmocka_unit_test(closing_ends_calls_before_it_returns_and_tells_nobody),
	    cmocka_unit_test(a_callback_may_close_the_client_while_calls_end),
	    cmocka_unit_test(a_callback_that_tries_again_on_a_dead_connection_does_not_hold_the_loop),
	    cmocka_unit_test(the_owner_may_free_the_client_when_told_that_it_is_down),
	    cmocka_unit_test(freeing_right_after_connecting_is_fine),
	    cmocka_unit_test(broken_frames_end_the_connection_and_nothing_else),
	    cmocka_unit_test(a_frame_that_says_reply_ends_a_server_connection),
	    cmocka_unit_test(frames_arriving_one_byte_at_a_time_are_put_together),
	    cmocka_unit_test(a_two_way_type_sent_one_way_gets_no_reply),
	    cmocka_unit_test(a_reply_nobody_asked_for_ends_the_connection),
	    cmocka_unit_test(a_reply_before_the_request_was_sent_does_not_end_the_call_early),
	    cmocka_unit_test(a_peer_that_does_not_read_is_cut_off_at_the_output_limit),
	    cmocka_unit_test(a_server_stops_reading_when_too_many_requests_are_unfinished),
	    cmocka_unit_test(a_server_stops_reading_from_a_client_that_does_not_take_its_replies),
	    cmocka_unit_test(a_unix_peer_of_another_user_is_turned_away),
	    cmocka_unit_test(tcp_without_a_key_is_neither_listened_on_nor_accepted),
	    cmocka_unit_test(connections_beyond_the_limit_are_closed),
	    cmocka_unit_test(stopping_waits_for_handlers_and_ends_connections),
	    cmocka_unit_test(arrays_decode_into_memory_of_the_caller),
	};
	return cmocka_run_group_tests_name("rpc", tests, NULL, NULL);
}
