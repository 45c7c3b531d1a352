/* overlay.c - version chains. See overlay.h for the rules. */
#include "brick/overlay.h"

#include "core/base/mutate.h"
#include <isa-l/erasure_code.h>
#include <stdlib.h>

#include "core/base/crc32c.h"

#define VER_BYTES 128u /* nominal memory of a version without data */

void overlay_init(struct overlay *o, uint32_t region_rows)
{
	*o = (struct overlay){.region_rows = region_rows};
}

void overlay_release(struct overlay *o)
{
	while (o->free) {
		struct row_ver *v = o->free;
		o->free = v->older;
		free(v);
	}
}

/* ---- versions ---- */

static struct row_ver *ver_new(struct overlay *o)
{
	struct row_ver *v = o->free;
	if (v)
		o->free = v->older;
	else
		v = malloc(sizeof(*v));
	if (!v)
		return NULL;
	*v = (struct row_ver){.kind = VER_ZERO};
	o->bytes += VER_BYTES;
	o->versions++;
	return v;
}

static void ver_drop_data(struct overlay *o, struct row_ver *v)
{
	if (v->data)
		o->bytes -= MYFS_BLOCK;
	buf_unref(v->owner);
	v->owner = NULL;
	v->data = NULL;
	v->own = false;
}

static void ver_set_data(struct overlay *o, struct row_ver *v, struct buf *owner, uint8_t *data, bool own)
{
	ver_drop_data(o, v);
	v->owner = owner;
	v->data = data;
	v->own = own;
	o->bytes += MYFS_BLOCK;
}

static void ver_free(struct overlay *o, struct row_ver *v)
{
	ver_drop_data(o, v);
	o->bytes -= VER_BYTES;
	o->versions--;
	v->older = o->free;
	o->free = v;
}

static void block_xor(uint8_t *dst, const uint8_t *src, uint8_t coef)
{
	unsigned char tbl[32] __attribute__((aligned(32)));
	unsigned char c = coef;
	ec_init_tables(1, 1, &c, tbl);
	gf_vect_mad((int)MYFS_BLOCK, 1, 0, tbl, (unsigned char *)(uintptr_t)src, dst);
}

/* gf_vect_mul reads and writes aligned vectors; a payload inside a frame starts anywhere. */
static void block_mul(uint8_t *dst, const uint8_t *src, uint8_t coef)
{
	if ((uintptr_t)src % 32 != 0 || (uintptr_t)dst % 32 != 0) {
		memset(dst, 0, MYFS_BLOCK);
		block_xor(dst, src, coef);
		return;
	}
	unsigned char tbl[32] __attribute__((aligned(32)));
	unsigned char c = coef;
	ec_init_tables(1, 1, &c, tbl);
	gf_vect_mul((int)MYFS_BLOCK, tbl, (void *)(uintptr_t)src, dst);
}

/* Gives v a block of its own that may be changed in place, with its present bytes. */
static int ver_make_own(struct overlay *o, struct row_ver *v)
{
	if (v->own)
		return 0;
	struct buf *b = buf_alloc(MYFS_BLOCK);
	if (!b)
		return -ENOMEM;
	if (v->data)
		memcpy(b->data, v->data, MYFS_BLOCK);
	else
		memset(b->data, 0, MYFS_BLOCK);
	ver_set_data(o, v, b, b->data, true);
	return 0;
}

/* The first delta of a version: coef * src, which is the payload itself where the coefficient is one. */
static int ver_set_delta(struct overlay *o, struct row_ver *v, const struct row_change *c)
{
	if (c->coef == 1 && c->owner) {
		ver_set_data(o, v, buf_ref(c->owner), (uint8_t *)(uintptr_t)c->data, false);
	} else {
		struct buf *b = buf_alloc(MYFS_BLOCK);
		if (!b)
			return -ENOMEM;
		block_mul(b->data, c->data, c->coef);
		ver_set_data(o, v, b, b->data, true);
	}
	v->crc_known = false;
	return 0;
}

/* XORs coef * src into v, whatever v is. */
static int ver_xor(struct overlay *o, struct row_ver *v, const uint8_t *src, uint8_t coef)
{
	int rc = ver_make_own(o, v);
	if (rc < 0)
		return rc;
	block_xor(v->data, src, coef);
	v->crc_known = false;
	if (v->kind == VER_ZERO)
		v->kind = VER_ABS;
	return 0;
}

static void ver_set_zero(struct overlay *o, struct row_ver *v)
{
	ver_drop_data(o, v);
	v->kind = VER_ZERO;
	v->crc = CRC32C_ZERO_BLOCK;
	v->crc_known = true;
	v->rel = false;
}

