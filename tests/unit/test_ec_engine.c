/* The engine over real bricks in this process: every byte read is compared with a model of what was written, while
 * connections are cut, bricks die and gateways change. Seeds are printed; MYFS_SEED repeats one, MYFS_OPS asks for
 * more. */
#include <fcntl.h>

#include "ec_cluster.h"
#include "ec/ec_priv.h"

#define LUN 1
#define SHARDS 2u
#define AREA (3u * 1024 * 1024 + 12345)  /* bytes used of each shard: regions, stripes and blocks are cut */
#define CLIENTS 4u
#define TIMEOUT (20 * NS_PER_S)

struct geometry {
	const char *name;
	uint32_t k, r, chunk;
};
static const struct geometry geometries[] = {
	{"4+2", 4, 2, 16384},     {"replica 3", 1, 2, 16384}, {"2+1", 2, 1, 16384},
	{"3+3", 3, 3, 4096},      {"4+2 64K", 4, 2, 65536},
};

static const struct geometry *geometry_now;
static uint64_t seed_now;

/* What a failed check needs to be understood. */
static void explain(const struct ec_domain *d, const char *what, int rc)
{
	fprintf(stderr,
		"%s seed %llu: %s: %s; state %d epoch %llu ver %llu insync %x live %x healing %x up %x busy %d tx "
		"%llu/%llu/%llu: %s\n",
		geometry_now->name, (unsigned long long)seed_now, what, err_name(rc), d->state,
		(unsigned long long)d->epoch, (unsigned long long)d->view.ver, d->view.insync, d->live, d->healing,
		ec_set_up_mask(d->set), d->view_busy, (unsigned long long)d->stable_n,
		(unsigned long long)d->undecided_n, (unsigned long long)d->next_n, d->last_error.text);
}

/* ---- model ---- */

struct model {
	uint8_t *bytes[SHARDS];
	struct ec_domain *d;
	unsigned running, ops;
	unsigned inside;         /* requests in d */
	bool gateways_change;    /* FENCED is no surprise: wait for another d */
	bool stop;
	struct waitq ended;
	struct waitq changed;    /* d, inside */
};

struct client {
	struct model *m;
	struct prng rng;
	uint64_t first, end;     /* this client's bytes of each shard: nobody else writes them */
};

static void model_new(struct model *m)
{
	memset(m, 0, sizeof(*m));
	waitq_init(&m->ended);
	waitq_init(&m->changed);
	for (unsigned s = 0; s < SHARDS; s++)
		CHECK((m->bytes[s] = calloc(1, AREA)));
}

static void model_free(struct model *m)
{
	for (unsigned s = 0; s < SHARDS; s++)
		free(m->bytes[s]);
}

/* True when the request is to be repeated on another domain, which is there on return. */
static bool changed_gateway(struct model *m, const struct ec_domain *was, int rc)
{
	if (rc != -MYFS_E_FENCED || !m->gateways_change)
		return false;
	while (m->d == was)
		waitq_wait(&m->changed);
	return true;
}

static void leave(struct model *m)
{
	if (--m->inside == 0)
		waitq_wake_all(&m->changed);
}

static int read_some(struct model *m, uint32_t shard, uint64_t off, uint32_t len, struct bufs *out)
{
	struct ec_domain *d;
	int rc;

	do {
		d = m->d;
		bufs_release(out);
		m->inside++;
		rc = ec_read(d, shard, off, len, out);
		leave(m);
	} while (changed_gateway(m, d, rc));
	return rc;
}

static void compare(struct model *m, uint32_t shard, uint64_t off, uint32_t len)
{
	struct bufs out;
	uint8_t *got = malloc(len ? len : 1);

	bufs_init(&out);
	int rc = read_some(m, shard, off, len, &out);
	if (rc)
		explain(m->d, "read", rc);
	CHECK(rc == 0);
	CHECK(out.bytes == len);
	bufs_copy_out(&out, 0, got, len);
	for (uint32_t i = 0; i < len; i++) {
		if (got[i] == m->bytes[shard][off + i])
			continue;
		fprintf(stderr, "%s seed %llu: shard %u byte %llu (+%u of %u): got %02x, want %02x\n",
			geometry_now->name, (unsigned long long)seed_now, shard, (unsigned long long)(off + i), i, len,
			got[i], m->bytes[shard][off + i]);
		abort();
	}
	bufs_release(&out);
	free(got);
}

