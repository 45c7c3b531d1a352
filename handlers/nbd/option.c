/* option.c - the only place where option bytes of an unauthenticated peer are looked at.
 *
 * Invariants: O1 no byte outside [data, data+len) is read (struct rcur). O2 a name leaves here NUL-terminated, at most
 * NBD_STRING_MAX bytes, valid UTF-8 and without NUL inside. O3 nothing here can fail by assert. */
#include "handlers/nbd/option.h"

#include "core/base/bytes.h"

int nbd_client_flags_parse(const uint8_t bytes[NBD_CLIENT_FLAGS_BYTES], bool *ret_fixed, bool *ret_no_zeroes)
{
	struct rcur c = rcur_of(bytes, NBD_CLIENT_FLAGS_BYTES);
	uint32_t flags = rcur_be32(&c);

	/* "Client flags": the server MUST drop the connection on an unknown flag. */
	if (flags & ~(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES))
		return -EPROTO;
	*ret_fixed = flags & NBD_FLAG_C_FIXED_NEWSTYLE;
	*ret_no_zeroes = flags & NBD_FLAG_C_NO_ZEROES;
	return 0;
}

int nbd_option_head_parse(const uint8_t bytes[NBD_OPTION_HEAD_BYTES], uint32_t *ret_id, uint32_t *ret_len)
{
	struct rcur c = rcur_of(bytes, NBD_OPTION_HEAD_BYTES);

	if (rcur_be64(&c) != NBD_OPTION_MAGIC)
		return -EPROTO;
	*ret_id = rcur_be32(&c);
	*ret_len = rcur_be32(&c);
	return 0;
}

/* Length of the UTF-8 sequence at p (RFC 3629: no overlong form, no surrogate, at most U+10FFFF, no NUL), 0 when it is
 * none. */
static size_t utf8_sequence(const uint8_t *p, size_t left)
{
	uint8_t a = p[0];

	if (a > 0 && a < 0x80)
		return 1;
	if (a < 0xc2 || a > 0xf4)
		return 0;
	size_t n = a < 0xe0 ? 2 : a < 0xf0 ? 3 : 4;
	if (left < n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((a == 0xe0 && p[1] < 0xa0) || (a == 0xed && p[1] > 0x9f) || (a == 0xf0 && p[1] < 0x90) ||
	    (a == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

static bool utf8_text(const uint8_t *p, size_t len)
{
	while (len > 0) {
		size_t n = utf8_sequence(p, len);
		if (n == 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

static uint32_t refuse(const char **ret_why, uint32_t reply, const char *why)
{
	*ret_why = why;
	return reply;
}

/* "Conventions": a string is UTF-8 without NUL and at most 4096 bytes. */
static uint32_t name_parse(struct rcur *c, uint32_t len, struct nbd_option *o, const char **ret_why)
{
	if (len > c->left)
		return refuse(ret_why, NBD_REP_ERR_INVALID, "export name is longer than the option");
	if (len > NBD_STRING_MAX)
		return refuse(ret_why, NBD_REP_ERR_TOO_BIG, "export name is longer than 4096 bytes");
	const uint8_t *name = rcur_bytes(c, len);
	if (!name || !utf8_text(name, len))
		return refuse(ret_why, NBD_REP_ERR_INVALID, "export name is not UTF-8 text");
	memcpy(o->name, name, len);
	o->name[len] = '\0';
	o->name_len = len;
	return 0;
}

/* "NBD_OPT_INFO and NBD_OPT_GO" */
static uint32_t go_parse(struct rcur *c, struct nbd_option *o, const char **ret_why)
{
	uint32_t name_len = rcur_be32(c);
	if (c->bad || c->left < 2 || name_len > c->left - 2)
		return refuse(ret_why, NBD_REP_ERR_INVALID, "option too short for its export name");
	uint32_t err = name_parse(c, name_len, o, ret_why);
	if (err)
		return err;

	uint16_t n = rcur_be16(c);
	if (c->bad || c->left != 2u * n)
		return refuse(ret_why, NBD_REP_ERR_INVALID,
			      "number of information requests does not match the option length");
	for (unsigned i = 0; i < n; i++) {
		/* Unknown requests MUST be ignored; EXPORT is always sent. */
		switch (rcur_be16(c)) {
		case NBD_INFO_NAME:
			o->wants_name = true;
			break;
		case NBD_INFO_DESCRIPTION:
			o->wants_description = true;
			break;
		case NBD_INFO_BLOCK_SIZE:
			o->wants_block_size = true;
			break;
		default:
			break;
		}
	}
	return 0;
}

static bool query_is(const uint8_t *q, uint32_t len, const char *text)
{
	return len == strlen(text) && memcmp(q, text, len) == 0;
}

/* "NBD_OPT_LIST_META_CONTEXT", "NBD_OPT_SET_META_CONTEXT": a syntactically wrong option MUST be INVALID, queries of
 * unknown namespaces MUST be ignored. */
static uint32_t meta_parse(struct rcur *c, struct nbd_option *o, const char **ret_why)
{
	uint32_t name_len = rcur_be32(c);
	if (c->bad)
		return refuse(ret_why, NBD_REP_ERR_INVALID, "option too short for its export name");
	uint32_t err = name_parse(c, name_len, o, ret_why);
	if (err)
		return err;

	o->queries = rcur_be32(c);
	for (uint32_t i = 0; i < o->queries && !c->bad; i++) {
		uint32_t len = rcur_be32(c);
		const uint8_t *q = rcur_bytes(c, len);
		if (!q)
			break;
		if (len > NBD_STRING_MAX)
			return refuse(ret_why, NBD_REP_ERR_INVALID, "metadata query is longer than 4096 bytes");
		if (!utf8_text(q, len))
			return refuse(ret_why, NBD_REP_ERR_INVALID, "metadata query is not UTF-8 text");
		o->asks_allocation |= query_is(q, len, "base:allocation");
		o->asks_base |= query_is(q, len, "base:");
	}
	if (c->bad || c->left > 0)
		return refuse(ret_why, NBD_REP_ERR_INVALID, "metadata queries do not match the option length");
	return 0;
}

uint32_t nbd_option_parse(uint32_t id, const uint8_t *data, size_t len, struct nbd_option *o, const char **ret_why)
{
	struct rcur c = rcur_of(data, len);

	*o = (struct nbd_option){.id = id};
	switch (id) {
	case NBD_OPT_EXPORT_NAME:
		return name_parse(&c, len > UINT32_MAX ? UINT32_MAX : (uint32_t)len, o, ret_why);
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		return go_parse(&c, o, ret_why);
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		return meta_parse(&c, o, ret_why);
	case NBD_OPT_LIST:
	case NBD_OPT_STARTTLS:
	case NBD_OPT_STRUCTURED_REPLY:
		if (len > 0)
			return refuse(ret_why, NBD_REP_ERR_INVALID, "this option takes no data");
		return 0;
	case NBD_OPT_ABORT: /* data SHOULD be ignored */
		return 0;
	default:
		return refuse(ret_why, NBD_REP_ERR_UNSUP, "this server does not know the option");
	}
}
