/* registry.c - the SQLite file behind the registry: opening it safely, its format, transactions and change detection.
 *
 * Invariants: R1 a file that is not ours, is damaged, or is of a newer format is never written to. R2 every change is
 * durable when the call (or registry_commit) returns: synchronous=FULL. R3 references between rows are enforced by the
 * database, so a reader never sees a brick of a volume that does not exist. */
#include "core/registry/registry_priv.h"

#include <stdio.h>
#include <sys/stat.h>

#include "core/loop/loop.h"

#define REG_APPLICATION_ID 0x6d796673 /* "myfs" */
#define REG_BUSY_MS        5000
#define REG_READ_BUSY_MS   200 /* on a loop: readers wait only while somebody mends the file after a crash */

/* New with format 2. */
#define SCHEMA_TARGETS                                                                                                 \
	"CREATE TABLE target(lun BLOB PRIMARY KEY REFERENCES lun(gfid) ON DELETE CASCADE DEFERRABLE INITIALLY "        \
	"DEFERRED,"                                                                                                    \
	" protos INTEGER NOT NULL, enabled INTEGER NOT NULL, open INTEGER NOT NULL, auth INTEGER NOT NULL,"            \
	" iqn TEXT NOT NULL, home TEXT NOT NULL, chap_user TEXT NOT NULL, chap_secret TEXT NOT NULL,"                  \
	" mutual_user TEXT NOT NULL, mutual_secret TEXT NOT NULL) WITHOUT ROWID;"                                      \
	"CREATE TABLE acl(lun BLOB NOT NULL REFERENCES lun(gfid) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,"     \
	" who TEXT NOT NULL, PRIMARY KEY(lun, who)) WITHOUT ROWID;"

static const char schema[] =
    "CREATE TABLE cluster(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE node(name TEXT PRIMARY KEY, address TEXT NOT NULL, control TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE gateway(name TEXT PRIMARY KEY, uuid BLOB NOT NULL UNIQUE, control TEXT NOT NULL, nbd_uri TEXT NOT "
    "NULL,"
    " nbd_tcp_uri TEXT NOT NULL, portals TEXT NOT NULL DEFAULT '') WITHOUT ROWID;"
    "CREATE TABLE volume(name TEXT PRIMARY KEY, uuid BLOB NOT NULL UNIQUE, k INTEGER NOT NULL, r INTEGER NOT NULL,"
    " chunk_bytes INTEGER NOT NULL, sets INTEGER NOT NULL, started INTEGER NOT NULL, created_ns INTEGER NOT NULL) "
    "WITHOUT ROWID;"
    "CREATE TABLE brick(uuid BLOB PRIMARY KEY,"
    " volume TEXT NOT NULL REFERENCES volume(name) DEFERRABLE INITIALLY DEFERRED,"
    " node TEXT NOT NULL REFERENCES node(name) DEFERRABLE INITIALLY DEFERRED,"
    " path TEXT NOT NULL, set_index INTEGER NOT NULL, brick_index INTEGER NOT NULL,"
    " UNIQUE(volume, set_index, brick_index), UNIQUE(node, path)) WITHOUT ROWID;"
    "CREATE TABLE lun(gfid BLOB PRIMARY KEY,"
    " volume TEXT NOT NULL REFERENCES volume(name) DEFERRABLE INITIALLY DEFERRED,"
    " name TEXT NOT NULL, size_bytes INTEGER NOT NULL, block_size INTEGER NOT NULL, state INTEGER NOT NULL,"
    " owner TEXT NOT NULL, created_ns INTEGER NOT NULL, deleted_ns INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE UNIQUE INDEX lun_live ON lun(volume, name) WHERE state < 2;"
    "CREATE INDEX lun_by_name ON lun(volume, name);"
    "CREATE TABLE history(id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL DEFAULT "
    "(strftime('%Y-%m-%dT%H:%M:%fZ','now')),"
    " who TEXT NOT NULL, what TEXT NOT NULL);" SCHEMA_TARGETS;

/* Steps from one format to the next; LUNs that were reachable stay so. */
static const char upgrade_1_2[] = "ALTER TABLE gateway ADD COLUMN portals TEXT NOT NULL DEFAULT '';" SCHEMA_TARGETS
				  "INSERT INTO target SELECT gfid, 1, 1, 1, 1, '', '', '', '', '', '' FROM lun;";
