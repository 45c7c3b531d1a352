/* registry_priv.h - what registry.c (the SQLite file, its format, transactions) and tables.c (rows to structs) share.
 */
#ifndef MYFS_REGISTRY_PRIV_H
#define MYFS_REGISTRY_PRIV_H

#include <sqlite3.h>

#include "core/loop/fiber.h"
#include "core/registry/registry.h"

struct registry {
	sqlite3 *db;
	char path[REG_PATH];
	/* registry_write_off_loop: changes have a connection of their own, which is on a pool thread while it may wait. */
	sqlite3 *writing;
	struct fmutex turn;   /* one fiber at a time changes something ... */
	struct fiber *writer; /* ... this one: all that it asks meanwhile, it asks this connection */
};

/* The connection for whatever the calling fiber does next. */
sqlite3 *registry_db(const struct registry *r);
/* Before a statement that changes something is prepared; true: registry_turn_give() behind it. */
bool registry_turn_take(struct registry *r) YIELDS;
void registry_turn_give(struct registry *r, bool taken);
/* One step of a statement that changes something and returns no row. */
int registry_step_change(struct registry *r, sqlite3_stmt *st) YIELDS;

/* Negative code for the connection's last SQLite failure `sq`, with a text that names the file and SQLite's reason. */
int registry_sqlite_error(struct registry *r, int sq, struct err *e);
/* Runs statements without parameters or results. */
int registry_exec(struct registry *r, const char *sql, struct err *e);
int registry_prepare(struct registry *r, const char *sql, sqlite3_stmt **ret, struct err *e);

#endif
