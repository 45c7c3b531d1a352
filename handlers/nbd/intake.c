/* intake.c - decides where the next bytes of a connection are received.
 *
 * Small messages: as much as arrives, many messages per system call. Large payloads: the receive is cut behind the next
 * head, so that this head is known before its payload arrives and the payload can be received where it will stay; only
 * heads are copied.
 *
 * Invariants: N1 pos <= end <= buf->size. N2 bytes below pos are never written while the buf is shared. */
#include "handlers/nbd/intake.h"

#define PAGE MYFS_BLOCK

static void intake_drop(struct intake *in)
{
	buf_unref(in->buf);
	in->buf = NULL;
	in->pos = in->end = 0;
}

void intake_release(struct intake *in)
{
	intake_drop(in);
}

/* Moves what is unparsed to offset `at` of a buf of at least `size` bytes: another one, or this one when nobody else
 * holds it. */
static int move_to(struct intake *in, size_t size, size_t at)
{
	size_t have = intake_have(in);

	if (in->buf && in->buf->refs == 1 && in->buf->size >= size) {
		memmove(in->buf->data + at, in->buf->data + in->pos, have);
	} else {
		struct buf *b = buf_alloc(size);
		if (!b)
			return -ENOMEM;
		if (have > 0)
			memcpy(b->data + at, in->buf->data + in->pos, have);
		buf_unref(in->buf);
		in->buf = b;
	}
	in->pos = at;
	in->end = at + have;
	return 0;
}

/* Where a message has to start so that its payload starts on a page. */
static size_t aligned_start(size_t pos, size_t head)
{
	return round_up_u64(pos + head, PAGE) - head;
}

static int room_for_head(struct intake *in, size_t head)
{
	/* Idle or between large messages a connection holds one page; otherwise enough for many messages. */
	size_t size = in->large ? PAGE : INTAKE_SMALL;
	bool mine = in->buf && in->buf->refs == 1;

	if (mine && intake_have(in) == 0) {
		if (in->buf->size < size || in->buf->size > 4 * size)
			intake_drop(in);
		else
			in->pos = in->end = 0;
	}
	if (in->buf && in->buf->size - in->pos >= head && in->buf->size - in->end >= PAGE / 2)
		return 0;
	return move_to(in, size, 0);
}

static int room_for_payload(struct intake *in, size_t head, size_t payload)
{
	size_t message = head + payload;
	size_t have = intake_have(in);

	if (payload < INTAKE_LARGE || have - head >= PAGE) {
		if (in->pos + message <= in->buf->size)
			return 0;
		return move_to(in, max_u64(message, INTAKE_SMALL), 0);
	}
	size_t at = aligned_start(in->pos, head);
	if (at + message <= in->buf->size) {
		memmove(in->buf->data + at, in->buf->data + in->pos, have);
		in->pos = at;
		in->end = at + have;
		return 0;
	}
	at = aligned_start(0, head);
	return move_to(in, at + message + head, at);
}

int intake_room(struct intake *in, size_t head, size_t payload, uint8_t **ret_dst, size_t *ret_cap)
{
	int rc = payload == 0 ? room_for_head(in, head) : room_for_payload(in, head, payload);
	if (rc != 0)
		return rc;

	size_t cap = in->buf->size - in->end;
	size_t missing = head + payload - min_u64(intake_have(in), head + payload);
	if (payload >= INTAKE_LARGE)
		cap = min_u64(cap, missing + head);
	else if (payload == 0 && in->large)
		cap = min_u64(cap, missing);
	assert(in->pos <= in->end && cap > 0 && in->end + cap <= in->buf->size); /* N1 */
	*ret_dst = in->buf->data + in->end;
	*ret_cap = cap;
	return 0;
}