static const char *const upgrades[REG_FORMAT] = {NULL, upgrade_1_2}; /* [the format it starts from] */

static int code_of_sqlite(int sq)
{
	switch (sq & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_FORMAT:
	case SQLITE_SCHEMA:
		return -EUCLEAN;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_AUTH:
	case SQLITE_CANTOPEN:
		return -EACCES;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_TOOBIG:
	case SQLITE_MISMATCH:
	case SQLITE_RANGE:
		return -EINVAL;
	case SQLITE_CONSTRAINT:
		return sq == SQLITE_CONSTRAINT_FOREIGNKEY ? -ENOENT : -EEXIST;
	default:
		return -EIO;
	}
}

int registry_sqlite_error(struct registry *r, int sq, struct err *e)
{
	int rc = code_of_sqlite(sq);
	const char *reason = r->db ? sqlite3_errmsg(registry_db(r)) : sqlite3_errstr(sq);

	if (rc == -EUCLEAN)
		return err_set(e, rc, "registry %s is damaged or not a registry: %s", r->path, reason);
	if (rc == -EBUSY)
		return err_set(e, rc, "registry %s is locked by another process for more than %d s", r->path,
			       REG_BUSY_MS / 1000);
	return err_set(e, rc, "registry %s: %s", r->path, reason);
}

/* ---- who changes something, and where it waits ---- */

sqlite3 *registry_db(const struct registry *r)
{
	return r->writer && r->writer == fiber_self() ? r->writing : r->db;
}

bool registry_turn_take(struct registry *r) YIELDS
{
	struct fiber *self = fiber_self();

	if (!r->writing || !self || r->writer == self)
		return false;
	fmutex_lock(&r->turn);
	r->writer = self;
	return true;
}

void registry_turn_give(struct registry *r, bool taken)
{
	if (!taken)
		return;
	assert(r->writer == fiber_self());
	r->writer = NULL;
	fmutex_unlock(&r->turn);
}

struct slow_exec {
	sqlite3 *db;
	const char *sql;
};

/* On a pool thread: only this connection is touched, and nobody else has it. */
static int64_t exec_work(void *arg)
{
	const struct slow_exec *x = arg;

	return sqlite3_exec(x->db, x->sql, NULL, NULL, NULL);
}

static int64_t step_work(void *arg)
{
	return sqlite3_step(arg);
}

int registry_step_change(struct registry *r, sqlite3_stmt *st) YIELDS
{
	/* Inside a transaction the lock is held and the disk waits for COMMIT. */
	if (registry_db(r) != r->writing || !sqlite3_get_autocommit(r->writing))
		return sqlite3_step(st);
	return (int)loop_offload(step_work, st);
}

int registry_exec(struct registry *r, const char *sql, struct err *e)
{
	int sq = sqlite3_exec(registry_db(r), sql, NULL, NULL, NULL);

	return sq == SQLITE_OK ? 0 : registry_sqlite_error(r, sqlite3_extended_errcode(registry_db(r)), e);
}

/* What may wait: the beginning and the end of a transaction. */
static int exec_slow(struct registry *r, const char *sql, struct err *e) YIELDS
{
	struct slow_exec x = {registry_db(r), sql};

	if (x.db != r->writing)
		return registry_exec(r, sql, e);
	int sq = (int)loop_offload(exec_work, &x);
	return sq == SQLITE_OK ? 0 : registry_sqlite_error(r, sqlite3_extended_errcode(x.db), e);
}

int registry_prepare(struct registry *r, const char *sql, sqlite3_stmt **ret, struct err *e)
{
	int sq = sqlite3_prepare_v2(registry_db(r), sql, -1, ret, NULL);

	return sq == SQLITE_OK ? 0 : registry_sqlite_error(r, sqlite3_extended_errcode(registry_db(r)), e);
}

/* One integer, for pragmas. */
static int query_integer(struct registry *r, const char *sql, int64_t *ret, struct err *e)
{
	sqlite3_stmt *st = NULL;
	int rc = registry_prepare(r, sql, &st, e);

	if (rc)
		return rc;
	int sq = sqlite3_step(st);
	if (sq == SQLITE_ROW)
		*ret = sqlite3_column_int64(st, 0);
	else
		rc = registry_sqlite_error(r, sq == SQLITE_DONE ? SQLITE_CORRUPT : sqlite3_extended_errcode(registry_db(r)), e);
	sqlite3_finalize(st);
	return rc;
}

