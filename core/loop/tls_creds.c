/* tls_creds.c - where keys come from: the cluster key in a file, or a directory of certificates.
 *
 * Invariants: a secret file that others may read is refused, not used. Secrets are wiped before their memory is
 * freed. Credentials are counted: tls_creds_free() drops the owner's reference, streams hold their own. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/loop/tls_priv.h"

/* TLS 1.3 only, both sides are ours. AES-128-GCM first: fastest with AES instructions, and its SHA-256 fits the key's
 * binder. */
#define PRIORITY_PSK \
	"NONE:+VERS-TLS1.3:+ECDHE-PSK:+AES-128-GCM:+CHACHA20-POLY1305:+AEAD:+SHA256:+SIGN-ALL:" \
	"+GROUP-X25519:+GROUP-SECP256R1:+COMP-NULL:+CTYPE-X509"
#define PRIORITY_X509 \
	"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305"

void tls_creds_free(struct tls_creds *c)
{
	if (!c || --c->refs > 0)
		return;
	if (c->psk_server)
		gnutls_psk_free_server_credentials(c->psk_server);
	if (c->psk_client)
		gnutls_psk_free_client_credentials(c->psk_client);
	if (c->x509)
		gnutls_certificate_free_credentials(c->x509);
	if (c->priority)
		gnutls_priority_deinit(c->priority);
	explicit_bzero(c, sizeof(*c));
	free(c);
}

int tls_creds_fail(struct err *e, int gnutls_rc, const char *what)
{
	return err_set(e, gnutls_rc == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EPROTO, "%s: %s", what,
		       gnutls_strerror(gnutls_rc));
}

static int creds_new(enum creds_kind kind, const char *priority, struct tls_creds **ret, struct err *e)
{
	struct tls_creds *c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->kind = kind;
	c->refs = 1;
	int rc = gnutls_priority_init(&c->priority, priority, NULL);
	if (rc != 0) {
		c->priority = NULL;
		tls_creds_free(c);
		return tls_creds_fail(e, rc, "TLS priorities");
	}
	*ret = c;
	return 0;
}

/* A secret that others can read is not one: refused rather than used. */
static int key_file_check(int fd, const char *path, mode_t forbidden, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "key %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "key %s: not a regular file", path);
	if (st.st_mode & forbidden)
		return err_set(e, -EPERM, "key %s: mode %04o lets others read it; run: chmod 0600 %s", path,
			       (unsigned)(st.st_mode & 07777), path);
	return 0;
}

static int key_read(const char *path, uint8_t key[TLS_KEY_BYTES], struct err *e)
{
	uint8_t data[TLS_KEY_BYTES + 1]; /* one more, to see that there is no more */
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "key %s: %s", path, strerror(errno));

	int rc = key_file_check(fd, path, 0077, e);
	if (rc == 0) {
		ssize_t n = read(fd, data, sizeof(data));
		if (n < 0)
			rc = err_set(e, -errno, "key %s: %s", path, strerror(errno));
		else if (n != TLS_KEY_BYTES)
			rc = err_set(e, -EINVAL, "key %s: must hold exactly %u bytes", path, TLS_KEY_BYTES);
		else
			memcpy(key, data, TLS_KEY_BYTES);
	}
	explicit_bzero(data, sizeof(data));
	close(fd);
	return rc;
}

/* GnuTLS asks for the key of an identity; it frees what it is given. */
static int psk_lookup(gnutls_session_t session, const char *username, gnutls_datum_t *key)
{
	const struct tls_creds *c = gnutls_session_get_ptr(session);

	if (strcmp(username, c->identity) != 0)
		return -1;
	key->data = gnutls_malloc(TLS_KEY_BYTES);
	if (!key->data)
		return -1;
	memcpy(key->data, c->key, TLS_KEY_BYTES);
	key->size = TLS_KEY_BYTES;
	return 0;
}

static int psk_credentials(struct tls_creds *c)
{
	gnutls_datum_t key = {.data = c->key, .size = TLS_KEY_BYTES};

	int rc = gnutls_psk_allocate_server_credentials(&c->psk_server);
	if (rc != 0)
		return rc;
	gnutls_psk_set_server_credentials_function(c->psk_server, psk_lookup);
	rc = gnutls_psk_allocate_client_credentials(&c->psk_client);
	if (rc != 0)
		return rc;
	return gnutls_psk_set_client_credentials(c->psk_client, c->identity, &key, GNUTLS_PSK_KEY_RAW);
}

