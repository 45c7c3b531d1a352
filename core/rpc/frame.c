/* frame.c - encoding, validating and reassembling frames. See frame.h for the invariants R1, R2.
 *
 *        start              end                  size
 *   | done | frame | frame | fra . . . . . . . . |      a frame is parsed where it was received; its payload is a
 *          ^ next            ^ receive here             slice of this buf
 *
 * When the frame at `start` cannot fit between start and size, its received part moves to a buf it fits in. */
#include "core/rpc/frame.h"

#include "core/base/bytes.h"
#include "core/base/crc32c.h"

#define CRC_OFFSET 8u
/* Less room than this is not worth a receive of its own: take a fresh buf. */
#define ROOM_MIN (16u * 1024u)
/* The rest of a frame this large is received alone, so that the next one starts a buf and is not moved either. */
#define LARGE_FRAME (64u * 1024u)

void frame_header_write(uint8_t *p, const struct frame_header *h)
{
	struct wcur w = wcur_of(p, RPC_HEADER_BYTES);

	wcur_be32(&w, FRAME_MAGIC);
	wcur_be16(&w, h->type);
	wcur_be16(&w, h->flags);
	wcur_be32(&w, 0); /* crc: below */
	wcur_be32(&w, h->body_len);
	wcur_be64(&w, h->session);
	wcur_be64(&w, h->seq);
	wcur_be64(&w, h->epoch);
	wcur_be32(&w, h->payload_len);
	wcur_be32(&w, h->status);

	struct wcur crc = wcur_of(p + CRC_OFFSET, 4);
	wcur_be32(&crc, crc32c(p, RPC_HEADER_BYTES + (size_t)h->body_len));
}

/* What is wrong with a header whose fields are these, or NULL. */
static const char *header_fault(uint32_t magic, const struct frame_header *h)
{
	bool reply = (h->flags & RPC_FLAG_REPLY) != 0;
	bool oneway = (h->flags & RPC_FLAG_ONEWAY) != 0;

	if (magic != FRAME_MAGIC)
		return "not a frame (wrong magic)";
	if ((h->flags & ~(RPC_FLAG_REPLY | RPC_FLAG_ONEWAY)) != 0 || (reply && oneway))
		return "frame with unknown flags";
	if (h->body_len > RPC_BODY_MAX)
		return "frame body longer than allowed";
	if (h->payload_len > RPC_PAYLOAD_MAX)
		return "frame payload longer than allowed";
	if (h->status > FRAME_STATUS_MAX)
		return "frame with a status out of range";
	if (h->status != 0 && (!reply || h->body_len != 0 || h->payload_len != 0))
		return "frame with a status it may not have";
	return NULL;
}

int frame_header_parse(const uint8_t p[RPC_HEADER_BYTES], struct frame_header *ret, const char **ret_why)
{
	struct rcur c = rcur_of(p, RPC_HEADER_BYTES);
	uint32_t magic = rcur_be32(&c);
	struct frame_header h = {
	    .type = rcur_be16(&c),
	    .flags = rcur_be16(&c),
	    .crc = rcur_be32(&c),
	    .body_len = rcur_be32(&c),
	    .session = rcur_be64(&c),
	    .seq = rcur_be64(&c),
	    .epoch = rcur_be64(&c),
	    .payload_len = rcur_be32(&c),
	    .status = rcur_be32(&c),
	};
	assert(!c.bad && c.left == 0);

	const char *fault = header_fault(magic, &h);
	if (fault) {
		*ret_why = fault;
		return -MYFS_E_PROTO;
	}
	*ret = h;
	return 0;
}

void frame_rx_init(struct frame_rx *rx)
{
	*rx = (struct frame_rx){0};
}

void frame_rx_release(struct frame_rx *rx)
{
	buf_unref(rx->buf);
	frame_rx_init(rx);
}

/* Replaces the buf by one with room for `size` bytes, taking the unparsed bytes along. */
static int rx_move(struct frame_rx *rx, size_t size)
{
	struct buf *fresh = buf_alloc(max_u64(size, FRAME_RX_BYTES));
	if (!fresh)
		return -ENOMEM;
	if (rx->buf)
		memcpy(fresh->data, rx->buf->data + rx->start, rx->end - rx->start);
	buf_unref(rx->buf);
	rx->buf = fresh;
	rx->end -= rx->start;
	rx->start = 0;
	return 0;
}

uint8_t *frame_rx_space(struct frame_rx *rx, size_t *ret_cap)
{
	size_t have = rx->end - rx->start;

	/* Nobody else looks at this buf: begin at its front again, which also keeps the same cache lines in use. */
	if (rx->buf && rx->buf->refs == 1 && rx->start > 0 && (have == 0 || rx->need > rx->buf->size - rx->start)) {
		memmove(rx->buf->data, rx->buf->data + rx->start, have);
		rx->start = 0;
		rx->end = have;
	}

	size_t want = max_u64(rx->need, have + ROOM_MIN);
	if (!rx->buf || want > rx->buf->size - rx->start) {
		if (rx_move(rx, want) != 0)
			return NULL;
	}
	*ret_cap = rx->buf->size - rx->end;
	if (rx->need >= LARGE_FRAME)
		*ret_cap = min_u64(*ret_cap, rx->need - have);
	return rx->buf->data + rx->end;
}

void frame_rx_filled(struct frame_rx *rx, size_t n)
{
	assert(n <= rx->buf->size - rx->end);
	rx->end += n;
}

/* Over the header with its crc field as zeros, then the body. */
static uint32_t frame_crc(const uint8_t *p, size_t body_len)
{
	uint8_t head[RPC_HEADER_BYTES];

	memcpy(head, p, sizeof(head));
	memset(head + CRC_OFFSET, 0, 4);
	return crc32c_more(crc32c(head, sizeof(head)), p + RPC_HEADER_BYTES, body_len);
}

int frame_rx_next(struct frame_rx *rx, struct frame *ret)
{
	size_t have = rx->end - rx->start;
	if (have < RPC_HEADER_BYTES)
		return 0;

	uint8_t *p = rx->buf->data + rx->start;
	struct frame_header h;
	int rc = frame_header_parse(p, &h, &rx->why);
	if (rc != 0)
		return rc;

	size_t total = RPC_HEADER_BYTES + (size_t)h.body_len + h.payload_len;
	if (have < total) {
		rx->need = total;
		return 0;
	}
	if (frame_crc(p, h.body_len) != h.crc) {
		rx->why = "frame damaged in transit (checksum)";
		return -MYFS_E_PROTO;
	}
	*ret = (struct frame){
	    .h = h,
	    .body = p + RPC_HEADER_BYTES,
	    .payload = {.owner = rx->buf, .ptr = p + RPC_HEADER_BYTES + h.body_len, .len = h.payload_len},
	    .owner = rx->buf,
	};
	rx->start += total;
	rx->need = 0;
	return 1;
}
