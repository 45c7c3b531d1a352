/* lio.h - the gateway's iSCSI side: keeps the kernel's targets as the registry wants them, by passes of the myfs-lio
 * program, and remembers what each pass said.
 *
 *   registry rows -> wanted targets -> one pass at a time (lio_worker.c) -> state of each LUN
 *
 * A LUN is exported here when it is READY, offered over iSCSI, enabled, its volume is started, and this gateway owns it
 * (or nobody does and it was made here). Nothing here waits for the kernel: a pass may hang as long as it likes. */
#ifndef MYFS_BLOCKD_LIO_H
#define MYFS_BLOCKD_LIO_H

#include "blockd/blockd.h"
#include "blockd/lio_want.h"

#define LIO_NBD_SOCKET_DEFAULT "/run/myfs/nbd.sock" /* where handler_myfs.so looks unless told otherwise */
#define LIO_SETTLE_NS          (20 * NS_PER_S)      /* how long commands wait for the kernel */

/* One pass. Calls line for every line the program says, in order; the last has "done". YIELDS. */
struct lio_runner {
	int (*pass)(void *arg, json_t *request, void (*line)(void *line_arg, const json_t *doc), void *line_arg,
		    struct err *e);
	void (*stop)(void *arg); /* ends a pass that is under way, soon */
	void *arg;
};
/* The program next to ours, as a child process for each pass. */
int lio_worker_new(struct lio_runner *ret, struct err *e);
void lio_worker_free(struct lio_runner *r);

struct lio_config {
	const char *configfs; /* root of the target tree */
	const char *socket;   /* our NBD socket, absolute; "" = none, so no iSCSI */
	const char (*portals)[LIO_PORTAL];
	unsigned portals_n;              /* 0: no iSCSI here; what an earlier life exported is removed */
	const struct lio_runner *runner; /* borrowed */
};
/* After NBD is served. */
int lio_start(struct blockd *d, const struct lio_config *cfg, struct err *e);
void lio_stop(struct blockd *d); /* passes end; targets stay */
void lio_free(struct blockd *d); /* after blockd's fibers ended */

/* Does this gateway offer iSCSI at all? */
bool lio_offered(const struct blockd *d);
void lio_kick(struct blockd *d); /* look now */
/* Until a pass that began after this call has ended. -ETIMEDOUT: it still runs. 0 at once where there is no iSCSI. */
int lio_settle(struct blockd *d, uint64_t timeout_ns) YIELDS;

#define LIO_LEAVE_NS (100 * NS_PER_S)

enum lio_state_kind { LIO_ABSENT, LIO_PENDING, LIO_EXPORTED, LIO_WAITING, LIO_FAILED };
struct lio_state {
	enum lio_state_kind kind;
	char why[256];
};
/* LIO_ABSENT: not exported by this gateway. */
void lio_state_of(const struct blockd *d, const struct gfid *lun, struct lio_state *ret);
/* {state: ok|off|unavailable|waiting, why, next, portals, targets} for status. */
json_t *lio_status_json(struct blockd *d) YIELDS;
/* Array of {lun: "vol/lun", initiator, addresses}; owned. Empty where there is no iSCSI. */
int lio_sessions(struct blockd *d, json_t **ret, struct err *e) YIELDS;
/* How many of them are of the LUN; their initiators are added to text (may be NULL). */
unsigned lio_sessions_of(const json_t *sessions, const char *spec, char *text, size_t cap);

/* Takes the LUN's target down so that the LUN can be closed: -EBUSY while initiators are logged in (names them) or when
 * the kernel does not let it go. It stays down until lio_readmit or WITHDRAWN_NS. */
int lio_withdraw(struct blockd *d, const struct reg_lun *row, struct err *e) YIELDS;
void lio_readmit(struct blockd *d, const struct gfid *lun);
/* Takes all targets of this gateway down for good, sessions included: before it is removed from the host. */
int lio_leave(struct blockd *d, struct err *e) YIELDS;

#endif
