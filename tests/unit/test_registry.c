/* test_registry.c - the registry keeps what it is told, refuses what is wrong, and never overwrites a damaged file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/registry/registry.h"

struct fixture {
	char dir[64];
	char path[96];
	struct registry *r;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err e = ERR_INIT;

	strcpy(f->dir, "/tmp/myfs-registry-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/registry.db", f->dir);
	assert_int_equal(registry_open(f->path, true, &f->r, &e), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	static const char *const suffix[] = {"", "-wal", "-shm"};
	char path[128];

	registry_close(f->r);
	for (size_t i = 0; i < ARRAY_LEN(suffix); i++) {
		snprintf(path, sizeof(path), "%s%s", f->path, suffix[i]);
		unlink(path);
	}
	rmdir(f->dir);
	free(f);
	return 0;
}

static struct gfid id(uint8_t n)
{
	struct gfid g = {{0}};

	memset(g.b, n, sizeof(g.b));
	return g;
}

static void put_volume(struct registry *r, const char *name, uint8_t n)
{
	struct reg_volume v = {
	    .uuid = id(n), .k = 4, .r = 2, .chunk_bytes = 16384, .sets = 1, .started = 1, .created_ns = 5};

	snprintf(v.name, sizeof(v.name), "%s", name);
	assert_int_equal(reg_volume_put(r, &v, NULL), 0);
}

static void put_node(struct registry *r, const char *name)
{
	struct reg_node n = {.address = "unix:/run/a.sock", .control = "unix:/run/c.sock"};

	snprintf(n.name, sizeof(n.name), "%s", name);
	assert_int_equal(reg_node_put(r, &n, NULL), 0);
}

static struct reg_brick brick_at(const char *volume, const char *node, uint32_t index)
{
	struct reg_brick b = {.uuid = id((uint8_t)(100 + index)), .brick_index = index};

	snprintf(b.volume, sizeof(b.volume), "%s", volume);
	snprintf(b.node, sizeof(b.node), "%s", node);
	snprintf(b.path, sizeof(b.path), "/bricks/b%u", index);
	return b;
}

static struct reg_lun lun_named(const char *volume, const char *name, uint8_t n)
{
	struct reg_lun l = {.gfid = id(n), .size_bytes = GIB(10), .block_size = 512, .state = REG_LUN_READY};

	snprintf(l.volume, sizeof(l.volume), "%s", volume);
	snprintf(l.name, sizeof(l.name), "%s", name);
	return l;
}

static void names_are_what_the_grammar_says(void **state)
{
	static const struct {
		const char *text;
		bool ok;
	} table[] = {
	    {"a", true},
	    {"0", true},
	    {"vol-1_x.y", true},
	    {"", false},
	    {"-a", false},
	    {".a", false},
	    {"A", false},
	    {"a b", false},
	    {"a/b", false},
	    {"\xc3\xa9", false},
	    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", true},
	    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		assert_int_equal(reg_name_valid(table[i].text), table[i].ok);
}

static void a_node_is_read_back_as_put_and_put_again_replaces_it(void **state)
{
	struct fixture *f = *state;
	struct reg_node n = {.name = "node1", .address = "tcp:h:1", .control = "unix:/c"}, back;

	assert_int_equal(reg_node_put(f->r, &n, NULL), 0);
	strcpy(n.address, "tcp:h:2");
	assert_int_equal(reg_node_put(f->r, &n, NULL), 0);
	assert_int_equal(reg_node_get(f->r, "node1", &back, NULL), 0);
	assert_string_equal(back.address, "tcp:h:2");
	assert_string_equal(back.control, "unix:/c");
}

static void get_of_an_absent_row_is_enoent_and_leaves_the_result_alone(void **state)
{
	struct fixture *f = *state;
	struct reg_node back = {.name = "untouched"};
	struct err e = ERR_INIT;

	assert_int_equal(reg_node_get(f->r, "nobody", &back, &e), -ENOENT);
	assert_string_equal(back.name, "untouched");
	assert_non_null(strstr(e.text, "nobody"));
}

static void bad_names_and_numbers_are_refused(void **state)
{
	struct fixture *f = *state;
	struct reg_node n = {.name = "Node 1"};
	struct reg_lun l = lun_named("vol", "lun", 9);

	assert_int_equal(reg_node_put(f->r, &n, NULL), -EINVAL);
	put_volume(f->r, "vol", 1);
	l.size_bytes = UINT64_MAX;
	assert_int_equal(reg_lun_put(f->r, &l, NULL), -EINVAL);
	l = lun_named("vol", "lun", 0); /* null gfid */
	assert_int_equal(reg_lun_put(f->r, &l, NULL), -EINVAL);
	l = lun_named("vol", "lun", 9);
	l.state = 17;
	assert_int_equal(reg_lun_put(f->r, &l, NULL), -EINVAL);
}

