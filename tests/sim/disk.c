/* disk.c - a simulated file system on a simulated disk: what is synced survives power loss, what is not may survive whole, in part or not at all.
 *
 *   names:  live entries  <- every change at once           pages: cur[]      <- every write at once
 *           changes since the last sync_dir                        durable[]  <- at datasync
 *
 * At power loss the changes of names since the last sync_dir are undone, but for a random prefix (file systems journal metadata in
 * order); each 512-byte sector of a page that was not synced becomes, independently, one of the versions it had since the last sync.
 * Invariants: D1 a page with more than one reference is never written in place. D2 a page without a dirty record is the same in cur and durable. */
#include "tests/sim/disk_priv.h"

#include <fcntl.h>
#include <stdio.h>

#include "core/base/buf.h"

struct page *const PAGE_HOLE = NULL;

static struct page *page_ref(struct page *p)
{
	if (p != NULL)
		p->refs++;
	return p;
}

static void page_unref(struct page *p)
{
	if (p != NULL && --p->refs == 0)
		free(p);
}

/* Journals are born as megabytes of written zeros: all of them are this page, which always keeps a reference (D1). */
static struct page zero_page = {.refs = 1};

static struct page *page_new(void)
{
	struct page *p = aligned_alloc(_Alignof(struct page), sizeof(*p));
	assert(p != NULL);
	p->refs = 1;
	return p;
}

static struct page *page_copy(const struct page *from)
{
	struct page *p = page_new();
	if (from != NULL)
		memcpy(p->data, from->data, MYFS_BLOCK);
	else
		memset(p->data, 0, MYFS_BLOCK);
	return p;
}

static struct page *page_at(struct page *const *v, size_t n, size_t i)
{
	return i < n ? v[i] : PAGE_HOLE;
}

static void pages_grow(struct pages *p, size_t n)
{
	if (n <= p->n)
		return;
	size_t cap = p->n ? p->n : 8;
	while (cap < n)
		cap *= 2;
	p->v = realloc(p->v, cap * sizeof(struct page *));
	assert(p->v != NULL);
	memset(p->v + p->n, 0, (cap - p->n) * sizeof(struct page *));
	p->n = cap;
}

static void pages_free(struct pages *p)
{
	for (size_t i = 0; i < p->n; i++)
		page_unref(p->v[i]);
	free(p->v);
	*p = (struct pages){NULL, 0};
}

/* ---- inodes ---- */

struct inode *inode_new(struct disk *d, uint32_t mode)
{
	struct inode *i = calloc(1, sizeof(*i));
	assert(i != NULL);
	i->ino = ++d->next_ino;
	i->mode = mode;
	list_init(&i->dirty);
	list_init(&i->xattrs);
	list_init(&i->children);
	list_push_back(&d->inodes, &i->node);
	return i;
}

static void dirty_drop(struct inode *i, struct dirty *x)
{
	for (unsigned k = 0; k < x->n; k++)
		page_unref(x->versions[k]);
	i->dirty_at[x->index] = NULL;
	list_del(&x->node);
	free(x);
}

static void forget_dirty(struct inode *i, bool all)
{
	list_for_each_safe(x, &i->dirty, struct dirty, node)
		if (!x->forgotten || all)
			dirty_drop(i, x);
}

void inode_free(struct inode *i)
{
	forget_dirty(i, true);
	free(i->dirty_at);
	pages_free(&i->cur);
	pages_free(&i->durable);
	list_for_each_safe(x, &i->xattrs, struct xattr, node) {
		list_del(&x->node);
		free(x);
	}
	list_del(&i->node);
	free(i->target);
	free(i);
}

