/* overlay.h - committed rows that are newer than the base files: per row a short chain of versions. Pure memory, no
 * I/O.
 *
 *   row:  newest [DELTA] -> [ABS, sealed] -> [DELTA, stable] -> base block in the fragment file
 *
 * The present value of a row is its base with the chain applied from the oldest up: ABS and ZERO replace, DELTA is
 * XORed (the coefficient is already in it). Only versions whose newest tx is below the floor may go to the base, oldest
 * first, so a row that is written all the time must not keep growing one version: a SYNC seals, later COMMITs start a
 * new one.
 *
 * Invariants: O1 a version covers exactly the COMMITs on its row in (older->last_lsn, last_lsn]; O2 a busy version
 * (being checkpointed) never changes; O3 a row's region page exists only while one of its rows has a version. */
#ifndef MYFS_BRICK_OVERLAY_H
#define MYFS_BRICK_OVERLAY_H

#include "brick/record.h"
#include "core/base/buf.h"
#include "core/base/list.h"

#define OVERLAY_REGIONS 64u

enum ver_kind { VER_ABS, VER_ZERO, VER_DELTA };

struct row_ver {
	struct row_ver *older;
	struct txid max;   /* newest tx in it */
	uint64_t min_lsn;  /* oldest PREP record needed to redo it */
	uint64_t last_lsn; /* newest COMMIT record in it */
	struct buf *owner; /* reference; NULL for ZERO */
	uint8_t *data;     /* one block; NULL for ZERO */
	uint32_t crc;      /* of data, when crc_known */
	enum ver_kind kind;
	bool crc_known;
	bool own; /* data is a buffer of this version alone: may be changed in place */
	bool rel; /* its value was derived from the base: redo after a crash must look at the base */
	bool busy;
};

struct oshard {
	struct list node; /* in the domain's list, ascending shard */
	uint32_t shard;
	uint32_t rows; /* rows with a version */
	struct row_ver **region[OVERLAY_REGIONS];
	uint32_t used[OVERLAY_REGIONS];
	uint64_t **base_lsn; /* recovery only: COMMITs up to here are in the base, per region and row */
};

/* The shards of one domain that have versions: a list in ascending order, and the last ones used by number. */
#define OSHARD_HINTS 64u
struct oshards {
	struct list list;
	struct oshard *hint[OSHARD_HINTS];
};

struct overlay {
	uint32_t region_rows;
	uint64_t bytes; /* memory held by versions, nominal */
	uint64_t versions;
	struct row_ver *free; /* pool */
};

/* What a COMMIT brings to one row. data: one block of raw payload (borrowed), NULL for zero. */
struct row_change {
	enum ver_kind kind;
	uint8_t coef; /* DELTA */
	struct txid tx;
	uint64_t prep_lsn, commit_lsn;
	const uint8_t *data;
	struct buf *owner; /* NULL: data must be copied; else a reference is taken */
	uint32_t crc;      /* of data */
};

void overlay_init(struct overlay *o, uint32_t region_rows);
void overlay_release(struct overlay *o); /* the pool; every shard must be empty */

void oshards_init(struct oshards *set);
/* create: NULL only without memory. */
struct oshard *oshard_find(struct oshards *set, uint32_t shard, bool create);
/* Drops the shard with all its versions. */
void oshard_free(struct overlay *o, struct oshards *set, struct oshard *s);

struct row_ver *overlay_top(const struct overlay *o, const struct oshard *s, uint32_t row);
/* Applies a COMMIT. seal_lsn: position of the last SYNC, versions not touched since are sealed. floor: tx below are
 * stable. 0 or -ENOMEM. */
int overlay_apply(struct overlay *o, struct oshard *s, uint32_t row, const struct row_change *c, uint64_t seal_lsn,
		  struct txid floor);
/* True when the present value depends on the base block. */
bool overlay_needs_base(const struct row_ver *top);
/* Turns block (the base's bytes when needed, else anything) into the present value. *ret_crc is set when the checksum
 * is known without looking, and true returned. */
bool overlay_fold(const struct row_ver *top, uint8_t *block, uint32_t *ret_crc);

/* Merges the stable versions at the old end of the row's chain into one and returns it, NULL when there is none. Busy
 * chains: NULL. */
struct row_ver *overlay_stable(struct overlay *o, struct oshard *s, uint32_t row, struct txid floor);
/* Gives a DELTA version its absolute value (block: the folded value, copied). It stays rel. 0 or -ENOMEM. */
int overlay_make_abs(struct overlay *o, struct row_ver *v, const uint8_t *block, uint32_t crc, bool zero);
/* Takes v, the oldest version of the row, out. */
void overlay_drop_oldest(struct overlay *o, struct oshard *s, uint32_t row, struct row_ver *v);
/* Drops every version of the row. */
void overlay_drop_row(struct overlay *o, struct oshard *s, uint32_t row);
/* First row >= row with a version, UINT32_MAX when none. */
uint32_t overlay_next_row(const struct overlay *o, const struct oshard *s, uint32_t row);

#endif
