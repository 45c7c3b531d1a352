/* ec_priv.h - what the files of ec/ share and nobody else may see, grouped by the .c that owns it.
 *
 *   set.c       connections          domain.c   one owned object: state, keeper       takeover.c  fence, resolve, ready
 *   confirm.c   who is the owner
 *   view.c      who is in sync       tx.c       one transaction, its ring of fates    update.c    four ways to write
 * rows write.c     requests -> parts    read.c     requests -> blocks                    cut.c       consistent cut,
 * rebuild flush.c     floors and SYNC      repair.c   a rotten block made good              heal.c      returned bricks
 *
 * One set and all its domains belong to one loop. Everything between two YIELDS calls is atomic; after one, look at
 * domain->epoch, state, view and live again. */
#ifndef MYFS_EC_PRIV_H
#define MYFS_EC_PRIV_H

#include "brick.h"
#include "core/base/list.h"
#include "core/base/mutate.h"
#include "core/loop/fiber.h"
#include "core/rpc/rpc.h"
#include "ec/codec.h"
#include "ec/ec.h"
#include "ec/missed.h"
#include "ec/resolve.h"
#include "ec/rowlock.h"
#include "core/metrics/histogram.h"
#include "ec/stripe_cache.h"
#include "ec/viewrule.h"

#define MASK(b) (UINT32_C(1) << (b))

/* ---- set.c: one connection per brick ---- */

struct ec_brick {
	struct ec_set *set;
	uint32_t index;
	uint32_t neighbours;          /* mask: bricks at the same address, itself not among them */
	bool up;                      /* connected and greeted: client may be used */
	bool tried;                   /* the first attempt has ended, well or not */
	struct rpc_client *client;    /* owned by the brick's fiber; look it up anew after every YIELDS */
	uint64_t link;                /* number of the present connection: equal = nothing was lost in between */
	struct gfid boot;             /* HELLO */
	uint64_t credit_bytes;
	uint64_t unstable_bytes;      /* payload sent and not yet below a stable floor, all domains */
	uint64_t down_since_ns;
	char why[200];
	uint64_t checksum_errors, repaired_blocks;
	struct histogram round_trips; /* of all answered calls, over all connections */
	struct fiber *fiber;
	uint64_t mean_ns;             /* grey.c: of its answers on this connection */
	uint64_t late_ns, late_before_ns, looked_ns; /* time spent in late ones since the last look, before it, and when that was */
	unsigned grey_looks, ejections;
	bool ping_out;                /* a ping is waiting for its answer */
};

/* heal.c: what all domains of a set share. */
struct ec_heal_rate {
	uint64_t limit_bytes_per_s;   /* EC_HEAL_AUTO, EC_HEAL_MAX, or a rate */
	uint64_t next_ns;             /* nothing more begins until then */
	unsigned running;             /* regions being rebuilt */
	uint64_t client_ops;          /* of all domains, when last looked at; */
	uint64_t client_seen_ns;      /* and when that last grew */
	bool paused;
	struct waitq changed;         /* limit or pause changed, a region ended */
};

struct ec_set {
	struct ec_set_config cfg;
	struct ec_geometry geo;
	struct ec_codec *codec;
	struct ec_stripe_cache *cache;
	uint64_t next_key;            /* cache keys of domains */
	uint64_t instance;            /* random: this process's life of the set */
	struct gfid owner;            /* in promises: gateway uuid with the instance in its second half (H15) */
	struct ec_brick bricks[EC_MAX_BRICKS];
	struct waitq up_wq;           /* a brick came up, went down, or was tried */
	struct list domains;
	bool closing;
	uint64_t eject_ns;            /* grey.c: no ejection before */
	unsigned hedges;              /* hedge.c: under way */
	bool gives_up;                /* nothing waits for a quorum any more */
	unsigned fibers;              /* brick fibers still running */
	struct waitq closed_wq;
	struct list free_tx;          /* pools, bounded by EC_POOL_MAX */
	struct list free_reads;
	unsigned tx_made, reads_out;
	struct waitq pool_wq;
	struct ec_heal_rate heal_rate;
	uint64_t kept_bytes;          /* replay.c: payload of clients, reserved or held until it is stable */
};

uint32_t ec_set_up_mask(const struct ec_set *s);
/* True when the call was started in group g; false when the brick is down: call->rc is -MYFS_E_GONE and nothing will
 * follow. */
