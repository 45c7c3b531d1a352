/* serve.c - frames in, engine calls, replies out: the host of several bricks behind one rpc_server, and the dispatch of
 * requests.
 *
 * A connection belongs to nobody until HELLO names a brick and a gateway; from then on it is one session of that brick.
 * Bodies are decoded once, here; the engine's request functions check every field before they use it. Requests on the
 * data path decode into arrays on the stack or in the brick, without allocation. */
#include <stdlib.h>

#include "brick/brick_priv.h"
#include "brick/ns.h"

#define CREDIT_MAX MIB(32)

struct brick_host {
	struct list bricks;
	struct debug_delay *delay; /* borrowed; NULL: none */
};

const char *const brick_op_names[BRICK_OPS] = {"read", "prepare", "sync", "heal", "other"};

/* ---- host ---- */

int brick_host_new(struct brick_host **ret)
{
	struct brick_host *h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	list_init(&h->bricks);
	*ret = h;
	return 0;
}

void brick_host_free(struct brick_host *h)
{
	if (!h)
		return;
	assert(list_empty(&h->bricks));
	free(h);
}

void brick_host_set_delay(struct brick_host *h, struct debug_delay *d)
{
	h->delay = d;
}

static struct brick *host_find(const struct brick_host *h, const char uuid[16])
{
	list_for_each(b, &h->bricks, struct brick, host_node)
		if (memcmp(b->id.brick.b, uuid, 16) == 0)
			return b;
	return NULL;
}

int brick_host_add(struct brick_host *h, struct brick *b)
{
	if (host_find(h, (const char *)b->id.brick.b))
		return -EEXIST;
	b->delay = h->delay;
	list_push_back(&h->bricks, &b->host_node);
	return 0;
}

void brick_host_remove(struct brick_host *h, struct brick *b) YIELDS
{
	(void)h;
	if (!list_linked(&b->host_node))
		return;
	list_del(&b->host_node);
	b->stopping = true;
	room_wake_all(b);
	list_for_each_safe(s, &b->sessions, struct session, node)
		session_kill(s);
	while (!list_empty(&b->sessions))
		waitq_wait(&b->session_gone);
}

void brick_host_on_open(void *arg, struct rpc_conn *c)
{
	(void)arg;
	rpc_conn_set_user(c, NULL);
}

void brick_host_on_close(void *arg, struct rpc_conn *c)
{
	(void)arg;
	struct session *s = rpc_conn_user(c);
	if (!s)
		return;
	struct brick *b = s->b;
	rpc_conn_set_user(c, NULL);
	session_free(s);
	waitq_wake_all(&b->session_gone);
}

/* ---- helpers ---- */

static void fail(struct rpc_request *req, int rc)
{
	rpc_reply(req, rc, NULL, NULL, NULL, 0);
}

static void reply(struct rpc_request *req, int rc)
{
	rpc_reply(req, rc, NULL, NULL, NULL, 0);
}

/* Every answer about a domain carries the epoch this brick has promised. */
static void put_epoch(struct session *s, struct rpc_request *req, const char domain[16])
{
	struct gfid g;
	memcpy(g.b, domain, sizeof(g.b));
	const struct domain *d = domain_find(s->b, &g);
	rpc_reply_epoch(req, d ? d->promise_epoch : 0);
}

/* ---- HELLO ---- */

static int hello_accept(struct brick_host *h, struct rpc_request *req, const struct bp_hello_args *a,
			struct bp_hello_res *res)
{
	struct gfid gateway;
	if (a->proto_min > BP_VERSION || a->proto_max < BP_VERSION)
		return -EPROTONOSUPPORT;
	struct brick *b = host_find(h, a->brick);
	if (!b || b->stopping)
		return -ENODEV;
	if (memcmp(a->volume, b->id.volume.b, 16) != 0)
		return -MYFS_E_WRONG_VOLUME;
	if (b->failed[0])
		return -EIO;
	memcpy(gateway.b, a->gateway, 16);
	struct session *s = session_new(b, &gateway, a->instance, req->conn);
	if (!s)
		return -ENOMEM;
	rpc_conn_set_user(req->conn, s);
	res->proto = BP_VERSION;
	res->session = s->id;
	memcpy(res->boot, b->incarnation.b, 16);
	res->incarnation = b->start_id;
	res->set_index = b->id.set_index;
	res->brick_index = b->id.brick_index;
	res->region_rows = b->id.region_rows;
	res->credit_bytes = min_u64(CREDIT_MAX, b->id.journal_bytes / 4);
	return 0;
}

