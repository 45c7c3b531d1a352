/* gfid.h - 16-byte file identity, raw UUID bytes in network order, as GlusterFS stores it. */
#ifndef MYFS_GFID_H
#define MYFS_GFID_H

#include "core/base/base.h"

struct gfid {
	uint8_t b[16];
};

#define GFID_TEXT 37 /* canonical text with NUL */

extern const struct gfid GFID_NULL;
extern const struct gfid GFID_ROOT;      /* 00..01: the root directory; also names a volume's namespace domain */
extern const struct gfid GFID_SHARD_DIR; /* be318638-e8a0-4c6d-977d-7a937aa84806: /.shard */
/* 6d796673-0000-4000-8000-000000000001: /block, where the LUNs' base files live */
extern const struct gfid GFID_BLOCK_DIR;

static inline bool gfid_eq(const struct gfid *a, const struct gfid *b) { return memcmp(a, b, 16) == 0; }
static inline bool gfid_is_null(const struct gfid *a) { return gfid_eq(a, &GFID_NULL); }

/* A fresh random (version 4) gfid from 16 random bytes, so that the simulator decides the randomness. */
struct gfid gfid_from_random(const uint8_t random[16]);
/* The gfid of shard `index` of file `base`: index 0 is the base file itself, others a name-based
 * (version 5 shaped) UUID of "<base>.<index>" in the namespace GFID_SHARD_DIR, so that every gateway and brick
 * computes the same one. */
struct gfid gfid_of_shard(const struct gfid *base, uint32_t index);
/* Canonical lower-case text. Returns out. */
char *gfid_text(const struct gfid *g, char out[GFID_TEXT]);
/* Parses canonical text, either case. 0 or -EINVAL. */
int gfid_parse(const char *text, struct gfid *ret);

#endif
