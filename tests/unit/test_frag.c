/* test_frag.c - rows of a fragment, their checksums, what a restart finds, and the shards of a domain as a whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>


#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "brick/csum.h"
#include "brick/frag.h"
#include "brick_fixture.h"
#include "core/base/bitmap.h"
#include "core/base/crc32c.h"
#include "core/base/prng.h"

#define ROWS 4096u /* of a shard of 4+2 with 16 KiB chunks */

static const char *in(const struct brick_dir *d, const char *path)
{
	static char full[512];

	snprintf(full, sizeof(full), "%s/%s", d->path, path);
	return full;
}

static const char *handle_of(const struct brick_dir *d, const struct gfid *domain, uint32_t shard)
{
	char handle[TREE_PATH];
	struct gfid g = gfid_of_shard(domain, shard);

	return in(d, tree_handle_path(&g, handle));
}

static void fill(uint8_t *p, uint32_t nrows, uint8_t seed)
{
	for (size_t i = 0; i < (size_t)nrows * MYFS_BLOCK; i++)
		p[i] = (uint8_t)(i * 31 + i / MYFS_BLOCK + seed);
}

/* Writes rows of fill(seed) with right checksums. */
static void put_rows(struct frag *f, uint32_t row, uint32_t nrows, uint8_t seed)
{
	uint8_t *p = malloc((size_t)nrows * MYFS_BLOCK);
	uint32_t *crc = calloc(nrows, sizeof(*crc));
	struct iovec v = {p, (size_t)nrows * MYFS_BLOCK};

	fill(p, nrows, seed);
	for (uint32_t i = 0; i < nrows; i++)
		crc[i] = crc32c(p + (size_t)i * MYFS_BLOCK, MYFS_BLOCK);
	CHECK(frag_write(f, row, nrows, &v, 1, crc) == 0);
	free(p);
	free(crc);
}

static bool rows_are(struct frag *f, uint32_t row, uint32_t nrows, uint8_t seed)
{
	uint8_t *p = malloc((size_t)nrows * MYFS_BLOCK), *want = malloc((size_t)nrows * MYFS_BLOCK);
	uint32_t *crc = calloc(nrows, sizeof(*crc));

	fill(want, nrows, seed);
	CHECK(frag_read(f, row, nrows, p, crc) == 0);
	bool same = memcmp(p, want, (size_t)nrows * MYFS_BLOCK) == 0;
	for (uint32_t i = 0; i < nrows; i++)
		same &= crc[i] == crc32c(p + (size_t)i * MYFS_BLOCK, MYFS_BLOCK);
	free(p);
	free(want);
	free(crc);
	return same;
}

static bool rows_are_zero(struct frag *f, uint32_t row, uint32_t nrows)
{
	uint8_t *p = malloc((size_t)nrows * MYFS_BLOCK);
	uint32_t *crc = calloc(nrows, sizeof(*crc));

	CHECK(frag_read(f, row, nrows, p, crc) == 0);
	bool zero = mem_is_zero(p, (size_t)nrows * MYFS_BLOCK);
	for (uint32_t i = 0; i < nrows; i++)
		zero &= crc[i] == CRC32C_ZERO_BLOCK;
	free(p);
	free(crc);
	return zero;
}

/* ---- one fragment ---- */

static void absent_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(5);
	struct frag *f = NULL;

	(void)arg;
	brick_dir_create(&d);
	struct tree *t = brick_dir_open(&d);
	CHECK(frag_get(t, &g, 0, false, &f) == -ENOENT);
	CHECK(frag_get(t, &g, 7, false, &f) == -ENOENT);
	CHECK(frag_get(t, &g, UINT32_MAX, false, &f) == -ENOENT);
	CHECK(frag_get(t, &g, UINT32_MAX, true, &f) == -EFBIG);
	CHECK(f == NULL);
	tree_close(t);
	brick_dir_remove(&d);
}

static void a_fragment_never_made_is_enoent(void **state)
{
	(void)state;
	on_every_backend(absent_body);
}

