/* test_store.c - a real directory behind struct store. */
#include "tests/unit/loop_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/loop/store.h"

static char dir[64];
static struct store *st;

/* Every body gets an empty store in `st` and leaves it to with_store() to clean up. */
static fiber_fn *current_body;

static void empty_out(const char *path)
{
	struct dirent_list l;

	CHECK(store_readdir(st, path, &l) == 0);
	for (size_t i = 0; i < l.n; i++) {
		char sub[1024];
		snprintf(sub, sizeof(sub), "%s%s%s", path, *path ? "/" : "", l.v[i].name);
		if (l.v[i].type == S_IFDIR) {
			empty_out(sub);
			CHECK(store_rmdir(st, sub) == 0);
		} else {
			CHECK(store_unlink(st, sub) == 0);
		}
	}
	dirent_list_free(&l);
	CHECK(l.n == 0 && !l.v);
}

static void with_store_body(void *arg)
{
	struct err e = ERR_INIT;

	CHECK(store_open_posix(dir, &st, &e) == 0);
	current_body(arg);
	empty_out(STORE_ROOT);
	store_close(st);
}

static void with_store(fiber_fn *body)
{
	current_body = body;
	on_every_backend(with_store_body);
}

static struct file *file_make(const char *path)
{
	struct file *f;

	CHECK(store_open(st, path, O_RDWR | O_CREAT | O_EXCL, 0600, &f) == 0);
	return f;
}

