/* brick_priv.h - what the engine's files share and others may not see, grouped by the file that owns it. */
#ifndef MYFS_BRICK_PRIV_H
#define MYFS_BRICK_PRIV_H

#include <brick.h>

#include "brick/brick.h"
#include "brick/debug_delay.h"
#include "brick/domain.h"
#include "brick/frag.h"
#include "brick/journal.h"
#include "brick/overlay.h"
#include "brick/tree.h"
#include "brick/tx.h"
#include "core/base/mutate.h"

/* ---- session.c: one gateway's connection to one brick ---- */
struct session {
	struct list node; /* brick's */
	struct list held; /* domains it holds */
	struct brick *b;
	struct rpc_conn *conn; /* NULL in tests */
	struct gfid gateway;
	uint64_t instance, id;
	bool dead; /* replaced or closed: nothing of it is executed any more */
};
/* Ends older sessions of the same gateway. NULL without memory. */
struct session *session_new(struct brick *b, const struct gfid *gateway, uint64_t instance, struct rpc_conn *conn);
void session_kill(struct session *s); /* gives up what it holds; the connection is closed */
void session_free(struct session *s);
/* The domain, when this session holds its promise. 0, -MYFS_E_UNSEEDED, -MYFS_E_FENCED, -EIO when the brick has failed.
 */
int session_domain(struct session *s, const char domain[16], struct domain **ret);

/* ---- carry.c: journal records of domains that make no progress, moved out of the ring's way ---- */
struct carry {
	struct file *file; /* NULL: nothing is carried */
	uint64_t id, bytes;
	struct gfid *domains; /* whose records are in it */
	size_t n;
};
/* The file state_load spoke of. -EUCLEAN when it is not what it was. */
int carry_open(struct brick *b, uint64_t id, uint64_t bytes, struct err *e) YIELDS;
int carry_scan(struct brick *b, int (*fn)(void *arg, struct record *r), void *arg) YIELDS;
/* A new file: what is carried now and the ring's [trim, upto), of the domains that need something below upto. ret->file
 * NULL: nobody does. *ret_same: the present file serves as it is, *ret is empty. ckpt_lock is held. */
int carry_build(struct brick *b, uint64_t upto, struct carry *ret, bool *ret_same) YIELDS;
/* Makes c (consumed) the present one, after the state file that names it is durable; the old file goes. */
void carry_replace(struct brick *b, struct carry *c) YIELDS;
void carry_discard(struct brick *b, struct carry *c) YIELDS; /* a built one that did not come into use */
void carry_close(struct carry *c);
/* True when the domain needs journal records below lsn. */
bool carry_needed(const struct brick *b, const struct domain *d, uint64_t lsn);

/* ---- engine.c: life of a brick ---- */
struct brick_counters {
	uint64_t reads, preps, commits, syncs, checkpoints, bytes_read, bytes_written, checksum_errors, repaired;
};
struct brick {
	struct brick_options opt;
	struct store *store;
	struct tree *tree;
	struct brick_identity id;
	struct journal *journal;
	struct overlay overlay;
	struct list domains, sessions;
	struct waitq session_gone;
	struct list host_node; /* brick_host's list */
	unsigned n_domains;
	struct domain *domain_hash[DOMAIN_BUCKETS];
	struct tx *tx_hash[TX_BUCKETS];
	struct tx *tx_pool;
	/* decoded lists of COMMIT, ABORT, SYNC, STABLE: used between two suspend points only */
	bp_tx *scratch_txs;       /* owned, [BP_MAX_TX] */
	bp_floor *scratch_floors; /* owned, [BP_MAX_DOMAINS] */

	struct gfid incarnation; /* changes when the journal tail may have been lost */
	uint64_t start_id;       /* random per start */
	uint64_t last_session;
	char failed[200]; /* "" while healthy */
	bool stopping;

	/* checkpoint.c */
	struct fmutex ckpt_lock; /* base files change only under it (but for HEALW of rows without versions) */
	struct fiber *ckpt_fiber;
	bool ckpt_running, ckpt_idle;
	unsigned held; /* sweeps in a row that left the journal's tail where it was, with room short */
	struct waitq ckpt_gone;
	uint64_t round;           /* number of the last checkpoint round begun */
	struct fmutex state_lock; /* one state file write at a time */
	struct carry carry;       /* changes under ckpt_lock */
	uint64_t last_carry_id;

