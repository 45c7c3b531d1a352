/* gateways.c - see gateways.h.
 *
 * Invariants: G1 only the judge fiber moves a peer to SILENT or GONE, and only after it ran in time itself: a gateway
 * that was stopped must not take the others' silence for their death. G2 adoption is one registry transaction: rows and
 * notes of the dead gateway are ours together or not at all. */
#include "blockd/gateways.h"

#include <stdio.h>

#include "blockd/lun.h"
#include "blockd/reconcile.h"
#include "blockd/watch.h"
#include "core/base/log.h"

#define JUDGE_NS   (250 * NS_PER_MS)
#define LATE_NS    (1 * NS_PER_S) /* the judge itself was held up this long */
#define REFUSED_NS (2 * NS_PER_S) /* between attempts to reach one that is gone */

struct peer_gateway {
	struct list node;
	struct blockd *d;
	struct reg_gateway row;
	enum gateway_state state;
	uint64_t since_ns;      /* last answer, or when we began to wait for one */
	bool refused;           /* the last connect was refused: no process listens there */
	bool adopted;           /* what it left is ours */
	uint64_t round;         /* of the judge's, in which that was last tried */
	bool leaving;           /* its row is gone or changed: the fiber frees it */
	struct stream *stream;  /* owned by the fiber */
};

const char *gateway_state_name(enum gateway_state state)
{
	static const char *const names[] = {"unknown", "alive", "silent", "gone"};

	return names[state];
}

static struct peer_gateway *find(const struct blockd *d, const char *name)
{
	list_for_each(p, &d->gateways, struct peer_gateway, node)
		if (!p->leaving && strcmp(p->row.name, name) == 0)
			return p;
	return NULL;
}

enum gateway_state gateways_state(const struct blockd *d, const char *name)
{
	const struct peer_gateway *p = find(d, name);

	if (strcmp(name, d->self.name) == 0)
		return GATEWAY_ALIVE;
	return p ? p->state : GATEWAY_GONE;
}

bool gateways_may_answer(const struct blockd *d, const char *name)
{
	struct reg_gateway row;
	const struct peer_gateway *p = find(d, name);

	if (!p) /* registered a moment ago */
		return reg_gateway_get(d->registry, name, &row, NULL) == 0;
	return p->state == GATEWAY_ALIVE || p->state == GATEWAY_UNKNOWN;
}

bool gateways_first(const struct blockd *d)
{
	list_for_each(p, &d->gateways, struct peer_gateway, node)
		if (!p->leaving && strcmp(p->row.name, d->self.name) < 0 && p->state <= GATEWAY_ALIVE)
			return false;
	return true;
}

unsigned gateways_alive(const struct blockd *d, char (*ret_names)[REG_NAME], unsigned cap)
{
	unsigned n = 0;

	list_for_each(p, &d->gateways, struct peer_gateway, node)
		if (!p->leaving && p->state == GATEWAY_ALIVE && n < cap)
			memcpy(ret_names[n++], p->row.name, REG_NAME);
	return n;
}

/* ---- one connection per gateway ---- */

static void heard(struct peer_gateway *p)
{
	if (p->state == GATEWAY_SILENT || p->state == GATEWAY_GONE)
		log_note("gateway %s answers again", p->row.name);
	p->state = GATEWAY_ALIVE;
	p->since_ns = loop_now_ns();
	p->refused = p->adopted = false;
}

static bool peer_ends(const struct peer_gateway *p)
{
	return p->leaving || p->d->stopping;
}

/* Asks until the connection ends. The answer is a line that the other side keeps back for a while, so that this fiber
 * always listens: the end of the process is heard at once. Returns whether an answer came. */
static bool ask_on(struct peer_gateway *p) YIELDS
{
	char question[80];
	const struct iovec v = {question, (size_t)snprintf(question, sizeof(question),
							   "{\"method\":\"ping\",\"params\":{\"after_ms\":%llu}}\n",
							   (unsigned long long)(GATEWAY_PING_NS / NS_PER_MS))};
	bool answered = false;
	char buf[512];

	while (!peer_ends(p)) {
		uint64_t asked_ns = loop_now_ns();
		ssize_t n;

		if (stream_send(p->stream, &v, 1) < 0)
			break;
		do {
			n = stream_recv(p->stream, buf, sizeof(buf));
		} while (n > 0 && buf[n - 1] != '\n');
		if (n <= 0)
			break;
		heard(p);
		answered = true;
		if (loop_now_ns() - asked_ns < GATEWAY_PING_NS / 2) /* it was woken early */
			blockd_sleep(p->d, GATEWAY_PING_NS / 2);
	}
	return answered;
}

