/* record.h - journal records as bytes: what one looks like, and the one place that validates them. Pure, no I/O.
 *
 *   0       4      6      8          12            16     24     28     32     40        64
 *   | magic | type | flag | body len | payload len | lsn  | prev | crc  | salt | zeros   | body .. | payload .. |
 *                                                                                        padded to 64 each
 *
 * Little-endian. lsn is the record's byte position since the journal was made (position in the file: lsn modulo its
 * size); prev is the crc of the record before it; salt is random per brick start; crc is CRC32C of header (crc = 0) and
 * body. Payload blocks are covered by the per-row checksums in the body. A scan takes records as long as all of this
 * holds, so what it accepts is always a prefix of what was appended: a record that survived behind a lost one has the
 * wrong prev. */
#ifndef MYFS_BRICK_RECORD_H
#define MYFS_BRICK_RECORD_H

#include "core/base/bytes.h"
#include "core/base/gfid.h"
#include <brick.h> /* generated from core/rpc/brick.x; <> so that brick/brick.h is not meant */

#define RECORD_MAGIC        UINT32_C(0x314A594D) /* "MYJ1" */
#define RECORD_HEADER_BYTES 64u
#define RECORD_ALIGN        64u
#define RECORD_BODY_MAX     (1024u * 1024u + 4096u) /* a view with BP_MAX_MISSED regions */
#define RECORD_PAYLOAD_MAX  ((uint32_t)BP_MAX_ROWS_PAYLOAD * MYFS_BLOCK)
#define RECORD_BYTES_MAX    (RECORD_HEADER_BYTES + RECORD_BODY_MAX + RECORD_PAYLOAD_MAX)
#define RECORD_MAX_ROWS     (1u << 20) /* rows of one shard, far above any geometry */

enum record_type {
	REC_PAD = 1, /* the rest of the ring up to its end is unused */
	REC_PREP,    /* a prepared transaction, its rows and payload; implies the missed regions of its mask */
	REC_COMMIT,  /* list of tx: visible from here on, in this order */
	REC_ABORT,   /* list of tx: without effect; by their owner */
	REC_PROMISE,
	REC_VIEW_1, /* what REC_VIEW was in format 1: only read */
	REC_MISS,
	REC_CLEAR,
	REC_DISCARD, /* rejoin: every tx of the domain is forgotten */
	REC_DROP,    /* the domain is gone */
	REC_FOLD,    /* these rows are about to be written to the base */
	REC_DONE,    /* every row of this round's FOLDs is durable in the base */
	REC_HEAL,    /* rows were rebuilt from peers: COMMITs before this do not apply to them */
	REC_UNDO,    /* list of tx: without effect, by a takeover, even if a COMMIT came before (rollback) */
	REC_VIEW, /* view and missed regions; state READY drops undecided tx of older epochs */
	REC_LAST
};

struct txid {
	uint64_t epoch, n;
};
static inline int txid_cmp(struct txid a, struct txid b)
{
	if (a.epoch != b.epoch)
		return a.epoch < b.epoch ? -1 : 1;
	return a.n == b.n ? 0 : a.n < b.n ? -1 : 1;
}

struct rec_prep {
	struct gfid domain;
	struct txid tx;
	uint64_t view_ver;
	uint32_t shard, kind, tx_kind, row, nrows, coef, lba, nblocks, participants, missed;
	const uint8_t *crcs; /* in the body, 4 bytes LE each; ncrc of them: nrows, or 0 for ZERO */
	uint32_t ncrc;
};
struct rec_view_head {
	uint64_t epoch, ver;
	uint32_t state, insync, layout_gen, nboot;
	uint64_t loss_gen;
	bool clean;
	struct txid floor; /* the domain's when it was stored: a later owner must not take what was trimmed or healed
			      past for lacking */
	struct gfid boot[BP_MAX_BRICKS];
};
struct rec_missed {
	uint32_t shard, brick;
	uint64_t regions;
};
#define FOLD_REL  1u /* redoing the row needs its old base: compare crc_old and crc_new after a crash */
#define FOLD_ZERO 2u
struct rec_fold_row {
	uint32_t row, flags;
	uint64_t last_lsn; /* COMMITs on this row up to and including this lsn are in the new value */
	uint32_t crc_old, crc_new;
};

