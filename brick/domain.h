/* domain.h - what a brick remembers of one domain: promise, view, floor, missed regions, live transactions, overlay.
 *
 *             FENCE                 VIEW (own index in it)
 *   UNSEEDED ------> promised ----------------------------> MEMBER: serves reads and writes
 *                        \--------- VIEW (not in it) -----> OUT: takes HEALW and PREPs of healed regions, is never read
 *
 * Everything here is RAM; it is changed together with a journal record (live) or by replaying one, through the same
 * domain_apply_* calls, and it is written as a whole into the state file when the journal is trimmed.
 *
 * Invariants: D1 promises only grow (epoch, then same owner); D2 the holder is the session that fenced with the present
 * promise, at most one; D3 missed regions go away only by CLEAR. */
#ifndef MYFS_BRICK_DOMAIN_H
#define MYFS_BRICK_DOMAIN_H

#include "brick/overlay.h"
#include "brick/record.h"

struct brick;
struct session;

struct missed_map { /* sorted by (shard, brick) */
	struct rec_missed *v;
	size_t n, cap;
};
/* 1 when a bit was new, 0 when not, -ENOMEM. */
int missed_add(struct missed_map *m, uint32_t shard, uint32_t brick, uint64_t regions);
/* Index of the first entry at or behind (shard, brick). */
size_t missed_at(const struct missed_map *m, uint32_t shard, uint32_t brick);
void missed_clear_brick(struct missed_map *m, uint32_t brick);
void missed_release(struct missed_map *m);
/* OR over all bricks for one shard. */
uint64_t missed_of_shard(const struct missed_map *m, uint32_t shard);

struct domain {
	struct list node; /* the brick's list */
	struct domain *hash_next;
	struct gfid gfid;
	uint64_t promise_epoch;
	struct gfid promise_owner;
	struct session *holder; /* D2 */
	struct list held_node;  /* the holder's list */
	bool has_view, dropped;
	unsigned refs; /* handlers that may suspend while using it */
	struct rec_view_head view;
	struct txid floor; /* every tx below is stable */
	struct txid logged_floor; /* what the journal says of it, at least */
	uint64_t seal_lsn; /* journal position of the last SYNC */
	uint64_t base_seq; /* grows when versions move to the base: a reader that saw it change looks again */
	struct missed_map missed;
	struct list txs; /* live transactions in id order */
	unsigned n_txs, n_undecided;
	struct oshards shards;
};

#define DOMAIN_BUCKETS    1024u
#define BRICK_MAX_DOMAINS 65536u /* promises one brick keeps */

struct domain *domain_find(const struct brick *b, const struct gfid *gfid);
/* Finds or makes. 0, -ENOMEM, -ENOSPC at the limit. */
int domain_get(struct brick *b, const struct gfid *gfid, struct domain **ret);
void domain_ref(struct domain *d);
void domain_unref(struct domain *d);
/* Forgets it with transactions and versions; freed with its last reference. */
void domain_drop(struct brick *b, struct domain *d);
/* Drops every version and every transaction no handler is using (those are marked aborted). */
void domain_forget_writes(struct brick *b, struct domain *d);

bool domain_is_insync(const struct brick *b, const struct domain *d);
void domain_set_holder(struct domain *d, struct session *s);
void domain_apply_promise(struct domain *d, uint64_t epoch, const struct gfid *owner);
/* Also drops undecided transactions of older epochs when the view is READY. */
void domain_apply_view(struct brick *b, struct domain *d, const struct rec_view_head *v);
void domain_purge_undecided(struct brick *b, struct domain *d, uint64_t epoch); /* of epochs below */
void domain_raise_floor(struct domain *d, struct txid floor);

/* Regions bitmap of rows. */
uint64_t regions_of_rows(const struct brick *b, uint32_t row, uint32_t nrows);

#endif