static void a_missing_directory_is_enoent_with_its_name(void **state)
{
	struct store *s = NULL;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(store_open_posix("/nonexistent/brick", &s, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/nonexistent/brick"));
	assert_null(s);
}

/* ---- data ---- */

static void data_body(void *arg)
{
	struct file *f = file_make("data");
	struct iovec v[3] = {{"abc", 3}, {"", 0}, {"defg", 4}};
	char got[16];

	(void)arg;
	CHECK(file_pwritev(f, v, 3, 5) == 0);
	CHECK(file_pread(f, got, 16, 5) == 7 && memcmp(got, "abcdefg", 7) == 0);
	CHECK(file_pread(f, got, 5, 0) == 5 && memcmp(got, "\0\0\0\0\0", 5) == 0);
	CHECK(file_pread(f, got, 4, 12) == 0);
	CHECK(file_pread(f, got, 4, 1000) == 0);
	CHECK(file_pread(f, got, 0, 0) == 0);
	CHECK(file_pread(f, got, 4, UINT64_MAX) == -EINVAL);
	CHECK(file_pwrite(f, got, 4, UINT64_MAX - 1) == -EINVAL);
	CHECK(file_pwritev(f, v, 0, 0) == 0);
	CHECK(file_datasync(f) == 0);
	file_close(f);
	file_close(NULL);
}

static void what_was_written_is_read_and_reads_end_at_the_end(void **state)
{
	(void)state;
	with_store(data_body);
}

static void large_body(void *arg)
{
	enum { N = 1500, PIECE = 997 };
	struct file *f = file_make("large");
	uint8_t *data = malloc(N * PIECE), *got = malloc(N * PIECE);
	struct iovec v[N];
	struct file_info info;

	(void)arg;
	for (size_t i = 0; i < N * PIECE; i++)
		data[i] = (uint8_t)(i * 13 + i / 257);
	for (unsigned i = 0; i < N; i++)
		v[i] = (struct iovec){data + i * PIECE, PIECE};
	CHECK(file_pwritev(f, v, N, 100) == 0); /* more than IOV_MAX, more than is written in place */
	CHECK(file_datasync(f) == 0);
	CHECK(file_stat(f, &info) == 0 && info.size_bytes == 100 + N * PIECE);
	CHECK(file_pread(f, got, N * PIECE, 100) == N * PIECE);
	CHECK(memcmp(data, got, N * PIECE) == 0);
	free(data);
	free(got);
	file_close(f);
}

static void a_write_of_many_pieces_lands_whole(void **state)
{
	(void)state;
	with_store(large_body);
}

static void uncached_body(void *arg)
{
	struct file *f = file_make("cold");
	uint8_t block[4096], got[3 * 4096];
	char path[128];

	(void)arg;
	memset(block, 'x', sizeof(block));
	for (unsigned i = 0; i < 3; i++)
		CHECK(file_pwrite(f, block, sizeof(block), i * 4096) == 0);
	CHECK(file_datasync(f) == 0);
	snprintf(path, sizeof(path), "%s/cold", dir);
	int fd = open(path, O_RDONLY);
	CHECK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
	close(fd);
	CHECK(file_pread(f, got, sizeof(got), 0) == sizeof(got));
	CHECK(memcmp(got + 4096, block, 4096) == 0);
	file_close(f);
}

static void a_read_that_needs_the_disk_waits_for_it(void **state)
{
	(void)state;
	with_store(uncached_body);
}

static void sparse_body(void *arg)
{
	struct file *f = file_make("sparse");
	uint8_t block[8192], got[8192];
	struct file_info info;

	(void)arg;
	memset(block, 1, sizeof(block));
	CHECK(file_truncate(f, MIB(1)) == 0);
	CHECK(file_pwrite(f, block, 8192, 65536) == 0);
	CHECK(file_datasync(f) == 0);
	CHECK(file_stat(f, &info) == 0 && info.size_bytes == MIB(1) && info.alloc_bytes < 65536);
	CHECK(file_seek_data(f, 0) == 65536);
	CHECK(file_seek_hole(f, 65536) == 65536 + 8192);
	CHECK(file_seek_data(f, MIB(2)) == -ENXIO && file_seek_hole(f, MIB(2)) == -ENXIO);
	CHECK(file_allocate(f, FILE_PUNCH_HOLE, 65536, 4096) == 0);
	CHECK(file_pread(f, got, 8192, 65536) == 8192);
	CHECK(got[0] == 0 && got[4095] == 0 && got[4096] == 1);
	CHECK(file_seek_data(f, 0) == 65536 + 4096);
	CHECK(file_allocate(f, FILE_PREALLOCATE, 0, 65536) == 0);
	CHECK(file_stat(f, &info) == 0 && info.alloc_bytes >= 65536 && info.size_bytes == MIB(1));
	CHECK(file_truncate(f, 10) == 0 && file_stat(f, &info) == 0 && info.size_bytes == 10);
	CHECK(file_truncate(f, UINT64_MAX) == -EFBIG);
	file_close(f);
}

static void holes_are_made_found_and_read_as_zeros(void **state)
{
	(void)state;
	with_store(sparse_body);
}

static void read_only_body(void *arg)
{
	struct file *f;

	(void)arg;
	file_close(file_make("f"));
	CHECK(store_open(st, "f", O_RDONLY, 0, &f) == 0);
	CHECK(file_pwrite(f, "x", 1, 0) == -EBADF);
	file_close(f);
	CHECK(store_open(st, "f", O_RDWR | O_CREAT | O_EXCL, 0600, &f) == -EEXIST);
	CHECK(store_open(st, "missing", O_RDWR, 0, &f) == -ENOENT);
	CHECK(store_open(st, "f", O_RDWR | O_DIRECTORY, 0, &f) == -EINVAL);
}

static void open_reports_what_is_wrong(void **state)
{
	(void)state;
	with_store(read_only_body);
}

/* ---- names ---- */

static void names_body(void *arg)
{
	struct file_info info;
	char target[32];

	(void)arg;
	CHECK(store_mkdir(st, "a", 0700) == 0 && store_mkdir(st, "a/b", 0700) == 0);
	CHECK(store_mkdir(st, "a", 0700) == -EEXIST && store_mkdir(st, "x/b", 0700) == -ENOENT);
	file_close(file_make("a/b/f"));
	CHECK(store_link(st, "a/b/f", "a/g") == 0 && store_link(st, "a/b/f", "a/g") == -EEXIST);
	CHECK(store_stat(st, "a/g", &info) == 0 && info.nlink == 2 && S_ISREG(info.mode));
	uint64_t ino = info.ino;
	CHECK(store_rename(st, "a/g", "h") == 0 && store_stat(st, "a/g", &info) == -ENOENT);
	CHECK(store_stat(st, "h", &info) == 0 && info.ino == ino);
	CHECK(store_symlink(st, "a/b", "s") == 0 && store_stat(st, "s", &info) == 0 && S_ISLNK(info.mode));
	CHECK(store_readlink(st, "s", target, sizeof(target)) == 3 && strcmp(target, "a/b") == 0);
	CHECK(store_readlink(st, "s", target, 3) == -ENAMETOOLONG && store_readlink(st, "h", target, 32) == -EINVAL);
	CHECK(store_rmdir(st, "a") == -ENOTEMPTY && store_unlink(st, "a") == -EISDIR);
	CHECK(store_unlink(st, "a/b/f") == 0 && store_unlink(st, "a/b/f") == -ENOENT);
	CHECK(store_rmdir(st, "a/b") == 0);
	CHECK(store_sync_dir(st, "a") == 0 && store_sync_dir(st, STORE_ROOT) == 0 && store_sync_dir(st, "h") == 0);
	CHECK(store_sync_dir(st, "nope") == -ENOENT);
	CHECK(store_stat(st, STORE_ROOT, &info) == 0 && S_ISDIR(info.mode));
}

static void names_are_made_moved_and_removed(void **state)
{
	(void)state;
	with_store(names_body);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct dirent_item *)a)->name, ((const struct dirent_item *)b)->name);
}

