/* brick.h - the face of the brick engine: one brick directory served as journaled, fenced rows of 4 KiB.
 *
 *   rpc_server -> brick_host (HELLO picks the brick) -> struct brick -> journal, overlay, fragments
 *
 * A brick never decides who is in sync or whether a transaction commits: it keeps promises, refuses old epochs and
 * writes to its files only what is durable on every in-sync brick. All calls belong to the loop the brick was opened
 * on; there is no global state, so one process may hold any number of bricks. */
#ifndef MYFS_BRICK_H
#define MYFS_BRICK_H

#include "core/base/err.h"
#include "core/base/gfid.h"
#include "core/loop/loop.h"
#include "core/loop/store.h"
#include "core/metrics/histogram.h"
#include "core/rpc/rpc.h"

struct brick;
struct brick_host;
struct debug_delay;
struct brick_identity;
struct bp_stat_res;
struct tree;

/* What tells a restarted brick whether it still has all that it ever told anybody. It must outlive the process, and go no later than
 * the page cache does; no disk may be able to take it back. Zeros: nothing is known. */
struct brick_witness {
	struct gfid incarnation;
	uint64_t written; /* every record that an answer rests on lies before this position of the journal */
};

struct brick_options {
	struct loop *loop;
	struct gfid boot; /* kernel boot id of this host: another one, and the page cache did not survive since the last run */
	struct brick_witness *witness; /* borrowed; NULL: only an orderly stop leaves the brick firm */
	uint64_t reserve_bytes;    /* kept free for heal and metadata; 0 = max(1 % of the file system, 32 MiB) */
	uint64_t checkpoint_bytes; /* overlay size that starts a checkpoint; 0 = 64 MiB */
	bool unjournaled;          /* PREPs live in memory only, to measure what the journal costs: the brick cannot be opened again */
	bool manual;               /* no background fibers: the owner calls brick_checkpoint (tests) */
	/* The brick stopped for good (journal or data write failed): take it offline. Called once, from the loop; must
	 * not park. */
	void (*on_failed)(void *arg, struct brick *b, const char *why);
	void *arg;
};

/* Opens the directory, replays its journal and starts the background fibers. store is borrowed until the brick is
 * closed. -MYFS_E_WRONG_VOLUME, -EBUSY (another process has it), -EUCLEAN (state lost or damaged: the brick must be
 * rebuilt). */
int brick_open(struct store *s, const struct brick_options *o, struct brick **ret, struct err *e) YIELDS;
/* Orderly: checkpoints what is stable and leaves the clean-stop marker, then frees. Remove it from its host first. NULL
 * is fine. */
void brick_close(struct brick *b) YIELDS;
/* Frees the brick and writes nothing more, as a kill would. */
void brick_abandon(struct brick *b) YIELDS;

const struct brick_identity *brick_identity_of(const struct brick *b);
struct tree *brick_tree(struct brick *b);
/* NULL while healthy, else why it stopped. */
const char *brick_failure(const struct brick *b);
/* Stops the brick as a disk error would: the health check found the directory unusable. */
void brick_fail(struct brick *b, const char *why);
void brick_stat(struct brick *b, struct bp_stat_res *ret) YIELDS;
/* From a request's arrival to its answer, waiting for the disk and for room included. */
enum brick_op { BRICK_OP_READ, BRICK_OP_PREPARE, BRICK_OP_SYNC, BRICK_OP_HEAL, BRICK_OP_OTHER, BRICK_OPS };
extern const char *const brick_op_names[BRICK_OPS];
struct brick_activity {
	struct histogram op[BRICK_OPS];
	uint64_t prepared_bytes; /* payload of BRICK_OP_PREPARE */
	unsigned running; /* requests being executed now */
};
const struct brick_activity *brick_activity_of(const struct brick *b);
/* Writes everything that is stable to the fragments and, with trim, frees the journal behind it. 0 or the failure. */
int brick_checkpoint(struct brick *b, bool trim) YIELDS;

/* What a person may want to know of one domain on this brick. -ENOENT when the brick holds no promise for it. */
struct brick_domain_info {
	uint64_t promise_epoch;
	struct gfid promise_owner;
	bool has_view, ready, insync; /* insync: this brick is in the view's in-sync set */
	uint64_t view_epoch, view_ver;
	uint32_t view_insync;
	uint64_t floor_epoch, floor_n;
	unsigned tx_undecided, tx_unstable;
	unsigned missed_entries;
};
int brick_domain_info(const struct brick *b, const struct gfid *domain, struct brick_domain_info *ret);
/* Calls fn for every (shard, brick, regions) the domain's missed map holds. */
void brick_domain_missed(const struct brick *b, const struct gfid *domain,
			 void (*fn)(void *arg, uint32_t shard, uint32_t brick, uint64_t regions), void *arg);

/* ---- several bricks behind one rpc_server: put these three into struct rpc_server_config, with the host as arg ----
 */
int brick_host_new(struct brick_host **ret);
void brick_host_free(struct brick_host *h);                 /* no bricks, no connections left */
void brick_host_handle(void *arg, struct rpc_request *req); /* YIELDS */
void brick_host_on_open(void *arg, struct rpc_conn *c);
/* Holds back answers of reads, writes, syncs and heals; d is borrowed, NULL = off. */
void brick_host_set_delay(struct brick_host *h, struct debug_delay *d);
void brick_host_on_close(void *arg, struct rpc_conn *c);
int brick_host_add(struct brick_host *h, struct brick *b); /* -EEXIST when a brick of this uuid is there */
/* Ends the brick's connections and waits until their requests have returned. */
void brick_host_remove(struct brick_host *h, struct brick *b) YIELDS;

#endif