	/* space.c */
	uint64_t free_bytes, free_at_ns; /* what the file system said last, less what was written since */
	uint64_t free_inodes;
	bool space_asking, full;
	uint64_t prep_bytes; /* payload rows prepared, not yet decided */
	struct waitq room_q; /* PREPs waiting for journal room, in order */
	unsigned room_waiters;
	uint64_t freed_per_s; /* bytes of journal, by the last sweeps */
	uint64_t pace_ns;     /* when the next record may enter a journal that is nearly full */
	struct waitq pace_q;

	struct brick_counters count;
	struct brick_activity activity; /* serve.c */
	struct debug_delay *delay; /* serve.c; borrowed from the host, NULL: none */
};

/* ---- space.c: may this PREP be accepted, as to disk and journal ---- */
/* Nothing may fail for space after a PREP was acknowledged (I12). 0 or -ENOSPC. */
int space_check(struct brick *b, struct domain *d, uint32_t shard, uint32_t nrows) YIELDS;
bool space_inodes_short(const struct brick *b);
void space_used(struct brick *b, uint64_t bytes);
void space_refresh(struct brick *b) YIELDS;
/* Waits its turn until a record of this size leaves the journal's headroom free. 0, -EIO, -ESHUTDOWN. */
int room_wait(struct brick *b, uint32_t body_len, uint32_t payload_len) YIELDS;
/* The journal has been trimmed. */
void room_wake(struct brick *b);
/* The brick stops, or failed: nobody waits any longer. */
void room_wake_all(struct brick *b);

/* ---- log.c: journal records of state changes, one call per kind. 0 and the position behind the record in *ret_end
 * (may be NULL), or the error; none of them suspends ---- */
int log_promise(struct brick *b, const struct gfid *domain, uint64_t epoch, const struct gfid *owner,
		uint64_t *ret_end);
int log_view(struct brick *b, const struct gfid *domain, const struct rec_view_head *v, const struct bp_missed *m,
	     uint32_t n, uint64_t *ret_end);
int log_missed(struct brick *b, const struct gfid *domain, const struct rec_missed *m, uint32_t n, uint64_t *ret_end);
int log_clear(struct brick *b, const struct gfid *domain, uint32_t brick_index, uint64_t *ret_end);
int log_discard(struct brick *b, const struct gfid *domain, struct txid floor, uint64_t *ret_end);
int log_drop(struct brick *b, const struct gfid *domain, uint64_t *ret_end);
int log_floor(struct brick *b, const struct domain *d);
int log_heal(struct brick *b, const struct gfid *domain, uint32_t shard, uint32_t row, uint32_t nrows,
	     uint64_t *ret_end);
int log_done(struct brick *b, uint64_t round, uint64_t *ret_end);
/* what: REC_COMMIT, REC_ABORT or REC_UNDO */
int log_decision(struct brick *b, const struct gfid *domain, enum record_type what, struct tx *const *txs, uint32_t n,
		 uint64_t *ret_lsn);
int log_prep(struct brick *b, const struct tx *t, uint64_t view_ver, uint32_t missed, uint64_t *ret_lsn);

/* ---- rows.c: present values ---- */
#define BRICK_MAX_SHARDS (1u << 20) /* of one domain: 64 TiB at 64 MiB each */
/* Present values and checksums of rows. A row whose base is wrong on disk: verify -> -MYFS_E_BADSUM, else its checksum
 * is returned not to match its bytes, so that the reader rejects just that row. *ret_zero: all rows read as zeros and
 * dst was not touched. */
int rows_read(struct brick *b, struct domain *d, uint32_t shard, uint32_t row, uint32_t nrows, uint8_t *dst,
	      uint32_t *crc, bool verify, bool *ret_zero) YIELDS;
