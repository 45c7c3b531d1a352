/* rpc.h - request/reply and one-way frames over a stream: fixed header, XDR body, payload after it.
 *
 *   0        4       6       8       12      16        24        32        40         44          48
 *   | magic  | type  | flags | crc32c| body  | session | seq     | epoch   | payload  | status    | body | payload |
 *   | MYF1   | be16  | be16  | be32  | be32  | be64    | be64    | be64    | be32     | be32      |
 *
 * crc32c covers the header (with crc 0) and the body, not the payload (blocks carry their own checksums). Replies have
 * RPC_FLAG_REPLY and the request's seq. `status` is 0 or a positive myfs/errno code of a failed request (then no body).
 * Frames of one connection are handled in the order they were sent: a handler runs up to its first suspend before the
 * next frame is looked at; replies may overtake each other. Output queued during one loop iteration leaves in one
 * system call.
 *
 * Limits: body <= RPC_BODY_MAX, payload <= RPC_PAYLOAD_MAX; a frame that breaks them ends the connection. */
#ifndef MYFS_RPC_H
#define MYFS_RPC_H

#include <rpc/xdr.h>

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/loop/fiber.h"
#include "core/loop/net.h"
#include "core/loop/tls.h"

#define RPC_HEADER_BYTES 48u
#define RPC_BODY_MAX (1088u * 1024u) /* BP_MAX_MISSED entries, the longest list of brick.x, fit */
#define RPC_PAYLOAD_MAX (1024u * 1024u + 4096u)
#define RPC_FLAG_REPLY 0x1u
#define RPC_FLAG_ONEWAY 0x2u
#define RPC_PAYLOAD_IOVS 80u

struct histogram;
struct rpc_client;
struct rpc_call;

/* How a set of calls is waited for. One group per fan-out, on the caller's stack. */
struct rpc_group {
	struct fiber *waiter;       /* private: parked in rpc_group_wait */
	unsigned need;              /* private: what it waits for */
	unsigned started, ended, ok;
};
void rpc_group_init(struct rpc_group *g);

/* One outstanding request. Lives in the caller's frame until it ended (rpc_call_ended). Zero it, fill the "in" part,
 * start. */
struct rpc_call {
	/* in */
	uint32_t type;
	xdrproc_t args_proc;
	void *args;                 /* borrowed until rpc_call_start returns */
	const struct iovec *payload; /* lent until the call ended */
	unsigned payload_n;
	xdrproc_t res_proc;         /* NULL: no body expected */
	void *res;                  /* decoded; the caller zeroes it before and xdr_free()s it when it holds arrays */
	/* Optional: called on the loop at completion, before the group is told; must not park, may free the call. */
	void (*done)(struct rpc_call *c);
	void *user;
	uint64_t tag;               /* the caller's own, as the next */
	uint32_t peer;
	/* out */
	int rc;                     /* 0, or negative code: status of the peer, -MYFS_E_GONE, -ETIMEDOUT */
	uint64_t epoch;             /* header epoch of the reply */
	struct slice payload_in;    /* reply payload; holds a reference, drop it with rpc_call_release */
	/* private */
	struct rpc_client *client;
	struct rpc_group *group;
	struct list node;
	uint64_t seq;
	uint64_t start_ns;
	uint64_t tx_begin, tx_end;  /* where its payload is in the output queue */
	bool ended;
};

/* A connected client. on_down is called once, from the loop, when the connection ends by itself; every outstanding
 * call has then already ended with -MYFS_E_GONE. The client stays allocated until rpc_client_free. */
struct rpc_client_config {
	struct net *net;
	struct address address;
	struct tls_creds *tls;      /* NULL on unix sockets */
	uint64_t connect_deadline_ns;
	void (*on_down)(void *arg, struct rpc_client *c, const char *why);
	void *arg;
	struct histogram *latency;  /* borrowed; NULL = not counted: from the start of a call to its end, of answered calls */
};
int rpc_client_connect(const struct rpc_client_config *cfg, struct rpc_client **ret, struct err *e) YIELDS;
void rpc_client_close(
    struct rpc_client *c); /* ends it; outstanding calls end with -MYFS_E_GONE before this returns; no on_down */
void rpc_client_free(struct rpc_client *c);   /* close + free; NULL is fine */
bool rpc_client_up(const struct rpc_client *c);
void rpc_client_set_session(struct rpc_client *c, uint64_t session); /* put into every header from now on */
/* Age of the oldest outstanding call in ns, 0 when none: for stall detection. */
uint64_t rpc_client_oldest_ns(const struct rpc_client *c);
/* Of those whose type, less than 64, is in the set. */
uint64_t rpc_client_oldest_of_ns(const struct rpc_client *c, uint64_t types);
/* Payload bytes of all outstanding calls: what the peer has been given to do. */
uint64_t rpc_client_outstanding_bytes(const struct rpc_client *c);