static int check_pages(struct registry *r, struct err *e)
{
	sqlite3_stmt *st = NULL;
	int rc = registry_prepare(r, "PRAGMA quick_check(1)", &st, e);

	if (rc)
		return rc;
	int sq = sqlite3_step(st);
	if (sq == SQLITE_ROW) {
		const char *text = (const char *)sqlite3_column_text(st, 0);
		if (!text || strcmp(text, "ok") != 0)
			rc = err_set(e, -EUCLEAN,
				     "registry %s is damaged: %s; restore it from a copy, it was left untouched",
				     r->path, text ? text : "check failed");
	} else {
		rc = registry_sqlite_error(r, sqlite3_extended_errcode(r->db), e);
	}
	sqlite3_finalize(st);
	return rc;
}

static int write_marks(struct registry *r, struct err *e)
{
	char mark[128];

	snprintf(mark, sizeof(mark), "PRAGMA application_id=%d; PRAGMA user_version=%d;", REG_APPLICATION_ID,
		 REG_FORMAT);
	return registry_exec(r, mark, e);
}

static int write_schema(struct registry *r, struct err *e)
{
	int rc = registry_exec(r, schema, e);

	return rc ? rc : write_marks(r, e);
}

/* Reads the marks; an empty database becomes ours when create is set. Two creators at once: the lock lets one in, the
 * other finds the marks. */
static int check_or_create(struct registry *r, bool create, struct err *e)
{
	int64_t app = 0, version = 0, tables = 0;
	int rc = create ? registry_begin(r, e) : 0;

	if (!rc)
		rc = query_integer(r, "PRAGMA application_id", &app, e);
	if (!rc)
		rc = query_integer(r, "PRAGMA user_version", &version, e);
	if (!rc)
		rc = query_integer(r, "SELECT count(*) FROM sqlite_schema", &tables, e);
	if (!rc && create && app == 0 && version == 0 && tables == 0) {
		rc = write_schema(r, e);
	} else if (!rc && app != REG_APPLICATION_ID) {
		rc = err_set(e, -EUCLEAN, "%s is not a myfs registry", r->path);
	} else if (!rc && (version < 1 || version > REG_FORMAT)) {
		rc = err_set(e, -EUCLEAN, "registry %s has format %lld, this program knows %d: use the newer program",
			     r->path, (long long)version, REG_FORMAT);
	}
	if (create) {
		if (!rc)
			rc = registry_commit(r, e);
		else
			registry_rollback(r);
	}
	return rc;
}

/* Brings an older format up to ours. Several programs may try at once: under the write lock the second finds it done.
 */
static int upgrade(struct registry *r, struct err *e)
{
	int64_t version = 0;
	int rc = query_integer(r, "PRAGMA user_version", &version, e);

	if (rc || version == REG_FORMAT)
		return rc;
	rc = registry_begin(r, e);
	if (rc)
		return rc;
	rc = query_integer(r, "PRAGMA user_version", &version, e);
	for (int64_t at = version; !rc && at < REG_FORMAT; at++)
		rc = registry_exec(r, upgrades[at], e);
	if (!rc)
		rc = write_marks(r, e);
	if (rc) {
		registry_rollback(r);
		return err_wrap(e, rc, "registry %s cannot be brought from format %lld to %d", r->path,
				(long long)version, REG_FORMAT);
	}
	return registry_commit(r, e);
}

/* It holds secrets. A file of another user cannot be changed and is left as it is. */
static void restrict_access(const char *path)
{
	struct stat st;

	if (stat(path, &st) == 0 && (st.st_mode & 07) && chmod(path, st.st_mode & 0770) < 0)
		return;
}

