/* options.c - parsing the command line of myfs-blockd: every value is checked here, before anything is opened. */
#include "blockd/options.h"

#include <getopt.h>
#include <stdio.h>

#include "blockd/lio_host.h"
#include "core/registry/registry.h"

#define IO_TIMEOUT_DEFAULT_NS (120 * NS_PER_S)
#define DURATION_MAX_NS       (UINT64_C(86400) * NS_PER_S)

const char options_help[] =
    "myfs-blockd - gateway: serves the LUNs of a cluster over NBD and iSCSI\n"
    "\n"
    "  myfs-blockd --registry /var/lib/myfs/registry.db --name node1 --nbd unix:/run/myfs/nbd.sock\n"
    "  myfs-blockd --registry registry.db --name gw --nbd tcp:0.0.0.0:10809 --tls require --tls-certs /etc/myfs/tls\n"
    "\n"
    "  --registry FILE     the cluster's registry (must exist)\n"
    "  --name NAME         name of this gateway, unique in the cluster\n"
    "  --nbd ADDRESS       serve NBD on unix:PATH or tcp:HOST:PORT; may be repeated. Sockets handed over by a service\n"
    "                      manager (LISTEN_FDS) are served too\n"
    "  --portal IP[:PORT]  offer LUNs over iSCSI there too (port 3260); may be repeated. Needs root, an --nbd "
    "unix:PATH,\n"
    "                      tcmu-runner with handler_myfs.so, and the modules target_core_user and iscsi_target_mod\n"
    "  --configfs DIR      root of the kernel's target tree (default " LIO_CONFIGFS_DEFAULT ")\n"
    "  --control unix:PATH control socket (default unix:/run/myfs/blockd-NAME.sock)\n"
    "  --psk FILE          cluster key: 32 bytes, mode 0600; needed for bricks reached over TCP\n"
    "  --tls off|allow|require\n"
    "                      TLS towards NBD clients (default: allow when --tls-certs is given, else off)\n"
    "  --tls-certs DIR     ca-cert.pem, server-cert.pem, server-key.pem\n"
    "  --metrics ADDRESS   serve http://HOST:PORT/metrics for Prometheus on tcp:HOST:PORT (or unix:PATH); no TLS and no\n"
    "                      password, so use an address only the monitoring reaches\n"
    "  --io-timeout TIME   how long I/O waits for missing bricks before it fails (default 120s)\n"
    "  --read-fence index|off\n"
    "                      index (default): a read is returned when enough bricks have confirmed that no other gateway\n"
    "                      has taken the LUN over. off: saves those questions; a gateway cut off from most bricks may then\n"
    "                      return data that its successor has overwritten\n"
    "  --log LEVEL         error, warn, note (default), info, debug\n"
    "  --help, --version\n";

int duration_ns_parse(const char *text, uint64_t *ret, struct err *e)
{
	static const struct {
		const char *suffix;
		uint64_t ns;
	} units[] = {{"", NS_PER_S},       {"s", NS_PER_S},        {"ms", NS_PER_MS},
		     {"m", 60 * NS_PER_S}, {"h", 3600 * NS_PER_S}, {"d", DURATION_MAX_NS}};
	uint64_t n = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9' && n < 1000000000; p++)
		n = n * 10 + (uint64_t)(*p - '0');
	for (size_t i = 0; p > text && i < ARRAY_LEN(units); i++) {
		if (strcmp(p, units[i].suffix) != 0)
			continue;
		if (n == 0 || n > DURATION_MAX_NS / units[i].ns)
			break;
		*ret = n * units[i].ns;
		return 0;
	}
	return err_set(e, -EINVAL, "\"%s\" is not a time; write for example 500ms, 90s, 2m (1 ms to 1 day)", text);
}

static int parse_word(const char *what, const char *text, const char *const *words, unsigned n, int *ret, struct err *e)
{
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(text, words[i]) == 0) {
			*ret = (int)i;
			return 0;
		}
	}
	return err_set(e, -EINVAL, "%s does not know \"%s\"; see --help", what, text);
}

static int parse_nbd(struct options *o, const char *text, struct err *e)
{
	int rc;

	if (o->nbd_n == OPTIONS_NBD_MAX)
		return err_set(e, -EINVAL, "--nbd can be given %u times at most", OPTIONS_NBD_MAX);
	rc = address_parse(text, &o->nbd[o->nbd_n], e);
	if (rc < 0)
		return err_wrap(e, rc, "--nbd %s", text);
	o->nbd_n++;
	return 0;
}

static int parse_portal(struct options *o, const char *text, struct err *e)
{
	int rc;

	if (o->portals_n == LIO_PORTALS_MAX)
		return err_set(e, -EINVAL, "--portal can be given %u times at most", LIO_PORTALS_MAX);
	rc = lio_portal_parse(text, o->portals[o->portals_n], e);
	for (unsigned i = 0; i < o->portals_n && rc == 0; i++)
		if (strcmp(o->portals[i], o->portals[o->portals_n]) == 0)
			return err_set(e, -EINVAL, "--portal %s is given twice", text);
	o->portals_n += rc == 0;
	return rc;
}

enum {
	OPT_REGISTRY = 256,
	OPT_NAME,
	OPT_NBD,
	OPT_PORTAL,
	OPT_CONFIGFS,
	OPT_CONTROL,
	OPT_METRICS,
	OPT_PSK,
	OPT_TLS_CERTS,
	OPT_TLS,
	OPT_IO_TIMEOUT,
	OPT_READ_FENCE,
	OPT_LOG,
	OPT_HELP,
	OPT_VERSION
};

