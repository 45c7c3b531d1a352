/* tx.h - transactions on one brick: prepared, decided, forgotten once stable.
 *
 *   PREP frame -> PREPARING -> (journal) PREP --COMMIT--> COMMITTED: rows are in the overlay --floor passes--> gone
 *                                        \---ABORT---> ABORTED ------------------------------floor passes--> gone
 *
 * One tx has at most one PREP per brick. The payload is held until the decision, the digest until the floor has passed.
 *
 * Invariants: X1 a PREP is answered only after its record is in the journal file; X2 COMMIT and ABORT never suspend, so
 * what arrives after them sees them; X3 a tx a handler still works on (busy) is freed by that handler only. */
#ifndef MYFS_BRICK_TX_H
#define MYFS_BRICK_TX_H

#include <brick.h>

#include "brick/domain.h"

enum tx_state { TX_PREPARING, TX_PREP, TX_COMMITTED, TX_ABORTED };

#define TX_INLINE_CRCS 4u
struct tx {
	struct list node; /* domain's, in id order */
	struct tx *hash_next;
	struct domain *d;
	struct txid id;
	enum tx_state state;
	bool busy;   /* X3 */
	bool undone; /* aborted by a takeover */
	uint32_t shard, kind, tx_kind, row, nrows, coef, lba, nblocks, participants;
	uint64_t prep_lsn, commit_lsn;
	uint64_t commit_seq;  /* recovery: order of commits */
	uint32_t payload_off; /* inside the record */
	bool carried;         /* recovery: the record is in the carry file, at carry_off */
	uint64_t carry_off;
	struct slice payload; /* undecided only; holds a reference */
	uint32_t *crc;        /* per payload row */
	uint32_t crc_inline[TX_INLINE_CRCS];
};

#define TX_BUCKETS 8192u

struct tx *tx_find(const struct brick *b, const struct domain *d, struct txid id);
/* A new transaction in its domain's list, with room for ncrc checksums. NULL without memory. */
struct tx *tx_new(struct brick *b, struct domain *d, struct txid id, uint32_t ncrc);
void tx_describe(struct tx *t, const struct rec_prep *p); /* what it does, from its PREP */
void tx_free(struct brick *b, struct tx *t); /* takes it out of the tables */
void tx_set_state(struct brick *b, struct tx *t,
		  enum tx_state state); /* keeps the counters; drops the payload when decided */
/* Puts a committed transaction's rows into the overlay. t->commit_lsn is set; skip_to: NULL or per row "in the base up
 * to this lsn". */
int tx_apply(struct brick *b, struct tx *t);
/* Drops decided transactions below the domain's floor. -EPROTO when one below it is undecided. */
int tx_drop_stable(struct brick *b, struct domain *d);
/* Lowest PREP position at or after `from` that a transaction of the domain still needs, UINT64_MAX when none. */
uint64_t tx_min_lsn(const struct domain *d, uint64_t from);

/* ---- requests ---- */
/* ret_delta: filled for BP_PREP_WANT_DELTA, the caller drops its reference. */
int tx_prepare(struct brick *b, struct session *s, const struct bp_prep_args *a, const struct slice *payload,
	       struct slice *ret_delta) YIELDS;
/* COMMIT (commit) or ABORT of a list; unknown and already decided ones are skipped. */
int tx_decide(struct brick *b, struct session *s, const struct bp_decide_args *a, bool commit);
int tx_resolve(struct brick *b, struct session *s, const struct bp_resolve_args *a) YIELDS;
int tx_sync(struct brick *b, struct session *s, const struct bp_floor_args *a) YIELDS;
int tx_stable(struct brick *b, struct session *s, const struct bp_floor_args *a);
/* ret->items is allocated; xdr_free it. */
int tx_rejoin(struct brick *b, struct session *s, const struct bp_rejoin_args *a, struct bp_missed_res *ret) YIELDS;

#endif