static void serve_hello(struct brick_host *h, struct rpc_request *req)
{
	struct bp_hello_args a = {0};
	struct bp_hello_res res = {0};
	int rc = rpc_decode(req, (xdrproc_t)xdr_bp_hello_args, &a);
	if (rc == 0)
		rc = hello_accept(h, req, &a, &res);
	rpc_reply(req, rc, (xdrproc_t)xdr_bp_hello_res, &res, NULL, 0);
}

/* ---- the data path ---- */

static void serve_prep(struct session *s, struct rpc_request *req) YIELDS
{
	uint32_t crc[BP_MAX_ROWS_PAYLOAD], old_crc[BP_MAX_ROWS_PAYLOAD];
	struct bp_prep_args a = {.crc.crc_val = crc, .old_crc.old_crc_val = old_crc};
	struct slice delta = {0};
	int rc = rpc_decode_into(req, (xdrproc_t)xdr_bp_prep_args, &a);
	if (rc == 0) {
		rc = tx_prepare(s->b, s, &a, &req->payload, &delta);
		put_epoch(s, req, a.domain);
	}
	debug_delay_answer(s->b->delay);
	rpc_reply(req, rc, NULL, NULL, &delta, delta.len ? 1 : 0);
	buf_unref(delta.owner);
}

static void serve_decide(struct session *s, struct rpc_request *req, bool commit)
{
	struct bp_decide_args a = {.txs.txs_val = s->b->scratch_txs};
	int rc = rpc_decode_into(req, (xdrproc_t)xdr_bp_decide_args, &a);
	if (rc == 0)
		rc = tx_decide(s->b, s, &a, commit);
	if (rc == -EPROTO || rc == -MYFS_E_PROTO)
		rpc_conn_close(req->conn);
}

static void serve_read(struct session *s, struct rpc_request *req) YIELDS
{
	struct bp_read_args a = {0};
	struct bp_read_res res = {0};
	uint32_t crc[BP_MAX_ROWS_PAYLOAD];
	struct slice payload = {0};
	int rc = rpc_decode_into(req, (xdrproc_t)xdr_bp_read_args, &a);
	if (rc == 0) {
		rc = rows_request_read(s->b, s, &a, &res, crc, &payload);
		put_epoch(s, req, a.domain);
	}
	debug_delay_answer(s->b->delay);
	rpc_reply(req, rc, (xdrproc_t)xdr_bp_read_res, &res, &payload, payload.len ? 1 : 0);
	buf_unref(payload.owner);
}

static void serve_sync(struct session *s, struct rpc_request *req) YIELDS
{
	struct bp_floor_args a = {.items.items_val = s->b->scratch_floors};
	int rc = rpc_decode_into(req, (xdrproc_t)xdr_bp_floor_args, &a);
	if (rc == 0)
		rc = tx_sync(s->b, s, &a);
	debug_delay_answer(s->b->delay);
	reply(req, rc);
}

static void serve_stable(struct session *s, struct rpc_request *req)
{
	struct bp_floor_args a = {.items.items_val = s->b->scratch_floors};
	int rc = rpc_decode_into(req, (xdrproc_t)xdr_bp_floor_args, &a);
	if (rc == 0)
		rc = tx_stable(s->b, s, &a);
	if (rc == -EPROTO || rc == -MYFS_E_PROTO)
		rpc_conn_close(req->conn); /* it has lost a decision: out of the view, back through heal */
}

