/* oracle.c - see oracle.h. Per block a list of writes; per write and sector the time at which it stopped being a possible content.
 *
 * O1 `died` of a sector is in the past once set; a read that began before may still return it. O2 a bit of `back` is set as long as a rollback
 * may bring the write back: until a durable write follows it. */
#include "tests/sim/oracle.h"

#include <inttypes.h>
#include <stdio.h>

#define NEVER UINT64_MAX
#define PRUNE_AFTER_NS (600 * NS_PER_S) /* no read takes longer */
#define MAGIC UINT64_C(0x6d79667373696d31)

struct entry {
	uint64_t id;              /* 0: what was there before anything */
	uint64_t issued;
	uint64_t returned;        /* its outcome was known to the client, or it was over; NEVER before */
	uint64_t over;            /* from here it cannot take effect any more */
	uint64_t acked_at;        /* NEVER: not acknowledged */
	uint64_t turn;
	uint64_t died[ORACLE_SECTORS];
	uint8_t cover, back;      /* sectors */
	bool zero, durable;
};

struct block {
	struct entry *v;
	unsigned n, cap;
};

struct oracle {
	struct oracle_area *areas;
	struct block **blocks;    /* per area */
	unsigned n_areas;
	uint64_t next_id;
	bool rollback;
	oracle_violation_fn *violated;
	void *arg;
};

static struct entry *entry_add(struct block *b)
{
	if (b->n == b->cap) {
		b->cap = b->cap ? 2 * b->cap : 4;
		b->v = realloc(b->v, b->cap * sizeof(*b->v));
		assert(b->v != NULL);
	}
	struct entry *e = &b->v[b->n++];
	*e = (struct entry){.returned = NEVER, .over = NEVER, .acked_at = NEVER};
	for (unsigned s = 0; s < ORACLE_SECTORS; s++)
		e->died[s] = NEVER;
	return e;
}

struct oracle *oracle_new(const struct oracle_area *areas, unsigned n, oracle_violation_fn *violated, void *arg)
{
	struct oracle *o = calloc(1, sizeof(*o));
	assert(o != NULL);
	o->areas = calloc(n, sizeof(*areas));
	o->blocks = calloc(n, sizeof(*o->blocks));
	assert(o->areas != NULL && o->blocks != NULL);
	memcpy(o->areas, areas, n * sizeof(*areas));
	o->n_areas = n;
	o->violated = violated;
	o->arg = arg;
	for (unsigned a = 0; a < n; a++) {
		o->blocks[a] = calloc(areas[a].nblocks, sizeof(struct block));
		assert(o->blocks[a] != NULL);
		for (uint32_t i = 0; i < areas[a].nblocks; i++) {
			struct entry *e = entry_add(&o->blocks[a][i]);
			e->cover = e->back = 0xff;
			e->returned = e->over = e->acked_at = 0;
			e->zero = e->durable = true;
		}
	}
	return o;
}

/* ---- content ---- */

static void sector_fill(uint8_t *dst, uint64_t id, uint32_t shard, uint64_t sector)
{
	uint64_t v[ORACLE_SECTOR / 8], x = id * UINT64_C(0x9E3779B97F4A7C15) ^ sector << 20 ^ shard;
	v[0] = MAGIC;
	v[1] = id;
	v[2] = (uint64_t)shard << 32 | sector;
	for (unsigned i = 3; i < ARRAY_LEN(v); i++)
		v[i] = x + i * UINT64_C(0xD1342543DE82EF95);
	memcpy(dst, v, ORACLE_SECTOR);
}

static bool sector_is(const struct entry *e, const uint8_t *src, uint32_t shard, uint64_t sector)
{
	static const uint8_t zeros[ORACLE_SECTOR];
	uint8_t want[ORACLE_SECTOR];
	if (e->zero)
		return memcmp(src, zeros, ORACLE_SECTOR) == 0;
	uint64_t id;
	memcpy(&id, src + 8, 8);
	if (id != e->id)
		return false;
	sector_fill(want, e->id, shard, sector);
	return memcmp(src, want, ORACLE_SECTOR) == 0;
}

/* ---- blocks of a range ---- */

struct walk {
	struct oracle *o;
	struct oracle_range r;
	uint64_t at;             /* next sector */
	/* the present block */
	struct block *b;
	uint64_t first;          /* its first sector in the range */
	uint8_t mask;            /* its sectors in the range */
};

static struct walk walk_begin(struct oracle *o, struct oracle_range r)
{
	return (struct walk){.o = o, .r = r, .at = r.sector};
}

static bool walk_next(struct walk *w)
{
	const struct oracle_area *a = &w->o->areas[w->r.area];
	uint64_t end = w->r.sector + w->r.nsectors;
	if (w->at >= end)
		return false;
	uint64_t lba = w->at / ORACLE_SECTORS;
	assert(lba >= a->lba && lba < (uint64_t)a->lba + a->nblocks);
	w->b = &w->o->blocks[w->r.area][lba - a->lba];
	w->first = w->at;
	w->mask = 0;
	for (; w->at < end && w->at / ORACLE_SECTORS == lba; w->at++)
		w->mask |= (uint8_t)(1u << w->at % ORACLE_SECTORS);
	return true;
}