static void rows_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(5);
	struct frag *f;
	bool hole;

	(void)arg;
	brick_dir_create(&d);
	struct tree *t = brick_dir_open(&d);
	CHECK(frag_get(t, &g, 1, true, &f) == 0);
	CHECK(rows_are_zero(f, 0, 64) && frag_rows_are_holes(f, 0, ROWS));
	CHECK(frag_crc(f, 3, &hole) == CRC32C_ZERO_BLOCK && hole);
	put_rows(f, 10, 20, 1);
	put_rows(f, ROWS - 1, 1, 2);
	CHECK(rows_are(f, 10, 20, 1) && rows_are(f, ROWS - 1, 1, 2));
	CHECK(rows_are_zero(f, 0, 10) && rows_are_zero(f, 30, 100));
	CHECK(!frag_rows_are_holes(f, 0, 11) && frag_rows_are_holes(f, 0, 10));
	frag_crc(f, 10, &hole);
	CHECK(!hole);
	put_rows(f, 12, 2, 9);
	CHECK(rows_are(f, 12, 2, 9));
	frag_put(f);
	frag_put(NULL);
	tree_close(t);
	brick_dir_remove(&d);
}

static void rows_read_as_written_and_others_as_zeros(void **state)
{
	(void)state;
	on_every_backend(rows_body);
}

static void durable_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(5);
	struct frag *f;

	(void)arg;
	brick_dir_create(&d);
	struct tree *t = brick_dir_open(&d);
	CHECK(frag_get(t, &g, 3, true, &f) == 0);
	put_rows(f, 100, 8, 4);
	put_rows(f, 3000, 1, 5);
	frag_mark_bad(f, 101);
	CHECK(frag_sync(f) == 0);
	CHECK(frag_sync(f) == 0);
	frag_put(f);
	t = brick_dir_reopen(&d, t);
	CHECK(frag_get(t, &g, 3, false, &f) == 0);
	CHECK(rows_are(f, 100, 8, 4) && rows_are(f, 3000, 1, 5) && frag_rows_are_holes(f, 0, 100));
	CHECK(frag_is_bad(f, 101) && !frag_is_bad(f, 102));
	put_rows(f, 101, 1, 6);
	CHECK(!frag_is_bad(f, 101) && rows_are(f, 101, 1, 6));
	frag_put(f);
	tree_close(t);
	brick_dir_remove(&d);
}

static void what_was_synced_is_there_after_a_restart(void **state)
{
	(void)state;
	on_every_backend(durable_body);
}

static void punch_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(5);
	struct frag *f;
	struct stat before, after;

	(void)arg;
	brick_dir_create(&d);
	struct tree *t = brick_dir_open(&d);
	CHECK(frag_get(t, &g, 0, true, &f) == 0);
	put_rows(f, 0, 256, 4);
	CHECK(frag_sync(f) == 0);
	CHECK(stat(handle_of(&d, &g, 0), &before) == 0);
	CHECK(frag_punch(f, 16, 224) == 0);
	CHECK(frag_punch(f, 1000, 50) == 0); /* holes already */
	CHECK(frag_sync(f) == 0);
	CHECK(frag_rows_are_holes(f, 16, 224) && rows_are_zero(f, 16, 224));
	CHECK(rows_are(f, 0, 16, 4));
	CHECK(stat(handle_of(&d, &g, 0), &after) == 0);
	CHECK(after.st_blocks + 200 * 8 < before.st_blocks);
	frag_put(f);
	tree_close(t);
	brick_dir_remove(&d);
}

static void punched_rows_are_holes_and_free_their_space(void **state)
{
	(void)state;
	on_every_backend(punch_body);
}