/* A decoded record. Lists stay in the body and are walked with the record_next_* calls. */
struct record {
	enum record_type type;
	uint64_t lsn;
	uint32_t total, payload_off, payload_len;
	uint32_t crc;
	const uint8_t *raw; /* the whole record as it was read */
	bool carried;       /* found in the carry file (carry.c), at byte carry_off, not in the ring */
	uint64_t carry_off;
	struct gfid domain;
	union {
		struct rec_prep prep;
		struct {
			uint64_t epoch;
			struct gfid owner;
		} promise;
		struct rec_view_head view;
		struct {
			uint32_t brick;
		} clear;
		struct {
			struct txid floor;
		} discard;
		struct {
			uint32_t shard;
			struct txid floor;
			uint64_t round;
		} fold;
		struct {
			uint64_t round;
		} done;
		struct {
			uint32_t shard, row, nrows;
		} heal;
	};
	struct rcur items; /* COMMIT, ABORT: txid; VIEW, MISS: rec_missed; FOLD: rec_fold_row */
	uint32_t n_items;
};

/* Bytes of a record on the ring. */
static inline uint32_t record_total(uint32_t body_len, uint32_t payload_len)
{
	return RECORD_HEADER_BYTES + (uint32_t)round_up_u64(body_len, RECORD_ALIGN) +
	       (uint32_t)round_up_u64(payload_len, RECORD_ALIGN);
}

/* Writes the header in front of body[0, body_len), which must already lie at head + RECORD_HEADER_BYTES and be padded
 * with zeros to RECORD_ALIGN. Returns the record's crc, the next one's prev. */
uint32_t record_seal(uint8_t *head, enum record_type type, uint32_t body_len, uint32_t payload_len, uint64_t lsn,
		     uint32_t prev, uint64_t salt);

/* Body encoders. The cursor turns bad when it is too small. */
void record_put_prep(struct wcur *c, const struct rec_prep *p, const uint32_t *crc);
void record_put_list_head(struct wcur *c, const struct gfid *domain, uint32_t n);
void record_put_tx(struct wcur *c, struct txid tx);
void record_put_promise(struct wcur *c, const struct gfid *domain, uint64_t epoch, const struct gfid *owner);
void record_put_view(struct wcur *c, const struct gfid *domain, const struct rec_view_head *v, uint32_t n_missed);
void record_put_missed(struct wcur *c, const struct rec_missed *m);
void record_put_clear(struct wcur *c, const struct gfid *domain, uint32_t brick);
void record_put_discard(struct wcur *c, const struct gfid *domain, struct txid floor);
void record_put_drop(struct wcur *c, const struct gfid *domain);
void record_put_fold(struct wcur *c, const struct gfid *domain, uint32_t shard, struct txid floor, uint64_t round,
		     uint32_t n);
void record_put_fold_row(struct wcur *c, const struct rec_fold_row *r);
void record_put_done(struct wcur *c, uint64_t round);
void record_put_heal(struct wcur *c, const struct gfid *domain, uint32_t shard, uint32_t row, uint32_t nrows);
#define RECORD_PREP_BODY(ncrc)     (88u + 4u * (ncrc))
#define RECORD_LIST_BODY(n)        (20u + 16u * (n))
#define RECORD_VIEW_BODY(nboot, n) (80u + 16u * (nboot) + 16u * (n))
#define RECORD_FOLD_BODY(n)        (52u + 24u * (n))

/* Looks at p[0, avail), which should hold the record of position lsn. prev: the crc of the record before, NULL when
 * unknown (start of a scan). 0: *ret is it, its pointers lead into p. -EAGAIN: *ret_need bytes must be there first.
 * -EBADMSG: no record of ours, the log ends before it. Payload checksums are verified too. */
int record_parse(const uint8_t *p, size_t avail, uint64_t lsn, const uint32_t *prev, struct record *ret,
		 size_t *ret_need);

/* The next item of a list record; the caller takes exactly n_items. */
struct txid record_next_tx(struct record *r);
struct rec_missed record_next_missed(struct record *r);
struct rec_fold_row record_next_fold_row(struct record *r);
uint32_t rec_prep_crc(const struct rec_prep *p, uint32_t i);

#endif
