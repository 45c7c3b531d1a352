/* hash.h - GlusterFS's distribution hash, bit for bit: which point of the 32-bit circle a name falls on. Pure. */
#ifndef MYFS_DHT_HASH_H
#define MYFS_DHT_HASH_H

#include "core/base/base.h"

/* The raw hash of len bytes (Davies-Meyer over TEA, the last block 10 rounds, full blocks 6). */
uint32_t dht_hash(const void *data, size_t len);
/* The part of a name that is hashed: ".x.y" counts as "x", so that a file written as ".disk.Zf3kQ1" and renamed to
 * "disk" stays where it is (GlusterFS's default rule ^\.(.+)\.[^.]+$). Borrowed pointer into name. */
const char *dht_hash_part(const char *name, size_t *ret_len);
/* dht_hash() of dht_hash_part(). */
uint32_t dht_hash_name(const char *name);

#endif