static void a_brick_of_an_unknown_volume_is_refused(void **state)
{
	struct fixture *f = *state;
	struct reg_brick b = brick_at("nowhere", "node1", 0);

	put_node(f->r, "node1");
	assert_int_equal(reg_brick_put(f->r, &b, NULL), -ENOENT);
}

static void two_bricks_cannot_hold_the_same_place_or_path(void **state)
{
	struct fixture *f = *state;
	struct reg_brick a = brick_at("vol", "node1", 0), b = brick_at("vol", "node1", 1);

	put_node(f->r, "node1");
	put_volume(f->r, "vol", 1);
	assert_int_equal(reg_brick_put(f->r, &a, NULL), 0);
	b.brick_index = 0;
	assert_int_equal(reg_brick_put(f->r, &b, NULL), -EEXIST);
	b.brick_index = 1;
	strcpy(b.path, a.path);
	assert_int_equal(reg_brick_put(f->r, &b, NULL), -EEXIST);
	strcpy(b.path, "relative");
	assert_int_equal(reg_brick_put(f->r, &b, NULL), -EINVAL);
}

static void bricks_list_by_volume_and_node_in_set_order(void **state)
{
	struct fixture *f = *state;
	struct reg_brick *v = NULL;
	size_t n = 0;

	put_node(f->r, "node1");
	put_node(f->r, "node2");
	put_volume(f->r, "vol", 1);
	for (uint32_t i = 6; i-- > 0;) {
		struct reg_brick b = brick_at("vol", i % 2 ? "node2" : "node1", i);
		assert_int_equal(reg_brick_put(f->r, &b, NULL), 0);
	}
	assert_int_equal(reg_brick_list(f->r, NULL, NULL, &v, &n, NULL), 0);
	assert_int_equal(n, 6);
	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(v[i].brick_index, i);
	free(v);
	assert_int_equal(reg_brick_list(f->r, "vol", "node2", &v, &n, NULL), 0);
	assert_int_equal(n, 3);
	assert_int_equal(v[0].brick_index, 1);
	free(v);
	assert_int_equal(reg_brick_list(f->r, "other", NULL, &v, &n, NULL), 0);
	assert_int_equal(n, 0);
	assert_null(v);
}

static void a_volume_with_luns_cannot_be_deleted_alone_but_together_with_them(void **state)
{
	struct fixture *f = *state;
	struct reg_lun l = lun_named("vol", "lun", 9), back;

	put_volume(f->r, "vol", 1);
	assert_int_equal(reg_lun_put(f->r, &l, NULL), 0);
	assert_int_equal(reg_volume_delete(f->r, "vol", NULL), -EBUSY);
	assert_int_equal(registry_begin(f->r, NULL), 0);
	assert_int_equal(reg_volume_delete(f->r, "vol", NULL), 0);
	assert_int_equal(reg_lun_delete(f->r, &l.gfid, NULL), 0);
	assert_int_equal(registry_commit(f->r, NULL), 0);
	assert_int_equal(reg_lun_get_gfid(f->r, &l.gfid, &back, NULL), -ENOENT);
	assert_int_equal(reg_volume_delete(f->r, "vol", NULL), 0); /* absent is success */
}