static void serve_healw(struct session *s, struct rpc_request *req) YIELDS
{
	uint32_t crc[BP_MAX_ROWS_PAYLOAD];
	struct bp_healw_args a = {.crc.crc_val = crc};
	int rc = rpc_decode_into(req, (xdrproc_t)xdr_bp_healw_args, &a);
	if (rc == 0) {
		rc = rows_request_heal(s->b, s, &a, &req->payload);
		put_epoch(s, req, a.domain);
	}
	debug_delay_answer(s->b->delay);
	reply(req, rc);
}

/* ---- ownership ---- */

static void serve_fence(struct session *s, struct rpc_request *req) YIELDS
{
	struct bp_fence_args a = {0};
	struct bp_fence_res res = {0};
	int rc = rpc_decode(req, (xdrproc_t)xdr_bp_fence_args, &a);
	if (rc == 0) {
		rc = fence_request(s->b, s, &a, &res);
		rpc_reply(req, rc, (xdrproc_t)xdr_bp_fence_res, &res, NULL, 0);
		xdr_free((xdrproc_t)xdr_bp_fence_res, &res);
		xdr_free((xdrproc_t)xdr_bp_fence_args, &a);
	} else {
		fail(req, rc);
	}
}

static void serve_view(struct session *s, struct rpc_request *req) YIELDS
{
	struct bp_view_args a = {0};
	int rc = rpc_decode(req, (xdrproc_t)xdr_bp_view_args, &a);
	if (rc == 0) {
		rc = view_request(s->b, s, &a);
		put_epoch(s, req, a.domain);
		xdr_free((xdrproc_t)xdr_bp_view_args, &a);
	}
	reply(req, rc);
}

static void serve_resolve(struct session *s, struct rpc_request *req) YIELDS
{
	struct bp_resolve_args a = {0};
	int rc = rpc_decode(req, (xdrproc_t)xdr_bp_resolve_args, &a);
	if (rc == 0) {
		rc = tx_resolve(s->b, s, &a);
		put_epoch(s, req, a.domain);
		xdr_free((xdrproc_t)xdr_bp_resolve_args, &a);
	}
	reply(req, rc);
}

static void serve_rejoin(struct session *s, struct rpc_request *req) YIELDS
{
	struct bp_rejoin_args a = {0};
	struct bp_missed_res res = {0};
	int rc = rpc_decode(req, (xdrproc_t)xdr_bp_rejoin_args, &a);
	if (rc == 0) {
		rc = tx_rejoin(s->b, s, &a, &res);
		put_epoch(s, req, a.domain);
	}
	rpc_reply(req, rc, (xdrproc_t)xdr_bp_missed_res, &res, NULL, 0);
	xdr_free((xdrproc_t)xdr_bp_missed_res, &res);
}

static void serve_clear(struct session *s, struct rpc_request *req) YIELDS
{
	struct bp_clear_args a = {0};
	int rc = rpc_decode(req, (xdrproc_t)xdr_bp_clear_args, &a);
	if (rc == 0) {
		rc = clear_request(s->b, s, &a);
		put_epoch(s, req, a.domain);
	}
	reply(req, rc);
}

static void serve_ping(struct session *s, struct rpc_request *req)
{
	struct bp_ping_args a = {0};
	struct bp_ping_res res = {0};
	int rc = rpc_decode(req, (xdrproc_t)xdr_bp_ping_args, &a);
	if (rc == 0) {
		struct gfid g;
		memcpy(g.b, a.domain, sizeof(g.b));
		const struct domain *d = domain_find(s->b, &g);
		res.promise_epoch = d ? d->promise_epoch : 0;
		rc = s->b->failed[0] ? -EIO : 0;
		put_epoch(s, req, a.domain);
	}
	rpc_reply(req, rc, (xdrproc_t)xdr_bp_ping_res, &res, NULL, 0);
}

static void serve_release(struct session *s, struct rpc_request *req)
{
	struct bp_domain_args a = {0};
	struct domain *d;
	int rc = rpc_decode(req, (xdrproc_t)xdr_bp_domain_args, &a);
	if (rc == 0)
		rc = session_domain(s, a.domain, &d);
	if (rc == 0)
		domain_set_holder(d, NULL);
	reply(req, rc);
}

/* ---- looking ---- */