/* Present checksums only; reads data where no checksum is known. */
int rows_crc(struct brick *b, struct domain *d, uint32_t shard, uint32_t row, uint32_t nrows, uint32_t *crc) YIELDS;
/* Called before rows are written or punched: bad ones among them count as repaired. */
void rows_rewritten(struct brick *b, struct frag *f, uint32_t row, uint32_t nrows);
bool rows_valid(const struct brick *b, uint32_t shard, uint32_t row, uint32_t nrows, uint32_t max_rows);
/* Requests. ret->crc.crc_val points at crc[]; payload NULL-owner when zero. */
int rows_request_read(struct brick *b, struct session *s, const struct bp_read_args *a, struct bp_read_res *ret,
		      uint32_t *crc, struct slice *ret_payload) YIELDS;
int rows_request_extents(struct brick *b, struct session *s, const struct bp_extents_args *a,
			 struct slice *ret_bits) YIELDS;
int rows_request_shards(struct brick *b, const char domain[16], struct bp_shards_res *ret,
			struct slice *ret_bits) YIELDS;
/* Rows may be read by this session: it holds the domain's promise and we are in its view. 0 and the domain. */
int rows_readable(struct session *s, const char domain[16], struct domain **ret);
int rows_request_heal(struct brick *b, struct session *s, const struct bp_healw_args *a,
		      const struct slice *payload) YIELDS;

/* ---- scrub.c ---- */
/* ret->bad.bad_val: room for BP_MAX_ROWS_PAYLOAD. *ret_fold owned, empty when it is zero. */
int scrub_request(struct brick *b, struct session *s, const struct bp_read_args *a, struct bp_scrub_res *ret,
		  struct slice *ret_fold) YIELDS;

/* ---- fence.c: promises, views, missed maps ---- */
int fence_request(struct brick *b, struct session *s, const struct bp_fence_args *a, struct bp_fence_res *ret) YIELDS;
int view_request(struct brick *b, struct session *s, const struct bp_view_args *a) YIELDS;
int missed_request(struct brick *b, const struct bp_missq_args *a, struct bp_missed_res *ret);
int clear_request(struct brick *b, struct session *s, const struct bp_clear_args *a) YIELDS;
int nsop_request(struct brick *b, struct session *s, const struct bp_nsop_args *a) YIELDS;
struct missed_from {
	uint32_t only;         /* brick whose regions are wanted, or BP_MISSED_ALL */
	uint32_t shard, brick; /* the page begins there */
};
int missed_page(const struct domain *d, const struct missed_from *from, struct bp_missed_res *ret);

/* ---- checkpoint.c ---- */
/* One round over stable versions (of one domain when only != NULL), the lock held. Number of rows moved, or the error.
 */
int checkpoint_round(struct brick *b, struct domain *only) YIELDS;
/* Frees what the journal no longer needs; force: however little it is. swept: a sweep has just ended. The lock need not be held. */
int checkpoint_trim(struct brick *b, bool force, bool swept) YIELDS;
void checkpoint_kick(struct brick *b);
int checkpoint_start(struct brick *b);
void checkpoint_stop(struct brick *b) YIELDS;

/* ---- state.c: the snapshot of everything the trimmed part of the journal said ---- */
struct state_head {
	struct gfid boot; /* kernel boot id of the last start */
	struct gfid incarnation;
	uint64_t trim;
	uint64_t state_lsn; /* records before it are in this snapshot */
	uint64_t round;
	bool clean;         /* orderly stop ... */
	uint64_t clean_end; /* ... and the journal ended here */
	uint64_t carry_id;  /* 0: no carry file */
	uint64_t carry_bytes;
};
/* Loads domains into the brick. -ENOENT: never written. -EUCLEAN: damaged. */
int state_load(struct brick *b, struct state_head *ret, struct err *e) YIELDS;
int state_save(struct brick *b, uint64_t trim, bool clean, const struct carry *carry) YIELDS;

/* ---- recover.c ---- */
int recover(struct brick *b, struct err *e) YIELDS;
/* Rebuilds one domain's transactions and overlay from the journal: after a committed tx was taken back. ckpt_lock is
 * held. */
int recover_domain(struct brick *b, struct domain *d) YIELDS;

#endif
