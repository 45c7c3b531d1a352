/* server.c - the answering side: listeners, admission of peers, one fiber per request.
 *
 *   acceptor (per listener) --> conn fiber: admit, TLS, then read frames --> fiber_run(handle) per frame, in order
 *                                                                            --> rpc_reply queues --> writer sends
 *
 * Back-pressure: a connection is not read while REQUESTS_MAX of its requests are unfinished or OUTPUT_PAUSE bytes of
 * replies wait.
 *
 * Invariants: S1 a frame is looked at only after the handler of the one before first suspended. S2 a connection lives
 * until its reader ended and its last request was freed; on_close runs then, once, if on_open ran. S3 each two-way
 * request is answered at most once, and exactly once while the connection is up. S4 nothing a peer sends reaches an
 * assert. */
#include <stdio.h>

#include "core/base/list.h"
#include "core/rpc/rpc.h"
#include "core/rpc/wire.h"

#define CONNS_MAX_DEFAULT 4096u
#define REQUESTS_MAX 4096u               /* unfinished, per connection */
#define REQUESTS_POOL_MAX 8192u          /* kept for reuse, per server */
#define OUTPUT_PAUSE MIB(8)              /* queued replies that stop reading */
#define HANDSHAKE_NS (10 * NS_PER_S)
#define DRAIN_NS NS_PER_S                /* how long a closing connection may take to send its last replies */
#define ACCEPT_RETRY_NS (100 * NS_PER_MS) /* after a failure like "too many open files" */

struct request {
	struct rpc_request pub; /* what the handler sees */
	struct buf *frame;      /* holds body */
	uint64_t reply_epoch;
	bool replied;
	struct request *next;   /* pool */
};

struct rpc_conn {
	struct rpc_server *server;
	struct stream *incoming; /* until admitted */
	struct wire wire;
	struct list node;
	struct timer drain_timer;
	struct waitq room;       /* a request was finished */
	unsigned requests;       /* unfinished */
	bool started;            /* wire is in use */
	void *user;
};

struct accepting {
	struct rpc_server *server;
	struct listener *listener;
	struct list node;
};

struct rpc_server {
	struct rpc_server_config cfg;
	struct loop *loop;
	struct list conns, acceptors;
	unsigned conns_n, acceptors_n;
	struct waitq idle; /* a connection or an acceptor is gone */
	struct request *pool;
	unsigned pool_n;
	bool stopping;
};

/* ---- requests ---- */

static struct request *request_get(struct rpc_server *s)
{
	struct request *r = s->pool;

	if (!r)
		return malloc(sizeof(*r));
	s->pool = r->next;
	s->pool_n--;
	return r;
}

static void request_put(struct rpc_server *s, struct request *r)
{
	if (s->pool_n >= REQUESTS_POOL_MAX) {
		free(r);
		return;
	}
	r->next = s->pool;
	s->pool = r;
	s->pool_n++;
}

static struct request *request_new(struct rpc_conn *c, const struct frame *f)
{
	struct request *r = request_get(c->server);
	if (!r)
		return NULL;

	*r = (struct request){
	    .pub =
		{
		    .conn = c,
		    .type = f->h.type,
		    .flags = f->h.flags,
		    .session = f->h.session,
		    .seq = f->h.seq,
		    .epoch = f->h.epoch,
		    .body = f->body,
		    .body_len = f->h.body_len,
		},
	    .frame = buf_ref(f->owner),
	};
	if (f->payload.len > 0) {
		r->pub.payload = f->payload;
		buf_ref(f->payload.owner);
	}
	c->requests++;
	return r;
}

static void request_finish(struct request *r)
{
	struct rpc_conn *c = r->pub.conn;

	if (!r->replied) /* a handler that takes this type for one-way (S3), or has nothing to say */
		rpc_reply(&r->pub, -MYFS_E_PROTO, NULL, NULL, NULL, 0);
	buf_unref(r->pub.payload.owner);
	buf_unref(r->frame);
	request_put(c->server, r);
	c->requests--;
	waitq_wake_all(&c->room);
}

