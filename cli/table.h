/* table.h - one list, four forms: table for people, tabs for scripts (-H), exact numbers (-p), JSON (--json).
 *
 * Rows are JSON objects, so that what the table shows and what --json prints cannot disagree. */
#ifndef MYFS_CLI_TABLE_H
#define MYFS_CLI_TABLE_H

#include "cli/command.h"

enum column_kind { COL_TEXT, COL_COUNT, COL_SIZE, COL_SECONDS, COL_PERCENT };
struct column {
	const char *head;      /* "SIZE" */
	const char *key;       /* field of the row object; "a.b" reaches into objects */
	enum column_kind kind;
	bool hidden;           /* only with -o */
};

/* Prints {"schema":schema,"items":rows} or the table of rows; consumes rows. empty: said to stderr when there is no row. Exit code. */
int print_rows(const struct invocation *in, const char *schema, const struct column *columns, size_t n, json_t *rows, const char *empty);

#endif
