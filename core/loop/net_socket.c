/* net_socket.c - resolve, connect, bind and describe kernel sockets.
 *
 * A unix socket file that nobody answers on is left over from a process that died: it is replaced. One that answers, or
 * anything that is not a socket, is never touched. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/loop/backend.h"
#include "core/loop/net_socket.h"

#define LISTEN_BACKLOG 512
#define UNIX_RETRY_NS (2 * NS_PER_MS) /* a full listener's backlog cannot be waited for */
#define UNIX_BUFFER_BYTES (2 * 1024 * 1024)

static void set_int(int fd, int level, int option, int value)
{
	/* Tuning only: a refusal changes speed, not meaning. */
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

static void set_buffer(int fd, int forced, int plain)
{
	int value = UNIX_BUFFER_BYTES;

	if (setsockopt(fd, SOL_SOCKET, forced, &value, sizeof(value)) < 0)
		set_int(fd, SOL_SOCKET, plain, value); /* unprivileged: up to the system's limit */
}

/* ---- description ---- */

union any_address {
	struct sockaddr sa;
	struct sockaddr_un un;
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;
	struct sockaddr_storage storage;
};

static int numeric(const union any_address *u, socklen_t len, struct address *ret)
{
	char port[8];

	int rc = getnameinfo(&u->sa, len, ret->host, sizeof(ret->host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
	if (rc != 0)
		return -EAFNOSUPPORT;
	ret->kind = ADDRESS_TCP;
	ret->port = (uint16_t)strtoul(port, NULL, 10);
	return 0;
}

int socket_local_address(int fd, struct address *ret)
{
	union any_address u;
	socklen_t len = sizeof(u);
	struct address a = {0};

	if (getsockname(fd, &u.sa, &len) < 0)
		return -errno;
	if (u.sa.sa_family == AF_UNIX) {
		a.kind = ADDRESS_UNIX;
		if (len > offsetof(struct sockaddr_un, sun_path))
			snprintf(a.host, sizeof(a.host), "%.*s", (int)(len - offsetof(struct sockaddr_un, sun_path)), u.un.sun_path);
	} else {
		int rc = numeric(&u, len, &a);
		if (rc < 0)
			return rc;
	}
	*ret = a;
	return 0;
}

static void describe_unix(int fd, struct stream *s)
{
	struct ucred cred = {.uid = UINT32_MAX};
	socklen_t len = sizeof(cred);

	s->is_unix = true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		cred = (struct ucred){.uid = UINT32_MAX};
	s->peer_uid = cred.uid;
	snprintf(s->peer, sizeof(s->peer), "unix uid %u pid %d", cred.uid, cred.pid);
	set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF);
	set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF);
}

static void describe_tcp(int fd, const union any_address *u, socklen_t len, struct stream *s)
{
	struct address a = {0};
	char text[ADDRESS_TEXT];

	if (numeric(u, len, &a) == 0)
		snprintf(s->peer, sizeof(s->peer), "%s", address_text(&a, text) + strlen("tcp:"));
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, 10);
	set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, 5);
	set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
	set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 30000);
}

int socket_prepare(int fd, struct stream *s)
{
	union any_address u;
	socklen_t len = sizeof(u);

	s->peer_uid = UINT32_MAX;
	snprintf(s->peer, sizeof(s->peer), "unknown");
	if (getpeername(fd, &u.sa, &len) < 0)
		return errno == ENOTCONN ? -ECONNRESET : -errno;
	if (u.sa.sa_family == AF_UNIX)
		describe_unix(fd, s);
	else
		describe_tcp(fd, &u, len, s);
	return 0;
}

/* ---- resolving ---- */

struct lookup {
	const char *host; /* NULL: any */
	char port[8];
	struct addrinfo hints;
	struct addrinfo *found;
};

static int64_t lookup_run(void *arg)
{
	struct lookup *l = arg;

	return getaddrinfo(l->host, l->port, &l->hints, &l->found);
}

/* Numeric addresses are answered in place; names may need the network, so a pool thread asks. */
static int resolve(const struct address *a, int flags, struct addrinfo **ret, struct err *e)
{
	struct lookup l = {.host = strcmp(a->host, "*") == 0 ? NULL : a->host};

	snprintf(l.port, sizeof(l.port), "%u", a->port);
	l.hints = (struct addrinfo){.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV | AI_NUMERICHOST};
	int64_t rc = lookup_run(&l);
	if (rc == EAI_NONAME && l.host) {
		l.hints.ai_flags = flags | AI_NUMERICSERV;
		rc = loop_offload(lookup_run, &l);
	}
	if (rc != 0)
		return err_set(e, -EHOSTUNREACH, "host '%s': %s", a->host, gai_strerror((int)rc));
	*ret = l.found;
	return 0;
}

static int unix_address(const struct address *a, struct sockaddr_un *ret, struct err *e)
{
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(a->host) >= sizeof(ret->sun_path))
		return err_set(e, -ENAMETOOLONG, "socket path '%s' is longer than 107 bytes", a->host);
	memcpy(ret->sun_path, a->host, strlen(a->host) + 1);
	return 0;
}

/* ---- connecting ---- */

static int connect_unix(const struct address *a, uint64_t deadline_ns, struct err *e)
{
	struct sockaddr_un un;
	int rc = unix_address(a, &un, e);

	if (rc < 0)
		return rc;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(e, -errno, "socket: %s", strerror(errno));
	while (connect(fd, (const struct sockaddr *)&un, sizeof(un)) < 0) {
		rc = -errno;
		if (rc == -EAGAIN && loop_now_ns() < deadline_ns) {
			fiber_sleep_until(min_u64(deadline_ns, loop_now_ns() + UNIX_RETRY_NS));
			continue;
		}
		close(fd);
		rc = rc == -EAGAIN ? -ETIMEDOUT : rc;
		return err_set(e, rc, "connect unix:%s: %s", a->host, strerror(-rc));
	}
	return fd;
}

