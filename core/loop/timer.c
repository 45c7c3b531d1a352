/* timer.c - deadlines in a binary heap of borrowed timers, earliest first; equal deadlines in the order armed.
 *
 * Invariant: T1 heap[t->heap_index] == t for every armed timer. */
#include "core/loop/loop_priv.h"

static bool before(const struct timer *a, const struct timer *b)
{
	if (a->deadline_ns != b->deadline_ns)
		return a->deadline_ns < b->deadline_ns;
	return a->seq < b->seq;
}

static void place(struct timer_heap *h, unsigned i, struct timer *t)
{
	h->v[i] = t;
	t->heap_index = i;
}

static void sift_up(struct timer_heap *h, unsigned i, struct timer *t)
{
	while (i > 0 && before(t, h->v[(i - 1) / 2])) {
		place(h, i, h->v[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	place(h, i, t);
}

static void sift_down(struct timer_heap *h, unsigned i, struct timer *t)
{
	for (;;) {
		unsigned child = 2 * i + 1;
		if (child >= h->n)
			break;
		if (child + 1 < h->n && before(h->v[child + 1], h->v[child]))
			child++;
		if (!before(h->v[child], t))
			break;
		place(h, i, h->v[child]);
		i = child;
	}
	place(h, i, t);
}

static void heap_remove(struct timer_heap *h, struct timer *t)
{
	unsigned i = t->heap_index;

	assert(i < h->n && h->v[i] == t); /* T1 */
	struct timer *last = h->v[--h->n];
	if (last == t)
		return;
	if (i > 0 && before(last, h->v[(i - 1) / 2]))
		sift_up(h, i, last);
	else
		sift_down(h, i, last);
}

void timer_init(struct timer *t, void (*fn)(void *arg), void *arg)
{
	*t = (struct timer){.fn = fn, .arg = arg};
}

void timer_arm(struct timer *t, uint64_t deadline_ns)
{
	struct loop *l = loop_self();
	struct timer_heap *h = &l->timers;

	if (t->armed)
		heap_remove(h, t);
	if (h->n == h->cap) {
		unsigned cap = h->cap ? h->cap * 2 : 256;
		struct timer **v = realloc(h->v, cap * sizeof(*v));
		if (!v)
			abort(); /* a few KiB: nothing useful is left to do without timers */
		h->v = v;
		h->cap = cap;
	}
	t->deadline_ns = deadline_ns;
	t->seq = h->next_seq++;
	t->group = l->group;
	t->armed = true;
	sift_up(h, h->n++, t);
}

void timer_cancel(struct timer *t)
{
	if (!t->armed)
		return;
	t->armed = false;
	heap_remove(&loop_self()->timers, t);
}

uint64_t timers_next_ns(const struct loop *l)
{
	return l->timers.n ? l->timers.v[0]->deadline_ns : UINT64_MAX;
}

void timers_run(struct loop *l)
{
	struct fiber_group *outer = l->group;
	uint64_t armed_before = l->timers.next_seq; /* what these arm anew waits for the next round */

	while (l->timers.n && l->timers.v[0]->deadline_ns <= l->now_ns && l->timers.v[0]->seq < armed_before) {
		struct timer *t = l->timers.v[0];
		timer_cancel(t);
		l->group = t->group;
		t->fn(t->arg);
	}
	l->group = outer;
}

void timers_drop_group(struct loop *l, const struct fiber_group *g)
{
	for (unsigned i = l->timers.n; i-- > 0;) {
		if (i < l->timers.n && l->timers.v[i]->group == g)
			timer_cancel(l->timers.v[i]);
	}
	/* A removal may have moved an unseen timer below i; repeat until a pass finds none. */
	for (unsigned i = 0; i < l->timers.n; i++) {
		if (l->timers.v[i]->group == g) {
			timers_drop_group(l, g);
			return;
		}
	}
}
