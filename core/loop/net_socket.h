/* net_socket.h - making kernel sockets: resolve, connect, bind; private to net_kernel.c. */
#ifndef MYFS_NET_SOCKET_H
#define MYFS_NET_SOCKET_H

#include "core/loop/net.h"

/* A socket file we bound, recognised later by its inode: somebody else's at the same path is left alone. */
struct socket_path {
	char path[108]; /* "" = none */
	dev_t dev;
	ino_t ino;
};
void socket_path_remove(struct socket_path *p);

/* Connected descriptor or a negative code with text. */
int socket_connect(const struct address *a, uint64_t deadline_ns, struct err *e) YIELDS;
/* Listening descriptor or a negative code with text; *ret_path is filled for unix sockets. */
int socket_listen(const struct address *a, struct socket_path *ret_path, struct err *e) YIELDS;
/* Options for data (buffers, no delay, keepalive) and who the peer is. */
int socket_prepare(int fd, struct stream *s);
int socket_local_address(int fd, struct address *ret);

#endif
