/* TLS streams: keys that are refused, who gets in, data both ways at once, the clear-text boundary, certificates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/prng.h"
#include "core/loop/loop.h"
#include "core/loop/tls.h"
#include "core/rpc/rpc.h"

static char dir[] = "/tmp/myfs-test-tls-XXXXXX";

static const char *in_dir(const char *name)
{
	static char path[4][256];
	static unsigned i;

	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%s/%s", dir, name);
	return path[i];
}

static void write_file(const char *name, const void *data, size_t len, mode_t mode)
{
	int fd = open(in_dir(name), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static struct tls_creds *psk(const char *key_file, const char *identity)
{
	struct tls_creds *c = NULL;
	struct err e = ERR_INIT;

	if (tls_creds_psk(in_dir(key_file), identity, &c, &e) != 0)
		fail_msg("%s", e.text);
	return c;
}

/* ---- certificates made here, so that nothing expires ---- */

static gnutls_x509_privkey_t make_key(const char *file)
{
	gnutls_x509_privkey_t key;
	gnutls_datum_t pem;

	assert_int_equal(gnutls_x509_privkey_init(&key), 0);
	assert_int_equal(gnutls_x509_privkey_generate(key, GNUTLS_PK_RSA, 2048, 0), 0);
	assert_int_equal(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem), 0);
	write_file(file, pem.data, pem.size, 0600);
	gnutls_free(pem.data);
	return key;
}

static gnutls_x509_crt_t make_cert(const char *file, const char *dn, gnutls_x509_privkey_t key, gnutls_x509_crt_t ca,
				   gnutls_x509_privkey_t ca_key, unsigned serial)
{
	gnutls_x509_crt_t crt;
	gnutls_datum_t pem;
	uint8_t s = (uint8_t)serial;

	assert_int_equal(gnutls_x509_crt_init(&crt), 0);
	gnutls_x509_crt_set_version(crt, 3);
	gnutls_x509_crt_set_serial(crt, &s, 1);
	gnutls_x509_crt_set_activation_time(crt, time(NULL) - 3600);
	gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 86400);
	gnutls_x509_crt_set_dn(crt, dn, NULL);
	gnutls_x509_crt_set_key(crt, key);
	gnutls_x509_crt_set_basic_constraints(crt, ca == NULL, -1);
	gnutls_x509_crt_set_key_usage(crt, ca ? GNUTLS_KEY_DIGITAL_SIGNATURE : GNUTLS_KEY_KEY_CERT_SIGN);
	if (ca)
		gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, "localhost", 9, GNUTLS_FSAN_SET);
	assert_int_equal(gnutls_x509_crt_sign2(crt, ca ? ca : crt, ca ? ca_key : key, GNUTLS_DIG_SHA256, 0), 0);
	assert_int_equal(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem), 0);
	write_file(file, pem.data, pem.size, 0644);
	gnutls_free(pem.data);
	return crt;
}

static void make_pki(void)
{
	gnutls_x509_privkey_t ca_key = make_key("ca-key.pem"), server_key = make_key("server-key.pem");
	gnutls_x509_privkey_t client_key = make_key("client-key.pem");
	gnutls_x509_crt_t ca = make_cert("ca-cert.pem", "CN=test CA", ca_key, NULL, NULL, 1);
	gnutls_x509_crt_t server = make_cert("server-cert.pem", "CN=localhost", server_key, ca, ca_key, 2);
	gnutls_x509_crt_t client = make_cert("client-cert.pem", "CN=client", client_key, ca, ca_key, 3);

	gnutls_x509_crt_deinit(client);
	gnutls_x509_crt_deinit(server);
	gnutls_x509_crt_deinit(ca);
	gnutls_x509_privkey_deinit(client_key);
	gnutls_x509_privkey_deinit(server_key);
	gnutls_x509_privkey_deinit(ca_key);
}

static int setup(void **state)
{
	uint8_t key[33];
	struct prng p;

	(void)state;
	assert_non_null(mkdtemp(dir));
	prng_seed(&p, 11);
	prng_bytes(&p, key, sizeof(key));
	write_file("key", key, 32, 0600);
	write_file("same", key, 32, 0400);
	write_file("long", key, 33, 0600);
	write_file("short", key, 31, 0600);
	write_file("open", key, 32, 0640);
	key[0] ^= 1;
	write_file("other", key, 32, 0600);
	make_pki();
	return 0;
}

