/* peer.c - one request to another gateway's control socket and its answer. */
#include "blockd/peer.h"

#include <stdio.h>

#include "blockd/gateways.h"
#include "core/base/log.h"

#define ANSWER_MAX MIB(64) /* as the control socket allows */

static void shut(void *arg)
{
	stream_shutdown(arg);
}

struct line {
	char *text;
	size_t used, cap;
};

/* Reads up to a newline; the text is NUL-terminated. */
static int recv_line(struct stream *s, struct line *l) YIELDS
{
	do {
		if (l->used + 1 >= l->cap) {
			size_t cap = l->cap ? l->cap * 2 : 4096;
			char *grown = cap <= ANSWER_MAX ? realloc(l->text, cap) : NULL;

			if (!grown)
				return cap <= ANSWER_MAX ? -ENOMEM : -EMSGSIZE;
			l->text = grown;
			l->cap = cap;
		}
		ssize_t n = stream_recv(s, l->text + l->used, l->cap - 1 - l->used);

		if (n <= 0)
			return n < 0 ? (int)n : -ENODATA;
		l->used += (size_t)n;
		l->text[l->used] = '\0';
	} while (!memchr(l->text, '\n', l->used));
	return 0;
}

static int exchange(struct blockd *d, const struct address *a, const char *request, uint64_t timeout_ns,
		    struct line *answer) YIELDS
{
	uint64_t deadline = loop_now_ns() + timeout_ns;
	char newline = '\n';
	const struct iovec v[2] = {{(void *)(uintptr_t)request, strlen(request)}, {&newline, 1}};
	struct stream *s;
	struct timer t;
	int rc = net_connect(d->net, a, deadline, &s, NULL);

	if (rc < 0)
		return rc;
	timer_init(&t, shut, s);
	timer_arm(&t, deadline);
	rc = stream_send(s, v, 2);
	if (rc == 0)
		rc = recv_line(s, answer);
	if (rc < 0 && !t.armed)
		rc = -ETIMEDOUT;
	timer_cancel(&t);
	stream_close(s);
	return rc;
}

static void copy_text(char *out, size_t cap, const json_t *from, const char *key)
{
	const char *text = json_string_value(json_object_get(from, key));

	snprintf(out, cap, "%s", text ? text : "");
}

static int read_answer(const char *line, json_t **ret_result, struct control_error *error)
{
	json_t *answer = json_loads(line, 0, NULL), *result = json_object_get(answer, "result");
	const json_t *x = json_object_get(answer, "error"), *next = json_object_get(x, "next");
	int rc = -EPROTO;

	if (json_is_true(json_object_get(answer, "ok")) && json_is_object(result)) {
		*ret_result = json_incref(result);
		rc = 0;
	} else if (json_is_object(x)) {
		memset(error, 0, sizeof(*error));
		copy_text(error->code, sizeof(error->code), x, "code");
		error->exit_code = (int)json_integer_value(json_object_get(x, "exit"));
		copy_text(error->message, sizeof(error->message), x, "message");
		copy_text(error->why, sizeof(error->why), x, "why");
		copy_text(error->data, sizeof(error->data), x, "data");
		for (size_t i = 0; i < json_array_size(next) && i < ARRAY_LEN(error->next); i++)
			if (json_is_string(json_array_get(next, i)))
				snprintf(error->next[i], sizeof(error->next[i]), "%s",
					 json_string_value(json_array_get(next, i)));
		rc = -EREMOTEIO;
	}
	json_decref(answer);
	return rc;
}

int peer_call(struct blockd *d, const char *gateway, const char *method, json_t *params, uint64_t timeout_ns,
	      json_t **ret_result, struct control_error *error)
{
	json_t *request = json_pack("{s:s,s:o*}", "method", method, "params", params);
	char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	struct line answer = {NULL, 0, 0};
	struct reg_gateway peer;
	struct address address;
	int rc = text ? reg_gateway_get(d->registry, gateway, &peer, NULL) : -ENOMEM;

	if (rc == 0)
		rc = address_parse(peer.control, &address, NULL);
	if (rc == 0)
		rc = exchange(d, &address, text, timeout_ns, &answer);
	if (rc == 0)
		rc = read_answer(answer.text, ret_result, error);
	free(answer.text);
	free(text);
	json_decref(request);
	return rc;
}

int peer_release_lun(struct blockd *d, const char *owner, const struct gfid *gfid, bool force, struct err *e)
{
	char text[GFID_TEXT];
	struct control_error error;
	json_t *result = NULL;
	int rc;

	if (!gateways_may_answer(d, owner))
		return 0; /* nobody to ask, or known to be silent */
	rc = peer_call(d, owner, "lun.release", json_pack("{s:s,s:b}", "gfid", gfid_text(gfid, text), "force", (int)force),
		       force ? PEER_MOVE_NS : PEER_ANSWER_NS, &result, &error);
	json_decref(rc == 0 ? result : NULL);
	if (rc == -EREMOTEIO)
		return err_set(e, -EBUSY, "%s", error.why[0] ? error.why : error.message);
	if (rc < 0 && force && gateways_may_answer(d, owner))
		return err_set(e, -EBUSY, "gateway %s does not let it go (%s)", owner, err_name(rc));
	if (rc < 0)
		log_note("gateway %s does not answer (%s): its LUN is taken over", owner, err_name(rc));
	return 0;
}
