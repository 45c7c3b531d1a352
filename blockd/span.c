/* span.c - see span.h. Without an alone span in the table, entering and leaving are a list insertion and removal. */
#include "blockd/span.h"

void span_table_init(struct span_table *t)
{
	list_init(&t->spans);
	t->alone = 0;
	waitq_init(&t->left);
}

static bool overlap(const struct span *a, const struct span *b)
{
	return a->off < b->off + b->len && b->off < a->off + a->len;
}

static bool must_wait(const struct span_table *t, const struct span *s)
{
	list_for_each(earlier, &t->spans, struct span, node) {
		if (earlier == s)
			return false;
		if ((earlier->alone || s->alone) && overlap(earlier, s))
			return true;
	}
	return false;
}

void span_enter(struct span_table *t, struct span *s)
{
	list_push_back(&t->spans, &s->node);
	t->alone += s->alone;
	while (UNLIKELY(t->alone > 0) && must_wait(t, s))
		waitq_wait(&t->left);
}

void span_leave(struct span_table *t, struct span *s)
{
	list_del(&s->node);
	if (UNLIKELY(t->alone > 0))
		waitq_wake_all(&t->left);
	t->alone -= s->alone;
}
