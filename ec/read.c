/* read.c - requests to blocks: whole rows straight from the data bricks, verified here; anything odd goes through a
 * cut.
 *
 *   blocks of one region          chunk j's are consecutive rows on one brick: one READ per chunk, all at once
 *   every member answers well     slices of the received buffers, no copy
 *   brick out, lost, wrong sum    C lock on those rows, consistent cut of K members, rebuild (cut.c); a wrong sum is
 *                                 counted and repaired in the background
 *
 * A READ leaves after every COMMIT queued before it on that connection, so an acknowledged write is seen
 * (ec_call_start). What was read is returned when the fence says that we still were the owner (confirm.c). */
#include "core/base/crc32c.h"
#include "ec/ec_priv.h"

#define WINDOW 4u            /* regions read at once by one request */
#define RETRY_NS (20 * NS_PER_MS)

/* ---- pooled legs ---- */

static struct ec_reads *reads_new(struct ec_set *s)
{
	if (!list_empty(&s->free_reads)) {
		struct ec_reads *r = list_first(&s->free_reads, struct ec_reads, node);
		list_del(&r->node);
		return r;
	}
	struct ec_reads *r = calloc(1, sizeof(*r) + s->geo.n * sizeof(r->legs[0]));
	if (r)
		list_init(&r->node);
	return r;
}

/* A request holds some while it wants one for a cut; a cut holds one and wants no more. So cuts have a pool of their
 * own to wait for, and always end. */
static bool reads_room(const struct ec_set *s, bool cut)
{
	return s->reads_out < (cut ? 2 * EC_POOL_MAX : EC_POOL_MAX);
}

static struct ec_reads *reads_try(struct ec_set *s, bool cut)
{
	struct ec_reads *r = reads_room(s, cut) ? reads_new(s) : NULL;

	if (!r)
		return NULL;
	s->reads_out++;
	rpc_group_init(&r->group);
	for (uint32_t b = 0; b < s->geo.n; b++)
		r->legs[b].started = false;
	return r;
}

struct ec_reads *ec_reads_get(struct ec_set *s, bool cut) YIELDS
{
	while (!reads_room(s, cut))
		waitq_wait(&s->pool_wq);
	return reads_try(s, cut);
}

void ec_reads_put(struct ec_set *s, struct ec_reads *r)
{
	if (!r)
		return;
	for (uint32_t b = 0; b < s->geo.n; b++)
		if (r->legs[b].started)
			rpc_call_release(&r->legs[b].call);
	list_push_front(&s->free_reads, &r->node);
	s->reads_out--;
	waitq_wake_all(&s->pool_wq);
}

void ec_read_start(struct ec_domain *d, struct ec_reads *r, uint32_t b, uint32_t shard, uint32_t row, uint32_t nrows)
{
	struct ec_read_leg *leg = &r->legs[b];

	assert(!leg->started && nrows >= 1 && nrows <= BP_MAX_ROWS_PAYLOAD);
	leg->started = true;
	leg->args = (struct bp_read_args){.shard = shard, .row = row, .nrows = nrows};
	gfid_to_wire(&d->gfid, leg->args.domain);
	leg->res = (struct bp_read_res){.crc = {.crc_val = leg->crc}}; /* decoded in place: no memory per request */
	ec_call_init(&leg->call, BP_READ, (xdrproc_t)xdr_bp_read_args, &leg->args, (xdrproc_t)xdr_bp_read_res,
		     &leg->res);
	ec_call_start(d, b, &leg->call, &r->group);
}

int ec_read_verify(const struct ec_read_leg *leg)
{
	uint32_t n = leg->args.nrows;

	if (leg->call.rc)
		return leg->call.rc;
	if (leg->res.zero)
		return leg->call.payload_in.len ? -MYFS_E_PROTO : 0;
	if (leg->res.crc.crc_len != n || leg->call.payload_in.len != (size_t)n * MYFS_BLOCK)
		return -MYFS_E_PROTO;
	for (uint32_t i = 0; i < n; i++)
		if (crc32c(leg->call.payload_in.ptr + (size_t)i * MYFS_BLOCK, MYFS_BLOCK) != leg->crc[i])
			return -MYFS_E_BADSUM;
	return 0;
}

void ec_read_blame(struct ec_domain *d, uint32_t b, int rc)
{
	switch (rc) {
	case -MYFS_E_GONE:
		break; /* its connection's end was reported already */
	case -MYFS_E_FENCED:
		ec_domain_depose(d);
		break;
	case -MYFS_E_BADSUM:
	case -EIO: /* one block of it is rotten or unreadable: rebuilt and rewritten, which a dying brick will refuse */
		d->count.checksum_errors++;
		d->set->bricks[b].checksum_errors++;
		break;
	default:
		ec_domain_suspect(d, b, rc);
	}
}