static void serve_missq(struct session *s, struct rpc_request *req)
{
	struct bp_missq_args a = {0};
	struct bp_missed_res res = {0};
	int rc = rpc_decode(req, (xdrproc_t)xdr_bp_missq_args, &a);
	if (rc == 0) {
		rc = missed_request(s->b, &a, &res);
		put_epoch(s, req, a.domain);
	}
	rpc_reply(req, rc, (xdrproc_t)xdr_bp_missed_res, &res, NULL, 0);
	xdr_free((xdrproc_t)xdr_bp_missed_res, &res);
}

static void serve_shards(struct session *s, struct rpc_request *req) YIELDS
{
	struct bp_domain_args a = {0};
	struct bp_shards_res res = {0};
	struct slice bits = {0};
	int rc = rpc_decode(req, (xdrproc_t)xdr_bp_domain_args, &a);
	if (rc == 0) {
		rc = rows_request_shards(s->b, a.domain, &res, &bits);
		put_epoch(s, req, a.domain);
	}
	rpc_reply(req, rc, (xdrproc_t)xdr_bp_shards_res, &res, &bits, bits.len ? 1 : 0);
	buf_unref(bits.owner);
}

static void serve_extents(struct session *s, struct rpc_request *req) YIELDS
{
	struct bp_extents_args a = {0};
	struct slice bits = {0};
	int rc = rpc_decode(req, (xdrproc_t)xdr_bp_extents_args, &a);
	if (rc == 0) {
		rc = rows_request_extents(s->b, s, &a, &bits);
		put_epoch(s, req, a.domain);
	}
	rpc_reply(req, rc, NULL, NULL, &bits, bits.len ? 1 : 0);
	buf_unref(bits.owner);
}

static void serve_scrub(struct session *s, struct rpc_request *req) YIELDS
{
	struct bp_read_args a = {0};
	uint32_t bad[BP_MAX_ROWS_PAYLOAD];
	struct bp_scrub_res res = {.bad.bad_val = bad};
	struct slice fold = {0};
	int rc = rpc_decode(req, (xdrproc_t)xdr_bp_read_args, &a);
	if (rc == 0) {
		rc = scrub_request(s->b, s, &a, &res, &fold);
		put_epoch(s, req, a.domain);
	}
	debug_delay_answer(s->b->delay);
	rpc_reply(req, rc, (xdrproc_t)xdr_bp_scrub_res, &res, &fold, fold.len ? 1 : 0);
	buf_unref(fold.owner);
}

static void serve_usage(struct session *s, struct rpc_request *req) YIELDS
{
	struct bp_domain_args a = {0};
	struct bp_usage_res res = {0};
	int rc = rpc_decode(req, (xdrproc_t)xdr_bp_domain_args, &a);
	if (rc == 0) {
		struct gfid g;
		uint64_t bytes = 0;
		memcpy(g.b, a.domain, sizeof(g.b));
		rc = frag_usage(s->b->tree, &g, &bytes);
		res.bytes = bytes;
		put_epoch(s, req, a.domain);
	}
	rpc_reply(req, rc, (xdrproc_t)xdr_bp_usage_res, &res, NULL, 0);
}

static void serve_stat(struct session *s, struct rpc_request *req) YIELDS
{
	struct bp_stat_res res = {0};
	brick_stat(s->b, &res);
	rpc_reply(req, 0, (xdrproc_t)xdr_bp_stat_res, &res, NULL, 0);
}

/* ---- names ---- */

static void serve_nsop(struct session *s, struct rpc_request *req) YIELDS
{
	struct bp_nsop_args a = {0};
	int rc = rpc_decode(req, (xdrproc_t)xdr_bp_nsop_args, &a);
	if (rc == 0) {
		rc = nsop_request(s->b, s, &a);
		put_epoch(s, req, (const char *)GFID_ROOT.b);
		xdr_free((xdrproc_t)xdr_bp_nsop_args, &a);
	}
	reply(req, rc);
}

