/* pool.h - a few threads for calls that may block, and the way their results come back to the loop.
 *
 * Used by the epoll backend for every file operation and by both production backends for IO_WORK. Threads start with the
 * first operation. Invariants: P1 a queued io belongs to the pool until pool_reap() ends it on the loop's thread. P2 the queue is
 * as long as there are fibers waiting, no longer. */
#ifndef MYFS_POOL_H
#define MYFS_POOL_H

#include "core/loop/backend.h"

struct pool;

/* event_fd is written whenever results are waiting; borrowed. */
struct pool *pool_new(int event_fd);
void pool_free(struct pool *p); /* runs what is queued to its end, then stops the threads; results are reaped */
void pool_start(struct pool *p, struct io *io);
void pool_reap(struct pool *p); /* on the loop: ends every finished io */

#endif