int tls_creds_psk(const char *key_path, const char *identity, struct tls_creds **ret, struct err *e)
{
	struct tls_creds *c;

	if (identity[0] == '\0' || strlen(identity) > TLS_IDENTITY_MAX)
		return err_set(e, -EINVAL, "TLS identity '%s': must have 1 to %u characters", identity,
			       TLS_IDENTITY_MAX);
	int rc = creds_new(CREDS_PSK, PRIORITY_PSK, &c, e);
	if (rc != 0)
		return rc;
	snprintf(c->identity, sizeof(c->identity), "%s", identity);
	rc = key_read(key_path, c->key, e);
	if (rc == 0) {
		int g = psk_credentials(c);
		if (g != 0)
			rc = tls_creds_fail(e, g, "TLS key");
	}
	if (rc != 0) {
		tls_creds_free(c);
		return rc;
	}
	*ret = c;
	return 0;
}

static int pem_path(char out[4096], const char *dir, const char *name, struct err *e)
{
	int n = snprintf(out, 4096, "%s/%s", dir, name);

	return n < 4096 ? 0 : err_set(e, -ENAMETOOLONG, "TLS directory %s: path too long", dir);
}

static int x509_key(struct tls_creds *c, const char *dir, struct err *e)
{
	char cert[4096], key[4096];

	int rc = pem_path(cert, dir, "server-cert.pem", e);
	if (rc == 0)
		rc = pem_path(key, dir, "server-key.pem", e);
	if (rc != 0)
		return rc;
	int fd = open(key, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "key %s: %s", key, strerror(errno));
	rc = key_file_check(fd, key, 0007, e); /* a group of its own for keys is common */
	close(fd);
	if (rc != 0)
		return rc;
	int g = gnutls_certificate_set_x509_key_file(c->x509, cert, key, GNUTLS_X509_FMT_PEM);
	return g < 0 ? tls_creds_fail(e, g, cert) : 0;
}

/* The CA is needed to verify clients; revoked ones are listed in ca-crl.pem where that exists. */
static int x509_trust(struct tls_creds *c, const char *dir, struct err *e)
{
	char path[4096];

	int rc = pem_path(path, dir, "ca-cert.pem", e);
	if (rc != 0)
		return rc;
	int g = gnutls_certificate_set_x509_trust_file(c->x509, path, GNUTLS_X509_FMT_PEM);
	if (g <= 0)
		return err_set(e, -EINVAL, "%s: %s", path, g < 0 ? gnutls_strerror(g) : "no certificate in it");
	rc = pem_path(path, dir, "ca-crl.pem", e);
	if (rc != 0)
		return rc;
	if (access(path, F_OK) != 0)
		return 0;
	g = gnutls_certificate_set_x509_crl_file(c->x509, path, GNUTLS_X509_FMT_PEM);
	return g < 0 ? tls_creds_fail(e, g, path) : 0;
}

int tls_creds_x509_server(const char *dir, bool verify_peer, struct tls_creds **ret, struct err *e)
{
	struct tls_creds *c;

	int rc = creds_new(CREDS_X509_SERVER, PRIORITY_X509, &c, e);
	if (rc != 0)
		return rc;
	c->verify_peer = verify_peer;
	int g = gnutls_certificate_allocate_credentials(&c->x509);
	if (g != 0)
		rc = tls_creds_fail(e, g, "TLS credentials");
	if (rc == 0)
		rc = x509_key(c, dir, e);
	if (rc == 0 && verify_peer)
		rc = x509_trust(c, dir, e);
	if (rc != 0) {
		tls_creds_free(c);
		return rc;
	}
	*ret = c;
	return 0;
}

int tls_creds_attach(struct tls_creds *c, gnutls_session_t session, bool server)
{
	gnutls_session_set_ptr(session, c);
	int rc = gnutls_priority_set(session, c->priority);
	if (rc != 0)
		return rc;
	if (c->kind == CREDS_PSK)
		return server ? gnutls_credentials_set(session, GNUTLS_CRD_PSK, c->psk_server)
			      : gnutls_credentials_set(session, GNUTLS_CRD_PSK, c->psk_client);
	rc = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, c->x509);
	if (rc == 0 && c->verify_peer) {
		gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
		gnutls_session_set_verify_cert(session, NULL, 0);
	}
	return rc;
}
