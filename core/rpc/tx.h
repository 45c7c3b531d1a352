/* tx.h - one connection's queue of output: headers and bodies encoded into an arena, payload as references.
 *
 * Sans-I/O: tx_peek gives iovecs in order, tx_sent drops them. Positions count entries since the beginning of the
 * connection, so "has everything up to here been sent" is one comparison. */
#ifndef MYFS_RPC_TX_H
#define MYFS_RPC_TX_H

#include "core/base/buf.h"
#include "core/rpc/frame.h"

#define TX_BYTES_MAX MIB(64)   /* a peer that lets this much pile up is cut off */
#define TX_ENTRIES_MAX 131072u
#define TX_FLIGHT 256u         /* iovecs of one system call */

struct tx_entry {
	uint8_t *ptr;
	size_t len;
	struct buf *owner; /* reference held until sent; NULL: lent by the caller */
};

struct tx {
	struct tx_entry *ring; /* entry at position p is ring[p % cap] */
	size_t cap;            /* power of two */
	uint64_t sent, queued; /* positions: [sent, queued) wait */
	uint64_t flight;       /* positions [sent, flight) are with the kernel */
	size_t bytes;          /* of all waiting entries */
	struct buf *arena;
	size_t arena_used;
};

void tx_init(struct tx *tx);
void tx_release(struct tx *tx);
static inline bool tx_empty(const struct tx *tx) { return tx->sent == tx->queued; }
/* 0, or -ENOBUFS when a frame with `payload` more bytes in `pieces` entries would break a limit. */
int tx_admit(const struct tx *tx, size_t payload, unsigned pieces);

/* Queues header + body; h->body_len is filled in, h->payload_len bytes must follow through the functions below.
 * proc NULL: no body. 0, -EMSGSIZE (body too long or not encodable) or -ENOMEM; nothing queued on failure. */
int tx_frame(struct tx *tx, struct frame_header *h, xdrproc_t proc, void *body);
/* Each queues payload bytes; 0 or -ENOMEM, after which the stream of frames is broken and must end. */
int tx_payload_lent(struct tx *tx, const struct iovec *v, unsigned n);
int tx_payload_ref(struct tx *tx, const struct slice *s, unsigned n);
int tx_payload_copy(struct tx *tx, const struct iovec *v, unsigned n);

/* Fills out (TX_FLIGHT entries) with what to send next and marks it as in flight; returns how many. */
unsigned tx_peek(struct tx *tx, struct iovec *out);
void tx_sent(struct tx *tx); /* what tx_peek gave is gone */
/* Replaces lent memory in positions [from, to) by copies. 0, -EBUSY when some of it is in flight, -ENOMEM. */
int tx_unlend(struct tx *tx, uint64_t from, uint64_t to);

#endif
