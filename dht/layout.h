/* layout.h - how the 32-bit hash circle of a directory is divided among the sets of a volume. Pure.
 *
 *   0                                                    ffffffff
 *   |-- set 1 --|------- set 2 -------|----- set 0 -----|          one range per set, sizes weighted by capacity,
 *                                                                   the first place rotates from directory to directory
 * Invariants of a struct dht_layout: ranges are sorted, the first starts at 0, each next one starts right after the one
 * before, the last stops at ffffffff. */
#ifndef MYFS_DHT_LAYOUT_H
#define MYFS_DHT_LAYOUT_H

#include "core/base/base.h"
#include "core/base/err.h"

#define DHT_XATTR_BYTES       16u
#define DHT_XATTR_NAME        "glusterfs.dht"            /* on a directory: this set's range */
#define DHT_COMMIT_XATTR_NAME "glusterfs.dht.commithash" /* on "/": BE32, written when all layouts are in place */
#define DHT_MAX_SETS          1024u

struct dht_range {
	uint32_t commit;      /* volume commit hash it was made under; 1 = not valid */
	uint32_t type;        /* 0 = computed, 1 = pinned by the administrator */
	uint32_t start, stop; /* inclusive; both 0 = the set takes no part */
	uint32_t set;         /* not part of the xattr: whose it is */
};

struct dht_layout {
	uint32_t n;
	struct dht_range *v; /* owned */
};

/* Divides the circle among `sets` sets (1..DHT_MAX_SETS) in proportion to sizes[] (bytes; NULL, or any of them 0 =
 * equally), beginning with set `first` % sets. 0, -EINVAL or -ENOMEM. */
int dht_layout_build(struct dht_layout *ret, const uint64_t *sizes, uint32_t sets, uint32_t first, uint32_t commit);
/* From what the sets say; ranges in any order, copied. -EUCLEAN with text when the circle has a hole or an overlap. */
int dht_layout_assemble(struct dht_layout *ret, const struct dht_range *ranges, uint32_t n, struct err *e);
void dht_layout_free(struct dht_layout *l); /* NULL and empty are fine */
/* The set that hash falls on. */
uint32_t dht_layout_find(const struct dht_layout *l, uint32_t hash);
/* The range of one set; both ends 0 when it takes no part. */
struct dht_range dht_layout_range_of(const struct dht_layout *l, uint32_t set);

/* trusted.glusterfs.dht: four big-endian words commit, type, start, stop. decode: 0 or -EINVAL. */
void dht_range_encode(const struct dht_range *r, uint8_t out[DHT_XATTR_BYTES]);
int dht_range_decode(const void *xattr, size_t len, struct dht_range *ret);

#endif
