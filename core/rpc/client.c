/* client.c - the calling side: outstanding calls, matching of replies, groups of calls.
 *
 *   rpc_call_start --queued--> writer sends --> reply read --> call_end --> done() --> group wakes its waiter
 *
 * Invariants: C1 a call is on exactly one of `calls` (a reply may come; also in the table) and `doomed` (rc is
 * decided, it ends at the end of the iteration) until it ended, on neither after. C2 call_end runs once per call. C3
 * after a callback returned, the client may have been closed: `wire.up` is looked at again. C4 the struct lives until
 * the user freed it and the reader fiber ended. */
#include "core/rpc/rpc.h"

#include "core/base/list.h"
#include "core/metrics/histogram.h"
#include "core/rpc/wire.h"

#define CALLS_MAX 65536u /* outstanding on one connection */
#define TABLE_START 64u

/* Outstanding calls by seq: open addressing, linear probing, at most half full. Sequence numbers are consecutive, so
 * the low bits are the hash. */
struct call_table {
	struct rpc_call **slots;
	size_t cap; /* power of two, or 0 */
	size_t used;
};

struct rpc_client {
	struct wire wire;
	struct loop *loop;
	void (*on_down)(void *arg, struct rpc_client *c, const char *why);
	void *arg;
	struct histogram *latency; /* borrowed, or NULL */
	struct list calls, doomed;
	struct call_table table;
	uint64_t next_seq, session;
	struct deferred end_doomed;
	bool closed;      /* by the user */
	bool freed;       /* by the user */
	bool reader_done;
};

/* ---- table ---- */

static int table_grow(struct call_table *t)
{
	size_t cap = t->cap ? t->cap * 2 : TABLE_START;
	struct rpc_call **slots = calloc(cap, sizeof(struct rpc_call *));

	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < t->cap; i++) {
		if (!t->slots[i])
			continue;
		size_t at = t->slots[i]->seq & (cap - 1);
		while (slots[at])
			at = (at + 1) & (cap - 1);
		slots[at] = t->slots[i];
	}
	free(t->slots);
	t->slots = slots;
	t->cap = cap;
	return 0;
}

static int table_insert(struct call_table *t, struct rpc_call *call)
{
	if (t->used >= CALLS_MAX)
		return -ENOBUFS;
	if (2 * t->used >= t->cap && table_grow(t) != 0)
		return -ENOMEM;

	size_t at = call->seq & (t->cap - 1);
	while (t->slots[at])
		at = (at + 1) & (t->cap - 1);
	t->slots[at] = call;
	t->used++;
	return 0;
}

static struct rpc_call **table_find(struct call_table *t, uint64_t seq)
{
	if (t->used == 0)
		return NULL;
	for (size_t at = seq & (t->cap - 1); t->slots[at]; at = (at + 1) & (t->cap - 1)) {
		if (t->slots[at]->seq == seq)
			return &t->slots[at];
	}
	return NULL;
}

/* Closes the gap so that no probe sequence is cut: a later entry moves back when its home is not inside (gap, entry].
 * */
static void table_remove(struct call_table *t, struct rpc_call *call)
{
	struct rpc_call **slot = table_find(t, call->seq);
	if (!slot)
		return;

	size_t mask = t->cap - 1;
	size_t gap = (size_t)(slot - t->slots);
	for (size_t at = (gap + 1) & mask; t->slots[at]; at = (at + 1) & mask) {
		size_t home = t->slots[at]->seq & mask;
		if (((at - home) & mask) < ((at - gap) & mask))
			continue;
		t->slots[gap] = t->slots[at];
		gap = at;
	}
	t->slots[gap] = NULL;
	t->used--;
}

/* ---- groups ---- */

void rpc_group_init(struct rpc_group *g)
{
	*g = (struct rpc_group){0};
}

static bool group_settled(const struct rpc_group *g)
{
	return g->ok >= g->need || g->ended == g->started;
}

static void group_note_end(struct rpc_group *g, int rc)
{
	g->ended++;
	g->ok += rc == 0;
	if (g->waiter && group_settled(g)) {
		fiber_wake(g->waiter);
		g->waiter = NULL; /* one wake per wait */
	}
}

