/* set.c - the connections to the bricks of one set, and nothing about what is said over them.
 *
 *   one fiber per brick:   connect --> HELLO --> up ......watch...... --> down --> back-off, 50 ms .. 1 s --> connect
 *                                                |                        |
 *                                                +------------------------+--> up_wq; every domain is told (a fact:
 *                                                                              domain.c decides)
 *
 * Policy about slow bricks is here and only here: a brick is closed, and thereby down, when a request is older than
 * cfg.stall_ns and a ping sent meanwhile has no answer either, or when a request is STALL_HARD_TIMES older.
 *
 * S1 brick->client is valid while brick->up. S2 every outstanding call has ended before domains are told of a loss. S3
 * `link` grows with every connection: state that belongs to a connection remembers it. */
#include "core/base/prng.h"
#include "ec/ec_priv.h"

#include <stdio.h>

#define CONNECT_NS (3 * NS_PER_S)
#define BACKOFF_MIN_NS (50 * NS_PER_MS)
#define BACKOFF_MAX_NS (1 * NS_PER_S)
#define WATCH_NS (500 * NS_PER_MS)
#define PING_AFTER_NS (1 * NS_PER_S)
#define IDLE_CLEAN_NS (10 * NS_PER_S)
#define STALL_NS (3 * NS_PER_S)
#define STALL_HARD_TIMES 5
#define IO_TIMEOUT_NS (120 * NS_PER_S)
#define CACHE_BYTES MIB(16)

/* ---- up and down ---- */

static void brick_why(struct ec_brick *b, const char *text)
{
	snprintf(b->why, sizeof(b->why), "%s", text);
}

/* The one place where a brick ceases to be up. Outstanding calls have ended (S2). */
static void brick_lost(struct ec_brick *b, const char *why)
{
	if (!b->up)
		return;
	b->up = false;
	b->unstable_bytes = 0;
	b->down_since_ns = loop_now_ns();
	brick_why(b, why);
	list_for_each_safe(d, &b->set->domains, struct ec_domain, node)
		ec_domain_brick_down(d, b->index);
	waitq_wake_all(&b->set->up_wq);
	if (b->fiber)
		fiber_wake(b->fiber);
}

static void brick_on_down(void *arg, struct rpc_client *c, const char *why)
{
	(void)c;
	brick_lost(arg, why ? why : "connection ended");
}

static int brick_hello(struct ec_brick *b, struct rpc_client *c, struct err *e) YIELDS
{
	struct ec_set *s = b->set;
	struct bp_hello_args args = {.proto_min = BP_VERSION, .proto_max = BP_VERSION, .instance = s->instance};
	struct bp_hello_res res = {0};
	struct rpc_call call;

	gfid_to_wire(&s->cfg.gateway, args.gateway);
	gfid_to_wire(&s->cfg.volume, args.volume);
	gfid_to_wire(&s->cfg.bricks[b->index].uuid, args.brick);
	ec_call_init(&call, BP_HELLO, (xdrproc_t)xdr_bp_hello_args, &args, (xdrproc_t)xdr_bp_hello_res, &res);
	struct rpc_group g;
	rpc_group_init(&g);
	rpc_call_start(c, &call, &g);
	rpc_group_wait(&g, 1, loop_now_ns() + CONNECT_NS);
	if (g.ended < g.started) {
		rpc_client_close(c); /* ends the call */
		rpc_group_wait_all(&g);
		return err_set(e, -ETIMEDOUT, "connected, but no answer to the greeting");
	}
	rpc_call_release(&call);
	if (call.rc)
		return err_set(e, call.rc, "brick refused us: %s", err_name(call.rc));
	if (res.proto != BP_VERSION || res.set_index != s->cfg.set_index || res.brick_index != b->index ||
	    res.region_rows != s->geo.region_rows || res.credit_bytes < MIB(1))
		return err_set(e, -MYFS_E_PROTO, "brick says it is brick %u of set %u with regions of %u rows",
			       res.brick_index, res.set_index, res.region_rows);
	rpc_client_set_session(c, res.session);
	memcpy(b->boot.b, res.boot, 16);
	b->credit_bytes = res.credit_bytes;
	return 0;
}

