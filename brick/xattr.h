/* xattr.h - bytes of the extended attributes a brick writes, and what any of them says in words. Pure; layouts in
 * FORMAT.md.
 *
 * Names here are without the trusted. or user. prefix. */
#ifndef MYFS_BRICK_XATTR_H
#define MYFS_BRICK_XATTR_H

#include "brick/identity.h"

#define XATTR_VOLUME_ID        "glusterfs.volume-id"
#define XATTR_GFID             "gfid"
#define XATTR_MDATA            "glusterfs.mdata"
#define XATTR_DHT              "glusterfs.dht"
#define XATTR_GFID2PATH        "gfid2path."
#define XATTR_EC_CONFIG        "ec.config"
#define XATTR_EC_SIZE          "ec.size"
#define XATTR_EC_VERSION       "ec.version"
#define XATTR_EC_DIRTY         "ec.dirty"
#define XATTR_SHARD_BLOCK_SIZE "glusterfs.shard.block-size"
#define XATTR_SHARD_FILE_SIZE  "glusterfs.shard.file-size"

#define XATTR_NAME_BYTES       255u
#define XATTR_MDATA_BYTES      57u
#define XATTR_CONFIG_BYTES     8u
#define XATTR_COUNTERS_BYTES   16u
#define XATTR_ALGORITHM_CAUCHY 1u /* systematic Cauchy; 0 is Gluster's non-systematic code */

/* ec.config: version 0, algorithm, word size 8, N, R, chunk bytes. */
void xattr_ec_config(const struct brick_identity *id, uint8_t out[XATTR_CONFIG_BYTES]);
/* mdata of a file made at wall_ns: ctime, mtime and atime. */
void xattr_mdata(uint64_t wall_ns, uint8_t out[XATTR_MDATA_BYTES]);
/* Two BE64: ec.version and ec.dirty (data, metadata). */
void xattr_counters(uint64_t data, uint64_t metadata, uint8_t out[XATTR_COUNTERS_BYTES]);
void xattr_be64(uint64_t v, uint8_t out[8]);

/* gfid2path: one xattr per name of a file. key = "gfid2path.<16 hex of XXH64(value)>", value = "<parent gfid>/<name>".
 */
#define XATTR_GFID2PATH_KEY   (sizeof(XATTR_GFID2PATH) + 16)
#define XATTR_GFID2PATH_VALUE (GFID_TEXT + 256)
/* Returns the length of value (NUL-terminated, the NUL is not part of it). name is at most 255 bytes. */
size_t xattr_gfid2path(const struct gfid *parent, const char *name, char key[XATTR_GFID2PATH_KEY],
		       char value[XATTR_GFID2PATH_VALUE]);

/* True for names only the brick itself may write. */
bool xattr_is_internal(const char *name);
/* True when a name from outside is acceptable at all: 1..240 of [a-z0-9._-]. */
bool xattr_name_ok(const char *name);
/* "4+2 systematic Cauchy, chunk 16 KiB" ...; hex for what it does not know. out is always terminated. */
void xattr_describe(const char *name, const uint8_t *value, size_t len, char *out, size_t cap);

#endif
