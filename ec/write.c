/* write.c - client requests to parts: what is cut where, and how many run at once. PROTOCOL.md, A write.
 *
 *   request      |..unaligned..|..part of a stripe..|....whole stripes of a region....|....of the next....|..rest..|
 *   parts         RMW block      PARTIAL              FULL                              FULL                PARTIAL ...
 *
 * Parts of one request are independent transactions and run side by side, at most WORKERS of them; atomicity is the 4
 * KiB block, as on disks. Data is sent from the caller's memory unless a part's bytes are scattered. */
#include "ec/ec_priv.h"

#define WORKERS 8u
#define PARTS_MAX (EC_REGIONS + 8u) /* a block and a piece of a stripe at each end, and one part per region between */

struct request {
	struct ec_domain *d;
	uint32_t shard;
	uint64_t first, end;        /* bytes of the shard */
	uint64_t at;                /* next byte nobody took */
	struct iov data;            /* n == 0: zeroes */
	bool zero, fua;
	uint64_t deadline_ns;
	int rc;                     /* first failure; stops the taking of parts */
	unsigned taken;
	struct ec_part_done done[PARTS_MAX]; /* in the order taken */
	unsigned running;
	struct fiber *waiter;
};

/* Takes the next part. Pure but for r->at. */
static struct ec_part take_part(struct request *r)
{
	const struct ec_geometry *g = geo_of(r->d);
	struct ec_part p = {.d = r->d, .shard = r->shard, .fua = r->fua, .deadline_ns = r->deadline_ns};
	uint32_t stripe = g->k * g->rows_per_chunk, region = g->region_rows * g->k;
	uint64_t left = r->end - r->at;

	p.lba = (uint32_t)(r->at / MYFS_BLOCK);
	p.skip = (uint32_t)(r->at % MYFS_BLOCK);
	if (p.skip || left < MYFS_BLOCK) {
		p.kind = EC_PART_PARTIAL;
		p.nblocks = 1;
		p.bytes = (uint32_t)min_u64(MYFS_BLOCK - p.skip, left);
		r->at += p.bytes;
		return p;
	}
	uint32_t blocks = (uint32_t)(left / MYFS_BLOCK), to_region = region - p.lba % region;
	uint32_t unit = g->k == 1 ? 1 : stripe; /* what counts as whole */
	if (p.lba % unit == 0 && blocks >= unit) {
		p.kind = r->zero ? EC_PART_ZERO : EC_PART_FULL;
		p.nblocks = r->zero || blocks < to_region ? blocks - blocks % unit : to_region;
	} else {
		uint32_t to_stripe = stripe - p.lba % stripe;
		p.kind = EC_PART_PARTIAL;
		p.nblocks = blocks < to_stripe ? blocks : to_stripe;
	}
	r->at += (uint64_t)p.nblocks * MYFS_BLOCK;
	return p;
}

/* Points the part at its bytes; *ret_buf owned when they had to be gathered. */
static int part_data(const struct request *r, struct ec_part *p, struct buf **ret_buf)
{
	struct iovec piece;
	uint64_t off = (uint64_t)p->lba * MYFS_BLOCK + p->skip - r->first;
	size_t len = p->bytes ? p->bytes : (size_t)p->nblocks * MYFS_BLOCK;

	*ret_buf = NULL;
	if (r->zero)
		return 0;
	if (iov_cut(r->data, off, len, &piece, 1) == 1) {
		p->data = piece.iov_base;
		p->owner = r->data.owner;
		return 0;
	}
	struct buf *b = buf_alloc(len);
	if (!b)
		return -ENOMEM;
	iov_copy_out(r->data, off, b->data, len);
	p->data = b->data;
	p->owner = b;
	*ret_buf = b;
	return 0;
}

static void work(struct request *r) YIELDS
{
	while (r->rc == 0 && r->at < r->end) {
		struct buf *own;
		struct ec_part p = take_part(r);
		assert(r->taken < PARTS_MAX);
		p.done = &r->done[r->taken++];
		int rc = part_data(r, &p, &own);
		if (!rc)
			rc = ec_part_write(&p);
		buf_unref(own);
		if (rc && !r->rc)
			r->rc = rc;
	}
}

static void worker(void *arg)
{
	struct request *r = arg;

	work(r);
	if (--r->running == 0 && r->waiter)
		fiber_wake(r->waiter);
}

/* The caller's fiber works too; helpers only when there is more than one part. */
static int run_parts(struct request *r) YIELDS
{
	struct request probe = *r;

	r->at = probe.at = r->first;
	take_part(&probe);
	for (unsigned i = 1; i < WORKERS && probe.at < r->end; i++) {
		take_part(&probe);
		r->running++;
		if (fiber_run(loop_self(), "ec write", worker, r)) {
			r->running--; /* fewer helpers then */
			break;
		}
	}
	work(r);
	r->waiter = fiber_self();
	while (r->running)
		fiber_park();
	return r->rc;
}

/* A rollback may have taken back parts that were done while others still waited. Nobody was told that they are done, and nobody can see them any
 * more: they are written again. Those that survived are not: somebody may have overwritten them since. */
static int redo_lost(struct request *r) YIELDS
{
	unsigned i = 0;

	r->at = r->first;
	while (r->rc == 0 && r->at < r->end) {
		struct ec_part p = take_part(r);
		struct buf *own;
		p.done = &r->done[i++];
		if (!ec_lost(r->d, p.done))
			continue;
		r->rc = part_data(r, &p, &own);
		if (r->rc == 0)
			r->rc = ec_part_write(&p);
		buf_unref(own);
	}
	return r->rc;
}

static int request_run(struct request *r) YIELDS
{
	uint64_t rollbacks = r->d->rollbacks;
	int rc = run_parts(r);

	while (rc == 0 && r->d->rollbacks != rollbacks) {
		rollbacks = r->d->rollbacks;
		rc = redo_lost(r);
	}
	return rc;
}

int ec_write(struct ec_domain *d, uint32_t shard, uint64_t off, struct iov data, bool fua) YIELDS
{
	size_t len = iov_bytes(data);
	struct request r = {.d = d, .shard = shard, .first = off, .end = off + len, .data = data, .fua = fua};

	if (!range_inside(off, len, geo_of(d)->shard_bytes))
		return -EINVAL;
	if (len == 0)
		return 0;
	int rc = ec_domain_enter(d);
	if (rc)
		return rc;
	r.deadline_ns = ec_deadline(d);
	rc = request_run(&r);
	if (!rc) {
		d->count.writes++;
		d->count.bytes_written += len;
	}
	ec_domain_leave(d);
	return rc;
}

int ec_zero(struct ec_domain *d, uint32_t shard, uint64_t off, uint64_t len, bool fua) YIELDS
{
	struct request r = {.d = d, .shard = shard, .first = off, .end = off + len, .zero = true, .fua = fua};

	if (!range_inside(off, len, geo_of(d)->shard_bytes))
		return -EINVAL;
	if (len == 0)
		return 0;
	int rc = ec_domain_enter(d);
	if (rc)
		return rc;
	r.deadline_ns = ec_deadline(d);
	rc = ec_domain_ready(d, true, r.deadline_ns);
	if (!rc && !ec_shard_absent(d, shard))
		rc = request_run(&r);
	if (!rc)
		d->count.zeros++;
	ec_domain_leave(d);
	return rc;
}
