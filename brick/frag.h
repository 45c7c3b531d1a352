/* frag.h - one shard's fragment file and its checksums. Row r is bytes [r * 4096, r * 4096 + 4096) of the file; a row
 * never written or punched is a hole: it reads as zeros and its checksum is CRC32C_ZERO_BLOCK.
 *
 * Open fragments are cached (LRU over file descriptors); the whole checksum array of an open one is in memory. What was
 * written is durable after frag_sync: data first, then checksums, then the names of files made since. The caller's
 * journal covers what a crash before that tears.
 *
 * Invariants: F1 a referenced or unsynced fragment is never dropped from the cache. F2 there is at most one struct frag
 * per (domain, shard), so its checksum array is the truth. F3 callers never run frag_write/frag_punch concurrently on
 * the same rows of one fragment. */
#ifndef MYFS_BRICK_FRAG_H
#define MYFS_BRICK_FRAG_H

#include <sys/uio.h>

#include "brick/tree.h"

struct frag;

/* Owned reference. -ENOENT when absent and !create. create makes file, handle, name (shard > 0: /.shard/<domain>.<n>;
 * shard 0: the handle alone, BP_NS_MKFILE links it to its name later), xattrs and checksum file. */
int frag_get(struct tree *t, const struct gfid *domain, uint32_t shard, bool create, struct frag **ret) YIELDS;
void frag_put(struct frag *f); /* NULL is fine */

/* Base bytes and stored checksums, not verified. [row, row + nrows) inside the shard; ret_crc may be NULL. Works on a
 * fragment that grows meanwhile. */
int frag_read(struct frag *f, uint32_t row, uint32_t nrows, uint8_t *dst, uint32_t *ret_crc) YIELDS;
/* The next read of these rows comes from the disk. */
void frag_uncache(struct frag *f, uint32_t row, uint32_t nrows);
/* Stored checksum; no I/O. ret_hole may be NULL. */
uint32_t frag_crc(struct frag *f, uint32_t row, bool *ret_hole);
bool frag_rows_are_holes(struct frag *f, uint32_t row, uint32_t nrows);
/* nrows * 4096 bytes from v; clears "bad". Checksums change in memory when the bytes are written; all or error. */
int frag_write(struct frag *f, uint32_t row, uint32_t nrows, const struct iovec *v, unsigned n,
	       const uint32_t *crc) YIELDS;
/* Rows become holes, space is freed (where the file system cannot punch, zeros are written). */
int frag_punch(struct frag *f, uint32_t row, uint32_t nrows) YIELDS;
/* Everything written before is durable on return. -EIO and the like: nothing may be trusted any more, fail-stop. */
int frag_sync(struct frag *f) YIELDS;
/* A row known to hold wrong bytes, until rewritten or punched; persisted as a checksum flag at the next frag_sync. */
void frag_mark_bad(struct frag *f, uint32_t row);
bool frag_is_bad(struct frag *f, uint32_t row);

/* Shards of the domain that exist: bit n of bitmap (max_shards bits), *ret_max_plus_1 = highest existing + 1 even when
 * beyond max_shards. Words past the highest one's are not touched: a bitmap for 2^20 shards is mostly never used. */
int frag_list(struct tree *t, const struct gfid *domain, uint64_t *bitmap, uint32_t max_shards,
	      uint32_t *ret_max_plus_1) YIELDS;
int frag_usage(struct tree *t, const struct gfid *domain, uint64_t *ret_bytes) YIELDS;
/* Every shard but the base file goes: handles and checksums at once, data through the landfill. Idempotent. -EBUSY when
 * one is referenced. */
int frag_purge(struct tree *t, const struct gfid *domain) YIELDS;
/* Drops the base file's fragment from the cache before its files go. -EBUSY when referenced. */
int frag_forget(struct tree *t, const struct gfid *domain, uint32_t shard);

/* xattrs of the shard's file that mirror protocol state for people: ec.version (data part) and ec.dirty (data part,
 * regions that need work), and the entry in indices/xattrop. -ENOENT when the shard does not exist. */
int frag_publish(struct tree *t, const struct gfid *domain, uint32_t shard, uint64_t version,
		 uint64_t dirty_regions) YIELDS;

/* How many fragments may be open (default 512: two file descriptors each). */
void frag_set_limit(struct tree *t, unsigned max_open);

#endif
