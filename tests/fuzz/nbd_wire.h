/* nbd_wire.h - an NBD session fed from memory, for the fuzz targets: no socket, no kernel, one input in some
 * microseconds.
 *
 * The provider checks what the session promises it: ranges inside the export, lengths within the maximum, open before
 * use. */
#ifndef MYFS_FUZZ_NBD_WIRE_H
#define MYFS_FUZZ_NBD_WIRE_H

#include "handlers/nbd/nbd_priv.h"

#define FUZZ_EXPORT_BYTES 70000u
#define FUZZ_PAYLOAD_MAX  20000u

/* Allowed in every build: a broken promise must end the program. */
#define MUST(cond) ((cond) ? (void)0 : abort())

struct nbd_export {
	unsigned opened;
};

static struct {
	struct nbd_export export;
	struct buf *image;
	uint8_t step; /* provider's little decisions: fail, suspend */
	unsigned running;
} fuzz;

static int fuzz_step(struct nbd_export *x, uint64_t off, uint64_t len, uint64_t most) YIELDS
{
	MUST(x->opened == 1 && len <= most && range_inside(off, len, FUZZ_EXPORT_BYTES));
	fuzz.running++;
	fuzz.step = (uint8_t)(fuzz.step * 5 + 3);
	if (fuzz.step & 1)
		fiber_yield();
	MUST(x->opened == 1);
	fuzz.running--;
	return fuzz.step % 16 == 7 ? -EIO : 0;
}

static int fuzz_list(void *arg, const struct stream *peer,
		     void (*emit)(void *emit_arg, const char *name, const char *description), void *emit_arg)
{
	(void)peer;
	(void)arg;
	emit(emit_arg, "vol/lun", "text");
	return 0;
}

static int fuzz_info(void *arg, const char *name, const struct stream *peer, struct nbd_export_info *info,
		     struct err *e)
{
	(void)arg, (void)peer;
	if (strcmp(name, "vol/lun") != 0)
		return err_set(e, -ENOENT, "no such export");
	*info = (struct nbd_export_info){.size_bytes = FUZZ_EXPORT_BYTES, .multi_conn = true};
	return 0;
}

static int fuzz_open(void *arg, const char *name, const struct stream *peer, struct nbd_export **ret,
		     struct nbd_export_info *info, struct err *e)
{
	int rc = fuzz_info(arg, name, peer, info, e);

	if (rc == 0) {
		*ret = &fuzz.export;
		fuzz.export.opened++;
	}
	return rc;
}

static void fuzz_close(struct nbd_export *x)
{
	MUST(x->opened == 1 && fuzz.running == 0);
	x->opened--;
}

static int fuzz_read(struct nbd_export *x, uint64_t off, uint32_t len, struct bufs *out) YIELDS
{
	/* Every other 8 KiB is a hole. */
	for (uint64_t at = off; at < off + len;) {
		uint64_t piece = min_u64(off + len - at, 8192 - at % 8192);
		int rc = at / 8192 % 2 ? bufs_add_zeros(out, piece)
				       : bufs_add(out, fuzz.image, fuzz.image->data + at, piece);
		MUST(rc == 0);
		at += piece;
	}
	return fuzz_step(x, off, len, FUZZ_PAYLOAD_MAX);
}

static int fuzz_write(struct nbd_export *x, uint64_t off, struct iov data, bool fua) YIELDS
{
	size_t len = iov_bytes(data);
	int rc = fuzz_step(x, off, len, FUZZ_PAYLOAD_MAX);

	(void)fua;
	iov_copy_out(data, 0, fuzz.image->data + off, len);
	return rc;
}

static int fuzz_flush(struct nbd_export *x) YIELDS
{
	return fuzz_step(x, 0, 0, 0);
}

static int fuzz_trim(struct nbd_export *x, uint64_t off, uint64_t len, bool fua) YIELDS
{
	(void)fua;
	return fuzz_step(x, off, len, UINT32_MAX);
}

