/* file.c - a file of a volume: shards on the sets their names hash to, requests cut at shard boundaries.
 *
 *   byte offset:   0            shard_bytes       2*shard_bytes
 *                  | shard 0 on set 1 | shard 1 on set 0 | shard 2 on set 1 ...
 *   request:                 [=========|=====]             pieces run side by side
 *
 * Invariants: a request that lies in one shard costs nothing here but the look at `place`; pieces of one request never
 * overlap, so they may finish in any order; a shard that does not exist is answered as zeros without asking a brick. */
#include "dht/dht_priv.h"

#include <stdio.h>

#include "core/base/bitmap.h"

#define PLACE_UNKNOWN UINT16_MAX
#define FAN_WIDTH     8u  /* pieces of one request in flight */
#define PIECE_IOVS    64u /* iovecs of one piece before it costs an allocation */
#define EXTENT_WINDOW MIB(32)

_Static_assert(DHT_MAX_SETS < PLACE_UNKNOWN, "a place fits 16 bits");

struct dht_file {
	struct dht_volume *volume; /* borrowed */
	struct gfid gfid;
	uint64_t size_bytes;
	uint64_t shard_bytes;
	uint32_t sets;
	struct ec_domain **domain; /* [sets] */
	uint16_t *place;           /* set of each shard, filled on first use; NULL in volumes of one set */
};

/* ---- open and close ---- */

struct opening {
	struct fiber *waiter;
	uint32_t running;
};

struct open_one {
	struct opening *all;
	struct dht_file *file;
	uint32_t set;
	bool create;
	int rc;
	struct err err;
};

static void open_one_fiber(void *arg)
{
	struct open_one *o = arg;
	struct ec_domain_options opt = {.gfid = o->file->gfid, .create = o->create};

	o->rc = ec_domain_open(o->file->volume->set[o->set], &opt, &o->file->domain[o->set], &o->err);
	if (--o->all->running == 0)
		fiber_wake(o->all->waiter);
}

static int open_domains(struct dht_file *f, bool create, struct err *e) YIELDS
{
	struct opening all = {.waiter = fiber_self()};
	struct open_one *v = calloc(f->sets, sizeof(*v));
	int rc = 0;

	if (!v)
		return err_set(e, -ENOMEM, "no memory");
	all.running = f->sets;
	for (uint32_t i = 0; i < f->sets; i++) {
		v[i] = (struct open_one){.all = &all, .file = f, .set = i, .create = create};
		v[i].rc = fiber_spawn(f->volume->loop, "dht-open", open_one_fiber, &v[i]);
		if (v[i].rc < 0)
			all.running--;
	}
	while (all.running > 0)
		fiber_park();
	for (uint32_t i = 0; i < f->sets && rc == 0; i++)
		if (v[i].rc < 0)
			rc = err_set(e, v[i].rc, "set %u: %s", i, v[i].err.text[0] ? v[i].err.text : err_name(v[i].rc));
	free(v);
	return rc;
}

static uint64_t shards_of(const struct dht_file *f, uint64_t size_bytes)
{
	return div_up_u64(size_bytes, f->shard_bytes);
}