static void peer_connect(struct peer_gateway *p, const struct address *a) YIELDS
{
	int rc = net_connect(p->d->net, a, loop_now_ns() + GATEWAY_SILENT_NS, &p->stream, NULL);

	if (rc == 0) {
		bool answered = ask_on(p);

		stream_close(p->stream);
		p->stream = NULL;
		if (answered)
			return; /* and look at once whether it is still there */
	}
	if (rc == -ECONNREFUSED || rc == -ENOENT) {
		if (!p->refused && p->state != GATEWAY_GONE)
			watch_kick(p->d); /* the judge */
		p->refused = true;
	}
	if (!peer_ends(p))
		blockd_sleep(p->d, p->state == GATEWAY_GONE ? REFUSED_NS : GATEWAY_PING_NS);
}

static void peer_fiber(void *arg)
{
	struct peer_gateway *p = arg;
	struct blockd *d = p->d;
	struct address a;

	if (address_parse(p->row.control, &a, NULL) < 0) {
		p->refused = true;
		while (!peer_ends(p))
			blockd_sleep(d, REFUSED_NS);
	}
	while (!peer_ends(p))
		peer_connect(p, &a);
	list_del(&p->node);
	free(p);
	blockd_fiber_done(d);
}

static void peer_leave(struct peer_gateway *p)
{
	p->leaving = true;
	if (p->stream)
		stream_shutdown(p->stream);
	watch_kick(p->d);
}

static void peer_new(struct blockd *d, const struct reg_gateway *row)
{
	struct peer_gateway *p = calloc(1, sizeof(*p));

	if (!p)
		return; /* tried again when the registry changes */
	p->d = d;
	p->row = *row;
	p->since_ns = loop_now_ns();
	list_init(&p->node);
	list_push_back(&d->gateways, &p->node);
	if (blockd_spawn(d, "gateway-peer", peer_fiber, p) < 0) {
		list_del(&p->node);
		free(p);
	}
}

/* Follows the rows of the registry. */
static void follow_rows(struct blockd *d)
{
	struct reg_gateway *rows = NULL;
	size_t n = 0;

	if (reg_gateway_list(d->registry, &rows, &n, NULL) < 0)
		return;
	list_for_each(p, &d->gateways, struct peer_gateway, node) {
		bool same = false;

		for (size_t i = 0; i < n; i++)
			same |= strcmp(rows[i].name, p->row.name) == 0 && strcmp(rows[i].control, p->row.control) == 0;
		if (!same && !p->leaving)
			peer_leave(p);
	}
	for (size_t i = 0; i < n; i++)
		if (strcmp(rows[i].name, d->self.name) != 0 && !find(d, rows[i].name))
			peer_new(d, &rows[i]);
	free(rows);
}

/* ---- what a dead gateway leaves ---- */

static int adopt_in_transaction(struct blockd *d, const char *from, unsigned *ret_luns, struct err *e)
{
	char key[REG_NAME + 32];
	int rc = reg_lun_change_owner(d->registry, from, d->self.name, ret_luns, e);

	snprintf(key, sizeof(key), "attention.%s", from);
	if (rc == 0)
		rc = gfid_set_take(&d->attention, key, e);
	snprintf(key, sizeof(key), "resizing.%s", from);
	return rc < 0 ? rc : gfid_set_take(&d->resizing, key, e);
}

static int adopt(struct blockd *d, const char *from, struct err *e) YIELDS
{
	unsigned luns = 0;
	int rc = registry_begin(d->registry, e);

	if (rc < 0)
		return rc;
	size_t attention = d->attention.n, resizing = d->resizing.n; /* others wait for our turn to end */
	rc = adopt_in_transaction(d, from, &luns, e);
	if (rc == 0)
		rc = registry_commit(d->registry, e);
	else
		registry_rollback(d->registry);
	if (rc < 0) { /* G2: sets only grew */
		d->attention.n = attention;
		d->resizing.n = resizing;
		return rc;
	}
	if (luns > 0 || d->attention.n > attention)
		log_note("gateway %s is gone: its %u LUN%s move here, %zu of them in use or not in sync", from, luns,
			 luns == 1 ? "" : "s", d->attention.n - attention);
	reconcile_kick(d);
	return 0;
}

