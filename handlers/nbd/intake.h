/* intake.h - the receive buffer of one connection: bytes are received once and lent to requests where they are. No I/O.
 *
 *      buf:  |  lent to running requests  |  received, not parsed  |  free  |
 *            0                           pos                      end     size
 *
 * A message that does not fit behind pos moves to another buf; the old one lives as long as requests hold it. */
#ifndef MYFS_NBD_INTAKE_H
#define MYFS_NBD_INTAKE_H

#include "core/base/buf.h"

enum {
	INTAKE_SMALL = 64 * 1024, /* buf for a stream of small messages */
	INTAKE_LARGE = 32 * 1024, /* from this payload on, what is received is steered to avoid copies */
};

struct intake {
	struct buf *buf; /* owned, may be NULL */
	size_t pos, end;
	bool large; /* the last message was a large one: receive the next head alone */
};

static inline size_t intake_have(const struct intake *in)
{
	return in->end - in->pos;
}
static inline uint8_t *intake_bytes(const struct intake *in)
{
	return in->buf->data + in->pos;
}

void intake_release(struct intake *in);
/* Makes room for a message whose first `head` bytes and then `payload` bytes start at pos, and says where to receive
 * next and at most how much. `head` alone (payload 0) means that the head is not complete yet. A large payload is put
 * on a page boundary. 0 or -ENOMEM. */
int intake_room(struct intake *in, size_t head, size_t payload, uint8_t **ret_dst, size_t *ret_cap);
static inline void intake_received(struct intake *in, size_t n)
{
	in->end += n;
}
/* The first n unparsed bytes are done with, or lent by reference to in->buf. */
static inline void intake_consume(struct intake *in, size_t n)
{
	in->pos += n;
}

#endif
