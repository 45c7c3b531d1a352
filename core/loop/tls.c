/* tls.c - TLS streams through GnuTLS, with GnuTLS kept away from I/O.
 *
 *   recv:  inner stream -> in[] -> pull() -> gnutls_record_recv -> caller
 *   send:  caller -> gather[] -> gnutls_record_send -> push() -> out[] -> inner stream
 *
 * GnuTLS only ever copies from in[] and to out[]; the fiber does the I/O between its calls. So no fiber is suspended
 * inside GnuTLS (which holds locks there), and a receiving and a sending fiber can share one session.
 *
 * Invariants: T1 in[] and out[] start empty: nothing that arrived in clear is taken for ciphertext. T2 one fiber at a
 * time sends out[] (`sending`); bytes appended meanwhile are its to send. T3 after a fatal error the session is not
 * used again. T4 credentials live until the last stream that uses them is closed. An end of the inner stream without
 * TLS's closing alert is reported as -ECONNRESET: somebody may have cut it. */
#include "core/base/buf.h"
#include "core/loop/loop.h"
#include "core/loop/tls_priv.h"

#define RECORD_BYTES 16384u
#define IN_BYTES (64u * 1024u)
#define OUT_BYTES (256u * 1024u)
#define OUT_FLUSH (OUT_BYTES - 4u * RECORD_BYTES) /* above this out[] is sent before more is encrypted */

struct tls_stream {
	struct stream base;
	struct stream *inner;
	struct tls_creds *creds;
	gnutls_session_t session;
	bool ended;             /* the inner stream has nothing more to give */
	bool broken;            /* T3 */
	struct fmutex sending;  /* T2 */
	struct buf *in, *out, *gather;
	size_t in_start, in_end, out_len;
};

/* ---- between GnuTLS and the inner stream ---- */

static ssize_t pull(gnutls_transport_ptr_t p, void *dst, size_t cap)
{
	struct tls_stream *t = p;

	if (t->in_start == t->in_end) {
		if (t->ended)
			return 0;
		gnutls_transport_set_errno(t->session, EAGAIN);
		return -1;
	}
	size_t n = min_u64(cap, t->in_end - t->in_start);
	memcpy(dst, t->in->data + t->in_start, n);
	t->in_start += n;
	return (ssize_t)n;
}

static ssize_t push(gnutls_transport_ptr_t p, const void *src, size_t len)
{
	struct tls_stream *t = p;

	if (len > OUT_BYTES - t->out_len) {
		gnutls_transport_set_errno(t->session, ENOBUFS);
		return -1;
	}
	memcpy(t->out->data + t->out_len, src, len);
	t->out_len += len;
	return (ssize_t)len;
}

/* GnuTLS says "again" both when in[] is empty and after it has handled a message that is not data. True when only
 * more ciphertext can help: in[] is empty, or nothing was taken from it since `before`. */
static bool tls_starved(const struct tls_stream *t, size_t before)
{
	return t->in_start == t->in_end || t->in_start == before;
}

/* Receives ciphertext. 0 (also at the end of the stream) or -errno. */
static int tls_fill(struct tls_stream *t) YIELDS
{
	t->in_end -= t->in_start;
	memmove(t->in->data, t->in->data + t->in_start, t->in_end);
	t->in_start = 0;
	if (t->in_end == IN_BYTES)
		return -EPROTO; /* more than any record holds, and GnuTLS wants none of it */
	ssize_t n = stream_recv(t->inner, t->in->data + t->in_end, IN_BYTES - t->in_end);
	if (n < 0)
		return (int)n;
	t->in_end += (size_t)n;
	t->ended = n == 0;
	return 0;
}

/* Sends out[]; the caller holds `sending`. */
static int tls_flush_locked(struct tls_stream *t) YIELDS
{
	while (t->out_len > 0) {
		struct iovec v = {.iov_base = t->out->data, .iov_len = t->out_len};
		int rc = stream_send(t->inner, &v, 1);
		if (rc != 0) {
			t->broken = true;
			return rc;
		}
		t->out_len -= v.iov_len;
		memmove(t->out->data, t->out->data + v.iov_len, t->out_len); /* what was appended meanwhile */
	}
	return 0;
}

/* Sends what GnuTLS produced by itself while receiving (alerts, key updates), unless a sender will (T2). */
static void tls_flush_own(struct tls_stream *t) YIELDS
{
	if (t->out_len == 0 || t->sending.held || t->broken)
		return;
	fmutex_lock(&t->sending);
	(void)tls_flush_locked(t); /* a failure shows at the next use */
	fmutex_unlock(&t->sending);
}

/* ---- the stream ---- */

static int tls_errno(const struct tls_stream *t, ssize_t gnutls_rc)
{
	if (gnutls_rc == GNUTLS_E_PREMATURE_TERMINATION || t->ended)
		return -ECONNRESET;
	return gnutls_rc == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EPROTO;
}