bool ec_brick_start(struct ec_brick *b, struct rpc_call *call, struct rpc_group *g);
/* "3 of 6 bricks connected; missing: node1:/b1 (connection refused), ..." into e. Returns code. */
int ec_set_missing(const struct ec_set *s, uint32_t want, int code, struct err *e);

struct ec_part;
struct ec_kept;

/* ---- tx.c ---- */

#define EC_RING BP_MAX_TX     /* transactions per domain that are not yet below the stable floor */
#define EC_POOL_MAX 1024u     /* tx objects, and read objects, per set */
#define EC_DECIDE_BATCH 128u

enum ec_fate { EC_UNDECIDED, EC_COMMITTED, EC_ABORTED };
struct ec_slot {                  /* ring entry of tx n: what is still owed to it. Index n % EC_RING */
	uint64_t regions;
	uint32_t shard;
	uint32_t participants;
	uint32_t charged;         /* participants whose credit it holds ... */
	uint32_t bytes;           /* ... this much of each: at least the payload */
	struct ec_kept *kept;     /* what a client was told is done: owned */
	enum ec_fate fate;
	bool promised;            /* a client was told, kept or not */
	bool durable;             /* committed, and no loss of power can take it back */
};

enum ec_leg_state { EC_LEG_UNUSED, EC_LEG_SENT, EC_LEG_OK, EC_LEG_FAILED };
struct ec_leg {                   /* one PREP to one brick */
	struct rpc_call call;
	struct rpc_call sync_call; /* a SYNC that followed it, when sync_sent */
	enum ec_leg_state state;
	uint64_t view_ver;            /* the PREP was sent under */
	bool sync_sent;
	uint32_t kind, flags, row, nrows, coef;
	uint32_t crc[BP_MAX_ROWS_PAYLOAD];
	uint32_t old_crc[64];     /* OLD_CRC legs touch one chunk of one stripe: at most 16 rows */
	struct iovec iov[RPC_PAYLOAD_IOVS];
	unsigned iov_n;
};

struct ec_tx {
	struct list node;         /* free list */
	struct ec_domain *d;
	bp_tx id;
	uint32_t shard, lba, nblocks, tx_kind;
	uint32_t mask;            /* participants: told to every one of them, fixed at begin */
	uint32_t missed;          /* told too: out of sync although the tx concerns them */
	uint32_t acked;           /* bricks whose every leg ended well */
	uint32_t failed;          /* bricks that refused or vanished */
	int nak; /* first refusal that is not about the brick's health: -ENOSPC, -MYFS_E_BADSUM, -EILSEQ */
	uint32_t nak_brick;
	uint32_t bytes;           /* payload per participant, at most */
	uint64_t keep;            /* reserved of the set's account for what will be kept */
	bool internal;            /* of the replay or a repair: runs while clients wait */
	bool decided;
	struct rpc_group group;
	struct buf *bufs[EC_MAX_BRICKS + 4]; /* memory the legs point into; dropped at the end */
	unsigned bufs_n;
	struct ec_leg legs[];     /* [n] by brick index */
};

struct ec_decide_queue {          /* COMMITs for one brick that leave with the next frame to it */
	bp_tx txs[EC_DECIDE_BATCH];
	unsigned n;
};

/* ---- domain.c ---- */

enum ec_state {
	EC_OPENING,               /* first takeover */
	EC_SERVING,
	EC_STALLED,               /* too few bricks: waiting, then taking over again under the next epoch */
	EC_DEPOSED,               /* a newer owner exists: every request ends with -MYFS_E_FENCED */
	EC_CLOSING
};

struct ec_heal;                   /* heal.c's own state of one domain */

#define EC_REPAIR_QUEUE 64u
struct ec_repair_item {
	uint32_t shard, row, nrows, chunk;
};

/* confirm.c: who has confirmed since when that we are the owner. */
struct ec_ticket {                /* of one read, on its stack */
	struct list node;
	uint64_t stamp;           /* 0: no fence */
	uint64_t epoch;
	struct fiber *fiber;
};
struct ec_ping {
	struct rpc_call call;
	struct bp_ping_args args;
	struct bp_ping_res res;
	bool out;
};
struct ec_confirm {
	uint64_t stamp;                 /* the newest read's */
	uint64_t heard[EC_MAX_BRICKS];  /* brick b answered under our epoch to a call that carried this stamp */
	uint64_t asked[EC_MAX_BRICKS];  /* it is to answer a call with this one soon */
	uint64_t eager;                 /* reads up to here do not wait for other answers first */
	unsigned reads;                 /* under way */
	uint32_t turn;
	struct list waiting;            /* tickets */
	struct deferred ask;
	struct timer late;
	struct rpc_group group;
	struct ec_ping pings[];         /* [n] */
};

