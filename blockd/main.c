/* main.c - myfs-blockd: options, sockets, signals, and the service manager. What the gateway does is in blockd.c. */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "blockd/control.h"
#include "blockd/exports.h"
#include "blockd/lio.h"
#include "blockd/metrics.h"
#include "blockd/options.h"
#include "blockd/reconcile.h"
#include "core/control/notify.h"
#include "core/loop/tls.h"

#define LISTEN_FDS_START 3
#define LISTEN_FDS_MAX   64
#define STOP_MAX_NS      (15 * NS_PER_S)
#define LAST_TURNS       8u
#define EXIT_USAGE       64
#define EXIT_SYSTEM      2

struct program {
	struct options opt;
	struct loop *loop;
	struct blockd *d;
	struct control_server *control;
	struct http_server *http;
	struct tls_creds *psk, *tls;
	char nbd_uri[REG_PATH], nbd_tcp_uri[REG_PATH];
	char nbd_socket[REG_PATH]; /* where tcmu-runner finds us, "" = nowhere */
	struct lio_runner lio_runner;
	bool stop;
	struct waitq stopped;
	struct timer stop_timer;
	int exit_code;
};

/* ---- where clients find us ---- */

static void uri_escape(const char *text, char *out, size_t cap)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-~";
	size_t used = 0;

	for (; *text && used + 4 < cap; text++)
		used += (size_t)snprintf(out + used, cap - used, strchr(plain, *text) ? "%c" : "%%%02X",
					 (unsigned char)*text);
	out[used] = '\0';
}

/* The first socket of each kind is what the registry tells. A wildcard address is told as this host's name. */
static void note_uri(struct program *p, const struct address *a)
{
	const char *scheme = p->opt.tls == TLS_MODE_REQUIRE ? "nbds" : "nbd";
	char path[PATH_MAX + sizeof(a->host) + 2], escaped[REG_PATH - 64], host[256];

	if (a->kind == ADDRESS_UNIX && !p->nbd_uri[0]) {
		char dir[PATH_MAX] = "";

		if (a->host[0] != '/' && !getcwd(dir, sizeof(dir)))
			return;
		snprintf(path, sizeof(path), "%s%s%s", dir, dir[0] ? "/" : "", a->host);
		snprintf(p->nbd_socket, sizeof(p->nbd_socket), "%s", strlen(path) < REG_PATH ? path : "");
		uri_escape(path, escaped, sizeof(escaped));
		snprintf(p->nbd_uri, sizeof(p->nbd_uri), "%s+unix:///%%s?socket=%s", scheme, escaped);
	} else if (a->kind == ADDRESS_TCP && !p->nbd_tcp_uri[0]) {
		snprintf(host, sizeof(host), "%s", a->host);
		if (strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0)
			gethostname(host, sizeof(host) - 1);
		snprintf(p->nbd_tcp_uri, sizeof(p->nbd_tcp_uri),
			 strchr(host, ':') ? "%s://[%s]:%u/%%s" : "%s://%s:%u/%%s", scheme, host, a->port);
	}
}

/* ---- NBD sockets ---- */

static int listen_nbd(struct program *p, struct err *e) YIELDS
{
	for (unsigned i = 0; i < p->opt.nbd_n; i++) {
		char text[ADDRESS_TEXT];
		struct address real;
		int rc = nbd_server_listen(p->d->nbd, p->d->net, &p->opt.nbd[i], &real, e);

		if (rc < 0)
			return err_wrap(e, rc, "cannot serve NBD on %s", address_text(&p->opt.nbd[i], text));
		note_uri(p, &real);
		log_note("serving NBD on %s", address_text(&real, text));
	}
	return 0;
}

/* sd_listen_fds(3): sockets handed over, when they are meant for this process. */
static int adopt_nbd(struct program *p, unsigned *ret_n, struct err *e)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	long n = fds && pid && strtol(pid, NULL, 10) == (long)getpid() ? strtol(fds, NULL, 10) : 0;

	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	if (n < 0 || n > LISTEN_FDS_MAX)
		return err_set(e, -EINVAL, "LISTEN_FDS=%ld makes no sense", n);
	for (int fd = LISTEN_FDS_START; fd < LISTEN_FDS_START + (int)n; fd++) {
		struct listener *l;
		int rc;

		fcntl(fd, F_SETFD, FD_CLOEXEC);
		rc = listener_from_fd(fd, &l, e);
		if (rc == 0) {
			note_uri(p, &l->address);
			rc = nbd_server_adopt(p->d->nbd, l);
		}
		if (rc < 0)
			return err_wrap(e, rc, "socket %d handed over by the service manager", fd);
	}
	*ret_n = (unsigned)n;
	return 0;
}

