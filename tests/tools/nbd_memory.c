/* nbd_memory.c - the real NBD server over exports in memory: for protocol tests with other people's clients, and as the
 * ceiling that the gateway is measured against.
 *
 *   nbd_memory [--size N[K|M|G]] [--export NAME[:ro]]... [--listen ADDRESS]... [--tls DIR [--tls-verify]
 * [--tls-require]]
 *              [--fail-at BYTE] [--yield]
 *
 * Without --listen it serves the sockets of LISTEN_FDS. Prints "listening ADDRESS" per socket, then "ready". Ends on
 * SIGTERM.
 * --fail-at: reads and writes that touch the byte fail with EIO. --yield: every request suspends once. */
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "core/loop/loop.h"
#include "handlers/nbd/nbd.h"

#define PAGE_BYTES       ((size_t)64 * 1024)
#define EXPORTS_MAX      1024
#define LISTENERS_MAX    8
#define LISTEN_FDS_START 3

struct nbd_export { /* one memory image; every connection shares it */
	char name[128];
	bool read_only;
	uint64_t size_bytes;
	struct buf **page; /* NULL: hole */
	unsigned opened;
};

static struct {
	struct nbd_export exports[EXPORTS_MAX];
	unsigned n_exports;
	uint64_t size_bytes, fail_at;
	bool yield;
	struct address listen[LISTENERS_MAX];
	unsigned n_listen;
	const char *tls_dir;
	bool tls_verify, tls_require;
	struct nbd_server *server;
	struct loop *loop;
	int status;
} g = {.size_bytes = MIB(64), .fail_at = UINT64_MAX};

/* ---- provider ---- */

static struct nbd_export *find(const char *name)
{
	for (unsigned i = 0; i < g.n_exports; i++)
		if (strcmp(g.exports[i].name, name) == 0)
			return &g.exports[i];
	return NULL;
}

static int mem_list(void *arg, const struct stream *peer, void (*emit)(void *emit_arg, const char *name, const char *description), void *emit_arg)
{
	(void)peer;
	(void)arg;
	for (unsigned i = 0; i < g.n_exports; i++)
		emit(emit_arg, g.exports[i].name, "memory");
	return 0;
}

static int mem_info(void *arg, const char *name, const struct stream *peer, struct nbd_export_info *info, struct err *e)
{
	const struct nbd_export *x = find(name);

	(void)arg, (void)peer;
	if (!x)
		return err_set(e, -ENOENT, "there is no export '%.100s'", name);
	*info = (struct nbd_export_info){
	    .size_bytes = x->size_bytes,
	    .min_block = 1,
	    .preferred_block = 4096,
	    .max_block = (uint32_t)MIB(32),
	    .read_only = x->read_only,
	    .multi_conn = true,
	    .description = "memory",
	};
	return 0;
}

static int mem_open(void *arg, const char *name, const struct stream *peer, struct nbd_export **ret,
		    struct nbd_export_info *info, struct err *e)
{
	int rc = mem_info(arg, name, peer, info, e);

	if (rc == 0) {
		*ret = find(name);
		(*ret)->opened++;
	}
	return rc;
}

static void mem_close(struct nbd_export *x)
{
	assert(x->opened > 0);
	x->opened--;
}

static int begin(uint64_t off, uint64_t len) YIELDS
{
	if (g.yield)
		fiber_yield();
	return g.fail_at >= off && g.fail_at - off < len ? -EIO : 0;
}

static int mem_read(struct nbd_export *x, uint64_t off, uint32_t len, struct bufs *out) YIELDS
{
	int rc = begin(off, len);

	while (rc == 0 && len > 0) {
		struct buf *page = x->page[off / PAGE_BYTES];
		size_t in = off % PAGE_BYTES;
		uint32_t piece = (uint32_t)min_u64(len, PAGE_BYTES - in);
		rc = page ? bufs_add(out, page, page->data + in, piece) : bufs_add_zeros(out, piece);
		off += piece;
		len -= piece;
	}
	return rc;
}

/* The page for writing at off; a new one is all zeros. */
static struct buf *page_at(struct nbd_export *x, uint64_t off)
{
	struct buf **page = &x->page[off / PAGE_BYTES];