static void request_fiber(void *arg)
{
	struct request *r = arg;
	struct rpc_server *s = r->pub.conn->server;

	s->cfg.handle(s->cfg.arg, &r->pub);
	request_finish(r);
}

static int decode(const struct rpc_request *req, xdrproc_t proc, void *dst)
{
	XDR x;

	xdrmem_create(&x, (char *)(uintptr_t)req->body, (u_int)req->body_len, XDR_DECODE);
	bool ok = proc(&x, dst) && xdr_getpos(&x) == req->body_len;
	xdr_destroy(&x);
	return ok ? 0 : -MYFS_E_PROTO;
}

int rpc_decode(const struct rpc_request *req, xdrproc_t proc, void *dst)
{
	int rc = decode(req, proc, dst);
	if (rc != 0)
		xdr_free(proc, dst); /* arrays decoded before the fault */
	return rc;
}

int rpc_decode_into(const struct rpc_request *req, xdrproc_t proc, void *dst)
{
	return decode(req, proc, dst);
}

void rpc_reply_epoch(struct rpc_request *req, uint64_t epoch)
{
	CONTAINER_OF(req, struct request, pub)->reply_epoch = epoch;
}

static int reply_queue(struct wire *w, struct frame_header *h, xdrproc_t proc, void *res, const struct slice *v,
		       unsigned n)
{
	if (tx_admit(&w->tx, h->payload_len, n) != 0)
		return -ENOBUFS;
	int rc = tx_frame(&w->tx, h, proc, res);
	if (rc == -EMSGSIZE) {
		/* The answer does not fit a frame: the peer gets to know that instead. */
		h->status = EMSGSIZE;
		h->payload_len = 0;
		n = 0;
		rc = tx_frame(&w->tx, h, NULL, NULL);
	}
	return rc != 0 ? rc : tx_payload_ref(&w->tx, v, n);
}

/* The wire's status word for a failure. */
static uint32_t status_of(int rc)
{
	return rc < 0 && rc >= -(int)FRAME_STATUS_MAX ? (uint32_t)-rc : EIO;
}

void rpc_reply(struct rpc_request *req, int rc, xdrproc_t proc, void *res, const struct slice *payload, unsigned n)
{
	struct request *r = CONTAINER_OF(req, struct request, pub);
	struct wire *w = &req->conn->wire;

	if (r->replied)
		return;
	r->replied = true;
	if ((req->flags & RPC_FLAG_ONEWAY) || !w->up || w->draining)
		return;

	struct frame_header h = {.type = (uint16_t)req->type,
				 .flags = RPC_FLAG_REPLY,
				 .session = req->session,
				 .seq = req->seq,
				 .epoch = r->reply_epoch};
	uint64_t len = 0;
	if (rc == 0) {
		for (unsigned i = 0; i < n; i++)
			len += payload[i].len;
	}
	if (rc == 0 && len > RPC_PAYLOAD_MAX)
		rc = -EMSGSIZE;
	if (rc != 0) {
		h.status = status_of(rc);
		proc = NULL;
		n = 0;
		len = 0;
	}
	h.payload_len = (uint32_t)len;
	int sent = reply_queue(w, &h, proc, res, payload, n);
	if (sent != 0)
		wire_end(w, sent == -ENOBUFS ? "peer does not read, output limit reached" : err_name(sent));
	wire_flush(w);
}

/* ---- connections ---- */

static bool conn_takes_input(const struct rpc_conn *c)
{
	return c->wire.up && !c->wire.draining;
}

