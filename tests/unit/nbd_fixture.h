/* nbd_fixture.h - a provider that does as the test says, and a client that speaks NBD byte by byte.
 *
 * Both run as fibers on the loop of the test; the client is one end of a socketpair whose other end the server serves.
 */
#ifndef MYFS_TEST_NBD_FIXTURE_H
#define MYFS_TEST_NBD_FIXTURE_H

#include <sys/socket.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "handlers/nbd/nbd_priv.h"
#include "loop_fixture.h"

#define IMAGE_BYTES MIB(2)

/* ---- provider ---- */

struct nbd_export {
	int opened;
};

static struct {
	struct nbd_export export;
	uint8_t image[IMAGE_BYTES];
	unsigned exports; /* "a/0", "a/1" ... */
	bool read_only, no_trim_seen;
	bool hold; /* requests wait for release_held() */
	struct waitq held;
	unsigned running, most_running, done, closes, opens;
	int rc;                      /* what the next requests return */
	uint64_t hole_from, hole_to; /* read returns zeros there, extents say hole */
	bool last_fua;
} script;

static inline void script_reset(void)
{
	struct waitq *q = &script.held;

	memset(&script, 0, sizeof(script));
	waitq_init(q);
	script.exports = 1;
}

static inline void release_held(void)
{
	script.hold = false;
	waitq_wake_all(&script.held);
}

static inline int script_step(void) YIELDS
{
	script.running++;
	if (script.running > script.most_running)
		script.most_running = script.running;
	while (script.hold)
		waitq_wait(&script.held);
	script.running--;
	script.done++;
	return script.rc;
}

static inline int script_list(void *arg, const struct stream *peer,
			      void (*emit)(void *emit_arg, const char *name, const char *description), void *emit_arg)
{
	(void)peer;
	(void)arg;
	for (unsigned i = 0; i < script.exports; i++) {
		char name[16];
		snprintf(name, sizeof(name), "a/%u", i);
		emit(emit_arg, name, i % 2 ? "odd" : "");
	}
	return script.rc;
}

static inline int script_info(void *arg, const char *name, const struct stream *peer, struct nbd_export_info *info,
			      struct err *e)
{
	char *end = NULL;

	(void)arg, (void)peer;
	if (strcmp(name, "a/locked") == 0)
		return err_set(e, -EBUSY, "in use by gateway gw2 since noon");
	if (strncmp(name, "a/", 2) != 0 || strtoul(name + 2, &end, 10) >= script.exports || end == name + 2 || *end)
		return err_set(e, -ENOENT, "no such LUN");
	*info = (struct nbd_export_info){
	    .size_bytes = IMAGE_BYTES, .read_only = script.read_only, .description = "scripted"};
	return 0;
}

static inline int script_open(void *arg, const char *name, const struct stream *peer, struct nbd_export **ret,
			      struct nbd_export_info *info, struct err *e)
{
	int rc = script_info(arg, name, peer, info, e);

	if (rc == 0) {
		*ret = &script.export;
		script.opens++;
	}
	return rc;
}

static inline void script_close(struct nbd_export *x)
{
	assert(x == &script.export);
	script.closes++;
}

static struct buf *image_buf; /* the image as a buf, so that reads lend slices */

static inline int script_read(struct nbd_export *x, uint64_t off, uint32_t len, struct bufs *out) YIELDS
{
	(void)x;
	while (len > 0) {
		bool hole = off >= script.hole_from && off < script.hole_to;
		uint64_t until = hole ? script.hole_to : off < script.hole_from ? script.hole_from : IMAGE_BYTES;
		uint32_t piece = (uint32_t)min_u64(len, until - off);
		int rc = hole ? bufs_add_zeros(out, piece) : bufs_add(out, image_buf, script.image + off, piece);
		if (rc != 0)
			return rc;
		off += piece;
		len -= piece;
	}
	return script_step();
}

static inline int script_write(struct nbd_export *x, uint64_t off, struct iov data, bool fua) YIELDS
{
	int rc = script_step();

	(void)x;
	script.last_fua = fua;
	if (rc == 0)
		iov_copy_out(data, 0, script.image + off,
			     iov_bytes(data)); /* after the wait: the payload must still be there */
	return rc;
}

static inline int script_flush(struct nbd_export *x) YIELDS
{
	(void)x;
	return script_step();
}

