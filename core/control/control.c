/* control.c - the daemon's side of the control socket: one fiber per connection reads lines, runs methods, writes
 * replies.
 *
 * Invariants: C1 at most CONTROL_CONNS connections; one request of a connection at a time. C2 a line is parsed as a
 * whole and checked to be
 * {"method": text, "params": object?} before a method sees it. C3 control_server_stop returns when no fiber of the
 * server is left. */
#include "core/control/control.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "core/loop/loop.h"

#define CONTROL_LINE_MAX   MIB(1)
#define CONTROL_CONNS      64u
#define CONTROL_JSON_FLAGS (JSON_COMPACT | JSON_REAL_PRECISION(15))

struct control_server {
	struct listener *listener;
	const struct control_method *methods;
	void *arg;
	struct list conns;
	unsigned n_conns;
	bool accepting, stopping;
	struct waitq changed; /* a connection or the accept fiber ended */
};

struct control_conn {
	struct list node; /* server->conns */
	struct control_server *server;
	struct stream *stream;
	char *line; /* received bytes: one line being completed, and what came after the last one */
	size_t used, cap;
};

static void set_text(json_t *o, const char *key, const char *text)
{
	if (text[0])
		json_object_set_new(o, key, json_string(text));
}

static json_t *error_reply(const struct control_error *e)
{
	json_t *err = json_object(), *next = json_array(), *reply = json_object();

	set_text(err, "code", e->code);
	json_object_set_new(err, "exit", json_integer(e->exit_code ? e->exit_code : 1));
	set_text(err, "message", e->message);
	set_text(err, "why", e->why);
	set_text(err, "data", e->data);
	for (size_t i = 0; i < ARRAY_LEN(e->next); i++) {
		if (e->next[i][0])
			json_array_append_new(next, json_string(e->next[i]));
	}
	json_object_set_new(err, "next", next);
	json_object_set_new(reply, "ok", json_false());
	json_object_set_new(reply, "error", err);
	return reply;
}

static const struct control_method *find_method(const struct control_server *s, const char *name)
{
	for (const struct control_method *m = s->methods; m->name; m++) {
		if (strcmp(m->name, name) == 0)
			return m;
	}
	return NULL;
}

/* Owned reply to one line; NULL when memory ran out. */
static json_t *run_line(struct control_server *s, const char *line, size_t len) YIELDS
{
	struct control_error error;
	json_error_t why;
	json_t *request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &why), *result = NULL, *reply;
	const json_t *params = json_object_get(request, "params");
	const char *name = json_string_value(json_object_get(request, "method"));
	const struct control_method *m = name ? find_method(s, name) : NULL;
	int rc;

	memset(&error, 0, sizeof(error));
	if (!request)
		rc = control_fail(&error, "E-USAGE-64", 64, why.text, NULL, NULL, "request is not JSON");
	else if (!name || (params && !json_is_object(params)))
		rc = control_fail(&error, "E-USAGE-64", 64, "expected {\"method\":\"...\",\"params\":{...}}", NULL,
				  NULL, "request has no method or its params are not an object");
	else if (!m)
		rc = control_fail(&error, "E-USAGE-64", 64, "daemon and tool may be of different versions", NULL, NULL,
				  "unknown method \"%.100s\"", name);
	else
		rc = m->run(s->arg, params, &result, &error);

	if (rc) {
		json_decref(result);
		reply = error_reply(&error);
	} else {
		reply = json_object();
		json_object_set_new(reply, "ok", json_true());
		json_object_set_new(reply, "result", result ? result : json_object());
	}
	json_decref(request);
	return reply;
}

static int send_reply(struct control_conn *c, json_t *reply) YIELDS
{
	char *text = reply ? json_dumps(reply, CONTROL_JSON_FLAGS) : NULL;
	char newline = '\n';
	int rc = -ENOMEM;

	if (text) {
		const struct iovec v[2] = {{text, strlen(text)}, {&newline, 1}};
		rc = stream_send(c->stream, v, 2);
	}
	free(text);
	json_decref(reply);
	return rc;
}

