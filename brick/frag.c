/* frag.c - open fragments: the cache of them, their rows, their durability. Invariants F1-F3 in frag.h. */
#include "brick/frag_priv.h"

#include <fcntl.h>

#include "brick/xattr.h"
#include "core/base/buf.h"
#include "core/base/crc32c.h"
#include "core/base/mutate.h"
#include "core/loop/loop.h"

#define ZERO_ROWS 16u /* rows written at once where holes cannot be punched */

/* ---- opening the files of one fragment ---- */

static int open_sums(struct frag *f)
{
	struct tree *t = f->tree;
	char path[TREE_PATH];
	int rc;

	tree_fanout_path(TREE_CSUMS, &f->gfid, path);
	rc = store_open(t->store, path, O_RDWR, 0, &f->sums_file);
	if (rc == -ENOENT) { /* new, or lost: then its rows count as zeros, which readers find out to be wrong */
		rc = tree_fanout_make(t, TREE_CSUMS, &f->gfid);
		if (!rc)
			rc = store_open(t->store, path, O_RDWR | O_CREAT, 0600, &f->sums_file);
		f->names_dirty = true;
	}
	return rc ? rc : csum_load(&f->sums, f->sums_file);
}

/* Data without checksums must not be taken for holes: see csum_assume_zeros. */
static int find_unsummed_data(struct frag *f)
{
	uint64_t end = (uint64_t)f->sums.rows * MYFS_BLOCK, off = 0;

	while (off < end) {
		int64_t data = file_seek_data(f->data, off);
		if (data == -ENXIO)
			return 0;
		if (data < 0)
			return (int)data;
		int64_t hole = file_seek_hole(f->data, (uint64_t)data);
		if (hole < 0)
			return hole == -ENXIO ? 0 : (int)hole;
		uint64_t from = (uint64_t)data / MYFS_BLOCK, to = div_up_u64(min_u64((uint64_t)hole, end), MYFS_BLOCK);
		if (from < to)
			csum_assume_zeros(&f->sums, (uint32_t)from, (uint32_t)(to - from));
		off = max_u64((uint64_t)hole, off + 1);
	}
	return 0;
}

/* Handle, name and xattrs of the shard's file, made or completed after a crash. */
static int make_file(struct frag *f)
{
	struct tree *t = f->tree;
	char name[SHARD_NAME], handle[TREE_PATH], path[TREE_PATH];
	uint8_t size[8];
	int rc;

	if (f->shard > 0) { /* a name whose handle is missing still is the shard */
		shards_name(&f->domain, f->shard, name);
		rc = tree_join(TREE_SHARD_DIR, name, path);
		if (!rc && shards_has(t, &f->domain, f->shard)) {
			rc = tree_fanout_make(t, TREE_HANDLES, &f->gfid);
			if (!rc)
				rc = store_link(t->store, path, tree_handle_path(&f->gfid, handle));
		}
		if (rc && rc != -EEXIST && rc != -ENOENT)
			return rc;
	}
	rc = object_make_handle(t, &f->gfid);
	if (rc || f->shard == 0)
		return rc;
	rc = object_link_name(t, &f->gfid, &GFID_SHARD_DIR, TREE_SHARD_DIR, name);
	if (rc == -EEXIST) { /* an unfinished file of another life has the name */
		rc = landfill_take(t, path);
		if (!rc)
			rc = object_link_name(t, &f->gfid, &GFID_SHARD_DIR, TREE_SHARD_DIR, name);
	}
	if (rc)
		return rc;
	xattr_be64((uint64_t)t->id.shard_rows * MYFS_BLOCK * t->id.k, size);
	rc = tree_setxattr(t, tree_handle_path(&f->gfid, handle), XATTR_EC_SIZE, size, sizeof(size));
	return rc ? rc : shards_add(t, &f->domain, f->shard);
}

/* True when a file at the handle never got as far as its size: nothing in it was ever durable, a checkpoint ends with the names. */
static bool is_stillborn(struct frag *f, const char *handle)
{
	uint8_t size[8];

	return f->shard > 0 && !shards_has(f->tree, &f->domain, f->shard) &&
	       tree_getxattr(f->tree, handle, XATTR_EC_SIZE, size, sizeof(size)) == -ENODATA;
}