static void conn_handle(struct rpc_conn *c, const struct frame *f)
{
	if (f->h.flags & RPC_FLAG_REPLY) {
		wire_end(&c->wire, "peer sent a reply, not a request");
		return;
	}
	struct request *r = request_new(c, f);
	if (!r) {
		wire_end(&c->wire, err_name(-ENOMEM));
		return;
	}
	/* Without a fiber to spare the reader itself handles it: nothing is lost, order holds, and reading pauses. */
	if (fiber_run(c->server->loop, "rpc-request", request_fiber, r) != 0)
		request_fiber(r);
}

static void conn_wait_room(struct rpc_conn *c) YIELDS
{
	while (conn_takes_input(c) && (c->requests >= REQUESTS_MAX || c->wire.tx.bytes >= OUTPUT_PAUSE))
		waitq_wait(c->requests >= REQUESTS_MAX ? &c->room : &c->wire.progress);
}

static void conn_serve(struct rpc_conn *c) YIELDS
{
	struct frame f;

	while (conn_takes_input(c) && wire_recv(&c->wire) == 0) {
		while (conn_takes_input(c) && wire_next(&c->wire, &f) == 1) {
			conn_handle(c, &f);
			conn_wait_room(c);
		}
	}
	while (c->wire.draining && c->wire.up)
		waitq_wait(&c->wire.progress);
}

/* Who may talk to us: by uid on unix sockets, by key on others. Replaces c->incoming by the TLS stream where there is
 * one. */
static int conn_admit(struct rpc_conn *c) YIELDS
{
	const struct rpc_server_config *cfg = &c->server->cfg;

	if (c->incoming->is_unix)
		return c->incoming->peer_uid == cfg->allowed_uid || c->incoming->peer_uid == 0 ? 0 : -EACCES;
	if (cfg->tls)
		return tls_server_start(&c->incoming, cfg->tls, loop_now_ns() + HANDSHAKE_NS, NULL);
	return cfg->allow_plain_tcp ? 0 : -EACCES;
}

static void conn_drain_timeout(void *arg)
{
	struct rpc_conn *c = arg;

	wire_end(&c->wire, "closed");
}

static void conn_free(struct rpc_conn *c)
{
	struct rpc_server *s = c->server;

	list_del(&c->node);
	s->conns_n--;
	free(c);
	waitq_wake_all(&s->idle);
}

static void conn_fiber(void *arg)
{
	struct rpc_conn *c = arg;
	struct rpc_server *s = c->server;

	int rc = conn_admit(c);
	if (rc != 0 || s->stopping) {
		stream_close(c->incoming);
		conn_free(c);
		return;
	}
	struct stream *stream = c->incoming;
	c->incoming = NULL;
	if (wire_start(&c->wire, s->loop, stream) != 0) {
		conn_free(c);
		return;
	}
	c->started = true;
	if (s->cfg.on_open)
		s->cfg.on_open(s->cfg.arg, c);
	conn_serve(c);
	wire_end(&c->wire, "closed");
	timer_cancel(&c->drain_timer);
	while (c->requests > 0)
		waitq_wait(&c->room);
	if (s->cfg.on_close)
		s->cfg.on_close(s->cfg.arg, c);
	wire_finish(&c->wire);
	conn_free(c);
}

/* Takes over stream. */
static void conn_new(struct rpc_server *s, struct stream *stream)
{
	struct rpc_conn *c = s->conns_n < s->cfg.max_conns ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		stream_close(stream);
		return;
	}
	c->server = s;
	c->incoming = stream;
	waitq_init(&c->room);
	timer_init(&c->drain_timer, conn_drain_timeout, c);
	list_push_back(&s->conns, &c->node);
	s->conns_n++;
	if (fiber_spawn(s->loop, "rpc-conn", conn_fiber, c) != 0) {
		stream_close(stream);
		conn_free(c);
	}
}

void rpc_conn_set_user(struct rpc_conn *c, void *user) { c->user = user; }
void *rpc_conn_user(const struct rpc_conn *c) { return c->user; }
const char *rpc_conn_peer(const struct rpc_conn *c) { return c->wire.stream->peer; }
bool rpc_conn_is_open(const struct rpc_conn *c) { return conn_takes_input(c); }