unsigned rpc_group_wait(struct rpc_group *g, unsigned need, uint64_t deadline_ns)
{
	g->need = need;
	while (!group_settled(g)) {
		g->waiter = fiber_self();
		int rc = fiber_park_until(deadline_ns);
		g->waiter = NULL;
		if (rc == -ETIMEDOUT)
			break;
	}
	return g->ok;
}

void rpc_group_park(struct rpc_group *g)
{
	g->need = UINT32_MAX;
	if (group_settled(g))
		return;
	g->waiter = fiber_self();
	fiber_park();
	g->waiter = NULL;
}

unsigned rpc_group_wait_all(struct rpc_group *g)
{
	return rpc_group_wait(g, UINT32_MAX, UINT64_MAX);
}

/* ---- calls ---- */

static void call_end(struct rpc_call *call, int rc)
{
	struct rpc_group *g = call->group;

	assert(!call->ended); /* C2 */
	table_remove(&call->client->table, call);
	list_del(&call->node);
	loop_await(-1);
	call->rc = rc;
	call->ended = true;
	if (call->done)
		call->done(call); /* may free the call */
	if (g)
		group_note_end(g, rc);
}

static void call_doom(struct rpc_call *call, int rc)
{
	struct rpc_client *c = call->client;

	table_remove(&c->table, call);
	list_del(&call->node);
	call->rc = rc;
	list_push_back(&c->doomed, &call->node);
	loop_defer(&c->end_doomed);
}

/* Ends what is doomed by now, in order. What callbacks start meanwhile has higher numbers and waits for the next
 * iteration, so that a callback which always tries again cannot hold the loop. Callbacks may close the client, which
 * empties the list under us. */
static void doomed_end(struct rpc_client *c)
{
	uint64_t limit = c->next_seq;

	while (!list_empty(&c->doomed)) {
		struct rpc_call *call = list_first(&c->doomed, struct rpc_call, node);
		if (call->seq >= limit)
			break;
		call_end(call, call->rc);
	}
}

static void end_doomed_deferred(void *arg)
{
	struct rpc_client *c = arg;

	doomed_end(c);
	if (!list_empty(&c->doomed))
		loop_defer(&c->end_doomed);
}

static void calls_end_all(struct rpc_client *c)
{
	while (!list_empty(&c->calls))
		call_doom(list_first(&c->calls, struct rpc_call, node), -MYFS_E_GONE);
	doomed_end(c);
}

static int call_queue(struct rpc_client *c, struct rpc_call *call)
{
	size_t payload = iov_bytes((struct iov){.v = call->payload, .n = call->payload_n});
	if (payload > RPC_PAYLOAD_MAX || call->payload_n > RPC_PAYLOAD_IOVS)
		return -EMSGSIZE;
	int rc = table_insert(&c->table, call);
	if (rc != 0)
		return rc;
	if (tx_admit(&c->wire.tx, payload, call->payload_n) != 0) {
		wire_end(&c->wire, "peer does not read, output limit reached");
		return 0; /* ends with all the others */
	}

	struct frame_header h = {
	    .type = (uint16_t)call->type, .session = c->session, .seq = call->seq, .payload_len = (uint32_t)payload};
	rc = tx_frame(&c->wire.tx, &h, call->args_proc, call->args);
	if (rc != 0)
		return rc;
	if (payload > 0) {
		call->tx_begin = c->wire.tx.queued;
		rc = tx_payload_lent(&c->wire.tx, call->payload, call->payload_n);
		call->tx_end = c->wire.tx.queued;
		if (rc != 0)
			wire_end(&c->wire, err_name(rc)); /* half a frame is queued */
	}
	wire_flush(&c->wire);
	return 0;
}

void rpc_call_start(struct rpc_client *c, struct rpc_call *call, struct rpc_group *g)
{
	call->rc = -EINPROGRESS;
	call->epoch = 0;
	call->payload_in = (struct slice){0};
	call->client = c;
	call->group = g;
	call->seq = c->next_seq++;
	call->start_ns = loop_now_ns();
	call->ended = false;
	call->tx_begin = call->tx_end = 0;
	list_init(&call->node);
	list_push_back(&c->calls, &call->node);
	loop_await(1);
	if (g)
		g->started++;
	int rc = c->wire.up ? call_queue(c, call) : -MYFS_E_GONE;
	if (rc != 0)
		call_doom(call, rc);
}