/* The page's record, new and empty when there was none. */
static struct dirty *dirty_of(struct inode *i, size_t index, bool *ret_new)
{
	if (index >= i->dirty_n) {
		size_t n = index + index / 2 + 8;
		i->dirty_at = realloc(i->dirty_at, n * sizeof(struct dirty *));
		assert(i->dirty_at != NULL);
		memset(i->dirty_at + i->dirty_n, 0, (n - i->dirty_n) * sizeof(struct dirty *));
		i->dirty_n = n;
	}
	*ret_new = i->dirty_at[index] == NULL;
	if (*ret_new) {
		struct dirty *x = calloc(1, sizeof(*x));
		assert(x != NULL);
		x->index = index;
		list_push_front(&i->dirty, &x->node);
		i->dirty_at[index] = x;
	}
	return i->dirty_at[index];
}

/* Remembers the version about to be replaced, so that a crash may bring it back. */
static void note_version(struct disk *d, struct inode *i, size_t index)
{
	bool fresh;
	struct dirty *x = dirty_of(i, index, &fresh);
	x->forgotten = false;
	if (fresh)
		return; /* the version before the first unsynced write is the durable one */
	unsigned slot = x->n < MAX_VERSIONS ? x->n++ : (unsigned)prng_below(world_prng(d->world), MAX_VERSIONS);
	if (slot < MAX_VERSIONS && x->versions[slot] != NULL)
		page_unref(x->versions[slot]);
	x->versions[slot] = page_ref(page_at(i->cur.v, i->cur.n, index));
}

static void set_page(struct disk *d, struct inode *i, size_t index, struct page *p)
{
	pages_grow(&i->cur, index + 1);
	int more = (p != NULL) - (i->cur.v[index] != NULL);
	d->used_pages += (uint64_t)(int64_t)more;
	i->n_pages += (uint64_t)(int64_t)more;
	page_unref(i->cur.v[index]);
	i->cur.v[index] = p;
}

/* The next n bytes of what is written, from pieces. */
struct source {
	const struct iovec *v;
	size_t used; /* of the first one */
};

static void source_take(struct source *s, uint8_t *dst, size_t n)
{
	while (n > 0) {
		size_t part = min_u64(n, s->v->iov_len - s->used);
		if (part > 0)
			memcpy(dst, (const uint8_t *)s->v->iov_base + s->used, part);
		dst += part;
		n -= part;
		s->used += part;
		if (s->used == s->v->iov_len) {
			s->v++;
			s->used = 0;
		}
	}
}

/* A page is one version of one call, however many pieces it comes in. */
int inode_writev(struct disk *d, struct inode *i, uint64_t off, const struct iovec *v, unsigned n_pieces)
{
	struct source from = {v, 0};
	size_t len = iov_bytes((struct iov){.v = v, .n = n_pieces});
	while (len > 0) {
		size_t index = off / MYFS_BLOCK, in = off % MYFS_BLOCK, n = min_u64(len, MYFS_BLOCK - in);
		struct page *old = page_at(i->cur.v, i->cur.n, index);
		if (old == NULL && d->used_pages >= d->capacity_pages)
			return -ENOSPC;
		note_version(d, i, index);
		struct page *p = n == MYFS_BLOCK ? page_new() : page_copy(old);
		source_take(&from, p->data + in, n);
		if (n == MYFS_BLOCK && mem_is_zero(p->data, n)) {
			page_unref(p);
			p = page_ref(&zero_page);
		}
		set_page(d, i, index, p);
		off += n;
		len -= n;
		i->size = max_u64(i->size, off);
	}
	return 0;
}

int inode_write(struct disk *d, struct inode *i, uint64_t off, const uint8_t *src, size_t len)
{
	struct iovec v = {.iov_base = (void *)(uintptr_t)src, .iov_len = len};
	return inode_writev(d, i, off, &v, 1);
}

size_t inode_read(const struct inode *i, uint64_t off, uint8_t *dst, size_t len)
{
	if (off >= i->size)
		return 0;
	len = min_u64(len, i->size - off);
	for (size_t done = 0; done < len;) {
		size_t index = (off + done) / MYFS_BLOCK, in = (off + done) % MYFS_BLOCK, n = min_u64(len - done, MYFS_BLOCK - in);
		const struct page *p = page_at(i->cur.v, i->cur.n, index);
		if (p != NULL)
			memcpy(dst + done, p->data + in, n);
		else
			memset(dst + done, 0, n);
		done += n;
	}
	return len;
}

