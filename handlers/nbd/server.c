/* server.c - listeners, limits on strangers, and an end that comes in bounded time.
 *
 * Limits: connections in all (over it: closed at once); handshakes under way per listener (at it: the listener is not
 * asked for more until one ends, which the handshake deadline bounds, so a burst waits in the backlog and another
 * listener is not affected); handshakes of one TCP host (over it: closed at once, so that one host cannot take them
 * all; unix peers are local).
 *
 * Invariants: V1 the server is freed when its owner, every accept fiber and every session have let go of it. V2 doors
 * are freed with the server, so a session may always look at its door. */
#include "handlers/nbd/nbd_priv.h"

#define ACCEPT_RETRY_NS (100 * NS_PER_MS) /* after EMFILE and the like */

static void server_unref(struct nbd_server *s)
{
	if (--s->refs > 0)
		return;
	assert(list_empty(&s->sessions));
	list_for_each_safe(d, &s->doors, struct nbd_door, node) {
		free(d);
	}
	free(s);
}

int nbd_server_new(const struct nbd_server_config *cfg, struct nbd_server **ret)
{
	struct nbd_server *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;

	s->cfg = *cfg;
	if (s->cfg.max_conns == 0)
		s->cfg.max_conns = 1024;
	if (s->cfg.max_handshakes == 0)
		s->cfg.max_handshakes = 64;
	if (s->cfg.max_handshakes_per_peer == 0)
		s->cfg.max_handshakes_per_peer = 16;
	if (s->cfg.handshake_timeout_ns == 0)
		s->cfg.handshake_timeout_ns = 10 * NS_PER_S;
	if (s->cfg.max_requests == 0)
		s->cfg.max_requests = 128;
	if (s->cfg.max_request_bytes == 0)
		s->cfg.max_request_bytes = NBD_PAYLOAD_DEFAULT;
	s->refs = 1;
	list_init(&s->doors);
	list_init(&s->sessions);
	list_init(&s->handed.node);
	waitq_init(&s->handed.slots);
	s->handed.server = s;
	waitq_init(&s->gone);
	*ret = s;
	return 0;
}

/* ---- strangers ---- */

/* Length of the host part of "192.0.2.7:5123" or "[2001:db8::7]:5123". */
static size_t host_len(const char *peer)
{
	const char *colon = strrchr(peer, ':');

	return colon ? (size_t)(colon - peer) : strlen(peer);
}

static bool same_host(const struct stream *a, const struct stream *b)
{
	size_t n = host_len(a->peer);

	return !a->is_unix && !b->is_unix && n == host_len(b->peer) && memcmp(a->peer, b->peer, n) == 0;
}

static bool welcome(const struct nbd_door *door, const struct stream *stream)
{
	const struct nbd_server *s = door->server;
	unsigned same = 0;

	if (s->stopping || s->session_count >= s->cfg.max_conns)
		return false;
	list_for_each(x, &s->sessions, struct nbd_session, node)
		same += x->door == door && x->stream && same_host(x->stream, stream);
	return same < s->cfg.max_handshakes_per_peer;
}

static void accept_fiber(void *arg)
{
	struct nbd_door *door = arg;
	struct nbd_server *s = door->server;

	while (!s->stopping) {
		struct stream *stream = NULL;
		while (door->half_open >= s->cfg.max_handshakes && !s->stopping)
			waitq_wait(&door->slots);
		int rc = listener_accept(door->listener, &stream);
		if (rc == -ECANCELED)
			break;
		if (rc == 0 && welcome(door, stream))
			(void)nbd_session_start(s, door, stream);
		else if (rc == 0)
			stream_close(stream);
		else if (rc != -ECONNABORTED && rc != -EINTR)
			fiber_sleep_until(loop_now_ns() + ACCEPT_RETRY_NS);
	}
	listener_close(door->listener);
	door->listener = NULL;
	s->accepting--;
	waitq_wake_all(&s->gone);
	server_unref(s);
}