/* True when the file at the handle is complete: all steps of make_file were done. */
static bool is_complete(struct frag *f, const char *handle)
{
	uint8_t size[8];

	return f->shard == 0 ? tree_getxattr(f->tree, handle, XATTR_GFID, size, 0) > 0
			     : shards_has(f->tree, &f->domain, f->shard) &&
				   tree_getxattr(f->tree, handle, XATTR_EC_SIZE, size, sizeof(size)) == sizeof(size);
}

static int load(struct frag *f, bool create)
{
	char handle[TREE_PATH];
	int rc = store_open(f->tree->store, tree_handle_path(&f->gfid, handle), O_RDWR, 0, &f->data);
	bool named = f->shard > 0 && shards_has(f->tree, &f->domain, f->shard);
	f->inherited = rc == 0;
	bool stillborn = rc == 0 && is_stillborn(f, handle), fresh = stillborn || (rc == -ENOENT && !named);
	if ((rc == -ENOENT && (create || named)) || (rc == 0 && !is_complete(f, handle))) {
		file_close(f->data);
		f->data = NULL;
		f->names_dirty = true;
		rc = make_file(f);
		if (!rc)
			rc = store_open(f->tree->store, handle, O_RDWR, 0, &f->data);
	}
	if (!rc && stillborn)
		rc = file_truncate(f->data, 0);
	if (!rc)
		rc = csum_init(&f->sums, f->tree->id.shard_rows);
	if (!rc)
		rc = open_sums(f);
	if (!rc && fresh)
		csum_clear(&f->sums); /* a loss of power took the file away, or a part of it, and not them */
	return rc ? rc : find_unsummed_data(f);
}

/* ---- the cache ---- */

static bool is_dirty(const struct frag *f)
{
	return f->data_dirty || f->names_dirty || f->sums.dirty;
}

static void frag_free(struct frag *f)
{
	if (list_linked(&f->bucket)) {
		list_del(&f->bucket);
		f->tree->frags_open--;
	}
	list_del(&f->lru);
	file_close(f->data);
	file_close(f->sums_file);
	csum_release(&f->sums);
	free(f);
}

void frag_cache_drop(struct tree *t)
{
	for (size_t i = 0; i < TREE_BUCKETS; i++) {
		list_for_each_safe(f, &t->frags[i], struct frag, bucket)
		{
			assert(f->refs == 0); /* F1 */
			frag_free(f);
		}
	}
}

static struct frag *find(struct tree *t, const struct gfid *domain, uint32_t shard)
{
	list_for_each(f, &t->frags[tree_bucket(domain, shard)], struct frag, bucket)
	{
		if (f->shard == shard && gfid_eq(&f->domain, domain))
			return f;
	}
	return NULL;
}

/* Keeps the number of open fragments near the limit: clean ones go first; when all are unsynced the oldest is synced.
 */
static void make_room(struct tree *t) YIELDS
{
	while (t->frags_open >= t->frags_limit && !list_empty(&t->lru)) {
		struct frag *victim = NULL;
		list_for_each(f, &t->lru, struct frag, lru)
		{
			if (!is_dirty(f)) {
				victim = f;
				break;
			}
		}
		if (!victim) {
			victim = list_first(&t->lru, struct frag, lru);
			list_del(&victim->lru);
			victim->refs++;
			int rc = frag_sync(victim);
			frag_put(victim);
			if (rc) /* whoever syncs it next is told (H18) */
				return;
			continue;
		}
		frag_free(victim);
	}
}

static struct frag *frag_new(struct tree *t, const struct gfid *domain, uint32_t shard)
{
	struct frag *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->tree = t;
	f->domain = *domain;
	f->shard = shard;
	f->gfid = gfid_of_shard(domain, shard);
	f->refs = 1;
	f->loading = true;
	waitq_init(&f->loaded);
	fmutex_init(&f->sync_lock);
	list_init(&f->lru);
	list_push_back(&t->frags[tree_bucket(domain, shard)], &f->bucket);
	t->frags_open++;
	return f;
}

static void unref_failed(struct frag *f)
{
	if (--f->refs == 0)
		frag_free(f);
}

