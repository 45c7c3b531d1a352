/* nbd_priv.h - what the files of handlers/nbd share, grouped under the file that owns it. */
#ifndef MYFS_NBD_PRIV_H
#define MYFS_NBD_PRIV_H

#include "core/base/list.h"
#include "core/loop/fiber.h"
#include "core/loop/loop.h"
#include "handlers/nbd/intake.h"
#include "handlers/nbd/nbd.h"
#include "handlers/nbd/reply.h"
#include "handlers/nbd/request.h"

/* Bounds that are not configurable. */
#define NBD_CONN_BYTES_MAX   MIB(64) /* payload of requests under way on one connection; one request may always run */
#define NBD_SERVER_BYTES_MAX GIB(1)  /* the same over all connections */
#define NBD_STATUS_BYTES     16384u  /* extents of one BLOCK_STATUS answer */
#define NBD_DRAIN_NS         (3 * NS_PER_S)  /* nbd_server_stop: time for running requests to finish and be answered */
#define NBD_STOP_NS          (5 * NS_PER_S)  /* nbd_server_stop: returns at the latest after this */
#define NBD_LINGER_NS        (10 * NS_PER_S) /* a client that said goodbye has this long to take the last replies */
#define NBD_IOV_MAX          256u

struct nbd_session;
struct nbd_task;

/* ---- handshake.c: option haggling on a stream ---- */

struct nbd_agreed {
	struct nbd_export *export; /* owned: close through the provider */
	struct nbd_export_info info;
	bool structured, block_status;
	char name[NBD_STRING_MAX + 1];
};

/* Runs the handshake; *stream may be replaced by its TLS stream, and is NULL when TLS failed. 0 when an export was
 * agreed on; -ECANCELED when the client left without one; otherwise why the connection must be dropped. */
int nbd_handshake_run(const struct nbd_server_config *cfg, struct stream **stream, uint64_t deadline_ns,
		      struct nbd_agreed *ret) YIELDS;

/* ---- execute.c: one request in the hands of the provider ---- */

struct nbd_task {
	struct list node; /* session->free, or ->out, or the sender's list */
	struct nbd_session *session;
	struct nbd_request req;
	size_t bytes;        /* counted against the byte bounds */
	struct buf *payload; /* WRITE: holds the received bytes */
	struct iovec data;   /* WRITE: the bytes */
	struct nbd_reply reply;
	unsigned sent_chunk; /* sender's position in the reply: chunk, */
	unsigned sent_part;  /* and 0 = its head is next, n = its n-th slice */
};

/* Carries out t->req and fills t->reply. False: there is to be no reply. */
bool nbd_task_execute(struct nbd_task *t) YIELDS;

/* ---- output.c: replies, sent together once per loop iteration ---- */

struct nbd_output {
	struct list queue; /* of tasks with a reply */
	struct deferred flush;
	struct waitq work; /* the sender, when it has nothing to send */
	bool stop, ended;
	struct iovec iov[NBD_IOV_MAX];
};

void nbd_output_init(struct nbd_session *s);
int nbd_output_start(struct nbd_session *s);
void nbd_output_add(struct nbd_session *s, struct nbd_task *t);
/* Ends the sender; nothing may be queued. */
void nbd_output_stop(struct nbd_session *s) YIELDS;

/* ---- session.c: one connection ---- */

enum nbd_phase { NBD_PHASE_HANDSHAKE, NBD_PHASE_TRANSMISSION };

struct nbd_session {
	struct list node;          /* server->sessions */
	struct nbd_server *server; /* counted */
	struct nbd_door *door;     /* where it came in; NULL once the handshake is over */
	struct stream *stream;     /* owned; NULL after failed TLS */
	enum nbd_phase phase;
	bool draining;    /* new requests are answered ESHUTDOWN, the last reply ends the session */
	bool hung_up;     /* draining, and errors are not sent: the export is served elsewhere */
	struct timer cut; /* handshake deadline, later the linger limit */
	struct nbd_agreed agreed;
	struct nbd_limits limits;
	struct intake in;
	struct list free; /* tasks to reuse */
	unsigned running; /* tasks not on the free list: executing or waiting to be sent */
	size_t running_bytes;
	struct waitq room; /* the reader, waiting for running to fall; also for the sender's end */
	struct nbd_output out;
	struct nbd_session_info info;
};

/* Takes over stream (closed also on failure) and runs a session on it in a fiber of its own. */
int nbd_session_start(struct nbd_server *server, struct nbd_door *door, struct stream *stream);
void nbd_session_drain(struct nbd_session *s);
/* The same, but requests that were not carried out get no answer. */
void nbd_session_hang_up(struct nbd_session *s);
/* Makes every receive and send fail soon. */
void nbd_session_cut(struct nbd_session *s);
/* The reply has been sent or dropped. */
void nbd_session_task_done(struct nbd_session *s, struct nbd_task *t);

/* ---- server.c ---- */

struct nbd_door { /* one listener */
	struct list node;
	struct nbd_server *server;
	struct listener *listener; /* NULL once closed, or for connections given to nbd_server_serve */
	unsigned half_open;        /* sessions in their handshake */
	struct waitq slots;        /* the accepting fiber, at the limit */
};

struct nbd_server {
	struct nbd_server_config cfg; /* defaults filled in */
	unsigned refs;                /* the owner, every session, every accepting fiber */
	bool stopping;
	struct list doors;
	struct nbd_door handed; /* for nbd_server_serve */
	struct list sessions;
	unsigned session_count;
	unsigned accepting; /* running accept fibers */
	size_t running_bytes;
	struct waitq gone; /* nbd_server_stop, waiting for sessions and accept fibers to end */
};

/* The session's handshake is over, one way or the other. */
void nbd_server_handshake_done(struct nbd_session *s);
/* Last act of a session; its memory is gone already. */
void nbd_server_session_gone(struct nbd_server *server);

#endif