static void readdir_body(void *arg)
{
	struct dirent_list l;
	char name[32];

	(void)arg;
	for (unsigned i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "d%03u", i);
		CHECK(store_mkdir(st, name, 0700) == 0);
	}
	CHECK(store_symlink(st, "x", "y") == 0);
	file_close(file_make("z"));
	CHECK(store_readdir(st, STORE_ROOT, &l) == 0 && l.n == 102);
	qsort(l.v, l.n, sizeof(*l.v), by_name);
	CHECK(strcmp(l.v[99].name, "d099") == 0 && l.v[99].type == S_IFDIR && l.v[99].ino != 0);
	CHECK(l.v[100].type == S_IFLNK && l.v[101].type == S_IFREG);
	dirent_list_free(&l);
	CHECK(store_readdir(st, "d000", &l) == 0 && l.n == 0);
	dirent_list_free(&l);
	CHECK(store_readdir(st, "z", &l) == -ENOTDIR);
}

static void a_directory_lists_names_types_and_inodes(void **state)
{
	(void)state;
	with_store(readdir_body);
}

/* ---- xattrs ---- */

static void xattr_body(void *arg)
{
	char got[64];

	(void)arg;
	file_close(file_make("f"));
	CHECK(store_setxattr(st, "f", "user.a", "value", 5, XATTR_CREATE) == 0);
	CHECK(store_setxattr(st, "f", "user.a", "value", 5, XATTR_CREATE) == -EEXIST);
	CHECK(store_setxattr(st, "f", "user.b", "", 0, 0) == 0);
	CHECK(store_getxattr(st, "f", "user.a", got, sizeof(got)) == 5 && memcmp(got, "value", 5) == 0);
	CHECK(store_getxattr(st, "f", "user.a", got, 2) == -ERANGE);
	CHECK(store_getxattr(st, "f", "user.none", got, 2) == -ENODATA);
	ssize_t n = store_listxattr(st, "f", got, sizeof(got));
	CHECK(n >= 14 && memmem(got, (size_t)n, "user.a\0", 7) && memmem(got, (size_t)n, "user.b\0", 7));
	CHECK(store_removexattr(st, "f", "user.a") == 0 && store_removexattr(st, "f", "user.a") == -ENODATA);
	CHECK(store_setxattr(st, STORE_ROOT, "user.root", "r", 1, 0) == 0);
	CHECK(store_getxattr(st, STORE_ROOT, "user.root", got, sizeof(got)) == 1 && got[0] == 'r');
	CHECK(store_removexattr(st, STORE_ROOT, "user.root") == 0);
	CHECK(store_getxattr(st, "missing", "user.a", got, 2) == -ENOENT);
}

static void extended_attributes_are_set_listed_and_removed(void **state)
{
	(void)state;
	with_store(xattr_body);
}

static void symlink_xattr_body(void *arg)
{
	char got[8];

	(void)arg;
	file_close(file_make("f"));
	CHECK(store_symlink(st, "f", "s") == 0);
	CHECK(store_setxattr(st, "f", "user.a", "v", 1, 0) == 0);
	ssize_t n = store_getxattr(st, "s", "user.a", got, sizeof(got));
	CHECK(n == -ENODATA || n == -EPERM || n == -EOPNOTSUPP); /* of the link, not of what it points to */
}