static inline int script_trim(struct nbd_export *x, uint64_t off, uint64_t len, bool fua) YIELDS
{
	(void)x, (void)off, (void)len;
	script.last_fua = fua;
	return script_step();
}

static inline int script_zero(struct nbd_export *x, uint64_t off, uint64_t len, bool fua, bool may_trim) YIELDS
{
	(void)x;
	script.last_fua = fua;
	script.no_trim_seen = !may_trim;
	memset(script.image + off, 0, len);
	return script_step();
}

static inline int script_cache(struct nbd_export *x, uint64_t off, uint64_t len) YIELDS
{
	(void)x, (void)off, (void)len;
	return script_step();
}

/* One extent per 4 KiB: neighbours of one kind are the session's to join. */
static inline int script_extents(struct nbd_export *x, uint64_t off, uint64_t len, bool one,
				 int (*emit)(void *emit_arg, uint64_t len, bool data), void *emit_arg) YIELDS
{
	(void)x, (void)one;
	while (len > 0) {
		uint64_t piece = min_u64(len, 4096 - off % 4096);
		int enough = emit(emit_arg, piece, !(off >= script.hole_from && off < script.hole_to));
		if (enough)
			break;
		off += piece;
		len -= piece;
	}
	return script_step();
}

static inline struct nbd_server_config script_config(void)
{
	return (struct nbd_server_config){
	    .provider = {script_list, script_open, script_info, script_close, script_read, script_write, script_flush,
			 script_trim, script_zero, script_cache, script_extents, NULL},
	};
}

/* ---- client ---- */

static inline struct stream *server_and_client(struct nbd_server *server)
{
	int fds[2];
	struct stream *mine = NULL, *theirs = NULL;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	CHECK(stream_from_fd(fds[0], &mine, NULL) == 0);
	CHECK(stream_from_fd(fds[1], &theirs, NULL) == 0);
	CHECK(nbd_server_serve(server, theirs) == 0);
	return mine;
}

static inline void say(struct stream *c, const void *bytes, size_t len) YIELDS
{
	struct iovec v = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};

	CHECK(stream_send(c, &v, 1) == 0);
}

static inline void hear(struct stream *c, void *dst, size_t len) YIELDS
{
	CHECK(stream_recv_full(c, dst, len) == 0);
}

static inline void hear_exactly(struct stream *c, const void *bytes, size_t len) YIELDS
{
	uint8_t got[1024];

	CHECK(len <= sizeof(got));
	hear(c, got, len);
	CHECK(memcmp(got, bytes, len) == 0);
}

static inline void hear_end(struct stream *c) YIELDS
{
	uint8_t byte;

	CHECK(stream_recv(c, &byte, 1) <= 0);
}

#define SAY(c, text)  say(c, text, sizeof(text) - 1)
#define HEAR(c, text) hear_exactly(c, text, sizeof(text) - 1)

static inline void greet(struct stream *c, uint32_t flags) YIELDS
{
	uint8_t b[4];
	struct wcur w = wcur_of(b, sizeof(b));

	HEAR(c, "NBDMAGICIHAVEOPT\0\3");
	wcur_be32(&w, flags);
	say(c, b, sizeof(b));
}

static inline void say_option(struct stream *c, uint32_t id, const void *data, uint32_t len) YIELDS
{
	uint8_t b[NBD_OPTION_HEAD_BYTES];
	struct wcur w = wcur_of(b, sizeof(b));

	wcur_be64(&w, NBD_OPTION_MAGIC);
	wcur_be32(&w, id);
	wcur_be32(&w, len);
	say(c, b, sizeof(b));
	if (len > 0)
		say(c, data, len);
}

/* The type of the next option reply; its data goes to data (at most cap), its length to *len. */
static inline uint32_t hear_option(struct stream *c, uint32_t id, void *data, size_t cap, uint32_t *len) YIELDS
{
	uint8_t b[NBD_OPTION_REPLY_HEAD_BYTES];

	hear(c, b, sizeof(b));
	struct rcur r = rcur_of(b, sizeof(b));
	CHECK(rcur_be64(&r) == NBD_OPTION_REPLY_MAGIC);
	CHECK(rcur_be32(&r) == id);
	uint32_t type = rcur_be32(&r);
	*len = rcur_be32(&r);
	CHECK(*len <= cap);
	hear(c, data, *len);
	return type;
}