/* ---- one region's part of a request ---- */

struct part {
	uint32_t lba, nblocks;      /* inside one region */
	uint32_t start;             /* rotation */
	uint32_t row, nrows;        /* hull over all chunks */
	uint32_t chunks;            /* mask of data chunks touched */
	struct ec_reads *reads;
	struct buf *rebuilt;        /* hull rows of every touched chunk, in chunk order; when the cut was needed */
};

/* Rows of chunk j that blocks [lba, lba + n) touch. n = 0: none. */
static void rows_of_chunk(const struct ec_geometry *g, const struct part *p, uint32_t j, uint32_t *ret_row,
			  uint32_t *ret_n)
{
	uint32_t rpc = g->rows_per_chunk, stripe = g->k * rpc;
	uint32_t first = p->lba, end = p->lba + p->nblocks;
	uint32_t s0 = first / stripe, s1 = (end - 1) / stripe;
	uint32_t in0 = first - s0 * stripe, in1 = end - s1 * stripe; /* position in first stripe; end in last */
	uint32_t lo = j * rpc, hi = lo + rpc;
	uint32_t a = in0 <= lo ? 0 : in0 >= hi ? rpc : in0 - lo;
	uint32_t b = in1 <= lo ? 0 : in1 >= hi ? rpc : in1 - lo;
	uint32_t row = s0 * rpc + a, row_end = s1 * rpc + b;

	*ret_row = row;
	*ret_n = row_end > row ? row_end - row : 0;
}

static void part_hull(const struct ec_geometry *g, struct part *p)
{
	uint32_t lo = UINT32_MAX, hi = 0;

	p->chunks = 0;
	for (uint32_t j = 0; j < g->k; j++) {
		uint32_t row, n;
		rows_of_chunk(g, p, j, &row, &n);
		if (!n)
			continue;
		p->chunks |= MASK(j);
		lo = row < lo ? row : lo;
		hi = row + n > hi ? row + n : hi;
	}
	p->row = lo;
	p->nrows = hi - lo;
}

static uint32_t part_brick(const struct ec_geometry *g, const struct part *p, uint32_t chunk)
{
	return ec_brick_of(g, p->start, p->row / g->region_rows, chunk);
}

/* True when every touched chunk's brick is a live member: then READs to all of them are on their way. */
static bool part_start_direct(struct ec_domain *d, uint32_t shard, struct part *p)
{
	const struct ec_geometry *g = geo_of(d);

	for (uint32_t j = 0; j < g->k; j++)
		if (mask_has(p->chunks, j) && !mask_has(ec_insync_live(d), part_brick(g, p, j)))
			return false;
	for (uint32_t j = 0; j < g->k; j++) {
		uint32_t row, n;
		if (!mask_has(p->chunks, j))
			continue;
		rows_of_chunk(g, p, j, &row, &n);
		ec_read_start(d, p->reads, part_brick(g, p, j), shard, row, n);
	}
	return true;
}

/* All legs have ended. True when every answer can be used; else *ret_rotten says which chunks not to ask again. */
static bool part_check(struct ec_domain *d, uint32_t shard, struct part *p, uint32_t *ret_rotten)
{
	const struct ec_geometry *g = geo_of(d);
	uint32_t rotten = 0;
	bool good = true;

	for (uint32_t m = p->chunks; m; m &= m - 1) {
		uint32_t j = (uint32_t)__builtin_ctz(m), b = part_brick(g, p, j);
		int rc = ec_read_verify(&p->reads->legs[b]);
		if (!rc)
			continue;
		good = false;
		ec_read_blame(d, b, rc);
		if (rc != -MYFS_E_BADSUM && rc != -EIO)
			continue;
		rotten |= MASK(j);
		ec_repair_note(d, shard, p->reads->legs[b].args.row, p->reads->legs[b].args.nrows, j);
	}
	*ret_rotten = rotten;
	return good;
}