static int brick_connect(struct ec_brick *b, struct err *e) YIELDS
{
	struct ec_set *s = b->set;
	struct rpc_client_config cfg = {
		.net = s->cfg.net,
		.address = s->cfg.bricks[b->index].address,
		.tls = s->cfg.bricks[b->index].address.kind == ADDRESS_TCP ? s->cfg.tls : NULL,
		.connect_deadline_ns = loop_now_ns() + CONNECT_NS,
		.on_down = brick_on_down,
		.arg = b,
		.latency = &b->round_trips,
	};
	struct rpc_client *c = NULL;
	int rc = rpc_client_connect(&cfg, &c, e);
	if (rc)
		return rc;
	b->client = c; /* so that the watch may close a silent one during HELLO */
	rc = brick_hello(b, c, e);
	if (!rc && (!rpc_client_up(c) || s->closing))
		rc = err_set(e, -MYFS_E_GONE, "connection ended after the greeting");
	if (rc) {
		b->client = NULL;
		rpc_client_free(c);
		return rc;
	}
	b->unstable_bytes = 0;
	b->link++;
	b->why[0] = 0;
	b->down_since_ns = 0;
	b->up = true;
	ec_grey_forget(b);
	return 0;
}

/* ---- watching ---- */

struct ping {
	struct rpc_call call;
	struct bp_ping_args args;
	struct bp_ping_res res;
	struct ec_brick *brick;
};

static void ping_done(struct rpc_call *c)
{
	struct ping *p = c->user;

	p->brick->ping_out = false;
}

static void brick_close(struct ec_brick *b, const char *why)
{
	rpc_client_close(b->client); /* ends every call; no on_down */
	brick_lost(b, why);
}

static void brick_watch(struct ec_brick *b, struct ping *p)
{
	uint64_t oldest = rpc_client_oldest_ns(b->client), stall_ns = b->set->cfg.stall_ns;

	if (MUTATED(H27))
		return;
	if (oldest >= STALL_HARD_TIMES * stall_ns || (oldest >= stall_ns && b->ping_out)) {
		brick_close(b, "no answer for too long");
		return;
	}
	ec_grey_look(b);
	if (oldest < PING_AFTER_NS || b->ping_out)
		return;
	memset(p, 0, sizeof(*p));
	p->brick = b;
	ec_call_init(&p->call, BP_PING, (xdrproc_t)xdr_bp_ping_args, &p->args, (xdrproc_t)xdr_bp_ping_res, &p->res);
	p->call.done = ping_done;
	p->call.user = p;
	b->ping_out = true;
	rpc_call_start(b->client, &p->call, NULL);
}

static void brick_run(void *arg)
{
	struct ec_brick *b = arg;
	struct ec_set *s = b->set;
	uint64_t backoff = BACKOFF_MIN_NS;
	struct ping ping;

	b->fiber = fiber_self();
	while (!s->closing) {
		struct err e = ERR_INIT;
		int rc = brick_connect(b, &e);
		b->tried = true;
		if (rc == 0) {
			backoff = BACKOFF_MIN_NS;
			waitq_wake_all(&s->up_wq);
			list_for_each_safe(d, &s->domains, struct ec_domain, node)
				ec_domain_event(d);
			while (b->up && !s->closing) {
				fiber_park_until(loop_now_ns() + WATCH_NS);
				if (b->up)
					brick_watch(b, &ping);
			}
			if (b->up)
				brick_close(b, "set closed");
			rpc_client_free(b->client);
			b->client = NULL;
			b->ping_out = false;
		} else {
			brick_why(b, e.text[0] ? e.text : err_name(rc));
			waitq_wake_all(&s->up_wq);
		}
		uint32_t jitter;
		loop_random(&jitter, sizeof(jitter));
		uint64_t until = loop_now_ns() + backoff / 2 + jitter % backoff;
		while (!s->closing && loop_now_ns() < until)
			fiber_park_until(until);
		backoff = min_u64(backoff * 2, BACKOFF_MAX_NS);
	}
	b->fiber = NULL;
	s->fibers--;
	waitq_wake_all(&s->closed_wq);
}