static struct entry *entry_find(struct block *b, uint64_t id)
{
	for (unsigned i = 0; i < b->n; i++)
		if (b->v[i].id == id)
			return &b->v[i];
	return NULL;
}

static void entry_die(struct entry *e, uint8_t sectors, uint64_t now)
{
	for (unsigned s = 0; s < ORACLE_SECTORS; s++)
		if (sectors & (1u << s))
			e->died[s] = min_u64(e->died[s], now);
}

/* Forgets entries nobody can see again. */
static void block_prune(struct block *b, uint64_t now)
{
	unsigned kept = 0;
	for (unsigned i = 0; i < b->n; i++) {
		bool gone = b->v[i].back == 0 && b->v[i].returned != NEVER;
		for (unsigned s = 0; s < ORACLE_SECTORS && gone; s++)
			gone = !(b->v[i].cover & (1u << s)) || (b->v[i].died[s] != NEVER && b->v[i].died[s] + PRUNE_AFTER_NS < now);
		if (!gone)
			b->v[kept++] = b->v[i];
	}
	b->n = kept;
}

/* ---- events ---- */

uint64_t oracle_write_begin(struct oracle *o, struct oracle_range r, bool zero, uint64_t turn, uint64_t now, uint8_t *data)
{
	uint64_t id = ++o->next_id;
	struct walk w = walk_begin(o, r);
	while (walk_next(&w)) {
		block_prune(w.b, now);
		struct entry *e = entry_add(w.b);
		e->id = id;
		e->issued = now;
		e->turn = turn;
		e->cover = e->back = w.mask;
		e->zero = zero;
	}
	for (uint32_t i = 0; i < r.nsectors && !zero; i++)
		sector_fill(data + (size_t)i * ORACLE_SECTOR, id, o->areas[r.area].shard, r.sector + i);
	return id;
}

static void make_durable(struct block *b, struct entry *by)
{
	by->durable = true;
	for (unsigned i = 0; i < b->n; i++)
		if (&b->v[i] != by && b->v[i].returned < by->issued)
			b->v[i].back &= (uint8_t)~by->cover;
}

void oracle_write_acked(struct oracle *o, struct oracle_range r, uint64_t id, bool durable, uint64_t now)
{
	struct walk w = walk_begin(o, r);
	while (walk_next(&w)) {
		struct entry *e = entry_find(w.b, id);
		assert(e != NULL);
		e->acked_at = now;
		e->returned = min_u64(e->returned, now);
		e->over = min_u64(e->over, now);
		for (unsigned i = 0; i < w.b->n; i++)
			if (&w.b->v[i] != e && w.b->v[i].returned < e->issued)
				entry_die(&w.b->v[i], e->cover, now);
		if (durable)
			make_durable(w.b, e);
	}
}

void oracle_write_failed(struct oracle *o, struct oracle_range r, uint64_t id, uint64_t now)
{
	struct walk w = walk_begin(o, r);
	while (walk_next(&w)) {
		struct entry *e = entry_find(w.b, id);
		assert(e != NULL);
		e->returned = min_u64(e->returned, now);
	}
}

static void describe(const struct block *b, unsigned s, char *out, size_t cap)
{
	size_t n = 0;
	out[0] = '\0';
	for (unsigned i = 0; i < b->n && n < cap; i++) {
		const struct entry *e = &b->v[i];
		if (!(e->cover & (1u << s)))
			continue;
		n += (size_t)snprintf(out + n, cap - n, "\n    write %" PRIu64 "%s turn %" PRIu64 " issued %.6f%s%s%s%s", e->id, e->zero ? " (zeros)" : "", e->turn,
				      (double)e->issued / 1e9, e->acked_at != NEVER ? " acknowledged" : e->returned != NEVER ? " unknown" : " pending",
				      e->durable ? " durable" : "", e->died[s] != NEVER ? " superseded" : "", e->back & (1u << s) ? " (may come back)" : "");
	}
}

static void complain(struct oracle *o, const struct block *b, uint32_t shard, uint64_t sector, const uint8_t *data, const char *what)
{
	static char text[8192], all[6000];
	uint64_t head[3];
	memcpy(head, data, sizeof(head));
	describe(b, (unsigned)(sector % ORACLE_SECTORS), all, sizeof(all));
	if (head[0] == MAGIC)
		snprintf(text, sizeof(text), "shard %u lba %" PRIu64 " sector %u %s: read write %" PRIu64 " (made for shard %u sector %" PRIu64 "); known:%s", shard,
			 sector / ORACLE_SECTORS, (unsigned)(sector % ORACLE_SECTORS), what, head[1], (unsigned)(head[2] >> 32), head[2] & UINT32_MAX, all);
	else
		snprintf(text, sizeof(text), "shard %u lba %" PRIu64 " sector %u %s: read %016" PRIx64 " %016" PRIx64 "; known:%s", shard, sector / ORACLE_SECTORS,
			 (unsigned)(sector % ORACLE_SECTORS), what, head[0], head[1], all);
	o->violated(o->arg, text);
}

