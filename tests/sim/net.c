/* net.c - the simulated network: connections between hosts as two one-way pipes of segments.
 *
 *   send ---> [segment, arrives at t] [segment, t'] ---> inbox ---> recv          t <= t': bytes never overtake each other
 *
 * Latency is random per segment; a blocked link holds segments until it is open again; a cut ends both ends with ECONNRESET, losing what was
 * under way; so does the death of a process. Power loss says nothing: the peer learns it when the host is up again (a reset answers
 * its next byte) or by its own timeouts.
 * Invariants: N1 a pipe's `peer` is NULL once the other end is gone; nobody touches a freed end. N2 what an end was sent waits in its `coming` in
 * the order sent, and each arrival takes the first of it: however long links were blocked, nothing overtakes. */
#include <stdio.h>

#include "core/base/bytes.h"
#include "core/rpc/rpc.h"
#include "tests/sim/world.h"

#define LATENCY_MIN_NS 5000
#define LATENCY_SPREAD_NS 45000
#define BLOCKED_POLL_NS 1000000
#define MAX_LINKS 64
#define INBOX_MAX (8u << 20)

/* Bytes, or the end of the pipe: orderly, or a reset. */
enum segment_kind { SEGMENT_BYTES, SEGMENT_END, SEGMENT_RESET };
struct segment {
	struct list node;
	enum segment_kind kind;
	bool frame;              /* the end of a frame, this one: */
	struct message message;
	size_t len, used;
	uint8_t bytes[];
};

struct sim_stream {
	struct stream s;
	struct list node;           /* in its host's net */
	struct sim_net *net;
	struct sim_stream *peer;    /* N1 */
	uint64_t id;                /* tells a reused address from the one an event meant */
	struct list coming;         /* N2: sent to this end, not yet arrived */
	struct list inbox;          /* arrived segments */
	size_t inbox_bytes, under_way;
	uint64_t last_arrival_ns;   /* of what this end sent */
	uint8_t head[RPC_HEADER_BYTES]; /* of the frame being sent, when somebody asks about frames */
	size_t head_have, frame_left;
	bool reset, ended;          /* ended: orderly, after the inbox */
	bool in_recv;
	struct waitq q;             /* a receiver, or a sender waiting for room */
};

struct sim_listener {
	struct listener l;
	struct list node;
	struct sim_net *net;
	struct list backlog;        /* struct sim_stream by s... through pending */
	bool stopped;
	struct waitq q;
};

struct pending {
	struct list node;
	struct sim_stream *stream;
};

struct link {
	struct sim_net *to;
	bool blocked;
	uint64_t extra_ns;
};

struct sim_net {
	struct net iface;
	struct host *host;
	struct list streams, listeners, arrivals;
	struct link links[MAX_LINKS];
	unsigned n_links;
	uint64_t next_port;
};

/* All nets of the world, to find who listens: hosts are few. */
static struct sim_net *nets[MAX_LINKS];
static unsigned n_nets;
static uint64_t next_stream_id;

static message_fn *on_message;
static void *on_message_arg;

void world_on_message(message_fn *fn, void *arg)
{
	on_message = fn;
	on_message_arg = arg;
}

static struct link *link_to(struct sim_net *from, struct sim_net *to)
{
	for (unsigned i = 0; i < from->n_links; i++)
		if (from->links[i].to == to)
			return &from->links[i];
	assert(from->n_links < MAX_LINKS);
	from->links[from->n_links] = (struct link){.to = to};
	return &from->links[from->n_links++];
}

static struct sim_stream *stream_of(struct stream *s)
{
	return CONTAINER_OF(s, struct sim_stream, s);
}

static void stream_set_reset(struct sim_stream *x)
{
	x->reset = true;
	waitq_wake_all(&x->q);
}

static void drop_segments(struct list *l)
{
	list_for_each_safe(g, l, struct segment, node) {
		list_del(&g->node);
		free(g);
	}
}

/* ---- delivery ---- */

/* One segment's moment; which one it brings is the receiver's affair (N2). */
struct arrival {
	struct list node;           /* to->arrivals */
	struct sim_net *from, *to;
	uint64_t to_id;
};

static struct sim_stream *stream_find(struct sim_net *net, uint64_t id)
{
	list_for_each(x, &net->streams, struct sim_stream, node)
		if (x->id == id)
			return x;
	return NULL;
}

static void take_segment(struct sim_stream *x, struct segment *g)
{
	list_del(&g->node);
	if (g->kind == SEGMENT_BYTES) {
		list_push_back(&x->inbox, &g->node);
		x->inbox_bytes += g->len;
		if (x->peer != NULL)
			x->peer->under_way -= g->len;
	} else {
		x->ended = x->ended || g->kind == SEGMENT_END;
		x->reset = x->reset || g->kind == SEGMENT_RESET;
		free(g);
	}
	waitq_wake_all(&x->q);
}

