/* notify.h - telling a service manager how we are: READY=1, STOPPING=1, STATUS=..., one datagram to $NOTIFY_SOCKET
 * (sd_notify(3)). */
#ifndef MYFS_NOTIFY_H
#define MYFS_NOTIFY_H

#include "core/base/base.h"

/* Newline-separated assignments. Nothing happens when no manager listens; never blocks. */
void notify_send(const char *fmt, ...) PRINTF(1, 2);

#endif