/* Zeroes [off, off+len): whole pages become holes. */
int inode_punch(struct disk *d, struct inode *i, uint64_t off, uint64_t len)
{
	static const uint8_t zeros[MYFS_BLOCK];
	uint64_t end = min_u64(off + len, round_up_u64(i->size, MYFS_BLOCK));
	while (off < end) {
		size_t index = off / MYFS_BLOCK, in = off % MYFS_BLOCK;
		uint64_t n = min_u64(end - off, MYFS_BLOCK - in);
		if (page_at(i->cur.v, i->cur.n, index) != NULL) {
			if (n == MYFS_BLOCK) {
				note_version(d, i, index);
				set_page(d, i, index, PAGE_HOLE);
			} else {
				uint64_t size = i->size;
				int rc = inode_write(d, i, off, zeros, n);
				i->size = size;
				if (rc < 0)
					return rc;
			}
		}
		off += n;
	}
	return 0;
}

int inode_truncate(struct disk *d, struct inode *i, uint64_t size)
{
	if (size < i->size) {
		int rc = inode_punch(d, i, size, i->size - size);
		if (rc < 0)
			return rc;
	}
	i->size = size;
	return 0;
}

void inode_sync(struct inode *i)
{
	list_for_each(x, &i->dirty, struct dirty, node) {
		if (x->forgotten)
			continue;
		pages_grow(&i->durable, x->index + 1);
		page_unref(i->durable.v[x->index]);
		i->durable.v[x->index] = page_ref(page_at(i->cur.v, i->cur.n, x->index));
	}
	forget_dirty(i, false);
	i->durable_size = i->size;
}

void inode_evict(struct disk *d, struct inode *i, bool all)
{
	list_for_each_safe(x, &i->dirty, struct dirty, node) {
		if (!x->forgotten || (!all && prng_chance(world_prng(d->world), 0.5)))
			continue;
		set_page(d, i, x->index, page_ref(page_at(i->durable.v, i->durable.n, x->index)));
		dirty_drop(i, x);
	}
}

/* The kernel takes the pages for clean: later syncs do not write them, and it may drop them at once or when it likes. */
void inode_sync_failed(struct disk *d, struct inode *i)
{
	list_for_each(x, &i->dirty, struct dirty, node)
		x->forgotten = true;
	if (prng_chance(world_prng(d->world), 0.3))
		inode_evict(d, i, false);
}

static const uint8_t *version_bytes(const struct inode *i, const struct dirty *x, unsigned pick)
{
	static const uint8_t zeros[MYFS_BLOCK];
	if (x->forgotten)
		pick = 0;
	const struct page *p = pick == 0 ? page_at(i->durable.v, i->durable.n, x->index) : pick <= x->n ? x->versions[pick - 1] : page_at(i->cur.v, i->cur.n, x->index);
	return p != NULL ? p->data : zeros;
}

/* One page after a power loss: all sectors of one version (the usual case), or each of its own. */
static void crash_page(struct disk *d, struct inode *i, const struct dirty *x)
{
	struct prng *r = world_prng(d->world);
	bool torn = d->crash == CRASH_SOME && prng_chance(r, 0.2);
	unsigned pick = d->crash == CRASH_KEEPS ? x->n + 1 : d->crash == CRASH_LOSES ? 0 : (unsigned)prng_below(r, x->n + 2);
	struct page *p = page_copy(NULL);
	for (size_t s = 0; s < MYFS_BLOCK; s += SECTOR) {
		if (torn)
			pick = (unsigned)prng_below(r, x->n + 2);
		memcpy(p->data + s, version_bytes(i, x, pick) + s, SECTOR);
	}
	bool hole = mem_is_zero(p->data, MYFS_BLOCK) && page_at(i->durable.v, i->durable.n, x->index) == NULL;
	if (hole) {
		page_unref(p);
		p = PAGE_HOLE;
	}
	set_page(d, i, x->index, p);
}