/* The next one by name, in a circle, among those that are not gone: so that two gateways that die together are not
 * both on one survivor. Two survivors that see it differently do no harm: rows change owner only from the dead one. */
static bool is_heir(const struct blockd *d, const char *dead)
{
	const char *self = d->self.name;

	list_for_each(p, &d->gateways, struct peer_gateway, node) {
		const char *name = p->row.name;
		bool between = strcmp(dead, self) < 0 ? strcmp(name, dead) > 0 && strcmp(name, self) < 0
						      : strcmp(name, dead) > 0 || strcmp(name, self) < 0;

		if (!p->leaving && p->state == GATEWAY_ALIVE && between)
			return false;
	}
	return true;
}

static void judge_one(struct peer_gateway *p)
{
	uint64_t quiet_ns = loop_now_ns() - p->since_ns;
	bool was_heard = p->state != GATEWAY_UNKNOWN;

	if (p->state != GATEWAY_GONE &&
	    ((p->refused && (was_heard || quiet_ns >= GATEWAY_SILENT_NS)) || quiet_ns >= GATEWAY_GONE_NS)) {
		p->state = GATEWAY_GONE;
		if (was_heard)
			log_warn("gateway %s is gone (%s)", p->row.name, p->refused ? "no process listens" : "no answer");
	} else if (p->state <= GATEWAY_ALIVE && quiet_ns >= GATEWAY_SILENT_NS) {
		p->state = GATEWAY_SILENT;
		log_warn("gateway %s does not answer; clients that come here get its LUNs", p->row.name);
	}
}

static struct peer_gateway *to_adopt(struct blockd *d, uint64_t round)
{
	list_for_each(p, &d->gateways, struct peer_gateway, node)
		if (!p->leaving && p->state == GATEWAY_GONE && !p->adopted && p->round < round && is_heir(d, p->row.name))
			return p;
	return NULL;
}

/* Each at most once a round; peers may come and go meanwhile. */
static void adopt_all(struct blockd *d, uint64_t round) YIELDS
{
	struct peer_gateway *p;

	while (!d->stopping && (p = to_adopt(d, round))) {
		struct err e = ERR_INIT;
		char name[REG_NAME];

		memcpy(name, p->row.name, sizeof(name));
		p->round = round;
		int rc = adopt(d, name, &e);
		p = find(d, name);
		if (p && p->state == GATEWAY_GONE) /* else it answers again */
			p->adopted = rc == 0;
		if (rc < 0)
			log_warn("the LUNs of gateway %s cannot be taken now: %s", name, e.text);
	}
}

static void judge_fiber(void *arg)
{
	struct blockd *d = arg;
	uint64_t seen = 0, last_ns = loop_now_ns(), round = 0;

	while (!d->stopping) {
		uint64_t generation = 0, now = loop_now_ns();

		if (registry_generation(d->registry, &generation, NULL) == 0 && generation != seen) {
			seen = generation;
			follow_rows(d);
			luns_follow(d);
		}
		if (now - last_ns > LATE_NS) { /* G1 */
			log_note("this gateway stood still for %llu ms", (unsigned long long)((now - last_ns) / NS_PER_MS));
			list_for_each(p, &d->gateways, struct peer_gateway, node)
				p->since_ns = now;
		}
		last_ns = now;
		list_for_each(p, &d->gateways, struct peer_gateway, node)
			judge_one(p);
		adopt_all(d, ++round);
		blockd_sleep(d, JUDGE_NS);
	}
	blockd_fiber_done(d);
}

int gateways_start(struct blockd *d)
{
	follow_rows(d);
	return blockd_spawn(d, "gateways", judge_fiber, d);
}

void gateways_stop(struct blockd *d)
{
	list_for_each(p, &d->gateways, struct peer_gateway, node)
		peer_leave(p);
}

void gateways_free(struct blockd *d)
{
	assert(list_empty(&d->gateways));
}
