/* list.h - intrusive doubly linked list; a head and its nodes are the same type. */
#ifndef MYFS_LIST_H
#define MYFS_LIST_H

#include "core/base/base.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }
/* True when the node is on some list (nodes are list_init'ed when off). */
static inline bool list_linked(const struct list *n) { return n->next != n; }
static inline void list_insert_between(struct list *n, struct list *prev, struct list *next)
{
	n->prev = prev;
	n->next = next;
	prev->next = n;
	next->prev = n;
}
static inline void list_push_back(struct list *head, struct list *n) { list_insert_between(n, head->prev, head); }
static inline void list_push_front(struct list *head, struct list *n) { list_insert_between(n, head, head->next); }
static inline void list_del(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}
#define list_entry(node, type, member) CONTAINER_OF(node, type, member)
#define list_first(head, type, member) list_entry((head)->next, type, member)
#define list_for_each(it, head, type, member) \
	for (type *it = list_entry((head)->next, type, member); &it->member != (head); \
	     it = list_entry(it->member.next, type, member))
/* `it` may be removed in the body. */
#define list_for_each_safe(it, head, type, member)                                                                     \
	for (type *it = list_entry((head)->next, type, member),                                                        \
		  *it##_next = list_entry(it->member.next, type, member);                                              \
	     &it->member != (head); it = it##_next, it##_next = list_entry(it->member.next, type, member))

#endif
