/* tables.c - rows of the registry as plain structs. Each table is a list of columns with their place in the struct;
 * putting, getting and listing are the same few lines for all of them.
 *
 * Invariants: text from the database always fits its field (a longer one is reported as damage); every field is checked
 * before it is written, so what is read back is valid. */
#include "core/registry/registry_priv.h"

#include <stdio.h>

enum column_kind { COLUMN_NAME, COLUMN_OPTIONAL_NAME, COLUMN_TEXT, COLUMN_U32, COLUMN_U64, COLUMN_GFID };

struct column {
	const char *name;
	enum column_kind kind;
	size_t off, cap;
};

struct table {
	const char *name;
	size_t row_bytes;
	unsigned n;
	const struct column *columns; /* the first is the key */
};

#define COLUMN(type, field, kind_)                                                                                     \
	{                                                                                                              \
#field, kind_, offsetof(struct type, field), sizeof(((struct type *)NULL)->field)                      \
	}
#define TABLE(name_, type, columns_)                                                                                   \
	{                                                                                                              \
		name_, sizeof(struct type), ARRAY_LEN(columns_), columns_                                              \
	}
#define SQL_MAX 1024

static const struct column node_columns[] = {
    COLUMN(reg_node, name, COLUMN_NAME),
    COLUMN(reg_node, address, COLUMN_TEXT),
    COLUMN(reg_node, control, COLUMN_TEXT),
};
static const struct table node_table = TABLE("node", reg_node, node_columns);

static const struct column gateway_columns[] = {
    COLUMN(reg_gateway, name, COLUMN_NAME),        COLUMN(reg_gateway, uuid, COLUMN_GFID),
    COLUMN(reg_gateway, control, COLUMN_TEXT),     COLUMN(reg_gateway, nbd_uri, COLUMN_TEXT),
    COLUMN(reg_gateway, nbd_tcp_uri, COLUMN_TEXT), COLUMN(reg_gateway, portals, COLUMN_TEXT),
};
static const struct table gateway_table = TABLE("gateway", reg_gateway, gateway_columns);

static const struct column volume_columns[] = {
    COLUMN(reg_volume, name, COLUMN_NAME),       COLUMN(reg_volume, uuid, COLUMN_GFID),
    COLUMN(reg_volume, k, COLUMN_U32),           COLUMN(reg_volume, r, COLUMN_U32),
    COLUMN(reg_volume, chunk_bytes, COLUMN_U32), COLUMN(reg_volume, sets, COLUMN_U32),
    COLUMN(reg_volume, started, COLUMN_U32),     COLUMN(reg_volume, created_ns, COLUMN_U64),
};
static const struct table volume_table = TABLE("volume", reg_volume, volume_columns);

static const struct column brick_columns[] = {
    COLUMN(reg_brick, uuid, COLUMN_GFID),     COLUMN(reg_brick, volume, COLUMN_NAME),
    COLUMN(reg_brick, node, COLUMN_NAME),     COLUMN(reg_brick, path, COLUMN_TEXT),
    COLUMN(reg_brick, set_index, COLUMN_U32), COLUMN(reg_brick, brick_index, COLUMN_U32),
};
static const struct table brick_table = TABLE("brick", reg_brick, brick_columns);

static const struct column lun_columns[] = {
    COLUMN(reg_lun, gfid, COLUMN_GFID),           COLUMN(reg_lun, volume, COLUMN_NAME),
    COLUMN(reg_lun, name, COLUMN_NAME),           COLUMN(reg_lun, size_bytes, COLUMN_U64),
    COLUMN(reg_lun, block_size, COLUMN_U32),      COLUMN(reg_lun, state, COLUMN_U32),
    COLUMN(reg_lun, owner, COLUMN_OPTIONAL_NAME), COLUMN(reg_lun, created_ns, COLUMN_U64),
    COLUMN(reg_lun, deleted_ns, COLUMN_U64),
};
static const struct table lun_table = TABLE("lun", reg_lun, lun_columns);

static const struct column target_columns[] = {
    COLUMN(reg_target, lun, COLUMN_GFID),           COLUMN(reg_target, protos, COLUMN_U32),
    COLUMN(reg_target, enabled, COLUMN_U32),        COLUMN(reg_target, open, COLUMN_U32),
    COLUMN(reg_target, auth, COLUMN_U32),           COLUMN(reg_target, iqn, COLUMN_TEXT),
    COLUMN(reg_target, home, COLUMN_OPTIONAL_NAME), COLUMN(reg_target, chap_user, COLUMN_TEXT),
    COLUMN(reg_target, chap_secret, COLUMN_TEXT),   COLUMN(reg_target, mutual_user, COLUMN_TEXT),
    COLUMN(reg_target, mutual_secret, COLUMN_TEXT),
};
static const struct table target_table = TABLE("target", reg_target, target_columns);