struct ec_domain {
	struct list node;
	struct ec_set *set;
	struct ec_domain_options opt;
	struct gfid gfid;
	uint64_t key;
	enum ec_state state;
	uint32_t cut_turn;            /* cut.c: spreads the reads of parity */
	struct waitq wq;              /* woken by every change of state, view, live, floor and credit */
	uint64_t epoch;
	struct ec_view view;          /* newest one that is on W bricks */
	uint64_t last_ver;            /* highest version ever sent */
	bool view_busy; /* a newer view is on its way: nothing starts, nothing is acknowledged (H29, I11) */
	struct fmutex view_lock;      /* one view change at a time: keeper, join */
	uint32_t live;    /* bricks whose present connection carries our fence and view and has lost nothing */
	uint32_t healing; /* of the live ones out of sync: taking part where healed (heal.c sets, domain.c clears) */
	uint64_t link[EC_MAX_BRICKS]; /* the connection `live` speaks of */
	uint64_t retry_ns[EC_MAX_BRICKS]; /* a brick that misbehaved is not asked again before */
	uint32_t misbehaved[EC_MAX_BRICKS];
	struct timer retry_timer;
	bool keeper_runs, keeper_again;
	struct waitq keeper_wq;
	struct err last_error;        /* why it is not served, for messages */
	uint64_t rollbacks;           /* takeovers that decided without all journals */
	struct ec_lost {              /* committed by us, taken back, and not kept for a replay; here while requests run that may ask */
		bp_tx *v;
		uint32_t n, cap;
		bool all;             /* no memory for the list: anything may be */
	} lost;
	uint64_t loss_gen;            /* how often acknowledged data may have been lost (H25) */
	uint64_t losses;              /* how often by us */
	bool lost_acked;              /* the next flush says so, once */
	struct {
		struct list list;     /* of ec_kept: to be written again before any client is served */
		bool runs;
		uint64_t done;        /* how often all of it was */
	} replay;

	struct rowlock_table locks;
	struct ec_slot *ring;         /* [EC_RING] */
	uint64_t next_n;              /* next tx number */
	uint64_t undecided_n;         /* every tx below is decided */
	uint64_t stable_n;            /* every tx below is stable: the floor */
	uint32_t reserved;            /* admitted, not yet numbered */
	struct ec_decide_queue *decide; /* [n] */
	uint32_t decide_mask;
	struct timer decide_timer;    /* armed while something waits there */

	struct ec_missed missed; /* what bricks out of sync lack: union over all bricks at takeover, grown by writes */
	struct ec_missed doubtful;    /* what members said they miss themselves: blocks there may be torn (repair.c) */
	uint64_t *shards;             /* bitmap of shards that may exist */
	uint32_t shards_bits;

	uint64_t sync_asked, sync_begun, sync_done; /* tickets, flush.c */
	int sync_rc;
	bool sync_runs;
	uint64_t unsynced_bytes;
	struct waitq sync_wq;
	struct timer sync_timer;
	struct timer idle_timer;      /* flush.c: armed whenever everything has become durable */

	struct ec_repair_item repairs[EC_REPAIR_QUEUE];
	unsigned repairs_n;
	bool repair_runs;

	struct ec_confirm *confirm;
	unsigned active;              /* requests and helpers inside */
	struct ec_heal *heal;
	struct ec_domain_status count; /* only the counters are kept here */
};

static inline const struct ec_geometry *geo_of(const struct ec_domain *d) { return &d->set->geo; }
static inline uint32_t ec_insync_live(const struct ec_domain *d) { return d->view.insync & d->live; }

/* Facts reported by anybody; domain.c decides. None of them parks. */
void ec_domain_event(struct ec_domain *d);                      /* look again: runs the keeper */
void ec_domain_brick_down(struct ec_domain *d, uint32_t b);     /* its connection ended */
void ec_domain_suspect(struct ec_domain *d, uint32_t b, int rc); /* it answered what a good member does not */
void ec_domain_depose(struct ec_domain *d);                     /* it said FENCED */
void ec_domain_stall(struct ec_domain *d);
void ec_domain_changed(struct ec_domain *d);                    /* wakes everybody who waits on d->wq */
/* Waits until requests may run. write: also no view change under way and enough members. 0, -MYFS_E_QUORUM,
 * -MYFS_E_FENCED. */
