/* test_registry_targets.c - targets and ACLs in the registry, and bringing a file of format 1 up to date. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/registry/registry.h"

static char dir[64], path[96];

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/myfs-targets-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/registry.db", dir);
	return 0;
}

static int teardown(void **state)
{
	static const char *const suffix[] = {"", "-wal", "-shm"};
	char name[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(suffix); i++) {
		snprintf(name, sizeof(name), "%s%s", path, suffix[i]);
		unlink(name);
	}
	rmdir(dir);
	return 0;
}

static struct registry *open_registry(bool create)
{
	struct registry *r = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(registry_open(path, create, &r, &e), 0);
	return r;
}

static const struct gfid lun_id = {{7, 7, 7}};

/* A new registry with one volume and one LUN. */
static struct registry *registry_with_lun(void)
{
	struct registry *r = open_registry(true);
	struct reg_volume v = {.name = "vol", .uuid = {{1}}, .k = 2, .r = 1, .chunk_bytes = 16384, .sets = 1};
	struct reg_lun l = {.volume = "vol",
			    .name = "lun",
			    .gfid = lun_id,
			    .size_bytes = 4096,
			    .block_size = 512,
			    .state = REG_LUN_READY};

	assert_int_equal(reg_volume_put(r, &v, NULL), 0);
	assert_int_equal(reg_lun_put(r, &l, NULL), 0);
	return r;
}

static struct reg_target sample(void)
{
	return (struct reg_target){.lun = lun_id,
				   .protos = REG_PROTO_NBD | REG_PROTO_ISCSI,
				   .enabled = 1,
				   .auth = REG_AUTH_MUTUAL,
				   .iqn = "iqn.2026-11.internal.myfs:5f1c02aa:vol.lun",
				   .home = "gw1",
				   .chap_user = "vol.lun",
				   .chap_secret = "abcdefghijkl",
				   .mutual_user = "target",
				   .mutual_secret = "mnopqrstuvwx"};
}

static void a_target_is_read_back_as_put(void **state)
{
	struct registry *r = registry_with_lun();
	struct reg_target t = sample(), got = {.open = 9}, *all = NULL;
	size_t n = 0;

	(void)state;
	assert_int_equal(reg_target_get(r, &lun_id, &got, NULL), -ENOENT);
	assert_int_equal(got.open, 9);
	assert_int_equal(reg_target_put(r, &t, NULL), 0);
	t.enabled = 0;
	assert_int_equal(reg_target_put(r, &t, NULL), 0);
	assert_int_equal(reg_target_get(r, &lun_id, &got, NULL), 0);
	assert_memory_equal(&got, &t, sizeof(t));
	assert_int_equal(reg_target_list(r, &all, &n, NULL), 0);
	assert_int_equal(n, 1);
	free(all);
	registry_close(r);
}

static void a_target_of_no_lun_and_unknown_words_are_refused(void **state)
{
	struct registry *r = registry_with_lun();
	struct reg_target t = sample();

	(void)state;
	t.lun.b[0] = 8;
	assert_int_equal(reg_target_put(r, &t, NULL), -ENOENT);
	t = sample();
	t.protos = 4;
	assert_int_equal(reg_target_put(r, &t, NULL), -EINVAL);
	t = sample();
	t.auth = 3;
	assert_int_equal(reg_target_put(r, &t, NULL), -EINVAL);
	memset(t.iqn, 'a', sizeof(t.iqn));
	t.auth = 0;
	assert_int_equal(reg_target_put(r, &t, NULL), -EINVAL);
	registry_close(r);
}

