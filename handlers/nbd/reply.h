/* reply.h - everything this server says, as bytes. No I/O, no allocation. */
#ifndef MYFS_NBD_REPLY_H
#define MYFS_NBD_REPLY_H

#include "core/base/buf.h"
#include "handlers/nbd/nbd.h"
#include "handlers/nbd/request.h"
#include "handlers/nbd/wire.h"

/* Handshake. */
void nbd_greeting_put(uint8_t out[NBD_GREETING_BYTES]);
void nbd_option_reply_put(uint8_t out[NBD_OPTION_REPLY_HEAD_BYTES], uint32_t option, uint32_t type, uint32_t len);
void nbd_export_name_reply_put(uint8_t out[NBD_EXPORT_NAME_REPLY_BYTES], uint64_t size_bytes, uint16_t flags);
uint16_t nbd_transmission_flags(const struct nbd_export_info *info, bool structured);
/* The NBD_REP_ERR_* that fits what the provider said when asked for an export. */
uint32_t nbd_open_error(int rc);

/* Transmission: one reply is a few chunks, each a head of our own bytes and a run of payload slices. */
enum {
	NBD_CHUNKS_MAX = 8,
	NBD_HEADS_MAX = 320,   /* heads of all chunks of one reply; also room for one error text */
	NBD_HOLE_WORTH = 4096, /* a shorter run of zeros travels as data */
	NBD_ERROR_TEXT_MAX = 256,
};

struct nbd_chunk {
	uint16_t head_at, head_len;   /* in heads[] */
	unsigned first_slice, slices; /* in data */
};

struct nbd_reply {
	struct bufs data;
	unsigned chunks;
	struct nbd_chunk chunk[NBD_CHUNKS_MAX];
	uint8_t heads[NBD_HEADS_MAX];
};

/* The NBD error of a negative code; 0 for 0. */
uint32_t nbd_error_of(int rc, const struct nbd_request *r);
/* Success of a request without payload, or an empty READ. */
void nbd_reply_ok(struct nbd_reply *p, const struct nbd_request *r, bool structured);
/* text: static, may be NULL. Drops p->data. */
void nbd_reply_error(struct nbd_reply *p, const struct nbd_request *r, bool structured, uint32_t error,
		     const char *text);
/* p->data holds exactly the bytes asked for. */
void nbd_reply_read(struct nbd_reply *p, const struct nbd_request *r, bool structured);
/* p->data holds the extent descriptors. */
void nbd_reply_block_status(struct nbd_reply *p, const struct nbd_request *r);

#endif