/* Somebody has it open or is opening it. */
static int join(struct frag *f, struct frag **ret) YIELDS
{
	list_del(&f->lru);
	f->refs++;
	while (f->loading)
		waitq_wait(&f->loaded);
	int rc = f->load_rc;
	if (rc)
		unref_failed(f);
	else
		*ret = f;
	return rc;
}

static int open_new(struct tree *t, const struct gfid *domain, uint32_t shard, bool create, struct frag **ret) YIELDS
{
	struct frag *f = frag_new(t, domain, shard);

	if (!f)
		return -ENOMEM;
	int rc = load(f, create);
	f->loading = false;
	f->load_rc = rc;
	if (rc) { /* the next frag_get tries afresh */
		list_del(&f->bucket);
		t->frags_open--;
	}
	waitq_wake_all(&f->loaded);
	if (rc)
		unref_failed(f);
	else
		*ret = f;
	return rc;
}

int frag_get(struct tree *t, const struct gfid *domain, uint32_t shard, bool create, struct frag **ret)
{
	if (shard >= TREE_SHARDS_MAX)
		return create ? -EFBIG : -ENOENT;
	for (;;) {
		struct frag *f = find(t, domain, shard);
		if (f) {
			int rc = join(f, ret);
			if (rc == -ENOENT && create)
				continue; /* whom we waited for did not want to create */
			return rc;
		}
		if (!create && shard > 0 && !shards_has(t, domain, shard))
			return -ENOENT;
		if (t->frags_open < t->frags_limit || list_empty(&t->lru))
			return open_new(t, domain, shard, create, ret);
		make_room(t);
		if (!find(t, domain, shard)) /* F2: it may have come while we made room */
			return open_new(t, domain, shard, create, ret);
	}
}

void frag_put(struct frag *f)
{
	if (!f)
		return;
	assert(f->refs > 0);
	if (--f->refs == 0)
		list_push_back(&f->tree->lru, &f->lru);
}

int frag_forget(struct tree *t, const struct gfid *domain, uint32_t shard)
{
	struct frag *f = find(t, domain, shard);

	if (!f)
		return 0;
	if (f->refs > 0)
		return -EBUSY;
	frag_free(f);
	return 0;
}

void frag_set_limit(struct tree *t, unsigned max_open)
{
	t->frags_limit = max_open ? max_open : 1;
}

/* ---- rows ---- */

static void check_rows(const struct frag *f, uint32_t row, uint32_t nrows)
{
	assert(range_inside(row, nrows, f->sums.rows));
}

uint32_t frag_crc(struct frag *f, uint32_t row, bool *ret_hole)
{
	return csum_get(&f->sums, row, ret_hole, NULL);
}

bool frag_rows_are_holes(struct frag *f, uint32_t row, uint32_t nrows)
{
	check_rows(f, row, nrows);
	return csum_next_data(&f->sums, row, row + nrows) == row + nrows;
}

void frag_mark_bad(struct frag *f, uint32_t row)
{
	csum_set_bad(&f->sums, row);
}

bool frag_is_bad(struct frag *f, uint32_t row)
{
	bool bad;

	csum_get(&f->sums, row, NULL, &bad);
	return bad;
}

int frag_read(struct frag *f, uint32_t row, uint32_t nrows, uint8_t *dst, uint32_t *ret_crc)
{
	size_t len = (size_t)nrows * MYFS_BLOCK;

	check_rows(f, row, nrows);
	if (frag_rows_are_holes(f, row, nrows)) {
		memset(dst, 0, len);
	} else {
		ssize_t n = file_pread(f->data, dst, len, (uint64_t)row * MYFS_BLOCK);
		if (n < 0)
			return (int)n;
		memset(dst + n, 0, len - (size_t)n); /* past the end of the file */
	}
	for (uint32_t i = 0; ret_crc && i < nrows; i++)
		ret_crc[i] = csum_get(&f->sums, row + i, NULL, NULL);
	return 0;
}

void frag_uncache(struct frag *f, uint32_t row, uint32_t nrows)
{
	check_rows(f, row, nrows);
	file_uncache(f->data, (uint64_t)row * MYFS_BLOCK, (uint64_t)nrows * MYFS_BLOCK);
}

