/* ec.h - one brick set: N = K+R bricks that hold every stripe's K data and R parity chunks.
 *
 * A *set* is the connections to its bricks. A *domain* is one owned object on one set (a LUN with all its shards, or a volume's
 * namespace): opening it takes it over (fence, resolve, ready: PROTOCOL.md), after which reads and writes go through its
 * transactions. All calls belong to the set's loop. Addresses inside a domain are (shard, byte offset in shard); a
 * shard holds geometry.shard_bytes bytes. Rows, stripes and regions: see ec/geometry.h. */
#ifndef MYFS_EC_H
#define MYFS_EC_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/gfid.h"
#include "core/loop/loop.h"
#include "core/loop/net.h"
#include "core/loop/tls.h"
#include "ec/geometry.h"

#define EC_MAX_BRICKS 32

struct ec_set;
struct histogram;
struct ec_domain;

struct ec_brick_addr {
	struct gfid uuid;
	char label[600];        /* "node1:/bricks/b1", for messages */
	struct address address;
};

/* What makes a read valid. INDEX: N-W+1 bricks confirmed, after the read began, that nobody has taken the domain over. OFF: the
 * bricks it was read from did: a gateway cut off from the others may return what its successor has overwritten since. */
enum ec_read_fence { EC_READ_FENCE_INDEX, EC_READ_FENCE_OFF };

struct ec_set_config {
	struct loop *loop;
	struct net *net;
	struct tls_creds *tls;         /* for TCP bricks; NULL = unix sockets only */
	struct gfid volume;
	struct gfid gateway;           /* our stable uuid: the owner in promises */
	uint32_t set_index;
	uint32_t k, r, chunk_bytes;
	struct ec_brick_addr bricks[EC_MAX_BRICKS];
	uint64_t stall_ns;             /* a brick that answers nothing for this long is put out of the way; default 3 s */
	uint64_t idle_clean_ns;        /* nothing written and everything durable for this long: the view says so; default 10 s */
	uint64_t grey_rest_ns;         /* how long a brick that was ejected for answering late stays out at least; default 30 s */
	uint64_t io_timeout_ns;        /* default 120 s: how long I/O waits for a quorum before -MYFS_E_QUORUM */
	uint64_t cache_bytes;          /* old-data cache per set, 0 = default 16 MiB */
	enum ec_read_fence read_fence;
	uint32_t write_min;            /* 0 = K (at exactly K in-sync every PREP is durable before it counts, H12) */
};

/* Starts connecting in the background and keeps reconnecting (back-off 50 ms .. 1 s). */
int ec_set_open(const struct ec_set_config *cfg, struct ec_set **ret, struct err *e);
void ec_set_close(struct ec_set *s) YIELDS; /* every domain must be closed */
/* Waits until at least `need` bricks are connected. 0 or -ETIMEDOUT with a text naming who is missing and why. */
int ec_set_wait_up(struct ec_set *s, unsigned need, uint64_t deadline_ns, struct err *e) YIELDS;
/* We are about to stop: from now on nothing waits for bricks that are away, it ends with -MYFS_E_QUORUM. What is served goes on. */
void ec_set_give_up(struct ec_set *s);
const struct ec_geometry *ec_set_geometry(const struct ec_set *s);

struct ec_brick_status {
	bool connected;
	char label[600];
	char why[200];            /* last connect error when not connected */
	uint64_t down_since_ns;   /* monotonic; 0 when connected */
	uint64_t checksum_errors; /* blocks of this brick that we found wrong */
	uint64_t repaired_blocks; /* and rewrote */
};
/* How long brick `index` took to answer, over all calls since the set was opened; borrowed. */
const struct histogram *ec_set_brick_round_trips(const struct ec_set *s, unsigned index);
/* Old data wanted by partial writes: found in the cache or not, over all domains of the set. */
void ec_set_cache_counts(const struct ec_set *s, uint64_t *ret_hits, uint64_t *ret_misses);
void ec_set_brick_status(const struct ec_set *s, unsigned index, struct ec_brick_status *ret);
/* What brick `index` says of itself (space, journal, counters). -ENOTCONN when it is not connected. */
struct bp_stat_res;
int ec_set_brick_stat(struct ec_set *s, unsigned index, struct bp_stat_res *ret) YIELDS;
/* Bytes that the connected bricks have allocated for a domain, parity included, and how many answered. Takes nothing over.
 * -ENOTCONN when no brick answered. */
int ec_set_usage(struct ec_set *s, const struct gfid *domain, uint64_t *ret_bytes, unsigned *ret_bricks) YIELDS;

struct ec_domain_options {
	struct gfid gfid;
	bool namespace_domain;
	bool create;              /* a domain never opened before may be seeded: no brick has a view yet */
};
/* Takes the domain over and waits until it is served. Errors: -MYFS_E_QUORUM (text says who is missing), -MYFS_E_FENCED. */
int ec_domain_open(struct ec_set *s, const struct ec_domain_options *opt, struct ec_domain **ret, struct err *e) YIELDS;
/* Orderly: waits for running requests, flushes, tells bricks. */
void ec_domain_close(struct ec_domain *d) YIELDS;
struct gfid ec_domain_gfid(const struct ec_domain *d);

/* Data path. Any byte offset and length inside one shard. Writes may run concurrently; overlapping ones are ordered by arrival.
 * Errors: -ENOSPC, -EIO class (-MYFS_E_UNREADABLE), -MYFS_E_QUORUM after io_timeout, -MYFS_E_FENCED when deposed.
 * ec_write: data is lent until return. fua: durable on every in-sync participant before return. */