static void compare_all(struct model *m)
{
	for (uint32_t s = 0; s < SHARDS; s++)
		for (uint64_t off = 0; off < AREA; off += MIB(1) + 777)
			compare(m, s, off, (uint32_t)min_u64(MIB(1) + 777, AREA - off));
}

static void range_pick(struct client *c, uint64_t *off, uint64_t *len)
{
	static const uint32_t max[] = {1024, 4096, 20000, 70000, 300000, 1500000};
	uint64_t span = c->end - c->first, want = max[prng_below(&c->rng, ARRAY_LEN(max))];

	*len = 1 + prng_below(&c->rng, min_u64(want, span));
	*off = c->first + prng_below(&c->rng, span - *len + 1);
	if (prng_chance(&c->rng, 0.6)) { /* mostly whole blocks, as file systems do */
		uint64_t a = round_up_u64(*off, 4096), b = round_down_u64(*off + *len, 4096);
		if (b > a) {
			*off = a;
			*len = b - a;
		}
	}
}

/* Nobody was told whether the change happened: each block must be all old or all new. The model takes what is there. */
static void settle_doubt(struct model *m, uint32_t shard, uint64_t off, uint64_t len, const uint8_t *old)
{
	uint8_t *got = malloc(len), *now = m->bytes[shard] + off;
	struct bufs out;

	bufs_init(&out);
	CHECK(read_some(m, shard, off, (uint32_t)len, &out) == 0);
	bufs_copy_out(&out, 0, got, len);
	bufs_release(&out);
	for (uint64_t i = 0; i < len;) {
		uint64_t n = min_u64(4096 - (off + i) % 4096, len - i);
		if (memcmp(got + i, now + i, n) != 0 && memcmp(got + i, old + i, n) != 0) {
			explain(m->d, "a block is neither old nor new", 0);
			abort();
		}
		i += n;
	}
	memcpy(now, got, len);
	free(got);
}

/* data NULL: zeroes. The model has the new bytes already. */
static int change(struct model *m, uint32_t shard, uint64_t off, uint64_t len, struct iov data, bool fua,
		  const uint8_t *old)
{
	struct ec_domain *d = m->d;

	m->inside++;
	int rc = data.n ? ec_write(d, shard, off, data, fua) : ec_zero(d, shard, off, len, fua);
	leave(m);
	if (!changed_gateway(m, d, rc))
		return rc;
	settle_doubt(m, shard, off, len, old);
	return 0;
}

static void client_op(struct client *c)
{
	struct model *m = c->m;
	uint32_t shard = (uint32_t)prng_below(&c->rng, SHARDS);
	uint64_t off, len, what = prng_below(&c->rng, 100);
	int rc = 0;

	range_pick(c, &off, &len);
	uint8_t *old = malloc(len);
	memcpy(old, m->bytes[shard] + off, len);
	if (what < 55) {
		uint8_t *p = m->bytes[shard] + off, *copy = malloc(len);
		prng_bytes(&c->rng, copy, len);
		memcpy(p, copy, len);
		struct iovec v[3] = {
		    {copy, len / 3}, {copy + len / 3, len / 2}, {copy + len / 3 + len / 2, len - len / 3 - len / 2}};
		struct iovec one = {copy, len};
		bool cut = prng_chance(&c->rng, 0.2);
		rc = change(m, shard, off, len, cut ? (struct iov){.v = v, .n = 3} : (struct iov){.v = &one, .n = 1},
			    prng_chance(&c->rng, 0.05), old);
		free(copy);
	} else if (what < 85) {
		compare(m, shard, off, (uint32_t)len);
	} else if (what < 95) {
		memset(m->bytes[shard] + off, 0, len);
		rc = change(m, shard, off, len, (struct iov){0}, false, old);
	} else {
		struct ec_domain *d = m->d;
		m->inside++;
		rc = ec_flush(d);
		leave(m);
		if (changed_gateway(m, d, rc))
			rc = 0;
	}
	free(old);
	if (rc)
		explain(m->d, what < 55 ? "write" : what < 95 ? "zero" : "flush", rc);
	CHECK(rc == 0);
	m->ops++;
}