static const struct column acl_columns[] = {
    COLUMN(reg_acl, lun, COLUMN_GFID),
    COLUMN(reg_acl, who, COLUMN_TEXT),
};
static const struct table acl_table = TABLE("acl", reg_acl, acl_columns);

bool reg_name_valid(const char *text)
{
	size_t len = strnlen(text, REG_NAME);

	if (len == 0 || len >= REG_NAME)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
		if (!word && (i == 0 || !strchr("._-", c)))
			return false;
	}
	return true;
}

static int check_field(const struct table *t, const struct column *c, const uint8_t *row, struct err *e)
{
	const char *text = (const char *)row + c->off;
	uint64_t number;

	switch (c->kind) {
	case COLUMN_OPTIONAL_NAME:
		if (text[0] == '\0')
			return 0;
		__attribute__((fallthrough));
	case COLUMN_NAME:
		if (!reg_name_valid(text))
			return err_set(
			    e, -EINVAL,
			    "%s %s \"%.63s\": names are a-z 0-9 . _ -, start with a letter or digit, at most 63 long",
			    t->name, c->name, text);
		return 0;
	case COLUMN_TEXT:
		if (strnlen(text, c->cap) == c->cap)
			return err_set(e, -EINVAL, "%s %s is longer than %zu bytes", t->name, c->name, c->cap - 1);
		return 0;
	case COLUMN_U64:
		memcpy(&number, row + c->off, sizeof(number));
		if (number > INT64_MAX)
			return err_set(e, -EINVAL, "%s %s %llu is too large", t->name, c->name,
				       (unsigned long long)number);
		return 0;
	case COLUMN_GFID:
		if (gfid_is_null((const struct gfid *)(row + c->off)))
			return err_set(e, -EINVAL, "%s %s is null", t->name, c->name);
		return 0;
	case COLUMN_U32:
		return 0;
	}
	return 0;
}

static void bind_field(sqlite3_stmt *st, int at, const struct column *c, const void *field)
{
	uint64_t u64;
	uint32_t u32;

	switch (c->kind) {
	case COLUMN_NAME:
	case COLUMN_OPTIONAL_NAME:
	case COLUMN_TEXT:
		sqlite3_bind_text(st, at, field, -1, SQLITE_STATIC);
		break;
	case COLUMN_U32:
		memcpy(&u32, field, sizeof(u32));
		sqlite3_bind_int64(st, at, (int64_t)u32);
		break;
	case COLUMN_U64:
		memcpy(&u64, field, sizeof(u64));
		sqlite3_bind_int64(st, at, (int64_t)u64);
		break;
	case COLUMN_GFID:
		sqlite3_bind_blob(st, at, field, sizeof(struct gfid), SQLITE_STATIC);
		break;
	}
}

/* 0, or -EUCLEAN when the value does not fit the field. */
static int read_field(sqlite3_stmt *st, int at, const struct column *c, uint8_t *row)
{
	int len = sqlite3_column_bytes(st, at);
	int64_t number = sqlite3_column_int64(st, at);
	uint32_t u32 = (uint32_t)number;
	uint64_t u64 = (uint64_t)number;

	switch (c->kind) {
	case COLUMN_NAME:
	case COLUMN_OPTIONAL_NAME:
	case COLUMN_TEXT: {
		const unsigned char *text = sqlite3_column_text(st, at);
		if (!text || (size_t)len >= c->cap)
			return -EUCLEAN;
		memcpy(row + c->off, text, (size_t)len + 1);
		return 0;
	}
	case COLUMN_U32:
		if (number < 0 || number > UINT32_MAX)
			return -EUCLEAN;
		memcpy(row + c->off, &u32, sizeof(u32));
		return 0;
	case COLUMN_U64:
		if (number < 0)
			return -EUCLEAN;
		memcpy(row + c->off, &u64, sizeof(u64));
		return 0;
	case COLUMN_GFID:
		if (len != (int)sizeof(struct gfid))
			return -EUCLEAN;
		memcpy(row + c->off, sqlite3_column_blob(st, at), sizeof(struct gfid));
		return 0;
	}
	return -EUCLEAN;
}