/* Skips informational replies, returns the final one. */
static inline uint32_t option(struct stream *c, uint32_t id, const void *data, uint32_t len) YIELDS
{
	uint8_t got[5000];
	uint32_t n, type;

	say_option(c, id, data, len);
	do {
		type = hear_option(c, id, got, sizeof(got), &n);
	} while (type > NBD_REP_ACK && type < NBD_REP_ERR_UNSUP);
	return type;
}

#define OPTION(c, id, text) option(c, id, text, sizeof(text) - 1)
#define GO_FIRST            "\0\0\0\3a/0\0\0"

/* A client that got as far as transmission on "a/0". */
static inline struct stream *connected(struct nbd_server *server, bool structured) YIELDS
{
	struct stream *c = server_and_client(server);

	greet(c, 3);
	if (structured) {
		CHECK(option(c, NBD_OPT_STRUCTURED_REPLY, NULL, 0) == NBD_REP_ACK);
		CHECK(OPTION(c, NBD_OPT_SET_META_CONTEXT,
			     "\0\0\0\3a/0\0\0\0\1\0\0\0\xf"
			     "base:allocation") == NBD_REP_ACK);
	}
	CHECK(OPTION(c, NBD_OPT_GO, GO_FIRST) == NBD_REP_ACK);
	return c;
}

static inline void put_request(uint8_t out[NBD_REQUEST_BYTES], unsigned flags, unsigned type, uint64_t cookie,
			       uint64_t off, uint32_t len)
{
	struct wcur w = wcur_of(out, NBD_REQUEST_BYTES);

	wcur_be32(&w, NBD_REQUEST_MAGIC);
	wcur_be16(&w, (uint16_t)flags);
	wcur_be16(&w, (uint16_t)type);
	wcur_be64(&w, cookie);
	wcur_be64(&w, off);
	wcur_be32(&w, len);
}

static inline void request(struct stream *c, unsigned flags, unsigned type, uint64_t cookie, uint64_t off,
			   uint32_t len) YIELDS
{
	uint8_t b[NBD_REQUEST_BYTES];

	put_request(b, flags, type, cookie, off, len);
	say(c, b, sizeof(b));
}

/* The error of the next reply, which must be a simple one for cookie. */
static inline uint32_t simple(struct stream *c, uint64_t cookie) YIELDS
{
	uint8_t b[NBD_SIMPLE_REPLY_BYTES];

	hear(c, b, sizeof(b));
	struct rcur r = rcur_of(b, sizeof(b));
	CHECK(rcur_be32(&r) == NBD_SIMPLE_REPLY_MAGIC);
	uint32_t error = rcur_be32(&r);
	CHECK(rcur_be64(&r) == cookie);
	return error;
}

/* The type of the next chunk for cookie; payload as in hear_option. */
static inline unsigned chunk(struct stream *c, uint64_t cookie, bool done, void *data, size_t cap, uint32_t *len) YIELDS
{
	uint8_t b[NBD_CHUNK_HEAD_BYTES];

	hear(c, b, sizeof(b));
	struct rcur r = rcur_of(b, sizeof(b));
	CHECK(rcur_be32(&r) == NBD_STRUCTURED_REPLY_MAGIC);
	CHECK(rcur_be16(&r) == (done ? NBD_REPLY_FLAG_DONE : 0));
	unsigned type = rcur_be16(&r);
	CHECK(rcur_be64(&r) == cookie);
	*len = rcur_be32(&r);
	CHECK(*len <= cap);
	hear(c, data, *len);
	return type;
}

/* Runs fibers until nothing moves without us: enough iterations for every byte that is under way on a socketpair. */
static inline void settle(void) YIELDS
{
	for (unsigned i = 0; i < 50; i++)
		fiber_yield();
}

static inline struct nbd_server *server_with(struct nbd_server_config cfg)
{
	struct nbd_server *s = NULL;

	script_reset();
	if (!image_buf)
		image_buf = buf_alloc(1);
	CHECK(nbd_server_new(&cfg, &s) == 0);
	return s;
}

/* Ends the server and checks that nothing of it is left with the provider. */
static inline void server_end(struct nbd_server *s) YIELDS
{
	nbd_server_stop(s);
	CHECK(s->session_count == 0 && s->accepting == 0);
	CHECK(script.opens == script.closes && script.running == 0);
	nbd_server_free(s);
}

#endif