static unsigned ops_wanted(unsigned usual)
{
	const char *s = getenv("MYFS_OPS");

	return s ? (unsigned)atoi(s) : usual;
}

static void client_run(void *arg)
{
	struct client *c = arg;

	while (!c->m->stop)
		client_op(c);
	c->m->running--;
	waitq_wake_all(&c->m->ended);
}

static void clients_start(struct model *m, struct client *c)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		c[i].m = m;
		c[i].first = (uint64_t)AREA * i / CLIENTS; /* not at block boundaries: neighbours share blocks */
		c[i].end = (uint64_t)AREA * (i + 1) / CLIENTS;
		prng_seed(&c[i].rng, seed_now * 1000 + i);
		m->running++;
		CHECK(fiber_spawn(loop_self(), "client", client_run, &c[i]) == 0);
	}
}

/* Until the clients have done n more operations. */
static void clients_progress(struct model *m, unsigned n)
{
	unsigned until = m->ops + n;

	while (m->ops < until)
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
}

static void clients_stop(struct model *m)
{
	m->stop = true;
	while (m->running)
		waitq_wait(&m->ended);
	m->stop = false;
}

/* ---- bodies ---- */

static void put(struct ec_domain *d, uint32_t shard, uint64_t off, const void *p, size_t len)
{
	struct iovec v = {(void *)(uintptr_t)p, len};

	CHECK(ec_write(d, shard, off, (struct iov){.v = &v, .n = 1}, false) == 0);
}

static void body_healthy(void *arg)
{
	struct cluster c;
	struct model m;
	struct client clients[CLIENTS];

	cluster_new(&c, arg, geometry_now->k, geometry_now->r, geometry_now->chunk);
	struct ec_set *s = cluster_set(&c, 1, TIMEOUT);
	model_new(&m);
	m.d = cluster_domain(s, LUN, true);
	clients_start(&m, clients);
	clients_progress(&m, ops_wanted(150));
	clients_stop(&m);
	compare_all(&m);
	ec_domain_close(m.d);
	m.d = cluster_domain(s, LUN, false);
	compare_all(&m);
	ec_domain_close(m.d);
	ec_set_close(s);
	for (uint32_t i = 0; i < c.n; i++) {
		cluster_stop(&c, i, i % 2);
		cluster_start(&c, i);
	}
	s = cluster_set(&c, 1, TIMEOUT);
	m.d = cluster_domain(s, LUN, false);
	compare_all(&m);
	ec_domain_close(m.d);
	ec_set_close(s);
	model_free(&m);
	cluster_free(&c);
}

static void body_degraded(void *arg)
{
	struct cluster c;
	struct model m;
	struct client clients[CLIENTS];
	struct prng rng;

	prng_seed(&rng, seed_now);
	cluster_new(&c, arg, geometry_now->k, geometry_now->r, geometry_now->chunk);
	struct ec_set *s = cluster_set(&c, 1, TIMEOUT);
	model_new(&m);
	m.d = cluster_domain(s, LUN, true);
	uint32_t tolerates = ec_set_geometry(s)->tolerates;
	clients_start(&m, clients);
	uint32_t first = (uint32_t)prng_below(&rng, c.n);
	for (uint32_t i = 0; i < tolerates; i++) {
		clients_progress(&m, ops_wanted(60));
		cluster_stop(&c, (first + i * 2) % c.n, false);
	}
	clients_progress(&m, ops_wanted(120));
	clients_stop(&m);
	compare_all(&m);
	struct ec_domain_status st;
	ec_domain_status(m.d, &st);
	CHECK((uint32_t)__builtin_popcount(st.insync) == c.n - tolerates);
	CHECK(st.serving);
	ec_domain_close(m.d);
	m.d = cluster_domain(s, LUN, false); /* another takeover, with the dead still dead */
	compare_all(&m);
	ec_domain_close(m.d);
	ec_set_close(s);
	model_free(&m);
	cluster_free(&c);
}