/* ---- face ---- */

static void pools_free(struct ec_set *s)
{
	list_for_each_safe(tx, &s->free_tx, struct ec_tx, node)
		free(tx);
	list_for_each_safe(r, &s->free_reads, struct ec_reads, node)
		free(r);
}

static void set_free(struct ec_set *s)
{
	if (!s)
		return;
	pools_free(s);
	ec_codec_free(s->codec);
	ec_stripe_cache_free(s->cache);
	free(s);
}

static uint32_t neighbours_of(const struct ec_set_config *cfg, uint32_t n, uint32_t b)
{
	const struct address *own = &cfg->bricks[b].address;
	uint32_t m = 0;

	for (uint32_t i = 0; i < n; i++) {
		const struct address *a = &cfg->bricks[i].address;
		if (i != b && a->kind == own->kind && a->port == own->port && strcmp(a->host, own->host) == 0)
			m |= MASK(i);
	}
	return m;
}

static int set_init(struct ec_set *s, const struct ec_set_config *cfg, struct err *e)
{
	s->cfg = *cfg;
	if (!s->cfg.io_timeout_ns)
		s->cfg.io_timeout_ns = IO_TIMEOUT_NS;
	if (!s->cfg.stall_ns)
		s->cfg.stall_ns = STALL_NS;
	if (!s->cfg.idle_clean_ns)
		s->cfg.idle_clean_ns = IDLE_CLEAN_NS;
	if (!s->cfg.write_min)
		s->cfg.write_min = cfg->k;
	list_init(&s->domains);
	list_init(&s->free_tx);
	list_init(&s->free_reads);
	waitq_init(&s->up_wq);
	waitq_init(&s->closed_wq);
	waitq_init(&s->pool_wq);
	waitq_init(&s->heal_rate.changed);
	loop_random(&s->instance, sizeof(s->instance));
	s->owner = cfg->gateway;
	memcpy(s->owner.b + 8, &s->instance, 8);
	int rc = ec_geometry_init(&s->geo, cfg->k, cfg->r, cfg->chunk_bytes);
	if (rc)
		return err_set(e, rc, "%u+%u with chunks of %u bytes is not a layout we know", cfg->k, cfg->r,
			       cfg->chunk_bytes);
	if (s->cfg.write_min > s->geo.n)
		return err_set(e, -EINVAL, "write_min %u is more than the %u bricks of the set", s->cfg.write_min,
			       s->geo.n);
	rc = ec_codec_new(cfg->k, cfg->r, &s->codec, e);
	if (rc)
		return rc;
	if (ec_stripe_cache_new(cfg->cache_bytes ? cfg->cache_bytes : CACHE_BYTES, &s->cache))
		return err_set(e, -ENOMEM, "no memory for the block cache");
	for (uint32_t i = 0; i < s->geo.n; i++) {
		s->bricks[i].set = s;
		s->bricks[i].index = i;
		s->bricks[i].neighbours = neighbours_of(cfg, s->geo.n, i);
		s->bricks[i].down_since_ns = loop_now_ns();
		brick_why(&s->bricks[i], "not tried yet");
	}
	return 0;
}

int ec_set_open(const struct ec_set_config *cfg, struct ec_set **ret, struct err *e)
{
	struct ec_set *s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(e, -ENOMEM, "no memory for a set");
	int rc = set_init(s, cfg, e);
	if (rc) {
		set_free(s);
		return rc;
	}
	for (uint32_t i = 0; i < s->geo.n; i++) {
		rc = fiber_spawn(cfg->loop, "ec brick", brick_run, &s->bricks[i]);
		if (rc) {
			/* Fibers that did start free nothing: they end by themselves and the last one leaves an orphan
			 * set of a few KiB only when the loop is out of fibers altogether; the caller gives up then. */
			s->closing = true;
			return err_set(e, rc, "no fiber for brick %u", i);
		}
		s->fibers++;
	}
	*ret = s;
	return 0;
}

