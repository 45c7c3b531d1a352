/* identity.h - what one brick directory is, as written once at creation and never changed: a small text file with a
 * checksum, so that `cat .glusterfs/myfs/identity` answers most questions. Pure: text in, struct out. */
#ifndef MYFS_BRICK_IDENTITY_H
#define MYFS_BRICK_IDENTITY_H

#include "core/base/err.h"
#include "core/base/gfid.h"

#define BRICK_FORMAT      1 /* of everything under .glusterfs/myfs; see FORMAT.md */
#define IDENTITY_TEXT_MAX 1024u
#define BRICK_JOURNAL_MIN MIB(4) /* credit is a quarter of it, and one record takes up to 1 MiB of payload */
#define BRICK_JOURNAL_MAX GIB(64)

struct brick_identity {
	struct gfid volume, brick;
	uint32_t set_index, brick_index; /* which set of the volume, which place in the set */
	uint32_t k, r, n;                /* n = k + r */
	uint32_t chunk_bytes;            /* power of two, 4 KiB .. 64 KiB */
	uint32_t region_rows;            /* rows of one region; shard_rows = 64 * region_rows */
	uint32_t shard_rows;             /* rows of one fragment file */
	uint64_t journal_bytes;
	bool user_xattrs; /* prefix "user." instead of "trusted." */
};

/* Fills n, region_rows and shard_rows from k, r and chunk_bytes (region = 1 MiB of shard address space or one stripe,
 * whichever is more; shard = 64 regions), and checks everything. 0 or -EINVAL with text. */
int identity_complete(struct brick_identity *id, struct err *e);
/* Text of at most IDENTITY_TEXT_MAX - 1 bytes. Returns its length. */
size_t identity_format(const struct brick_identity *id, char out[IDENTITY_TEXT_MAX]);
/* 0 or -EUCLEAN with text (damaged, other format, impossible values). */
int identity_parse(const char *text, size_t len, struct brick_identity *ret, struct err *e);

#endif
