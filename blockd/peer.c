/* peer.c - one request to another gateway's control socket, from a fiber. */
#include "blockd/peer.h"

#include <stdio.h>

#include "core/base/log.h"

#define PEER_TIMEOUT_NS (3 * NS_PER_S)
#define PEER_REPLY_MAX  16384u

static void shut(void *arg)
{
	stream_shutdown(arg);
}

/* Reads up to a newline. 0 and the text NUL-terminated, or -errno. */
static int recv_line(struct stream *s, char *line, size_t cap) YIELDS
{
	size_t used = 0;

	while (used < cap - 1) {
		ssize_t n = stream_recv(s, line + used, cap - 1 - used);

		if (n <= 0)
			return n < 0 ? (int)n : -ENODATA;
		used += (size_t)n;
		line[used] = '\0';
		if (strchr(line, '\n'))
			return 0;
	}
	return -EMSGSIZE;
}

/* What the reply says: 0, -EBUSY, or -EPROTO when it cannot be understood. */
static int read_reply(const char *line, struct err *e)
{
	json_t *reply = json_loads(line, 0, NULL);
	const json_t *error = json_object_get(reply, "error");
	const char *message = json_string_value(json_object_get(error, "message"));
	int rc = json_is_true(json_object_get(reply, "ok")) ? 0 : -EPROTO;

	if (rc < 0 && json_is_object(error))
		rc = err_set(e, -EBUSY, "%s", message ? message : "the gateway that serves it does not let it go");
	json_decref(reply);
	return rc;
}

static int ask(struct blockd *d, const struct address *a, const char *request, char *line, struct err *e) YIELDS
{
	uint64_t deadline = loop_now_ns() + PEER_TIMEOUT_NS;
	struct iovec v = {.iov_base = (void *)(uintptr_t)request, .iov_len = strlen(request)};
	struct stream *s;
	struct timer t;
	int rc = net_connect(d->net, a, deadline, &s, e);

	if (rc < 0)
		return rc;
	timer_init(&t, shut, s);
	timer_arm(&t, deadline);
	rc = stream_send(s, &v, 1);
	if (rc == 0)
		rc = recv_line(s, line, PEER_REPLY_MAX);
	timer_cancel(&t);
	stream_close(s);
	return rc;
}

int peer_release_lun(struct blockd *d, const char *owner, const struct gfid *gfid, struct err *e)
{
	char text[GFID_TEXT], request[128], *line;
	struct reg_gateway peer;
	struct address address;
	int rc;

	if (reg_gateway_get(d->registry, owner, &peer, NULL) < 0 || address_parse(peer.control, &address, NULL) < 0)
		return 0;
	line = malloc(PEER_REPLY_MAX);
	if (!line)
		return err_set(e, -ENOMEM, "no memory");
	snprintf(request, sizeof(request), "{\"method\":\"lun.release\",\"params\":{\"gfid\":\"%s\"}}\n",
		 gfid_text(gfid, text));
	rc = ask(d, &address, request, line, NULL);
	if (rc == 0)
		rc = read_reply(line, e);
	free(line);
	if (rc < 0 && rc != -EBUSY) {
		log_note("gateway %s does not answer (%s): its LUN is taken over", owner, err_name(rc));
		rc = 0;
	}
	return rc;
}