/* Runs a statement that returns nothing. what = "put" or "delete" decides what a broken reference means. */
static int step_done(struct registry *r, sqlite3_stmt *st, const struct table *t, bool deleting, struct err *e)
{
	int sq = registry_step_change(r, st);

	if (sq == SQLITE_DONE)
		return 0;
	sq = sqlite3_extended_errcode(registry_db(r));
	if (sq == SQLITE_CONSTRAINT_FOREIGNKEY && deleting)
		return err_set(e, -EBUSY, "%s is still referred to by others in the registry", t->name);
	if (sq == SQLITE_CONSTRAINT_FOREIGNKEY)
		return err_set(e, -ENOENT, "%s names something that is not in the registry", t->name);
	if ((sq & 0xff) == SQLITE_CONSTRAINT)
		return err_set(e, -EEXIST, "%s: already in the registry (%s)", t->name, sqlite3_errmsg(registry_db(r)));
	return registry_sqlite_error(r, sq, e);
}

static int table_put(struct registry *r, const struct table *t, const void *row, struct err *e)
{
	char sql[SQL_MAX];
	size_t at = 0;
	sqlite3_stmt *st = NULL;

	for (unsigned i = 0; i < t->n; i++) {
		int rc = check_field(t, &t->columns[i], row, e);
		if (rc)
			return rc;
	}
	at += (size_t)snprintf(sql + at, sizeof(sql) - at, "INSERT INTO %s VALUES(", t->name);
	for (unsigned i = 0; i < t->n; i++)
		at += (size_t)snprintf(sql + at, sizeof(sql) - at, "%s?%u", i ? "," : "", i + 1);
	at += (size_t)snprintf(sql + at, sizeof(sql) - at, ") ON CONFLICT(%s) DO UPDATE SET ", t->columns[0].name);
	for (unsigned i = 1; i < t->n; i++)
		at += (size_t)snprintf(sql + at, sizeof(sql) - at, "%s%s=?%u", i > 1 ? "," : "", t->columns[i].name,
				       i + 1);

	bool taken = registry_turn_take(r);
	int rc = registry_prepare(r, sql, &st, e);
	for (unsigned i = 0; i < t->n && !rc; i++)
		bind_field(st, (int)i + 1, &t->columns[i], (const uint8_t *)row + t->columns[i].off);
	if (!rc)
		rc = step_done(r, st, t, false, e);
	sqlite3_finalize(st);
	registry_turn_give(r, taken);
	return rc;
}

static int read_row(struct registry *r, sqlite3_stmt *st, const struct table *t, void *row, struct err *e)
{
	memset(row, 0, t->row_bytes);
	for (unsigned i = 0; i < t->n; i++) {
		if (read_field(st, (int)i, &t->columns[i], row))
			return err_set(e, -EUCLEAN, "registry %s: impossible value in %s.%s", r->path, t->name,
				       t->columns[i].name);
	}
	return 0;
}

/* Column names in struct order, so that the order inside the database does not matter. */
static void select_sql(const struct table *t, const char *where, char sql[SQL_MAX])
{
	size_t at = (size_t)snprintf(sql, SQL_MAX, "SELECT ");

	for (unsigned i = 0; i < t->n; i++)
		at += (size_t)snprintf(sql + at, SQL_MAX - at, "%s%s", i ? "," : "", t->columns[i].name);
	snprintf(sql + at, SQL_MAX - at, " FROM %s %s", t->name, where);
}

/* Parameters of a query: at most two texts, one blob or one number, bound in the order ?1 ?2. */
struct bind {
	const char *text;
	const struct gfid *gfid;
	int64_t number;
};

static int query(struct registry *r, const struct table *t, const char *where, const struct bind *b, unsigned n,
		 sqlite3_stmt **ret, struct err *e)
{
	char sql[SQL_MAX];
	int rc;

	select_sql(t, where, sql);
	rc = registry_prepare(r, sql, ret, e);
	if (rc)
		return rc;
	for (unsigned i = 0; i < n; i++) {
		if (b[i].text)
			sqlite3_bind_text(*ret, (int)i + 1, b[i].text, -1, SQLITE_STATIC);
		else if (b[i].gfid)
			sqlite3_bind_blob(*ret, (int)i + 1, b[i].gfid, sizeof(struct gfid), SQLITE_STATIC);
		else
			sqlite3_bind_int64(*ret, (int)i + 1, b[i].number);
	}
	return 0;
}

