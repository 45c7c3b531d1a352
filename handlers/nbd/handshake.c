/* handshake.c - "Handshake" of the protocol document: from the greeting to an agreed export, or not.
 *
 *      greeting -> client flags -> option* -> EXPORT_NAME | GO  (transmission)
 *                                         \-> ABORT, EOF, a broken rule, the deadline (no export)
 *
 * Everything here serves peers that nobody has authenticated. Invariants:
 * H1 nothing is received beyond the option being read, so no plain byte survives STARTTLS.
 * H2 an export is opened only by the option that enters transmission.
 * H3 memory per connection: one struct handshake and one answer of at most NBD_LIST_BYTES_MAX.
 * H4 the deadline is the caller's: it shuts the stream down. */
#include "core/loop/tls.h"
#include "handlers/nbd/nbd_priv.h"
#include "handlers/nbd/option.h"

struct handshake {
	const struct nbd_server_config *cfg;
	struct stream **stream;
	uint64_t deadline_ns;
	struct nbd_agreed *agreed;
	bool fixed, no_zeroes, tls;
	bool structured;
	bool meta_set; /* base:allocation selected, for: */
	char meta_name[NBD_STRING_MAX + 1];
	struct nbd_option opt;
	uint8_t data[NBD_OPTION_DATA_MAX];
	char default_name[NBD_STRING_MAX + 1];
	uint8_t *out; /* the answer being built */
	size_t out_len, out_cap;
	bool out_bad; /* too long or out of memory */
};

/* What an option leads to. Errors are negative. */
enum { HAGGLE_ON = 0, HAGGLE_DONE = 1 };

/* ---- answers ---- */

static uint8_t *out_room(struct handshake *h, size_t len)
{
	if (h->out_bad || len > NBD_LIST_BYTES_MAX - h->out_len) {
		h->out_bad = true;
		return NULL;
	}
	if (h->out_len + len > h->out_cap) {
		size_t cap = max_u64(h->out_len + len, max_u64(512, h->out_cap * 2));
		uint8_t *grown = realloc(h->out, cap);
		if (!grown) {
			h->out_bad = true;
			return NULL;
		}
		h->out = grown;
		h->out_cap = cap;
	}
	h->out_len += len;
	return h->out + h->out_len - len;
}

static void out_put(struct handshake *h, const void *src, size_t len)
{
	uint8_t *dst = out_room(h, len);

	if (dst && len > 0)
		memcpy(dst, src, len);
}

static void out_head(struct handshake *h, uint32_t type, size_t len)
{
	uint8_t *dst = out_room(h, NBD_OPTION_REPLY_HEAD_BYTES);

	if (dst)
		nbd_option_reply_put(dst, h->opt.id, type, (uint32_t)len);
}