int ec_domain_ready(struct ec_domain *d, bool write, uint64_t deadline_ns) YIELDS;
bool ec_domain_may_write(const struct ec_domain *d);
/* The same without regard to a replay: for the replay itself, repairs and SYNCs. */
int ec_domain_ready_internal(struct ec_domain *d, bool write, uint64_t deadline_ns) YIELDS;
static inline bool ec_replays(const struct ec_domain *d) { return !list_empty(&d->replay.list); }
static inline uint64_t ec_deadline(const struct ec_domain *d) { return loop_now_ns() + d->set->cfg.io_timeout_ns; }
/* Requests and background helpers bracket themselves so that close can wait for them. -MYFS_E_FENCED when closing. */
int ec_domain_enter(struct ec_domain *d);
void ec_domain_leave(struct ec_domain *d);
/* Starts a call to brick b for this domain: queued COMMITs go first, so that order on the connection is kept. As
 * ec_brick_start. */
bool ec_call_start(struct ec_domain *d, uint32_t b, struct rpc_call *call, struct rpc_group *g);
int ec_call_sync(struct ec_domain *d, uint32_t b, struct rpc_call *call) YIELDS;
void ec_call_init(struct rpc_call *c, uint32_t type, xdrproc_t args_proc, void *args, xdrproc_t res_proc, void *res);
/* FENCE with our epoch and the present view to one brick that is out of the view: then it is live. */
int ec_domain_admit_brick(struct ec_domain *d, uint32_t b) YIELDS;
void ec_shard_note(struct ec_domain *d, uint32_t shard); /* it may exist from now on */
int ec_shards_grow(struct ec_domain *d, uint32_t bits);
static inline void gfid_to_wire(const struct gfid *g, bp_uuid out) { memcpy(out, g->b, 16); }

/* ---- confirm.c: the fence of reads ---- */
int ec_confirm_new(struct ec_domain *d);
void ec_confirm_free(struct ec_domain *d);
/* Brackets a read. begin: before its first frame, the domain being served. */
void ec_confirm_begin(struct ec_domain *d, struct ec_ticket *t);
void ec_confirm_end(struct ec_domain *d, struct ec_ticket *t);
/* What was read since begin may be returned: nobody had taken the domain over when the read began. 0, -EAGAIN (our own takeover
 * came between: read again), -MYFS_E_QUORUM, -MYFS_E_FENCED. */
int ec_confirm_wait(struct ec_domain *d, struct ec_ticket *t, uint64_t deadline_ns) YIELDS;
/* Told by domain.c: a call of the domain leaves, has ended; brick b is not live any more; epoch or state have changed. */
void ec_confirm_asked(struct ec_domain *d, uint32_t b, struct rpc_call *call);
void ec_confirm_heard(struct ec_domain *d, uint32_t b, uint64_t stamp, uint64_t epoch, int rc);
void ec_confirm_ping_ended(struct ec_domain *d, const struct rpc_call *call);
void ec_confirm_lost(struct ec_domain *d, uint32_t b);
void ec_confirm_look_again(struct ec_domain *d);

/* ---- takeover.c ---- */
/* Moves *at behind the page. 1: there is another one; 0; -MYFS_E_PROTO: pages do not go forward, who knows what else they lack. */
int ec_missed_page_next(const struct bp_missed_res *page, struct bp_missq_args *at);
/* One attempt: fence, resolve, ready. May be repeated after any failure. -MYFS_E_QUORUM (try again when bricks return),
 * -MYFS_E_FENCED (only when `steal` is false: somebody else promised higher), -MYFS_E_UNSEEDED (never created). */
int ec_takeover(struct ec_domain *d, bool steal, uint64_t deadline_ns, struct err *e) YIELDS;

/* ---- view.c ---- */
/* Writes nv (epoch, state, insync, boots given; ver is chosen) to `targets` and adopts it when W of them hold it.
 * `missed` (may be NULL) goes with it. Caller holds view_lock. 0, -MYFS_E_QUORUM (the domain is stalled then),
 * -MYFS_E_FENCED. */
