/* test_tree.c - a brick directory is made once, recognised for what it is, and shows its bytes where GlusterFS would.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>


#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "brick/xattr.h"
#include "brick_fixture.h"
#include "core/base/crc32c.h"

static const char *prefixed(const struct brick_dir *d, const char *name)
{
	static char full[256];

	snprintf(full, sizeof(full), "%s%s", d->id.user_xattrs ? "user." : "trusted.", name);
	return full;
}

static const char *in(const struct brick_dir *d, const char *path)
{
	static char full[512];

	snprintf(full, sizeof(full), "%s/%s", d->path, path);
	return full;
}

/* ---- pure ---- */

static void identity_text_is_read_back(void **state)
{
	struct brick_identity id = {.volume = test_gfid(1),
				    .brick = test_gfid(2),
				    .set_index = 7,
				    .brick_index = 5,
				    .k = 4,
				    .r = 2,
				    .chunk_bytes = 16384,
				    .journal_bytes = MIB(64),
				    .user_xattrs = true},
			      back;
	char text[IDENTITY_TEXT_MAX];

	(void)state;
	assert_int_equal(identity_complete(&id, NULL), 0);
	size_t len = identity_format(&id, text);
	assert_int_equal(identity_parse(text, len, &back, NULL), 0);
	assert_memory_equal(&back, &id, sizeof(id));
}

static void every_flipped_byte_of_the_identity_is_noticed(void **state)
{
	struct brick_identity id = {.volume = test_gfid(1),
				    .brick = test_gfid(2),
				    .k = 2,
				    .r = 1,
				    .chunk_bytes = 4096,
				    .journal_bytes = MIB(16)},
			      back;
	char text[IDENTITY_TEXT_MAX];

	(void)state;
	assert_int_equal(identity_complete(&id, NULL), 0);
	size_t len = identity_format(&id, text);
	for (size_t i = 0; i + 1 < len; i++) {
		text[i] ^= 1;
		assert_int_equal(identity_parse(text, len, &back, NULL), -EUCLEAN);
		text[i] ^= 1;
	}
	for (size_t n = 0; n + 1 < len; n++)
		assert_int_equal(identity_parse(text, n, &back, NULL), -EUCLEAN);
}

static void impossible_identities_are_refused(void **state)
{
	static const struct {
		uint32_t k, r, index, chunk;
		uint64_t journal;
		int rc;
	} table[] = {
	    {4, 2, 5, 16384, MIB(16), 0},
	    {1, 1, 0, 4096, MIB(16), 0},
	    {0, 2, 0, 16384, MIB(16), -EINVAL},
	    {4, 0, 0, 16384, MIB(16), -EINVAL},
	    {4, 2, 6, 16384, MIB(16), -EINVAL},
	    {30, 3, 0, 16384, MIB(16), -EINVAL},
	    {4, 2, 0, 12288, MIB(16), -EINVAL},
	    {4, 2, 0, 2048, MIB(16), -EINVAL},
	    {4, 2, 0, 131072, MIB(16), -EINVAL},
	    {4, 2, 0, 16384, MIB(4) - 4096, -EINVAL},
	    {4, 2, 0, 16384, MIB(16) + 512, -EINVAL},
	    {UINT32_MAX, 2, 0, 16384, MIB(16), -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct brick_identity id = {.volume = test_gfid(1),
					    .brick = test_gfid(2),
					    .k = table[i].k,
					    .r = table[i].r,
					    .brick_index = table[i].index,
					    .chunk_bytes = table[i].chunk,
					    .journal_bytes = table[i].journal};
		assert_int_equal(identity_complete(&id, NULL), table[i].rc);
	}
}

static void region_and_shard_rows_follow_the_geometry(void **state)
{
	static const struct {
		uint32_t k, chunk, region_rows;
	} table[] = {{4, 16384, 64}, {2, 16384, 128}, {1, 16384, 256}, {8, 65536, 32},
		     {1, 4096, 256}, {20, 65536, 16}, {3, 16384, 84}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct brick_identity id = {.volume = test_gfid(1),
					    .brick = test_gfid(2),
					    .k = table[i].k,
					    .r = 1,
					    .chunk_bytes = table[i].chunk,
					    .journal_bytes = MIB(16)};
		assert_int_equal(identity_complete(&id, NULL), 0);
		assert_int_equal(id.region_rows, table[i].region_rows);
		assert_int_equal(id.shard_rows, 64 * table[i].region_rows);
	}
}

static void gfid2path_names_match_the_published_vectors(void **state)
{
	static const struct {
		const char *name, *key;
	} table[] = {{"file1", "gfid2path.d16e15bafe6e4256"}, {"big", "gfid2path.fd913bbfc43e6a69"}};
	char key[XATTR_GFID2PATH_KEY], value[XATTR_GFID2PATH_VALUE];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		size_t len = xattr_gfid2path(&GFID_ROOT, table[i].name, key, value);
		assert_string_equal(key, table[i].key);
		assert_int_equal(len, 37 + strlen(table[i].name));
		assert_int_equal(strncmp(value, "00000000-0000-0000-0000-000000000001/", 37), 0);
	}
}

