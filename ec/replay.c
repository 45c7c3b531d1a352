/* replay.c - what clients were told is done, kept until no loss of power can take it back. PROTOCOL.md, Takeover; H30, H25.
 *
 *   commit of a client's part --> its bytes hang on its ring slot --> floor passes: dropped
 *                                        |
 *             bricks lost their memory, our own takeover had to take some of it back
 *                                        v
 *   d->replay.list, everything from the first lost one on, in order --> written again, flushed --> dropped
 *
 * While the list is not empty (ec_replays) the domain is served to nobody but the replay itself: no read sees the state in between, no
 * write of a client comes before what it was ordered behind. Should we die meanwhile, the next owner finds the loss generation
 * of the view raised; it is lowered again when everything is durable.
 *
 * R1 kept bytes of a set are at most EC_KEEP_MAX: writes wait for a SYNC then. R2 the list is replayed from its beginning until one pass,
 * flush included, was done under one epoch. R3 a committed part whose bytes could not be kept counts as lost when its tx is. */
#include "ec/ec_priv.h"

struct ec_kept {
	struct list node;
	struct ec_part part;  /* data points into its owner, of which we hold a reference */
	uint64_t bytes;       /* of the set's account */
};

/* ---- keeping ---- */

uint64_t ec_keep_bytes(const struct ec_part *p)
{
	size_t len = !p->data ? 0 : p->bytes ? p->bytes : (size_t)p->nblocks * MYFS_BLOCK;

	return sizeof(struct ec_kept) + len;
}

bool ec_keep_room(const struct ec_set *s, uint64_t bytes)
{
	return !s->kept_bytes || s->kept_bytes + bytes <= EC_KEEP_MAX; /* R1; one always fits */
}

/* A reference costs nothing, but holds all of its owner. */
static int hold(struct ec_part *p, size_t len)
{
	if (p->owner && len >= p->owner->size / 2) {
		buf_ref(p->owner);
		return 0;
	}
	struct buf *b = buf_alloc(len);
	if (!b)
		return -ENOMEM;
	memcpy(b->data, p->data, len);
	p->data = b->data;
	p->owner = b;
	return 0;
}

struct ec_kept *ec_keep(struct ec_set *s, const struct ec_part *p, uint64_t bytes)
{
	size_t len = (size_t)(bytes - sizeof(struct ec_kept));
	struct ec_kept *k = malloc(sizeof(*k));

	if (k) {
		*k = (struct ec_kept){.part = *p, .bytes = bytes};
		k->part.done = NULL; /* whoever asked is answered before a replay */
		list_init(&k->node);
	}
	if (!k || (len && hold(&k->part, len))) {
		free(k);
		s->kept_bytes -= bytes;
		return NULL; /* R3 */
	}
	return k;
}

void ec_kept_drop(struct ec_set *s, struct ec_kept *k)
{
	if (!k)
		return;
	if (list_linked(&k->node))
		list_del(&k->node);
	s->kept_bytes -= k->bytes;
	if (k->part.data)
		buf_unref(k->part.owner);
	free(k);
}

/* ---- after a takeover ---- */

void ec_replay_take(struct ec_domain *d, uint64_t from)
{
	for (uint64_t n = from; n < d->next_n; n++) {
		struct ec_slot *s = &d->ring[n % EC_RING];
		if (s->fate != EC_COMMITTED || !s->kept)
			continue;
		list_insert_between(&s->kept->node, d->replay.list.prev, &d->replay.list);
		s->kept = NULL;
	}
}

static void list_drop(struct ec_domain *d)
{
	while (ec_replays(d))
		ec_kept_drop(d->set, list_first(&d->replay.list, struct ec_kept, node));
}

static bool goes_on(const struct ec_domain *d) { return d->state != EC_DEPOSED && d->state != EC_CLOSING; }

/* Every part again, in order; then durable. 0, or the first failure. */
static int replay_pass(struct ec_domain *d) YIELDS
{
	int rc = 0;

	for (struct list *at = d->replay.list.next; at != &d->replay.list && !rc; at = at->next) {
		struct ec_part p = list_entry(at, struct ec_kept, node)->part;
		p.fua = false;
		p.internal = true;
		p.deadline_ns = ec_deadline(d);
		rc = ec_part_write(&p);
	}
	return rc ? rc : ec_domain_sync(d, ec_deadline(d));
}

static void replay_run(void *arg)
{
	struct ec_domain *d = arg;

	while (ec_replays(d) && goes_on(d)) {
		if (ec_domain_ready_internal(d, true, loop_now_ns() + NS_PER_S))
			continue;
		uint64_t epoch = d->epoch;
		int rc = replay_pass(d);
		if (!rc && d->epoch == epoch && ec_view_unloss(d) == 0) { /* R2 */
			list_drop(d);
			d->replay.done++;
		}
		if (rc && goes_on(d)) /* no quorum, no space: as long as nobody is told anything else, it is not lost */
			waitq_wait_until(&d->wq, loop_now_ns() + NS_PER_S / 10);
	}
	list_drop(d); /* deposed or closed: the view says that something is missing */
	d->replay.runs = false;
	ec_domain_changed(d);
	ec_domain_leave(d);
}

int ec_replay_start(struct ec_domain *d)
{
	if (!ec_replays(d) || d->replay.runs)
		return 0;
	d->active++;
	d->replay.runs = true;
	int rc = fiber_spawn(loop_self(), "ec replay", replay_run, d);
	if (rc) {
		d->replay.runs = false;
		d->active--;
	}
	return rc;
}

void ec_replay_free(struct ec_domain *d)
{
	list_drop(d);
}