static void wait_whole(struct ec_domain *d)
{
	uint64_t until = loop_now_ns() + TIMEOUT;
	struct ec_domain_status st;

	do {
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
		ec_domain_status(d, &st);
		if (loop_now_ns() > until) {
			explain(d, "healing does not end", 0);
			abort();
		}
	} while (st.insync != mask_all(geometry_now->k + geometry_now->r) || !st.serving);
}

/* Bricks die in turn under load, return, heal; at the end those that healed carry the data alone. */
static void body_heal(void *arg)
{
	struct cluster c;
	struct model m;
	struct client clients[CLIENTS];
	struct prng rng;

	prng_seed(&rng, seed_now);
	cluster_new(&c, arg, geometry_now->k, geometry_now->r, geometry_now->chunk);
	struct ec_set *s = cluster_set(&c, 1, TIMEOUT);
	model_new(&m);
	m.d = cluster_domain(s, LUN, true);
	uint32_t tolerates = ec_set_geometry(s)->tolerates;
	clients_start(&m, clients);
	for (unsigned round = 0; round < 4; round++) {
		uint32_t first = (uint32_t)prng_below(&rng, c.n);
		bool cut = prng_chance(&rng, 0.4), orderly = prng_chance(&rng, 0.5);
		for (uint32_t i = 0; i < tolerates; i++) {
			uint32_t b = (first + i) % c.n;
			if (cut)
				cluster_cut(&c, b);
			else
				cluster_stop(&c, b, orderly);
			clients_progress(&m, ops_wanted(20));
		}
		for (uint32_t i = 0; i < tolerates; i++) {
			uint32_t b = (first + i) % c.n;
			if (cut)
				cluster_connect(&c, b);
			else
				cluster_start(&c, b);
			clients_progress(&m, ops_wanted(10));
		}
		wait_whole(m.d);
	}
	clients_stop(&m);
	compare_all(&m);
	for (uint32_t first = 0; first < c.n; first += tolerates) { /* every brick is needed once */
		for (uint32_t i = first; i < first + tolerates && i < c.n; i++)
			cluster_stop(&c, i, false);
		compare_all(&m);
		for (uint32_t i = first; i < first + tolerates && i < c.n; i++)
			cluster_start(&c, i);
		wait_whole(m.d);
	}
	ec_domain_close(m.d);
	ec_set_close(s);
	model_free(&m);
	cluster_free(&c);
}

/* Every brick loses its connections, all at once, again and again: requests wait, the gateway takes itself over,
 * nothing is lost. */
static void body_all_cut(void *arg)
{
	struct cluster c;
	struct model m;
	struct client clients[CLIENTS];

	cluster_new(&c, arg, geometry_now->k, geometry_now->r, geometry_now->chunk);
	struct ec_set *s = cluster_set(&c, 1, TIMEOUT);
	model_new(&m);
	m.d = cluster_domain(s, LUN, true);
	clients_start(&m, clients);
	for (unsigned round = 0; round < 3; round++) {
		clients_progress(&m, ops_wanted(40));
		for (uint32_t i = 0; i < c.n; i++)
			cluster_stop(&c, i, false);
		for (uint32_t i = 0; i < c.n; i++)
			cluster_start(&c, i);
	}
	clients_progress(&m, ops_wanted(40));
	clients_stop(&m);
	compare_all(&m);
	ec_domain_close(m.d);
	ec_set_close(s);
	model_free(&m);
	cluster_free(&c);
}

/* A second gateway takes the domain; the first one's unflushed, acknowledged writes are all there, and it is told. */
static void body_takeover(void *arg)
{
	struct cluster c;
	struct model m;
	struct client clients[CLIENTS];
	uint8_t block[4096] = {1};
	struct iovec v = {block, sizeof(block)};

	cluster_new(&c, arg, geometry_now->k, geometry_now->r, geometry_now->chunk);
	struct ec_set *s1 = cluster_set(&c, 1, TIMEOUT), *s2 = cluster_set(&c, 2, TIMEOUT);
	model_new(&m);
	m.d = cluster_domain(s1, LUN, true);
	clients_start(&m, clients);
	clients_progress(&m, ops_wanted(80));
	clients_stop(&m);
	struct ec_domain *old = m.d;
	m.d = cluster_domain(s2, LUN, false);
	compare_all(&m);
	CHECK(ec_write(old, 0, 0, (struct iov){.v = &v, .n = 1}, false) == -MYFS_E_FENCED);
	CHECK(ec_flush(old) == -MYFS_E_FENCED);
	compare_all(&m);
	clients_start(&m, clients);
	clients_progress(&m, ops_wanted(40));
	clients_stop(&m);
	compare_all(&m);
	ec_domain_close(old);
	ec_domain_close(m.d);
	ec_set_close(s1);
	ec_set_close(s2);
	model_free(&m);
	cluster_free(&c);
}