/* Decrypts what is in in[]. Bytes, 0 = closed by alert, -EAGAIN = more ciphertext needed, or -errno. */
static ssize_t tls_decrypt(struct tls_stream *t, uint8_t *dst, size_t cap)
{
	for (;;) {
		size_t before = t->in_start;
		ssize_t n = gnutls_record_recv(t->session, dst, cap);
		if (n >= 0)
			return n;
		if (n == GNUTLS_E_AGAIN && tls_starved(t, before))
			return -EAGAIN;
		if (gnutls_error_is_fatal((int)n)) {
			t->broken = true;
			return tls_errno(t, n);
		}
	}
}

static ssize_t tls_recv(struct stream *s, void *dst, size_t cap)
{
	struct tls_stream *t = CONTAINER_OF(s, struct tls_stream, base);
	size_t got = 0;

	while (!t->broken) {
		ssize_t n = tls_decrypt(t, (uint8_t *)dst + got, cap - got);
		if (n > 0)
			got += (size_t)n;
		if (n > 0 && got < cap)
			continue; /* whatever more has already arrived */
		tls_flush_own(t);
		if (got > 0)
			return (ssize_t)got; /* an end or an error shows at the next call */
		if (n != -EAGAIN)
			return n;
		int rc = tls_fill(t);
		if (rc != 0)
			return rc;
	}
	return -ECONNRESET;
}

/* One record from len <= RECORD_BYTES bytes; sends out[] first when it is nearly full. */
static int tls_encrypt(struct tls_stream *t, const uint8_t *p, size_t len) YIELDS
{
	if (t->out_len > OUT_FLUSH) {
		int rc = tls_flush_locked(t);
		if (rc != 0)
			return rc;
	}
	while (len > 0) {
		ssize_t n = gnutls_record_send(t->session, p, len);
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		} else if (gnutls_error_is_fatal((int)n) || n == 0) {
			t->broken = true;
			return tls_errno(t, n);
		}
	}
	return 0;
}

/* Small pieces are gathered into full records, so that a batch of frames costs one record; large ones are encrypted
 * in place. */
static int tls_send_locked(struct tls_stream *t, const struct iovec *v, unsigned n) YIELDS
{
	uint8_t *gather = t->gather->data;
	size_t gathered = 0;

	for (unsigned i = 0; i < n; i++) {
		const uint8_t *p = v[i].iov_base;
		size_t left = v[i].iov_len;
		while (left > 0 && !t->broken) {
			bool direct = gathered == 0 && left >= RECORD_BYTES;
			size_t piece = min_u64(left, RECORD_BYTES - gathered);
			if (!direct)
				memcpy(gather + gathered, p, piece);
			gathered += piece;
			if (gathered == RECORD_BYTES) {
				int rc = tls_encrypt(t, direct ? p : gather, gathered);
				if (rc != 0)
					return rc;
				gathered = 0;
			}
			p += piece;
			left -= piece;
		}
	}
	int rc = gathered > 0 ? tls_encrypt(t, gather, gathered) : 0;
	return rc != 0 ? rc : tls_flush_locked(t);
}

static int tls_send(struct stream *s, const struct iovec *v, unsigned n)
{
	struct tls_stream *t = CONTAINER_OF(s, struct tls_stream, base);

	fmutex_lock(&t->sending);
	int rc = t->broken ? -ECONNRESET : tls_send_locked(t, v, n);
	fmutex_unlock(&t->sending);
	return rc;
}

static void tls_shutdown(struct stream *s)
{
	struct tls_stream *t = CONTAINER_OF(s, struct tls_stream, base);

	t->broken = true;
	stream_shutdown(t->inner);
}

static void tls_free(struct tls_stream *t)
{
	if (t->session)
		gnutls_deinit(t->session);
	buf_unref(t->in);
	buf_unref(t->out);
	buf_unref(t->gather);
	tls_creds_free(t->creds);
	free(t);
}

static void tls_close(struct stream *s)
{
	struct tls_stream *t = CONTAINER_OF(s, struct tls_stream, base);

	stream_close(t->inner);
	tls_free(t);
}

static const struct stream_ops tls_ops = {
    .recv = tls_recv, .send = tls_send, .shutdown = tls_shutdown, .close = tls_close};

void tls_goodbye(struct stream *s)
{
	if (s->ops != &tls_ops)
		return;

	struct tls_stream *t = CONTAINER_OF(s, struct tls_stream, base);
	fmutex_lock(&t->sending);
	if (!t->broken && gnutls_bye(t->session, GNUTLS_SHUT_WR) == GNUTLS_E_SUCCESS)
		(void)tls_flush_locked(t); /* the stream ends here either way */
	fmutex_unlock(&t->sending);
}

/* ---- handshake ---- */

