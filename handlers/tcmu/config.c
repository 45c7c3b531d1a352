/* config.c - see config.h. */
#include "handlers/tcmu/config.h"

#include <stdio.h>
#include <stdlib.h>

#define NAME_MAX_BYTES 63u

/* The same names that the gateway allows. */
static bool name_valid(const char *s, size_t len)
{
	if (len == 0 || len > NAME_MAX_BYTES)
		return false;
	for (size_t i = 0; i < len; i++) {
		bool word = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9');

		if (!word && (i == 0 || !memchr("._-", s[i], 3)))
			return false;
	}
	return true;
}

static int parse_lun(const char *s, size_t len, struct tcmu_config *c, struct err *e)
{
	const char *slash = memchr(s, '/', len);

	if (!slash || !name_valid(s, (size_t)(slash - s)) || !name_valid(slash + 1, len - (size_t)(slash + 1 - s)))
		return err_set(e, -EINVAL, "\"%.*s\" is not a LUN: write myfs/VOLUME/LUN, names of a-z 0-9 . _ -",
			       (int)(len > 130 ? 130 : len), s);
	snprintf(c->lun, sizeof(c->lun), "%.*s", (int)len, s);
	return 0;
}

static int set_socket(struct tcmu_config *c, const char *path, size_t len, struct err *e)
{
	if (len == 0 || path[0] != '/' || len > TCMU_SOCKET_MAX)
		return err_set(e, -EINVAL, "the socket must be an absolute path of at most %u bytes", TCMU_SOCKET_MAX);
	snprintf(c->socket, sizeof(c->socket), "%.*s", (int)len, path);
	return 0;
}

static int set_wait(struct tcmu_config *c, const char *text, size_t len, struct err *e)
{
	unsigned v = 0;

	for (size_t i = 0; i < len && v <= TCMU_WAIT_MAX_S; i++)
		v = text[i] >= '0' && text[i] <= '9' ? v * 10 + (unsigned)(text[i] - '0') : TCMU_WAIT_MAX_S + 1;
	if (len == 0 || v == 0 || v > TCMU_WAIT_MAX_S)
		return err_set(e, -EINVAL, "wait must be 1 to %u seconds", TCMU_WAIT_MAX_S);
	c->wait_s = v;
	return 0;
}

static int parse_option(const char *s, size_t len, struct tcmu_config *c, struct err *e)
{
	static const char socket_key[] = "socket=", wait_key[] = "wait=";
	size_t socket_len = sizeof(socket_key) - 1, wait_len = sizeof(wait_key) - 1;

	if (len == 0) /* "a;;b", "a;" */
		return 0;
	if (len >= socket_len && memcmp(s, socket_key, socket_len) == 0)
		return set_socket(c, s + socket_len, len - socket_len, e);
	if (len >= wait_len && memcmp(s, wait_key, wait_len) == 0)
		return set_wait(c, s + wait_len, len - wait_len, e);
	return err_set(e, -EINVAL, "unknown option \"%.*s\": there are socket=PATH and wait=SECONDS",
		       (int)(len > 100 ? 100 : len), s);
}

int tcmu_config_parse(const char *text, const char *socket_default, struct tcmu_config *ret, struct err *e)
{
	static const char prefix[] = TCMU_SUBTYPE "/";
	struct tcmu_config c = {.wait_s = TCMU_WAIT_DEFAULT_S};
	size_t len;
	int rc;

	if (!socket_default)
		socket_default = TCMU_SOCKET_DEFAULT;
	if (strlen(text) > TCMU_CONFIG_MAX)
		return err_set(e, -EINVAL, "the configuration is longer than %u bytes", TCMU_CONFIG_MAX);
	if (strncmp(text, prefix, sizeof(prefix) - 1) != 0)
		return err_set(e, -EINVAL, "the configuration must begin with \"%s\"", prefix);
	text += sizeof(prefix) - 1;
	len = strcspn(text, ";");
	rc = parse_lun(text, len, &c, e);
	if (rc == 0)
		rc = set_socket(&c, socket_default, strlen(socket_default), e);
	for (text += len; rc == 0 && *text; text += len) {
		text++;
		len = strcspn(text, ";");
		rc = parse_option(text, len, &c, e);
	}
	if (rc == 0)
		*ret = c;
	return rc;
}
