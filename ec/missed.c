/* missed.c - which regions a stale brick lacks. See missed.h.
 *
 * Linear probing over (shard, brick); a slot is free when its regions are 0, and removal moves later entries of the run
 * back so that no tombstones are needed. */
#include "ec/missed.h"

#define MISSED_MIN 16u

void ec_missed_init(struct ec_missed *m) { *m = (struct ec_missed){0}; }

void ec_missed_release(struct ec_missed *m)
{
	free(m->slots);
	ec_missed_init(m);
}

static uint32_t slot_home(uint32_t cap, uint32_t shard, uint32_t brick)
{
	uint64_t h = ((uint64_t)shard << 8 | brick) * UINT64_C(0x9E3779B97F4A7C15);
	return (uint32_t)(h >> 32) & (cap - 1);
}

/* The pair's slot, or the free one where it would go. */
static struct ec_missed_slot *slot_find(const struct ec_missed *m, uint32_t shard, uint32_t brick)
{
	uint32_t i = slot_home(m->cap, shard, brick);
	while (m->slots[i].regions != 0 && (m->slots[i].shard != shard || m->slots[i].brick != brick))
		i = (i + 1) & (m->cap - 1);
	return &m->slots[i];
}

int ec_missed_reserve(struct ec_missed *m, uint32_t more)
{
	uint64_t want = ((uint64_t)m->used + more) * 2; /* at most half full */
	if (want <= m->cap)
		return 0;
	uint64_t cap = m->cap ? m->cap : MISSED_MIN;
	while (cap < want)
		cap *= 2;
	if (cap > UINT32_MAX / 2)
		return -ENOMEM;
	struct ec_missed_slot *slots = calloc(cap, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	struct ec_missed old = *m;
	m->slots = slots;
	m->cap = (uint32_t)cap;
	for (uint32_t i = 0; i < old.cap; i++)
		if (old.slots[i].regions)
			*slot_find(m, old.slots[i].shard, old.slots[i].brick) = old.slots[i];
	free(old.slots);
	return 0;
}

int ec_missed_add(struct ec_missed *m, uint32_t shard, uint32_t brick, uint64_t regions)
{
	assert(brick < EC_MISSED_BRICKS);
	if (regions == 0)
		return 0;
	int rc = ec_missed_reserve(m, 1);
	if (rc)
		return rc;
	struct ec_missed_slot *s = slot_find(m, shard, brick);
	if (s->regions == 0) {
		s->shard = shard;
		s->brick = brick;
		m->used++;
	}
	m->count[brick] += (unsigned)__builtin_popcountll(regions & ~s->regions);
	s->regions |= regions;
	return 0;
}

int ec_missed_add_mask(struct ec_missed *m, uint32_t shard, uint32_t bricks, uint64_t regions)
{
	int rc = ec_missed_reserve(m, (uint32_t)__builtin_popcount(bricks));
	for (; !rc && bricks; bricks &= bricks - 1)
		rc = ec_missed_add(m, shard, (uint32_t)__builtin_ctz(bricks), regions);
	return rc;
}

int ec_missed_add_all(struct ec_missed *m, const struct ec_missed *other)
{
	int rc = ec_missed_reserve(m, other->used);
	for (uint32_t i = 0; !rc && i < other->cap; i++)
		rc = ec_missed_add(m, other->slots[i].shard, other->slots[i].brick, other->slots[i].regions);
	return rc;
}

/* Frees slot i and closes the gap: an entry further on moves back unless its home lies after the gap. */
static void slot_remove(struct ec_missed *m, uint32_t i)
{
	uint32_t wrap = m->cap - 1;
	m->used--;
	for (uint32_t j = (i + 1) & wrap; m->slots[j].regions != 0; j = (j + 1) & wrap) {
		uint32_t home = slot_home(m->cap, m->slots[j].shard, m->slots[j].brick);
		if (((j - home) & wrap) < ((j - i) & wrap))
			continue;
		m->slots[i] = m->slots[j];
		i = j;
	}
	m->slots[i].regions = 0;
}

void ec_missed_clear(struct ec_missed *m, uint32_t shard, uint32_t brick, uint64_t regions)
{
	assert(brick < EC_MISSED_BRICKS);
	if (m->used == 0)
		return;
	struct ec_missed_slot *s = slot_find(m, shard, brick);
	if (s->regions == 0)
		return;
	m->count[brick] -= (unsigned)__builtin_popcountll(s->regions & regions);
	if ((s->regions & ~regions) == 0)
		slot_remove(m, (uint32_t)(s - m->slots));
	else
		s->regions &= ~regions;
}

void ec_missed_clear_brick(struct ec_missed *m, uint32_t brick)
{
	assert(brick < EC_MISSED_BRICKS);
	for (uint32_t i = 0; i < m->cap && m->count[brick] > 0;) {
		if (m->slots[i].regions != 0 && m->slots[i].brick == brick) {
			m->count[brick] -= (unsigned)__builtin_popcountll(m->slots[i].regions);
			slot_remove(m, i); /* may have moved a later entry here, never one to before it: look again */
		} else {
			i++;
		}
	}
	assert(m->count[brick] == 0);
}

uint64_t ec_missed_get(const struct ec_missed *m, uint32_t shard, uint32_t brick)
{
	return m->used ? slot_find(m, shard, brick)->regions : 0;
}

const struct ec_missed_slot *ec_missed_next(const struct ec_missed *m, uint32_t *cursor)
{
	while (*cursor < m->cap) {
		const struct ec_missed_slot *s = &m->slots[(*cursor)++];
		if (s->regions)
			return s;
	}
	return NULL;
}

const struct ec_missed_slot *ec_missed_first(const struct ec_missed *m, uint32_t brick, uint32_t from)
{
	const struct ec_missed_slot *best = NULL;
	for (uint32_t i = 0; i < m->cap; i++) {
		const struct ec_missed_slot *s = &m->slots[i];
		if (s->regions && s->brick == brick && s->shard >= from && (!best || s->shard < best->shard))
			best = s;
	}
	return best;
}