void inode_crash(struct disk *d, struct inode *i)
{
	/* What the platter holds now is what the next crash falls back to. */
	list_for_each(x, &i->dirty, struct dirty, node) {
		crash_page(d, i, x);
		pages_grow(&i->durable, x->index + 1);
		page_unref(i->durable.v[x->index]);
		i->durable.v[x->index] = page_ref(i->cur.v[x->index]);
	}
	forget_dirty(i, true);
	if (i->size == i->durable_size)
		return;
	if (prng_chance(world_prng(d->world), 0.5))
		i->size = i->durable_size;
	for (size_t k = round_up_u64(i->size, MYFS_BLOCK) / MYFS_BLOCK; k < i->cur.n; k++) {
		set_page(d, i, k, PAGE_HOLE);
		if (k < i->durable.n) {
			page_unref(i->durable.v[k]);
			i->durable.v[k] = PAGE_HOLE;
		}
	}
	i->durable_size = i->size;
}

/* ---- the disk ---- */

static struct disk *disk_alloc(const char *name, uint64_t capacity_pages)
{
	struct disk *d = calloc(1, sizeof(*d));
	assert(d != NULL);
	snprintf(d->name, sizeof(d->name), "%s", name);
	list_init(&d->inodes);
	list_init(&d->files);
	list_init(&d->stores);
	d->capacity_pages = capacity_pages;
	names_init(d);
	return d;
}

struct disk *disk_new(struct host *h, const char *name, uint64_t capacity_bytes)
{
	struct disk *d = disk_alloc(name, capacity_bytes / MYFS_BLOCK);
	d->host = h;
	d->world = host_world(h);
	host_add_disk(h, d);
	return d;
}

static struct pages pages_share(const struct pages *p)
{
	struct pages x = {NULL, 0};
	size_t n = p->n;
	while (n > 0 && p->v[n - 1] == NULL)
		n--;
	pages_grow(&x, n);
	for (size_t k = 0; k < n; k++)
		x.v[k] = page_ref(p->v[k]);
	return x;
}

/* Everything of `from`, as durable as it can be; d is empty. Pages are shared, so `from` must outlive the clone. */
void disk_clone(struct disk *d, const struct disk *from)
{
	struct inode **by_number = calloc(from->next_ino + 1, sizeof(*by_number));
	assert(by_number != NULL && list_empty(&d->order));
	inode_free(d->root);
	list_for_each(i, &from->inodes, struct inode, node) {
		d->next_ino = i->ino - 1;
		struct inode *x = inode_new(d, i->mode);
		x->cur = pages_share(&i->cur);
		x->durable = pages_share(&i->cur);
		x->size = x->durable_size = i->size;
		x->n_pages = i->n_pages;
		x->target = i->target != NULL ? strdup(i->target) : NULL;
		by_number[i->ino] = x;
	}
	d->next_ino = from->next_ino;
	d->used_pages = from->used_pages;
	d->root = by_number[from->root->ino];
	names_clone(d, from, by_number);
	free(by_number);
}

struct disk *disk_image(const struct disk *from)
{
	struct disk *d = disk_alloc(from->name, from->capacity_pages);
	disk_clone(d, from);
	return d;
}

void disk_drop_handles(struct disk *d)
{
	list_for_each_safe(f, &d->files, struct sim_file, node) {
		list_del(&f->node);
		free(f);
	}
	list_for_each_safe(s, &d->stores, struct sim_store, node) {
		list_del(&s->node);
		free(s);
	}
	d->n_locks = 0;
}

void disk_evict(struct disk *d, bool all)
{
	list_for_each(i, &d->inodes, struct inode, node)
		inode_evict(d, i, all);
}

