/* gateways.h - the other gateways of the cluster: which of them answer, and what becomes of a dead one's LUNs.
 *
 *            answers                 no answer for 2 s               socket refused, or silent for 10 s
 *   UNKNOWN --------> ALIVE <-----------------------> SILENT ------------------------------------------> GONE
 *      |                ^ answers again: whatever state it was in                                          |
 *      +---- refused, or no answer for 2 s after our start ------------------------------------------------+
 *
 * ALIVE: asked before a LUN of its own is taken. SILENT: a client that attaches here gets its LUN at once; nobody else
 * is touched, since a stopped process may go on in a moment. GONE: the rows of its LUNs become ours in one transaction,
 * and so do its notes about LUNs that were in use; only those are opened (watch.c), the others stay rows.
 *
 * One connection and one question each half second per gateway; nothing per LUN. That a gateway was wrongly taken for
 * dead costs its clients a reconnect, never a byte: bricks refuse the old owner (ec/PROTOCOL.md). */
#ifndef MYFS_BLOCKD_GATEWAYS_H
#define MYFS_BLOCKD_GATEWAYS_H

#include "blockd/blockd.h"

#define GATEWAY_PING_NS   (500 * NS_PER_MS)
#define GATEWAY_SILENT_NS (2 * NS_PER_S)
#define GATEWAY_GONE_NS   (10 * NS_PER_S)

enum gateway_state { GATEWAY_UNKNOWN, GATEWAY_ALIVE, GATEWAY_SILENT, GATEWAY_GONE };

int gateways_start(struct blockd *d);
void gateways_stop(struct blockd *d); /* ends its connections; its fibers end soon after */
void gateways_free(struct blockd *d); /* after its fibers have ended */

/* A name that the registry does not know is GONE; our own is ALIVE. */
enum gateway_state gateways_state(const struct blockd *d, const char *name);
const char *gateway_state_name(enum gateway_state state);
/* Worth asking: not known to be silent or gone. */
bool gateways_may_answer(const struct blockd *d, const char *name);
/* True on exactly one of the gateways that answer (as far as each can see): the first by name. It looks after what has
 * no owner: names of volumes, unfinished changes of LUNs that were never opened. Somebody we cannot judge yet counts as
 * alive. */
bool gateways_first(const struct blockd *d);
/* Calls fn for every other gateway that answers. */
unsigned gateways_alive(const struct blockd *d, char (*ret_names)[REG_NAME], unsigned cap);

#endif
