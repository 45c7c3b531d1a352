/* main.c - myfs-brickd: serves every brick of one node.
 *
 * Life: options -> loop -> node (registry, listeners, bricks) -> control socket -> READY. SIGTERM, SIGINT or the
 * control method shutdown end it orderly: bricks are checkpointed and marked clean, so that the next start needs no
 * recovery. A second signal ends it at once. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "brick/metrics.h"
#include "brick/node.h"
#include "brick/node_control.h"
#include "core/base/log.h"
#include "core/control/notify.h"

static const char help[] =
    "myfs-brickd - serves the bricks of one myfs node\n"
    "\n"
    "  myfs-brickd --registry /var/lib/myfs/registry.db --node node1\n"
    "  myfs-brickd --registry demo/registry.db --node node1 --control unix:demo/node1/control.sock\n"
    "\n"
    "  --registry FILE      registry of the cluster (required)\n"
    "  --node NAME          which node this is (required)\n"
    "  --listen ADDR        where gateways connect: unix:PATH or tcp:HOST:PORT; may be repeated\n"
    "                       (default: the address the registry has for the node)\n"
    "  --control unix:PATH  control socket for the myfs command (default: the registry's)\n"
    "  --psk FILE           cluster key for TLS on TCP, 32 bytes, mode 0600\n"
    "  --allow-plain-tcp    TCP without TLS, for tests only\n"
    "  --metrics ADDR       serve http://HOST:PORT/metrics for Prometheus on tcp:HOST:PORT (or unix:PATH); no TLS and no\n"
    "                       password, so use an address only the monitoring reaches\n"
    "  --debug-delay N%:Tms hold back N % of all answers by T ms, to see what a slow disk does to the cluster; for tests only\n"
    "  --debug-no-journal   keep changes in memory only, to see what the journal costs: a crash loses them, and the bricks\n"
    "                       cannot be served a second time; for tests only\n"
    "  --log LEVEL          error, warn, note, info or debug (default note)\n"
    "  --help, --version\n"
    "\n"
    "Which bricks are served is read from the registry and followed while it runs. SIGTERM stops it orderly,\n"
    "SIGHUP makes it look at the registry at once.\n";

enum { EXIT_SYSTEM = 2, EXIT_BAD_USAGE = 64 };

struct options {
	struct node_config node;
	const char *control; /* NULL: the registry's */
	bool metrics_on;
	struct address metrics; /* HTTP, when metrics_on */
};

struct program {
	struct options opt;
	struct loop *loop;
	struct node *node;
	struct node_control control;
	struct control_server *control_server;
	struct http_server *http;
	struct waitq wake;
	bool stopping;
	int exit_code;
};

/* ---- options ---- */

static int bad_usage(const char *why, const char *what)
{
	fprintf(stderr, "myfs-brickd: %s%s%s\nTry: myfs-brickd --help\n", why, what ? ": " : "", what ? what : "");
	return EXIT_BAD_USAGE;
}

static bool set_level(const char *text)
{
	static const struct {
		const char *name;
		enum log_level level;
	} levels[] = {{"error", LOG_L_ERROR},
		      {"warn", LOG_L_WARN},
		      {"note", LOG_L_NOTE},
		      {"info", LOG_L_INFO},
		      {"debug", LOG_L_DEBUG}};

	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		if (strcmp(levels[i].name, text) == 0) {
			log_set_level(levels[i].level);
			return true;
		}
	}
	return false;
}

static int add_listen(struct node_config *c, const char *text)
{
	struct err e = ERR_INIT;

	if (c->n_listen == NODE_LISTEN_MAX)
		return bad_usage("too many --listen", text);
	if (address_parse(text, &c->listen[c->n_listen], &e))
		return bad_usage("--listen", e.text);
	c->n_listen++;
	return 0;
}

/* -1: run; otherwise the exit code. */
static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option known[] = {
	    {"registry", required_argument, NULL, 'r'}, {"node", required_argument, NULL, 'n'},
	    {"listen", required_argument, NULL, 'l'},   {"control", required_argument, NULL, 'c'},
	    {"psk", required_argument, NULL, 'p'},      {"allow-plain-tcp", no_argument, NULL, 'P'},
	    {"debug-delay", required_argument, NULL, 'D'}, {"metrics", required_argument, NULL, 'M'},
	    {"debug-no-journal", no_argument, NULL, 'J'},
	    {"log", required_argument, NULL, 'L'},      {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'V'},        {NULL, 0, NULL, 0},
	};
	struct err e = ERR_INIT;
	int c, rc;

	while ((c = getopt_long(argc, argv, "h", known, NULL)) != -1) {
		switch (c) {
		case 'r':
			o->node.registry_path = optarg;
			break;
		case 'n':
			o->node.name = optarg;
			break;
		case 'l':
			rc = add_listen(&o->node, optarg);
			if (rc)
				return rc;
			break;
		case 'c':
			o->control = optarg;
			break;
		case 'p':
			o->node.psk_path = optarg;
			break;
		case 'P':
			o->node.allow_plain_tcp = true;
			break;
		case 'M':
			if (address_parse(optarg, &o->metrics, &e))
				return bad_usage("--metrics", e.text);
			o->metrics_on = true;
			break;
		case 'D':
			if (debug_delay_parse(optarg, &o->node.delay, &e))
				return bad_usage("--debug-delay", e.text);
			break;
		case 'J':
			o->node.unjournaled = true;
			break;
		case 'L':
			if (!set_level(optarg))
				return bad_usage("--log takes error, warn, note, info or debug, not", optarg);
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		case 'V':
			puts("myfs-brickd " MYFS_VERSION);
			return 0;
		default:
			return bad_usage("bad option", NULL);
		}
	}
	if (optind < argc)
		return bad_usage("unexpected word", argv[optind]);
	if (!o->node.registry_path || !o->node.name)
		return bad_usage("--registry and --node are needed", NULL);
	if (!reg_name_valid(o->node.name))
		return bad_usage("not a node name", o->node.name);
	return -1;
}

