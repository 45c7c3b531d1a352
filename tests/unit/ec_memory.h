/* ec_memory.h - the face of ec/ over plain memory, so that dht/ and blockd/ can be tested without bricks.
 *
 * Included by exactly one file of a test program; its definitions take the place of the library's. What sets hold
 * outlives ec_set_close, as bricks outlive a gateway. Every call yields once, so that callers' interleavings are real.
 */
#ifndef MYFS_TEST_EC_MEMORY_H
#define MYFS_TEST_EC_MEMORY_H

#include <stdio.h>

#include "brick.h"
#include "core/base/bitmap.h"
#include "core/loop/loop.h"
#include "core/metrics/histogram.h"
#include "ec/ec.h"

#define MEM_SETS   4
#define MEM_FILES  64
#define MEM_SHARDS 64
#define MEM_NAMES  256
#define MEM_XATTRS 8

struct mem_file { /* a domain */
	bool used;
	struct gfid gfid;
	uint8_t *shard[MEM_SHARDS];
	uint64_t epoch;
	unsigned opens, closes;
};
struct mem_xattr {
	char name[64];
	uint8_t value[64];
	uint32_t len;
};
struct mem_name {
	bool used, is_dir;
	struct gfid parent, gfid;
	char name[256];
	struct mem_xattr x[MEM_XATTRS];
};
struct mem_store { /* what the bricks of one set hold */
	struct mem_file files[MEM_FILES];
	struct mem_name names[MEM_NAMES];
	struct mem_xattr root[MEM_XATTRS];
	uint64_t capacity;
};
static struct mem_store mem_stores[MEM_SETS];

static struct {
	unsigned ns_left; /* namespace changes that still work; then -MYFS_E_QUORUM */
	int open_rc;      /* what the next ec_domain_open of a LUN returns */
	bool opens_wait;  /* LUN opens wait until mem_open_go() */
	struct waitq gate;
	unsigned ns_changes, lun_opens, lun_closes, brick_calls;
	uint64_t loss_gen;          /* of every LUN */
	uint32_t insync, connected; /* masks every domain reports, ~0 = all */
} mem;

static void mem_reset(void)
{
	for (unsigned s = 0; s < MEM_SETS; s++)
		for (unsigned f = 0; f < MEM_FILES; f++)
			for (unsigned i = 0; i < MEM_SHARDS; i++)
				free(mem_stores[s].files[f].shard[i]);
	memset(mem_stores, 0, sizeof(mem_stores));
	memset(&mem, 0, sizeof(mem));
	mem.ns_left = UINT32_MAX;
	mem.insync = mem.connected = ~0u;
	waitq_init(&mem.gate);
}

struct ec_set {
	struct ec_set_config cfg;
	struct ec_geometry geo;
	struct mem_store *store;
};
struct ec_domain {
	struct ec_set *set;
	struct mem_file *file;
	uint64_t epoch;
	struct ec_domain_status status;
};

int ec_set_open(const struct ec_set_config *cfg, struct ec_set **ret, struct err *e)
{
	struct ec_set *s = calloc(1, sizeof(*s));

	(void)e;
	s->cfg = *cfg;
	ec_geometry_init(&s->geo, cfg->k, cfg->r, cfg->chunk_bytes);
	s->store = &mem_stores[cfg->set_index];
	*ret = s;
	return 0;
}

void ec_set_close(struct ec_set *s)
{
	free(s);
}

int ec_set_wait_up(struct ec_set *s, unsigned need, uint64_t deadline_ns, struct err *e)
{
	(void)s;
	(void)need;
	(void)deadline_ns;
	fiber_yield();
	return mem.ns_left == 0 ? err_set(e, -ETIMEDOUT, "bricks are away") : 0;
}

void ec_set_give_up(struct ec_set *s)
{
	(void)s;
}

const struct ec_geometry *ec_set_geometry(const struct ec_set *s)
{
	return &s->geo;
}

void ec_set_brick_status(const struct ec_set *s, unsigned index, struct ec_brick_status *ret)
{
	*ret = (struct ec_brick_status){.connected = mem.ns_left > 0 && ((mem.connected >> index) & 1)};
	snprintf(ret->label, sizeof(ret->label), "node%u:/set%u", index, s->cfg.set_index);
}

const struct histogram *ec_set_brick_round_trips(const struct ec_set *s, unsigned index)
{
	static const struct histogram none;

	(void)s;
	(void)index;
	return &none;
}

void ec_set_cache_counts(const struct ec_set *s, uint64_t *ret_hits, uint64_t *ret_misses)
{
	(void)s;
	*ret_hits = *ret_misses = 0;
}