static void a_commit_that_breaks_references_fails_and_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct reg_lun l = lun_named("vol", "lun", 9), back;

	put_volume(f->r, "vol", 1);
	assert_int_equal(reg_lun_put(f->r, &l, NULL), 0);
	assert_int_equal(registry_begin(f->r, NULL), 0);
	assert_int_equal(reg_volume_delete(f->r, "vol", NULL), 0);
	assert_int_equal(registry_commit(f->r, NULL), -ENOENT);
	assert_int_equal(reg_lun_get(f->r, "vol", "lun", &back, NULL), 0);
	put_volume(f->r, "vol", 1); /* and the connection is usable */
}

static void a_name_is_free_again_once_its_lun_is_in_the_trash(void **state)
{
	struct fixture *f = *state;
	struct reg_lun old = lun_named("vol", "lun", 9), new = lun_named("vol", "lun", 10), back;

	put_volume(f->r, "vol", 1);
	assert_int_equal(reg_lun_put(f->r, &old, NULL), 0);
	assert_int_equal(reg_lun_put(f->r, &new, NULL), -EEXIST);
	old.state = REG_LUN_TRASH;
	assert_int_equal(reg_lun_put(f->r, &old, NULL), 0);
	assert_int_equal(reg_lun_get(f->r, "vol", "lun", &back, NULL), -ENOENT);
	assert_int_equal(reg_lun_put(f->r, &new, NULL), 0);
	assert_int_equal(reg_lun_get(f->r, "vol", "lun", &back, NULL), 0);
	assert_memory_equal(&back, &new, sizeof(back));
	old.state = REG_LUN_READY;
	assert_int_equal(reg_lun_put(f->r, &old, NULL), -EEXIST);
}

static void luns_list_by_state_and_name(void **state)
{
	struct fixture *f = *state;
	struct reg_lun *v = NULL;
	size_t n = 0;

	put_volume(f->r, "vol", 1);
	for (uint8_t i = 0; i < 40; i++) {
		char name[8];
		snprintf(name, sizeof(name), "l%02u", 39u - i);
		struct reg_lun l = lun_named("vol", name, (uint8_t)(i + 1));
		l.state = i % 2 ? REG_LUN_READY : REG_LUN_TRASH;
		assert_int_equal(reg_lun_put(f->r, &l, NULL), 0);
	}
	assert_int_equal(reg_lun_list(f->r, NULL, -1, &v, &n, NULL), 0);
	assert_int_equal(n, 40);
	assert_string_equal(v[0].name, "l00");
	assert_string_equal(v[39].name, "l39");
	free(v);
	assert_int_equal(reg_lun_list(f->r, "vol", REG_LUN_TRASH, &v, &n, NULL), 0);
	assert_int_equal(n, 20);
	free(v);
}

static void cluster_settings_are_kept(void **state)
{
	struct fixture *f = *state;
	char text[8];

	assert_int_equal(reg_cluster_get(f->r, "name", text, sizeof(text), NULL), -ENOENT);
	assert_int_equal(reg_cluster_set(f->r, "name", "demo", NULL), 0);
	assert_int_equal(reg_cluster_set(f->r, "name", "demo2", NULL), 0);
	assert_int_equal(reg_cluster_get(f->r, "name", text, sizeof(text), NULL), 0);
	assert_string_equal(text, "demo2");
	assert_int_equal(reg_cluster_get(f->r, "name", text, 3, NULL), -ERANGE);
	assert_int_equal(reg_history_add(f->r, "root@here", "myfs volume create", NULL), 0);
}

static void rollback_undoes_everything(void **state)
{
	struct fixture *f = *state;
	struct reg_volume back;

	assert_int_equal(registry_begin(f->r, NULL), 0);
	put_volume(f->r, "vol", 1);
	registry_rollback(f->r);
	assert_int_equal(reg_volume_get(f->r, "vol", &back, NULL), -ENOENT);
}

static void generation_moves_with_changes_of_this_and_of_other_processes(void **state)
{
	struct fixture *f = *state;
	struct registry *other;
	uint64_t g0, g1, g2, g3;

	assert_int_equal(registry_open(f->path, false, &other, NULL), 0);
	assert_int_equal(registry_generation(f->r, &g0, NULL), 0);
	assert_int_equal(registry_generation(f->r, &g1, NULL), 0);
	assert_true(g0 == g1);
	put_volume(other, "vol", 1);
	assert_int_equal(registry_generation(f->r, &g2, NULL), 0);
	assert_true(g2 != g1);
	put_volume(f->r, "vol2", 2);
	assert_int_equal(registry_generation(f->r, &g3, NULL), 0);
	assert_true(g3 != g2);
	registry_close(other);
}

