/* metrics.h - a node's counters as one page: for Prometheus over HTTP, for `myfs top` over the control socket. */
#ifndef MYFS_BRICK_METRICS_H
#define MYFS_BRICK_METRICS_H

#include "brick/node.h"
#include "core/loop/http.h"
#include "core/metrics/metrics.h"

/* Asks each online brick once (space on its file system is a call that may wait). */
void node_metrics_write(struct node *n, struct metrics *m) YIELDS;
extern const struct http_page node_pages[]; /* arg: struct node */

#endif