static void unsummed_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(5), sg = gfid_of_shard(&g, 1);
	struct frag *f;
	uint8_t p[MYFS_BLOCK];
	uint32_t crc;
	char path[TREE_PATH], text[GFID_TEXT];

	(void)arg;
	brick_dir_create(&d);
	struct tree *t = brick_dir_open(&d);
	CHECK(frag_get(t, &g, 1, true, &f) == 0);
	put_rows(f, 5, 1, 4);
	CHECK(frag_sync(f) == 0);
	frag_put(f);
	snprintf(path, sizeof(path), ".glusterfs/myfs/csum/%02x/%02x/%s", sg.b[0], sg.b[1], gfid_text(&sg, text));
	CHECK(truncate(in(&d, path), 0) == 0);
	t = brick_dir_reopen(&d, t);
	CHECK(frag_get(t, &g, 1, false, &f) == 0);
	CHECK(!frag_rows_are_holes(f, 5, 1)); /* not zeros in silence: the reader sees that the checksum is wrong */
	CHECK(frag_read(f, 5, 1, p, &crc) == 0);
	CHECK(crc == CRC32C_ZERO_BLOCK && crc32c(p, sizeof(p)) != crc);
	CHECK(frag_rows_are_holes(f, 6, 100));
	frag_put(f);
	tree_close(t);
	brick_dir_remove(&d);
}

static void data_whose_checksums_were_lost_is_not_taken_for_holes(void **state)
{
	(void)state;
	on_every_backend(unsummed_body);
}

static void xattr_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(5), sg = gfid_of_shard(&g, 2);
	struct frag *f;
	struct stat by_handle, by_name;
	uint8_t v[64];
	char name[128], text[GFID_TEXT];
	const char *prefix;

	(void)arg;
	brick_dir_create(&d);
	struct tree *t = brick_dir_open(&d);
	prefix = tree_xattr_prefix(t);
	CHECK(frag_get(t, &g, 2, true, &f) == 0);
	frag_put(f);
	CHECK(stat(handle_of(&d, &g, 2), &by_handle) == 0 && by_handle.st_nlink == 2);
	snprintf(name, sizeof(name), ".shard/%s.2", gfid_text(&g, text));
	CHECK(stat(in(&d, name), &by_name) == 0 && by_name.st_ino == by_handle.st_ino);
	snprintf(name, sizeof(name), "%sgfid", prefix);
	CHECK(getxattr(handle_of(&d, &g, 2), name, v, sizeof(v)) == 16 && memcmp(v, sg.b, 16) == 0);
	snprintf(name, sizeof(name), "%sec.config", prefix);
	CHECK(getxattr(handle_of(&d, &g, 2), name, v, sizeof(v)) == 8 && memcmp(v, "\0\1\10\6\2\0\x40\0", 8) == 0);
	snprintf(name, sizeof(name), "%sec.size", prefix);
	CHECK(getxattr(handle_of(&d, &g, 2), name, v, sizeof(v)) == 8 && memcmp(v, "\0\0\0\0\4\0\0\0", 8) == 0);
	snprintf(name, sizeof(name), "%sec.version", prefix);
	CHECK(getxattr(handle_of(&d, &g, 2), name, v, sizeof(v)) == 16);
	snprintf(name, sizeof(name), "%sglusterfs.mdata", prefix);
	CHECK(getxattr(handle_of(&d, &g, 2), name, v, sizeof(v)) == 57);
	CHECK(frag_get(t, &g, 0, true, &f) == 0); /* a base file before its name */
	frag_put(f);
	CHECK(stat(handle_of(&d, &g, 0), &by_handle) == 0 && by_handle.st_nlink == 1);
	tree_close(t);
	brick_dir_remove(&d);
}

static void a_new_shard_has_handle_name_and_xattrs(void **state)
{
	(void)state;
	on_every_backend(xattr_body);
}

static void half_made_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(5);
	struct stat st;
	struct frag *f;
	char name[128], text[GFID_TEXT];

	(void)arg;
	brick_dir_create(&d);
	struct tree *t = brick_dir_open(&d);
	CHECK(frag_get(t, &g, 1, true, &f) == 0);
	put_rows(f, 7, 1, 3);
	CHECK(frag_sync(f) == 0);
	frag_put(f);
	CHECK(unlink(handle_of(&d, &g, 1)) == 0); /* the name is there, the handle is not */
	t = brick_dir_reopen(&d, t);
	CHECK(frag_get(t, &g, 1, false, &f) == 0);
	CHECK(rows_are(f, 7, 1, 3));
	frag_put(f);
	CHECK(stat(handle_of(&d, &g, 1), &st) == 0 && st.st_nlink == 2);
	snprintf(name, sizeof(name), ".shard/%s.1", gfid_text(&g, text));
	CHECK(unlink(in(&d, name)) == 0); /* the other way round: made anew it keeps its rows */
	t = brick_dir_reopen(&d, t);
	CHECK(frag_get(t, &g, 1, false, &f) == -ENOENT);
	CHECK(frag_get(t, &g, 1, true, &f) == 0);
	CHECK(rows_are(f, 7, 1, 3));
	frag_put(f);
	CHECK(stat(in(&d, name), &st) == 0 && st.st_nlink == 2);
	tree_close(t);
	brick_dir_remove(&d);
}

