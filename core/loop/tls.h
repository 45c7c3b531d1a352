/* tls.h - TLS over a stream through GnuTLS: PSK between our daemons, X.509 towards NBD clients. */
#ifndef MYFS_TLS_H
#define MYFS_TLS_H

#include "core/loop/net.h"

struct tls_creds;

/* The name under which every daemon of a cluster presents the cluster key. */
#define TLS_CLUSTER_IDENTITY "myfs"

/* Cluster key: 32 raw bytes in a file of mode 0600 (refused otherwise). Identity is sent in clear. */
int tls_creds_psk(const char *key_path, const char *identity, struct tls_creds **ret, struct err *e);
/* Directory with ca-cert.pem, server-cert.pem, server-key.pem (nbdkit's and qemu-nbd's names); verify_peer asks for
 * a client certificate signed by the CA. */
int tls_creds_x509_server(const char *dir, bool verify_peer, struct tls_creds **ret, struct err *e);
void tls_creds_free(struct tls_creds *c); /* streams made from them go on working; NULL is fine */

/* An end of the stream without TLS's closing alert is -ECONNRESET: somebody may have cut it.
 *
 * Handshakes on *s and replaces it with the TLS stream (which owns the old one). On failure *s is closed and NULL. No
 * byte received before the handshake is carried over: the caller must not have read ahead. */
int tls_server_start(struct stream **s, struct tls_creds *c, uint64_t deadline_ns, struct err *e) YIELDS;
int tls_client_start(struct stream **s, struct tls_creds *c, uint64_t deadline_ns, struct err *e) YIELDS;
/* Tells the peer that nothing more will be sent (TLS's closing alert), for protocols that owe it before stream_close(). Nothing on
 * a stream without TLS or one that is broken. May wait for the peer to take it: keep a deadline that shuts the stream down. */
void tls_goodbye(struct stream *s) YIELDS;

#endif