int ec_set_brick_stat(struct ec_set *s, unsigned index, struct bp_stat_res *ret)
{
	(void)index;
	fiber_yield();
	*ret = (struct bp_stat_res){.total_bytes = s->store->capacity};
	return 0;
}

static struct mem_file *mem_file(struct mem_store *st, const struct gfid *g, bool make)
{
	struct mem_file *free_one = NULL;

	for (unsigned i = 0; i < MEM_FILES; i++) {
		if (st->files[i].used && gfid_eq(&st->files[i].gfid, g))
			return &st->files[i];
		if (!st->files[i].used && !free_one)
			free_one = &st->files[i];
	}
	if (make) {
		*free_one = (struct mem_file){.used = true, .gfid = *g};
		return free_one;
	}
	return NULL;
}

int ec_set_usage(struct ec_set *s, const struct gfid *domain, uint64_t *ret_bytes, unsigned *ret_bricks)
{
	const struct mem_file *f = mem_file(s->store, domain, false);

	fiber_yield();
	*ret_bytes = 0;
	*ret_bricks = s->geo.n;
	for (unsigned i = 0; f && i < MEM_SHARDS; i++)
		*ret_bytes += f->shard[i] ? s->geo.shard_bytes / s->geo.k * s->geo.n : 0;
	return 0;
}

void ec_set_heal_limit(struct ec_set *s, uint64_t bytes_per_s)
{
	(void)s, (void)bytes_per_s;
}
void ec_set_heal_pause(struct ec_set *s, bool paused)
{
	(void)s, (void)paused;
}

int ec_domain_open(struct ec_set *s, const struct ec_domain_options *opt, struct ec_domain **ret, struct err *e)
{
	bool make = opt->create || (opt->namespace_domain && opt->create);
	struct mem_file *f;
	struct ec_domain *d;

	fiber_yield();
	if (!opt->namespace_domain) {
		mem.lun_opens++;
		while (mem.opens_wait)
			waitq_wait(&mem.gate);
		if (mem.open_rc < 0)
			return err_set(e, mem.open_rc, "told to fail");
	}
	f = mem_file(s->store, &opt->gfid, make);
	if (!f)
		return err_set(e, -MYFS_E_UNSEEDED, "never created");
	d = calloc(1, sizeof(*d));
	d->set = s;
	d->file = f;
	d->epoch = ++f->epoch; /* an older owner is fenced from here on */
	f->opens++;
	*ret = d;
	return 0;
}

void ec_domain_close(struct ec_domain *d)
{
	fiber_yield();
	d->file->closes++;
	if (!gfid_eq(&d->file->gfid, &GFID_ROOT))
		mem.lun_closes++;
	free(d);
}

struct gfid ec_domain_gfid(const struct ec_domain *d)
{
	return d->file->gfid;
}

static int mem_enter(struct ec_domain *d)
{
	mem.brick_calls++;
	fiber_yield();
	return d->epoch == d->file->epoch ? 0 : -MYFS_E_FENCED;
}

static uint8_t *mem_shard(struct ec_domain *d, uint32_t shard)
{
	if (!d->file->shard[shard])
		d->file->shard[shard] = calloc(1, d->set->geo.shard_bytes);
	return d->file->shard[shard];
}

int ec_read(struct ec_domain *d, uint32_t shard, uint64_t off, uint32_t len, struct bufs *out)
{
	struct buf *b = buf_alloc(len);
	int rc = mem_enter(d);

	assert(range_inside(off, len, d->set->geo.shard_bytes));
	memcpy(b->data, mem_shard(d, shard) + off, len);
	if (rc == 0)
		rc = bufs_add(out, b, b->data, len);
	buf_unref(b);
	d->status.reads++;
	return rc;
}

int ec_write(struct ec_domain *d, uint32_t shard, uint64_t off, struct iov data, bool fua)
{
	int rc = mem_enter(d);

	(void)fua;
	assert(range_inside(off, iov_bytes(data), d->set->geo.shard_bytes));
	if (rc == 0)
		iov_copy_out(data, 0, mem_shard(d, shard) + off, iov_bytes(data));
	d->status.writes++;
	return rc;
}

int ec_zero(struct ec_domain *d, uint32_t shard, uint64_t off, uint64_t len, bool fua)
{
	int rc = mem_enter(d);

	(void)fua;
	assert(range_inside(off, len, d->set->geo.shard_bytes));
	if (rc == 0)
		memset(mem_shard(d, shard) + off, 0, len);
	d->status.zeros++;
	return rc;
}

int ec_flush(struct ec_domain *d)
{
	d->status.flushes++;
	return mem_enter(d);
}

