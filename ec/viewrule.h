/* viewrule.h - the rules about views of a (domain, set), pure. PROTOCOL.md; H29.
 *
 * A view says who is in sync: {epoch, ver, RESOLVING | READY, insync mask, boot id per brick}. The newest by (epoch,
 * ver) counts. V1 |insync| >= K. V2 a view counts once it is on W bricks. V3 while a newer view is being written
 * nothing that only satisfies one of the two is acknowledged. */
#ifndef MYFS_EC_VIEWRULE_H
#define MYFS_EC_VIEWRULE_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/base/gfid.h"
#include "ec/geometry.h"

#define EC_VIEW_MAX 32

struct bp_view;

struct ec_view {
	uint64_t epoch, ver;
	uint32_t state;  /* BP_VIEW_RESOLVING, BP_VIEW_READY */
	uint32_t insync; /* mask of brick indexes */
	uint32_t layout_gen;
	uint64_t loss_gen; /* grows when acknowledged writes may have been lost (H25) */
	bool clean;        /* nothing acknowledged is volatile */
	struct gfid boot[EC_VIEW_MAX]; /* [n] of the geometry */
};

/* < 0, 0, > 0 by (epoch, ver). */
int ec_view_cmp(const struct ec_view *a, const struct ec_view *b);
/* Checks everything a view from the wire must be for this geometry. 0 or -MYFS_E_PROTO; ret untouched then. */
int ec_view_from_wire(const struct ec_geometry *g, const struct bp_view *w, struct ec_view *ret, struct err *e);
/* w borrows v's boot array: v must outlive the use of w. Do not xdr_free w. */
void ec_view_to_wire(const struct ec_geometry *g, struct ec_view *v, struct bp_view *w);

/* May these bricks leave? Enough must stay to read every byte. */
bool ec_view_can_drop(const struct ec_geometry *g, uint32_t insync, uint32_t drop);
/* May brick b join? It is out, healed completely, and all of the in-sync set is connected and flushed (H10). */
bool ec_view_can_join(uint32_t insync, uint32_t connected, uint32_t brick, bool healed, bool flushed);
/* Enough connected bricks to persist a view, and enough in-sync ones among them to read: what serving needs. */
bool ec_view_can_serve(const struct ec_geometry *g, uint32_t insync, uint32_t connected, uint32_t write_min);
/* Joint rule: who must hold a PREP with this participant mask before it is acknowledged, while `pending` (NULL: none)
 * is being written over `current`. Members of either view count. */
uint32_t ec_view_ack_mask(const struct ec_view *current, const struct ec_view *pending, uint32_t participants);

static inline unsigned mask_count(uint32_t m) { return (unsigned)__builtin_popcount(m); }
static inline uint32_t mask_all(uint32_t n) { return n >= 32 ? UINT32_MAX : (UINT32_C(1) << n) - 1; }
static inline bool mask_has(uint32_t m, uint32_t b) { return (m >> b) & 1; }

#endif
