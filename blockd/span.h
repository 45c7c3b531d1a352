/* span.h - which bytes of a LUN requests are working on, so that one of them can be alone on its bytes.
 *
 * Ordinary requests never wait for each other: the engine orders what overlaps, block by block. A request that is
 * `alone` (compare and write) waits for every earlier one that overlaps it, and later ones that overlap it wait for it.
 * All of it works because one gateway owns a LUN: every path and protocol passes here.
 *
 * Invariants: S1 no two entered spans overlap when one of them is alone. S2 fair: a span waits only for earlier ones,
 * so nobody starves and nothing deadlocks. */
#ifndef MYFS_BLOCKD_SPAN_H
#define MYFS_BLOCKD_SPAN_H

#include "core/base/list.h"
#include "core/loop/fiber.h"

struct span { /* embedded in a request; stays where it is from enter to leave */
	uint64_t off, len;
	bool alone;
	struct list node;
};

struct span_table {
	struct list spans; /* entered or waiting, in order of arrival */
	unsigned alone;    /* of them */
	struct waitq left;
};

void span_table_init(struct span_table *t);
void span_enter(struct span_table *t, struct span *s) YIELDS;
void span_leave(struct span_table *t, struct span *s);

#endif
