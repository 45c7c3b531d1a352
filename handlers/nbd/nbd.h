/* nbd.h - NBD server: protocol and sessions over exports given by someone else (blockd; a memory export in tests).
 *
 * Implements the NBD protocol (github.com/NetworkBlockDevice/nbd doc/proto.md): fixed newstyle, LIST, INFO, GO,
 * EXPORT_NAME, STARTTLS, STRUCTURED_REPLY, LIST/SET_META_CONTEXT (base:allocation), READ (DF), WRITE (FUA), FLUSH,
 * TRIM, WRITE_ZEROES (NO_HOLE, FAST_ZERO), CACHE, BLOCK_STATUS (REQ_ONE), DISC. */
#ifndef MYFS_NBD_H
#define MYFS_NBD_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/loop/net.h"
#include "core/loop/tls.h"

struct nbd_export; /* opened by the provider */

struct nbd_export_info {
	uint64_t size_bytes;
	uint32_t min_block, preferred_block, max_block; /* 1, 4096, 32 MiB */
	bool read_only, multi_conn, rotational;
	char description[192];
};

/* All may be YIELDS. Ranges are inside the export. Errors: negative codes; the session maps err_class() to NBD errors
 * (ENOSPC, EIO, EPERM, ESHUTDOWN, EINVAL, ENOMEM). */
struct nbd_provider {
	/* Calls emit(emit_arg, name, description) per export that the peer may open. */
	int (*list)(void *arg, const struct stream *peer,
		    void (*emit)(void *emit_arg, const char *name, const char *description), void *emit_arg);
	/* -ENOENT unknown, -EACCES not allowed, -EBUSY in use elsewhere. peer: stream text. */
	int (*open)(void *arg, const char *name, const struct stream *peer, struct nbd_export **ret,
		    struct nbd_export_info *info, struct err *e);
	/* Same information without opening, for INFO. */
	int (*info)(void *arg, const char *name, const struct stream *peer, struct nbd_export_info *info,
		    struct err *e);
	void (*close)(struct nbd_export *x);
	int (*read)(struct nbd_export *x, uint64_t off, uint32_t len, struct bufs *out);
	int (*write)(struct nbd_export *x, uint64_t off, struct iov data, bool fua);
	int (*flush)(struct nbd_export *x);
	int (*trim)(struct nbd_export *x, uint64_t off, uint64_t len, bool fua);
	int (*zero)(struct nbd_export *x, uint64_t off, uint64_t len, bool fua, bool may_trim);
	int (*cache)(struct nbd_export *x, uint64_t off, uint64_t len);
	/* Calls emit for consecutive extents covering a prefix of the range; data=false: hole and zero. emit must not
	 * be called again once it returned nonzero (enough); one: the first extent is enough. */
	int (*extents)(struct nbd_export *x, uint64_t off, uint64_t len, bool one,
		       int (*emit)(void *emit_arg, uint64_t len, bool data), void *emit_arg);
	void *arg;
};

struct nbd_server_config {
	struct nbd_provider provider;
	struct tls_creds *tls;            /* NULL: STARTTLS answered "not available" */
	bool tls_require;                 /* options but STARTTLS/ABORT refused before TLS */
	unsigned max_conns;               /* 0 = 1024 */
	unsigned max_handshakes;          /* half-open at once per listener, 0 = 64; further ones wait in the backlog */
	unsigned max_handshakes_per_peer; /* of one TCP host, 0 = 16; further ones are closed */
	uint64_t handshake_timeout_ns;    /* 0 = 10 s */
	unsigned max_requests;            /* in flight per connection, 0 = 128; beyond it the socket is not read */
	uint32_t max_request_bytes;       /* 0 = 32 MiB */
};

struct nbd_session_info {
	char peer[STREAM_PEER_TEXT], export_name[128];
	uint64_t since_ns, reads, writes, bytes_read, bytes_written;
	bool tls;
};

struct nbd_server;
int nbd_server_new(const struct nbd_server_config *cfg, struct nbd_server **ret);
int nbd_server_listen(struct nbd_server *s, struct net *net, const struct address *a, struct address *ret_real,
		      struct err *e) YIELDS;
int nbd_server_adopt(struct nbd_server *s, struct listener *l); /* socket activation; takes l over on success */
/* Runs a session on a connected stream; takes it over, also on failure. */
int nbd_server_serve(struct nbd_server *s, struct stream *stream);
/* Stops listening and ends sessions after their running requests, in at most 5 s. What comes meanwhile is not answered: the client is to
 * attach again and repeat it. */
void nbd_server_stop(struct nbd_server *s) YIELDS;
/* Requests that are still with the provider after nbd_server_stop finish later and free what they hold then: the
 * provider's arg must outlive its last close. NULL is fine. */
void nbd_server_free(struct nbd_server *s);
/* Ends the sessions of an export after their running requests. What was not carried out is not answered: the client is
 * to attach elsewhere and send it again. */
void nbd_server_hang_up(struct nbd_server *s, const char *export_name);
/* Requests of this export are held against its new size from now on, also in sessions that agreed on another. */
void nbd_server_resized(struct nbd_server *s, const char *export_name, uint64_t size_bytes);
/* Calls fn for every session past its handshake. */
void nbd_server_sessions(struct nbd_server *s, void (*fn)(void *arg, const struct nbd_session_info *info), void *arg);

#endif