int ec_view_write(struct ec_domain *d, struct ec_view *nv, uint32_t targets, const struct ec_missed *missed) YIELDS;
int ec_view_drop(struct ec_domain *d, uint32_t bricks) YIELDS;
/* heal.c: brick b is healed everywhere and flushed. Tells b all that other stale bricks missed, then makes it a member.
 * 0, -EAGAIN (not the moment: somebody is being dropped), or an error. */
int ec_view_join(struct ec_domain *d, uint32_t b) YIELDS;
/* Replayed: what the view said was lost is not. */
int ec_view_unloss(struct ec_domain *d) YIELDS;
/* Everything is durable, and the owner goes or nobody writes: says so in the view. */
int ec_view_clean(struct ec_domain *d) YIELDS;
/* Somebody is going to write: before the first tx begins the view must not say it any more. */
int ec_view_unclean(struct ec_domain *d) YIELDS;
/* The present view, to brick b alone. */
int ec_view_tell(struct ec_domain *d, uint32_t b) YIELDS;

/* ---- tx.c ---- */
int ec_tx_rings_new(struct ec_domain *d);
void ec_tx_rings_free(struct ec_domain *d);
/* Brick b's connection ended: its account starts from nothing. */
void ec_tx_forget_credit(struct ec_domain *d, uint32_t b);
/* After a takeover: a new epoch begins with number 1. */
void ec_tx_reset(struct ec_domain *d);
struct ec_tx_need {
	uint64_t bytes_per_brick;
	uint64_t keep;            /* ec_keep_bytes() of what a client wrote, else 0 */
	bool internal;
};
/* Waits for a place in the ring, a pooled object and credit on every brick of `bricks`. ret is bound to d. 0 or as
 * ec_domain_ready. */
int ec_tx_admit(struct ec_domain *d, const struct ec_tx_need *need, uint64_t deadline_ns, struct ec_tx **ret) YIELDS;
/* Numbers it, the row lock just taken: roles = bricks the change concerns. -EAGAIN when writes may not start now. */
int ec_tx_begin(struct ec_tx *tx, uint32_t shard, uint32_t lba, uint32_t nblocks, uint32_t tx_kind, uint32_t roles,
		uint64_t regions);
/* Memory that lives as long as the tx. NULL when there is none. */
uint8_t *ec_tx_memory(struct ec_tx *tx, size_t bytes);
void ec_tx_keep(struct ec_tx *tx, struct buf *b); /* takes a reference */
/* The leg of brick b, to be filled and sent. */
struct ec_leg *ec_tx_leg(struct ec_tx *tx, uint32_t b, uint32_t kind, uint32_t row, uint32_t nrows);
void ec_leg_add(struct ec_leg *leg, const void *p, size_t len);
void ec_tx_send(struct ec_tx *tx, struct ec_leg *leg, xdrproc_t res_proc);
/* Brick b's leg, sent without DURABLE, must be durable too before the next ec_tx_settle returns. */
void ec_tx_send_sync(struct ec_tx *tx, uint32_t b);
/* Waits until all sent legs ended. 0: every participant that is still a member holds it (a view change, if one was
 * needed, is on W bricks). -EAGAIN: abandoned or aborted, start anew. -ENOSPC, -MYFS_E_BADSUM (nak_brick), -EILSEQ,
 * -MYFS_E_FENCED: aborted. */
int ec_tx_settle(struct ec_tx *tx, uint32_t needed, uint64_t deadline_ns) YIELDS;
/* Does it build on bytes of a tx that a loss of power may still take back? The resolution would take this one back with
 * it (H8), however durable its own legs are. A whole-stripe write builds on nothing. */
bool ec_tx_leans(const struct ec_tx *tx);
/* Queues COMMIT; from here it is decided. durable: its legs are, and it does not lean. */
void ec_tx_commit(struct ec_tx *tx, bool durable);
/* Right after ec_tx_commit: p is promised to a client, its bytes are kept. */
void ec_tx_promise(struct ec_tx *tx, const struct ec_part *p);
void ec_tx_abort(struct ec_tx *tx);
/* As what a part was committed: a rollback before its request is answered may take it back. */
struct ec_part_done {
	bp_tx tx;                      /* n == 0: several */
	uint64_t rollbacks;            /* of the domain then */
};
void ec_lost_note(struct ec_domain *d, const bp_tx *tx);
/* Did a rollback take back what was committed so, for good? What is kept comes back by itself, in its place. */
bool ec_lost(const struct ec_domain *d, const struct ec_part_done *done);
void ec_tx_end(struct ec_tx *tx);    /* back to the pool; aborts it when it was begun and not decided */
void ec_decide_flush(struct ec_domain *d, uint32_t b);
/* Must this write be durable before it counts? Asked for, or only K members are left (H12). */
static inline bool ec_durable(const struct ec_domain *d, bool fua)
{
	return fua || (mask_count(d->view.insync) <= geo_of(d)->k && !MUTATED(H12));
}

