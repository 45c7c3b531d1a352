/* nbd_link.h - an NBD handshake whose socket is then handed to somebody else, the kernel.
 *
 * libnbd does it. It receives exactly what the state it is in needs, so nothing of the transmission phase is in its buffers
 * when the handshake has ended; structured replies and meta contexts, which the kernel does not know, are not asked for. */
#ifndef MYFS_CLI_NBD_LINK_H
#define MYFS_CLI_NBD_LINK_H

#include "core/base/base.h"
#include "core/base/err.h"

struct nbd_link {
	int fd;                /* owned; -1 = none */
	uint64_t size_bytes;
	uint64_t server_flags; /* NBD_FLAG_* as linux/nbd.h has them */
};

/* 0 or -errno: -EPROTONOSUPPORT for a TLS address (the kernel has no TLS for NBD), -ENOENT when the export is not there, -ETIMEDOUT,
 * -ECONNREFUSED when it cannot be reached. */
int nbd_link_open(const char *uri, int timeout_ms, struct nbd_link *ret, struct err *e);
void nbd_link_close(struct nbd_link *l);
/* Size of the export now, without opening it. 0 or -errno as above. */
int nbd_link_size(const char *uri, int timeout_ms, uint64_t *ret_bytes, struct err *e);
/* True for nbds:// and nbds+unix://. */
bool nbd_uri_is_tls(const char *uri);

#endif
