/* execute.c - hands one validated request to the provider and turns what comes back into a reply.
 *
 * Invariants: X1 a request with `error` set never reaches the provider. X2 every task leaves with exactly one complete
 * reply, or none when the client is to ask elsewhere. */
#include "core/base/bytes.h"
#include "handlers/nbd/nbd_priv.h"

/* ---- BLOCK_STATUS: extents collected as descriptors ---- */

struct extents {
	struct wcur out;
	uint64_t want, covered;
	bool one;
	uint32_t last_len, last_flags; /* last_len 0: none yet */
};

static void extents_close_last(struct extents *x)
{
	wcur_be32(&x->out, x->last_len);
	wcur_be32(&x->out, x->last_flags);
	x->last_len = 0;
}

/* Returns 1 when nothing more is wanted. */
static int extents_emit(void *arg, uint64_t len, bool data)
{
	struct extents *x = arg;
	uint32_t flags = data ? 0 : NBD_STATE_HOLE | NBD_STATE_ZERO;

	len = min_u64(len, x->want - x->covered);
	if (len == 0)
		return x->covered == x->want;
	if (x->last_len > 0 && x->last_flags != flags) {
		/* One descriptor is always kept free for the last extent. */
		if (x->one || x->out.left < 2 * NBD_EXTENT_BYTES)
			return 1;
		extents_close_last(x);
	}
	x->last_len += (uint32_t)len; /* covered <= want <= UINT32_MAX */
	x->last_flags = flags;
	x->covered += len;
	return x->covered == x->want;
}

static int run_block_status(struct nbd_task *t) YIELDS
{
	struct nbd_session *s = t->session;
	struct nbd_request *r = &t->req;
	struct buf *b = buf_alloc(NBD_STATUS_BYTES);
	if (!b)
		return -ENOMEM;

	struct extents x = {.out = wcur_of(b->data, NBD_STATUS_BYTES), .want = r->len, .one = r->req_one};
	int rc = s->server->cfg.provider.extents(s->agreed.export, r->off, r->len, r->req_one, extents_emit, &x);
	if (rc >= 0) {
		/* At least one descriptor is owed; calling it data is always right. */
		if (x.covered == 0)
			extents_emit(&x, r->len, true);
		extents_close_last(&x);
		assert(!x.out.bad);
		rc = bufs_add(&t->reply.data, b, b->data, x.out.used);
	}
	buf_unref(b);
	return rc;
}

/* ---- the other commands ---- */

static int run_read(struct nbd_task *t) YIELDS
{
	struct nbd_session *s = t->session;
	struct bufs *out = &t->reply.data;

	int rc = s->server->cfg.provider.read(s->agreed.export, t->req.off, t->req.len, out);
	if (rc < 0)
		return rc;
	s->info.reads++;
	s->info.bytes_read += t->req.len;
	return out->bytes == t->req.len ? 0 : -EIO;
}

static int run_write(struct nbd_task *t) YIELDS
{
	struct nbd_session *s = t->session;
	struct iov data = {.v = &t->data, .n = 1, .owner = t->payload};

	int rc = s->server->cfg.provider.write(s->agreed.export, t->req.off, data, t->req.fua);
	s->info.writes++;
	s->info.bytes_written += t->req.len;
	return rc;
}

static int run(struct nbd_task *t) YIELDS
{
	const struct nbd_provider *p = &t->session->server->cfg.provider;
	struct nbd_export *x = t->session->agreed.export;
	const struct nbd_request *r = &t->req;

	/* A length of 0 is "unspecified": nothing is done, successfully. */
	if (r->len == 0 && r->cmd != NBD_CMD_FLUSH)
		return 0;
	switch (r->cmd) {
	case NBD_CMD_READ:
		return run_read(t);
	case NBD_CMD_WRITE:
		return run_write(t);
	case NBD_CMD_FLUSH:
		return p->flush(x);
	case NBD_CMD_TRIM:
		return p->trim(x, r->off, r->len, r->fua);
	case NBD_CMD_CACHE:
		return p->cache(x, r->off, r->len);
	case NBD_CMD_WRITE_ZEROES:
		return p->zero(x, r->off, r->len, r->fua, !r->no_hole);
	case NBD_CMD_BLOCK_STATUS:
		return run_block_status(t);
	default:
		return -EINVAL; /* DISC never becomes a task */
	}
}

bool nbd_task_execute(struct nbd_task *t) YIELDS
{
	struct nbd_session *s = t->session;
	bool structured = s->agreed.structured;
	uint32_t error = t->req.error;
	const char *why = t->req.why;

	if (!error && s->draining) {
		/* "Terminating the transmission phase" would have it answered ESHUTDOWN. To the kernel's client any error is the
		 * disk's last word, while after a lost connection it repeats the request: so there is no answer (hung_up). */
		error = NBD_ESHUTDOWN;
		why = "the server is shutting down";
	}
	if (!error) { /* X1 */
		int rc = run(t);
		error = nbd_error_of(rc, &t->req);
		why = rc < 0 ? err_name(rc) : NULL;
	}
	buf_unref(t->payload);
	t->payload = NULL;

	if (error && s->hung_up)
		return false;
	if (error)
		nbd_reply_error(&t->reply, &t->req, structured, error, why);
	else if (t->req.cmd == NBD_CMD_READ)
		nbd_reply_read(&t->reply, &t->req, structured);
	else if (t->req.cmd == NBD_CMD_BLOCK_STATUS)
		nbd_reply_block_status(&t->reply, &t->req);
	else
		nbd_reply_ok(&t->reply, &t->req, structured);
	return true;
}