static const struct option long_options[] = {
    {"registry", required_argument, NULL, OPT_REGISTRY}, {"name", required_argument, NULL, OPT_NAME},
    {"nbd", required_argument, NULL, OPT_NBD},           {"control", required_argument, NULL, OPT_CONTROL},
    {"portal", required_argument, NULL, OPT_PORTAL},     {"configfs", required_argument, NULL, OPT_CONFIGFS},
    {"psk", required_argument, NULL, OPT_PSK},           {"tls-certs", required_argument, NULL, OPT_TLS_CERTS},
    {"tls", required_argument, NULL, OPT_TLS},           {"read-fence", required_argument, NULL, OPT_READ_FENCE},
    {"io-timeout", required_argument, NULL, OPT_IO_TIMEOUT},
    {"log", required_argument, NULL, OPT_LOG},           {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},         {"metrics", required_argument, NULL, OPT_METRICS},
    {NULL, 0, NULL, 0},
};

static int parse_one(struct options *o, int opt, const char *value, const char **control, int *tls, struct err *e)
{
	static const char *const tls_words[] = {"off", "allow", "require"};
	static const char *const fence_words[] = {"index", "off"};
	static const char *const log_words[] = {"error", "warn", "note", "info", "debug"};
	int word = 0, rc;

	switch (opt) {
	case OPT_REGISTRY:
		o->registry = value;
		return 0;
	case OPT_NAME:
		o->name = value;
		return 0;
	case OPT_NBD:
		return parse_nbd(o, value, e);
	case OPT_PORTAL:
		return parse_portal(o, value, e);
	case OPT_CONFIGFS:
		o->configfs = value;
		return value[0] == '/' ? 0 : err_set(e, -EINVAL, "--configfs must be an absolute path");
	case OPT_CONTROL:
		*control = value;
		return 0;
	case OPT_METRICS:
		o->metrics_on = true;
		rc = address_parse(value, &o->metrics, e);
		return rc < 0 ? err_wrap(e, rc, "--metrics %s", value) : 0;
	case OPT_PSK:
		o->psk = value;
		return 0;
	case OPT_TLS_CERTS:
		o->tls_certs = value;
		return 0;
	case OPT_TLS:
		return parse_word("--tls", value, tls_words, ARRAY_LEN(tls_words), tls, e);
	case OPT_READ_FENCE:
		rc = parse_word("--read-fence", value, fence_words, ARRAY_LEN(fence_words), &word, e);
		o->read_fence = word ? EC_READ_FENCE_OFF : EC_READ_FENCE_INDEX;
		return rc;
	case OPT_IO_TIMEOUT:
		return duration_ns_parse(value, &o->io_timeout_ns, e);
	case OPT_LOG:
		rc = parse_word("--log", value, log_words, ARRAY_LEN(log_words), &word, e);
		o->log = (enum log_level)(LOG_L_ERROR + word);
		return rc;
	case OPT_HELP:
		o->action = OPTIONS_HELP;
		return 0;
	case OPT_VERSION:
		o->action = OPTIONS_VERSION;
		return 0;
	default:
		return err_set(e, -EINVAL, "unknown option, or a value is missing; see --help");
	}
}

static int check_whole(struct options *o, const char *control, int tls, struct err *e)
{
	char text[ADDRESS_TEXT];
	int rc;

	if (!o->registry || !o->name)
		return err_set(e, -EINVAL, "--registry and --name are needed; see --help");
	if (strlen(o->name) >= REG_NAME)
		return err_set(e, -EINVAL, "--name is longer than %u characters", REG_NAME - 1);
	if (tls < 0)
		tls = o->tls_certs ? TLS_MODE_ALLOW : TLS_MODE_OFF;
	if (tls != TLS_MODE_OFF && !o->tls_certs)
		return err_set(e, -EINVAL, "--tls %s needs --tls-certs DIR",
			       tls == TLS_MODE_ALLOW ? "allow" : "require");
	o->tls = (enum tls_mode)tls;
	if (!control) {
		snprintf(text, sizeof(text), "unix:/run/myfs/blockd-%s.sock", o->name);
		control = text;
	}
	rc = address_parse(control, &o->control, e);
	if (rc < 0)
		return err_wrap(e, rc, "--control %s", control);
	return o->control.kind == ADDRESS_UNIX ? 0 : err_set(e, -EINVAL, "--control must be unix:PATH");
}

int options_parse(int argc, char **argv, struct options *ret, struct err *e)
{
	struct options o = {
	    .io_timeout_ns = IO_TIMEOUT_DEFAULT_NS, .log = LOG_L_NOTE, .configfs = LIO_CONFIGFS_DEFAULT};
	const char *control = NULL;
	int opt, rc = 0, tls = -1;

	optind = 0;
	opterr = 0;
	while (rc == 0 && (opt = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		rc = parse_one(&o, opt, optarg, &control, &tls, e);
	if (rc == 0 && optind < argc)
		rc = err_set(e, -EINVAL, "unexpected argument \"%s\"", argv[optind]);
	if (rc == 0 && o.action == OPTIONS_RUN)
		rc = check_whole(&o, control, tls, e);
	if (rc == 0)
		*ret = o;
	return rc;
}