static int serve_nbd(struct program *p, struct err *e) YIELDS
{
	struct nbd_server_config cfg = {
	    .provider = exports_provider(p->d), .tls = p->tls, .tls_require = p->opt.tls == TLS_MODE_REQUIRE};
	unsigned adopted = 0;
	int rc = nbd_server_new(&cfg, &p->d->nbd);

	if (rc < 0)
		return err_set(e, rc, "NBD server: %s", err_name(rc));
	rc = adopt_nbd(p, &adopted, e);
	if (rc == 0)
		rc = listen_nbd(p, e);
	if (rc == 0 && adopted + p->opt.nbd_n == 0)
		log_warn("no --nbd address and no socket handed over: LUNs can be managed but not attached here");
	return rc == 0 ? blockd_announce(p->d, p->nbd_uri, p->nbd_tcp_uri, e) : rc;
}

/* ---- iSCSI ---- */

static int check_socket(const struct program *p, struct err *e)
{
	char config[LIO_CONFIG];

	if (p->opt.portals_n == 0)
		return 0;
	if (!p->nbd_socket[0] || p->opt.tls == TLS_MODE_REQUIRE)
		return err_set(
		    e, -EINVAL,
		    "--portal needs an NBD socket --nbd unix:PATH without required TLS: tcmu-runner is a client of it");
	/* The longest LUN name has to fit beside it. */
	if (strpbrk(p->nbd_socket, ",; \t\n:") ||
	    snprintf(config, sizeof(config), "myfs/%0126d;socket=%s", 0, p->nbd_socket) >= LIO_CONFIG)
		return err_set(e, -EINVAL, "the path of the NBD socket is too long or holds , ; : or a space: %s",
			       p->nbd_socket);
	return 0;
}

static int serve_iscsi(struct program *p, struct err *e)
{
	struct lio_config cfg = {.configfs = p->opt.configfs,
				 .socket = p->nbd_socket,
				 .portals = (const char(*)[LIO_PORTAL])p->opt.portals,
				 .portals_n = p->opt.portals_n,
				 .runner = &p->lio_runner};
	char before[REG_PATH], *portals = p->d->self.portals;
	size_t used = 0;
	int rc = check_socket(p, e);

	snprintf(before, sizeof(before), "%s", portals);
	portals[0] = '\0';
	for (unsigned i = 0; i < p->opt.portals_n && used < REG_PATH; i++)
		used += (size_t)snprintf(portals + used, REG_PATH - used, "%s%s", i ? " " : "", p->opt.portals[i]);
	if (rc == 0 && strcmp(before, portals) != 0)
		rc = reg_gateway_put(p->d->registry, &p->d->self, e);
	if (rc == 0 && (portals[0] || before[0])) {
		rc = lio_worker_new(&p->lio_runner, e);
		if (rc == 0)
			rc = lio_start(p->d, &cfg, e);
	}
	return rc;
}

/* ---- start and stop ---- */

static int load_keys(struct program *p, struct err *e)
{
	int rc = p->opt.psk ? tls_creds_psk(p->opt.psk, TLS_CLUSTER_IDENTITY, &p->psk, e) : 0;

	if (rc == 0 && p->opt.tls != TLS_MODE_OFF)
		rc = tls_creds_x509_server(p->opt.tls_certs, false, &p->tls, e);
	return rc;
}

static int serve_metrics(struct program *p, struct err *e) YIELDS
{
	struct address real;
	char text[ADDRESS_TEXT];
	int rc = http_server_start(&p->opt.metrics, blockd_pages, p->d, &real, &p->http, e);

	if (rc == 0)
		log_note("serving /metrics on %s", address_text(&real, text));
	return rc;
}