/* First row of a query into *ret (only touched on success). */
static int table_get(struct registry *r, const struct table *t, const char *where, const struct bind *b, unsigned n,
		     void *ret, struct err *e)
{
	sqlite3_stmt *st = NULL;
	union {
		struct reg_node node;
		struct reg_gateway gateway;
		struct reg_volume volume;
		struct reg_brick brick;
		struct reg_lun lun;
		struct reg_target target;
	} row;
	int rc = query(r, t, where, b, n, &st, e);

	if (rc)
		return rc;
	int sq = sqlite3_step(st);
	if (sq == SQLITE_ROW)
		rc = read_row(r, st, t, &row, e);
	else if (sq == SQLITE_DONE)
		rc = err_set(e, -ENOENT, "no such %s%s%s", t->name, n && b[n - 1].text ? " " : "",
			     n && b[n - 1].text ? b[n - 1].text : "");
	else
		rc = registry_sqlite_error(r, sqlite3_extended_errcode(registry_db(r)), e);
	sqlite3_finalize(st);
	if (!rc)
		memcpy(ret, &row, t->row_bytes);
	return rc;
}

static int table_list(struct registry *r, const struct table *t, const char *where, const struct bind *b, unsigned n,
		      void **ret, size_t *ret_n, struct err *e)
{
	sqlite3_stmt *st = NULL;
	uint8_t *rows = NULL;
	size_t count = 0, cap = 0;
	int sq, rc = query(r, t, where, b, n, &st, e);

	if (rc)
		return rc;
	while ((sq = sqlite3_step(st)) == SQLITE_ROW) {
		if (count == cap) {
			cap = cap ? cap * 2 : 16;
			uint8_t *grown = reallocarray(rows, cap, t->row_bytes);
			if (!grown) {
				rc = err_set(e, -ENOMEM, "out of memory");
				goto out;
			}
			rows = grown;
		}
		rc = read_row(r, st, t, rows + count * t->row_bytes, e);
		if (rc)
			goto out;
		count++;
	}
	if (sq != SQLITE_DONE)
		rc = registry_sqlite_error(r, sqlite3_extended_errcode(registry_db(r)), e);
out:
	sqlite3_finalize(st);
	if (rc) {
		free(rows);
		return rc;
	}
	*ret = rows;
	*ret_n = count;
	return 0;
}

static int table_delete(struct registry *r, const struct table *t, struct bind b, struct err *e)
{
	char sql[SQL_MAX];
	sqlite3_stmt *st = NULL;

	snprintf(sql, sizeof(sql), "DELETE FROM %s WHERE %s=?1", t->name, t->columns[0].name);
	bool taken = registry_turn_take(r);
	int rc = registry_prepare(r, sql, &st, e);
	if (!rc && b.text)
		sqlite3_bind_text(st, 1, b.text, -1, SQLITE_STATIC);
	else if (!rc)
		sqlite3_bind_blob(st, 1, b.gfid, sizeof(struct gfid), SQLITE_STATIC);
	if (!rc)
		rc = step_done(r, st, t, true, e);
	sqlite3_finalize(st);
	registry_turn_give(r, taken);
	return rc;
}

int reg_cluster_get(struct registry *r, const char *key, char *ret, size_t cap, struct err *e)
{
	sqlite3_stmt *st = NULL;
	int rc = registry_prepare(r, "SELECT value FROM cluster WHERE key=?1", &st, e);

	if (rc)
		return rc;
	sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
	int sq = sqlite3_step(st);
	if (sq == SQLITE_ROW) {
		const unsigned char *text = sqlite3_column_text(st, 0);
		size_t len = (size_t)sqlite3_column_bytes(st, 0);
		if (!text || len >= cap)
			rc = err_set(e, -ERANGE, "cluster setting %s is longer than %zu bytes", key, cap - 1);
		else
			memcpy(ret, text, len + 1);
	} else if (sq == SQLITE_DONE) {
		rc = err_set(e, -ENOENT, "no cluster setting %s", key);
	} else {
		rc = registry_sqlite_error(r, sqlite3_extended_errcode(registry_db(r)), e);
	}
	sqlite3_finalize(st);
	return rc;
}

/* Two texts into a fixed statement. *ret_changed (may be NULL): rows. */
static int exec_two_texts(struct registry *r, const char *sql, const char *a, const char *b, unsigned *ret_changed,
			  struct err *e)
{
	sqlite3_stmt *st = NULL;
	bool taken = registry_turn_take(r);
	int rc = registry_prepare(r, sql, &st, e);