int dht_file_resized(struct dht_file *f, uint64_t size_bytes)
{
	uint64_t before = shards_of(f, f->size_bytes), after = shards_of(f, size_bytes);

	assert(size_bytes <= DHT_MAX_FILE_BYTES);
	if (f->place && after > before) {
		uint16_t *grown = reallocarray(f->place, after + 1, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		for (uint64_t i = before + 1; i <= after; i++)
			grown[i] = PLACE_UNKNOWN;
		f->place = grown;
	}
	f->size_bytes = size_bytes;
	return 0;
}

int dht_open(struct dht_volume *v, const char *name, const struct gfid *gfid, uint64_t size_bytes, bool create,
	     struct dht_file **ret, struct err *e)
{
	struct dht_file *f;
	int rc = dht_layout_load(v, e);

	if (rc < 0)
		return err_wrap(e, rc, "open %s", name);
	f = calloc(1, sizeof(*f));
	if (!f)
		return err_set(e, -ENOMEM, "open %s: no memory", name);
	f->volume = v;
	f->gfid = *gfid;
	f->sets = v->sets;
	f->shard_bytes = v->shard_bytes;
	f->domain = calloc(v->sets, sizeof(struct ec_domain *));
	if (v->sets > 1) {
		f->place = malloc(sizeof(*f->place));
		if (f->place)
			f->place[0] = PLACE_UNKNOWN;
	}
	if (!f->domain || (v->sets > 1 && !f->place) || dht_file_resized(f, size_bytes) < 0)
		rc = err_set(e, -ENOMEM, "no memory");
	else
		rc = open_domains(f, create, e);
	if (rc < 0) {
		dht_close(f);
		return err_wrap(e, rc, "open %s", name);
	}
	*ret = f;
	return 0;
}

void dht_close(struct dht_file *f)
{
	if (!f)
		return;
	for (uint32_t i = 0; f->domain && i < f->sets; i++)
		if (f->domain[i])
			ec_domain_close(f->domain[i]);
	free(f->domain);
	free(f->place);
	free(f);
}

/* ---- one request over several shards ---- */

static struct ec_domain *domain_of(struct dht_file *f, uint32_t shard)
{
	if (!f->place)
		return f->domain[0];
	if (f->place[shard] == PLACE_UNKNOWN)
		f->place[shard] = (uint16_t)dht_place(f->volume, &f->gfid, shard);
	return f->domain[f->place[shard]];
}

uint32_t dht_shards(const struct dht_file *f)
{
	return (uint32_t)shards_of(f, f->size_bytes);
}

int dht_scrub(struct dht_file *f, uint32_t shard, uint32_t region, struct ec_scrub_count *count)
{
	if (shard >= dht_shards(f))
		return -ENOENT;
	return ec_scrub_region(domain_of(f, shard), shard, region, count);
}

struct fan;
typedef int fan_fn(struct fan *fan, uint32_t index, uint32_t shard, uint64_t shard_off, uint64_t off,
		   uint64_t len); /* YIELDS */

/* Lives on the requester's stack; workers take piece after piece until all are taken or one failed. */
struct fan {
	struct dht_file *file;
	fan_fn *run;
	uint64_t start, next, end;
	uint32_t taken;
	unsigned running; /* worker fibers besides the requester */
	int rc;
	struct fiber *waiter;
	/* what run needs */
	struct bufs *parts;
	struct iov data;
	bool fua;
};

static void fan_work(struct fan *n) YIELDS
{
	while (n->next < n->end && n->rc == 0) {
		struct dht_file *f = n->file;
		uint64_t off = n->next, shard_off = off % f->shard_bytes;
		uint64_t len = min_u64(n->end - off, f->shard_bytes - shard_off);
		int rc;

		n->next += len;
		rc = n->run(n, n->taken++, (uint32_t)(off / f->shard_bytes), shard_off, off, len);
		if (rc < 0 && n->rc == 0)
			n->rc = rc;
	}
}

static void fan_fiber(void *arg)
{
	struct fan *n = arg;

	fan_work(n);
	if (--n->running == 0)
		fiber_wake(n->waiter);
}

static int fan_out(struct fan *n) YIELDS
{
	uint64_t last = (n->end - 1) / n->file->shard_bytes, pieces = last - n->start / n->file->shard_bytes + 1;
	unsigned extra = (unsigned)min_u64(pieces, FAN_WIDTH) - 1;

	n->next = n->start;
	n->waiter = fiber_self();
	/* Fewer fibers than wished only means less at once. */
	for (unsigned i = 0; i < extra && fiber_spawn(n->file->volume->loop, "dht-piece", fan_fiber, n) == 0; i++)
		n->running++;
	fan_work(n);
	while (n->running > 0)
		fiber_park();
	return n->rc;
}

static bool in_one_shard(const struct dht_file *f, uint64_t off, uint64_t len)
{
	return off % f->shard_bytes + len <= f->shard_bytes;
}

/* ---- read ---- */

static int read_shard(struct dht_file *f, uint32_t shard, uint64_t shard_off, uint32_t len, struct bufs *out) YIELDS
{
	struct ec_domain *d = domain_of(f, shard);

	return ec_shard_absent(d, shard) ? bufs_add_zeros(out, len) : ec_read(d, shard, shard_off, len, out);
}

static int read_piece(struct fan *n, uint32_t index, uint32_t shard, uint64_t shard_off, uint64_t off,
		      uint64_t len) YIELDS
{
	(void)off;
	return read_shard(n->file, shard, shard_off, (uint32_t)len, &n->parts[index]);
}

static int bufs_move(struct bufs *to, struct bufs *from)
{
	int rc = 0;

	for (unsigned i = 0; i < from->n && rc == 0; i++)
		rc = bufs_add(to, from->v[i].owner, from->v[i].ptr, from->v[i].len);
	bufs_release(from);
	return rc;
}

/* At most FAN_WIDTH shards. */
static int read_shards(struct dht_file *f, uint64_t off, uint64_t len, struct bufs *out) YIELDS
{
	struct bufs parts[FAN_WIDTH];
	struct fan n = {.file = f, .run = read_piece, .start = off, .end = off + len, .parts = parts};
	int rc;

	for (unsigned i = 0; i < FAN_WIDTH; i++)
		bufs_init(&parts[i]);
	rc = fan_out(&n);
	for (unsigned i = 0; i < FAN_WIDTH; i++) {
		if (rc == 0)
			rc = bufs_move(out, &parts[i]);
		else
			bufs_release(&parts[i]);
	}
	return rc;
}

int dht_read(struct dht_file *f, uint64_t off, uint32_t len, struct bufs *out)
{
	uint64_t left = len;

	if (len == 0 || !range_inside(off, len, f->size_bytes))
		return len == 0 ? 0 : -EINVAL;
	if (in_one_shard(f, off, len))
		return read_shard(f, (uint32_t)(off / f->shard_bytes), off % f->shard_bytes, len, out);
	while (left > 0) {
		/* As far as FAN_WIDTH shards go, the first of them maybe in part. */
		uint64_t part = min_u64(left, FAN_WIDTH * f->shard_bytes - off % f->shard_bytes);
		int rc = read_shards(f, off, part, out);

		if (rc < 0)
			return rc;
		off += part;
		left -= part;
	}
	return 0;
}

/* ---- write, zero, flush ---- */

static int write_piece(struct fan *n, uint32_t index, uint32_t shard, uint64_t shard_off, uint64_t off,
		       uint64_t len) YIELDS
{
	struct iovec few[PIECE_IOVS], *many = NULL;
	unsigned count = iov_cut(n->data, off - n->start, len, few, PIECE_IOVS);
	int rc;

	(void)index;
	if (count == 0) {
		many = malloc(n->data.n * sizeof(*many));
		if (!many)
			return -ENOMEM;
		count = iov_cut(n->data, off - n->start, len, many, n->data.n);
	}
	rc = ec_write(domain_of(n->file, shard), shard, shard_off, (struct iov){.v = many ? many : few, .n = count, .owner = n->data.owner}, n->fua);
	free(many);
	return rc;
}

int dht_write(struct dht_file *f, uint64_t off, struct iov data, bool fua)
{
	uint64_t len = iov_bytes(data);
	struct fan n = {.file = f, .run = write_piece, .start = off, .end = off + len, .data = data, .fua = fua};

	if (len == 0 || !range_inside(off, len, f->size_bytes))
		return len == 0 ? 0 : -EINVAL;
	if (in_one_shard(f, off, len)) {
		uint32_t shard = (uint32_t)(off / f->shard_bytes);

		return ec_write(domain_of(f, shard), shard, off % f->shard_bytes, data, fua);
	}
	return fan_out(&n);
}

static int zero_piece(struct fan *n, uint32_t index, uint32_t shard, uint64_t shard_off, uint64_t off,
		      uint64_t len) YIELDS
{
	struct ec_domain *d = domain_of(n->file, shard);

	(void)index;
	(void)off;
	return ec_shard_absent(d, shard) ? 0 : ec_zero(d, shard, shard_off, len, n->fua);
}

int dht_zero(struct dht_file *f, uint64_t off, uint64_t len, bool fua)
{
	struct fan n = {.file = f, .run = zero_piece, .start = off, .end = off + len, .fua = fua};

	if (len == 0 || !range_inside(off, len, f->size_bytes))
		return len == 0 ? 0 : -EINVAL;
	return fan_out(&n);
}

struct flushing {
	struct dht_file *file;
	struct fiber *waiter;
	uint32_t next;
	unsigned running;
	int rc;
};

static void flush_work(struct flushing *n) YIELDS
{
	while (n->next < n->file->sets) {
		int rc = ec_flush(n->file->domain[n->next++]);

		if (rc < 0 && n->rc == 0)
			n->rc = rc;
	}
}

static void flush_fiber(void *arg)
{
	struct flushing *n = arg;

	flush_work(n);
	if (--n->running == 0)
		fiber_wake(n->waiter);
}

int dht_flush(struct dht_file *f)
{
	struct flushing n = {.file = f, .waiter = fiber_self()};

	for (unsigned i = 1; i < min_u64(f->sets, FAN_WIDTH); i++)
		if (fiber_spawn(f->volume->loop, "dht-flush", flush_fiber, &n) == 0)
			n.running++;
	flush_work(&n);
	while (n.running > 0)
		fiber_park();
	return n.rc;
}

/* ---- extents ---- */

struct run { /* equal neighbours joined before they are emitted */
	int (*emit)(void *arg, uint64_t len, bool data);
	void *arg;
	uint64_t len;
	bool data;
};

static int run_flush(struct run *r)
{
	uint64_t len = r->len;

	r->len = 0;
	return len > 0 ? r->emit(r->arg, len, r->data) : 0;
}

static int run_add(struct run *r, uint64_t len, bool data)
{
	int rc = r->len > 0 && r->data != data ? run_flush(r) : 0;

	r->data = data;
	r->len += len;
	return rc;
}

/* bits: one per block from the block that holds byte `off` on. */
static int run_add_bits(struct run *r, const uint64_t *bits, uint64_t off, uint64_t len)
{
	uint64_t first = round_down_u64(off, MYFS_BLOCK), end = off + len;
	size_t count = (round_up_u64(end, MYFS_BLOCK) - first) / MYFS_BLOCK;
	int rc = 0;

	for (size_t at = 0; at < count && rc == 0;) {
		bool data = bitmap_test(bits, at);
		size_t stop = data ? bitmap_next_clear(bits, count, at) : bitmap_next(bits, count, at);
		uint64_t from = max_u64(off, first + at * MYFS_BLOCK), to = min_u64(end, first + stop * MYFS_BLOCK);

		rc = run_add(r, to - from, data);
		at = stop;
	}
	return rc;
}

int dht_extents(struct dht_file *f, uint64_t off, uint64_t len, int (*emit)(void *arg, uint64_t len, bool data),
		void *arg)
{
	struct run run = {.emit = emit, .arg = arg};
	uint64_t end = off + len;
	int stop = 0;

	if (!range_inside(off, len, f->size_bytes))
		return -EINVAL;
	while (off < end && stop == 0) {
		uint32_t shard = (uint32_t)(off / f->shard_bytes);
		uint64_t shard_off = off % f->shard_bytes;
		struct ec_domain *d = domain_of(f, shard);
		uint64_t part = min_u64(end - off, f->shard_bytes - shard_off);

		if (ec_shard_absent(d, shard)) {
			stop = run_add(&run, part, false);
		} else {
			uint64_t bits[BITMAP_WORDS(EXTENT_WINDOW / MYFS_BLOCK)] = {0};
			uint64_t first = round_down_u64(shard_off, MYFS_BLOCK);
			int rc;

			part = min_u64(part, EXTENT_WINDOW - (shard_off - first));
			rc = ec_extents(d, shard, first, round_up_u64(shard_off + part, MYFS_BLOCK) - first, bits);
			if (rc < 0)
				return rc;
			stop = run_add_bits(&run, bits, shard_off, part);
		}
		off += part;
	}
	if (stop == 0)
		run_flush(&run);
	return 0;
}

/* ---- figures ---- */

int dht_usage(struct dht_volume *v, const struct gfid *gfid, uint64_t *ret_bytes, struct err *e)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < v->sets; i++) {
		uint64_t bytes;
		unsigned answered;
		int rc = ec_set_usage(v->set[i], gfid, &bytes, &answered);

		if (rc < 0)
			return err_set(e, rc, "volume %s: set %u: no brick answers", v->name, i);
		sum += bytes / answered * ec_set_geometry(v->set[i])->n;
	}
	*ret_bytes = sum;
	return 0;
}

