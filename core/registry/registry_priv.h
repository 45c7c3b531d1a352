/* registry_priv.h - what registry.c (the SQLite file, its format, transactions) and tables.c (rows to structs) share.
 */
#ifndef MYFS_REGISTRY_PRIV_H
#define MYFS_REGISTRY_PRIV_H

#include <sqlite3.h>

#include "core/registry/registry.h"

struct registry {
	sqlite3 *db;
	char path[REG_PATH];
};

/* Negative code for the connection's last SQLite failure `sq`, with a text that names the file and SQLite's reason. */
int registry_sqlite_error(struct registry *r, int sq, struct err *e);
/* Runs statements without parameters or results. */
int registry_exec(struct registry *r, const char *sql, struct err *e);
int registry_prepare(struct registry *r, const char *sql, sqlite3_stmt **ret, struct err *e);

#endif