void rpc_conn_close(struct rpc_conn *c)
{
	if (!conn_takes_input(c))
		return;
	wire_drain(&c->wire, "closed by us");
	if (c->wire.up)
		timer_arm(&c->drain_timer, loop_now_ns() + DRAIN_NS);
	waitq_wake_all(&c->room);
	waitq_wake_all(&c->wire.progress);
}

/* ---- listeners ---- */

static void acceptor_fiber(void *arg)
{
	struct accepting *a = arg;
	struct rpc_server *s = a->server;

	while (!s->stopping) {
		struct stream *stream;
		int rc = listener_accept(a->listener, &stream);
		if (rc == -ECANCELED)
			break;
		if (rc == 0)
			conn_new(s, stream);
		else if (!s->stopping)
			fiber_sleep_until(loop_now_ns() + ACCEPT_RETRY_NS);
	}
	listener_close(a->listener);
	list_del(&a->node);
	s->acceptors_n--;
	free(a);
	waitq_wake_all(&s->idle);
}

int rpc_server_adopt(struct rpc_server *s, struct listener *l)
{
	if (s->stopping)
		return -ECANCELED;
	if (l->address.kind == ADDRESS_TCP && !s->cfg.tls && !s->cfg.allow_plain_tcp)
		return -EACCES;

	struct accepting *a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->server = s;
	a->listener = l;
	int rc = fiber_spawn(s->loop, "rpc-accept", acceptor_fiber, a);
	if (rc != 0) {
		free(a);
		return rc;
	}
	list_push_back(&s->acceptors, &a->node);
	s->acceptors_n++;
	return 0;
}

int rpc_server_listen(struct rpc_server *s, const struct address *a, struct address *ret_real, struct err *e)
{
	char text[ADDRESS_TEXT];

	if (a->kind == ADDRESS_TCP && !s->cfg.tls && !s->cfg.allow_plain_tcp)
		return err_set(e, -EACCES, "listen on %s: TCP needs a cluster key", address_text(a, text));

	struct listener *l;
	int rc = net_listen(s->cfg.net, a, &l, e);
	if (rc != 0)
		return rc;
	struct address real = l->address;
	rc = rpc_server_adopt(s, l);
	if (rc != 0) {
		listener_close(l);
		return err_set(e, rc, "listen on %s: %s", address_text(a, text), err_name(rc));
	}
	if (ret_real)
		*ret_real = real;
	return 0;
}

/* ---- the server ---- */

int rpc_server_new(const struct rpc_server_config *cfg, struct rpc_server **ret)
{
	struct rpc_server *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->cfg = *cfg;
	if (s->cfg.max_conns == 0)
		s->cfg.max_conns = CONNS_MAX_DEFAULT;
	s->loop = loop_self();
	list_init(&s->conns);
	list_init(&s->acceptors);
	waitq_init(&s->idle);
	*ret = s;
	return 0;
}

void rpc_server_stop(struct rpc_server *s)
{
	s->stopping = true;
	list_for_each (a, &s->acceptors, struct accepting, node)
		listener_stop(a->listener);
	list_for_each (c, &s->conns, struct rpc_conn, node) {
		if (c->started)
			rpc_conn_close(c);
		else if (c->incoming)
			stream_shutdown(c->incoming); /* still in its handshake */
	}
	while (s->conns_n > 0 || s->acceptors_n > 0)
		waitq_wait(&s->idle);
}

void rpc_server_free(struct rpc_server *s)
{
	if (!s)
		return;
	assert(s->conns_n == 0 && s->acceptors_n == 0); /* stopped before */
	while (s->pool) {
		struct request *r = s->pool;
		s->pool = r->next;
		free(r);
	}
	free(s);
}
