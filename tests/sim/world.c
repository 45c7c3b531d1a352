/* world.c - virtual time and its events, the loop backend on top of them, the trace, and hosts.
 *
 * Invariants: W1 events run in (time, age) order and never in fibers. W2 the clock moves only inside wait(). W3 nothing here reads the real
 * clock, the real randomness or an address, so that a seed replays bit by bit. */
#include "tests/sim/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/buf.h"
#include "core/base/log.h"
#include "core/loop/backend.h"

#define TRACE_LINES 50
#define TRACE_TEXT 160
#define HOST_DISKS 16
#define START_NS (1000 * NS_PER_S)
#define SPINS_MAX 1000000u
#define WALL_OFFSET_NS UINT64_C(1700000000000000000)

struct event {
	uint64_t at_ns, age;
	struct host *host;
	uint64_t host_life; /* dies with the host's incarnation */
	void (*fn)(void *arg);
	void *arg;
};

struct world {
	struct backend backend; /* first: the loop's view of us */
	struct loop *loop;
	struct prng prng;
	uint64_t now_ns, next_age;
	uint64_t wall_offset_ns;
	struct event *events;   /* binary heap */
	size_t n_events, cap_events;
	struct list hosts;
	uint64_t trace_hash, trace_n;
	bool echo;
	unsigned spins; /* looks at the world since time last moved */
	char trace[TRACE_LINES][TRACE_TEXT];
};

struct host {
	struct list node;
	struct world *world;
	char name[32];
	bool up;
	uint64_t life; /* grows at every death */
	struct gfid boot;
	struct fiber_group *group;
	struct sim_net *net;
	struct disk *disks[HOST_DISKS];
	unsigned n_disks;
};

/* ---- events ---- */

static bool earlier(const struct event *a, const struct event *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->age < b->age;
}

static void heap_up(struct event *v, size_t i)
{
	for (; i > 0 && earlier(&v[i], &v[(i - 1) / 2]); i = (i - 1) / 2) {
		struct event t = v[i];
		v[i] = v[(i - 1) / 2];
		v[(i - 1) / 2] = t;
	}
}

static void heap_down(struct event *v, size_t n)
{
	for (size_t i = 0;;) {
		size_t least = i, l = 2 * i + 1, r = l + 1;
		if (l < n && earlier(&v[l], &v[least]))
			least = l;
		if (r < n && earlier(&v[r], &v[least]))
			least = r;
		if (least == i)
			return;
		struct event t = v[i];
		v[i] = v[least];
		v[least] = t;
		i = least;
	}
}

void world_after(struct world *w, struct host *h, uint64_t delay_ns, void (*fn)(void *arg), void *arg)
{
	if (w->n_events == w->cap_events) {
		w->cap_events = w->cap_events ? 2 * w->cap_events : 256;
		w->events = realloc(w->events, w->cap_events * sizeof(*w->events));
		assert(w->events != NULL);
	}
	w->events[w->n_events] = (struct event){w->now_ns + delay_ns, w->next_age++, h, h ? h->life : 0, fn, arg};
	heap_up(w->events, w->n_events++);
}

static void hash_u64(struct world *w, uint64_t v)
{
	w->trace_hash = (w->trace_hash ^ v) * UINT64_C(1099511628211);
	w->trace_hash ^= w->trace_hash >> 29;
}

static void run_next_event(struct world *w)
{
	struct event e = w->events[0];
	hash_u64(w, e.at_ns);
	hash_u64(w, e.age);
	w->events[0] = w->events[--w->n_events];
	heap_down(w->events, w->n_events);
	if (e.at_ns > w->now_ns)
		w->now_ns = e.at_ns;
	if (e.host == NULL || e.host->life == e.host_life)
		e.fn(e.arg);
}

/* ---- the loop's backend ---- */

static struct world *world_of(struct backend *b)
{
	return CONTAINER_OF(b, struct world, backend);
}

static void sim_start(struct backend *b, struct io *io)
{
	(void)b;
	(void)io;
	log_error("the real kernel was asked from inside the simulation");
	abort();
}

static void sim_wait(struct backend *b, uint64_t deadline_ns)
{
	struct world *w = world_of(b);
	if (deadline_ns == 0) {
		w->spins++;
		assert(w->spins < SPINS_MAX); /* somebody spins: no time will pass while he does */
		return;
	}
	w->spins = 0;
	if (w->n_events > 0 && w->events[0].at_ns <= deadline_ns) {
		/* All events of one instant, so that a batch that arrives together is seen together. */
		uint64_t at = w->events[0].at_ns;
		while (w->n_events > 0 && w->events[0].at_ns <= at)
			run_next_event(w);
		return;
	}
	assert(deadline_ns != UINT64_MAX); /* nothing would ever happen again */
	w->now_ns = max_u64(w->now_ns, deadline_ns);
}

static void sim_wake(struct backend *b)
{
	(void)b;
}

static uint64_t sim_now(struct backend *b)
{
	return world_of(b)->now_ns;
}

static uint64_t sim_wall(struct backend *b)
{
	return world_of(b)->now_ns + world_of(b)->wall_offset_ns;
}

static void sim_random(struct backend *b, void *dst, size_t len)
{
	prng_bytes(&world_of(b)->prng, dst, len);
}

static void sim_backend_free(struct backend *b)
{
	(void)b;
}

