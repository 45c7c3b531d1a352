/* net.c - the simulated network: connections between hosts as two one-way pipes of segments.
 *
 *   send ---> [segment, arrives at t] [segment, t'] ---> inbox ---> recv          t <= t': bytes never overtake each other
 *
 * Latency is random per segment; a blocked link holds segments until it is open again; a cut ends both ends with ECONNRESET, losing what was
 * under way; so does the death of a process. Power loss says nothing: the peer learns it when the host is up again (a reset answers
 * its next byte) or by its own timeouts.
 * Invariant: N1 a pipe's `peer` is NULL once the other end is gone; nobody touches a freed end. */
#include <stdio.h>

#include "tests/sim/world.h"

#define LATENCY_MIN_NS 5000
#define LATENCY_SPREAD_NS 45000
#define MAX_LINKS 64
#define INBOX_MAX (8u << 20)

struct segment {
	struct list node;
	struct sim_stream *to;
	size_t len, used;
	uint8_t bytes[];
};

struct sim_stream {
	struct stream s;
	struct list node;           /* in its host's net */
	struct sim_net *net;
	struct sim_stream *peer;    /* N1 */
	uint64_t id;                /* tells a reused address from the one an event meant */
	struct list inbox;          /* arrived segments */
	size_t inbox_bytes, under_way;
	uint64_t last_arrival_ns;   /* of what this end sent */
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
	struct list streams, listeners;
	struct link links[MAX_LINKS];
	unsigned n_links;
	uint64_t next_port;
};

/* All nets of the world, to find who listens: hosts are few. */
static struct sim_net *nets[MAX_LINKS];
static unsigned n_nets;
static uint64_t next_stream_id;

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

static void drop_inbox(struct sim_stream *x)
{
	list_for_each_safe(g, &x->inbox, struct segment, node) {
		list_del(&g->node);
		free(g);
	}
	x->inbox_bytes = 0;
}

/* ---- delivery ---- */

struct delivery {
	struct sim_stream *to;
	uint64_t to_id;
	struct segment *segment; /* NULL: orderly end */
	bool reset;
	struct sim_net *from;
	struct sim_net *to_net;
};

static bool alive(const struct delivery *d)
{
	list_for_each(x, &d->to_net->streams, struct sim_stream, node)
		if (x == d->to && x->id == d->to_id)
			return true;
	return false;
}

static void deliver(void *arg)
{
	struct delivery *d = arg;
	struct world *w = host_world(d->from->host);
	if (link_to(d->from, d->to_net)->blocked) {
		world_after(w, NULL, 1000 * 1000, deliver, d); /* looks again; order is kept: all of the pipe waits alike */
		return;
	}
	if (!alive(d)) {
		free(d->segment);
	} else if (d->reset) {
		stream_set_reset(d->to);
	} else if (d->segment == NULL) {
		d->to->ended = true;
		waitq_wake_all(&d->to->q);
	} else {
		list_push_back(&d->to->inbox, &d->segment->node);
		d->to->inbox_bytes += d->segment->len;
		if (d->to->peer != NULL)
			d->to->peer->under_way -= d->segment->len;
		waitq_wake_all(&d->to->q);
	}
	free(d);
}

static void post(struct sim_stream *from, struct segment *segment, bool reset)
{
	struct world *w = host_world(from->net->host);
	struct sim_stream *to = from->peer;
	struct delivery *d = malloc(sizeof(*d));
	assert(d != NULL);
	*d = (struct delivery){to, to->id, segment, reset, from->net, to->net};
	uint64_t arrival = world_now_ns(w) + LATENCY_MIN_NS + prng_below(world_prng(w), LATENCY_SPREAD_NS) + link_to(from->net, to->net)->extra_ns;
	arrival = max_u64(arrival, from->last_arrival_ns);
	from->last_arrival_ns = arrival;
	if (segment != NULL)
		from->under_way += segment->len;
	world_after(w, NULL, arrival - world_now_ns(w), deliver, d);
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
	struct segment *g = malloc(sizeof(*g) + len);
	assert(g != NULL);
	g->len = len;
	g->used = 0;
	size_t at = 0;
	for (unsigned i = 0; i < n; i++) {
		memcpy(g->bytes + at, v[i].iov_base, v[i].iov_len);
		at += v[i].iov_len;
	}
	post(x, g, false);
	return 0;
}

static void sim_shutdown(struct stream *s)
{
	struct sim_stream *x = stream_of(s);
	if (!x->reset && x->peer != NULL)
		post(x, NULL, false);
	stream_set_reset(x);
}

static void unlink_stream(struct sim_stream *x)
{
	if (x->peer != NULL)
		x->peer->peer = NULL;
	x->peer = NULL;
	list_del(&x->node);
}

static void sim_close(struct stream *s)
{
	struct sim_stream *x = stream_of(s);
	if (!x->reset && x->peer != NULL)
		post(x, NULL, false);
	drop_inbox(x);
	unlink_stream(x);
	free(x);
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

static void listener_free(struct sim_listener *x)
{
	list_for_each_safe(p, &x->backlog, struct pending, node) {
		list_del(&p->node);
		free(p);
	}
	list_del(&x->node);
	free(x);
}

static void sim_listener_close(struct listener *l)
{
	listener_free(CONTAINER_OF(l, struct sim_listener, l));
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
		struct sim_stream *peer = x->peer;
		if (peer != NULL && !quiet)
			post(x, NULL, true);
		drop_inbox(x);
		unlink_stream(x);
		free(x);
	}
	list_for_each_safe(l, &n->listeners, struct sim_listener, node)
		listener_free(l);
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