static void acl_rows_are_added_once_listed_in_order_and_removed(void **state)
{
	struct registry *r = registry_with_lun();
	struct reg_acl a = {.lun = lun_id, .who = "iqn.1993-08.org.debian:01:abc"},
		       b = {.lun = lun_id, .who = "192.0.2.0/24"};
	struct reg_acl empty = {.lun = lun_id}, *all = NULL;
	size_t n = 0;

	(void)state;
	assert_int_equal(reg_acl_add(r, &a, NULL), 0);
	assert_int_equal(reg_acl_add(r, &a, NULL), 0);
	assert_int_equal(reg_acl_add(r, &b, NULL), 0);
	assert_int_equal(reg_acl_add(r, &empty, NULL), -EINVAL);
	assert_int_equal(reg_acl_list(r, &lun_id, &all, &n, NULL), 0);
	assert_int_equal(n, 2);
	assert_string_equal(all[0].who, "192.0.2.0/24");
	assert_string_equal(all[1].who, a.who);
	free(all);
	assert_int_equal(reg_acl_remove(r, &a, NULL), 0);
	assert_int_equal(reg_acl_remove(r, &a, NULL), -ENOENT);
	assert_int_equal(reg_acl_list(r, NULL, &all, &n, NULL), 0);
	assert_int_equal(n, 1);
	free(all);
	a.lun.b[0] = 8;
	assert_int_equal(reg_acl_add(r, &a, NULL), -ENOENT);
	registry_close(r);
}

static void target_and_acl_go_with_their_lun_and_survive_its_changes(void **state)
{
	struct registry *r = registry_with_lun();
	struct reg_target t = sample(), got;
	struct reg_acl a = {.lun = lun_id, .who = "192.0.2.1"}, *all = NULL;
	struct reg_lun l;
	size_t n = 0;

	(void)state;
	assert_int_equal(reg_target_put(r, &t, NULL), 0);
	assert_int_equal(reg_acl_add(r, &a, NULL), 0);
	assert_int_equal(reg_lun_get_gfid(r, &lun_id, &l, NULL), 0);
	l.state = REG_LUN_TRASH;
	assert_int_equal(reg_lun_put(r, &l, NULL), 0);
	assert_int_equal(reg_target_get(r, &lun_id, &got, NULL), 0);
	assert_int_equal(reg_lun_delete(r, &lun_id, NULL), 0);
	assert_int_equal(reg_target_get(r, &lun_id, &got, NULL), -ENOENT);
	assert_int_equal(reg_acl_list(r, NULL, &all, &n, NULL), 0);
	assert_int_equal(n, 0);
	registry_close(r);
}

/* What format 1 looked like, with a volume, a gateway and two LUNs, one of them in the trash. */
static const char format_1[] =
    "CREATE TABLE cluster(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE node(name TEXT PRIMARY KEY, address TEXT NOT NULL, control TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE gateway(name TEXT PRIMARY KEY, uuid BLOB NOT NULL UNIQUE, control TEXT NOT NULL, nbd_uri TEXT NOT "
    "NULL,"
    " nbd_tcp_uri TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE volume(name TEXT PRIMARY KEY, uuid BLOB NOT NULL UNIQUE, k INTEGER NOT NULL, r INTEGER NOT NULL,"
    " chunk_bytes INTEGER NOT NULL, sets INTEGER NOT NULL, started INTEGER NOT NULL, created_ns INTEGER NOT NULL)"
    " WITHOUT ROWID;"
    "CREATE TABLE brick(uuid BLOB PRIMARY KEY, volume TEXT NOT NULL REFERENCES volume(name) DEFERRABLE INITIALLY "
    "DEFERRED,"
    " node TEXT NOT NULL REFERENCES node(name) DEFERRABLE INITIALLY DEFERRED, path TEXT NOT NULL,"
    " set_index INTEGER NOT NULL, brick_index INTEGER NOT NULL, UNIQUE(volume, set_index, brick_index), UNIQUE(node, "
    "path))"
    " WITHOUT ROWID;"
    "CREATE TABLE lun(gfid BLOB PRIMARY KEY, volume TEXT NOT NULL REFERENCES volume(name) DEFERRABLE INITIALLY "
    "DEFERRED,"
    " name TEXT NOT NULL, size_bytes INTEGER NOT NULL, block_size INTEGER NOT NULL, state INTEGER NOT NULL,"
    " owner TEXT NOT NULL, created_ns INTEGER NOT NULL, deleted_ns INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE UNIQUE INDEX lun_live ON lun(volume, name) WHERE state < 2;"
    "CREATE INDEX lun_by_name ON lun(volume, name);"
    "CREATE TABLE history(id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL DEFAULT '', who TEXT NOT NULL,"
    " what TEXT NOT NULL);"
    "INSERT INTO gateway VALUES('gw', x'0102030405060708090a0b0c0d0e0f10', 'unix:/c', 'nbd+unix:///%s', '');"
    "INSERT INTO volume VALUES('vol', x'11', 2, 1, 16384, 1, 1, 5);"
    "UPDATE volume SET uuid = x'1102030405060708090a0b0c0d0e0f10';"
    "INSERT INTO lun VALUES(x'07070700000000000000000000000000', 'vol', 'lun', 4096, 4096, 1, 'gw', 5, 0);"
    "INSERT INTO lun VALUES(x'08000000000000000000000000000000', 'vol', 'old', 4096, 4096, 2, 'gw', 5, 6);"
    "PRAGMA application_id=1836672627; PRAGMA user_version=1;";

