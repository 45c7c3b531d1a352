/* request.c - the only place where request headers are judged: after it, a request without `error` may be carried out
 * as it is.
 *
 * Invariants: Q1 a request without error lies inside the export, on the minimum block, and carries only flags that its
 * command knows. Q2 READ and WRITE without error are at most max_payload long. Q3 nothing here can fail by assert. */
#include "handlers/nbd/request.h"

#include "core/base/bytes.h"

struct command_rule {
	bool known;
	uint16_t flags;        /* besides FUA, which "Command flags" wants accepted on every command */
	bool writes;           /* refused on a read-only export */
	bool ranged;           /* offset and length name a part of the export */
	uint32_t beyond_error; /* past the end of the export, see "Error values" */
};

static const struct command_rule command_rules[] = {
    [NBD_CMD_READ] = {true, NBD_CMD_FLAG_DF, false, true, NBD_EINVAL},
    [NBD_CMD_WRITE] = {true, 0, true, true, NBD_ENOSPC},
    [NBD_CMD_DISC] = {true, 0, false, false, 0},
    [NBD_CMD_FLUSH] = {true, 0, false, false, 0},
    [NBD_CMD_TRIM] = {true, 0, true, true, NBD_EINVAL},
    [NBD_CMD_CACHE] = {true, 0, false, true, NBD_EINVAL},
    [NBD_CMD_WRITE_ZEROES] = {true, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO, true, true, NBD_ENOSPC},
    [NBD_CMD_BLOCK_STATUS] = {true, NBD_CMD_FLAG_REQ_ONE, false, true, NBD_EINVAL},
};

static void refuse(struct nbd_request *r, uint32_t error, const char *why)
{
	r->error = error;
	r->why = why;
}

static void judge_ranged(struct nbd_request *r, const struct command_rule *rule, const struct nbd_limits *l)
{
	if (!range_inside(r->off, r->len, l->size_bytes))
		return refuse(r, rule->beyond_error, "range goes beyond the end of the export");
	if ((r->off | r->len) & (l->min_block - 1))
		return refuse(r, NBD_EINVAL, "range is not aligned to the minimum block size");
	if ((r->cmd == NBD_CMD_READ || r->cmd == NBD_CMD_WRITE) && r->len > l->max_payload)
		/* "NBD_CMD_READ": with structured replies a large read may be rejected with EOVERFLOW. */
		return refuse(r, r->cmd == NBD_CMD_READ && l->structured ? NBD_EOVERFLOW : NBD_EINVAL,
			      "request is longer than the maximum payload");
	if (r->cmd != NBD_CMD_BLOCK_STATUS)
		return;
	/* "Metadata querying": EINVAL without a selected context. */
	if (!l->block_status)
		return refuse(r, NBD_EINVAL, "no metadata context was negotiated");
	if (r->len == 0)
		return refuse(r, NBD_EINVAL, "block status of no bytes");
}

static void judge(struct nbd_request *r, unsigned flags, unsigned type, const struct nbd_limits *l)
{
	if (type >= ARRAY_LEN(command_rules) || !command_rules[type].known)
		return refuse(r, NBD_EINVAL, "unknown command");

	const struct command_rule *rule = &command_rules[type];
	unsigned allowed = rule->flags | NBD_CMD_FLAG_FUA;
	if (!l->structured)
		allowed &= ~NBD_CMD_FLAG_DF; /* NBD_FLAG_SEND_DF was not set */
	if (flags & ~allowed)
		return refuse(r, NBD_EINVAL, "flag is not valid for this command");
	if (rule->writes && l->read_only)
		return refuse(r, NBD_EPERM, "export is read-only");
	if (rule->ranged)
		judge_ranged(r, rule, l);
	else if (r->cmd == NBD_CMD_FLUSH && (r->off || r->len))
		/* "NBD_CMD_FLUSH": length and offset are reserved and MUST be zero. */
		return refuse(r, NBD_EINVAL, "flush takes no range");
	/* "NBD_CMD_WRITE_ZEROES": zeroing is fast for us when it may make holes, and not otherwise. */
	if (!r->error && r->fast_zero && r->no_hole)
		refuse(r, NBD_ENOTSUP, "writing allocated zeroes is no faster than writing data");
}

int nbd_request_parse(const uint8_t bytes[NBD_REQUEST_BYTES], const struct nbd_limits *limits, struct nbd_request *r)
{
	struct rcur c = rcur_of(bytes, NBD_REQUEST_BYTES);

	if (rcur_be32(&c) != NBD_REQUEST_MAGIC)
		return -EPROTO;
	unsigned flags = rcur_be16(&c);
	unsigned type = rcur_be16(&c);
	*r = (struct nbd_request){
	    .cmd = (enum nbd_cmd)type,
	    .fua = flags & NBD_CMD_FLAG_FUA,
	    .df = flags & NBD_CMD_FLAG_DF,
	    .req_one = flags & NBD_CMD_FLAG_REQ_ONE,
	    .no_hole = flags & NBD_CMD_FLAG_NO_HOLE,
	    .fast_zero = flags & NBD_CMD_FLAG_FAST_ZERO,
	};
	r->cookie = rcur_be64(&c);
	r->off = rcur_be64(&c);
	r->len = rcur_be32(&c);
	if (type == NBD_CMD_WRITE)
		r->payload = r->len;

	judge(r, flags, type, limits);
	/* "Size constraints": up to 32 MiB SHOULD NOT count as an attack, whatever was advertised. */
	if (r->payload > 2 * max_u64(limits->max_payload, NBD_PAYLOAD_DEFAULT))
		return -EMSGSIZE;
	return 0;
}