static void what_a_crash_left_half_made_is_completed(void **state)
{
	(void)state;
	on_every_backend(half_made_body);
}

/* ---- the cache ---- */

static void same_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(5);
	struct frag *a, *b;

	(void)arg;
	brick_dir_create(&d);
	struct tree *t = brick_dir_open(&d);
	CHECK(frag_get(t, &g, 1, true, &a) == 0);
	CHECK(frag_get(t, &g, 1, false, &b) == 0);
	CHECK(a == b);
	CHECK(frag_forget(t, &g, 1) == -EBUSY);
	frag_put(a);
	frag_put(b);
	CHECK(frag_forget(t, &g, 1) == 0);
	CHECK(frag_forget(t, &g, 1) == 0);
	tree_close(t);
	brick_dir_remove(&d);
}

static void a_fragment_is_open_once(void **state)
{
	(void)state;
	on_every_backend(same_body);
}

struct opener {
	struct tree *t;
	struct gfid g;
	bool create;
	struct frag *f;
	int rc;
	unsigned *left;
	struct waitq *done;
};

static void opener_main(void *arg)
{
	struct opener *o = arg;

	o->rc = frag_get(o->t, &o->g, 4, o->create, &o->f);
	--*o->left;
	waitq_wake_all(o->done);
}

static void race_body(void *arg)
{
	struct brick_dir d;
	struct opener o[6];
	unsigned left = ARRAY_LEN(o);
	struct waitq done;

	brick_dir_create(&d);
	struct tree *t = brick_dir_open(&d);
	waitq_init(&done);
	for (size_t i = 0; i < ARRAY_LEN(o); i++) {
		o[i] = (struct opener){.t = t, .g = test_gfid(5), .create = i % 2, .left = &left, .done = &done};
		CHECK(fiber_spawn(arg, "opener", opener_main, &o[i]) == 0);
	}
	while (left > 0)
		waitq_wait(&done);
	for (size_t i = 0; i < ARRAY_LEN(o); i++) {
		CHECK(o[i].rc == 0 || (o[i].rc == -ENOENT && !o[i].create));
		CHECK(!o[i].create || o[i].f == o[1].f);
		if (o[i].rc == 0)
			frag_put(o[i].f);
	}
	tree_close(t);
	brick_dir_remove(&d);
}

static void fibers_that_open_it_at_once_get_the_same(void **state)
{
	(void)state;
	on_every_backend(race_body);
}

static void limit_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(5);
	struct frag *held, *f;

	(void)arg;
	brick_dir_create(&d);
	struct tree *t = brick_dir_open(&d);
	frag_set_limit(t, 4);
	CHECK(frag_get(t, &g, 1, true, &held) == 0);
	put_rows(held, 0, 1, 1);
	for (uint32_t n = 2; n < 30; n++) { /* every one unsynced when it is put */
		CHECK(frag_get(t, &g, n, true, &f) == 0);
		put_rows(f, n, 1, (uint8_t)n);
		frag_put(f);
	}
	CHECK(rows_are(held, 0, 1, 1)); /* a held one stays */
	for (uint32_t n = 2; n < 30; n++) {
		CHECK(frag_get(t, &g, n, false, &f) == 0);
		CHECK(rows_are(f, n, 1, (uint8_t)n));
		frag_put(f);
	}
	frag_put(held);
	tree_close(t);
	brick_dir_remove(&d);
}

static void over_the_limit_unsynced_fragments_are_synced_not_lost(void **state)
{
	(void)state;
	on_every_backend(limit_body);
}