static int teardown(void **state)
{
	static const char *names[] = {"key", "same", "long", "short", "open", "other", "ca-key.pem", "ca-cert.pem",
				      "server-key.pem", "server-cert.pem", "client-key.pem", "client-cert.pem"};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unlink(in_dir(names[i]));
	return rmdir(dir);
}

/* ---- credentials ---- */

static void keys_that_are_not_secret_or_not_keys_are_refused(void **state)
{
	static const struct {
		const char *file;
		int rc;
		const char *text;
	} bad[] = {
	    {"missing", -ENOENT, "No such file"},
	    {"open", -EPERM, "lets others read it"},
	    {"long", -EINVAL, "exactly 32 bytes"},
	    {"short", -EINVAL, "exactly 32 bytes"},
	    {".", -EINVAL, "not a regular file"},
	};
	struct tls_creds *c = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;
		assert_int_equal(tls_creds_psk(in_dir(bad[i].file), "myfs", &c, &e), bad[i].rc);
		assert_non_null(strstr(e.text, bad[i].text));
	}
	struct err e = ERR_INIT;
	assert_int_equal(tls_creds_psk(in_dir("key"), "", &c, &e), -EINVAL);
	assert_null(c);
	tls_creds_free(NULL);
}

static void a_server_key_the_world_can_read_is_refused(void **state)
{
	struct tls_creds *c = NULL;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(chmod(in_dir("server-key.pem"), 0644), 0);
	assert_int_equal(tls_creds_x509_server(dir, false, &c, &e), -EPERM);
	assert_int_equal(chmod(in_dir("server-key.pem"), 0640), 0);
	assert_int_equal(tls_creds_x509_server(dir, true, &c, &e), 0);
	tls_creds_free(c);
	assert_int_equal(tls_creds_x509_server("/nonexistent", false, &c, &e), -ENOENT);
}

/* ---- two fibers over loopback TCP ---- */

struct pair {
	struct listener *listener;
	struct tls_creds *server_creds, *client_creds;
	struct stream *server, *client;
	struct err server_err, client_err;
	int server_rc, client_rc;
	uint64_t server_deadline_ns;
	bool server_done;
	struct waitq done;
};

static void pair_server(void *arg)
{
	struct pair *p = arg;

	p->server_rc = listener_accept(p->listener, &p->server);
	assert_int_equal(p->server_rc, 0);
	p->server_rc = tls_server_start(&p->server, p->server_creds, p->server_deadline_ns, &p->server_err);
	p->server_done = true;
	waitq_wake_all(&p->done);
}

static void pair_listen(struct pair *p)
{
	struct address a = {.kind = ADDRESS_TCP, .host = "127.0.0.1"};
	struct err e = ERR_INIT;

	waitq_init(&p->done);
	if (p->server_deadline_ns == 0)
		p->server_deadline_ns = UINT64_MAX;
	assert_int_equal(net_listen(net_kernel(), &a, &p->listener, &e), 0);
	assert_int_equal(fiber_spawn(loop_self(), "server", pair_server, p), 0);
}

static void pair_connect(struct pair *p)
{
	assert_int_equal(net_connect(net_kernel(), &p->listener->address, UINT64_MAX, &p->client, NULL), 0);
}

static void pair_wait_server(struct pair *p)
{
	while (!p->server_done)
		waitq_wait(&p->done);
}

static void pair_open(struct pair *p, const char *server_key, const char *client_key, const char *server_id,
		      const char *client_id)
{
	p->server_creds = psk(server_key, server_id);
	p->client_creds = psk(client_key, client_id);
	pair_listen(p);
	pair_connect(p);
	p->client_rc = tls_client_start(&p->client, p->client_creds, UINT64_MAX, &p->client_err);
}

static void pair_close(struct pair *p)
{
	stream_close(p->client);
	stream_close(p->server);
	listener_stop(p->listener);
	listener_close(p->listener);
	tls_creds_free(p->server_creds);
	tls_creds_free(p->client_creds);
}

static void in_loop(fiber_fn *fn)
{
	struct loop *l;
	struct loop_options opt = {0};

	assert_int_equal(loop_new(&opt, &l, NULL), 0);
	assert_int_equal(loop_run_fiber(l, "test", fn, NULL), 0);
	loop_free(l);
}