/* ---- start and end ---- */

static int read_boot_id(struct gfid *ret, struct err *e)
{
	char text[64] = "";
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
	bool ok = f && fgets(text, sizeof(text), f);

	if (f)
		fclose(f);
	text[strcspn(text, "\n")] = '\0';
	return ok && gfid_parse(text, ret) == 0 ? 0 : err_set(e, -EIO, "cannot read the kernel's boot id");
}

/* As many files as we may have: every open fragment takes two. */
static uint64_t raise_file_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l))
		return 1024;
	l.rlim_cur = l.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &l);
	return getrlimit(RLIMIT_NOFILE, &l) ? 1024 : l.rlim_cur;
}

static void ask_stop(void *arg)
{
	struct program *p = arg;

	p->stopping = true;
	waitq_wake_all(&p->wake);
}

static void on_signal(void *arg, int signo)
{
	struct program *p = arg;

	if (signo == SIGHUP) {
		if (p->node)
			node_reload(p->node);
		return;
	}
	if (p->stopping)
		_exit(EXIT_SYSTEM);
	ask_stop(p);
}

static int start_control(struct program *p, struct err *e) YIELDS
{
	struct reg_node reg;
	struct address a;
	const char *text = p->opt.control;
	int rc = 0;

	if (!text) {
		rc = reg_node_get(p->node->registry, p->opt.node.name, &reg, e);
		text = reg.control;
	}
	if (!rc)
		rc = address_parse(text, &a, e);
	if (rc)
		return err_wrap(e, rc, "control socket (--control unix:PATH)");
	p->control = (struct node_control){.node = p->node, .shutdown = ask_stop, .arg = p};
	return control_server_start(net_kernel(), &a, node_control_methods, &p->control, &p->control_server, e);
}

static int start_metrics(struct program *p, struct err *e) YIELDS
{
	struct address real;
	char text[ADDRESS_TEXT];
	int rc = http_server_start(&p->opt.metrics, node_pages, p->node, &real, &p->http, e);

	if (!rc)
		log_note("serving /metrics on %s", address_text(&real, text));
	return rc;
}

static int start(struct program *p, struct err *e) YIELDS
{
	int rc = read_boot_id(&p->opt.node.boot, e);

	if (!rc)
		rc = node_start(&p->opt.node, &p->node, e);
	if (!rc)
		rc = start_control(p, e);
	return rc || !p->opt.metrics_on ? rc : start_metrics(p, e);
}

static void program_main(void *arg)
{
	struct program *p = arg;
	struct err e = ERR_INIT;

	if (start(p, &e)) {
		log_error("cannot start: %s", e.text);
		p->exit_code = EXIT_SYSTEM;
	} else {
		log_note("ready, %s", loop_backend_name(p->loop));
		notify_send("READY=1\nSTATUS=Serving the bricks of %s", p->opt.node.name);
		while (!p->stopping)
			waitq_wait(&p->wake);
		log_note("stopping");
		notify_send("STOPPING=1\nSTATUS=Checkpointing %u bricks", node_bricks_online(p->node));
	}
	p->stopping = true;
	http_server_stop(p->http);
	control_server_stop(p->control_server);
	node_stop(p->node);
	p->node = NULL;
	loop_stop(p->loop);
}

int main(int argc, char **argv)
{
	static struct program p;
	struct err e = ERR_INIT;
	char name[REG_NAME + 16];
	int rc = parse_options(argc, argv, &p.opt);

	if (rc >= 0)
		return rc;
	snprintf(name, sizeof(name), "brickd %s", p.opt.node.name);
	log_set_name(name);
	waitq_init(&p.wake);
	signal(SIGPIPE, SIG_IGN); /* a log reader that goes away must not end us */
	p.opt.node.max_files = raise_file_limit();
	rc = loop_new(&(struct loop_options){.backend = LOOP_AUTO}, &p.loop, &e);
	if (!rc)
		rc = loop_on_signals(p.loop, on_signal, &p);
	if (!rc)
		rc = fiber_spawn(p.loop, "main", program_main, &p);
	if (rc) {
		log_error("cannot start: %s", e.code ? e.text : err_name(rc));
		return EXIT_SYSTEM;
	}
	loop_run(p.loop);
	loop_free(p.loop);
	return p.exit_code;
}