static void a_missing_registry_is_enoent_unless_it_may_be_created(void **state)
{
	struct fixture *f = *state;
	struct registry *r = NULL;
	struct err e = ERR_INIT;
	char path[128];

	snprintf(path, sizeof(path), "%s/none.db", f->dir);
	assert_int_equal(registry_open(path, false, &r, &e), -ENOENT);
	assert_null(r);
	assert_non_null(strstr(e.text, "none.db"));
}

/* Writes `len` bytes at `off` of the closed registry, opens it and expects damage to be reported and the file
 * untouched. */
static void expect_damage(struct fixture *f, const void *bytes, size_t len, off_t off, off_t truncate_to)
{
	struct registry *r = NULL;
	struct err e = ERR_INIT;
	struct stat before, after;

	registry_close(f->r);
	f->r = NULL;
	int fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, off), len);
	if (truncate_to >= 0)
		assert_int_equal(ftruncate(fd, truncate_to), 0);
	assert_int_equal(fstat(fd, &before), 0);
	for (int create = 0; create < 2; create++) {
		assert_int_equal(registry_open(f->path, create != 0, &r, &e), -EUCLEAN);
		assert_null(r);
		assert_non_null(strstr(e.text, f->path));
	}
	assert_int_equal(fstat(fd, &after), 0);
	assert_int_equal(before.st_size, after.st_size);
	close(fd);
}

static void a_file_that_is_no_database_is_refused_and_left_alone(void **state)
{
	struct fixture *f = *state;
	char junk[8192];

	memset(junk, 'x', sizeof(junk));
	expect_damage(f, junk, sizeof(junk), 0, -1);
}

static void damaged_pages_are_found_at_open(void **state)
{
	struct fixture *f = *state;
	char junk[16384];

	memset(junk, 0xa5, sizeof(junk));
	for (uint8_t i = 0; i < 40; i++) {
		char name[8];
		snprintf(name, sizeof(name), "v%u", i);
		put_volume(f->r, name, (uint8_t)(i + 1));
	}
	expect_damage(f, junk, sizeof(junk), 8192, -1);
}

static void a_truncated_file_is_refused(void **state)
{
	struct fixture *f = *state;

	expect_damage(f, "", 0, 0, 8192);
}

static void a_newer_format_is_refused(void **state)
{
	struct fixture *f = *state;
	static const uint8_t version[4] = {0, 0, 0, REG_FORMAT + 1}; /* user_version in the database header */

	expect_damage(f, version, sizeof(version), 60, -1);
}

static void a_foreign_sqlite_file_is_refused(void **state)
{
	struct fixture *f = *state;

	expect_damage(f, "abcd", 4, 68, -1); /* application_id */
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(names_are_what_the_grammar_says),
	    T(a_node_is_read_back_as_put_and_put_again_replaces_it),
	    T(get_of_an_absent_row_is_enoent_and_leaves_the_result_alone),
	    T(bad_names_and_numbers_are_refused),
	    T(a_brick_of_an_unknown_volume_is_refused),
	    T(two_bricks_cannot_hold_the_same_place_or_path),
	    T(bricks_list_by_volume_and_node_in_set_order),
	    T(a_volume_with_luns_cannot_be_deleted_alone_but_together_with_them),
	    T(a_commit_that_breaks_references_fails_and_changes_nothing),
	    T(a_name_is_free_again_once_its_lun_is_in_the_trash),
	    T(luns_list_by_state_and_name),
	    T(cluster_settings_are_kept),
	    T(rollback_undoes_everything),
	    T(generation_moves_with_changes_of_this_and_of_other_processes),
	    T(a_missing_registry_is_enoent_unless_it_may_be_created),
	    T(a_file_that_is_no_database_is_refused_and_left_alone),
	    T(damaged_pages_are_found_at_open),
	    T(a_truncated_file_is_refused),
	    T(a_newer_format_is_refused),
	    T(a_foreign_sqlite_file_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
