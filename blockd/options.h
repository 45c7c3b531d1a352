/* options.h - the command line of myfs-blockd. Pure. */
#ifndef MYFS_BLOCKD_OPTIONS_H
#define MYFS_BLOCKD_OPTIONS_H

#include "blockd/lio_want.h"
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/loop/net.h"
#include "ec/ec.h"

#define OPTIONS_NBD_MAX 16u

enum options_action { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_VERSION };
enum tls_mode { TLS_MODE_OFF, TLS_MODE_ALLOW, TLS_MODE_REQUIRE };

struct options {
	enum options_action action;
	const char *registry; /* all texts borrowed from argv */
	const char *name;
	const char *psk;       /* NULL: bricks on unix sockets only */
	const char *tls_certs; /* NULL: no TLS for clients */
	enum tls_mode tls;
	unsigned nbd_n;
	struct address nbd[OPTIONS_NBD_MAX];
	struct address control;
	bool metrics_on;
	struct address metrics; /* HTTP, when metrics_on */
	unsigned portals_n; /* 0 = no iSCSI */
	char portals[LIO_PORTALS_MAX][LIO_PORTAL];
	const char *configfs;
	uint64_t io_timeout_ns;
	enum ec_read_fence read_fence;
	enum log_level log;
};

extern const char options_help[];

/* 0, or -EINVAL with a text that says what to write instead. */
int options_parse(int argc, char **argv, struct options *ret, struct err *e);
/* "90", "90s", "2m", "1h", "500ms" into ns, at least 1 ms, at most a day. */
int duration_ns_parse(const char *text, uint64_t *ret, struct err *e);

#endif
