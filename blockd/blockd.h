/* blockd.h - the gateway's parts and how they hang together. One loop owns all of it.
 *
 *   NBD client -> exports.c -> lun.c (open LUNs) -> dht/
 *   control socket -> control*.c -> catalogue.c, lun.c, volumes.c, target.c
 *   lio.c: registry -> the kernel's iSCSI targets, whose tcmu-runner is an NBD client of ours
 *   watch.c: idle LUNs closed, stale ones healed
 *   gateways.c: who else serves, and what a dead gateway leaves
 *   reconcile.c: registry -> volumes.c, catalogue.c (unfinished changes)
 *
 * The registry says what should exist; nothing here is remembered only in memory that a kill -9 may not lose. */
#ifndef MYFS_BLOCKD_H
#define MYFS_BLOCKD_H

#include "blockd/gfidset.h"
#include "core/base/list.h"
#include "core/control/control.h"
#include "core/loop/loop.h"
#include "core/loop/tls.h"
#include "core/registry/registry.h"
#include "dht/dht.h"
#include "handlers/nbd/nbd.h"

struct blockd {
	struct loop *loop;
	struct net *net;
	struct registry *registry; /* owned */
	struct reg_gateway self;   /* our row */
	struct tls_creds *psk;     /* towards bricks on TCP; NULL = none */
	uint64_t io_timeout_ns;
	enum ec_read_fence read_fence;
	uint64_t started_ns;
	bool stopping;
	struct list volumes; /* struct volume: volumes.c */
	struct list luns;    /* struct lun: lun.c; only LUNs somebody uses */
	struct list activity; /* struct lun_activity */
	struct gfid_set
	    attention; /* LUNs whose bricks may differ: open ones, and those closed before all bricks agreed */
	struct gfid_set resizing; /* LUNs whose new size is in the registry and maybe not yet on the bricks */
	struct gfid_set trashed;  /* memory only: LUNs in the trash whose rename is known to be done */
	struct list gateways;     /* gateways.c: the others */
	struct list watches;      /* watch.c: what is known of attention's entries */
	unsigned heals;           /* watch.c: LUNs held open to be healed */
	unsigned fibers;          /* background fibers running */
	struct waitq quiet;       /* woken when one of them ends */
	struct waitq kick;        /* reconcile.c sleeps here */
	bool kicked;
	struct nbd_server *nbd; /* owned; NULL in tests */
	struct lio *lio;        /* owned by lio.c; NULL before lio_start and in most tests */
};

/* Makes everything but sockets: registry rows of this gateway, volumes, background fibers. */
struct blockd_config {
	struct loop *loop;
	struct net *net;
	struct registry *registry; /* consumed, also on failure */
	const char *name;
	const char *control;   /* for the registry: "unix:/.." */
	struct tls_creds *psk; /* borrowed */
	uint64_t io_timeout_ns;
	enum ec_read_fence read_fence;
};
int blockd_start(const struct blockd_config *cfg, struct blockd **ret, struct err *e) YIELDS;
/* Records where clients find us. Either may be "". */
int blockd_announce(struct blockd *d, const char *nbd_uri, const char *nbd_tcp_uri, struct err *e);
/* Orderly: NBD sessions end, LUNs flush and close, volumes close. Frees d. */
/* A stop is coming: what waits for bricks that are away ends now. */
void blockd_give_up(struct blockd *d);
void blockd_stop(struct blockd *d) YIELDS;
/* Background fibers of the gateway: counted so that blockd_stop can wait for them. */
int blockd_spawn(struct blockd *d, const char *name, fiber_fn *fn, void *arg);
void blockd_fiber_done(struct blockd *d); /* the last thing such a fiber does */
/* Sleeps, but not past blockd_stop. */
void blockd_sleep(struct blockd *d, uint64_t ns) YIELDS;

#endif