/* Fewer than K members: nothing is answered wrongly, requests end with the quorum error, and go on when bricks return.
 */
static void body_too_few(void *arg)
{
	struct cluster c;
	uint8_t block[4096], zero[4096] = {0};
	struct iovec v = {block, sizeof(block)};
	struct bufs out;

	memset(block, 0x5a, sizeof(block));
	cluster_new(&c, arg, geometry_now->k, geometry_now->r, geometry_now->chunk);
	struct ec_set *s = cluster_set(&c, 1, 300 * NS_PER_MS);
	struct ec_domain *d = cluster_domain(s, LUN, true);
	put(d, 0, 0, block, sizeof(block));
	for (uint32_t i = 0; i <= ec_set_geometry(s)->tolerates; i++)
		cluster_stop(&c, i, false);
	memset(block, 0xa5, sizeof(block));
	CHECK(ec_write(d, 0, 0, (struct iov){.v = &v, .n = 1}, false) == -MYFS_E_QUORUM);
	bufs_init(&out);
	CHECK(ec_read(d, 0, 0, sizeof(block), &out) == -MYFS_E_QUORUM);
	bufs_release(&out);
	for (uint32_t i = 0; i <= ec_set_geometry(s)->tolerates; i++)
		cluster_start(&c, i);
	int rc;
	do
		rc = ec_write(d, 0, 4096, (struct iov){.v = &v, .n = 1}, false);
	while (rc == -MYFS_E_QUORUM);
	CHECK(rc == 0);
	CHECK(ec_read(d, 0, 0, sizeof(block), &out) == 0);
	bufs_copy_out(&out, 0, zero, sizeof(zero));
	CHECK(zero[0] == 0x5a || zero[0] == 0xa5); /* the failed write may have happened, whole */
	for (unsigned i = 0; i < sizeof(zero); i++)
		CHECK(zero[i] == zero[0]);
	bufs_release(&out);
	ec_domain_close(d);
	ec_set_close(s);
	cluster_free(&c);
}

/* ---- everything at once ---- */

struct chaos {
	struct cluster c;
	struct model m;
	struct prng rng;
	struct ec_set *sets[2];
	unsigned now;            /* which of them owns the domain */
	uint32_t down, cut;      /* masks */
};

static void chaos_switch_gateway(struct chaos *x)
{
	struct ec_domain *was = x->m.d;
	uint32_t up = mask_all(x->c.n) & ~x->down;

	/* Members it has not lost stay members whatever it does next: without K of them a takeover could only wait. */
	if (was->state != EC_SERVING || mask_count(up & ec_insync_live(was)) < x->c.k ||
	    mask_count(up) < geo_of(was)->w)
		return;
	x->now = !x->now;
	x->m.d = cluster_domain(x->sets[x->now], LUN, false); /* was is deposed while its requests run */
	waitq_wake_all(&x->m.changed);
	ec_domain_close(was); /* waits for the requests still in it */
}

static void chaos_down(struct chaos *x, uint32_t b)
{
	if (prng_chance(&x->rng, 0.3)) {
		cluster_cut(&x->c, b);
		x->cut |= MASK(b);
	} else {
		cluster_stop(&x->c, b, prng_chance(&x->rng, 0.2));
	}
	x->down |= MASK(b);
}

static void chaos_up(struct chaos *x, uint32_t b)
{
	if (mask_has(x->cut, b))
		cluster_connect(&x->c, b);
	else
		cluster_start(&x->c, b);
	x->down &= ~MASK(b);
	x->cut &= ~MASK(b);
}

