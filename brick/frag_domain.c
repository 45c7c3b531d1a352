/* frag_domain.c - all shards of one domain on this brick: which exist, what they take, what people should see, and
 * their end. */
#include <sys/stat.h>

#include "brick/frag_priv.h"
#include "brick/xattr.h"
#include "core/base/bitmap.h"
#include "core/base/bytes.h"

#define SLICE 128u /* shards looked at before others may run */

static int base_exists(struct tree *t, const struct gfid *domain, bool *ret, uint64_t *ret_bytes) YIELDS
{
	char handle[TREE_PATH];
	struct file_info info;
	int rc = store_stat(t->store, tree_handle_path(domain, handle), &info);

	if (rc && rc != -ENOENT)
		return rc;
	*ret = rc == 0 && S_ISREG(info.mode);
	*ret_bytes = *ret ? info.alloc_bytes : 0;
	return 0;
}

int frag_list(struct tree *t, const struct gfid *domain, uint64_t *bitmap, uint32_t max_shards,
	      uint32_t *ret_max_plus_1)
{
	uint64_t bytes;
	size_t known = 0;
	uint32_t max_plus_1 = 0;
	bool base;

	int rc = base_exists(t, domain, &base, &bytes);
	if (rc)
		return rc;
	if (base) {
		max_plus_1 = 1;
		bitmap_widen(bitmap, &known, min_u64(1, max_shards));
		if (max_shards > 0)
			bitmap_set(bitmap, 0);
	}
	for (uint32_t n = shards_next(t, domain, 1); n != UINT32_MAX; n = shards_next(t, domain, n + 1)) {
		max_plus_1 = n + 1;
		bitmap_widen(bitmap, &known, min_u64(max_plus_1, max_shards));
		if (n < max_shards)
			bitmap_set(bitmap, n);
	}
	*ret_max_plus_1 = max_plus_1;
	return 0;
}

int frag_usage(struct tree *t, const struct gfid *domain, uint64_t *ret_bytes)
{
	char handle[TREE_PATH];
	struct file_info info;
	uint64_t bytes;
	unsigned seen = 0;
	bool base;
	int rc = base_exists(t, domain, &base, &bytes);

	for (uint32_t n = shards_next(t, domain, 1); !rc && n != UINT32_MAX; n = shards_next(t, domain, n + 1)) {
		struct gfid g = gfid_of_shard(domain, n);
		int stat_rc = store_stat(t->store, tree_handle_path(&g, handle), &info);
		if (stat_rc == 0)
			bytes += info.alloc_bytes;
		else if (stat_rc != -ENOENT)
			rc = stat_rc;
		if (++seen % SLICE == 0)
			fiber_yield();
	}
	if (!rc)
		*ret_bytes = bytes;
	return rc;
}

/* Checksums and handle go first: while the name is there a repeated purge finds the shard again. */
static int purge_shard(struct tree *t, const struct gfid *domain, uint32_t shard) YIELDS
{
	struct gfid g = gfid_of_shard(domain, shard);
	char path[TREE_PATH], name[SHARD_NAME];
	int rc = frag_forget(t, domain, shard);

	if (rc)
		return rc;
	tree_fanout_path(TREE_CSUMS, &g, path);
	rc = store_unlink(t->store, path);
	if (!rc || rc == -ENOENT)
		rc = store_unlink(t->store, tree_handle_path(&g, path));
	if (!rc || rc == -ENOENT)
		rc = tree_index_mark(t, &g, false);
	if (rc)
		return rc;
	shards_name(domain, shard, name);
	rc = tree_join(TREE_SHARD_DIR, name, path);
	if (!rc)
		rc = landfill_take(t, path);
	if (!rc)
		shards_remove(t, domain, shard);
	return rc;
}

int frag_purge(struct tree *t, const struct gfid *domain)
{
	unsigned seen = 0;
	int rc = 0;

	for (uint32_t n = shards_next(t, domain, 1); !rc && n != UINT32_MAX; n = shards_next(t, domain, n + 1)) {
		rc = purge_shard(t, domain, n);
		if (++seen % SLICE == 0)
			fiber_yield();
	}
	if (!rc && seen) {
		rc = store_sync_dir(t->store, TREE_SHARD_DIR);
		if (!rc)
			rc = landfill_sync(t);
	}
	return rc;
}

/* The metadata half of the pair stays as it is. */
static int publish_counter(struct tree *t, const char *handle, const char *name, uint64_t data) YIELDS
{
	uint8_t v[XATTR_COUNTERS_BYTES];
	uint64_t metadata = 0;
	ssize_t n = tree_getxattr(t, handle, name, v, sizeof(v));

	if (n == sizeof(v)) {
		struct rcur c = rcur_of(v, sizeof(v));
		if (rcur_be64(&c) == data)
			return 0;
		metadata = rcur_be64(&c);
	} else if (n < 0 && n != -ENODATA && n != -ERANGE) {
		return (int)n;
	}
	xattr_counters(data, metadata, v);
	return tree_setxattr(t, handle, name, v, sizeof(v));
}

int frag_publish(struct tree *t, const struct gfid *domain, uint32_t shard, uint64_t version, uint64_t dirty_regions)
{
	struct gfid g = gfid_of_shard(domain, shard);
	char handle[TREE_PATH];
	struct file_info info;
	int rc = store_stat(t->store, tree_handle_path(&g, handle), &info);

	if (!rc && dirty_regions) /* the index comes before and goes after what it points at: it never lacks anything */
		rc = tree_index_mark(t, &g, true);
	if (!rc)
		rc = publish_counter(t, handle, XATTR_EC_VERSION, version);
	if (!rc)
		rc = publish_counter(t, handle, XATTR_EC_DIRTY, dirty_regions);
	if (!rc && !dirty_regions)
		rc = tree_index_mark(t, &g, false);
	return rc;
}
