/* link.h - one device's way to its gateway: an NBD connection over a unix socket, served by one thread, that comes back
 * by itself.
 *
 *   any thread: link_submit --> inbox --eventfd--> link thread: pending --> flying --> done(rc)
 *                                                     ^            |
 *                                    connection lost: +--- reads, flushes
 *                                                     writes --> doubtful --> done(-EAGAIN)
 *
 * Invariants: K1 every request that was submitted is done exactly once, by the link thread. K2 a request that changes
 * data is sent once: when the connection ends before its answer, nobody here repeats it, because only the initiator
 * knows whether it still wants it (a repetition could land on something newer); done(-EAGAIN) asks it to. K3 a request
 * that waits for a connection longer than `wait_s` is done with -EAGAIN. One that was sent waits for its answer, which
 * the gateway gives within its io-timeout, or for the end of the connection. K4 reads and flushes that were cut off are
 * sent again, before anything submitted later. */
#ifndef MYFS_TCMU_LINK_H
#define MYFS_TCMU_LINK_H

#include "core/base/list.h"
#include "handlers/tcmu/config.h"

#define LINK_PAYLOAD_MAX MIB(32) /* one READ or WRITE */
#define LINK_RANGE_MAX   GIB(1)  /* one ZERO, TRIM or PREFETCH */
#define LINK_FLYING_MAX  128u    /* what the gateway looks at per connection */

#define LINK_EXTENTS_MAX 64u

enum link_kind { LINK_READ, LINK_WRITE, LINK_ZERO, LINK_TRIM, LINK_FLUSH, LINK_PREFETCH, LINK_STATUS };

struct link_extents {   /* what STATUS finds, from the request's offset on; it may be less than was asked for */
	unsigned limit; /* in: how many are wanted, 1 to LINK_EXTENTS_MAX */
	unsigned n;
	struct {
		uint64_t len;
		bool hole;
	} v[LINK_EXTENTS_MAX];
};

struct link;
struct link_request {
	/* in: unchanged until done */
	enum link_kind kind;
	bool fua;
	uint32_t len;
	uint64_t off;
	void *data; /* READ, WRITE: lent until done. STATUS: a struct link_extents */
	/* In the link thread; may submit further requests, and free this one. rc: 0, -EAGAIN (not served now: try
	 * again; a change may or may not have happened), -ENOSPC, -EIO (cannot be read), -EPERM, -EINVAL, -ENOMEM. */
	void (*done)(struct link_request *r, int rc);
	/* private */
	struct list node;
	struct link *link;
	int64_t deadline_ms;
	int rc;
};

enum link_phase { LINK_DOWN, LINK_CONNECTING, LINK_UP };

struct link_observer { /* called in the link thread; NULL functions are fine */
	void (*up)(void *arg, uint64_t size_bytes);
	void (*down)(void *arg, const char *why);
	void *arg;
};

int link_new(const struct tcmu_config *cfg, const struct link_observer *o, struct link **ret, struct err *e);
/* Ends the thread. What is still submitted is done with -EAGAIN. */
void link_free(struct link *l);
void link_submit(struct link *l, struct link_request *const *r, unsigned n);

/* Waits until the link is up. 0 with the size, or -EAGAIN and why it is not. */
int link_wait_up(struct link *l, unsigned wait_ms, uint64_t *ret_size, struct err *e);
/* Looks again how large the LUN is: a new connection when the present one has nothing flying. Waits for it. As above.
 */
int link_resync(struct link *l, unsigned wait_ms, uint64_t *ret_size, struct err *e);
/* Where the gateway's control socket is, "" when it has not said. */
void link_control_path(struct link *l, char ret[TCMU_SOCKET_MAX + 1]);

int64_t link_now_ms(void);

#endif