/* The whole part from a consistent cut. */
static int part_read_cut(struct ec_domain *d, uint32_t shard, struct part *p, uint32_t avoid,
			 uint64_t deadline_ns) YIELDS
{
	struct rowlock lock = {.mode = MUTATED(H7) ? ROWLOCK_D : ROWLOCK_C, .shard = shard, .row = p->row, .nrows = p->nrows};
	size_t chunk_len = (size_t)p->nrows * MYFS_BLOCK;
	uint8_t *dst[EC_MAX_BRICKS] = {0};
	int rc;

	d->count.degraded_reads++;
	ec_reads_put(d->set, p->reads);
	p->reads = NULL;
	p->rebuilt = buf_alloc(chunk_len * mask_count(p->chunks));
	if (!p->rebuilt)
		return -ENOMEM;
	uint32_t i = 0;
	for (uint32_t m = p->chunks; m; m &= m - 1)
		dst[__builtin_ctz(m)] = p->rebuilt->data + i++ * chunk_len;
	do {
		rc = ec_domain_ready(d, false, deadline_ns);
		if (rc)
			return rc;
		if (rowlock_acquire_until(&d->locks, &lock, deadline_ns))
			return -MYFS_E_QUORUM;
		rc = ec_cut_read(d, shard, p->row, p->nrows, p->chunks, avoid, dst);
		rowlock_release(&d->locks, &lock);
		if (rc == -EAGAIN) /* the keeper is looking into it */
			waitq_wait_until(&d->wq, min_u64(deadline_ns, loop_now_ns() + RETRY_NS));
	} while (rc == -EAGAIN && loop_now_ns() < deadline_ns);
	return rc == -EAGAIN ? -MYFS_E_QUORUM : rc;
}

/* Adds blocks [lba, lba + n) of one chunk run to out, cut to [skip, skip + len) of their bytes. */
static int emit_run(const struct ec_geometry *g, const struct part *p, uint32_t lba, size_t skip, size_t len,
		    struct bufs *out)
{
	struct ec_block_addr at = ec_block_locate(g, lba);

	if (p->rebuilt) {
		uint32_t index = mask_count(p->chunks & (MASK(at.chunk) - 1));
		size_t off = ((size_t)index * p->nrows + (at.row - p->row)) * MYFS_BLOCK;
		return bufs_add(out, p->rebuilt, p->rebuilt->data + off + skip, len);
	}
	const struct ec_read_leg *leg = &p->reads->legs[part_brick(g, p, at.chunk)];
	if (leg->res.zero)
		return bufs_add_zeros(out, len);
	size_t off = (size_t)(at.row - leg->args.row) * MYFS_BLOCK;
	return bufs_add(out, leg->call.payload_in.owner, leg->call.payload_in.ptr + off + skip, len);
}

/* The part's bytes within [off, end) of the shard, in order. */
static int part_emit(const struct ec_geometry *g, const struct part *p, uint64_t off, uint64_t end, struct bufs *out)
{
	uint32_t lba = p->lba, last = p->lba + p->nblocks;
	int rc = 0;

	while (!rc && lba < last) {
		uint32_t run = g->rows_per_chunk - lba % g->rows_per_chunk; /* to the end of the chunk */
		if (run > last - lba)
			run = last - lba;
		uint64_t from = max_u64((uint64_t)lba * MYFS_BLOCK, off);
		uint64_t to = min_u64((uint64_t)(lba + run) * MYFS_BLOCK, end);
		rc = emit_run(g, p, lba, from - (uint64_t)lba * MYFS_BLOCK, to - from, out);
		lba += run;
	}
	return rc;
}

static void part_release(struct ec_domain *d, struct part *p)
{
	ec_reads_put(d->set, p->reads);
	buf_unref(p->rebuilt);
	p->reads = NULL;
	p->rebuilt = NULL;
}

/* Chunks whose READ is not back yet; 0 when they may as well be waited for: without their bricks there are too few. */
static uint32_t part_late(const struct ec_domain *d, const struct part *p)
{
	uint32_t late = 0, bricks = 0;

	for (uint32_t m = p->chunks; m; m &= m - 1) {
		uint32_t j = (uint32_t)__builtin_ctz(m), b = part_brick(geo_of(d), p, j);
		if (p->reads->legs[b].started && !p->reads->legs[b].call.ended) {
			late |= MASK(j);
			bricks |= MASK(b);
		}
	}
	return mask_count(ec_insync_live(d) & ~bricks) >= geo_of(d)->k ? late : 0;
}

static uint64_t part_hedge_ns(const struct ec_domain *d, const struct part *p)
{
	uint64_t ns = 0;

	for (uint32_t m = p->chunks; m; m &= m - 1)
		ns = max_u64(ns, ec_grey_hedge_ns(&d->set->bricks[part_brick(geo_of(d), p, (uint32_t)__builtin_ctz(m))]));
	return ns;
}

