/* peer.h - asking another gateway over its control socket, from a fiber.
 *
 * What keeps two gateways from writing one LUN is the epoch that bricks promise, not what they tell each other here. */
#ifndef MYFS_BLOCKD_PEER_H
#define MYFS_BLOCKD_PEER_H

#include "blockd/blockd.h"

#define PEER_ANSWER_NS (2 * NS_PER_S)  /* for questions answered from memory */
#define PEER_MOVE_NS   (20 * NS_PER_S) /* for letting go of a LUN that clients use: their requests end first */

/* Sends one request; consumes params (NULL = none). 0 and *ret_result owned; -EREMOTEIO when the other gateway answered
 * with an error, which is in *error; any other code: it did not answer. */
int peer_call(struct blockd *d, const char *gateway, const char *method, json_t *params, uint64_t timeout_ns,
	      json_t **ret_result, struct control_error *error) YIELDS;
/* 0: the owner let the LUN go, or cannot be reached (it is then fenced off when we open the LUN). -EBUSY: it does not,
 * with its words. force: also when clients use it there; then -EBUSY too when it answers, but not this. */
int peer_release_lun(struct blockd *d, const char *owner, const struct gfid *gfid, bool force, struct err *e) YIELDS;

#endif
