/* viewrule.c - the rules about views, pure. See viewrule.h. */
#include "ec/viewrule.h"
#include "brick.h"

int ec_view_cmp(const struct ec_view *a, const struct ec_view *b)
{
	if (a->epoch != b->epoch)
		return a->epoch < b->epoch ? -1 : 1;
	return a->ver < b->ver ? -1 : a->ver > b->ver;
}

int ec_view_from_wire(const struct ec_geometry *g, const struct bp_view *w, struct ec_view *ret, struct err *e)
{
	if (w->boot.boot_len != g->n)
		return err_set(e, -MYFS_E_PROTO, "view names %u bricks, the set has %u", (unsigned)w->boot.boot_len,
			       g->n);
	if (w->state != BP_VIEW_RESOLVING && w->state != BP_VIEW_READY)
		return err_set(e, -MYFS_E_PROTO, "view state %u", (unsigned)w->state);
	if (w->insync & ~mask_all(g->n))
		return err_set(e, -MYFS_E_PROTO, "view members 0x%x outside a set of %u", (unsigned)w->insync, g->n);
	if (mask_count(w->insync) < g->k) /* V1 */
		return err_set(e, -MYFS_E_PROTO, "view has %u members, %u needed", mask_count(w->insync), g->k);
	if (w->epoch == 0)
		return err_set(e, -MYFS_E_PROTO, "view of epoch 0");
	struct ec_view v = {
	    .epoch = w->epoch, .ver = w->ver, .state = w->state, .insync = w->insync, .layout_gen = w->layout_gen,
	    .loss_gen = w->loss_gen, .clean = w->clean};
	for (uint32_t b = 0; b < g->n; b++)
		memcpy(v.boot[b].b, w->boot.boot_val[b], sizeof(v.boot[b].b));
	*ret = v;
	return 0;
}

void ec_view_to_wire(const struct ec_geometry *g, struct ec_view *v, struct bp_view *w)
{
	_Static_assert(sizeof(struct gfid) == sizeof(bp_uuid), "boot ids travel as they lie");
	*w = (struct bp_view){
	    .epoch = v->epoch, .ver = v->ver, .state = v->state, .insync = v->insync, .layout_gen = v->layout_gen,
	    .loss_gen = v->loss_gen, .clean = v->clean};
	w->boot.boot_len = g->n;
	w->boot.boot_val = (bp_uuid *)(void *)v->boot;
}

bool ec_view_can_drop(const struct ec_geometry *g, uint32_t insync, uint32_t drop)
{
	return mask_count(insync & ~drop) >= g->k;
}

bool ec_view_can_join(uint32_t insync, uint32_t connected, uint32_t brick, bool healed, bool flushed)
{
	return !mask_has(insync, brick) && mask_has(connected, brick) && (insync & ~connected) == 0 && healed &&
	       flushed;
}

bool ec_view_can_serve(const struct ec_geometry *g, uint32_t insync, uint32_t connected, uint32_t write_min)
{
	uint32_t need = write_min > g->k ? write_min : g->k;
	return mask_count(connected & mask_all(g->n)) >= g->w && mask_count(insync & connected) >= need;
}

uint32_t ec_view_ack_mask(const struct ec_view *current, const struct ec_view *pending, uint32_t participants)
{
	return participants & (current->insync | (pending ? pending->insync : 0));
}
