/* config.h - the configuration string of a device: "myfs/VOLUME/LUN", then options ";socket=PATH" and ";wait=SECONDS".
 * The kernel keeps at most 255 bytes of it. Pure. */
#ifndef MYFS_TCMU_CONFIG_H
#define MYFS_TCMU_CONFIG_H

#include "core/base/err.h"

#define TCMU_SUBTYPE        "myfs"
#define TCMU_CONFIG_MAX     255u
#define TCMU_SOCKET_MAX     107u /* sun_path */
#define TCMU_SOCKET_DEFAULT "/run/myfs/nbd.sock"
#define TCMU_SOCKET_ENV     "MYFS_NBD_SOCKET"
#define TCMU_WAIT_DEFAULT_S 20u /* initiators give a command 30 s and more */
#define TCMU_WAIT_MAX_S     3600u

struct tcmu_config {
	char lun[128]; /* "vol/lun": the NBD export */
	char socket[TCMU_SOCKET_MAX + 1];
	unsigned wait_s; /* how long a command waits for the gateway */
};

/* socket_default: what to use when the text names none, NULL for TCMU_SOCKET_DEFAULT. 0 or -EINVAL with a reason. */
int tcmu_config_parse(const char *text, const char *socket_default, struct tcmu_config *ret, struct err *e);

#endif