static int open_db(struct registry *r, bool create, sqlite3 **ret, struct err *e)
{
	int sq = sqlite3_open_v2(r->path, ret, SQLITE_OPEN_READWRITE | (create ? SQLITE_OPEN_CREATE : 0), NULL);

	if (sq == SQLITE_OK)
		sq = sqlite3_extended_result_codes(*ret, 1);
	if (sq == SQLITE_OK)
		sq = sqlite3_busy_timeout(*ret, REG_BUSY_MS);
	if (sq == SQLITE_OK)
		sq = sqlite3_exec(*ret, "PRAGMA trusted_schema=OFF; PRAGMA foreign_keys=ON; PRAGMA synchronous=FULL;", NULL, NULL, NULL);
	return sq == SQLITE_OK ? 0 : registry_sqlite_error(r, sq, e);
}

int registry_open(const char *path, bool create, struct registry **ret, struct err *e)
{
	struct stat st;

	if (strlen(path) >= REG_PATH)
		return err_set(e, -ENAMETOOLONG, "registry path is longer than %d bytes", REG_PATH - 1);
	if (stat(path, &st) < 0) {
		if (errno != ENOENT || !create)
			return err_set(e, -errno, "registry %s: %s", path, err_name(-errno));
	} else if (!S_ISREG(st.st_mode)) {
		return err_set(e, -EUCLEAN, "registry %s is not a regular file", path);
	} else if (st.st_size == 0 && !create) {
		return err_set(e, -EUCLEAN, "registry %s is empty", path);
	}

	struct registry *r = calloc(1, sizeof(*r));
	if (!r)
		return err_set(e, -ENOMEM, "registry %s: out of memory", path);
	snprintf(r->path, sizeof(r->path), "%s", path);

	int rc = open_db(r, create, &r->db, e);
	if (!rc)
		rc = check_or_create(r, create, e); /* R1: before anything that writes */
	if (!rc)
		rc = check_pages(r, e);
	if (!rc)
		restrict_access(path);
	if (!rc)
		rc = registry_exec(r, "PRAGMA journal_mode=WAL", e);
	if (!rc)
		rc = upgrade(r, e);
	if (rc) {
		registry_close(r);
		return rc;
	}
	*ret = r;
	return 0;
}

void registry_close(struct registry *r)
{
	if (!r)
		return;
	assert(!r->writer);
	sqlite3_close_v2(r->writing);
	sqlite3_close_v2(r->db);
	free(r);
}

int registry_write_off_loop(struct registry *r, struct err *e)
{
	sqlite3 *db = NULL;

	if (r->writing || !sqlite3_threadsafe())
		return 0;
	int rc = open_db(r, false, &db, e);
	if (rc) {
		sqlite3_close_v2(db);
		return rc;
	}
	fmutex_init(&r->turn);
	r->writing = db;
	sqlite3_busy_timeout(r->db, REG_READ_BUSY_MS);
	return 0;
}

int registry_generation(struct registry *r, uint64_t *ret, struct err *e)
{
	int64_t others = 0;
	/* data_version moves with commits of other connections, total_changes with our own. */
	int rc = query_integer(r, "PRAGMA data_version", &others, e);

	if (!rc)
		*ret = ((uint64_t)others << 32) + (uint64_t)sqlite3_total_changes64(r->db);
	return rc;
}

int registry_begin(struct registry *r, struct err *e)
{
	bool taken = registry_turn_take(r);
	int rc = exec_slow(r, "BEGIN IMMEDIATE", e);

	if (rc)
		registry_turn_give(r, taken);
	return rc;
}

/* The turn that registry_begin took. */
static void turn_ends(struct registry *r)
{
	registry_turn_give(r, r->writer && r->writer == fiber_self());
}

int registry_commit(struct registry *r, struct err *e)
{
	int rc = exec_slow(r, "COMMIT", e);

	if (rc) /* a transaction that cannot commit must not stay open under the next caller */
		registry_rollback(r);
	else
		turn_ends(r);
	return rc;
}

void registry_rollback(struct registry *r)
{
	if (!sqlite3_get_autocommit(registry_db(r)))
		(void)sqlite3_exec(registry_db(r), "ROLLBACK", NULL, NULL, NULL);
	turn_ends(r);
}

const char *reg_brick_keepsake(const struct gfid *uuid, char out[REG_BRICK_KEEPSAKE])
{
	char text[GFID_TEXT];

	snprintf(out, REG_BRICK_KEEPSAKE, "myfs-brick-%s", gfid_text(uuid, text));
	return out;
}