int ec_extents(struct ec_domain *d, uint32_t shard, uint64_t off, uint64_t len, uint64_t *bits)
{
	int rc = mem_enter(d);

	assert(off % MYFS_BLOCK == 0 && len % MYFS_BLOCK == 0 && range_inside(off, len, d->set->geo.shard_bytes));
	for (uint64_t i = 0; i < len / MYFS_BLOCK; i++) {
		const uint8_t *p = mem_shard(d, shard) + off + i * MYFS_BLOCK;
		bool data = false;

		for (unsigned j = 0; j < MYFS_BLOCK && !data; j++)
			data = p[j] != 0;
		if (data)
			bitmap_set(bits, i);
		else
			bitmap_clear(bits, i);
	}
	return rc;
}

/* Memory does not rot: what is there is counted. */
int ec_scrub_region(struct ec_domain *d, uint32_t shard, uint32_t region, struct ec_scrub_count *count)
{
	int rc = mem_enter(d);

	if (rc == 0 && (region >= EC_REGIONS || !d->file->shard[shard]))
		rc = region >= EC_REGIONS ? -EINVAL : -ENOENT;
	if (rc == 0)
		count->bytes += (uint64_t)d->set->geo.region_rows * MYFS_BLOCK * d->set->geo.n;
	return rc;
}

bool ec_shard_absent(const struct ec_domain *d, uint32_t shard)
{
	return !d->file->shard[shard];
}

int ec_usage(struct ec_domain *d, uint64_t *ret_bytes)
{
	unsigned bricks;

	return ec_set_usage(d->set, &d->file->gfid, ret_bytes, &bricks);
}

uint64_t ec_domain_loss_gen(const struct ec_domain *d, uint64_t *ret_own)
{
	(void)d;
	*ret_own = mem.loss_gen;
	return mem.loss_gen;
}

void ec_domain_status(const struct ec_domain *d, struct ec_domain_status *ret)
{
	uint32_t all = (uint32_t)((UINT64_C(1) << d->set->geo.n) - 1);

	*ret = d->status;
	ret->loss_gen = mem.loss_gen;
	ret->insync = mem.insync & all;
	ret->connected = mem.connected & all;
	ret->serving = true;
}

/* ---- names ---- */

static struct mem_name *mem_by_name(struct mem_store *st, const void *parent, const char *name)
{
	for (unsigned i = 0; i < MEM_NAMES; i++)
		if (st->names[i].used && memcmp(st->names[i].parent.b, parent, 16) == 0 &&
		    strcmp(st->names[i].name, name) == 0)
			return &st->names[i];
	return NULL;
}

static struct mem_xattr *mem_xattrs(struct mem_store *st, const void *gfid)
{
	if (memcmp(gfid, GFID_ROOT.b, 16) == 0)
		return st->root;
	for (unsigned i = 0; i < MEM_NAMES; i++)
		if (st->names[i].used && memcmp(st->names[i].gfid.b, gfid, 16) == 0)
			return st->names[i].x;
	return NULL;
}

static void mem_set_xattrs(struct mem_xattr *x, const struct bp_nsop_args *op)
{
	for (uint32_t i = 0; i < op->xattrs.xattrs_len; i++) {
		const struct bp_xattr *in = &op->xattrs.xattrs_val[i];
		unsigned at = 0;

		while (x[at].name[0] && strcmp(x[at].name, in->name) != 0)
			at++;
		assert(at < MEM_XATTRS && in->value.value_len <= sizeof(x->value));
		snprintf(x[at].name, sizeof(x[at].name), "%s", in->name);
		memcpy(x[at].value, in->value.value_val, in->value.value_len);
		x[at].len = in->value.value_len;
	}
}

static int mem_make(struct mem_store *st, const struct bp_nsop_args *op)
{
	struct mem_name *n = mem_by_name(st, op->parent, op->name);

	if (n)
		return memcmp(n->gfid.b, op->gfid, 16) == 0 ? 0 : -EEXIST;
	for (n = st->names; n->used; n++)
		;
	*n = (struct mem_name){.used = true, .is_dir = op->op == BP_NS_MKDIR};
	memcpy(n->parent.b, op->parent, 16);
	memcpy(n->gfid.b, op->gfid, 16);
	snprintf(n->name, sizeof(n->name), "%s", op->name);
	mem_set_xattrs(n->x, op);
	return 0;
}

static int mem_rename(struct mem_store *st, const struct bp_nsop_args *op)
{
	struct mem_name *from = mem_by_name(st, op->parent, op->name), *to = mem_by_name(st, op->parent2, op->name2);

	if (to)
		return memcmp(to->gfid.b, op->gfid, 16) == 0 ? 0 : -EEXIST;
	if (!from || memcmp(from->gfid.b, op->gfid, 16) != 0)
		return -ENOENT;
	snprintf(from->name, sizeof(from->name), "%s", op->name2);
	return 0;
}