void rpc_call_release(struct rpc_call *call)
{
	buf_unref(call->payload_in.owner);
	call->payload_in = (struct slice){0};
}

void rpc_call_cancel(struct rpc_call *call)
{
	struct rpc_client *c = call->client;

	if (call->ended)
		return;
	if (c->wire.up && tx_unlend(&c->wire.tx, call->tx_begin, call->tx_end) != 0)
		wire_end(&c->wire, "request cancelled while being sent");
	call->done = NULL; /* whoever cancels knows */
	call_end(call, -ECANCELED);
}

void rpc_client_cancel_of(struct rpc_client *c, const void *user)
{
	list_for_each_safe(call, &c->calls, struct rpc_call, node) {
		if (call->user == user)
			rpc_call_cancel(call);
		if (!c->wire.up)
			return; /* it ends with all the others */
	}
}

int rpc_call_sync(struct rpc_client *c, struct rpc_call *call)
{
	struct rpc_group g;

	rpc_group_init(&g);
	rpc_call_start(c, call, &g);
	rpc_group_wait_all(&g);
	return call->rc;
}

int rpc_post(struct rpc_client *c, uint32_t type, xdrproc_t proc, void *args, const struct iovec *payload, unsigned n)
{
	size_t len = iov_bytes((struct iov){.v = payload, .n = n});

	if (!c->wire.up)
		return -MYFS_E_GONE;
	if (len > RPC_PAYLOAD_MAX)
		return -EMSGSIZE;
	if (tx_admit(&c->wire.tx, len, 1) != 0) {
		wire_end(&c->wire, "peer does not read, output limit reached");
		return -MYFS_E_GONE;
	}
	struct frame_header h = {.type = (uint16_t)type,
				 .flags = RPC_FLAG_ONEWAY,
				 .session = c->session,
				 .seq = c->next_seq++,
				 .payload_len = (uint32_t)len};
	int rc = tx_frame(&c->wire.tx, &h, proc, args);
	if (rc != 0)
		return rc;
	rc = tx_payload_copy(&c->wire.tx, payload, n);
	if (rc != 0)
		wire_end(&c->wire, err_name(rc)); /* half a frame is queued */
	wire_flush(&c->wire);
	return rc;
}

/* ---- replies ---- */

/* Decodes a reply body. False when it is not what the call asked for. */
static bool reply_decode(const struct rpc_call *call, const struct frame *f)
{
	if (!call->res_proc)
		return f->h.body_len == 0;

	XDR x;
	xdrmem_create(&x, (char *)(uintptr_t)f->body, f->h.body_len, XDR_DECODE);
	bool ok = call->res_proc(&x, call->res) && xdr_getpos(&x) == f->h.body_len;
	xdr_destroy(&x);
	return ok;
}

/* A well-behaved peer answers after it has read all of the request, so a wait here is as short as the writer's
 * wake-up; a peer that does otherwise must not end a call whose memory is still being read. */
static void reply_wait_sent(struct rpc_client *c, uint64_t seq) YIELDS
{
	for (;;) {
		struct rpc_call **slot = table_find(&c->table, seq);
		if (!c->wire.up || !slot || (*slot)->tx_end <= c->wire.tx.sent)
			return;
		waitq_wait(&c->wire.progress);
	}
}

static void reply_take(struct rpc_client *c, const struct frame *f) YIELDS
{
	if (!(f->h.flags & RPC_FLAG_REPLY) || f->h.seq >= c->next_seq) {
		wire_end(&c->wire, "peer sent something that is no reply to a request of ours");
		return;
	}
	struct rpc_call **slot = table_find(&c->table, f->h.seq);
	if (slot && (*slot)->tx_end > c->wire.tx.sent) {
		reply_wait_sent(c, f->h.seq);
		slot = c->wire.up ? table_find(&c->table, f->h.seq) : NULL;
	}
	if (!slot)
		return; /* cancelled meanwhile */

	struct rpc_call *call = *slot;
	if (f->h.type != call->type || (f->h.status == 0 && !reply_decode(call, f))) {
		wire_end(&c->wire, "peer sent a malformed reply");
		call_end(call, -MYFS_E_PROTO);
		return;
	}
	call->epoch = f->h.epoch;
	if (f->payload.len > 0) {
		call->payload_in = f->payload;
		buf_ref(f->payload.owner);
	}
	if (c->latency)
		histogram_add(c->latency, loop_now_ns() - call->start_ns);
	call_end(call, -(int)f->h.status);
}

