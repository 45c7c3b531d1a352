/* tls_priv.h - credentials as tls.c sees them. */
#ifndef MYFS_TLS_PRIV_H
#define MYFS_TLS_PRIV_H

#include <gnutls/gnutls.h>

#include "core/loop/tls.h"

enum creds_kind { CREDS_PSK, CREDS_X509_SERVER };

#define TLS_KEY_BYTES 32u
#define TLS_IDENTITY_MAX 64u

struct tls_creds {
	enum creds_kind kind;
	unsigned refs; /* the owner's and one per stream: sessions look at credentials as long as they live */
	gnutls_priority_t priority;
	char identity[TLS_IDENTITY_MAX + 1];
	uint8_t key[TLS_KEY_BYTES];
	gnutls_psk_server_credentials_t psk_server;
	gnutls_psk_client_credentials_t psk_client;
	gnutls_certificate_credentials_t x509;
	bool verify_peer;
};

static inline struct tls_creds *tls_creds_ref(struct tls_creds *c) { c->refs++; return c; }
/* Sets priorities and credentials of a fresh session. 0 or a GnuTLS code. */
int tls_creds_attach(struct tls_creds *c, gnutls_session_t session, bool server);
/* Turns a GnuTLS code into ours, with text. */
int tls_creds_fail(struct err *e, int gnutls_rc, const char *what);

#endif
