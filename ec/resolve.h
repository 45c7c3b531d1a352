/* resolve.h - the decision of a takeover, as a pure function of what the fence replies said.
 * PROTOCOL.md, Takeover; H3, H8, H9, H11.
 *
 *   1 ec_resolve_view()    >= W replies -> V, the newest view; nobody ever had one -> -ENOENT: it may be seeded
 *   2 ec_resolve_who()     V and the boot ids -> firm members, who is used; fewer than K firm: wait, later roll back
 *   3 ec_resolve_decide()  digests of the used -> commit or abort per transaction; what dropped bricks missed
 *
 * Words: firm = in-sync member whose journal tail is intact (its boot id is still the view's). lacks = participant, used,
 * and knows nothing of the tx although nothing of that age was trimmed. floor = every tx below it is decided and durable
 * on every in-sync participant: such a tx is never decided again and never "lacked" (its record may have been trimmed, or
 * the brick healed past it). undone = aborted by a takeover; aborted by its owner, nothing was ever computed from it.
 *
 * D1 without rollback no tx that any firm member committed is aborted. D2 in a rollback an aborted tx takes with it every
 * later one that was computed from its bytes; without one there is none, its rows were still locked. D3 the same inputs,
 * or those after a partly delivered outcome, give the same outcome; with fewer bricks, one that fits what was delivered. */
#ifndef MYFS_EC_RESOLVE_H
#define MYFS_EC_RESOLVE_H

#include "brick.h"
#include "core/base/base.h"
#include "core/base/err.h"
#include "ec/geometry.h"
#include "ec/missed.h"
#include "ec/viewrule.h"

/* What one brick said when it was fenced; entry b of an array of N. */
struct ec_fence_fact {
	bool replied;     /* promised our epoch */
	struct gfid boot; /* from HELLO */
	bool has_view;
	struct ec_view view; /* checked by ec_view_from_wire */
	bp_tx floor;
	const bp_digest *txs; /* borrowed; in tx order */
	uint32_t ntxs;
};

static inline int ec_tx_cmp(const bp_tx *a, const bp_tx *b)
{
	if (a->epoch != b->epoch)
		return a->epoch < b->epoch ? -1 : 1;
	return a->n < b->n ? -1 : a->n > b->n;
}

/* Newest view among the replies. 0; -MYFS_E_QUORUM: fewer than W replied; -ENOENT: W replied and no brick at all has a
 * view; -MYFS_E_UNSEEDED: some have one, but fewer than W: it need not be the newest. */
int ec_resolve_view(const struct ec_geometry *g, const struct ec_fence_fact *facts, struct ec_view *ret, struct err *e);

struct ec_resolve_members {
	uint32_t replied; /* mask */
	uint32_t fenced;  /* FI = replied & V.insync, with a view of their own */
	uint32_t firm;    /* subset of FI */
	uint32_t use;     /* the next in-sync set */
	bool rollback;
	uint64_t settled_epoch; /* V is READY: every tx of an earlier epoch is decided and durable */
};
/* waited: the rollback wait is over. All of V.insync present counts as waited. 0; -MYFS_E_QUORUM: |FI| < K, nothing to
 * be done with these replies; -EAGAIN: fewer than K firm, wait for more members. ret->replied/fenced/firm are filled in
 * every case. */
int ec_resolve_who(const struct ec_geometry *g, const struct ec_view *v, const struct ec_fence_fact *facts, bool waited,
		   struct ec_resolve_members *ret, struct err *e);

struct ec_decision {
	bp_tx tx;
	bool commit;
	bool was_committed; /* some used brick had committed it: aborting it loses acknowledged data (rollback only) */
	uint32_t to;        /* participants & use: who must hear it */
	uint32_t holders;   /* of these, who hold its PREP or COMMIT */
	uint32_t shard, tx_kind, lba, nblocks, participants;
};

struct ec_resolution {
	struct ec_decision *v; /* owned, in tx order */
	uint32_t n;
	uint32_t aborted; /* how many of them */
	uint32_t lost;    /* rollback: committed somewhere, aborted now */
	bp_tx floor;      /* highest floor any brick knows */
};

/* Decides every tx >= floor that a used brick holds. `missed` (may be NULL) gets the regions that bricks outside `use`
 * missed by them. 0; -ENOMEM; -MYFS_E_PROTO with text when the replies contradict each other or the rules (D1). */
int ec_resolve_decide(const struct ec_geometry *g, const struct ec_resolve_members *m,
		      const struct ec_fence_fact *facts, struct ec_resolution *ret, struct ec_missed *missed,
		      struct err *e);
void ec_resolution_release(struct ec_resolution *r);

/* Regions of a shard that blocks [lba, lba + nblocks) touch, as a mask. */
uint64_t ec_regions_of(const struct ec_geometry *g, uint32_t lba, uint32_t nblocks);

#endif
