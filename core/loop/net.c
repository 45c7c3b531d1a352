/* net.c - addresses as text, and what every stream has in common. */
#include <stdio.h>
#include <sys/un.h>

#include "core/loop/net.h"

static int parse_port(const char *text, uint16_t *ret)
{
	unsigned long v = 0;

	if (!*text)
		return -EINVAL;
	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '9' || (v = v * 10 + (unsigned long)(*p - '0')) > UINT16_MAX)
			return -EINVAL;
	}
	*ret = (uint16_t)v;
	return 0;
}

static int parse_tcp(const char *text, struct address *a, struct err *e)
{
	const char *host = text, *end, *port;

	if (*text == '[') {
		host++;
		end = strchr(host, ']');
		if (!end || end[1] != ':')
			return err_set(e, -EINVAL, "address 'tcp:%s': expected tcp:[IPV6]:PORT", text);
		port = end + 2;
	} else {
		end = strrchr(host, ':');
		if (!end)
			return err_set(e, -EINVAL, "address 'tcp:%s': expected tcp:HOST:PORT", text);
		port = end + 1;
		if (memchr(host, ':', (size_t)(end - host)))
			return err_set(e, -EINVAL, "address 'tcp:%s': an IPv6 address needs brackets, tcp:[IPV6]:PORT", text);
	}
	size_t len = (size_t)(end - host);
	if (len == 0 || len >= sizeof(a->host))
		return err_set(e, -EINVAL, "address 'tcp:%s': host must have 1 to %zu characters", text, sizeof(a->host) - 1);
	if (parse_port(port, &a->port) < 0)
		return err_set(e, -EINVAL, "address 'tcp:%s': port must be a number from 0 to 65535", text);
	a->kind = ADDRESS_TCP;
	memcpy(a->host, host, len);
	return 0;
}

int address_parse(const char *text, struct address *ret, struct err *e)
{
	struct address a = {0};
	int rc = 0;

	if (strncmp(text, "unix:", 5) == 0) {
		const char *path = text + 5;
		if (!*path || strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
			return err_set(e, -EINVAL, "address '%s': a socket path has 1 to 107 bytes", text);
		a.kind = ADDRESS_UNIX;
		memcpy(a.host, path, strlen(path) + 1);
	} else if (strncmp(text, "tcp:", 4) == 0) {
		rc = parse_tcp(text + 4, &a, e);
	} else {
		rc = err_set(e, -EINVAL, "address '%s': expected unix:PATH or tcp:HOST:PORT", text);
	}
	if (rc == 0)
		*ret = a;
	return rc;
}

char *address_text(const struct address *a, char out[ADDRESS_TEXT])
{
	if (a->kind == ADDRESS_UNIX)
		snprintf(out, ADDRESS_TEXT, "unix:%s", a->host);
	else if (strchr(a->host, ':'))
		snprintf(out, ADDRESS_TEXT, "tcp:[%s]:%u", a->host, a->port);
	else
		snprintf(out, ADDRESS_TEXT, "tcp:%s:%u", a->host, a->port);
	return out;
}

int stream_recv_full(struct stream *s, void *dst, size_t len)
{
	uint8_t *p = dst;

	while (len > 0) {
		ssize_t n = stream_recv(s, p, len);
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -ENODATA;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}