static void client_release(struct rpc_client *c)
{
	free(c->table.slots);
	free(c);
}

static void client_reader(void *arg)
{
	struct rpc_client *c = arg;
	struct frame f;

	while (c->wire.up && wire_recv(&c->wire) == 0) {
		while (c->wire.up && wire_next(&c->wire, &f) == 1) /* C3 */
			reply_take(c, &f);
	}
	wire_finish(&c->wire); /* nothing reads lent payload any more: now calls may end */
	calls_end_all(c);
	if (!c->closed && c->on_down)
		c->on_down(c->arg, c, c->wire.why);
	c->reader_done = true;
	if (c->freed)
		client_release(c);
}

/* ---- the client ---- */

int rpc_client_connect(const struct rpc_client_config *cfg, struct rpc_client **ret, struct err *e)
{
	struct stream *stream = NULL;
	int rc = net_connect(cfg->net, &cfg->address, cfg->connect_deadline_ns, &stream, e);
	if (rc != 0)
		return rc;
	if (cfg->tls && cfg->address.kind == ADDRESS_TCP) {
		rc = tls_client_start(&stream, cfg->tls, cfg->connect_deadline_ns, e);
		if (rc != 0)
			return rc;
	}

	struct rpc_client *c = calloc(1, sizeof(*c));
	if (!c) {
		stream_close(stream);
		return err_set(e, -ENOMEM, "out of memory");
	}
	c->loop = loop_self();
	c->on_down = cfg->on_down;
	c->arg = cfg->arg;
	c->latency = cfg->latency;
	c->next_seq = 1;
	list_init(&c->calls);
	list_init(&c->doomed);
	deferred_init(&c->end_doomed, end_doomed_deferred, c);
	rc = wire_start(&c->wire, c->loop, stream);
	if (rc == 0) {
		rc = fiber_spawn(c->loop, "rpc-client", client_reader, c);
		if (rc != 0)
			wire_finish(&c->wire);
	}
	if (rc != 0) {
		client_release(c);
		return err_set(e, rc, "start connection: %s", err_name(rc));
	}
	*ret = c;
	return 0;
}

void rpc_client_close(struct rpc_client *c)
{
	if (!c->closed) {
		c->closed = true;
		wire_end(&c->wire, "closed by us");
	}
	calls_end_all(c);
}

void rpc_client_free(struct rpc_client *c)
{
	if (!c)
		return;
	rpc_client_close(c);
	while (!list_empty(&c->doomed)) /* started by callbacks of the calls that just ended */
		doomed_end(c);
	loop_defer_cancel(&c->end_doomed);
	c->freed = true;
	if (c->reader_done)
		client_release(c);
}

bool rpc_client_up(const struct rpc_client *c)
{
	return c->wire.up;
}

void rpc_client_set_session(struct rpc_client *c, uint64_t session)
{
	c->session = session;
}

static uint64_t call_age_ns(const struct rpc_call *call)
{
	uint64_t now = loop_now_ns();

	return now > call->start_ns ? now - call->start_ns : 1;
}

uint64_t rpc_client_oldest_ns(const struct rpc_client *c)
{
	return list_empty(&c->calls) ? 0 : call_age_ns(CONTAINER_OF(c->calls.next, struct rpc_call, node));
}

uint64_t rpc_client_oldest_of_ns(const struct rpc_client *c, uint64_t types)
{
	list_for_each(call, &c->calls, struct rpc_call, node)
		if (call->type < 64 && (types >> call->type & 1u))
			return call_age_ns(call);
	return 0;
}

uint64_t rpc_client_outstanding_bytes(const struct rpc_client *c)
{
	uint64_t bytes = 0;
	list_for_each(call, &c->calls, struct rpc_call, node)
		bytes += iov_bytes((struct iov){.v = call->payload, .n = call->payload_n});
	return bytes;
}