static int mem_unlink(struct mem_store *st, const struct bp_nsop_args *op)
{
	struct mem_name *n = mem_by_name(st, op->parent, op->name);
	struct gfid g;
	struct mem_file *f;

	if (n)
		n->used = false;
	memcpy(g.b, op->gfid, 16);
	f = mem_file(st, &g, false);
	for (unsigned i = 0; f && i < MEM_SHARDS; i++) {
		free(f->shard[i]);
		f->shard[i] = NULL;
	}
	if (f)
		f->used = false;
	return 0;
}

int ec_ns_apply(struct ec_domain *d, struct bp_nsop_args *op, struct err *e)
{
	struct mem_store *st = d->set->store;
	struct mem_xattr *x;
	int rc = mem_enter(d);

	if (rc < 0)
		return rc;
	if (mem.ns_left == 0)
		return err_set(e, -MYFS_E_QUORUM, "bricks are away");
	mem.ns_left -= mem.ns_left != UINT32_MAX;
	mem.ns_changes++;
	switch (op->op) {
	case BP_NS_MKDIR:
	case BP_NS_MKFILE:
		return mem_make(st, op);
	case BP_NS_RENAME:
		return mem_rename(st, op);
	case BP_NS_UNLINK:
		return mem_unlink(st, op);
	case BP_NS_SETXATTR:
		x = mem_xattrs(st, op->gfid);
		if (!x)
			return -ENOENT;
		mem_set_xattrs(x, op);
		return 0;
	default:
		return -EINVAL;
	}
}

static void mem_entry(struct bp_entry *out, const char *name, const void *gfid, bool is_dir, const struct mem_xattr *x)
{
	unsigned n = 0;

	memset(out, 0, sizeof(*out));
	out->name = strdup(name);
	memcpy(out->gfid, gfid, 16);
	out->is_dir = is_dir;
	while (x && x[n].name[0])
		n++;
	out->xattrs.xattrs_val = calloc(n + 1, sizeof(struct bp_xattr));
	out->xattrs.xattrs_len = n;
	for (unsigned i = 0; i < n; i++) {
		struct bp_xattr *to = &out->xattrs.xattrs_val[i];

		to->name = strdup(x[i].name);
		to->value.value_len = x[i].len;
		to->value.value_val = malloc(x[i].len + 1);
		memcpy(to->value.value_val, x[i].value, x[i].len);
	}
}

static int mem_name_order(const void *a, const void *b)
{
	const struct mem_name *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

/* Two names a page, so that paging is exercised. */
static int mem_readdir(struct mem_store *st, const struct bp_nsread_args *a, struct bp_nsread_res *res)
{
	const struct mem_name *v[MEM_NAMES];
	unsigned n = 0, take = 0;

	for (unsigned i = 0; i < MEM_NAMES; i++)
		if (st->names[i].used && memcmp(st->names[i].parent.b, a->gfid, 16) == 0 &&
		    strcmp(st->names[i].name, a->name) > 0)
			v[n++] = &st->names[i];
	qsort(v, n, sizeof(v[0]), mem_name_order);
	take = n < 2 ? n : 2;
	res->more = n > take;
	res->entries.entries_val = calloc(take + 1, sizeof(struct bp_entry));
	res->entries.entries_len = take;
	for (unsigned i = 0; i < take; i++)
		mem_entry(&res->entries.entries_val[i], v[i]->name, v[i]->gfid.b, v[i]->is_dir, NULL);
	return 0;
}

int ec_ns_read(struct ec_domain *d, struct bp_nsread_args *a, struct bp_nsread_res *res)
{
	struct mem_store *st = d->set->store;
	const struct mem_name *n = NULL;
	const struct mem_xattr *x = NULL;
	int rc = mem_enter(d);

	if (rc < 0)
		return rc;
	if (a->op == BP_NS_READDIR)
		return mem_readdir(st, a, res);
	if (a->op == BP_NS_LOOKUP) {
		n = mem_by_name(st, a->gfid, a->name);
		x = n ? n->x : NULL;
	} else {
		x = mem_xattrs(st, a->gfid);
	}
	if (!x)
		return -ENOENT;
	res->entries.entries_val = calloc(1, sizeof(struct bp_entry));
	res->entries.entries_len = 1;
	mem_entry(&res->entries.entries_val[0], n ? n->name : "", n ? (const void *)n->gfid.b : a->gfid, n && n->is_dir,
		  x);
	return 0;
}

#endif