/* ---- update.c: one part, one transaction ---- */
struct ec_part {
	struct ec_domain *d;
	uint32_t shard;
	uint32_t lba, nblocks; /* PARTIAL: inside one stripe. FULL: whole stripes of one region. ZERO: whole stripes */
	enum { EC_PART_FULL, EC_PART_PARTIAL, EC_PART_ZERO } kind;
	const uint8_t *data;           /* nblocks * 4096 bytes; NULL = zeros */
	struct buf *owner;             /* of data, borrowed; NULL: lent until return */
	/* bytes != 0: nblocks is 1 and only [skip, skip + bytes) of it change; data is those bytes. */
	uint32_t skip, bytes;
	bool fua;
	bool internal;                 /* of the replay */
	uint64_t deadline_ns;
	struct ec_part_done *done;     /* filled on success; NULL: nobody asks */
};
/* Retries until done or the deadline. 0, -ENOSPC, -MYFS_E_UNREADABLE, -MYFS_E_QUORUM, -MYFS_E_FENCED, -ENOMEM. */
int ec_part_write(const struct ec_part *p) YIELDS;

/* ---- replay.c: unflushed payload, kept and written again ---- */
#define EC_KEEP_MAX MIB(64)    /* per set: beyond it writes wait for a SYNC */
uint64_t ec_keep_bytes(const struct ec_part *p);
bool ec_keep_room(const struct ec_set *s, uint64_t bytes);
/* Keeps p's bytes: by a reference when they are most of their owner, else a copy. `bytes` of the account were reserved and go with it. NULL: no memory, the reservation is given back. */
struct ec_kept *ec_keep(struct ec_set *s, const struct ec_part *p, uint64_t bytes);
void ec_kept_drop(struct ec_set *s, struct ec_kept *k); /* NULL is fine */
/* A takeover took something back: what is kept from tx `from` on is to be written again. */
void ec_replay_take(struct ec_domain *d, uint64_t from);
int ec_replay_start(struct ec_domain *d); /* in the background, when there is something. 0 or no fiber */
void ec_replay_free(struct ec_domain *d);

/* ---- read.c ---- */
struct ec_read_leg {              /* one READ of one brick */
	struct rpc_call call;
	struct bp_read_args args;
	struct bp_read_res res;
	uint32_t crc[BP_MAX_ROWS_PAYLOAD];
	bool started;
};
struct ec_reads {                 /* pooled: one leg per brick */
	struct list node;
	struct rpc_group group;
	struct ec_read_leg legs[];
};
struct ec_reads *ec_reads_get(struct ec_set *s, bool cut) YIELDS; /* cut: by cut.c. NULL = no memory */
void ec_reads_put(struct ec_set *s, struct ec_reads *r); /* drops payloads */
void ec_read_start(struct ec_domain *d, struct ec_reads *r, uint32_t b, uint32_t shard, uint32_t row, uint32_t nrows);
/* After the leg ended: 0 (payload checked against its checksums, or zero), -MYFS_E_BADSUM, or the brick's error. */
int ec_read_verify(const struct ec_read_leg *leg);
/* Counts, suspects or deposes according to what a READ of brick b said. */
void ec_read_blame(struct ec_domain *d, uint32_t b, int rc);

/* ---- grey.c: bricks that answer late ---- */
void ec_grey_sample(struct ec_brick *b, uint64_t ns);
uint64_t ec_grey_hedge_ns(const struct ec_brick *b); /* a READ this old is worth another way */
void ec_grey_look(struct ec_brick *b);               /* twice a second while it is up; may eject it */
void ec_grey_forget(struct ec_brick *b);

/* ---- hedge.c ---- */
struct ec_hedge_range {
	uint32_t shard, row, nrows;
	uint32_t want, late;      /* chunks to read; of these, not asked again */
};
/* READs of `reads` are late. The wanted chunks, nrows * 4096 bytes each in chunk order, when a cut of the others was first (the caller
 * cancels the READs); NULL when all READs have ended. */