void ec_set_close(struct ec_set *s) YIELDS
{
	if (!s)
		return;
	assert(list_empty(&s->domains));
	s->closing = true;
	for (uint32_t i = 0; i < s->geo.n; i++) {
		struct ec_brick *b = &s->bricks[i];
		if (b->client && !b->up)
			rpc_client_close(b->client); /* it is waiting for HELLO */
		if (b->fiber)
			fiber_wake(b->fiber);
	}
	while (s->fibers)
		waitq_wait(&s->closed_wq);
	set_free(s);
}

uint32_t ec_set_up_mask(const struct ec_set *s)
{
	uint32_t m = 0;

	for (uint32_t i = 0; i < s->geo.n; i++)
		if (s->bricks[i].up)
			m |= MASK(i);
	return m;
}

int ec_set_missing(const struct ec_set *s, uint32_t want, int code, struct err *e)
{
	uint32_t up = ec_set_up_mask(s);
	char text[ERR_TEXT_MAX];
	int len = snprintf(text, sizeof(text), "%u of %u bricks connected", mask_count(up), s->geo.n);
	const char *sep = "; missing: ";

	for (uint32_t i = 0; i < s->geo.n && len < (int)sizeof(text); i++) {
		if (mask_has(up, i) || !mask_has(want, i))
			continue;
		len += snprintf(text + len, sizeof(text) - (size_t)len, "%s%s (%s)", sep, s->cfg.bricks[i].label,
				s->bricks[i].why);
		sep = ", ";
	}
	return err_set(e, code, "%s", text);
}

int ec_set_wait_up(struct ec_set *s, unsigned need, uint64_t deadline_ns, struct err *e) YIELDS
{
	while (mask_count(ec_set_up_mask(s)) < need) {
		int rc = s->gives_up ? -ETIMEDOUT : waitq_wait_until(&s->up_wq, deadline_ns);
		if (rc && mask_count(ec_set_up_mask(s)) < need)
			return ec_set_missing(s, mask_all(s->geo.n), -ETIMEDOUT, e);
	}
	return 0;
}

void ec_set_give_up(struct ec_set *s)
{
	s->gives_up = true;
	waitq_wake_all(&s->up_wq);
	list_for_each(d, &s->domains, struct ec_domain, node)
		ec_domain_changed(d);
}

const struct ec_geometry *ec_set_geometry(const struct ec_set *s)
{
	return &s->geo;
}

void ec_set_brick_status(const struct ec_set *s, unsigned index, struct ec_brick_status *ret)
{
	assert(index < s->geo.n);
	const struct ec_brick *b = &s->bricks[index];

	memset(ret, 0, sizeof(*ret));
	ret->connected = b->up;
	memcpy(ret->label, s->cfg.bricks[index].label, sizeof(ret->label));
	memcpy(ret->why, b->why, sizeof(ret->why));
	ret->down_since_ns = b->down_since_ns;
	ret->checksum_errors = b->checksum_errors;
	ret->repaired_blocks = b->repaired_blocks;
}

void ec_call_init(struct rpc_call *c, uint32_t type, xdrproc_t args_proc, void *args, xdrproc_t res_proc, void *res)
{
	memset(c, 0, sizeof(*c));
	c->type = type;
	c->args_proc = args_proc;
	c->args = args;
	c->res_proc = res_proc;
	c->res = res;
}

bool ec_brick_start(struct ec_brick *b, struct rpc_call *call, struct rpc_group *g)
{
	if (!b->up) {
		call->rc = -MYFS_E_GONE;
		call->ended = true;
		return false;
	}
	rpc_call_start(b->client, call, g);
	return true;
}