static int connect_one(const struct addrinfo *ai, uint64_t deadline_ns)
{
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	int64_t rc = io_adopt_fd(fd);
	if (rc == 0) {
		struct io io = {.kind = IO_CONNECT, .fd = fd, .addr = ai->ai_addr, .addr_len = ai->ai_addrlen};
		rc = io_run_until(&io, deadline_ns);
	}
	if (rc == 0)
		return fd;
	io_close_socket(fd);
	return (int)rc;
}

static int connect_tcp(const struct address *a, uint64_t deadline_ns, struct err *e)
{
	struct addrinfo *found;
	char text[ADDRESS_TEXT];
	int rc = resolve(a, 0, &found, e);

	if (rc < 0)
		return rc;
	rc = -EHOSTUNREACH;
	for (const struct addrinfo *ai = found; ai && rc < 0 && rc != -ETIMEDOUT; ai = ai->ai_next)
		rc = connect_one(ai, deadline_ns);
	freeaddrinfo(found);
	return rc >= 0 ? rc : err_set(e, rc, "connect %s: %s", address_text(a, text), strerror(-rc));
}

int socket_connect(const struct address *a, uint64_t deadline_ns, struct err *e)
{
	return a->kind == ADDRESS_UNIX ? connect_unix(a, deadline_ns, e) : connect_tcp(a, deadline_ns, e);
}

/* ---- listening ---- */

/* True when the file at the address is a socket nobody answers on. */
static bool unix_stale(const struct sockaddr_un *un)
{
	struct stat st;

	if (lstat(un->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	bool refused = connect(fd, (const struct sockaddr *)un, sizeof(*un)) < 0 && errno == ECONNREFUSED;
	close(fd);
	return refused;
}

/* A process that was killed may keep its sockets for a moment: the kernel tears its io_uring down behind it. */
#define STALE_WAIT_MS  20
#define STALE_ATTEMPTS 50

static bool unix_becomes_stale(const struct sockaddr_un *un)
{
	for (int i = 0; i < STALE_ATTEMPTS; i++) {
		if (unix_stale(un))
			return true;
		(void)poll(NULL, 0, STALE_WAIT_MS);
	}
	return false;
}

static int bind_unix(int fd, const struct sockaddr_un *un)
{
	if (bind(fd, (const struct sockaddr *)un, sizeof(*un)) == 0)
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	if (!unix_becomes_stale(un))
		return -EADDRINUSE;
	if (unlink(un->sun_path) < 0 && errno != ENOENT)
		return -errno;
	return bind(fd, (const struct sockaddr *)un, sizeof(*un)) < 0 ? -errno : 0;
}

static int listen_unix(const struct address *a, struct socket_path *ret_path, struct err *e)
{
	struct sockaddr_un un;
	struct stat st;
	int rc = unix_address(a, &un, e);

	if (rc < 0)
		return rc;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(e, -errno, "socket: %s", strerror(errno));
	rc = bind_unix(fd, &un);
	if (rc == 0 && listen(fd, LISTEN_BACKLOG) < 0)
		rc = -errno;
	if (rc < 0) {
		close(fd);
		if (rc == -EADDRINUSE)
			return err_set(e, rc, "listen unix:%s: another process serves this socket, or it is not a socket", a->host);
		return err_set(e, rc, "listen unix:%s: %s", a->host, strerror(-rc));
	}
	if (lstat(un.sun_path, &st) == 0) {
		*ret_path = (struct socket_path){.dev = st.st_dev, .ino = st.st_ino};
		memcpy(ret_path->path, un.sun_path, sizeof(ret_path->path));
	}
	return fd;
}

static int listen_one(const struct addrinfo *ai)
{
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (ai->ai_family == AF_INET6)
		set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, LISTEN_BACKLOG) == 0)
		return fd;
	int rc = -errno;
	close(fd);
	return rc;
}

static int listen_tcp(const struct address *a, struct err *e)
{
	struct addrinfo *found;
	char text[ADDRESS_TEXT];
	int rc = resolve(a, AI_PASSIVE, &found, e);

	if (rc < 0)
		return rc;
	rc = -EADDRNOTAVAIL;
	/* "*" means both families where the kernel has them: its IPv6 socket takes IPv4 as well. */
	bool any = strcmp(a->host, "*") == 0;
	for (const struct addrinfo *ai = found; any && ai && rc < 0; ai = ai->ai_next) {
		if (ai->ai_family == AF_INET6)
			rc = listen_one(ai);
	}
	for (const struct addrinfo *ai = found; ai && rc < 0 && rc != -EADDRINUSE; ai = ai->ai_next)
		rc = listen_one(ai);
	freeaddrinfo(found);
	return rc >= 0 ? rc : err_set(e, rc, "listen %s: %s", address_text(a, text), strerror(-rc));
}

int socket_listen(const struct address *a, struct socket_path *ret_path, struct err *e)
{
	return a->kind == ADDRESS_UNIX ? listen_unix(a, ret_path, e) : listen_tcp(a, e);
}

void socket_path_remove(struct socket_path *p)
{
	struct stat st;

	if (p->path[0] && lstat(p->path, &st) == 0 && st.st_dev == p->dev && st.st_ino == p->ino)
		unlink(p->path);
	p->path[0] = '\0';
}