static void attributes_of_a_symlink_are_its_own(void **state)
{
	(void)state;
	with_store(symlink_xattr_body);
}

/* ---- staying inside ---- */

static void unclean_body(void *arg)
{
	static const char *const bad[] = {"/etc/passwd", "..", ".", "../x", "a/../b", "a/./b", "a//b", "a/", "/", "a/.."};
	struct file *f;
	struct file_info info;
	char got[8];

	(void)arg;
	CHECK(store_mkdir(st, "a", 0700) == 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		CHECK(store_open(st, bad[i], O_RDWR | O_CREAT, 0600, &f) == -EINVAL);
		CHECK(store_mkdir(st, bad[i], 0700) == -EINVAL && store_stat(st, bad[i], &info) == -EINVAL);
		CHECK(store_rename(st, "a", bad[i]) == -EINVAL && store_rename(st, bad[i], "c") == -EINVAL);
		CHECK(store_getxattr(st, bad[i], "user.a", got, 8) == -EINVAL && store_sync_dir(st, bad[i]) == -EINVAL);
		CHECK(store_lock(st, bad[i]) == -EINVAL);
	}
	CHECK(store_open(st, "", O_RDWR | O_CREAT, 0600, &f) == -EINVAL);
	file_close(file_make("..a"));
	file_close(file_make("a/..."));
}

static void unclean_paths_are_refused(void **state)
{
	(void)state;
	with_store(unclean_body);
}

static void escape_body(void *arg)
{
	struct file *f;
	struct file_info info;
	struct dirent_list l;
	char got[8];

	(void)arg;
	CHECK(store_symlink(st, "/etc", "abs") == 0 && store_symlink(st, "..", "up") == 0);
	CHECK(store_open(st, "abs/passwd", O_RDONLY, 0, &f) == -EXDEV);
	CHECK(store_open(st, "up/x", O_RDWR | O_CREAT, 0600, &f) == -EXDEV);
	CHECK(store_stat(st, "abs/passwd", &info) == -EXDEV && store_unlink(st, "up/x") == -EXDEV);
	CHECK(store_mkdir(st, "up/x", 0700) == -EXDEV && store_rename(st, "abs", "up/x") == -EXDEV);
	CHECK(store_getxattr(st, "abs/passwd", "user.a", got, 8) == -EXDEV);
	CHECK(store_readdir(st, "abs", &l) == -ELOOP || store_readdir(st, "abs", &l) == -ENOTDIR);
	CHECK(store_open(st, "abs", O_RDONLY, 0, &f) == -ELOOP);
}

static void symlinks_do_not_lead_out_of_the_tree(void **state)
{
	(void)state;
	with_store(escape_body);
}

static void inside_symlink_body(void *arg)
{
	struct file *f;

	(void)arg;
	CHECK(store_mkdir(st, "real", 0700) == 0 && store_mkdir(st, "h", 0700) == 0);
	CHECK(store_symlink(st, "../real", "h/handle") == 0);
	file_close(file_make("h/handle/f"));
	CHECK(store_open(st, "real/f", O_RDONLY, 0, &f) == 0);
	file_close(f);
	CHECK(store_mkdir(st, "h/handle/d", 0700) == 0 && store_rename(st, "h/handle/f", "h/handle/d/f") == 0);
	CHECK(store_unlink(st, "real/d/f") == 0);
}

static void symlinks_inside_the_tree_may_be_walked_through(void **state)
{
	(void)state;
	with_store(inside_symlink_body);
}

/* ---- the whole ---- */

static void lock_body(void *arg)
{
	struct store *second;

	(void)arg;
	CHECK(store_lock(st, "lock") == 0);
	CHECK(store_open_posix(dir, &second, NULL) == 0);
	CHECK(store_lock(second, "lock") == -EBUSY);
	CHECK(store_lock(second, "other") == 0);
	store_close(second);
	CHECK(store_lock(st, "other") == 0);
}

static void a_lock_keeps_others_out_until_the_store_is_closed(void **state)
{
	(void)state;
	with_store(lock_body);
}