static void out_be(struct handshake *h, uint64_t value, unsigned bytes)
{
	uint8_t *dst = out_room(h, bytes);

	for (unsigned i = 0; dst && i < bytes; i++)
		dst[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

/* Sends what was put. */
static int out_send(struct handshake *h) YIELDS
{
	struct iovec v = {.iov_base = h->out, .iov_len = h->out_len};

	if (h->out_bad)
		return -ENOMEM;
	h->out_len = 0;
	return stream_send(*h->stream, &v, 1);
}

static int say_ack(struct handshake *h) YIELDS
{
	out_head(h, NBD_REP_ACK, 0);
	return out_send(h);
}

/* "All error replies MAY have some data set, in which case that data is an error message string". */
static int say_error(struct handshake *h, uint32_t reply, const char *why) YIELDS
{
	size_t len = strnlen(why, ERR_TEXT_MAX);

	h->out_len = 0;
	h->out_bad = false;
	out_head(h, reply, len);
	out_put(h, why, len);
	return out_send(h);
}

/* ---- exports ---- */

struct only_export {
	char *name;
	unsigned count;
};

static void only_emit(void *arg, const char *name, const char *description)
{
	struct only_export *only = arg;
	size_t len = strlen(name);

	(void)description;
	if (only->count++ == 0 && len <= NBD_STRING_MAX)
		memcpy(only->name, name, len + 1);
}

/* "NBD_OPT_EXPORT_NAME": the empty name means the default export. Here: the only one, if there is exactly one.
 * 0 with *ret borrowed from h, or negative with text. */
static int export_resolve(struct handshake *h, const char **ret, struct err *e) YIELDS
{
	struct only_export only = {.name = h->default_name};

	if (h->opt.name_len > 0) {
		*ret = h->opt.name;
		return 0;
	}
	h->default_name[0] = '\0';
	int rc = h->cfg->provider.list(h->cfg->provider.arg, *h->stream, only_emit, &only);
	if (rc < 0)
		return err_set(e, rc, "cannot list exports: %s", err_name(rc));
	if (only.count != 1)
		return err_set(e, -ENOENT, "there is no default export: give the name of one of %u exports",
			       only.count);
	*ret = h->default_name;
	return 0;
}

/* Fills what the provider left open and keeps the promises of "Size constraints". */
static void info_complete(struct nbd_export_info *info, const struct nbd_server_config *cfg)
{
	if (info->min_block == 0)
		info->min_block = 1;
	if (info->preferred_block == 0)
		info->preferred_block = (uint32_t)max_u64(info->min_block, MYFS_BLOCK);
	if (info->max_block == 0 || info->max_block > cfg->max_request_bytes)
		info->max_block = cfg->max_request_bytes;
	info->description[sizeof(info->description) - 1] = '\0';
	/* The provider's duty, not the wire's. */
	assert((info->min_block & (info->min_block - 1)) == 0 && info->min_block <= 65536);
}

static const char *error_text(const struct err *e, int rc)
{
	return e->text[0] ? e->text : err_name(rc);
}

/* Opens the export that the present option names. 0 with h->agreed filled. */
static int export_open(struct handshake *h, struct err *e) YIELDS
{
	const struct nbd_provider *p = &h->cfg->provider;
	const char *name = NULL;
	struct nbd_agreed *a = h->agreed;

	int rc = export_resolve(h, &name, e);
	if (rc != 0)
		return rc;
	rc = p->open(p->arg, name, *h->stream, &a->export, &a->info, e);
	if (rc != 0)
		return rc < 0 ? rc : -EIO;
	info_complete(&a->info, h->cfg);
	a->structured = h->structured;
	/* "NBD_OPT_SET_META_CONTEXT": counts only for the export name it was sent for. */
	a->block_status = h->structured && h->meta_set && strcmp(h->meta_name, h->opt.name) == 0;
	memcpy(a->name, name, strlen(name) + 1);
	return 0;
}

static void export_close(struct handshake *h)
{
	h->cfg->provider.close(h->agreed->export);
	h->agreed->export = NULL;
}

/* ---- options ---- */

static void list_emit(void *arg, const char *name, const char *description)
{
	struct handshake *h = arg;
	size_t name_len = strnlen(name, NBD_STRING_MAX);
	size_t text_len = description ? strnlen(description, NBD_STRING_MAX) : 0;

	/* "NBD_REP_SERVER" */
	out_head(h, NBD_REP_SERVER, 4 + name_len + text_len);
	out_be(h, name_len, 4);
	out_put(h, name, name_len);
	out_put(h, description, text_len);
}

static int option_list(struct handshake *h) YIELDS
{
	int rc = h->cfg->provider.list(h->cfg->provider.arg, *h->stream, list_emit, h);

	if (rc < 0)
		return say_error(h, nbd_open_error(rc), err_name(rc));
	if (h->out_bad)
		return say_error(h, NBD_REP_ERR_TOO_BIG, "there are too many exports to list");
	return say_ack(h);
}

/* "NBD_REP_INFO" */
static void put_info(struct handshake *h, const char *name, const struct nbd_export_info *info)
{
	out_head(h, NBD_REP_INFO, 12);
	out_be(h, NBD_INFO_EXPORT, 2);
	out_be(h, info->size_bytes, 8);
	out_be(h, nbd_transmission_flags(info, h->structured), 2);
	if (h->opt.wants_name) {
		out_head(h, NBD_REP_INFO, 2 + strlen(name));
		out_be(h, NBD_INFO_NAME, 2);
		out_put(h, name, strlen(name));
	}
	if (h->opt.wants_description) {
		out_head(h, NBD_REP_INFO, 2 + strlen(info->description));
		out_be(h, NBD_INFO_DESCRIPTION, 2);
		out_put(h, info->description, strlen(info->description));
	}
	if (h->opt.wants_block_size) {
		out_head(h, NBD_REP_INFO, 14);
		out_be(h, NBD_INFO_BLOCK_SIZE, 2);
		out_be(h, info->min_block, 4);
		out_be(h, info->preferred_block, 4);
		out_be(h, info->max_block, 4);
	}
}

static int option_info(struct handshake *h) YIELDS
{
	const struct nbd_provider *p = &h->cfg->provider;
	struct nbd_export_info info = {0};
	struct err e = ERR_INIT;
	const char *name = NULL;

	int rc = export_resolve(h, &name, &e);
	if (rc == 0)
		rc = p->info(p->arg, name, *h->stream, &info, &e);
	if (rc != 0)
		return say_error(h, nbd_open_error(rc), error_text(&e, rc));
	info_complete(&info, h->cfg);
	put_info(h, name, &info);
	return say_ack(h);
}

static int option_go(struct handshake *h) YIELDS
{
	struct err e = ERR_INIT;
	int rc = export_open(h, &e);

	if (rc != 0)
		return say_error(h, nbd_open_error(rc), error_text(&e, rc));
	put_info(h, h->agreed->name, &h->agreed->info);
	rc = say_ack(h);
	if (rc != 0) {
		export_close(h);
		return rc;
	}
	return HAGGLE_DONE;
}

/* "NBD_OPT_EXPORT_NAME": cannot be answered with an error; the server MUST terminate the session instead. */
static int option_export_name(struct handshake *h) YIELDS
{
	int rc = export_open(h, NULL);
	if (rc != 0)
		return rc;

	const struct nbd_export_info *info = &h->agreed->info;
	uint8_t *dst = out_room(h, NBD_EXPORT_NAME_REPLY_BYTES);
	if (dst)
		nbd_export_name_reply_put(dst, info->size_bytes, nbd_transmission_flags(info, h->structured));
	if (!h->no_zeroes) {
		dst = out_room(h, NBD_EXPORT_NAME_ZEROES);
		if (dst)
			memset(dst, 0, NBD_EXPORT_NAME_ZEROES);
	}
	rc = out_send(h);
	if (rc != 0) {
		export_close(h);
		return rc;
	}
	return HAGGLE_DONE;
}

static void put_meta_context(struct handshake *h, uint32_t id)
{
	static const char name[] = "base:allocation";

	out_head(h, NBD_REP_META_CONTEXT, 4 + strlen(name));
	out_be(h, id, 4);
	out_put(h, name, strlen(name));
}

static int option_meta(struct handshake *h, bool set) YIELDS
{
	const struct nbd_provider *p = &h->cfg->provider;
	struct nbd_export_info info = {0};
	struct err e = ERR_INIT;
	const char *name = NULL;

	if (!h->structured)
		return say_error(h, NBD_REP_ERR_INVALID,
				 "metadata contexts need structured replies: negotiate those first");
	int rc = export_resolve(h, &name, &e);
	if (rc == 0)
		rc = p->info(p->arg, name, *h->stream, &info, &e);
	if (rc != 0)
		return say_error(h, nbd_open_error(rc), error_text(&e, rc));

	/* No query lists everything but selects nothing; the wildcard "base:" lists but MUST NOT select. */
	bool found = h->opt.asks_allocation || (!set && (h->opt.asks_base || h->opt.queries == 0));
	if (found)
		put_meta_context(h, set ? NBD_META_ALLOCATION_ID : 0);
	if (set && found) {
		h->meta_set = true;
		memcpy(h->meta_name, h->opt.name, h->opt.name_len + 1);
	}
	return say_ack(h);
}

static int option_structured(struct handshake *h) YIELDS
{
	if (h->structured)
		return say_error(h, NBD_REP_ERR_INVALID, "structured replies are negotiated already");
	h->structured = true;
	return say_ack(h);
}

/* "NBD_OPT_STARTTLS", "FORCEDTLS mode", "NOTLS mode" */
static int option_starttls(struct handshake *h) YIELDS
{
	if (h->tls)
		return say_error(h, NBD_REP_ERR_INVALID, "TLS is running already");
	if (!h->cfg->tls)
		return say_error(h, NBD_REP_ERR_POLICY, "this server has no TLS certificate");
	int rc = say_ack(h);
	if (rc != 0)
		return rc;
	/* H1: the next byte of the client is received by TLS. A failed TLS handshake MUST end the session. */
	rc = tls_server_start(h->stream, h->cfg->tls, h->deadline_ns, NULL);
	if (rc != 0)
		return rc;
	/* "The server MUST NOT preserve any negotiation state issued before this command." */
	h->tls = true;
	h->structured = false;
	h->meta_set = false;
	h->meta_name[0] = '\0';
	return HAGGLE_ON;
}

static int option_dispatch(struct handshake *h) YIELDS
{
	switch (h->opt.id) {
	case NBD_OPT_EXPORT_NAME:
		return option_export_name(h);
	case NBD_OPT_LIST:
		return option_list(h);
	case NBD_OPT_STARTTLS:
		return option_starttls(h);
	case NBD_OPT_INFO:
		return option_info(h);
	case NBD_OPT_GO:
		return option_go(h);
	case NBD_OPT_STRUCTURED_REPLY:
		return option_structured(h);
	case NBD_OPT_LIST_META_CONTEXT:
		return option_meta(h, false);
	case NBD_OPT_SET_META_CONTEXT:
		return option_meta(h, true);
	default:
		/* ABORT, the only other one the parser lets through: the answer may meet a closed connection. */
		(void)say_ack(h);
		return -ECANCELED;
	}
}

/* Reads away the data of an option that is too long to be stored. */
static int option_drain(struct handshake *h, uint32_t len) YIELDS
{
	while (len > 0) {
		size_t piece = min_u64(len, sizeof(h->data));
		int rc = stream_recv_full(*h->stream, h->data, piece);
		if (rc != 0)
			return rc;
		len -= (uint32_t)piece;
	}
	return say_error(h, NBD_REP_ERR_TOO_BIG, "the option is longer than 16384 bytes");
}

/* Whether the option must be refused before it is looked at; sets *ret_rc then. */
static bool option_forbidden(struct handshake *h, uint32_t id, uint32_t len, int *ret_rc)
{
	/* "Newstyle negotiation": without fixed newstyle EXPORT_NAME is the only option. */
	bool bad = !h->fixed && id != NBD_OPT_EXPORT_NAME;

	if (id == NBD_OPT_EXPORT_NAME) {
		/* "FORCEDTLS mode": it cannot be answered with an error, so the session ends. */
		bad |= len > NBD_STRING_MAX || (h->cfg->tls_require && !h->tls);
	}
	bad |= len > NBD_OPTION_DRAIN_MAX;
	if (bad)
		*ret_rc = -EPROTO;
	return bad;
}

/* Receives one option and answers it. */
static int option_next(struct handshake *h) YIELDS
{
	uint8_t head[NBD_OPTION_HEAD_BYTES];
	uint32_t id = 0, len = 0;
	const char *why = "";

	int rc = stream_recv_full(*h->stream, head, sizeof(head));
	if (rc == 0)
		rc = nbd_option_head_parse(head, &id, &len);
	if (rc != 0 || option_forbidden(h, id, len, &rc))
		return rc;
	h->opt.id = id;
	h->out_len = 0;
	h->out_bad = false;
	if (id == NBD_OPT_SET_META_CONTEXT)
		h->meta_set = false; /* replaces what was selected before, also when it fails */
	if (len > sizeof(h->data))
		return option_drain(h, len);
	rc = stream_recv_full(*h->stream, h->data, len);
	if (rc != 0)
		return rc;

	/* "FORCEDTLS mode": anything but STARTTLS and ABORT, unknown options too. */
	if (h->cfg->tls_require && !h->tls && id != NBD_OPT_STARTTLS && id != NBD_OPT_ABORT)
		return say_error(h, NBD_REP_ERR_TLS_REQD, "this server wants TLS first");
	uint32_t err = nbd_option_parse(id, h->data, len, &h->opt, &why);
	if (err != 0)
		return id == NBD_OPT_EXPORT_NAME ? -EPROTO : say_error(h, err, why);
	return option_dispatch(h);
}

static int greet(struct handshake *h) YIELDS
{
	uint8_t greeting[NBD_GREETING_BYTES], flags[NBD_CLIENT_FLAGS_BYTES];
	struct iovec v = {.iov_base = greeting, .iov_len = sizeof(greeting)};

	nbd_greeting_put(greeting);
	int rc = stream_send(*h->stream, &v, 1);
	if (rc == 0)
		rc = stream_recv_full(*h->stream, flags, sizeof(flags));
	if (rc == 0)
		rc = nbd_client_flags_parse(flags, &h->fixed, &h->no_zeroes);
	return rc;
}

int nbd_handshake_run(const struct nbd_server_config *cfg, struct stream **stream, uint64_t deadline_ns,
		      struct nbd_agreed *ret) YIELDS
{
	struct handshake *h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;

	h->cfg = cfg;
	h->stream = stream;
	h->deadline_ns = deadline_ns;
	h->agreed = ret;
	int rc = greet(h);
	while (rc == HAGGLE_ON)
		rc = option_next(h);
	free(h->out);
	free(h);
	return rc == HAGGLE_DONE ? 0 : rc;
}