static void arrive(void *arg)
{
	struct arrival *a = arg;
	struct sim_stream *x = stream_find(a->to, a->to_id);
	if (x != NULL && link_to(a->from, a->to)->blocked) {
		world_after(host_world(a->from->host), NULL, BLOCKED_POLL_NS, arrive, a);
		return;
	}
	if (x != NULL && !list_empty(&x->coming)) {
		struct segment *g = list_first(&x->coming, struct segment, node);
		if (g->frame && !x->reset && on_message != NULL && on_message(on_message_arg, &g->message) == MESSAGE_CUTS) {
			stream_set_reset(x);
			if (x->peer != NULL)
				stream_set_reset(x->peer);
		} else {
			take_segment(x, g);
		}
	}
	list_del(&a->node);
	free(a);
}

static struct segment *segment_new(enum segment_kind kind, size_t len)
{
	struct segment *g = malloc(sizeof(*g) + len);
	assert(g != NULL);
	*g = (struct segment){.kind = kind, .len = len};
	list_init(&g->node);
	return g;
}

static void post(struct sim_stream *from, struct segment *g)
{
	struct world *w = host_world(from->net->host);
	struct sim_stream *to = from->peer;
	struct arrival *a = malloc(sizeof(*a));
	assert(a != NULL);
	*a = (struct arrival){.from = from->net, .to = to->net, .to_id = to->id};
	list_push_back(&to->net->arrivals, &a->node);
	uint64_t arrival = world_now_ns(w) + LATENCY_MIN_NS + prng_below(world_prng(w), LATENCY_SPREAD_NS) + link_to(from->net, to->net)->extra_ns;
	arrival = max_u64(arrival, from->last_arrival_ns);
	from->last_arrival_ns = arrival;
	from->under_way += g->len;
	list_push_back(&to->coming, &g->node);
	world_after(w, NULL, arrival - world_now_ns(w), arrive, a);
}

/* frame: g ends the frame whose header x->head holds. */
static void post_bytes(struct sim_stream *x, struct segment *g, bool frame)
{
	if (frame) {
		struct rcur c = rcur_of(x->head, RPC_HEADER_BYTES);
		(void)rcur_be32(&c); /* magic */
		uint16_t type = rcur_be16(&c), flags = rcur_be16(&c);
		struct rcur status = rcur_of(x->head + RPC_HEADER_BYTES - 4, 4);
		g->frame = true;
		g->message = (struct message){x->net->host, x->peer->net->host, type, (flags & RPC_FLAG_REPLY) != 0, rcur_be32(&status)};
	}
	post(x, g);
}

static struct segment *segment_of(const uint8_t *p, size_t len)
{
	struct segment *g = segment_new(SEGMENT_BYTES, len);
	memcpy(g->bytes, p, len);
	return g;
}

/* Cuts what is sent at the ends of frames; most of it is just one, and goes as it is. */
static void post_frames(struct sim_stream *x, struct segment *whole)
{
	const uint8_t *p = whole->bytes;
	size_t from = 0, at = 0, len = whole->len;
	while (at < len) {
		if (x->head_have < RPC_HEADER_BYTES) {
			size_t n = min_u64(RPC_HEADER_BYTES - x->head_have, len - at);
			memcpy(x->head + x->head_have, p + at, n);
			x->head_have += n;
			at += n;
			if (x->head_have < RPC_HEADER_BYTES)
				break;
			struct rcur body = rcur_of(x->head + 12, 4), payload = rcur_of(x->head + 40, 4);
			x->frame_left = (size_t)rcur_be32(&body) + rcur_be32(&payload);
		} else {
			size_t n = min_u64(x->frame_left, len - at);
			x->frame_left -= n;
			at += n;
		}
		if (x->head_have == RPC_HEADER_BYTES && x->frame_left == 0) {
			x->head_have = 0;
			if (from == 0 && at == len) {
				post_bytes(x, whole, true);
				return;
			}
			post_bytes(x, segment_of(p + from, at - from), true);
			from = at;
		}
	}
	if (from == 0) {
		post_bytes(x, whole, false);
		return;
	}
	if (from < len)
		post_bytes(x, segment_of(p + from, len - from), false);
	free(whole);
}

static void post_end(struct sim_stream *from, enum segment_kind kind)
{
	if (!from->reset && from->peer != NULL)
		post(from, segment_new(kind, 0));
}