#define IN_LOOP(name) \
	static void name##_body(void *arg); \
	static void name(void **state) \
	{ \
		(void)state; \
		in_loop(name##_body); \
	} \
	static void name##_body(__attribute__((unused)) void *arg)

static void send_all(struct stream *s, const void *p, size_t len)
{
	struct iovec v = {(void *)(uintptr_t)p, len};

	assert_int_equal(stream_send(s, &v, 1), 0);
}

IN_LOOP(the_same_key_lets_both_sides_talk)
{
	struct pair p = {0};
	char b[16];

	pair_open(&p, "key", "same", "myfs", "myfs");
	assert_int_equal(p.client_rc, 0);
	pair_wait_server(&p);
	assert_int_equal(p.server_rc, 0);
	assert_true(p.client->is_tls && p.server->is_tls);
	tls_creds_free(p.server_creds); /* streams keep what they need */
	p.server_creds = NULL;
	send_all(p.client, "ping", 4);
	assert_int_equal(stream_recv(p.server, b, sizeof(b)), 4);
	assert_memory_equal(b, "ping", 4);
	send_all(p.server, "pong!", 5);
	assert_int_equal(stream_recv(p.client, b, sizeof(b)), 5);
	assert_memory_equal(b, "pong!", 5);
	pair_close(&p);
}

IN_LOOP(another_key_is_turned_away_on_both_sides)
{
	struct pair p = {0};

	pair_open(&p, "key", "other", "myfs", "myfs");
	pair_wait_server(&p);
	assert_true(p.server_rc < 0);
	assert_null(p.server);
	/* The client's half may look complete before the server's refusal arrives; then the first read tells. */
	char b;
	if (p.client_rc == 0)
		assert_true(stream_recv(p.client, &b, 1) < 0);
	else
		assert_null(p.client);
	pair_close(&p);
}

IN_LOOP(another_identity_is_turned_away)
{
	struct pair p = {0};

	pair_open(&p, "key", "key", "myfs", "somebody");
	pair_wait_server(&p);
	assert_true(p.server_rc < 0);
	pair_close(&p);
}

IN_LOOP(bytes_in_clear_before_or_instead_of_the_handshake_get_nowhere)
{
	struct pair p = {.server_creds = psk("key", "myfs")};
	char b;

	pair_listen(&p);
	pair_connect(&p);
	send_all(p.client, "MYF1 and other things that are not TLS at all", 44);
	pair_wait_server(&p);
	assert_true(p.server_rc < 0);
	assert_null(p.server);
	/* At most an alert comes back before the end. */
	while (stream_recv(p.client, &b, 1) > 0)
		;
	pair_close(&p);
}

IN_LOOP(a_peer_that_says_nothing_is_dropped_at_the_deadline)
{
	struct pair p = {.server_creds = psk("key", "myfs"), .server_deadline_ns = loop_now_ns() + 20 * NS_PER_MS};

	pair_listen(&p);
	pair_connect(&p);
	pair_wait_server(&p);
	assert_int_equal(p.server_rc, -ETIMEDOUT);
	pair_close(&p);
}

IN_LOOP(an_end_without_goodbye_is_a_reset)
{
	struct pair p = {0};
	char b;

	pair_open(&p, "key", "key", "myfs", "myfs");
	pair_wait_server(&p);
	stream_close(p.client);
	p.client = NULL;
	assert_int_equal(stream_recv(p.server, &b, 1), -ECONNRESET);
	pair_close(&p);
}

IN_LOOP(shutdown_ends_later_use)
{
	struct pair p = {0};
	struct iovec v = {"x", 1};
	char b;

	pair_open(&p, "key", "key", "myfs", "myfs");
	pair_wait_server(&p);
	stream_shutdown(p.server);
	assert_int_equal(stream_recv(p.server, &b, 1), -ECONNRESET);
	assert_int_equal(stream_send(p.server, &v, 1), -ECONNRESET);
	pair_close(&p);
}

/* ---- much data both ways at once, in pieces of all sizes ---- */

#define BULK_BYTES (8u * 1024u * 1024u)

struct bulk {
	struct stream *s;
	uint64_t seed;
	unsigned *left;
	struct waitq *done;
	bool ok;
};

static void bulk_end(struct bulk *b)
{
	--*b->left;
	waitq_wake_all(b->done);
}

static void bulk_send(void *arg)
{
	struct bulk *b = arg;
	uint8_t *data = malloc(BULK_BYTES);
	struct prng p;

	prng_seed(&p, b->seed);
	prng_bytes(&p, data, BULK_BYTES);
	b->ok = true;
	for (size_t at = 0; at < BULK_BYTES && b->ok;) {
		struct iovec v[8];
		unsigned n = 0;
		while (n < 8 && at < BULK_BYTES) {
			size_t len = prng_below(&p, prng_chance(&p, 0.5) ? 100 : 70000) + 1;
			len = min_u64(len, BULK_BYTES - at);
			v[n++] = (struct iovec){data + at, len};
			at += len;
		}
		b->ok = stream_send(b->s, v, n) == 0;
	}
	free(data);
	bulk_end(b);
}

static void bulk_recv(void *arg)
{
	struct bulk *b = arg;
	uint8_t *data = malloc(BULK_BYTES), *got = malloc(BULK_BYTES);
	struct prng p;

	prng_seed(&p, b->seed);
	prng_bytes(&p, data, BULK_BYTES);
	size_t at = 0;
	b->ok = true;
	while (at < BULK_BYTES && b->ok) {
		ssize_t n = stream_recv(b->s, got + at, min_u64(BULK_BYTES - at, 100000));
		b->ok = n > 0;
		at += n > 0 ? (size_t)n : 0;
	}
	b->ok = b->ok && memcmp(data, got, BULK_BYTES) == 0;
	free(data);
	free(got);
	bulk_end(b);
}

IN_LOOP(both_directions_carry_data_at_the_same_time)
{
	struct pair p = {0};
	unsigned left = 4;
	struct waitq done;

	waitq_init(&done);
	pair_open(&p, "key", "key", "myfs", "myfs");
	pair_wait_server(&p);
	struct bulk b[] = {{p.client, 1, &left, &done, false}, {p.server, 1, &left, &done, false},
			   {p.server, 2, &left, &done, false}, {p.client, 2, &left, &done, false}};
	for (int i = 0; i < 4; i++)
		assert_int_equal(fiber_spawn(loop_self(), "bulk", i % 2 ? bulk_recv : bulk_send, &b[i]), 0);
	while (left > 0)
		waitq_wait(&done);
	for (int i = 0; i < 4; i++)
		assert_true(b[i].ok);
	pair_close(&p);
}

/* ---- rpc on top ---- */

static void rpc_handle(void *arg, struct rpc_request *req)
{
	(void)arg;
	rpc_reply(req, 0, NULL, NULL, &req->payload, 1);
}

IN_LOOP(rpc_over_tcp_works_with_the_key_and_not_without)
{
	struct tls_creds *good = psk("key", "myfs"), *bad = psk("other", "myfs");
	struct rpc_server_config scfg = {.net = net_kernel(), .tls = good, .handle = rpc_handle};
	struct address a = {.kind = ADDRESS_TCP, .host = "127.0.0.1"};
	struct rpc_server *server;
	struct rpc_client *c = NULL;
	static uint8_t payload[1048576];
	struct iovec v = {payload, sizeof(payload)};
	struct rpc_call call = {.type = 1, .payload = &v, .payload_n = 1};

	memset(payload, 0x5a, sizeof(payload));
	assert_int_equal(rpc_server_new(&scfg, &server), 0);
	assert_int_equal(rpc_server_listen(server, &a, &a, NULL), 0);
	struct rpc_client_config ccfg = {
	    .net = net_kernel(), .address = a, .tls = good, .connect_deadline_ns = loop_now_ns() + 5 * NS_PER_S};
	assert_int_equal(rpc_client_connect(&ccfg, &c, NULL), 0);
	assert_int_equal(rpc_call_sync(c, &call), 0);
	assert_int_equal(call.payload_in.len, sizeof(payload));
	assert_memory_equal(call.payload_in.ptr, payload, sizeof(payload));
	rpc_call_release(&call);
	rpc_client_free(c);

	ccfg.tls = bad;
	c = NULL;
	int rc = rpc_client_connect(&ccfg, &c, NULL);
	if (rc == 0)
		assert_int_equal(rpc_call_sync(c, &call), -MYFS_E_GONE);
	rpc_client_free(c);
	ccfg.tls = NULL; /* in clear */
	c = NULL;
	assert_int_equal(rpc_client_connect(&ccfg, &c, NULL), 0);
	assert_int_equal(rpc_call_sync(c, &call), -MYFS_E_GONE);
	rpc_client_free(c);
	rpc_server_stop(server);
	rpc_server_free(server);
	tls_creds_free(good);
	tls_creds_free(bad);
}

/* ---- X.509: the client is plain GnuTLS on a thread, as a foreign NBD client would be ---- */

struct foreign {
	uint16_t port;
	bool with_cert;
	int rc;
	char reply[4];
};

static int foreign_talk(struct foreign *f, gnutls_session_t s)
{
	int rc;

	do
		rc = gnutls_handshake(s);
	while (rc < 0 && !gnutls_error_is_fatal(rc));
	if (rc != 0)
		return rc;
	if (gnutls_record_send(s, "ping", 4) != 4)
		return -1;
	ssize_t n = gnutls_record_recv(s, f->reply, 4);
	return n == 4 ? 0 : -1;
}

static void *foreign_client(void *arg)
{
	struct foreign *f = arg;
	gnutls_certificate_credentials_t cred;
	gnutls_session_t s;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in sin = {
	    .sin_family = AF_INET, .sin_port = htons(f->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char ca[256], cert[256], key[256];

	snprintf(ca, sizeof(ca), "%s/ca-cert.pem", dir);
	snprintf(cert, sizeof(cert), "%s/client-cert.pem", dir);
	snprintf(key, sizeof(key), "%s/client-key.pem", dir);
	gnutls_certificate_allocate_credentials(&cred);
	gnutls_certificate_set_x509_trust_file(cred, ca, GNUTLS_X509_FMT_PEM);
	if (f->with_cert)
		gnutls_certificate_set_x509_key_file(cred, cert, key, GNUTLS_X509_FMT_PEM);
	gnutls_init(&s, GNUTLS_CLIENT);
	gnutls_set_default_priority(s);
	gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, cred);
	gnutls_session_set_verify_cert(s, "localhost", 0);
	if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0) {
		gnutls_transport_set_int(s, fd);
		f->rc = foreign_talk(f, s);
	}
	gnutls_deinit(s);
	gnutls_certificate_free_credentials(cred);
	close(fd);
	return NULL;
}

static void x509_talk(bool verify, bool with_cert, bool welcome)
{
	struct pair p = {0};
	struct foreign f = {.with_cert = with_cert, .rc = -1};
	pthread_t thread;
	char b[4];

	assert_int_equal(tls_creds_x509_server(dir, verify, &p.server_creds, NULL), 0);
	pair_listen(&p);
	f.port = p.listener->address.port;
	assert_int_equal(pthread_create(&thread, NULL, foreign_client, &f), 0);
	pair_wait_server(&p);
	assert_int_equal(p.server_rc == 0, welcome);
	if (welcome) {
		assert_int_equal(stream_recv_full(p.server, b, 4), 0);
		send_all(p.server, b, 4);
	}
	pthread_join(thread, NULL);
	assert_int_equal(f.rc == 0, welcome);
	if (welcome)
		assert_memory_equal(f.reply, "ping", 4);
	pair_close(&p);
}

IN_LOOP(a_foreign_client_verifies_our_certificate_and_talks)
{
	x509_talk(false, false, true);
}

IN_LOOP(a_client_certificate_is_demanded_when_asked_for)
{
	x509_talk(true, true, true);
	x509_talk(true, false, false);
}

IN_LOOP(server_certificates_are_no_client_credentials)
{
	struct pair p = {0};

	assert_int_equal(tls_creds_x509_server(dir, false, &p.server_creds, NULL), 0);
	pair_listen(&p);
	pair_connect(&p);
	assert_int_equal(tls_client_start(&p.client, p.server_creds, UINT64_MAX, NULL), -EINVAL);
	assert_null(p.client);
	pair_wait_server(&p);
	pair_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(keys_that_are_not_secret_or_not_keys_are_refused),
	    cmocka_unit_test(a_server_key_the_world_can_read_is_refused),
	    cmocka_unit_test(the_same_key_lets_both_sides_talk),
	    cmocka_unit_test(another_key_is_turned_away_on_both_sides),
	    cmocka_unit_test(another_identity_is_turned_away),
	    cmocka_unit_test(bytes_in_clear_before_or_instead_of_the_handshake_get_nowhere),
	    cmocka_unit_test(a_peer_that_says_nothing_is_dropped_at_the_deadline),
	    cmocka_unit_test(an_end_without_goodbye_is_a_reset),
	    cmocka_unit_test(shutdown_ends_later_use),
	    cmocka_unit_test(both_directions_carry_data_at_the_same_time),
	    cmocka_unit_test(rpc_over_tcp_works_with_the_key_and_not_without),
	    cmocka_unit_test(a_foreign_client_verifies_our_certificate_and_talks),
	    cmocka_unit_test(a_client_certificate_is_demanded_when_asked_for),
	    cmocka_unit_test(server_certificates_are_no_client_credentials),
	};
	return cmocka_run_group_tests_name("tls", tests, setup, teardown);
}