	if (!rc) {
		sqlite3_bind_text(st, 1, a, -1, SQLITE_STATIC);
		sqlite3_bind_text(st, 2, b, -1, SQLITE_STATIC);
		if (registry_step_change(r, st) != SQLITE_DONE)
			rc = registry_sqlite_error(r, sqlite3_extended_errcode(registry_db(r)), e);
	}
	if (!rc && ret_changed)
		*ret_changed = (unsigned)sqlite3_changes(registry_db(r));
	sqlite3_finalize(st);
	registry_turn_give(r, taken);
	return rc;
}

int reg_cluster_set(struct registry *r, const char *key, const char *value, struct err *e)
{
	return exec_two_texts(r, "INSERT INTO cluster VALUES(?1,?2) ON CONFLICT(key) DO UPDATE SET value=?2", key,
			      value, NULL, e);
}

int reg_history_add(struct registry *r, const char *who, const char *what, struct err *e)
{
	return exec_two_texts(r, "INSERT INTO history(who,what) VALUES(?1,?2)", who, what, NULL, e);
}

int reg_node_put(struct registry *r, const struct reg_node *n, struct err *e)
{
	return table_put(r, &node_table, n, e);
}

int reg_node_get(struct registry *r, const char *name, struct reg_node *ret, struct err *e)
{
	return table_get(r, &node_table, "WHERE name=?1", &(struct bind){.text = name}, 1, ret, e);
}

int reg_node_list(struct registry *r, struct reg_node **ret, size_t *ret_n, struct err *e)
{
	return table_list(r, &node_table, "ORDER BY name", NULL, 0, (void **)ret, ret_n, e);
}

int reg_gateway_put(struct registry *r, const struct reg_gateway *g, struct err *e)
{
	return table_put(r, &gateway_table, g, e);
}

int reg_gateway_get(struct registry *r, const char *name, struct reg_gateway *ret, struct err *e)
{
	return table_get(r, &gateway_table, "WHERE name=?1", &(struct bind){.text = name}, 1, ret, e);
}

int reg_gateway_delete(struct registry *r, const char *name, struct err *e)
{
	return table_delete(r, &gateway_table, (struct bind){.text = name}, e);
}

int reg_gateway_list(struct registry *r, struct reg_gateway **ret, size_t *ret_n, struct err *e)
{
	return table_list(r, &gateway_table, "ORDER BY name", NULL, 0, (void **)ret, ret_n, e);
}

int reg_volume_put(struct registry *r, const struct reg_volume *v, struct err *e)
{
	return table_put(r, &volume_table, v, e);
}

int reg_volume_get(struct registry *r, const char *name, struct reg_volume *ret, struct err *e)
{
	return table_get(r, &volume_table, "WHERE name=?1", &(struct bind){.text = name}, 1, ret, e);
}

int reg_volume_delete(struct registry *r, const char *name, struct err *e)
{
	return table_delete(r, &volume_table, (struct bind){.text = name}, e);
}

int reg_volume_list(struct registry *r, struct reg_volume **ret, size_t *ret_n, struct err *e)
{
	return table_list(r, &volume_table, "ORDER BY name", NULL, 0, (void **)ret, ret_n, e);
}

int reg_brick_put(struct registry *r, const struct reg_brick *b, struct err *e)
{
	if (b->path[0] != '/')
		return err_set(e, -EINVAL, "brick path \"%.200s\" is not absolute", b->path);
	return table_put(r, &brick_table, b, e);
}

int reg_brick_delete(struct registry *r, const struct gfid *uuid, struct err *e)
{
	return table_delete(r, &brick_table, (struct bind){.gfid = uuid}, e);
}

int reg_brick_list(struct registry *r, const char *volume, const char *node, struct reg_brick **ret, size_t *ret_n,
		   struct err *e)
{
	const struct bind b[2] = {{.text = volume ? volume : ""}, {.text = node ? node : ""}};

	return table_list(r, &brick_table,
			  "WHERE (?1='' OR volume=?1) AND (?2='' OR node=?2) ORDER BY volume, set_index, brick_index",
			  b, 2, (void **)ret, ret_n, e);
}

int reg_lun_put(struct registry *r, const struct reg_lun *l, struct err *e)
{
	if (l->state > REG_LUN_PURGING)
		return err_set(e, -EINVAL, "lun state %u is unknown", l->state);
	return table_put(r, &lun_table, l, e);
}