static void ec_config_has_glusters_layout_with_our_algorithm(void **state)
{
	static const uint8_t expected[] = {0, 1, 8, 6, 2, 0x00, 0x40, 0x00};
	struct brick_identity id = {.n = 6, .r = 2, .chunk_bytes = 16384};
	uint8_t v[XATTR_CONFIG_BYTES];
	char words[128];

	(void)state;
	xattr_ec_config(&id, v);
	assert_memory_equal(v, expected, sizeof(v));
	xattr_describe(XATTR_EC_CONFIG, v, sizeof(v), words, sizeof(words));
	assert_string_equal(words, "4+2, systematic Cauchy, chunk 16384 bytes");
}

static void mdata_is_version_flags_and_three_times(void **state)
{
	uint8_t v[XATTR_MDATA_BYTES];
	char words[256];

	(void)state;
	xattr_mdata(UINT64_C(5000000007), v);
	assert_int_equal(v[0], 1);
	assert_int_equal(v[16], 5);
	assert_int_equal(v[24], 7);
	assert_int_equal(v[56], 7);
	xattr_describe(XATTR_MDATA, v, sizeof(v), words, sizeof(words));
	assert_string_equal(words, "ctime 5.000000007 mtime 5.000000007 atime 5.000000007");
}

static void words_of_other_xattrs(void **state)
{
	static const struct {
		const char *name, *bytes;
		size_t len;
		const char *words;
	} table[] = {
	    {XATTR_EC_SIZE, "\0\0\0\0\0\0\x10\0", 8, "4096 bytes"},
	    {XATTR_EC_VERSION, "\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x01", 16, "data version 5, metadata version 1"},
	    {XATTR_EC_DIRTY, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16, "clean"},
	    {XATTR_EC_DIRTY, "\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0", 16, "2 regions need work, metadata 0"},
	    {XATTR_DHT, "\0\0\0\x01\0\0\0\0\0\0\0\0\x7f\xff\xff\xff", 16,
	     "hash range 00000000-7fffffff, type 0, commit 1"},
	    {XATTR_GFID, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", 16, "00000000-0000-0000-0000-000000000001"},
	    {XATTR_GFID, "\x01\x02", 2, "0x0102"},
	    {"other", "\xff", 1, "0xff"},
	};
	char words[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		xattr_describe(table[i].name, (const uint8_t *)table[i].bytes, table[i].len, words, sizeof(words));
		assert_string_equal(words, table[i].words);
	}
}

/* ---- directories ---- */

static void check_link(const struct brick_dir *d, const char *path, const char *expected)
{
	char target[256];
	ssize_t n = readlink(in(d, path), target, sizeof(target) - 1);

	CHECK(n > 0);
	target[n] = '\0';
	CHECK(strcmp(target, expected) == 0);
}

static void made_body(void *arg)
{
	struct brick_dir d;
	struct stat st;
	uint8_t v[32];

	(void)arg;
	brick_dir_create(&d);
	CHECK(getxattr(d.path, prefixed(&d, "glusterfs.volume-id"), v, sizeof(v)) == 16);
	CHECK(memcmp(v, d.id.volume.b, 16) == 0);
	CHECK(getxattr(d.path, prefixed(&d, "gfid"), v, sizeof(v)) == 16);
	CHECK(memcmp(v, GFID_ROOT.b, 16) == 0);
	check_link(&d, ".glusterfs/00/00/00000000-0000-0000-0000-000000000001", "../../..");
	check_link(&d, ".glusterfs/be/31/be318638-e8a0-4c6d-977d-7a937aa84806",
		   "../../00/00/00000000-0000-0000-0000-000000000001/.shard");
	CHECK(stat(in(&d, ".glusterfs/be/31/be318638-e8a0-4c6d-977d-7a937aa84806/"), &st) == 0 && S_ISDIR(st.st_mode));
	CHECK(stat(in(&d, ".glusterfs/ff"), &st) == 0 && (st.st_mode & 0777) == 0700);
	CHECK(stat(in(&d, ".glusterfs/indices/xattrop"), &st) == 0);
	CHECK(stat(in(&d, ".glusterfs/landfill"), &st) == 0 && (st.st_mode & 0777) == 0755);
	CHECK(stat(in(&d, ".glusterfs/myfs/journal"), &st) == 0);
	CHECK(st.st_size == (off_t)MIB(16) && (uint64_t)st.st_blocks * 512 >= MIB(16)); /* written, not only sized */
	brick_dir_remove(&d);
}

static void a_made_brick_has_everything_in_its_place(void **state)
{
	(void)state;
	on_every_backend(made_body);
}

static void opened_body(void *arg)
{
	struct brick_dir d;
	struct brick_identity id;
	struct tree *t;

	(void)arg;
	brick_dir_create(&d);
	CHECK(tree_open(d.s, &t, &id, NULL) == 0);
	CHECK(memcmp(&id, &d.id, sizeof(id)) == 0);
	CHECK(memcmp(tree_identity(t), &d.id, sizeof(id)) == 0);
	CHECK(tree_store(t) == d.s);
	tree_close(t);
	tree_close(NULL);
	brick_dir_remove(&d);
}

static void open_returns_the_identity(void **state)
{
	(void)state;
	on_every_backend(opened_body);
}

static void used_body(void *arg)
{
	struct brick_dir d;
	struct err e = ERR_INIT;

	(void)arg;
	brick_dir_make(&d);
	CHECK(mkdir(in(&d, "photos"), 0755) == 0);
	CHECK(tree_create(d.s, &d.id, false, &e) == -EEXIST);
	CHECK(strstr(e.text, "photos"));
	CHECK(tree_create(d.s, &d.id, true, &e) == 0);
	CHECK(tree_create(d.s, &d.id, true, &e) == -EEXIST); /* a brick: never, force or not */
	CHECK(strstr(e.text, "already is a brick") || strstr(e.text, "already a brick"));
	brick_dir_remove(&d);
}

static void a_used_directory_is_refused(void **state)
{
	(void)state;
	on_every_backend(used_body);
}

static void interrupted_body(void *arg)
{
	struct brick_dir d;
	struct tree *t;

	(void)arg;
	brick_dir_create(&d); /* cut off just before the end: */
	CHECK(removexattr(d.path, prefixed(&d, "glusterfs.volume-id")) == 0);
	CHECK(tree_open(d.s, &t, NULL, NULL) == -ENOMEDIUM);
	CHECK(tree_create(d.s, &d.id, false, NULL) == -EEXIST);
	CHECK(tree_create(d.s, &d.id, true, NULL) == 0);
	t = brick_dir_open(&d);
	tree_close(t);
	brick_dir_remove(&d);
}

static void an_interrupted_creation_is_repeated_with_force(void **state)
{
	(void)state;
	on_every_backend(interrupted_body);
}

static void remains_body(void *arg)
{
	struct brick_dir d;
	struct err e = ERR_INIT;
	int fd;

	(void)arg;
	brick_dir_create(&d);
	CHECK(removexattr(d.path, prefixed(&d, "glusterfs.volume-id")) == 0);
	fd = open(in(&d, ".shard/01010101-0101-0101-0101-010101010101.1"), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	close(fd);
	CHECK(tree_create(d.s, &d.id, true, &e) == -EEXIST);
	CHECK(strstr(e.text, "older brick"));
	brick_dir_remove(&d);
}

static void fragments_of_an_older_brick_are_refused_even_with_force(void **state)
{
	(void)state;
	on_every_backend(remains_body);
}

static void missing_body(void *arg)
{
	struct brick_dir d;
	struct tree *t;
	struct err e = ERR_INIT;

	(void)arg;
	brick_dir_make(&d);
	CHECK(tree_open(d.s, &t, NULL, &e) == -ENOMEDIUM); /* the empty mount point */
	CHECK(strstr(e.text, "is the disk mounted?"));
	CHECK(tree_create(d.s, &d.id, false, &e) == 0);
	CHECK(removexattr(d.path, prefixed(&d, "glusterfs.volume-id")) == 0);
	CHECK(tree_open(d.s, &t, NULL, &e) == -ENOMEDIUM);
	CHECK(strstr(e.text, "is the disk mounted?"));
	brick_dir_remove(&d);
}

static void without_volume_id_it_asks_whether_the_disk_is_mounted(void **state)
{
	(void)state;
	on_every_backend(missing_body);
}

static void wrong_body(void *arg)
{
	struct brick_dir d;
	struct gfid other = test_gfid(9);
	struct tree *t;
	struct err e = ERR_INIT;

	(void)arg;
	brick_dir_create(&d);
	CHECK(setxattr(d.path, prefixed(&d, "glusterfs.volume-id"), other.b, 16, 0) == 0);
	CHECK(tree_open(d.s, &t, NULL, &e) == -MYFS_E_WRONG_VOLUME);
	CHECK(strstr(e.text, "09090909"));
	brick_dir_remove(&d);
}

static void a_directory_of_another_volume_is_refused(void **state)
{
	(void)state;
	on_every_backend(wrong_body);
}

static void damaged_body(void *arg)
{
	static const struct {
		const char *file;
		off_t at;
	} table[] = {{".glusterfs/myfs/identity", 20}, {".glusterfs/myfs/format", 0}};
	struct err e = ERR_INIT;
	struct tree *t;

	(void)arg;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct brick_dir d;
		brick_dir_create(&d);
		int fd = open(in(&d, table[i].file), O_RDWR | O_CLOEXEC);
		CHECK(fd >= 0 && pwrite(fd, "9", 1, table[i].at) == 1);
		close(fd);
		CHECK(tree_open(d.s, &t, NULL, &e) == -EUCLEAN);
		brick_dir_remove(&d);
	}
}

static void damaged_identity_and_newer_format_are_refused(void **state)
{
	(void)state;
	on_every_backend(damaged_body);
}

static void locked_body(void *arg)
{
	struct brick_dir d;
	struct store *s2;
	struct tree *t, *t2;
	struct err e = ERR_INIT;

	(void)arg;
	brick_dir_create(&d);
	t = brick_dir_open(&d);
	CHECK(store_open_posix(d.path, &s2, NULL) == 0);
	CHECK(tree_open(s2, &t2, NULL, &e) == -EBUSY);
	store_close(s2);
	tree_close(t);
	brick_dir_remove(&d);
}

static void two_servers_cannot_have_one_brick(void **state)
{
	(void)state;
	on_every_backend(locked_body);
}

static void index_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(7);
	struct stat st;
	struct tree *t;
	static const char path[] = ".glusterfs/indices/xattrop/07070707-0707-0707-0707-070707070707";

	(void)arg;
	brick_dir_create(&d);
	t = brick_dir_open(&d);
	for (int i = 0; i < 2; i++)
		CHECK(tree_index_mark(t, &g, true) == 0);
	CHECK(stat(in(&d, path), &st) == 0 && st.st_nlink == 2 && (st.st_mode & 0777) == 0);
	for (int i = 0; i < 2; i++)
		CHECK(tree_index_mark(t, &g, false) == 0);
	CHECK(stat(in(&d, path), &st) < 0);
	tree_close(t);
	brick_dir_remove(&d);
}

