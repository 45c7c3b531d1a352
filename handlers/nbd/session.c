/* session.c - one connection from accept to close: handshake, then a reader that starts every request it can see.
 *
 *      session fiber: handshake ----> reader: receive, parse, start ----> wait for the last reply ----> close
 *                                        | one fiber per request             ^
 *                                        v                                   | task done
 *                                     execute ----> output queue ----> sender fiber
 *
 * Invariants: S1 the export is closed after the last request on it has come back. S2 at most max_requests tasks and
 * NBD_CONN_BYTES_MAX payload bytes are under way per connection (one request of any legal size always may be); beyond
 * that the socket is not read. S3 the stream is closed by the session fiber alone, after both other users have ended.
 */
#include "handlers/nbd/nbd_priv.h"

/* ---- tasks ---- */

static struct nbd_task *task_new(struct nbd_session *s)
{
	struct nbd_task *t;

	if (!list_empty(&s->free)) {
		t = list_first(&s->free, struct nbd_task, node);
		list_del(&t->node);
	} else {
		t = malloc(sizeof(*t)); /* at most max_requests times in the life of a connection */
		if (!t)
			return NULL;
		list_init(&t->node);
		bufs_init(&t->reply.data);
		t->session = s;
	}
	t->payload = NULL;
	t->bytes = 0;
	t->reply.chunks = 0;
	s->running++;
	return t;
}

static void task_count(struct nbd_task *t, size_t bytes)
{
	t->bytes = bytes;
	t->session->running_bytes += bytes;
	t->session->server->running_bytes += bytes;
}

void nbd_session_task_done(struct nbd_session *s, struct nbd_task *t)
{
	bufs_release(&t->reply.data);
	buf_unref(t->payload);
	t->payload = NULL;
	s->running--;
	s->running_bytes -= t->bytes;
	s->server->running_bytes -= t->bytes;
	list_push_front(&s->free, &t->node);
	waitq_wake_all(&s->room);
	if (s->draining && s->running == 0)
		nbd_session_cut(s);
}

static size_t request_bytes(const struct nbd_request *r)
{
	if (r->error)
		return 0;
	switch (r->cmd) {
	case NBD_CMD_READ:
	case NBD_CMD_WRITE:
		return r->len;
	case NBD_CMD_BLOCK_STATUS:
		return NBD_STATUS_BYTES;
	default:
		return 0;
	}
}

/* S2. A connection with nothing under way is always let through, so that nobody waits for another connection. */
static bool room_for(const struct nbd_session *s, size_t bytes)
{
	if (s->running == 0)
		return true;
	return s->running < s->server->cfg.max_requests && s->running_bytes + bytes <= NBD_CONN_BYTES_MAX &&
	       s->server->running_bytes + bytes <= NBD_SERVER_BYTES_MAX;
}

static void task_fiber(void *arg)
{
	struct nbd_task *t = arg;

	if (nbd_task_execute(t))
		nbd_output_add(t->session, t);
	else
		nbd_session_task_done(t->session, t);
}

static void task_start(struct nbd_task *t)
{
	/* An error needs no fiber; neither does a fiber limit that is reached. */
	if (!t->req.error) {
		if (fiber_run(loop_self(), "nbd-request", task_fiber, t) == 0)
			return;
		t->req.error = NBD_ENOMEM;
		t->req.why = "too many requests at once";
	}
	task_fiber(t);
}

/* ---- reader ---- */

/* Receives until the message at the front is there: head alone (payload 0), or all of it. */
static int receive(struct nbd_session *s, size_t head, size_t payload) YIELDS
{
	while (intake_have(&s->in) < head + payload) {
		uint8_t *dst = NULL;
		size_t cap = 0;
		int rc = intake_room(&s->in, head, payload, &dst, &cap);
		if (rc != 0)
			return rc;
		ssize_t n = stream_recv(s->stream, dst, cap);
		if (n <= 0)
			return n < 0 ? (int)n : -ENODATA;
		intake_received(&s->in, (size_t)n);
	}
	return 0;
}

/* Reads away the payload of a WRITE that is refused. */
static int skip(struct nbd_session *s, size_t len) YIELDS
{
	for (;;) {
		size_t piece = min_u64(len, intake_have(&s->in));
		intake_consume(&s->in, piece);
		len -= piece;
		if (len == 0)
			return 0;
		int rc = receive(s, 1, 0);
		if (rc != 0)
			return rc;
	}
}

/* Takes the payload off the stream: lent to the task, or dropped. */
static int take_payload(struct nbd_session *s, struct nbd_task *t) YIELDS
{
	const struct nbd_request *r = &t->req;

	if (r->payload == 0 || r->error) {
		intake_consume(&s->in, NBD_REQUEST_BYTES);
		return skip(s, r->payload);
	}
	int rc = receive(s, NBD_REQUEST_BYTES, r->payload);
	if (rc != 0)
		return rc;
	t->payload = buf_ref(s->in.buf);
	t->data = (struct iovec){.iov_base = intake_bytes(&s->in) + NBD_REQUEST_BYTES, .iov_len = r->payload};
	intake_consume(&s->in, NBD_REQUEST_BYTES + (size_t)r->payload);
	return 0;
}