	if (!*page) {
		*page = buf_alloc(PAGE_BYTES);
		if (*page)
			memset((*page)->data, 0, PAGE_BYTES);
	}
	return *page;
}

static int mem_write(struct nbd_export *x, uint64_t off, struct iov data, bool fua) YIELDS
{
	size_t len = iov_bytes(data), done = 0;
	int rc = begin(off, len);

	(void)fua;
	while (rc == 0 && done < len) {
		struct buf *page = page_at(x, off + done);
		size_t in = (off + done) % PAGE_BYTES;
		size_t piece = min_u64(len - done, PAGE_BYTES - in);
		if (!page)
			return -ENOMEM;
		iov_copy_out(data, done, page->data + in, piece);
		done += piece;
	}
	return rc;
}

static int mem_flush(struct nbd_export *x)
{
	(void)x;
	return 0;
}

static int mem_zero(struct nbd_export *x, uint64_t off, uint64_t len, bool fua, bool may_trim) YIELDS
{
	int rc = begin(off, len);

	(void)fua;
	while (rc == 0 && len > 0) {
		struct buf **page = &x->page[off / PAGE_BYTES];
		size_t in = off % PAGE_BYTES;
		size_t piece = min_u64(len, PAGE_BYTES - in);
		if (may_trim && piece == PAGE_BYTES) {
			buf_unref(*page);
			*page = NULL;
		} else if (!may_trim || *page) {
			if (!page_at(x, off))
				return -ENOMEM;
			memset((*page)->data + in, 0, piece);
		}
		off += piece;
		len -= piece;
	}
	return rc;
}

static int mem_trim(struct nbd_export *x, uint64_t off, uint64_t len, bool fua) YIELDS
{
	return mem_zero(x, off, len, fua, true);
}

static int mem_cache(struct nbd_export *x, uint64_t off, uint64_t len)
{
	(void)x, (void)off, (void)len;
	return 0;
}

static int mem_extents(struct nbd_export *x, uint64_t off, uint64_t len, bool one,
		       int (*emit)(void *emit_arg, uint64_t len, bool data), void *emit_arg)
{
	(void)one;
	while (len > 0) {
		uint64_t piece = min_u64(len, PAGE_BYTES - off % PAGE_BYTES);
		if (emit(emit_arg, piece, x->page[off / PAGE_BYTES] != NULL))
			break;
		off += piece;
		len -= piece;
	}
	return 0;
}

/* ---- program ---- */

static void quit(const char *what, const char *text)
{
	fprintf(stderr, "nbd_memory: %s%s%s\n", what, text[0] ? ": " : "", text);
	exit(1);
}

static uint64_t size_parse(const char *text)
{
	char *end = NULL;
	uint64_t n = strtoull(text, &end, 10);
	unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;

	if (end == text || (*end && (shift == 0 || end[1])) || n > UINT64_MAX >> shift)
		quit("not a size", text);
	return n << shift;
}

static void export_add(const char *spec)
{
	const char *colon = strrchr(spec, ':');
	bool read_only = colon && strcmp(colon, ":ro") == 0;
	size_t len = read_only ? (size_t)(colon - spec) : strlen(spec);

	if (g.n_exports == EXPORTS_MAX || len >= sizeof(g.exports[0].name))
		quit("too many exports or name too long", spec);
	struct nbd_export *x = &g.exports[g.n_exports++];
	memcpy(x->name, spec, len);
	x->read_only = read_only;
}

