/* nbd_netlink.h - the kernel's NBD client: connect, give new sockets, disconnect, hear of dead connections.
 *
 * Generic netlink family "nbd" (linux/nbd-netlink.h). The kernel takes sockets on which a handshake is done; it speaks the transmission
 * phase itself. A request that was under way on a connection that died is sent again over another one `timeout_s` after it was
 * first sent; while no connection is left, requests wait `dead_conn_timeout_s` for one. */
#ifndef MYFS_CLI_NBD_NETLINK_H
#define MYFS_CLI_NBD_NETLINK_H

#include <netlink/msg.h>

#include "core/base/base.h"
#include "core/base/err.h"

#define NBD_ANY_DEVICE (-1)

struct nbd_setup {
	int index;              /* N of /dev/nbdN, or NBD_ANY_DEVICE */
	uint64_t size_bytes;    /* 0 = leave as it is */
	uint64_t block_bytes;   /* logical block; 0 = leave */
	uint64_t timeout_s, dead_conn_timeout_s; /* 0 = leave */
	uint64_t server_flags;  /* NBD_FLAG_* of the export; 0 = leave */
	const char *backend;    /* borrowed; the kernel wants the same again when sockets are replaced */
	const int *fds;         /* borrowed */
	size_t n_fds;
};

/* Pure: attributes of a CONNECT or RECONFIGURE into m. 0 or -EMSGSIZE. */
int nbd_setup_put(struct nl_msg *m, const struct nbd_setup *s);
/* Pure: the device an answer or event is about. 0 or -EBADMSG. */
int nbd_index_get(struct nlmsghdr *h, int *ret_index);

struct nbd_netlink;
/* -ENOENT when the nbd module is not loaded. */
int nbd_netlink_open(struct nbd_netlink **ret, struct err *e);
void nbd_netlink_close(struct nbd_netlink *n);
/* -EBUSY: the device is in use; -EPERM: not root. The kernel keeps its own reference to the sockets. */
int nbd_netlink_connect(struct nbd_netlink *n, const struct nbd_setup *s, int *ret_index, struct err *e);
/* New sockets take the place of dead ones; sockets for which none is dead are left alone. Also a new size. */
int nbd_netlink_reconfigure(struct nbd_netlink *n, const struct nbd_setup *s, struct err *e);
int nbd_netlink_disconnect(struct nbd_netlink *n, int index, struct err *e);

/* Readable when a connection of some device died. */
int nbd_netlink_event_fd(const struct nbd_netlink *n);
/* 1 and *ret_index, 0 when there is no event now, -ENOBUFS when some were lost. */
int nbd_netlink_next_dead(struct nbd_netlink *n, int *ret_index);

#endif
