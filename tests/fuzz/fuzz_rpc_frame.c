/* fuzz_rpc_frame.c - what a peer can send: frames in pieces of any size, then every body decoder of the brick protocol.
 *
 * Input: | mode | seed | bytes of a connection ... |. mode bit 0: checksums are put right first, so that mutations
 * get past them to the decoders. The seed decides the sizes of the pieces. */
#include <stdint.h>
#include <stdlib.h>

#include "brick.h"
#include "core/base/crc32c.h"
#include "core/base/prng.h"
#include "core/rpc/frame.h"
#include "core/rpc/rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct body {
	xdrproc_t proc;
	size_t size;
};
#define BODY(name) {(xdrproc_t)xdr_##name, sizeof(name)}

static const struct body args[] = {
    [BP_HELLO] = BODY(bp_hello_args),     [BP_FENCE] = BODY(bp_fence_args),	[BP_VIEW] = BODY(bp_view_args),
    [BP_PREP] = BODY(bp_prep_args),       [BP_COMMIT] = BODY(bp_decide_args),	[BP_ABORT] = BODY(bp_decide_args),
    [BP_READ] = BODY(bp_read_args),       [BP_SYNC] = BODY(bp_floor_args),	[BP_STABLE] = BODY(bp_floor_args),
    [BP_RESOLVE] = BODY(bp_resolve_args), [BP_REJOIN] = BODY(bp_rejoin_args),	[BP_HEALW] = BODY(bp_healw_args),
    [BP_MISSQ] = BODY(bp_missq_args),     [BP_CLEAR] = BODY(bp_clear_args),	[BP_PING] = BODY(bp_ping_args),
    [BP_SHARDS] = BODY(bp_domain_args),   [BP_EXTENTS] = BODY(bp_extents_args), [BP_USAGE] = BODY(bp_domain_args),
    [BP_NSOP] = BODY(bp_nsop_args),       [BP_NSREAD] = BODY(bp_nsread_args),	[BP_RELEASE] = BODY(bp_domain_args),
    [BP_SCRUB] = BODY(bp_read_args),
};
static const struct body results[ARRAY_LEN(args)] = {
    [BP_HELLO] = BODY(bp_hello_res),   [BP_FENCE] = BODY(bp_fence_res),   [BP_READ] = BODY(bp_read_res),
    [BP_REJOIN] = BODY(bp_missed_res), [BP_MISSQ] = BODY(bp_missed_res),  [BP_PING] = BODY(bp_ping_res),
    [BP_SHARDS] = BODY(bp_shards_res), [BP_USAGE] = BODY(bp_usage_res),   [BP_NSREAD] = BODY(bp_nsread_res),
    [BP_STAT] = BODY(bp_stat_res),     [BP_SCRUB] = BODY(bp_scrub_res),
};

/* Decodes like a handler would. What decodes must encode again, in no more bytes (strings end at their first NUL):
 * lengths and pointers agree. */
static void decode(const struct frame *f)
{
	const struct body *table = f->h.flags & RPC_FLAG_REPLY ? results : args;
	if (f->h.type >= ARRAY_LEN(args) || !table[f->h.type].proc)
		return;

	const struct body *b = &table[f->h.type];
	struct rpc_request req = {.type = f->h.type, .body = f->body, .body_len = f->h.body_len, .payload = f->payload};
	void *decoded = calloc(1, b->size);
	if (rpc_decode(&req, b->proc, decoded) == 0) {
		if (xdr_sizeof(b->proc, decoded) > f->h.body_len)
			abort();
		xdr_free(b->proc, decoded);
	}
	free(decoded);
}

/* Looks at every byte, so that a length that lies is seen. */
static void touch(const struct frame *f)
{
	(void)crc32c_more(crc32c(f->body, f->h.body_len), f->payload.ptr, f->payload.len);
}

static void put_checksums_right(uint8_t *p, size_t size)
{
	while (size >= RPC_HEADER_BYTES) {
		struct frame_header h;
		const char *why;
		if (frame_header_parse(p, &h, &why) != 0 || size - RPC_HEADER_BYTES < h.body_len)
			return;
		frame_header_write(p, &h);
		size_t total = RPC_HEADER_BYTES + (size_t)h.body_len + h.payload_len;
		if (total > size)
			return;
		p += total;
		size -= total;
	}
}

static void connection(const uint8_t *p, size_t size, uint8_t seed)
{
	struct frame_rx rx;
	struct frame f;
	struct prng prng;
	struct buf *held = NULL; /* a payload kept while later bytes arrive, as a journal would */
	int rc = 0;

	frame_rx_init(&rx);
	prng_seed(&prng, seed);
	while (size > 0 && rc >= 0) {
		size_t cap;
		uint8_t *space = frame_rx_space(&rx, &cap);
		if (!space)
			abort();
		size_t piece = seed == 0 ? size : prng_below(&prng, 200) + 1;
		piece = min_u64(min_u64(piece, cap), size);
		memcpy(space, p, piece);
		frame_rx_filled(&rx, piece);
		p += piece;
		size -= piece;
		while ((rc = frame_rx_next(&rx, &f)) == 1) {
			touch(&f);
			decode(&f);
			if (seed & 1) {
				buf_unref(held);
				held = buf_ref(f.owner);
			}
		}
	}
	buf_unref(held);
	frame_rx_release(&rx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;

	uint8_t *copy = malloc(size - 2 ? size - 2 : 1);
	memcpy(copy, data + 2, size - 2);
	if (data[0] & 1)
		put_checksums_right(copy, size - 2);
	connection(copy, size - 2, data[1]);
	free(copy);
	return 0;
}