static void listen_add(const char *text)
{
	struct err e = ERR_INIT;

	if (g.n_listen == LISTENERS_MAX)
		quit("too many addresses", text);
	if (address_parse(text, &g.listen[g.n_listen++], &e) != 0)
		quit(text, e.text);
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
	    {"size", required_argument, NULL, 's'},
	    {"export", required_argument, NULL, 'e'},
	    {"listen", required_argument, NULL, 'l'},
	    {"tls", required_argument, NULL, 't'},
	    {"tls-verify", no_argument, NULL, 'v'},
	    {"tls-require", no_argument, NULL, 'r'},
	    {"fail-at", required_argument, NULL, 'f'},
	    {"yield", no_argument, NULL, 'y'},
	    {NULL, 0, NULL, 0},
	};

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (c) {
		case 's':
			g.size_bytes = size_parse(optarg);
			break;
		case 'e':
			export_add(optarg);
			break;
		case 'l':
			listen_add(optarg);
			break;
		case 't':
			g.tls_dir = optarg;
			break;
		case 'v':
			g.tls_verify = true;
			break;
		case 'r':
			g.tls_require = true;
			break;
		case 'f':
			g.fail_at = size_parse(optarg);
			break;
		case 'y':
			g.yield = true;
			break;
		default:
			exit(64);
		}
	}
	if (g.n_exports == 0)
		export_add("");
	for (unsigned i = 0; i < g.n_exports; i++) {
		g.exports[i].size_bytes = g.size_bytes;
		g.exports[i].page = calloc(div_up_u64(g.size_bytes, PAGE_BYTES) + 1, sizeof(struct buf *));
		if (!g.exports[i].page)
			quit("out of memory", "");
	}
}

/* Sockets handed over by systemd or by a client library that starts us. */
static void adopt_sockets(void)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	struct err e = ERR_INIT;

	if (!pid || !fds || strtol(pid, NULL, 10) != getpid())
		quit("nothing to listen on", "give --listen, or sockets in LISTEN_FDS");
	for (int i = 0; i < (int)strtol(fds, NULL, 10); i++) {
		struct listener *l = NULL;
		int rc = listener_from_fd(LISTEN_FDS_START + i, &l, &e);
		if (rc == 0)
			rc = nbd_server_adopt(g.server, l);
		if (rc != 0)
			quit("socket activation", e.text);
	}
}

static void start_fiber(void *arg)
{
	struct err e = ERR_INIT;

	(void)arg;
	for (unsigned i = 0; i < g.n_listen; i++) {
		struct address real;
		char text[ADDRESS_TEXT];
		if (nbd_server_listen(g.server, net_kernel(), &g.listen[i], &real, &e) != 0)
			quit("listen", e.text);
		printf("listening %s\n", address_text(&real, text));
	}
	if (g.n_listen == 0)
		adopt_sockets();
	else
		puts("ready");
	fflush(stdout);
}

static void stop_fiber(void *arg)
{
	(void)arg;
	nbd_server_stop(g.server);
	for (unsigned i = 0; i < g.n_exports; i++) {
		if (g.exports[i].opened > 0) {
			fprintf(stderr, "nbd_memory: export '%s' is still open\n", g.exports[i].name);
			g.status = 1;
		}
	}
	loop_stop(g.loop);
}

static void on_signal(void *arg, int signo)
{
	static bool stopping;

	(void)arg, (void)signo;
	if (!stopping && fiber_spawn(g.loop, "stop", stop_fiber, NULL) != 0)
		_exit(1);
	stopping = true;
}

static void free_all(void)
{
	for (unsigned i = 0; i < g.n_exports; i++) {
		for (uint64_t p = 0; p < div_up_u64(g.size_bytes, PAGE_BYTES); p++)
			buf_unref(g.exports[i].page[p]);
		free(g.exports[i].page);
	}
}

int main(int argc, char **argv)
{
	struct err e = ERR_INIT;
	struct nbd_server_config cfg = {
	    .provider = {mem_list, mem_open, mem_info, mem_close, mem_read, mem_write, mem_flush, mem_trim, mem_zero,
			 mem_cache, mem_extents, NULL},
	};

	parse(argc, argv);
	if (loop_new(&(struct loop_options){0}, &g.loop, &e) != 0)
		quit("loop", e.text);
	if (g.tls_dir && tls_creds_x509_server(g.tls_dir, g.tls_verify, &cfg.tls, &e) != 0)
		quit("tls", e.text);
	cfg.tls_require = g.tls_require;
	if (nbd_server_new(&cfg, &g.server) != 0 || loop_on_signals(g.loop, on_signal, NULL) != 0 ||
	    fiber_spawn(g.loop, "start", start_fiber, NULL) != 0)
		quit("cannot start", "");
	loop_run(g.loop);
	nbd_server_free(g.server);
	loop_free(g.loop);
	tls_creds_free(cfg.tls);
	free_all();
	return g.status;
}
