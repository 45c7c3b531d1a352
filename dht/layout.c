/* layout.c - building, checking and searching the division of the hash circle.
 *
 * A layout is made once, when a volume's directories are made, and then read back from the sets: it decides where data
 * lies, so a damaged one is refused (hole, overlap) and never repaired by guessing. */
#include "dht/layout.h"

#include "core/base/bytes.h"

#define CIRCLE_LAST UINT32_MAX

static bool takes_part(const struct dht_range *r)
{
	return r->start != 0 || r->stop != 0;
}

/* Sum of all sizes; 0 when one of them is not known: then every set gets the same share. */
static unsigned __int128 total_of(const uint64_t *sizes, uint32_t sets)
{
	unsigned __int128 total = 0;

	for (uint32_t i = 0; i < sets; i++) {
		if (sizes[i] == 0)
			return 0;
		total += sizes[i];
	}
	return total;
}

static uint64_t share_of(const uint64_t *sizes, uint32_t sets, uint32_t set)
{
	unsigned __int128 total = sizes ? total_of(sizes, sets) : 0;
	unsigned __int128 share = total ? (unsigned __int128)CIRCLE_LAST * sizes[set] / total : CIRCLE_LAST / sets;

	/* Even the smallest set keeps a place, so that its range cannot be mistaken for "takes no part". */
	return share < 2 ? 2 : (uint64_t)share;
}

int dht_layout_build(struct dht_layout *ret, const uint64_t *sizes, uint32_t sets, uint32_t first, uint32_t commit)
{
	struct dht_layout l;
	uint64_t start = 0;

	if (sets == 0 || sets > DHT_MAX_SETS)
		return -EINVAL;
	l.n = sets;
	l.v = calloc(sets, sizeof(*l.v));
	if (!l.v)
		return -ENOMEM;
	for (uint32_t i = 0; i < sets; i++) {
		uint32_t set = (uint32_t)(((uint64_t)first + i) % sets);
		/* Rounding small sets up must not push the later ones off the circle: leave two points to each. */
		uint64_t room = (uint64_t)CIRCLE_LAST + 1 - start - 2u * (uint64_t)(sets - i - 1);
		uint64_t share = min_u64(share_of(sizes, sets, set), room);
		uint64_t stop = i + 1 == sets ? CIRCLE_LAST : start + share - 1;

		l.v[i] =
		    (struct dht_range){.commit = commit, .start = (uint32_t)start, .stop = (uint32_t)stop, .set = set};
		start = stop + 1;
	}
	*ret = l;
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const struct dht_range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static int check_ranges(const struct dht_range *v, uint32_t n, struct err *e)
{
	uint64_t next = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (v[i].start > next)
			return err_set(e, -EUCLEAN, "layout has a hole %08x-%08x", (unsigned)next,
				       (unsigned)(v[i].start - 1));
		if (v[i].start < next)
			return err_set(e, -EUCLEAN, "layout ranges of sets %u and %u overlap at %08x",
				       v[i ? i - 1 : 0].set, v[i].set, v[i].start);
		next = (uint64_t)v[i].stop + 1;
	}
	if (next != (uint64_t)CIRCLE_LAST + 1)
		return err_set(e, -EUCLEAN, "layout has a hole %08x-%08x", (unsigned)next, CIRCLE_LAST);
	return 0;
}

int dht_layout_assemble(struct dht_layout *ret, const struct dht_range *ranges, uint32_t n, struct err *e)
{
	struct dht_layout l = {0, NULL};
	int rc;

	if (n > DHT_MAX_SETS)
		return err_set(e, -EINVAL, "%u ranges, at most %u sets", n, DHT_MAX_SETS);
	l.v = calloc(n ? n : 1, sizeof(*l.v));
	if (!l.v)
		return err_set(e, -ENOMEM, "no memory for a layout");
	for (uint32_t i = 0; i < n; i++)
		if (takes_part(&ranges[i]))
			l.v[l.n++] = ranges[i];
	qsort(l.v, l.n, sizeof(*l.v), by_start);
	rc = check_ranges(l.v, l.n, e);
	if (rc < 0) {
		free(l.v);
		return rc;
	}
	*ret = l;
	return 0;
}

void dht_layout_free(struct dht_layout *l)
{
	if (!l)
		return;
	free(l->v);
	*l = (struct dht_layout){0, NULL};
}

uint32_t dht_layout_find(const struct dht_layout *l, uint32_t hash)
{
	uint32_t low = 0, high = l->n - 1;

	assert(l->n > 0 && l->v[0].start == 0);
	while (low < high) {
		uint32_t mid = low + (high - low + 1) / 2;

		if (l->v[mid].start <= hash)
			low = mid;
		else
			high = mid - 1;
	}
	return l->v[low].set;
}

struct dht_range dht_layout_range_of(const struct dht_layout *l, uint32_t set)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (l->v[i].set == set)
			return l->v[i];
	return (struct dht_range){.set = set};
}

void dht_range_encode(const struct dht_range *r, uint8_t out[DHT_XATTR_BYTES])
{
	struct wcur c = wcur_of(out, DHT_XATTR_BYTES);

	wcur_be32(&c, r->commit);
	wcur_be32(&c, r->type);
	wcur_be32(&c, r->start);
	wcur_be32(&c, r->stop);
	assert(!c.bad && c.left == 0);
}

int dht_range_decode(const void *xattr, size_t len, struct dht_range *ret)
{
	struct rcur c = rcur_of(xattr, len);
	struct dht_range r = {.set = ret->set};

	r.commit = rcur_be32(&c);
	r.type = rcur_be32(&c);
	r.start = rcur_be32(&c);
	r.stop = rcur_be32(&c);
	if (c.bad || c.left != 0 || r.type > 1 || r.start > r.stop)
		return -EINVAL;
	*ret = r;
	return 0;
}