/* Makes room for at least one more byte. A line longer than the limit ends the connection. */
static int conn_grow(struct control_conn *c)
{
	if (c->used < c->cap)
		return 0;
	if (c->cap >= CONTROL_LINE_MAX)
		return -EMSGSIZE;
	size_t cap = c->cap ? c->cap * 2 : 4096;
	char *line = realloc(c->line, cap);
	if (!line)
		return -ENOMEM;
	c->line = line;
	c->cap = cap;
	return 0;
}

/* Answers every complete line received so far. */
static int conn_run_lines(struct control_conn *c) YIELDS
{
	char *end;

	while ((end = memchr(c->line, '\n', c->used)) != NULL) {
		size_t len = (size_t)(end - c->line);
		int rc = send_reply(c, run_line(c->server, c->line, len));
		if (rc)
			return rc;
		c->used -= len + 1;
		memmove(c->line, c->line + len + 1, c->used);
		if (c->server->stopping)
			return -ECANCELED;
	}
	return 0;
}

static void conn_main(void *arg)
{
	struct control_conn *c = arg;
	struct control_server *s = c->server;

	while (conn_grow(c) == 0) {
		ssize_t n = stream_recv(c->stream, c->line + c->used, c->cap - c->used);
		if (n <= 0)
			break;
		c->used += (size_t)n;
		if (conn_run_lines(c))
			break;
	}
	list_del(&c->node);
	s->n_conns--;
	stream_close(c->stream);
	free(c->line);
	free(c);
	waitq_wake_all(&s->changed);
}

static bool peer_allowed(const struct stream *st)
{
	return st->is_unix && (st->peer_uid == 0 || st->peer_uid == geteuid());
}

static void conn_start(struct control_server *s, struct stream *st)
{
	struct control_conn *c = NULL;

	if (peer_allowed(st) && s->n_conns < CONTROL_CONNS)
		c = calloc(1, sizeof(*c));
	if (!c) {
		stream_close(st);
		return;
	}
	c->server = s;
	c->stream = st;
	list_push_back(&s->conns, &c->node);
	s->n_conns++;
	if (fiber_spawn(loop_self(), "control", conn_main, c)) {
		list_del(&c->node);
		s->n_conns--;
		free(c);
		stream_close(st);
	}
}

static void accept_main(void *arg)
{
	struct control_server *s = arg;

	while (!s->stopping) {
		struct stream *st = NULL;
		int rc = listener_accept(s->listener, &st);
		if (rc == -ECANCELED)
			break;
		if (rc == 0)
			conn_start(s, st);
		else /* out of descriptors or the like: try again when some have gone */
			fiber_sleep_until(loop_now_ns() + 100 * NS_PER_MS);
	}
	s->accepting = false;
	waitq_wake_all(&s->changed);
}

int control_server_start(struct net *net, const struct address *a, const struct control_method *methods, void *arg,
			 struct control_server **ret, struct err *e)
{
	if (a->kind != ADDRESS_UNIX)
		return err_set(e, -EINVAL, "control socket must be a unix socket");

	struct control_server *s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(e, -ENOMEM, "control socket %s: out of memory", a->host);
	s->methods = methods;
	s->arg = arg;
	list_init(&s->conns);
	waitq_init(&s->changed);

	int rc = net_listen(net, a, &s->listener, e);
	if (rc) {
		free(s);
		return err_wrap(e, rc, "control socket %s", a->host);
	}
	s->accepting = true;
	rc = fiber_spawn(loop_self(), "control-accept", accept_main, s);
	if (rc) {
		listener_close(s->listener);
		free(s);
		return err_set(e, rc, "control socket %s: %s", a->host, err_name(rc));
	}
	*ret = s;
	return 0;
}

void control_server_stop(struct control_server *s)
{
	if (!s)
		return;
	s->stopping = true;
	listener_stop(s->listener);
	list_for_each(c, &s->conns, struct control_conn, node) stream_shutdown(c->stream);
	while (s->accepting || s->n_conns > 0)
		waitq_wait(&s->changed);
	listener_close(s->listener);
	free(s);
}