void disk_host_down(struct disk *d, bool power_lost)
{
	disk_drop_handles(d);
	if (!power_lost) {
		if (prng_chance(world_prng(d->world), 0.5))
			disk_evict(d, false);
		return;
	}
	double fate = (double)prng_below(world_prng(d->world), 100) / 100.0; /* disks often kept everything, or nothing */
	d->crash = fate < 0.35 ? CRASH_KEEPS : fate < 0.5 ? CRASH_LOSES : CRASH_SOME;
	if (d->crash_set != DISK_CRASH_CHANCE)
		d->crash = d->crash_set == DISK_CRASH_KEEPS ? CRASH_KEEPS : CRASH_LOSES;
	names_crash(d);
	list_for_each(i, &d->inodes, struct inode, node)
		inode_crash(d, i);
}

void disk_wipe(struct disk *d)
{
	disk_drop_handles(d);
	names_free(d);
	list_for_each_safe(i, &d->inodes, struct inode, node)
		inode_free(i);
	d->used_pages = 0;
	d->lie_needle[0] = '\0'; /* what was wrong with the old disk went with it */
	memset(d->fail, 0, sizeof(d->fail));
	names_init(d);
}

void disk_free(struct disk *d)
{
	disk_drop_handles(d);
	names_free(d);
	list_for_each_safe(i, &d->inodes, struct inode, node)
		inode_free(i);
	free(d);
}

void disk_set_crash(struct disk *d, enum disk_crash crash)
{
	d->crash_set = crash;
}

void disk_set_slow(struct disk *d, double probability, uint64_t extra_ns)
{
	d->slow_probability = probability;
	d->slow_ns = extra_ns;
}

void disk_fail(struct disk *d, enum disk_fault kind, unsigned n)
{
	d->fail[kind] = n;
}

void disk_set_capacity(struct disk *d, uint64_t bytes)
{
	d->capacity_pages = bytes / MYFS_BLOCK;
}

static uint64_t inodes_used(const struct disk *d)
{
	uint64_t n = 0;
	list_for_each(i, &d->inodes, struct inode, node)
		n += i->links > 0;
	return n;
}

void disk_set_inodes_left(struct disk *d, uint64_t n)
{
	d->max_inodes = n == UINT64_MAX ? 0 : inodes_used(d) + n;
}

uint64_t disk_inodes_left(const struct disk *d)
{
	uint64_t used = d->max_inodes != 0 ? inodes_used(d) : 0;
	return d->max_inodes == 0 ? UINT64_MAX : d->max_inodes > used ? d->max_inodes - used : 0;
}

uint64_t disk_capacity(const struct disk *d)
{
	return d->capacity_pages * MYFS_BLOCK;
}

uint64_t disk_used(const struct disk *d)
{
	return d->used_pages * MYFS_BLOCK;
}

void disk_lie_once(struct disk *d, enum disk_lie lie, const char *needle)
{
	d->lie = lie;
	snprintf(d->lie_needle, sizeof(d->lie_needle), "%s", needle);
}

bool disk_bit_rot(struct disk *d, const char *needle)
{
	struct prng *r = world_prng(d->world);
	size_t n = 0;
	struct inode *pick = NULL;
	size_t pick_page = 0;
	/* Reservoir choice over every stored page of a matching file. */
	list_for_each(i, &d->inodes, struct inode, node) {
		char path[512];
		if (!names_path_of(d, i, path, sizeof(path)) || strstr(path, needle) == NULL)
			continue;
		for (size_t k = 0; k < i->cur.n; k++) {
			if (i->cur.v[k] != NULL && prng_below(r, ++n) == 0) {
				pick = i;
				pick_page = k;
			}
		}
	}
	if (pick == NULL)
		return false;
	struct page *p = page_copy(pick->cur.v[pick_page]);
	uint64_t bit = prng_below(r, MYFS_BLOCK * 8);
	p->data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	set_page(d, pick, pick_page, p);
	pages_grow(&pick->durable, pick_page + 1);
	page_unref(pick->durable.v[pick_page]);
	pick->durable.v[pick_page] = page_ref(p);
	world_trace(d->world, "%s: a bit of page %zu of inode %llu flips", d->name, pick_page, (unsigned long long)pick->ino);
	return true;
}