/* The host of one brick loses power while all others are well: what it holds is not believed any more. */
static void chaos_power(struct chaos *x, uint32_t b)
{
	struct ec_domain_status st;

	ec_domain_status(x->m.d, &st);
	if (x->down || st.insync != mask_all(x->c.n))
		return;
	cluster_stop(&x->c, b, false);
	prng_bytes(&x->rng, x->c.b[b].boot.b, 16);
	cluster_start(&x->c, b);
}

static void chaos_step(struct chaos *x)
{
	uint32_t b = (uint32_t)prng_below(&x->rng, x->c.n);
	uint64_t what = prng_below(&x->rng, 100);

	if (what < 8)
		chaos_switch_gateway(x);
	else if (what < 16)
		chaos_power(x, b);
	else if (mask_has(x->down, b))
		chaos_up(x, b);
	else if (mask_count(x->down) < geo_of(x->m.d)->tolerates || what < 30) /* rarely more than that: I/O waits */
		chaos_down(x, b);
	uint64_t until = loop_now_ns() + prng_below(&x->rng, 60) * NS_PER_MS;
	unsigned ops = x->m.ops + (unsigned)prng_below(&x->rng, 30);
	while (loop_now_ns() < until && x->m.ops < ops)
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
}

static void body_chaos(void *arg)
{
	static struct chaos x;
	struct client clients[CLIENTS];

	memset(&x, 0, sizeof(x));
	prng_seed(&x.rng, seed_now);
	cluster_new(&x.c, arg, geometry_now->k, geometry_now->r, geometry_now->chunk);
	x.sets[0] = cluster_set(&x.c, 1, TIMEOUT);
	x.sets[1] = cluster_set(&x.c, 2, TIMEOUT);
	model_new(&x.m);
	x.m.gateways_change = true;
	x.m.d = cluster_domain(x.sets[0], LUN, true);
	clients_start(&x.m, clients);
	for (unsigned i = 0; i < ops_wanted(60); i++) {
		chaos_step(&x);
	}
	while (x.down)
		chaos_up(&x, (uint32_t)__builtin_ctz(x.down));
	clients_stop(&x.m);
	compare_all(&x.m);
	wait_whole(x.m.d);
	compare_all(&x.m);
	ec_domain_close(x.m.d);
	ec_set_close(x.sets[0]);
	ec_set_close(x.sets[1]);
	model_free(&x.m);
	cluster_free(&x.c);
}

/* A brick that takes requests and never answers is put out of the way; writes go on, and it heals when it wakes up. */
static void body_grey(void *arg)
{
	struct cluster c;
	uint8_t block[4096];
	struct bufs out;

	memset(block, 0x11, sizeof(block));
	cluster_new(&c, arg, geometry_now->k, geometry_now->r, geometry_now->chunk);
	c.stall_ns = 0;
	struct ec_set *s = cluster_set(&c, 1, TIMEOUT);
	struct ec_domain *d = cluster_domain(s, LUN, true);
	put(d, 0, 0, block, sizeof(block));
	cluster_stall(&c, 0, true);
	for (uint32_t i = 0; i < 16; i++)
		put(d, 0, i * MIB(1), block, sizeof(block)); /* all rotations: brick 0 is concerned */
	CHECK(!mask_has(d->view.insync, 0));
	bufs_init(&out);
	for (uint32_t i = 0; i < 16; i++)
		CHECK(ec_read(d, 0, i * MIB(1), 4096, &out) == 0);
	bufs_release(&out);
	cluster_stall(&c, 0, false);
	wait_whole(d);
	ec_domain_close(d);
	ec_set_close(s);
	cluster_free(&c);
}

/* A full brick: writes end with -ENOSPC and change nothing; zeroing, reading and flushing go on; with room again, so do
 * writes. */