static int fuzz_zero(struct nbd_export *x, uint64_t off, uint64_t len, bool fua, bool may_trim) YIELDS
{
	(void)fua, (void)may_trim;
	return fuzz_step(x, off, len, UINT32_MAX);
}

static int fuzz_cache(struct nbd_export *x, uint64_t off, uint64_t len) YIELDS
{
	return fuzz_step(x, off, len, UINT32_MAX);
}

static int fuzz_extents(struct nbd_export *x, uint64_t off, uint64_t len, bool one,
			int (*emit)(void *emit_arg, uint64_t len, bool data), void *emit_arg) YIELDS
{
	(void)one;
	for (uint64_t at = off; at < off + len; at += 100)
		if (emit(emit_arg, 100, at / 300 % 2))
			break;
	return fuzz_step(x, off, len, UINT32_MAX);
}

/* ---- a stream that says the input and hears anything ---- */

struct wire {
	struct stream s;
	const uint8_t *at;
	size_t left, most; /* most: longest receive */
	bool down;
	uint64_t heard;
};

static ssize_t wire_recv(struct stream *s, void *dst, size_t cap)
{
	struct wire *w = CONTAINER_OF(s, struct wire, s);
	size_t n = min_u64(min_u64(cap, w->left), w->most);

	if (w->down)
		return -ECONNRESET;
	memcpy(dst, w->at, n);
	w->at += n;
	w->left -= n;
	return (ssize_t)n;
}

static int wire_send(struct stream *s, const struct iovec *v, unsigned n)
{
	struct wire *w = CONTAINER_OF(s, struct wire, s);

	for (unsigned i = 0; i < n; i++) {
		const volatile uint8_t *p = v[i].iov_base;
		for (size_t j = 0; j < v[i].iov_len; j += 512)
			(void)p[j]; /* a sanitizer sees a freed payload */
		w->heard += v[i].iov_len;
	}
	return w->down ? -ECONNRESET : 0;
}

static void wire_shutdown(struct stream *s)
{
	CONTAINER_OF(s, struct wire, s)->down = true;
}

static void wire_close(struct stream *s)
{
	free(CONTAINER_OF(s, struct wire, s));
}

static const struct stream_ops wire_ops = {wire_recv, wire_send, wire_shutdown, wire_close};

struct fuzz_run {
	const uint8_t *data;
	size_t len, most;
	bool tls_require;
};

static void fuzz_fiber(void *arg)
{
	const struct fuzz_run *run = arg;
	struct nbd_server_config cfg = {
	    .provider = {fuzz_list, fuzz_open, fuzz_info, fuzz_close, fuzz_read, fuzz_write, fuzz_flush, fuzz_trim,
			 fuzz_zero, fuzz_cache, fuzz_extents, NULL},
	    .max_requests = 5,
	    .max_request_bytes = FUZZ_PAYLOAD_MAX,
	    .tls_require = run->tls_require,
	};
	struct nbd_server *server = NULL;
	struct wire *w = calloc(1, sizeof(*w));

	MUST(w && nbd_server_new(&cfg, &server) == 0);
	w->s.ops = &wire_ops;
	w->at = run->data;
	w->left = run->len;
	w->most = run->most;
	MUST(nbd_server_serve(server, &w->s) == 0);
	while (server->session_count > 0)
		fiber_yield();
	MUST(fuzz.export.opened == 0 && server->running_bytes == 0);
	nbd_server_free(server);
}

/* One session from greeting to end. */
static void fuzz_session(const struct fuzz_run *run)
{
	static struct loop *loop;
	struct fuzz_run copy = *run;

	if (!loop) {
		MUST(loop_new(&(struct loop_options){.backend = LOOP_EPOLL}, &loop, NULL) == 0);
		fuzz.image = buf_alloc(FUZZ_EXPORT_BYTES);
		MUST(fuzz.image);
		memset(fuzz.image->data, 7, FUZZ_EXPORT_BYTES);
	}
	fuzz.step = 0;
	MUST(loop_run_fiber(loop, "fuzz", fuzz_fiber, &copy) == 0);
}

#endif