struct buf *ec_hedge_race(struct ec_domain *d, const struct ec_hedge_range *r, struct rpc_group *reads) YIELDS;

/* ---- cut.c ---- */
/* Committed content of chunks `want` (mask of chunk numbers, parity included) in rows of one region; the caller holds C
 * or X on them. dst[chunk] gets nrows * 4096 bytes. `avoid`: chunk numbers not to be read. Sources are in-sync bricks
 * only (I9), read in parallel; what cannot be read is rebuilt. nrows <= 256. 0, -MYFS_E_UNREADABLE, -EAGAIN (bricks
 * went away: wait until ready), -MYFS_E_FENCED, -ENOMEM. */
int ec_cut_read(struct ec_domain *d, uint32_t shard, uint32_t row, uint32_t nrows, uint32_t want, uint32_t avoid,
		uint8_t *const *dst) YIELDS;

/* ---- flush.c ---- */
/* Everything committed before is durable on every member, and the floor has moved. 0 or as ec_flush. */
int ec_domain_sync(struct ec_domain *d, uint64_t deadline_ns) YIELDS;
/* The same for what clients were told: nothing of it waits to be replayed either. */
int ec_domain_flush(struct ec_domain *d, uint64_t deadline_ns) YIELDS;
/* A tx was committed: arms the timer, or starts a SYNC when much is waiting. */
void ec_sync_note(struct ec_domain *d, uint64_t bytes);
void ec_sync_start(struct ec_domain *d);                /* in the background, now */
void ec_sync_timer(void *arg);
void ec_idle_arm(struct ec_domain *d);                  /* everything is durable now, or the domain has come to be served */
void ec_idle_timer(void *arg);
void ec_floor_release(struct ec_domain *d, uint64_t n); /* tx below n leave the ring */

/* ---- repair.c ---- */
/* Some of these rows of this chunk are rotten: looked into later, in the background. Forgotten when too many are
 * waiting. */
void ec_repair_note(struct ec_domain *d, uint32_t shard, uint32_t row, uint32_t nrows, uint32_t chunk);
/* Reads what d->doubtful names from the bricks it names and repairs what is bad, in the background. Does not park. */
void ec_repair_doubtful(struct ec_domain *d);
/* The transaction of one rewrite, before the row is locked. As ec_tx_admit. */
int ec_repair_admit(struct ec_domain *d, uint64_t deadline_ns, struct ec_tx **ret) YIELDS;
/* Rewrites the block, whatever it is now, from chunks that are not in `avoid`; the caller holds X on the row, and ends tx before it
 * releases that. */
int ec_repair_rewrite(struct ec_tx *tx, uint32_t shard, uint32_t row, uint32_t chunk, uint32_t avoid,
		      uint64_t deadline_ns) YIELDS;
/* Now. Rewrites the block from the others when it is (still) bad. 0 or as ec_write. */
int ec_repair_block(struct ec_domain *d, uint32_t shard, uint32_t row, uint32_t chunk) YIELDS;

/* ---- heal.c ---- */
int ec_heal_new(struct ec_domain *d);
void ec_heal_free(struct ec_domain *d);
/* The domain is served, or a brick out of sync has become live: heal what is to be healed. Idempotent,
 * does not park. */
void ec_heal_kick(struct ec_domain *d);
/* Brick b (in d->healing or not) is gone or misbehaved: its bit in d->healing is clear already. Does not park. */
void ec_heal_brick_lost(struct ec_domain *d, uint32_t b);
/* These bricks leave the view now: every tx below `floor` is decided, durable on them, and will not be taken back. */
void ec_heal_left(struct ec_domain *d, uint32_t bricks, bp_tx floor);
/* Brick b has no view although the domain exists: it was emptied, or never saw it. Adds every region of every shard
 * known. 0 or -ENOMEM. */
int ec_heal_miss_all(const struct ec_domain *d, uint32_t b, struct ec_missed *into);
/* Ends healing and waits for its fibers; state is EC_CLOSING. */
void ec_heal_stop(struct ec_domain *d) YIELDS;
/* In-sync bricks plus those of d->healing that are healed in this region: who takes part in writes there. */
uint32_t ec_heal_participants(const struct ec_domain *d, uint32_t shard, uint32_t region);
/* Fills healing, missed_bytes, healed_bytes and cause. */
void ec_heal_status(const struct ec_domain *d, struct ec_domain_status *ret);

#endif
