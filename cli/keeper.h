/* keeper.h - the process beside a mapped NBD device that gives the kernel a new connection when one died.
 *
 *        map ----fork----> keeper: handshakes, CONNECT -> "/dev/nbd0" -> map prints it and ends
 *                            |
 *        kernel LINK_DEAD -> | handshake again at every known address, RECONFIGURE     (RETRY_MS apart, reattach_timeout_s at most)
 *        every LOOK_MS       | is the device still ours? did the LUN grow?
 *
 * The kernel holds I/O meanwhile, so a restarted gateway is not seen by file systems. The device outlives its keeper: `map` again
 * starts another one. */
#ifndef MYFS_CLI_KEEPER_H
#define MYFS_CLI_KEEPER_H

#include "cli/mapping.h"

/* Starts it and waits until the device is there. In: all but device, state, since. With m->index >= 0 that device; `adopt`: it is connected
 * already and only its keeper is missing. 0 and m complete, or -errno: -ENOENT no module or no export, -EBUSY device in use, -EPERM. */
int keeper_start(struct mapping *m, bool adopt, struct err *e);
/* Ends it; the device stays. 0 also when there is none, -ETIMEDOUT. */
int keeper_stop(const char *spec);
bool keeper_is_alive(const char *spec);

#endif