int reg_lun_get(struct registry *r, const char *volume, const char *name, struct reg_lun *ret, struct err *e)
{
	const struct bind b[2] = {{.text = volume}, {.text = name}};

	return table_get(r, &lun_table, "WHERE volume=?1 AND name=?2 AND state < 2", b, 2, ret, e);
}

int reg_lun_get_gfid(struct registry *r, const struct gfid *gfid, struct reg_lun *ret, struct err *e)
{
	return table_get(r, &lun_table, "WHERE gfid=?1", &(struct bind){.gfid = gfid}, 1, ret, e);
}

int reg_lun_change_owner(struct registry *r, const char *from, const char *to, unsigned *ret_n, struct err *e)
{
	return exec_two_texts(r, "UPDATE lun SET owner=?2 WHERE owner=?1", from, to, ret_n, e);
}

int reg_lun_delete(struct registry *r, const struct gfid *gfid, struct err *e)
{
	return table_delete(r, &lun_table, (struct bind){.gfid = gfid}, e);
}

int reg_lun_list(struct registry *r, const char *volume, int state, struct reg_lun **ret, size_t *ret_n, struct err *e)
{
	const struct bind b[2] = {{.text = volume ? volume : ""}, {.number = state}};

	return table_list(r, &lun_table,
			  "WHERE (?1='' OR volume=?1) AND (?2 < 0 OR state=?2) ORDER BY volume, name, gfid", b, 2,
			  (void **)ret, ret_n, e);
}

int reg_target_put(struct registry *r, const struct reg_target *t, struct err *e)
{
	if (t->auth > REG_AUTH_MUTUAL || (t->protos & ~(REG_PROTO_NBD | REG_PROTO_ISCSI)))
		return err_set(e, -EINVAL, "target: unknown protocol or authentication");
	return table_put(r, &target_table, t, e);
}

int reg_target_get(struct registry *r, const struct gfid *lun, struct reg_target *ret, struct err *e)
{
	return table_get(r, &target_table, "WHERE lun=?1", &(struct bind){.gfid = lun}, 1, ret, e);
}

int reg_target_list(struct registry *r, struct reg_target **ret, size_t *ret_n, struct err *e)
{
	return table_list(r, &target_table, "ORDER BY lun", NULL, 0, (void **)ret, ret_n, e);
}

/* One row of the acl table into a statement of two parameters. *ret_changed: rows. */
static int acl_exec(struct registry *r, const char *sql, const struct reg_acl *a, bool deleting, int *ret_changed,
		    struct err *e)
{
	sqlite3_stmt *st = NULL;
	bool taken = registry_turn_take(r);
	int rc = registry_prepare(r, sql, &st, e);

	if (!rc) {
		bind_field(st, 1, &acl_columns[0], &a->lun);
		bind_field(st, 2, &acl_columns[1], a->who);
		rc = step_done(r, st, &acl_table, deleting, e);
	}
	if (!rc)
		*ret_changed = sqlite3_changes(registry_db(r));
	sqlite3_finalize(st);
	registry_turn_give(r, taken);
	return rc;
}

int reg_acl_add(struct registry *r, const struct reg_acl *a, struct err *e)
{
	int changed;

	if (a->who[0] == '\0' || strnlen(a->who, sizeof(a->who)) == sizeof(a->who))
		return err_set(e, -EINVAL, "acl: a name of 1 to %zu bytes is needed", sizeof(a->who) - 1);
	return acl_exec(r, "INSERT INTO acl VALUES(?1,?2) ON CONFLICT DO NOTHING", a, false, &changed, e);
}

int reg_acl_remove(struct registry *r, const struct reg_acl *a, struct err *e)
{
	int changed = 0;
	int rc = acl_exec(r, "DELETE FROM acl WHERE lun=?1 AND who=?2", a, true, &changed, e);

	return rc == 0 && changed == 0 ? err_set(e, -ENOENT, "%s is not on the list", a->who) : rc;
}

int reg_acl_list(struct registry *r, const struct gfid *lun, struct reg_acl **ret, size_t *ret_n, struct err *e)
{
	return table_list(r, &acl_table, lun ? "WHERE lun=?1 ORDER BY who" : "ORDER BY lun, who",
			  &(struct bind){.gfid = lun}, lun ? 1 : 0, (void **)ret, ret_n, e);
}