static int ver_set_abs(struct overlay *o, struct row_ver *v, const struct row_change *c)
{
	if (c->kind == VER_ZERO || (c->crc == CRC32C_ZERO_BLOCK && mem_is_zero(c->data, MYFS_BLOCK))) {
		ver_set_zero(o, v);
		return 0;
	}
	struct buf *owner = c->owner ? buf_ref(c->owner) : buf_alloc(MYFS_BLOCK);
	if (!owner)
		return -ENOMEM;
	uint8_t *data = owner->data;
	if (c->owner)
		data = (uint8_t *)(uintptr_t)c->data;
	else
		memcpy(data, c->data, MYFS_BLOCK);
	ver_set_data(o, v, owner, data, !c->owner);
	v->kind = VER_ABS;
	v->crc = c->crc;
	v->crc_known = true;
	v->rel = false;
	return 0;
}

/* Folds `older`, the version directly below v, into v and frees it. */
static int ver_merge_older(struct overlay *o, struct row_ver *v)
{
	struct row_ver *old = v->older;
	if (v->kind == VER_DELTA && old->kind != VER_ZERO) {
		int rc = ver_xor(o, v, old->data, 1);
		if (rc < 0)
			return rc;
	}
	if (v->kind == VER_DELTA) {
		v->rel = old->rel;
		v->kind = old->kind == VER_DELTA ? VER_DELTA : VER_ABS;
		v->crc_known = false;
	}
	if (txid_cmp(old->max, v->max) > 0)
		v->max = old->max;
	v->min_lsn = min_u64(v->min_lsn, old->min_lsn);
	v->older = old->older;
	ver_free(o, old);
	return 0;
}

/* ---- shards ---- */

void oshards_init(struct oshards *set)
{
	memset(set, 0, sizeof(*set));
	list_init(&set->list);
}

struct oshard *oshard_find(struct oshards *set, uint32_t shard, bool create)
{
	struct oshard **hint = &set->hint[shard % OSHARD_HINTS];
	if (*hint && (*hint)->shard == shard)
		return *hint;
	struct list *at = &set->list;
	for (struct list *n = set->list.prev; n != &set->list; n = n->prev) {
		struct oshard *s = list_entry(n, struct oshard, node);
		if (s->shard == shard)
			return *hint = s;
		if (s->shard < shard) {
			at = n;
			break;
		}
	}
	if (!create)
		return NULL;
	struct oshard *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->shard = shard;
	list_insert_between(&s->node, at, at->next);
	return *hint = s;
}

void oshard_free(struct overlay *o, struct oshards *set, struct oshard *s)
{
	for (uint32_t r = overlay_next_row(o, s, 0); r != UINT32_MAX; r = overlay_next_row(o, s, r))
		overlay_drop_row(o, s, r);
	for (unsigned i = 0; i < OVERLAY_REGIONS && s->base_lsn; i++)
		free(s->base_lsn[i]);
	free(s->base_lsn);
	if (set->hint[s->shard % OSHARD_HINTS] == s)
		set->hint[s->shard % OSHARD_HINTS] = NULL;
	list_del(&s->node);
	free(s);
}

static struct row_ver **row_slot(const struct overlay *o, const struct oshard *s, uint32_t row)
{
	uint32_t region = row / o->region_rows;
	assert(region < OVERLAY_REGIONS);
	return s->region[region] ? &s->region[region][row % o->region_rows] : NULL;
}

static struct row_ver **row_slot_make(struct overlay *o, struct oshard *s, uint32_t row)
{
	uint32_t region = row / o->region_rows;
	assert(region < OVERLAY_REGIONS);
	if (!s->region[region])
		s->region[region] = calloc(o->region_rows, sizeof(struct row_ver *));
	return s->region[region] ? &s->region[region][row % o->region_rows] : NULL;
}

static void row_emptied(struct overlay *o, struct oshard *s, uint32_t row)
{
	uint32_t region = row / o->region_rows;
	assert(s->used[region] && s->rows);
	s->rows--;
	if (--s->used[region] == 0) { /* O3 */
		free(s->region[region]);
		s->region[region] = NULL;
	}
}

struct row_ver *overlay_top(const struct overlay *o, const struct oshard *s, uint32_t row)
{
	struct row_ver **slot = s ? row_slot(o, s, row) : NULL;
	return slot ? *slot : NULL;
}

uint32_t overlay_next_row(const struct overlay *o, const struct oshard *s, uint32_t row)
{
	if (!s->rows)
		return UINT32_MAX;
	for (uint32_t region = row / o->region_rows; region < OVERLAY_REGIONS; region++) {
		if (s->region[region])
			for (uint32_t i = row % o->region_rows; i < o->region_rows; i++)
				if (s->region[region][i])
					return region * o->region_rows + i;
		row = 0;
	}
	return UINT32_MAX;
}

void overlay_drop_row(struct overlay *o, struct oshard *s, uint32_t row)
{
	struct row_ver **slot = s ? row_slot(o, s, row) : NULL;
	if (!slot || !*slot)
		return;
	while (*slot) {
		struct row_ver *v = *slot;
		*slot = v->older;
		ver_free(o, v);
	}
	row_emptied(o, s, row);
}