static int start(struct program *p, struct err *e) YIELDS
{
	struct blockd_config cfg = {
	    .loop = p->loop, .net = net_kernel(), .name = p->opt.name, .io_timeout_ns = p->opt.io_timeout_ns,
	    .read_fence = p->opt.read_fence};
	char control[ADDRESS_TEXT];
	int rc = load_keys(p, e);

	if (rc == 0)
		rc = registry_open(p->opt.registry, false, &cfg.registry, e);
	if (rc < 0)
		return rc;
	cfg.psk = p->psk;
	cfg.control = address_text(&p->opt.control, control);
	rc = blockd_start(&cfg, &p->d, e);
	if (rc == 0)
		rc = serve_nbd(p, e);
	if (rc == 0)
		rc = serve_iscsi(p, e);
	if (rc == 0)
		rc = control_server_start(p->d->net, &p->opt.control, blockd_methods, p->d, &p->control, e);
	if (rc == 0 && p->opt.metrics_on)
		rc = serve_metrics(p, e);
	return rc;
}

static void stop_too_slow(void *arg)
{
	(void)arg;
	/* Bricks are away, so LUNs cannot be flushed. Leaving now is as safe as a crash: the next owner resolves what
	 * is open. */
	log_warn("stopping takes too long; leaving the rest to the next owner");
	_exit(1);
}

static void on_signal(void *arg, int signo)
{
	struct program *p = arg;

	if (signo == SIGHUP) {
		if (p->d)
			reconcile_kick(p->d);
		return;
	}
	p->stop = true;
	waitq_wake_all(&p->stopped);
}

static void main_fiber(void *arg)
{
	struct program *p = arg;
	struct err e = ERR_INIT;
	int rc = start(p, &e);

	if (rc < 0) {
		log_error("%s", e.text);
		p->exit_code = EXIT_SYSTEM;
	} else {
		notify_send("READY=1\nSTATUS=serving");
		log_note("gateway %s is ready (%s)", p->opt.name, loop_backend_name(p->loop));
	}
	while (rc == 0 && !p->stop)
		waitq_wait(&p->stopped);
	notify_send("STOPPING=1");
	timer_init(&p->stop_timer, stop_too_slow, p);
	timer_arm(&p->stop_timer, loop_now_ns() + STOP_MAX_NS);
	if (p->d)
		blockd_give_up(p->d);
	if (p->control) {
		reconcile_kick(p->d); /* answers that were kept back go out */
		control_server_stop(p->control);
	}
	http_server_stop(p->http);
	blockd_stop(p->d);
	lio_worker_free(&p->lio_runner);
	timer_cancel(&p->stop_timer);
	/* Readers of the connections just closed hear of it in the next turns of the loop, and free them. */
	for (unsigned i = 0; i < LAST_TURNS; i++)
		fiber_yield();
}

static void raise_file_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

static int run(struct program *p)
{
	struct err e = ERR_INIT;
	char name[REG_NAME + 16];
	int rc;

	snprintf(name, sizeof(name), "blockd %s", p->opt.name);
	log_set_name(name);
	log_set_level(p->opt.log);
	raise_file_limit();
	waitq_init(&p->stopped);
	rc = loop_new(&(struct loop_options){.backend = LOOP_AUTO, .spins = true}, &p->loop, &e);
	if (rc == 0)
		rc = loop_on_signals(p->loop, on_signal, p);
	if (rc == 0)
		rc = loop_run_fiber(p->loop, "main", main_fiber, p);
	if (rc < 0) {
		log_error("cannot start: %s", e.text[0] ? e.text : err_name(rc));
		p->exit_code = EXIT_SYSTEM;
	}
	tls_creds_free(p->psk);
	tls_creds_free(p->tls);
	loop_free(p->loop);
	return p->exit_code;
}

int main(int argc, char **argv)
{
	static struct program p;
	struct err e = ERR_INIT;

	if (options_parse(argc, argv, &p.opt, &e) < 0) {
		fprintf(stderr, "myfs-blockd: %s\n", e.text);
		return EXIT_USAGE;
	}
	switch (p.opt.action) {
	case OPTIONS_HELP:
		fputs(options_help, stdout);
		return 0;
	case OPTIONS_VERSION:
		puts("myfs-blockd " MYFS_VERSION);
		return 0;
	case OPTIONS_RUN:
		break;
	}
	return run(&p);
}