static void space_body(void *arg)
{
	struct store_space s = {0};

	(void)arg;
	CHECK(store_space(st, &s) == 0);
	CHECK(s.total_bytes > 0 && s.free_bytes <= s.total_bytes);
}

static void space_is_reported(void **state)
{
	(void)state;
	with_store(space_body);
}

/* ---- together ---- */

struct writer {
	struct file *f;
	unsigned i;
	unsigned *left;
	struct waitq *q;
};

static void write_sync_read(void *arg)
{
	struct writer *w = arg;
	uint8_t block[4096], got[4096];

	memset(block, (int)w->i, sizeof(block));
	CHECK(file_pwrite(w->f, block, sizeof(block), w->i * 4096ull) == 0);
	CHECK(file_datasync(w->f) == 0);
	CHECK(file_pread(w->f, got, sizeof(got), w->i * 4096ull) == 4096 && memcmp(got, block, 4096) == 0);
	if (--*w->left == 0)
		waitq_wake_all(w->q);
}

static void parallel_body(void *arg)
{
	enum { N = 100 };
	struct writer w[N];
	struct waitq q;
	unsigned left = N;
	struct file *f = file_make("f");

	waitq_init(&q);
	for (unsigned i = 0; i < N; i++) {
		w[i] = (struct writer){.f = f, .i = i, .left = &left, .q = &q};
		CHECK(fiber_spawn(arg, "w", write_sync_read, &w[i]) == 0);
	}
	waitq_wait(&q);
	file_close(f);
}

static void many_fibers_use_one_file_at_once(void **state)
{
	(void)state;
	with_store(parallel_body);
}

static void count_turns(void *arg)
{
	unsigned *turns = arg;

	for (; *turns < 1000; fiber_yield())
		++*turns;
}

static void fair_body(void *arg)
{
	struct file *f = file_make("f");
	char block[4096] = {0};
	unsigned turns = 0;

	CHECK(fiber_spawn(arg, "other", count_turns, &turns) == 0);
	for (unsigned i = 0; i < 1000; i++)
		CHECK(file_pwrite(f, block, sizeof(block), 0) == 0);
	for (unsigned i = 0; i < 1000; i++)
		CHECK(file_pread(f, block, sizeof(block), 0) == 4096);
	CHECK(turns >= 20);
	turns = 1000;
	fiber_yield();
	file_close(f);
}

static void a_fiber_busy_with_cached_data_lets_others_run(void **state)
{
	(void)state;
	with_store(fair_body);
}

static int directory_make(void **state)
{
	(void)state;
	strcpy(dir, "/var/tmp/myfs-store-XXXXXX"); /* a real disk: tmpfs has no user xattrs */
	return mkdtemp(dir) ? 0 : -1;
}

static int directory_remove(void **state)
{
	(void)state;
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_missing_directory_is_enoent_with_its_name),
	    cmocka_unit_test(what_was_written_is_read_and_reads_end_at_the_end),
	    cmocka_unit_test(a_write_of_many_pieces_lands_whole),
	    cmocka_unit_test(a_read_that_needs_the_disk_waits_for_it),
	    cmocka_unit_test(holes_are_made_found_and_read_as_zeros),
	    cmocka_unit_test(open_reports_what_is_wrong),
	    cmocka_unit_test(names_are_made_moved_and_removed),
	    cmocka_unit_test(a_directory_lists_names_types_and_inodes),
	    cmocka_unit_test(extended_attributes_are_set_listed_and_removed),
	    cmocka_unit_test(attributes_of_a_symlink_are_its_own),
	    cmocka_unit_test(unclean_paths_are_refused),
	    cmocka_unit_test(symlinks_do_not_lead_out_of_the_tree),
	    cmocka_unit_test(symlinks_inside_the_tree_may_be_walked_through),
	    cmocka_unit_test(a_lock_keeps_others_out_until_the_store_is_closed),
	    cmocka_unit_test(space_is_reported),
	    cmocka_unit_test(many_fibers_use_one_file_at_once),
	    cmocka_unit_test(a_fiber_busy_with_cached_data_lets_others_run),
	};
	return cmocka_run_group_tests(tests, directory_make, directory_remove);
}