/* Queues the request; never parks. Failure to send shows up as the call ending with an error. */
void rpc_call_start(struct rpc_client *c, struct rpc_call *call, struct rpc_group *g);
void rpc_call_release(struct rpc_call *call); /* drops payload_in; no-op when none */
/* Queues a one-way frame (no reply). The payload, if any, is copied. */
int rpc_post(struct rpc_client *c, uint32_t type, xdrproc_t proc, void *args, const struct iovec *payload, unsigned n);

/* Waits until every call of the group ended. Number of calls that ended with rc == 0. */
unsigned rpc_group_wait_all(struct rpc_group *g) YIELDS;
/* Waits until `need` calls ended well, or all ended, or the deadline passed (UINT64_MAX = none). Returns calls that
 * ended well. Calls still outstanding must be waited for, or cut loose with rpc_call_cancel, before their memory
 * goes. */
unsigned rpc_group_wait(struct rpc_group *g, unsigned need, uint64_t deadline_ns) YIELDS;
/* Parks until every call of the group ended, or until somebody else woke this fiber. */
void rpc_group_park(struct rpc_group *g) YIELDS;
/* rpc_call_cancel for every outstanding call whose `user` is this. */
void rpc_client_cancel_of(struct rpc_client *c, const void *user);
/* Ends the call with -ECANCELED now (its group counts it, `done` is not called) and drops the reply when it comes.
 * Lent payload that still waits is copied; when the kernel is in the middle of sending it (the peer does not read)
 * the connection ends instead. */
void rpc_call_cancel(struct rpc_call *call);
/* One call, start to end. Returns call->rc. */
int rpc_call_sync(struct rpc_client *c, struct rpc_call *call) YIELDS;

/* ---- server ---- */
struct rpc_server;
struct rpc_conn;    /* one accepted connection */
struct rpc_request {
	struct rpc_conn *conn;
	uint32_t type;
	uint16_t flags;
	uint64_t session, seq, epoch;
	const uint8_t *body;       /* valid as long as the request */
	size_t body_len;
	struct slice payload;      /* reference held by the request; take another to keep it longer */
};

struct rpc_server_config {
	struct net *net;
	struct tls_creds *tls;     /* required on TCP unless allow_plain_tcp */
	bool allow_plain_tcp;      /* debug option */
	uint32_t allowed_uid;      /* unix peers must be this uid or 0 */
	unsigned max_conns;        /* 0 = 4096 */
	/* Runs in a fiber of its own; must call rpc_reply() exactly once unless one-way. req is freed after handle
	 * returns. */
	void (*handle)(void *arg, struct rpc_request *req); /* YIELDS */
	void (*on_open)(void *arg, struct rpc_conn *c);
	void (*on_close)(void *arg, struct rpc_conn *c);    /* all its requests have returned */
	void *arg;
};
int rpc_server_new(const struct rpc_server_config *cfg, struct rpc_server **ret);
/* Starts listening on one more address. */
int rpc_server_listen(struct rpc_server *s, const struct address *a, struct address *ret_real, struct err *e) YIELDS;
int rpc_server_adopt(struct rpc_server *s, struct listener *l);
void rpc_server_stop(struct rpc_server *s) YIELDS; /* no new connections, ends present ones, waits for handlers */
void rpc_server_free(struct rpc_server *s);

/* Per-connection data of the user. */
void rpc_conn_set_user(struct rpc_conn *c, void *user);
void *rpc_conn_user(const struct rpc_conn *c);
const char *rpc_conn_peer(const struct rpc_conn *c);
void rpc_conn_close(struct rpc_conn *c); /* soon; later requests are not handled */
bool rpc_conn_is_open(const struct rpc_conn *c);

/* Decodes the request body into dst (zeroed by the caller); 0 or -MYFS_E_PROTO, then nothing is left to free.
 * Trailing bytes are an error. Free arrays with xdr_free. */
int rpc_decode(const struct rpc_request *req, xdrproc_t proc, void *dst);
/* Same without any allocation: every array pointer of dst has been set to memory of the array's bound. Nothing to
 * xdr_free. */
int rpc_decode_into(const struct rpc_request *req, xdrproc_t proc, void *dst);
/* rc == 0: body from proc/res (NULL = none) plus payload slices (a reference to each is taken until sent). rc < 0:
 * status only. */
void rpc_reply(struct rpc_request *req, int rc, xdrproc_t proc, void *res, const struct slice *payload, unsigned n);
void rpc_reply_epoch(struct rpc_request *req, uint64_t epoch); /* header epoch of the reply to come; default 0 */

#endif
