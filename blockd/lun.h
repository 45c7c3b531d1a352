/* lun.h - LUNs in use on this gateway: opened for the first user, closed some time after the last.
 *
 *                 lun_hold                     idle, revoked (watch.c calls luns_tend)
 *   (no object) -----------> OPENING --> OPEN --------------------> CLOSING --> CLOSED --> (no object)
 *                               |                                                 |  ^ still held: the next
 *                               +--- failed: every waiter gets the same error ----+  | lun_hold opens it again
 *
 * Invariants: L1 file != NULL exactly in OPEN and CLOSING. L2 a request runs only in OPEN and is counted in `requests`;
 * the file is closed when none is left. L3 a session belongs to one `generation`: after the file was closed under it
 * (another gateway took the LUN over, its volume was stopped), or acknowledged data was lost, its requests end with -ESHUTDOWN, for good. L4 while OPEN
 * the LUN is in blockd's attention set. */
#ifndef MYFS_BLOCKD_LUN_H
#define MYFS_BLOCKD_LUN_H

#include "blockd/span.h"
#include "blockd/activity.h"
#include "blockd/volumes.h"

#define LUN_STAYS_NS     (60 * NS_PER_S) /* after a move: its clients come here */
#define LUN_KEEP_OPEN_NS (60 * NS_PER_S) /* without users: clients come back */

enum lun_state { LUN_CLOSED, LUN_OPENING, LUN_OPEN, LUN_CLOSING };

struct lun_rate { /* how fast healing goes, sampled by watch.c */
	uint64_t sampled_ns, sampled_bytes, since_ns;
	double bytes_per_s;
	double spread; /* how far samples were from it, on average */
};

struct lun {
	struct list node;
	struct blockd *d;
	struct reg_lun row;
	struct volume *volume; /* held while OPENING .. CLOSING */
	struct dht_file *file;
	enum lun_state state;
	bool revoked; /* to be closed as soon as no request runs */
	uint32_t generation;
	uint64_t losses; /* what dht_file_losses said when the generation began */
	bool take; /* somebody asked for it with force */
	uint64_t stays_until_ns; /* it was moved here: not given away for a mere attach before */
	unsigned holds; /* sessions and jobs */
	unsigned sessions; /* of this generation */
	unsigned requests;
	uint64_t last_request_ns; /* a request of a client ended */
	uint64_t idle_since_ns;
	uint64_t keep_ns; /* how long it stays open without holders */
	struct waitq changed;
	uint32_t turn;      /* number of ended open attempts */
	struct err failure; /* of the last attempt; code 0 when it went well */
	struct lun_rate rate;
	struct lun_activity *activity; /* borrowed while OPEN; NULL: no memory to count with */
	struct span_table spans; /* of running requests that name bytes */
};

/* Makes sure the LUN is open and keeps it so until lun_release. -EBUSY: another gateway serves it to somebody. */
int lun_hold(struct blockd *d, const struct reg_lun *row, struct lun **ret, struct err *e) YIELDS;
void lun_release(struct lun *l);
struct lun *lun_find(struct blockd *d, const struct gfid *gfid);
/* Opens it here even when clients use it on another gateway: there their requests end and their connections close. It
 * stays here for a while although they may come back to where they were. */
int lun_take(struct blockd *d, const struct reg_lun *row, struct err *e) YIELDS;
/* Closes the LUN if it is open. -EBUSY while sessions use it (their peers are not told), unless force: then they end. */
int lun_expel(struct blockd *d, const struct gfid *gfid, bool force, struct err *e) YIELDS;
/* Lets go of LUNs that belong to another gateway in the registry. */
void luns_follow(struct blockd *d);
/* Every LUN of the volume is to be closed. */
void luns_revoke(struct blockd *d, const struct volume *v);
/* Closes what is idle or revoked; watch.c calls it every second. */
void luns_tend(struct blockd *d);
void luns_close_all(struct blockd *d) YIELDS;
/* True when every set of the file has all bricks in sync. */
bool lun_whole(const struct lun *l);

/* Bracket of one request of a session of generation g. -ESHUTDOWN: not any more. */
int lun_enter(struct lun *l, uint32_t generation);
void lun_leave(struct lun *l, int rc); /* rc of the request: being deposed is noticed here */
/* The same for one that names bytes: waits while a request that is alone on some of them runs. */
int lun_enter_span(struct lun *l, uint32_t generation, struct span *s) YIELDS;
void lun_leave_span(struct lun *l, struct span *s, int rc);

/* Writes data when the LUN holds `expected` there, else tells where it first differs; nothing else reads or writes any of
 * these bytes meanwhile. Across a death of the gateway the unit that is old or new as a whole is the block of 4096, as
 * for any write. The caller holds the LUN. */
#define LUN_COMPARE_MAX_BYTES KIB(256)
struct lun_compare {
	uint64_t off;
	uint32_t len; /* 1 .. LUN_COMPARE_MAX_BYTES */
	const uint8_t *expected, *data;
	bool fua;
	bool written;        /* out */
	uint64_t differs_at; /* out, when not written: of the LUN */
	bool begun;          /* out: it was equal; a failure then leaves old bytes, new ones, or some of each */
};
int lun_compare_and_write(struct lun *l, struct lun_compare *c, struct err *e) YIELDS;

#endif
