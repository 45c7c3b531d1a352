/* session.c - who is speaking: sessions and what they hold. */
#include <stdlib.h>

#include "brick/brick_priv.h"

struct session *session_new(struct brick *b, const struct gfid *gateway, uint64_t instance, struct rpc_conn *conn)
{
	list_for_each_safe(old, &b->sessions, struct session, node)
		if (gfid_eq(&old->gateway, gateway) && !MUTATED(H21))
			session_kill(old); /* H21: late frames of the old connection must not count */
	struct session *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->b = b;
	s->conn = conn;
	s->gateway = *gateway;
	s->instance = instance;
	s->id = ++b->last_session ^ b->start_id;
	list_init(&s->held);
	list_push_back(&b->sessions, &s->node);
	return s;
}

void session_kill(struct session *s)
{
	if (s->dead)
		return;
	s->dead = true;
	while (!list_empty(&s->held))
		domain_set_holder(list_first(&s->held, struct domain, held_node), NULL);
	if (s->conn)
		rpc_conn_close(s->conn);
}

void session_free(struct session *s)
{
	if (!s)
		return;
	s->conn = NULL;
	session_kill(s);
	list_del(&s->node);
	free(s);
}

int session_domain(struct session *s, const char domain[16], struct domain **ret)
{
	struct gfid g;
	memcpy(g.b, domain, sizeof(g.b));
	if (s->b->failed[0])
		return -EIO;
	if (s->dead)
		return -MYFS_E_FENCED;
	struct domain *d = domain_find(s->b, &g);
	if (!d || !d->promise_epoch)
		return -MYFS_E_UNSEEDED;
	if (d->holder != s)
		return -MYFS_E_FENCED;
	*ret = d;
	return 0;
}