static void serve_nsread(struct session *s, struct rpc_request *req) YIELDS
{
	struct bp_nsread_args a = {0};
	struct bp_nsread_res res = {0};
	int rc = rpc_decode(req, (xdrproc_t)xdr_bp_nsread_args, &a);
	if (rc == 0) {
		rc = s->b->failed[0] ? -EIO : ns_read(s->b->tree, &a, &res);
		put_epoch(s, req, (const char *)GFID_ROOT.b);
		xdr_free((xdrproc_t)xdr_bp_nsread_args, &a);
	}
	rpc_reply(req, rc, (xdrproc_t)xdr_bp_nsread_res, &res, NULL, 0);
	xdr_free((xdrproc_t)xdr_bp_nsread_res, &res);
}

/* ---- dispatch ---- */

/* A request may be one-way exactly when its type is. */
static bool is_oneway(uint32_t type)
{
	return type == BP_COMMIT || type == BP_ABORT || type == BP_STABLE;
}

static void dispatch(struct session *s, struct rpc_request *req) YIELDS
{
	switch ((enum bp_type)req->type) {
	case BP_HELLO:
		fail(req, -EALREADY);
		break;
	case BP_FENCE:
		serve_fence(s, req);
		break;
	case BP_VIEW:
		serve_view(s, req);
		break;
	case BP_PREP:
		serve_prep(s, req);
		break;
	case BP_COMMIT:
		serve_decide(s, req, true);
		break;
	case BP_ABORT:
		serve_decide(s, req, false);
		break;
	case BP_READ:
		serve_read(s, req);
		break;
	case BP_SYNC:
		serve_sync(s, req);
		break;
	case BP_STABLE:
		serve_stable(s, req);
		break;
	case BP_RESOLVE:
		serve_resolve(s, req);
		break;
	case BP_REJOIN:
		serve_rejoin(s, req);
		break;
	case BP_HEALW:
		serve_healw(s, req);
		break;
	case BP_MISSQ:
		serve_missq(s, req);
		break;
	case BP_CLEAR:
		serve_clear(s, req);
		break;
	case BP_PING:
		serve_ping(s, req);
		break;
	case BP_SHARDS:
		serve_shards(s, req);
		break;
	case BP_EXTENTS:
		serve_extents(s, req);
		break;
	case BP_SCRUB:
		serve_scrub(s, req);
		break;
	case BP_USAGE:
		serve_usage(s, req);
		break;
	case BP_NSOP:
		serve_nsop(s, req);
		break;
	case BP_NSREAD:
		serve_nsread(s, req);
		break;
	case BP_STAT:
		serve_stat(s, req);
		break;
	case BP_RELEASE:
		serve_release(s, req);
		break;
	default:
		fail(req, -MYFS_E_PROTO);
		break;
	}
}

static enum brick_op op_of(uint32_t type)
{
	switch ((enum bp_type)type) {
	case BP_READ:
		return BRICK_OP_READ;
	case BP_PREP:
		return BRICK_OP_PREPARE;
	case BP_SYNC:
		return BRICK_OP_SYNC;
	case BP_HEALW:
		return BRICK_OP_HEAL;
	default:
		return BRICK_OP_OTHER;
	}
}

const struct brick_activity *brick_activity_of(const struct brick *b)
{
	return &b->activity;
}

void brick_host_handle(void *arg, struct rpc_request *req) YIELDS
{
	struct brick_host *h = arg;
	struct session *s = rpc_conn_user(req->conn);
	bool oneway = req->flags & RPC_FLAG_ONEWAY;
	if (oneway != is_oneway(req->type)) {
		if (!oneway)
			fail(req, -MYFS_E_PROTO);
		rpc_conn_close(req->conn);
	} else if (!s && req->type == BP_HELLO) {
		serve_hello(h, req);
	} else if (!s || s->dead || req->session != s->id) {
		if (!oneway)
			fail(req, -MYFS_E_FENCED);
	} else {
		struct brick_activity *act = &s->b->activity;
		enum brick_op op = op_of(req->type);
		uint64_t began_ns = loop_precise_ns();

		if (op == BRICK_OP_PREPARE)
			act->prepared_bytes += req->payload.len;
		act->running++;
		dispatch(s, req);
		act->running--;
		histogram_add(&act->op[op], loop_precise_ns() - began_ns);
	}
}