/* ---- stream operations ---- */

static ssize_t sim_recv(struct stream *s, void *dst, size_t cap)
{
	struct sim_stream *x = stream_of(s);
	while (!x->reset && x->inbox_bytes == 0 && !x->ended)
		waitq_wait(&x->q);
	if (x->reset)
		return -ECONNRESET;
	size_t got = 0;
	while (got < cap && !list_empty(&x->inbox)) {
		struct segment *g = list_first(&x->inbox, struct segment, node);
		size_t n = min_u64(cap - got, g->len - g->used);
		memcpy((uint8_t *)dst + got, g->bytes + g->used, n);
		got += n;
		g->used += n;
		if (g->used == g->len) {
			list_del(&g->node);
			free(g);
		}
	}
	x->inbox_bytes -= got;
	if (x->peer != NULL && got > 0)
		waitq_wake_all(&x->peer->q);
	return (ssize_t)got;
}

static int sim_send(struct stream *s, const struct iovec *v, unsigned n)
{
	struct sim_stream *x = stream_of(s);
	size_t len = 0;
	for (unsigned i = 0; i < n; i++)
		len += v[i].iov_len;
	/* Room: what the other end has not read yet is bounded, as a socket buffer is. */
	while (!x->reset && x->peer != NULL && x->peer->inbox_bytes + x->under_way > INBOX_MAX)
		waitq_wait(&x->q);
	if (x->reset)
		return -ECONNRESET;
	if (x->peer == NULL || len == 0)
		return 0; /* into the void: the host is gone and nobody said so */
	struct segment *g = segment_new(SEGMENT_BYTES, len);
	size_t at = 0;
	for (unsigned i = 0; i < n; i++) {
		memcpy(g->bytes + at, v[i].iov_base, v[i].iov_len);
		at += v[i].iov_len;
	}
	if (on_message == NULL)
		post(x, g);
	else
		post_frames(x, g);
	return 0;
}

static void sim_shutdown(struct stream *s)
{
	struct sim_stream *x = stream_of(s);
	post_end(x, SEGMENT_END);
	stream_set_reset(x);
}

static void stream_free(struct sim_stream *x)
{
	drop_segments(&x->inbox);
	drop_segments(&x->coming);
	if (x->peer != NULL)
		x->peer->peer = NULL;
	list_del(&x->node);
	free(x);
}

static void sim_close(struct stream *s)
{
	struct sim_stream *x = stream_of(s);
	post_end(x, SEGMENT_END);
	stream_free(x);
}

static const struct stream_ops STREAM_OPS = {sim_recv, sim_send, sim_shutdown, sim_close};

static struct sim_stream *stream_new(struct sim_net *net, const char *peer)
{
	struct sim_stream *x = calloc(1, sizeof(*x));
	assert(x != NULL);
	x->s.ops = &STREAM_OPS;
	x->s.is_unix = true; /* hosts trust each other here: the transport's own protection is tested elsewhere */
	snprintf(x->s.peer, sizeof(x->s.peer), "%s", peer);
	x->net = net;
	x->id = ++next_stream_id;
	list_init(&x->inbox);
	list_init(&x->coming);
	waitq_init(&x->q);
	list_push_back(&net->streams, &x->node);
	return x;
}

/* ---- listeners ---- */

static int sim_accept(struct listener *l, struct stream **ret)
{
	struct sim_listener *x = CONTAINER_OF(l, struct sim_listener, l);
	while (!x->stopped && list_empty(&x->backlog))
		waitq_wait(&x->q);
	if (x->stopped)
		return -ECANCELED;
	struct pending *p = list_first(&x->backlog, struct pending, node);
	list_del(&p->node);
	*ret = &p->stream->s;
	free(p);
	return 0;
}

static void sim_stop(struct listener *l)
{
	struct sim_listener *x = CONTAINER_OF(l, struct sim_listener, l);
	x->stopped = true;
	waitq_wake_all(&x->q);
}

/* streams: what nobody accepted is closed too; a dying host frees its streams itself. */
static void listener_free(struct sim_listener *x, bool streams)
{
	list_for_each_safe(p, &x->backlog, struct pending, node) {
		list_del(&p->node);
		if (streams)
			sim_close(&p->stream->s);
		free(p);
	}
	list_del(&x->node);
	free(x);
}

static void sim_listener_close(struct listener *l)
{
	listener_free(CONTAINER_OF(l, struct sim_listener, l), true);
}