/* Until all READs ended, or the part was read around those that are late. */
static void part_wait(struct ec_domain *d, uint32_t shard, struct part *p, uint64_t begun_ns) YIELDS
{
	struct rpc_group *g = &p->reads->group;

	rpc_group_wait(g, UINT32_MAX, begun_ns + part_hedge_ns(d, p));
	struct ec_hedge_range r = {.shard = shard, .row = p->row, .nrows = p->nrows, .want = p->chunks};
	if (g->ended < g->started)
		r.late = part_late(d, p);
	if (!r.late) {
		rpc_group_wait_all(g);
		return;
	}
	p->rebuilt = ec_hedge_race(d, &r, g);
	for (uint32_t b = 0; b < geo_of(d)->n && p->rebuilt; b++) {
		struct rpc_call *call = &p->reads->legs[b].call;
		if (!p->reads->legs[b].started || call->ended)
			continue;
		ec_grey_sample(&d->set->bricks[b], loop_now_ns() - call->start_ns);
		rpc_call_cancel(call);
	}
}

/* Up to WINDOW regions: all READs out, then all of them in. */
static int window_read(struct ec_domain *d, uint32_t shard, struct part *parts, unsigned n, uint64_t deadline_ns) YIELDS
{
	bool direct[WINDOW];
	int rc = ec_domain_ready(d, false, deadline_ns);
	uint64_t begun_ns = loop_now_ns();

	if (rc)
		return rc;
	for (unsigned i = 0; i < n; i++)
		direct[i] = part_start_direct(d, shard, &parts[i]);
	for (unsigned i = 0; i < n; i++)
		part_wait(d, shard, &parts[i], begun_ns);
	for (unsigned i = 0; i < n && !rc; i++) {
		uint32_t rotten = 0;
		if (parts[i].rebuilt)
			continue;
		if (!direct[i] || !part_check(d, shard, &parts[i], &rotten))
			rc = part_read_cut(d, shard, &parts[i], rotten, deadline_ns);
	}
	return rc;
}

static int read_all(struct ec_domain *d, uint32_t shard, uint64_t off, uint64_t end, uint64_t deadline_ns,
		    struct bufs *out) YIELDS
{
	const struct ec_geometry *g = geo_of(d);
	uint32_t lba = (uint32_t)(off / MYFS_BLOCK), last = (uint32_t)div_up_u64(end, MYFS_BLOCK);
	uint32_t region_blocks = g->region_rows * g->k;
	uint32_t start = ec_rotation_start(g, &d->gfid, shard);
	int rc = 0;

	while (!rc && lba < last) {
		struct part parts[WINDOW];
		unsigned n = 0;
		memset(parts, 0, sizeof(parts));
		for (; n < WINDOW && lba < last; n++) {
			uint32_t left = region_blocks - lba % region_blocks;
			parts[n].reads = n ? reads_try(d->set, false) : ec_reads_get(d->set, false);
			if (!parts[n].reads)
				break;
			parts[n].lba = lba;
			parts[n].nblocks = left < last - lba ? left : last - lba;
			parts[n].start = start;
			part_hull(g, &parts[n]);
			lba += parts[n].nblocks;
		}
		rc = n ? window_read(d, shard, parts, n, deadline_ns) : -ENOMEM;
		for (unsigned i = 0; i < n; i++) {
			if (!rc)
				rc = part_emit(g, &parts[i], off, end, out);
			part_release(d, &parts[i]);
		}
	}
	return rc;
}

static int read_fenced(struct ec_domain *d, uint32_t shard, uint64_t off, uint64_t end, struct bufs *out) YIELDS
{
	uint64_t deadline_ns = ec_deadline(d);
	size_t had = out->bytes;
	struct ec_ticket ticket;
	int rc;

	do {
		bufs_cut(out, had);
		rc = ec_domain_ready(d, false, deadline_ns);
		if (rc)
			return rc;
		ec_confirm_begin(d, &ticket);
		rc = ec_shard_absent(d, shard) ? bufs_add_zeros(out, end - off) : read_all(d, shard, off, end, deadline_ns, out);
		if (!rc)
			rc = ec_confirm_wait(d, &ticket, deadline_ns);
		ec_confirm_end(d, &ticket);
	} while (rc == -EAGAIN);
	return rc;
}

int ec_read(struct ec_domain *d, uint32_t shard, uint64_t off, uint32_t len, struct bufs *out) YIELDS
{
	if (!range_inside(off, len, geo_of(d)->shard_bytes))
		return -EINVAL;
	if (len == 0)
		return 0;
	int rc = ec_domain_enter(d);
	if (rc)
		return rc;
	rc = read_fenced(d, shard, off, off + len, out);
	if (!rc) {
		d->count.reads++;
		d->count.bytes_read += len;
	}
	ec_domain_leave(d);
	return rc;
}
