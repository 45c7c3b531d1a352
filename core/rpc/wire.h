/* wire.h - a stream with frames on it: what client and server connections have in common.
 *
 *   owner's fiber:  wire_recv -> frame_rx_next -> ... -> wire_finish (closes)
 *   writer fiber:   woken once per loop iteration when there is output; one stream_send for all of it
 *
 * Invariants: W1 the owner's fiber is the last to touch the wire, so a wire is as long-lived as that fiber. W2 once
 * `up` is false nothing is queued or sent any more; the stream has been shut down, so lent memory is no longer read. */
#ifndef MYFS_RPC_WIRE_H
#define MYFS_RPC_WIRE_H

#include "core/loop/loop.h"
#include "core/rpc/frame.h"
#include "core/rpc/tx.h"

struct wire {
	struct stream *stream;
	bool up;
	char why[96];             /* first reason for which it ended */
	struct frame_rx rx;
	struct tx tx;
	struct deferred flush;
	struct fiber *idle;       /* the writer, when it waits for output */
	bool writing;             /* the writer fiber exists */
	bool draining;            /* end once everything queued has been sent */
	struct waitq progress;    /* something was sent, or the writer ended */
	struct iovec flight[TX_FLIGHT];
};

/* Takes over stream and starts the writer. On failure stream is closed. */
int wire_start(struct wire *w, struct loop *loop, struct stream *stream);
/* No more input or output; from any fiber; only the first reason is kept. */
void wire_end(struct wire *w, const char *why);
/* As wire_end, but what is queued by now still goes out. */
void wire_drain(struct wire *w, const char *why);
/* Receives more bytes. 0, or negative after wire_end. */
int wire_recv(struct wire *w) YIELDS;
/* Next whole frame received: 1, 0 = none, or negative after wire_end. */
int wire_next(struct wire *w, struct frame *ret);
/* Output was queued: it leaves at the end of this loop iteration. */
static inline void wire_flush(struct wire *w) { loop_defer(&w->flush); }
/* Ends it, waits for the writer, closes the stream. Only the owner's fiber. */
void wire_finish(struct wire *w) YIELDS;

#endif