static int tls_new(struct stream *inner, struct tls_creds *c, bool server, struct tls_stream **ret, struct err *e)
{
	struct tls_stream *t = calloc(1, sizeof(*t));
	if (!t)
		return err_set(e, -ENOMEM, "TLS: out of memory");
	t->creds = tls_creds_ref(c);
	t->inner = inner;
	t->base = *inner; /* peer's description */
	t->base.ops = &tls_ops;
	t->base.is_tls = true;
	fmutex_init(&t->sending);
	t->in = buf_alloc(IN_BYTES);
	t->out = buf_alloc(OUT_BYTES);
	t->gather = buf_alloc(RECORD_BYTES);

	int rc = t->in && t->out && t->gather ? 0 : GNUTLS_E_MEMORY_ERROR;
	if (rc == 0) /* no session tickets: nobody resumes, and they would arrive in the middle of data */
		rc = gnutls_init(&t->session, (server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK |
						  GNUTLS_NO_TICKETS | GNUTLS_NO_SIGNAL);
	if (rc == 0)
		rc = tls_creds_attach(c, t->session, server);
	if (rc != 0) {
		tls_free(t);
		return tls_creds_fail(e, rc, "TLS");
	}
	gnutls_transport_set_ptr(t->session, t);
	gnutls_transport_set_pull_function(t->session, pull);
	gnutls_transport_set_push_function(t->session, push);
	gnutls_handshake_set_timeout(t->session, 0); /* the deadline below rules */
	*ret = t;
	return 0;
}

/* Why the peer's certificate or a handshake step was refused, in words. */
static int handshake_fail(struct tls_stream *t, int gnutls_rc, struct err *e)
{
	if (gnutls_rc == GNUTLS_E_FATAL_ALERT_RECEIVED)
		return err_set(e, -EACCES, "TLS handshake with %s: refused by the peer (%s)", t->base.peer,
			       gnutls_alert_get_name(gnutls_alert_get(t->session)));
	if (gnutls_rc == GNUTLS_E_PREMATURE_TERMINATION || t->ended)
		return err_set(e, -ECONNRESET,
			       "TLS handshake with %s: connection closed; does the peer hold the same key?",
			       t->base.peer);
	return err_set(e, -EACCES, "TLS handshake with %s: %s", t->base.peer, gnutls_strerror(gnutls_rc));
}

static int tls_handshake(struct tls_stream *t, struct err *e) YIELDS
{
	for (;;) {
		size_t before = t->in_start;
		int g = gnutls_handshake(t->session);
		if (g < 0 && gnutls_error_is_fatal(g))
			gnutls_alert_send_appropriate(t->session, g); /* tell the peer why */
		fmutex_lock(&t->sending);
		int rc = tls_flush_locked(t);
		fmutex_unlock(&t->sending);
		if (g == 0 && rc == 0)
			return 0;
		if (g < 0 && gnutls_error_is_fatal(g))
			return handshake_fail(t, g, e);
		if (rc == 0 && g == GNUTLS_E_AGAIN && tls_starved(t, before))
			rc = tls_fill(t);
		if (rc != 0)
			return err_set(e, rc, "TLS handshake with %s: %s", t->base.peer, err_name(rc));
	}
}

struct handshake_deadline {
	struct timer timer;
	struct stream *stream;
	bool passed;
};

static void handshake_deadline_passed(void *arg)
{
	struct handshake_deadline *d = arg;

	d->passed = true;
	stream_shutdown(d->stream);
}

static int tls_start(struct stream **s, struct tls_creds *c, bool server, uint64_t deadline_ns, struct err *e) YIELDS
{
	struct tls_stream *t = NULL;
	struct handshake_deadline d = {.stream = *s};

	int rc = tls_new(*s, c, server, &t, e);
	if (rc == 0) {
		timer_init(&d.timer, handshake_deadline_passed, &d);
		if (deadline_ns != UINT64_MAX)
			timer_arm(&d.timer, deadline_ns);
		rc = tls_handshake(t, e);
		timer_cancel(&d.timer);
		if (rc != 0 && d.passed)
			rc = err_set(e, -ETIMEDOUT, "TLS handshake with %s: took too long", t->base.peer);
		if (rc != 0)
			tls_free(t);
	}
	if (rc != 0) {
		stream_close(*s);
		*s = NULL;
		return rc;
	}
	*s = &t->base;
	return 0;
}

int tls_server_start(struct stream **s, struct tls_creds *c, uint64_t deadline_ns, struct err *e)
{
	return tls_start(s, c, true, deadline_ns, e);
}

int tls_client_start(struct stream **s, struct tls_creds *c, uint64_t deadline_ns, struct err *e)
{
	if (c->kind != CREDS_PSK) {
		stream_close(*s);
		*s = NULL;
		return err_set(e, -EINVAL, "TLS: these credentials are for a server");
	}
	return tls_start(s, c, false, deadline_ns, e);
}
