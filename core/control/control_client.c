/* control_client.c - the tools' side of the control socket: connect, one line out, one line in, everything under one
 * deadline. Blocking; for programs without a loop, hence the only file outside core/loop that touches sockets and the
 * clock. */
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "core/control/control.h"

#define CONTROL_REPLY_MAX MIB(64)

int control_fail(struct control_error *e, const char *code, int exit_code, const char *why, const char *data,
		 const char *next, const char *message_fmt, ...)
{
	va_list ap;

	memset(e, 0, sizeof(*e));
	snprintf(e->code, sizeof(e->code), "%s", code);
	e->exit_code = exit_code;
	snprintf(e->why, sizeof(e->why), "%s", why ? why : "");
	snprintf(e->data, sizeof(e->data), "%s", data ? data : "");
	snprintf(e->next[0], sizeof(e->next[0]), "%s", next ? next : "");
	va_start(ap, message_fmt);
	vsnprintf(e->message, sizeof(e->message), message_fmt, ap);
	va_end(ap);
	return -1;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits for the descriptor. 0 or -ETIMEDOUT. */
static int wait_for(int fd, short events, int64_t deadline_ms)
{
	for (;;) {
		int64_t left = deadline_ms - now_ms();
		struct pollfd p = {.fd = fd, .events = events};
		int n = left <= 0 ? 0 : poll(&p, 1, left > INT32_MAX ? INT32_MAX : (int)left);

		if (n > 0)
			return 0;
		if (n == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

static int open_socket(const char *path, int64_t deadline_ms, int *ret)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(a.sun_path))
		return -ENAMETOOLONG;
	memcpy(a.sun_path, path, strlen(path) + 1);
	for (;;) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd < 0)
			return -errno;
		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0) {
			*ret = fd;
			return 0;
		}
		int rc = -errno;
		close(fd);
		if (rc != -EAGAIN || now_ms() >= deadline_ms) /* EAGAIN: the backlog is full at this moment */
			return rc;
		(void)poll(NULL, 0, 5);
	}
}