/* ---- all shards of a domain ---- */

static void list_body(void *arg)
{
	static const uint32_t shards[] = {0, 1, 63, 64, 200};
	struct brick_dir d;
	struct gfid g = test_gfid(5), other = test_gfid(6);
	uint64_t bits[BITMAP_WORDS(128)], used, more;
	uint32_t max = 99;
	struct frag *f;

	(void)arg;
	brick_dir_create(&d);
	struct tree *t = brick_dir_open(&d);
	memset(bits, 0xff, sizeof(bits));
	CHECK(frag_list(t, &g, bits, 128, &max) == 0 && max == 0);
	for (size_t i = 0; i < ARRAY_LEN(shards); i++) {
		CHECK(frag_get(t, &g, shards[i], true, &f) == 0);
		put_rows(f, 0, 16, 1);
		CHECK(frag_sync(f) == 0);
		frag_put(f);
	}
	CHECK(frag_get(t, &other, 5, true, &f) == 0);
	frag_put(f);
	for (int restart = 0; restart < 2; restart++) {
		CHECK(frag_list(t, &g, bits, 128, &max) == 0);
		CHECK(max == 201 && bitmap_count(bits, 128) == 4);
		CHECK(bitmap_test(bits, 0) && bitmap_test(bits, 1) && bitmap_test(bits, 63) && bitmap_test(bits, 64));
		CHECK(frag_usage(t, &g, &used) == 0);
		CHECK(used >= 5 * 16 * MYFS_BLOCK && used < 5 * 32 * MYFS_BLOCK);
		t = brick_dir_reopen(&d, t);
	}
	CHECK(frag_usage(t, &other, &more) == 0 && more < used);
	tree_close(t);
	brick_dir_remove(&d);
}

static void shards_are_listed_and_counted_also_after_a_restart(void **state)
{
	(void)state;
	on_every_backend(list_body);
}

static void purge_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(5), other = test_gfid(6);
	uint64_t bits[1];
	uint32_t max;
	struct frag *f;
	struct stat st;

	(void)arg;
	brick_dir_create(&d);
	struct tree *t = brick_dir_open(&d);
	for (uint32_t n = 0; n < 10; n++) {
		CHECK(frag_get(t, &g, n, true, &f) == 0);
		put_rows(f, 0, 16, 1);
		frag_put(f);
		CHECK(frag_get(t, &other, n, true, &f) == 0);
		frag_put(f);
	}
	CHECK(frag_get(t, &g, 3, false, &f) == 0);
	CHECK(frag_purge(t, &g) == -EBUSY);
	frag_put(f);
	CHECK(frag_purge(t, &g) == 0);
	CHECK(frag_purge(t, &g) == 0);
	CHECK(frag_list(t, &g, bits, 64, &max) == 0 && max == 1); /* the base file is not ours to take */
	CHECK(frag_list(t, &other, bits, 64, &max) == 0 && max == 10);
	CHECK(stat(handle_of(&d, &g, 3), &st) < 0 && stat(handle_of(&d, &other, 3), &st) == 0);
	t = brick_dir_reopen(&d, t);
	CHECK(frag_list(t, &g, bits, 64, &max) == 0 && max == 1);
	tree_close(t);
	brick_dir_remove(&d);
}

static void purge_takes_every_shard_of_the_domain_and_no_other(void **state)
{
	(void)state;
	on_every_backend(purge_body);
}

