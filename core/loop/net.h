/* net.h - ordered byte streams: unix sockets, TCP, either with TLS on top, or the simulator's links.
 *
 * A stream is used by at most one receiving and one sending fiber at a time. stream_shutdown() makes both return -ECONNRESET
 * soon, from any fiber; the last user closes. */
#ifndef MYFS_NET_H
#define MYFS_NET_H

#include <sys/uio.h>

#include "core/base/base.h"
#include "core/base/err.h"

enum address_kind { ADDRESS_UNIX, ADDRESS_TCP };
struct address {
	enum address_kind kind;
	char host[256];  /* path for ADDRESS_UNIX (at most 107 bytes), name or numeric address for TCP */
	uint16_t port;   /* TCP only; 0 = any free port when listening */
};
#define ADDRESS_TEXT 280
/* "unix:/run/x.sock", "tcp:host:port", "tcp:[v6]:port". 0 or -EINVAL with text. */
int address_parse(const char *text, struct address *ret, struct err *e);
char *address_text(const struct address *a, char out[ADDRESS_TEXT]);

struct stream;
struct listener;
struct tls_server; /* credentials, core/loop/tls.h */
struct tls_client;

struct stream_ops {
	ssize_t (*recv)(struct stream *s, void *dst, size_t cap);       /* > 0, 0 = orderly end, or -errno */
	int (*send)(struct stream *s, const struct iovec *v, unsigned n); /* all bytes or -errno */
	void (*shutdown)(struct stream *s);
	void (*close)(struct stream *s);                                /* frees */
};

#define STREAM_PEER_TEXT 128
struct stream {
	const struct stream_ops *ops;
	char peer[STREAM_PEER_TEXT]; /* "unix uid 0 pid 812", "192.0.2.7:5123" */
	uint32_t peer_uid;           /* SO_PEERCRED; UINT32_MAX when not a unix socket */
	bool is_unix, is_tls;
};

static inline ssize_t stream_recv(struct stream *s, void *dst, size_t cap) YIELDS { return s->ops->recv(s, dst, cap); }
static inline int stream_send(struct stream *s, const struct iovec *v, unsigned n) YIELDS { return s->ops->send(s, v, n); }
static inline void stream_shutdown(struct stream *s) { s->ops->shutdown(s); }
static inline void stream_close(struct stream *s) { if (s) s->ops->close(s); }
/* Receives exactly len bytes. 0, -ENODATA when the peer ended first, or -errno. */
int stream_recv_full(struct stream *s, void *dst, size_t len) YIELDS;

/* One host's way to the network. Production: net_kernel(); the simulator has its own. */
struct net {
	int (*connect)(struct net *n, const struct address *a, uint64_t deadline_ns, struct stream **ret, struct err *e);
	int (*listen)(struct net *n, const struct address *a, struct listener **ret, struct err *e);
};
struct net *net_kernel(void);
static inline int net_connect(struct net *n, const struct address *a, uint64_t deadline_ns, struct stream **ret, struct err *e) YIELDS { return n->connect(n, a, deadline_ns, ret, e); }
static inline int net_listen(struct net *n, const struct address *a, struct listener **ret, struct err *e) YIELDS { return n->listen(n, a, ret, e); }

struct listener {
	int (*accept)(struct listener *l, struct stream **ret); /* 0 or -errno; -ECANCELED after listener_stop */
	void (*stop)(struct listener *l);                       /* wakes accept; the unix path is removed */
	void (*close)(struct listener *l);
	struct address address;                                 /* with the real port */
};
static inline int listener_accept(struct listener *l, struct stream **ret) YIELDS { return l->accept(l, ret); }
static inline void listener_stop(struct listener *l) { l->stop(l); }
static inline void listener_close(struct listener *l) { if (l) l->close(l); }
/* Takes over a listening or connected socket handed to us (LISTEN_FDS). */
int listener_from_fd(int fd, struct listener **ret, struct err *e);
int stream_from_fd(int fd, struct stream **ret, struct err *e);

#endif