static int send_all(int fd, const char *p, size_t len, int64_t deadline_ms)
{
	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
		if (n >= 0) {
			p += n;
			len -= (size_t)n;
		} else if (errno == EAGAIN) {
			int rc = wait_for(fd, POLLOUT, deadline_ms);
			if (rc)
				return rc;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

/* Owned text up to the first newline. */
static int receive_line(int fd, int64_t deadline_ms, char **ret, size_t *ret_len)
{
	size_t used = 0, cap = 65536;
	char *line = malloc(cap);
	int rc = -ENOMEM;

	while (line) {
		ssize_t n = recv(fd, line + used, cap - used, 0);
		if (n > 0) {
			char *end = memchr(line + used, '\n', (size_t)n);
			used += (size_t)n;
			if (end) {
				*ret = line;
				*ret_len = (size_t)(end - line);
				return 0;
			}
			if (used == cap) {
				char *grown = cap < CONTROL_REPLY_MAX ? realloc(line, cap * 2) : NULL;
				rc = cap < CONTROL_REPLY_MAX ? -ENOMEM : -EMSGSIZE;
				if (!grown)
					break;
				line = grown;
				cap *= 2;
			}
			continue;
		}
		rc = n == 0 ? -ECONNRESET : -errno;
		if (rc == -EAGAIN)
			rc = wait_for(fd, POLLIN, deadline_ms);
		if (rc && rc != -EINTR)
			break;
	}
	free(line);
	return rc;
}

static int no_answer(struct control_error *error, int rc, const char *path)
{
	if (rc == -EACCES || rc == -EPERM)
		return control_fail(error, "E-ACCESS-07", 7, "the socket belongs to another user",
				    "nothing was changed", "run the command as root or as the user of the daemon",
				    "may not talk to the daemon at %s", path);
	if (rc == -ECONNRESET || rc == -EPIPE)
		return control_fail(error, "E-NOANSWER-08", 8,
				    "the daemon closed the connection: it stopped, refused this user, or is overloaded",
				    "unknown whether the request was carried out", NULL,
				    "no answer from the daemon at %s", path);
	if (rc == -ETIMEDOUT)
		return control_fail(error, "E-NOANSWER-08", 8, "the daemon did not answer in time",
				    "unknown whether the request was carried out", NULL,
				    "no answer from the daemon at %s", path);
	return control_fail(error, "E-NOANSWER-08", 8,
			    rc == -ENOENT || rc == -ECONNREFUSED ? "the daemon is not running" : err_name(rc),
			    "nothing was changed", NULL, "cannot reach the daemon at %s", path);
}

static void copy_text(char *dst, size_t cap, const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	snprintf(dst, cap, "%s", text ? text : "");
}

static int read_error(const json_t *err, struct control_error *error)
{
	const json_t *next = json_object_get(err, "next");

	memset(error, 0, sizeof(*error));
	copy_text(error->code, sizeof(error->code), err, "code");
	copy_text(error->message, sizeof(error->message), err, "message");
	copy_text(error->why, sizeof(error->why), err, "why");
	copy_text(error->data, sizeof(error->data), err, "data");
	for (size_t i = 0; i < ARRAY_LEN(error->next); i++) {
		const char *text = json_string_value(json_array_get(next, i));
		snprintf(error->next[i], sizeof(error->next[i]), "%s", text ? text : "");
	}
	json_int_t code = json_integer_value(json_object_get(err, "exit"));
	error->exit_code = code > 0 && code < 256 ? (int)code : 1;
	return -1;
}

static int read_reply(const char *line, size_t len, json_t **ret_result, struct control_error *error)
{
	json_t *reply = json_loadb(line, len, 0, NULL);
	const json_t *err = json_object_get(reply, "error");
	int rc;

	if (json_is_true(json_object_get(reply, "ok"))) {
		json_t *result = json_object_get(reply, "result");
		*ret_result = result ? json_incref(result) : json_object();
		rc = 0;
	} else if (json_is_object(err)) {
		rc = read_error(err, error);
	} else {
		rc = control_fail(error, "E-PROTO-02", 2, "daemon and tool may be of different versions",
				  "unknown whether the request was carried out", NULL,
				  "the daemon's answer makes no sense");
	}
	json_decref(reply);
	return rc;
}

/* Owned request line with its newline. */
static char *request_line(const char *method, const json_t *params)
{
	json_t *request = json_object();
	char *text, *line = NULL;

	json_object_set_new(request, "method", json_string(method));
	if (params)
		json_object_set_new(request, "params", json_deep_copy(params));
	text = json_dumps(request, JSON_COMPACT);
	if (text && asprintf(&line, "%s\n", text) < 0)
		line = NULL;
	free(text);
	json_decref(request);
	return line;
}

int control_call(const char *socket_path, const char *method, const json_t *params, int timeout_ms, json_t **ret_result,
		 struct control_error *error)
{
	int64_t deadline_ms = now_ms() + timeout_ms;
	char *line = request_line(method, params), *reply = NULL;
	size_t reply_len = 0;
	int fd = -1, rc = line ? open_socket(socket_path, deadline_ms, &fd) : -ENOMEM;

	if (!rc)
		rc = send_all(fd, line, strlen(line), deadline_ms);
	if (!rc)
		rc = receive_line(fd, deadline_ms, &reply, &reply_len);
	bool sent = fd >= 0, answered = rc == 0;
	rc = rc ? no_answer(error, rc, socket_path) : read_reply(reply, reply_len, ret_result, error);
	if (rc)
		error->unknown = sent && (!answered || strcmp(error->code, "E-PROTO-02") == 0);
	free(line);
	free(reply);
	if (fd >= 0)
		close(fd);
	return rc;
}