static void publish_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(5), sg = gfid_of_shard(&g, 1);
	char path[TREE_PATH], text[GFID_TEXT], name[64];
	struct stat st;
	struct frag *f;
	uint8_t v[16];

	(void)arg;
	brick_dir_create(&d);
	struct tree *t = brick_dir_open(&d);
	CHECK(frag_publish(t, &g, 1, 1, 1) == -ENOENT);
	CHECK(frag_get(t, &g, 1, true, &f) == 0);
	frag_put(f);
	CHECK(frag_publish(t, &g, 1, 9, 2) == 0);
	snprintf(name, sizeof(name), "%sec.version", tree_xattr_prefix(t));
	CHECK(getxattr(handle_of(&d, &g, 1), name, v, sizeof(v)) == 16 && v[7] == 9);
	snprintf(name, sizeof(name), "%sec.dirty", tree_xattr_prefix(t));
	CHECK(getxattr(handle_of(&d, &g, 1), name, v, sizeof(v)) == 16 && v[7] == 2);
	snprintf(path, sizeof(path), ".glusterfs/indices/xattrop/%s", gfid_text(&sg, text));
	CHECK(stat(in(&d, path), &st) == 0);
	CHECK(frag_publish(t, &g, 1, 10, 0) == 0);
	CHECK(getxattr(handle_of(&d, &g, 1), name, v, sizeof(v)) == 16 && v[7] == 0);
	CHECK(stat(in(&d, path), &st) < 0);
	tree_close(t);
	brick_dir_remove(&d);
}

static void published_state_shows_in_xattrs_and_index(void **state)
{
	(void)state;
	on_every_backend(publish_body);
}

/* ---- random: a fragment against a plain array, with restarts after syncs ---- */

static void random_body(void *arg)
{
	enum { N = 256 };
	struct brick_dir d;
	struct gfid g = test_gfid(5);
	struct prng r;
	int16_t model[N]; /* seed of the row, -1 = hole */
	struct frag *f;

	(void)arg;
	prng_seed(&r, 42);
	brick_dir_create(&d);
	struct tree *t = brick_dir_open(&d);
	CHECK(frag_get(t, &g, 1, true, &f) == 0);
	memset(model, 0xff, sizeof(model));
	for (int step = 0; step < 600; step++) {
		uint32_t row = (uint32_t)prng_below(&r, N), n = (uint32_t)prng_below(&r, min_u64(16, N - row)) + 1;
		uint8_t seed = (uint8_t)prng_below(&r, 100);
		switch (prng_below(&r, 4)) {
		case 0:
			CHECK(frag_punch(f, row, n) == 0);
			for (uint32_t i = 0; i < n; i++)
				model[row + i] = -1;
			break;
		case 1:
			if (step % 10)
				break;
			CHECK(frag_sync(f) == 0);
			frag_put(f);
			t = brick_dir_reopen(&d, t);
			CHECK(frag_get(t, &g, 1, false, &f) == 0);
			break;
		default:
			for (uint32_t i = 0; i < n; i++) {
				put_rows(f, row + i, 1, seed);
				model[row + i] = seed;
			}
		}
		for (uint32_t i = 0; i < N; i++)
			CHECK(model[i] < 0 ? rows_are_zero(f, i, 1) && frag_rows_are_holes(f, i, 1)
					   : rows_are(f, i, 1, (uint8_t)model[i]));
	}
	frag_put(f);
	tree_close(t);
	brick_dir_remove(&d);
}

static void random_writes_punches_and_restarts_match_an_array(void **state)
{
	(void)state;
	on_every_backend(random_body);
}

int main(void)
{
	brick_dir_base = brick_dir_fast_base(); /* nothing here depends on a real disk */
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_fragment_never_made_is_enoent),
	    cmocka_unit_test(rows_read_as_written_and_others_as_zeros),
	    cmocka_unit_test(what_was_synced_is_there_after_a_restart),
	    cmocka_unit_test(punched_rows_are_holes_and_free_their_space),
	    cmocka_unit_test(data_whose_checksums_were_lost_is_not_taken_for_holes),
	    cmocka_unit_test(a_new_shard_has_handle_name_and_xattrs),
	    cmocka_unit_test(what_a_crash_left_half_made_is_completed),
	    cmocka_unit_test(a_fragment_is_open_once),
	    cmocka_unit_test(fibers_that_open_it_at_once_get_the_same),
	    cmocka_unit_test(over_the_limit_unsynced_fragments_are_synced_not_lost),
	    cmocka_unit_test(shards_are_listed_and_counted_also_after_a_restart),
	    cmocka_unit_test(purge_takes_every_shard_of_the_domain_and_no_other),
	    cmocka_unit_test(published_state_shows_in_xattrs_and_index),
	    cmocka_unit_test(random_writes_punches_and_restarts_match_an_array),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
