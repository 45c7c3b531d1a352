/* request.h - one transmission request, from 28 bytes to a validated struct. No I/O. */
#ifndef MYFS_NBD_REQUEST_H
#define MYFS_NBD_REQUEST_H

#include "handlers/nbd/wire.h"

/* What was agreed in the handshake, as far as it decides whether a request is legal. */
struct nbd_limits {
	uint64_t size_bytes;
	uint32_t min_block;                       /* power of two, at least 1 */
	uint32_t max_payload;                     /* longest READ or WRITE */
	bool read_only, structured, block_status; /* block_status: base:allocation was selected for this export */
};

struct nbd_request {
	enum nbd_cmd cmd;
	uint64_t cookie, off;
	uint32_t len;
	bool fua, df, req_one, no_hole, fast_zero;
	uint32_t error;   /* 0, or the NBD error to answer without doing anything */
	const char *why;  /* static text for error */
	uint32_t payload; /* bytes that follow the header, to be taken off the stream whether or not error is set */
};

/* 0 with *r filled (look at r->error before doing anything), -EPROTO when the stream makes no sense any more (wrong
 * magic), or -EMSGSIZE when the payload is so long that reading it away is not worth the while: both mean drop the
 * connection. */
int nbd_request_parse(const uint8_t bytes[NBD_REQUEST_BYTES], const struct nbd_limits *limits, struct nbd_request *r);

#endif