static void write_format_1(const char *sql)
{
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static int64_t query_one(const char *sql)
{
	sqlite3 *db = NULL;
	sqlite3_stmt *st = NULL;
	int64_t value;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	value = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	sqlite3_close(db);
	return value;
}

static void format_1_is_upgraded_in_place_and_its_luns_stay_reachable(void **state)
{
	struct registry *r;
	struct reg_target t;
	struct reg_gateway g;
	struct reg_lun l;

	(void)state;
	write_format_1(format_1);
	for (unsigned pass = 0; pass < 2; pass++) { /* the second time there is nothing to do */
		r = open_registry(pass == 1);
		assert_int_equal(reg_lun_get(r, "vol", "lun", &l, NULL), 0);
		assert_int_equal(reg_target_get(r, &l.gfid, &t, NULL), 0);
		assert_int_equal(t.protos, REG_PROTO_NBD);
		assert_int_equal(t.open, 1);
		assert_string_equal(t.iqn, "");
		assert_int_equal(reg_gateway_get(r, "gw", &g, NULL), 0);
		assert_string_equal(g.control, "unix:/c");
		snprintf(g.portals, sizeof(g.portals), "192.0.2.1:3260");
		assert_int_equal(reg_gateway_put(r, &g, NULL), 0);
		assert_int_equal(reg_gateway_get(r, "gw", &g, NULL), 0);
		assert_string_equal(g.portals, "192.0.2.1:3260");
		registry_close(r);
	}
	assert_int_equal(query_one("PRAGMA user_version"), REG_FORMAT);
	assert_int_equal(query_one("SELECT count(*) FROM target"), 2);
}

static void an_upgrade_that_fails_leaves_the_file_at_its_format(void **state)
{
	struct registry *r = NULL;
	struct err e = ERR_INIT;

	(void)state;
	write_format_1(format_1);
	write_format_1("CREATE TABLE acl(x)"); /* in the way of the second statement of the step */
	assert_true(registry_open(path, false, &r, &e) < 0);
	assert_null(r);
	assert_non_null(strstr(e.text, "from format 1 to 2"));
	assert_int_equal(query_one("PRAGMA user_version"), 1);
	assert_int_equal(query_one("SELECT count(*) FROM sqlite_schema WHERE name='target'"), 0);
}

static void others_cannot_read_the_file(void **state)
{
	struct stat st;

	(void)state;
	registry_close(open_registry(true));
	assert_int_equal(chmod(path, 0644), 0);
	registry_close(open_registry(false));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(a_target_is_read_back_as_put),
	    T(a_target_of_no_lun_and_unknown_words_are_refused),
	    T(acl_rows_are_added_once_listed_in_order_and_removed),
	    T(target_and_acl_go_with_their_lun_and_survive_its_changes),
	    T(format_1_is_upgraded_in_place_and_its_luns_stay_reachable),
	    T(an_upgrade_that_fails_leaves_the_file_at_its_format),
	    T(others_cannot_read_the_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