static bool may_be(const struct oracle *o, const struct entry *e, unsigned s, uint64_t begun)
{
	if (!(e->cover & (1u << s)))
		return false;
	return e->died[s] == NEVER || e->died[s] >= begun || (o->rollback && (e->back & (1u << s)));
}

/* One sector of a read. Returns the write it shows when that is certain, else NULL. */
static struct entry *sector_read(struct oracle *o, struct walk *w, uint64_t sector, const uint8_t *data, uint64_t begun, uint64_t now)
{
	uint32_t shard = o->areas[w->r.area].shard;
	unsigned s = (unsigned)(sector % ORACLE_SECTORS), matches = 0;
	struct entry *seen = NULL;
	for (unsigned i = 0; i < w->b->n; i++) {
		struct entry *e = &w->b->v[i];
		if (may_be(o, e, s, begun) && sector_is(e, data, shard, sector)) {
			matches++;
			seen = e;
		}
	}
	if (matches == 0)
		complain(o, w->b, shard, sector, data, "is none of its writes");
	if (o->rollback)
		return matches == 1 ? seen : NULL; /* what is seen now may still be taken back */
	for (unsigned i = 0; i < w->b->n; i++) {
		struct entry *e = &w->b->v[i];
		if ((e->cover & (1u << s)) && e->over < begun && !sector_is(e, data, shard, sector))
			entry_die(e, (uint8_t)(1u << s), now);
	}
	if (matches != 1)
		return NULL;
	seen->returned = min_u64(seen->returned, now);
	seen->over = min_u64(seen->over, now);
	return seen;
}

void oracle_read(struct oracle *o, struct oracle_range r, const uint8_t *data, uint64_t begun, uint64_t now)
{
	struct walk w = walk_begin(o, r);
	while (walk_next(&w)) {
		const struct entry *seen[ORACLE_SECTORS] = {NULL};
		for (unsigned i = 0; i < ORACLE_SECTORS; i++) {
			uint64_t sector = round_down_u64(w.first, ORACLE_SECTORS) + i;
			if (w.mask & (1u << i))
				seen[i] = sector_read(o, &w, sector, data + (sector - r.sector) * ORACLE_SECTOR, begun, now);
		}
		/* Blocks are written whole: of two writes that both cover two sectors, one came first. */
		for (unsigned i = 0; i < ORACLE_SECTORS; i++)
			for (unsigned j = 0; j < ORACLE_SECTORS; j++)
				if (seen[i] != NULL && seen[j] != NULL && seen[i] != seen[j] && (seen[i]->cover & (1u << j)) && (seen[j]->cover & (1u << i)))
					complain(o, w.b, o->areas[r.area].shard, round_down_u64(w.first, ORACLE_SECTORS) + i,
						 data + (round_down_u64(w.first, ORACLE_SECTORS) + i - r.sector) * ORACLE_SECTOR, "is torn from its block");
	}
}

#define FOR_EACH_BLOCK(o, b)                                                                                                                        \
	for (unsigned area_ = 0; area_ < (o)->n_areas; area_++)                                                                                     \
		for (struct block *b = (o)->blocks[area_]; b < (o)->blocks[area_] + (o)->areas[area_].nblocks; b++)

void oracle_flushed(struct oracle *o, uint64_t begun)
{
	if (o->rollback)
		return;
	FOR_EACH_BLOCK(o, b)
		for (unsigned i = 0; i < b->n; i++)
			if (b->v[i].acked_at < begun && !b->v[i].durable)
				make_durable(b, &b->v[i]);
}

void oracle_owner(struct oracle *o, uint64_t turn, uint64_t now)
{
	FOR_EACH_BLOCK(o, b)
		for (unsigned i = 0; i < b->n; i++) {
			if (b->v[i].turn >= turn)
				continue;
			b->v[i].over = min_u64(b->v[i].over, now);
			b->v[i].returned = min_u64(b->v[i].returned, now);
		}
}

void oracle_rollback_begin(struct oracle *o)
{
	o->rollback = true;
}

bool oracle_in_rollback(const struct oracle *o)
{
	return o->rollback;
}

/* The resolution has chosen. Acknowledgements of what was not durable are worth nothing any more; the next read tells what was chosen. */
void oracle_rollback_end(struct oracle *o, uint64_t now)
{
	FOR_EACH_BLOCK(o, b)
		for (unsigned i = 0; i < b->n; i++) {
			struct entry *e = &b->v[i];
			for (unsigned s = 0; s < ORACLE_SECTORS; s++)
				if (e->back & (1u << s))
					e->died[s] = NEVER;
			if (e->over != NEVER && e->id != 0)
				e->over = now;
			if (!e->durable)
				e->acked_at = NEVER;
		}
	o->rollback = false;
}