static void body_full(void *arg)
{
	struct cluster c;
	struct model m;
	uint8_t block[8192];
	struct iovec v = {block, sizeof(block)};

	memset(block, 0x77, sizeof(block));
	cluster_new(&c, arg, geometry_now->k, geometry_now->r, geometry_now->chunk);
	struct ec_set *s = cluster_set(&c, 1, TIMEOUT);
	model_new(&m);
	m.d = cluster_domain(s, LUN, true);
	put(m.d, 0, 4096, block, sizeof(block));
	memset(m.bytes[0] + 4096, 0x77, sizeof(block));
	ec_domain_close(m.d);
	for (uint32_t i = 0; i < c.n; i++) {
		cluster_stop(&c, i, true);
		c.b[i].reserve_bytes = UINT64_MAX / 4;
		cluster_start(&c, i);
	}
	m.d = cluster_domain(s, LUN, false);
	memset(block, 0x78, sizeof(block));
	CHECK(ec_write(m.d, 0, 0, (struct iov){.v = &v, .n = 1}, false) == -ENOSPC);
	v.iov_len = 100; /* the way through read-modify-write */
	CHECK(ec_write(m.d, 0, 4000, (struct iov){.v = &v, .n = 1}, false) == -ENOSPC);
	CHECK(ec_flush(m.d) == 0);
	compare(&m, 0, 0, 100000);
	CHECK(ec_zero(m.d, 0, 0, geo_of(m.d)->shard_bytes, false) == 0); /* frees space: always possible */
	memset(m.bytes[0], 0, AREA);
	compare(&m, 0, 0, 100000);
	ec_domain_close(m.d);
	for (uint32_t i = 0; i < c.n; i++) {
		cluster_stop(&c, i, true);
		c.b[i].reserve_bytes = MIB(1);
		cluster_start(&c, i);
	}
	m.d = cluster_domain(s, LUN, false);
	put(m.d, 0, 50000, block, sizeof(block));
	memset(m.bytes[0] + 50000, 0x78, sizeof(block));
	compare_all(&m);
	ec_domain_close(m.d);
	ec_set_close(s);
	model_free(&m);
	cluster_free(&c);
}

/* ---- rot ---- */

/* Finds a fragment file below dir that holds the pattern and spoils one byte of it. */
static const uint8_t *rot_pattern;
static bool rot_done;
static int rot_one(const char *path, const struct stat *st, int type, struct FTW *w)
{
	uint8_t buf[4096];

	(void)w;
	if (type != FTW_F || rot_done || st->st_size < 4096 || strstr(path, "/myfs/"))
		return 0;
	int fd = open(path, O_RDWR);
	for (off_t off = 0; fd >= 0 && off + 4096 <= st->st_size && !rot_done; off += 4096) {
		if (pread(fd, buf, 4096, off) != 4096 || memcmp(buf, rot_pattern, 4096) != 0)
			continue;
		buf[100] ^= 1;
		CHECK(pwrite(fd, buf, 4096, off) == 4096);
		rot_done = true;
	}
	close(fd);
	return 0;
}

static void wait_repaired(struct ec_domain *d)
{
	struct ec_domain_status st;

	do {
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
		ec_domain_status(d, &st);
	} while (st.repaired_blocks == 0);
	CHECK(st.checksum_errors >= 1);
}

static void body_rot(void *arg)
{
	struct cluster c;
	/* A fiber's stack is small; whole stripes, so that no parity equals the data. */
	static uint8_t block[262144], back[262144];
	struct prng rng;

	prng_seed(&rng, seed_now);
	prng_bytes(&rng, block, sizeof(block));
	cluster_new(&c, arg, geometry_now->k, geometry_now->r, geometry_now->chunk);
	struct ec_set *s = cluster_set(&c, 1, TIMEOUT);
	struct ec_domain *d = cluster_domain(s, LUN, true);
	put(d, 0, 0, block, sizeof(block));
	CHECK(ec_flush(d) == 0);
	ec_domain_close(d);
	for (uint32_t i = 0; i < c.n; i++) {
		CHECK(brick_checkpoint(c.b[i].brick, true) == 0);
		cluster_stop(&c, i, true);
	}
	rot_pattern = block + 4096;
	rot_done = false;
	nftw(c.root, rot_one, 16, FTW_PHYS);
	CHECK(rot_done);
	for (uint32_t i = 0; i < c.n; i++)
		cluster_start(&c, i);
	ec_set_close(s);
	s = cluster_set(&c, 1, TIMEOUT);
	d = cluster_domain(s, LUN, false);
	struct bufs out;
	bufs_init(&out);
	if (seed_now % 2) { /* a reader finds it */
		CHECK(ec_read(d, 0, 0, sizeof(block), &out) == 0);
		bufs_copy_out(&out, 0, back, sizeof(back));
		CHECK(memcmp(back, block, sizeof(block)) == 0);
		bufs_release(&out);
		if (geometry_now->k > 1)
			wait_repaired(d);
	} else { /* a writer finds it while asking for the delta */
		memset(block + 4096, 7, 4096);
		put(d, 0, 4096, block + 4096, 4096);
	}
	CHECK(ec_read(d, 0, 0, sizeof(block), &out) == 0);
	bufs_copy_out(&out, 0, back, sizeof(back));
	CHECK(memcmp(back, block, sizeof(block)) == 0);
	bufs_release(&out);
	ec_domain_close(d);
	ec_set_close(s);
	cluster_free(&c);
}

