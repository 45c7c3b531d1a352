/* top.h - what LUNs, bricks and daemons did between two looks at their counters. Pure.
 *
 * A look is an array of members: {"name": "gw1", "kind": "gateway"|"node", "taken_ns": N, "metrics": {..}}, metrics as
 * core/metrics/metrics.h writes it. A member that the earlier look lacks, or that was started anew, counts from nothing. */
#ifndef MYFS_CLI_TOP_H
#define MYFS_CLI_TOP_H

#include <jansson.h>

enum top_by { TOP_BY_LUN, TOP_BY_BRICK, TOP_BY_NODE };

/* Owned array of rows for print_rows, busiest first; columns in cmd_top.c. */
json_t *top_rows(enum top_by by, const json_t *before, const json_t *after);

#endif