static void objects_that_need_work_are_links_in_the_index(void **state)
{
	(void)state;
	on_every_backend(index_body);
}

static void landfill_body(void *arg)
{
	struct brick_dir d;
	struct tree *t;
	struct stat st;

	(void)arg;
	brick_dir_create(&d);
	CHECK(mkdir(in(&d, ".glusterfs/landfill/old"), 0700) == 0);
	for (char c = 'a'; c < 'e'; c++) {
		char path[64];
		snprintf(path, sizeof(path), ".glusterfs/landfill/old/%c", c);
		int fd = open(in(&d, path), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
		CHECK(fd >= 0);
		close(fd);
	}
	t = brick_dir_open(&d);
	while (stat(in(&d, ".glusterfs/landfill/old"), &st) == 0)
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
	CHECK(stat(in(&d, ".glusterfs/landfill"), &st) == 0);
	tree_close(t);
	brick_dir_remove(&d);
}

static void the_landfill_is_emptied_after_a_start(void **state)
{
	(void)state;
	on_every_backend(landfill_body);
}

static void health_body(void *arg)
{
	struct brick_dir d;
	struct err e = ERR_INIT;

	(void)arg;
	brick_dir_create(&d);
	CHECK(tree_health_check(d.s, &e) == 0);
	CHECK(tree_health_check(d.s, &e) == 0);
	CHECK(unlink(in(&d, ".glusterfs/health_check")) == 0);
	CHECK(mkdir(in(&d, ".glusterfs/health_check"), 0700) == 0);
	CHECK(tree_health_check(d.s, &e) == -EISDIR);
	brick_dir_remove(&d);
}

static void the_health_check_writes_and_reads_back(void **state)
{
	(void)state;
	on_every_backend(health_body);
}

int main(void)
{
	brick_dir_base = brick_dir_fast_base(); /* nothing here depends on a real disk */
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(identity_text_is_read_back),
	    cmocka_unit_test(every_flipped_byte_of_the_identity_is_noticed),
	    cmocka_unit_test(impossible_identities_are_refused),
	    cmocka_unit_test(region_and_shard_rows_follow_the_geometry),
	    cmocka_unit_test(gfid2path_names_match_the_published_vectors),
	    cmocka_unit_test(ec_config_has_glusters_layout_with_our_algorithm),
	    cmocka_unit_test(mdata_is_version_flags_and_three_times),
	    cmocka_unit_test(words_of_other_xattrs),
	    cmocka_unit_test(a_made_brick_has_everything_in_its_place),
	    cmocka_unit_test(open_returns_the_identity),
	    cmocka_unit_test(a_used_directory_is_refused),
	    cmocka_unit_test(an_interrupted_creation_is_repeated_with_force),
	    cmocka_unit_test(fragments_of_an_older_brick_are_refused_even_with_force),
	    cmocka_unit_test(without_volume_id_it_asks_whether_the_disk_is_mounted),
	    cmocka_unit_test(a_directory_of_another_volume_is_refused),
	    cmocka_unit_test(damaged_identity_and_newer_format_are_refused),
	    cmocka_unit_test(two_servers_cannot_have_one_brick),
	    cmocka_unit_test(objects_that_need_work_are_links_in_the_index),
	    cmocka_unit_test(the_landfill_is_emptied_after_a_start),
	    cmocka_unit_test(the_health_check_writes_and_reads_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
