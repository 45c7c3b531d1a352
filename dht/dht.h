/* dht.h - what a volume is: several brick sets, a namespace over them, files cut in shards placed by hash.
 *
 * Shard n of a file lives on the set that the DHT hash of "<gfid>.<n>" selects in the layout of /.shard, n = 0
 * included: the base file and its name in /block are on that set too, so a rename never moves data; see dht/README.md.
 * All calls belong to one loop. */
#ifndef MYFS_DHT_H
#define MYFS_DHT_H

#include "ec/ec.h"

#define DHT_MAX_FILE_BYTES (UINT64_C(1) << 46) /* 64 TiB: a million shards */
#define DHT_TRASH_PREFIX   ".trash."           /* deleted files wait in /block under this and their gfid */

struct dht_volume;
struct dht_file;

struct dht_volume_config {
	struct loop *loop;
	struct net *net;
	struct tls_creds *tls;
	char name[64];
	struct gfid uuid;
	struct gfid gateway;
	uint32_t k, r, chunk_bytes;
	uint32_t sets;
	const struct ec_brick_addr *bricks; /* sets * (k + r), ordered by set, index; copied */
	uint64_t io_timeout_ns;
	enum ec_read_fence read_fence;
};
int dht_volume_open(const struct dht_volume_config *cfg, struct dht_volume **ret, struct err *e);
void dht_volume_close(struct dht_volume *v) YIELDS;
/* Until every set has a write quorum connected. */
int dht_volume_wait_up(struct dht_volume *v, uint64_t deadline_ns, struct err *e) YIELDS;
/* As ec_set_give_up, for every set. */
void dht_volume_give_up(struct dht_volume *v);
unsigned dht_volume_sets(const struct dht_volume *v);
struct ec_set *dht_volume_set(struct dht_volume *v, unsigned index);
/* Of the namespace domain on one set; false (ret untouched) while it is not open, or
 * another gateway has it. */
bool dht_volume_names_status(const struct dht_volume *v, unsigned set, struct ec_domain_status *ret);

/* Namespace: takes the volume's namespace domain over on first use. Idempotent; finished on every in-sync brick and
 * durable. */
int dht_namespace_init(struct dht_volume *v,
		       struct err *e) YIELDS; /* /, /block, /.shard with layouts; only for volumes that may be new */
/* Opens the namespace domain on every set, again where another gateway took it, so that names missed by returning
 * bricks are healed. */
int dht_namespace_open(struct dht_volume *v, struct err *e) YIELDS;
int dht_create(struct dht_volume *v, const char *name, const struct gfid *gfid, uint64_t size_bytes,
	       struct err *e) YIELDS; /* /block/<name> */
int dht_lookup(struct dht_volume *v, const char *name, struct gfid *ret_gfid, uint64_t *ret_size, struct err *e) YIELDS;
int dht_set_size(struct dht_volume *v, const struct gfid *gfid, const char *name, uint64_t size_bytes,
		 struct err *e) YIELDS;
/* The name moves to /block/.trash.<gfid>; data stays. And back under a (possibly new) name. */
int dht_trash(struct dht_volume *v, const char *name, const struct gfid *gfid, struct err *e) YIELDS;
int dht_restore(struct dht_volume *v, const struct gfid *gfid, const char *name, struct err *e) YIELDS;
int dht_unlink_trashed(struct dht_volume *v, const struct gfid *gfid, struct err *e) YIELDS; /* data and shards go */
int dht_list(struct dht_volume *v, int (*emit)(void *arg, const char *name, const struct gfid *gfid), void *arg,
	     struct err *e) YIELDS;

/* Opening a file takes its domain over on every set. */
int dht_open(struct dht_volume *v, const char *name, const struct gfid *gfid, uint64_t size_bytes, bool create,
	     struct dht_file **ret, struct err *e) YIELDS;
void dht_close(struct dht_file *f) YIELDS;
/* The end moves; requests past it are refused with -EINVAL. -ENOMEM changes nothing. */
int dht_file_resized(struct dht_file *f, uint64_t size_bytes);
int dht_read(struct dht_file *f, uint64_t off, uint32_t len, struct bufs *out) YIELDS;
int dht_write(struct dht_file *f, uint64_t off, struct iov data, bool fua) YIELDS;
int dht_zero(struct dht_file *f, uint64_t off, uint64_t len, bool fua) YIELDS;
int dht_flush(struct dht_file *f) YIELDS;
/* Shards of the file, existing or not; checking one region of one, as ec_scrub_region: -ENOENT when it was never written.
 * Offsets in *count are of the shard. */
uint32_t dht_shards(const struct dht_file *f);
int dht_scrub(struct dht_file *f, uint32_t shard, uint32_t region, struct ec_scrub_count *count) YIELDS;
/* Emits consecutive extents from off; stops after len bytes, or when emit returns non-zero. */
int dht_extents(struct dht_file *f, uint64_t off, uint64_t len, int (*emit)(void *arg, uint64_t len, bool data),
		void *arg) YIELDS;
/* Allocated bytes on the bricks, parity included; bricks that do not answer are taken to hold as much as the others.
 * Needs no open file and takes nothing over. */
int dht_usage(struct dht_volume *v, const struct gfid *gfid, uint64_t *ret_bytes, struct err *e) YIELDS;
/* Losses of acknowledged data that the bricks know of, all sets together; *ret_own: those found since the file is open. */
uint64_t dht_file_losses(const struct dht_file *f, uint64_t *ret_own);
/* Counters are sums over sets; masks, epoch, view and cause are of set `set`; serving: all sets serve. */
void dht_file_status(const struct dht_file *f, unsigned set, struct ec_domain_status *ret);

#endif