int ec_read(struct ec_domain *d, uint32_t shard, uint64_t off, uint32_t len, struct bufs *out) YIELDS;
int ec_write(struct ec_domain *d, uint32_t shard, uint64_t off, struct iov data, bool fua) YIELDS;
/* Zeroes and frees space where whole rows are covered; off/len any, up to the whole shard. */
int ec_zero(struct ec_domain *d, uint32_t shard, uint64_t off, uint64_t len, bool fua) YIELDS;
/* Everything acknowledged before is durable on every in-sync brick. */
int ec_flush(struct ec_domain *d) YIELDS;
/* Bitmap over 4 KiB blocks of the shard's address space (lba order): bit set = data, clear = reads as zeros. off,len multiples of 4096;
 * bits[] has len/4096 bits, bit 0 = off. */
int ec_extents(struct ec_domain *d, uint32_t shard, uint64_t off, uint64_t len, uint64_t *bits) YIELDS;
/* True when the shard surely does not exist (never written): callers skip it. */
bool ec_shard_absent(const struct ec_domain *d, uint32_t shard);
/* Number of shards known to exist; allocated bytes on all reachable bricks (parity included). */
int ec_usage(struct ec_domain *d, uint64_t *ret_bytes) YIELDS;

/* Namespace (namespace_domain only): one absolute, idempotent change on every in-sync brick, durable. Fields as BP_NSOP (core/rpc/brick.x);
 * bricks that are out get the directory marked missed. */
struct bp_nsop_args;
struct bp_nsread_args;
struct bp_nsread_res;
int ec_ns_apply(struct ec_domain *d, struct bp_nsop_args *op, struct err *e) YIELDS;
/* From any in-sync brick. res must be zeroed; xdr_free it after. */
int ec_ns_read(struct ec_domain *d, struct bp_nsread_args *args, struct bp_nsread_res *res) YIELDS;

/* Healing of this domain: what returned bricks still lack. Runs by itself in the background while the domain is open. */
enum ec_heal_cause { EC_HEAL_NONE, EC_HEAL_RUNNING, EC_HEAL_WAITING_BRICK, EC_HEAL_PAUSED, EC_HEAL_THROTTLED, EC_HEAL_NO_SPACE };
struct ec_domain_status {
	uint32_t insync;              /* mask */
	uint32_t connected;           /* mask */
	uint32_t healing;             /* mask: connected, out of sync, being healed */
	uint64_t missed_bytes;        /* fragment bytes still to be rebuilt on all stale bricks together */
	uint64_t healed_bytes;        /* rebuilt since the domain was opened */
	enum ec_heal_cause cause;
	uint64_t epoch, view_ver;
	bool serving;                 /* enough bricks for reads and writes now */
	bool deposed;                 /* another owner took it over: the masks are what we saw last */
	uint64_t loss_gen;            /* grows, for good, whenever acknowledged unflushed writes may have been lost */
	uint64_t replays;             /* times they would have been, but were written again from memory */
	bool replaying;
	uint64_t reads, writes, flushes, zeros, bytes_read, bytes_written; /* completed client operations */
	uint64_t rounds;              /* brick round trips spent on writes */
	uint64_t degraded_reads, checksum_errors, repaired_blocks;
	uint64_t hedged_reads;        /* started because a brick was late */
	uint64_t ejections;           /* of bricks that answered late too often */
	uint64_t pings;               /* questions sent only to confirm reads */
};
void ec_domain_status(const struct ec_domain *d, struct ec_domain_status *ret);
/* Its loss_gen alone, and how often this owner has raised it: cheap enough for every request. */
uint64_t ec_domain_loss_gen(const struct ec_domain *d, uint64_t *ret_own);
/* What a scrub saw; counts are added to. */
struct ec_scrub_count {
	uint64_t bytes;      /* of fragments, on all bricks */
	uint64_t rotten;     /* blocks that did not match their checksum */
	uint64_t stale;      /* blocks that matched it and were not what the others say: a write was lost or went astray */
	uint64_t undecided;  /* rows whose blocks disagree and nobody can say which is wrong; parity follows data */
	uint64_t unreadable; /* regions with a row that has fewer good blocks than needed */
	uint64_t repaired;   /* blocks rewritten */
	uint64_t partial;    /* regions looked at while a brick was out of sync */
	uint32_t undecided_shard; /* the first of them: blocks of its row begin at this offset in this shard */
	uint64_t undecided_off;
};
/* Checks one region (0..63) of a shard on every in-sync brick, and mends what it finds. -ENOENT: there is no such shard;
 * -EOPNOTSUPP: a brick is of a version that cannot; else as ec_read. */
int ec_scrub_region(struct ec_domain *d, uint32_t shard, uint32_t region, struct ec_scrub_count *count) YIELDS;

/* Bytes of rebuilt fragments per second over all domains of the set. AUTO (the default): full speed while no client asks
 * for anything, a tenth of the time while one does. MAX: full speed. */
#define EC_HEAL_AUTO UINT64_C(0)
#define EC_HEAL_MAX  ((uint64_t)INT64_MAX)
void ec_set_heal_limit(struct ec_set *s, uint64_t bytes_per_s);
void ec_set_heal_pause(struct ec_set *s, bool paused);

#endif