/* ---- runner ---- */

/* The first n geometries; MYFS_GEOMETRY picks any one. */
static void run(fiber_fn *body, unsigned n)
{
	const char *want = getenv("MYFS_SEED"), *only = getenv("MYFS_GEOMETRY");
	struct loop *l;
	struct err e = ERR_INIT;

	for (unsigned i = 0; i < (only ? ARRAY_LEN(geometries) : n); i++) {
		geometry_now = &geometries[i];
		if (only && strcmp(only, geometry_now->name) != 0)
			continue;
		assert_int_equal(loop_new(&(struct loop_options){0}, &l, &e), 0);
		loop_random(&seed_now, sizeof(seed_now));
		seed_now = want ? strtoull(want, NULL, 10) : seed_now % 1000000;
		printf("%s seed %llu\n", geometry_now->name, (unsigned long long)seed_now);
		fflush(stdout);
		assert_int_equal(loop_run_fiber(l, "test", body, l), 0);
		loop_free(l);
	}
}

static void random_io_reads_back_what_was_written(void **state)
{
	(void)state;
	run(body_healthy, ARRAY_LEN(geometries));
}

static void bricks_may_die_up_to_the_tolerance_under_load(void **state)
{
	(void)state;
	run(body_degraded, 3);
}

static void bricks_that_return_heal_under_load_and_carry_the_data(void **state)
{
	(void)state;
	run(body_heal, 3);
}

static void all_bricks_may_restart_at_once_under_load(void **state)
{
	(void)state;
	run(body_all_cut, 2);
}

static void a_second_gateway_sees_every_acknowledged_write_and_fences_the_first(void **state)
{
	(void)state;
	run(body_takeover, 2);
}

static void with_too_few_bricks_requests_end_with_the_quorum_error_and_recover(void **state)
{
	(void)state;
	run(body_too_few, 1);
}

static void a_rotten_block_is_answered_right_and_repaired(void **state)
{
	(void)state;
	run(body_rot, 2);
}

static void kills_power_cuts_and_takeovers_lose_nothing_acknowledged(void **state)
{
	(void)state;
	run(body_chaos, 3);
}

static void a_silent_brick_is_put_out_of_the_way(void **state)
{
	(void)state;
	run(body_grey, 1);
}

static void full_bricks_refuse_writes_and_nothing_else(void **state)
{
	(void)state;
	run(body_full, 1);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_io_reads_back_what_was_written),
		cmocka_unit_test(bricks_may_die_up_to_the_tolerance_under_load),
		cmocka_unit_test(bricks_that_return_heal_under_load_and_carry_the_data),
		cmocka_unit_test(all_bricks_may_restart_at_once_under_load),
		cmocka_unit_test(a_second_gateway_sees_every_acknowledged_write_and_fences_the_first),
		cmocka_unit_test(with_too_few_bricks_requests_end_with_the_quorum_error_and_recover),
		cmocka_unit_test(kills_power_cuts_and_takeovers_lose_nothing_acknowledged),
		cmocka_unit_test(a_silent_brick_is_put_out_of_the_way),
		cmocka_unit_test(full_bricks_refuse_writes_and_nothing_else),
		cmocka_unit_test(a_rotten_block_is_answered_right_and_repaired),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
