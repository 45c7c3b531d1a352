/* tx.c - see tx.h. Invariants: T1 entries leave in the order they were queued. T2 an entry in flight is not changed.
 * T3 arena bytes are written once while anybody refers to them. */
#include "core/rpc/tx.h"

#define RING_START 64u
#define ARENA_BYTES (16u * 1024u)
#define ARENA_ROOM_MIN 512u /* below this a fresh arena is cheaper than a second try */

void tx_init(struct tx *tx)
{
	*tx = (struct tx){0};
}

void tx_release(struct tx *tx)
{
	for (uint64_t p = tx->sent; p < tx->queued; p++)
		buf_unref(tx->ring[p & (tx->cap - 1)].owner);
	buf_unref(tx->arena);
	free(tx->ring);
	tx_init(tx);
}

int tx_admit(const struct tx *tx, size_t payload, unsigned pieces)
{
	if (tx->bytes + RPC_HEADER_BYTES + payload > TX_BYTES_MAX ||
	    tx->queued - tx->sent + pieces + 1 > TX_ENTRIES_MAX)
		return -ENOBUFS;
	return 0;
}

static int ring_grow(struct tx *tx)
{
	size_t cap = tx->cap ? tx->cap * 2 : RING_START;
	struct tx_entry *ring = reallocarray(NULL, cap, sizeof(*ring));

	if (!ring)
		return -ENOMEM;
	for (uint64_t p = tx->sent; p < tx->queued; p++)
		ring[p & (cap - 1)] = tx->ring[p & (tx->cap - 1)];
	free(tx->ring);
	tx->ring = ring;
	tx->cap = cap;
	return 0;
}

/* Takes over one reference of owner, also on failure. */
static int tx_push(struct tx *tx, struct buf *owner, uint8_t *ptr, size_t len)
{
	if (tx->queued > tx->flight && owner) {
		struct tx_entry *last = &tx->ring[(tx->queued - 1) & (tx->cap - 1)];
		if (last->owner == owner && last->ptr + last->len == ptr) {
			last->len += len;
			tx->bytes += len;
			buf_unref(owner); /* the entry has one already */
			return 0;
		}
	}
	if (tx->queued - tx->sent == tx->cap && ring_grow(tx) != 0) {
		buf_unref(owner);
		return -ENOMEM;
	}
	tx->ring[tx->queued++ & (tx->cap - 1)] = (struct tx_entry){.ptr = ptr, .len = len, .owner = owner};
	tx->bytes += len;
	return 0;
}

/* Makes room for len bytes in the arena. */
static int arena_reserve(struct tx *tx, size_t len)
{
	if (tx->arena && tx->arena->refs == 1)
		tx->arena_used = 0; /* all of it was sent */
	if (tx->arena && tx->arena->size - tx->arena_used >= len)
		return 0;

	struct buf *fresh = buf_alloc(max_u64(len, ARENA_BYTES));
	if (!fresh)
		return -ENOMEM;
	buf_unref(tx->arena);
	tx->arena = fresh;
	tx->arena_used = 0;
	return 0;
}

/* Encodes body at p. Length, or -1 when it does not fit or cannot be encoded. */
static int64_t body_encode(uint8_t *p, size_t room, xdrproc_t proc, void *body)
{
	XDR x;

	if (!proc)
		return 0;
	xdrmem_create(&x, (char *)p, (u_int)min_u64(room, RPC_BODY_MAX), XDR_ENCODE);
	int64_t len = proc(&x, body) ? (int64_t)xdr_getpos(&x) : -1;
	xdr_destroy(&x);
	return len;
}

