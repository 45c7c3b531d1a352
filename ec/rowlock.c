/* rowlock.c - FIFO row locks by counting blockers. See rowlock.h.
 *
 * A lock that arrives counts the conflicting locks that are already there, granted or waiting; it is granted at zero. A
 * lock that leaves lowers the count of every later conflicting one. Both walk the same lists: a narrow lock (inside one
 * region) meets its region's list and its shard's wide list, a wide one the lists of all its regions and its shard's
 * wide list. */
#include "ec/rowlock.h"
#include "core/base/err.h"
#include "core/base/mutate.h"

static uint32_t hash_u64(uint64_t v) { return (uint32_t)((v * UINT64_C(0x9E3779B97F4A7C15)) >> 40); }

static struct list *narrow_list(struct rowlock_table *t, uint32_t shard, uint32_t region)
{
	return &t->narrow[hash_u64((uint64_t)shard << 32 | region) % ROWLOCK_NARROW];
}

static struct list *wide_list(struct rowlock_table *t, uint32_t shard)
{
	return &t->wide[hash_u64(shard) % ROWLOCK_WIDE];
}

void rowlock_table_init(struct rowlock_table *t, uint32_t region_rows)
{
	assert(region_rows > 0);
	*t = (struct rowlock_table){.region_rows = region_rows, .next_ticket = 1};
	for (unsigned i = 0; i < ROWLOCK_NARROW; i++)
		list_init(&t->narrow[i]);
	for (unsigned i = 0; i < ROWLOCK_WIDE; i++)
		list_init(&t->wide[i]);
}

bool rowlock_conflict(const struct rowlock *a, const struct rowlock *b)
{
	if (a->shard != b->shard)
		return false;
	if ((uint64_t)a->row + a->nrows <= b->row || (uint64_t)b->row + b->nrows <= a->row)
		return false;
	if (a->mode == ROWLOCK_D && b->mode == ROWLOCK_D)
		return (a->chunks & b->chunks) != 0;
	return a->mode != ROWLOCK_C || b->mode != ROWLOCK_C;
}

static uint32_t first_region(const struct rowlock_table *t, const struct rowlock *l) { return l->row / t->region_rows; }
static uint32_t last_region(const struct rowlock_table *t, const struct rowlock *l)
{
	return (l->row + l->nrows - 1) / t->region_rows;
}

/* Calls fn for every active lock in lists that l's rows can meet. fn sees a lock once: lists of several regions may be
 * the same list, so each is walked only for the locks of its own region. */
static void for_each_near(struct rowlock_table *t, struct rowlock *l,
			  void (*fn)(struct rowlock *l, struct rowlock *other))
{
	for (uint32_t region = first_region(t, l); region <= last_region(t, l); region++)
		list_for_each_safe (other, narrow_list(t, l->shard, region), struct rowlock, node)
			if (first_region(t, other) == region)
				fn(l, other);
	if (t->wide_active == 0)
		return;
	list_for_each_safe (other, wide_list(t, l->shard), struct rowlock, node)
		fn(l, other);
}

static void count_blocker(struct rowlock *l, struct rowlock *other)
{
	if (rowlock_conflict(l, other))
		l->blockers++;
}

static void lower_blocked(struct rowlock *gone, struct rowlock *other)
{
	if (other->ticket < gone->ticket || !rowlock_conflict(gone, other))
		return;
	assert(other->blockers > 0); /* L2 */
	if (--other->blockers == 0 && other->waiter)
		fiber_wake(other->waiter);
}

/* Enters the queue; l->blockers tells whether it is granted. */
static void enter(struct rowlock_table *t, struct rowlock *l)
{
	assert(l->nrows >= 1 && l->row + l->nrows > l->row);
	assert(l->mode != ROWLOCK_D || l->chunks != 0 || MUTATED(H6) || MUTATED(H7) || MUTATED(H22));
	l->blockers = 0;
	if (t->active > 0)
		for_each_near(t, l, count_blocker);
	l->ticket = t->next_ticket++;
	l->active = true;
	l->waiter = NULL;
	l->wide = first_region(t, l) != last_region(t, l);
	list_push_back(l->wide ? wide_list(t, l->shard) : narrow_list(t, l->shard, first_region(t, l)), &l->node);
	t->active++;
	t->wide_active += l->wide;
}

void rowlock_release(struct rowlock_table *t, struct rowlock *l)
{
	if (!l->active)
		return;
	list_del(&l->node);
	l->active = false;
	t->active--;
	t->wide_active -= l->wide;
	if (t->waiting > 0)
		for_each_near(t, l, lower_blocked);
}

int rowlock_acquire_until(struct rowlock_table *t, struct rowlock *l, uint64_t deadline_ns)
{
	int rc = 0;
	enter(t, l);
	if (l->blockers == 0)
		return 0;
	l->waiter = fiber_self();
	t->waiting++;
	while (l->blockers > 0 && rc != -ETIMEDOUT)
		rc = fiber_park_until(deadline_ns);
	t->waiting--;
	l->waiter = NULL;
	if (l->blockers == 0)
		return 0;
	rowlock_release(t, l); /* tells whoever queued behind it */
	return -ETIMEDOUT;
}

void rowlock_acquire(struct rowlock_table *t, struct rowlock *l)
{
	int rc = rowlock_acquire_until(t, l, UINT64_MAX);
	assert(rc == 0);
}

bool rowlock_try(struct rowlock_table *t, struct rowlock *l)
{
	enter(t, l);
	if (l->blockers == 0)
		return true;
	rowlock_release(t, l); /* just entered: nobody queued behind it yet */
	return false;
}
