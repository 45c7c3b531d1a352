/* oracle.h - what a LUN may contain: for every 512-byte sector of a few areas the set of writes whose content a read may return.
 *
 * A write leaves the set of a sector when a later one was acknowledged (issued after the former had returned), or when a read saw another
 * state after it was over. While promises hold, that is all. A loss of power beyond what the set survives takes acknowledged writes back,
 * but never further than the last one that was flushed: such a write is remembered until a flushed one follows it.
 *
 * Every write has a number, and what it writes is made from (number, shard, block, sector), so that any sector tells whose it is, that it lies
 * where it was meant to be, and that it is whole. Zeros belong to writes of zeros and to the beginning. */
#ifndef MYFS_SIM_ORACLE_H
#define MYFS_SIM_ORACLE_H

#include "core/base/base.h"

#define ORACLE_SECTOR 512u
#define ORACLE_SECTORS 8u /* per block */

struct oracle;

struct oracle_area {
	uint32_t shard, lba, nblocks;
};

/* Called with a description when a promise was broken; does not return. */
typedef void oracle_violation_fn(void *arg, const char *text);

struct oracle *oracle_new(const struct oracle_area *areas, unsigned n, oracle_violation_fn *violated, void *arg);

/* A range of sectors of one area, in units of sectors from the shard's start. */
struct oracle_range {
	unsigned area;
	uint64_t sector;
	uint32_t nsectors;
};

/* A write begins: returns its number and fills data (nsectors * 512 bytes; NULL for zeros, whose content needs none). */
uint64_t oracle_write_begin(struct oracle *o, struct oracle_range r, bool zero, uint64_t turn, uint64_t now, uint8_t *data);
/* It was acknowledged, or failed with nobody knowing whether it happened. */
void oracle_write_acked(struct oracle *o, struct oracle_range r, uint64_t id, bool durable, uint64_t now);
void oracle_write_failed(struct oracle *o, struct oracle_range r, uint64_t id, uint64_t now);
/* A read that began at `begun` returned this. */
void oracle_read(struct oracle *o, struct oracle_range r, const uint8_t *data, uint64_t begun, uint64_t now);
/* A flush that began at `begun` was acknowledged. */
void oracle_flushed(struct oracle *o, uint64_t begun);
/* A new owner serves, of this turn: writes of earlier turns are over. */
void oracle_owner(struct oracle *o, uint64_t turn, uint64_t now);
/* So many bricks lost memory that what was not flushed may be lost; until the next resolution either is right. */
void oracle_rollback_begin(struct oracle *o);
void oracle_rollback_end(struct oracle *o, uint64_t now);
bool oracle_in_rollback(const struct oracle *o);

#endif