int frag_write(struct frag *f, uint32_t row, uint32_t nrows, const struct iovec *v, unsigned n, const uint32_t *crc)
{
	check_rows(f, row, nrows);
	assert(iov_bytes((struct iov){.v = v, .n = n}) == (size_t)nrows * MYFS_BLOCK);
	f->data_dirty = true;
	int rc = file_pwritev(f->data, v, n, (uint64_t)row * MYFS_BLOCK);
	f->data_dirty = true; /* a sync that ran meanwhile did not cover us */
	for (uint32_t i = 0; !rc && i < nrows; i++)
		csum_set(&f->sums, row + i, crc[i]);
	return rc;
}

/* Where the file system cannot punch: zeros. */
static int write_zeros(struct frag *f, uint32_t row, uint32_t nrows)
{
	static const uint8_t zeros[MYFS_BLOCK];
	struct iovec v[ZERO_ROWS];
	uint32_t crc[ZERO_ROWS];
	int rc = 0;

	for (size_t i = 0; i < ZERO_ROWS; i++) {
		v[i] = (struct iovec){(void *)(uintptr_t)zeros, sizeof(zeros)};
		crc[i] = CRC32C_ZERO_BLOCK;
	}
	while (nrows > 0 && !rc) {
		uint32_t n = (uint32_t)min_u64(nrows, ZERO_ROWS);
		rc = frag_write(f, row, n, v, n, crc);
		row += n;
		nrows -= n;
	}
	return rc;
}

int frag_punch(struct frag *f, uint32_t row, uint32_t nrows)
{
	uint32_t end = row + nrows;

	check_rows(f, row, nrows);
	row = csum_next_data(&f->sums, row, end);
	if (row == end)
		return 0;
	f->data_dirty = true;
	int rc =
	    file_allocate(f->data, FILE_PUNCH_HOLE, (uint64_t)row * MYFS_BLOCK, (uint64_t)(end - row) * MYFS_BLOCK);
	f->data_dirty = true;
	if (rc == -EOPNOTSUPP)
		return write_zeros(f, row, end - row);
	for (; !rc && row < end; row++)
		csum_set_hole(&f->sums, row);
	return rc;
}

/* ---- durability ---- */

static int sync_names(struct frag *f)
{
	struct tree *t = f->tree;
	char handle[TREE_PATH];

	f->names_dirty = false;
	int rc = store_sync_dir(t->store, tree_handle_path(&f->gfid, handle)); /* the xattrs */
	if (!rc)
		rc = tree_fanout_sync(t, TREE_HANDLES, &f->gfid);
	if (!rc)
		rc = tree_fanout_sync(t, TREE_CSUMS, &f->gfid);
	if (!rc && f->shard > 0)
		rc = store_sync_dir(t->store, TREE_SHARD_DIR);
	if (rc)
		f->names_dirty = true;
	return rc;
}

/* Never twice after a failure: the second would find pages that are taken for clean (H18). */
static int sync_file(struct frag *f, struct file *file) YIELDS
{
	int rc = file_datasync(file);

	f->sync_failed = f->sync_failed || rc < 0;
	return rc < 0 ? -EIO : 0; /* also when there was no space for what had been taken */
}

int frag_sync(struct frag *f)
{
	int rc = 0;

	fmutex_lock(&f->sync_lock); /* also when clean: another's sync of our writes may still be running */
	bool all = f->inherited;
	if (f->sync_failed)
		rc = -EIO;
	if (!rc && (f->data_dirty || all)) {
		f->data_dirty = false;
		rc = sync_file(f, f->data);
		if (rc)
			f->data_dirty = true;
	}
	if (!rc && (f->sums.dirty || all) && !MUTATED(H20)) {
		uint64_t pages = f->sums.dirty;
		if (pages)
			rc = csum_save(&f->sums, f->sums_file);
		if (!rc)
			rc = sync_file(f, f->sums_file);
		if (rc)
			f->sums.dirty |= pages;
	}
	if (!rc && (f->names_dirty || all))
		rc = sync_names(f);
	if (!rc && all)
		f->inherited = false;
	fmutex_unlock(&f->sync_lock);
	return rc;
}
