/* reply.c - encodes greetings, option replies and transmission replies.
 *
 * Invariants: P1 the chunks of a reply name its slices in order, each
 * at most once; only zeros sent as a hole are not named. P2 a READ answered with chunks
 * covers exactly its range, without overlap. P3 the last chunk and only the last carries DONE. */
#include "handlers/nbd/reply.h"

#include "core/base/bytes.h"

void nbd_greeting_put(uint8_t out[NBD_GREETING_BYTES])
{
	struct wcur c = wcur_of(out, NBD_GREETING_BYTES);

	wcur_be64(&c, NBD_INIT_MAGIC);
	wcur_be64(&c, NBD_OPTION_MAGIC);
	wcur_be16(&c, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	assert(!c.bad);
}

void nbd_option_reply_put(uint8_t out[NBD_OPTION_REPLY_HEAD_BYTES], uint32_t option, uint32_t type, uint32_t len)
{
	struct wcur c = wcur_of(out, NBD_OPTION_REPLY_HEAD_BYTES);

	wcur_be64(&c, NBD_OPTION_REPLY_MAGIC);
	wcur_be32(&c, option);
	wcur_be32(&c, type);
	wcur_be32(&c, len);
	assert(!c.bad);
}

void nbd_export_name_reply_put(uint8_t out[NBD_EXPORT_NAME_REPLY_BYTES], uint64_t size_bytes, uint16_t flags)
{
	struct wcur c = wcur_of(out, NBD_EXPORT_NAME_REPLY_BYTES);

	wcur_be64(&c, size_bytes);
	wcur_be16(&c, flags);
	assert(!c.bad);
}

uint16_t nbd_transmission_flags(const struct nbd_export_info *info, bool structured)
{
	unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE;

	if (info->read_only)
		flags |= NBD_FLAG_READ_ONLY;
	else
		flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
	if (info->rotational)
		flags |= NBD_FLAG_ROTATIONAL;
	if (info->multi_conn)
		flags |= NBD_FLAG_CAN_MULTI_CONN;
	if (structured) /* MUST be clear without structured replies */
		flags |= NBD_FLAG_SEND_DF;
	return (uint16_t)flags;
}

uint32_t nbd_open_error(int rc)
{
	switch (err_class(rc)) {
	case -EACCES:
	case -EPERM:
	case -EBUSY:
		return NBD_REP_ERR_POLICY;
	case -ESHUTDOWN:
		return NBD_REP_ERR_SHUTDOWN;
	case -EOVERFLOW:
		return NBD_REP_ERR_TOO_BIG;
	default: /* "not available" */
		return NBD_REP_ERR_UNKNOWN;
	}
}

uint32_t nbd_error_of(int rc, const struct nbd_request *r)
{
	if (rc >= 0)
		return 0;
	switch (err_class(rc)) {
	case -EPERM:
	case -EACCES:
	case -EROFS:
		return NBD_EPERM;
	case -ENOSPC:
	case -EDQUOT:
	case -EFBIG:
		return NBD_ENOSPC;
	case -ENOMEM:
		return NBD_ENOMEM;
	case -EINVAL:
	case -ERANGE:
		return NBD_EINVAL;
	case -ESHUTDOWN:
	case -ETIMEDOUT: /* too few bricks answered in time: not served now, which is not the same as not readable (EIO) */
		return NBD_ESHUTDOWN;
	case -EOPNOTSUPP: /* "Error values": ENOTSUP only for a fast zero */
		return r->cmd == NBD_CMD_WRITE_ZEROES && r->fast_zero ? NBD_ENOTSUP : NBD_EINVAL;
	default:
		return NBD_EIO;
	}
}

/* Room for one more head; the caller knows that it is there. */
static struct wcur chunk_open(struct nbd_reply *p, unsigned first_slice, unsigned slices, size_t head_len)
{
	assert(p->chunks < NBD_CHUNKS_MAX);
	unsigned at = p->chunks == 0 ? 0 : p->chunk[p->chunks - 1].head_at + p->chunk[p->chunks - 1].head_len;

	assert(at + head_len <= sizeof(p->heads));
	p->chunk[p->chunks++] = (struct nbd_chunk){
	    .head_at = (uint16_t)at,
	    .head_len = (uint16_t)head_len,
	    .first_slice = first_slice,
	    .slices = slices,
	};
	return wcur_of(p->heads + at, head_len);
}

static void put_simple(struct nbd_reply *p, const struct nbd_request *r, uint32_t error)
{
	struct wcur c = chunk_open(p, 0, p->data.n, NBD_SIMPLE_REPLY_BYTES);

	wcur_be32(&c, NBD_SIMPLE_REPLY_MAGIC);
	wcur_be32(&c, error);
	wcur_be64(&c, r->cookie);
	assert(!c.bad);
}

static void put_chunk_head(struct wcur *c, const struct nbd_request *r, bool done, unsigned type, size_t payload)
{
	wcur_be32(c, NBD_STRUCTURED_REPLY_MAGIC);
	wcur_be16(c, done ? NBD_REPLY_FLAG_DONE : 0);
	wcur_be16(c, (uint16_t)type);
	wcur_be64(c, r->cookie);
	wcur_be32(c, (uint32_t)payload);
}

void nbd_reply_ok(struct nbd_reply *p, const struct nbd_request *r, bool structured)
{
	/* "Simple reply message": allowed for everything but READ even when structured replies were negotiated. */
	if (!structured || r->cmd != NBD_CMD_READ)
		return put_simple(p, r, 0);
	struct wcur c = chunk_open(p, 0, 0, NBD_CHUNK_HEAD_BYTES);
	put_chunk_head(&c, r, true, NBD_REPLY_TYPE_NONE, 0);
	assert(!c.bad);
}

void nbd_reply_error(struct nbd_reply *p, const struct nbd_request *r, bool structured, uint32_t error,
		     const char *text)
{
	bufs_release(&p->data);
	p->chunks = 0;
	if (!structured)
		return put_simple(p, r, error);

	/* "NBD_REPLY_TYPE_ERROR" */
	size_t text_len = text ? min_u64(strlen(text), NBD_ERROR_TEXT_MAX) : 0;
	struct wcur c = chunk_open(p, 0, 0, NBD_CHUNK_HEAD_BYTES + 6 + text_len);
	put_chunk_head(&c, r, true, NBD_REPLY_TYPE_ERROR, 6 + text_len);
	wcur_be32(&c, error);
	wcur_be16(&c, (uint16_t)text_len);
	if (text_len > 0)
		wcur_copy(&c, text, text_len);
	assert(!c.bad);
}
_Static_assert(NBD_CHUNK_HEAD_BYTES + 6 + NBD_ERROR_TEXT_MAX <= NBD_HEADS_MAX, "an error fits");
_Static_assert(NBD_CHUNKS_MAX *(NBD_CHUNK_HEAD_BYTES + 12) <= NBD_HEADS_MAX, "all chunk heads fit");

struct run {
	unsigned first_slice, slices;
	size_t bytes;
	bool zero;
};

static bool slice_is_zero(const struct slice *s)
{
	return s->owner == NULL || s->len == 0;
}

/* The zeros (none, maybe) that start at slice `first`. */
static struct run zero_run(const struct bufs *v, unsigned first)
{
	struct run run = {.first_slice = first, .zero = true};

	for (unsigned i = first; i < v->n && slice_is_zero(&v->v[i]); i++) {
		run.bytes += v->v[i].len;
		run.slices++;
	}
	return run;
}

/* The slices from `first` that travel as one chunk: zeros worth a hole, or everything up to the next such zeros. */
static struct run next_run(const struct bufs *v, unsigned first)
{
	struct run run = {.first_slice = first};

	for (unsigned i = first; i < v->n; i = first + run.slices) {
		struct run zeros = zero_run(v, i);
		if (zeros.bytes >= NBD_HOLE_WORTH)
			return run.slices == 0 ? zeros : run;
		run.bytes += zeros.bytes;
		run.slices += zeros.slices;
		if (zeros.slices == 0) {
			run.bytes += v->v[i].len;
			run.slices++;
		}
	}
	return run;
}

static struct run whole_rest(const struct bufs *v, unsigned first)
{
	struct run run = {.first_slice = first, .slices = v->n - first, .zero = true};

	for (unsigned i = first; i < v->n; i++) {
		run.bytes += v->v[i].len;
		run.zero &= slice_is_zero(&v->v[i]);
	}
	return run;
}

static void put_run(struct nbd_reply *p, const struct nbd_request *r, const struct run *run, uint64_t off, bool done)
{
	struct wcur c;

	if (run->zero) {
		c = chunk_open(p, run->first_slice, 0, NBD_CHUNK_HEAD_BYTES + 12);
		put_chunk_head(&c, r, done, NBD_REPLY_TYPE_OFFSET_HOLE, 12);
		wcur_be64(&c, off);
		wcur_be32(&c, (uint32_t)run->bytes);
	} else {
		c = chunk_open(p, run->first_slice, run->slices, NBD_CHUNK_HEAD_BYTES + 8);
		put_chunk_head(&c, r, done, NBD_REPLY_TYPE_OFFSET_DATA, 8 + run->bytes);
		wcur_be64(&c, off);
	}
	assert(!c.bad);
}

void nbd_reply_read(struct nbd_reply *p, const struct nbd_request *r, bool structured)
{
	const struct bufs *v = &p->data;
	uint64_t off = r->off;

	assert(v->bytes == r->len);
	if (!structured)
		return put_simple(p, r, 0);
	if (r->len == 0)
		return nbd_reply_ok(p, r, true);
	/* DF: at most one content chunk. Otherwise the last chunk takes what is left. */
	for (unsigned at = 0; at < v->n;) {
		bool last = r->df || p->chunks == NBD_CHUNKS_MAX - 1;
		struct run run = last ? whole_rest(v, at) : next_run(v, at);
		at += run.slices;
		put_run(p, r, &run, off, at == v->n);
		off += run.bytes;
	}
	assert(off == r->off + r->len); /* P2 */
}

void nbd_reply_block_status(struct nbd_reply *p, const struct nbd_request *r)
{
	struct wcur c = chunk_open(p, 0, p->data.n, NBD_CHUNK_HEAD_BYTES + 4);

	put_chunk_head(&c, r, true, NBD_REPLY_TYPE_BLOCK_STATUS, 4 + p->data.bytes);
	wcur_be32(&c, NBD_META_ALLOCATION_ID);
	assert(!c.bad);
}