struct world *world_new(uint64_t seed)
{
	struct world *w = calloc(1, sizeof(*w));
	assert(w != NULL);
	prng_seed(&w->prng, seed);
	w->now_ns = START_NS;
	w->wall_offset_ns = WALL_OFFSET_NS;
	w->trace_hash = UINT64_C(14695981039346656037);
	list_init(&w->hosts);
	w->backend = (struct backend){.name = "sim", .start = sim_start, .cancel = sim_start, .wait = sim_wait, .wake = sim_wake, .now_ns = sim_now,
	                              .wall_ns = sim_wall, .random = sim_random, .free = sim_backend_free};
	struct err e = ERR_INIT;
	int rc = loop_new_with_backend(&w->backend, NULL, &w->loop, &e);
	assert(rc == 0);
	(void)rc;
	return w;
}

void world_free(struct world *w)
{
	list_for_each_safe(h, &w->hosts, struct host, node) {
		if (h->up)
			host_kill(h);
		sim_net_free(h->net);
		for (unsigned i = 0; i < h->n_disks; i++)
			disk_free(h->disks[i]);
		list_del(&h->node);
		free(h);
	}
	loop_free(w->loop);
	free(w->events);
	free(w);
}

struct loop *world_loop(struct world *w)
{
	return w->loop;
}

struct prng *world_prng(struct world *w)
{
	return &w->prng;
}

void world_wall_jump(struct world *w, int64_t ns)
{
	w->wall_offset_ns += (uint64_t)ns;
}

uint64_t world_now_ns(const struct world *w)
{
	return w->now_ns;
}

/* ---- trace ---- */

void world_trace(struct world *w, const char *fmt, ...)
{
	char *line = w->trace[w->trace_n++ % TRACE_LINES];
	int n = snprintf(line, TRACE_TEXT, "%10.6f ", (double)(w->now_ns - START_NS) / 1e9);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(line + n, TRACE_TEXT - (size_t)n, fmt, ap);
	va_end(ap);
	for (const char *c = line; *c != '\0'; c++)
		w->trace_hash = (w->trace_hash ^ (uint8_t)*c) * UINT64_C(1099511628211);
	if (w->echo)
		fprintf(stderr, "%s\n", line);
}

uint64_t world_trace_hash(const struct world *w)
{
	return w->trace_hash;
}

void world_trace_dump(const struct world *w)
{
	uint64_t from = w->trace_n > TRACE_LINES ? w->trace_n - TRACE_LINES : 0;
	for (uint64_t i = from; i < w->trace_n; i++)
		fprintf(stderr, "  %s\n", w->trace[i % TRACE_LINES]);
}

void world_trace_echo(struct world *w, bool on)
{
	w->echo = on;
}

/* ---- hosts ---- */

static void new_boot_id(struct host *h)
{
	uint8_t raw[16];
	prng_bytes(&h->world->prng, raw, sizeof(raw));
	h->boot = gfid_from_random(raw);
}

struct host *host_new(struct world *w, const char *name)
{
	struct host *h = calloc(1, sizeof(*h));
	assert(h != NULL);
	h->world = w;
	snprintf(h->name, sizeof(h->name), "%s", name);
	new_boot_id(h);
	h->net = sim_net_new(h);
	list_push_back(&w->hosts, &h->node);
	host_up(h);
	return h;
}

const char *host_name(const struct host *h)
{
	return h->name;
}

struct world *host_world(const struct host *h)
{
	return h->world;
}

struct net *host_net(struct host *h)
{
	return sim_net_iface(h->net);
}

bool host_is_up(const struct host *h)
{
	return h->up;
}

struct gfid host_boot_id(const struct host *h)
{
	return h->boot;
}

void host_add_disk(struct host *h, struct disk *d)
{
	assert(h->n_disks < HOST_DISKS);
	h->disks[h->n_disks++] = d;
}

struct spawn {
	struct host *host;
	fiber_fn *fn;
	void *arg;
};

static void run_on_host(void *arg)
{
	struct spawn s = *(struct spawn *)arg;
	free(arg);
	if (s.host->group == NULL)
		return; /* died before its first instruction */
	fiber_group_enter(s.host->group);
	s.fn(s.arg);
}

void host_spawn(struct host *h, const char *name, fiber_fn *fn, void *arg)
{
	assert(h->up);
	struct spawn *s = malloc(sizeof(*s));
	assert(s != NULL);
	*s = (struct spawn){h, fn, arg};
	int rc = fiber_run(h->world->loop, name, run_on_host, s);
	assert(rc == 0);
	(void)rc;
}

static void host_die(struct host *h, bool power)
{
	assert(h->up);
	world_trace(h->world, "%s %s", h->name, power ? "loses power" : "is killed");
	h->up = false;
	h->life++;
	fiber_group_kill(h->group);
	h->group = NULL;
	sim_net_host_down(h->net, power);
	for (unsigned i = 0; i < h->n_disks; i++)
		disk_host_down(h->disks[i], power);
	if (power)
		new_boot_id(h);
}

void host_kill(struct host *h)
{
	host_die(h, false);
}

void host_power_loss(struct host *h)
{
	host_die(h, true);
}

void host_up(struct host *h)
{
	assert(!h->up);
	h->up = true;
	h->group = fiber_group_new(h->world->loop);
	sim_net_host_up(h->net);
}