/* Encodes behind a gap for the header in the arena; a body too large for the present arena gets one of its size. */
static int64_t arena_encode(struct tx *tx, xdrproc_t proc, void *body)
{
	if (arena_reserve(tx, RPC_HEADER_BYTES + ARENA_ROOM_MIN) != 0)
		return -ENOMEM;

	uint8_t *p = tx->arena->data + tx->arena_used + RPC_HEADER_BYTES;
	int64_t len = body_encode(p, tx->arena->size - tx->arena_used - RPC_HEADER_BYTES, proc, body);
	if (len >= 0)
		return len;

	unsigned long size = xdr_sizeof(proc, body);
	if (size == 0 || size > RPC_BODY_MAX)
		return -EMSGSIZE;
	if (arena_reserve(tx, RPC_HEADER_BYTES + size) != 0)
		return -ENOMEM;
	p = tx->arena->data + tx->arena_used + RPC_HEADER_BYTES;
	len = body_encode(p, tx->arena->size - tx->arena_used - RPC_HEADER_BYTES, proc, body);
	return len >= 0 ? len : -EMSGSIZE;
}

int tx_frame(struct tx *tx, struct frame_header *h, xdrproc_t proc, void *body)
{
	int64_t len = arena_encode(tx, proc, body);
	if (len < 0)
		return (int)len;

	uint8_t *p = tx->arena->data + tx->arena_used;
	h->body_len = (uint32_t)len;
	frame_header_write(p, h);
	int rc = tx_push(tx, buf_ref(tx->arena), p, RPC_HEADER_BYTES + (size_t)len);
	if (rc == 0)
		tx->arena_used += RPC_HEADER_BYTES + (size_t)len;
	return rc;
}

int tx_payload_lent(struct tx *tx, const struct iovec *v, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (v[i].iov_len > 0 && tx_push(tx, NULL, v[i].iov_base, v[i].iov_len) != 0)
			return -ENOMEM;
	}
	return 0;
}

int tx_payload_ref(struct tx *tx, const struct slice *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (s[i].len == 0)
			continue;
		struct buf *owner = s[i].owner ? buf_ref(s[i].owner) : NULL;
		if (tx_push(tx, owner, s[i].ptr, s[i].len) != 0)
			return -ENOMEM;
	}
	return 0;
}

int tx_payload_copy(struct tx *tx, const struct iovec *v, unsigned n)
{
	size_t len = iov_bytes((struct iov){.v = v, .n = n});
	if (len == 0)
		return 0;
	if (arena_reserve(tx, len) != 0)
		return -ENOMEM;

	uint8_t *p = tx->arena->data + tx->arena_used;
	iov_copy_out((struct iov){.v = v, .n = n}, 0, p, len);
	int rc = tx_push(tx, buf_ref(tx->arena), p, len);
	if (rc == 0)
		tx->arena_used += len;
	return rc;
}

unsigned tx_peek(struct tx *tx, struct iovec *out)
{
	unsigned n = (unsigned)min_u64(tx->queued - tx->sent, TX_FLIGHT);

	for (unsigned i = 0; i < n; i++) {
		const struct tx_entry *e = &tx->ring[(tx->sent + i) & (tx->cap - 1)];
		out[i] = (struct iovec){.iov_base = e->ptr, .iov_len = e->len};
	}
	tx->flight = tx->sent + n;
	return n;
}

void tx_sent(struct tx *tx)
{
	while (tx->sent < tx->flight) {
		struct tx_entry *e = &tx->ring[tx->sent++ & (tx->cap - 1)];
		tx->bytes -= e->len;
		buf_unref(e->owner);
	}
}

int tx_unlend(struct tx *tx, uint64_t from, uint64_t to)
{
	if (to <= tx->sent)
		return 0;
	if (from < tx->flight)
		return -EBUSY; /* T2 */
	for (uint64_t p = from; p < to; p++) {
		struct tx_entry *e = &tx->ring[p & (tx->cap - 1)];
		if (e->owner)
			continue;
		struct buf *copy = buf_alloc(e->len);
		if (!copy)
			return -ENOMEM;
		memcpy(copy->data, e->ptr, e->len);
		e->ptr = copy->data;
		e->owner = copy;
	}
	return 0;
}
