/* metrics.h - the gateway's counters as one page: for Prometheus over HTTP, for `myfs top` over the control socket. */
#ifndef MYFS_BLOCKD_METRICS_H
#define MYFS_BLOCKD_METRICS_H

#include "blockd/blockd.h"
#include "core/loop/http.h"
#include "core/metrics/metrics.h"

/* From memory alone: no brick is asked, nothing waits. */
void blockd_metrics_write(struct blockd *d, struct metrics *m);
extern const struct http_page blockd_pages[]; /* arg: struct blockd */
int method_metrics(void *arg, const json_t *params, json_t **ret, struct control_error *error);

#endif