static int sim_listen(struct net *n, const struct address *a, struct listener **ret, struct err *e)
{
	struct sim_net *net = CONTAINER_OF(n, struct sim_net, iface);
	(void)e;
	struct sim_listener *x = calloc(1, sizeof(*x));
	assert(x != NULL);
	x->net = net;
	x->l = (struct listener){.accept = sim_accept, .stop = sim_stop, .close = sim_listener_close, .address = *a};
	list_init(&x->backlog);
	waitq_init(&x->q);
	list_push_back(&net->listeners, &x->node);
	*ret = &x->l;
	return 0;
}

static struct sim_listener *find_listener(const struct address *a)
{
	for (unsigned i = 0; i < n_nets; i++)
		list_for_each(l, &nets[i]->listeners, struct sim_listener, node)
			if (!l->stopped && l->l.address.port == a->port && strcmp(l->l.address.host, a->host) == 0)
				return l;
	return NULL;
}

static int sim_connect(struct net *n, const struct address *a, uint64_t deadline_ns, struct stream **ret, struct err *e)
{
	struct sim_net *net = CONTAINER_OF(n, struct sim_net, iface);
	struct world *w = host_world(net->host);
	fiber_sleep_until(min_u64(deadline_ns, world_now_ns(w) + 2 * LATENCY_MIN_NS + prng_below(world_prng(w), LATENCY_SPREAD_NS)));
	struct sim_listener *l = find_listener(a);
	if (l == NULL)
		return err_set(e, -ECONNREFUSED, "connection refused");
	if (link_to(net, l->net)->blocked || link_to(l->net, net)->blocked) {
		fiber_sleep_until(deadline_ns);
		return err_set(e, -ETIMEDOUT, "connection timed out");
	}
	struct sim_stream *here = stream_new(net, host_name(l->net->host)), *there = stream_new(l->net, host_name(net->host));
	here->peer = there;
	there->peer = here;
	struct pending *p = malloc(sizeof(*p));
	assert(p != NULL);
	p->stream = there;
	list_push_back(&l->backlog, &p->node);
	waitq_wake_one(&l->q);
	*ret = &here->s;
	return 0;
}

/* ---- hosts and links ---- */

struct sim_net *sim_net_new(struct host *h)
{
	struct sim_net *n = calloc(1, sizeof(*n));
	assert(n != NULL && n_nets < MAX_LINKS);
	n->iface = (struct net){.connect = sim_connect, .listen = sim_listen};
	n->host = h;
	list_init(&n->streams);
	list_init(&n->listeners);
	list_init(&n->arrivals);
	nets[n_nets++] = n;
	return n;
}

struct net *sim_net_iface(struct sim_net *n)
{
	return &n->iface;
}

/* The fibers of this host are gone: its ends are freed here, with nobody waiting on them. */
void sim_net_host_down(struct sim_net *n, bool quiet)
{
	list_for_each_safe(x, &n->streams, struct sim_stream, node) {
		if (!quiet)
			post_end(x, SEGMENT_RESET);
		stream_free(x);
	}
	list_for_each_safe(l, &n->listeners, struct sim_listener, node)
		listener_free(l, false);
}

/* After a silent death: ends of other hosts whose peer is gone learn it now. */
void sim_net_host_up(struct sim_net *n)
{
	for (unsigned i = 0; i < n_nets; i++)
		list_for_each(x, &nets[i]->streams, struct sim_stream, node)
			if (x->peer == NULL && !x->reset && !x->ended && strcmp(x->s.peer, host_name(n->host)) == 0)
				stream_set_reset(x);
}

void sim_net_free(struct sim_net *n)
{
	for (unsigned i = 0; i < n_nets; i++)
		if (nets[i] == n)
			nets[i] = nets[--n_nets];
	list_for_each_safe(a, &n->arrivals, struct arrival, node) {
		list_del(&a->node);
		free(a);
	}
	free(n);
}

static struct sim_net *net_of(struct host *h)
{
	return CONTAINER_OF(host_net(h), struct sim_net, iface);
}

void link_block(struct world *w, struct host *a, struct host *b, bool blocked)
{
	world_trace(w, "link %s -> %s %s", host_name(a), host_name(b), blocked ? "blocked" : "open");
	link_to(net_of(a), net_of(b))->blocked = blocked;
}

void link_delay(struct host *a, struct host *b, uint64_t extra_ns)
{
	link_to(net_of(a), net_of(b))->extra_ns = extra_ns;
}

void link_cut(struct host *a, struct host *b)
{
	world_trace(host_world(a), "connections between %s and %s are cut", host_name(a), host_name(b));
	list_for_each_safe(x, &net_of(a)->streams, struct sim_stream, node) {
		if (x->peer == NULL || x->peer->net != net_of(b))
			continue;
		stream_set_reset(x);
		stream_set_reset(x->peer);
	}
}
