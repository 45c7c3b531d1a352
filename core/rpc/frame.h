/* frame.h - the frame format of rpc.h as pure functions: one header encoder, one validator, one reassembler.
 *
 * Sans-I/O: bytes go in through frame_rx_space/filled, whole frames come out of frame_rx_next. Everything a peer can
 * get wrong about a frame is found in frame_header_parse and frame_rx_next; past them a frame's lengths can be
 * trusted. */
#ifndef MYFS_RPC_FRAME_H
#define MYFS_RPC_FRAME_H

#include "core/base/buf.h"
#include "core/rpc/rpc.h"

#define FRAME_MAGIC UINT32_C(0x4d594631) /* "MYF1" */
#define FRAME_STATUS_MAX UINT32_C(0xffff)
#define FRAME_RX_BYTES (272u * 1024u)    /* how much one receive may bring: a frame with 256 KiB of payload */

struct frame_header {
	uint16_t type, flags;
	uint32_t crc, body_len;
	uint64_t session, seq, epoch;
	uint32_t payload_len, status;
};

/* Writes 48 bytes at p, which the body (h->body_len bytes) already follows; computes the crc over both. */
void frame_header_write(uint8_t *p, const struct frame_header *h);
/* Validates everything a header alone can tell. 0 or -MYFS_E_PROTO with *ret_why static text. */
int frame_header_parse(const uint8_t p[RPC_HEADER_BYTES], struct frame_header *ret, const char **ret_why);

struct frame {
	struct frame_header h;
	const uint8_t *body;  /* inside owner */
	struct slice payload; /* borrowed: .owner is owner without a reference; len may be 0 */
	struct buf *owner;    /* borrowed until the next frame_rx call */
};

/* Received bytes not yet taken: [start, end) of buf. Invariants: R1 bytes before `end` are never written again while
 * anybody else holds a reference to buf. R2 a frame is handed out only when its crc has matched. */
struct frame_rx {
	struct buf *buf;
	size_t start, end;
	size_t need;          /* bytes of the frame at start, 0 = header not complete */
	const char *why;      /* static text after a protocol error */
};

void frame_rx_init(struct frame_rx *rx);
void frame_rx_release(struct frame_rx *rx);
/* Where to receive to next; *ret_cap > 0. NULL when out of memory. */
uint8_t *frame_rx_space(struct frame_rx *rx, size_t *ret_cap);
void frame_rx_filled(struct frame_rx *rx, size_t n);
/* 1 and a frame, 0 = more bytes needed, or -MYFS_E_PROTO (rx->why): the connection must end. */
int frame_rx_next(struct frame_rx *rx, struct frame *ret);

#endif