void overlay_drop_oldest(struct overlay *o, struct oshard *s, uint32_t row, struct row_ver *v)
{
	struct row_ver **at = row_slot(o, s, row);
	assert(at && *at);
	while (*at != v)
		at = &(*at)->older;
	assert(!v->older);
	*at = NULL;
	ver_free(o, v);
	if (!*row_slot(o, s, row))
		row_emptied(o, s, row);
}

/* ---- values ---- */

static bool ver_open(const struct row_ver *v, uint64_t seal_lsn)
{
	return v && !v->busy && v->last_lsn >= seal_lsn;
}

static int ver_absorb(struct overlay *o, struct row_ver *v, const struct row_change *c)
{
	int rc = c->kind == VER_DELTA ? ver_xor(o, v, c->data, c->coef) : ver_set_abs(o, v, c);
	if (rc < 0)
		return rc;
	if (txid_cmp(c->tx, v->max) > 0)
		v->max = c->tx;
	v->min_lsn = min_u64(v->min_lsn, c->prep_lsn);
	v->last_lsn = c->commit_lsn;
	return 0;
}

/* A fresh version on top of *slot. */
static int ver_push(struct overlay *o, struct row_ver **slot, const struct row_change *c)
{
	struct row_ver *v = ver_new(o);
	if (!v)
		return -ENOMEM;
	v->max = c->tx;
	v->min_lsn = c->prep_lsn;
	v->kind = c->kind;
	v->rel = c->kind == VER_DELTA;
	v->last_lsn = c->commit_lsn;
	int rc = v->rel ? ver_set_delta(o, v, c) : ver_absorb(o, v, c);
	if (rc < 0) {
		ver_free(o, v);
		return rc;
	}
	v->older = *slot;
	*slot = v;
	return 0;
}

/* Sealed versions that are both stable need not stay apart: a hot row keeps about one per floor that is under way. */
static int row_compact(struct overlay *o, struct row_ver *v, struct txid floor)
{
	while (v && v->older) {
		if (v->busy || v->older->busy || txid_cmp(v->max, floor) >= 0 || txid_cmp(v->older->max, floor) >= 0) {
			v = v->older;
			continue;
		}
		int rc = ver_merge_older(o, v);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int overlay_apply(struct overlay *o, struct oshard *s, uint32_t row, const struct row_change *c, uint64_t seal_lsn,
		  struct txid floor)
{
	struct row_ver **slot = row_slot_make(o, s, row);
	if (!slot)
		return -ENOMEM;
	struct row_ver *top = *slot;
	if (ver_open(top, seal_lsn))
		return ver_absorb(o, top, c);
	int rc = row_compact(o, top, floor);
	if (rc == 0)
		rc = ver_push(o, slot, c);
	if (rc == 0 && !top) {
		s->rows++;
		s->used[row / o->region_rows]++;
	}
	return rc;
}

bool overlay_needs_base(const struct row_ver *top)
{
	for (; top; top = top->older)
		if (top->kind != VER_DELTA)
			return false;
	return true;
}

bool overlay_fold(const struct row_ver *top, uint8_t *block, uint32_t *ret_crc)
{
	const struct row_ver *v = top;
	while (v && v->kind == VER_DELTA)
		v = v->older;
	if (v && v->kind == VER_ABS)
		memcpy(block, v->data, MYFS_BLOCK);
	else if (v)
		memset(block, 0, MYFS_BLOCK);
	for (const struct row_ver *d = top; d != v; d = d->older)
		block_xor(block, d->data, 1);
	if (!v || v != top || !v->crc_known)
		return false;
	*ret_crc = v->crc;
	return true;
}

struct row_ver *overlay_stable(struct overlay *o, struct oshard *s, uint32_t row, struct txid floor)
{
	struct row_ver *pick = NULL;
	for (struct row_ver *v = overlay_top(o, s, row); v; v = v->older) {
		if (v->busy)
			return NULL;
		if (txid_cmp(v->max, floor) >= 0 && !MUTATED(H4))
			pick = NULL;
		else if (!pick)
			pick = v;
	}
	while (pick && pick->older)
		if (ver_merge_older(o, pick) < 0)
			return NULL;
	return pick;
}

int overlay_make_abs(struct overlay *o, struct row_ver *v, const uint8_t *block, uint32_t crc, bool zero)
{
	if (zero) {
		bool rel = v->rel;
		ver_set_zero(o, v);
		v->rel = rel;
		return 0;
	}
	if (!v->own) {
		struct buf *b = buf_alloc(MYFS_BLOCK);
		if (!b)
			return -ENOMEM;
		ver_set_data(o, v, b, b->data, true);
	}
	memcpy(v->data, block, MYFS_BLOCK);
	v->kind = VER_ABS;
	v->crc = crc;
	v->crc_known = true;
	return 0;
}