/* Receives and starts one request. 0, -ECANCELED after NBD_CMD_DISC, or why the connection has ended. */
static int read_request(struct nbd_session *s) YIELDS
{
	struct nbd_request r;
	int rc = receive(s, NBD_REQUEST_BYTES, 0);
	if (rc == 0)
		rc = nbd_request_parse(intake_bytes(&s->in), &s->limits, &r);
	if (rc != 0)
		return rc;
	if (r.cmd == NBD_CMD_DISC)
		return -ECANCELED;
	s->in.large = r.payload >= INTAKE_LARGE;

	size_t bytes = request_bytes(&r);
	while (!room_for(s, bytes))
		waitq_wait(&s->room);
	struct nbd_task *t = task_new(s);
	if (!t)
		return -ENOMEM;
	t->req = r;
	task_count(t, bytes);
	rc = take_payload(s, t);
	if (rc != 0) {
		nbd_session_task_done(s, t);
		return rc;
	}
	task_start(t);
	return 0;
}

/* ---- life ---- */

void nbd_session_cut(struct nbd_session *s)
{
	if (s->stream)
		stream_shutdown(s->stream);
}

static void cut_fn(void *arg)
{
	nbd_session_cut(arg);
}

void nbd_session_drain(struct nbd_session *s)
{
	s->draining = true;
	if (s->phase == NBD_PHASE_HANDSHAKE || s->running == 0)
		nbd_session_cut(s);
}

void nbd_session_hang_up(struct nbd_session *s)
{
	s->hung_up = true;
	nbd_session_drain(s);
}

static void note_agreed(struct nbd_session *s)
{
	const struct nbd_export_info *info = &s->agreed.info;

	s->limits = (struct nbd_limits){
	    .size_bytes = info->size_bytes,
	    .min_block = info->min_block,
	    .max_payload = info->max_block,
	    .read_only = info->read_only,
	    .structured = s->agreed.structured,
	    .block_status = s->agreed.block_status,
	};
	s->info.tls = s->stream->is_tls;
	memcpy(s->info.peer, s->stream->peer, sizeof(s->info.peer));
	memcpy(s->info.export_name, s->agreed.name, strnlen(s->agreed.name, sizeof(s->info.export_name) - 1));
	s->info.since_ns = loop_now_ns();
}

static void transmission(struct nbd_session *s) YIELDS
{
	note_agreed(s);
	s->phase = NBD_PHASE_TRANSMISSION;
	int rc = nbd_output_start(s);
	bool sending = rc == 0;

	while (rc == 0)
		rc = read_request(s);
	/* "NBD_CMD_DISC": handle all outstanding requests, then close. The same for a client that closed its sending
	 * side. Anything else means that the connection is gone or that its bytes make no sense. */
	if (rc != -ECANCELED && rc != -ENODATA)
		nbd_session_cut(s);
	timer_arm(&s->cut, loop_now_ns() + NBD_LINGER_NS);
	while (s->running > 0)
		waitq_wait(&s->room);
	if (sending)
		nbd_output_stop(s);
	s->server->cfg.provider.close(s->agreed.export); /* S1 */
	s->agreed.export = NULL;
	tls_goodbye(s->stream); /* "shut down the TLS session", under the linger limit */
}

static void session_free(struct nbd_session *s)
{
	timer_cancel(&s->cut);
	stream_close(s->stream);
	intake_release(&s->in);
	list_for_each_safe(t, &s->free, struct nbd_task, node) {
		free(t);
	}
	free(s);
}

static void session_fiber(void *arg)
{
	struct nbd_session *s = arg;
	struct nbd_server *server = s->server;
	uint64_t deadline_ns = loop_now_ns() + server->cfg.handshake_timeout_ns;

	timer_arm(&s->cut, deadline_ns);
	int rc = nbd_handshake_run(&server->cfg, &s->stream, deadline_ns, &s->agreed);
	timer_cancel(&s->cut);
	nbd_server_handshake_done(s);
	if (rc == 0)
		transmission(s);
	list_del(&s->node);
	session_free(s);
	nbd_server_session_gone(server);
}

int nbd_session_start(struct nbd_server *server, struct nbd_door *door, struct stream *stream)
{
	struct nbd_session *s = calloc(1, sizeof(*s));
	if (!s) {
		stream_close(stream);
		return -ENOMEM;
	}

	s->server = server;
	s->door = door;
	s->stream = stream;
	list_init(&s->free);
	waitq_init(&s->room);
	timer_init(&s->cut, cut_fn, s);
	nbd_output_init(s);
	int rc = fiber_spawn(loop_self(), "nbd-session", session_fiber, s);
	if (rc != 0) {
		session_free(s);
		return rc;
	}
	list_push_back(&server->sessions, &s->node);
	server->session_count++;
	server->refs++;
	door->half_open++;
	return 0;
}