static void status_add(struct ec_domain_status *sum, const struct ec_domain_status *one)
{
	sum->missed_bytes += one->missed_bytes;
	sum->healed_bytes += one->healed_bytes;
	sum->reads += one->reads;
	sum->writes += one->writes;
	sum->flushes += one->flushes;
	sum->zeros += one->zeros;
	sum->bytes_read += one->bytes_read;
	sum->bytes_written += one->bytes_written;
	sum->rounds += one->rounds;
	sum->degraded_reads += one->degraded_reads;
	sum->checksum_errors += one->checksum_errors;
	sum->repaired_blocks += one->repaired_blocks;
	sum->loss_gen += one->loss_gen;
	sum->replays += one->replays;
	sum->pings += one->pings;
	sum->serving &= one->serving;
}

void dht_file_status(const struct dht_file *f, unsigned set, struct ec_domain_status *ret)
{
	assert(set < f->sets);
	ec_domain_status(f->domain[set], ret);
	for (uint32_t i = 0; i < f->sets; i++) {
		struct ec_domain_status one;

		if (i == set)
			continue;
		ec_domain_status(f->domain[i], &one);
		status_add(ret, &one);
	}
}

uint64_t dht_file_losses(const struct dht_file *f, uint64_t *ret_own)
{
	uint64_t sum = 0;

	*ret_own = 0;
	for (uint32_t i = 0; i < f->sets; i++) {
		uint64_t own;

		sum += ec_domain_loss_gen(f->domain[i], &own);
		*ret_own += own;
	}
	return sum;
}