int nbd_server_adopt(struct nbd_server *s, struct listener *l)
{
	struct nbd_door *door = calloc(1, sizeof(*door));
	if (!door)
		return -ENOMEM;

	door->server = s;
	door->listener = l;
	waitq_init(&door->slots);
	int rc = fiber_spawn(loop_self(), "nbd-accept", accept_fiber, door);
	if (rc != 0) {
		free(door);
		return rc;
	}
	list_push_back(&s->doors, &door->node);
	s->accepting++;
	s->refs++;
	return 0;
}

int nbd_server_listen(struct nbd_server *s, struct net *net, const struct address *a, struct address *ret_real,
		      struct err *e) YIELDS
{
	struct listener *l = NULL;
	struct address real;

	int rc = net_listen(net, a, &l, e);
	if (rc != 0)
		return rc;
	real = l->address;
	rc = nbd_server_adopt(s, l);
	if (rc != 0) {
		listener_stop(l);
		listener_close(l);
		return err_set(e, rc, "cannot start accepting: %s", err_name(rc));
	}
	if (ret_real)
		*ret_real = real;
	return 0;
}

int nbd_server_serve(struct nbd_server *s, struct stream *stream)
{
	if (s->stopping || s->session_count >= s->cfg.max_conns) {
		stream_close(stream);
		return s->stopping ? -ESHUTDOWN : -EBUSY;
	}
	return nbd_session_start(s, &s->handed, stream);
}

/* ---- facts reported by sessions ---- */

void nbd_server_handshake_done(struct nbd_session *s)
{
	s->door->half_open--;
	waitq_wake_all(&s->door->slots);
	s->door = NULL;
}

void nbd_server_session_gone(struct nbd_server *server)
{
	server->session_count--;
	waitq_wake_all(&server->gone);
	server_unref(server);
}

/* ---- the end ---- */

static void stop_accepting(struct nbd_server *s)
{
	s->stopping = true;
	list_for_each(d, &s->doors, struct nbd_door, node) {
		if (d->listener)
			listener_stop(d->listener);
		waitq_wake_all(&d->slots);
	}
}

static void cut_all(struct nbd_server *s)
{
	list_for_each(x, &s->sessions, struct nbd_session, node)
		nbd_session_cut(x);
}

static int wait_gone(struct nbd_server *s, uint64_t deadline_ns) YIELDS
{
	int rc = 0;

	while (rc == 0 && (s->session_count > 0 || s->accepting > 0))
		rc = waitq_wait_until(&s->gone, deadline_ns);
	return rc;
}

void nbd_server_stop(struct nbd_server *s) YIELDS
{
	uint64_t start_ns = loop_now_ns();

	stop_accepting(s);
	list_for_each(x, &s->sessions, struct nbd_session, node)
		nbd_session_hang_up(x);
	if (wait_gone(s, start_ns + NBD_DRAIN_NS) == 0)
		return;
	cut_all(s);
	(void)wait_gone(s, start_ns + NBD_STOP_NS);
}

void nbd_server_free(struct nbd_server *s)
{
	if (!s)
		return;
	stop_accepting(s);
	cut_all(s);
	server_unref(s);
}

void nbd_server_resized(struct nbd_server *s, const char *export_name, uint64_t size_bytes)
{
	list_for_each(x, &s->sessions, struct nbd_session, node)
		if (x->phase == NBD_PHASE_TRANSMISSION && strcmp(x->info.export_name, export_name) == 0)
			x->limits.size_bytes = size_bytes;
}

void nbd_server_hang_up(struct nbd_server *s, const char *export_name)
{
	list_for_each(x, &s->sessions, struct nbd_session, node)
		if (x->phase == NBD_PHASE_TRANSMISSION && strcmp(x->info.export_name, export_name) == 0)
			nbd_session_hang_up(x);
}

void nbd_server_sessions(struct nbd_server *s, void (*fn)(void *arg, const struct nbd_session_info *info), void *arg)
{
	list_for_each(x, &s->sessions, struct nbd_session, node)
		if (x->phase == NBD_PHASE_TRANSMISSION)
			fn(arg, &x->info);
}
